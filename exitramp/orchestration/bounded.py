"""Calls that end in time although what they call does not.

A store's client library was seen hanging for good on a stopped server, deaf to its own timeout. So a call runs on a
thread of its own and is left behind when its time is up; the thread ends when the call does, or with the process. The
hop costs some 0.1 ms.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from exitramp.wording import counted

T = TypeVar("T")


class CallOverdue(Exception):
    """The call was not back in time, or too many before it are still not back."""


class Bounded(Protocol):
    """Runs `work` and returns or raises what it does; raises `CallOverdue` after `timeout_seconds`."""

    def __call__(self, work: Callable[[], T], *, timeout_seconds: float) -> T: ...


class InlineCalls:
    """Runs the call where it stands, without a limit: for work that keeps its own time, and for tests."""

    def __call__(self, work: Callable[[], T], *, timeout_seconds: float) -> T:
        return work()


class ThreadCalls:
    """A thread a call. Where `left_behind_limit` calls are not back, the next is refused instead of joining them."""

    def __init__(self, name: str = "call", *, left_behind_limit: int = 64) -> None:
        self._name: Final = name
        self._limit: Final = left_behind_limit
        self._lock = threading.Lock()
        self._left_behind = 0

    @property
    def left_behind(self) -> int:
        """Calls that were given up and are still running."""
        with self._lock:
            return self._left_behind

    def __call__(self, work: Callable[[], T], *, timeout_seconds: float) -> T:
        if self.left_behind >= self._limit:
            raise CallOverdue(f"{counted(self._limit, 'call before it is', 'calls before it are')} not back")
        results: list[T] = []
        errors: list[BaseException] = []
        done = threading.Event()
        is_overdue = False

        def run() -> None:
            nonlocal is_overdue
            try:
                results.append(work())
            except BaseException as error:  # noqa: BLE001  (raised again in the thread that asked)
                errors.append(error)
            with self._lock:
                done.set()
                if is_overdue:
                    self._left_behind -= 1

        # A daemon: a call that never comes back must not keep the process from ending.
        threading.Thread(target=run, name=self._name, daemon=True).start()
        if not done.wait(timeout_seconds):
            with self._lock:
                if not done.is_set():
                    is_overdue = True
                    self._left_behind += 1
        if is_overdue:
            raise CallOverdue(f"not back within {timeout_seconds:g} s")
        if errors:
            raise errors[0]
        return results[0]
