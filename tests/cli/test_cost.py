"""`exitramp cost unit`: traces as a stack writes them, and what they cost by part."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from exitramp.cli.main import run
from exitramp.orchestration.trace import TraceWriter, read_traces, write_parquet
from exitramp.orchestration.trace_files import UNDER_WAY
from exitramp.records import TraceRecord
from tests.orchestration.libraries import price_book

ROWS = (
    ("v", "m", "usd_per_million_input_tokens", "10"),
    ("v", "m", "usd_per_million_output_tokens", "20"),
    ("rerank", "judge", "usd_per_million_input_tokens", "2"),
    ("hosted", "e", "usd_per_million_input_tokens", "1"),
)


def record(request_id: str, operation: str = "chat", **changes: Any) -> TraceRecord:
    base = TraceRecord(
        1, request_id, 1, datetime(2026, 11, 3, 12, tzinfo=UTC), "docs", operation, "v", "m", "m", "ok", 12.5
    )
    return replace(base, **changes)


def beside(name: str, provider: str, model: str, operation: str, tokens: int, number: int) -> TraceRecord:
    changes = {"provider": provider, "model_id": model, "model_id_requested": model, "attempt": number}
    return record(f"{name}:{operation}", operation, prompt_tokens=tokens, **changes)


RECORDS = (
    beside("a", "hosted", "e", "embed", 100, 1),
    beside("a", "rerank", "judge", "rerank", 1000, 2),
    record("a", prompt_tokens=1000, gen_tokens=100, rerank_n=20, tags=("x",)),
    record("b", prompt_tokens=500, gen_tokens=50, use_case_id="triage"),
)


@pytest.fixture(name="files")
def _files(tmp_path: Path) -> Path:
    own = "  - {id: own, provider: own, service: orchestration, unit: usd_per_request_orchestration, "
    own += 'amount: "0.001", source: a test, retrieved: 2026-01-01, valid_from: 2020-01-01, illustrative: true}\n'
    (tmp_path / "prices.yaml").write_text(price_book(ROWS) + own)
    traces = TraceWriter(tmp_path / "traces.jsonl")
    for each in RECORDS:
        traces.append(each)
    traces.close()
    return tmp_path


def told(files: Path, capsys: pytest.CaptureFixture[str], *traces: Path, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["cost", "unit", *map(str, traces), "--prices", str(files / "prices.yaml"), "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_request_is_one_with_what_it_asked_beside_its_answer(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(files, capsys, files / "traces.jsonl")
    assert found["overall"]["requests"] == 2
    parts = found["by_use_case"]["docs"]["part_means_usd"]
    assert {name: Decimal(usd) for name, usd in parts.items() if Decimal(usd)} == {
        "input": Decimal("0.01"),
        "generation": Decimal("0.002"),
        "retrieval": Decimal("0.0001"),
        "rerank": Decimal("0.002"),
        "orchestration": Decimal("0.001"),
    }
    assert Decimal(found["total_usd"]) == Decimal("0.0151") + Decimal("0.007")


def test_parquet_parts_and_what_is_under_way_are_read_once(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A kill between the part and the deletion of its lines leaves both."""
    folder = files / "folder"
    folder.mkdir()
    write_parquet(RECORDS[:3], folder / "traces-1.parquet")
    shutil.copy(files / "traces.jsonl", folder / UNDER_WAY)
    whole = told(files, capsys, files / "traces.jsonl")
    assert told(files, capsys, folder) == whole
    assert [*read_traces(folder / UNDER_WAY)] == list(RECORDS)


def test_a_use_case_called_all_is_not_taken_for_all_of_them(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traces = TraceWriter(files / "own.jsonl")
    traces.append(record("c", prompt_tokens=10, gen_tokens=1, use_case_id="all"))
    traces.append(record("d", prompt_tokens=10, gen_tokens=1, use_case_id="triage"))
    traces.close()
    run(["cost", "unit", str(files / "own.jsonl"), "--prices", str(files / "prices.yaml")])
    header = capsys.readouterr().out.splitlines()[0]
    assert header.endswith("  every use case")
    assert header.split().count("all") == 1


def test_a_missing_price_is_named_and_the_cost_unknown(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book = files / "prices.yaml"
    book.write_text(book.read_text().replace("provider: rerank,", "provider: other,"))
    assert run(["cost", "unit", str(files / "traces.jsonl"), "--prices", str(book)]) == 3
    shown = capsys.readouterr()
    assert "unknown" in shown.out + shown.err
    assert "rerank" in shown.out + shown.err
    assert "judge" in shown.out + shown.err


@pytest.mark.parametrize(
    ("name", "text", "code"), [("none.jsonl", None, 2), ("empty.jsonl", "", 2), ("bad.jsonl", "{}\n", 4),
                               ("bad.parquet", "PAR1", 4)]
)  # fmt: skip
def test_what_is_no_trace_is_told(
    name: str, text: str | None, code: int, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (files / name).write_text(text)
    assert run(["cost", "unit", str(files / name), "--prices", str(files / "prices.yaml")]) == code
    assert "Traceback" not in capsys.readouterr().err
