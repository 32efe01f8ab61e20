"""Sources that lose, double or invent, and the tests that must notice."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from exitramp import canonical
from exitramp.ports import (
    Cursor,
    Origin,
    Page,
    Partition,
    make_cursor,
    read_cursor,
)
from exitramp.ports.places import place_of
from exitramp.records import CollectionSpec, RecordKey
from exitramp.testing.memory import MemorySource, MemoryStore
from exitramp.testing.memory_records import MemoryCollection, Stored, batch_of, collections_of
from exitramp.testing.rows import batch_from_rows, rows_from_batch
from tests.testing.broken import Broken, any_spec, with_cosine


class DropsARowPerPage(MemorySource):
    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        for page in super().scan(partition, batch_rows=batch_rows, after=after):
            yield replace(page, batch=page.batch.slice(0, max(0, page.batch.num_rows - 1)))


class DropsTheLastShortPage(MemorySource):
    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        for page in super().scan(partition, batch_rows=batch_rows, after=after):
            short = page.last and page.batch.num_rows < batch_rows
            yield replace(page, batch=page.batch.slice(0, 0)) if short else page


class DoublesARow(MemorySource):
    """A page with room to spare begins with the last record of the page before, as an offset that is one short does."""

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        before: pa.RecordBatch | None = None
        for page in super().scan(partition, batch_rows=batch_rows, after=after):
            if before is None or page.batch.num_rows == batch_rows:
                yield page
            else:
                table = pa.Table.from_batches([before.slice(before.num_rows - 1), page.batch])
                yield replace(page, batch=table.combine_chunks().to_batches()[0])
            before = page.batch


class EndsWithoutLast(MemorySource):
    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        for page in super().scan(partition, batch_rows=batch_rows, after=after):
            yield replace(page, last=False)


class GoesOnAfterLast(MemorySource):
    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        for page in super().scan(partition, batch_rows=batch_rows, after=after):
            yield replace(page, last=True)


class IgnoresTheCursor(MemorySource):
    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        return super().scan(partition, batch_rows=batch_rows)


class PagesByOffset(MemorySource):
    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        offset = 0 if after is None else int(read_cursor(after)["offset"])
        last = False
        while not last:
            held = self._store.collection()
            places = held.order[offset : offset + batch_rows]
            offset += len(places)
            last = offset >= len(held.order)
            batch = batch_of([held.records[place] for place in places], held.spec)
            yield Page(batch, make_cursor(offset=offset), last)


class IgnoresPartitions(MemorySource):
    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        return super().scan(Partition(), batch_rows=batch_rows, after=after)


class MakesPagesTooLarge(MemorySource):
    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        return super().scan(partition, batch_rows=batch_rows + 1, after=after)


class MakesCollectionsByLooking(MemorySource):
    def describe(self) -> CollectionSpec:
        name = self._store.address.require_collection()
        collections_of(self._store.address.location).setdefault(name, MemoryCollection(any_spec(name), None))
        return super().describe()


class InventsAnOrigin(MemorySource):
    def origin(self) -> Origin | None:
        return super().origin() or Origin(self.describe(), "0")


class ForgetsTheOrigin(MemorySource):
    def origin(self) -> Origin | None:
        return None


class CallsEveryMetricCosine(MemorySource):
    def describe(self) -> CollectionSpec:
        return with_cosine(super().describe())


class NeverCloses(MemoryStore):
    def close(self) -> None:
        pass


class AnswersNothingOnceClosed(MemoryStore):
    def collection(self) -> MemoryCollection:
        return MemoryCollection(any_spec("none"), None) if self._closed else super().collection()


class CountsOnce(MemorySource):
    """As a client does that keeps a collection's description."""

    def count(self) -> int:
        if not hasattr(self, "_counted"):
            self._counted = super().count()
        return self._counted


class RepeatsTheLastPage(MemorySource):
    """Goes on while pages are full, and has none left when the last one was."""

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        for page in super().scan(partition, batch_rows=batch_rows, after=after):
            full = page.last and page.batch.num_rows == batch_rows
            yield replace(page, last=page.last and not full)
            if full:
                yield page


