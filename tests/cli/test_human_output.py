"""What people read: one line is one line, whatever an id holds, and nobody reading is no reason to fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from exitramp.arrow import stream_schema
from exitramp.cli import output
from exitramp.errors import UsageError
from exitramp.ports import Origin
from exitramp.records import Finding, Verdict
from exitramp.wrappers import open_endpoint
from tests.cli.conftest import Cli
from tests.drill.small_stacks import SPEC, fill

FORGED = "doc-1\n  ✓ records.same: nothing is missing"
CLEARING = "doc-2\x1b[2J\x1b]0;title\x07"
TURNED = "doc-3\u202eexe.txt\u2066"
LONG = "long-" + "x" * 5000
IDS = [FORGED, CLEARING, TURNED, LONG, "größer 🚀", "plain"]


def _put(address: str, ids: list[str]) -> str:
    schema = stream_schema(SPEC)
    columns = {
        "id": pa.array(ids, pa.string()),
        "document": pa.array(["text"] * len(ids), pa.string()),
        "payload": pa.array(['{"a\\u001b[31m":1}'] * len(ids), pa.string()),
        "vector": pa.array([[1.0] * 12] * len(ids), schema.field("vector").type),
    }
    with open_endpoint(address) as endpoint:
        sink = endpoint.sink()
        sink.create(SPEC, Origin(SPEC, "test"))
        sink.upsert(pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema))
        sink.flush()
    return address


def _unseen(text: str) -> set[str]:
    return {each for each in text if (ord(each) < 32 and each != "\n") or each in "\x7f\x9b\u202e\u2066\u2028"}


def test_ids_that_a_terminal_would_act_on_are_escaped_and_long_ones_cut_but_not_in_json(cli: Cli, name: str) -> None:
    one, other = _put(f"memory:{name}-1#articles", IDS), _put(f"memory:{name}-2#articles", ["plain"])
    said = cli("compare", one, other, "--no-neighbours", code=1).out
    assert not _unseen(said)
    assert not any(line.startswith("  ✓ records.same") for line in said.splitlines())
    assert "doc-1\\n  ✓ records.same" in said
    assert "\\x1b[2J" in said
    assert "\\u202e" in said
    assert "größer 🚀" in said
    assert LONG not in said
    assert "long-" + "x" * 74 + "…" in said
    found = cli("compare", one, other, "--no-neighbours", "--json", code=1)
    [missing] = [each for each in found.json["findings"] if each["code"] == "records.missing"]
    assert set(missing["ids"]) == set(IDS) - {"plain"}
    logged = [json.loads(line)["id"] for line in Path("compare-ids.jsonl").read_text(encoding="utf-8").splitlines()]
    assert set(logged) == set(IDS) - {"plain"}


def test_keys_and_names_that_a_terminal_would_act_on_are_escaped(cli: Cli, name: str) -> None:
    address = _put(f"memory:{name}#articles", IDS)
    for words in (("inspect", address), ("plan", address, "chroma:./new#articles"), ("dump", address, "a\x1b[31mb")):
        ended = cli(*words, code=0)
        assert not _unseen(ended.out + ended.err), words


def test_errors_are_one_line_and_a_next_step(cli: Cli) -> None:
    ended = cli("inspect", "memory:a\x1b[2J#b%0Aerror: c", code=2)
    assert not _unseen(ended.err)
    assert len(ended.err.splitlines()) == 1
    error = UsageError("record 'a\nb' " + "x" * 5000, hint="look\nthere")
    lines = output.error_text(error).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: record 'a\\nb' x")
    assert lines[0].endswith("…")
    assert lines[1] == "  next: look\\nthere"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("größer 検索 🚀", "größer 検索 🚀"),
        ("a\r\n\tb", "a\\r\\n\\tb"),
        ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
        ("\u200b\u2028\ufeff", "\\u200b\\u2028\\ufeff"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_what_cannot_be_seen_is_escaped_and_nothing_else(text: str, shown: str) -> None:
    assert output.visible(text) == shown


def test_a_text_is_cut_to_its_width_after_it_was_escaped() -> None:
    assert output.visible("\n" * 100, 10) == "\\n" * 4 + "\\" + "…"
    assert len(output.visible("x" * 100, 80)) == 80
    assert output.visible("x" * 80, 80) == "x" * 80


def test_a_secret_in_a_finding_is_masked_before_it_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    key = "sk-" + "abcdefgh12345678"
    output.say_findings([Finding("some.code", f"it said\n{key}", Verdict.FAIL)])
    said = capsys.readouterr().out
    assert key not in said
    assert "it said\\n[secret]" in said


# ---------------------------------------------------------------- streams, files and folders that are not there


def _run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "exitramp", *words], text=True, timeout=60, check=False, **options)


@pytest.mark.parametrize(
    ("words", "code"), [(("stores",), 0), (("--help",), 0), (("drill", "list", "--json"), 0), (("inspect", "no"), 2)]
)
@pytest.mark.parametrize("closed", ["out", "err", "pipe"])
def test_nobody_reading_changes_no_exit_code_and_is_no_fault(
    words: tuple[str, ...], code: int, closed: str, tmp_path: Path
) -> None:
    if closed == "pipe":
        read, write = os.pipe()
        os.close(read)  # as `| head -0` does
        try:
            done = _run(*words, cwd=tmp_path, stdout=write, stderr=subprocess.PIPE)
        finally:
            os.close(write)
    else:
        number = 1 if closed == "out" else 2
        other = {"stderr": subprocess.PIPE} if closed == "out" else {"stdout": subprocess.PIPE}
        done = _run(*words, cwd=tmp_path, preexec_fn=lambda: os.close(number), **other)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in (done.stdout or "") + (done.stderr or "")


def test_a_full_disk_under_the_result_is_told() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = _run("stores", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 5
    assert done.stderr == "error: the result could not be written (No space left on device)\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("compare", "{p}", "{p}", "--ids", "/nodir/x"), "/nodir/x: cannot be written (No such file"),
        (("compare", "{p}", "{p}", "--ids", "/proc/x"), "/proc/x: cannot be written"),
        (("compare", "{p}", "{p}", "--ids", "."), "is a directory"),
        (("copy", "{p}", "faiss:./new.faiss", "--state", "/proc/x"), "/proc/x: cannot be written"),
        (("copy", "{p}", "faiss:./new.faiss", "--state", "."), "is a directory"),
        (("drill", "init", "--primary", "{p}", "--substitute", "faiss:./new.faiss", "--out", "/proc/x"), "/proc/x: "),
        (("inspect", "faiss:./dir.faiss"), "dir.faiss"),
        (("inspect", "faiss:./none.faiss"), "none.faiss"),
        (("inspect", "qdrant:./file#a"), "file"),
        (("inspect", "chroma:./file#a"), "file"),
        (("verify", "file"), "file"),
        (("restore", "file", "faiss:./new.faiss"), "file"),
        (("dump", "{p}", "file"), "file"),
        (("report", "file"), "journal.jsonl"),
        (("drill", "run", "file", "--out", "run"), "file:1"),
        (("drill", "run", "dir.faiss", "--out", "run"), "no drill 'dir.faiss'"),
        (("drill", "run", "five_questions", "--out", "file"), "file"),
        (("drill", "run", "five_questions", "--out", "/proc/x"), "/proc/x"),
        (("inspect", "{p}", "--ca-bundle", "none"), "does not exist"),
    ],
)
def test_a_path_that_will_not_do_is_one_error_and_nothing_half_written(
    words: tuple[str, ...], said: str, cli: Cli, name: str, tmp_path: Path
) -> None:
    (tmp_path / "dir.faiss").mkdir()
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    primary = fill(f"memory:{name}#articles", rows=3)
    ended = cli(*(word.format(p=primary) if word == "{p}" else word for word in words))
    assert ended.code in {2, 4, 5}
    assert said in ended.err
    # click says how to call a command in two lines and what is wrong in the fourth.
    assert len(ended.err.strip().splitlines()) <= 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dir.faiss", "file"]
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_a_current_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    for words in (("inspect", "qdrant:./a#b"), ("drill", "run", "five_questions"), ("dump", "memory:a#b", "out")):
        gone.mkdir()
        done = _run(*words, cwd=gone, capture_output=True, preexec_fn=lambda: shutil.rmtree(gone))
        assert done.returncode == 2, (words, done.stderr)
        assert "Traceback" not in done.stderr
