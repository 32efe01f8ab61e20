"""A suite that cannot fail is worthless: stores that are broken on purpose, and the tests that must notice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from exitramp.filters import Filter
from exitramp.ports import (
    DEFAULT_SETTINGS,
    Cursor,
    Hits,
    Origin,
    Page,
    Partition,
    Query,
    SearchSettings,
    SinkLimits,
    Store,
    make_cursor,
    read_cursor,
)
from exitramp.records import CollectionSpec, Metric, RecordKey
from exitramp.testing import Outcome, run_suite
from exitramp.testing.memory import LIMITS, MemorySearch, MemorySink, MemorySource, MemoryStore
from exitramp.testing.memory_records import MemoryCollection, batch_of, collections_of, place_of
from exitramp.testing.rows import Row, batch_from_rows, rows_from_batch
from tests.testing.test_memory import MemoryHarness


@dataclass(frozen=True)
class Broken:
    """A store that does one thing wrong, and the tests of which each must fail on it."""

    name: str
    caught_by: tuple[str, ...]
    source: type[MemorySource] = MemorySource
    sink: type[MemorySink] = MemorySink
    search: type[MemorySearch] = MemorySearch
    store: type[MemoryStore] = MemoryStore
    limits: SinkLimits = LIMITS

    def opened(self, harness: MemoryHarness, collection: str) -> Store:
        parts = self

        class BrokenStore(parts.store):  # type: ignore[name-defined, misc]
            def source(self) -> MemorySource:
                return parts.source(self)

            def sink(self) -> MemorySink:
                return parts.sink(self)

            def search(self) -> MemorySearch:
                return parts.search(self)

        store: Store = BrokenStore(harness.name, collection, limits=self.limits)
        return store

    def harness(self) -> MemoryHarness:
        broken = self

        class BrokenHarness(MemoryHarness):
            def open(self, collection: str) -> Store:
                return broken.opened(self, collection)

        return BrokenHarness()


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
        collections_of(self._store.address.location).setdefault(name, MemoryCollection(_any_spec(name), None))
        return super().describe()


class InventsAnOrigin(MemorySource):
    def origin(self) -> Origin | None:
        return super().origin() or Origin(self.describe(), "0")


class ForgetsTheOrigin(MemorySource):
    def origin(self) -> Origin | None:
        return None


class CallsEveryMetricCosine(MemorySource):
    def describe(self) -> CollectionSpec:
        return _with_cosine(super().describe())


class CreatesEveryMetricAsCosine(MemorySink):
    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        super().create(_with_cosine(spec), origin)


class MergesOnUpsert(MemorySink):
    """As Chroma's own upsert does: keys that the new record lacks stay, and so does the document."""

    def upsert(self, batch: pa.RecordBatch) -> None:
        held = self._store.collection()
        merged = []
        for row in rows_from_batch(batch, held.spec):
            place = place_of(row.key)
            if place in held.records:
                old = held.records[place]
                both = (old.decoded() or {}) | dict(row.payload or {})
                payload = None if row.payload is None and old.payload is None else both
                document = old.document if row.document is None else row.document
                row = replace(row, payload=payload, document=document, vectors=dict(old.vectors) | dict(row.vectors))
            merged.append(row)
        super().upsert(batch_from_rows(merged, held.spec))


class KeepsTheOldRecord(MemorySink):
    """As Chroma's `add` does."""

    def upsert(self, batch: pa.RecordBatch) -> None:
        held = self._store.collection()
        new = [row for row in rows_from_batch(batch, held.spec) if place_of(row.key) not in held.records]
        super().upsert(batch_from_rows(new, held.spec))


class RewritesRows(MemorySink):
    """Changes each row on its way in."""

    def change(self, row: Row) -> Row:
        raise NotImplementedError

    def upsert(self, batch: pa.RecordBatch) -> None:
        held = self._store.collection()
        changed = {row.key: row for row in map(self.change, rows_from_batch(batch, held.spec))}
        super().upsert(batch_from_rows(changed.values(), held.spec))


class LosesTheNamespace(RewritesRows):
    def change(self, row: Row) -> Row:
        return replace(row, namespace=None)


class LosesTheDocument(RewritesRows):
    def change(self, row: Row) -> Row:
        return replace(row, document=None)


class ConfusesEmptyWithAbsentDocuments(RewritesRows):
    def change(self, row: Row) -> Row:
        return replace(row, document=row.document or None)


