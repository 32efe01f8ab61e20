"""A drill ends honestly: what was not measured is inconclusive, what was stopped is never a pass, and it cleans up."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from exitramp.digests import CollectionDigests
from exitramp.drill.beginning import begin_drill
from exitramp.drill.catalogue import find_drill, read_drill
from exitramp.drill.engine import DrillResult, run_drill
from exitramp.drill.log_reading import read_events
from exitramp.errors import ConfigError, UsageError, WriteRefused
from exitramp.migration.moving import read_digests
from exitramp.ports import Origin
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind, Verdict
from exitramp.testing.data import hard_records
from exitramp.wrappers import OpenSettings, open_endpoint
from tests.drill.small_stacks import fill

HEAD = """
version: 1
name: small
title: Small
mode: stressed
objectives: {objectives}
stop: {stop}
primary:
  store: {{address: "qdrant:{folder}/primary#articles"}}
substitute:
  store: {{address: "{substitute}"}}
orchestration: {{depth_k: 3, attempt_timeout_seconds: 0.5, breaker_cooldown_seconds: 0.2}}
steps:
"""
LEAVE = """
  - start: {}
  - check_hypothesis: {}
  - dump: {}
  - verify_dump: {}
  - plan: {}
  - restore: {}
  - parity: {queries: 150, k: 5, filters: 0}
"""
OUTAGE = """
  - outage: {rate_per_second: 20, warm_up_seconds: 0.3, after_seconds: 0.3, heal_seconds: 3,
             phases: [{fault: refuse, on: store, seconds: 1}, {fault: hang, on: store, seconds: 1.5}]}
  - measure_loss: {}
  - rollback: {sync: false, seconds: 1}
