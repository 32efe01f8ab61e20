"""Whether two indexes answer alike, and whether each answers rightly: neighbours against the exact truth.

Queries are records of A, drawn by seed. Each is asked with its own vector and left out of its own answer, of truth
and hits alike: so a query looks like the data, and no index gains by returning the record that it was handed. The
truth comes from A's data under A's declared metric.

The default is 200 queries: with fewer than 149 of a large collection not even perfect answers rule out a mean loss of
0.02 with 95 % confidence. A collection of which every record was asked is judged by what was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from exitramp.clock import Clock, SystemClock
from exitramp.errors import DataInvalid
from exitramp.filters import Filter
from exitramp.parity.asking import NamedFilter, Questions, Refusal, Side, draw_questions
from exitramp.parity.intervals import Bounds, mean_bounds
from exitramp.parity.neighbour_result import (
    ALL,
    Demands,
    NeighbourParity,
    NeighbourPart,
    cause,
    decided,
    known,
    part_findings,
)
from exitramp.parity.recall import Hits, overlap
from exitramp.parity.scoring import kind_of
from exitramp.parity.truth import Ranking, Truth
from exitramp.ports import DEFAULT_SETTINGS, SearchSettings, VectorSearch, VectorSource
from exitramp.records import CollectionSpec, DType, Finding, Metric, RecordKey, VectorField, VectorKind, Verdict
from exitramp.wording import counted

QUERIES = 200

__all__ = ["Demands", "NeighbourParity", "NeighbourPart", "compare_neighbours", "metric_disagreement"]


def compare_neighbours(
    a: VectorSource,
    b: VectorSource,
    search_a: VectorSearch | None,
    search_b: VectorSearch,
    *,
    queries: int | Sequence[Any] = QUERIES,
    k: int = 10,
    seed: int = 0,
    field: str = "",
    kind: VectorKind = VectorKind.DENSE,
    settings: SearchSettings = DEFAULT_SETTINGS,
    settings_a: SearchSettings | None = None,
    filters: Sequence[tuple[str, Filter]] = (),
    proposed: int = 0,
    demands: Demands | None = None,
    records: Verdict | None = None,
    missing: frozenset[RecordKey] = frozenset(),
    metric_b: Metric | None = None,
    wait_seconds: float = 30.0,
    clock: Clock | None = None,
    batch_rows: int = 1000,
    progress: Callable[[str, int], None] = lambda what, done: None,
) -> NeighbourParity:
    """Compare the neighbours that two indexes return for the `field` of this `kind`, under no filter and under each.

    `a` is scanned twice (to draw queries, for the truth), `b` only described. `queries`: how many to draw from A, or
    vectors of the field to ask with ([n, items] of a dense one). `filters` are named by the user; up to `proposed` more
    are worked out from A's payloads. `settings` go to both sides, or to B alone where `settings_a` is given. `records`
    is the verdict on the records themselves, `missing` the keys that B lacks, if known; `metric_b` is the metric of B's
    store where `b.describe()` tells the original one.

    An index that does not say `ready` within `wait_seconds` makes what rests on it inconclusive. So do a refused
    search, fewer than 20 queries, nothing to find, and a metric that does not mean the same in every store for vectors
    of this kind. A store that fails raises.
    """
    demands = demands or Demands()
    vector, other = _field(a.describe(), field, kind), _field(b.describe(), field, kind)
    if vector is None:
        raise DataInvalid(f"A has no {kind} vector field {field!r}")
    own_metric = metric_b or (other.metric if other else vector.metric)
    result = NeighbourParity(vector.column, kind, k, vector.metric, own_metric, demands, seed, isinstance(queries, int))
    if other is None or other.dimensions != vector.dimensions:
        size = "" if vector.dimensions is None else f" of {vector.dimensions} dimensions"
        text = f"B has no {kind} field {vector.column}{size} to ask"
        return replace(result, findings=(Finding("neighbours.field", text, Verdict.INCONCLUSIVE),))
    if unmeant := {vector.metric, own_metric} - kind_of(kind).metrics:
        return replace(result, findings=(_unmeant(vector, sorted(unmeant)),))
    questions = draw_questions(
        a,
        vector,
        queries,
        seed=seed,
        filters=filters,
        proposed=proposed,
        batch_rows=batch_rows,
        progress=lambda rows: progress("drawing queries", rows),
    )
    if not questions.ids:
        text = "there is no record with a vector to ask with"
        return replace(result, findings=(Finding("neighbours.none", text, Verdict.INCONCLUSIVE),))

    named = (NamedFilter(ALL, None), *questions.filters)
    rankings = [Ranking(vector.metric, each.where) for each in named]
    if own_metric is not vector.metric:
        rankings.append(Ranking(own_metric))
    if missing:
        rankings.append(Ranking(vector.metric, without=missing))
    truths = questions.truths(rankings, k, lambda rows: progress("finding the truth", rows))
    by_own = truths[len(named)] if own_metric is not vector.metric else truths[0]
    of_held = truths[-1] if missing else truths[0]

    clock = clock or SystemClock()
    side_b = Side("B", search_b, settings, other, wait_seconds=wait_seconds, clock=clock)
    side_a = None
    if search_a is not None:
        side_a = Side("A", search_a, settings_a or settings, vector, wait_seconds=wait_seconds, clock=clock)
    comparison = _Comparison(questions, side_a, side_b, k, demands, records, seed, progress)
    measured = [comparison.part(each, truth) for each, truth in zip(named, truths, strict=False)]
    share = questions.agreement(truths[0], by_own) if own_metric is not vector.metric else None
    findings = [
        *_unready([side for side in (side_a, side_b) if side is not None], wait_seconds),
        *comparison.by_metric(measured[0], by_own, share),
        *(finding for each in measured for finding in each.findings),
        *comparison.among_held(measured[0], of_held, missing),
    ]
    parts = tuple(each.part for each in measured)
    counted = [part.verdict for part in parts if part.asked_for or part.recall_a is not None]
    return replace(
        result,
        parts=parts,
        index_a=side_a.state if side_a else None,
        index_b=side_b.state,
        metric_overlap=share,
        findings=tuple(findings),
        verdict=Verdict.worst([*counted, *(each.verdict for each in findings if each.verdict is not None)]),
    )


def metric_disagreement(
    source: VectorSource,
    queries: int | Sequence[Any],
    metric_1: Metric,
    metric_2: Metric,
    k: int = 10,
    *,
    field: str = "",
    seed: int = 0,
    batch_rows: int = 1000,
) -> float:
    """The mean overlap@k of the exact neighbours by two metrics: 1.0 where they rank alike, ties aside.

    On vectors of one length cosine, dot and Euclid do. `queries` as in `compare_neighbours`. Raises `DataInvalid`
    where there is nothing to ask with or nothing to find.
    """
    vector = _field(source.describe(), field, VectorKind.DENSE)
    if vector is None:
        raise DataInvalid(f"there is no dense vector field {field!r}")
    questions = draw_questions(source, vector, queries, seed=seed, batch_rows=batch_rows)
    first, second = questions.truths([Ranking(metric_1), Ranking(metric_2)], k)
    share = questions.agreement(first, second)
    if share is None:
        raise DataInvalid("two metrics are compared by neighbours, and there are none")
    return share


@dataclass(frozen=True, slots=True)
class _Measured:
    """One part with what is to be said of it; `answers_b` is None where B was not asked or refused."""

    part: NeighbourPart
    findings: tuple[Finding, ...]
    answers_b: list[Hits] | None = None


@dataclass(frozen=True, slots=True)
class _Comparison:
    """What stays the same over all parts of one comparison."""

    questions: Questions
    side_a: Side | None
    side_b: Side
    k: int
    demands: Demands
    records: Verdict | None
    seed: int
    progress: Callable[[str, int], None]

    def part(self, named: NamedFilter, truth: Truth) -> _Measured:
        """Ask both sides under one filter. A filter that was only proposed and that A refuses says nothing of B."""
        part = NeighbourPart(named.name, named.asked_for, truth.matching, self.questions.ids)
        answers_a = None if self.side_a is None else self._answers(self.side_a, named)
        refused_a = isinstance(answers_a, Refusal)
        findings = [_refused("A", named, answers_a)] if isinstance(answers_a, Refusal) else []
        if refused_a and not named.asked_for:
            return _Measured(part, tuple(findings))
        answers_b = self._answers(self.side_b, named)
        if isinstance(answers_b, Refusal):
            matters = named.asked_for or answers_a is not None
            return _Measured(part, (*findings, _refused("B", named, answers_b, matters=matters)))
        part = self._judged(part, truth, None if isinstance(answers_a, Refusal) else answers_a, answers_b)
        ready_a = self.side_a is not None and self.side_a.ready
        floor, margin = decided(
            part, self.demands, ready_a=ready_a, ready_b=self.side_b.ready, compared=self.side_a is not None
        )
        part = replace(part, floor=floor, margin=margin)
        return _Measured(part, (*findings, *part_findings(part, self.k, self.demands, self.records)), answers_b)

    def _answers(self, side: Side, named: NamedFilter) -> list[Hits] | Refusal:
        done = 0

        def one() -> None:
            nonlocal done
            done += 1
            self.progress(f"asking {side.name} ({named.name})", done)

        return side.answers(self.questions, k=self.k, where=named.where, progress=one)

    def _judged(
        self, part: NeighbourPart, truth: Truth, answers_a: list[Hits] | None, answers_b: list[Hits]
    ) -> NeighbourPart:
        b = self.questions.judge(truth, answers_b)
        part = replace(part, short_b=b.short, strangers_b=b.strangers, outside_b=b.outside)
        found = ~np.isnan(b.recall)
        if not found.any():
            return part
        # Where some queries have nothing to find, the others are no sample of a known number of records.
        population = self.questions.population if found.all() else None
        part = replace(
            part,
            population=population,
            recall_b=known(b.recall),
            bounds_b=self._bounds(b.recall[found], 0.0, population),
        )
        if answers_a is None:
            return part
        a = self.questions.judge(truth, answers_a)
        return replace(
            part,
            recall_a=known(a.recall),
            overlap=known(overlap(truth, a, b, answers_a, answers_b)),
            difference=self._bounds(b.recall[found] - a.recall[found], -1.0, population),
        )

    def _bounds(self, values: npt.NDArray[np.float64], least: float, population: int | None) -> Bounds:
        return mean_bounds(values, least=least, most=1.0, seed=self.seed, population=population)

    def among_held(self, measured: _Measured, held: Truth, missing: frozenset[RecordKey]) -> Iterator[Finding]:
        """How B does among the records that it holds, so that lost records are not taken for a bad index."""
        if not missing or measured.answers_b is None:
            return
        mean = self.questions.judge(held, measured.answers_b).mean
        if mean is not None:
            lacked = counted(len(missing), "record")
            text = f"B lacks {lacked} of A; among those it holds its recall@{self.k} is {mean:.4f}"
            yield Finding("neighbours.missing", text, count=len(missing), detail={"recall_among_held": mean})

    def by_metric(self, measured: _Measured, by_own: Truth, share: float | None) -> Iterator[Finding]:
        """Whether another metric explains B's answers: the one it declares, or one that it does not."""
        own, metric_a = by_own.ranking.metric, self.questions.vector.metric
        part, answers = measured.part, measured.answers_b
        mean = part.bounds_b.mean if part.bounds_b else None
        agree = "" if share is None else f"; by the truth the two agree on {share:.1%} of the {self.k} nearest"
        if answers is None or mean is None or part.verdict is Verdict.PASS:
            if share is not None:
                yield Finding(
                    "neighbours.metric", f"A ranks by {metric_a} and B by {own}{agree}", detail=_metrics(metric_a, own)
                )
            return
        tried = [by_own] if own is not metric_a else []
        rest = [Ranking(each) for each in self._other_metrics() if each not in {own, metric_a}]
        if part.verdict is Verdict.FAIL and rest:
            tried += self.questions.truths(rest, self.k)
        scores = [(self.questions.judge(truth, answers).mean or 0.0, truth.ranking.metric) for truth in tried]
        best, metric = max(scores, key=lambda score: score[0], default=(0.0, own))
        # It explains the answers if it explains half of the misses; one that nobody declares, if it explains them all.
        if 1 - best > (1 - mean) / 2 or (metric is not own and best < self.demands.recall_floor):
            if share is not None:
                text = f"A ranks by {metric_a} and B by {own}{agree}, but that does not explain B's answers"
                yield Finding("neighbours.metric", text, detail=_metrics(metric_a, own))
            return
        declares = f"B declares {own}" + (" like A" if own is metric_a else f", A {metric_a}")
        text = (
            f"{cause(self.records)}: it answers by another metric. {declares}; recall@{self.k} of B is {best:.4f} by "
            f"{metric} and {mean:.4f} by {metric_a}{agree}"
        )
        yield Finding("neighbours.metric", text, part.verdict, detail=_metrics(metric_a, metric))

    def _other_metrics(self) -> list[Metric]:
        if self.questions.vector.dtype is DType.BINARY:
            return []
        meant = kind_of(self.questions.vector.kind).metrics
        return [metric for metric in (Metric.COSINE, Metric.DOT, Metric.EUCLIDEAN) if metric in meant]


