"""How near sparse vectors are: dot product and cosine over the indices that two of them share, all in float64.

Stores do not agree on what else is a neighbour. Asked for ten where three records score above zero, Qdrant's engine
adds those of a negative score and leaves out every zero, a sum that cancels as well as a record that shares no index;
Milvus, which takes no negative weights, returns no zeros either; pgvector, DuckDB and the memory store compare all
records, so that zeros come before negative scores. None of them is wrong: so the truth holds the records that score
above zero and no other, a complete answer is as many of them as there are up to k, and what a store returns or leaves
out beyond them counts neither for it nor against it. (A hit that the filter does not let through, or that A does not
hold, is one all the same.) A sum that only cancels to something above zero is zero to a store that adds in float32, and
is zero here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.errors import DataInvalid
from exitramp.parity.scoring.kind import Floats, Mask, Matrix, Pairs, floor_of
from exitramp.ports import Query
from exitramp.records import Metric, VectorField

Places = npt.NDArray[np.intp]

PRODUCTS_AT_ONCE = 2**16
"""So many products are made at a time; with those of 1,000 records at once, the step took 1.7 times as long."""

CANCELLED = 1e-6
"""A sum this small beside that of its products' magnitudes is what rounding to float32 makes of zero, or zero."""


class _Entries:
    """The numbers of sparse vectors one behind the other, each with the row it stands in; no index twice in a row."""

    def __init__(self, indices: Places, values: Floats, rows: Places, count: int) -> None:
        self.indices, self.values, self.rows, self.count = indices, values, rows, count

    @cached_property
    def finite(self) -> Mask:
        finite: Mask = np.bincount(self.rows[~np.isfinite(self.values)], minlength=self.count) == 0
        return finite

    @cached_property
    def lengths(self) -> Floats:
        return np.sqrt(np.bincount(self.rows, self.values * self.values, minlength=self.count))

    def summed(self) -> _Entries:
        """With the values of an index that stands more than once in a row added up, which is what it means."""
        steady = (np.diff(self.rows) > 0) | (np.diff(self.indices) > 0)
        if steady.all():
            return self
        names, places = np.unique((self.rows << 32) | self.indices, return_inverse=True)
        values = np.asarray(np.bincount(places, self.values, minlength=len(names)), np.float64)
        return _Entries(names & 0xFFFFFFFF, values, names >> 32, self.count)


def _entries(column: pa.Array) -> _Entries:
    """Those of a column as it stands in a stream; rows that are null have none."""
    lists = column.field("indices"), column.field("values")  # cut to the slice, null where the row is not
    sizes = [np.diff(each.offsets.to_numpy()) for each in lists]
    valid = np.asarray(column.is_valid())
    if (sizes[0] != sizes[1])[valid].any():
        raise DataInvalid("a sparse vector has more indices than values, or fewer")
    flat = []
    for each, size in zip(lists, sizes, strict=True):
        offsets = each.offsets.to_numpy()
        numbers = each.values.slice(offsets[0], offsets[-1] - offsets[0]).to_numpy(zero_copy_only=False)
        flat.append(numbers if valid.all() else numbers[np.repeat(valid, size)])
    rows = np.repeat(np.arange(len(column)), np.where(valid, sizes[0], 0))
    return _Entries(flat[0].astype(np.intp), flat[1].astype(np.float64), rows, len(column))


class SparseQueries:
    """Query vectors by index: of each, which of them hold it and how much of it."""

    def __init__(self, vectors: Sequence[tuple[Matrix, Matrix]], field: VectorField) -> None:
        self.field = field
        rows = np.repeat(np.arange(len(vectors)), [len(indices) for indices, _ in vectors])
        indices = np.concatenate([np.zeros(0, np.intp), *(np.asarray(each, np.intp) for each, _ in vectors)])
        values = np.concatenate([np.zeros(0), *(np.asarray(each, np.float64) for _, each in vectors)])
        held = _Entries(indices, values, rows, len(vectors)).summed()
        self.lengths = held.lengths
        self.signed = bool((held.values < 0).any())
        order = np.argsort(held.indices, kind="stable")
        self.weights, self.owners = held.values[order], held.rows[order]
        self.indices, self.starts, self.counts = np.unique(held.indices[order], return_index=True, return_counts=True)

    def __len__(self) -> int:
        return len(self.lengths)

    def block(self, column: pa.Array) -> SparseBlock:
        return SparseBlock(_entries(column).summed(), np.asarray(column.is_valid()), self)

    def least_nearness(self, metric: Metric, distances: Floats) -> npt.NDArray[np.float32]:
        return floor_of(-distances)