"""


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    field = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 12)
    spec = CollectionSpec("articles", IdKind.STRING, (field,), has_documents=True)
    with open_endpoint(f"qdrant:{tmp_path}/primary#articles") as endpoint:
        sink = endpoint.sink()
        sink.create(spec, Origin(spec, "test"))
        for batch in hard_records(spec, 400, 3):
            sink.upsert(batch)
        sink.flush()
    return tmp_path


def _run(
    folder: Path,
    steps: str,
    *,
    objectives: str = "{rto_seconds: 2, rpo_records: 0, error_rate: 0.0}",
    stop: str = "{}",
    substitute: str | None = None,
    name: str = "run",
) -> DrillResult:
    target = substitute or f"faiss:{folder}/substitute.faiss"
    text = HEAD.format(objectives=objectives, stop=stop, folder=folder, substitute=target) + steps
    return run_drill(read_drill(text, "small.yaml", folder), folder / name, seed=5)


def test_a_stack_of_ones_own_is_drilled_and_its_outage_is_called_simulated(folder: Path) -> None:
    result = _run(folder, LEAVE + OUTAGE)
    assert result.verdict is Verdict.PASS, result.findings
    outage = result.results["outage"]
    assert [phase["how"] for phase in outage["phases"]] == ["simulated", "simulated"]
    assert outage["answered"] == outage["requests"] > 40
    refuse, hang = outage["phases"]
    assert refuse["recovery_seconds"] < 1
    assert hang["recovery_seconds"] >= 0.5, "a store that hangs costs the caller its whole timeout"
    assert result.results["measure_loss"]["records"] == 0
    kinds = [event.kind for event in read_events(folder / "run" / "journal.jsonl")]
    assert kinds[0] == "run.started"
    assert kinds[-1] == "log.finished"


def test_a_drill_without_objectives_is_inconclusive(folder: Path) -> None:
    result = _run(folder, LEAVE, objectives="{}")
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "objectives.none" in {finding.code for finding in result.findings}


def test_an_objective_that_was_not_measured_is_inconclusive(folder: Path) -> None:
    result = _run(folder, LEAVE, objectives="{rto_seconds: 5}")
    [objective] = result.objectives
    assert objective.measured is None
    assert (objective.verdict, result.verdict) == (Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE)


def test_a_stop_condition_ends_a_drill_under_load_and_the_way_back_is_taken(folder: Path) -> None:
    steps = "  - start: {}\n" + OUTAGE  # without a substitute every request fails
    result = _run(folder, steps, stop="{errors: 3}")
    assert result.verdict in {Verdict.INCONCLUSIVE, Verdict.FAIL}
    assert result.aborted is not None
    assert "3 end the drill" in result.aborted
    events = read_events(folder / "run" / "journal.jsonl")
    assert "run.aborted" in {event.kind for event in events}
    finished = [event.data["step"] for event in events if event.kind == "step.finished"]
    assert finished == ["start", "rollback"]
    assert result.results["rollback"]["traffic"]["back_on_primary"] is True


def test_a_step_that_needs_consent_stops_the_drill_and_says_where_to_give_it(folder: Path) -> None:
    result = _run(folder, LEAVE, substitute=f"chroma:{folder}/substitute?metric=cosine#articles")
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "metric:vector" in (result.aborted or "")
    assert not (folder / "substitute").exists()


def test_nothing_is_written_to_an_address_beyond_this_machine(folder: Path) -> None:
    steps = "  - start: {}\n  - dump: {}\n  - restore: {}\n"
    with pytest.raises(WriteRefused, match=r"db\.example\.com:6333#articles is not on this machine"):
        _run(folder, steps, substitute="qdrant+http://db.example.com:6333#articles")
    assert not (folder / "run").exists(), "what takes consent is told before anything begins"


def test_a_run_is_never_written_over(folder: Path) -> None:
    _run(folder, LEAVE)
    with pytest.raises(UsageError, match="not empty"):
        _run(folder, LEAVE)


def test_drill_init_only_reads_and_the_drill_it_writes_runs(folder: Path) -> None:
    before = _digests(folder)
    found = begin_drill(
        f"qdrant:{folder}/primary#articles", f"faiss:{folder}/new.faiss", folder / "own", OpenSettings()
    )
    assert found.primary.records == 400
    assert found.plan.rows == 400
    assert not (folder / "new.faiss").exists()
    # The engine tidies its own bookkeeping files whenever it is opened; what must not change is the data.
    assert _digests(folder) == before
    assert "FILL IN" in found.drill_file.read_text(encoding="utf-8")
    with pytest.raises(ConfigError, match="exists already"):
        begin_drill(f"qdrant:{folder}/primary#articles", f"faiss:{folder}/new.faiss", folder / "own", OpenSettings())
    text = found.drill_file.read_text(encoding="utf-8")
    for told, quick in (
        ("seconds: 5", "seconds: 1"),
        ("seconds: 3", "seconds: 1"),
        ("rate_per_second: 10\n", "rate_per_second: 10\n      warm_up_seconds: 0.3\n      after_seconds: 0.3\n"),
    ):
        assert told in text
        text = text.replace(told, quick)
    found.drill_file.write_text(text, encoding="utf-8")
    result = run_drill(find_drill(str(found.drill_file)), folder / "run", seed=5)
    assert result.aborted is None
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.results["parity"]["verdict"] == "pass"
    json.dumps(result.to_json())
    assert not (folder / "new.faiss").exists(), "the substitute of local files is made in the folder of the run"
    again = run_drill(find_drill(str(found.drill_file)), folder / "again", seed=5)
    assert again.aborted is None


def test_a_substitute_that_holds_records_is_found_before_anything_is_read(folder: Path) -> None:
    first = _run(folder, LEAVE, objectives="{rto_seconds: 2}")
    assert first.aborted is None
    second = _run(folder, LEAVE, objectives="{rto_seconds: 2}", name="second")
    assert "already holds 400 records" in (second.aborted or "")
    assert second.aborted is not None
    assert second.aborted.startswith("start:")


def _digests(folder: Path) -> CollectionDigests:
    with open_endpoint(f"qdrant:{folder}/primary#articles") as endpoint:
        return read_digests(endpoint.source())


def test_a_drill_whose_sides_are_one_collection_is_refused(folder: Path) -> None:
    result = _run(folder, LEAVE, substitute=f"qdrant:{folder}/x/../primary#articles")
    assert "one and the same" in (result.aborted or "")
    assert result.verdict is Verdict.INCONCLUSIVE


def test_data_is_only_damaged_on_purpose_where_the_drill_itself_put_it(folder: Path) -> None:
    steps = LEAVE + "  - lose_records: {share: 0.1}\n  - measure_loss: {}\n"
    refused = _run(folder, steps, name="one")
    assert "this substitute is not one that the drill itself made" in (refused.aborted or "")
    allowed = _run(folder, steps, name="two", substitute="faiss:{folder}/lost.faiss")
    assert allowed.results["measure_loss"]["records"] == 40
    assert allowed.verdict is Verdict.FAIL


def test_what_kept_a_drill_from_passing_is_said_with_its_step(folder: Path) -> None:
    result = _run(folder, "\n  - start: {}\n  - load_golden: {}", objectives="{rpo_records: 0}")
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reasons == (
        "load_golden (inconclusive): no golden questions were given, so quality cannot be judged",
    )


def test_what_was_measured_without_a_promise_is_shown_and_judged_by_nothing(folder: Path) -> None:
    result = _run(folder, LEAVE + OUTAGE, objectives="{rto_seconds: 2}")
    assert [each.name for each in result.objectives] == ["rto_seconds"]
    measured = {each.name: each.measured for each in result.unpromised}
    assert set(measured) == {"rpo_records", "error_rate", "p95_latency_ms"}
    assert measured["rpo_records"] == 0


def test_parity_asks_every_field_or_those_that_the_file_names(folder: Path) -> None:
    fields = (
        VectorField("image", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 8),
        VectorField("text", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 6),
        VectorField("late", VectorKind.MULTI, DType.FLOAT32, Metric.DOT, 6),
        VectorField("words", VectorKind.SPARSE, DType.FLOAT32, Metric.DOT, None),
    )
    spec = CollectionSpec("articles", IdKind.STRING, fields)
    fill(f"qdrant:{folder}/several#articles", rows=400, spec=spec)
    leave = LEAVE.replace("filters: 0", "filters: 0, fields: [text, late]")
    for steps, name, verdict, asked in (
        (LEAVE, "all", Verdict.INCONCLUSIVE, ["vector:image", "vector:text", "multi:late", "sparse:words"]),
        (leave, "two", Verdict.PASS, ["vector:text", "multi:late"]),
    ):
        text = HEAD.format(
            objectives="{rto_seconds: 2}", stop="{}", folder=folder, substitute=f"qdrant:{folder}/{name}#articles"
        ).replace("/primary#", "/several#")
        result = run_drill(read_drill(text + steps, "small.yaml", folder), folder / f"run-{name}", seed=5)
        parity = result.results["parity"]
        found = [parity["neighbours"], *parity["further_neighbours"]]
        assert [each["column"] for each in found] == asked
        assert parity["verdict"] == verdict.value, parity["findings"]
        wrong = [(each["code"], each["detail"]["part"]) for each in parity["findings"] if each["verdict"]]
        assert wrong == ([] if name == "two" else [("neighbours.none", "all")]), "no two share an index of many"


def test_the_start_writes_down_what_each_store_is_and_in_which_version(folder: Path) -> None:
    result = _run(folder, LEAVE)
    primary, substitute = (result.results["start"]["stacks"][name]["store"] for name in ("primary", "substitute"))
    assert primary["summary"] == "Qdrant's engine in process, on a folder of this machine"
    assert (primary["in_process"], substitute["in_process"]) == (True, True)
    assert primary["library"] == {"name": "qdrant-edge-py", "version": version("qdrant-edge-py")}
    assert primary["identity"]["server_version"] == version("qdrant-edge-py")
    assert substitute["library"]["name"] == "faiss-cpu"
    coverage = result.results["parity"]["neighbours"]["coverage_a"]
    assert (coverage["indexed"], coverage["compared"]) == (0, 400)
