"""Vectors that a sink does not hold bit for bit, kept in the marker, with what stands natively in their place."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.codec.odd import ABSENT, CLEANED, NEAR, PLACEHOLDER
from exitramp.codec.ragged import NUMPY
from exitramp.errors import DataInvalid
from exitramp.ports import SinkLimits
from exitramp.records import Metric, VectorField, VectorKind

__all__ = ["ABSENT", "CLEANED", "EXACT", "NEAR", "NUMPY", "PLACEHOLDER", "ROUNDED", "SCALED"]

EXACT: Final = "x"
ROUNDED: Final = "r"
SCALED: Final = "s"


def stand_in(vector: npt.NDArray[Any], how: str) -> npt.NDArray[Any]:
    """What is written natively in the place of `vector`."""
    if how == PLACEHOLDER:
        unit = np.zeros_like(vector)
        unit[:1] = 1
        return unit
    return vector + vector.dtype.type(0) if how == CLEANED else vector


def is_untouched(native: npt.NDArray[Any], original: npt.NDArray[Any], how: str, change: str) -> bool:
    """Whether what stands natively is still what was written for `original` ([items], or [n, items] of a multi field),
    up to what the store itself changes.

    `change` is what it does under the field's metric: EXACT, ROUNDED (4 ulp) or SCALED to unit length. Only of a store
    that scales the direction is all that can be asked for.
    """
    if native.shape != original.shape:
        return False
    with np.errstate(all="ignore"):
        given = stand_in(original, how).astype(native.dtype)
        if np.array_equal(native, given, equal_nan=native.dtype.kind == "f"):
            return True
        found, written = (np.atleast_2d(each).astype(np.float64) for each in (native, given))
        # A number below the smallest normal one may have been flushed to zero; nothing greater may differ.
        limits = np.finfo(native.dtype) if native.dtype.kind == "f" else np.finfo(np.float32)
        tiny = float(limits.tiny)
        flushed = np.where(np.abs(written) < tiny, 0.0, written)
        if change == SCALED:
            way = _directions(found)
            digits = max(1e-5, 2 * float(limits.eps))
            ways = (_directions(written), _directions(flushed))
            same = [np.isclose(way, each, rtol=digits, atol=1e-6).all(axis=1) for each in ways]
            return bool((same[0] | same[1]).all())
        found = np.where(np.abs(found) < tiny, 0.0, found)
        if change == EXACT:
            return bool(np.array_equal(found, flushed, equal_nan=True))
        # Dividing by the length and multiplying by it loses what is subnormal in between.
        length = np.sqrt(np.einsum("ij,ij->i", written, written))[:, None]
        allowed = 4 * float(limits.eps) * np.abs(flushed) + 2 * tiny * length
        return bool((np.abs(found - flushed) <= allowed).all())


def is_sparse_untouched(native: Any, original: Any, how: str, change: str) -> bool:
    """The same for pairs of indices and values, whose order does not count."""
    indices, values = _sorted(native)
    wanted, numbers = _sorted(original)
    return bool(np.array_equal(indices, wanted)) and is_untouched(values, numbers, how, change)


def _directions(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Each at unit length, zeros left; scaled by the greatest number first, lest a square overflow or vanish."""
    for lengths in (np.abs(vectors).max(axis=1, initial=0), None):
        size = np.sqrt(np.einsum("ij,ij->i", vectors, vectors)) if lengths is None else lengths
        vectors = vectors / np.where(size > 0, size, 1.0)[:, None]
    return vectors


def _sorted(pair: Any) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
    indices, values = pair
    order = np.lexsort((values, indices))  # by value and not by bits: a store may have made 0.0 of -0.0
    return indices[order], values[order]


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
            indices, values = _numbers(entry["i"], np.dtype("<u4")), _numbers(entry["b"], np.dtype("<f4"))
            if len(indices) != len(values):
                raise ValueError("as many indices as values")
            return indices, values
        rows = [] if field.kind is VectorKind.DENSE else entry["s"][:1]
        if entry["s"] != [*rows, field.item_count]:
            raise ValueError("the field's length")
        return _numbers(entry["b"], NUMPY[field.dtype]).reshape(entry["s"])
    except (KeyError, ValueError, TypeError, OverflowError, binascii.Error) as error:
        raise DataInvalid(f"{where}: the marker's entry for {field.column} does not hold a vector") from error


def row_value(column: pa.Array, row: int, field: VectorField) -> Any:
    """One record's vector out of a stream's column in the form that `pack` takes; None where it is null."""
    scalar = column[row]
    if not scalar.is_valid:
        return None
    if field.kind is VectorKind.SPARSE:
        # Never by way of Python's floats, which change the bits of a NaN.
        return tuple(scalar[side].values.to_numpy(zero_copy_only=False) for side in ("indices", "values"))
    if field.kind is VectorKind.DENSE:
        return scalar.values.to_numpy(zero_copy_only=False)
    inner = scalar.values
    flat = inner.values.slice(inner.offset * field.item_count, len(inner) * field.item_count)
    return flat.to_numpy(zero_copy_only=False).reshape(len(inner), field.item_count)


def is_dense(field: VectorField) -> bool:
    return field.kind is VectorKind.DENSE


def _text(array: npt.NDArray[Any], dtype: np.dtype[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype=dtype).tobytes()).decode("ascii")


def _numbers(text: str, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype=dtype)
