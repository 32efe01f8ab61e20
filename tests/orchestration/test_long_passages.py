"""What a question can cost is known once its passages are there: a prompt that is longer than was thought is held for
with its own length, or not sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from exitramp.cli.main import run
from exitramp.orchestration import Application, NotAnswered, read_traces
from tests.orchestration import libraries
from tests.orchestration.libraries import QUESTION, fill, price_book
from tests.orchestration.vendors import Vendors, write

ROWS = [(provider, model, f"usd_per_million_{kind}_tokens", "1000")
        for provider, model in (("openai", "mock-large"), ("anthropic", "mock-medium"))
        for kind in ("input", "output")]  # fmt: skip


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    made = Vendors(tmp_path_factory.mktemp("vendors"))
    yield made
    made.stop()


@pytest.fixture
def stack(vendors: Vendors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Over passages of some 2,500 tokens each, for three of which 20,000 letters have to be held."""
    long = {name: text + " and so on" * 1300 for name, text in libraries.PASSAGES.items()}
    monkeypatch.setattr(libraries, "PASSAGES", long)
    (tmp_path / "prices.yaml").write_text(price_book(ROWS))
    document = vendors.document("main") | {
        "embedders": {"words": {"address": "wordllama:"}},
        "stores": {"docs": {"address": fill(f"chroma:{tmp_path}/db#docs"), "embedder": "words", "depth_k": 3}},
        "prompts": "packaged",
        "prices": "prices.yaml",
        "stacks": {"one": {"chat": "main", "store": "docs"}},
        "trace": {"path": "t.jsonl"},
    }
    return write(tmp_path / "stack.yaml", document)


@pytest.mark.parametrize(("daily", "is_answered"), [("10", False), ("40", True)])
def test_a_budget_holds_what_the_prompt_really_reads(
    vendors: Vendors, stack: Path, daily: str, is_answered: bool
) -> None:
    stack.write_text(stack.read_text() + f"budget: {{daily_usd: '{daily}'}}\n")
    before = vendors["main"].counters()["requests"]
    with Application.open(stack) as application:
        if is_answered:
            assert application.ask(QUESTION, use_case="docs_qa").text
        else:
            with pytest.raises(NotAnswered, match="with its passages it could cost more than is left") as caught:
                application.ask(QUESTION, use_case="docs_qa")
            assert caught.value.error_class == "budget"
            assert application.breakers() == {"main": "closed"}
        [day] = application.budget
    [record] = [each for each in read_traces(stack.with_name("t.jsonl")) if each.operation == "answer"]
    assert vendors["main"].counters()["requests"] - before == int(is_answered)
    assert (day.spent_usd, day.held_usd) == (Decimal(record.prompt_tokens + record.gen_tokens) / 1000, 0)
    assert (record.error_class, record.possibly_billed) == ((None, False) if is_answered else ("budget", False))


@pytest.mark.parametrize(("limit", "answers"), [("10", 0), ("60", 2)])
def test_a_run_is_held_to_its_limit_by_what_the_prompt_really_reads(
    vendors: Vendors, stack: Path, capsys: pytest.CaptureFixture[str], limit: str, answers: int
) -> None:
    cases = stack.with_name("set.jsonl")
    cases.write_text(
        "".join(
            json.dumps({"id": name, "question": f"{QUESTION} {name}", "use_case": "docs_qa"}) + "\n" for name in "ab"
        )
    )
    before = vendors["main"].counters()["requests"]
    words = ["eval", "run", str(cases), "--stack", str(stack), "--out", str(stack.with_name("r"))]
    run([*words, "--prices", str(stack.with_name("prices.yaml")), "--max-usd", limit, "--json"])
    capsys.readouterr()
    assert vendors["main"].counters()["requests"] - before == answers
