"""A run's report files: from the journal alone, whole or not at all, and never over another journal's anchor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exitramp import secrets
from exitramp.drill.log_reading import verify_against_anchor
from exitramp.errors import JournalCorrupt, UsageError
from exitramp.report.writing import write_reports
from exitramp.secrets import remember
from tests.report.drill_journals import Play, drill, judged, played
from tests.report.drill_results import DIGESTS, results


def test_reports_are_written_beside_the_journal_and_are_the_same_every_time(tmp_path: Path) -> None:
    played(tmp_path, results()).end("pass", judged())
    paths = write_reports(tmp_path)
    assert {key: path.name for key, path in paths.items()} == {
        "html": "report.html",
        "markdown": "report.md",
        "json": "report.json",
        "junit": "report.xml",
    }
    before = {key: path.read_bytes() for key, path in paths.items()}
    assert {key: path.read_bytes() for key, path in write_reports(tmp_path).items()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["journal.jsonl", "journal.anchor.json", *(path.name for path in paths.values())]
    )


def test_the_json_report_holds_verdict_rows_digests_objectives_and_findings_on_top(tmp_path: Path) -> None:
    play = played(tmp_path, results())
    play.end("pass", judged())
    found = json.loads(write_reports(tmp_path, kinds=("json",))["json"].read_text())
    assert (found["verdict"], found["rows"], found["digests"]) == ("pass", 40, DIGESTS)
    assert len(found["objectives"]) == 5
    assert found["findings"] == []
    assert found["results"]["parity"]["data"]["rows"] == 40


def test_the_junit_file_anchors_the_journal(tmp_path: Path) -> None:
    play = played(tmp_path, results())
    play.end("pass", judged())
    path = write_reports(tmp_path, kinds=("junit",))["junit"]
    assert verify_against_anchor(tmp_path / "journal.jsonl", path) == play.log.head


def test_a_report_is_not_written_over_the_anchor_of_another_journal(tmp_path: Path) -> None:
    played(tmp_path, results()).end("pass", judged())
    anchor = write_reports(tmp_path)["junit"].read_bytes()
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-3]))
    for out in (None, tmp_path / "elsewhere"):
        with pytest.raises(JournalCorrupt, match="its head is"):
            write_reports(tmp_path, out=out)
    assert (tmp_path / "report.xml").read_bytes() == anchor


def test_a_report_of_a_run_that_is_still_going_does_not_stand_in_the_way_of_its_last_one(tmp_path: Path) -> None:
    play = played(tmp_path, results())
    assert "event_log.head" not in write_reports(tmp_path)["junit"].read_text()
    play.end("pass", judged())
    write_reports(tmp_path)
    verify_against_anchor(tmp_path / "journal.jsonl", tmp_path / "report.xml")


def test_a_broken_chain_gives_no_report(tmp_path: Path) -> None:
    played(tmp_path, results()).end("pass", judged())
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"rows":40', b'"rows":41', 1))
    with pytest.raises(JournalCorrupt, match=r"journal\.jsonl:\d+"):
        write_reports(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_kind_that_is_not_known_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="known are"):
        write_reports(tmp_path, kinds=("xlsx",))


def test_a_secret_that_became_known_since_is_in_no_report(tmp_path: Path) -> None:
    play = Play(tmp_path, drill(title="the word is correcthorse", scope="correcthorse"))
    leaky = {"code": "x.y", "message": "it said correcthorse", "verdict": None, "ids": []}
    play.step("dump", results()["dump"] | {"note": "correcthorse"}, "pass", (leaky,))
    play.end("inconclusive", [])
    remember("correcthorse")
    try:
        paths = write_reports(tmp_path)
    finally:
        secrets._fetched.discard("correcthorse")
    for path in paths.values():
        assert "correcthorse" not in path.read_text(), path.name
