"""What is said of a folder that is no dump, or not one yet: why, and what to do next."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exitramp.cli.main import run
from exitramp.dump.absence import absence
from exitramp.dump.integrity import verify_dump
from exitramp.dump.reader import DumpSource
from exitramp.dump.writer import DumpSink
from exitramp.errors import CollectionExists, CollectionMissing, DumpCorrupt, ExitCode
from exitramp.ports import Origin, TransferAccount, make_cursor

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    return shutil.copytree(GOLDEN / "dense-1", tmp_path / "dump")


def verify(capsys: pytest.CaptureFixture[str], folder: Path | str, *options: str) -> tuple[int, str]:
    """The exit code, and everything that was printed."""
    code = run(["verify", str(folder), *options])
    shown = capsys.readouterr()
    return code, shown.out + shown.err


def test_a_folder_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, text = verify(capsys, tmp_path / "nowhere")
    assert (code, text.splitlines()[0]) == (2, f"error: there is no folder {tmp_path}/nowhere")


def test_an_address_in_place_of_a_folder_is_understood(capsys: pytest.CaptureFixture[str], dump: Path) -> None:
    code, text = verify(capsys, f"dump:{dump}")
    assert code == 2
    assert f"next: name the folder by itself: {dump}" in text


def test_a_file_of_a_dump_leads_to_its_folder(capsys: pytest.CaptureFixture[str], dump: Path) -> None:
    code, text = verify(capsys, dump / "manifest.json")
    assert code == 2
    assert f"next: name the folder: {dump}" in text
    (dump.parent / "other.txt").write_text("")
    assert "name the folder that a dump is in" in verify(capsys, dump.parent / "other.txt")[1]


def test_a_folder_without_a_dump_points_to_one_in_it(capsys: pytest.CaptureFixture[str], dump: Path) -> None:
    code, text = verify(capsys, dump.parent)
    assert code == 2
    assert "holds no dump: there is no manifest.json" in text
    assert f"next: there is one in {dump}" in text
    empty = dump.parent / "empty"
    empty.mkdir()
    assert "next: name the folder that a dump is in" in verify(capsys, empty)[1]


def test_a_dump_that_is_being_written_says_what_stands_and_how_to_go_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, plain: Any
) -> None:
    folder = tmp_path / "dump"
    sink = DumpSink(folder, shard_bytes=1000, group_bytes=500)
    sink.create(plain.spec, Origin(plain.spec, "1"))
    for number, batch in enumerate(plain.batches(40)):
        code, text = verify(capsys, folder)
        assert code == 4
        assert f"{40 * number} records stand in {number} shard{'' if number == 1 else 's'}" in text
        assert "run the same dump command again" in text
        sink.upsert(batch)
        sink.note_cursor(0, make_cursor(row=number))
        sink.flush()
    sink.finish(TransferAccount())
    assert verify(capsys, folder)[0] == 0


def test_a_dump_without_its_manifest_and_its_journal_is_a_damaged_one(
    capsys: pytest.CaptureFixture[str], dump: Path
) -> None:
    (dump / "manifest.json").unlink()
    (dump / "journal.jsonl").unlink()
    code, text = verify(capsys, dump)
    assert code == 4
    assert "there is no manifest.json, only parts of one" in text
    assert "next: bring manifest.json back" in text
    with pytest.raises(DumpCorrupt, match="bring manifest"):
        verify_dump(dump).raise_if_damaged()


@pytest.mark.parametrize("how", ["damaged", "fifo", "folder", "link"])
def test_an_unfinished_dump_with_a_journal_that_cannot_be_read_says_so_and_does_not_wait(dump: Path, how: str) -> None:
    (dump / "manifest.json").unlink()
    journal = dump / "journal.jsonl"
    content = journal.read_bytes()
    journal.unlink()
    if how == "damaged":
        journal.write_bytes(content.replace(b"dense", b"other", 1))
    elif how == "fifo":
        os.mkfifo(journal)
    elif how == "folder":
        journal.mkdir()
    else:
        journal.symlink_to("/dev/zero")
    lacking = absence(dump)
    assert lacking is not None
    assert lacking.is_damage
    assert "cannot be taken up" in lacking.reason
    assert "journal.jsonl" in lacking.reason
    with pytest.raises(CollectionMissing, match="cannot be taken up"):
        DumpSource(dump)


def test_nothing_outside_the_folder_is_cleared_away_through_a_link(tmp_path: Path, plain: Any) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.tmp").write_text("mine")
    folder = tmp_path / "dump"
    folder.mkdir()
    (folder / "shards").symlink_to(outside)
    with pytest.raises(DumpCorrupt, match="not a folder of its own"):
        DumpSink(folder).create(plain.spec, Origin(plain.spec, "1"))
    assert (outside / "precious.tmp").exists()


def test_a_broken_link_in_place_of_the_manifest_is_not_written_through(tmp_path: Path, plain: Any) -> None:
    folder = tmp_path / "dump"
    folder.mkdir()
    (folder / "manifest.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CollectionExists):
        DumpSink(folder).create(plain.spec, Origin(plain.spec, "1"))
    assert not (tmp_path / "elsewhere").exists()


def test_an_empty_dump_passes_and_says_that_it_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = verify(capsys, GOLDEN / "empty-1")
    assert code == 0
    assert "0 records in 0 shards" in text
    assert "the collection was empty" in text


def test_many_damaged_files_are_counted_on_the_terminal_and_all_in_json(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, write_dump: Any, plain: Any
) -> None:
    folder = write_dump(plain, batch_rows=2, shard_bytes=1, group_bytes=1)
    shutil.rmtree(folder / "shards")
    code, text = verify(capsys, folder)
    assert code == 4
    assert text.count("dump.file_missing") == 40
    assert "and 20 more findings; --json has them all" in text
    code, text = verify(capsys, folder, "--json")
    assert len(json.loads(text)["findings"]) == 60


def test_many_files_that_do_not_belong_are_counted(dump: Path) -> None:
    for number in range(50):
        (dump / f"note {number}").write_text("")
    (dump / "link").symlink_to("/")
    report = verify_dump(dump)
    assert report.exit_code is ExitCode.PASS
    assert len(report.findings) == 21
    assert report.findings[-1].count == 51


def test_names_that_are_no_text_are_shown_and_no_terminal_obeys_them(
    capsys: pytest.CaptureFixture[str], dump: Path
) -> None:
    odd = os.fsdecode(os.fsencode(dump.parent) + b"/odd\xff\x1b[31m")
    os.rename(dump, odd)
    Path(odd, os.fsdecode(b"stray\xfe\x1b[2J")).write_text("")
    code, text = verify(capsys, odd)
    assert code == 0
    assert "stray\\xfe\\x1b[2J: does not belong" in text
    assert "\x1b[2J" not in text
    assert verify(capsys, odd, "--json")[0] == 0
    Path(odd, "manifest.json").unlink()
    code, text = verify(capsys, odd)
    assert code == 4
    assert "odd\\xff\\x1b[31m holds an unfinished dump" in text


def test_an_id_that_a_terminal_would_obey_is_escaped_there_and_as_it_is_in_json(
    capsys: pytest.CaptureFixture[str], write_dump: Any, plain: Any
) -> None:
    rows = [{**plain.rows[0], "id": "\x1b[2J", "payload": '{"b":1,"a":2}'}, *plain.rows[1:]]
    folder = write_dump(replace(plain, rows=rows))
    code, text = verify(capsys, folder)
    assert code == 4
    assert "ids: \\x1b[2J" in text
    assert "\x1b[2J" not in text
    [finding] = json.loads(verify(capsys, folder, "--json")[1])["findings"]
    assert finding["ids"] == ["\x1b[2J"]
