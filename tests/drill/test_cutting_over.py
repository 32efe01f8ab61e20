"""A planned exit's steps over small stores: what is refused, what moves, what comes back, and what is deleted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from exitramp import canonical
from exitramp.arrow import record_keys
from exitramp.cli.main import run as command
from exitramp.clock import SystemClock
from exitramp.drill.catalogue import read_drill
from exitramp.drill.engine import DrillResult, run_drill
from exitramp.drill.event_log import EventLog
from exitramp.drill.log_reading import read_events
from exitramp.drill.run import DrillRun
from exitramp.drill.steps import cutting_over, vendor_data
from exitramp.drill.steps.parallel import bring_over
from exitramp.drill.steps.vendor_data import VENDOR_DATA, VendorDataArguments
from exitramp.errors import ConfigError, WriteRefused
from exitramp.migration import compare_endpoints
from exitramp.parity.alignment import read_all
from exitramp.ports import Origin
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind, Verdict
from exitramp.report.writing import write_reports
from exitramp.testing.data import hard_records
from exitramp.wrappers import Endpoint, open_endpoint
from tests.drill.small_stacks import drill_text, fill

SPEC = CollectionSpec(
    "articles", IdKind.STRING, (VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 256),), has_documents=True
)
ROWS = 60
WRITES = "writes: {inserts: 3, updates: 4, deletes: 2}"
LEAVE = "  - start: {}\n  - dump: {}\n  - plan: {}\n  - restore: {}\n"
CUT_OVER = f"  - cut_over: {{rate_per_second: 30, agreed_after_seconds: 0.2, after_seconds: 0.5, {WRITES}}}\n"
UNWRITTEN = CUT_OVER.replace(f", {WRITES}", "")
WAY_BACK = "  - way_back: {rate_per_second: 20, seconds: 1}\n"
DELETE = "  - vendor_data: {delete: articles}\n"


class Sides:
    """Two stores in memory, a neighbour of the primary's collection, and drills over them."""

    def __init__(self, folder: Path, spec: CollectionSpec = SPEC) -> None:
        self.folder = folder
        self.primary, self.substitute = f"memory:{folder.name}-p#articles", f"memory:{folder.name}-s#articles"
        fill(self.primary, rows=ROWS, spec=spec)

    def run(self, steps: str) -> DrillResult:
        text = drill_text(self.primary, self.substitute, steps, data='{embedder: "wordllama:"}')
        return run_drill(read_drill(text, "small.yaml", self.folder), self.folder / "run", seed=4)

    def kinds(self) -> list[str]:
        return [event.kind for event in read_events(self.folder / "run" / "journal.jsonl")]


def held(address: str) -> dict[str, dict[str, Any]]:
    with open_endpoint(address) as endpoint:
        return held_by(endpoint)


def held_by(endpoint: Endpoint) -> dict[str, dict[str, Any]]:
    batches = list(read_all(endpoint.source(), batch_rows=1000))
    return {str(key): row for batch in batches for key, row in zip(record_keys(batch), batch.to_pylist(), strict=True)}


def put(endpoint: Endpoint, batch: Any) -> None:
    source, sink = endpoint.source(), endpoint.sink()
    sink.create(source.describe(), source.origin() or Origin(source.describe(), "test"))
    sink.upsert(batch)
    sink.flush()


@pytest.fixture(name="sides")
def _sides(tmp_path: Path) -> Sides:
    return Sides(tmp_path)


@pytest.fixture(name="there_and_back", scope="module")
def _there_and_back(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sides, DrillResult]:
    sides = Sides(tmp_path_factory.mktemp("back"))
    parallel = f"  - parallel_run: {{seconds: 0.6, rate_per_second: 20, rounds: 2, {WRITES}}}\n  - catch_up: {{}}\n"
    return sides, sides.run(LEAVE + parallel + CUT_OVER + WAY_BACK + "  - vendor_data: {}\n")


def test_both_sides_answer_while_what_is_written_is_carried_over(there_and_back: tuple[Sides, DrillResult]) -> None:
    data = there_and_back[1].results["parallel_run"]
    assert [(each["written"], each["deleted_there"]) for each in data["rounds"]] == [(7, 2), (7, 2)]
    assert [(each["upserted"], each["deleted"]) for each in data["rounds"]] == [(7, 2), (7, 2)]
    for side in data["sides"].values():
        assert side["good"] == side["requests"] > 5
    caught_up = there_and_back[1].results["catch_up"]
    assert caught_up["parity"]["counts"]["missing"] == caught_up["parity"]["counts"]["extra"] == 0


