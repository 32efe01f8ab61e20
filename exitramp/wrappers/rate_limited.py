"""No more calls a second than the user allows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from exitramp.clock import Clock

T = TypeVar("T")


class RateLimited:
    """A policy that spaces the starts of calls at least 1/`calls_per_second` apart."""

    def __init__(self, calls_per_second: float, clock: Clock) -> None:
        self._gap_seconds = 1.0 / calls_per_second
        self._clock = clock
        self._next = 0.0
        self._lock = threading.Lock()

    def run(self, operation: str, call: Callable[[], T]) -> T:
        with self._lock:
            now = self._clock.monotonic()
            start = max(now, self._next)
            self._next = start + self._gap_seconds
        self._clock.sleep(start - now)
        return call()
