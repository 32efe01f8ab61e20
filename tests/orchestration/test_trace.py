"""Trace records on disk."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from exitramp.errors import JournalCorrupt
from exitramp.orchestration import TraceWriter, read_traces, trace_schema, write_parquet
from exitramp.orchestration.trace import read_parquet, trace_to_json
from exitramp.records import TraceRecord

RECORD = TraceRecord(
    record_version=1,
    request_id="q-1",
    attempt=1,
    ts=datetime(2030, 1, 2, 3, 4, 5, 678000, UTC),
    use_case_id="docs_qa",
    operation="answer",
    provider="openai",
    model_id_requested="mock-large",
    model_id="mock-large",
    status="ok",
    latency_ms=12.5,
    prompt_tokens=10,
    tags=("a", "b"),
    unit_cost_usd=Decimal("0.000123456"),
)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    records = [RECORD, replace(RECORD, attempt=2, status="error", error_class="timeout", unit_cost_usd=None, tags=())]
    with TraceWriter(tmp_path / "t.jsonl") as writer:
        for record in records:
            writer.append(record)
    assert list(read_traces(tmp_path / "t.jsonl")) == records


def test_a_parquet_file_holds_every_field_with_its_type(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    assert write_parquet([RECORD, replace(RECORD, unit_cost_usd=None)], tmp_path / "t.parquet") == 2
    table = pq.read_table(tmp_path / "t.parquet")
    assert table.schema.names == [field.name for field in fields(TraceRecord)]
    assert table.schema.equals(trace_schema())
    assert table.schema.field("unit_cost_usd").type == pa.decimal128(18, 9)
    assert table.schema.field("ts").type == pa.timestamp("us", tz="UTC")
    row = table.to_pylist()[0]
    assert (row["ts"], row["unit_cost_usd"], row["tags"]) == (RECORD.ts, Decimal("0.000123456"), ["a", "b"])
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_the_usual_roll_up_runs_on_it(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    write_parquet([replace(RECORD, latency_ms=float(at)) for at in range(1, 101)], tmp_path / "t.parquet")
    query = (
        "SELECT use_case_id, COUNT(*), SUM(unit_cost_usd), PERCENTILE_CONT(0.95) WITHIN GROUP (ORDER BY latency_ms) "
        f"FROM '{tmp_path / 't.parquet'}' GROUP BY use_case_id"
    )
    assert duckdb.sql(query).fetchall() == [("docs_qa", 100, Decimal("0.012345600"), 95.05)]


def test_lines_survive_a_kill_and_a_torn_one_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with TraceWriter(path) as writer:
        writer.append(RECORD)
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from exitramp.orchestration import TraceWriter, read_traces\n"
        "path = Path(sys.argv[1]); record = next(read_traces(path)); writer = TraceWriter(path)\n"
        "for _ in range(3): writer.append(record)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    with path.open("ab") as file:
        file.write(b'{"record_version":1,')
    assert len(list(read_traces(path))) == 4
    with TraceWriter(path) as writer:
        writer.append(RECORD)
    assert len(list(read_traces(path))) == 5


@pytest.mark.parametrize("line", [b"nonsense\n", b"{}\n", b"[]\n", b'{"ts": 3}\n'])
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "t.jsonl"
    with TraceWriter(path) as writer:
        writer.append(RECORD)
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(JournalCorrupt, match=r"t\.jsonl:2:"):
        list(read_traces(path))


def test_no_text_of_a_prompt_or_an_answer_gets_into_a_trace(world: Any, tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "t.jsonl") as writer:
        router = world.router(traces=writer)
        outcome = router.ask(world.question("a confidential question"))
    written = (tmp_path / "t.jsonl").read_text("utf-8")
    assert [json.loads(line)["request_id"] for line in written.splitlines()] == [outcome.question_id]
    for text in ("confidential", "answer of", "text 0"):
        assert text not in written


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("prompt_tokens", "10", "'prompt_tokens' is no whole number"),
        ("prompt_tokens", 1.5, "'prompt_tokens' is no whole number"),
        ("prompt_tokens", True, "'prompt_tokens' is no whole number"),
        ("prompt_tokens", None, "'prompt_tokens' is no whole number"),
        ("request_id", None, "'request_id' is no text"),
        ("latency_ms", float("inf"), "'latency_ms' is no number"),
        ("unit_cost_usd", "NaN", "'unit_cost_usd' is no amount"),
        ("possibly_billed", "no", "'possibly_billed' is no true or false"),
        ("ts", "2030-01-02T03:04:05", "'ts' is no time with a zone"),
    ],
)
def test_a_field_that_is_something_else_is_named_with_its_line(
    tmp_path: Path, field: str, value: object, said: str
) -> None:
    lines = [json.dumps(trace_to_json(RECORD)), json.dumps(trace_to_json(RECORD) | {field: value})]
    (tmp_path / "t.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(JournalCorrupt, match=rf"t\.jsonl:2: no trace record \({said}\)"):
        list(read_traces(tmp_path / "t.jsonl"))


def test_lines_that_no_parser_can_follow_are_named_too(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("[" * 100_000 + "\n")
    with pytest.raises(JournalCorrupt, match=r"t\.jsonl:1: no trace record \(RecursionError\)"):
        list(read_traces(tmp_path / "t.jsonl"))


def test_a_last_record_that_lacks_only_the_end_of_its_line_counts_and_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(trace_to_json(RECORD)))
    assert list(read_traces(path)) == [RECORD]
    with TraceWriter(path) as writer:
        writer.append(replace(RECORD, attempt=2))
    assert [record.attempt for record in read_traces(path)] == [1, 2]


def test_every_byte_of_a_parquet_file_of_traces_that_is_changed_is_found_or_changes_no_record(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_parquet([RECORD, replace(RECORD, attempt=2)], path)
    good, data = list(read_parquet(path)), path.read_bytes()
    found = 0
    for place in range(0, len(data), 97):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        try:
            assert list(read_parquet(path)) == good
        except JournalCorrupt:
            found += 1
    assert found
    for length in (0, 4, len(data) // 2, len(data) - 3):
        path.write_bytes(data[:length])
        with pytest.raises(JournalCorrupt, match=r"t\.parquet: no file of traces"):
            list(read_parquet(path))
