"""What a drill is asked with: golden questions that bring their own vectors; and inputs wrong from the start."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exitramp.arrow import dense_matrix, record_keys
from exitramp.cli.main import run
from exitramp.drill.beginning import begin_drill
from exitramp.drill.catalogue import find_drill
from exitramp.drill.engine import run_drill
from exitramp.drill.log_reading import read_events
from exitramp.errors import ConfigError
from exitramp.finops.prices import load_price_book
from exitramp.migration import migrate
from exitramp.ports import Origin
from exitramp.records import Finding, Verdict
from exitramp.testing.rows import Row, batch_from_rows
from exitramp.wrappers import OpenSettings, open_endpoint
from tests.drill.small_stacks import SPEC, drill_text, fill, write_drill

STEPS = """
  - start: {}
  - load_golden: {}
  - dump: {}
  - plan: {}
  - restore: {}
  - baseline: {}
  - replay: {}
  - compare_quality: {metrics: [ndcg@10]}
"""


def golden(folder: Path, primary: str, *, questions: int = 40, drop: int = 0) -> Path:
    """Each question is a record's own vector, without its last `drop` numbers, and that record answers it."""
    with open_endpoint(primary) as endpoint:
        source = endpoint.source()
        [page] = source.scan(source.partitions(1)[0], batch_rows=1000)
    matrix = dense_matrix(page.batch.column("vector"))
    width = matrix.shape[1] - drop
    cases: list[dict[str, Any]] = [
        {"id": f"q{row}", "question": f"What is record {row}?", "relevant": {id_: 3}, "vector": vector[:width].tolist()}
        for row, (id_, vector) in enumerate(zip(map(str, record_keys(page.batch)), matrix, strict=True))
    ]
    file = folder / "golden.jsonl"
    file.write_text("\n".join(map(json.dumps, cases[:questions])), encoding="utf-8")
    return file


def drill(folder: Path, data: str, *, chat: bool = False) -> Path:
    text = drill_text(
        f"qdrant:{folder}/primary#articles",
        f"qdrant:{folder}/substitute#articles",
        STEPS,
        data=data,
        objectives="{quality_margin: 0.10}",
        chat=chat,
    )
    return write_drill(folder, text)


@pytest.fixture
def primary(tmp_path: Path) -> str:
    return fill(f"qdrant:{tmp_path}/primary#articles")


def test_questions_that_bring_their_vectors_need_no_embedder(tmp_path: Path, primary: str) -> None:
    golden(tmp_path, primary)
    result = run_drill(find_drill(str(drill(tmp_path, "{golden: golden.jsonl}"))), tmp_path / "run", seed=1)
    steps = {
        event.data["step"]: event.data
        for event in read_events(result.folder / "journal.jsonl")
        if event.kind == "step.finished"
    }
    assert (steps["baseline"]["data"]["asked"], steps["baseline"]["data"]["answered"]) == (40, 40)
    assert steps["compare_quality"]["verdict"] == Verdict.PASS.value


def test_one_question_under_forty_ids_is_one_and_a_set_of_eval_run_is_read(tmp_path: Path, primary: str) -> None:
    file = golden(tmp_path, primary)
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    one = rows[0] | {"checks": [{"kind": "number", "value": 3}, {"kind": "judge", "criterion": "short"}]}
    talk = [{"role": "assistant", "content": "Hello"}, {"role": "user", "content": rows[1]["question"]}]
    other = {key: value for key, value in rows[1].items() if key != "question"} | {"messages": talk}
    same = [one | {"id": f"same-{n}", "use_case": f"u{n}"} for n in range(40)]
    file.write_text("\n".join(map(json.dumps, [*same, other])), "utf-8")
    steps, findings = _ran(tmp_path)
    assert steps["baseline"]["data"]["answered"] == 41
    [judged] = steps["compare_quality"]["data"]["metrics"]
    assert (judged["n"], judged["verdict"]) == (2, "inconclusive")
    told = {each.code: each.count for each in findings if each.code.startswith("golden.")}
    assert told == {"golden.asks_a_model": 40, "golden.conversation": 1, "golden.doubles": 39}


def test_golden_ids_may_be_in_namespaces(tmp_path: Path) -> None:
    """With a `/` of their own in both parts, in none, and in the one that is called ""."""
    fill_keys(tmp_path, [(f"kb/{row}#{row}", (None, "", "a", "a/b")[row % 4]) for row in range(40)])
    golden(tmp_path, f"qdrant:{tmp_path}/primary#articles")
    steps, _ = _ran(tmp_path)
    assert steps["load_golden"]["data"]["usable"] == 40
    for step in ("baseline", "replay"):
        assert (steps[step]["data"]["answered"], steps[step]["data"]["recall"]) == (40, 1.0)
    assert steps["compare_quality"]["verdict"] == Verdict.PASS.value


def test_a_golden_id_that_means_two_records_is_named(tmp_path: Path) -> None:
    fill_keys(tmp_path, [("x", "a/b"), ("b/x", "a"), *((f"r{row}", None) for row in range(38))])
    golden(tmp_path, f"qdrant:{tmp_path}/primary#articles")
    steps, findings = _ran(tmp_path)
    assert steps["load_golden"]["verdict"] == Verdict.INCONCLUSIVE.value
    [found] = [each for each in findings if each.code == "golden.ambiguous"]
    assert found.ids == ("a/b/x",)


