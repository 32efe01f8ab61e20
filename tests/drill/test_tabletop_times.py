"""Times of a table-top drill: stated or measured, and to be reckoned again from the journal alone."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from exitramp import canonical
from exitramp.clock import ManualClock
from exitramp.drill.event import digest
from exitramp.drill.log_reading import read_events
from exitramp.drill.tabletop.decisions import read_decisions
from exitramp.drill.tabletop.judging import minutes_words
from exitramp.drill.tabletop.reading import parse_tabletop
from exitramp.drill.tabletop.record import Sitting
from exitramp.drill.tabletop.sitting import SittingResult, begin, resume
from exitramp.errors import UsageError
from exitramp.report.writing import write_reports
from tests.drill.tabletop_files import DECISIONS, DRILL
from tests.drill.test_tabletop import LEAVE, PEOPLE, _lines

SPEC = parse_tabletop(DRILL, "small.yaml", folder=None)


def held(folder: Path, text: str = DECISIONS) -> SittingResult:
    file = folder / "decisions.yaml"
    file.write_text(text, encoding="utf-8")
    return begin(SPEC, folder / "run", ask=None, given=read_decisions(file, SPEC))


def report(folder: Path) -> str:
    return write_reports(folder / "run")["markdown"].read_text(encoding="utf-8").replace("\xa0", " ").replace("\\", "")


def line(text: str, title: str) -> str:
    return next(each for each in text.splitlines() if each.startswith(f"| {title} |"))


def raw(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(each) for each in (folder / "run" / "journal.jsonl").read_text("utf-8").splitlines()]


def test_minutes_from_a_stated_moment_can_be_reckoned_again_from_the_journal_alone(tmp_path: Path) -> None:
    held(tmp_path)
    events = raw(tmp_path)
    [began] = [each["data"]["stated_at"] for each in events if each["kind"] == "tabletop.began"]
    [made] = [each["data"] for each in events if each["data"].get("stated_at") and each["kind"] == "tabletop.decision"]
    [inject] = [
        each["data"] for each in events if each["data"].get("inject") == made["inject"] and "how" in each["data"]
    ]
    taken = (datetime.fromisoformat(made["stated_at"]) - datetime.fromisoformat(began)).total_seconds() / 60
    assert taken - inject["at_minutes"] == made["minutes"] == 10


def test_the_report_says_of_each_time_whether_it_was_stated_and_as_what(tmp_path: Path) -> None:
    held(tmp_path)
    text = report(tmp_path)
    assert "The sitting began, as people stated (`#2`): 2020-01-31 10:00:00 UTC" in text
    times = text.partition("## 7. Time to decide")[2].partition("## 8.")[0]
    assert line(times, "notice, leave").endswith("| after 12 min | not asked at a prompt | 12 | stated |")
    assert "| 45 | 15 | at 2020-01-31 10:55:00 UTC | not asked at a prompt | 10 | stated |" in times
    assert "by platform after 10 min, stated" in text
    log = text.partition("## 8. Event log")[2]
    assert "Inject read out" not in log, "a file told it, and nobody read it out to this program"
    assert "Decision written down, from a file" in log


def test_a_time_measured_at_the_prompt_is_called_measured(tmp_path: Path) -> None:
    begin(SPEC, tmp_path / "run", ask=_lines(*PEOPLE, "Now", "", "", "", "leave", "mail", None), given=None)
    text = report(tmp_path)
    assert line(text.partition("## 7.")[2], "notice, leave").endswith("| measured |")
    assert ", measured |" in line(text, "notice, leave")
    assert "The sitting began, as people stated" not in text


def test_stated_minutes_that_do_not_follow_from_the_stated_moments_are_doubted(tmp_path: Path) -> None:
    held(tmp_path)
    journal = tmp_path / "run" / "journal.jsonl"
    head, lines = "0" * 64, []
    for each in raw(tmp_path):
        if each["data"].get("stated_at") and each["kind"] == "tabletop.decision":
            each["data"]["minutes"] = 5.0
        body = {**each, "prev": head}
        del body["hash"]
        head = digest(body)
        lines.append(canonical.dumps({**body, "hash": head}))
    journal.write_text("\n".join(lines) + "\n", encoding="utf-8")
    [doubt] = Sitting.of(read_events(journal)).doubts
    assert "states minutes that are not those between the stated moments" in doubt


def test_decisions_of_a_time_that_has_not_come_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    for old, new in (("T10:55:00Z", "T10:55:00Z"), ("began_at: 2020", "began_at: 2999")):
        text = DECISIONS.replace("2020-01-31T10:55", "2999-01-31T10:55") if old == new else DECISIONS.replace(old, new)
        text = text if old == new else text.replace("at: 2020-01-31T10:55:00Z", "after_minutes: 3")
        with pytest.raises(UsageError, match="nobody has decided anything then") as caught:
            held(tmp_path, text)
        assert caught.value.hint
        assert not (tmp_path / "run").exists()


def test_a_sitting_that_went_on_cannot_have_begun_at_another_time(tmp_path: Path) -> None:
    begin(SPEC, tmp_path / "run", ask=_lines(*PEOPLE, *LEAVE, KeyboardInterrupt), given=None)
    rest = DECISIONS[: DECISIONS.index("  - {inject: notice")] + DECISIONS[DECISIONS.index("  - {inject: outage") :]
    file = tmp_path / "decisions.yaml"
    file.write_text(rest.replace("actions:", "actions: []\nx:").partition("x:")[0], encoding="utf-8")
    assert resume(tmp_path / "run", ask=None, given=read_decisions(file, SPEC)).verdict.value == "pass"
    assert [each["kind"] for each in raw(tmp_path)].count("tabletop.began") == 1


def test_what_a_pause_took_is_left_out_of_the_duration_and_said_to_be(tmp_path: Path) -> None:
    clock = ManualClock()
    begin(SPEC, tmp_path / "run", ask=_lines(*PEOPLE, *LEAVE, KeyboardInterrupt), given=None, clock=clock)
    clock.advance(3600.0)
    resume(tmp_path / "run", ask=_lines("Now", "", "", "4", "switch", "", None), given=None, clock=clock)
    text = report(tmp_path)
    assert "| Duration, pauses left out | 0 s |" in text
    assert "own clock, pauses left out (before #" in text
    assert "from when each was written | 60 min 00.0 s |" in text
    assert "clock was moved" not in text


@pytest.mark.parametrize(
    ("minutes", "given", "text"),
    [(12.0, 30.0, "12"), (4.25, None, "4.25"), (30.004, 30.0, "30.004"), (0.001, 30.0, "less than 0.01"), (0, 1, "0")],
)
def test_minutes_have_one_rounding_and_never_hide_that_they_are_too_many(
    minutes: float, given: float | None, text: str
) -> None:
    assert minutes_words(minutes, given) == text
