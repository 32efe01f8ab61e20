"""Stores that keep to a server's cap without a word, and the tests that must notice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from exitramp.filters import Filter, In, Leaf
from exitramp.ports import Cursor, Hits, Page, Partition, Query
from exitramp.records import RecordKey
from exitramp.testing.memory import MemorySearch, MemorySink, MemorySource
from tests.testing.broken import Broken, Searches
from tests.testing.broken_searching import RewritesFilters


class DropsTheLastOfAFullServerPage(MemorySource):
    """The server gives five hundred rows at most, and the next page begins one too far behind."""

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        for page in super().scan(partition, batch_rows=min(500, batch_rows), after=after):
            cut = page.batch.num_rows == 500 and not page.last
            yield replace(page, batch=page.batch.slice(0, 499)) if cut else page


class RepeatsAFullServerPage(MemorySource):
    """A thousand rows at most; the token of a full page is sent twice."""

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        for page in super().scan(partition, batch_rows=min(1000, batch_rows), after=after):
            if page.batch.num_rows == 1000 and not page.last:
                yield page
            yield page


class GoesOnOneTooFarBehindAPage(MemorySource):
    """Its cursor of a page of a hundred or more is that of the next record."""

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        if after is not None and batch_rows >= 100:
            first = next(super().scan(partition, batch_rows=1, after=after))
            after = first.cursor
        yield from super().scan(partition, batch_rows=batch_rows, after=after)


class FindsAHundredAtMost(MemorySearch):
    def search(self, query: Query, *, k: int, **more: Any) -> Hits:
        return super().search(query, k=min(k, 100), **more)


class FindsAThousandAtMost(MemorySearch):
    def search(self, query: Query, *, k: int, **more: Any) -> Hits:
        return super().search(query, k=min(k, 1000), **more)


class FindsTwentyFiveOfThoseThatPass(MemorySearch):
    """As many as it looks at before it filters."""

    def search(self, query: Query, *, k: int, where: Filter | None = None, **more: Any) -> Hits:
        return super().search(query, k=k if where is None else min(k, 25), where=where, **more)


class FetchesSixtyFourHits(Searches):
    """The hits' records are fetched by key, as many as a request takes."""

    def answered(self, hits: Hits) -> Hits:
        return replace(hits, records=None if hits.records is None else hits.records.slice(0, 64))


class DeletesAHundredAtMost(MemorySink):
    def delete(self, keys: Sequence[RecordKey]) -> None:
        super().delete(keys[:100])


class LooksForTenValuesAtMost(RewritesFilters):
    def rewritten(self, leaf: Leaf) -> Filter:
        return replace(leaf, values=leaf.values[:10]) if isinstance(leaf, In) else leaf


PAGES = ("test_pages_of_hundreds_lose_and_double_nothing",)
FOUND = ("test_as_many_records_are_found_as_are_asked_for",)
MANY = (
    Broken("drops the last of a full page of its server", PAGES, source=DropsTheLastOfAFullServerPage),
    Broken("repeats a full page of its server", PAGES, source=RepeatsAFullServerPage),
    Broken("goes on one too far behind a page", PAGES, source=GoesOnOneTooFarBehindAPage),
    Broken("finds a hundred at most", FOUND, search=FindsAHundredAtMost),
    Broken("finds a thousand at most", FOUND, search=FindsAThousandAtMost),
    Broken(
        "finds twenty-five of those that pass",
        ("test_filters_leave_what_the_reference_leaves",),
        search=FindsTwentyFiveOfThoseThatPass,
    ),
    Broken("fetches sixty-four hits", FOUND, search=FetchesSixtyFourHits),
    Broken(
        "deletes a hundred at most",
        ("test_as_many_records_are_deleted_at_once_as_are_written_at_once",),
        sink=DeletesAHundredAtMost,
    ),
    Broken(
        "looks for ten values at most",
        ("test_filters_leave_what_the_reference_leaves",),
        search=LooksForTenValuesAtMost,
    ),
)
