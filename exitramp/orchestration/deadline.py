"""One budget of time for a request, across its retries and its way to another stack."""

from __future__ import annotations

from exitramp.clock import Clock


class Deadline:
    """`seconds` from now on `clock`."""

    __slots__ = ("_clock", "_ends", "seconds")

    def __init__(self, seconds: float, clock: Clock) -> None:
        self.seconds = seconds
        self._clock = clock
        self._ends = clock.monotonic() + seconds

    @property
    def remaining_seconds(self) -> float:
        """Never below zero."""
        return max(0.0, self._ends - self._clock.monotonic())

    @property
    def is_over(self) -> bool:
        return self.remaining_seconds <= 0.0

    def share_seconds(self, limit_seconds: float, *, parties: int = 1) -> float:
        """How long one step may take: `limit_seconds`, but at most 1/`parties` of what remains.

        `parties` counts the stacks that may still have to be asked, this one included, so that a stack that hangs
        leaves the next one its share.
        """
        return min(limit_seconds, self.remaining_seconds / max(1, parties))