class ConfusesEmptyWithAbsentPayloads(RewritesRows):
    def change(self, row: Row) -> Row:
        return replace(row, payload=row.payload or {})


class DropsNulls(RewritesRows):
    def change(self, row: Row) -> Row:
        kept = None if row.payload is None else {key: value for key, value in row.payload.items() if value is not None}
        return replace(row, payload=kept)


class TurnsBigIntegersIntoFloats(RewritesRows):
    def change(self, row: Row) -> Row:
        return replace(row, payload=row.payload and {key: _blurred(value) for key, value in row.payload.items()})


class ReadsIdsAsNumbers(RewritesRows):
    def change(self, row: Row) -> Row:
        return replace(row, id=str(int(row.id)) if row.id.isdecimal() else row.id)


class CutsIds(RewritesRows):
    def change(self, row: Row) -> Row:
        return replace(row, id=row.id[:255])


class Normalises(RewritesRows):
    def change(self, row: Row) -> Row:
        return replace(row, vectors={column: _unit(vector) for column, vector in row.vectors.items()})


class LosesTheSignOfZero(RewritesRows):
    def change(self, row: Row) -> Row:
        vectors = {
            column: vector if isinstance(vector, tuple) or vector.dtype.kind != "f" else vector + 0
            for column, vector in row.vectors.items()
        }
        return replace(row, vectors=vectors)


class IgnoresDeletes(MemorySink):
    def delete(self, keys: Sequence[RecordKey]) -> None:
        self._store.collection()


class StumblesOverAbsentIds(MemorySink):
    def delete(self, keys: Sequence[RecordKey]) -> None:
        held = self._store.collection()
        for key in keys:
            del held.records[place_of(key)]
            held.order.remove(place_of(key))


class DeletesTheIdInEveryNamespace(MemorySink):
    def delete(self, keys: Sequence[RecordKey]) -> None:
        ids = {key.id for key in keys}
        super().delete(
            [RecordKey(place[2], place[1] if place[0] else None) for place in self._places() if place[2] in ids]
        )

    def _places(self) -> list[tuple[bool, str, str]]:
        return list(self._store.collection().order)


class WritesWhatFitsOfAWrongBatch(MemorySink):
    """Takes vectors of any length and cuts them, instead of refusing."""

    def upsert(self, batch: pa.RecordBatch) -> None:
        spec = self._store.collection().spec
        [field] = spec.vectors
        if batch.column(field.column).type.list_size != field.item_count:
            wrong = replace(spec, vectors=(replace(field, dimensions=batch.column(field.column).type.list_size),))
            cut = [
                replace(row, vectors={column: np.asarray(v)[: field.item_count] for column, v in row.vectors.items()})
                for row in rows_from_batch(batch, wrong)
            ]
            batch = batch_from_rows(cut, spec)
        super().upsert(batch)


class AcceptsAnyFieldsInCreate(MemorySink):
    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        if self._store.address.collection not in self._store.everything():
            super().create(spec, origin)


class EmptiesTheCollectionInCreate(MemorySink):
    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        self._store.everything().pop(self._store.address.require_collection(), None)
        super().create(spec, origin)


class SwallowsHalfABatch(MemorySink):
    def upsert(self, batch: pa.RecordBatch) -> None:
        super().upsert(batch.slice(0, min(batch.num_rows, 500)))


class Searches(MemorySearch):
    """Changes each hit list on its way out."""

    def asked(self, where: Filter | None, settings: SearchSettings) -> tuple[Filter | None, SearchSettings]:
        return where, settings

    def answered(self, hits: Hits) -> Hits:
        return hits

    def search(
        self,
        query: Query,
        *,
        k: int,
        where: Filter | None = None,
        settings: SearchSettings = DEFAULT_SETTINGS,
        with_records: bool = False,
    ) -> Hits:
        where, settings = self.asked(where, settings)
        return self.answered(super().search(query, k=k, where=where, settings=settings, with_records=with_records))


class IgnoresFilters(Searches):
    def asked(self, where: Filter | None, settings: SearchSettings) -> tuple[Filter | None, SearchSettings]:
        return None, settings


class IgnoresSettings(Searches):
    def asked(self, where: Filter | None, settings: SearchSettings) -> tuple[Filter | None, SearchSettings]:
        return where, DEFAULT_SETTINGS


class AnswersFarthestFirst(Searches):
    def answered(self, hits: Hits) -> Hits:
        return Hits(hits.keys[::-1], hits.scores[::-1], hits.records)


