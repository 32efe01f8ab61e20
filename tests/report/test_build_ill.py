"""Reports of runs that failed, were stopped, were killed or contradict themselves, and of stacks of one's own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exitramp.drill.event import Event
from exitramp.errors import DataInvalid
from exitramp.records import Verdict
from exitramp.report.html import render_html
from exitramp.report.model import Table
from exitramp.report.walk import nodes
from tests.report.drill_journals import (
    OBJECTIVES,
    SECTIONS,
    VERDICTS,
    Play,
    document_of_run,
    drill,
    judged,
    played,
    section_text,
    text_of,
)
from tests.report.drill_results import results, store


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    return played(tmp_path_factory.mktemp("passed"), results()).end("pass", judged())


# ----------------------------------------------------------------- runs that did not


def test_a_missed_objective_is_told_with_its_figure_and_its_promise(tmp_path: Path) -> None:
    events = played(tmp_path, results()).end("fail", judged(rto_seconds=(7.25, "fail")))
    document = document_of_run(events)
    assert document.verdict is Verdict.FAIL
    assert "The switch worked" not in text_of(document)
    assert "Rto seconds is 7.25\u00a0s, promised was ≤\u00a05\u00a0s" in document.verdict_reason
    assert "Objective: rto seconds" in section_text(document, "Action plan")


def test_a_figure_is_never_rounded_onto_its_promise(tmp_path: Path) -> None:
    events = played(tmp_path, results()).end("fail", judged(rto_seconds=(5.0004, "fail")))
    assert "5.0004" in document_of_run(events).verdict_reason


def test_a_failed_check_fails_a_run_whose_objectives_are_all_met(tmp_path: Path) -> None:
    play = Play(tmp_path, drill())
    for name, data in results().items():
        lost = {
            "code": "records.missing",
            "message": "60 records of A are not in B",
            "verdict": "fail",
            "ids": ["x#1"],
            "count": 60,
        }
        play.step(name, data, "fail" if name == "parity" else VERDICTS.get(name), (lost,) if name == "parity" else ())
    document = document_of_run(play.end("fail", judged()))
    assert document.verdict is Verdict.FAIL
    assert "60 records of the primary are not in the substitute" in document.verdict_reason
    assert "x#1" in section_text(document, "Findings and lessons")


def test_what_was_not_measured_is_said_to_be_not_measured_and_never_a_zero(tmp_path: Path) -> None:
    events = played(tmp_path, results()).end("inconclusive", judged(rto_seconds=(None, "inconclusive")))
    document = document_of_run(events)
    assert document.verdict is Verdict.INCONCLUSIVE
    row = next(line for line in text_of(document).splitlines() if line.startswith("| rto seconds"))
    assert "not measured" in row
    assert " 0 " not in row


def test_steps_that_a_drill_does_not_have_are_named_as_such(tmp_path: Path) -> None:
    few = {name: results()[name] for name in ("start", "dump", "verify_dump", "plan", "restore", "parity")}
    spec = drill(steps=[{"name": name} for name in few])
    document = document_of_run(played(tmp_path, few, spec).end("pass", judged()[1:2], None))
    for title, step in (
        ("Results by objective and fault", "outage"),
        ("Quality parity", "compare_quality"),
        ("Cost before, after and once", "cost"),
        ("Rollback", "rollback"),
    ):
        told = section_text(document, title)
        assert "**Not measured.**" in told
        assert f"“{step}” is not part of this drill".replace("_", "\\_") in told
    tables = [node for one in document.sections for node in nodes(one) if isinstance(node, Table)]
    assert all(table.rows for table in tables), [table.caption for table in tables if not table.rows]
    assert "The switch worked" not in document.verdict_reason


def test_an_aborted_drill_says_where_and_why_and_is_no_pass(tmp_path: Path) -> None:
    play = Play(tmp_path, drill())
    for name in ("start", "load_golden"):
        play.step(name, results()[name], VERDICTS.get(name))
    play.abort("dump", "StoreUnavailable: the store does not answer")
    unmeasured = judged(**{name: (None, "inconclusive") for name, goal in OBJECTIVES.items() if goal is not None})
    document = document_of_run(play.end("pass", unmeasured, "dump: StoreUnavailable"))
    assert document.verdict is Verdict.INCONCLUSIVE
    assert "stopped in the step “dump”: The store does not answer." in document.verdict_reason
    assert "stopped early" in {stamp.text for stamp in document.all_stamps}
    assert "stopped in the step “dump”" in section_text(document, "Rollback")
    assert "drill.aborted" in section_text(document, "Findings and lessons")


@pytest.mark.parametrize("kept", [1, 2, 5, 12, 24, -2, -1])
def test_the_journal_of_a_killed_run_renders_and_is_inconclusive(passed: list[Event], kept: int) -> None:
    document = document_of_run(passed[:kept], torn_bytes=17)
    assert document.verdict is Verdict.INCONCLUSIVE
    assert document.verdict_reason.startswith("The run did not end")
    assert "run did not end" in {stamp.text for stamp in document.all_stamps}
    assert "The switch worked" not in render_html(document)
    assert [one.title for one in document.sections] == SECTIONS
    assert "broke off after 17" in section_text(document, "Event log")


def test_a_killed_run_that_had_failed_already_stays_a_fail(tmp_path: Path) -> None:
    play = Play(tmp_path, drill())
    play.step("dump", results()["dump"], "fail", ({"code": "dump.count", "message": "one is gone", "verdict": "fail"},))
    document = document_of_run(play.events())
    assert document.verdict is Verdict.FAIL
    assert document.verdict_reason.startswith("The run did not end")
    assert "one is gone" in document.verdict_reason


def test_a_stack_of_ones_own_without_chat_questions_prices_or_objectives_renders(tmp_path: Path) -> None:
    found = results()
    stacks = {"primary": {"store": store("chroma:/db#c")}, "substitute": {"store": store("qdrant:/new#c")}}
    found["start"] = {"stacks": stacks}
    found |= {"load_golden": {"cases": 0}, "baseline": {"label": "baseline", "asked": 0}, "replay": {"asked": 0}}
    found |= {"compare_quality": {}, "cost": {}}
    found["outage"] |= {"mock": False, "reconciliation": {"adds_up": True, "vendor_accounts": []}}
    found["outage"]["phases"] = [
        {**found["outage"]["phases"][0], "on": "store", "fault": "sigstop", "how": "simulated"}
    ]
    found["rollback"] |= {"sync": None, "substitute_digests": None, "parity": None}
    none = dict.fromkeys(OBJECTIVES)
    spec = drill(objectives=none, primary={"store": {"address": "chroma:/db#c"}, "chat": None})
    document = document_of_run(played(tmp_path, found, spec).end("inconclusive", []))
    whole = text_of(document)
    assert document.verdict is Verdict.INCONCLUSIVE
    assert "No objectives were set" in document.verdict_reason
    assert "1 of 1 fault simulated" in {stamp.text for stamp in document.all_stamps}
    assert "looks as if it is stopped" in section_text(document, "Mode and scenario")
    assert "mock" not in section_text(document, "Verdict").lower()
    assert "No vendor of this drill keeps an account" in whole
    assert "no chat vendor" in section_text(document, "Portability inventory")


def test_an_emulated_wire_is_called_emulated(tmp_path: Path) -> None:
    found = results()
    found["start"]["stacks"]["substitute"]["store"] = store("qdrant+http://127.0.0.1:6333#c", "qdrant-shim")
    document = document_of_run(played(tmp_path, found).end("pass", judged()))
    assert "wire emulated" in {stamp.text for stamp in document.all_stamps}
    assert "was emulated" in section_text(document, "Verdict")


# ----------------------------------------------------------------- journals that contradict themselves


def test_a_pass_that_the_objectives_do_not_carry_is_not_shown(tmp_path: Path) -> None:
    events = played(tmp_path, results()).end("pass", judged(rto_seconds=(9.0, "fail")))
    assert document_of_run(events).verdict is Verdict.FAIL


def test_an_objective_that_passes_unmeasured_does_not(tmp_path: Path) -> None:
    events = played(tmp_path, results()).end("pass", judged(rto_seconds=(None, "pass")))
    assert document_of_run(events).verdict is Verdict.INCONCLUSIVE


def test_objectives_judged_against_another_target_than_the_one_set_are_no_pass(tmp_path: Path) -> None:
    moved = judged()
    moved[0] = {**moved[0], "target": 50.0}
    document = document_of_run(played(tmp_path, results()).end("pass", moved))
    assert document.verdict is Verdict.INCONCLUSIVE
    assert "other targets than those set: rto_seconds" in document.verdict_reason


def test_an_objective_that_was_set_and_never_judged_is_no_pass(tmp_path: Path) -> None:
    document = document_of_run(played(tmp_path, results()).end("pass", judged()[1:]))
    assert document.verdict is Verdict.INCONCLUSIVE


def test_a_hash_that_is_not_that_of_the_objectives_beside_it_is_no_pass(passed: list[Event]) -> None:
    first = replace(passed[0], data={**passed[0].data, "objectives_sha256": "0" * 64})
    document = document_of_run([first, *passed[1:]])
    assert document.verdict is Verdict.INCONCLUSIVE
    assert "not the same" in section_text(document, "Objectives, set and hashed before the run")


def test_a_log_that_is_not_a_drills_is_refused(passed: list[Event]) -> None:
    for log in ([], list(passed[1:])):
        with pytest.raises(DataInvalid, match="not the journal of a drill"):
            document_of_run(log)


def _shapes(value: Any, put: Callable[[Any], None]) -> Iterator[Callable[[Any], None]]:
    """A way to put something else in the place of every value within, the inner ones first."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _shapes(item, lambda other, key=key: value.__setitem__(key, other))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from _shapes(item, lambda other, at=at: value.__setitem__(at, other))
    yield put


def _of(data: Any, path: int) -> Any:
    """A copy of `data` and a way to change its value number `path`; None past the last."""
    whole = {"data": copy.deepcopy(data)}
    for at, put in enumerate(_shapes(whole["data"], lambda other: whole.__setitem__("data", other))):
        if at == path:
            return whole, put
    return None


@pytest.mark.parametrize("other", [None, "?", {}, -1])
def test_a_journal_of_another_shape_gives_a_report_and_never_a_traceback(passed: list[Event], other: Any) -> None:
    changed = 0
    for number, event in enumerate(passed):
        if event.kind == "step.started":
            continue
        path = 0
        while (found := _of(dict(event.data), path)) is not None:
            whole, put = found
            put(other)
            path += 3  # every third value: one in three of each kind is enough, and all would take a minute
            if not isinstance(whole["data"], dict):
                continue
            log = [*passed[:number], replace(event, data=whole["data"]), *passed[number + 1 :]]
            assert [one.title for one in document_of_run(log).sections] == SECTIONS
            changed += 1
    assert changed > 100
