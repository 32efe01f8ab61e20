"""A collection that is there and holds nothing is as good as none: what a copy then leaves in it explains itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from exitramp.digests import CollectionDigests
from exitramp.errors import ConsentMissing, DataInvalid
from exitramp.migration import migrate, plan_move
from exitramp.migration.moving import read_digests
from exitramp.ports import DocumentRoom, Origin
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind, Verdict
from exitramp.testing.memory import LIMITS, MemoryStore
from exitramp.testing.rows import Row
from exitramp.urls import Address
from exitramp.wrappers import Endpoint, open_endpoint
from tests.migration.agreement import source_of
from tests.migration.collections_of_all_kinds import Whole, collections

FIELDS = (
    VectorField("title", VectorKind.DENSE, DType.INT8, Metric.COSINE, 3),
    VectorField("late", VectorKind.MULTI, DType.FLOAT16, Metric.DOT, 2),
)
WHOLE = Whole(
    CollectionSpec("articles", IdKind.UINT64, FIELDS, has_namespaces=True, has_documents=True),
    [
        Row(
            str(n),
            namespace="t" if n % 2 else None,
            document=f"text {n}" if n > 70 else None,
            payload={"n": n},
            vectors={"vector:title": np.array([n, -n, 1], "i1"), "multi:late": np.array([[n, 0.5]], "f2")},
        )
        for n in range(90)
    ],
)


def _copied(source: Endpoint, address: Address | str) -> CollectionDigests:
    """The digests of what came back out of a copy that passed."""
    with open_endpoint(address) as target:
        plan = plan_move(source, target)
        result = migrate(source, target, accept_loss=[line.subject for line in plan.lossy()])
    assert result.verdict is Verdict.PASS, result.findings
    with open_endpoint(address) as target:
        return read_digests(target.source())


def _created_before(source: Endpoint, address: Address | str) -> None:
    """Make the collection as the copy would, for records that another source was meant to give."""
    with open_endpoint(address) as target:
        layout = plan_move(source, target).layout
        other = CollectionSpec("another", IdKind.STRING, ())
        target.raw_sink().create(layout.native, Origin(other, "test"))


@pytest.mark.parametrize("scheme", ["memory", "qdrant", "chroma", "faiss"])
def test_what_was_told_of_other_records_explains_none_of_those_that_come(scheme: str, tmp_path: Path) -> None:
    pytest.importorskip({"qdrant": "qdrant_edge", "chroma": "chromadb", "faiss": "faiss"}.get(scheme, "numpy"))
    place = {"memory": str(tmp_path), "faiss": f"{tmp_path}/c.faiss"}.get(scheme, f"{tmp_path}/store")
    address = Address(scheme, place, "articles")
    with source_of(WHOLE) as source:
        _created_before(source, address)
        assert _copied(source, address) == read_digests(source.source())


def test_what_a_collection_of_somebody_elses_could_not_explain_is_refused_before_it_is_touched(tmp_path: Path) -> None:
    chromadb = pytest.importorskip("chromadb")
    address = Address("chroma", str(tmp_path / "store"), "articles")

    def collection() -> Any:
        client = chromadb.PersistentClient(
            str(tmp_path / "store"), settings=chromadb.config.Settings(anonymized_telemetry=False)
        )
        return client.get_or_create_collection("articles", metadata={"hnsw:space": "cosine", "owner": "somebody"})

    assert collection().count() == 0
    with source_of(WHOLE) as source, open_endpoint(address) as target:
        plan = plan_move(source, target)
        assert plan.verdict is Verdict.FAIL
        with pytest.raises(
            DataInvalid, match="does not say how vector:title, multi:late, namespace would be"
        ) as caught:
            migrate(source, target, accept_loss=[line.subject for line in plan.lossy()])
        assert "remove this one" in (caught.value.hint or "")
    there = collection()
    assert (there.count(), sorted(there.metadata)) == (0, ["hnsw:space", "owner"])
    plain = replace(WHOLE.spec, vectors=(VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 3),))
    rows = [replace(row, namespace=None, vectors={"vector": np.eye(3, dtype="f4")[0]}) for row in WHOLE.rows]
    with source_of(Whole(replace(plain, has_namespaces=False), rows)) as source:
        assert _copied(source, address) == read_digests(source.source())
    assert collection().metadata["owner"] == "somebody"


def test_what_is_written_among_other_records_must_come_back_by_what_is_said_of_those(tmp_path: Path) -> None:
    address = Address("memory", f"shared-{tmp_path}", "col")
    held = VectorField("title", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 3)
    first = Whole(
        CollectionSpec("articles", IdKind.UINT64, (held,)),
        [Row("1000", payload={}, vectors={"vector:title": np.ones(3, "f4")})],
    )
    narrow = Whole(
        replace(first.spec, vectors=(replace(held, dtype=DType.INT8),)),
        [Row("1", payload={}, vectors={"vector:title": np.ones(3, "i1")})],
    )
    limits = replace(LIMITS, dtypes=frozenset({DType.FLOAT32}))

    def opened() -> Endpoint:
        return open_endpoint(address, opener=lambda at, network: MemoryStore(at.location, at.collection, limits=limits))

    with source_of(first) as source, opened() as target:
        assert migrate(source, target).verdict is Verdict.PASS
    with source_of(narrow) as source, opened() as target:
        with pytest.raises(ConsentMissing, match="does not say how vector:title would be read back"):
            migrate(source, target, into_existing=True)
        assert target.source().count() == 1
        accepted = migrate(source, target, into_existing=True, accept_loss=["origin"])
        assert accepted.verdict is Verdict.INCONCLUSIVE
    with source_of(replace(first, rows=[replace(first.rows[0], id="2")])) as source, opened() as target:
        assert migrate(source, target, into_existing=True).verdict is Verdict.INCONCLUSIVE
        assert target.source().count() == 3


def test_an_empty_collection_in_a_store_without_room_for_the_origin_is_explained_by_the_markers(tmp_path: Path) -> None:
    limits = replace(LIMITS, keeps_origin=False, namespaces=False, documents=DocumentRoom.PAYLOAD)
    address = Address("memory", f"plain-{tmp_path}", "articles")

    def opened() -> Endpoint:
        return open_endpoint(address, opener=lambda at, network: MemoryStore(at.location, at.collection, limits=limits))

    with source_of(WHOLE) as source:
        with opened() as target:
            layout = plan_move(source, target).layout
            target.raw_sink().create(layout.native, Origin(layout.original, "test"))
        with opened() as target:
            assert migrate(source, target).verdict is Verdict.PASS
            assert read_digests(target.source()) == read_digests(source.source())


@settings(max_examples=25, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(whole=collections())
def test_any_collection_lands_in_an_empty_one_as_in_none(
    whole: Whole, tmp_path_factory: pytest.TempPathFactory
) -> None:
    address = Address("memory", f"empty-{tmp_path_factory.mktemp('any')}", "col")
    with source_of(whole) as source:
        _created_before(source, address)
        if whole.rows:
            assert _copied(source, address) == read_digests(source.source())
