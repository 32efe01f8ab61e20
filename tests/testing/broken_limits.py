"""Sinks that declare a little more than they keep, and the tests that must notice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from exitramp.errors import StoreRejected, StoreUnavailable, UsageError
from exitramp.ports import NameRule, Origin, TransferAccount
from exitramp.records import CollectionSpec, Metric
from exitramp.testing.memory import LIMITS, MemorySink, MemoryStore
from exitramp.testing.rows import Row, rows_from_batch
from tests.testing.broken import Broken, RewritesRows
from tests.testing.broken_rows import RewritesValues

NARROW = replace(
    LIMITS,
    payload=replace(LIMITS.payload, integer_bits=64, float_digits=15, string_bytes=101, depth=5),
    id_bytes=64,
    dimensions=64,
    dense_fields=3,
    batch_rows=100,
    vector_magnitude_least=1e-10,
    record_bytes=3000,
    records_least=6,
)


class TurnsTheGreatestIntegerIntoAFloat(RewritesValues):
    """It asks for less than the limit where it should ask for at most that."""

    def value(self, value: Any) -> Any:
        return float(value) if type(value) is int and value >= 2**63 - 1 else value


class TurnsTheLeastIntegerIntoAFloat(RewritesValues):
    """As one does that keeps magnitudes."""

    def value(self, value: Any) -> Any:
        return float(value) if type(value) is int and value <= -(2**63) else value


class KeepsFourteenDigits(RewritesValues):
    def value(self, value: Any) -> Any:
        return float(f"{value:.14g}") if type(value) is float else value


class CutsTheLastByte(RewritesValues):
    def value(self, value: Any) -> Any:
        return value.encode()[:100].decode(errors="ignore") if isinstance(value, str) and value != "leaf" else value


class ForgetsWhatIsDeepest(RewritesRows):
    def change(self, row: Row) -> Row:
        return replace(row, payload=None if row.payload is None else _shallow(row.payload, 5))


class RefusesWhatIsLong(MemorySink):
    """Whatever form it comes in: as a column of fixed width does, of which the codec knows nothing."""

    def upsert(self, batch: pa.RecordBatch) -> None:
        for row in rows_from_batch(batch, self._store.collection().spec):
            if len(row.payload_text or "") > 90:
                raise StoreRejected("too long")
        super().upsert(batch)


class CutsIdsAByteEarly(RewritesRows):
    def change(self, row: Row) -> Row:
        return replace(row, id=row.id.encode()[:63].decode(errors="ignore"))


class CutsNamesACharacterEarly(MemorySink):
    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        cut = MemoryStore(self._store.address.location, spec.name[:254], limits=self.limits())
        MemorySink(cut).create(spec.renamed(spec.name[:254]), origin)


class HasRoomForTwoFields(MemorySink):
    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        super().create(replace(spec, vectors=spec.vectors[:2]), origin)

    def upsert(self, batch: pa.RecordBatch) -> None:
        held = self._store.collection()
        names = [field.name for field in batch.schema if ":" not in field.name or field.name in _columns(held.spec)]
        super().upsert(batch.select(names))


class RefusesAFourthField(MemorySink):
    """Also in the marker, where it is only text."""

    def upsert(self, batch: pa.RecordBatch) -> None:
        for row in rows_from_batch(batch, self._store.collection().spec):
            if '\\"vec\\"' in (row.payload_text or ""):
                raise StoreRejected("it has no room for that")
        super().upsert(batch)


class LosesTheLastDimension(RewritesRows):
    def change(self, row: Row) -> Row:
        return replace(row, vectors={name: _without(vector, 63) for name, vector in row.vectors.items()})


class FlushesWhatIsSmall(RewritesRows):
    """It declares 1e-10, and keeps 1e-9."""

    def change(self, row: Row) -> Row:
        return replace(row, vectors={name: _flushed(vector, 1e-9) for name, vector in row.vectors.items()})


class ScalesWhatHasUnitLength(RewritesRows):
    def change(self, row: Row) -> Row:
        return replace(row, vectors={name: _scaled(vector) for name, vector in row.vectors.items()})


class TakesWhatItDeclaresOfABatch(MemorySink):
    """The rest is dropped, and nothing said."""

    def upsert(self, batch: pa.RecordBatch) -> None:
        super().upsert(batch.slice(0, self.limits().batch_rows))


class RefusesWhatIsLeftOfABatch(MemorySink):
    def upsert(self, batch: pa.RecordBatch) -> None:
        super().upsert(batch.slice(0, 100))
        if batch.num_rows > 100:
            raise UsageError(f"{batch.num_rows} rows at once, of at most 100")


class BlamesTheNetworkForABatch(MemorySink):
    """A retry would send it again, and again in vain."""

    def upsert(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows > 100:
            raise StoreUnavailable("more than 100 rows: the connection was closed")
        super().upsert(batch)


class TakesLessOfARecord(MemorySink):
    """The server's limit is of the whole request, and the adapter declared all of it for the record."""

    def upsert(self, batch: pa.RecordBatch) -> None:
        for row in rows_from_batch(batch, self._store.collection().spec):
            if len(row.document or "") > 500:
                raise StoreRejected("413")
        super().upsert(batch)


