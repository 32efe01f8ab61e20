"""What goes wrong, and when: faults as data, the same words for every service and wrapper.

A fault is injected by hand (a drill's step) or by a schedule: on call numbers, in a window of time, or with a
probability from a seed. Names follow Toxiproxy and the vendors' own status codes.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    }
)
PROCESS_FAULTS: Final = frozenset({"none", "sigstop", "sigcont", "sigkill", "restart"})


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to fail. `options` refine it: `retry_after_seconds`, `delay_seconds`, `after_bytes`."""

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.kind not in VENDOR_FAULTS | PROCESS_FAULTS:
            known = ", ".join(sorted(VENDOR_FAULTS | PROCESS_FAULTS))
            raise UsageError(f"unknown fault {self.kind!r}", hint=f"known are: {known}")


NO_FAULT: Final = Fault("none")


@dataclass(frozen=True, slots=True)
class ScheduledFault:
    """A fault on some calls: numbers from 1 (`calls`), or a window of seconds since the start, or a probability."""

    fault: Fault
    calls: frozenset[int] | None = None
    from_seconds: float | None = None
    to_seconds: float | None = None
    probability: float | None = None

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """From a mapping such as `{kind: unavailable, calls: [3, 4]}` or `{kind: hang, from_seconds: 5}`."""
        known = {"kind", "options", "calls", "from_seconds", "to_seconds", "probability"}
        extra = sorted(set(data) - known)
        if extra or "kind" not in data:
            raise UsageError(f"fault: {'unknown key ' + repr(extra[0]) if extra else 'no kind'}")
        calls = data.get("calls")
        return cls(
            Fault(str(data["kind"]), dict(data.get("options", {}))),
            frozenset(int(call) for call in calls) if calls is not None else None,
            data.get("from_seconds"),
            data.get("to_seconds"),
            data.get("probability"),
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
            if item.calls is not None and call not in item.calls:
                continue
            if item.from_seconds is not None and elapsed_seconds < item.from_seconds:
                continue
            if item.to_seconds is not None and elapsed_seconds >= item.to_seconds:
                continue
            if item.probability is not None and self._rng.random() >= item.probability:
                continue
            return item.fault
        return self.injected
