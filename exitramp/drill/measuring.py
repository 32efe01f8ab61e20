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
    by: str | None = None
    """Who did it, where that is not the part's own service: the proxy in front of it."""

    def to_json(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in self.__slots__}
        if self.by is None:
            del found["by"]
        return found


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
        by=phase.get("by"),
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


def kept_from_arriving(report: LoadReport, phases: Iterable[PhaseMeasure], began: float) -> frozenset[str]:
    """Requests given up on the primary's chat vendor while a proxy kept its answers: it may have answered them all
    the same, and the application knew that it was asking again."""
    spans = [(each.injected_seconds, each.ended_seconds) for each in phases if each.by and each.on == "chat"]
    found = set()
    for request in report.requests:
        for start, end in _errors_of(request, began):
            if any(start <= until and since <= end for since, until in spans):
                found.add(request.question_id)
    return frozenset(found)


def _primary_errors(report: LoadReport, began: float) -> list[tuple[float, float]]:
    """When attempts on the primary that ended in an error began and ended, in seconds after `began`."""
    return [each for request in report.requests for each in _errors_of(request, began)]


def _errors_of(request: LoadRequest, began: float) -> list[tuple[float, float]]:
    if request.outcome is None or request.began is None:
        return []
    starts = [
        (request.began - began + attempt.began_seconds, attempt.duration_seconds)
        for attempt in request.outcome.attempts
        if attempt.stack == PRIMARY and attempt.error_class is not None
    ]
    return [(start, start + lasted) for start, lasted in starts]


def _at(values: Sequence[float], share: float) -> float | None:
    if not values:
        return None
    return round(values[max(0, -(-int(share * 1000) * len(values) // 1000) - 1)], 3)
