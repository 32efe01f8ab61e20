"""What a drill prints at its end: figures with their units, rounded for a reader, and what was promised beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exitramp.cli.drill import _say_result
from exitramp.drill.engine import DrillResult
from exitramp.drill.objectives import ObjectiveResult, Unpromised
from exitramp.records import Verdict


def objective(name: str, unit: str, target: float, measured: float | None, verdict: str = "pass") -> ObjectiveResult:
    return ObjectiveResult(name, name, unit, target, measured, Verdict(verdict), "")


def said(capsys: pytest.CaptureFixture[str], *objectives: ObjectiveResult, **more: Any) -> list[list[str]]:
    """The table's rows, by column."""
    found: dict[str, Any] = {
        "run_id": "r", "folder": Path("r"), "verdict": Verdict.PASS, "objectives": objectives, "findings": (),
        "head": "h", "seconds": 95.2, "aborted": None, "interrupted_by": None, "results": {}, **more,
    }  # fmt: skip
    _say_result(DrillResult(**found), {"html": Path("r/report.html")})
    lines = capsys.readouterr().out.strip().split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines[1:]]


@pytest.mark.parametrize(
    ("given", "measured", "promised"),
    [
        (("rto_seconds", "s", 5.0, 0.706473), "0.71 s", "at most 5 s"),
        (("rpo_records", "records", 60.0, 40), "40 records", "at most 60 records"),
        (("rpo_records", "records", 1.0, 1), "1 record", "at most 1 record"),
        (("error_rate", "share", 0.1, 0.0), "0.0%", "at most 10%"),
        (("p95_latency_ms", "ms", 1200.0, 676.779), "677 ms", "at most 1,200 ms"),
        (("quality_margin", "share", 0.1, 0.083796), "0.084", "at most 0.1"),
        (("usd_per_request", "USD", 0.02, 0.00488568), "0.00489 USD", "at most 0.02 USD"),
        (("rto_seconds", "s", 5.0, None), "not measured", "at most 5 s"),
    ],
)
def test_a_figure_is_rounded_and_has_its_unit(
    given: tuple[str, str, float, float | None], measured: str, promised: str, capsys: pytest.CaptureFixture[str]
) -> None:
    [row] = said(capsys, objective(*given))
    assert row[2:] == [measured, promised]


def test_no_rounding_turns_a_miss_into_what_was_promised(capsys: pytest.CaptureFixture[str]) -> None:
    [row] = said(capsys, objective("rto_seconds", "s", 5.0, 5.0001, "fail"))
    assert row[2] == "5.0001 s"


def test_what_is_not_zero_is_not_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    [row] = said(capsys, objective("error_rate", "share", 0.1, 0.00001))
    assert row[2] == "< 0.1%"


def test_what_was_measured_without_a_promise_has_its_unit_too(capsys: pytest.CaptureFixture[str]) -> None:
    [row] = said(capsys, unpromised=(Unpromised("p95_latency_ms", "Latency", "ms", 1006.24),))
    assert row == ["-", "Latency", "1,006 ms", "no number"]
