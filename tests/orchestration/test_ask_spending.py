"""What stacks cost: embeddings and rerankings are counted, use cases have caps of their own, and thresholds act."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from exitramp.clock import ManualClock
from exitramp.errors import ConfigError, SpendExceeded
from exitramp.finops.prices import load_price_book
from exitramp.finops.unit_cost import request_costs
from exitramp.orchestration import Application, read_traces
from exitramp.orchestration.budget import Budget, Ledger
from exitramp.orchestration.stack_file import BudgetSpec, UseCaseCap
from exitramp.ports import Purpose
from tests.orchestration.libraries import QUESTION, RerankServer, fill, price_book
from tests.orchestration.vendors import PROMPT, Vendors, request, write

TOKENS = [(provider, model, f"usd_per_million_{kind}_tokens", "1000")
          for provider, model in (("openai", "mock-large"), ("anthropic", "mock-medium"))
          for kind in ("input", "output")]  # fmt: skip
EMBED = ("openai", "mock-embed", "usd_per_million_input_tokens", "1000")


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    made = Vendors(tmp_path_factory.mktemp("vendors"))
    yield made
    made.stop()


def stack(vendors: Vendors, folder: Path, rows: list[tuple[str, str, str, str]], **more: Any) -> Path:
    (folder / "prices.yaml").write_text(price_book(rows))
    document: dict[str, Any] = vendors.document(prices="prices.yaml", trace={"path": "t.jsonl"})
    base = vendors.addresses["main"].options["base_url"]
    document["embedders"] = {
        "words": {"address": "wordllama:"},
        "hosted": {"address": f"openai:mock-embed?base_url={base}&dimensions=256"},
    }
    return write(folder / "stack.yaml", document | more)


def spent(application: Application) -> Mapping[str, Decimal]:
    budget = application._followed.newest.budget
    assert budget is not None
    return budget.spent_usd()


def test_a_use_case_has_a_cap_of_its_own_within_that_of_all() -> None:
    cap = UseCaseCap("a", Decimal("0.10"), None)
    clock = ManualClock(datetime(2026, 3, 1, tzinfo=UTC))
    budget = Budget(BudgetSpec(Decimal("0.25"), None, use_cases=(cap,)), clock)
    budget.reserve(Decimal("0.10"), "a")
    with pytest.raises(SpendExceeded, match="2026-03-01 a"):
        budget.reserve(Decimal("0.01"), "a")
    budget.reserve(Decimal("0.10"), "b")
    with pytest.raises(SpendExceeded, match="the budget of 2026-03-01 is"):
        budget.reserve(Decimal("0.10"), "b")
    assert budget.spent_usd() == {"2026-03-01": Decimal("0.20"), "2026-03-01 a": Decimal("0.10")}


def test_a_cap_that_is_set_later_knows_what_was_spent_before() -> None:
    clock, ledger = ManualClock(datetime(2026, 3, 1, tzinfo=UTC)), Ledger(None)
    Budget(BudgetSpec(Decimal(1), None), clock, ledger=ledger).spend(Decimal("0.5"), "a")
    later = Budget(BudgetSpec(None, None, use_cases=(UseCaseCap("a", None, Decimal("0.6")),)), clock, ledger=ledger)
    with pytest.raises(SpendExceeded):
        later.reserve(Decimal("0.2"), "a")


def test_embeddings_are_held_counted_and_stopped_by_the_budget(vendors: Vendors, tmp_path: Path) -> None:
    path = stack(vendors, tmp_path, [*TOKENS, EMBED], budget={"daily_usd": "0.05"})
    with Application.open(path) as application:
        found = application.embed(["one two three four"], Purpose.QUERY, embedder="hosted")
        [day] = spent(application).values()
        assert day == Decimal(found.usage.prompt_tokens) / 1000
        application.embed(["free"], embedder="words")
        assert list(spent(application).values()) == [day]
        with pytest.raises(SpendExceeded):
            application.embed(["word " * 100], embedder="hosted")
        assert list(spent(application).values()) == [day]


def test_a_budget_needs_a_price_of_every_embedder_that_is_hosted(vendors: Vendors, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="embedder 'hosted'"):
        Application.open(stack(vendors, tmp_path, TOKENS, budget={"daily_usd": "1"}))


def test_a_question_costs_its_answer_its_embedding_and_its_reranking(vendors: Vendors, tmp_path: Path) -> None:
    base = vendors.addresses["main"].options["base_url"]
    hosted = f"openai:mock-embed?base_url={base}&dimensions=256"
    with RerankServer(lambda question, text: float(len(text))) as server:
        rows = [*TOKENS, EMBED, ("judges", "judge", "usd_per_rerank_candidate", "0.001")]
        rows += [("chroma", "vector_store", "usd_per_query", "0"),
                 ("chroma", "vector_store", "usd_per_million_vector_reads", "0"),
                 ("own", "orchestration", "usd_per_request_orchestration", "0.0001")]  # fmt: skip
        rerank = {"address": server.address, "candidates": 7, "billed_as": "judges"}
        address = fill(f"chroma:{tmp_path}/db#docs", model=hosted)
        parts = {
            "stores": {"docs": {"address": address, "embedder": "hosted", "depth_k": 2, "rerank": rerank}},
            "stacks": {"one": {"chat": "main", "store": "docs"}},
            "prompts": "packaged",
            "budget": {"daily_usd": "90", "use_cases": {"docs_qa": {"daily_usd": "80"}}},
        }
        with pytest.raises(ConfigError, match="what reranks for the stack 'one'"):
            Application.open(stack(vendors, tmp_path, [*TOKENS, EMBED], **parts))
        with Application.open(stack(vendors, tmp_path, rows, **parts)) as application:
            answered = application.ask(QUESTION, use_case="docs_qa")
            both = spent(application)
    records = list(read_traces(tmp_path / "t.jsonl"))
    assert [record.operation for record in records] == ["embed", "rerank", "answer"]
    costs = [record.unit_cost_usd for record in records]
    usage = answered.answer.usage
    tokens = Decimal(usage.prompt_tokens + usage.gen_tokens) / 1000
    assert costs == [Decimal(records[0].prompt_tokens) / 1000, 0, tokens + Decimal("0.007") + Decimal("0.0001")]
    total = sum((cost or Decimal(0) for cost in costs), Decimal(0))
    assert list(both.values()) == [total, total]
    assert len({(record.request_id, record.attempt) for record in records}) == 3
    [cost] = request_costs(records, load_price_book(tmp_path / "prices.yaml"))
    assert cost.unit_cost_usd == total, "what the traces say of each call, and what they say together"
    assert {part.value: amount.usd for part, amount in cost.parts.items() if amount.usd} == {
        "input": Decimal(usage.prompt_tokens) / 1000,
        "generation": Decimal(usage.gen_tokens) / 1000,
        "retrieval": costs[0],
        "rerank": Decimal("0.007"),
        "orchestration": Decimal("0.0001"),
    }


def test_a_use_case_that_has_spent_its_share_is_degraded_then_gets_only_what_is_kept_and_others_go_on(
    vendors: Vendors, tmp_path: Path
) -> None:
    limits = {
        "daily_usd": "10",
        "use_cases": {"a": {"daily_usd": "0.4"}},
        "thresholds": [{"at": 0.1, "actions": ["degrade_to_small"]}, {"at": 0.2, "actions": ["cache_only"]}],
    }
    path = stack(vendors, tmp_path, [*TOKENS, EMBED], budget=limits, cache={"exact": {}})
    document = path.read_text().replace("tier: medium", "tier: small")
    path.write_text(document)
    told: list[str] = []
    with Application.open(path, on_notice=told.append) as application:
        assert application.chat(request(), use_case="a").name == "main"  # 46 tokens at 1000 USD a million
        assert application.chat(request(text="What is a path?"), use_case="b").name == "main"
        assert application.chat(request(text=PROMPT + " "), use_case="a").name == "backup", "a small model"
        assert application.chat(request(), use_case="a", use_cache=True).cache == "exact"
        with pytest.raises(SpendExceeded, match="only answers that are kept"):
            application.chat(request(text="something new"), use_case="a")
        assert application.chat(request(text="something new"), use_case="b").name == "main"
    told = [notice for notice in told if notice.startswith("budget of")]
    assert len(told) == 2
    assert all(" a:" in notice for notice in told)
