"""How far two aligned sets of vectors are apart: bytes first, distances only where bytes differ.

Equal blocks are compared at memory speed and never looked into. Unequal rows are measured in float64, a few rows at a
time so that their float64 copies stay in the processor's cache. simsimd would be faster still on such rows, but its
cosine is off by 4e-8 (its reciprocal root is an approximation, in float64 too), which is more than what is measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

BLOCK_ROWS = 512
MEASURED_BYTES = 2**18
"""So many bytes of each side are measured at once; over whole matrices the same arithmetic was 50 times slower."""

_UNSIGNED: dict[int, type[np.unsignedinteger[Any]]] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


@dataclass(frozen=True, slots=True)
class Differences:
    """What two matrices [rows, items] of one dtype have between them.

    `unequal` are the rows whose bits differ; `cosine`, `l2`, `max_abs`, `ulp` and `length_b`, the length of B's vector,
    belong to those rows in that order.
    Cosine is NaN where a side is zero or not finite; equal rows have cosine 1 and L2 0. `ulp` is infinite where
    numbers that are not finite differ, and NaN for integers, which are not rounded.
    """

    rows: int
    unequal: npt.NDArray[np.int64]
    cosine: npt.NDArray[np.float64]
    l2: npt.NDArray[np.float64]
    max_abs: npt.NDArray[np.float64]
    ulp: npt.NDArray[np.float64]
    length_b: npt.NDArray[np.float64]


def unequal_rows(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """The rows of two C-contiguous matrices whose bits differ."""
    found: list[npt.NDArray[np.int64]] = []
    for start in range(0, len(a), BLOCK_ROWS):
        block_a, block_b = a[start : start + BLOCK_ROWS], b[start : start + BLOCK_ROWS]
        # Arrow's Buffer.equals is a memcmp that copies nothing.
        if pa.py_buffer(block_a).equals(pa.py_buffer(block_b)):
            continue
        # As wide words as fit a row: with eight bytes at a time, blocks with a changed row took half the time.
        word = _UNSIGNED[math.gcd(8, a.shape[1] * a.dtype.itemsize)]
        found.append(np.flatnonzero((block_a.view(word) != block_b.view(word)).any(axis=1)) + start)
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def compare_matrices(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> Differences:
    """Compare two matrices of the same shape and dtype row by row."""
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    rows = unequal_rows(a, b)
    figures = np.empty((5, len(rows)), np.float64)
    step = max(1, MEASURED_BYTES // (8 * a.shape[1]))
    with np.errstate(all="ignore"):
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            figures[:, start : start + step] = _measure(a[part], b[part])
    return Differences(len(a), rows, *figures)


def _measure(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> tuple[npt.NDArray[np.float64], ...]:
    left, right = a.astype(np.float64), b.astype(np.float64)
    difference = left - right
    max_abs = np.abs(difference).max(axis=1)
    greatest_b = 1.0
    if a.dtype == np.float64:
        # Only float64 holds numbers whose squares overflow or vanish in float64.
        greatest_b = np.abs(right).max(axis=1)
        left, right = _scaled(left, np.abs(left).max(axis=1)), _scaled(right, greatest_b)
        l2 = _norm(_scaled(difference, max_abs)) * np.where(max_abs > 0, max_abs, 1.0)
    else:
        l2 = _norm(difference)
    norm_b = _norm(right)
    norms = _norm(left) * norm_b
    cosine = np.where(norms > 0, np.einsum("ij,ij->i", left, right) / norms, np.nan)
    return cosine, l2, max_abs, _ulp(a, b, np.flatnonzero(~np.isfinite(max_abs))), norm_b * greatest_b


def _norm(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    norm: npt.NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return norm


def _scaled(rows: npt.NDArray[np.float64], by: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return rows / np.where(by > 0, by, 1.0)[:, None]


def _ulp(
    a: npt.NDArray[np.generic], b: npt.NDArray[np.generic], not_finite: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    """The greatest distance in units in the last place of each row: how many representable numbers lie between.

    Bit patterns of IEEE numbers are ordered like the numbers once negative ones are mirrored (B. Dawson, "Comparing
    Floating Point Numbers", 2012). Counted in integers: as float64 the patterns of float64 numbers lose nine bits.
    `not_finite`: the rows that may hold infinity or NaN.
    """
    if a.dtype.kind != "f":
        return np.full(len(a), np.nan)
    unsigned = _UNSIGNED[a.dtype.itemsize]
    bits_a, bits_b = a.view(unsigned), b.view(unsigned)
    sign = unsigned(1 << (8 * a.dtype.itemsize - 1))
    first, second = bits_a & ~sign, bits_b & ~sign
    greater = np.maximum(first, second)
    apart = np.where((bits_a ^ bits_b) < sign, greater - np.minimum(first, second), first + second)
    ulp: npt.NDArray[np.float64] = apart.max(axis=1).astype(np.float64)
    # Infinity is the bit pattern behind the greatest number, and NaN behind that: near by count, not by meaning.
    infinity = np.array(np.inf, a.dtype).view(unsigned)
    for row in not_finite:
        if ((greater[row] >= infinity) & (bits_a[row] != bits_b[row])).any():
            ulp[row] = np.inf
    return ulp
