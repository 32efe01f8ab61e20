"""Sinks that change what is in a record on its way in, and the tests that must notice."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from exitramp.records import DType, VectorField, VectorKind
from exitramp.testing.memory import MemorySink
from exitramp.testing.rows import Row, batch_from_rows, rows_from_batch
from tests.testing.broken import Broken, RewritesRows


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


class ComposesIds(RewritesRows):
    def change(self, row: Row) -> Row:
        return replace(row, id=unicodedata.normalize("NFC", row.id))


class FoldsTheCaseOfIds(RewritesRows):
    def change(self, row: Row) -> Row:
        return replace(row, id=row.id.lower())


class StripsIds(RewritesRows):
    """As a column of fixed width does."""

    def change(self, row: Row) -> Row:
        return replace(row, id=row.id.rstrip(" "))


class KeepsNumericIdsAsDoubles(RewritesRows):
    def change(self, row: Row) -> Row:
        return replace(row, id=str(int(float(row.id))) if row.id.isascii() and row.id.isdecimal() else row.id)


class HasNoEmptyNamespace(RewritesRows):
    def change(self, row: Row) -> Row:
        return replace(row, namespace=row.namespace or None)


class WritesAbsentDocumentsAsEmpty(RewritesRows):
    def change(self, row: Row) -> Row:
        return replace(row, document=row.document or "")


class FlushesSubnormals(RewritesRows):
    def change(self, row: Row) -> Row:
        return replace(row, vectors={column: _without_subnormals(vector) for column, vector in row.vectors.items()})


class KeepsVectorsInHalfPrecision(RewritesRows):
    def change(self, row: Row) -> Row:
        return replace(row, vectors={column: _halved(vector) for column, vector in row.vectors.items()})


class RewritesValues(RewritesRows):
    """Changes every value of a payload, at any depth."""

    def value(self, value: Any) -> Any:
        raise NotImplementedError

    def change(self, row: Row) -> Row:
        return replace(row, payload=None if row.payload is None else self._walk(row.payload))

    def _walk(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._walk(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._walk(item) for item in value]
        return self.value(value)


class LosesTheSignOfZeroInPayloads(RewritesValues):
    def value(self, value: Any) -> Any:
        return value + 0.0 if type(value) is float else value


class WritesBooleansAsNumbers(RewritesValues):
    def value(self, value: Any) -> Any:
        return int(value) if isinstance(value, bool) else value


class KeepsFloatsInSinglePrecision(RewritesValues):
    def value(self, value: Any) -> Any:
        return float(np.float32(value)) if type(value) is float and abs(value) < 1e38 else value


class ReadsTextsAsNumbers(RewritesValues):
    """As a store does that guesses a schema from the first record."""

    def value(self, value: Any) -> Any:
        return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value


class CutsTexts(RewritesValues):
    def value(self, value: Any) -> Any:
        return value[:32_766] if isinstance(value, str) else value


class MergesKeysThatDifferInCase(RewritesRows):
    def change(self, row: Row) -> Row:
        if row.payload is None:
            return row
        last = {key.lower(): key for key in row.payload}
        return replace(row, payload={key: row.payload[key] for key in row.payload if last[key.lower()] == key})


class FlattensObjects(RewritesRows):
    def change(self, row: Row) -> Row:
        return replace(row, payload=None if row.payload is None else dict(_flat(row.payload)))


class SortsLists(RewritesRows):
    """As a store does that indexes them as sets."""

    def change(self, row: Row) -> Row:
        payload = row.payload and {
            key: sorted(value) if isinstance(value, list) and {*map(type, value)} == {str} else value
            for key, value in row.payload.items()
        }
        return replace(row, payload=payload)


class FillsMissingVectorsWithZeros(MemorySink):
    def upsert(self, batch: pa.RecordBatch) -> None:
        spec = self._store.collection().spec
        blank = {field.column: np.zeros(field.item_count, np.float32) for field in spec.vectors if is_plain(field)}
        rows = [replace(row, vectors=blank | dict(row.vectors)) for row in rows_from_batch(batch, spec)]
        super().upsert(batch_from_rows(rows, spec))


class LosesSparseVectors(RewritesRows):
    def change(self, row: Row) -> Row:
        return replace(row, vectors={name: each for name, each in row.vectors.items() if not isinstance(each, tuple)})


class MeansMultiVectors(RewritesRows):
    def change(self, row: Row) -> Row:
        vectors = {
            name: each.mean(axis=0, keepdims=True) if name.startswith("multi:") and len(each) else each
            for name, each in row.vectors.items()
        }
        return replace(row, vectors=vectors)


def is_plain(field: VectorField) -> bool:
    return field.kind is VectorKind.DENSE and field.dtype is DType.FLOAT32


def _blurred(value: Any) -> Any:
    return float(value) if type(value) is int and abs(value) > 2**53 else value


def _unit(vector: Any) -> Any:
    if isinstance(vector, tuple) or vector.dtype.kind != "f":
        return vector
    with np.errstate(all="ignore"):
        return (vector / np.linalg.norm(vector.astype(np.float64))).astype(vector.dtype)


def _flat(payload: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in payload.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _without_subnormals(vector: Any) -> Any:
    if isinstance(vector, tuple) or vector.dtype.kind != "f":
        return vector
    return np.where(np.abs(vector) < np.finfo(vector.dtype).tiny, vector.dtype.type(0), vector)


def _halved(vector: Any) -> Any:
    if isinstance(vector, tuple) or vector.dtype.kind != "f":
        return vector
    with np.errstate(all="ignore"):
        return vector.astype(np.float16).astype(vector.dtype)


PAYLOADS = "test_every_payload_type_comes_back_through_the_codec"
NAMESPACES = "test_one_id_in_several_namespaces_is_several_records"
LOOKALIKES = "test_ids_that_look_alike_are_different_records"
HARD_VECTORS = "test_hard_vectors_within_the_limits_come_back_without_the_codec"
DOCUMENTS = "test_documents_absent_empty_and_unicode_come_back"

WIDE = "test_named_sparse_and_multi_vectors_come_back_through_the_codec"
ROWS = (
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
    Broken(
        "loses the sign of zero",
        (
            "test_hard_vectors_in_the_first_field_come_back_through_the_codec",
            HARD_VECTORS,
        ),
        sink=LosesTheSignOfZero,
    ),
    Broken("composes ids", (LOOKALIKES,), sink=ComposesIds),
    Broken("folds the case of ids", (LOOKALIKES,), sink=FoldsTheCaseOfIds),
    Broken("strips ids", (LOOKALIKES,), sink=StripsIds),
    Broken(
        "keeps numeric ids as doubles",
        ("test_every_id_kind_the_store_takes_comes_back_without_the_codec",),
        sink=KeepsNumericIdsAsDoubles,
    ),
    Broken("has no empty namespace", (NAMESPACES,), sink=HasNoEmptyNamespace),
    Broken("writes absent documents as empty", (DOCUMENTS,), sink=WritesAbsentDocumentsAsEmpty),
    Broken(
        "flushes subnormals",
        (
            "test_hard_vectors_of_every_dtype_come_back_through_the_codec",
            "test_numbers_of_a_narrower_type_come_back_through_the_codec",
            HARD_VECTORS,
        ),
        sink=FlushesSubnormals,
    ),
    Broken("keeps vectors in half precision", (HARD_VECTORS,), sink=KeepsVectorsInHalfPrecision),
    Broken("loses the sign of zero in payloads", (PAYLOADS,), sink=LosesTheSignOfZeroInPayloads),
    Broken("writes booleans as numbers", (PAYLOADS,), sink=WritesBooleansAsNumbers),
    Broken("keeps floats in single precision", (PAYLOADS,), sink=KeepsFloatsInSinglePrecision),
    Broken("reads texts as numbers", (PAYLOADS,), sink=ReadsTextsAsNumbers),
    Broken("cuts texts", (PAYLOADS,), sink=CutsTexts),
    Broken("merges keys that differ in case", (PAYLOADS,), sink=MergesKeysThatDifferInCase),
    Broken("flattens objects", (PAYLOADS,), sink=FlattensObjects),
    Broken("sorts lists", (PAYLOADS,), sink=SortsLists),
    Broken(
        "fills missing vectors with zeros",
        ("test_a_record_without_a_vector_has_none_afterwards",),
        sink=FillsMissingVectorsWithZeros,
    ),
    Broken("loses sparse vectors", (WIDE,), sink=LosesSparseVectors),
    Broken("means multi vectors", (WIDE,), sink=MeansMultiVectors),
)
