"""From journals to reports: what the report of a run that went well says, and what it must say beside it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from exitramp.drill.catalogue import read_drill
from exitramp.drill.engine import run_drill
from exitramp.drill.event import Event
from exitramp.drill.log_reading import read_log
from exitramp.drill.objectives import objectives_sha256
from exitramp.records import Verdict
from exitramp.report.html import render_html
from exitramp.report.model import Notice
from exitramp.report.sections.annex import drill_file, rerun_command
from exitramp.report.sections.journal import Journal
from exitramp.report.writing import write_reports
from tests.report.drill_journals import SECTIONS, STEPS, document_of_run, judged, played, section_text, text_of
from tests.report.drill_results import PAYLOADS, results


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    return played(tmp_path_factory.mktemp("passed"), results()).end("pass", judged())


def test_a_run_that_went_well_says_in_its_first_words_that_the_switch_worked(passed: list[Event]) -> None:
    document = document_of_run(passed)
    assert document.verdict is Verdict.PASS
    assert document.verdict_reason.startswith("The switch worked: 1\u00a0fault hit the primary")


def test_a_report_has_all_eighteen_sections_in_their_order(passed: list[Event]) -> None:
    document = document_of_run(passed)
    assert [one.title for one in document.sections] == SECTIONS
    assert [one.number for one in document.sections] == list(range(1, 19))


def test_what_is_not_proven_begins_with_the_mocks_and_stands_in_the_first_section(passed: list[Event]) -> None:
    first = section_text(document_of_run(passed), "Verdict")
    caveats = first.partition("What this report does not prove")[2]
    assert caveats.find("The answers are mocks") < caveats.find("latency is simulated") < caveats.find("live")
    assert "mock-openai 40 ms at the median" in caveats
    told = section_text(document_of_run(passed), "Mode and scenario")
    assert "| mock-openai | primary | openai |" in told
    assert "| 40 | 0.3 | 7 |" in told, "the latency’s parameters and their seed"


def test_wherever_mocks_answered_the_label_stands_beside_the_verdict_and_the_figures(passed: list[Event]) -> None:
    document = document_of_run(passed)
    assert Notice.MOCK in {stamp.kind for stamp in document.all_stamps}
    for title in ("Verdict", "Scope", "Mode and scenario", "Baseline", "Quality parity"):
        assert "mock" in section_text(document, title).lower(), title
    assert "illustrative" in section_text(document, "Cost before, after and once")


def test_a_report_is_unsigned_and_leaves_what_people_know_blank(passed: list[Event]) -> None:
    document = document_of_run(passed)
    assert "UNSIGNED" in text_of(document)
    assert "unsigned" in {stamp.text for stamp in document.all_stamps}
    assert document.blank_count > 20
    for title in ("Participants", "Contract and time windows", "Findings and lessons", "Action plan", "Sign-off"):
        assert "\\_\\_\\_" in section_text(document, title), title


def test_no_report_says_that_anything_is_compliant(passed: list[Event]) -> None:
    assert "complian" not in (render_html(document_of_run(passed)) + text_of(document_of_run(passed))).lower()


def test_the_objectives_hash_stands_with_the_event_that_holds_it_and_is_computed_again(passed: list[Event]) -> None:
    told = section_text(document_of_run(passed), "Objectives, set and hashed before the run")
    assert passed[0].data["objectives_sha256"] in told
    assert passed[0].hash in told
    assert "the same" in told
    assert "before the first step began in event \\#2" in told


def test_lost_records_and_flipped_cases_are_named_by_id(passed: list[Event]) -> None:
    document = document_of_run(passed)
    lost = section_text(document, "Results by objective and fault")
    assert "late.note_0#7" in lost
    assert "bdb.Bdb.set_continue#0" in lost
    assert "docs_qa-002" in section_text(document, "Quality parity")


def test_what_decides_nothing_says_so(passed: list[Event]) -> None:
    told = section_text(document_of_run(passed), "Quality parity")
    assert "McNemar" in told
    assert "decides nothing" in told
    assert "By use case: descriptive, decides nothing" in told


def test_digests_of_both_sides_stand_beside_each_other(passed: list[Event]) -> None:
    told = section_text(document_of_run(passed), "Rollback")
    assert told.count(PAYLOADS[:16]) >= 3
    assert "equal" in told


def test_the_same_journal_gives_the_same_report(passed: list[Event]) -> None:
    assert document_of_run(passed) == document_of_run(copy.deepcopy(passed))
    assert render_html(document_of_run(passed)) == render_html(document_of_run(list(passed)))


def test_the_drill_file_in_the_annex_can_be_run(passed: list[Event]) -> None:

    journal = Journal.of(passed)
    again = read_drill(drill_file(journal), "annex.yaml", None)
    assert again.name == "small"
    assert [step.name for step in again.steps] == list(STEPS)
    assert objectives_sha256(again.objectives) == passed[0].data["objectives_sha256"]
    assert rerun_command(journal) == "exitramp drill run small --seed 7 --out runs/small-again"


REAL = """
version: 1
name: real
title: A small run of the engine itself
mode: stressed
objectives: {rto_seconds: 30, rpo_records: 10, error_rate: 1}
data: {corpus: pydocs, embedder: "wordllama:"}
primary: {store: {address: "qdrant:{folder}/p#documents"}}
substitute: {store: {address: "qdrant:{folder}/s#documents"}}
steps:
  - start: {}
  - build_primary: {limit: 40}
  - check_hypothesis: {}
  - dump: {}
  - verify_dump: {}
  - plan: {}
  - restore: {}
  - parity: {queries: 10, k: 3, filters: 0}
  - late_writes: {inserts: 1, updates: 1, deletes: 1}
  - outage:
      rate_per_second: 20
      warm_up_seconds: 0.1
      after_seconds: 0.1
      phases: [{fault: refuse, on: store, seconds: 0.5}]
  - measure_loss: {}
  - rollback: {seconds: 0.2}
"""


def test_what_the_engine_writes_down_is_what_the_report_reads(tmp_path: Path) -> None:
    result = run_drill(read_drill(REAL, "real.yaml", None), tmp_path / "run", seed=3)
    assert result.aborted is None
    write_reports(tmp_path / "run")
    document = document_of_run(read_log(tmp_path / "run" / "journal.jsonl").events)
    assert document.verdict is result.verdict
    assert document.meta.event_log_head == result.head
    inventory = section_text(document, "Portability inventory")
    assert inventory.count("read back from the substitute") == 3
    for absent, title in (("measured.**", "Results by objective and fault"), ("measured.**", "Rollback")):
        assert absent not in section_text(document, title)
    whole = text_of(document)
    for told in ("40 of 40", "looks as if it refuses connections", "late.note", "wordllama", "3\u00a0records"):
        assert told in whole, told