class SparseBlock:
    """Some records' sparse vectors beside all queries."""

    def __init__(self, entries: _Entries, there: Mask, queries: SparseQueries) -> None:
        self.usable: Mask = there & entries.finite
        self._entries, self._queries = entries, queries

    def nearness(self, metric: Metric) -> Floats:
        return -self._distances(metric)

    def distances(self, pairs: Pairs, metric: Metric) -> Floats:
        return self._distances(metric)[pairs]

    def _distances(self, metric: Metric) -> Floats:
        """float64[queries, rows]; infinite where the score is not above zero."""
        scores = self._scores
        with np.errstate(all="ignore"):
            if metric is Metric.DOT:
                return np.where(scores > 0, -scores, np.inf)
            lengths = np.multiply.outer(self._queries.lengths, self._entries.lengths)
            return np.where(scores > 0, 1.0 - scores / lengths, np.inf)

    @cached_property
    def _scores(self) -> Floats:
        """float64[queries, rows]: dot products, and 0 for what cancels."""
        with np.errstate(all="ignore"):
            signed = self._queries.signed or bool((self._entries.values < 0).any())
            sums, sizes = self._summed(with_sizes=signed)
            if sizes is not None:
                sums[sums <= CANCELLED * sizes] = 0.0
        return np.ascontiguousarray(sums.T)

    def _summed(self, *, with_sizes: bool) -> tuple[Floats, Floats | None]:
        """float64[rows, queries] of the products' sums, and of the sums of their magnitudes where they are wanted.

        Only what is in both makes a product: on 120 numbers a record, drawn as words are, and 200 queries this takes
        0.2 times as long as products with a dense matrix of the queries, and no more memory for longer vectors.
        """
        asked, held = self._queries, self._entries
        sums = np.zeros((held.count, len(asked)))
        sizes = np.zeros_like(sums) if with_sizes else None
        if not len(asked.indices):
            return sums, sizes
        places = np.minimum(np.searchsorted(asked.indices, held.indices), len(asked.indices) - 1)
        shared = np.flatnonzero(asked.indices[places] == held.indices)
        places, values, rows = places[shared], held.values[shared], held.rows[shared]
        for first, last in _cuts(rows, asked.counts[places]):
            part, counts = slice(first, last), asked.counts[places[first:last]]
            entries = np.repeat(np.arange(first, last), counts)
            before = np.repeat(asked.starts[places[part]] - np.cumsum(counts) + counts, counts)
            at = np.arange(len(entries)) + before
            least, most = int(rows[first]), int(rows[last - 1]) + 1
            cells = (rows[entries] - least) * len(asked) + asked.owners[at]
            products = asked.weights[at] * values[entries]
            for wanted, numbers in ((sums, products), (sizes, np.abs(products) if with_sizes else None)):
                if wanted is not None:
                    added = np.bincount(cells, numbers, minlength=(most - least) * len(asked))
                    wanted[least:most] = added.reshape(most - least, len(asked))
        return sums, sizes


def _cuts(rows: Places, counts: Places) -> list[tuple[int, int]]:
    """Where to cut entries of whole rows so that few products are made at once. A row's sum is never cut: what it
    comes to does not depend on its block."""
    if not len(rows):
        return []
    turns = (np.cumsum(counts) - counts) // PRODUCTS_AT_ONCE
    begins = np.flatnonzero(np.r_[True, np.diff(rows) > 0])  # of rows
    firsts = begins[np.r_[True, np.diff(turns[begins]) > 0]].tolist()
    return list(zip(firsts, [*firsts[1:], len(rows)], strict=True))


class _Sparse:
    """A few weighted indices for each record."""

    metrics: Final = frozenset({Metric.DOT, Metric.COSINE})

    def askable(self, column: pa.Array) -> Mask:
        """Not one of zeros alone, which is near to nothing, nor one with an index twice, which some stores refuse."""
        entries = _entries(column)
        summed = np.bincount(entries.summed().rows, minlength=len(column))
        once = np.bincount(entries.rows, minlength=len(column)) == summed
        fit: Mask = np.asarray(column.is_valid()) & entries.finite & once
        return fit & (np.bincount(entries.rows[entries.values != 0], minlength=len(column)) > 0)

    def vectors(self, column: pa.Array, rows: Sequence[int]) -> list[tuple[Matrix, Matrix]]:
        taken = [column[row].as_py() for row in rows]
        return [(np.array(each["indices"], np.uint32), np.array(each["values"], np.float32)) for each in taken]

    def queries(self, vectors: Sequence[Any], field: VectorField) -> SparseQueries:
        return SparseQueries(vectors, field)

    def query(self, vector: tuple[Matrix, Matrix], field: VectorField) -> Query:
        return Query(field.name, sparse=vector)


SPARSE: Final = _Sparse()
