"""What a request may be billed for: a share of the budget for each of its tries that a vendor may bill.

A try that brought nothing may be billed all the same, and the next one may be as well. So a request that is tried four
times can cost four times as much, and each time is held before it is asked for; where that is more than there is,
nobody is asked again. What is under way when the request has ended, such as a hedge's loser, keeps its share until it
ends too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal

from exitramp.errors import SpendExceeded
from exitramp.orchestration.budget import Budget
from exitramp.records import TraceRecord


@dataclass(frozen=True, slots=True)
class Limit:
    """What a request is held to beside the stack file's own budget.

    covers: whether so many tries of it may be billed together; asked before each.
    covers_more: whether it may be sent as the first record says, where the second was taken for what it costs at most.
    """

    covers: Callable[[int], bool]
    covers_more: Callable[[TraceRecord, TraceRecord], bool]


_limit: ContextVar[Limit | None] = ContextVar("limit", default=None)


@contextmanager
def covered(limit: Limit) -> Iterator[None]:
    """Hold the requests that are made in here to a limit."""
    token = _limit.set(limit)
    try:
        yield
    finally:
        _limit.reset(token)


def limit_around() -> Limit | None:
    """The limit that this request is made under, if there is one."""
    return _limit.get()


class Holding:
    """The shares of one request. Thread-safe: a hedge tries beside the first."""

    def __init__(self, budget: Budget, estimate: Decimal, use_case: str) -> None:
        """Holds the first share. Raises `SpendExceeded`."""
        self._budget = budget
        self.estimate = estimate
        self._use_case = use_case
        self._lock = threading.Lock()
        self._held = [[budget.reserve(estimate, use_case)]]
        self._under_way = 0
        self._ended_usd = Decimal(0)
        self._is_settled = False

    def begins(self, tries: int) -> bool:
        """Whether one more may be tried, so that `tries` may be billed together; then it is under way."""
        with self._lock:
            if self._is_settled:
                return False
            while len(self._held) < tries:
                try:
                    self._held.append([self._budget.reserve(self.estimate, self._use_case)])
                except SpendExceeded:
                    return False
            self._under_way += 1
            return True

    def raise_to(self, usd: Decimal) -> bool:
        """Whether each try may cost so much, since more is to be read than was thought; then it is held for each."""
        with self._lock:
            more = usd - self.estimate
            if more <= 0 or self._is_settled:
                return more <= 0
            raised: list[str] = []
            try:
                for _ in self._held:
                    raised.append(self._budget.reserve(more, self._use_case))
            except SpendExceeded:
                for reservation in raised:
                    self._budget.settle(reservation, Decimal(0), self._use_case)
                return False
            for share, reservation in zip(self._held, raised, strict=True):
                share.append(reservation)
            self.estimate = usd
            return True

    def ended(self, usd: Decimal) -> None:
        """What a try did cost; one that the request did not wait for gives its share back now."""
        with self._lock:
            self._under_way -= 1
            if not self._is_settled:
                self._ended_usd += usd
                return
            share = self._held.pop()
        self._give_back([share], usd)

    def settle(self) -> None:
        """The request has ended: count what the tries that have ended did cost, and let go of what none holds. Does
        nothing where that was done when it was cut off."""
        with self._lock:
            if self._is_settled:
                return
            self._is_settled = True
            kept = min(self._under_way, len(self._held))
            held, self._held = self._held[kept:], self._held[:kept]
            usd = self._ended_usd
        self._give_back(held, usd)

    def _give_back(self, shares: list[list[str]], usd: Decimal) -> None:
        for share in shares:
            for reservation in share:
                self._budget.settle(reservation, usd, self._use_case)
                usd = Decimal(0)
        if usd:
            self._budget.spend(usd, self._use_case)
