"""Figures out of an outage: when a fault was noticed, when traffic was switched, when the first good answer came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exitramp.orchestration.events import EventKind, RouterEvent
from exitramp.orchestration.load import LoadEnd, LoadReport, LoadRequest

PRIMARY, SUBSTITUTE = "primary", "substitute"


@dataclass(frozen=True, slots=True)
class PhaseMeasure:
    """One fault. All seconds are from the stream's beginning, but detect, decide and recovery, which count from the
    fault's injection. None is "did not happen".

    recovery_seconds: until the first request that was due after the injection had a complete answer, with a finish
    reason and passages, from the substitute. failures: attempts on the primary that failed while it lasted.
    late_failures: those that began while it lasted and failed only after it: a vendor's account counts them too.
    """

    fault: str
    on: str
    how: str
    injected_seconds: float
    ended_seconds: float
    detect_seconds: float | None
    decide_seconds: float | None
    recovery_seconds: float | None
    requests: int
    answered_by_primary: int
    answered_by_substitute: int
    failed: int
    failures: int
    late_failures: int
    healed: bool | None

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def measure_phase(
    phase: Mapping[str, Any],
    how: str,
    injected: float,
    ended: float,
    healed: bool | None,
    events: Iterable[RouterEvent],
    report: LoadReport,
    began: float,
) -> PhaseMeasure:
    """`injected` and `ended` are seconds after `began`, which is on the monotonic clock of the events."""

    def first(kind: EventKind) -> float | None:
        times = (
            event.monotonic - began
            for event in events
            if event.kind is kind and event.stack == PRIMARY and injected <= event.monotonic - began <= ended
        )
        found = min(times, default=None)
        return None if found is None else found - injected

    within = [request for request in report.requests if injected <= request.due - began < ended]
    good = [
        request.ended - began - injected
        for request in within
        if request.ended is not None and request.end is LoadEnd.ANSWERED and is_good(request, SUBSTITUTE)
    ]
    failed = _primary_errors(report, began)
    errors = [at for _, at in failed if injected <= at <= ended]
    return PhaseMeasure(
        fault=str(phase["fault"]),
        on=str(phase["on"]),
        how=how,
        injected_seconds=injected,
        ended_seconds=ended,
        detect_seconds=min(errors) - injected if errors else None,
        decide_seconds=first(EventKind.BREAKER_OPENED),
        recovery_seconds=min(good, default=None),
        requests=len(within),
        answered_by_primary=sum(is_good(request, PRIMARY) for request in within),
        answered_by_substitute=sum(is_good(request, SUBSTITUTE) for request in within),
        failed=sum(request.end is not LoadEnd.ANSWERED for request in within),
        failures=len(errors),
        late_failures=sum(injected <= start <= ended < at for start, at in failed),
        healed=healed,
    )


def latency_figures(requests: Sequence[LoadRequest]) -> dict[str, float | None]:
    """Median and 95th percentile of the latencies in milliseconds, waiting included."""
    values = sorted(each.latency_seconds * 1000.0 for each in requests if each.latency_seconds is not None)
    return {name: _at(values, share) for name, share in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))}


def timeline(report: LoadReport, began: float) -> list[dict[str, Any]]:
    """Every request for the chart: when it was due, how long it took, who answered."""
    return [
        {
            "at_seconds": round(request.due - began, 3),
            "latency_ms": None if request.latency_seconds is None else round(request.latency_seconds * 1000.0, 1),
            "end": request.end.value,
            "stack": request.outcome.stack if request.outcome is not None else None,
        }
        for request in report.requests
    ]


def is_good(request: LoadRequest, stack: str | None = None) -> bool:
    """Whether the request got a complete answer that rests on passages, from `stack` (or from anyone)."""
    outcome = request.outcome
    return (
        outcome is not None
        and (stack is None or outcome.stack == stack)
        and outcome.is_answered
        and bool(outcome.finish_reason)
        and bool(outcome.retrieved_ids)
    )


def _primary_errors(report: LoadReport, began: float) -> list[tuple[float, float]]:
    """When attempts on the primary that ended in an error began and ended, in seconds after `began`."""
    found = []
    for request in report.requests:
        if request.outcome is None or request.began is None:
            continue
        for attempt in request.outcome.attempts:
            if attempt.stack == PRIMARY and attempt.error_class is not None:
                start = request.began - began + attempt.began_seconds
                found.append((start, start + attempt.duration_seconds))
    return found


def _at(values: Sequence[float], share: float) -> float | None:
    if not values:
        return None
    return round(values[max(0, -(-int(share * 1000) * len(values) // 1000) - 1)], 3)
