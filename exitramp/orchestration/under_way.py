"""A request under way: what it has been through, and how it ends."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime

from exitramp.clock import Clock
from exitramp.orchestration.attempts import Try
from exitramp.orchestration.breaker import Permit
from exitramp.orchestration.deadline import Deadline
from exitramp.orchestration.handling import Ear, Handling
from exitramp.orchestration.idempotency import StoredAnswer
from exitramp.orchestration.outcome import Attempt, Outcome, RouteReason
from exitramp.orchestration.stack import Question, Stack
from exitramp.records import TraceRecord


@dataclass(slots=True)
class Run:
    """What a request has been through so far."""

    question: Question
    clock: Clock
    deadline: Deadline
    began: float
    asked_at: datetime
    queue_ms: float
    handling: Handling
    stacks: tuple[Stack, ...]
    attempts: list[Attempt] = field(default_factory=list)
    traces: list[TraceRecord] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    taken: set[str] = field(default_factory=set)
    is_answered: bool = False
    has_broken_off: bool = False
    side_calls: int = 0
    trying: int = 0
    is_out_of_money: bool = False
    passed_over: list[str] = field(default_factory=list)
    beside: list[TraceRecord] = field(default_factory=list)

    def take(self, stack: str) -> bool:
        """Whether nobody asks `stack` for this request yet; from then on somebody does."""
        with self.lock:
            is_free = stack not in self.taken
            self.taken.add(stack)
            return is_free

    def may_try(self) -> bool:
        """Whether a try may be billed beside those that may have been; from then on it is under way."""
        with self.lock:
            doubtful = sum(attempt.maybe_billed for attempt in self.attempts)
            begins = self.handling.begins
            if begins is not None and not begins(doubtful + self.trying + 1):
                self.is_out_of_money = True
                return False
            self.trying += 1
            return True

    def given_up(self, stack: Stack) -> None:
        """A try ended by an exception, and nobody knows how far it came."""
        with self.lock:
            self.trying -= 1
        if self.handling.ended is not None:
            self.handling.ended(stack.name, None)

    def answered(self, stack: Stack, made: Try) -> Outcome:
        return Outcome(
            self.question.id, stack.name, made.answer,
            tuple(passage.id for passage in made.passages or ()), tuple(self.attempts), tuple(self.traces),
            self.asked_at, self.clock.monotonic() - self.began, is_mock=stack.model.identity().is_mock,
            beside=tuple(self.beside),
        )  # fmt: skip

    def known(self, stored: StoredAnswer, *, from_journal: bool = False, from_cache: str = "none") -> Outcome:
        """It was answered before, and nobody is asked."""
        return Outcome(
            self.question.id, stored.stack, stored.answer, stored.retrieved_ids, (), (), self.asked_at,
            self.clock.monotonic() - self.began, is_mock=stored.is_mock, from_journal=from_journal,
            from_cache=from_cache,
        )  # fmt: skip

    def unanswered(self, error_class: str | None, error: str | None) -> Outcome:
        return Outcome(
            self.question.id, None, None, (), tuple(self.attempts), tuple(self.traces), self.asked_at,
            self.clock.monotonic() - self.began, error_class, error, beside=tuple(self.beside),
        )  # fmt: skip

    def new_ear(self) -> Ear | None:
        handling = self.handling
        if handling.on_delta is None:
            return None
        if self.has_broken_off and handling.on_restart is not None:
            handling.on_restart()
        return Ear(handling.on_delta, at_once=handling.at_first_token)

    def reason(self, place: int, permit: Permit) -> RouteReason:
        if self.has_broken_off:
            return RouteReason.RESUMED
        if permit.is_probe:
            return RouteReason.PROBE
        if place == 0:
            return RouteReason.FIRST
        return RouteReason.FAILED_OVER if self.attempts else RouteReason.BREAKER_OPEN


def request_sha256(question: Question) -> str:
    """What makes two requests the same: everything but their id and their tags."""
    parts: list[object] = [
        question.text,
        question.use_case_id,
        question.depth_k,
        question.maximum_tokens,
        question.temperature,
        question.stream,
    ]
    if question.stop:
        parts.append(list(question.stop))  # only then: what a journal keeps of others goes on being known
    if question.request is not None:
        # However it is delivered, it is the same request; and its key is the id, which was left out on purpose.
        parts.append(asdict(replace(question.request, idempotency_key=None, stream=False)))
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()