class AnswersOneTooFew(Searches):
    def answered(self, hits: Hits) -> Hits:
        return Hits(hits.keys[:-1], hits.scores[:-1], hits.records)


class FiltersAfterSearching(Searches):
    """Asks for k, then drops what does not match, so that hits go missing."""

    def search(self, query: Query, *, k: int, where: Filter | None = None, **more: Any) -> Hits:
        matching = set(super().search(query, k=10_000, where=where).keys)
        hits = super().search(query, k=k, **more)
        kept = [place for place, key in enumerate(hits.keys) if key in matching]
        return Hits(tuple(hits.keys[p] for p in kept), tuple(hits.scores[p] for p in kept), hits.records)


class MeasuresByDot(MemorySearch):
    def search(self, query: Query, **more: Any) -> Hits:
        held = self._store.collection()
        told, held.spec = held.spec, _with_metric(held.spec, Metric.DOT)
        try:
            return super().search(query, **more)
        finally:
            held.spec = told


class NeverCloses(MemoryStore):
    def close(self) -> None:
        pass


class AnswersNothingOnceClosed(MemoryStore):
    def collection(self) -> MemoryCollection:
        return MemoryCollection(_any_spec("none"), None) if self._closed else super().collection()


PAGING = "test_paging_loses_and_doubles_nothing"
RESUMING = "test_a_scan_resumes_after_each_cursor_without_loss_or_repeat"
SURVIVING = "test_a_scan_survives_deletes_and_inserts_of_other_records"
PAYLOADS = "test_every_payload_type_comes_back_through_the_codec"
REPLACING = "test_an_upsert_replaces_the_whole_record"
DESCRIBED = "test_what_was_created_is_what_is_described"
NEAREST = "test_the_nearest_are_found_by_every_metric"
NAMESPACES = "test_one_id_in_several_namespaces_is_several_records"
LOOKALIKES = "test_ids_that_look_alike_are_different_records"
HARD_VECTORS = "test_hard_vectors_within_the_limits_come_back_without_the_codec"
FILTERED = "test_filters_leave_what_the_reference_leaves"
REFUSED = "test_what_cannot_be_honoured_is_refused"
CLOSED = "test_a_closed_store_refuses_and_closing_twice_does_nothing"
NOT_ALL_METRICS = replace(LIMITS, metrics=frozenset({Metric.COSINE, Metric.DOT, Metric.EUCLIDEAN}))

