"""How near lists of vectors are: MaxSim, exactly for a few pairs, and fast for all of a block within a bound.

MaxSim (Khattab and Zaharia, "ColBERT", 2020): for each of the query's vectors the greatest similarity with one of the
record's, added up. Here it is their mean, which ranks alike and keeps a tie as wide as that of single vectors. By
similarities alone, cosine and dot: what a list's distance is, stores do not agree on (Qdrant adds up squared ones).
A list without vectors is near to nothing; a zero vector has cosine 0 with everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.arrow import dense_matrix
from exitramp.errors import DataInvalid
from exitramp.parity.scoring.dense import as_dtype
from exitramp.parity.scoring.kind import Floats, Mask, Matrix, Pairs, floor_of
from exitramp.ports import Query
from exitramp.records import DType, Metric, VectorField

VECTORS_AT_ONCE = 2048
"""So many vectors of either side go through one matrix product, whosever they are: 16 MiB of float32."""

_UNIT_ROUNDOFF = 2.0**-24
_TINY, _HUGE = 1e-15, 1e15
"""Outside of these norms float32 arithmetic may underflow or overflow, and pairs are measured exactly at once."""


@dataclass(frozen=True, slots=True)
class _Fast:
    """All vectors of some lists in float32 as a metric multiplies them, with what bounds the error of each list.

    sizes: for each list the sum, greatest: the maximum of its vectors' norms. awkward: lists with a norm outside of
    what float32 is fit for.
    """

    plain: npt.NDArray[np.float32]
    sizes: npt.NDArray[np.float32]
    greatest: npt.NDArray[np.float32]
    awkward: Mask


class _Lists:
    """Vectors [n, items] of lists one behind the other; list i has those from `starts[i]` to `starts[i + 1]`."""

    def __init__(self, raw: Matrix, starts: npt.NDArray[np.intp], field: VectorField) -> None:
        self.raw, self.starts, self._binary = raw, starts, field.dtype is DType.BINARY
        self.counts = np.diff(starts)
        self._made: dict[Metric, _Fast] = {}

    def __len__(self) -> int:
        return len(self.counts)

    @cached_property
    def finite(self) -> Mask:
        """bool[lists]: which hold a vector, and finite numbers alone."""
        if self.raw.dtype.kind != "f":
            return self.counts > 0
        wrong = ~np.isfinite(self.raw).all(axis=1)
        owners = np.repeat(np.arange(len(self)), self.counts)
        finite: Mask = (self.counts > 0) & (np.bincount(owners[wrong], minlength=len(self)) == 0)
        return finite

    def exact(self, place: int, metric: Metric) -> Floats:
        """float64[vectors, dimensions] of one list as the metric multiplies them."""
        return self._as(metric, slice(self.starts[place], self.starts[place + 1]))

    def fast(self, metric: Metric) -> _Fast:
        if metric not in self._made:
            with np.errstate(all="ignore"):
                self._made[metric] = self._fast(metric)
        return self._made[metric]

    def _as(self, metric: Metric, part: slice) -> Floats:
        rows = self.raw[part]
        wide: Floats = (np.unpackbits(rows, axis=-1) if self._binary else rows).astype(np.float64)
        if metric is Metric.COSINE:
            norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
            wide /= np.where(norms > 0, norms, 1.0)[:, None]
        return wide

    def _fast(self, metric: Metric) -> _Fast:
        norms = np.zeros(len(self.raw))
        plain = np.empty((len(self.raw), self.raw.shape[1] * (8 if self._binary else 1)), np.float32)
        for first in range(0, len(self.raw), VECTORS_AT_ONCE):
            part = slice(first, first + VECTORS_AT_ONCE)
            wide = self._as(metric, part)
            norms[part] = np.sqrt(np.einsum("ij,ij->i", wide, wide))
            plain[part] = wide
        zeros = ~self.raw.any(axis=1)  # a norm of zero is one where it did not underflow
        unfit = ~(((norms > _TINY) & (norms < _HUGE)) | zeros)
        filled = np.flatnonzero(self.counts)
        found = np.zeros((3, len(self)))
        if len(filled):
            starts = self.starts[filled]
            found[0, filled] = np.add.reduceat(norms, starts)
            found[1, filled] = np.maximum.reduceat(norms, starts)
            found[2, filled] = np.add.reduceat(unfit.astype(np.float64), starts)
        return _Fast(plain, found[0].astype(np.float32), found[1].astype(np.float32), found[2] > 0)


class MultiQueries:
    """The queries' vectors of a multi field: one matrix [n, items] for each query."""

    def __init__(self, vectors: Sequence[Matrix], field: VectorField) -> None:
        self.field = field
        for each in vectors:
            if each.ndim != 2 or not len(each) or each.shape[1] != field.item_count:
                raise DataInvalid(
                    f"a query of the shape {each.shape} for '{field.column}' of {field.item_count} numbers"
                )
        raw = np.concatenate(list(vectors)) if len(vectors) else np.zeros((0, field.item_count))
        self.lists = _Lists(raw, np.cumsum([0, *map(len, vectors)]), field)

    def __len__(self) -> int:
        return len(self.lists)

    def block(self, column: pa.Array) -> MultiBlock:
        return MultiBlock(_Lists(*_raw(column), self.field), np.asarray(column.is_valid()), self)

    def least_nearness(self, metric: Metric, distances: Floats) -> npt.NDArray[np.float32]:
        with np.errstate(all="ignore"):
            # In the units of the sum. The mean was rounded twice, which a few units in its last place cover.
            means = (1.0 if metric is Metric.COSINE else 0.0) - distances
            return floor_of(self.lists.counts * (means - 1e-15 * (1.0 + np.abs(means))))


