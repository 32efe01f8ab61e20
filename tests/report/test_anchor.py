"""The anchor is the run's own: nothing that comes afterwards makes one, changes one or passes without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exitramp.cli.main import run
from exitramp.drill.anchor import Anchor, anchor_path, junit_anchor, read_anchor
from exitramp.drill.event_log import EventLog
from exitramp.errors import DataInvalid, JournalCorrupt
from exitramp.report.verifying import verify_journal
from exitramp.report.writing import write_reports
from tests.report.drill_journals import judged, played
from tests.report.drill_results import results
from tests.report.forging import events_of, rechained


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    played(tmp_path / "run", results()).end("pass", judged())
    return tmp_path / "run"


def _forge(folder: Path) -> None:
    """Another measurement, the whole chain computed anew."""
    events = events_of(folder)
    next(each for each in events if each["kind"] == "run.judged")["data"]["seconds"] = 1.0
    rechained(folder, events)


def test_a_run_writes_its_anchor_when_it_ends_and_a_run_that_does_not_end_writes_none(tmp_path: Path) -> None:
    play = played(tmp_path, results())
    assert read_anchor(tmp_path / "journal.jsonl") is None
    events = play.end("pass", judged())
    path = tmp_path / "journal.anchor.json"
    assert read_anchor(tmp_path / "journal.jsonl") == Anchor(play.log.head, len(events), str(path))
    assert json.loads(path.read_text()) == {"events": len(events), "head": play.log.head, "log": "journal.jsonl"}


def test_an_anchor_is_never_written_over(folder: Path) -> None:
    (folder / "journal.jsonl").unlink()
    with pytest.raises(DataInvalid, match="anchor of an older log"):
        played(folder, results())


def test_rendering_makes_no_anchor_and_changes_none(folder: Path) -> None:
    journal = folder / "journal.jsonl"
    before = anchor_path(journal).read_bytes()
    for _ in range(2):
        junit = write_reports(folder)["junit"]
        assert junit_anchor(junit) == Anchor(
            verify_journal(folder).run.reading.head, len(events_of(folder)), str(junit)
        )
    assert anchor_path(journal).read_bytes() == before
    for path in folder.iterdir():
        if path != journal:
            path.unlink()
    assert junit_anchor(write_reports(folder)["junit"]) is None
    assert not anchor_path(journal).exists()


def test_a_forged_journal_is_not_rendered_beside_its_anchor(folder: Path, tmp_path: Path) -> None:
    write_reports(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "journal.jsonl"}
    _forge(folder)
    for kept in (("journal.anchor.json", "report.xml"), ("journal.anchor.json",), ("report.xml",)):
        for path in folder.iterdir():
            if path.name != "journal.jsonl" and path.name not in kept:
                path.unlink()
        for name in kept:
            (folder / name).write_bytes(before[name])
        for out in (None, tmp_path / "elsewhere"):
            with pytest.raises(JournalCorrupt, match=r"journal\.jsonl:\d+: its head is .* some were rewritten"):
                write_reports(folder, out=out)
        with pytest.raises(JournalCorrupt):
            verify_journal(folder)


def test_a_forged_journal_whose_anchors_were_removed_never_becomes_a_pass(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What once worked: edit, compute the chain anew, remove the report, render it again, verify."""
    head = verify_journal(folder).run.reading.head
    _forge(folder)
    anchor_path(folder / "journal.jsonl").unlink()
    for arguments in ([], ["--verify"], [], ["--verify"]):
        assert run(["report", str(folder), *arguments]) == 3
    assert run(["report", str(folder), "--verify", "--head", head]) == 4
    capsys.readouterr()
    found = json.loads((folder / "report.json").read_text())
    assert found["verdict"] == "inconclusive"
    assert "no anchor of it lies beside it" in found["verdict_reason"]
    assert "ended as: pass" in found["verdict_reason"]
    assert "journal not anchored" in {stamp["text"] for stamp in found["stamps"]}
    assert "journal.unanchored" in {each["code"] for each in found["findings"]}
    assert "calls no such run a pass" in (folder / "report.md").read_text()
    assert "<error" in (folder / "report.xml").read_text()


def test_the_head_in_a_junit_file_holds_where_the_other_anchor_is_gone(folder: Path) -> None:
    write_reports(folder)
    anchor_path(folder / "journal.jsonl").unlink()
    assert verify_journal(folder).beside == (str(folder / "report.xml"),)
    assert write_reports(folder)["junit"].read_text().count(verify_journal(folder).run.reading.head) == 2


def test_a_report_is_not_written_over_the_anchor_of_another_run(folder: Path, tmp_path: Path) -> None:
    played(tmp_path / "other", results()).end("fail", judged())
    junit = write_reports(tmp_path / "other")["junit"]
    before = junit.read_bytes()
    with pytest.raises(JournalCorrupt, match=r"other/report\.xml says"):
        write_reports(folder, out=tmp_path / "other")
    assert junit.read_bytes() == before


@pytest.mark.parametrize("kept", [1, 7, -1])
def test_a_journal_that_was_cut_names_its_last_line_and_how_many_are_missing(folder: Path, kept: int) -> None:
    journal = folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    there = lines[:kept]
    journal.write_bytes(b"".join(there))
    last = json.loads(there[-1])["kind"]
    gone = len(lines) - len(there)
    missing = f"{gone} of {len(lines)} {'is' if gone == 1 else 'are'} missing"
    told = rf"journal\.jsonl:{len(there)}: .*the last line there is {len(there)}, '{last}', and {missing}"
    with pytest.raises(JournalCorrupt, match=told):
        verify_journal(folder)


def test_a_journal_cut_against_a_head_alone_says_that_the_number_of_missing_lines_is_not_known(folder: Path) -> None:
    journal = folder / "journal.jsonl"
    head = verify_journal(folder).run.reading.head
    anchor_path(journal).unlink()
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-2]))
    with pytest.raises(JournalCorrupt, match="how many are missing is not known"):
        verify_journal(folder, head=head)
    found = verify_journal(folder)
    assert found.verdict.value == "inconclusive"
    assert any("the last line there is" in each and "not known" in each for each in found.does_not_prove)


def test_lines_added_after_the_end_are_counted(folder: Path) -> None:
    events = events_of(folder)
    rechained(folder, [*events, events[-1], events[-1]])
    with pytest.raises(JournalCorrupt, match=f"that of line {len(events)}: 2 were added after it"):
        verify_journal(folder)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "\x00", '{"events":"1","head":"x","log":"journal.jsonl"}', '{"events":0,"head":"%s","log":"x"}'],
)
def test_an_anchor_that_is_none_is_an_error_and_not_the_same_as_no_anchor(folder: Path, text: str) -> None:
    anchor_path(folder / "journal.jsonl").write_text(text % ("0" * 64) if "%" in text else text)
    with pytest.raises(JournalCorrupt, match=r"journal\.anchor\.json: not an anchor"):
        verify_journal(folder)
    with pytest.raises(JournalCorrupt, match=r"journal\.anchor\.json: not an anchor"):
        write_reports(folder)


def test_a_log_by_another_name_has_an_anchor_by_that_name(tmp_path: Path) -> None:
    from exitramp.clock import ManualClock

    log = EventLog.create(tmp_path / "events.jsonl", ManualClock())
    log.append("run.started", {})
    log.finish()
    assert (tmp_path / "events.anchor.json").is_file()
