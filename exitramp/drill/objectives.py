"""What was promised against what was measured: one verdict per objective, and nothing passes unmeasured."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from exitramp import canonical
from exitramp.drill.spec import DrillSpec, Objectives
from exitramp.records import Verdict

Results = Sequence[tuple[str, Mapping[str, Any]]]
"""Every step that finished, in order. A step may stand in a drill twice; its worst figure counts."""


@dataclass(frozen=True, slots=True)
class ObjectiveResult:
    """One objective. `target` and `measured` are in `unit`; `measured` None means that nothing was measured."""

    name: str
    title: str
    unit: str
    target: float
    measured: float | None
    verdict: Verdict
    note: str

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__} | {"verdict": self.verdict.value}


@dataclass(frozen=True, slots=True)
class Unpromised:
    """What was measured of an objective that the drill file gives no number: shown, and judged by nothing."""

    name: str
    title: str
    unit: str
    measured: float

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def objectives_sha256(objectives: Objectives) -> str:
    """The hash over the canonical JSON of the objectives, written into the log before anything runs."""
    return hashlib.sha256(canonical.dumps(objectives.to_json()).encode("utf-8")).hexdigest()


def judge_objectives(spec: DrillSpec, results: Results) -> tuple[ObjectiveResult, ...]:
    """Every objective that the drill file sets, judged from the steps' results."""
    return tuple(_judged(spec.objectives, results))


def unpromised(spec: DrillSpec, results: Results) -> tuple[Unpromised, ...]:
    """The measured figures of every objective that the drill file leaves open."""
    # Promised anything, so that each is looked for; whatever comes of the verdicts is not used.
    anything: dict[str, Any] = {name: 0.5 for name in Objectives.__slots__ if getattr(spec.objectives, name) is None}
    found = [each for each in _judged(replace(Objectives(), **anything), results) if each.measured is not None]
    return tuple(Unpromised(each.name, each.title, each.unit, float(each.measured or 0.0)) for each in found)


def _judged(wanted: Objectives, results: Results) -> Iterator[ObjectiveResult]:
    if wanted.rto_seconds is not None:
        worst = _worst(results, ("outage", "reembed", "silent_drift"), "rto_seconds")
        who = "your application" if _through_application(results) else "the substitute"
        note = f"slowest of all faults, from its injection to the first good answer from {who}"
        yield _at_most("rto_seconds", "Recovery time (RTO)", "s", wanted.rto_seconds, worst, note)
    if wanted.rpo_records is not None:
        lost = _worst(results, ("measure_loss", "cut_over"), "records")
        note = "records the substitute lacked, held in an older state or still held"
        yield _at_most("rpo_records", "Records lost (RPO)", "records", wanted.rpo_records, lost, note)
    if wanted.rpo_seconds is not None:
        stale = _worst(results, "measure_loss", "staleness_seconds")
        note = "age of what was restored: from the beginning of the dump to the loss"
        yield _at_most("rpo_seconds", "Age of the restored state (RPO)", "s", wanted.rpo_seconds, stale, note)
    if wanted.error_rate is not None:
        moved = any(name == "cut_over" for name, _ in results)
        since = "while traffic was moved, there and back" if moved else "from the first fault on"
        note = f"requests without a good answer from anyone, {since}"
        rate = _worst(results, ("outage", "cut_over", "way_back", "silent_drift"), "error_rate")
        yield _at_most("error_rate", "Error rate", "share", wanted.error_rate, rate, note)
    if wanted.p95_latency_ms is not None:
        p95 = _worst(results, ("outage", "cut_over", "silent_drift"), "latency_ms_on_substitute", "p95")
        names = {name for name, _ in results}
        when = "after the cut-over" if "cut_over" in names else "during the outage"
        if "silent_drift" in names and "outage" not in names:
            when = "after the switch"
        who = "your application, while faults were on" if _through_application(results) else f"the substitute {when}"
        note = f"of answers from {who}, waiting and retries included"
        yield _at_most("p95_latency_ms", "Latency, 95th percentile", "ms", wanted.p95_latency_ms, p95, note)
    if wanted.quality_margin is not None:
        compared = [data for name, data in results if name == "compare_quality"]
        yield _quality(wanted.quality_margin, compared[-1] if compared else {})
    if wanted.usd_per_request is not None:
        mean = _worst(results, "cost", "comparison", "mean", "after_usd")
        note = "mean over the golden questions on the substitute"
        yield _at_most("usd_per_request", "Cost of a request", "USD", wanted.usd_per_request, mean, note)


def _through_application(results: Results) -> bool:
    """Whether the drill asked an application: which vendor stood behind its answers is then not known."""
    return any(name == "outage" and data.get("application") for name, data in results)


def _worst(results: Results, steps: str | tuple[str, ...], *path: str) -> float | None:
    """The greatest figure that the steps gave in any of their runs; None if one of them gave none."""
    found: list[float | None] = []
    for name, data in results:
        if name in ((steps,) if isinstance(steps, str) else steps):
            value: Any = data
            for key in path:
                value = value.get(key) if isinstance(value, Mapping) else None
            found.append(None if value is None else float(value))
    known = [value for value in found if value is not None]
    return max(known) if found and len(known) == len(found) else None


def _at_most(name: str, title: str, unit: str, target: float, measured: float | None, note: str) -> ObjectiveResult:
    if measured is None:
        return ObjectiveResult(name, title, unit, target, None, Verdict.INCONCLUSIVE, "not measured")
    verdict = Verdict.PASS if measured <= target else Verdict.FAIL
    return ObjectiveResult(name, title, unit, target, measured, verdict, note)


def _quality(margin: float, compared: Mapping[str, Any]) -> ObjectiveResult:
    """The quality objective shows the metric that came off worst: the lowest lower bound."""
    metrics = [metric for metric in compared.get("metrics", ()) if metric.get("lower") is not None]
    verdicts = [Verdict(metric["verdict"]) for metric in compared.get("metrics", ())]
    if not metrics:
        reasons = [str(metric.get("reason")) for metric in compared.get("metrics", ())]
        note = reasons[0] if reasons else "not measured"
        return ObjectiveResult(
            "quality_margin", "Quality lost at most", "share", margin, None, Verdict.INCONCLUSIVE, note
        )
    worst = min(metrics, key=lambda metric: metric["lower"])
    note = f"{worst['metric']}, lower bound of the paired difference: {worst['reason']}"
    return ObjectiveResult(
        "quality_margin",
        "Quality lost at most",
        "share",
        margin,
        round(max(0.0, -float(worst["lower"])), 6),
        Verdict.worst(verdicts),
        note,
    )
