"""Table-top drills: what is expected of people, what they decided, and what nobody recorded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exitramp.drill.catalogue import find_any, find_drill, how_held, read_drill
from exitramp.drill.event_log import EventLog
from exitramp.drill.log_reading import read_events, read_log
from exitramp.drill.tabletop.decisions import read_decisions
from exitramp.drill.tabletop.reading import parse_tabletop
from exitramp.drill.tabletop.record import Sitting
from exitramp.drill.tabletop.sitting import SittingResult, begin, resume
from exitramp.drill.tabletop.spec import TabletopSpec
from exitramp.errors import ConfigError, DataInvalid, JournalCorrupt, UsageError
from exitramp.records import Verdict
from exitramp.report.writing import write_reports
from tests.drill.tabletop_files import DECISIONS, DRILL

SPEC = parse_tabletop(DRILL, "small.yaml", folder=None)


def _by_file(folder: Path, text: str) -> SittingResult:
    file = folder / "decisions.yaml"
    file.write_text(text, encoding="utf-8")
    return begin(SPEC, folder / "run", ask=None, given=read_decisions(file, SPEC))


def _verdicts(result: SittingResult) -> dict[str, str]:
    return {each.key: each.verdict.value for each in result.expectations}


def _markdown(folder: Path) -> str:
    return write_reports(folder / "run")["markdown"].read_text(encoding="utf-8")


def _lines(*lines: str | type[BaseException] | None) -> Callable[[str], str | None]:
    """Types these lines, one for each prompt; an exception is raised there, None ends the input."""
    left: Iterator[str | type[BaseException] | None] = iter(lines)

    def ask(prompt: str) -> str | None:
        found = next(left, None)
        if isinstance(found, type):
            raise found
        return found

    return ask


def test_decisions_as_expected_pass_and_stand_in_the_report_with_who_and_when(tmp_path: Path) -> None:
    result = _by_file(tmp_path, DECISIONS)
    assert result.verdict is Verdict.PASS
    assert set(_verdicts(result).values()) == {"pass"}
    text = _markdown(tmp_path)
    for told in ("After-action report", "We leave in March", "Olga, owner", "Take an export every week", "2030-02-15"):
        assert told in text
    assert "table-top: talked through at a table, neither simulated nor live" in text
    assert "compliant" not in text
    found = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert (found["verdict"], found["findings"]) == ("pass", [])


def test_what_nobody_recorded_is_inconclusive_and_never_a_pass(tmp_path: Path) -> None:
    result = _by_file(tmp_path, "drill: small_table\ndecisions: []\n")
    assert result.verdict is Verdict.INCONCLUSIVE
    assert set(_verdicts(result).values()) == {"inconclusive"}
    assert "no decision is recorded" in _markdown(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "key", "verdict", "gap"),
    [
        ("after_minutes: 12", "after_minutes: 31", "notice.leave", "fail", "after 31 minutes, and 30 were given"),
        (", after_minutes: 12", "", "notice.leave", "inconclusive", "nobody knows how long it took"),
        (
            "role: owner, decided: We",
            "role: platform, decided: We",
            "notice.leave",
            "fail",
            "it is for owner to decide",
        ),
        ("     runbook: switch}", "     runbook: leave}", "outage.switch.runbook", "fail", "“switch” was expected"),
        (",\n     runbook: switch}", "}", "outage.switch.runbook", "fail", "nobody named the runbook step"),
        (", evidence: minutes of the meeting", "", "notice.leave.evidence", "inconclusive", "no evidence was named"),
        ("decided: Switch now", "undecided: true", "outage.switch", "fail", "nobody could decide"),
    ],
)
def test_each_gap_is_named(tmp_path: Path, old: str, new: str, key: str, verdict: str, gap: str) -> None:
    assert old in DECISIONS
    result = _by_file(tmp_path, DECISIONS.replace(old, new, 1))
    assert _verdicts(result)[key] == verdict
    assert any(gap in each.gap for each in result.expectations if each.key == key)
    assert result.verdict is not Verdict.PASS
    assert gap.replace("“", "").partition("”")[0] in _markdown(tmp_path).replace("“", "")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("drill: small_table", "drill: other", "decisions of the drill 'other'"),
        ("question: leave", "question: stay", "it can be leave"),
        ("inject: notice", "inject: notize", "it can be notice, outage"),
        ("role: owner, decided: We", "role: boss, decided: We", "it can be owner, platform"),
        ("at: 2020-01-31T10:55:00Z", "at: 2020-01-31T10:15:00Z", "30 minutes before the inject"),
        ("at: 2020-01-31T10:55:00Z", "at: soon", "must be a date and time"),
        ("began_at: 2020-01-31T10:00:00Z\n", "", "'at' needs 'began_at'"),
        ("after_minutes: 12", "after_minutes: -1", "at least 0"),
        ("due: 2030-02-15", "due: soon", "must be a date"),
        ("who: Olga, role: owner, decided: We", "who: ' ', role: owner, decided: We", "'who' is empty"),
        ("question: tell", "question: switch", "decided twice"),
        ("who: Paul", "whom: Paul", "did you mean 'who'"),
    ],
)
def test_a_mistake_in_a_decisions_file_names_file_and_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in DECISIONS
    with pytest.raises(ConfigError, match=said) as caught:
        _by_file(tmp_path, DECISIONS.replace(old, new, 1))
    assert "decisions.yaml:" in str(caught.value)
    assert caught.value.hint
    assert not (tmp_path / "run").exists(), "nothing is begun with a file that is wrong"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("mode: tabletop", "mode: tabletop\nhow: live", "'how' is not for a drill file to say"),
        ("mode: tabletop", "mode: tabletop\nexpected: pass", "cannot announce that people will pass"),
        ("mode: tabletop", "mode: tabletop\nsteps: []", "has no steps"),
        ("by: platform", "by: nobody", "it can be owner, platform"),
        ("runbook: switch}", "runbook: swich}", "it can be leave, switch"),
        ("at_minutes: 45", "at_minutes: -1", "at least 0"),
        ("at_minutes: 0", "at_minutes: 50", "in the order of their time"),
        ("name: outage", "name: notice", "two injects 'notice'"),
        ("name: tell", "name: switch", "two questions 'switch'"),
    ],
)
def test_a_mistake_in_a_table_top_file_names_file_and_line(old: str, new: str, said: str) -> None:
    assert old in DRILL
    with pytest.raises(ConfigError, match=said) as caught:
        parse_tabletop(DRILL.replace(old, new, 1), "mine.yaml", folder=None)
    assert str(caught.value).startswith("mine.yaml:")


def test_no_drill_file_can_say_how_it_was_held() -> None:
    with pytest.raises(ConfigError, match="'how' is not for a drill file to say"):
        read_drill("version: 1\nname: a\nhow: live\n", "mine.yaml", None)
    assert how_held(SPEC) == "table-top"
    assert how_held(find_drill("vendor_outage")) == "live, mock vendors"


def test_a_drill_reads_back_from_its_journal_as_it_was(tmp_path: Path) -> None:
    spec = find_any("table_top_vendor_exit")
    assert isinstance(spec, TabletopSpec)
    begin(spec, tmp_path / "run", ask=None, given=None)
    assert Sitting.of(read_events(tmp_path / "run" / "journal.jsonl")).spec.to_json() == spec.to_json()


PEOPLE = ("Fay", "", "Olga", "Paul")
LEAVE = ("We leave", "", "", "5", "leave", "mail of 3 March")


def test_decisions_are_recorded_at_the_prompt_as_they_are_typed(tmp_path: Path) -> None:
    said: list[str] = []
    ask = _lines(
        *PEOPLE, *LEAVE, "Now", "owner", "Olga", "", "switch", "", "", "Read it", "Olga", "x", "2030-02-01", ""
    )
    result = begin(SPEC, tmp_path / "run", ask=ask, given=None, say=said.append)
    sitting = Sitting.of(read_events(tmp_path / "run" / "journal.jsonl"))
    left = sitting.decisions["notice", "leave"]
    assert (left.who, left.role, left.minutes, left.minutes_from) == ("Olga", "owner", 5.0, "stated")
    now = sitting.decisions["outage", "switch"]
    assert (now.role, now.minutes_from) == ("owner", "measured")
    assert now.minutes is not None
    assert now.minutes < 1
    assert sitting.actions[0].to_json() == {"what": "Read it", "owner": "Olga", "due": "2030-02-01"}
    assert "  that is no date" in said
    found = _verdicts(result)
    assert (found["notice.leave"], found["outage.switch"], found["outage.tell"]) == ("pass", "fail", "inconclusive")


def test_ctrl_c_keeps_what_was_recorded_and_the_sitting_goes_on_where_it_stopped(tmp_path: Path) -> None:
    first = begin(SPEC, tmp_path / "run", ask=_lines(*PEOPLE, *LEAVE, "Now", KeyboardInterrupt), given=None)
    assert first.paused
    assert first.verdict is Verdict.INCONCLUSIVE
    assert "The sitting was interrupted" in _markdown(tmp_path)
    said: list[str] = []
    again = resume(
        tmp_path / "run", ask=_lines("Now", "", "", "4", "switch", "", "All", "", "", "", "", "", ""), given=None,
        say=said.append,
    )  # fmt: skip
    assert not again.paused
    assert not any("Notice is given" in each for each in said), "what was decided is not asked again"
    sitting = Sitting.of(read_events(tmp_path / "run" / "journal.jsonl"))
    assert sitting.decisions["notice", "leave"].evidence == "mail of 3 March"
    assert sitting.decisions["outage", "switch"].decided == "Now"
    assert set(_verdicts(again).values()) == {"pass"}
    assert again.verdict is Verdict.PASS
    with pytest.raises(DataInvalid, match="has ended"):
        resume(tmp_path / "run", ask=_lines(), given=None)


def test_a_journal_torn_by_a_crash_is_continued_and_the_clock_is_not_believed(tmp_path: Path) -> None:
    begin(SPEC, tmp_path / "run", ask=_lines(*PEOPLE, *LEAVE, KeyboardInterrupt), given=None)
    journal = tmp_path / "run" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]) + b'{"data":{"half')  # killed: no pause, and half a line
    resume(tmp_path / "run", ask=_lines("Now", "", "", "", "switch", "", None), given=None)
    events = read_events(journal)
    assert [each.data["torn_bytes"] for each in events if each.kind == "run.resumed"] == [14]
    made = Sitting.of(events).decisions["outage", "switch"]
    assert (made.minutes, made.minutes_from) == (None, None)


def test_a_paused_sitting_can_be_ended_by_a_file_that_contradicts_nothing(tmp_path: Path) -> None:
    begin(SPEC, tmp_path / "run", ask=_lines(*PEOPLE, *LEAVE, KeyboardInterrupt), given=None)
    file = tmp_path / "decisions.yaml"
    file.write_text(DECISIONS, encoding="utf-8")
    with pytest.raises(UsageError, match="'notice', 'leave' is in the journal already, decided otherwise"):
        resume(tmp_path / "run", ask=None, given=read_decisions(file, SPEC))
    assert not read_log(tmp_path / "run" / "journal.jsonl").finished
    rest = DECISIONS[: DECISIONS.index("  - {inject: notice")] + DECISIONS[DECISIONS.index("  - {inject: outage") :]
    file.write_text(rest, encoding="utf-8")
    assert resume(tmp_path / "run", ask=None, given=read_decisions(file, SPEC)).verdict is Verdict.PASS


def test_two_processes_do_not_write_one_journal(tmp_path: Path) -> None:
    begin(SPEC, tmp_path / "run", ask=_lines(*PEOPLE, KeyboardInterrupt), given=None)
    from exitramp.clock import SystemClock

    log, _ = EventLog.resume(tmp_path / "run" / "journal.jsonl", SystemClock())
    with log, pytest.raises(DataInvalid, match="another process is writing it"):
        resume(tmp_path / "run", ask=_lines(), given=None)


def test_a_decision_that_was_changed_afterwards_breaks_the_chain(tmp_path: Path) -> None:
    _by_file(tmp_path, DECISIONS)
    journal = tmp_path / "run" / "journal.jsonl"
    journal.write_text(journal.read_text(encoding="utf-8").replace("We leave in March", "We stay"), encoding="utf-8")
    with pytest.raises(JournalCorrupt, match="the line was changed"):
        write_reports(tmp_path / "run")


def test_the_packaged_scenario_has_the_price_the_notice_and_the_outage() -> None:
    spec = find_any("table_top_vendor_exit")
    assert isinstance(spec, TabletopSpec)
    assert [each.name for each in spec.injects] == [
        "price_increase", "termination_notice", "persistent_outage", "aftermath",
    ]  # fmt: skip
    assert {asked.runbook for _, asked in spec.questions() if asked.runbook} == set(spec.runbook)
    assert {asked.by for _, asked in spec.questions()} == set(spec.roles)
    with pytest.raises(UsageError, match="table-top drill"):
        find_drill("table_top_vendor_exit")
