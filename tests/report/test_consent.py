"""What was given up by consent stands at the front of a report, and no word about tolerances hides it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from exitramp.records import Verdict
from exitramp.report.model import Document
from tests.report.drill_journals import VERDICTS, Play, document_of_run, drill, judged, section_text
from tests.report.drill_results import DIGESTS, results

HOW = "magnitude: scaled to unit length; norms were 2.4 to 33.3"
LINE = {"class": "lossy", "how": HOW, "rows": 40, "subject": "vector"}
OTHERS = {**DIGESTS, "vectors": {"vector": "ff" * 32}}
FIELD = {
    "column": "vector",
    "rows": 40,
    "bit_equal": 0,
    "beyond_tolerance": 0,
    "one_sided": 0,
    "l2": {"max": 32.29, "mean": 14.45},
    "tolerance": {"source": "the plan announced: magnitude", "length": 2e-05},
}


def lossy(folder: Path, *, agreed: bool = True, later: dict[str, Any] | None = None) -> Document:
    found = copy.deepcopy(results())
    accepted = {"accepted_loss": ["vector"]} if agreed else {}
    for step in ("plan", "restore"):
        found[step] |= {"plan": [found[step]["plan"][0], LINE], **accepted}
    found["restore"]["target_digests"] = OTHERS
    found["parity"]["records"]["fields"] = [FIELD]
    found["parity"] |= accepted
    found["rollback"]["substitute_digests"] = OTHERS
    for step, data in (later or {}).items():
        found[step] |= data
    play = Play(folder, drill())
    for name, data in found.items():
        play.step(name, data, VERDICTS.get(name))
    return document_of_run(play.end("pass", judged()))


def section(document: Document, title: str) -> str:
    return section_text(document, title).replace("\xa0", " ")


def test_a_loss_that_was_agreed_to_stands_beside_the_verdict(tmp_path: Path) -> None:
    document = lossy(tmp_path)
    assert f"Given up by consent on the way: “vector” in 40 records ({HOW})." in document.verdict_reason.replace(
        "\xa0", " "
    )
    assert "loss accepted" in [each.text for each in document.stamps]
    front = section(document, "Verdict")
    assert "given up by consent of the drill file, and not in the substitute" in front
    assert "0 of 40 vectors came back bit for bit, L2 distance up to 32.29, 14.45 on average" in front
    assert front.index("given up by consent") < front.index("Objectives set before the run")


def test_no_row_says_within_the_tolerance_of_what_was_given_up(tmp_path: Path) -> None:
    document = lossy(tmp_path)
    portability = section(document, "Portability inventory")
    row = next(line for line in portability.splitlines() if line.startswith("| Vectors: vector"))
    assert f"not put back as it was: given up by consent ({HOW})" in row
    assert "Pass" not in row
    assert "within the plan’s tolerance" not in portability
    rollback = section(document, "Rollback")
    row = next(line for line in rollback.splitlines() if line.startswith("| vectors: vector"))
    assert "different by what was given up by consent, and by nothing else" in row
    assert "Pass" not in row


def test_every_check_that_passed_over_a_loss_names_it(tmp_path: Path) -> None:
    front = section(lossy(tmp_path), "Verdict")
    for title in ("Move into the substitute planned", "Put into the substitute", "Both stores compared"):
        row = next(line for line in front.splitlines() if line.startswith(f"| {title}"))
        assert "where a loss of “vector” was agreed to" in row


def test_what_goes_beyond_the_consent_is_no_consent(tmp_path: Path) -> None:
    worse = {"parity": {"records": {**results()["parity"]["records"], "fields": [{**FIELD, "beyond_tolerance": 3}]}}}
    portability = section(lossy(tmp_path, later=worse), "Portability inventory")
    row = next(line for line in portability.splitlines() if line.startswith("| Vectors: vector"))
    assert "Fail" in row


def test_a_run_that_gave_nothing_up_has_no_word_of_consent(tmp_path: Path) -> None:
    document = lossy(tmp_path, agreed=False)
    assert "consent" not in document.verdict_reason
    assert "consent" not in section(document, "Verdict")
    assert document.verdict is Verdict.PASS


@pytest.mark.parametrize("subject", ["payload.a", "metric:vector"])
def test_what_is_no_vector_is_named_with_its_records_alone(tmp_path: Path, subject: str) -> None:
    line = {"class": "lossy", "how": "cut", "rows": 7, "subject": subject}
    change = {step: {"plan": [line], "accepted_loss": [subject]} for step in ("plan", "restore")}
    front = section(lossy(tmp_path, later=change), "Verdict")
    assert f"**“{subject}”:** Cut. In 7 records." in front.replace("\\_", "_")
