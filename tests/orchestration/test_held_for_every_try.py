"""Limits of money hold while vendors take money for nothing: each try that may be billed is held for before it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from exitramp.cli.main import run
from exitramp.errors import SpendExceeded
from exitramp.faults import Fault
from exitramp.orchestration import Application, NotAnswered
from exitramp.orchestration.supposed_tokens import supposed_tokens
from exitramp.ports import ToolSpec
from tests.orchestration.libraries import price_book
from tests.orchestration.vendors import Vendors, request, write

ROWS = [(provider, model, f"usd_per_million_{kind}_tokens", amount)
        for provider, model in (("openai", "mock-large"), ("anthropic", "mock-medium"))
        for kind, amount in (("input", "0"), ("output", "1000"))]  # fmt: skip
SHARE = Decimal("0.064")
"""Of one try: 64 tokens at a thousand dollars a million."""


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    made = Vendors(tmp_path_factory.mktemp("vendors"))
    for vendor in made.vendors.values():
        vendor.inject(Fault("malformed"))
    yield made
    made.stop()


def requests_to(vendors: Vendors) -> int:
    return sum(vendors[name].counters()["requests"] for name in ("main", "backup"))


def stack(vendors: Vendors, folder: Path, **more: Any) -> Path:
    (folder / "prices.yaml").write_text(price_book(ROWS))
    quick = {"tries": 2, "base_seconds": 0.01, "cap_seconds": 0.01}
    document = vendors.document(prices="prices.yaml", retry=quick, breaker={"failures": 1000, "sample": 1000})
    return write(folder / "stack.yaml", document | more)


def test_a_budget_holds_for_64_at_once_where_every_try_may_be_billed(vendors: Vendors, tmp_path: Path) -> None:
    before = requests_to(vendors)
    with Application.open(stack(vendors, tmp_path, budget={"daily_usd": "0.5"})) as application:

        def ask(number: int) -> str:
            with pytest.raises((NotAnswered, SpendExceeded)) as caught:
                application.chat(request())
            return str(caught.value)

        with ThreadPoolExecutor(64) as pool:
            told = list(pool.map(ask, range(64)))
    asked = requests_to(vendors) - before
    assert 0 < asked * SHARE <= Decimal("0.5")
    assert any("nothing is left of the budget to try again" in each for each in told)


def test_a_budget_that_has_room_leaves_all_tries(vendors: Vendors, tmp_path: Path) -> None:
    before = requests_to(vendors)
    with Application.open(stack(vendors, tmp_path, budget={"daily_usd": "100"})) as application:
        with pytest.raises(NotAnswered):
            application.chat(request())
        budget = application._followed.newest.budget
        assert budget is not None
        [spent] = budget.spent_usd().values()
    asked = requests_to(vendors) - before
    assert asked == 4
    assert spent == asked * SHARE


@pytest.mark.parametrize("kind", ["--model", "--stack"])
def test_a_run_does_not_try_again_beyond_its_limit(
    vendors: Vendors, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    (tmp_path / "set.jsonl").write_text('{"id": "a", "question": "Why?"}\n{"id": "b", "question": "How?"}\n')
    path = stack(vendors, tmp_path)
    subject = str(path) if kind == "--stack" else vendors.addresses["main"].text
    before = requests_to(vendors)
    words = [
        "eval",
        "run",
        str(tmp_path / "set.jsonl"),
        kind,
        subject,
        "--out",
        str(tmp_path / "r"),
        "--max-tokens",
        "64",
    ]
    assert run([*words, "--prices", str(tmp_path / "prices.yaml"), "--max-usd", "0.15", "--json"]) in (3, 5)
    assert json.loads(capsys.readouterr().out)["state"] in ("stopped", "complete")
    assert 0 < (requests_to(vendors) - before) * SHARE <= Decimal("0.15")


def test_no_language_and_no_tool_is_held_for_with_less_than_it_reads(vendors: Vendors, tmp_path: Path) -> None:
    assert supposed_tokens("日本語") >= 9
    assert supposed_tokens("🙂" * 10) >= 40
    rows = [(provider, model, unit, "1000") for provider, model, unit, _ in ROWS]
    path = stack(vendors, tmp_path, budget={"daily_usd": "1"})
    (tmp_path / "prices.yaml").write_text(price_book(rows))
    tool = ToolSpec("look_up", "x" * 4000, {"type": "object"})
    with Application.open(path) as application, pytest.raises(SpendExceeded):
        application.chat(request(tools=(tool,)))
