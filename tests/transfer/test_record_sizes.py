"""A record that is more than its target takes is named: by the plan where the limit is known, else by the copy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from exitramp import canonical
from exitramp.codec.layout import layout_for
from exitramp.codec.sizes import Excess, _bounds, payload_size_of, rows_over, size_of
from exitramp.errors import CollectionMissing, DataInvalid, RequestTooLarge
from exitramp.migration import migrate, plan_move, synchronise_endpoints
from exitramp.ports import DocumentRoom, Origin, PayloadLimits, SinkLimits
from exitramp.ports.transport import status_error
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind, Verdict
from exitramp.testing.data import hard_records
from exitramp.testing.hard_values import HARD_PAYLOADS
from exitramp.testing.memory import LIMITS, MemorySink, MemoryStore
from exitramp.testing.rows import Row, batch_from_rows
from exitramp.testing.within import wide_spec
from exitramp.transfer.checkpoint import FileCheckpoint
from exitramp.urls import Address
from exitramp.wrappers import Endpoint, OpenSettings, open_endpoint

SPEC = CollectionSpec(
    "c", IdKind.STRING, (VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 4),), has_documents=True
)
NUMBERED = replace(LIMITS, id_kinds=frozenset({IdKind.UUID}), documents=DocumentRoom.PAYLOAD)
"""Ids become others and documents go into the payload, so that what is written is not what was read."""
PLAIN = PayloadLimits(types=frozenset({"string", "int"}), absent_payload=False)
LEAST = replace(NUMBERED, payload=PLAIN, named_vectors=False, vector_kinds=frozenset({VectorKind.DENSE}))


def rows(count: int, long: dict[int, int] | None = None) -> list[Row]:
    """Records of some 150 bytes as JSON; `long` says which have documents of how many characters."""
    return [
        Row(
            f"doc-{number:03d}",
            None,
            "x" * (long or {}).get(number, 10),
            {"n": number},
            {"vector": np.full(4, number, np.float32)},
        )
        for number in range(count)
    ]


def filled(name: str, records: list[Row]) -> Endpoint:
    endpoint = open_endpoint(f"memory:{name}#c")
    put(endpoint, records)
    return endpoint


def put(endpoint: Endpoint, records: list[Row]) -> None:
    sink = endpoint.sink()
    sink.create(SPEC, Origin(SPEC, "test"))
    sink.upsert(batch_from_rows(records, SPEC))
    sink.flush()


class FullStore(MemoryStore):
    """Refuses what is more than `room` bytes at once, as a server does that looks at a request's length only."""

    room = 2**40

    def sink(self) -> MemorySink:
        room = self.room

        class FullSink(MemorySink):
            def upsert(self, batch: pa.RecordBatch) -> None:
                if batch.nbytes > room:
                    error = status_error(Address.parse("memory:x"), 413, secret="key")
                    assert error is not None
                    raise error
                super().upsert(batch)

        return FullSink(self)


def target_of(name: str, *, limits: SinkLimits = NUMBERED, room: int | None = None) -> Endpoint:
    store = FullStore(name, "c", limits=limits)
    if room is not None:
        store.room = room
    return Endpoint(Address("memory", name, "c"), store, OpenSettings())


@pytest.fixture(name="name")
def _name(request: pytest.FixtureRequest) -> str:
    return request.node.name


def test_a_plan_names_what_is_too_large_and_nothing_is_written(name: str) -> None:
    source = filled(f"{name}-a", rows(40, {7: 5000, 31: 9000, 12: 4000}))
    target = target_of(f"{name}-b", limits=replace(NUMBERED, record_bytes=4900))
    plan = plan_move(source, target)
    [found] = [each for each in plan.findings if each.code == "record.too_large"]
    assert (found.verdict, found.ids, found.count) == (Verdict.FAIL, ("doc-007", "doc-031"), 2)
    assert found.detail["limit"] == 4900
    assert 9000 < found.detail["bytes"] < 9400
    assert "4,900 bytes" in found.message
    with pytest.raises(DataInvalid, match=r"doc-007, doc-031") as caught:
        migrate(source, target)
    assert "nothing was written" in (caught.value.hint or "")
    with pytest.raises(CollectionMissing):
        target.source().describe()
    payloads = target_of(f"{name}-p", limits=replace(NUMBERED, payload_bytes=4900))
    [found_in_payload] = [each for each in plan_move(source, payloads).findings if each.code == "record.too_large"]
    assert (found_in_payload.ids, found_in_payload.detail["limit"]) == (("doc-007", "doc-031"), 4900)
    assert "4,900 bytes of one payload" in found_in_payload.message
    with pytest.raises(DataInvalid, match=r"doc-007, doc-031"):
        migrate(source, payloads)
    within = target_of(f"{name}-c", limits=replace(NUMBERED, record_bytes=found.detail["bytes"]))
    assert migrate(source, within).verdict is Verdict.PASS, "the limit itself is within"


