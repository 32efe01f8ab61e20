"""Asking a question of the first stack that takes it, and of the next when that fails.

A stack is switched as a whole: a failure of its store and a failure of its model count against one breaker, so an
answer is never put together from one side's passages and the other side's model. What is asked first is retried with
full jitter and Retry-After, within one deadline; an answer counts only when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Final

from exitramp.backoff import Backoff
from exitramp.clock import Clock, SystemClock
from exitramp.errors import UsageError
from exitramp.orchestration.attempts import ENDS_THE_REQUEST, TIMEOUTS, Failure, StackCalls, Try
from exitramp.orchestration.bounded import Bounded, ThreadCalls
from exitramp.orchestration.breaker import BreakerChange, BreakerSettings, BreakerState, CircuitBreaker, Permit
from exitramp.orchestration.deadline import Deadline
from exitramp.orchestration.events import EventKind, Listener, RouterEvent
from exitramp.orchestration.handling import PLAIN, Ear, Handling
from exitramp.orchestration.hedging import hedged
from exitramp.orchestration.idempotency import IdempotencyJournal, StoredAnswer
from exitramp.orchestration.outcome import Attempt, Outcome, RouteReason
from exitramp.orchestration.stack import Question, Stack
from exitramp.orchestration.trace import Route, TraceLabels, TraceSink, trace_of
from exitramp.records import TraceRecord

_KINDS: Final = {
    BreakerState.OPEN: EventKind.BREAKER_OPENED,
    BreakerState.HALF_OPEN: EventKind.PROBE,
    BreakerState.CLOSED: EventKind.BREAKER_CLOSED,
}


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient the router is.

    deadline_seconds: for a whole request; a stack with others behind it gets at most its share of what is left.
    attempt_seconds, retrieve_seconds: for one call of a model and one retrieval.
    backoff: tries on one stack and the waits between them. While another stack is there to be asked, a Retry-After
        of more than `retry_after_cap_seconds` is not waited for; on the last stack all that remains may be waited.
    retry_timeouts: whether a call that timed out is tried again on the same stack before the next is asked.
    """

    deadline_seconds: float = 30.0
    attempt_seconds: float = 10.0
    retrieve_seconds: float = 5.0
    backoff: Backoff = Backoff(tries=2, base_seconds=0.1, cap_seconds=1.0, retry_after_cap_seconds=1.0)
    retry_timeouts: bool = False
    breaker: BreakerSettings = BreakerSettings()


@dataclass(slots=True)
class _Run:
    """What a request has been through so far."""

    question: Question
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

    def take(self, stack: str) -> bool:
        """Whether nobody asks `stack` for this request yet; from then on somebody does."""
        with self.lock:
            is_free = stack not in self.taken
            self.taken.add(stack)
            return is_free