class GoesByTheOrderOfWriting(MemorySource):
    """As a table without an order does, whose cursor is an id all the same."""

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        held = self._store.collection()
        behind = None if after is None else tuple(read_cursor(after)["place"])
        places = [place for place in held.records if behind is None or place > behind]
        for start in range(0, max(len(places), 1), batch_rows):
            part = places[start : start + batch_rows]
            batch = batch_of([held.records[place] for place in part], held.spec)
            yield Page(batch, make_cursor(place=part[-1] if part else behind), start + batch_rows >= len(places))


class KeepsItsCursorsInMemory(MemorySource):
    """As a server does that numbers its scrolls."""

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        cursors: list[Cursor] = self.__dict__.setdefault("cursors", [])
        known = None if after is None else cursors[read_cursor(after)["number"] - 1]
        for page in super().scan(partition, batch_rows=batch_rows, after=known):
            cursors.append(page.cursor)
            yield replace(page, cursor=make_cursor(number=len(cursors)))


class FetchesAHundredAtMost(MemorySource):
    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        return super().fetch(keys[:100])


class StumblesOverAbsentKeys(MemorySource):
    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        held = self._store.collection()
        return batch_of([held.records[place_of(key)] for key in keys], held.spec)


class FetchesFromEveryNamespace(MemorySource):
    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        held = self._store.collection()
        ids = {key.id for key in keys}
        return batch_of([record for record in held.records.values() if record.key.id in ids], held.spec)


class CountsEveryCollection(MemorySource):
    def count(self) -> int:
        super().count()
        return sum(len(held.records) for held in self._store.everything().values())


class TakesAShortPageForTheLast(MemorySource):
    """The server gives 500 rows at most, and the adapter did not know."""

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        for page in super().scan(partition, batch_rows=min(batch_rows, 500), after=after):
            last = page.last or page.batch.num_rows < batch_rows
            yield replace(page, last=last)
            if last:
                return


class ReadsInAnotherOrderEachTime(MemorySource):
    """As a table without an order may; a page's cursor tells which records are done with."""

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        held = self._store.collection()
        done = set(map(tuple, [] if after is None else read_cursor(after)["done"]))
        places = [place for place in held.order if place not in done]
        random.shuffle(places)
        for start in range(0, max(len(places), 1), batch_rows):
            part = places[start : start + batch_rows]
            done |= set(part)
            batch = batch_of([held.records[place] for place in part], held.spec)
            yield Page(batch, make_cursor(done=sorted(done)), start + batch_rows >= len(places))


class MarksWhatWasRead(MemorySource):
    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        held = self._store.collection()
        for record in list(held.records.values()):
            held.put(replace(record, payload=canonical.dumps((record.decoded() or {}) | {"seen": True})))
        return super().scan(partition, batch_rows=batch_rows, after=after)


class RoundsVectorsOnReading(MemorySource):
    """As a client does that reads numbers from a text of six digits."""

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        spec = self.describe()
        for page in super().scan(partition, batch_rows=batch_rows, after=after):
            rows = [replace(row, vectors=_six_digits(row.vectors)) for row in rows_from_batch(page.batch, spec)]
            yield replace(page, batch=batch_from_rows(rows, spec))


class WriteThrough(MemoryCollection):
    """What a client keeps beside the store's own records."""

    below: MemoryCollection

    def put(self, record: Stored) -> None:
        super().put(record)
        self.below.put(record)

    def remove(self, key: RecordKey) -> None:
        super().remove(key)
        self.below.remove(key)


class AnswersFromItsCache(MemoryStore):
    """Writes to the store and reads what it wrote itself, so that it does not see what others write."""

    caches: ClassVar[dict[int, tuple[MemoryCollection, WriteThrough]]] = {}

    def collection(self) -> MemoryCollection:
        below = super().collection()
        if id(below) not in self.caches:
            cache = WriteThrough(below.spec, below.origin, dict(below.records), list(below.order))
            cache.below = below
            self.caches[id(below)] = below, cache
        return self.caches[id(below)][1]


def _six_digits(vectors: Mapping[str, Any]) -> dict[str, Any]:
    with np.errstate(all="ignore"):
        return {
            column: vector if isinstance(vector, tuple) or vector.dtype.kind != "f" else np.round(vector, 6)
            for column, vector in vectors.items()
        }


