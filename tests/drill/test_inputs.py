"""What a drill is asked with: golden questions that bring their own vectors; and inputs wrong from the start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exitramp.arrow import dense_matrix
from exitramp.drill.catalogue import find_drill
from exitramp.drill.engine import run_drill
from exitramp.drill.event_log import read_events
from exitramp.errors import ConfigError
from exitramp.records import Verdict
from exitramp.wrappers import open_endpoint
from tests.drill.small_stacks import drill_text, fill, write_drill

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
        for row, (id_, vector) in enumerate(zip(page.batch.column("id").to_pylist(), matrix, strict=True))
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
        ("{golden: bare.jsonl, embedder: 'openai:x'}", False, "'openai' is no embedding model"),
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
