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
from pathlib import Path
from typing import Final

from exitramp.clock import Clock
from exitramp.errors import PathUnusable, SpendExceeded
from exitramp.orchestration.stack_file.values import Action, BudgetSpec

_NANO: Final = Decimal(10**9)
_DAY_LENGTH: Final = len("2026-03-01")


@dataclass(frozen=True, slots=True)
class BudgetNotice:
    """A threshold was reached: of the cap of `window`, `share` is spent or held.

    window: 2026-03-01 or 2026-03, and behind it the use case whose own cap it is.
    """

    window: str
    share: float
    at: float
    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class WindowStanding:
    """Of a cap that is in force now, what is spent and what is held. `period` is day or month, in UTC; `use_case` None:
    it is the cap of everything."""

    period: str
    use_case: str | None
    cap_usd: Decimal
    spent_usd: Decimal
    held_usd: Decimal


class Ledger:
    """What was spent and what is held, by window, in SQLite. Thread-safe; several processes may share its file.

    Every window is written down, whether or not it has a cap now, so that a cap that is set later knows what was spent.
    """

    def __init__(self, path: Path | None) -> None:
        self.lock = threading.RLock()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None, timeout=5.0)
            if path is not None:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS spent (window TEXT PRIMARY KEY, nano INTEGER NOT NULL)")
            self._db.execute("CREATE TABLE IF NOT EXISTS held (id TEXT, window TEXT, nano INTEGER NOT NULL)")
        except sqlite3.Error as error:
            raise PathUnusable(f"{path}: is no budget's file ({error})", hint="name another file") from error

    def used(self, window: str) -> int:
        return sum(self.sums(window))

    def sums(self, window: str) -> tuple[int, int]:
        """What is spent, and what is held."""
        with self.lock:
            (spent,) = self._db.execute(
                "SELECT COALESCE(SUM(nano), 0) FROM spent WHERE window = ?", (window,)
            ).fetchone()
            (held,) = self._db.execute("SELECT COALESCE(SUM(nano), 0) FROM held WHERE window = ?", (window,)).fetchone()
        return int(spent), int(held)

    def hold(self, reservation: str, window: str, nano: int) -> None:
        self._db.execute("INSERT INTO held VALUES (?, ?, ?)", (reservation, window, nano))

    def let_go(self, reservation: str) -> list[str]:
        """The windows in which it was held."""
        windows = self._db.execute("SELECT window FROM held WHERE id = ?", (reservation,)).fetchall()
        self._db.execute("DELETE FROM held WHERE id = ?", (reservation,))
        return [window for (window,) in windows]

    def spend(self, window: str, nano: int) -> None:
        self._db.execute(
            "INSERT INTO spent VALUES (?, ?) ON CONFLICT (window) DO UPDATE SET nano = nano + excluded.nano",
            (window, nano),
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self.lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def close(self) -> None:
        with self.lock:
            self._db.close()


class Budget:
    """Caps on a ledger. Thread-safe. Sums are whole billionths of a dollar, and exact.

    `on_notice` is told once for each threshold and window, outside the lock. Without a `ledger` it has one of its own.
    """

    def __init__(
        self,
        spec: BudgetSpec,
        clock: Clock,
        on_notice: Callable[[BudgetNotice], None] = lambda notice: None,
        ledger: Ledger | None = None,
    ) -> None:
        self._spec = spec
        self._clock = clock
        self._on_notice = on_notice
        self._lock = threading.Lock()
        self._told: set[tuple[str, float]] = set()
        self._owns_ledger = ledger is None
        self._ledger = ledger or Ledger(spec.path)

    def actions(self, use_case: str | None = None) -> frozenset[Action]:
        """What the thresholds reached by now ask for, of a request of that use case."""
        return self._reached(self._shares(use_case))

    def reserve(self, usd: Decimal, use_case: str | None = None) -> str:
        """Hold `usd` of every cap until it is settled. Raises `SpendExceeded` where one would be passed, and holds
        nothing then."""
        now, wanted = self._clock.now(), _nano(usd)
        caps = self._caps(now, use_case)
        reservation = uuid.uuid4().hex
        with self._ledger.transaction():
            shares = []
            for window in _windows(now, use_case):
                if window in caps:
                    spent, held = self._ledger.sums(window)
                    if spent + held + wanted > caps[window]:
                        raise _would_pass(window, caps[window], spent, held, wanted)
                    shares.append((window, (spent + held + wanted) / caps[window]))
                self._ledger.hold(reservation, window, wanted)
        self._reached(shares)
        return reservation

    def spend(self, usd: Decimal, use_case: str | None = None) -> None:
        """Count what something did cost."""
        now = self._clock.now()
        with self._ledger.transaction():
            for window in _windows(now, use_case):
                self._ledger.spend(window, _nano(usd))
        self._reached(self._shares(use_case))

    def settle(self, reservation: str, usd: Decimal, use_case: str | None = None) -> None:
        """Let go of what was held and count what it cost, in one step, in the windows in which it was held."""
        with self._ledger.transaction():
            for window in self._ledger.let_go(reservation):
                self._ledger.spend(window, _nano(usd))
        self._reached(self._shares(use_case))

    def spent_usd(self) -> dict[str, Decimal]:
        """What is spent or held, by window that has a cap."""
        return {window: Decimal(self._ledger.used(window)) / _NANO for window in self._all_caps()}

    def standing(self) -> tuple[WindowStanding, ...]:
        """How it stands with each cap now."""
        found = []
        for window, cap in self._all_caps().items():
            day, _, use_case = window.partition(" ")
            spent, held = (Decimal(nano) / _NANO for nano in self._ledger.sums(window))
            period = "day" if len(day) == _DAY_LENGTH else "month"
            found.append(WindowStanding(period, use_case or None, Decimal(cap) / _NANO, spent, held))
        return tuple(found)

    def _all_caps(self) -> dict[str, int]:
        now = self._clock.now()
        caps = dict(self._caps(now, None))
        for cap in self._spec.use_cases:
            caps |= self._caps(now, cap.use_case)
        return caps

    def close(self) -> None:
        if self._owns_ledger:
            self._ledger.close()

    def _shares(self, use_case: str | None) -> list[tuple[str, float]]:
        caps = self._caps(self._clock.now(), use_case)
        return [(window, self._ledger.used(window) / cap) for window, cap in caps.items()]

    def _caps(self, now: datetime, use_case: str | None) -> dict[str, int]:
        """Of all windows that a request of `use_case` counts in, those that have a cap."""
        spec = self._spec
        amounts = [spec.daily_usd, spec.monthly_usd]
        own = next((each for each in spec.use_cases if each.use_case == use_case), None)
        if own is not None:
            amounts += [own.daily_usd, own.monthly_usd]
        found = zip(_windows(now, use_case), amounts, strict=False)
        return {window: max(1, _nano(cap)) for window, cap in found if cap is not None}

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


def _windows(now: datetime, use_case: str | None) -> list[str]:
    """Day and month of everything, then of the use case."""
    day = now.date().isoformat()
    return [day, day[:7]] + ([] if use_case is None else [f"{day} {use_case}", f"{day[:7]} {use_case}"])


def _nano(usd: Decimal) -> int:
    """Whole billionths, rounded up: a cap is not passed by what was rounded away."""
    return int((usd * _NANO).to_integral_value(rounding="ROUND_CEILING"))


def _would_pass(window: str, cap: int, spent: int, held: int, wanted: int) -> SpendExceeded:
    """With every amount as it is, and what of it stands in the way."""
    if wanted > cap:
        hint = "ask for fewer tokens (max_tokens), of a cheaper model, or raise the cap in the stack file"
    elif spent + wanted > cap:
        period = "day" if len(window.partition(" ")[0]) == _DAY_LENGTH else "month"
        hint = f"wait for the next {period} in UTC, ask for fewer tokens, or raise the cap in the stack file"
    else:
        hint = "ask again when the requests under way have ended, or raise the cap in the stack file"
    return SpendExceeded(
        f"the budget of {window} is {_usd(cap)} USD: {_usd(spent)} are spent, {_usd(held)} are held by what has "
        f"not ended, and this one could cost {_usd(wanted)} at most",
        hint=hint,
    )


def _usd(nano: int) -> str:
    """With all its digits, and cents at least: 20.00, 0.0002."""
    whole, _, rest = format(Decimal(nano) / _NANO, "f").partition(".")
    return f"{whole}.{rest.rstrip('0').ljust(2, '0')}"
