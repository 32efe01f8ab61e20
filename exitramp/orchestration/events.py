"""What the router says while it works: the moments a drill measures between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from exitramp.clock import iso_utc


class EventKind(StrEnum):
    """In the order in which an outage shows them."""

    FIRST_FAILURE = "first_failure"  # detect: the first failure on a stack that worked before
    BREAKER_OPENED = "breaker_opened"  # decide: nothing more is sent to the stack
    FIRST_GOOD_ANSWER = "first_good_answer"  # the first complete answer from another stack since `first_failure`
    PROBE = "probe"  # a single request is sent back to see
    BREAKER_CLOSED = "breaker_closed"  # restored: everything goes back
    HELD = "held"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class RouterEvent:
    """Something happened to `stack`, at a wall time and on the monotonic clock."""

    kind: EventKind
    stack: str
    at: datetime
    monotonic: float
    detail: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind.value,
            "stack": self.stack,
            "at": iso_utc(self.at),
            "monotonic": self.monotonic,
            "detail": dict(self.detail),
        }


Listener = Callable[[RouterEvent], None]
"""Called in the thread of the request that caused the event, outside every lock. It must not raise."""