def fill_keys(folder: Path, keys: Sequence[tuple[str, str | None]]) -> None:
    rng = np.random.default_rng(5)
    spec = replace(SPEC, has_namespaces=True)
    matrix = rng.standard_normal((len(keys), 12)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    rows = [Row(*key, "text", {}, {"vector": vector}) for key, vector in zip(keys, matrix, strict=True)]
    with open_endpoint(f"memory:{folder}#articles") as held, open_endpoint(f"qdrant:{folder}/primary#articles") as made:
        sink = held.sink()
        sink.create(spec, Origin(spec, "test"))
        sink.upsert(batch_from_rows(rows, spec))
        sink.flush()
        migrate(held, made)


def _ran(folder: Path) -> tuple[dict[str, Any], Sequence[Finding]]:
    result = run_drill(find_drill(str(drill(folder, "{golden: golden.jsonl}"))), folder / "run", seed=1)
    events = read_events(result.folder / "journal.jsonl")
    return {event.data["step"]: event.data for event in events if event.kind == "step.finished"}, result.findings


def test_a_question_of_other_dimensions_is_named(tmp_path: Path, primary: str) -> None:
    golden(tmp_path, primary, drop=2)
    result = run_drill(find_drill(str(drill(tmp_path, "{golden: golden.jsonl}"))), tmp_path / "run", seed=1)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert (
        "'q0' has a vector of 10 numbers, the primary's vectors have 12"
        in (result.folder / "journal.jsonl").read_text()
    )


@pytest.mark.parametrize(
    ("data", "chat", "message"),
    [
        ("{golden: bare.jsonl}", False, "'bare' has no 'vector', and data.embedder names no model"),
        ("{golden: bare.jsonl, embedder: 'no-such:x'}", False, "no model 'no-such' is installed"),
        ("{golden: bare.jsonl, embedder: 'anthropic:x'}", False, "'anthropic' is no embedding model"),
        ("{golden: nowhere.jsonl}", False, "neither a file"),
        ("{prices: nowhere.yaml}", False, "neither a file"),
        ("{}", True, "primary.chat is asked by prompts, and data.prompts names none"),
    ],
)
def test_what_is_wrong_from_the_start_is_said_before_the_start(
    tmp_path: Path, primary: str, data: str, chat: bool, message: str
) -> None:
    (tmp_path / "bare.jsonl").write_text('{"id": "bare", "question": "What?", "relevant": {"a": 1}}')
    with pytest.raises((ConfigError, LookupError), match=message):
        run_drill(find_drill(str(drill(tmp_path, data, chat=chat))), tmp_path / "run", seed=1)
    assert not (tmp_path / "run").exists()


def test_the_price_book_to_fill_in_is_one_once_it_is_filled_in(tmp_path: Path, primary: str) -> None:
    begun = begin_drill(primary, f"qdrant:{tmp_path}/other#articles", tmp_path / "own", OpenSettings())
    text = begun.prices.read_text(encoding="utf-8")
    with pytest.raises(ConfigError):
        load_price_book(begun.prices)
    filled = text.replace("#  - ", "  - ").replace("#     ", "     ").replace('""', '"0.5"')
    book = load_price_book(filled, name="filled")
    golden(tmp_path, primary)
    spec = find_drill(str(drill(tmp_path, "{golden: golden.jsonl, prices: filled.yaml}")))
    (tmp_path / "filled.yaml").write_text(filled, encoding="utf-8")
    steps = (*spec.steps, *find_drill(str(begun.drill_file)).steps[-2:-1])
    assert steps[-1].name == "cost"
    result = run_drill(replace(spec, steps=steps), tmp_path / "run", seed=1)
    assert {price.provider for price in book.prices} == {"qdrant", "own"}
    assert not [each for each in result.findings if each.code == "cost.missing_prices"]
    assert any("100,000 requests a month" in each.message for each in result.findings)


def test_prices_that_are_missing_are_named(tmp_path: Path, primary: str) -> None:
    golden(tmp_path, primary)
    begun = begin_drill(primary, f"qdrant:{tmp_path}/other#articles", tmp_path / "own", OpenSettings())
    row = "{id: a, provider: own, service: orchestration, unit: usd_per_request_orchestration, amount: '0', source: x,"
    (tmp_path / "few.yaml").write_text(
        f"version: 1\nname: few\ncurrency: USD\nprices:\n  - {row} retrieved: 2026-01-01, valid_from: 2026-01-01,"
        " illustrative: false}\n"
    )
    spec = find_drill(str(drill(tmp_path, "{golden: golden.jsonl, prices: few.yaml}")))
    steps = (*spec.steps, *find_drill(str(begun.drill_file)).steps[-2:-1])
    result = run_drill(replace(spec, steps=steps), tmp_path / "run", seed=1)
    [finding] = [each for each in result.findings if each.code == "cost.missing_prices"]
    for unit in ("usd_per_query", "usd_per_gb_egress", "usd_per_million_vector_writes", "usd_per_month"):
        assert f"few has no {unit} for qdrant/vector_store" in finding.message


@pytest.mark.parametrize("module", ["scipy", "ir_measures"])
def test_golden_questions_that_could_not_be_judged_are_found_out_before_anything_starts(
    module: str, tmp_path: Path, primary: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    golden(tmp_path, primary)
    file = drill(tmp_path, "{golden: golden.jsonl}")
    monkeypatch.setitem(sys.modules, module, None)
    assert run(["drill", "run", str(file), "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert module in said
    assert "exitramp[evals]" in said
    assert not (tmp_path / "run").exists()
