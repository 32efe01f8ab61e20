"""Sinks that merge, drop or pretend, and the tests that must notice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from exitramp.errors import StoreRejected
from exitramp.ports import Origin, SinkLimits, TransferAccount
from exitramp.ports.places import place_of
from exitramp.records import CollectionSpec, Metric, RecordKey
from exitramp.testing.memory import LIMITS, MemorySink, MemoryStore
from exitramp.testing.memory_records import records_of
from exitramp.testing.rows import batch_from_rows, rows_from_batch
from tests.testing.broken import Broken, with_cosine


class CreatesEveryMetricAsCosine(MemorySink):
    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        super().create(with_cosine(spec), origin)


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


class WritesOnlyAtTheEnd(MemorySink):
    """Its `flush` does nothing, and nobody who looks only after `finish` would know."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self._waiting: list[pa.RecordBatch] = []

    def upsert(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(batch)

    def finish(self, account: TransferAccount) -> None:
        for batch in self._waiting:
            super().upsert(batch)
        self._waiting.clear()


class StumblesOverAnEmptyBatch(MemorySink):
    def upsert(self, batch: pa.RecordBatch) -> None:
        if not batch.num_rows:
            raise StoreRejected("an empty list of points")
        super().upsert(batch)


class DeletesEverythingWhenToldNothing(MemorySink):
    """As an SDK does to which no ids and no condition mean all records."""

    def delete(self, keys: Sequence[RecordKey]) -> None:
        super().delete(keys or [record.key for record in list(self._store.collection().records.values())])


class KeepsOneOriginForAll(MemorySink):
    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        super().create(spec, origin)
        for held in self._store.everything().values():
            held.origin = origin


class CreatesUnderTheOldName(MemorySink):
    """A collection that came from elsewhere is called what it was called there, as well."""

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        super().create(spec, origin)
        everything = self._store.everything()
        everything[spec.name] = everything[self._store.address.require_collection()]


class KeepsOneTableForAll(MemorySink):
    """Collections are told apart by name only where they are described."""

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        super().create(spec, origin)
        every = self._store.everything()
        first = next(iter(every.values()))
        held = self._store.collection()
        held.records, held.order = first.records, first.order


class FoldsTheCaseOfNames(MemorySink):
    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        super().create(spec, origin)
        name = self._store.address.require_collection()
        if name != name.lower():
            self._store.everything()[name.lower()] = self._store.collection()


class CutsNames(MemorySink):
    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        cut = MemoryStore(self._store.address.location, spec.name[:255], limits=self.limits())
        MemorySink(cut).create(spec.renamed(spec.name[:255]), origin)


class Appends(MemorySink):
    """A record written again stands there twice."""

    def upsert(self, batch: pa.RecordBatch) -> None:
        held = self._store.collection()
        for record in records_of(batch, held.spec):
            none, space, id_ = place_of(record.key)
            while (none, space, id_) in held.records:
                id_ += "\0"
            held.records[none, space, id_] = record
            held.order = sorted(held.records)


class ChangesItsLimits(MemorySink):
    """As one does that asks the server for them, and goes on with a default where that fails."""

    def limits(self) -> SinkLimits:
        self._store.__dict__["asked"] = self._store.__dict__.get("asked", 0) + 1
        return replace(super().limits(), batch_rows=1000 - self._store.__dict__["asked"] % 2)


REPLACING = "test_an_upsert_replaces_the_whole_record"
DESCRIBED = "test_what_was_created_is_what_is_described"
NEAREST = "test_the_nearest_are_found_by_every_metric"
NOT_ALL_METRICS = replace(LIMITS, metrics=frozenset({Metric.COSINE, Metric.DOT, Metric.EUCLIDEAN}))
EMPTY = "test_an_empty_batch_writes_nothing"
APART = "test_collections_of_one_store_stay_apart"
DELETED = "test_deleted_records_are_gone_and_absent_ones_ignored"

WRITING = (
    Broken(
        "creates every metric as cosine", (DESCRIBED, NEAREST), sink=CreatesEveryMetricAsCosine, limits=NOT_ALL_METRICS
    ),
    Broken(
        "merges on upsert",
        (
            "test_a_value_that_the_application_removed_stays_removed",
            REPLACING,
            "test_an_upsert_through_the_codec_keeps_nothing_of_the_old",
        ),
        sink=MergesOnUpsert,
    ),
    Broken(
        "keeps the old record",
        (
            "test_any_history_of_writes_and_deletions_ends_as_a_plain_dictionary_would",
            REPLACING,
            "test_the_last_of_several_writes_before_a_flush_wins",
        ),
        sink=KeepsTheOldRecord,
    ),
    Broken(
        "ignores deletes",
        (
            "test_records_are_deleted_through_the_codec_by_their_own_ids",
            "test_deleted_records_are_gone_and_absent_ones_ignored",
        ),
        sink=IgnoresDeletes,
    ),
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
    Broken("writes only at the end", ("test_what_was_flushed_is_there_before_the_end",), sink=WritesOnlyAtTheEnd),
    Broken("stumbles over an empty batch", (EMPTY,), sink=StumblesOverAnEmptyBatch),
    Broken("deletes everything when told nothing", (DELETED,), sink=DeletesEverythingWhenToldNothing),
    Broken("keeps one origin for all", (APART,), sink=KeepsOneOriginForAll),
    Broken("keeps one table for all", (APART,), sink=KeepsOneTableForAll),
    Broken(
        "creates under the old name",
        ("test_a_collection_is_made_under_the_addresss_name_whatever_it_was_called",),
        sink=CreatesUnderTheOldName,
    ),
    Broken(
        "folds the case of names",
        ("test_names_that_the_store_does_not_take_are_mapped_to_different_ones",),
        sink=FoldsTheCaseOfNames,
    ),
    Broken("cuts names", ("test_a_name_outside_the_rule_is_refused_before_anything_is_written",), sink=CutsNames),
    Broken("appends", ("test_writing_a_record_again_doubles_nothing",), sink=Appends),
    Broken("changes its limits", ("test_limits_are_the_same_on_every_call_and_make_sense",), sink=ChangesItsLimits),
)
