"""A store that fails on schedule, for tests and for outages that are only simulated."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from exitramp.clock import Clock
from exitramp.errors import StoreError, StoreProtocolError, StoreRejected, StoreTimeout, StoreUnavailable
from exitramp.faults import FaultSchedule

T = TypeVar("T")

HANG_SECONDS = 30.0

_ERRORS: dict[str, type[StoreError]] = {
    "hang": StoreTimeout,
    "malformed": StoreProtocolError,
    "auth": StoreRejected,
    "model_gone": StoreRejected,
    "quota": StoreRejected,
}


class Faulty:
    """A policy that refuses calls as `schedule` says, before they reach the store; `calls` counts from 1."""

    def __init__(self, schedule: FaultSchedule, clock: Clock) -> None:
        self.schedule = schedule
        self._clock = clock
        self._started = clock.monotonic()
        self.calls = 0

    def run(self, operation: str, call: Callable[[], T]) -> T:
        self.calls += 1
        fault = self.schedule.fault_for(call=self.calls, elapsed_seconds=self._clock.monotonic() - self._started)
        if fault.kind == "none":
            return call()
        if fault.kind == "hang":
            # The deadline outside ends the call when its time is up, as it would a store that really hangs.
            self._clock.sleep(float(fault.options.get("seconds", HANG_SECONDS)))
        error = _ERRORS.get(fault.kind, StoreUnavailable)
        raise error(f"simulated fault '{fault.kind}' on call {self.calls} ('{operation}')")
