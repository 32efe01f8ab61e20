"""What somebody who only reads the first page must not misread, and the words that lead there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exitramp.report.html import render_html
from exitramp.report.markdown import render_markdown
from exitramp.report.model import Document, VerdictTable, emphasis, prose, strong
from exitramp.report.sections.annex import rerun_command
from exitramp.report.sections.checks import vectors_line
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.words import singular
from tests.report.drill_journals import VERDICTS, Play, document_of_run, drill, judged, played, section_text
from tests.report.drill_results import results

MEASURED = {"name": "p95_latency_ms", "title": "Latency, 95th percentile", "unit": "ms", "measured": 136.0}


def ended(folder: Path, reached: list[dict[str, Any]], *unpromised: dict[str, Any], **spec: Any) -> Document:
    play = played(folder, results(), drill(**spec) if spec else None)
    more = {"aborted": None, "seconds": 30.0, "traces": 3, "ended_at": "2030-01-01T00:01:00.000Z"}
    verdict = "pass" if reached else "inconclusive"
    judgement = {"verdict": verdict, "objectives": reached, "unpromised": list(unpromised)}
    play.log.append("run.judged", {**judgement, **more})
    play.log.finish({"verdict": verdict})
    return document_of_run(play.events())


# ------------------------------------------------------------------------------ failed although every objective is met


def test_a_run_that_fails_with_every_objective_met_says_why_before_the_table_of_objectives(tmp_path: Path) -> None:
    play = Play(tmp_path, drill())
    against = [
        {"code": "neighbours.metric", "message": "B declares dot, A cosine", "verdict": "fail"},
        {"code": "neighbours.recall", "message": "recall@10 of B is 0.3", "verdict": "fail"},
    ]
    for name, data in results().items():
        here = name == "parity"
        play.step(name, data, "fail" if here else VERDICTS.get(name), tuple(against) if here else ())
    document = document_of_run(play.end("fail", judged()))
    told = "Every objective was met, but a check failed. Both stores compared: the substitute declares dot"
    assert document.verdict_reason.startswith(told)
    assert "1 more stands in sections 1 and 15." in document.verdict_reason
    page = section_text(document, "Verdict")
    why, table = page.find("(step `parity`): The substitute declares dot"), page.find("**Objectives set before")
    assert 0 < why < table
    assert "1\u00a0more finding of it: section 15" in page


def test_a_run_that_passes_or_misses_an_objective_has_no_such_warning(tmp_path: Path) -> None:
    passed = document_of_run(played(tmp_path / "a", results()).end("pass", judged()))
    missed = document_of_run(played(tmp_path / "b", results()).end("fail", judged(rto_seconds=(9.0, "fail"))))
    for document in (passed, missed):
        assert "every objective was met" not in section_text(document, "Verdict")


# ------------------------------------------------------------------------------ measured without a promise


def test_what_was_measured_without_a_promise_is_shown_and_judged_by_nothing(tmp_path: Path) -> None:
    document = ended(tmp_path, judged(), MEASURED)
    line = "| Latency, 95th percentile | *no number promised* | 136\u00a0ms | *no verdict* | measured, and judged by"
    for title in ("Verdict", "Results by objective and fault"):
        assert line in section_text(document, title)
    assert "p95" not in {each.key for each in document.objectives}
    page = render_html(document)
    assert '<td role="cell" data-name="Verdict"><span class="quiet">no verdict</span></td>' in page


def test_a_drill_without_objectives_shows_what_it_measured(tmp_path: Path) -> None:
    none = dict.fromkeys(drill()["objectives"])
    document = ended(tmp_path, [], MEASURED, objectives=none)
    tables = [each for each in document.sections[0].blocks if isinstance(each, VerdictTable)]
    assert [name for each in tables for name, _ in each.unjudged] == ["Latency, 95th percentile"]
    assert "136" in section_text(document, "Results by objective and fault")
    assert document.verdict.value == "inconclusive"


def test_a_promised_figure_is_not_shown_again_as_one_without_a_promise(tmp_path: Path) -> None:
    again = {"name": "rto_seconds", "title": "RTO again", "unit": "s", "measured": 1.0}
    assert "RTO again" not in render_markdown(ended(tmp_path, judged(), again, {"name": "x", "measured": None}))


# ------------------------------------------------------------------------------ words before numbers


def field(**changes: Any) -> dict[str, Any]:
    exact = {"column": "vector", "rows": 40, "bit_equal": 40, "beyond_tolerance": 0, "one_sided": 0}
    return {"records": {"fields": [{**exact, "cosine": {"min": 1.0}, "l2": {"max": 0.0}, **changes}]}}


def test_vectors_that_are_equal_bit_for_bit_are_said_to_be_so_before_any_number() -> None:
    told = vectors_line(field())
    assert told == "every vector came back bit for bit (“vector”: cosine at least 1, L2 distance at most 0)"


@pytest.mark.parametrize(
    "change", [{"bit_equal": 39}, {"one_sided": 1}, {"beyond_tolerance": 1}, {"l2": {"max": 0.1}}, {"bit_equal": None}]
)
def test_one_vector_that_is_not_equal_is_enough_for_it_not_to_be_said(change: dict[str, Any]) -> None:
    assert "every vector" not in vectors_line(field(**change))


def test_how_many_vectors_are_equal_is_said_where_not_all_are() -> None:
    assert vectors_line(field(bit_equal=39)).startswith("“vector”: 39 of 40\u00a0vectors came back bit for bit")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("under the filter, 1 queries; fewer", "under the filter, 1 query; fewer"),
        ("1 records were missing", "1 record was missing"),
        ("1 of 1 values are kept", "1 of 1 value is kept"),
        ("21 records are, 1,001 vectors and 0.1 records", "21 records are, 1,001 vectors and 0.1 records"),
    ],
)
def test_one_is_counted_as_one(text: str, told: str) -> None:
    assert singular(text) == told


def test_one_record_lost_is_no_records(tmp_path: Path) -> None:
    text = render_markdown(document_of_run(played(tmp_path, results()).end("pass", judged(rpo_records=(1, "pass")))))
    assert "| 1\u00a0record |" in text


# ------------------------------------------------------------------------------ emphasis


@pytest.mark.parametrize("mark", [strong, emphasis])
def test_words_beside_emphasis_are_parted_from_it(of: Callable[..., Document], mark: Callable[[str], Any]) -> None:
    markdown_it = pytest.importorskip("markdown_it", reason="no independent reader of Markdown is installed")
    paragraphs = [
        prose(mark("nDCG@10:"), "the bound"),
        prose("before", mark("“x”:"), "after"),
        prose(mark("one:"), mark("two:"), "three"),
        prose(mark("a: "), "b"),
    ]
    page = str(markdown_it.MarkdownIt("commonmark").render(render_markdown(of(*paragraphs)).partition("<a id=")[2]))
    body = page.partition("</h2>")[2].partition("<hr")[0]
    assert "*" not in body, body


def test_no_word_of_a_report_touches_a_sign_of_emphasis(tmp_path: Path) -> None:
    text = render_markdown(document_of_run(played(tmp_path, results()).end("pass", judged())))
    for at, row_ in enumerate(text.splitlines(), start=1):
        signs = row_.split("**")
        for number, piece in enumerate(signs[2::2]):
            inside = signs[2 * number + 1]
            assert not (piece[:1].isalnum() and inside), f"line {at}: {row_}"


# ------------------------------------------------------------------------------ what is unknown, and how to do it again


def test_a_store_that_records_no_model_is_said_not_to_and_the_drill_files_word_is_called_that(tmp_path: Path) -> None:
    unknown = {"provider": "unknown", "name": "unknown", "revision": "unknown"}
    found = {**results(), "plan": {**results()["plan"], "target": {"vectors": [{"model": unknown}]}}}
    document = document_of_run(played(tmp_path, found).end("pass", judged()))
    inventory = section_text(document, "Portability inventory")
    assert "unknown: the store does not record which model made the vectors" in inventory
    assert "the drill file names wordllama: whether it made these is not shown here" in inventory
    scope = section_text(document, "Scope")
    assert "the store does not record which model made the vectors; the drill file names wordllama |" in scope


@pytest.mark.parametrize(
    ("typed", "again"),
    [
        ("exitramp drill run x --out runs/first", "exitramp drill run x --out runs/first-again"),
        (
            "exitramp drill run x --out='runs/my first/' --seed 3",
            "exitramp drill run x '--out=runs/my first-again' --seed 3",
        ),
        ("exitramp drill run x", "exitramp drill run x --out runs/small-again"),
        ("exitramp drill run 'x", "exitramp drill run 'x"),
    ],
)
def test_the_command_to_run_it_again_writes_into_a_folder_of_its_own(tmp_path: Path, typed: str, again: str) -> None:
    play = played(tmp_path, results())
    events = play.end("pass", judged())
    first = replace(events[0], data={**events[0].data, "command": typed})
    assert rerun_command(Journal.of([first, *events[1:]])) == again


# ------------------------------------------------------------------------------ more vector fields than one


def test_the_neighbours_of_every_vector_field_are_shown(tmp_path: Path) -> None:
    found = results()
    first = {**found["parity"]["neighbours"], "column": "title"}
    body = {**first, "column": "body", "k": 5}
    empty = {"column": "image", "parts": [], "findings": [{"message": "nothing to find"}]}
    found["parity"] = {**found["parity"], "neighbours": first, "further_neighbours": [body, empty]}
    text = section_text(document_of_run(played(tmp_path, found).end("pass", judged())), "Portability inventory")
    assert "**“title”: Recall of the nearest 10, against exact truth**" in text
    assert "**“body”: Recall of the nearest 5, against exact truth**" in text
    assert "**“image”: Not measured.** Nothing to find." in text
    assert text.count("Do both stores find the same neighbours?") == 1


def test_what_neighbours_of_other_kinds_mean_is_said_where_they_are_shown(tmp_path: Path) -> None:
    found = results()
    dense = {**found["parity"]["neighbours"], "column": "vector:title", "kind": "dense"}
    unknown = {"coverage_a": {"indexed": None, "compared": None}, "coverage_b": {"indexed": None, "compared": None}}
    sparse = {**dense, **unknown, "column": "sparse:words", "kind": "sparse"}
    lists = {**dense, "column": "multi:late", "kind": "multi"}
    found["parity"] = {**found["parity"], "neighbours": sparse, "further_neighbours": [dense, lists]}
    document = document_of_run(played(tmp_path, found).end("pass", judged()))
    text = section_text(document, "Portability inventory")
    assert text.count("These are sparse vectors: a record that scores nothing with a query is nobody’s neighbour") == 1
    assert text.count("These are lists of vectors, compared by MaxSim") == 1
    found["parity"] |= {"neighbours": dense, "further_neighbours": []}
    alone = document_of_run(played(tmp_path / "alone", found).end("pass", judged()))
    first_pages = [section_text(each, "Verdict") for each in (document, alone)]
    assert first_pages[0].split("does not prove")[1] == first_pages[1].split("does not prove")[1], "of the dense field"
