"""How near dense vectors are, twice: exactly for a few pairs, and fast for all of a block with a bound on the error.

Every distance is one where less is nearer: 1 - cosine, minus the dot product, the Euclidean and the Manhattan
distance, and the number of places that differ (bits of binary vectors). A zero vector has cosine 0 with everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.arrow import dense_matrix
from exitramp.errors import DataInvalid
from exitramp.parity.scoring.kind import Floats, Mask, Matrix, Pairs, floor_of
from exitramp.ports import Query
from exitramp.records import DType, Metric, VectorField

GATHERED_BYTES = 2**18
"""So much of each side is gathered at a time for exact distances; with 16 MiB that step took five times as long."""

_UNIT_ROUNDOFF = 2.0**-24
_TINY, _HUGE = 1e-15, 1e15
"""Outside of these norms float32 arithmetic may underflow or overflow, and pairs are measured exactly at once."""


def exact_distances(queries: Matrix, rows: Matrix, field: VectorField, metric: Metric) -> Floats:
    """float64[n]: the distance of each query from the row beside it; both [n, items] as stored."""
    with np.errstate(all="ignore"):
        if metric is Metric.HAMMING:
            unlike = _plain(queries, field, queries.dtype) != _plain(rows, field, rows.dtype)
            return np.asarray(np.count_nonzero(unlike, axis=1), np.float64)
        left, right = _plain(queries, field, np.float64), _plain(rows, field, np.float64)
        if metric is Metric.EUCLIDEAN:
            return _lengths(left - right)
        if metric is Metric.MANHATTAN:
            sums: Floats = np.abs(left - right).sum(axis=1)
            return sums
        dots: Floats = _dots(left, right)
        if metric is Metric.DOT:
            return -dots
        norms = _lengths(left) * _lengths(right)
        return 1.0 - np.where(norms == 0.0, 0.0, dots / norms)


def pair_distances(
    queries: Matrix,
    rows: Matrix,
    at: Pairs,
    field: VectorField,
    metric: Metric,
) -> Floats:
    """The exact distance of query `at[0][i]` from row `at[1][i]`, in bounded memory."""
    step = max(1, GATHERED_BYTES // (8 * (field.dimensions or 1)))
    parts = [
        exact_distances(queries[at[0][start : start + step]], rows[at[1][start : start + step]], field, metric)
        for start in range(0, len(at[0]), step)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


class Queries:
    """Query vectors [n, items] of a field and what is worked out from them once."""

    def __init__(self, matrix: Matrix, field: VectorField) -> None:
        if matrix.ndim != 2 or matrix.shape[1] != field.item_count:
            raise DataInvalid(f"queries of the shape {matrix.shape} for '{field.column}' of {field.item_count} numbers")
        self.raw, self.field = matrix, field
        with np.errstate(all="ignore"):
            self.plain = np.ascontiguousarray(_plain(matrix, field, np.float32))
        wide = _plain(matrix, field, np.float64)
        self.norms: Floats = _lengths(wide)
        self.awkward = ~_measurable(self.norms, matrix)

    def __len__(self) -> int:
        return len(self.raw)

    def block(self, column: pa.Array) -> Block:
        return Block(dense_matrix(column), self, np.asarray(column.is_valid()))

    def least_nearness(self, metric: Metric, distances: Floats) -> npt.NDArray[np.float32]:
        with np.errstate(all="ignore"):
            match metric:
                case Metric.COSINE:
                    return floor_of((1.0 - distances) * self.norms)
                case Metric.EUCLIDEAN:
                    return floor_of((self.norms**2 * (1 - 4e-15) - distances**2) / 2)
                case Metric.DOT | Metric.MANHATTAN:
                    return floor_of(-distances)
                case Metric.HAMMING:
                    return floor_of(0.5 - distances)


class Block:
    """Some records' vectors [rows, items] beside all queries; `there` [rows] says who has one. What several metrics
    need is worked out once."""

    def __init__(self, raw: Matrix, queries: Queries, there: Mask | None = None) -> None:
        self.raw, self._queries, self._field = raw, queries, queries.field
        self._there = np.ones(len(raw), np.bool_) if there is None else there
        # |fl(x·y) - x·y| <= n u |x| |y| for any order of summation (N. Higham, "Accuracy and Stability of Numerical
        # Algorithms", 3.1); eight more for the conversions and the few steps around it.
        self._gamma = 1.02 * (self._plain.shape[1] + 8) * _UNIT_ROUNDOFF

    @cached_property
    def usable(self) -> Mask:
        with np.errstate(all="ignore"):
            finite: Mask = np.isfinite(self._norms)
        for row in np.flatnonzero(~finite).tolist():  # or their squares overflowed
            finite[row] = bool(np.isfinite(_plain(self.raw[row : row + 1], self._field, np.float64)).all())
        return finite & self._there

    def distances(self, pairs: Pairs, metric: Metric) -> Floats:
        return pair_distances(self._queries.raw, self.raw, pairs, self._field, metric)

    def nearness(self, metric: Metric) -> npt.NDArray[np.float32]:
        """As the protocol says; infinite where float32 arithmetic cannot say."""
        with np.errstate(all="ignore"):
            found = self._nearness(metric)
        if metric is not Metric.HAMMING:
            found[:, ~_measurable(self._norms, self.raw)] = np.inf
            found[self._queries.awkward] = np.inf
        return found

    def _nearness(self, metric: Metric) -> npt.NDArray[np.float32]:
        gamma, of_queries = np.float32(3 * self._gamma), self._queries.norms.astype(np.float32)
        match metric:
            case Metric.DOT:
                found: npt.NDArray[np.float32] = np.multiply.outer(gamma * of_queries, self._norms)
                found += self._product
                return found
            case Metric.COSINE:
                found = self._product * np.where(self._norms > 0, 1 / self._norms, np.float32(0))
                found += (gamma * of_queries)[:, None]
                return found
            case Metric.EUCLIDEAN:
                found = np.multiply.outer(gamma * of_queries, self._norms)
                found += self._product
                found -= (1 - gamma) * self._norms * self._norms / 2
                return found
            case Metric.MANHATTAN:
                return self._manhattan()
            case Metric.HAMMING:
                return self._hamming()

    @cached_property
    def _plain(self) -> npt.NDArray[np.float32]:
        with np.errstate(all="ignore"):
            return _plain(self.raw, self._field, np.float32)

    @cached_property
    def _norms(self) -> npt.NDArray[np.float32]:
        with np.errstate(all="ignore"):
            return _lengths(self._plain)

    @cached_property
    def _product(self) -> npt.NDArray[np.float32]:
        # One product for cosine, dot and Euclid alike. Kept to matrix products and one comparison, the search for
        # candidates runs at 0.9 of sgemm with 200 queries; faiss.knn on the same blocks ran at 0.2 to 0.3 of it.
        product: npt.NDArray[np.float32] = self._queries.plain @ self._plain.T
        return product

    def _manhattan(self) -> npt.NDArray[np.float32]:
        found = np.empty((len(self._queries), len(self._plain)), np.float32)
        root = np.sqrt(np.float32(self._plain.shape[1]))
        for index, query in enumerate(self._queries.plain):
            found[index] = -np.abs(self._plain - query).sum(axis=1)
        found *= np.float32(1 - 2 * self._gamma)
        slack = 4 * np.float32(_UNIT_ROUNDOFF) * root
        found += slack * np.add.outer(self._queries.norms.astype(np.float32), self._norms)
        return found

    def _hamming(self) -> npt.NDArray[np.float32]:
        found = np.empty((len(self._queries), len(self.raw)), np.float32)
        for index, query in enumerate(self._queries.raw):
            if self._field.dtype is DType.BINARY:
                found[index] = -_ones(self.raw ^ query).sum(axis=1, dtype=np.float32)
            else:
                found[index] = -np.count_nonzero(self.raw != query, axis=1)
        return found


_TABLE = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)


def _ones(bits: Matrix) -> Matrix:
    # numpy counts bits itself from 2.0 on, some ten times faster than the table.
    count = getattr(np, "bitwise_count", None)
    ones: Matrix = _TABLE[bits] if count is None else count(bits)
    return ones


def _measurable(norms: Matrix, raw: Matrix) -> Mask:
    """bool[rows]: whose norms are fit for float32 arithmetic. A norm of zero is one where it did not underflow."""
    fit: Mask = (norms > _TINY) & (norms < _HUGE)
    zero = np.flatnonzero(norms == 0.0)
    fit[zero] = ~raw[zero].any(axis=1)
    return fit


def _plain(matrix: Matrix, field: VectorField, dtype: Any) -> Matrix:
    """One number for each dimension."""
    unpacked = np.unpackbits(matrix, axis=-1) if field.dtype is DType.BINARY else matrix
    return unpacked.astype(dtype, copy=False)


def _lengths(rows: Matrix) -> Matrix:
    lengths: Matrix = np.sqrt(_dots(rows, rows))
    return lengths


def _dots(left: Matrix, right: Matrix) -> Matrix:
    products: Matrix = np.einsum("ij,ij->i", left, right)
    return products


_FLOATS: Final = {DType.FLOAT16: np.float16, DType.FLOAT32: np.float32, DType.FLOAT64: np.float64}


def as_dtype(vectors: Matrix, dtype: DType) -> Matrix:
    """Floats as a store keeps them; everything else as it is."""
    wanted = _FLOATS.get(dtype)
    return vectors.astype(wanted, copy=False) if wanted is not None and vectors.dtype.kind == "f" else vectors


class _Dense:
    """One vector for each record."""

    metrics: Final = frozenset(Metric)

    def askable(self, column: pa.Array) -> Mask:
        """A zero vector is none: cosine has no answer to it."""
        matrix = dense_matrix(column)
        fit: Mask = np.asarray(column.is_valid()) & matrix.any(axis=1)
        return fit & np.isfinite(matrix).all(axis=1) if matrix.dtype.kind == "f" else fit

    def vectors(self, column: pa.Array, rows: Sequence[int]) -> list[Matrix]:
        matrix = dense_matrix(column)
        return [matrix[row].copy() for row in rows]

    def queries(self, vectors: Sequence[Any], field: VectorField) -> Queries:
        return Queries(np.asarray(vectors) if len(vectors) else np.zeros((0, field.item_count)), field)

    def query(self, vector: Matrix, field: VectorField) -> Query:
        return Query(field.name, dense=as_dtype(vector, field.dtype))


DENSE: Final = _Dense()
