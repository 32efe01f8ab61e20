"""What listeners are told of failures and switches, each once, and what the breakers learn of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

from exitramp.clock import Clock
from exitramp.orchestration.attempts import Failure
from exitramp.orchestration.breaker import BreakerChange, BreakerState, CircuitBreaker, Permit
from exitramp.orchestration.events import EventKind, Listener, RouterEvent

_KINDS: Final = {
    BreakerState.OPEN: EventKind.BREAKER_OPENED,
    BreakerState.HALF_OPEN: EventKind.PROBE,
    BreakerState.CLOSED: EventKind.BREAKER_CLOSED,
}


class Switching:
    """Thread-safe. A failure and the first good answer elsewhere are each an event once, until the stack is well."""

    def __init__(self, clock: Clock, listener: Listener) -> None:
        self._clock = clock
        self._listener = listener
        self._lock = threading.Lock()
        self._failing: set[str] = set()
        self._answered_elsewhere: set[str] = set()

    def failed(self, breaker: CircuitBreaker, stack: str, permit: Permit, failure: Failure) -> None:
        """The call that `permit` allowed failed."""
        if failure.is_of_request:
            breaker.unused(permit)
            return
        # Only what still counts is an event: a call from before the last switch may time out long after it.
        if breaker.counts(permit):
            with self._lock:
                is_first = stack not in self._failing
                self._failing.add(stack)
            if is_first:
                self.emit(EventKind.FIRST_FAILURE, stack, error_class=failure.error_class)
        breaker.failed(permit, reason=failure.error_class, retry_after_seconds=failure.retry_after_seconds)

    def succeeded(
        self, breaker: CircuitBreaker, stacks: Sequence[str], place: int, permit: Permit, request_id: str
    ) -> None:
        """The stack at `place` of those in order answered."""
        name = stacks[place]
        with self._lock:
            if not permit.is_probe and breaker.counts(permit):
                self._failing.discard(name)
                self._answered_elsewhere.discard(name)
            earlier = [stack for stack in stacks[:place] if stack in self._failing]
            new = [stack for stack in earlier if stack not in self._answered_elsewhere]
            self._answered_elsewhere.update(new)
        for instead_of in new:
            self.emit(EventKind.FIRST_GOOD_ANSWER, name, instead_of=instead_of, request_id=request_id)
        breaker.succeeded(permit)

    def breaker_changed(self, change: BreakerChange) -> None:
        if change.after is BreakerState.CLOSED:
            with self._lock:
                self._failing.discard(change.name)
                self._answered_elsewhere.discard(change.name)
        self.emit(_KINDS[change.after], change.name, before=change.before.value, reason=change.reason)

    def emit(self, kind: EventKind, stack: str, **detail: str) -> None:
        self._listener(RouterEvent(kind, stack, self._clock.now(), self._clock.monotonic(), detail))
