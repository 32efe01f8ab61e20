"""Asking an index for neighbours, and judging its answers by the truth with ties in mind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.arrow import record_keys
from exitramp.filters import Filter
from exitramp.parity.filters import Payloads
from exitramp.parity.scoring import Mask, kind_of, tie_width
from exitramp.parity.truth import TIE_EPSILON, Truth
from exitramp.ports import SearchSettings, VectorSearch, VectorSource
from exitramp.records import RecordKey, VectorField

FETCHED_AT_ONCE = 500
Hits = tuple[RecordKey, ...]


def ask(
    search: VectorSearch,
    field: VectorField,
    queries: Sequence[Any],
    *,
    k: int,
    own: Sequence[RecordKey | None],
    settings: SearchSettings,
    where: Filter | None = None,
    progress: Callable[[], None] = lambda: None,
) -> list[Hits]:
    """The `k` nearest records to each query, nearest first, each once and without the query's own record.

    `field` is that of the side which is asked.

    Where a query is a record's own vector, one hit more is asked for. An index may well miss that record, so the
    answer is cut to k afterwards rather than its first hit dropped.
    """
    answers, kind = [], kind_of(field.kind)
    for vector, itself in zip(queries, own, strict=True):
        room = k if itself is None else k + 1
        hits = search.search(kind.query(vector, field), k=room, where=where, settings=settings)
        answers.append(tuple(key for key in dict.fromkeys(hits.keys) if key != itself)[:k])
        progress()
    return answers


@dataclass(frozen=True, slots=True)
class Judged:
    """What answers to all queries are worth.

    recall: float64[queries], the share of a complete answer that is right; NaN where there was nothing to find.
    right: the right hits of each query. idle: those that by the truth are nobody's neighbours and count neither way,
    such as a record without a vector. at_edge: those of them that are as far away as the last one that belongs, so
    that others could stand in their place. short: queries with fewer hits than a complete answer has. strangers,
    outside: hits that the truth's source does not hold, and that it holds but that do not match the filter.
    """

    recall: npt.NDArray[np.float64]
    right: tuple[frozenset[RecordKey], ...]
    at_edge: tuple[frozenset[RecordKey], ...]
    short: int
    strangers: int
    outside: int
    idle: tuple[frozenset[RecordKey], ...]

    @property
    def mean(self) -> float | None:
        """Over the queries with something to find."""
        return float(np.nanmean(self.recall)) if (~np.isnan(self.recall)).any() else None


def judge(
    source: VectorSource,
    field: VectorField,
    queries: Sequence[Any],
    truth: Truth,
    answers: Sequence[Hits],
    *,
    epsilon: float = TIE_EPSILON,
) -> Judged:
    """Judge `answers` by `truth`, which was worked out for the same queries.

    A hit is right when its true distance is at most that of rank k, or equal to it within `epsilon`. A hit that the
    truth does not list by name (a tie of many, or a wrong one) is read from `source` and measured.
    """
    lists = [
        dict(zip(names, far.tolist(), strict=True)) for names, far in zip(truth.keys, truth.distances, strict=True)
    ]
    unlisted = [(query, key) for query, hits in enumerate(answers) for key in hits if key not in lists[query]]
    measured, held = _measure(source, field, queries, truth, unlisted)
    recall = np.full(len(answers), np.nan)
    right: list[frozenset[RecordKey]] = []
    at_edge: list[frozenset[RecordKey]] = []
    short = 0
    for query, hits in enumerate(answers):
        wanted, boundary = truth.wanted(query), truth.boundary(query, epsilon)
        far = {key: lists[query].get(key, measured.get((query, key), np.inf)) for key in hits}
        good = frozenset(key for key in hits if far[key] <= boundary)
        last = float(truth.distances[query][wanted - 1]) if wanted else np.inf
        edge = last - tie_width(truth.ranking.metric, last, epsilon)
        right.append(good)
        at_edge.append(frozenset(key for key in good if far[key] >= edge))
        if wanted:
            recall[query] = min(len(good), wanted) / wanted
            short += len(hits) < wanted
    strangers = sum(key not in held for _, key in unlisted)
    outside = sum(key in held and not held[key] for _, key in unlisted)
    idle = tuple(
        frozenset(key for key in hits if key not in lists[query] and held.get(key) and (query, key) not in measured)
        for query, hits in enumerate(answers)
    )
    return Judged(recall, tuple(right), tuple(at_edge), short, strangers, outside, idle)


def overlap(
    truth: Truth, a: Judged, b: Judged, answers_a: Sequence[Hits], answers_b: Sequence[Hits]
) -> npt.NDArray[np.float64]:
    """float64[queries]: the share of a complete answer on which two sides agree; NaN where there was nothing to find.

    Hits at the edge stand for each other: of several records equally far away either side may name any.
    """
    shares = np.full(len(answers_a), np.nan)
    for query, (first, second) in enumerate(zip(answers_a, answers_b, strict=True)):
        common = (set(first) & set(second)) - a.idle[query]
        swapped = min(len(a.at_edge[query] - common), len(b.at_edge[query] - common))
        if wanted := truth.wanted(query):
            shares[query] = min(len(common) + swapped, wanted) / wanted
    return shares


def _measure(
    source: VectorSource,
    field: VectorField,
    queries: Sequence[Any],
    truth: Truth,
    pairs: Sequence[tuple[int, RecordKey]],
) -> tuple[dict[tuple[int, RecordKey], float], dict[RecordKey, bool]]:
    """The true distances of pairs of query and record, and which of the records the source holds: whether it matches.

    A record that the ranking is not among has no distance.
    """
    asking: dict[RecordKey, list[int]] = {}
    for query, key in pairs:
        asking.setdefault(key, []).append(query)
    wanted, asked = list(asking), kind_of(field.kind).queries(queries, field)
    distances: dict[tuple[int, RecordKey], float] = {}
    held: dict[RecordKey, bool] = {}
    for start in range(0, len(wanted), FETCHED_AT_ONCE):
        batch = source.fetch(wanted[start : start + FETCHED_AT_ONCE])
        matching = _matching(batch, truth)
        block = asked.block(batch.column(field.column))
        there = block.usable & matching
        table = []
        for row, key in enumerate(record_keys(batch)):
            held[key] = held.get(key, False) or bool(matching[row])
            if there[row] and key not in truth.ranking.without:
                table += [(query, row, key) for query in asking.get(key, ())]
        at = np.array([query for query, _, _ in table], np.intp), np.array([row for _, row, _ in table], np.intp)
        found = block.distances(at, truth.ranking.metric)
        for (query, _, key), distance in zip(table, found.tolist(), strict=True):
            if np.isfinite(distance):
                distances[query, key] = min(distance, distances.get((query, key), np.inf))
    return distances, held


def _matching(batch: pa.RecordBatch, truth: Truth) -> Mask:
    if truth.ranking.where is None:
        return np.ones(batch.num_rows, np.bool_)
    return Payloads(batch.column("payload")).mask(truth.ranking.where)