class CutsLongDocuments(RewritesRows):
    def change(self, row: Row) -> Row:
        return replace(row, document=None if row.document is None else row.document[:500])


class NeedsOneRecordMore(MemorySink):
    def finish(self, account: TransferAccount) -> None:
        super().finish(account)
        if len(self._store.collection().records) < 7:
            raise UsageError(f"an index of 7 lists needs as many records, not {len(self._store.collection().records)}")


class DropsRecordsThatFillNoList(MemorySink):
    def finish(self, account: TransferAccount) -> None:
        super().finish(account)
        held = self._store.collection()
        if len(held.records) < 6:
            for record in list(held.records.values())[1:]:
                held.remove(record.key)


def _columns(spec: CollectionSpec) -> set[str]:
    return {field.column for field in spec.vectors}


def _shallow(value: Any, room: int) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {key: _shallow(item, room - 1) for key, item in value.items()} if room else {}


def _without(vector: Any, place: int) -> Any:
    if isinstance(vector, tuple) or len(vector) <= place:
        return vector
    cut = vector.copy()
    cut[place:] = 0
    return cut


def _flushed(vector: Any, least: float) -> Any:
    if isinstance(vector, tuple) or vector.dtype.kind != "f":
        return vector
    return np.zeros_like(vector) if np.abs(vector).max(initial=0) < least else vector


def _scaled(vector: Any) -> Any:
    if isinstance(vector, tuple) or vector.ndim < 2:
        return vector
    with np.errstate(all="ignore"):
        return vector / np.linalg.norm(vector, axis=1, keepdims=True)


def _broken() -> Iterator[Broken]:
    values = "test_payload_values_at_the_limits_are_kept_without_the_codec"
    for name, sink in (
        ("turns the greatest integer into a float", TurnsTheGreatestIntegerIntoAFloat),
        ("turns the least integer into a float", TurnsTheLeastIntegerIntoAFloat),
        ("keeps fourteen digits", KeepsFourteenDigits),
        ("cuts the last byte", CutsTheLastByte),
        ("forgets what is deepest", ForgetsWhatIsDeepest),
    ):
        yield Broken(name, (values,), sink=sink, limits=NARROW)
    for name, test, sink in (
        (
            "refuses what is long",
            "test_payload_values_beyond_the_limits_come_back_through_the_codec",
            RefusesWhatIsLong,
        ),
        (
            "cuts ids a byte early",
            "test_an_id_of_as_many_bytes_as_are_taken_is_the_native_one_and_a_longer_one_comes_back",
            CutsIdsAByteEarly,
        ),
        (
            "has room for two fields",
            "test_as_many_vector_fields_as_are_declared_are_held_natively",
            HasRoomForTwoFields,
        ),
        ("refuses a fourth field", "test_a_vector_field_too_many_comes_back_through_the_codec", RefusesAFourthField),
        ("loses the last dimension", DIMENSIONS, LosesTheLastDimension),
        ("flushes what is small", MAGNITUDE, FlushesWhatIsSmall),
        ("takes what it declares of a batch", BATCH, TakesWhatItDeclaresOfABatch),
        ("refuses what is left of a batch", BATCH, RefusesWhatIsLeftOfABatch),
        ("blames the network for a batch", BATCH, BlamesTheNetworkForABatch),
        ("takes less of a record", RECORD, TakesLessOfARecord),
        ("cuts long documents", RECORD, CutsLongDocuments),
        ("needs one record more", LEAST, NeedsOneRecordMore),
        ("drops records that fill no list", LEAST, DropsRecordsThatFillNoList),
    ):
        yield Broken(name, (test,), sink=sink, limits=NARROW)


DIMENSIONS = "test_vectors_of_as_many_dimensions_as_are_declared_are_kept"
MAGNITUDE = "test_vectors_at_the_limits_of_magnitude_are_kept_and_those_beyond_come_back"
BATCH = "test_a_batch_beyond_the_limit_is_taken_whole_or_not_at_all"
RECORD = "test_a_record_as_large_as_declared_is_kept_and_a_larger_one_refused_by_name"
LEAST = "test_as_many_records_as_an_index_needs_are_enough_and_fewer_lose_none"
SCALING = replace(LIMITS, normalises=frozenset({Metric.COSINE}), unit_slack=2e-7, unit_dimensions=1024)
LIMITING = (
    *_broken(),
    Broken(
        "cuts names a character early",
        ("test_the_longest_name_of_a_collection_is_taken",),
        sink=CutsNamesACharacterEarly,
        limits=replace(LIMITS, names=NameRule(maximum=255)),
    ),
    Broken(
        "scales what has unit length",
        ("test_multi_vectors_of_unit_length_are_left_alone_as_declared",),
        sink=ScalesWhatHasUnitLength,
        limits=SCALING,
    ),
)
SOUND_LIMITS = (Broken("", (), limits=NARROW), Broken("", (), limits=SCALING))
"""The reference store itself with these limits: what it keeps beyond them is nobody's loss."""
