"""Which vectors of a column a sink would not give back bit for bit, and what is written natively in their place.

The one answer that the plan counts by and that encoding writes by, so that the two cannot disagree. Judged is what the
sink is really given: the numbers in the dtype that it holds them in, under the metric that it holds them under.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.arrow import dense_matrix
from exitramp.codec import ragged
from exitramp.codec.ragged import NUMPY
from exitramp.ports import SinkLimits
from exitramp.records import DType, VectorField, VectorKind

PLACEHOLDER: Final = "p"
"""The native vector is the unit vector of the first dimension: every store takes it under every metric."""
CLEANED: Final = "z"
"""The native vector is the original with -0.0 written as 0.0."""
NEAR: Final = "t"
"""The native vector is the original, which the store may change: as its metric does, or its smallest numbers to 0."""
ABSENT: Final = "a"
"""There is no native vector."""

_Numbers = npt.NDArray[Any]
_Flags = npt.NDArray[np.bool_]
# A number this many times the smallest normal one, or more, stays normal when divided by the length of its vector and
# multiplied by it again, with all of its digits: at 1e-36 of the length 3 ulp were lost, at 1e-37 fifteen.
_ROOM: Final = 100.0


@dataclass(slots=True)
class Odd:
    """What was found out about a column.

    `rows` says how each odd row stands natively; `unfound` counts those of them that are absent although a search could
    have found them, which needs a number and finite ones. The other rows are given to the sink as they are. Of these,
    dense ones: `exact` whether the sink's dtype holds every number, and with `measure` the least and the greatest
    length of those that are not zero (None: there is none, or the sink does not scale them).
    """

    rows: dict[int, str]
    unfound: int = 0
    exact: bool = True
    norm_minimum: float | None = None
    norm_maximum: float | None = None


def judge(
    column: pa.Array, original: VectorField, native: VectorField, limits: SinkLimits, *, measure: bool = False
) -> Odd:
    """`column` is of `original`, which the sink holds as `native`."""
    if original.kind is VectorKind.DENSE:
        return _judge_dense(column, original, native, limits, measure)
    values = ragged.read(column, original)
    numbers = values.numbers
    if original.kind is VectorKind.MULTI:
        found = _judge_vectors(numbers, original, native, limits)
        rows = values.rows
    else:
        # A sparse vector is judged number by number; where a sink changes it as a whole, every row is odd anyway.
        found = _judge_vectors(numbers.reshape(-1, 1), original, native, limits)
        rows = values.rows
    how = np.zeros(len(values.valid), np.int8)
    for rank, flags in enumerate((found.near, found.cleaned, found.gone), start=1):
        how[rows[flags]] = np.maximum(how[rows[flags]], rank)
    if not limits.empty_multi and original.kind is VectorKind.MULTI:
        how[values.valid & (values.lengths == 0)] = 3
    if not limits.sparse_duplicates and values.indices is not None:
        how[_rows_with_doubles(rows, values.indices)] = 3
    marks = ("", NEAR, CLEANED, ABSENT)
    finite = np.isfinite(numbers) if values.indices is not None else np.isfinite(numbers).all(axis=1)
    hopeless = values.lengths == 0
    hopeless[rows[~finite]] = True
    return Odd({row: marks[how[row]] for row in np.flatnonzero(how).tolist()}, int(((how == 3) & ~hopeless).sum()))


def _judge_dense(
    column: pa.Array, original: VectorField, native: VectorField, limits: SinkLimits, measure: bool
) -> Odd:
    matrix = dense_matrix(column)
    valid = np.asarray(column.is_valid())
    found = _judge_vectors(matrix, original, native, limits)
    gone = PLACEHOLDER if limits.vectors_required else ABSENT
    rows: dict[int, str] = {}
    for how, flags in ((NEAR, found.near), (CLEANED, found.cleaned), (gone, found.gone)):
        for row in np.flatnonzero(flags & valid).tolist():
            rows[row] = how
    result = Odd(rows)
    if gone == ABSENT:
        result.unfound = int(np.isfinite(matrix[found.gone & valid]).all(axis=1).sum())
    plain = valid.copy()
    plain[list(rows)] = False
    result.exact = not bool((found.inexact & plain).any())
    if measure and native.metric in limits.normalises:
        lengths = _norms(matrix[plain].astype(NUMPY[native.dtype], copy=False))
        lengths = lengths[lengths > 0]
        if len(lengths):
            result.norm_minimum, result.norm_maximum = float(lengths.min()), float(lengths.max())
    return result


@dataclass(slots=True)
class _Found:
    """Flags of vectors [items]: `gone` are not written at all, `cleaned` and `near` are written changed, `inexact` ones
    do not stand in the native dtype."""

    gone: _Flags
    cleaned: _Flags
    near: _Flags
    inexact: _Flags


def _judge_vectors(matrix: _Numbers, original: VectorField, native: VectorField, limits: SinkLimits) -> _Found:
    none = np.zeros(len(matrix), np.bool_)
    found = _Found(none.copy(), none.copy(), none.copy(), none.copy())
    dtype = matrix.dtype if original.kind is VectorKind.SPARSE else NUMPY[native.dtype]
    changes = native.metric in limits.normalises or native.metric in limits.rounds
    if native.metric in limits.normalises and original.dtype not in {DType.FLOAT32, DType.FLOAT64}:
        found.near[:] = True  # no way leads back from the scaled number to the narrow one
    with np.errstate(all="ignore"):
        written = matrix.astype(dtype, copy=False)
        if original.kind is not VectorKind.DENSE and changes:
            found.near |= ~_of_unit_length(written, native, limits)
        if not limits.zero_vectors and native.kind is not VectorKind.SPARSE:
            found.gone |= (written == 0).all(axis=1)
        if written.dtype.kind == "f":
            _judge_cast(matrix, written, original, found)
            _judge_numbers(written, native, limits, found)
    return found


def _judge_cast(matrix: _Numbers, written: _Numbers, original: VectorField, found: _Found) -> None:
    if matrix.dtype == written.dtype:
        return
    unsigned = np.dtype(f"u{matrix.dtype.itemsize}")
    back = np.ascontiguousarray(written.astype(matrix.dtype))
    differs = back.view(unsigned) != np.ascontiguousarray(matrix).view(unsigned)
    if not differs.any():
        return
    found.inexact |= differs.any(axis=1)
    finite = np.isfinite(matrix)
    found.gone |= (differs & finite & ~np.isfinite(written)).any(axis=1)
    if original.kind is VectorKind.DENSE and original.dtype is DType.FLOAT64:
        # Rounding to half a unit in the last place is what a plan announces. The bits of a NaN, and numbers that are
        # too small to be rounded like that, are lost otherwise.
        found.near |= (differs & (~finite | (np.abs(written) < np.finfo(written.dtype).tiny))).any(axis=1)
    else:
        found.near |= found.inexact


def _judge_numbers(written: _Numbers, native: VectorField, limits: SinkLimits, found: _Found) -> None:
    unbound = limits.vector_magnitude is None and limits.vector_magnitude_least is None
    if unbound and limits.subnormal_vectors and limits.negative_zero_vectors and limits.nonfinite_vectors:
        return  # a look at every number of 20,000 x 384 takes 4 ms
    magnitudes = np.abs(written)
    if not limits.subnormal_vectors:
        tiny = float(np.finfo(written.dtype).tiny)
        least = np.full(len(written), tiny)
        if native.metric in limits.rounds:
            # What divides by a vector's length and multiplies by it again has subnormal numbers in between.
            least = np.maximum(least, _ROOM * tiny * _norms(written))
        found.near |= ((magnitudes > 0) & (magnitudes < least[:, None])).any(axis=1)
    if not limits.negative_zero_vectors:
        found.cleaned |= (np.signbit(written) & (written == 0)).any(axis=1)
    greatest = magnitudes.max(axis=1, initial=0)  # NaN where there is one
    if limits.magnitude_metrics is None or native.metric in limits.magnitude_metrics:
        if limits.vector_magnitude is not None:
            found.gone |= greatest > limits.vector_magnitude
        if limits.vector_magnitude_least is not None:
            found.gone |= (greatest > 0) & (greatest < limits.vector_magnitude_least)
    if not limits.nonfinite_vectors:
        found.gone |= ~np.isfinite(greatest)


def _of_unit_length(written: _Numbers, native: VectorField, limits: SinkLimits) -> _Flags:
    """Which vectors a sink that scales leaves as they are."""
    if native.metric not in limits.normalises or native.metric in limits.rounds:
        return np.zeros(len(written), np.bool_)
    if native.kind is not VectorKind.MULTI or (native.dimensions or 0) > limits.unit_dimensions:
        return np.zeros(len(written), np.bool_)
    near: _Flags = np.abs(_norms(written) - 1) <= limits.unit_slack
    return near


def _norms(matrix: _Numbers) -> npt.NDArray[np.float64]:
    norms: npt.NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64))
    return norms


def _rows_with_doubles(rows: npt.NDArray[np.int64], indices: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    order = np.lexsort((indices, rows))
    same = (rows[order][1:] == rows[order][:-1]) & (indices[order][1:] == indices[order][:-1])
    return np.unique(rows[order][1:][same])