class MultiBlock:
    """Some records' lists of vectors beside all queries."""

    def __init__(self, lists: _Lists, there: Mask, queries: MultiQueries) -> None:
        self.usable: Mask = there & lists.finite
        self._lists, self._queries = lists, queries
        self._near: dict[Metric, npt.NDArray[np.float32]] = {}

    def distances(self, pairs: Pairs, metric: Metric) -> Floats:
        found = np.full(len(pairs[0]), np.inf)
        asked: dict[int, Floats] = {}
        theirs, last = np.zeros((0, 0)), -1
        with np.errstate(all="ignore"):
            for at in np.argsort(pairs[1], kind="stable").tolist():
                query, row = int(pairs[0][at]), int(pairs[1][at])
                if not self.usable[row]:
                    continue
                if row != last:
                    theirs, last = self._lists.exact(row, metric), row
                if query not in asked:
                    asked[query] = self._queries.lists.exact(query, metric)
                mean = _best(asked[query], theirs) / len(asked[query])
                found[at] = 1.0 - mean if metric is Metric.COSINE else -mean
        return found

    def nearness(self, metric: Metric) -> npt.NDArray[np.float32]:
        """As the protocol says, in the units of MaxSim's sum; infinite where float32 arithmetic cannot say."""
        if metric not in self._near:  # one product for every filter: it is all but the whole of the time
            self._near[metric] = self._nearness(metric)
        return self._near[metric].copy()

    def _nearness(self, metric: Metric) -> npt.NDArray[np.float32]:
        asked, held = self._queries.lists.fast(metric), self._lists.fast(metric)
        most = int(self._queries.lists.counts.max(initial=0))
        # As for dense vectors, with the additions of a query's vectors behind those of their numbers; a maximum of
        # numbers that are each off by no more than this is off by no more than this.
        gamma = np.float32(3.06 * (held.plain.shape[1] + most + 8) * _UNIT_ROUNDOFF)
        with np.errstate(all="ignore"):
            found: npt.NDArray[np.float32] = np.multiply.outer(gamma * asked.sizes, held.greatest)
            found += self._sums(asked.plain, held.plain)
        found[:, held.awkward] = np.inf
        found[asked.awkward] = np.inf
        return found

    def _sums(self, asked: npt.NDArray[np.float32], held: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """float32[queries, rows]: MaxSim as float32 comes to it, 0 for lists without vectors. Lists are cut as it
        comes, so that one of any length takes no more memory."""
        filled = np.flatnonzero(self._lists.counts)
        starts, ours = self._lists.starts[filled], self._queries.lists.starts
        sums = np.zeros((len(self._queries), len(self._lists)), np.float32)
        for part in _parts(len(asked)):
            best = np.full((part.stop - part.start, len(filled)), -np.inf, np.float32)
            for other in _parts(len(held)):
                first = int(np.searchsorted(starts, other.start, side="right")) - 1
                last = int(np.searchsorted(starts, other.stop))
                begins = np.maximum(starts[first:last] - other.start, 0)
                greatest = np.maximum.reduceat(asked[part] @ held[other].T, begins, axis=1)
                np.maximum(best[:, first:last], greatest, out=best[:, first:last])
            first = int(np.searchsorted(ours, part.start, side="right")) - 1
            last = int(np.searchsorted(ours, part.stop))
            sums[first:last, filled] += np.add.reduceat(best, np.maximum(ours[first:last] - part.start, 0), axis=0)
        return sums


def _best(ours: Floats, theirs: Floats) -> float:
    step = max(1, VECTORS_AT_ONCE**2 // len(theirs))
    parts = (ours[first : first + step] @ theirs.T for first in range(0, len(ours), step))
    return float(sum(part.max(axis=1).sum() for part in parts))


def _parts(count: int) -> Iterator[slice]:
    for first in range(0, count, VECTORS_AT_ONCE):
        yield slice(first, min(first + VECTORS_AT_ONCE, count))


def _raw(column: pa.Array) -> tuple[Matrix, npt.NDArray[np.intp]]:
    """The vectors [n, items] of a multi column and where each row's begin; a row that is null has none."""
    offsets = column.offsets.to_numpy().astype(np.intp)
    valid = np.asarray(column.is_valid())
    sizes = np.where(valid, np.diff(offsets), 0)
    matrix = dense_matrix(column.values.slice(offsets[0], offsets[-1] - offsets[0]))
    if not valid.all():
        matrix = matrix[np.repeat(valid, np.diff(offsets))]
    return matrix, np.r_[0, np.cumsum(sizes)].astype(np.intp)


class _Multi:
    """A list of vectors for each record."""

    metrics: Final = frozenset({Metric.COSINE, Metric.DOT})

    def askable(self, column: pa.Array) -> Mask:
        """Not one without vectors, nor one with a zero vector: cosine has no answer to it."""
        matrix, starts = _raw(column)
        fit = matrix.any(axis=1)
        if matrix.dtype.kind == "f":
            fit &= np.isfinite(matrix).all(axis=1)
        owners = np.repeat(np.arange(len(column)), np.diff(starts))
        askable: Mask = (np.diff(starts) > 0) & (np.bincount(owners[~fit], minlength=len(column)) == 0)
        return askable

    def vectors(self, column: pa.Array, rows: Sequence[int]) -> list[Matrix]:
        matrix, starts = _raw(column)
        return [matrix[starts[row] : starts[row + 1]].copy() for row in rows]

    def queries(self, vectors: Sequence[Any], field: VectorField) -> MultiQueries:
        return MultiQueries(vectors, field)

    def query(self, vector: Matrix, field: VectorField) -> Query:
        return Query(field.name, multi=as_dtype(vector, field.dtype))


MULTI: Final = _Multi()
