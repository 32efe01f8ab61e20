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
from exitramp.records import EVAL_TAG, TraceRecord
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


def spanned(request_id: str, trace: str, attempt: int = 1, second: int = 0, **changes: Any) -> TraceRecord:
    ts = datetime(2026, 11, 3, 12, 0, second, 123456, tzinfo=UTC)
    more: dict[str, Any] = {"trace_id": trace, "span_id": f"{trace}{attempt}", "ts": ts, "gen_tokens": 1} | changes
    return record(request_id, attempt=attempt, **more)


def wrote(path: Path, *records: TraceRecord) -> Path:
    traces = TraceWriter(path)
    for each in records:
        traces.append(each)
    traces.close()
    return path


def test_an_evals_calls_are_left_out_unless_they_are_wanted_and_it_is_said(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = spanned("sha", "t1", tags=(EVAL_TAG,))
    own = wrote(files / "own.jsonl", spanned("app", "t0"), asked)
    run_folder = wrote(files / "run.jsonl", replace(asked, request_id="c0/1", tags=(EVAL_TAG, "golden")))
    found = told(files, capsys, own, run_folder)
    assert (found["overall"]["requests"], found["eval_calls_left_out"], found["copies_left_out"]) == (1, 1, 0)
    words = ["cost", "unit", str(own), str(run_folder), "--prices", str(files / "prices.yaml")]
    assert run([*words, "--with-evals", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["overall"]["requests"], found["eval_calls_left_out"], found["copies_left_out"]) == (2, 0, 1)
    assert run(words) == 0
    assert "1 call of an eval is left out" in capsys.readouterr().out
    assert run(["cost", "unit", str(run_folder), "--prices", str(files / "prices.yaml")]) == 2
    assert "--with-evals" in capsys.readouterr().err


def test_what_stands_in_two_files_is_counted_once_and_that_is_said(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = told(files, capsys, files / "traces.jsonl")
    shutil.copy(files / "traces.jsonl", files / "copy.jsonl")
    found = told(files, capsys, files / "traces.jsonl", files / "copy.jsonl")
    assert found == whole | {"copies_left_out": 4}
    write_parquet([spanned("a1", "t1")], files / "part.parquet")
    lines = wrote(files / "line.jsonl", spanned("a1", "t1"))
    found = told(files, capsys, files / "part.parquet", lines)
    assert (found["overall"]["requests"], found["copies_left_out"]) == (1, 1), "one has its time to the microsecond"
    words = ["cost", "unit", str(lines), str(files / "part.parquet"), "--prices", str(files / "prices.yaml")]
    assert run(words) == 0
    assert "1 record stands there twice, and counted once" in capsys.readouterr().out


def test_calls_of_one_key_in_two_processes_are_one_request_and_two_runs_of_a_set_are_two(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = wrote(files / "again.jsonl", spanned("key", "t1"), spanned("key", "t1", second=9))
    found = told(files, capsys, again)
    assert found["overall"]["requests"] == 1
    assert Decimal(found["total_usd"]) == Decimal("0.00104"), "two answers, and one request's orchestration"
    one, other = (wrote(files / f"{name}.jsonl", spanned("c0/1", name, second=5)) for name in ("r1", "r2"))
    found = told(files, capsys, one, other)
    assert (found["overall"]["requests"], found["copies_left_out"]) == (2, 0)


def test_a_torn_last_line_is_left_out_and_that_is_told(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traces = files / "traces.jsonl"
    whole = traces.read_bytes()
    words = ["cost", "unit", str(traces), "--prices", str(files / "prices.yaml"), "--json"]
    run(words)
    before = capsys.readouterr()
    assert "torn" not in before.err
    traces.write_bytes(whole + whole.splitlines()[0][:40])
    run(words)
    after = capsys.readouterr()
    assert json.loads(after.out) == json.loads(before.out)
    assert f"{traces}:{len(RECORDS) + 1}: the last line is torn and is left out" in after.err