def _metrics(metric_a: Metric, metric_b: Metric) -> dict[str, str]:
    return {"metric_a": metric_a.value, "metric_b": metric_b.value}


def _refused(side: str, named: NamedFilter, refusal: Refusal, *, matters: bool | None = None) -> Finding:
    under = "" if named.where is None else f" under the filter {named.name}"
    verdict = Verdict.INCONCLUSIVE if (named.asked_for if matters is None else matters) else None
    text = f"{side} refuses the search{under}: {refusal.reason}"
    return Finding("neighbours.refused", text, verdict, detail={"part": named.name, "side": side})


def _unready(sides: Sequence[Side], wait_seconds: float) -> Iterator[Finding]:
    for side in sides:
        if not side.ready:
            text = (
                f"the index of {side.name} said '{side.state}' for {wait_seconds:g} s; "
                "what was measured is shown and decides nothing"
            )
            yield Finding("neighbours.index", text, Verdict.INCONCLUSIVE, detail={"side": side.name})


def _field(spec: CollectionSpec, name: str, kind: VectorKind) -> VectorField | None:
    return next((each for each in spec.vectors if (each.name, each.kind) == (name, kind)), None)


def _unmeant(vector: VectorField, metrics: Sequence[Metric]) -> Finding:
    """That a field is searched by a metric by which stores do not find the same."""
    known = " and ".join(sorted(kind_of(vector.kind).metrics))
    text = (
        f"neighbours of {vector.column} were not compared: {vector.kind} vectors are compared by {known}, and what "
        f"{' and '.join(metrics)} mean{'s' if len(metrics) == 1 else ''} for them differs from store to store; whether "
        "B answers alike there is not known"
    )
    return Finding(
        "neighbours.unasked",
        text,
        Verdict.INCONCLUSIVE,
        detail={
            "columns": [vector.column],
            "next": "name the fields to compare (--field; in a drill, parity.fields) to leave the others out",
        },
    )
