"""Trying again, for failures whose type says that it may help."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from exitramp.backoff import Backoff
from exitramp.clock import Clock
from exitramp.errors import ExitrampError, StoreUnavailable

T = TypeVar("T")


class Retrying:
    """A policy that repeats a call after a retryable failure, waiting as `backoff` says, and at least as long as the
    store asks; `retries` counts them."""

    def __init__(self, backoff: Backoff, clock: Clock, rng: random.Random) -> None:
        self._backoff = backoff
        self._clock = clock
        self._rng = rng
        self.retries = 0

    def run(self, operation: str, call: Callable[[], T]) -> T:
        retry = 0
        while True:
            try:
                return call()
            except ExitrampError as error:
                retry += 1
                asked = error.retry_after_seconds if isinstance(error, StoreUnavailable) else None
                wait_seconds = None
                if error.retryable:
                    wait_seconds = self._backoff.wait_seconds(retry, self._rng, retry_after_seconds=asked)
                if wait_seconds is None:
                    raise
                self.retries += 1
                self._clock.sleep(wait_seconds)
