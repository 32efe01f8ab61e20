"""What is under way when everything ends is written down once, as cut off, and nothing begins any more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from exitramp.errors import ModelError
from exitramp.orchestration import (
    Application,
    BreakerState,
    IdempotencyJournal,
    NotAnswered,
    Outcome,
    Router,
    ThreadCalls,
    read_traces,
)
from exitramp.orchestration.cutting_off import CallsUnderWay
from exitramp.orchestration.side_calls import make_side_call
from exitramp.ports import ChatAnswer, ChatModel, ChatRequest, Embedded, ModelIdentity
from exitramp.records import TraceRecord
from tests.orchestration.conftest import World
from tests.orchestration.libraries import price_book
from tests.orchestration.test_held_for_every_try import ROWS, SHARE
from tests.orchestration.vendors import Vendors, request, write

USD = Decimal("0.001")
"""Of a token that is written."""


class Silent:
    """Begins, and does not end before it is let go."""

    def __init__(self) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self.let_go.wait(20)


class End:
    """A router of a world whose requests are cut off."""

    def __init__(self, world: World, **options: Any) -> None:
        self.world, self.under_way, self.traces = world, CallsUnderWay(), _Traces()
        self.router: Router = world.router(under_way=self.under_way, traces=self.traces, **options)
        self.pool = ThreadPoolExecutor(4)

    def ask(self, **more: Any) -> Future[Outcome]:
        return self.pool.submit(self.router.ask, self.world.question(**more))

    @property
    def told(self) -> list[tuple[str, str, str | None, bool]]:
        return [(each.provider, each.operation, each.error_class, each.possibly_billed) for each in self.traces.records]


class _Traces:
    def __init__(self) -> None:
        self.records: list[TraceRecord] = []

    def append(self, record: TraceRecord) -> None:
        self.records.append(record)


def test_a_call_that_has_not_ended_is_written_once_and_its_late_answer_is_not(world: World) -> None:
    silent = world.models["primary"].default = Silent()
    end = End(world)
    asked = end.ask()
    assert silent.begun.wait(5)
    end.under_way.cut_off()
    cut = ("vendor-primary", "answer", "cut_off", True)
    assert end.told == [cut]
    silent.let_go.set()
    outcome = asked.result(5)
    assert (outcome.error_class, outcome.is_answered, outcome.maybe_billed_attempts) == ("cut_off", False, 1)
    assert end.told == [cut]
    assert not world.models["substitute"].requests, "nobody else is asked any more"
    assert end.router.state("primary") is BreakerState.CLOSED, "it says nothing of the vendor"
    assert end.ask().result(5).error_class == "cut_off"
    assert end.told == [cut]


def test_a_model_that_was_not_asked_yet_has_billed_nothing(world: World) -> None:
    silent = world.stores["primary"].default = Silent()
    end = End(world)
    asked = end.ask()
    assert silent.begun.wait(5)
    end.under_way.cut_off()
    silent.let_go.set()
    assert asked.result(5).error_class == "cut_off"
    assert end.told == [("vendor-primary", "answer", "cut_off", False)]


def test_a_call_beside_the_answer_that_was_left_behind_is_written_at_the_end(world: World) -> None:
    silent, identity = Silent(), ModelIdentity("vendor-words", "words", "scripted:words", is_mock=True)
    ended = threading.Event()

    def embeds() -> None:
        def never() -> Embedded:
            silent()
            raise ModelError("late", error_class="timeout", maybe_billed=True)

        try:
            make_side_call("embed", identity, never, texts=1, at_most_tokens=lambda: 7, clock=world.clock)
        finally:
            ended.set()

    world.stores["primary"].default = embeds
    world.policy = type(world.policy)(retrieve_seconds=0.2)
    end = End(world, bounded=ThreadCalls)
    assert end.ask().result(5).stack == "substitute"
    before = end.told
    assert [each[2] for each in before] == ["store_timeout", None]
    end.under_way.cut_off()
    assert end.told == [*before, ("vendor-words", "embed", "cut_off", True)]
    silent.let_go.set()
    assert ended.wait(5)
    end.under_way.cut_off()
    assert len(end.told) == 3


def test_a_key_that_waited_for_another_does_not_begin_at_the_end(world: World, tmp_path: Path) -> None:
    silent = world.models["primary"].default = Silent()
    with IdempotencyJournal(tmp_path / "j.jsonl", clock=world.clock) as journal:
        end = End(world, journal=journal)
        asked = [end.ask(id="the key") for _ in range(3)]
        assert silent.begun.wait(5)
        journal.take_no_more()
        end.under_way.cut_off()
        silent.let_go.set()
        assert {each.result(5).error_class for each in asked} == {"cut_off"}
    with IdempotencyJournal(tmp_path / "j.jsonl", clock=world.clock) as journal:
        (doubt,) = journal.billing_doubts()
    assert (doubt.doubtful, doubt.is_answered, doubt.vendors) == (1, False, ("vendor-primary",))


# -- an application that is closed ---------------------------------------------------------------------------------


class SilentModel:
    """As the one that it stands before, once it is let go."""

    def __init__(self, model: ChatModel, silent: Silent) -> None:
        self._model, self._silent = model, silent

    def identity(self) -> ModelIdentity:
        return self._model.identity()

    def answer(self, request: ChatRequest, **more: Any) -> ChatAnswer:
        self._silent()
        return self._model.answer(request, **more)

    def close(self) -> None:
        self._model.close()


def silencing(provider: str, silent: Silent) -> Callable[[ChatModel], ChatModel]:
    return lambda model: SilentModel(model, silent) if model.identity().provider == provider else model


@pytest.fixture
def vendors(tmp_path: Path) -> Any:
    made = Vendors(tmp_path)
    yield made
    made.stop()


@pytest.mark.parametrize("way", ["plain", "hedged", "edited"])
def test_closing_an_application_counts_what_it_leaves(tmp_path: Path, vendors: Vendors, way: str) -> None:
    (tmp_path / "prices.yaml").write_text(price_book(ROWS))
    traces = tmp_path / "traces.jsonl"
    order = ("main", "backup") if way == "hedged" else ("main",)
    document = vendors.document(
        *order,
        prices="prices.yaml",
        budget={"daily_usd": "100", "path": "budget.sqlite"},
        trace={"path": str(traces)},
        idempotency={"path": "journal.jsonl"},
        **({"hedge": {"after_ms": 20}} if way == "hedged" else {}),
    )
    path = write(tmp_path / "stack.yaml", document)
    silent = Silent()
    application = Application.open(path, around_chat=silencing("openai", silent))
    budget = application._followed.newest.budget
    assert budget is not None
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(application.chat, request("key"))
        assert silent.begun.wait(5)
        if way == "hedged":
            assert asked.result(10).name == "backup"
        if way == "edited":
            before = application.file.sha256
            write(path, document | {"environment": "another"})
            while application.file.sha256 == before:
                assert application.problem is None
        assert not application.close(seconds=0.0)
        (cut,) = [record for record in read_traces(traces) if record.error_class == "cut_off"]
        assert (cut.provider, cut.possibly_billed, cut.unit_cost_usd) == ("openai", True, None)
        (standing,) = [each for each in budget.standing() if each.period == "day"]
        known = sum(record.gen_tokens for record in read_traces(traces)) * USD
        assert (standing.held_usd, standing.spent_usd) == (0, SHARE + known)
        silent.let_go.set()
        if way != "hedged":
            with pytest.raises(NotAnswered) as caught:
                asked.result(10)
            assert caught.value.error_class == "cut_off"
    assert len(list(read_traces(traces))) == len(order), "its late end writes no second record"
    with IdempotencyJournal(tmp_path / "journal.jsonl", keys_are_hashes=True) as journal:
        assert [each.doubtful for each in journal.billing_doubts()] == [1]


def test_an_answer_that_did_not_come_as_far_as_the_journal_is_named_if_its_key_is_billed_again(
    tmp_path: Path, vendors: Vendors
) -> None:
    traces = tmp_path / "traces.jsonl"
    document = vendors.document("main", trace={"path": str(traces)}, idempotency={"path": "journal.jsonl"})
    application = Application.open(write(tmp_path / "stack.yaml", document))
    asked = request("key", stream=True)
    answered = application.chat(asked, on_delta=lambda delta: closed(application))
    assert answered.text
    assert [record.status for record in read_traces(traces)] == ["ok"]
    with IdempotencyJournal(tmp_path / "journal.jsonl", keys_are_hashes=True) as journal:
        (doubt,) = journal.billing_doubts()
    assert (doubt.doubtful, doubt.is_answered) == (1, False)


def closed(application: Application) -> None:
    """Between an answer's record and its line in the journal."""
    application.close(seconds=0.0)
