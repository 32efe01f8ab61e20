"""Catching up touches what differs and nothing else, and a source that looks emptied deletes nothing."""

from __future__ import annotations

import pyarrow as pa
import pytest

from exitramp import canonical
from exitramp.arrow import stream_schema
from exitramp.errors import ConsentMissing, DataInvalid
from exitramp.ports import Origin
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.transfer.sync import difference, synchronise
from exitramp.wrappers import Endpoint, open_endpoint

SPEC = CollectionSpec(
    "c", IdKind.STRING, (VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 2),), has_documents=True
)


def _store(name: str, records: dict[str, int]) -> Endpoint:
    endpoint = open_endpoint(f"memory:{name}#c")
    sink = endpoint.sink()
    sink.create(SPEC, Origin(SPEC, "test"))
    rows = [
        {"id": id_, "document": None, "payload": canonical.dumps({"n": n}), "vector": [n, 1]}
        for id_, n in records.items()
    ]
    if rows:
        sink.upsert(pa.RecordBatch.from_pylist(rows, schema=stream_schema(SPEC)))
    return endpoint


def test_missing_and_changed_records_come_over_and_extra_ones_stay_without_consent(
    request: pytest.FixtureRequest,
) -> None:
    a = _store(f"{request.node.name}-a", {"1": 1, "2": 2, "3": 3})
    b = _store(f"{request.node.name}-b", {"1": 1, "2": 20, "9": 9})
    result = synchronise(a.source(), b.source(), b.sink(), batch_rows=2)
    assert (result.missing, result.changed, result.extra, result.upserted, result.deleted) == (1, 1, 1, 2, 0)
    assert (result.missing_ids, result.changed_ids) == (["3"], ["2"])
    after = difference(a.source(), b.source(), batch_rows=2)
    assert (len(after.missing), len(after.changed), len(after.extra)) == (0, 0, 1)


def test_deletes_need_consent_and_hold_at_the_brake(request: pytest.FixtureRequest) -> None:
    a = _store(f"{request.node.name}-a", {"1": 1})
    b = _store(f"{request.node.name}-b", {"1": 1, "8": 8, "9": 9})
    with pytest.raises(ConsentMissing, match="2 of the target's 3 records"):
        synchronise(a.source(), b.source(), b.sink(), batch_rows=2, delete=True)
    assert b.source().count() == 3
    result = synchronise(a.source(), b.source(), b.sink(), batch_rows=2, delete=True, maximum_deletes=2)
    assert result.deleted == 2
    assert sorted(result.deleted_ids) == ["8", "9"]
    assert b.source().count() == 1


def test_an_empty_source_is_never_synchronised_from(request: pytest.FixtureRequest) -> None:
    a = _store(f"{request.node.name}-a", {})
    b = _store(f"{request.node.name}-b", {"1": 1})
    with pytest.raises(DataInvalid, match="source is empty"):
        synchronise(a.source(), b.source(), b.sink(), batch_rows=2, delete=True, maximum_deletes=10)
    assert b.source().count() == 1


def test_a_record_that_the_second_look_finds_alive_is_kept(request: pytest.FixtureRequest) -> None:
    a = _store(f"{request.node.name}-a", {"1": 1})
    b = _store(f"{request.node.name}-b", {"1": 1, "9": 9})
    source = a.source()
    late = _store(f"{request.node.name}-c", {"1": 1, "9": 9}).source()

    class Late:
        """Shows the record "9" only to a look by id, as a store does that got it after the scan."""

        fetch = late.fetch

        def __getattr__(self, name: str) -> object:
            return getattr(source, name)

    result = synchronise(Late(), b.source(), b.sink(), batch_rows=2, delete=True, maximum_deletes=5)  # type: ignore[arg-type]
    assert (result.deleted, result.kept) == (0, 1)
    assert b.source().count() == 2