def test_traffic_moves_at_the_agreed_moment_and_no_request_fails(there_and_back: tuple[Sides, DrillResult]) -> None:
    sides, result = there_and_back
    data = result.results["cut_over"]
    assert data["failed"] == 0
    assert set(data["by_stack"]) == {"primary", "substitute"}
    assert sum(data["by_stack"].values()) == data["requests"]
    assert (data["records"], data["written_since"]) == (0, {"upserted": 7, "deleted": 2})
    assert data["switched_after_seconds"] >= data["agreed_after_seconds"]
    kinds = sides.kinds()
    assert kinds.index("cut_over.agreed") < kinds.index("cut_over.writes_held") < kinds.index("cut_over.switched")


def test_the_way_back_loses_nothing_that_was_written_since(there_and_back: tuple[Sides, DrillResult]) -> None:
    sides, result = there_and_back
    assert result.results["way_back"]["back_on_primary"] is True
    assert result.results["way_back"]["failed"] == 0
    assert result.results["way_back"]["sync"] == {"missing": 3, "changed": 4, "extra": 2, "upserted": 7, "deleted": 2}
    assert held(sides.primary) == held(sides.substitute)
    assert result.verdict is not Verdict.FAIL


def test_the_report_of_it_speaks_of_no_outage(there_and_back: tuple[Sides, DrillResult]) -> None:
    report = write_reports(there_and_back[0].folder / "run")["markdown"].read_text(encoding="utf-8")
    assert "before the outage" not in report
    assert "had one differed, traffic would have stayed" in " ".join(report.split())
    [window] = [line for line in report.splitlines() if line.startswith("| Parallel run")]
    assert "\N{NO-BREAK SPACE}s |" in window, window


def test_without_being_asked_nothing_is_deleted(there_and_back: tuple[Sides, DrillResult]) -> None:
    sides, result = there_and_back
    data = result.results["vendor_data"]
    assert (data["asked_to_delete"], data["deleted"], data["records"]) == (False, None, len(held(sides.primary)))


