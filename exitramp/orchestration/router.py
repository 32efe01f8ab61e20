"""Asking a question of the first stack that takes it, and of the next when that fails.

A stack is switched as a whole: a failure of its store and a failure of its model count against one breaker, so an
answer is never put together from one side's passages and the other side's model. What is asked first is retried with
full jitter and Retry-After, within one deadline; an answer counts only when it is complete.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from exitramp.clock import Clock, SystemClock
from exitramp.errors import UsageError
from exitramp.orchestration.attempts import ENDS_THE_REQUEST, TIMEOUTS, Failure, StackCalls, Try, cut_off
from exitramp.orchestration.bounded import Bounded, ThreadCalls
from exitramp.orchestration.breaker import BreakerState, CircuitBreaker, Permit
from exitramp.orchestration.cutting_off import CUT_OFF, SAID, CallsUnderWay
from exitramp.orchestration.deadline import Deadline
from exitramp.orchestration.events import EventKind, Listener
from exitramp.orchestration.handling import PLAIN, Handling
from exitramp.orchestration.hedging import hedged
from exitramp.orchestration.idempotency import IdempotencyJournal
from exitramp.orchestration.keyed import once
from exitramp.orchestration.outcome import CANNOT_BE_ASKED, Attempt, Outcome, RouteReason, deciding
from exitramp.orchestration.policy import Policy
from exitramp.orchestration.side_calls import SideCall
from exitramp.orchestration.stack import Question, Stack
from exitramp.orchestration.switching import Switching
from exitramp.orchestration.trace import Route, TraceLabels, TraceSink, side_trace_of, trace_of
from exitramp.orchestration.under_way import Run


class Router:
    """Thread-safe: `ask` is called from as many threads as there are requests under way.

    bounded: makes what a stack's calls run in; the default gives each stack threads of its own.
    breakers: those of a router before this one, by stack, which go on with what they know.
    under_way: writes down what has not ended when it is told to.
    """

    def __init__(
        self,
        stacks: Sequence[Stack],
        *,
        policy: Policy = Policy(),  # noqa: B008  (a frozen value)
        clock: Clock | None = None,
        seed: int = 0,
        listener: Listener = lambda event: None,
        journal: IdempotencyJournal | None = None,
        traces: TraceSink | None = None,
        labels: TraceLabels = TraceLabels(),  # noqa: B008  (a frozen value)
        bounded: Callable[[str], Bounded] = ThreadCalls,
        breakers: Mapping[str, CircuitBreaker] | None = None,
        under_way: CallsUnderWay | None = None,
    ) -> None:
        if not stacks or len({stack.name for stack in stacks}) != len(stacks):
            raise UsageError("a router needs at least one stack, and each a name of its own")
        self._policy = policy
        self._clock = clock or SystemClock()
        self._rng = random.Random(seed)
        self._switching = Switching(self._clock, listener)
        self._journal = journal
        self._traces = traces
        self._labels = labels
        self._under_way = under_way or CallsUnderWay()
        self._stacks = tuple(stacks)
        self._calls = {stack.name: StackCalls(stack, self._clock, bounded(stack.name)) for stack in stacks}
        self._breakers = {
            stack.name: CircuitBreaker(stack.name, policy.breaker, self._clock, self._switching.breaker_changed)
            for stack in stacks
        }
        for name, breaker in (breakers or {}).items():
            breaker.tell(self._switching.breaker_changed)
            self._breakers[name] = breaker

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
            self._switching.emit(EventKind.HELD, name)

    def release(self) -> None:
        """End `hold`: the next request is a probe on each stack that is not asked."""
        for name, breaker in self._breakers.items():
            breaker.release()
            self._switching.emit(EventKind.RELEASED, name)

    def ask(self, question: Question, *, queue_ms: float = 0.0, handling: Handling = PLAIN) -> Outcome:
        """What became of `question`. A failure of every stack is an outcome, not an exception.

        `queue_ms` is how long it waited before it got here, for its trace. Raises what a stack's `render` raises, and
        `UsageError` when the journal knows its id under another question.
        """
        run = Run(
            question,
            self._clock,
            Deadline(self._policy.deadline_seconds, self._clock),
            self._clock.monotonic(),
            self._clock.now(),
            queue_ms,
            handling,
            self._in_order(handling.order),
        )
        if self._journal is None or not handling.is_keyed:
            return self._route(run)
        return once(run, self._journal, self._under_way, self._route)

    def _in_order(self, names: tuple[str, ...] | None) -> tuple[Stack, ...]:
        if names is None:
            return self._stacks
        by_name = {stack.name: stack for stack in self._stacks}
        return tuple(by_name[name] for name in names)

    def _route(self, run: Run) -> Outcome:
        if self._under_way.is_over:
            return run.unanswered(CUT_OFF, SAID)
        known = run.handling.beforehand() if run.handling.beforehand is not None else None
        if known is not None:
            stored, kind = known
            return run.known(stored, from_cache=kind)
        after = run.handling.hedge_after_seconds
        is_shown_at_once = run.handling.on_delta is not None and run.handling.at_first_token
        if after is None or len(run.stacks) < 2 or is_shown_at_once:
            return self._walk(run, 0)
        return hedged(
            lambda: self._walk(run, 0),
            lambda: self._walk(run, 1),
            after_seconds=after,
            under_way=run.handling.under_way,
        )

    def _walk(self, run: Run, start: int) -> Outcome:
        """From the stack at `start` on, until one answers."""
        for place, stack in list(enumerate(run.stacks))[start:]:
            if run.deadline.is_over or run.is_answered:
                break
            if not run.take(stack.name):
                continue  # a hedge asks it already
            if self._under_way.is_over:
                return run.unanswered(CUT_OFF, SAID)
            permit = self._breakers[stack.name].admit()
            if permit is None:
                run.passed_over.append(stack.name)
                continue
            if not run.may_try():
                self._breakers[stack.name].unused(permit)
                break
            made = self._try_stack(run, place, permit, is_hedge=place == start > 0)
            if made.answer is not None:
                return run.answered(stack, made)
            if made.failure is not None and made.failure.error_class in ENDS_THE_REQUEST:
                break
            if run.has_broken_off and run.handling.on_restart is None:
                break  # what was shown cannot be taken back
        if run.attempts:
            last, decided = run.attempts[-1], deciding(run.attempts)
            refused = f"; '{last.stack}' cannot stand in for this request: {last.error}"
            if run.passed_over and decided.error_class in CANNOT_BE_ASKED:
                closed = ", ".join(run.passed_over)
                return run.unanswered("no_stack", f"no stack takes it now: the breaker of {closed} is open{refused}")
            told = "" if last is decided else refused
            told += "; nothing is left of the budget to try again" if run.is_out_of_money else ""
            return run.unanswered(decided.error_class, f"{decided.error}{told}")
        if run.deadline.is_over:
            return run.unanswered("deadline", "the deadline passed before any stack was asked")
        return run.unanswered("no_stack", "no stack takes requests: every breaker is open")

    def _try_stack(self, run: Run, place: int, permit: Permit, *, is_hedge: bool = False) -> Try:
        """Tries on one stack until one answers or it is no use to go on; what the breaker learns is told at once."""
        stack, policy = run.stacks[place], self._policy
        breaker = self._breakers[stack.name]
        parties = len(run.stacks) - place
        passages = None
        waited = 0.0
        retries = 0
        while True:
            ear = run.new_ear()
            question = run.question
            if not question.depth_k and stack.depth_k is not None:
                question = replace(question, depth_k=stack.depth_k)
            try:
                reason = RouteReason.HEDGED if is_hedge else run.reason(place, permit)
                made = Try(self._clock.monotonic(), passages=passages)
                write = partial(self._record, run, question, stack, place, reason, waited, retries)
                begun = self._under_way.begins(partial(self._cut_off_try, write, made))
                try:
                    if begun.may_go_on:
                        self._calls[stack.name].attempt(
                            question,
                            made,
                            retrieve_seconds=partial(
                                run.deadline.share_seconds, policy.retrieve_seconds, parties=parties
                            ),
                            answer_seconds=partial(run.deadline.share_seconds, policy.attempt_seconds, parties=parties),
                            on_delta=ear,
                            hear=partial(self._heard, run, stack),
                            vectors=run.handling.vectors,
                            under_way=self._under_way,
                            may_send=partial(run.handling.may_send, stack.name),
                        )
                    else:
                        made = cut_off(made, made.began)
                except BaseException:
                    with begun.ends() as is_ours:
                        if is_ours:
                            run.given_up(stack)
                    raise
                with begun.ends() as is_ours:
                    is_late = is_ours and write(made)
                if not is_ours:
                    breaker.unused(permit)
                    return cut_off(made, self._clock.monotonic())
            except BaseException:
                breaker.unused(permit)
                raise
            finally:
                if ear is not None:
                    ear.close()
            failure = made.failure
            if failure is None:
                self._switching.succeeded(breaker, [each.name for each in run.stacks], place, permit, run.question.id)
                if ear is not None and not is_late:
                    ear.show()
                return made
            self._switching.failed(breaker, stack.name, permit, failure)
            if ear is not None and ear.has_shown:
                run.has_broken_off = True
                return made
            wait = self._wait_seconds(run, failure, permit, breaker, parties, retries + 1)
            if wait is None or not run.may_try():
                return made
            self._clock.sleep(wait)
            waited, retries, passages = wait, retries + 1, made.passages

    def _cut_off_try(self, write: Callable[[Try], bool], made: Try) -> None:
        write(cut_off(made, self._clock.monotonic()))

    def _wait_seconds(
        self, run: Run, failure: Failure, permit: Permit, breaker: CircuitBreaker, parties: int, retry: int
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

    def _heard(self, run: Run, stack: Stack, call: SideCall) -> None:
        """Write down what was asked of a model beside the answer, as it happens."""
        with run.lock:
            run.side_calls += 1
            number = run.side_calls
        record = side_trace_of(run.question, call, number, self._labels, ended=self._clock.now(), handling=run.handling)
        if stack.price is not None:
            record = stack.price(record)
        with run.lock:
            run.beside.append(record)
        if self._traces is not None:
            self._traces.append(record)
        if run.handling.doubted is not None:
            run.handling.doubted(call)

    def _record(
        self,
        run: Run,
        question: Question,
        stack: Stack,
        place: int,
        reason: RouteReason,
        waited: float,
        retries: int,
        made: Try,
    ) -> bool:
        """Write down what a try did; returns whether it answered after another stack had."""
        failure = made.failure
        identity = stack.model.identity()
        with run.lock:  # a hedge may end at the same moment
            run.trying -= 1
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
                record = stack.price(record)
            run.attempts.append(attempt)
            run.traces.append(record)
        if run.handling.ended is not None:
            run.handling.ended(stack.name, record)
        if self._traces is not None:
            self._traces.append(record)
        if self._journal is not None and run.handling.is_keyed and attempt.maybe_billed:
            error_class = failure.error_class if failure is not None else "late"
            self._journal.doubt(run.question.id, vendor=identity.provider, error_class=error_class)
        return is_late
