"""Another model behind the same name: found by asking again, silent for all else, and not found where there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from exitramp.drill.catalogue import find_drill, read_drill
from exitramp.drill.engine import DrillResult, run_drill
from exitramp.drill.inputs import packaged_drills
from exitramp.drill.log_reading import read_events
from exitramp.errors import ConfigError
from exitramp.records import Verdict
from exitramp.registry import service_adapter
from exitramp.report.writing import write_reports
from tests.drill.small_stacks import write_drill

PACKAGED = packaged_drills()["silent_quality_drift"]
DRILL = """
version: 1
name: small
title: Small
mode: stressed
objectives: {quality_margin: 0.10OBJECTIVES}
data: {corpus: pydocs, embedder: "wordllama:", golden: pydocs, prompts: packaged}
primary:
  store: {address: "qdrant:{folder}/primary#documentation"}
  chat: {CHAT}
substitute:
  store: {address: "qdrant:{folder}/substitute#documentation"}
  chat: {service: mock-anthropic, options: {quality: SUBSTITUTE}}
orchestration: {depth_k: 5, attempt_timeout_seconds: 4.0, deadline_seconds: 9.0}
steps:
  - start: {}
  - build_primary: {limit: 300, keep_golden: true}
  - load_golden: {limit: 45}
  - baseline: {}
  - dump: {}
  - plan: {}
  - restore: {}
  - replay: {}
  - silent_drift: {rate_per_second: 8, warm_up_seconds: 0.3, unseen_seconds: 0.5, after_seconds: 0.8, STEP}