PAGING = "test_paging_loses_and_doubles_nothing"
RESUMING = "test_a_scan_resumes_after_each_cursor_without_loss_or_repeat"
SURVIVING = "test_a_scan_survives_deletes_and_inserts_of_other_records"
DESCRIBED = "test_what_was_created_is_what_is_described"
CLOSED = "test_a_closed_store_refuses_and_closing_twice_does_nothing"
COUNTED = "test_a_count_is_of_now"
FETCHED = "test_records_are_fetched_by_key_and_absent_ones_left_out"

HARD_VECTORS = "test_hard_vectors_within_the_limits_come_back_without_the_codec"
READING = (
    Broken("drops a row per page", (PAGING, RESUMING), source=DropsARowPerPage),
    Broken(
        "drops a short last page",
        (PAGING, "test_what_the_raw_sdk_wrote_is_read_as_it_is"),
        source=DropsTheLastShortPage,
    ),
    Broken("doubles a row", (PAGING,), source=DoublesARow),
    Broken("ends without last", (PAGING, "test_an_empty_collection_is_one_last_page"), source=EndsWithoutLast),
    Broken("goes on after last", (PAGING,), source=GoesOnAfterLast),
    Broken("ignores the cursor", (RESUMING,), source=IgnoresTheCursor),
    Broken("pages by offset", (SURVIVING,), source=PagesByOffset),
    Broken("ignores partitions", ("test_partitions_are_disjoint_and_together_everything",), source=IgnoresPartitions),
    Broken("makes pages too large", (PAGING,), source=MakesPagesTooLarge),
    Broken(
        "makes collections by looking",
        ("test_a_missing_collection_is_named_and_not_made_by_looking",),
        source=MakesCollectionsByLooking,
    ),
    Broken("invents an origin", ("test_a_raw_collection_is_described_as_it_was_made",), source=InventsAnOrigin),
    Broken("forgets the origin", ("test_the_origin_comes_back",), source=ForgetsTheOrigin),
    Broken("calls every metric cosine", (DESCRIBED,), source=CallsEveryMetricCosine),
    Broken("never closes", (CLOSED,), store=NeverCloses),
    Broken("answers nothing once it is closed", (CLOSED,), store=AnswersNothingOnceClosed),
    Broken("counts once", (COUNTED,), source=CountsOnce),
    Broken("repeats the last page where it is full", (PAGING,), source=RepeatsTheLastPage),
    Broken("goes by the order of writing", (RESUMING,), source=GoesByTheOrderOfWriting),
    Broken("keeps its cursors in memory", (RESUMING,), source=KeepsItsCursorsInMemory),
    Broken(
        "fetches a hundred at most",
        (
            "test_records_are_fetched_by_their_own_ids_through_the_codec",
            "test_as_many_records_as_the_store_takes_at_once_are_fetched_at_once",
        ),
        source=FetchesAHundredAtMost,
    ),
    Broken("stumbles over absent keys", (FETCHED,), source=StumblesOverAbsentKeys),
    Broken(
        "fetches from every namespace",
        (FETCHED,),
        source=FetchesFromEveryNamespace,
    ),
    Broken("counts every collection", ("test_collections_of_one_store_stay_apart",), source=CountsEveryCollection),
    Broken(
        "takes a short page for the last",
        ("test_paging_at_and_above_the_page_limit_loses_and_doubles_nothing",),
        source=TakesAShortPageForTheLast,
    ),
    Broken(
        "reads in another order each time",
        ("test_pages_resume_in_the_order_they_came",),
        source=ReadsInAnotherOrderEachTime,
    ),
    Broken("marks what was read", ("test_reading_changes_nothing",), source=MarksWhatWasRead),
    Broken(
        "rounds vectors on reading",
        ("test_vectors_that_the_raw_sdk_wrote_are_read_as_they_are", HARD_VECTORS),
        source=RoundsVectorsOnReading,
    ),
    Broken(
        "answers from its cache",
        ("test_an_edit_by_the_application_wins_and_is_named",),
        store=AnswersFromItsCache,
    ),
)
