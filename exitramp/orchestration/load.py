"""A steady stream of requests that does not slow down when the answers do.

Arrivals follow the clock alone (an open loop): request n is due n / rate seconds after the start, and its latency
counts from then. A closed loop would send less while a vendor hangs and so hide what its users feel; see G. Tene on
coordinated omission. Nothing is lost: every request that was due ends as answered, failed or cancelled.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from exitramp.clock import Clock, SystemClock
from exitramp.errors import UsageError
from exitramp.orchestration.outcome import Outcome
from exitramp.orchestration.stack import Question


class LoadEnd(StrEnum):
    ANSWERED = "answered"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Ask(Protocol):
    """What answers: `Router.ask`, or anything shaped like it."""

    def __call__(self, question: Question, *, queue_ms: float) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """How one request ended. Times without a zone are seconds on the monotonic clock.

    due: when it was to be sent; `began` and `ended` are None where it was cancelled before.
    error: of a call that raised, the exception's type; of a cancelled one, why.
    """

    number: int
    question_id: str
    use_case_id: str
    due_at: datetime
    due: float
    began: float | None
    ended: float | None
    end: LoadEnd
    outcome: Outcome | None
    error: str | None = None

    @property
    def latency_seconds(self) -> float | None:
        """From when it was due, waiting for a free thread included."""
        return None if self.ended is None else self.ended - self.due


@dataclass(frozen=True, slots=True)
class LoadReport:
    """Every request, in the order in which they were due. `raised` is the first exception that a call raised."""

    requests: tuple[LoadRequest, ...]
    raised: BaseException | None = None

    def count(self, end: LoadEnd) -> int:
        return sum(request.end is end for request in self.requests)


@dataclass(slots=True)
class _Slot:
    number: int
    question: Question
    due_at: datetime
    due: float
    began: float | None = None
    ended: LoadRequest | None = None


class SteadyLoad:
    """Sends `questions(0)`, `questions(1)`, … at `rate_per_second`, each on a thread of its own while it lasts.

    questions: gives a question with an id that no other has; the id is the request's idempotency key.
    threads_limit: how many requests are under way at most; beyond it they wait, and the wait is in their latency.
    on_end: called once for each request as it ends, in its thread.
    """

    def __init__(
        self,
        ask: Ask,
        questions: Callable[[int], Question],
        *,
        rate_per_second: float,
        threads_limit: int = 256,
        clock: Clock | None = None,
        on_end: Callable[[LoadRequest], None] = lambda request: None,
    ) -> None:
        if rate_per_second <= 0:
            raise UsageError("a load needs a rate above 0 requests per second")
        self._ask = ask
        self._questions = questions
        self._rate_per_second = rate_per_second
        self._threads_limit = threads_limit
        self._clock = clock or SystemClock()
        self._on_end = on_end
        self._changed = threading.Condition()
        self._slots: list[_Slot] = []
        self._ids: set[str] = set()
        self._waiting: queue.SimpleQueue[_Slot | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._pending = 0
        self._stopping = threading.Event()
        self._raised: BaseException | None = None
        self._arrivals: threading.Thread | None = None

    @property
    def under_way(self) -> int:
        """Requests that were due and have not ended."""
        with self._changed:
            return self._pending

    def start(self, duration_seconds: float | None = None) -> None:
        """Begin to send, for `duration_seconds` or until `stop`."""
        if self._arrivals is not None:
            raise UsageError("this load was started already")
        self._arrivals = threading.Thread(target=self._arrive, args=(duration_seconds,), name="load", daemon=True)
        self._arrivals.start()

    def run(self, duration_seconds: float, *, drain_seconds: float = 60.0) -> LoadReport:
        """Send for `duration_seconds`, then wait for what is under way."""
        self.start(duration_seconds)
        assert self._arrivals is not None
        self._arrivals.join()
        return self.stop(drain_seconds=drain_seconds)

    def stop(self, *, drain_seconds: float = 60.0) -> LoadReport:
        """Send no more, wait at most `drain_seconds` for what is under way, cancel what is left, and report."""
        if self._arrivals is None:
            raise UsageError("this load was not started")
        self._stopping.set()
        self._arrivals.join()
        gives_up = time.monotonic() + drain_seconds
        with self._changed:
            while self._pending and (left := gives_up - time.monotonic()) > 0:
                self._changed.wait(left)
            threads = len(self._threads)
        for slot in list(self._slots):
            why = "never begun" if slot.began is None else "still under way"
            self._end(slot, LoadEnd.CANCELLED, None, why)
        for _ in range(threads):
            self._waiting.put(None)
        with self._changed:
            return LoadReport(tuple(slot.ended for slot in self._slots if slot.ended is not None), self._raised)

    def _arrive(self, duration_seconds: float | None) -> None:
        started_at, started = self._clock.now(), self._clock.monotonic()
        number = 0
        while not self._stopping.is_set():
            offset = number / self._rate_per_second
            if duration_seconds is not None and offset >= duration_seconds:
                return
            self._clock.sleep(started + offset - self._clock.monotonic())
            if self._stopping.is_set():
                return
            try:
                question = self._questions(number)
                if question.id in self._ids:
                    raise UsageError(f"two requests of a load have the id {question.id!r}")
            except Exception as error:  # noqa: BLE001  (kept, and shown in the report)
                self._raise_later(error)
                return
            self._ids.add(question.id)
            slot = _Slot(number, question, started_at + timedelta(seconds=offset), started + offset)
            with self._changed:
                self._slots.append(slot)
                self._pending += 1
                needs_thread = self._idle < self._waiting.qsize() + 1 and len(self._threads) < self._threads_limit
                if needs_thread:
                    thread = threading.Thread(target=self._work, name=f"load-{len(self._threads)}", daemon=True)
                    self._threads.append(thread)
            self._waiting.put(slot)
            if needs_thread:
                thread.start()
            number += 1

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
            slot = self._waiting.get()
            with self._changed:
                self._idle -= 1
                if slot is None:
                    return
                if slot.ended is not None:
                    continue  # cancelled while it waited
                began = slot.began = self._clock.monotonic()
            try:
                outcome = self._ask(slot.question, queue_ms=max(0.0, began - slot.due) * 1000.0)
            except BaseException as error:  # noqa: BLE001  (counted as failed, kept, and shown in the report)
                self._raise_later(error)
                self._end(slot, LoadEnd.FAILED, None, type(error).__name__)
            else:
                self._end(slot, LoadEnd.ANSWERED if outcome.is_answered else LoadEnd.FAILED, outcome, None)

    def _end(self, slot: _Slot, end: LoadEnd, outcome: Outcome | None, error: str | None) -> None:
        with self._changed:
            if slot.ended is not None:
                return
            ended = None if end is LoadEnd.CANCELLED else self._clock.monotonic()
            slot.ended = LoadRequest(
                slot.number, slot.question.id, slot.question.use_case_id, slot.due_at, slot.due, slot.began, ended,
                end, outcome, error,
            )  # fmt: skip
            self._pending -= 1
            self._changed.notify_all()
        self._on_end(slot.ended)

    def _raise_later(self, error: BaseException) -> None:
        with self._changed:
            if self._raised is None:
                self._raised = error
