"""`exitramp report`: renders a journal again, and finds out whether it is the one that was written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exitramp.cli.main import run
from tests.report.drill_journals import judged, played
from tests.report.drill_results import DIGESTS, results


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    played(tmp_path / "run", results()).end("pass", judged())
    return tmp_path / "run"


def _cut(folder: Path, lines: int) -> None:
    journal = folder / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-lines]))


def test_all_four_files_are_written_and_the_exit_code_is_the_verdict(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", str(folder)]) == 0
    told = capsys.readouterr().out
    for name in ("report.html", "report.md", "report.json", "report.xml"):
        assert (folder / name).is_file()
        assert name in told
    assert "The switch worked" in told


@pytest.mark.parametrize(("verdict", "code"), [("fail", 1), ("inconclusive", 3)])
def test_a_run_that_did_not_pass_ends_with_its_own_exit_code(tmp_path: Path, verdict: str, code: int) -> None:
    played(tmp_path, results()).end(verdict, judged())
    assert run(["report", str(tmp_path)]) == code


def test_one_format_goes_into_another_folder(folder: Path, tmp_path: Path) -> None:
    assert run(["report", str(folder), "--format", "md", "--out", str(tmp_path / "new" / "place")]) == 0
    assert [path.name for path in (tmp_path / "new" / "place").iterdir()] == ["report.md"]
    assert sorted(path.name for path in folder.iterdir()) == ["journal.anchor.json", "journal.jsonl"]


def test_the_journal_file_itself_may_be_named(folder: Path) -> None:
    assert run(["report", str(folder / "journal.jsonl"), "--format", "md"]) == 0
    assert (folder / "report.md").is_file()


def test_json_names_verdict_rows_digests_findings_and_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["rows"], found["digests"], found["findings"]) == ("pass", 40, DIGESTS, [])
    assert found["reports"]["junit"].endswith("report.xml")


def test_a_journal_that_is_as_it_was_verifies_and_what_that_does_not_prove_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["report", str(folder)])
    capsys.readouterr()
    assert run(["report", str(folder), "--verify"]) == 0
    told = capsys.readouterr().out
    assert "this proves" in told
    assert "this does not prove" in told
    assert "report.xml" in told
    assert "anything of the rendered files" in told.partition("this does not prove")[2]


def test_an_anchor_whose_count_was_changed_is_noticed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    anchor = folder / "journal.anchor.json"
    said = json.loads(anchor.read_text(encoding="utf-8"))
    anchor.write_text(json.dumps(said | {"events": said["events"] + 5}), encoding="utf-8")
    assert run(["report", str(folder), "--verify"]) == 4
    assert "the anchor was changed" in capsys.readouterr().err


def test_one_flipped_byte_anywhere_in_the_journal_is_found_with_file_and_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["report", str(folder)])
    journal = folder / "journal.jsonl"
    whole = journal.read_bytes()
    ends = [at for at, byte in enumerate(whole) if byte == 0x0A]
    for place in [*range(7, len(whole), len(whole) // 60), *ends]:
        changed = bytearray(whole)
        changed[place] ^= 0x01
        journal.write_bytes(bytes(changed))
        capsys.readouterr()
        assert run(["report", str(folder), "--verify"]) == 4, place
        assert "journal.jsonl:" in capsys.readouterr().err


@pytest.mark.parametrize("lines", [1, 2, 10])
def test_a_journal_cut_short_at_a_lines_end_is_found_by_its_anchor(
    folder: Path, lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["report", str(folder)])
    _cut(folder, lines)
    assert run(["report", str(folder), "--verify"]) == 4
    assert "its head is" in capsys.readouterr().err


def test_a_journal_cut_short_is_not_rendered_over_its_anchor(folder: Path) -> None:
    run(["report", str(folder)])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    _cut(folder, 1)
    assert run(["report", str(folder)]) == 4
    assert run(["report", str(folder), "--verify"]) == 4
    assert (folder / "report.xml").read_bytes() == before["report.xml"]


def test_the_head_that_a_run_printed_is_an_anchor_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["report", str(folder), "--format", "md"])
    head = next(line for line in capsys.readouterr().out.splitlines() if "head" in line).split()[-1]
    (folder / "journal.anchor.json").unlink()
    assert run(["report", str(folder), "--verify", "--head", head]) == 0
    assert "the head that was given" in capsys.readouterr().out
    assert run(["report", str(folder), "--verify", "--head", "0" * 64]) == 4
    assert "journal.jsonl:" in capsys.readouterr().err


def test_verify_says_that_an_anchor_beside_the_journal_holds_against_nobody_who_can_write_there(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", str(folder), "--verify"]) == 0
    told = capsys.readouterr().out
    proves, _, does_not = told.partition("this does not prove")
    assert "journal.anchor.json says, beside it" in proves
    assert "anything against somebody who could write to that folder" in does_not


def test_a_chain_without_an_anchor_is_inconclusive(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "journal.anchor.json").unlink()
    assert run(["report", str(folder), "--verify"]) == 3
    assert "nobody recomputed the whole chain" in capsys.readouterr().out


def test_a_torn_last_line_is_no_verified_journal(folder: Path) -> None:
    journal = folder / "journal.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"data":{')
    assert run(["report", str(folder), "--verify"]) == 4


def test_verify_as_json_tells_a_broken_chain_as_a_finding(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["report", str(folder)])
    _cut(folder, 1)
    capsys.readouterr()
    assert run(["report", str(folder), "--verify", "--json"]) == 4
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["findings"][0]["code"]) == ("fail", "journal.corrupt")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nowhere"],
        ["{folder}", "--verify", "--format", "html"],
        ["{folder}", "--head", "0" * 64],
        ["{folder}", "--verify", "--head", "no hash"],
        ["{folder}", "--format", "xlsx"],
    ],
)
def test_a_users_mistake_is_one_message_and_never_a_traceback(
    folder: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", *(each.format(folder=folder) for each in arguments)]) == 2
    assert "Traceback" not in capsys.readouterr().err
