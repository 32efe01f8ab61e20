"""A circuit breaker: after some failures nobody is sent there, then one at a time to see whether it is back.

M. Nygard, "Release It!", 2nd ed. (2018), ch. 5. Counted is the share among the last calls, not the failures alone: at
20 requests a second one call in a hundred failing would otherwise open it within half a minute.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from exitramp.clock import Clock
from exitramp.wording import counted


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """It opens once `failures` of the last `sample` calls, none older than `window_seconds`, failed.

    cool_down_seconds: how long nobody is sent there; longer if it asked for that with Retry-After, but at most
        `longest_cool_down_seconds`.
    probe_successes: how many single calls in a row must succeed before it closes; one that fails opens it again.
    """

    failures: int = 5
    sample: int = 10
    window_seconds: float = 10.0
    cool_down_seconds: float = 5.0
    longest_cool_down_seconds: float = 120.0
    probe_successes: int = 2


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to call once. What a call from before the last change of state says is not counted any more."""

    generation: int
    is_probe: bool = False


@dataclass(frozen=True, slots=True)
class BreakerChange:
    """A change of state, and when on the monotonic clock."""

    name: str
    before: BreakerState
    after: BreakerState
    monotonic: float
    reason: str


class CircuitBreaker:
    """Thread-safe. `on_change` is called outside its lock, once for every change."""

    def __init__(
        self,
        name: str,
        settings: BreakerSettings,
        clock: Clock,
        on_change: Callable[[BreakerChange], None] = lambda change: None,
    ) -> None:
        self.name = name
        self._settings = settings
        self._clock = clock
        self._on_change = on_change
        self._lock = threading.Lock()
        self._state = BreakerState.CLOSED
        self._generation = 0
        self._recent: deque[tuple[float, bool]] = deque(maxlen=settings.sample)
        self._opens_until = 0.0
        self._asked_until = 0.0
        self._successes = 0
        self._probing = False
        self._held = False

    @property
    def state(self) -> BreakerState:
        with self._lock:
            return self._state

    @property
    def settings(self) -> BreakerSettings:
        return self._settings

    def tell(self, on_change: Callable[[BreakerChange], None]) -> None:
        """From now on somebody else is told of changes; what is known of the calls so far stays."""
        self._on_change = on_change

    def counts(self, permit: Permit) -> bool:
        """Whether what the call of `permit` says is still about the present."""
        with self._lock:
            return permit.generation == self._generation

    def admit(self) -> Permit | None:
        """Leave to call, or None. The one who gets a permit gives it back by `succeeded`, `failed` or `unused`."""
        change = None
        with self._lock:
            if self._state is BreakerState.CLOSED:
                return Permit(self._generation)
            if self._held or self._probing:
                return None
            if self._state is BreakerState.OPEN:
                if self._clock.monotonic() < self._opens_until:
                    return None
                change = self._to(BreakerState.HALF_OPEN, "the cool-down is over")
            self._probing = True
            permit = Permit(self._generation, is_probe=True)
        self._tell(change)
        return permit

    def succeeded(self, permit: Permit) -> None:
        change = None
        with self._lock:
            if permit.generation == self._generation:
                if permit.is_probe:
                    self._probing = False
                    self._successes += 1
                    if self._successes >= self._settings.probe_successes and not self._held:
                        change = self._to(BreakerState.CLOSED, f"{counted(self._successes, 'probe')} succeeded")
                else:
                    self._recent.append((self._clock.monotonic(), True))
        self._tell(change)

    def failed(self, permit: Permit, *, reason: str, retry_after_seconds: float | None = None) -> None:
        """Count a failure. `reason` is an error class; with `retry_after_seconds` it stays open at least that long."""
        change = None
        with self._lock:
            now = self._clock.monotonic()
            if retry_after_seconds is not None:
                asked = min(retry_after_seconds, self._settings.longest_cool_down_seconds)
                self._asked_until = max(self._asked_until, now + asked)
            if permit.generation == self._generation:
                if permit.is_probe:
                    change = self._open(now, f"a probe failed: {reason}")
                else:
                    self._recent.append((now, False))
                    since = now - self._settings.window_seconds
                    failures = sum(1 for at, is_good in self._recent if not is_good and at >= since)
                    if failures >= self._settings.failures:
                        change = self._open(
                            now, f"{failures} of the last {counted(len(self._recent), 'call')} failed: {reason}"
                        )
        self._tell(change)

    def unused(self, permit: Permit) -> None:
        """The call said nothing about whether it works: the request itself was at fault, or it was never sent."""
        with self._lock:
            if permit.generation == self._generation and permit.is_probe:
                self._probing = False

    def hold(self) -> None:
        """If it is open, let it stay open until `release`: no probes."""
        with self._lock:
            self._held = True

    def release(self) -> None:
        """End `hold`; the next call is a probe, without waiting for the rest of the cool-down."""
        with self._lock:
            self._held = False
            self._opens_until = 0.0

    def _open(self, now: float, reason: str) -> BreakerChange:
        self._opens_until = max(now + self._settings.cool_down_seconds, self._asked_until)
        return self._to(BreakerState.OPEN, reason)

    def _to(self, state: BreakerState, reason: str) -> BreakerChange:
        change = BreakerChange(self.name, self._state, state, self._clock.monotonic(), reason)
        self._state = state
        self._generation += 1
        self._recent.clear()
        self._successes = 0
        self._probing = False
        return change

    def _tell(self, change: BreakerChange | None) -> None:
        if change is not None:
            self._on_change(change)
