"""Small sentences and figures of the report that must be true of what was, and of what was not, measured."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from exitramp.clock import ManualClock
from exitramp.report.html import render_html
from exitramp.report.model import Document, Meta
from exitramp.report.sections import Journal, build_document
from tests.report.drill_journals import Play, document_of_run, drill, judged, played, section_text
from tests.report.drill_results import DIGESTS, results


def of(folder: Path, change: dict[str, dict[str, Any]]) -> Document:
    found = copy.deepcopy(results())
    for step, data in change.items():
        found[step] |= data
    return document_of_run(played(folder, found).end("pass", judged()))


def section(document: Document, title: str) -> str:
    return section_text(document, title).replace("\xa0", " ")


# ------------------------------------------------------------------------------ digests, and a way back with nothing

ONE_SIDE = {"substitute_digests": None, "primary_digests_before": None, "parity": None, "sync": None}


def test_nothing_is_said_to_have_been_compared_where_one_side_was_read(tmp_path: Path) -> None:
    told = section(of(tmp_path, {"rollback": ONE_SIDE}), "Rollback")
    assert "whole hashes were compared" not in told
    assert "Only one was taken (primary, after it), so nothing could be compared." in told


@pytest.mark.parametrize("there", ["substitute_digests", "primary_digests_before"])
def test_two_sides_that_were_read_were_compared(tmp_path: Path, there: str) -> None:
    told = section(of(tmp_path, {"rollback": {**ONE_SIDE, there: DIGESTS}}), "Rollback")
    assert "the whole hashes were compared" in told


def test_a_way_back_that_had_nothing_to_do_says_so(tmp_path: Path) -> None:
    play = Play(tmp_path, drill())
    play.step("start", results()["start"])
    play.abort("load_golden", "nothing there")
    play.step("rollback", {"traffic": None, "sync": None}, "pass")
    front = section(document_of_run(play.end("inconclusive", judged(), "load_golden: nothing there")), "Verdict")
    [row] = [line for line in front.splitlines() if line.startswith("| Rolled back")]
    assert "nothing had been moved, so there was nothing to send back" in row
    assert "empty" not in front


# ------------------------------------------------------------------------------ durations


def test_a_run_has_one_duration_and_it_is_that_of_the_logs_own_clock(tmp_path: Path) -> None:
    class Jumping(ManualClock):
        """Somebody sets the wall's clock while the drill runs."""

        def now(self) -> Any:
            return super().now() if self.monotonic() < 10 else super().now().replace(year=2031)

    play = played(tmp_path, results())
    play.clock.__class__ = Jumping
    events = play.end("pass", judged())
    document = build_document(Journal.of(events, is_anchored=True))
    took = events[-1].elapsed_seconds - events[0].elapsed_seconds
    assert document.meta.duration_seconds == took
    assert "whole run took" not in section(document, "Verdict")


def test_without_a_clock_of_its_own_a_report_has_the_difference_of_its_moments(tmp_path: Path) -> None:
    meta = of(tmp_path, {}).meta
    assert meta.started_at is not None
    assert Meta(meta.run_id, meta.program, meta.generated_at).duration_seconds is None
    assert Meta("r", "p", meta.generated_at, meta.started_at, meta.started_at).duration_seconds == 0


def test_when_the_router_said_something_is_taken_from_the_logs_clock(tmp_path: Path) -> None:
    play = played(tmp_path, {name: results()[name] for name in ("start", "outage")})
    said = {"kind": "breaker_closed", "stack": "primary", "at": "2040-01-01T00:00:00Z", "detail": {}}
    play.log.append("router", {**said, "elapsed_seconds": 4.25})
    text = section(document_of_run(play.end("pass", judged())), "Event log")
    assert re.search(r"\| 4\.25 s \| The primary serves again", text)
    assert "primary: serves again, at 4.25" in text


# ------------------------------------------------------------------------------ a fault's attempts by two accounts


def by_fault(folder: Path, failures: int, late: int | None, account: int | None) -> str:
    phase = {**results()["outage"]["phases"][0], "fault": "hang", "failures": failures}
    if late is not None:
        phase["late_failures"] = late
    told = {
        **results()["outage"]["reconciliation"],
        "unanswered": {"primary": {} if account is None else {"hang": account}},
    }
    return section(
        of(folder, {"outage": {"phases": [phase], "reconciliation": told}}), "Results by objective and fault"
    )


def test_a_vendor_that_counts_more_than_failed_in_time_is_explained(tmp_path: Path) -> None:
    assert (
        "`hang` on the chat vendor: 11 attempts failed while it lasted, and 1 that began before it ended failed after"
        " it; the vendor’s own account has 12 requests without an answer." in by_fault(tmp_path, 11, 1, 12)
    )


def test_what_that_does_not_explain_is_not_explained_away(tmp_path: Path) -> None:
    assert "has 15 requests without an answer, 3 more than these." in by_fault(tmp_path, 11, 1, 15)


@pytest.mark.parametrize(("late", "account"), [(0, 11), (0, None), (None, 12)])
def test_two_counts_that_agree_or_were_not_taken_need_no_word(
    tmp_path: Path, late: int | None, account: int | None
) -> None:
    told = by_fault(tmp_path, 11, late, account)
    assert "attempts failed while it lasted" not in told
    assert "vendor’s own account has" not in told


# ------------------------------------------------------------------------------ numbers on one line


def test_no_line_ends_within_a_number_or_its_interval(tmp_path: Path) -> None:
    page = render_html(of(tmp_path, {}))
    intervals = re.findall(
        r'<span class="quantity">[^<]*</span> <span class="quantity">\([^<]* to [^<]*\)</span>', page
    )
    assert intervals
    assert ".quantity { white-space: nowrap; }" in page
