"""The copy loop moves everything once, says so honestly, and goes on where it was acknowledged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from exitramp import canonical
from exitramp.arrow import stream_schema
from exitramp.clock import SystemClock
from exitramp.errors import (
    CollectionExists,
    ConsentMissing,
    IntegrityError,
    StoreProtocolError,
    StoreUnavailable,
    UsageError,
)
from exitramp.faults import Fault, FaultSchedule, ScheduledFault
from exitramp.ports import Cursor, Page, Partition
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind, Verdict
from exitramp.transfer.checkpoint import FileCheckpoint, Progress
from exitramp.transfer.copying import copy_records
from exitramp.transfer.plan import Fidelity, make_plan
from exitramp.transfer.survey import survey_source
from exitramp.wrappers import Endpoint, Faulty, open_endpoint

SPEC = CollectionSpec(
    "articles",
    IdKind.STRING,
    (VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 3),),
    has_documents=True,
)


def _fill(name: str, rows: int) -> Endpoint:
    endpoint = open_endpoint(f"memory:{name}#articles")
    from exitramp.ports import Origin

    sink = endpoint.sink()
    sink.create(SPEC, Origin(SPEC, "test"))
    data = [
        {"id": f"r{n}", "document": f"text {n}", "payload": canonical.dumps({"n": n}), "vector": [float(n), 1.0, 2.0]}
        for n in range(rows)
    ]
    sink.upsert(pa.RecordBatch.from_pylist(data, schema=stream_schema(SPEC)))
    sink.flush()
    return endpoint


def test_a_copy_moves_every_record_and_counts_what_landed(request: pytest.FixtureRequest) -> None:
    source = _fill(f"{request.node.name}-a", 25)
    target = open_endpoint(f"memory:{request.node.name}-b#articles")
    result = copy_records(source.source(), target.sink(), batch_rows=7, landed=lambda: target.source().count())
    assert result.rows_read == 25
    assert result.account.rows_landed == 25
    assert result.findings == ()


def test_a_killed_copy_goes_on_behind_what_was_acknowledged(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    name = request.node.name
    _fill(f"{name}-a", 30)
    schedule = FaultSchedule([ScheduledFault(Fault("unavailable"), calls=frozenset({8}))])
    broken = open_endpoint(f"memory:{name}-b#articles", extra=Faulty(schedule, SystemClock()))
    broken.retrying._backoff = broken.retrying._backoff.__class__(tries=1)
    source = open_endpoint(f"memory:{name}-a#articles")
    state = tmp_path / "state.jsonl"
    with pytest.raises(StoreUnavailable):
        copy_records(
            source.source(), broken.sink(), batch_rows=5, checkpoint=FileCheckpoint(state, {"t": 1}, flush_rows=5)
        )
    checkpoint = FileCheckpoint(state, {"t": 1}, flush_rows=5)
    assert 0 < checkpoint.progress().rows < 30
    target = open_endpoint(f"memory:{name}-b#articles")
    result = copy_records(
        source.source(), target.sink(), batch_rows=5, checkpoint=checkpoint, landed=lambda: target.source().count()
    )
    assert result.resumed
    assert result.rows_read < 30
    assert result.rows_total == 30
    assert result.account.rows_landed == 30
    assert result.digests is not None
    assert result.digests.rows == 30
    assert state.exists(), "the place is kept until the caller has verified what landed"
    checkpoint.close(complete=True)
    assert not state.exists()


def test_another_transfer_does_not_take_over_a_checkpoint(tmp_path: Path) -> None:
    first = FileCheckpoint(tmp_path / "s", {"source": "a"})
    first.acknowledge(Progress(rows=1))
    first.close(complete=False)
    with pytest.raises(UsageError, match="another transfer"):
        FileCheckpoint(tmp_path / "s", {"source": "b"})


def test_a_scan_without_its_end_signal_is_never_finished(request: pytest.FixtureRequest) -> None:
    source = _fill(f"{request.node.name}-a", 5).source()

    class Silent:
        def __getattr__(self, name: str) -> object:
            return getattr(source, name)

        def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
            for page in source.scan(partition, batch_rows=batch_rows, after=after):
                yield Page(page.batch, page.cursor, last=False)

    finished: list[object] = []
    target = open_endpoint(f"memory:{request.node.name}-b#articles").sink()
    target.finish = finished.append  # type: ignore[method-assign]
    with pytest.raises(StoreProtocolError, match="end signal"):
        copy_records(Silent(), target, batch_rows=2)  # type: ignore[arg-type]
    assert finished == []


def test_a_target_that_holds_records_is_not_written_into_unasked(request: pytest.FixtureRequest) -> None:
    source = _fill(f"{request.node.name}-a", 5)
    target = _fill(f"{request.node.name}-b", 2)
    with pytest.raises(CollectionExists, match="already holds 2"):
        copy_records(source.source(), target.sink(), batch_rows=2, target_rows_before=2)


def test_the_plan_asks_consent_for_lost_magnitude_and_not_for_unit_vectors(request: pytest.FixtureRequest) -> None:
    from dataclasses import replace

    from exitramp.ports import PayloadLimits, SinkLimits

    source = _fill(f"{request.node.name}-a", 5).source()
    limits = SinkLimits(
        id_kinds=frozenset({IdKind.UUID}),
        metrics=frozenset({Metric.COSINE}),
        payload=PayloadLimits(types=frozenset({"int", "string"})),
        normalises=frozenset({Metric.COSINE}),
        keeps_origin=True,
    )
    plan = make_plan(survey_source(source, limits, batch_rows=2), limits)
    by_subject = {line.subject: line for line in plan.lines}
    assert by_subject["vector"].fidelity is Fidelity.LOSSY
    assert "magnitude" in by_subject["vector"].how
    assert by_subject["id"].fidelity is Fidelity.REVERSIBLE
    assert by_subject["payload.n"].fidelity is Fidelity.EXACT
    with pytest.raises(ConsentMissing, match="--accept-loss vector"):
        plan.require_consent([])
    plan.require_consent(["vector"])
    assert plan.verdict is Verdict.PASS
    same = replace(limits, normalises=frozenset())
    assert not make_plan(survey_source(source, same, batch_rows=2), same).lossy()


def test_a_source_that_was_written_to_between_two_runs_is_not_called_copied(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    name = request.node.name
    endpoint = _fill(f"{name}-a", 30)
    schedule = FaultSchedule([ScheduledFault(Fault("unavailable"), calls=frozenset({8}))])
    broken = open_endpoint(f"memory:{name}-b#articles", extra=Faulty(schedule, SystemClock()))
    broken.retrying._backoff = broken.retrying._backoff.__class__(tries=1)
    state = tmp_path / "state.jsonl"
    with pytest.raises(StoreUnavailable):
        copy_records(
            endpoint.source(), broken.sink(), batch_rows=5, checkpoint=FileCheckpoint(state, {"t": 1}, flush_rows=5)
        )
    changed = endpoint.sink()
    from exitramp.ports import Origin

    changed.create(SPEC, Origin(SPEC, "test"))
    row = {"id": "r0", "document": "another text", "payload": "{}", "vector": [9.0, 9.0, 9.0]}
    changed.upsert(pa.RecordBatch.from_pylist([row], schema=stream_schema(SPEC)))
    target = open_endpoint(f"memory:{name}-b#articles")
    result = copy_records(
        endpoint.source(), target.sink(), batch_rows=5, checkpoint=FileCheckpoint(state, {"t": 1}, flush_rows=5)
    )
    assert result.resumed
    assert [finding.code for finding in result.findings] == ["source.changed"]
    assert result.findings[0].verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("raised", "kept"), [(KeyboardInterrupt(), True), (IntegrityError("broken"), False)])
def test_only_a_source_that_broke_its_promise_makes_a_copy_forget_its_place(
    request: pytest.FixtureRequest, tmp_path: Path, raised: BaseException, kept: bool
) -> None:
    source = _fill(f"{request.node.name}-a", 7)
    target = open_endpoint(f"memory:{request.node.name}-b#articles")
    place = FileCheckpoint(tmp_path / "state.jsonl", {"of": "this"})

    def check(found: object) -> None:
        raise raised

    with pytest.raises(type(raised)):
        copy_records(source.source(), target.sink(), batch_rows=3, checkpoint=place, check=check)
    assert place.path.exists() is kept


def test_records_that_another_copy_wrote_since_the_look_at_the_target_are_left_alone(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    source = _fill(f"{request.node.name}-a", 5)
    target = open_endpoint(f"memory:{request.node.name}-b#articles")
    written: list[object] = []
    sink = target.sink()
    sink.upsert = written.append  # type: ignore[method-assign]
    place = FileCheckpoint(tmp_path / "state.jsonl", {"t": 1})
    with pytest.raises(CollectionExists, match="somebody else has written 3 records to the target meanwhile"):
        copy_records(source.source(), sink, batch_rows=2, checkpoint=place, standing=lambda: 3)
    assert written == []
    assert not place.path.exists()


def test_a_transfer_that_another_process_runs_ends_before_it_touches_the_target(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    source = _fill(f"{request.node.name}-a", 5)
    place = FileCheckpoint(tmp_path / "state.jsonl", {"t": 1})
    other = FileCheckpoint(tmp_path / "state.jsonl", {"t": 1})
    other.expecting(5)
    sink = open_endpoint(f"memory:{request.node.name}-b#articles").sink()
    made: list[object] = []
    sink.create = lambda *told: made.append(told)  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="another process is writing to it"):
        copy_records(source.source(), sink, batch_rows=2, checkpoint=place)
    assert made == []
    other.close(complete=False)
    assert not place.path.exists()