def test_a_sync_names_it_before_anything_is_written(name: str) -> None:
    source, before = filled(f"{name}-a", rows(40, {7: 5000})), rows(40)[10:]
    target = target_of(f"{name}-b", limits=replace(NUMBERED, record_bytes=4900))
    put(target, before)
    with pytest.raises(DataInvalid, match="doc-007"):
        synchronise_endpoints(source, target, plan=plan_move(source, target))
    assert target.source().count() == len(before)


def test_without_a_plan_the_batch_is_refused_before_any_of_it_is_written(name: str) -> None:
    target = target_of(name, limits=replace(NUMBERED, record_bytes=4900, batch_rows=5))
    sink = target.sink()
    sink.create(SPEC, Origin(SPEC, "test"))
    with pytest.raises(DataInvalid, match=r"record 'doc-018' takes 6,\d{3} bytes as JSON, and .* 4,900 of one at most"):
        sink.upsert(batch_from_rows(rows(20, {18: 6000}), SPEC))
    with pytest.raises(DataInvalid, match="there are 2 such in the batch"):
        sink.upsert(batch_from_rows(rows(20, {18: 6000, 3: 7000}), SPEC))
    assert target.source().count() == 0


def test_what_is_too_much_at_once_is_sent_in_parts(name: str) -> None:
    """As with a proxy that takes less than its server, or a batch whose records are of very different size."""
    source = filled(f"{name}-a", rows(200, {50: 3000}))
    target = target_of(f"{name}-b", room=5000)
    result = migrate(source, target)
    assert result.verdict is Verdict.PASS
    assert result.rows_landed == 200


def test_a_record_that_the_store_alone_knows_to_be_too_large_is_named_and_the_copy_goes_on_later(
    name: str, tmp_path: Path
) -> None:
    source = filled(f"{name}-a", rows(300, {123: 30_000}))
    target = target_of(f"{name}-b", room=20_000)

    def place() -> FileCheckpoint:
        return FileCheckpoint(tmp_path / "place.jsonl", {"of": "this test"}, flush_rows=10)

    with pytest.raises(
        RequestTooLarge, match=r"record 'doc-123' takes 30,\d{3} bytes as JSON, and .*\(413\)"
    ) as caught:
        migrate(source, target, checkpoint=place())
    assert "run the same command again" in (caught.value.hint or "")
    assert not place().progress().is_fresh, "an interrupted run keeps its place"
    assert target.source().count() < 300
    put(source, [rows(300)[123]])
    result = migrate(source, target, checkpoint=place())
    assert result.copy.resumed
    assert (result.verdict, result.rows_landed) == (Verdict.PASS, 300)


@pytest.mark.parametrize("limits", [LIMITS, NUMBERED, LEAST], ids=["everything", "other ids", "hardly anything"])
def test_no_record_is_larger_than_the_first_look_thinks(limits: SinkLimits) -> None:
    """Only what that look suspects is measured, so that it must never think too little of a record."""
    spec = replace(wide_spec(LIMITS, "c"), has_namespaces=True)
    layout = layout_for(spec, limits)
    [batch] = hard_records(spec, 60, seed=4)
    odd = [replace(row, vectors={}) for row in rows(len(HARD_PAYLOADS))]
    hard = ["\x01" * 3000, '"\\' * 3000, "\u2028🚀" * 3000, "{}" * 3000]
    odd = [replace(row, payload=payload) for row, payload in zip(odd, HARD_PAYLOADS.values(), strict=True)]
    odd += [Row(text[:900], text[:900], text, {text[:900]: text, "f": [0.1 + 0.2] * 50}, {}) for text in hard]
    odd += [Row(text[:900], None, text, {"k" + text[number]: None for number in range(4)}, {}) for text in hard]
    for records in (batch, batch_from_rows(odd, spec)):
        for what, measure in (("record", size_of), ("payload", payload_size_of)):
            bounds = _bounds(records, what == "payload")
            sizes = [measure(records.slice(row, 1), layout, limits) for row in range(records.num_rows)]
            assert (bounds >= np.array(sizes)).all(), (what, sizes)
            for most in (100, 3000, 30_000):
                held = replace(limits, **{f"{what}_bytes": most})
                expected = {row: Excess(what, size, most) for row, size in enumerate(sizes) if size > most}
                assert rows_over(records, layout, held) == expected


def test_what_is_measured_is_what_a_request_carries() -> None:
    """As JSON: an id, a document and a payload that need escapes, and numbers of 20 bytes each."""
    row = Row('i"d', None, "a\nb", {"k": "\u00e9"}, {"vector": np.ones(4, np.float32)})
    layout = layout_for(SPEC, LIMITS)
    assert size_of(batch_from_rows([row], SPEC), layout, LIMITS) == len('"i\\"d"') + len('"a\\nb"') + 10 + 4 * 20
    assert len(canonical.dumps(row.payload).encode()) == 10
