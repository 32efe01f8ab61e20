"""A loss needs consent: a plan without it is no pass, the stop says what to write, and a loss by consent is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from exitramp.cli.main import run
from exitramp.drill.catalogue import find_drill
from exitramp.drill.engine import DrillResult, run_drill
from exitramp.drill.log_reading import read_events
from exitramp.records import Verdict
from tests.drill.small_stacks import drill_text, fill, write_drill

STEPS = """
  - start: {{}}
  - dump: {{}}
  - plan: {{}}
  - restore: {{accept_loss: {agreed}}}
  - parity: {{queries: 60, k: 5, filters: 0}}
  - rollback: {{sync: false, seconds: 0}}
"""


def drill(folder: Path, agreed: str = "[]") -> Path:
    primary = fill(f"qdrant:{folder}/primary#articles")
    target = f"qdrant:{folder}/substitute?metric=cosine#articles"
    return write_drill(folder, drill_text(primary, target, STEPS.format(agreed=agreed)))


def ran(folder: Path, agreed: str = "[]") -> DrillResult:
    return run_drill(find_drill(str(drill(folder, agreed))), folder / "run", seed=1)


def test_a_plan_that_nobody_agreed_to_is_no_pass(tmp_path: Path) -> None:
    result = ran(tmp_path)
    [plan] = [
        event.data
        for event in read_events(tmp_path / "run" / "journal.jsonl")
        if event.kind == "step.finished" and event.data["step"] == "plan"
    ]
    assert plan["verdict"] == Verdict.INCONCLUSIVE.value
    unaccepted = [each for each in plan["findings"] if each["code"] == "plan.unaccepted"]
    assert {each["message"].split(" would lose")[0] for each in unaccepted} >= {"metric:vector"}
    assert any(reason.startswith("plan (inconclusive): metric:vector would lose") for reason in result.reasons)


def test_the_stop_says_the_line_to_write(tmp_path: Path) -> None:
    result = ran(tmp_path)
    assert result.aborted is not None
    assert "metric:vector" in result.aborted
    events = read_events(tmp_path / "run" / "journal.jsonl")
    [back] = [e.data for e in events if e.kind == "step.finished" and e.data["step"] == "rollback"]
    assert back["verdict"] is None, "nothing had been moved, and nothing came back"
    [aborted] = [event.data for event in read_events(tmp_path / "run" / "journal.jsonl") if event.kind == "run.aborted"]
    assert 'write accept_loss: ["' in aborted["hint"]
    agreed = aborted["hint"].partition("write accept_loss: ")[2].partition(" under")[0]
    (tmp_path / "again").mkdir()
    again = ran(tmp_path / "again", agreed)
    assert again.aborted is None, "the line that was shown is enough"


def test_what_was_given_up_is_said_by_the_step_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "first").mkdir()
    lines = ran(tmp_path / "first").results["plan"]["plan"]
    lossy = [line["subject"] for line in lines if line["class"] == "lossy"]
    assert lossy
    (tmp_path / "own").mkdir()
    file = drill(tmp_path / "own", str(lossy).replace("'", '"'))
    capsys.readouterr()
    assert run(["drill", "run", str(file), "--out", "run"]) in {0, 1, 3}
    shown = capsys.readouterr()
    for subject in lossy:
        assert f"{subject}: given up by consent" in shown.err
        assert f"{subject}: given up by consent" in shown.out
