"""A deadline that holds even when a client library never comes back.

A client was seen hanging for good on a server that was stopped (SIGSTOP). Nothing in Python can end a call inside a
library, so the call runs on a thread of its own, and on expiry it is left behind there: the thread is a daemon and
ends with the process.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from exitramp.errors import StoreTimeout

T = TypeVar("T")

_SLOW_BY_NATURE = {"finish": 60.0, "flush": 10.0}
"""Building an index takes as long as it takes: these operations get that many times the usual deadline."""


class Deadline:
    """A policy that gives each call `seconds`. Calls run one after another on one thread, as embedded stores want it.

    Raises `StoreTimeout`. What the abandoned call still does is unknown; by the ports' contracts repeating it is safe.
    """

    def __init__(self, seconds: float, *, what: str = "the store") -> None:
        self._seconds = seconds
        self._what = what
        self._worker: _Worker | None = None
        self._lock = threading.Lock()

    def run(self, operation: str, call: Callable[[], T]) -> T:
        seconds = self._seconds * _SLOW_BY_NATURE.get(operation, 1.0)
        with self._lock:
            worker = self._worker or _Worker()
            self._worker = None  # a worker that is still busy at the deadline is never used again
        outcome = worker.submit(call)
        if not outcome.done.wait(seconds):
            worker.end()  # should the call come back after all
            raise StoreTimeout(
                f"{self._what} did not answer '{operation}' within {seconds:g} s",
                hint="is it stopped or overloaded? --timeout SECONDS gives it longer",
            )
        self._keep(worker)
        if outcome.error is not None:
            raise outcome.error
        result: T = outcome.value
        return result

    def _keep(self, worker: _Worker) -> None:
        with self._lock:
            other, self._worker = self._worker, worker
        if other is not None:  # that of a call at the same time
            other.end()

    def let_go(self) -> None:
        """End the waiting thread; a later call begins another."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.end()


class _Outcome:
    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call
        self.done = threading.Event()
        self.value: Any = None
        self.error: BaseException | None = None


class _Worker:
    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[_Outcome | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="exitramp-store-call", daemon=True).start()

    def submit(self, call: Callable[[], Any]) -> _Outcome:
        outcome = _Outcome(call)
        self._inbox.put(outcome)
        return outcome

    def end(self) -> None:
        self._inbox.put(None)

    def _work(self) -> None:
        while True:
            outcome = self._inbox.get()
            if outcome is None:
                return
            try:
                outcome.value = outcome.call()
            except BaseException as error:  # noqa: BLE001  (handed to the caller, whatever it is)
                outcome.error = error
            outcome.done.set()
            del outcome  # or the last page would be kept alive until the next call
