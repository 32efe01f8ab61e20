"""How far two aligned sets of vectors are apart: bytes first, distances only where bytes differ.

Measured on two cores over 2 × 1M × 384: comparing bytes runs at memory speed, cosine and L2 in numpy at a seventh of
it, ULP distances at a fortieth. So blocks that are equal byte for byte are never looked into.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

BLOCK_ROWS = 512

_UNSIGNED: dict[int, type[np.unsignedinteger[Any]]] = {2: np.uint16, 4: np.uint32, 8: np.uint64}


@dataclass(frozen=True, slots=True)
class Differences:
    """What two matrices [rows, items] of one dtype have between them.

    `unequal` are the rows whose bits differ; `cosine`, `l2`, `max_abs` and `ulp` (0 for integers) belong to those
    rows in that order. Cosine is NaN where a side is zero or not finite; equal rows have cosine 1 and L2 0.
    """

    rows: int
    unequal: npt.NDArray[np.int64]
    cosine: npt.NDArray[np.float64]
    l2: npt.NDArray[np.float64]
    max_abs: npt.NDArray[np.float64]
    ulp: npt.NDArray[np.float64]


def unequal_rows(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """The rows of two C-contiguous matrices whose bits differ."""
    found: list[npt.NDArray[np.int64]] = []
    for start in range(0, len(a), BLOCK_ROWS):
        block_a, block_b = a[start : start + BLOCK_ROWS], b[start : start + BLOCK_ROWS]
        # Arrow's Buffer.equals is a memcmp that copies nothing.
        if pa.py_buffer(block_a).equals(pa.py_buffer(block_b)):
            continue
        bits_a = np.ascontiguousarray(block_a).view(np.uint8)
        bits_b = np.ascontiguousarray(block_b).view(np.uint8)
        found.append(np.flatnonzero((bits_a != bits_b).any(axis=1)) + start)
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def compare_matrices(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> Differences:
    """Compare two matrices of the same shape and dtype row by row."""
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    rows = unequal_rows(a, b)
    if not len(rows):
        nothing = np.zeros(0, np.float64)
        return Differences(len(a), rows, nothing, nothing, nothing, nothing)
    left, right = a[rows], b[rows]
    with np.errstate(all="ignore"):
        wide_left, wide_right = left.astype(np.float64), right.astype(np.float64)
        difference = wide_left - wide_right
        dot = np.einsum("ij,ij->i", wide_left, wide_right)
        norms = np.sqrt(np.einsum("ij,ij->i", wide_left, wide_left) * np.einsum("ij,ij->i", wide_right, wide_right))
        return Differences(
            rows=len(a),
            unequal=rows,
            cosine=np.where(norms > 0, dot / norms, np.nan),
            l2=np.sqrt(np.einsum("ij,ij->i", difference, difference)),
            max_abs=np.abs(difference).max(axis=1),
            ulp=_ulp(left, right),
        )


def _ulp(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """The greatest distance in units in the last place of each row: how many representable numbers lie between.

    Bit patterns of IEEE numbers are ordered like the numbers once negative ones are mirrored (B. Dawson, "Comparing
    Floating Point Numbers", 2012).
    """
    if a.dtype.kind != "f":
        return np.zeros(len(a), np.float64)
    distances: npt.NDArray[np.float64] = np.abs(_ordered(a) - _ordered(b)).max(axis=1)
    return distances


def _ordered(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    sign_bit = 8 * values.dtype.itemsize - 1
    bits: npt.NDArray[np.unsignedinteger[Any]] = values.view(_UNSIGNED[values.dtype.itemsize])
    sign = bits.dtype.type(2**sign_bit)
    magnitude = (bits & ~sign).astype(np.float64)
    ordered: npt.NDArray[np.float64] = np.where(bits & sign, -magnitude, magnitude)
    return ordered
