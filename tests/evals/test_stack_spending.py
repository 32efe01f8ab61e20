"""What a run of a whole stack costs: the answer, the question's embedding, the reranking, and what measures it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from exitramp.cli.main import run
from exitramp.clock import SystemClock
from exitramp.evals.runs.spending import Allowance
from exitramp.finops.prices import load_price_book
from exitramp.finops.unit_cost import CostPart, request_costs
from exitramp.orchestration import Application, read_traces
from exitramp.records import EVAL_TAG
from tests.orchestration.libraries import QUESTION, RerankServer, fill, price_book
from tests.orchestration.vendors import Vendors, write

CHAT = [("openai", "mock-large", f"usd_per_million_{kind}_tokens", "1000") for kind in ("input", "output")]
EMBED = ("openai", "mock-embed", "usd_per_million_input_tokens", "1000")
RERANK = ("judges", "judge", "usd_per_rerank_candidate", "0.001")
ALL = [*CHAT, EMBED, RERANK]
MODELS = (CostPart.INPUT, CostPart.GENERATION, CostPart.RETRIEVAL, CostPart.RERANK)


class Place:
    """A stack over a hosted embedder and a reranker, a set of four questions, and price books."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vendors = Vendors(folder)
        self.reranker = RerankServer(lambda question, text: float(len(text)))
        base = self.vendors.addresses["main"].options["base_url"]
        self.embedder = f"openai:mock-embed?base_url={base}&dimensions=256"
        rerank = {"address": self.reranker.address, "candidates": 7, "billed_as": "judges"}
        self.document: dict[str, Any] = {
            **self.vendors.document("main"),
            "embedders": {"hosted": {"address": self.embedder}},
            "stores": {
                "docs": {
                    "address": fill(f"chroma:{folder}/db#docs", model=self.embedder),
                    "embedder": "hosted",
                    "depth_k": 2,
                    "rerank": rerank,
                }
            },
            "stacks": {"one": {"chat": "main", "store": "docs"}},
            "prompts": "packaged",
        }
        self.stack = write(folder / "stack.yaml", self.document)
        check = {"kind": "similarity", "text": "a path", "threshold": 0.001}
        cases = [{"id": f"c{n}", "question": f"{QUESTION} ({n})", "use_case": "docs_qa", "checks": [check]}
                 for n in range(4)]  # fmt: skip
        self.set = folder / "set.jsonl"
        self.set.write_text("".join(json.dumps(case) + "\n" for case in cases))

    def run(self, out: str, rows: list[tuple[str, str, str, str]], *words: str) -> int:
        prices = self.folder / f"{out}.yaml"
        prices.write_text(price_book(rows))
        return run(["eval", "run", str(self.set), "--stack", str(self.stack), "--out", str(self.folder / out), "--json",
                    "--embedder", self.embedder, "--prices", str(prices), "--concurrency", "1", *words])  # fmt: skip

    def end(self) -> None:
        self.reranker.__exit__()
        self.vendors.stop()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("spending"))
    yield made
    made.end()


def test_a_run_counts_every_call_and_stops_before_the_limit_would_be_passed(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.run("whole", ALL) == 0
    whole = json.loads(capsys.readouterr().out)
    records = list(read_traces(place.folder / "whole" / "traces.jsonl"))
    per_case = sorted(record.operation for record in records if record.request_id.startswith("c0/"))
    assert per_case == ["answer", "embed", "embed", "embed", "rerank"], "two are for the check by similarity"
    book = load_price_book(place.folder / "whole.yaml")
    costs = request_costs([replace(record, queries=0, vector_reads=0) for record in records], book)
    by_part = {part: sum((cost.parts[part].usd or Decimal(0) for cost in costs), Decimal(0)) for part in MODELS}
    assert Decimal(whole["usd"]) == sum(by_part.values())
    assert all(by_part.values()), "each part costs something here"
    assert by_part[CostPart.RERANK] == Decimal("0.028")
    cases = [json.loads(line)["data"] for line in (place.folder / "whole" / "cases.jsonl").read_text().splitlines()]
    assert {case["attempts"] for case in cases if "attempts" in case} == {1}, "what is asked beside is no attempt"
    each = Decimal(whole["usd"]) / 4
    with Application.open(place.stack) as application:
        [way] = application.supposed(QUESTION, use_case="docs_qa")
    assert [record.operation for record in way] == ["chat", "embed", "rerank"]
    most = Allowance(SystemClock(), book=book).cost(way).usd
    assert most is not None
    assert most > each, "more is put aside than it costs"
    limit = (
        most + 2 * each + Decimal("0.6")
    )  # of which the check is some 0.53; there is room for the second, and perhaps not for the fourth
    assert place.run("limited", ALL, "--max-usd", str(limit)) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["state"] == "stopped"
    assert 0 < told["results"] < 4
    assert Decimal(told["usd"]) <= limit
    assert "would be exceeded" in told["stopped_by"]


@pytest.mark.parametrize("lacking", [EMBED, RERANK, CHAT[1]])
def test_a_price_that_is_missing_is_named_and_never_taken_for_nothing(
    place: Place, lacking: tuple[str, str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row for row in ALL if row != lacking]
    before = place.vendors["main"].counters()["requests"]
    assert place.run(f"none-{lacking[1]}-{lacking[2]}", rows, "--max-usd", "100") == 2
    said = capsys.readouterr().err
    assert f"has no {lacking[2]} for {lacking[0]}/{lacking[1]}" in said
    assert "--max-usd cannot be held" in said
    assert place.vendors["main"].counters()["requests"] == before, "nothing was asked"


def test_a_run_without_a_limit_says_by_name_whose_price_it_lacks(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.run("unpriced", [*CHAT, RERANK]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["usd"] is None
    assert told["unpriced_results"] == 4
    [gap] = told["prices_missing"]
    assert "usd_per_million_input_tokens for openai/mock-embed" in gap


def test_what_an_eval_asks_of_a_stack_is_marked_in_its_traces_and_no_cost_of_the_application(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    traced = place.document | {"trace": {"path": "app.jsonl"}}
    write(place.stack, traced)
    try:
        with Application.open(place.stack) as application:
            application.ask(QUESTION, use_case="docs_qa")
        assert place.run("traced", ALL) == 0
    finally:
        write(place.stack, place.document)
    own, of_run = place.folder / "app.jsonl", place.folder / "traced" / "traces.jsonl"
    assert all(EVAL_TAG in each.tags for each in read_traces(of_run))
    by_eval = [each for each in read_traces(own) if EVAL_TAG in each.tags]
    assert {each.span_id for each in by_eval} < {each.span_id for each in read_traces(of_run)}
    assert len({each.request_id.partition(":")[0] for each in by_eval}) == 4
    words = ["cost", "unit", str(own), str(of_run), "--prices", str(place.folder / "traced.yaml"), "--json"]
    capsys.readouterr()
    run(words)
    told = json.loads(capsys.readouterr().out)
    assert told["overall"]["requests"] == 1
    assert told["eval_calls_left_out"] == len(list(read_traces(of_run)))
    run([*words, "--with-evals"])
    told = json.loads(capsys.readouterr().out)
    assert told["overall"]["requests"] == 1 + 4 + 4, "the checks by similarity are requests of the run"
    assert told["copies_left_out"] == len(by_eval)
