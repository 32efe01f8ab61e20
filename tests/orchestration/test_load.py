"""The open-loop load: arrivals by the clock alone, and nothing lost."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from exitramp.clock import ManualClock
from exitramp.errors import UsageError
from exitramp.orchestration import LoadEnd, LoadRequest, Outcome, Question, SteadyLoad, reconcile
from exitramp.ports import ChatAnswer
from exitramp.records import Usage


def question(number: int) -> Question:
    return Question(f"q-{number}", "How?", "docs_qa")


def outcome(asked: Question, *, stack: str | None = "primary") -> Outcome:
    answer = ChatAnswer("yes", "stop", "m", Usage(1, 1), 1.0) if stack else None
    return Outcome(asked.id, stack, answer, (), (), (), datetime.now(UTC), 0.0, None if stack else "overloaded")


def load(ask: Callable[[Question], Outcome], **more: Any) -> SteadyLoad:
    return SteadyLoad(
        lambda asked, *, queue_ms: ask(asked), more.pop("questions", question), **{"clock": ManualClock(), **more}
    )


def test_arrivals_follow_the_clock() -> None:
    clock = ManualClock()
    report = load(outcome, rate_per_second=10.0, clock=clock).run(2.0)
    assert [request.number for request in report.requests] == list(range(20))
    assert [request.due for request in report.requests] == pytest.approx([number / 10 for number in range(20)])
    assert clock.slept_seconds == pytest.approx([0.0] + [0.1] * 19)
    assert report.count(LoadEnd.ANSWERED) == 20


def test_slow_answers_do_not_slow_the_arrivals_and_nothing_is_lost() -> None:
    go_on = threading.Event()
    arrived = threading.Semaphore(0)

    def slowly(asked: Question) -> Outcome:
        arrived.release()
        assert go_on.wait(10)
        return outcome(asked)

    running = load(slowly, rate_per_second=100.0)
    running.start(0.5)
    for _ in range(50):
        assert arrived.acquire(timeout=10)
    assert running.under_way == 50
    go_on.set()
    report = running.stop()
    assert report.count(LoadEnd.ANSWERED) == len(report.requests) == 50


def test_every_request_ends_once_as_answered_failed_or_cancelled() -> None:
    never = threading.Event()
    ended: list[LoadRequest] = []

    def mixed(asked: Question) -> Outcome:
        number = int(asked.id[2:])
        if number % 4 == 1:
            return outcome(asked, stack=None)
        if number % 4 == 2:
            raise ZeroDivisionError
        if number % 4 == 3:
            never.wait()
        return outcome(asked)

    running = load(mixed, rate_per_second=10.0, threads_limit=4, on_end=ended.append)
    report = running.run(4.0, drain_seconds=0.3)
    never.set()
    assert len(report.requests) == 40
    assert sum(report.count(end) for end in LoadEnd) == 40
    assert report.count(LoadEnd.CANCELLED) >= 4
    assert isinstance(report.raised, ZeroDivisionError)
    assert sorted(request.number for request in ended) == list(range(40))
    for request in report.requests:
        if request.end is LoadEnd.CANCELLED:
            assert (request.ended, request.outcome) == (None, None)
            assert request.error in ("never begun", "still under way")


def test_waiting_for_a_thread_is_part_of_the_latency() -> None:
    clock = ManualClock()
    waited: list[float] = []

    def ask(asked: Question, *, queue_ms: float) -> Outcome:
        waited.append(queue_ms)
        clock.advance(1.0)
        return outcome(asked)

    report = SteadyLoad(ask, question, rate_per_second=1000.0, threads_limit=1, clock=clock).run(0.003)
    assert len(waited) == 3
    assert waited[2] >= 1000.0
    last = report.requests[2]
    assert last.latency_seconds is not None
    assert last.latency_seconds >= 2.0


def test_two_requests_with_one_id_end_the_load_and_are_shown() -> None:
    report = load(outcome, rate_per_second=10.0, questions=lambda number: question(0)).run(1.0)
    assert len(report.requests) == 1
    assert isinstance(report.raised, UsageError)


def test_a_load_is_started_once_and_has_a_rate() -> None:
    with pytest.raises(UsageError, match="rate"):
        load(outcome, rate_per_second=0.0)
    running = load(outcome, rate_per_second=10.0)
    with pytest.raises(UsageError, match="not started"):
        running.stop()
    running.run(0.1)
    with pytest.raises(UsageError, match="already"):
        running.start()


# -- against the vendors' accounts ---------------------------------------------------------------------------------


def entry(key: str | None, outcome: str = "answered") -> dict[str, Any]:
    return {"request_sha256": None if key is None else hashlib.sha256(key.encode()).hexdigest(), "outcome": outcome}


def request(number: int, *, stack: str | None, seconds: float = 0.1, end: LoadEnd | None = None) -> LoadRequest:
    asked = question(number)
    given = outcome(asked, stack=stack)
    found = end or (LoadEnd.ANSWERED if stack else LoadEnd.FAILED)
    ended = None if found is LoadEnd.CANCELLED else seconds
    return LoadRequest(number, asked.id, "docs_qa", datetime.now(UTC), 0.0, 0.0, ended, found, given)


def test_both_sides_that_agree_add_up() -> None:
    requests = [request(0, stack="primary"), request(1, stack="substitute", seconds=3.0), request(2, stack=None)]
    accounts = {
        "primary": [entry("q-0"), entry("q-1", "failed"), entry("q-2", "hung")],
        "substitute": [entry("q-1"), entry("q-2", "cut")],
    }
    found = reconcile(requests, accounts, slow_seconds=1.0)
    assert found.adds_up
    assert (found.answered, found.failed, found.slow) == (("q-0", "q-1"), ("q-2",), ("q-1",))


def test_what_the_sides_do_not_agree_on_is_named() -> None:
    requests = [
        request(0, stack="primary"),
        request(1, stack="substitute"),
        request(2, stack=None),
        request(3, stack="primary"),
        request(4, stack=None, end=LoadEnd.CANCELLED),
    ]
    accounts = {
        "primary": [entry("q-1"), entry("q-2"), entry("q-3"), entry("q-3"), entry("other"), entry(None)],
        "substitute": [entry("q-1")],
    }
    found = reconcile(requests, accounts, slow_seconds=1.0)
    assert found.unbacked == ("q-0",)
    assert found.answered_twice == ("q-1", "q-3")
    assert found.answered_unseen == ("q-1", "q-2", "q-3")
    assert found.cancelled == ("q-4",)
    assert found.foreign == (hashlib.sha256(b"other").hexdigest(), "none")
    assert not found.adds_up
