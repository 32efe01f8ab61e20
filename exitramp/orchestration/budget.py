"""A cap on what is spent: reserved before the call, settled after it, in one transaction each.

A gateway that only looks before it calls lets as many requests through as are under way at once. Here a request holds
what it may cost at most until it is known what it did cost. What a process that died held stays held until its window
ends: nobody knows whether it was billed.
"""

from __future__ import annotations

import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from exitramp.clock import Clock
from exitramp.errors import PathUnusable, SpendExceeded
from exitramp.orchestration.stack_file.values import Action, BudgetSpec

_NANO: Final = Decimal(10**9)


@dataclass(frozen=True, slots=True)
class BudgetNotice:
    """A threshold was reached: of the cap of `window` (2026-03-01 or 2026-03), `share` is spent or held."""

    window: str
    share: float
    at: float
    actions: tuple[Action, ...]


class Budget:
    """Thread-safe; several processes may share its file. Sums are whole billionths of a dollar, and exact.

    `on_notice` is told once for each threshold and window, outside the lock.
    """

    def __init__(
        self,
        spec: BudgetSpec,
        clock: Clock,
        on_notice: Callable[[BudgetNotice], None] = lambda notice: None,
    ) -> None:
        self._spec = spec
        self._clock = clock
        self._on_notice = on_notice
        self._lock = threading.Lock()
        self._told: set[tuple[str, float]] = set()
        if spec.path is not None:
            spec.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(
                spec.path or ":memory:", check_same_thread=False, isolation_level=None, timeout=5.0
            )
            if spec.path is not None:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS spent (window TEXT PRIMARY KEY, nano INTEGER NOT NULL)")
            self._db.execute("CREATE TABLE IF NOT EXISTS held (id TEXT, window TEXT, nano INTEGER NOT NULL)")
        except sqlite3.Error as error:
            raise PathUnusable(f"{spec.path}: is no budget's file ({error})", hint="name another file") from error

    def actions(self) -> frozenset[Action]:
        """What the thresholds reached by now ask for."""
        now = self._clock.now()
        with self._lock:
            shares = [(window, self._used(window) / cap) for window, cap in self._windows(now)]
        return self._reached(shares)

    def reserve(self, usd: Decimal) -> str:
        """Hold `usd` of every cap until `release`. Raises `SpendExceeded` where one would be passed, and holds nothing
        then."""
        now, wanted = self._clock.now(), _nano(usd)
        reservation = uuid.uuid4().hex
        with self._transaction():
            shares = []
            for window, cap in self._windows(now):
                used = self._used(window) + wanted
                if used > cap:
                    raise SpendExceeded(
                        f"the budget of {window} is {cap / 10**9:.2f} USD, and this request may pass it",
                        hint="wait for the next window, or raise the cap in the stack file",
                    )
                shares.append((window, used / cap))
                self._db.execute("INSERT INTO held VALUES (?, ?, ?)", (reservation, window, wanted))
        self._reached(shares)
        return reservation

    def spend(self, usd: Decimal) -> None:
        """Count what something did cost."""
        now = self._clock.now()
        with self._transaction():
            for window, _ in self._windows(now):
                self._db.execute(
                    "INSERT INTO spent VALUES (?, ?) ON CONFLICT (window) DO UPDATE SET nano = nano + excluded.nano",
                    (window, _nano(usd)),
                )

    def settle(self, reservation: str, usd: Decimal) -> None:
        """Let go of what was held and count what it cost, in one step, in the windows in which it was held."""
        with self._transaction():
            windows = self._db.execute("SELECT window FROM held WHERE id = ?", (reservation,)).fetchall()
            self._db.execute("DELETE FROM held WHERE id = ?", (reservation,))
            for (window,) in windows:
                self._db.execute(
                    "INSERT INTO spent VALUES (?, ?) ON CONFLICT (window) DO UPDATE SET nano = nano + excluded.nano",
                    (window, _nano(usd)),
                )
        now = self._clock.now()
        with self._lock:
            shares = [(window, self._used(window) / cap) for window, cap in self._windows(now)]
        self._reached(shares)

    def spent_usd(self) -> dict[str, Decimal]:
        """What is spent or held, by window."""
        with self._lock:
            return {window: Decimal(self._used(window)) / _NANO for window, _ in self._windows(self._clock.now())}

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _windows(self, now: datetime) -> Iterator[tuple[str, int]]:
        day = now.date().isoformat()
        for window, cap in ((day, self._spec.daily_usd), (day[:7], self._spec.monthly_usd)):
            if cap is not None:
                yield window, max(1, _nano(cap))

    def _used(self, window: str) -> int:
        (spent,) = self._db.execute("SELECT COALESCE(SUM(nano), 0) FROM spent WHERE window = ?", (window,)).fetchone()
        (held,) = self._db.execute("SELECT COALESCE(SUM(nano), 0) FROM held WHERE window = ?", (window,)).fetchone()
        return int(spent) + int(held)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _reached(self, shares: list[tuple[str, float]]) -> frozenset[Action]:
        found: set[Action] = set()
        notices = []
        for window, share in shares:
            for threshold in self._spec.thresholds:
                if share < threshold.at:
                    continue
                found.update(threshold.actions)
                with self._lock:
                    is_new = (window, threshold.at) not in self._told
                    self._told.add((window, threshold.at))
                if is_new:
                    notices.append(BudgetNotice(window, share, threshold.at, threshold.actions))
        for notice in notices:
            self._on_notice(notice)
        return frozenset(found)


def _nano(usd: Decimal) -> int:
    """Whole billionths, rounded up: a cap is not passed by what was rounded away."""
    return int((usd * _NANO).to_integral_value(rounding="ROUND_CEILING"))
