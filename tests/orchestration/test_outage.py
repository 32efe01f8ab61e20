"""Outages for real: mock vendors in processes of their own, the real adapters, the real clock, default settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exitramp.errors import StoreUnavailable
from exitramp.faults import Fault
from exitramp.orchestration import (
    BreakerSettings,
    BreakerState,
    EventKind,
    IdempotencyJournal,
    LoadEnd,
    Outcome,
    Passage,
    Policy,
    Question,
    RenderedPrompt,
    Router,
    RouterEvent,
    Stack,
    SteadyLoad,
    TraceWriter,
    read_traces,
    reconcile,
)
from exitramp.ports import ChatMessage
from exitramp.urls import Network
from exitramp_adapters.models import anthropic, openai
from exitramp_adapters.services.mock_vendor.adapter import ANTHROPIC, OPENAI, MockVendor

WHOLE = "Join two or more pathname components. [os.path.join#0]"


def retrieve(question_text: str, k: int, /) -> Sequence[Passage]:
    return [Passage("os.path.join#0", "Join two or more pathname components.")]


def render(question: Question, passages: Sequence[Passage], /) -> RenderedPrompt:
    blocks = "\n".join(f"[passage {item.id}]\n{item.text}\n[/passage]" for item in passages)
    return RenderedPrompt((ChatMessage("user", f"{blocks}\n\nQuestion: {question.text}"),))


class Pair:
    """A primary in one shape and a substitute in the other."""

    def __init__(self, folder: Path) -> None:
        self.events: list[RouterEvent] = []
        self.vendors: dict[str, MockVendor] = {}
        self.stacks: list[Stack] = []
        sides: list[tuple[str, Any, Any]] = [
            ("primary", OPENAI, openai.ADAPTER),
            ("substitute", ANTHROPIC, anthropic.ADAPTER),
        ]
        for name, service, adapter in sides:
            vendor = service.make(str(folder / name), 5, {})
            self.vendors[name] = vendor
            model = adapter.open_chat(vendor.start(), Network())
            self.stacks.append(Stack(name, retrieve, render, model, f"store-{name}"))

    def router(self, **more: Any) -> Router:
        return Router(self.stacks, listener=self.events.append, **more)

    def accounts(self) -> dict[str, list[Any]]:
        return {name: list(vendor.account()) for name, vendor in self.vendors.items()}

    def first(self, kind: EventKind) -> RouterEvent:
        return next(event for event in self.events if event.kind is kind)

    def end(self) -> None:
        for stack in self.stacks:
            stack.model.close()
        for vendor in self.vendors.values():
            vendor.stop()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.end()


_asked = 0


def ask(router: Router, *, stream: bool = False) -> Outcome:
    global _asked
    _asked += 1
    return router.ask(Question(f"real-{_asked}", "How do I join pathname components?", "docs_qa", stream=stream))


def test_after_a_503_the_first_good_answer_comes_within_a_second_with_default_settings(pair: Pair) -> None:
    router = pair.router()
    assert ask(router).stack == "primary"
    pair.vendors["primary"].inject(Fault("unavailable"))
    outcome = ask(router)
    assert (outcome.stack, outcome.answer.text if outcome.answer else "") == ("substitute", WHOLE)
    took = pair.first(EventKind.FIRST_GOOD_ANSWER).monotonic - pair.first(EventKind.FIRST_FAILURE).monotonic
    print(f"503: first good answer {took * 1000:.0f} ms after the first failure")
    assert took < 1.0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("fault", "options", "error_class"),
    [
        ("truncate", {}, "truncated"),
        ("truncate", {"after_bytes": 60}, "truncated"),
        ("reset", {}, "truncated"),
        ("malformed", {}, "malformed"),
        ("hang", {}, "timeout"),
        ("refuse", {}, "connection"),
        ("slow_stream", {"delay_seconds": 0.2}, "timeout"),
    ],
)
def test_whatever_breaks_the_answer_is_whole_and_comes_from_the_substitute(
    pair: Pair, fault: str, options: dict[str, Any], error_class: str, stream: bool
) -> None:
    router = pair.router(policy=Policy(attempt_seconds=0.4))
    pair.vendors["primary"].inject(Fault(fault, options))
    outcome = ask(router, stream=stream)
    assert outcome.answer is not None
    assert (outcome.stack, outcome.answer.text, outcome.finish_reason) == ("substitute", WHOLE, "stop")
    assert {attempt.error_class for attempt in outcome.attempts} == {error_class, None}


def test_sixty_four_requests_at_once_in_an_outage_are_neither_lost_nor_answered_twice(
    pair: Pair, tmp_path: Path
) -> None:
    pair.vendors["primary"].inject(Fault("unavailable"))
    with (
        TraceWriter(tmp_path / "traces.jsonl") as traces,
        IdempotencyJournal(tmp_path / "journal.jsonl", sync=False) as journal,
    ):
        router = pair.router(traces=traces, journal=journal)
        with ThreadPoolExecutor(64) as pool:
            outcomes = list(pool.map(lambda _: ask(router), range(64)))
        assert journal.billing_doubts() == []
    assert {outcome.stack for outcome in outcomes} == {"substitute"}
    primary, substitute = (pair.vendors[name].counters() for name in ("primary", "substitute"))
    assert (substitute["answered"], substitute["answered_distinct"], substitute["answered_twice"]) == (64, 64, 0)
    written = list(read_traces(tmp_path / "traces.jsonl"))
    by_status = {(trace.provider, trace.status): 0 for trace in written}
    for trace in written:
        by_status[trace.provider, trace.status] += 1
    assert by_status == {("openai", "error"): primary["failed"], ("anthropic", "ok"): 64}


def test_a_steady_load_through_four_outages_adds_up_with_the_vendors_accounts(pair: Pair, tmp_path: Path) -> None:
    """503, hang, refuse, and a store that goes: at 20 requests a second nothing is lost and nothing answered twice."""
    store_is_down = False

    def primary_store(question_text: str, k: int, /) -> Sequence[Passage]:
        if store_is_down:
            raise StoreUnavailable("the store is down")
        return retrieve(question_text, k)

    pair.stacks[0] = replace(pair.stacks[0], retrieve=primary_store)
    settings = BreakerSettings(failures=3, sample=6, cool_down_seconds=0.2, probe_successes=2)
    router = pair.router(policy=Policy(attempt_seconds=0.25, breaker=settings))
    load = SteadyLoad(
        router.ask,
        lambda number: Question(
            f"load-{number}", "How do I join pathname components?", "docs_qa", stream=number % 2 == 0
        ),
        rate_per_second=20.0,
    )
    load.start()
    for kind in ("unavailable", "hang", "refuse", "store"):
        until(lambda: router.state("primary") is BreakerState.CLOSED)
        before = len(pair.events)
        if kind == "store":
            store_is_down = True
        else:
            pair.vendors["primary"].inject(Fault(kind))
        until(lambda: any(event.kind is EventKind.BREAKER_OPENED for event in pair.events[before:]))  # noqa: B023
        store_is_down = False
        pair.vendors["primary"].inject(Fault("none"))
    until(lambda: router.state("primary") is BreakerState.CLOSED)
    report = load.stop()
    found = reconcile(report.requests, pair.accounts(), slow_seconds=1.0)
    assert report.raised is None
    assert report.count(LoadEnd.ANSWERED) == len(report.requests) > 20
    assert found.adds_up, found
    assert found.slow == ()
    assert {request.outcome.stack for request in report.requests if request.outcome} == {"primary", "substitute"}


def until(condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
