"""Records as plain Python values: what a harness seeds and reads back, and what the memory store keeps.

A vector is float16, float32, float64, int8 or uint8 (binary, packed) with shape [items]; a multi vector has shape
[n, items]; a sparse one is the pair of uint32 indices and float32 values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp import canonical
from exitramp.arrow import dense_array, dense_matrix, record_keys, stream_schema, vector_type
from exitramp.records import CollectionSpec, DType, RecordKey, VectorField, VectorKind

Numbers = npt.NDArray[np.generic]
Vector = Numbers | tuple[Numbers, Numbers]

NUMPY_TYPE: Mapping[DType, np.dtype[Any]] = {
    DType.FLOAT32: np.dtype("<f4"),
    DType.FLOAT16: np.dtype("<f2"),
    DType.FLOAT64: np.dtype("<f8"),
    DType.INT8: np.dtype("i1"),
    DType.BINARY: np.dtype("u1"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One record. `payload` is decoded (None: it has none); `vectors` holds the fields that have a value, by column."""

    id: str
    namespace: str | None = None
    document: str | None = None
    payload: Mapping[str, Any] | None = None
    vectors: Mapping[str, Vector] = field(default_factory=dict, hash=False)

    @property
    def key(self) -> RecordKey:
        return RecordKey(self.id, self.namespace)

    @property
    def payload_text(self) -> str | None:
        """The payload as canonical JSON, which tells 1 from 1.0, -0.0 from 0.0 and NaN from null."""
        return None if self.payload is None else canonical.dumps(self.payload)


def rows_from_batch(batch: pa.RecordBatch, spec: CollectionSpec) -> list[Row]:
    """The rows of a batch of `spec`'s stream, in its order."""
    documents = batch.column("document").to_pylist() if spec.has_documents else [None] * batch.num_rows
    payloads = batch.column("payload").to_pylist()
    vectors = vectors_of(batch, spec)
    rows = []
    for index, key in enumerate(record_keys(batch)):
        payload = None if payloads[index] is None else canonical.loads(payloads[index])
        rows.append(Row(key.id, key.namespace, documents[index], payload, vectors[index]))
    return rows


def batch_from_rows(rows: Iterable[Row], spec: CollectionSpec) -> pa.RecordBatch:
    """A batch of `spec`'s stream from rows, in their order."""
    held = list(rows)
    columns: dict[str, pa.Array] = {"id": pa.array([row.id for row in held], pa.string())}
    if spec.has_namespaces:
        columns["namespace"] = pa.array([row.namespace for row in held], pa.string())
    if spec.has_documents:
        columns["document"] = pa.array([row.document for row in held], pa.string())
    columns["payload"] = pa.array([row.payload_text for row in held], pa.string())
    for vector in spec.vectors:
        columns[vector.column] = column_from_values([row.vectors.get(vector.column) for row in held], vector)
    schema = stream_schema(spec)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def vectors_of(batch: pa.RecordBatch, spec: CollectionSpec) -> list[dict[str, Vector]]:
    """For every row the vectors that it has, by column."""
    found: list[dict[str, Vector]] = [{} for _ in range(batch.num_rows)]
    for vector in spec.vectors:
        for row, value in enumerate(values_from_column(batch.column(vector.column), vector)):
            if value is not None:
                found[row][vector.column] = value
    return found


def values_from_column(column: pa.Array, field: VectorField) -> list[Vector | None]:
    """The value of every row of a vector column, None where there is none; copies, so the batch may go."""
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    match field.kind:
        case VectorKind.DENSE:
            matrix = dense_matrix(column).copy()
            return [matrix[row] if valid[row] else None for row in range(len(column))]
        case VectorKind.MULTI:
            inner = dense_matrix(column.values).copy()
            ends = column.offsets.to_numpy()
            return [inner[ends[row] : ends[row + 1]] if valid[row] else None for row in range(len(column))]
        case VectorKind.SPARSE:
            indices, values = column.field("indices"), column.field("values")
            return [
                (_items(indices, row, np.uint32), _items(values, row, np.float32)) if valid[row] else None
                for row in range(len(column))
            ]


def column_from_values(values: Sequence[Vector | None], field: VectorField) -> pa.Array:
    """A vector column from one value for each row."""
    valid = np.array([value is not None for value in values], dtype=bool)
    match field.kind:
        case VectorKind.DENSE:
            matrix = np.zeros((len(values), field.item_count), dtype=NUMPY_TYPE[field.dtype])
            for index, value in enumerate(values):
                if value is not None:
                    matrix[index] = value
            return dense_array(matrix, field, valid=valid)
        case VectorKind.MULTI:
            empty = np.zeros((0, field.item_count), dtype=NUMPY_TYPE[field.dtype])
            parts = [empty if value is None else np.asarray(value) for value in values]
            single = VectorField("", VectorKind.DENSE, field.dtype, field.metric, field.dimensions)
            inner = dense_array(np.concatenate([empty, *parts]).astype(empty.dtype, copy=False), single)
            mask = pa.array(~valid) if len(values) else None
            return pa.ListArray.from_arrays(_offsets(parts), inner, type=vector_type(field), mask=mask)
        case VectorKind.SPARSE:
            pairs = [(np.zeros(0, np.uint32), np.zeros(0, np.float32)) if value is None else value for value in values]
            layout = vector_type(field)
            children = [
                pa.ListArray.from_arrays(
                    _offsets([pair[side] for pair in pairs]),
                    pa.array(np.concatenate([np.zeros(0, dtype), *(pair[side] for pair in pairs)]).astype(dtype)),
                    type=layout.field(side).type,
                )
                for side, dtype in enumerate((np.uint32, np.float32))
            ]
            return pa.StructArray.from_arrays(children, fields=list(layout), mask=pa.array(~valid, pa.bool_()))


def _items(column: pa.Array, row: int, dtype: type[np.generic]) -> Numbers:
    found: Numbers = np.array(column[row].values.to_numpy(zero_copy_only=False), dtype=dtype)
    return found


def _offsets(parts: Sequence[Any]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum([len(part) for part in parts], dtype=np.int64)]), pa.int32())