"""
Run = Callable[..., tuple[DrillResult, str, Path]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    def once(
        step: str, *, chat: str = "service: mock-openai", substitute: str = "good", objectives: str = ""
    ) -> tuple[DrillResult, str, Path]:
        folder = tmp_path_factory.mktemp("drift")
        text = DRILL.replace("STEP", step).replace("CHAT", chat).replace("SUBSTITUTE", substitute)
        file = write_drill(folder, text.replace("OBJECTIVES", objectives).lstrip())
        result = run_drill(find_drill(str(file)), folder / "run", seed=1)
        report = write_reports(folder / "run")["markdown"].read_text(encoding="utf-8")
        return result, " ".join(report.split()).replace("\u00a0", " "), folder / "run"

    return once


@pytest.fixture(scope="module")
def found(run: Run) -> tuple[DrillResult, str, Path]:
    return run(
        "rounds: 1}\n  - compare_quality: {}\n  - rollback: {sync: false, seconds: 0.5}\n  - ask_again: {",
        objectives=", rto_seconds: 60, error_rate: 0",
    )


@pytest.fixture(scope="module")
def control(run: Run) -> tuple[DrillResult, str, Path]:
    return run("drift: false, rounds: 2}\n  - compare_quality: {")


def test_a_drift_is_found_by_asking_again_and_by_nothing_else(found: tuple[DrillResult, str, Path]) -> None:
    result, _, folder = found
    assert result.verdict is Verdict.PASS, result.findings
    data = result.results["silent_drift"]
    assert (data["found"], data["is_silent"], data["how"]) == (True, True, "live")
    drifted = data["monitoring"]["drifted"]
    assert drifted["requests"] == drifted["by_primary"] == data["answered_drifted"] > 0
    assert drifted["not_good"] == drifted["failed_attempts"] == drifted["breaker_opened"] == 0
    before, after = data["rounds"]
    assert (before["verdict"], after["verdict"]) == ("pass", "fail")
    assert before["difference"] == 0
    assert after["lower"] < after["difference"] < after["upper"] < -0.10
    assert after["errors"] == 0
    kinds = [event.kind for event in read_events(folder / "journal.jsonl")]
    order = [kinds.index(each) for each in ("fault.injected", "drift.switched")]
    replays = [place for place, kind in enumerate(kinds) if kind == "drift.replayed"]
    assert replays[0] < order[0] < replays[1] < order[1]


def test_the_time_to_find_it_runs_from_the_drift_to_the_verdict_and_traffic_is_switched_after_it(
    found: tuple[DrillResult, str, Path],
) -> None:
    result, _, folder = found
    data = result.results["silent_drift"]
    assert data["unseen_seconds"] + data["round_seconds"] <= data["detect_seconds"] + 1e-6
    assert data["detect_seconds"] <= data["switched_seconds"] <= data["rto_seconds"]
    assert data["monitoring"]["switched"]["by_primary"] == 0
    assert data["monitoring"]["switched"]["by_substitute"] > 0
    at = {e.kind: e.elapsed_seconds for e in read_events(folder / "journal.jsonl")}  # the last of each kind
    assert at["drift.replayed"] - at["fault.injected"] == pytest.approx(data["detect_seconds"], abs=0.5)
    measured = {each.name: each.measured for each in result.objectives}
    assert (measured["rto_seconds"], measured["error_rate"]) == (data["rto_seconds"], 0)


def test_after_the_vendor_put_it_right_the_primary_is_as_it_was(found: tuple[DrillResult, str, Path]) -> None:
    again = found[0].results["ask_again"]
    assert (again["verdict"], again["difference"]) == ("pass", 0)


def test_the_report_calls_the_primary_no_substitute_where_it_is_held_against_itself(
    found: tuple[DrillResult, str, Path],
) -> None:
    report = found[1]
    section = report[report.index("### Another model behind the same name") : report.index("## 10.")]
    tables = section[section.index("The golden questions, asked of the primary") :]
    assert "substitute" not in tables.replace("to the substitute’s first good answer", "").lower()
    assert "Met at the baseline" in tables
    assert "no breaker opened" in section
    assert "The primary asked again: worse than at the baseline" in report


def test_a_control_run_without_drift_finds_none(control: tuple[DrillResult, str, Path]) -> None:
    result, report, folder = control
    assert result.verdict is Verdict.PASS, result.findings
    data = result.results["silent_drift"]
    assert [each["verdict"] for each in data["rounds"]] == ["pass"] * 3
    assert (data["found"], data["false_alarm"], data["switched_seconds"], data["answered_drifted"]) == (
        False, False, None, 0,
    )  # fmt: skip
    assert "fault.injected" not in {event.kind for event in read_events(folder / "journal.jsonl")}
    assert "A control run: no other model answered, and none was found" in report


def test_a_drift_inside_the_margin_is_not_called_one_and_the_drill_says_that_it_was_not_found(run: Run) -> None:
    result, _, _ = run("rounds: 1, options: {quality: slightly_worse}")
    codes = {each.code: each.verdict for each in result.findings}
    assert codes["drift.not_found"] in {Verdict.FAIL, Verdict.INCONCLUSIVE}
    assert result.verdict is codes["drift.not_found"]
    assert result.results["silent_drift"]["switched_seconds"] is None


def test_nobody_is_sent_to_a_substitute_that_is_no_better_and_a_vendor_by_address_drifts_in_our_layer(
    run: Run, tmp_path: Path
) -> None:
    vendor = service_adapter("mock-openai").make(str(tmp_path), 0, {})
    try:
        result, report, _ = run("rounds: 1", chat=f'address: "{vendor.start().text}"', substitute="poor")
    finally:
        vendor.stop()
    data = result.results["silent_drift"]
    assert (data["found"], data["how"], data["is_silent"]) == (True, "simulated", True)
    assert data["switched_seconds"] is None
    codes = {each.code: each.verdict for each in result.findings}
    assert codes["drift.nowhere"] is Verdict.FAIL
    assert "played that its vendor put another model" in report


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  - replay: {}\n", "", "needs the step 'replay' before it"),
        ("  - baseline: {}\n", "", "needs the step 'baseline' before it"),
        ("  quality_margin: 0.10", "  rpo_records: 0", "needs objectives.quality_margin"),
        ("      rounds: 2", "      rounds: 0", "at least 1"),
        ("      rounds: 2", "      options: [poor]", "must hold names and values"),
        ("      rounds: 2", "      round: 2", "did you mean 'rounds'"),
    ],
)
def test_a_file_in_which_nothing_could_be_found_is_refused(old: str, new: str, said: str) -> None:
    assert old in PACKAGED
    with pytest.raises(ConfigError) as caught:
        read_drill(PACKAGED.replace(old, new, 1), "mine.yaml", None)
    assert str(caught.value).startswith("mine.yaml:")
    assert said in str(caught.value)
