"""A hedge's loser ends after its request: its share stays held until then, and its trace is written all the same."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from exitramp.clock import ManualClock
from exitramp.errors import SpendExceeded
from exitramp.faults import Fault
from exitramp.orchestration import Application, read_traces
from exitramp.orchestration.budget import Budget, WindowStanding
from exitramp.orchestration.holding import Holding
from exitramp.orchestration.stack_file import BudgetSpec
from tests.orchestration.libraries import price_book
from tests.orchestration.vendors import Vendors, request, write

ROWS = [(provider, model, f"usd_per_million_{kind}_tokens", "1000")
        for provider, model in (("openai", "mock-large"), ("anthropic", "mock-medium"))
        for kind in ("input", "output")]  # fmt: skip


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    made = Vendors(tmp_path_factory.mktemp("vendors"))
    yield made
    made.stop()


def standing(budget: Budget) -> tuple[str, str]:
    [day] = budget.standing()
    return str(day.spent_usd), str(day.held_usd)


def test_a_loser_keeps_its_share_until_it_ends_and_is_counted_then() -> None:
    clock = ManualClock(datetime(2026, 3, 1, tzinfo=UTC))
    budget = Budget(BudgetSpec(Decimal(1), None), clock)
    holding = Holding(budget, Decimal("0.4"), "a")
    assert holding.begins(1)
    assert holding.begins(2)
    holding.ended(Decimal("0.1"))
    holding.settle()
    assert standing(budget) == ("0.1", "0.4")
    with pytest.raises(SpendExceeded):
        budget.reserve(Decimal("0.6"), "b")
    assert not holding.begins(3), "the request has ended"
    holding.ended(Decimal("0.2"))
    assert standing(budget) == ("0.3", "0")


def test_closing_waits_for_a_loser_whose_trace_and_cost_are_written(vendors: Vendors, tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(price_book(ROWS))
    parts = {"hedge": {"after_ms": 50}, "budget": {"daily_usd": "10", "path": "budget.sqlite"}}
    parts |= {"prices": "prices.yaml", "trace": {"path": "t.jsonl"}, "retry": {"tries": 1}}
    path = write(tmp_path / "stack.yaml", vendors.document(**parts))
    vendors["main"].inject(Fault("slow_first_token", {"delay_seconds": 1.0}))
    with Application.open(path) as application:
        assert application.chat(request()).name == "backup"
        [before] = application.budget
        assert before.held_usd > 0
    records = list(read_traces(tmp_path / "t.jsonl"))
    assert [record.status for record in records] == ["ok", "cancelled"]
    with Application.open(path) as application:
        [after] = application.budget
    tokens = sum(record.prompt_tokens + record.gen_tokens for record in records)
    assert after == WindowStanding("day", None, Decimal(10), Decimal(tokens) / 1000, Decimal(0))