BROKEN = (
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
    Broken(
        "creates every metric as cosine", (DESCRIBED, NEAREST), sink=CreatesEveryMetricAsCosine, limits=NOT_ALL_METRICS
    ),
    Broken(
        "merges on upsert",
        (REPLACING, "test_an_upsert_through_the_codec_keeps_nothing_of_the_old"),
        sink=MergesOnUpsert,
    ),
    Broken(
        "keeps the old record",
        (REPLACING, "test_the_last_of_several_writes_before_a_flush_wins"),
        sink=KeepsTheOldRecord,
    ),
    Broken(
        "loses the namespace",
        (NAMESPACES, "test_payloads_beside_documents_and_namespaces_come_back"),
        sink=LosesTheNamespace,
    ),
    Broken("loses the document", ("test_documents_absent_empty_and_unicode_come_back",), sink=LosesTheDocument),
    Broken(
        "confuses empty with absent documents",
        ("test_documents_absent_empty_and_unicode_come_back",),
        sink=ConfusesEmptyWithAbsentDocuments,
    ),
    Broken("confuses empty with absent payloads", (PAYLOADS,), sink=ConfusesEmptyWithAbsentPayloads),
    Broken("drops nulls", (PAYLOADS, "test_payloads_within_the_limits_need_no_codec"), sink=DropsNulls),
    Broken("turns big integers into floats", (PAYLOADS,), sink=TurnsBigIntegersIntoFloats),
    Broken("reads ids as numbers", (LOOKALIKES,), sink=ReadsIdsAsNumbers),
    Broken("cuts ids", ("test_every_id_kind_comes_back_through_the_codec",), sink=CutsIds),
    Broken("normalises without saying so", (HARD_VECTORS,), sink=Normalises),
    Broken("loses the sign of zero", (HARD_VECTORS,), sink=LosesTheSignOfZero),
    Broken("ignores deletes", ("test_deleted_records_are_gone_and_absent_ones_ignored",), sink=IgnoresDeletes),
    Broken(
        "stumbles over absent ids",
        ("test_deleted_records_are_gone_and_absent_ones_ignored",),
        sink=StumblesOverAbsentIds,
    ),
    Broken(
        "deletes the id in every namespace",
        ("test_deleting_in_one_namespace_leaves_the_same_id_in_others",),
        sink=DeletesTheIdInEveryNamespace,
    ),
    Broken(
        "cuts vectors of another length",
        ("test_a_dimension_mismatch_is_refused_and_writes_nothing",),
        sink=WritesWhatFitsOfAWrongBatch,
    ),
    Broken(
        "accepts any fields",
        ("test_creating_with_other_fields_is_refused_and_changes_nothing",),
        sink=AcceptsAnyFieldsInCreate,
    ),
    Broken("empties the collection", ("test_creating_again_keeps_what_is_there",), sink=EmptiesTheCollectionInCreate),
    Broken("swallows half a batch", ("test_a_batch_of_the_limit_is_taken_at_once",), sink=SwallowsHalfABatch),
    Broken("ignores filters", (FILTERED,), search=IgnoresFilters),
    Broken("filters after searching", (FILTERED,), search=FiltersAfterSearching),
    Broken("ignores settings", (REFUSED,), search=IgnoresSettings),
    Broken("answers the farthest first", (NEAREST,), search=AnswersFarthestFirst),
    Broken(
        "answers one too few", ("test_fewer_are_returned_only_where_there_are_fewer", NEAREST), search=AnswersOneTooFew
    ),
    Broken("measures by dot", (NEAREST,), search=MeasuresByDot),
    Broken("never closes", (CLOSED,), store=NeverCloses),
    Broken("answers nothing once it is closed", (CLOSED,), store=AnswersNothingOnceClosed),
)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_the_suite_fails_on_a_store_that(broken: Broken) -> None:
    for test in broken.caught_by:
        outcomes = run_suite(lambda folder: broken.harness(), only=lambda name: name == test)  # noqa: B023
        assert outcomes, f"the suite has no test called {test}"
        assert "failed" in {outcome.outcome for outcome in outcomes}, f"{test} did not notice: {outcomes}"
        _assert_honest_failures(outcomes)


def test_the_same_tests_pass_on_the_store_that_is_not_broken() -> None:
    named = {test for broken in BROKEN for test in broken.caught_by}
    outcomes = run_suite(lambda folder: MemoryHarness(), only=lambda name: name in named)
    assert {outcome.outcome for outcome in outcomes} == {"passed"}, [o for o in outcomes if o.outcome != "passed"]


def test_a_skip_carries_the_harness_own_reason() -> None:
    [outcome] = run_suite(lambda folder: MemoryHarness(), only=lambda name: name.endswith("in_a_new_process"))
    assert outcome == Outcome(outcome.test, "skipped", "new_process: nothing in it outlives the process")


def _assert_honest_failures(outcomes: Sequence[Outcome]) -> None:
    """The tests notice what the store did; they do not fail because these broken stores are badly written."""
    for outcome in outcomes:
        for clumsy in ("AttributeError", "NameError", "NotImplementedError", "ImportError", "UnboundLocalError"):
            assert not outcome.reason.startswith(clumsy), outcome


def _with_cosine(spec: CollectionSpec) -> CollectionSpec:
    return _with_metric(spec, Metric.COSINE)


def _with_metric(spec: CollectionSpec, metric: Metric) -> CollectionSpec:
    return replace(spec, vectors=tuple(replace(field, metric=metric) for field in spec.vectors))


def _any_spec(name: str) -> CollectionSpec:
    from exitramp.testing.within import spec_within

    return spec_within(LIMITS, name)


def _blurred(value: Any) -> Any:
    return float(value) if type(value) is int and abs(value) > 2**53 else value


def _unit(vector: Any) -> Any:
    if isinstance(vector, tuple) or vector.dtype.kind != "f":
        return vector
    with np.errstate(all="ignore"):
        return (vector / np.linalg.norm(vector.astype(np.float64))).astype(vector.dtype)


def test_every_broken_store_differs_from_the_reference_in_one_thing() -> None:
    for broken in BROKEN:
        parts = (broken.source, broken.sink, broken.search, broken.store)
        changed = [part for part in parts if part not in (MemorySource, MemorySink, MemorySearch, MemoryStore)]
        assert len(changed) == 1, broken.name
