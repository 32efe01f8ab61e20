"""The journal: what a crash may leave behind, and what is corruption."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from exitramp.errors import ExitCode, JournalCorrupt, PathUnusable, StoreRejected, UsageError
from exitramp.journal import Journal, read_journal


def written(path: Path, count: int = 3) -> Path:
    with Journal(path) as journal:
        for number in range(count):
            journal.append("step", {"number": number, "text": "é\n\u2028"})
    return path


def kinds_and_numbers(path: Path) -> list[tuple[int, str, Any]]:
    return [(entry.sequence, entry.kind, entry.data["number"]) for entry in read_journal(path)]


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    path = written(tmp_path / "j.jsonl")
    assert kinds_and_numbers(path) == [(1, "step", 0), (2, "step", 1), (3, "step", 2)]
    assert next(read_journal(path)).data["text"] == "é\n\u2028"


def test_a_line_is_what_the_format_says(tmp_path: Path) -> None:
    line = written(tmp_path / "j.jsonl", 1).read_bytes()
    crc, rest = line[8:16], b"{" + line[18:-1]
    assert line.startswith(b'{"crc":"')
    assert line.endswith(b"\n")
    assert int(crc, 16) == zlib.crc32(rest)
    assert list(json.loads(line)) == ["crc", "data", "kind", "seq"]


def test_an_opened_journal_goes_on_counting(tmp_path: Path) -> None:
    path = written(tmp_path / "j.jsonl", 2)
    with Journal(path) as journal:
        assert [entry.sequence for entry in journal.entries] == [1, 2]
        assert journal.append("step", {"number": 2}).sequence == 3
    assert len(kinds_and_numbers(path)) == 3


def test_a_line_torn_at_any_byte_is_dropped_and_written_over(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole.jsonl").read_bytes()
    keep = whole.index(b"\n", whole.index(b"\n") + 1) + 1
    for end in range(keep, len(whole)):
        path = tmp_path / f"torn-{end}.jsonl"
        path.write_bytes(whole[:end])
        assert len(kinds_and_numbers(path)) == 2
        with Journal(path) as journal:
            journal.append("step", {"number": 99})
        assert kinds_and_numbers(path)[2] == (3, "step", 99)


def test_a_flipped_bit_anywhere_is_corruption_that_names_file_and_line(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole.jsonl").read_bytes()
    path = tmp_path / "flipped.jsonl"
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        with pytest.raises(JournalCorrupt) as caught:
            list(read_journal(path))
        line = whole[:position].count(b"\n") + 1
        assert f"{path}:{line}:" in str(caught.value)
        assert caught.value.exit_code is ExitCode.INTEGRITY


@pytest.mark.parametrize("take_out", [0, 1])
def test_a_missing_line_is_corruption(tmp_path: Path, take_out: int) -> None:
    path = written(tmp_path / "j.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[take_out]
    path.write_bytes(b"".join(lines))
    with pytest.raises(JournalCorrupt, match=rf":{take_out + 1}:"):
        list(read_journal(path))


def test_a_corrupt_journal_is_not_opened_for_writing_and_not_changed(tmp_path: Path) -> None:
    path = written(tmp_path / "j.jsonl")
    damaged = path.read_bytes().replace(b"number", b"nUmber", 1) + b'{"crc":"'
    path.write_bytes(damaged)
    with pytest.raises(JournalCorrupt):
        Journal(path)
    assert path.read_bytes() == damaged


def test_an_empty_journal_has_no_entries(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    Journal(path).close()
    assert list(read_journal(path)) == []


def test_a_second_writer_is_refused_until_the_first_has_closed(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    code = "import sys; from pathlib import Path; from exitramp.journal import Journal; Journal(Path(sys.argv[1]))"
    with Journal(path), pytest.raises(UsageError, match="another process"):
        Journal(path)
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    Journal(path).close()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PathUnusable, match=r"(?s)absent\.jsonl: cannot be read.*name a path that is there"):
        list(read_journal(tmp_path / "absent.jsonl"))


def test_a_failed_fsync_ends_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(handle: int) -> None:
        raise OSError(5, "Input/output error")

    with Journal(tmp_path / "j.jsonl") as journal:
        journal.append("step", {"number": 0})
        monkeypatch.setattr(os, "fsync", failing)
        with pytest.raises(StoreRejected, match="Input/output error"):
            journal.append("step", {"number": 1})
        monkeypatch.undo()
        with pytest.raises(StoreRejected, match="earlier write"):
            journal.append("step", {"number": 2})
    assert [number for _, _, number in kinds_and_numbers(tmp_path / "j.jsonl")][:1] == [0]


def test_every_line_is_synced_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync
    path = tmp_path / "j.jsonl"

    def noting(handle: int) -> None:
        real(handle)
        synced.append(path.stat().st_size)

    monkeypatch.setattr(os, "fsync", noting)
    with Journal(path) as journal:
        assert synced == [0]  # the folder, after the file was created in it
        journal.append("step", {"number": 0})
        assert synced[-1] == path.stat().st_size > 0
