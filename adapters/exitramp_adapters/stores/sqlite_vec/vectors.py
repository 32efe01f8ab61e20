"""Vectors as numbers: as vec0 keeps them, how far they are from one another, and which of them it cannot rank."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exitramp.records import DType, Metric
from exitramp_adapters.stores.sqlite_vec.collection import Part

Matrix = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

TURNED: Final = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1], axis=1)[:, 0]
"""Each byte with its bits in the other order: the first of eight is the lowest here, and the highest in a stream."""


def stored_bytes(matrix: Matrix, part: Part, *, low_bit_first: bool) -> list[bytes]:
    """Each row of a matrix as the store keeps it."""
    if part.field.dtype is DType.BINARY and low_bit_first:
        matrix = TURNED[matrix]
    raw = np.ascontiguousarray(matrix).tobytes()
    size = len(raw) // max(1, len(matrix))
    return [raw[start : start + size] for start in range(0, len(raw), size)] if size else []


def distances(metric: Metric, query: Matrix, matrix: Matrix) -> npt.NDArray[np.float64]:
    """As vec0 gives them: 1 - cosine (1 where a vector is zero), roots of squares, sums, places that differ; NaN where
    the arithmetic gives none. Of dot, which vec0 has not, the product turned round."""
    if metric is Metric.HAMMING:
        return np.asarray(np.unpackbits(np.asarray(matrix ^ query, np.uint8), axis=1).sum(axis=1), np.float64)
    one, many = query.astype(np.float64), matrix.astype(np.float64)
    with np.errstate(all="ignore"):
        if metric is Metric.EUCLIDEAN:
            return np.asarray(np.linalg.norm(many - one, axis=1))
        if metric is Metric.MANHATTAN:
            return np.asarray(np.abs(many - one).sum(axis=1))
        if metric is Metric.DOT:
            return np.asarray(-(many @ one))
        norms = np.linalg.norm(many, axis=1) * np.linalg.norm(one)
        return np.asarray(np.where(norms == 0, 1.0, 1 - (many @ one) / norms))


def unrankable(metric: Metric, matrix: Matrix) -> Mask:
    """Which rows vec0 may give no distance to: those that are not finite, and under cosine those whose length, squared,
    is zero or infinite in float32, or lies too near to that to be exact."""
    if matrix.dtype.kind != "f":
        none: Mask = np.zeros(len(matrix), bool)
        return none if metric is not Metric.COSINE else np.asarray(~matrix.any(axis=1))
    if metric is Metric.COSINE:
        # One pass in float32 settles nearly all rows: 0.1 us for 384 numbers, where float64 takes 0.5.
        with np.errstate(all="ignore"):
            squares = np.einsum("ij,ij->i", matrix, matrix)
        return np.asarray(~((squares >= np.float32(1e-30)) & (squares <= np.float32(1e36))))
    return np.asarray(~np.isfinite(matrix).all(axis=1))
