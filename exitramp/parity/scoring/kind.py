"""What a kind of vector has to know, so that its neighbours can be found exactly and asked for.

Every distance is one where less is nearer. A block of records is scored against all queries at once; what that leaves
in the running is measured exactly, pair by pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.ports import Query
from exitramp.records import Metric, VectorField

Matrix = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Pairs = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]
"""Places of queries, and beside them the rows of a block."""

_LOWEST = float(np.finfo(np.float32).min)


class Block(Protocol):
    """Some records' vectors beside all queries."""

    @property
    def usable(self) -> Mask:
        """bool[rows]: which records have a vector that anything can be near to: there, and of finite numbers alone."""
        ...

    def nearness(self, metric: Metric) -> Matrix:
        """[queries, rows]: at least what `least_nearness` says of any distance greater than the pair's true one.

        Infinite where that cannot be said, minus infinity for a pair that is out of the question. The array may be
        written to.
        """
        ...

    def distances(self, pairs: Pairs, metric: Metric) -> Floats:
        """float64[n]: the exact distance of each pair, in bounded memory; infinite or NaN for what is no neighbour."""
        ...


class Queries(Protocol):
    """Query vectors of one field and what is worked out from them once."""

    def __len__(self) -> int: ...

    def block(self, column: pa.Array) -> Block:
        """The vectors of the field's column in a batch."""
        ...

    def least_nearness(self, metric: Metric, distances: Floats) -> Matrix:
        """[queries]: a pair that is truly nearer than the query's distance in `distances` is at least that near.

        Finite, so that minus infinity stays below it.
        """
        ...


class Kind(Protocol):
    """A kind of vector. metrics: those that mean the same in every store; by another one nothing is compared."""

    @property
    def metrics(self) -> frozenset[Metric]: ...

    def askable(self, column: pa.Array) -> Mask:
        """bool[rows]: which records' vectors any store can be asked with."""
        ...

    def vectors(self, column: pa.Array, rows: Sequence[int]) -> list[Any]:
        """The vectors of these rows, as stored, each on its own; of rows that are askable."""
        ...

    def queries(self, vectors: Sequence[Any], field: VectorField) -> Queries: ...

    def query(self, vector: Any, field: VectorField) -> Query:
        """How a store is asked for what is near to `vector` in its `field`, in the numbers that it keeps there."""
        ...


def tie_width(metric: Metric, distance: float, epsilon: float) -> float:
    """How far beyond `distance` another counts as equal: `epsilon` relative to the similarity for cosine (which is
    of the order of one), relative to the distance for the others; whole numbers are exact."""
    if metric is Metric.HAMMING:
        return 0.0
    return epsilon if metric is Metric.COSINE else epsilon * abs(distance)


def floor_of(bounds: Floats) -> npt.NDArray[np.float32]:
    """float32[n]: at most `bounds`, and above minus infinity, which is left for pairs that are out of the question."""
    with np.errstate(all="ignore"):
        least = np.nextafter(bounds.astype(np.float32), np.float32(-np.inf))
    return np.nan_to_num(least, nan=_LOWEST, neginf=_LOWEST)
