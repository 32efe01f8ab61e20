"""The reference meaning of filters and metrics: one record at a time, in float64, with nothing clever.

Other code is tested against this, so it is written to be read rather than to be fast: some 5 µs a record.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from exitramp.filters import And, Eq, Exists, Field, Filter, In, Not, Or, Range, Scalar
from exitramp.records import DType, Metric, VectorField, VectorKind
from exitramp.testing.rows import Vector

GREATER_IS_NEARER = frozenset({Metric.COSINE, Metric.DOT})

_MISSING = object()


def matches(where: Filter, payload: Any) -> bool:
    """Whether a record with this decoded payload (None: it has none) passes the filter."""
    match where:
        case And(parts):
            return all(matches(part, payload) for part in parts)
        case Or(parts):
            return any(matches(part, payload) for part in parts)
        case Not(part):
            return not matches(part, payload)
        case Exists(path):
            return _at(payload, path) is not _MISSING
        case Eq(path, value):
            return any(_equal(item, value) for item in _candidates(_at(payload, path)))
        case In(path, values):
            return any(_equal(item, value) for item in _candidates(_at(payload, path)) for value in values)
        case Range(path, gte, gt, lte, lt):
            found = _at(payload, path)
            if type(found) not in (int, float):
                return False
            return (
                (gte is None or found >= gte)
                and (gt is None or found > gt)
                and (lte is None or found <= lte)
                and (lt is None or found < lt)
            )


def _at(payload: Any, path: Field) -> Any:
    for key in path:
        if not isinstance(payload, dict) or key not in payload:
            return _MISSING
        payload = payload[key]
    return payload


def _candidates(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _equal(found: Any, wanted: Scalar) -> bool:
    if isinstance(wanted, bool) or isinstance(found, bool):
        return found is wanted
    if isinstance(wanted, str):
        return isinstance(found, str) and found == wanted
    return type(found) in (int, float) and bool(found == wanted)


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
