"""A store that is lost for good: what is destroyed, what is only played, and what is put back from which dump."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from exitramp.drill.catalogue import find_drill, read_drill
from exitramp.drill.engine import DrillResult, run_drill
from exitramp.drill.log_reading import read_events
from exitramp.drill.steps import losing, outage
from exitramp.errors import ConfigError
from exitramp.records import Verdict
from exitramp.report.writing import write_reports
from tests.drill.small_stacks import drill_text, fill, write_drill

OUTAGE = """
  - outage: {rate_per_second: 20, warm_up_seconds: 0.3, after_seconds: 0.3,
             phases: [{fault: lost, on: store, seconds: 1}]}
"""
STEPS = f"""
  - start: {{}}
  - dump: {{}}
  - verify_dump: {{}}
  - plan: {{}}{OUTAGE.rstrip()}
  - measure_loss: {{}}
"""
OBJECTIVES = "{rto_seconds: 20, rpo_records: 0, rpo_seconds: 60}"


def _run(folder: Path) -> tuple[DrillResult, str]:
    primary = fill(f"qdrant:{folder}/primary#articles")
    text = drill_text(primary, "qdrant:{folder}/substitute#articles", STEPS, objectives=OBJECTIVES)
    result = run_drill(find_drill(str(write_drill(folder, text))), folder / "run", seed=1)
    return result, write_reports(folder / "run")["markdown"].read_text(encoding="utf-8")


def _files(folder: Path) -> dict[str, str]:
    return {str(each): hashlib.sha256(each.read_bytes()).hexdigest() for each in folder.rglob("*") if each.is_file()}


@pytest.fixture(scope="module")
def by_address(tmp_path_factory: pytest.TempPathFactory) -> tuple[DrillResult, str, Path]:
    folder = tmp_path_factory.mktemp("lost")
    return (*_run(folder), folder)


def test_a_store_given_by_address_is_not_destroyed_and_the_report_says_simulated(
    by_address: tuple[DrillResult, str, Path],
) -> None:
    result, report, folder = by_address
    assert result.verdict is Verdict.PASS, result.findings
    [lost] = [e for e in read_events(folder / "run" / "journal.jsonl") if e.kind == "fault.injected"]
    assert lost.data["how"] == "simulated"
    assert lost.data["destroyed"] == {"how": "simulated", "files": 0, "bytes": 0}
    assert len(_files(folder / "primary")) > 3, "the user's own store was destroyed"
    assert "given by address, so it was not touched: its loss was simulated" in " ".join(report.split())


def test_the_time_to_recover_contains_the_restore(by_address: tuple[DrillResult, str, Path]) -> None:
    result = by_address[0]
    restored, data = result.results["outage"]["restore"], result.results["outage"]
    assert restored["dump_verified"] is True
    assert restored["rows"] == 60
    assert data["rto_seconds"] >= restored["ready_after_seconds"] >= restored["restore_seconds"]
    assert data["failed_during_outage"] > 0, "requests are refused until the store is whole"
    by_name = {each.name: each for each in result.objectives}
    assert by_name["rpo_seconds"].measured is not None
    assert by_name["rpo_records"].measured == 0


def test_nobody_is_answered_from_a_store_that_is_not_whole(by_address: tuple[DrillResult, str, Path]) -> None:
    data = by_address[0].results["outage"]
    [phase] = data["phases"]
    opened = phase["injected_seconds"] + data["restore"]["ready_after_seconds"]
    early = [each for each in data["timeline"] if each["stack"] == "substitute"]
    assert early
    assert all(each["at_seconds"] + (each["latency_ms"] or 0) / 1000 >= opened - 0.01 for each in early)


def test_a_dump_that_does_not_verify_is_not_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(run: Any, stack: str) -> losing.Destroyed:
        shard = next((run.folder / "dump").rglob("*.parquet"))
        raw = bytearray(shard.read_bytes())
        raw[len(raw) // 2] ^= 1
        shard.write_bytes(bytes(raw))
        return losing.lose_store(run, stack)

    monkeypatch.setattr(outage, "lose_store", damaged)
    result, report = _run(tmp_path)
    assert result.verdict is Verdict.FAIL
    assert result.results["outage"]["restore"]["restored"] is False
    assert "restore.unverified" in {each.code for each in result.findings}
    assert {each.name: each.measured for each in result.objectives}["rto_seconds"] is None
    assert "does not verify" in report


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  - measure_loss: {}", "  - rollback: {}", "'rollback' needs the primary, which is lost for good"),
        ("  - measure_loss: {}", "  - parity: {}", "'parity' needs the primary"),
        ("  - dump: {}\n", "", "there is no dump to restore"),
        ("  - plan: {}", "  - restore: {}", "no 'restore' before it"),
        ("fault: lost, on: store", "fault: lost, on: chat", "is for a store"),
        ("[{fault: lost", "[{fault: lost, on: store, seconds: 1}, {fault: hang", "must be the last phase"),
        ("seconds: 1}]", "seconds: 1, options: {accept: 1}}]", "has no option 'accept'"),
    ],
)
def test_what_cannot_work_after_a_loss_is_told_before_it(old: str, new: str, said: str) -> None:
    text = drill_text("memory:p#c", "memory:s#c", STEPS)
    assert old in text
    with pytest.raises(ConfigError, match=said) as caught:
        read_drill(text.replace(old, new, 1), "mine.yaml", None)
    assert str(caught.value).startswith("mine.yaml:")


def test_nothing_outside_the_folder_of_the_run_is_destroyed(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "data.bin").write_bytes(b"precious")
    services = tmp_path / "run" / "services"
    services.mkdir(parents=True)
    (services / "primary-store").symlink_to(theirs)
    service = SimpleNamespace(inject=lambda fault: None)
    stack = SimpleNamespace(store=SimpleNamespace(service=service))
    clock = SimpleNamespace(monotonic=lambda: 0.0)
    run: Any = SimpleNamespace(folder=tmp_path / "run", stack=lambda name: stack, shared={}, clock=clock)
    with pytest.raises(ConfigError, match="not in the folder of this run"):
        losing.lose_store(run, "primary")
    assert (theirs / "data.bin").read_bytes() == b"precious"


def test_what_a_service_of_the_run_wrote_is_gone_and_its_log_stays(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "services" / "primary-store"
    (folder / "data" / "deep").mkdir(parents=True)
    (folder / "data" / "deep" / "a.bin").write_bytes(b"12345")
    (folder / "own.db").write_bytes(b"123")
    (folder / "server.log").write_text("log")
    injected: list[str] = []
    service = SimpleNamespace(inject=lambda fault: injected.append(fault.kind))
    stack = SimpleNamespace(store=SimpleNamespace(service=service))
    clock = SimpleNamespace(monotonic=lambda: 0.0)
    run: Any = SimpleNamespace(folder=tmp_path / "run", stack=lambda name: stack, shared={}, clock=clock)
    assert losing.lose_store(run, "primary") == losing.Destroyed("live", 2, 8)
    assert injected == ["sigkill"]
    assert [each.name for each in folder.iterdir()] == ["server.log"]
