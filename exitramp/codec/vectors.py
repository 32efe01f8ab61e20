"""Vectors that a sink does not hold bit for bit, kept in the marker, with what stands natively in their place."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.errors import DataInvalid
from exitramp.ports import SinkLimits
from exitramp.records import DType, Metric, VectorField, VectorKind

NUMPY: Mapping[DType, np.dtype[Any]] = {
    DType.FLOAT32: np.dtype("<f4"),
    DType.FLOAT16: np.dtype("<f2"),
    DType.FLOAT64: np.dtype("<f8"),
    DType.INT8: np.dtype("i1"),
    DType.BINARY: np.dtype("u1"),
}

PLACEHOLDER: Final = "p"
"""The native vector is the unit vector of the first dimension: every store takes it under every metric."""
CLEANED: Final = "z"
"""The native vector is the original with -0.0 written as 0.0."""
NEAR: Final = "t"
"""The native vector is the original, whose smallest numbers the store may flush to zero."""

EXACT: Final = "x"
ROUNDED: Final = "r"
SCALED: Final = "s"

_SUBNORMAL: Mapping[np.dtype[Any], float] = {
    np.dtype("<f4"): float(np.finfo(np.float32).tiny),
    np.dtype("<f8"): float(np.finfo(np.float64).tiny),
}


def odd_rows(
    matrix: npt.NDArray[Any], valid: npt.NDArray[np.bool_], limits: SinkLimits, native: VectorField
) -> dict[int, str]:
    """Which rows of `matrix` [rows, items] the sink would not give back bit for bit, and how each stands natively.

    Judged is what the sink is really given, the numbers in `native.dtype`. Where that is a wider type than the
    collection's and the sink scales vectors, no way leads back from the scaled number to the narrow one, so every
    row's original is kept.
    """
    odd: dict[int, str] = {}
    if matrix.dtype != NUMPY[native.dtype] and native.metric in limits.normalises and matrix.dtype != np.float64:
        _mark(odd, valid, NEAR)
    if matrix.dtype.kind != "f":
        return odd
    with np.errstate(all="ignore"):
        written = matrix.astype(NUMPY[native.dtype])
        magnitudes = np.abs(written)
        if not limits.subnormal_vectors and written.dtype in _SUBNORMAL:
            _mark(odd, valid & ((magnitudes > 0) & (magnitudes < _SUBNORMAL[written.dtype])).any(axis=1), NEAR)
        if not limits.negative_zero_vectors:
            _mark(odd, valid & (np.signbit(written) & (written == 0)).any(axis=1), CLEANED)
        if not limits.zero_vectors:
            _mark(odd, valid & (magnitudes == 0).all(axis=1), PLACEHOLDER)
        if limits.vector_magnitude is not None:
            _mark(odd, valid & (magnitudes > limits.vector_magnitude).any(axis=1), PLACEHOLDER)
        if not limits.nonfinite_vectors:
            _mark(odd, valid & ~np.isfinite(written).all(axis=1), PLACEHOLDER)
    return odd


def _mark(odd: dict[int, str], rows: npt.NDArray[np.bool_], how: str) -> None:
    for row in np.flatnonzero(rows).tolist():
        odd[row] = how


def stand_in(vector: npt.NDArray[Any], how: str) -> npt.NDArray[Any]:
    """What is written natively in the place of `vector`."""
    if how == PLACEHOLDER:
        unit = np.zeros_like(vector)
        unit[0] = 1
        return unit
    return vector + vector.dtype.type(0) if how == CLEANED else vector


def is_untouched(native: npt.NDArray[Any], original: npt.NDArray[Any], how: str, change: str) -> bool:
    """Whether what stands natively is still what was written for `original`, up to what the store itself changes.

    `change` is what it does under the field's metric: EXACT, ROUNDED (4 ulp of float32) or SCALED to unit length. Only
    of a store that scales the direction is all that can be asked for.
    """
    with np.errstate(all="ignore"):
        written = stand_in(original, how).astype(native.dtype).astype(np.float64)
        found = native.astype(np.float64)
        # A number below the smallest normal one may have been flushed to zero; nothing greater may differ.
        tiny = _SUBNORMAL.get(native.dtype, 0.0)
        written = np.where(np.abs(written) < tiny, 0.0, written)
        found = np.where(np.abs(found) < tiny, 0.0, found)
        if change == EXACT:
            return bool(np.array_equal(found, written))
        if change == ROUNDED:
            return bool(np.allclose(found, written, rtol=4 * float(np.finfo(np.float32).eps), atol=0.0))
        norm_found, norm_written = np.linalg.norm(found), np.linalg.norm(written)
        if not (norm_found > 0 and norm_written > 0):
            return bool(norm_found == norm_written)
        return bool(np.allclose(found / norm_found, written / norm_written, rtol=1e-5, atol=1e-6))


def change_under(metric: Metric, limits: SinkLimits) -> str:
    """What a sink does to vectors of a field with `metric`."""
    if metric in limits.normalises:
        return SCALED
    return ROUNDED if metric in limits.rounds else EXACT


def pack(value: Any, field: VectorField, how: str | None, change: str = EXACT) -> dict[str, Any]:
    """A marker's `vec` entry for one record's vector: a numpy row, a matrix for multi, a pair for sparse."""
    entry: dict[str, Any] = {} if how is None else {"n": how, "c": change}
    if field.kind is VectorKind.SPARSE:
        indices, values = value
        return entry | {"i": _text(indices, np.dtype("<u4")), "b": _text(values, np.dtype("<f4"))}
    matrix = np.asarray(value)
    return entry | {"s": list(matrix.shape), "b": _text(matrix, NUMPY[field.dtype])}


def unpack(entry: Mapping[str, Any], field: VectorField, *, where: str) -> Any:
    """The vector that `pack` was given. Raises `DataInvalid` when the entry does not hold one of this field."""
    try:
        if field.kind is VectorKind.SPARSE:
            return _numbers(entry["i"], np.dtype("<u4")), _numbers(entry["b"], np.dtype("<f4"))
        return _numbers(entry["b"], NUMPY[field.dtype]).reshape(entry["s"])
    except (KeyError, ValueError, TypeError, binascii.Error) as error:
        raise DataInvalid(f"{where}: the marker's entry for {field.column} does not hold a vector") from error


def row_value(column: pa.Array, row: int, field: VectorField) -> Any:
    """One record's vector out of a stream's column in the form that `pack` takes; None where it is null."""
    scalar = column[row]
    if not scalar.is_valid:
        return None
    if field.kind is VectorKind.SPARSE:
        found = scalar.as_py()
        return np.asarray(found["indices"], np.uint32), np.asarray(found["values"], np.float32)
    if field.kind is VectorKind.DENSE:
        return scalar.values.to_numpy(zero_copy_only=False)
    inner = scalar.values
    flat = inner.values.slice(inner.offset * field.item_count, len(inner) * field.item_count)
    return flat.to_numpy(zero_copy_only=False).reshape(len(inner), field.item_count)


def as_python(value: Any, field: VectorField) -> Any:
    """The form that pyarrow builds a column from."""
    if value is None:
        return None
    if field.kind is VectorKind.SPARSE:
        return {"indices": value[0], "values": value[1]}
    return list(value) if field.kind is VectorKind.MULTI else value


def _text(array: npt.NDArray[Any], dtype: np.dtype[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype=dtype).tobytes()).decode("ascii")


def _numbers(text: str, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype=dtype)


def is_dense(field: VectorField) -> bool:
    return field.kind is VectorKind.DENSE
