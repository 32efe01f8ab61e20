"""What goes wrong, and when: faults as data, the same words for every service and wrapper.

A fault is injected by hand (a drill's step) or by a schedule: on call numbers, in a window of time, or with a
probability from a seed. Names follow Toxiproxy and the vendors' own status codes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Self

from exitramp.errors import UsageError

VENDOR_FAULTS: Final = frozenset(
    {
        "none",
        "rate_limit",  # 429, with Retry-After if `retry_after_seconds` is given
        "quota",  # 429 that no waiting mends
        "error_500",
        "unavailable",  # 503
        "overloaded",  # 529
        "hang",  # accepts the request and never answers
        "refuse",  # the port is closed
        "reset",  # the connection is reset in the middle
        "slow_first_token",
        "slow_stream",
        "truncate",  # the answer breaks off without a finish reason
        "malformed",  # a body that is no JSON
        "auth",  # 401
        "model_gone",  # 404
        "quality_drift",  # another model behind the same name
        "partial_region",  # a share of keys or requests fails, the others do not notice
    }
)
PROXY_FAULTS: Final = frozenset(
    {"none", "latency", "jitter", "bandwidth", "down", "timeout", "reset", "slow_close", "slicer", "limit_data"}
)
PROCESS_FAULTS: Final = frozenset({"none", "sigstop", "sigcont", "sigkill", "restart"})
KNOWN_FAULTS: Final = VENDOR_FAULTS | PROXY_FAULTS | PROCESS_FAULTS


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to fail. `options` refine it: `retry_after_seconds`, `delay_seconds`, `after_bytes`."""

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.kind not in KNOWN_FAULTS:
            known = ", ".join(sorted(KNOWN_FAULTS))
            raise UsageError(f"unknown fault {self.kind!r}", hint=f"known are: {known}")


NO_FAULT: Final = Fault("none")


_NUMBERS: Final = ("from_call", "to_call", "from_seconds", "to_seconds", "probability")
_MOMENTS: Final = {"from_time": "from_seconds", "to_time": "to_seconds"}
TIMES: Final = ("calls", *_NUMBERS, *_MOMENTS)
"""The keys that say when a scheduled fault is there."""


@dataclass(frozen=True, slots=True)
class ScheduledFault:
    """A fault on some calls: all that is given has to hold.

    calls: numbers from 1. from_call, to_call: the first call and the last one. from_seconds, to_seconds: a window since
    the start, its end outside. probability: of each call that is left.
    """

    fault: Fault
    calls: frozenset[int] | None = None
    from_seconds: float | None = None
    to_seconds: float | None = None
    probability: float | None = None
    from_call: int | None = None
    to_call: int | None = None

    @classmethod
    def parse(cls, data: Mapping[str, Any], *, now: datetime | None = None) -> Self:
        """From a mapping such as `{kind: unavailable, calls: [3, 4]}`, `{kind: hang, from_seconds: 5}`, `{kind: auth,
        from_call: 11}` or `{kind: model_gone, from_time: 2026-12-01T00:00:00Z}`; a time is counted from `now`."""
        if not isinstance(data, Mapping):
            raise UsageError("fault: not a mapping such as {kind: hang, calls: [3]}")
        known = {"kind", "options", *TIMES}
        extra = sorted(str(name) for name in set(data) - known)
        if extra or "kind" not in data:
            raise UsageError(
                f"fault: {'unknown key ' + repr(extra[0]) if extra else 'no kind'}",
                hint=f"its keys are: {', '.join(sorted(known))}",
            )
        kind = str(data["kind"])
        options = data.get("options") or {}
        if not isinstance(options, Mapping):
            raise UsageError(f"the fault {kind!r}: 'options' must be a mapping")
        values: dict[str, Any] = {}
        for name in _NUMBERS:
            if data.get(name) is not None:
                values[name] = _number(kind, name, data[name])
        for name, as_seconds in _MOMENTS.items():
            if data.get(name) is not None:
                if as_seconds in values:
                    raise UsageError(f"the fault {kind!r}: {name!r} and {as_seconds!r} exclude each other")
                moment = _moment(kind, name, data[name])
                values[as_seconds] = max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
        calls = data.get("calls")
        if calls is not None:
            if isinstance(calls, str) or not isinstance(calls, Sequence):
                raise UsageError(f"the fault {kind!r}: 'calls' must be a list of numbers from 1")
            calls = frozenset(int(_number(kind, "calls", call, whole=True)) for call in calls)
        return cls(Fault(kind, dict(options)), calls, **values)

    @property
    def is_window(self) -> bool:
        """Whether only the time decides."""
        return (self.calls, self.probability, self.from_call, self.to_call) == (None, None, None, None)

    def applies(self, *, call: int, elapsed_seconds: float) -> bool:
        """Whether call number `call` at `elapsed_seconds` may have it, before a probability is drawn."""
        return (
            (self.calls is None or call in self.calls)
            and (self.from_call is None or call >= self.from_call)
            and (self.to_call is None or call <= self.to_call)
            and (self.from_seconds is None or elapsed_seconds >= self.from_seconds)
            and (self.to_seconds is None or elapsed_seconds < self.to_seconds)
        )


class FaultSchedule:
    """Which fault meets a call: the first scheduled one that applies, else what was injected by hand."""

    def __init__(self, scheduled: Sequence[ScheduledFault] = (), *, seed: int = 0) -> None:
        self._scheduled = tuple(scheduled)
        self._rng = random.Random(seed)
        self.injected: Fault = NO_FAULT

    def fault_for(self, *, call: int, elapsed_seconds: float) -> Fault:
        """The fault of call number `call` (from 1), `elapsed_seconds` after the start."""
        for item in self._scheduled:
            if not item.applies(call=call, elapsed_seconds=elapsed_seconds):
                continue
            if item.probability is not None and self._rng.random() >= item.probability:
                continue
            return item.fault
        return self.injected


def _number(kind: str, name: str, value: Any, *, whole: bool = False) -> float | int:
    whole = whole or name.endswith("_call")
    most = 1.0 if name == "probability" else math.inf
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not (1 if whole else 0) <= value <= most or (whole and value != int(value)):
        wanted = (
            "whole numbers from 1 on" if whole else "from 0 to 1" if name == "probability" else "a number from 0 on"
        )
        raise UsageError(f"the fault {kind!r}: {name!r} must be {wanted}")
    return int(value) if whole else float(value)


def _moment(kind: str, name: str, value: object) -> datetime:
    """YAML reads a time as one; JSON has its text."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            value = None
    if not isinstance(value, datetime):
        raise UsageError(f"the fault {kind!r}: {name!r} must be a time such as 2026-12-01T00:00:00Z")
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value
