"""The reference meaning of filters and metrics: one record at a time, in float64, with nothing clever.

Other code is tested against this, so it is written to be read rather than to be fast: some 5 µs a record. Filters are
those of `exitramp.filters` themselves.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exitramp.filters import matches
from exitramp.records import DType, Metric, VectorField, VectorKind
from exitramp.testing.rows import Vector

__all__ = ["GREATER_IS_NEARER", "matches", "nearest_first", "nothing_in", "score"]

GREATER_IS_NEARER: Final = frozenset({Metric.COSINE, Metric.DOT})


def score(field: VectorField, query: Vector, value: Vector) -> float:
    """How near two vectors of a field are: the similarity for cosine and dot, the distance for the other metrics.

    cosine is 0 where either is zero; euclidean is the root of the squared sum; hamming counts places that differ,
    bits for binary vectors. Multi vectors: the sum over the query's vectors of the best among the record's (MaxSim,
    Khattab and Zaharia, "ColBERT", 2020; the least distance for distances). NaN where the arithmetic gives none.
    """
    if field.kind is VectorKind.SPARSE:
        return _pair(field.metric, *_aligned(query, value))
    first, second = _plain(query, field.dtype), _plain(value, field.dtype)
    if field.kind is VectorKind.DENSE:
        return _pair(field.metric, first, second)
    best = max if field.metric in GREATER_IS_NEARER else min
    return sum(best(_pair(field.metric, one, other) for other in second) for one in first)


def _pair(metric: Metric, one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    with np.errstate(all="ignore"):
        match metric:
            case Metric.DOT:
                return float(one @ other)
            case Metric.COSINE:
                norms = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
                return float(one @ other) / norms if norms else 0.0
            case Metric.EUCLIDEAN:
                return float(np.linalg.norm(one - other))
            case Metric.MANHATTAN:
                return float(np.abs(one - other).sum())
            case Metric.HAMMING:
                return float(np.count_nonzero(one != other))


def _plain(vector: Vector, dtype: DType) -> npt.NDArray[np.float64]:
    array = np.asarray(vector)
    if dtype is DType.BINARY:
        array = np.unpackbits(array.astype(np.uint8), axis=-1)
    plain: npt.NDArray[np.float64] = array.astype(np.float64)
    return plain


def _aligned(one: Vector, other: Vector) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    indices = np.union1d(one[0], other[0])
    both = np.zeros((2, len(indices)))
    for row, vector in enumerate((one, other)):
        np.add.at(both[row], np.searchsorted(indices, vector[0]), np.asarray(vector[1], dtype=np.float64))
    return both[0], both[1]


def nearest_first(metric: Metric, scored: list[tuple[float, Any]]) -> list[tuple[float, Any]]:
    """Sorted with the nearest first, ties by what follows the score, NaN last."""
    sign = -1.0 if metric in GREATER_IS_NEARER else 1.0
    return sorted(
        scored, key=lambda item: (bool(np.isnan(item[0])), 0.0 if np.isnan(item[0]) else sign * item[0], item[1])
    )


def nothing_in(vector: Vector) -> bool:
    """Whether a multi vector holds no vector at all, so that nothing can be near to it."""
    return not isinstance(vector, tuple) and vector.ndim == 2 and len(vector) == 0
