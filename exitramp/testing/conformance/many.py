"""As many records at once as a server's own page or cap is said to be of: a hundred, five hundred, a thousand.

A server cuts what it is asked for to its cap without a word, and so would an adapter that did not know of it.
"""

from __future__ import annotations

import math

import pytest

from exitramp.arrow import record_keys
from exitramp.errors import UsageError
from exitramp.ports import Hits, Partition, Query, VectorSearch
from exitramp.records import CollectionSpec
from exitramp.testing.conformance.compare import assert_same_keys
from exitramp.testing.conformance.harness import Feature, StoreHarness, need
from exitramp.testing.conformance.steps import NAME, keys_of, limits_of, opened, pages, write, writing
from exitramp.testing.conformance.truth import EXACT, LEAST_RECALL, Seeded
from exitramp.testing.rows import Row
from exitramp.testing.within import rows_within, spec_within

MANY = 1137
PAGES = (100, 500, 1000, 4000)


def _seeded(harness: StoreHarness, count: int = MANY) -> tuple[CollectionSpec, list[Row]]:
    limits = limits_of(harness)
    spec = spec_within(limits, NAME, dimensions=8)
    rows = rows_within(spec, limits, count, seed=51)
    write(harness, spec, rows, encoded=False)
    return spec, rows


class ManyConformance:
    def test_pages_of_hundreds_lose_and_double_nothing(self, harness: StoreHarness) -> None:
        """Pages as large as the commands ask for, and larger than a server may give."""
        _, rows = _seeded(harness)
        with opened(harness) as store:
            source = store.source()
            assert source.count() == len(rows)
            for batch_rows in PAGES:
                found = pages(source, Partition(), batch_rows)
                assert_same_keys([row.key for row in rows], keys_of(found), f"pages of {batch_rows}")
                middle = len(found) // 2
                rest = keys_of(pages(source, Partition(), batch_rows, after=found[middle].cursor))
                assert_same_keys(keys_of(found[middle + 1 :]), rest, f"behind page {middle + 1} of {batch_rows}")

    def test_as_many_records_are_found_as_are_asked_for(self, harness: StoreHarness) -> None:
        """Or the search is refused: who is given a hundred of a thousand takes the others for further away.

        An index that is a graph may not lead to every record: of 1137, Chroma's gave 1115. A cap is lower than that.
        """
        need(harness, Feature.SEARCH)
        spec, rows = _seeded(harness)
        [query] = Seeded(spec, rows, limits_of(harness)).queries(1)
        everything = {row.key for row in rows}
        answered = 0
        with opened(harness) as store:
            search = store.search()
            for k in (*PAGES[:-1], len(rows)):
                least = k if k < len(rows) else math.ceil(LEAST_RECALL * k)
                try:
                    hits = _nearest(search, query, k)
                except UsageError:
                    continue  # more than it answers with, and it says so
                answered += 1
                assert least <= len(hits.keys) <= k, f"{len(hits.keys)} hits for k={k} of {len(rows)} records"
                assert len(set(hits.keys)) == len(hits.scores) == len(hits.keys)
                assert set(hits.keys) <= everything, "there are hits that are no records"
                assert hits.records is not None
                assert_same_keys(hits.keys, record_keys(hits.records), f"the records of {len(hits.keys)} hits")
        if not answered:
            pytest.skip(f"k: the store refuses to answer with {PAGES[0]} records, and says so")

    def test_as_many_records_are_deleted_at_once_as_are_written_at_once(self, harness: StoreHarness) -> None:
        need(harness, Feature.CHANGES)
        most = min(limits_of(harness).batch_rows, MANY - 37)
        spec, rows = _seeded(harness, most + 37)
        with writing(harness, spec, encoded=False) as sink:
            sink.delete([row.key for row in rows[:most]])
        with opened(harness) as store:
            assert store.source().count() == 37, f"of {most} records deleted at once some are still counted"
            left = keys_of(pages(store.source(), Partition(), 500))
        assert_same_keys([row.key for row in rows[most:]], left, f"after {most} were deleted at once")


def _nearest(search: VectorSearch, query: Query, k: int) -> Hits:
    """By a full scan where the store has one, since a graph may not lead to every record."""
    try:
        return search.search(query, k=k, settings=EXACT, with_records=True)
    except UsageError:
        return search.search(query, k=k, with_records=True)
