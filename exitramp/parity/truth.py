"""The exact nearest neighbours of many queries, from the data itself: one pass, bounded memory, no index.

Each block of records is scored against all queries at once, in arithmetic whose rounding error is bounded; whatever
that bound leaves in the running is measured again in float64. So the result is that of comparing every pair in float64,
near ties included, at the cost of a product in float32. How each kind of vector does it stands in `parity.scoring`.
Vectors with a number that is not finite are near to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from exitramp.arrow import record_keys
from exitramp.errors import UsageError
from exitramp.filters import Filter
from exitramp.parity.alignment import read_all
from exitramp.parity.filters import Payloads
from exitramp.parity.scoring import Block, Mask, Pairs, Queries, kind_of, tie_width
from exitramp.ports import VectorSource
from exitramp.records import Metric, RecordKey, VectorField

SLACK = 16
"""So many neighbours beyond the k-th are kept, so that ties at the boundary are known by name."""
TIE_EPSILON = 1e-6
BLOCK_ROWS = 4096
BLOCK_PAIRS = 2**22
"""Queries times rows of a block at most: 16 MiB for each of the few matrices of that shape."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """One meaning of "nearest": by `metric`, among the records that match `where` and are not in `without`."""

    metric: Metric
    where: Filter | None = None
    without: frozenset[RecordKey] = frozenset()


@dataclass(frozen=True, slots=True)
class Truth:
    """The neighbours of every query by one ranking.

    keys, distances: for each query its nearest records, nearest first, at most k + slack of them and all there are if
    fewer. matching: how many records the ranking is among, an excluded one included.
    """

    ranking: Ranking
    k: int
    matching: int
    keys: tuple[tuple[RecordKey, ...], ...]
    distances: tuple[npt.NDArray[np.float64], ...]

    def wanted(self, query: int) -> int:
        """How many hits a complete answer has: k, or all the records there are."""
        return min(self.k, len(self.keys[query]))

    def boundary(self, query: int, epsilon: float = TIE_EPSILON) -> float:
        """The distance up to which a hit is right: that of rank k, and a little more for ties. Minus infinity for none.

        `epsilon` is relative: to the similarity for cosine, to the distance for the other metrics.
        """
        wanted = self.wanted(query)
        if not wanted:
            return -np.inf
        last = float(self.distances[query][wanted - 1])
        return last + tie_width(self.ranking.metric, last, epsilon)


def exact_neighbours(
    source: VectorSource,
    field: VectorField,
    queries: Sequence[Any],
    rankings: Sequence[Ranking],
    *,
    k: int,
    exclude: Sequence[RecordKey | None] = (),
    slack: int = SLACK,
    batch_rows: int = 1000,
    progress: Callable[[int], None] = lambda rows: None,
) -> list[Truth]:
    """The truth of every ranking, from one scan of `source`.

    `queries` are vectors of `field`, as stored: [n, items] of a dense one. `exclude` holds for each query the record
    that is no answer to it, such as the one whose vector it is. An id that stands more than once counts once.
    """
    if k < 1 or slack < 0:
        raise UsageError(f"the {k} nearest records with {slack} more cannot be found")
    asked = kind_of(field.kind).queries(queries, field)
    own = _Excluded(exclude)
    contests = [_Contest(ranking, asked, k + slack) for ranking in rankings]
    step = max(64, min(BLOCK_ROWS, BLOCK_PAIRS // max(1, len(asked))))
    rows = 0
    for batch in read_all(source, batch_rows=batch_rows):
        for start in range(0, batch.num_rows, step):
            _take(batch.slice(start, step), field, asked, contests, own)
        rows += batch.num_rows
        progress(rows)
    return [contest.truth(k) for contest in contests]


def _take(
    batch: pa.RecordBatch, field: VectorField, asked: Queries, contests: Sequence[_Contest], own: _Excluded
) -> None:
    block = asked.block(batch.column(field.column))
    usable = block.usable
    payloads = Payloads(batch.column("payload"))
    pairs = own.pairs(batch)
    for contest in contests:
        allowed = usable
        if contest.ranking.where is not None:
            allowed = allowed & payloads.mask(contest.ranking.where)
        if contest.ranking.without:
            allowed = allowed.copy()
            allowed[_rows_among(batch, contest.ranking.without)] = False
        contest.enter(batch, block, allowed, pairs)


class _Contest:
    """The nearest records so far, by one ranking, for every query."""

    def __init__(self, ranking: Ranking, asked: Queries, kept: int) -> None:
        self.ranking = ranking
        self._asked, self._kept = asked, kept
        self._distances = np.full((len(asked), kept), np.inf)
        self._names = np.full((len(asked), kept), None, object)
        self._matching = 0

    def enter(
        self,
        batch: pa.RecordBatch,
        block: Block,
        allowed: Mask,
        excluded: Pairs,
    ) -> None:
        """Take in a block of which the rows `allowed` count; `excluded` are pairs of query and row that do not."""
        self._matching += int(allowed.sum())
        if not allowed.any():
            return
        near = block.nearness(self.ranking.metric)
        near[:, ~allowed] = -np.inf
        near[excluded] = -np.inf
        open_ = np.flatnonzero(np.isinf(self._distances[:, -1]))
        if len(open_) and near.shape[1] > self._kept:
            # Without a full list there is no bound to miss; the likely best of this block give one at once.
            best = np.argpartition(near[open_], near.shape[1] - self._kept, axis=1)[:, -self._kept :]
            pairs = (np.repeat(open_, self._kept), best.ravel())
            likely = near[pairs] > -np.inf
            self._merge(batch, block, (pairs[0][likely], pairs[1][likely]))
            near[pairs] = -np.inf
        least = self._asked.least_nearness(self.ranking.metric, self._distances[:, -1])
        # Over a flat view numpy finds the few that hold 20 times faster than in two dimensions.
        self._merge(batch, block, np.divmod(np.flatnonzero(near >= least[:, None]), near.shape[1]))

    def _merge(self, batch: pa.RecordBatch, block: Block, pairs: Pairs) -> None:
        """Measure pairs of query and row exactly and keep the nearest; earlier ones win ties."""
        asking, rows = pairs
        found = block.distances(pairs, self.ranking.metric)
        nearer = found < self._distances[asking, -1]  # never true of NaN
        if not nearer.any():
            return
        asking, rows, found = asking[nearer], rows[nearer], found[nearer]
        unique, place = np.unique(rows, return_inverse=True)
        keys = np.empty(len(unique), object)
        keys[:] = _names(batch.take(pa.array(unique)))
        order = np.argsort(asking, kind="stable")
        asking, place, found = asking[order], place[order], found[order]
        starts = np.flatnonzero(np.r_[True, asking[1:] != asking[:-1]])
        for start, end in zip(starts, [*starts[1:], len(asking)], strict=True):
            query = asking[start]
            distances = np.concatenate([self._distances[query], found[start:end]])
            names = np.concatenate([self._names[query], keys[place[start:end]]])
            best = np.argsort(distances, kind="stable")
            if len(set(names.tolist())) < len(names):
                best = _first_of_each(names, best)
            best = best[: self._kept]
            self._distances[query, : len(best)] = distances[best]
            self._names[query, : len(best)] = names[best]

    def truth(self, k: int) -> Truth:
        there = np.isfinite(self._distances)
        keys = [
            tuple(RecordKey(*name) for name in self._names[query][there[query]]) for query in range(len(self._asked))
        ]
        distances = [self._distances[query][there[query]] for query in range(len(self._asked))]
        return Truth(self.ranking, k, self._matching, tuple(keys), tuple(distances))


def _names(batch: pa.RecordBatch) -> list[tuple[str, str | None]]:
    """Id and namespace of every row: hashed and compared five times as fast as a `RecordKey`."""
    ids = batch.column("id").to_pylist()
    spaces = batch.column("namespace").to_pylist() if "namespace" in batch.schema.names else [None] * len(ids)
    return list(zip(ids, spaces, strict=True))


def _first_of_each(names: npt.NDArray[np.object_], order: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """`order` without the places of names that came before; empty places (None) all stay."""
    seen: set[tuple[str, str | None]] = set()
    kept = []
    for place in order.tolist():
        if names[place] is None or names[place] not in seen:
            kept.append(place)
            seen.add(names[place])
    return np.array(kept, np.intp)


class _Excluded:
    """Which record is no answer to which query."""

    def __init__(self, keys: Sequence[RecordKey | None]) -> None:
        self._queries: dict[RecordKey, list[int]] = {}
        for query, key in enumerate(keys):
            if key is not None:
                self._queries.setdefault(key, []).append(query)
        self._keys = frozenset(self._queries)

    def pairs(self, batch: pa.RecordBatch) -> Pairs:
        """Query and row of every excluded pair in the batch."""
        rows = _rows_among(batch, self._keys)
        keys = record_keys(batch.take(pa.array(rows)))
        found = [(query, row) for row, key in zip(rows.tolist(), keys, strict=True) for query in self._queries[key]]
        table = np.array(found, np.intp).reshape(-1, 2)
        return table[:, 0], table[:, 1]


def _rows_among(batch: pa.RecordBatch, keys: frozenset[RecordKey]) -> npt.NDArray[np.intp]:
    """The rows with one of these keys; only rows with such an id become Python objects."""
    if not keys:
        return np.zeros(0, np.intp)
    ids = pa.array(list({key.id for key in keys}), pa.string())
    rows = np.flatnonzero(np.asarray(pc.is_in(batch.column("id"), ids)))
    found = record_keys(batch.take(pa.array(rows)))
    return np.array([row for row, key in zip(rows.tolist(), found, strict=True) if key in keys], np.intp)
