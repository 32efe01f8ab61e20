"""What a comparison of neighbours found, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from exitramp.errors import UsageError
from exitramp.parity.intervals import Bounds, queries_needed
from exitramp.ports import IndexCoverage, IndexState
from exitramp.records import Finding, Metric, VectorKind, Verdict
from exitramp.wording import counted

ALL: Final = "all"
"""The name of the part without a filter."""
LEAST_QUERIES: Final = 20
IDS_SHOWN: Final = 20
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Demands:
    """What passes: the lower bound of B's mean recall at least `recall_floor`, and that of its mean difference to A
    above -`recall_margin`. One-sided 95 % each."""

    recall_floor: float = 0.95
    recall_margin: float = 0.02

    def __post_init__(self) -> None:
        if not 0.0 <= self.recall_floor <= 1.0 or not 0.0 < self.recall_margin < 1.0:
            raise UsageError(
                f"a recall floor of {self.recall_floor:g} with a margin of {self.recall_margin:g}",
                hint="the floor lies in [0, 1], the margin in (0, 1)",
            )


@dataclass(frozen=True, slots=True)
class Asked:
    """With what settings a store was searched. defaults: what it does by itself, by option; None where it keeps that
    to itself, and empty where it tells of no options."""

    exact: bool = False
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    defaults: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def text(self) -> str:
        """`ef 128 (by itself 64), exact`; "" where there is nothing to say."""
        told = [f"{name} {value}{self._own(name)}" for name, value in self.options.items()]
        own = {} if self.exact else self.defaults
        told += [f"its own {name} {value}" for name, value in own.items() if name not in self.options and value]
        return "; ".join(told + ["exact"] * self.exact)

    def _own(self, name: str) -> str:
        return f" (by itself {self.defaults[name]})" if self.defaults.get(name) is not None else ""

    def to_json(self) -> dict[str, Any]:
        return {"exact": self.exact, "options": dict(self.options), "defaults": dict(self.defaults)}


@dataclass(frozen=True, slots=True)
class NeighbourPart:
    """The queries under one filter, or under none (`all`). Sequences are in the order of `query_ids`.

    asked_for: whether the user asked for this part; one that was only proposed does not count when A itself cannot
    answer it. matching: records that the filter lets through. recall_*, overlap: by query, None where there is nothing
    to find; `recall_a` is None where A was not asked. short_b: queries where B returned fewer than k of the records
    there are. strangers_b, outside_b: hits of B that A does not hold, and that do not match the filter. population:
    from how many records the queries were drawn, if they were. floor, margin: the verdict on either demand; `margin`
    is None where A was not to be asked.
    """

    name: str
    asked_for: bool
    matching: int
    query_ids: tuple[str, ...] = ()
    recall_a: tuple[float | None, ...] | None = None
    recall_b: tuple[float | None, ...] | None = None
    overlap: tuple[float | None, ...] | None = None
    bounds_b: Bounds | None = None
    difference: Bounds | None = None
    short_b: int = 0
    strangers_b: int = 0
    outside_b: int = 0
    population: int | None = None
    floor: Verdict = Verdict.INCONCLUSIVE
    margin: Verdict | None = None

    @property
    def verdict(self) -> Verdict:
        demands = [self.floor] if self.margin is None else [self.floor, self.margin]
        return Verdict.FAIL if self.outside_b else Verdict.worst(demands)

    @property
    def queries(self) -> int:
        """With something to find, and answered by B."""
        return self.bounds_b.n if self.bounds_b else 0

    @property
    def mean_a(self) -> float | None:
        return _mean(self.recall_a)

    @property
    def mean_overlap(self) -> float | None:
        return _mean(self.overlap)

    def worst(self) -> int | None:
        """The place of the query on which B did worst: least recall, then least overlap, then the first by id."""
        known = [place for place, value in enumerate(self.recall_b or ()) if value is not None]
        if not known or self.recall_b is None:
            return None
        shared = self.overlap or (None,) * len(self.query_ids)
        return min(known, key=lambda at: (self.recall_b[at], shared[at] or 0.0, self.query_ids[at]))  # type: ignore[index]

    def to_json(self) -> dict[str, Any]:
        worst = self.worst()
        return {
            "name": self.name,
            "verdict": self.verdict.value,
            "floor": self.floor.value,
            "margin": self.margin.value if self.margin else None,
            "asked_for": self.asked_for,
            "matching": self.matching,
            "population": self.population,
            "queries": self.queries,
            "recall_b": self.bounds_b.to_json() if self.bounds_b else None,
            "recall_a": self.mean_a,
            "difference": self.difference.to_json() if self.difference else None,
            "overlap": self.mean_overlap,
            "short_b": self.short_b,
            "strangers_b": self.strangers_b,
            "outside_filter_b": self.outside_b,
            "worst": None if worst is None else self._query(worst),
            "by_query": [self._query(place) for place in range(len(self.query_ids))] if self.recall_b else [],
        }

    def _query(self, place: int) -> dict[str, Any]:
        return {
            "id": self.query_ids[place],
            "recall_a": self.recall_a[place] if self.recall_a else None,
            "recall_b": self.recall_b[place] if self.recall_b else None,
            "overlap": self.overlap[place] if self.overlap else None,
        }


@dataclass(frozen=True, slots=True)
class NeighbourParity:
    """The result. `parts[0]` is the one without a filter, if anything was measured; no payload value is in it.

    metric_overlap: the share of the k nearest on which the two declared metrics agree, by the truth, where they
    differ. coverage_*: how each store finds neighbours, as far as it tells; `index_*` says only whether it was ready
    to. settings_*: with what each was asked. `own_records` says that queries were the records' own vectors, each record
    left out of its own answer.
    """

    column: str
    kind: VectorKind
    k: int
    metric_a: Metric
    metric_b: Metric
    demands: Demands
    seed: int
    own_records: bool
    parts: tuple[NeighbourPart, ...] = ()
    index_a: IndexState | None = None
    index_b: IndexState | None = None
    coverage_a: IndexCoverage | None = None
    coverage_b: IndexCoverage | None = None
    settings_a: Asked | None = None
    settings_b: Asked | None = None
    metric_overlap: float | None = None
    findings: tuple[Finding, ...] = ()
    verdict: Verdict = Verdict.INCONCLUSIVE

    def summary(self) -> str:
        """One line: recall of B with its lower bound, of A, and the overlap."""
        return self._line(self.column, self.parts[0] if self.parts else None)

    def lines(self) -> list[str]:
        """`summary`, and a line for each filter under which something was measured."""
        filtered = [part for part in self.parts[1:] if part.bounds_b is not None]
        under = [
            self._line(f"{self.column} under {part.name} ({counted(part.matching, 'record')})", part)
            for part in filtered
        ]
        return [self.summary(), *under]

    def _line(self, what: str, part: NeighbourPart | None) -> str:
        if part is None or part.bounds_b is None:
            return f"{what}: nothing measured"
        text = f"{what}: recall@{self.k} of B {part.bounds_b.mean:.4f} (lower bound {part.bounds_b.lower:.4f}, floor "
        text += f"{self.demands.recall_floor:g})"
        if part.mean_a is not None and part.mean_overlap is not None:
            text += f", of A {part.mean_a:.4f}, overlap {part.mean_overlap:.4f}"
        return f"{text}, over {counted(part.bounds_b.n, 'query', 'queries')}"

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict.value,
            "summary": self.summary(),
            "column": self.column,
            "kind": self.kind.value,
            "k": self.k,
            "metric_a": self.metric_a.value,
            "metric_b": self.metric_b.value,
            "metric_overlap": self.metric_overlap,
            "recall_floor": self.demands.recall_floor,
            "recall_margin": self.demands.recall_margin,
            "seed": self.seed,
            "own_records": self.own_records,
            "index_a": self.index_a.value if self.index_a else None,
            "index_b": self.index_b.value if self.index_b else None,
            "coverage_a": self.coverage_a.to_json() if self.coverage_a else None,
            "coverage_b": self.coverage_b.to_json() if self.coverage_b else None,
            "settings_a": self.settings_a.to_json() if self.settings_a else None,
            "settings_b": self.settings_b.to_json() if self.settings_b else None,
            "parts": [part.to_json() for part in self.parts],
            "findings": [finding.to_json() for finding in self.findings],
        }


def decided(
    part: NeighbourPart, demands: Demands, *, ready_a: bool, ready_b: bool, compared: bool
) -> tuple[Verdict, Verdict | None]:
    """The verdicts on floor and margin, from the bounds alone. `compared`: whether A was to be asked as well.

    An index that is not ready decides nothing, and neither do too few queries.
    """
    enough = ready_b and part.queries >= LEAST_QUERIES
    floor = margin = Verdict.INCONCLUSIVE
    if enough and part.bounds_b is not None:
        floor = _against(part.bounds_b, demands.recall_floor, inclusive=True)
    if enough and ready_a and part.difference is not None:
        margin = _against(part.difference, -demands.recall_margin, inclusive=False)
    return floor, margin if compared else None


def _against(bounds: Bounds, line: float, *, inclusive: bool) -> Verdict:
    if bounds.lower >= line - _ROUNDING if inclusive else bounds.lower > line + _ROUNDING:
        return Verdict.PASS
    return Verdict.FAIL if bounds.upper < line - _ROUNDING else Verdict.INCONCLUSIVE


def part_findings(part: NeighbourPart, k: int, demands: Demands, records: Verdict | None) -> Iterator[Finding]:
    """What a reader must know of one part that was measured. `records` is the verdict on the records themselves."""
    bounds, at, ids = part.bounds_b, {"part": part.name}, _worst_ids(part)
    of = "" if part.name == ALL else f"under the filter {part.name}, "
    if bounds is None:
        yield Finding("neighbours.none", f"{of}there was nothing to find", Verdict.INCONCLUSIVE, detail=at)
    elif part.queries < LEAST_QUERIES:
        text = f"{of}{counted(part.queries, 'query', 'queries')}; fewer than {LEAST_QUERIES} show nothing"
        yield Finding("neighbours.too_few", text, Verdict.INCONCLUSIVE, count=part.queries, detail=at)
    else:
        if part.floor is not Verdict.PASS:
            text = f"{of}recall@{k} of B is {bounds.mean:.4f}, {_placed(bounds, part.floor, demands.recall_floor)}"
            yield Finding("neighbours.recall", _caused(text, part.floor, records), part.floor, ids, detail=at)
        if part.margin not in {None, Verdict.PASS} and part.difference is not None:
            needed = queries_needed(demands.recall_margin, population=part.population)
            if part.margin is Verdict.INCONCLUSIVE and part.queries < needed:
                text = f"{of}{counted(part.queries, 'query', 'queries')} cannot rule out a loss of "
                text += f"{demands.recall_margin:g} whatever was seen; {needed:,} are needed"
                yield Finding("neighbours.too_few", text, part.margin, count=part.queries, detail=at)
            else:
                assert part.margin is not None
                placed = _placed(part.difference, part.margin, -demands.recall_margin)
                text = f"{of}recall@{k} of B minus A is {part.difference.mean:+.4f}, {placed}"
                yield Finding("neighbours.margin", _caused(text, part.margin, records), part.margin, ids, detail=at)
    if part.short_b:
        short = counted(part.short_b, "query", "queries")
        text = f"{of}B returned fewer hits than there are records to return in {short}"
        yield Finding("neighbours.short", text, count=part.short_b, detail=at)
    if part.strangers_b:
        text = f"{of}{counted(part.strangers_b, 'hit of B is a record', 'hits of B are records')} that A does not hold"
        yield Finding("neighbours.strangers", text, count=part.strangers_b, detail=at)
    if part.outside_b:
        text = f"{of}{counted(part.outside_b, 'hit of B does', 'hits of B do')} not match the filter by A's payloads"
        yield Finding("neighbours.filter", text, Verdict.FAIL, count=part.outside_b, detail=at)


def _caused(text: str, verdict: Verdict, records: Verdict | None) -> str:
    return f"{cause(records)}: {text}" if verdict is Verdict.FAIL else text


def _placed(bounds: Bounds, verdict: Verdict, line: float) -> str:
    """Where the bounds lie; they may lie well and decide nothing, where an index was not ready."""
    where = f"below {line:g}" if verdict is Verdict.FAIL else f"against {line:g}, which is not decided"
    return f"bounds {bounds.lower:.4f} to {bounds.upper:.4f}, {where}"


def cause(records: Verdict | None) -> str:
    match records:
        case Verdict.PASS:
            return "the data agree but the index answers differently"
        case Verdict.FAIL:
            return "the data differ, and so do the answers"
        case _:
            return "the index answers differently, and whether the data agree is not known here"


def _worst_ids(part: NeighbourPart) -> tuple[str, ...]:
    """The queries on which B was not complete, the worst first."""
    values = part.recall_b or ()
    lacking = [
        (value, id_) for value, id_ in zip(values, part.query_ids, strict=False) if value is not None and value < 1
    ]
    return tuple(id_ for _, id_ in sorted(lacking)[:IDS_SHOWN])


def _mean(values: tuple[float | None, ...] | None) -> float | None:
    known = [value for value in values or () if value is not None]
    return float(np.mean(known)) if known else None


def known(values: Any) -> tuple[float | None, ...]:
    """As JSON can hold them: NaN becomes None."""
    return tuple(None if math.isnan(value) else value for value in values.tolist())
