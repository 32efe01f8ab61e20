"""Every rule of the router, on scripted stacks and a clock turned by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from exitramp.backoff import Backoff
from exitramp.errors import (
    CollectionMissing,
    ModelError,
    StoreProtocolError,
    StoreRejected,
    StoreTimeout,
    StoreUnavailable,
    UsageError,
)
from exitramp.orchestration import (
    BreakerState,
    EventKind,
    IdempotencyJournal,
    Outcome,
    RouteReason,
    ThreadCalls,
    TraceLabels,
)
from exitramp.ports import ChatAnswer
from exitramp.records import Usage

World = Any
Fails = Callable[..., ModelError]


def route(outcome: Outcome) -> list[tuple[str, str | None]]:
    return [(attempt.stack, attempt.error_class) for attempt in outcome.attempts]


# -- one stack answers ---------------------------------------------------------------------------------------------


def test_the_first_stack_answers_and_is_traced(world: World) -> None:
    world.models["primary"].takes_seconds = 0.5
    (outcome,) = world.ask(world.router(labels=TraceLabels(drill_id="d-1", synthetic=True, tags=("t",))))
    assert (outcome.stack, outcome.answer.text, outcome.finish_reason) == ("primary", "answer of primary", "stop")
    assert outcome.retrieved_ids == ("primary-0", "primary-1")
    assert outcome.is_mock
    (trace,) = outcome.traces
    assert (trace.request_id, trace.attempt, trace.status, trace.store) == ("q-1", 1, "ok", "store-primary")
    assert (trace.provider, trace.model_id, trace.prompt_name) == ("vendor-primary", "model-primary", "docs_qa")
    assert (trace.prompt_tokens, trace.gen_tokens, trace.queries, trace.vector_reads) == (10, 5, 1, 2)
    assert (trace.latency_ms, trace.route_reason, trace.fallback_from) == (500.0, "first_in_order", None)
    assert (trace.drill_id, trace.synthetic, trace.tags) == ("d-1", True, ("t",))
    assert outcome.duration_seconds == 0.5
    assert world.events == []
    assert world.models["substitute"].requests == []


def test_nothing_that_was_asked_or_answered_shows_in_a_repr(world: World) -> None:
    world.models["primary"].script = [ModelError("no", error_class="overloaded")]
    router = world.router()
    question = world.question("a confidential question")
    outcome = router.ask(question)
    shown = repr((question, outcome, outcome.attempts, outcome.traces, world.models["primary"].name))
    assert "confidential" not in shown
    assert "answer of" not in shown


def test_a_price_hook_puts_the_cost_into_the_trace(world: World) -> None:
    router = world.router(price_primary=lambda trace: replace(trace, unit_cost_usd=Decimal(trace.prompt_tokens) / 1000))
    assert world.ask(router)[0].traces[0].unit_cost_usd == Decimal("0.01")


def test_the_idempotency_key_is_the_same_over_retries_and_stacks(world: World, fails: Fails) -> None:
    world.models["primary"].default = fails("overloaded")
    world.ask(world.router())
    requests = world.models["primary"].requests + world.models["substitute"].requests
    assert {request.idempotency_key for request in requests} == {"q-1"}
    assert len(requests) == 4


# -- retries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error_class", ["rate_limit", "overloaded", "server_error", "connection", "truncated", "malformed"]
)
def test_what_may_pass_is_tried_again_after_a_full_jitter(world: World, fails: Fails, error_class: str) -> None:
    world.models["primary"].script = [fails(error_class), fails(error_class)]
    (outcome,) = world.ask(world.router(seed=3))
    assert route(outcome) == [("primary", error_class), ("primary", error_class), ("primary", None)]
    first, second = world.clock.slept_seconds
    assert 0 < first <= 0.1
    assert 0 < second <= 0.2
    assert [attempt.waited_seconds for attempt in outcome.attempts] == [0.0, first, second]
    assert [trace.retries for trace in outcome.traces] == [0, 1, 2]


def test_waits_are_drawn_from_the_seed(fails: Fails, world: World) -> None:
    def waits(seed: int) -> list[float]:
        world.models["primary"].script = [fails("overloaded"), fails("overloaded")]
        world.clock.slept_seconds.clear()
        world.ask(world.router(seed=seed))
        return list(world.clock.slept_seconds)

    assert waits(1) == waits(1) != waits(2)


@pytest.mark.parametrize("error_class", ["quota_exhausted", "auth", "model_gone"])
def test_what_no_waiting_mends_is_not_tried_again(world: World, fails: Fails, error_class: str) -> None:
    world.models["primary"].default = fails(error_class)
    (outcome,) = world.ask(world.router())
    assert route(outcome) == [("primary", error_class), ("substitute", None)]
    assert world.clock.slept_seconds == []


def test_a_short_retry_after_is_waited_for(world: World, fails: Fails) -> None:
    world.models["primary"].script = [fails("rate_limit", retry_after_seconds=0.7)]
    (outcome,) = world.ask(world.router())
    assert outcome.stack == "primary"
    assert world.clock.slept_seconds == [0.7]


def test_a_long_retry_after_is_not_waited_for_while_another_stack_is_there(world: World, fails: Fails) -> None:
    world.models["primary"].script = [fails("rate_limit", retry_after_seconds=5)]
    (outcome,) = world.ask(world.router())
    assert route(outcome) == [("primary", "rate_limit"), ("substitute", None)]
    assert world.clock.slept_seconds == []


def test_on_the_last_stack_a_long_retry_after_is_waited_for_within_the_deadline(world: World, fails: Fails) -> None:
    world.models["primary"].script = [fails("rate_limit", retry_after_seconds=5)]
    (outcome,) = world.ask(world.router(["primary"]))
    assert (outcome.stack, world.clock.slept_seconds) == ("primary", [5])
    world.models["primary"].script = [fails("rate_limit", retry_after_seconds=30)]
    (outcome,) = world.ask(world.router(["primary"]))
    assert (outcome.stack, outcome.error_class) == (None, "rate_limit")


def test_a_timeout_is_not_repeated_while_another_stack_is_there(world: World, fails: Fails) -> None:
    world.models["primary"].script = [fails("timeout")]
    (outcome,) = world.ask(world.router())
    assert route(outcome) == [("primary", "timeout"), ("substitute", None)]
    world.policy = replace(world.policy, retry_timeouts=True)
    world.models["primary"].script = [fails("timeout")]
    (outcome,) = world.ask(world.router())
    assert route(outcome) == [("primary", "timeout"), ("primary", None)]


def test_a_retry_keeps_what_was_retrieved_and_another_stack_retrieves_its_own(world: World, fails: Fails) -> None:
    world.models["primary"].default = fails("overloaded")
    (outcome,) = world.ask(world.router())
    assert (world.stores["primary"].calls, world.stores["substitute"].calls) == (1, 1)
    assert outcome.retrieved_ids == ("substitute-0", "substitute-1")
    assert "text 0 of substitute" in world.models["substitute"].requests[0].messages[0].content
    assert [trace.queries for trace in outcome.traces] == [1, 0, 0, 1]


# -- what is the request's own fault -------------------------------------------------------------------------------


@pytest.mark.parametrize("error_class", ["invalid_request", "context_length"])
def test_a_fault_of_the_request_is_tried_once_on_each_stack_and_opens_nothing(
    world: World, fails: Fails, error_class: str
) -> None:
    for model in world.models.values():
        model.default = fails(error_class)
    router = world.router()
    for outcome in world.ask(router, 20):
        assert route(outcome) == [("primary", error_class), ("substitute", error_class)]
    assert router.state("primary") is BreakerState.CLOSED
    assert world.events == []


def test_what_one_vendors_filter_withheld_is_not_carried_to_another(world: World, fails: Fails) -> None:
    world.models["primary"].default = fails("content_filter")
    (outcome,) = world.ask(world.router())
    assert route(outcome) == [("primary", "content_filter")]
    assert outcome.error_class == "content_filter"


# -- never half an answer ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "finish"), [("half of", ""), ("", "stop")])
def test_an_adapter_that_passes_half_an_answer_on_is_not_believed(world: World, text: str, finish: str) -> None:
    world.models["primary"].default = ChatAnswer(text, finish, "m", Usage(1, 1), 1.0)
    (outcome,) = world.ask(world.router())
    assert outcome.answer.text == "answer of substitute"
    assert {error for _, error in route(outcome)} == {"truncated", None}
    assert outcome.maybe_billed_attempts == 3


def test_a_request_that_nobody_answers_ends_as_failed_with_its_last_error(world: World, fails: Fails) -> None:
    world.models["primary"].default = fails("quota_exhausted")
    world.models["substitute"].default = fails("server_error", http_status=500)
    (outcome,) = world.ask(world.router())
    assert not outcome.is_answered
    assert (outcome.stack, outcome.answer, outcome.error_class) == (None, None, "server_error")
    assert len(outcome.traces) == len(outcome.attempts) == 4
    assert [trace.status for trace in outcome.traces] == ["error"] * 4


# -- the deadline --------------------------------------------------------------------------------------------------


def test_one_deadline_is_shared_by_retries_and_stacks(world: World) -> None:
    world.policy = replace(world.policy, deadline_seconds=3.0)
    world.models["primary"].takes_seconds = world.models["substitute"].takes_seconds = 60.0
    (outcome,) = world.ask(world.router())
    assert world.models["primary"].timeouts == [1.5]
    assert world.models["substitute"].timeouts == [1.5]
    assert outcome.duration_seconds == pytest.approx(3.0)
    assert outcome.error_class == "timeout"


def test_a_stack_that_hangs_leaves_the_next_one_its_share(world: World) -> None:
    world.policy = replace(world.policy, deadline_seconds=3.0, attempt_seconds=60.0)
    world.models["primary"].takes_seconds = 60.0
    world.models["substitute"].takes_seconds = 1.0
    (outcome,) = world.ask(world.router())
    assert outcome.stack == "substitute"
    assert outcome.duration_seconds == pytest.approx(2.5)


def test_a_wait_that_would_pass_the_deadline_is_not_begun(world: World, fails: Fails) -> None:
    world.policy = replace(
        world.policy, deadline_seconds=1.0, backoff=Backoff(tries=9, base_seconds=100.0, cap_seconds=100.0)
    )
    world.models["primary"].default = fails("overloaded")
    (outcome,) = world.ask(world.router(["primary"]))
    assert outcome.duration_seconds < 1.0


# -- the breaker: model and store switch as one --------------------------------------------------------------------

STORE_ERRORS = [
    (StoreUnavailable("down"), "store_unavailable"),
    (StoreTimeout("silent"), "store_timeout"),
    (StoreRejected("no"), "store_rejected"),
    (StoreProtocolError("what"), "store_protocol"),
    (CollectionMissing("gone"), "store_missing"),
    (ConnectionRefusedError("raw"), "store_unavailable"),
]


@pytest.mark.parametrize(("error", "error_class"), STORE_ERRORS, ids=[name for _, name in STORE_ERRORS])
def test_a_failing_store_takes_the_whole_stack_out(world: World, error: Exception, error_class: str) -> None:
    world.stores["primary"].default = error
    router = world.router()
    for outcome in world.ask(router, 6):
        assert outcome.stack == "substitute"
        assert {name for _, name in route(outcome)} <= {error_class, None}
    assert router.state("primary") is BreakerState.OPEN
    assert world.models["primary"].requests == []


def test_failures_of_the_store_and_of_the_model_count_against_one_breaker(world: World, fails: Fails) -> None:
    world.policy = replace(world.policy, backoff=Backoff(tries=1))
    world.models["primary"].script = [fails("overloaded"), fails("overloaded")]
    world.stores["primary"].script = [None, None, StoreUnavailable("down"), StoreUnavailable("down")]
    router = world.router()
    world.ask(router, 3)
    assert router.state("primary") is BreakerState.CLOSED
    world.ask(router, 1)
    assert router.state("primary") is BreakerState.OPEN


def test_an_open_breaker_sends_everything_to_the_substitute(world: World, fails: Fails) -> None:
    world.models["primary"].default = fails("overloaded")
    router = world.router()
    world.ask(router, 2)
    before = len(world.models["primary"].requests), world.stores["primary"].calls
    for outcome in world.ask(router, 10):
        assert route(outcome) == [("substitute", None)]
        assert outcome.attempts[0].route_reason is RouteReason.BREAKER_OPEN
        assert outcome.traces[0].fallback_from == "primary"
        assert outcome.retrieved_ids == ("substitute-0", "substitute-1")
    assert (len(world.models["primary"].requests), world.stores["primary"].calls) == before


def test_a_few_failures_among_many_successes_open_nothing(world: World, fails: Fails) -> None:
    world.policy = replace(world.policy, backoff=Backoff(tries=1))
    router = world.router()
    for _ in range(20):
        world.models["primary"].script = [fails("server_error"), None, None]
        world.ask(router, 3)
    assert router.state("primary") is BreakerState.CLOSED


def test_old_failures_do_not_count(world: World, fails: Fails) -> None:
    world.policy = replace(world.policy, backoff=Backoff(tries=1))
    world.models["primary"].default = fails("server_error")
    router = world.router()
    for _ in range(10):
        world.ask(router)
        world.clock.advance(6.0)
    assert router.state("primary") is BreakerState.CLOSED


def test_single_probes_bring_the_stack_back(world: World, fails: Fails) -> None:
    world.models["primary"].default = fails("overloaded")
    router = world.router()
    world.ask(router, 3)
    world.models["primary"].default = None
    world.clock.advance(4.9)
    assert world.ask(router)[0].stack == "substitute"
    world.clock.advance(0.2)
    outcomes = world.ask(router, 3)
    assert [outcome.stack for outcome in outcomes] == ["primary"] * 3
    assert [outcome.attempts[0].route_reason for outcome in outcomes] == ["probe", "probe", "first_in_order"]
    assert router.state("primary") is BreakerState.CLOSED


def test_a_failed_probe_is_one_request_that_the_substitute_answers(world: World, fails: Fails) -> None:
    world.models["primary"].default = fails("overloaded")
    router = world.router()
    world.ask(router, 3)
    world.clock.advance(5.1)
    probe, after = world.ask(router, 2)
    assert route(probe) == [("primary", "overloaded"), ("substitute", None)]
    assert route(after) == [("substitute", None)]
    assert router.state("primary") is BreakerState.OPEN


def test_only_one_probe_is_under_way_at_a_time(world: World, fails: Fails) -> None:
    world.models["primary"].default = fails("overloaded")
    router = world.router()
    world.ask(router, 3)
    world.clock.advance(5.1)
    asked: list[Outcome] = []
    # While the probe is being answered, other requests come in.
    world.models["primary"].default = lambda: asked.extend(world.ask(router, 3))
    (probe,) = world.ask(router)
    assert probe.stack == "primary"
    assert [outcome.stack for outcome in asked] == ["substitute"] * 3


def test_a_retry_after_keeps_an_open_breaker_open_that_long(world: World, fails: Fails) -> None:
    world.models["primary"].default = fails("rate_limit", retry_after_seconds=30)
    router = world.router()
    world.ask(router, 4)
    world.models["primary"].default = None
    world.clock.advance(29.0)
    assert world.ask(router)[0].stack == "substitute"
    world.clock.advance(1.1)
    assert world.ask(router)[0].stack == "primary"


def test_hold_keeps_everything_where_it_is_until_release(world: World, fails: Fails) -> None:
    world.models["primary"].default = fails("overloaded")
    router = world.router()
    router.hold()
    world.ask(router, 3)
    world.models["primary"].default = None
    world.clock.advance(600.0)
    assert {outcome.stack for outcome in world.ask(router, 5)} == {"substitute"}
    router.release()
    assert {outcome.stack for outcome in world.ask(router, 5)} == {"primary"}
    assert router.state("primary") is BreakerState.CLOSED


def test_release_does_not_wait_for_the_rest_of_the_cool_down(world: World, fails: Fails) -> None:
    world.models["primary"].default = fails("overloaded")
    router = world.router()
    world.ask(router, 3)
    router.hold()
    world.models["primary"].default = None
    router.release()
    assert world.ask(router)[0].stack == "primary"


def test_a_failure_from_before_the_switch_does_not_open_a_breaker_again(world: World, fails: Fails) -> None:
    """A call hung while the breaker opened, half-opened and closed; when it fails at last, that is old news."""
    world.policy = replace(world.policy, backoff=Backoff(tries=1))
    router = world.router()

    def hang_through_a_whole_outage() -> None:
        world.models["primary"].default = fails("overloaded")
        world.ask(router, 4)
        assert router.state("primary") is BreakerState.OPEN
        world.models["primary"].default = None
        world.clock.advance(5.1)
        world.ask(router, 2)
        assert router.state("primary") is BreakerState.CLOSED
        world.events.clear()
        raise fails("timeout")

    world.models["primary"].script = [hang_through_a_whole_outage]
    (outcome,) = world.ask(router)
    assert route(outcome) == [("primary", "timeout"), ("substitute", None)]
    assert world.events == []


def test_where_every_breaker_is_open_a_request_fails_at_once(world: World, fails: Fails) -> None:
    for model in world.models.values():
        model.default = fails("overloaded")
    router = world.router()
    world.ask(router, 5)
    (outcome,) = world.ask(router)
    assert (outcome.attempts, outcome.error_class) == ((), "no_stack")


def test_a_probe_that_raises_something_unforeseen_does_not_block_the_next(world: World, fails: Fails) -> None:
    world.models["primary"].default = fails("overloaded")
    router = world.router()
    world.ask(router, 3)
    world.clock.advance(5.1)
    world.models["primary"].default = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        world.ask(router)
    world.models["primary"].default = None
    assert world.ask(router)[0].stack == "primary"


# -- events --------------------------------------------------------------------------------------------------------


def test_an_outage_is_told_in_order(world: World, fails: Fails) -> None:
    router = world.router()
    world.ask(router)
    world.models["primary"].default = fails("overloaded")
    world.ask(router, 3)
    world.clock.advance(5.1)
    world.ask(router)
    world.models["primary"].default = None
    world.clock.advance(5.1)
    world.ask(router, 4)
    assert world.kinds() == [
        "first_failure primary",
        "first_good_answer substitute",
        "breaker_opened primary",
        "probe primary",
        "breaker_opened primary",
        "probe primary",
        "breaker_closed primary",
    ]
    first = world.events[0]
    assert first.detail == {"error_class": "overloaded"}
    assert world.events[1].detail == {"instead_of": "primary", "request_id": "q-2"}
    assert [event.monotonic for event in world.events] == sorted(event.monotonic for event in world.events)
    assert first.to_json()["at"].endswith("Z")
    world.models["primary"].default = fails("auth")
    world.ask(router)
    assert world.events[-2].kind is EventKind.FIRST_FAILURE  # the next outage is told anew
    assert world.events[-1].kind is EventKind.FIRST_GOOD_ANSWER


def test_a_failure_that_passed_is_forgotten(world: World, fails: Fails) -> None:
    router = world.router()
    for _ in range(2):
        world.models["primary"].script = [fails("overloaded")]
        world.ask(router, 2)
    assert world.kinds() == ["first_failure primary"] * 2


# -- the journal ---------------------------------------------------------------------------------------------------


def test_the_same_key_gives_the_same_answer_and_nobody_is_asked_again(world: World, tmp_path: Path) -> None:
    with IdempotencyJournal(tmp_path / "j.jsonl", clock=world.clock) as journal:
        router = world.router(journal=journal)
        question = world.question()
        first, again = router.ask(question), router.ask(question)
        assert again.answer is first.answer
        assert (again.from_journal, again.stack, again.retrieved_ids) == (True, "primary", first.retrieved_ids)
        assert again.traces == ()
        assert len(world.models["primary"].requests) == 1
        with pytest.raises(UsageError, match="another request"):
            router.ask(replace(question, text="Something else?"))


def test_a_key_that_failed_may_be_asked_again(world: World, fails: Fails, tmp_path: Path) -> None:
    with IdempotencyJournal(tmp_path / "j.jsonl", clock=world.clock) as journal:
        router = world.router(["primary"], journal=journal)
        world.models["primary"].script = [fails("auth"), ZeroDivisionError()]
        question = world.question()
        assert not router.ask(question).is_answered
        with pytest.raises(ZeroDivisionError):
            router.ask(question)
        assert router.ask(question).is_answered


def test_calls_that_may_have_been_billed_are_named(world: World, fails: Fails, tmp_path: Path) -> None:
    with IdempotencyJournal(tmp_path / "j.jsonl", clock=world.clock) as journal:
        router = world.router(journal=journal)
        world.models["primary"].script = [fails("timeout", maybe_billed=True), None, fails("overloaded")]
        billed, *_ = world.ask(router, 3)
        (doubt,) = journal.billing_doubts()
        assert doubt.possibly_billed_twice
        assert (doubt.doubtful, doubt.is_answered, doubt.vendors) == (1, True, ("vendor-primary",))
        assert doubt.key_sha256 == billed.traces[0].idempotency_key_sha256
        assert [trace.possibly_billed for trace in billed.traces] == [True, False]


def test_the_same_key_at_the_same_time_is_asked_once(world: World, tmp_path: Path) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slowly() -> None:
        asked.set()
        assert go_on.wait(5)

    world.models["primary"].default = slowly
    with IdempotencyJournal(tmp_path / "j.jsonl", clock=world.clock) as journal:
        router = world.router(journal=journal)
        question = world.question()
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(router.ask, question) for _ in range(4)]
            assert asked.wait(5)
            go_on.set()
            outcomes = [item.result(5) for item in waiting]
    assert len(world.models["primary"].requests) == 1
    assert sorted(outcome.from_journal for outcome in outcomes) == [False, True, True, True]


# -- calls that never come back ------------------------------------------------------------------------------------


def test_a_store_that_hangs_for_good_costs_its_timeout_and_no_more(world: World) -> None:
    never = threading.Event()
    world.stores["primary"].default = never.wait
    world.policy = replace(world.policy, retrieve_seconds=0.05)
    (outcome,) = world.ask(world.router(bounded=ThreadCalls))
    assert route(outcome) == [("primary", "store_timeout"), ("substitute", None)]
    never.set()


def test_a_model_that_ignores_its_timeout_is_left_behind_and_may_have_been_billed(world: World) -> None:
    never = threading.Event()
    world.models["primary"].default = never.wait
    world.policy = replace(world.policy, attempt_seconds=0.05)
    (outcome,) = world.ask(world.router(bounded=ThreadCalls))
    assert route(outcome) == [("primary", "timeout"), ("substitute", None)]
    assert outcome.attempts[0].maybe_billed
    never.set()


def test_stacks_need_names_of_their_own(world: World) -> None:
    with pytest.raises(UsageError, match="name"):
        world.router(["primary", "primary"])
    with pytest.raises(UsageError, match="at least one"):
        world.router([])