class Router:
    """Thread-safe: `ask` is called from as many threads as there are requests under way.

    bounded: makes what a stack's calls run in; the default gives each stack threads of its own.
    breakers: those of a router before this one, by stack, which go on with what they know.
    """

    def __init__(
        self,
        stacks: Sequence[Stack],
        *,
        policy: Policy = Policy(),
        clock: Clock | None = None,
        seed: int = 0,
        listener: Listener = lambda event: None,
        journal: IdempotencyJournal | None = None,
        traces: TraceSink | None = None,
        labels: TraceLabels = TraceLabels(),  # noqa: B008  (a frozen value)
        bounded: Callable[[str], Bounded] = ThreadCalls,
        breakers: Mapping[str, CircuitBreaker] | None = None,
    ) -> None:
        if not stacks or len({stack.name for stack in stacks}) != len(stacks):
            raise UsageError("a router needs at least one stack, and each a name of its own")
        self._policy = policy
        self._clock = clock or SystemClock()
        self._rng = random.Random(seed)
        self._listener = listener
        self._journal = journal
        self._traces = traces
        self._labels = labels
        self._stacks = tuple(stacks)
        self._calls = {stack.name: StackCalls(stack, self._clock, bounded(stack.name)) for stack in stacks}
        self._breakers = {
            stack.name: CircuitBreaker(stack.name, policy.breaker, self._clock, self._breaker_changed)
            for stack in stacks
        }
        for name, breaker in (breakers or {}).items():
            breaker.tell(self._breaker_changed)
            self._breakers[name] = breaker
        self._lock = threading.Lock()
        self._failing: set[str] = set()
        self._answered_elsewhere: set[str] = set()

    def find(self, stack: str) -> Stack | None:
        return next((each for each in self._stacks if each.name == stack), None)

    def breaker(self, stack: str) -> CircuitBreaker:
        return self._breakers[stack]

    def state(self, stack: str) -> BreakerState:
        """Whether `stack` is asked: `closed` is yes."""
        return self._breakers[stack].state

    def hold(self) -> None:
        """Let open breakers stay open: nobody goes back until `release`, so that a person decides it."""
        for name, breaker in self._breakers.items():
            breaker.hold()
            self._emit(EventKind.HELD, name)

    def release(self) -> None:
        """End `hold`: the next request is a probe on each stack that is not asked."""
        for name, breaker in self._breakers.items():
            breaker.release()
            self._emit(EventKind.RELEASED, name)

    def ask(self, question: Question, *, queue_ms: float = 0.0, handling: Handling = PLAIN) -> Outcome:
        """What became of `question`. A failure of every stack is an outcome, not an exception.

        `queue_ms` is how long it waited before it got here, for its trace. Raises what a stack's `render` raises, and
        `UsageError` when the journal knows its id under another question.
        """
        run = _Run(
            question,
            Deadline(self._policy.deadline_seconds, self._clock),
            self._clock.monotonic(),
            self._clock.now(),
            queue_ms,
            handling,
            self._in_order(handling.order),
        )
        if self._journal is None or not handling.is_keyed:
            return self._route(run)
        try:
            stored = self._journal.claim(
                question.id, _request_sha256(question), timeout_seconds=run.deadline.remaining_seconds
            )
        except TimeoutError:
            return self._unanswered(run, "in_flight", "the same request is under way and did not end in time")
        if stored is not None:
            return Outcome(
                question.id, stored.stack, stored.answer, stored.retrieved_ids, (), (), run.asked_at,
                self._clock.monotonic() - run.began, is_mock=stored.is_mock, from_journal=True,
            )  # fmt: skip
        try:
            outcome = self._route(run)
        except BaseException as error:
            self._journal.failed(question.id, error_class=f"raised {type(error).__name__}")
            raise
        if outcome.answer is not None and outcome.stack is not None:
            stored = StoredAnswer(outcome.answer, outcome.stack, outcome.retrieved_ids, outcome.is_mock)
            self._journal.answered(question.id, stored)
        else:
            self._journal.failed(question.id, error_class=outcome.error_class or "unknown")
        return outcome

    def _in_order(self, names: tuple[str, ...] | None) -> tuple[Stack, ...]:
        if names is None:
            return self._stacks
        by_name = {stack.name: stack for stack in self._stacks}
        return tuple(by_name[name] for name in names)

    def _route(self, run: _Run) -> Outcome:
        known = run.handling.beforehand() if run.handling.beforehand is not None else None
        if known is not None:
            stored, kind = known
            return Outcome(
                run.question.id, stored.stack, stored.answer, stored.retrieved_ids, (), (), run.asked_at,
                self._clock.monotonic() - run.began, is_mock=stored.is_mock, from_cache=kind,
            )  # fmt: skip
        after = run.handling.hedge_after_seconds
        is_shown_at_once = run.handling.on_delta is not None and run.handling.at_first_token
        if after is None or len(run.stacks) < 2 or is_shown_at_once:
            return self._walk(run, 0)
        return hedged(lambda: self._walk(run, 0), lambda: self._walk(run, 1), after_seconds=after)

    def _walk(self, run: _Run, start: int) -> Outcome:
        """From the stack at `start` on, until one answers."""
        for place, stack in list(enumerate(run.stacks))[start:]:
            if run.deadline.is_over or run.is_answered:
                break
            if not run.take(stack.name):
                continue  # a hedge asks it already
            permit = self._breakers[stack.name].admit()
            if permit is None:
                continue
            made = self._try_stack(run, place, permit, is_hedge=place == start > 0)
            if made.answer is not None:
                return Outcome(
                    run.question.id, stack.name, made.answer,
                    tuple(passage.id for passage in made.passages or ()), tuple(run.attempts), tuple(run.traces),
                    run.asked_at, self._clock.monotonic() - run.began, is_mock=stack.model.identity().is_mock,
                )  # fmt: skip
            if made.failure is not None and made.failure.error_class in ENDS_THE_REQUEST:
                break
            if run.has_broken_off and run.handling.on_restart is None:
                break  # what was shown cannot be taken back
        if run.attempts:
            return self._unanswered(run, run.attempts[-1].error_class, run.attempts[-1].error)
        if run.deadline.is_over:
            return self._unanswered(run, "deadline", "the deadline passed before any stack was asked")
        return self._unanswered(run, "no_stack", "no stack takes requests: every breaker is open")

    def _unanswered(self, run: _Run, error_class: str | None, error: str | None) -> Outcome:
        return Outcome(
            run.question.id, None, None, (), tuple(run.attempts), tuple(run.traces), run.asked_at,
            self._clock.monotonic() - run.began, error_class, error,
        )  # fmt: skip

    def _try_stack(self, run: _Run, place: int, permit: Permit, *, is_hedge: bool = False) -> Try:
        """Tries on one stack until one answers or it is no use to go on; what the breaker learns is told at once."""
        stack = run.stacks[place]
        breaker = self._breakers[stack.name]
        parties = len(run.stacks) - place
        passages = None
        waited = 0.0
        retries = 0
        while True:
            ear = self._ear(run)
            question = run.question
            if not question.depth_k and stack.depth_k is not None:
                question = replace(question, depth_k=stack.depth_k)
            try:
                reason = RouteReason.HEDGED if is_hedge else self._reason(run, place, permit)
                made = self._calls[stack.name].attempt(
                    question,
                    passages,
                    retrieve_seconds=lambda: run.deadline.share_seconds(self._policy.retrieve_seconds, parties=parties),
                    answer_seconds=lambda: run.deadline.share_seconds(self._policy.attempt_seconds, parties=parties),
                    on_delta=ear,
                )
                is_late = self._record(run, question, stack, place, made, reason, waited, retries)
            except BaseException:
                breaker.unused(permit)
                raise
            finally:
                if ear is not None:
                    ear.close()
            failure = made.failure
            if failure is None:
                self._succeeded(run, place, permit)
                if ear is not None and not is_late:
                    ear.show()
                return made
            self._failed(stack, permit, failure)
            if ear is not None and ear.has_shown:
                run.has_broken_off = True
                return made
            wait = self._wait_seconds(run, failure, permit, breaker, parties, retries + 1)
            if wait is None:
                return made
            self._clock.sleep(wait)
            waited, retries, passages = wait, retries + 1, made.passages

    def _ear(self, run: _Run) -> Ear | None:
        handling = run.handling
        if handling.on_delta is None:
            return None
        if run.has_broken_off and handling.on_restart is not None:
            handling.on_restart()
        return Ear(handling.on_delta, at_once=handling.at_first_token)

    def _reason(self, run: _Run, place: int, permit: Permit) -> RouteReason:
        if run.has_broken_off:
            return RouteReason.RESUMED
        if permit.is_probe:
            return RouteReason.PROBE
        if place == 0:
            return RouteReason.FIRST
        return RouteReason.FAILED_OVER if run.attempts else RouteReason.BREAKER_OPEN

    def _wait_seconds(
        self, run: _Run, failure: Failure, permit: Permit, breaker: CircuitBreaker, parties: int, retry: int
    ) -> float | None:
        """How long to wait before trying the same stack again; None to leave it."""
        if not failure.retryable or permit.is_probe or breaker.state is not BreakerState.CLOSED or run.is_answered:
            return None
        if parties > 1 and failure.error_class in TIMEOUTS and not self._policy.retry_timeouts:
            return None  # waiting as long again for the same silence helps nobody while another stack is there
        remaining = run.deadline.remaining_seconds
        backoff = self._policy.backoff
        if parties == 1:
            backoff = replace(backoff, retry_after_cap_seconds=remaining)
        wait = backoff.wait_seconds(retry, self._rng, retry_after_seconds=failure.retry_after_seconds)
        return None if wait is None or wait >= remaining / parties else wait

    def _record(
        self,
        run: _Run,
        question: Question,
        stack: Stack,
        place: int,
        made: Try,
        reason: RouteReason,
        waited: float,
        retries: int,
    ) -> bool:
        """Write down what a try did; returns whether it answered after another stack had."""
        failure = made.failure
        identity = stack.model.identity()
        with run.lock:  # a hedge may end at the same moment
            number = len(run.attempts) + 1
            is_late = made.answer is not None and run.is_answered
            run.is_answered = run.is_answered or made.answer is not None
            attempt = Attempt(
                number,
                stack.name,
                reason,
                made.step,
                made.began - run.began,
                made.duration_seconds,
                made.retrieve_seconds,
                made.answer_seconds,
                waited,
                failure.error_class if failure else None,
                failure.message if failure else None,
                failure.http_status if failure else None,
                failure.retry_after_seconds if failure else None,
                failure.maybe_billed if failure else is_late,
            )
            fallback_from = run.stacks[0].name if place else None
            route = Route(
                number, retries, reason, fallback_from, stack.store, run.deadline.seconds, run.queue_ms, is_late
            )
            record = trace_of(
                question, made, route, identity, self._labels, ended=self._clock.now(), handling=run.handling
            )
            if stack.price is not None:
                record = replace(record, unit_cost_usd=stack.price(record))
            run.attempts.append(attempt)
            run.traces.append(record)
        if self._traces is not None:
            self._traces.append(record)
        if self._journal is not None and run.handling.is_keyed and attempt.maybe_billed:
            error_class = failure.error_class if failure is not None else "late"
            self._journal.doubt(run.question.id, vendor=identity.provider, error_class=error_class)
        return is_late

    def _failed(self, stack: Stack, permit: Permit, failure: Failure) -> None:
        breaker = self._breakers[stack.name]
        if failure.is_of_request:
            breaker.unused(permit)
            return
        # Only what still counts is an event: a call from before the last switch may time out long after it.
        if breaker.counts(permit):
            with self._lock:
                is_first = stack.name not in self._failing
                self._failing.add(stack.name)
            if is_first:
                self._emit(EventKind.FIRST_FAILURE, stack.name, error_class=failure.error_class)
        breaker.failed(permit, reason=failure.error_class, retry_after_seconds=failure.retry_after_seconds)

    def _succeeded(self, run: _Run, place: int, permit: Permit) -> None:
        name = run.stacks[place].name
        breaker = self._breakers[name]
        with self._lock:
            if not permit.is_probe and breaker.counts(permit):
                self._failing.discard(name)
                self._answered_elsewhere.discard(name)
            earlier = [stack.name for stack in run.stacks[:place] if stack.name in self._failing]
            new = [stack for stack in earlier if stack not in self._answered_elsewhere]
            self._answered_elsewhere.update(new)
        for instead_of in new:
            self._emit(EventKind.FIRST_GOOD_ANSWER, name, instead_of=instead_of, request_id=run.question.id)
        breaker.succeeded(permit)

    def _breaker_changed(self, change: BreakerChange) -> None:
        if change.after is BreakerState.CLOSED:
            with self._lock:
                self._failing.discard(change.name)
                self._answered_elsewhere.discard(change.name)
        self._emit(_KINDS[change.after], change.name, before=change.before.value, reason=change.reason)

    def _emit(self, kind: EventKind, stack: str, **detail: str) -> None:
        self._listener(RouterEvent(kind, stack, self._clock.now(), self._clock.monotonic(), detail))


def _request_sha256(question: Question) -> str:
    """What makes two requests the same: everything but their id and their tags."""
    parts: list[object] = [
        question.text,
        question.use_case_id,
        question.depth_k,
        question.maximum_tokens,
        question.temperature,
        question.stream,
    ]
    if question.request is not None:
        # However it is delivered, it is the same request; and its key is the id, which was left out on purpose.
        parts.append(asdict(replace(question.request, idempotency_key=None, stream=False)))
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()
