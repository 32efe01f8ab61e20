"""Multi and sparse columns as flat arrays and back: records in them have no common length."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.arrow import dense_array, dense_matrix, vector_type
from exitramp.records import DType, VectorField, VectorKind

NUMPY: dict[DType, np.dtype[Any]] = {
    DType.FLOAT32: np.dtype("<f4"),
    DType.FLOAT16: np.dtype("<f2"),
    DType.FLOAT64: np.dtype("<f8"),
    DType.INT8: np.dtype("i1"),
    DType.BINARY: np.dtype("u1"),
}


@dataclass(frozen=True, slots=True)
class Ragged:
    """A column's values end to end: `numbers` [items, width] of a multi field, [items] of a sparse one, whose
    `indices` stand beside them. `lengths` [rows] is how many items a row has, `valid` [rows] whether it has a value."""

    numbers: npt.NDArray[Any]
    indices: npt.NDArray[np.uint32] | None
    lengths: npt.NDArray[np.int64]
    valid: npt.NDArray[np.bool_]

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """Which row each item belongs to."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def without(self, gone: npt.NDArray[np.bool_]) -> Ragged:
        """The same with no value in the rows that are `gone` [rows]."""
        keep = ~gone[self.rows]
        return Ragged(
            self.numbers[keep],
            None if self.indices is None else self.indices[keep],
            np.where(gone, 0, self.lengths),
            self.valid & ~gone,
        )

    def row(self, row: int) -> Any:
        """One row's value: a matrix, or the pair of indices and values; None where it has none."""
        if not self.valid[row]:
            return None
        start = int(self.lengths[:row].sum())
        items = slice(start, start + int(self.lengths[row]))
        return self.numbers[items] if self.indices is None else (self.indices[items], self.numbers[items])


def read(column: pa.Array, field: VectorField) -> Ragged:
    """The values of a multi or sparse column."""
    valid = np.asarray(column.is_valid())
    if field.kind is VectorKind.SPARSE:
        indices, values = column.flatten()  # null where the record has no vector
        lengths = values.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        flat = [part.flatten().to_numpy(zero_copy_only=False) for part in (values, indices)]
        return Ragged(flat[0], flat[1], lengths, valid)
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return Ragged(dense_matrix(column.flatten()), None, lengths, valid)


def column(values: Ragged, field: VectorField) -> pa.Array:
    """A multi or sparse column of `field`, whose dtype the numbers have."""
    layout = vector_type(field)
    offsets = pa.array(np.concatenate([[0], np.cumsum(values.lengths)]).astype(np.int32), pa.int32())
    if values.indices is None:
        inner = dense_array(values.numbers, replace(field, name="", kind=VectorKind.DENSE))
        mask = pa.array(~values.valid) if len(values.valid) else None
        return pa.ListArray.from_arrays(offsets, inner, type=layout, mask=mask)
    parts = [
        pa.ListArray.from_arrays(offsets, pa.array(flat, item), type=layout.field(side).type)
        for side, (flat, item) in enumerate([(values.indices, pa.uint32()), (values.numbers, pa.float32())])
    ]
    return pa.StructArray.from_arrays(parts, fields=list(layout), mask=pa.array(~values.valid, pa.bool_()))


def of_rows(values: list[Any], field: VectorField) -> Ragged:
    """The same from one value for each row, None where it has none."""
    valid = np.array([value is not None for value in values], np.bool_)
    if field.kind is VectorKind.SPARSE:
        nothing = (np.zeros(0, np.uint32), np.zeros(0, np.float32))
        pairs = [nothing if value is None else value for value in values]
        lengths = np.array([len(indices) for indices, _ in pairs], np.int64)
        return Ragged(
            np.concatenate([nothing[1], *(numbers for _, numbers in pairs)]).astype(np.float32, copy=False),
            np.concatenate([nothing[0], *(indices for indices, _ in pairs)]).astype(np.uint32, copy=False),
            lengths,
            valid,
        )
    empty = np.zeros((0, field.item_count), NUMPY[field.dtype])
    parts = [empty if value is None else value for value in values]
    lengths = np.array([len(part) for part in parts], np.int64)
    return Ragged(np.concatenate([empty, *parts]), None, lengths, valid)
