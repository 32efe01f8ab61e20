"""Counting calls, failures and seconds, by operation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from exitramp.clock import Clock

T = TypeVar("T")


@dataclass(slots=True)
class Meter:
    """What was asked of a store: calls, failures and seconds by operation."""

    calls: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class Metered:
    """A policy that counts every call into a meter."""

    def __init__(self, meter: Meter, clock: Clock) -> None:
        self._meter = meter
        self._clock = clock
        self._lock = threading.Lock()

    def run(self, operation: str, call: Callable[[], T]) -> T:
        started = self._clock.monotonic()
        failed = 1
        try:
            result = call()
            failed = 0
            return result
        finally:
            elapsed = self._clock.monotonic() - started
            with self._lock:
                meter = self._meter
                meter.calls[operation] = meter.calls.get(operation, 0) + 1
                meter.failures[operation] = meter.failures.get(operation, 0) + failed
                meter.seconds[operation] = meter.seconds.get(operation, 0.0) + elapsed
