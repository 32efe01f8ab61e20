"""Sentences of the report that were once untrue of some journal, or could be."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from exitramp.report.model import Document
from exitramp.report.sections import words
from tests.report.drill_journals import VERDICTS, Play, document_of_run, drill, judged, played, section_text, text_of
from tests.report.drill_results import results


def _of(folder: Path, change: dict[str, dict[str, Any]], spec: dict[str, Any] | None = None) -> Document:
    found = copy.deepcopy(results())
    for step, data in change.items():
        found[step] |= data
    return document_of_run(played(folder, found, spec).end("pass", judged()))


def _aborted(folder: Path, *, at: str, before: bool = False, way_back: bool = True) -> Document:
    """Stopped in or before the step `at`; the steps after it are skipped, and the way back runs."""
    spec = drill()
    spec["steps"][-1] |= {"sync": True}
    names = [step["name"] for step in spec["steps"]]
    play = Play(folder, spec)
    for name in names[: names.index(at)]:
        play.step(name, results().get(name, {}), VERDICTS.get(name))
    if before:
        play.log.append("run.aborted", {"step": at, "reason": "told to end (SIGTERM)", "hint": None})
    else:
        play.abort(at, "told to end (SIGTERM)")
    for name in names[names.index(at) + (0 if before else 1) :]:
        if name == "rollback" and way_back:
            play.step(name, {**results()["rollback"], "sync": None, "substitute_digests": None, "parity": None}, "pass")
        else:
            play.log.append("step.skipped", {"step": name, "because": f"{at}: told to end"})
    return document_of_run(play.end("inconclusive", judged(), f"{at}: told to end (SIGTERM)"))


# ------------------------------------------------------------------------------ drills that were stopped


def test_what_ran_after_the_stop_is_not_said_to_have_been_left_out(tmp_path: Path) -> None:
    document = _aborted(tmp_path, at="dump")
    assert "stopped in the step “dump”" in document.verdict_reason
    assert "Of the steps after that only “rollback” ran." in document.verdict_reason
    told = section_text(document, "Rollback")
    assert "it was not done: the drill was stopped in the step “dump”" in told
    assert "asks for no synchronisation" not in told


def test_a_drill_that_was_stopped_before_a_step_is_not_said_to_have_been_in_it(tmp_path: Path) -> None:
    whole = text_of(_aborted(tmp_path, at="dump", before=True))
    assert "stopped before the step “dump”" in whole
    assert "stopped in the step" not in whole
    assert "contradicts" not in whole


def test_a_step_that_was_broken_off_is_not_called_one_that_was_not_done(tmp_path: Path) -> None:
    first = section_text(_aborted(tmp_path, at="outage", way_back=False), "Verdict")
    assert "Begun and broken off, and so not measured: outage." in first
    not_done = first.partition("Not done in this run")[2]
    assert "outage" not in not_done.partition(".")[0]
    assert "did not come to its end" in first


def test_nobody_is_said_to_have_decided_in_an_outage_that_never_came(tmp_path: Path) -> None:
    assert "In the outage" not in section_text(_aborted(tmp_path, at="dump"), "Participants")


# ------------------------------------------------------------------------------ faults and recovery


def test_simulated_faults_did_not_hit_the_primary(tmp_path: Path) -> None:
    phase = {**results()["outage"]["phases"][0], "how": "simulated"}
    document = _of(tmp_path, {"outage": {"phases": [phase, phase]}})
    assert "2 simulated faults were played on the primary" in document.verdict_reason.replace("\u00a0", " ")
    assert "hit the primary" not in document.verdict_reason


def test_a_fault_after_which_no_answer_came_is_counted_out_of_those_that_were_answered(tmp_path: Path) -> None:
    phase = results()["outage"]["phases"][0]
    lost = {**phase, "recovery_seconds": None}
    told = section_text(
        _of(tmp_path, {"outage": {"phases": [phase, lost], "rto_seconds": None}}), "Results by objective and fault"
    )
    assert "After 1 of 2 faults the first good answer" in told.replace("\u00a0", " ")
    assert "after 1 none came" in told


@pytest.mark.parametrize(("seconds", "text"), [(0.7834, "0.78 s"), (0.7866, "0.79 s"), (5.0004, "5.0004 s")])
def test_a_recovery_time_has_one_rounding_wherever_it_stands(tmp_path: Path, seconds: float, text: str) -> None:
    """5.0004 s against 5 s needs its places in the table of objectives, so it has them everywhere."""
    found = copy.deepcopy(results())
    found["outage"]["rto_seconds"] = found["outage"]["phases"][0]["recovery_seconds"] = seconds
    ended = "pass" if seconds <= 5 else "fail"
    objectives = judged(rto_seconds=(seconds, ended))
    document = document_of_run(played(tmp_path, found).end(ended, objectives))
    first = section_text(document, "Verdict").replace("\u00a0", " ")
    events = section_text(document, "Event log").replace("\u00a0", " ")
    results_ = section_text(document, "Results by objective and fault").replace("\u00a0", " ")
    assert text in document.verdict_reason.replace("\u00a0", " ")
    assert f"| {text} |" in first
    assert f"{text} after the fault" in events
    assert f"came after {text} at the slowest" in results_
    assert f"| Slowest recovery (RTO) | {text} |" in results_
    assert f"| {text.removesuffix(' s')} | 60 |" in results_
    near = re.findall(rf"(?<![\d.]){int(seconds)}\.\d+(?= s)", f"{document.verdict_reason} {first} {events}")
    assert {one for one in near if abs(float(one) - seconds) < 0.02} <= {text.removesuffix(" s")}


def test_a_store_that_the_rollback_restarted_was_left_broken_only_until_then(tmp_path: Path) -> None:
    play = played(tmp_path, {name: data for name, data in results().items() if name != "rollback"})
    play.begin("rollback")
    play.log.append("rollback.healed", {"stack": "primary"})
    play.log.append(
        "step.finished",
        {"step": "rollback", "seconds": 1.5, "verdict": "pass", "data": results()["rollback"], "findings": []},
    )
    told = section_text(document_of_run(play.end("pass", judged())), "Mode and scenario")
    assert "left broken until the rollback" in told


# ------------------------------------------------------------------------------ what was lost, and what is compared


def test_records_that_were_lost_beyond_the_announced_writes_are_not_called_the_drills_own(tmp_path: Path) -> None:
    late = {"upserted": ["late.note_0#7", "bdb.Bdb.set_continue#0"], "deleted": []}
    spec = drill()
    spec["steps"].insert(9, {"name": "late_writes"})
    found = {name: data for name, data in results().items() if name not in {"measure_loss"}}
    for number, extra in enumerate(([], ["numpy.sum#0"])):
        folder = tmp_path / str(number)
        loss = {**results()["measure_loss"], "missing": ["late.note_0#7", *extra], "records": 2 + len(extra)}
        play = played(folder, {**found, "late_writes": late, "measure_loss": loss}, spec)
        told = section_text(document_of_run(play.end("pass", judged(rpo_records=(2 + len(extra), "pass")))), "Verdict")
        assert ("are partly those that the drill itself wrote" in told) == bool(extra)
        assert ("are those that the drill itself wrote" in told) != bool(extra)


def test_parity_of_what_is_on_both_sides_is_not_told_as_parity_of_all(tmp_path: Path) -> None:
    records = copy.deepcopy(results()["parity"]["records"])
    records["rows"]["compared"] = 38
    told = section_text(_of(tmp_path, {"parity": {"records": records}}), "Portability inventory").replace("\u00a0", " ")
    assert "Of the 38 records on both sides: **" in told


def test_a_cosine_that_is_not_one_does_not_read_one(tmp_path: Path) -> None:
    records = copy.deepcopy(results()["parity"]["records"])
    records["fields"][0]["cosine"] = {"min": 0.99999994, "mean": 0.99999999}
    records["fields"][0]["l2"] = {"max": 0.00034501, "mean": 0.0}
    told = section_text(_of(tmp_path, {"parity": {"records": records}}), "Portability inventory")
    assert "cosine at least 0.999999, L2 distance at most 0.00035" in told
    assert "| Cosine, lowest | 0.999999940 |" in told


def test_what_a_vendors_account_says_is_not_made_up_where_it_is_missing(tmp_path: Path) -> None:
    reconciliation = {**results()["outage"]["reconciliation"]}
    del reconciliation["adds_up"]
    told = section_text(_of(tmp_path, {"outage": {"reconciliation": reconciliation}}), "Results by objective and fault")
    assert "is not in the journal" in told
    assert "the same story" in told.partition("Whether both sides tell")[2]


def test_a_finding_of_a_comparison_names_what_was_compared_and_no_other_text_is_touched() -> None:
    finding = {"code": "records.missing", "message": "3 records of A are not in B. A lacks none; B's index is ready"}
    assert words.finding_words(finding, "parity") == (
        "3 records of the primary are not in the substitute. The primary lacks none; the substitute's index is ready"
    )
    assert words.finding_words(finding, "restore").startswith("3 records of the dump are not in the substitute")
    other = {"code": "cost.unknown", "message": "A price is missing, plan B costs -3.5"}
    assert words.finding_words(other, "cost") == "A price is missing, plan B costs −3.5"


# ------------------------------------------------------------------------------ drills that are meant to fail


@pytest.mark.parametrize(("expected", "found"), [("fail", True), ("pass", False)])
def test_a_drill_made_to_fail_that_passes_is_not_said_to_have_found_what_is_wrong(
    tmp_path: Path, expected: str, found: bool
) -> None:
    told = section_text(_of(tmp_path, {}, drill(expected=expected)), "Verdict")
    assert ("what it was to find was not found" in told) == found
    assert "is there to show that what is wrong is found" not in told


def test_objectives_beyond_those_named_first_are_said_to_stand_where_they_stand(tmp_path: Path) -> None:
    missed = judged(
        rto_seconds=(None, "inconclusive"), error_rate=(None, "inconclusive"), rpo_records=(None, "inconclusive")
    )
    document = document_of_run(played(tmp_path, results()).end("inconclusive", missed))
    assert "1 more stands in sections 1 and 15." in document.verdict_reason


def test_a_report_of_the_same_journal_says_the_same_whenever_it_is_made(tmp_path: Path) -> None:
    whole = text_of(_of(tmp_path, {}))
    assert "Report written" not in whole
    assert "Made from what exitramp 0.1.0 had logged by" in whole


def test_an_exit_in_good_order_is_not_claimed_where_a_fault_was_injected(tmp_path: Path) -> None:
    told = section_text(_of(tmp_path, {}, drill(mode="planned")), "Mode and scenario").replace("\xa0", " ")
    assert "called planned by the drill file; 1 fault befell the vendor all the same" in told
    assert "in good order" not in told


@pytest.mark.parametrize(("overlap", "is_named"), [(1.0, True), (0.8, True), (0.5, False), (None, False)])
def test_a_golden_set_that_gives_its_answers_away_is_named_on_the_first_page(
    tmp_path: Path, overlap: float | None, is_named: bool
) -> None:
    document = _of(tmp_path, {"load_golden": {"mean_token_overlap": overlap}})
    assert ("nearly copies of what they are to find" in section_text(document, "Verdict")) is is_named
    baseline = section_text(document, "Baseline")
    assert "as the set states" in baseline
    assert ("the set does not state it" in baseline) is (overlap is None)
