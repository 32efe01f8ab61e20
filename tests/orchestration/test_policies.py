"""Routing, kept answers, budgets, hedges and limits: each by itself, and each through an application."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from exitramp.clock import ManualClock
from exitramp.errors import ConfigError, SpendExceeded
from exitramp.faults import Fault
from exitramp.orchestration import Application, Handling, NotAnswered, Slots, read_traces
from exitramp.orchestration.budget import Budget, BudgetNotice
from exitramp.orchestration.routing import complexity_of, route
from exitramp.orchestration.stack_file import Action, BudgetSpec, BudgetThreshold, RoutingSpec, Tier
from exitramp.orchestration.trace_files import UNDER_WAY, ParquetTraces
from tests.orchestration.conftest import World
from tests.orchestration.vendors import PROMPT, WHOLE, Vendors, request, write

TIERS = {"s": Tier.SMALL, "m": Tier.MEDIUM, "l": Tier.LARGE}


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    made = Vendors(tmp_path_factory.mktemp("vendors"))
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def healed(request: pytest.FixtureRequest) -> None:
    if "vendors" in request.fixturenames:
        request.getfixturevalue("vendors").heal()


@pytest.mark.parametrize(
    ("complexity", "pii", "order", "tier"),
    [
        (0.39, False, "sml", "small"),
        (0.4, False, "mls", "medium"),
        (0.69, False, "mls", "medium"),
        (0.7, False, "lms", "large"),
        (0.0, True, "m", "medium"),
        (1.0, True, "m", "medium"),
    ],
)
def test_questions_go_where_the_seeds_say(complexity: float, pii: bool, order: str, tier: str) -> None:
    found = route(RoutingSpec(), "lms", TIERS, text="", complexity=complexity, pii=pii)
    assert (found.order, found.tier) == (tuple(order), tier)
    assert found.reason == "pii" if pii else str(complexity) in str(found.reason) or complexity in (0.0, 1.0)


def test_an_estimate_of_complexity_grows_with_what_is_asked() -> None:
    plain = complexity_of("What is a path?")
    harder = complexity_of(
        "Why does this fail, and how do I compare both designs? Explain:\n```\nx = 1\n```\nWhat else?"
    )
    assert 0.0 <= plain < 0.4 < harder <= 1.0
    assert complexity_of("") == 0.0


def test_the_tier_and_its_reason_stand_in_the_trace(vendors: Vendors, tmp_path: Path) -> None:
    traces = tmp_path / "t.jsonl"
    path = write(tmp_path / "stack.yaml", vendors.document(routing={"pii": "medium"}, trace={"path": str(traces)}))
    with Application.open(path) as application:
        assert application.chat(request(), complexity=0.9).name == "main"
        assert application.chat(request(), complexity=0.5).name == "backup"
        assert application.chat(request(), pii=True).name == "backup"
        vendors["backup"].inject(Fault("unavailable"))
        with pytest.raises(NotAnswered):
            application.chat(request(), pii=True)
    told = [(record.route_tier, record.route_reason) for record in read_traces(traces)]
    assert told[0] == ("large", "first_in_order; complexity 0.9 >= 0.7")
    assert told[1] == ("medium", "first_in_order; complexity 0.5 < 0.7")
    assert told[2] == ("medium", "first_in_order; pii")


def test_an_equal_request_is_answered_from_before_unless_something_differs(vendors: Vendors, tmp_path: Path) -> None:
    traces = tmp_path / "t.jsonl"
    document = vendors.document(
        "main", cache={"exact": {"path": "cache.sqlite"}}, trace={"path": str(traces)}, routing={"pii": "large"}
    )
    path = write(tmp_path / "stack.yaml", document)
    before = vendors["main"].counters()["requests"]
    with Application.open(path) as application:
        assert application.chat(request()).cache == "none"
        shown: list[str] = []
        again = application.chat(request(), on_delta=lambda delta: shown.append(delta.text))
        assert (again.cache, again.text, again.is_mock, "".join(shown)) == ("exact", WHOLE, True, WHOLE)
        for different in (
            application.chat(request(), tenant="other"),
            application.chat(request(), use_case="other"),
            application.chat(request(), pii=True),
            application.chat(request(), use_cache=False),
            application.chat(request(temperature=0.5)),
        ):
            assert different.cache == "none"
    with Application.open(path) as application:
        assert application.chat(request()).cache == "exact", "it was kept over the process's end"
    assert vendors["main"].counters()["requests"] == before + 6
    hits = [record for record in read_traces(traces) if record.cache_hit]
    assert [(record.cache_hit_kind, record.prompt_tokens, record.status) for record in hits] == [("exact", 0, "ok")] * 2


def test_a_question_that_is_alike_is_answered_from_before_as_its_embedder_measures(
    vendors: Vendors, tmp_path: Path
) -> None:
    semantic = {"embedder": "words", "thresholds": {"words": 0.9}}
    document = vendors.document("main", cache={"semantic": semantic}, embedders={"words": {"address": "wordllama:"}})
    path = write(tmp_path / "stack.yaml", document)
    with Application.open(path) as application:
        assert application.chat(request()).cache == "none"
        assert application.chat(request(text=PROMPT.replace("How do I", "How can I"))).cache == "semantic"
        assert application.chat(request(text="What is the weather like in Lisbon?")).cache == "none"


def budget(**more: Any) -> BudgetSpec:
    return BudgetSpec(**{"daily_usd": Decimal("1.00"), "monthly_usd": Decimal("2.50"), **more})


def test_a_budget_never_lets_more_through_at_once_than_it_holds() -> None:
    spent = Budget(budget(), ManualClock(datetime(2026, 3, 1, 12, tzinfo=UTC)))

    def one(_: int) -> bool:
        try:
            spent.reserve(Decimal("0.10"))
        except SpendExceeded:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(one, range(64))) == 10
    assert spent.spent_usd() == {"2026-03-01": Decimal("1"), "2026-03": Decimal("1")}


def test_what_was_held_is_given_back_and_what_it_cost_is_counted_to_the_billionth() -> None:
    clock = ManualClock(datetime(2026, 3, 31, 23, 59, tzinfo=UTC))
    spent = Budget(budget(), clock)
    held = spent.reserve(Decimal("0.90"))
    clock.advance(120)  # into the next day and month: what was held before belongs there
    assert spent.spent_usd() == {"2026-04-01": Decimal(0), "2026-04": Decimal(0)}
    spent.settle(held, Decimal("0.000000001"))
    assert spent.spent_usd() == {"2026-04-01": Decimal(0), "2026-04": Decimal(0)}
    spent.settle(spent.reserve(Decimal("0.5")), Decimal("0.123456789"))
    assert spent.spent_usd()["2026-04"] == Decimal("0.123456789")


def test_a_threshold_is_told_once_and_two_processes_share_one_file(tmp_path: Path) -> None:
    notices: list[BudgetNotice] = []
    spec = budget(
        path=tmp_path / "budget.sqlite", thresholds=(BudgetThreshold(0.75, (Action.NOTIFY, Action.DEGRADE_TO_SMALL)),)
    )
    clock = ManualClock(datetime(2026, 3, 1, tzinfo=UTC))
    one, other = Budget(spec, clock, notices.append), Budget(spec, clock)
    one.spend(Decimal("0.5"))
    assert one.actions() == frozenset()
    other.spend(Decimal("0.3"))
    assert one.actions() == {Action.NOTIFY, Action.DEGRADE_TO_SMALL}
    assert one.actions() == other.actions()
    assert [(notice.window, notice.at) for notice in notices] == [("2026-03-01", 0.75)]
    one.close()
    other.close()


PRICES = """\
version: 1
name: test
currency: USD
prices:
"""


def price_book(path: Path, *models: tuple[str, str]) -> Path:
    rows = [
        f"  - {{id: {model}-{unit}, provider: {provider}, model: {model}, unit: usd_per_million_{unit}_tokens, "
        'amount: "1000", source: a test, retrieved: 2026-01-01, valid_from: 2020-01-01, illustrative: true}\n'
        for provider, model in models
        for unit in ("input", "output")
    ]
    path.write_text(PRICES + "".join(rows))
    return path


@pytest.mark.parametrize(
    ("cap", "spent", "held", "wanted", "said"),
    [
        ("0.0002", "0", "0", "0.00025", r"0\.0002 USD: 0\.00 are spent, 0\.00 are held .* 0\.00025 at most\n.*fewer"),
        ("0.005", "0.004", "0", "0.002", r"0\.005 USD: 0\.004 are spent, 0\.00 are held .* 0\.002 .*\n.*next day"),
        ("0.015", "0", "0.01", "0.01", r"0\.015 USD: 0\.00 are spent, 0\.01 are held .* 0\.01 .*\n.*have ended"),
        ("20", "19.5", "0", "0.6", r"20\.00 USD: 19\.50 are spent"),
    ],
)
def test_a_budget_that_is_refused_names_every_amount_as_it_is(
    cap: str, spent: str, held: str, wanted: str, said: str
) -> None:
    found = Budget(BudgetSpec(Decimal(cap), None), ManualClock(datetime(2026, 3, 1, 12, tzinfo=UTC)))
    found.spend(Decimal(spent))
    found.reserve(Decimal(held))
    with pytest.raises(SpendExceeded, match=said):
        found.reserve(Decimal(wanted))
    [standing] = found.standing()
    assert (standing.period, standing.use_case) == ("day", None)
    assert (standing.cap_usd, standing.spent_usd, standing.held_usd) == (Decimal(cap), Decimal(spent), Decimal(held))


def test_a_spent_budget_gives_only_what_is_kept_or_free(vendors: Vendors, tmp_path: Path) -> None:
    price_book(tmp_path / "prices.yaml", ("openai", "mock-large"))
    limits = {"daily_usd": "0.30", "thresholds": [{"at": 0.1, "actions": ["notify", "cache_only"]}]}
    document = vendors.document("main", prices="prices.yaml", budget=limits, cache={"exact": {}})
    path = write(tmp_path / "stack.yaml", document)
    told: list[str] = []
    with Application.open(path, on_notice=told.append) as application:
        assert application.chat(request()).cache == "none"  # 46 tokens at 1000 USD a million: 0.046 USD
        assert application.chat(request()).cache == "exact"
        with pytest.raises(SpendExceeded):
            application.chat(request(text=PROMPT + " "))
        day = application.budget[0]
        assert (day.period, day.cap_usd, day.held_usd) == ("day", Decimal("0.30"), 0)
        assert day.spent_usd > 0
    assert len(told) == 1
    assert "cache_only" in told[0]


def test_a_budget_without_a_price_is_refused_when_the_file_is_opened(vendors: Vendors, tmp_path: Path) -> None:
    price_book(tmp_path / "prices.yaml", ("openai", "another"))
    path = write(tmp_path / "stack.yaml", vendors.document("main", prices="prices.yaml", budget={"daily_usd": "1"}))
    with pytest.raises(ConfigError, match="has none for the tokens of the model 'main'"):
        Application.open(path)


def test_a_hedge_asks_the_next_one_when_the_first_is_silent_and_the_loser_is_counted(
    vendors: Vendors, tmp_path: Path
) -> None:
    traces = tmp_path / "t.jsonl"
    document = vendors.document(hedge={"after_ms": 100}, trace={"path": str(traces)})
    path = write(tmp_path / "stack.yaml", document)
    vendors["main"].inject(Fault("slow_first_token", {"delay_seconds": 3.0}))
    with Application.open(path) as application:
        answered = application.chat(request())
        assert (answered.name, answered.text) == ("backup", WHOLE)
        assert answered.outcome.duration_seconds < 2.9
        end = threading.Event()
        for _ in range(200):
            if len(list(read_traces(traces))) == 2:
                break
            end.wait(0.05)
    first, late = read_traces(traces)
    assert (first.provider, first.status, first.route_reason) == ("anthropic", "ok", "hedged")
    assert (late.provider, late.status, late.possibly_billed) == ("openai", "cancelled", True)


def test_no_more_calls_than_a_model_may_have_are_under_way(world: World) -> None:
    slots = Slots(1)
    router = world.router(("primary",))
    assert slots.take(timeout_seconds=0)
    assert not slots.take(timeout_seconds=0.01)
    slots.release()
    assert router.ask(world.question(), handling=Handling(order=())).error_class == "no_stack"


def test_64_at_once_are_all_answered_two_by_two(vendors: Vendors, tmp_path: Path) -> None:
    document = vendors.document("main")
    document["models"]["main"]["concurrency"] = 2
    path = write(tmp_path / "stack.yaml", document)
    with Application.open(path) as application, ThreadPoolExecutor(64) as pool:
        answers = [each.result() for each in [pool.submit(application.chat, request()) for _ in range(64)]]
    assert {answer.text for answer in answers} == {WHOLE}


def test_parquet_traces_lose_nothing_when_the_process_dies(vendors: Vendors, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    folder = tmp_path / "traces"
    document = vendors.document("main", trace={"path": str(folder), "format": "parquet"})
    path = write(tmp_path / "stack.yaml", document)
    application = Application.open(path)
    application.chat(request())
    left = (folder / UNDER_WAY).read_bytes()
    application.close()
    assert pq.read_table(folder).num_rows == 1
    (folder / UNDER_WAY).write_bytes(left + b'{"torn')  # as a kill -9 right after writing the part leaves it
    ParquetTraces(folder).close()
    assert pq.read_table(folder).num_rows == 1
    assert not (folder / UNDER_WAY).exists()
