"""Qdrant over REST against the shim: what is kept where, what is refused, what is searched."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient

from exitramp.errors import (
    CollectionExists,
    CollectionMissing,
    DataInvalid,
    StoreRejected,
    UsageError,
)
from exitramp.filters import And, Eq, Exists, Filter, In, Not, Or, Range
from exitramp.ports import IndexState, Origin, Query, SearchSettings, Service, TransferAccount
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorField, VectorKind
from exitramp.registry import open_store, service_adapter
from exitramp.testing import Row, batch_from_rows, rows_from_batch
from exitramp.testing.reference import matches
from exitramp.urls import Address, Network

DENSE = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 2)
PLAIN = CollectionSpec("c", IdKind.UINT64, (DENSE,))
ORIGIN = Origin(CollectionSpec("c", IdKind.STRING, (DENSE,), has_documents=True), "0")
VECTOR = np.array([1.0, 2.0], np.float32)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, str]]:
    service = service_adapter("qdrant-shim").make(str(tmp_path_factory.mktemp("shim")), 0, {})
    yield service, str(service.start())
    service.stop()


@pytest.fixture
def base(shim: tuple[Service, str]) -> str:
    with raw(shim[1]) as client:
        for each in client.get_collections().collections:
            client.delete_collection(each.name)
    return shim[1]


@contextmanager
def raw(base: str) -> Iterator[QdrantClient]:
    client = QdrantClient(url=base.removeprefix("qdrant+"), check_compatibility=False, timeout=30)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def opened(base: str, collection: str = "c", **network: Any) -> Iterator[Any]:
    store = open_store(Address.parse(f"{base}#{collection}"), Network(**network))
    try:
        yield store
    finally:
        store.close()


def row(id_: str, payload: dict[str, Any] | None = None, **vectors: Any) -> Row:
    return Row(id_, payload=payload, vectors=vectors or {"vector": VECTOR})


def put(base: str, rows: Sequence[Row], spec: CollectionSpec = PLAIN) -> None:
    with opened(base) as store:
        sink = store.sink()
        sink.create(spec, ORIGIN)
        sink.upsert(batch_from_rows(rows, spec))
        sink.flush()


def test_the_shim_is_never_taken_for_a_server(base: str) -> None:
    with opened(base) as store:
        identity = store.source().identity()
    assert identity.evidence == "engine real, wire emulated"
    assert identity.server_version == identity.client_version


def test_the_origin_lies_in_the_metadata_and_not_in_the_index_configuration(base: str) -> None:
    put(base, [])
    with raw(base) as client:
        client.update_collection("c", metadata={"team": "search"})
    with opened(base) as store:
        source = store.source()
        assert source.origin() == ORIGIN
        spec = source.describe()
        assert spec.id_kind is IdKind.UINT64
        assert spec.index["metadata"] == {"team": "search"}
        assert spec.index["qdrant"]["hnsw_config"]["m"] == 16
        assert "exitramp" not in json.dumps(spec.index)


def test_an_emptied_collection_takes_the_origin_of_what_comes_next(base: str) -> None:
    later = Origin(PLAIN, "1")
    put(base, [row("1")])
    with opened(base) as store:
        sink = store.sink()
        sink.create(PLAIN, later)
        assert store.source().origin() == ORIGIN
        sink.delete([RecordKey("1"), RecordKey("not an id")])
        sink.create(PLAIN, later)
        assert store.source().origin() == later


def test_a_collection_with_other_fields_is_not_written_to(base: str) -> None:
    put(base, [row("1")])
    other = CollectionSpec("c", IdKind.UINT64, (VectorField("", VectorKind.DENSE, DType.FLOAT16, Metric.DOT, 2),))
    with opened(base) as store, pytest.raises(CollectionExists, match="float16"):
        store.sink().create(other, ORIGIN)


def test_a_missing_collection_is_named_with_those_that_are_there(base: str) -> None:
    put(base, [])
    with opened(base, "artikel") as store:
        for look in (store.source().count, store.source().describe, store.search().index_state):
            with pytest.raises(CollectionMissing, match="'artikel'") as caught:
                look()
            assert "'c'" in str(caught.value)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_what_json_cannot_carry_is_refused_by_the_record_before_anything_is_written(base: str, number: float) -> None:
    late = VectorField("late", VectorKind.MULTI, DType.FLOAT32, Metric.DOT, 2)
    words = VectorField("words", VectorKind.SPARSE, DType.FLOAT32, Metric.DOT, None)
    spec = CollectionSpec("c", IdKind.UINT64, (DENSE, late, words))
    odd = np.array([1.0, number], np.float32)
    indices = np.array([1, 2], np.uint32)
    for column, value in (("vector", odd), ("multi:late", np.array([odd])), ("sparse:words", (indices, odd))):
        with pytest.raises(DataInvalid, match="'2'"):
            put(base, [row("1"), row("2", **{column: value})], spec)
    with opened(base) as store:
        assert store.source().count() == 0
        twice = (np.array([7, 7], np.uint32), VECTOR)
        with pytest.raises(DataInvalid, match="an index twice"):
            put(base, [row("3", **{"sparse:words": twice})], spec)


def test_a_large_batch_goes_in_several_requests(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from exitramp_adapters.stores.qdrant import rest as qdrant_http

    monkeypatch.setattr(qdrant_http, "_REQUEST_BYTES", 1000)
    rows = [row(str(number), {"text": "x" * 300}) for number in range(20)]
    put(base, rows)
    with opened(base) as store:
        assert store.source().count() == 20


def test_filters_are_answered_as_the_reference_does_or_refused(base: str) -> None:
    values: list[Any] = [True, False, None, 1, 1.0, 7, 7.5, "7", "x", [], [7, "x"], [True], [[7]], {"x": 7}, 2**53]
    payloads = [{"k": value} for value in values] + [{}, {"a.b": 7, "": 7}]
    put(base, [row(str(number), payload) for number, payload in enumerate(payloads)])
    k = ("k",)
    filters: list[Filter] = [Eq(k, True), Eq(k, 1), Eq(k, 7.5), Eq(k, "x"), In(k, ("x", 7, False)), Eq(("a.b",), 7)]
    filters += [Range(k, gte=7), Range(k, gt=0, lt=7.5), Eq(("",), 7), Eq(("k", "x"), 7), Eq(k, 2**60 + 1)]
    filters += [Not(part) for part in filters] + [And((Range(k, gte=1), Not(Eq(k, 7)))), Or((Eq(k, "x"), Eq(k, 1)))]
    with opened(base) as store:
        search = store.search()
        for where in filters:
            wanted = {str(number) for number, payload in enumerate(payloads) if matches(where, payload)}
            hits = search.search(Query(dense=VECTOR), k=100, where=where, settings=SearchSettings(exact=True))
            assert {hit.id for hit in hits.keys} == wanted, f"{where}"
        with pytest.raises(UsageError, match="exists"):
            search.search(Query(dense=VECTOR), k=1, where=Exists(k))


def test_named_sparse_and_multi_vectors_are_written_searched_and_read(base: str) -> None:
    late = VectorField("late", VectorKind.MULTI, DType.FLOAT32, Metric.DOT, 2)
    words = VectorField("words", VectorKind.SPARSE, DType.FLOAT32, Metric.DOT, None)
    spec = CollectionSpec("c", IdKind.UINT64, (DENSE, late, words))
    word = (np.array([2**32 - 1], np.uint32), np.array([1e-45], np.float32))
    rows = [
        row("1", vector=VECTOR, **{"multi:late": np.array([VECTOR, -VECTOR])}),
        Row("2", vectors={"sparse:words": word}),
    ]
    put(base, rows, spec)
    with opened(base) as store:
        search = store.search()
        assert search.search(Query("late", multi=np.array([VECTOR])), k=5).keys == (RecordKey("1"),)
        hits = search.search(Query("words", sparse=(word[0], np.array([1.0], np.float32))), k=5, with_records=True)
        found = rows_from_batch(hits.records, store.source().describe())
        assert found[0].vectors["sparse:words"][1].tobytes() == word[1].tobytes()
        assert search.index_state() is IndexState.READY
        store.sink().finish(TransferAccount())


def test_a_key_is_fetched_by_reference_and_its_lack_is_said(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setenv("SHIM_KEY", "open-sesame-123")
    monkeypatch.setenv("WRONG_KEY", "guess-guess-456")
    service = service_adapter("qdrant-shim").make(str(tmp_path), 0, {"api_key_env": "SHIM_KEY"})
    address = str(service.start())
    try:
        with opened(address) as store:
            assert store.source().identity().collections == ()
        with opened(address.partition("?")[0]) as store, pytest.raises(StoreRejected, match="401") as caught:
            store.source().identity()
        assert "?api_key=env:NAME" in str(caught.value)
        with opened(address.replace("SHIM_KEY", "WRONG_KEY")) as store, pytest.raises(StoreRejected) as caught:
            store.source().count()
        assert "guess" not in str(caught.value)
    finally:
        service.stop()
    assert not [warning for warning in recwarn if "key" in str(warning.message).lower()]


def test_loopback_never_goes_through_a_proxy(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with opened(base, proxy="http://127.0.0.1:9") as store:
        assert store.source().identity().collections == ()