def test_a_record_that_differs_stops_the_cut_over_and_is_named(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(run: DrillRun, source: Endpoint, target: Endpoint, given: Any) -> dict[str, Any]:
        done = bring_over(run, source, target, given)
        [batch] = read_all(target.source(), batch_rows=1000)
        row = batch.slice(7, 1)
        place = row.schema.get_field_index("payload")
        payload = pa.array([canonical.dumps({"spoilt": True})], pa.string())
        spoilt = row.set_column(place, row.schema.field("payload"), payload)
        named.append(str(record_keys(row)[0]))
        put(target, spoilt)
        return done

    named: list[str] = []
    monkeypatch.setattr(cutting_over, "bring_over", spoil)
    result = sides.run(LEAVE + UNWRITTEN + WAY_BACK)
    _is_refused(sides, result, "payload", named)


def test_a_write_after_the_last_catch_up_stops_the_cut_over_and_is_named(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written_meanwhile(source: Endpoint, target: Endpoint, **options: Any) -> Any:
        [late] = hard_records(SPEC, 1, 99)
        place = late.schema.get_field_index("id")
        put(source, late.set_column(place, late.schema.field("id"), pa.array(["somebody-did-not-wait"], pa.string())))
        return compare_endpoints(source, target, **options)

    monkeypatch.setattr(cutting_over, "compare_endpoints", written_meanwhile)
    result = sides.run(LEAVE + UNWRITTEN + WAY_BACK)
    _is_refused(sides, result, "missing", ["somebody-did-not-wait"])


def _is_refused(sides: Sides, result: DrillResult, kind: str, named: list[str]) -> None:
    assert result.verdict is Verdict.FAIL
    data = result.results["cut_over"]
    assert data["parity"]["counts"][kind] == data["records"] == 1
    assert "switched_after_seconds" not in data
    assert set(data["by_stack"]) == {"primary"}, "traffic stays where it is"
    assert data["failed"] == 0
    assert "cut_over.switched" not in sides.kinds()
    assert named[0] in {id_ for finding in result.findings for id_ in finding.ids}, "nobody learns which record"
    assert "cut_over.no_go" in {each.code for each in result.findings}
    assert result.results["way_back"] == {"needed": False}
    report = write_reports(sides.folder / "run")["markdown"].read_text(encoding="utf-8")
    assert "differed, so traffic stayed on the primary" in " ".join(report.split())
    assert named[0] in report


def test_what_leaving_gave_up_by_consent_is_not_carried_back(tmp_path: Path) -> None:
    """A substitute that scales vectors to unit length holds no original lengths: bringing its own back would lose them
    in the primary too."""
    sides = Sides(tmp_path, replace(SPEC, vectors=(replace(SPEC.vectors[0], metric=Metric.COSINE),)))
    sides.substitute = f"qdrant:{tmp_path}/substitute#articles"
    before = held(sides.primary)
    agreed = LEAVE.replace("restore: {}", 'restore: {accept_loss: ["vector"]}')
    result = sides.run(agreed + CUT_OVER + WAY_BACK)
    assert result.aborted is None
    assert result.results["way_back"]["back_on_primary"] is True, result.findings
    assert result.results["way_back"]["sync"]["upserted"] == 7
    after = held(sides.primary)
    untouched = [key for key in before if key in after and before[key]["payload"] == after[key]["payload"]]
    assert len(untouched) >= ROWS - 16
    assert all(before[key] == after[key] for key in untouched), "the primary lost what only the substitute gave up"


@pytest.fixture(name="left")
def _left(sides: Sides) -> Sides:
    with open_endpoint(sides.primary.replace("#articles", "#neighbours")) as endpoint:
        sink = endpoint.sink()
        sink.create(SPEC, Origin(SPEC, "test"))
        for batch in hard_records(SPEC, 9, 5):
            sink.upsert(batch)
        sink.flush()
    return sides


def test_deletion_deletes_that_collection_alone_and_is_counted(left: Sides) -> None:
    result = left.run(LEAVE + UNWRITTEN + DELETE)
    data = result.results["vendor_data"]
    assert (data["records"], data["deleted"], data["left"]) == (ROWS, ROWS, 0)
    assert held(left.primary) == {}
    assert len(held(left.primary.replace("#articles", "#neighbours"))) == 9
    assert len(held(left.substitute)) == ROWS
    [finding] = [each for each in result.findings if each.code == "vendor_data.deleted"]
    assert finding.count == ROWS


def test_what_a_vendor_keeps_in_spite_of_a_deletion_is_counted(left: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        vendor_data, "read_all", lambda source, batch_rows: [next(iter(read_all(source, batch_rows=50)))]
    )
    result = left.run(LEAVE + UNWRITTEN + DELETE)
    assert result.verdict is Verdict.FAIL
    assert (result.results["vendor_data"]["deleted"], result.results["vendor_data"]["left"]) == (50, ROWS - 50)


def test_nothing_is_deleted_after_a_cut_over_that_did_not_pass(left: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traffic was moved, and requests failed on the substitute: the vendor's copy is what one would go back to."""
    monkeypatch.setattr(cutting_over, "is_good", lambda request, stack=None: False)
    result = left.run(LEAVE + UNWRITTEN + DELETE)
    assert "cut_over.switched" in left.kinds()
    assert (result.verdict, result.results["vendor_data"]["deleted"]) == (Verdict.FAIL, None)
    assert len(held(left.primary)) == ROWS


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (LEAVE + CUT_OVER + DELETE + WAY_BACK, "deleted last of all, after a 'cut_over' that no 'way_back' follows"),
        (LEAVE + CUT_OVER + WAY_BACK + DELETE, "deleted last of all, after a 'cut_over' that no 'way_back' follows"),
        (LEAVE + DELETE, "deleted last of all"),
        (LEAVE + CUT_OVER + DELETE + DELETE, "deleted last of all"),
        ("  - start: {}\n" + CUT_OVER, "needs a substitute that holds the records"),
    ],
)
def test_what_would_delete_too_early_is_told_before_anything_begins(steps: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        read_drill(drill_text("memory:p#articles", "memory:s#articles", steps), "mine.yaml", None)
    assert str(caught.value).startswith("mine.yaml:")


def test_a_deletion_of_another_name_than_the_primarys_deletes_nothing(left: Sides) -> None:
    result = left.run(LEAVE + UNWRITTEN + DELETE.replace("articles", "neighbours"))
    assert result.aborted is not None
    assert "names 'neighbours', and the primary's collection is 'articles'" in result.aborted
    assert len(held(left.primary)) == ROWS


def test_a_deletion_on_another_machine_takes_consent(
    left: Sides, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    far = "qdrant+http://db.example.com:6333#articles"
    file = tmp_path / "far.yaml"
    file.write_text(drill_text(far, left.substitute, LEAVE + UNWRITTEN + DELETE), encoding="utf-8")
    assert command(["drill", "run", str(file), "--out", str(tmp_path / "far")]) == 2
    assert f"add --allow-writes '{far}'" in capsys.readouterr().err
    assert not (tmp_path / "far").exists(), "told before anything begins"

    spec = read_drill(drill_text(far, left.substitute, LEAVE + UNWRITTEN + DELETE), "far.yaml", tmp_path)
    with EventLog.create(tmp_path / "journal.jsonl", SystemClock()) as log:
        run = DrillRun(spec, tmp_path, log, seed=1)
        run.start_stacks()
        run.shared["cut_over"] = run.shared["cut_over_passed"] = True
        monkeypatch.setattr(DrillRun, "endpoint", lambda self, stack, **options: open_endpoint(left.primary))
        with pytest.raises(WriteRefused, match=r"db\.example\.com"):
            VENDOR_DATA.run(run, VendorDataArguments("articles"))
    assert len(held(left.primary)) == ROWS


def test_the_way_back_to_a_primary_of_another_metric_keeps_that_metric_and_carries_every_record(tmp_path: Path) -> None:
    """It was left for a store that searches by dot; at home the field is searched by cosine as it always was."""
    spec = replace(SPEC, vectors=(replace(SPEC.vectors[0], metric=Metric.COSINE),))
    sides = Sides(tmp_path, spec)
    sides.substitute = f"memory:{tmp_path.name}-s?metric=dot#articles"
    leave = LEAVE.replace("restore: {}", 'restore: {accept_loss: ["metric:vector"]}')
    result = sides.run(leave + CUT_OVER + WAY_BACK)
    assert result.verdict is Verdict.PASS, result.findings
    back = result.results["way_back"]
    assert back["metrics_kept"] == {"": "cosine"}
    assert back["sync"]["upserted"] > 0
    assert back["back_on_primary"] is True
    with open_endpoint(sides.primary) as endpoint:
        assert endpoint.source().describe().vectors[0].metric is Metric.COSINE
    assert held(sides.primary) == held(sides.substitute)


def test_where_carrying_back_would_lose_something_else_nothing_is_carried_and_nothing_is_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vector of a length of its own was written since the cut-over, and the primary scales vectors to length 1."""
    spec = replace(SPEC, vectors=(replace(SPEC.vectors[0], metric=Metric.COSINE),))
    sides = Sides(tmp_path, spec)
    sides.primary = fill(f"qdrant:{tmp_path}/primary#articles", rows=ROWS, spec=spec)
    carried_back = cutting_over._carried_back
    before: dict[str, dict[str, Any]] = {}

    def written_since(run: DrillRun, substitute: Endpoint, primary: Endpoint, data: dict[str, Any]) -> Any:
        [late] = hard_records(spec, 1, 99)
        place = late.schema.get_field_index("id")
        late = late.set_column(place, late.schema.field("id"), pa.array(["written-since"], pa.string()))
        put(run.writable("substitute"), late)
        before.update(held_by(primary))
        return carried_back(run, substitute, primary, data)

    monkeypatch.setattr(cutting_over, "_carried_back", written_since)
    result = sides.run(LEAVE + CUT_OVER + WAY_BACK)
    assert result.aborted is None
    back = result.results["way_back"]
    found = {each.code: each.verdict for each in result.findings if each.code.startswith("way_back")}
    assert found == {"way_back.loss": Verdict.INCONCLUSIVE}
    assert result.verdict is Verdict.INCONCLUSIVE
    assert ("sync" in back, back["back_on_primary"], back["failed"]) == (False, False, 0)
    assert set(back["by_stack"]) == {"substitute"}, "traffic stays where it is"
    assert held(sides.primary) == before, "nothing was carried"
    assert "way_back.switched" not in sides.kinds()
    report = " ".join(write_reports(sides.folder / "run")["markdown"].read_text(encoding="utf-8").split())
    assert "nothing was carried back, and traffic stays on the substitute" in report
    assert "| Carried back to the primary | nothing |" in report
