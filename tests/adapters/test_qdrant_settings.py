"""Settings of a Qdrant collection go with it into another: of fields, of the collection, indexes over payload keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from exitramp.codec import EncodingSink
from exitramp.errors import CollectionMissing, DataInvalid, StoreRejected, StoreUnavailable
from exitramp.filters import Eq
from exitramp.parity.alignment import read_all
from exitramp.ports import DropsCollection, Origin, Query, Service, TransferAccount
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorField, VectorKind
from exitramp.registry import open_store, service_adapter
from exitramp.testing import Row, batch_from_rows, rows_from_batch
from exitramp.urls import Address
from exitramp_adapters.stores.qdrant import client as qdrant_client
from exitramp_adapters.stores.qdrant import settings as qdrant_settings
from tests.adapters.reading_proxy import reading_only

DOT = models.Distance.DOT
SCHEMAS: dict[str, Any] = {
    "lang": models.KeywordIndexParams(type="keyword", is_tenant=True, on_disk=True),
    "rev": models.IntegerIndexParams(type="integer", lookup=True, range=False),
    "at": models.DatetimeIndexParams(type="datetime", is_principal=True),
    "text": models.TextIndexParams(type="text", tokenizer="multilingual", lowercase=True, stopwords="english"),
    "nobody": models.PayloadSchemaType.BOOL,
}
VECTORS = {
    "a": models.VectorParams(
        size=4,
        distance=DOT,
        on_disk=True,
        hnsw_config=models.HnswConfigDiff(m=8, payload_m=4),
        quantization_config=models.ScalarQuantization(
            scalar=models.ScalarQuantizationConfig(type="int8", quantile=0.9, always_ram=True)
        ),
    ),
    "bytes": models.VectorParams(size=4, distance=models.Distance.COSINE, datatype=models.Datatype.UINT8),
    "half": models.VectorParams(size=4, distance=DOT, datatype=models.Datatype.FLOAT16),
    "late": models.VectorParams(
        size=4,
        distance=DOT,
        datatype=models.Datatype.UINT8,
        multivector_config=models.MultiVectorConfig(comparator="max_sim"),
        quantization_config=models.BinaryQuantization(binary=models.BinaryQuantizationConfig(encoding="two_bits")),
    ),
}
WORDS = {
    "w": models.SparseVectorParams(
        index=models.SparseIndexParams(full_scan_threshold=50, on_disk=True, datatype="uint8"), modifier="idf"
    )
}
COLLECTION: dict[str, Any] = {
    "hnsw_config": models.HnswConfigDiff(m=24, ef_construct=77),
    "optimizers_config": models.OptimizersConfigDiff(indexing_threshold=5000, max_segment_size=90_000),
    "quantization_config": models.ProductQuantization(product=models.ProductQuantizationConfig(compression="x8")),
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = service_adapter("qdrant-shim").make(str(tmp_path_factory.mktemp("shim")), 0, {})
    made.start()
    yield made
    made.stop()


@pytest.fixture
def base(service: Any) -> str:
    with_client = QdrantClient(url=f"http://127.0.0.1:{service.address.port}", check_compatibility=False)
    for each in with_client.get_collections().collections:
        with_client.delete_collection(each.name)
    with_client.close()
    return str(service.address)


@pytest.fixture
def client(base: str) -> Iterator[QdrantClient]:
    made = QdrantClient(url=base.removeprefix("qdrant+"), check_compatibility=False, timeout=30)
    yield made
    made.close()


def seed(client: QdrantClient) -> None:
    client.create_collection("one", vectors_config=VECTORS, sparse_vectors_config=WORDS, **COLLECTION)
    for key, schema in SCHEMAS.items():
        client.create_payload_index("one", key, field_schema=schema, wait=True)
    points = [
        models.PointStruct(
            id=number,
            vector={
                "a": [0.1, -number, 3, 4],
                "bytes": [number, 255, 0, 1],
                "half": [0.5, number, 0, 1],
                "late": [[number, 1, 2, 3], [0, 0, 0, 255]],
                "w": models.SparseVector(indices=[3, number + 4], values=[0.1, 2.7]),
            },
            payload={"lang": "de", "rev": number, "at": "2020-01-01T00:00:00Z", "text": "How to leave", "x": number},
        )
        for number in range(20)
    ]
    client.upsert("one", points, wait=True)


def copied(source: str, target: str) -> tuple[list[Row], list[Row]]:
    """What stands in both after a copy by the roles alone."""
    one, other = open_store(Address.parse(source)), open_store(Address.parse(target))
    try:
        reader, sink = one.source(), EncodingSink(other.sink())
        spec = reader.describe()
        sink.create(spec, Origin(spec, "0"))
        for batch in read_all(reader, batch_rows=7):
            sink.upsert(batch)
        sink.flush()
        sink.finish(TransferAccount())
        there = other.source()
        return (
            [row for batch in read_all(reader, batch_rows=50) for row in rows_from_batch(batch, spec)],
            [row for batch in read_all(there, batch_rows=50) for row in rows_from_batch(batch, there.describe())],
        )
    finally:
        one.close()
        other.close()


def told(address: str) -> Mapping[str, Any]:
    store = open_store(Address.parse(address))
    try:
        found: Mapping[str, Any] = store.source().describe().index["qdrant"]
        return found
    finally:
        store.close()


def same(one: list[Row], other: list[Row]) -> bool:
    return all(
        left.id == right.id
        and left.payload == right.payload
        and all(
            np.array_equal(np.asarray(left.vectors[name]), np.asarray(right.vectors[name])) for name in left.vectors
        )
        for left, right in zip(one, other, strict=True)
    )


def test_every_setting_goes_over_the_wire_and_into_the_engine_and_back(
    base: str, client: QdrantClient, tmp_path: Path
) -> None:
    seed(client)
    for source, target in (("one", "two"), ("two", "edge"), ("edge", "three")):
        addresses = [f"qdrant:{tmp_path}/db#c" if name == "edge" else f"{base}#{name}" for name in (source, target)]
        before, after = copied(*addresses)
        assert len(after) == 20
        assert same(before, after)
    first, last = client.get_collection("one"), client.get_collection("three")
    for found in (client.get_collection("two"), last):
        assert found.config.params.sparse_vectors == WORDS
        assert found.config.hnsw_config == first.config.hnsw_config
        assert found.config.optimizer_config == first.config.optimizer_config
        assert found.config.quantization_config == first.config.quantization_config
        assert found.payload_schema == first.payload_schema
        assert found.payload_schema["rev"].points == 20
    assert client.get_collection("two").config.params.vectors == VECTORS
    # The engine's own file says of each graph all of its numbers.
    full = VECTORS["a"].model_copy(deep=True)
    full.hnsw_config = models.HnswConfigDiff(
        m=8, ef_construct=77, full_scan_threshold=10_000, max_indexing_threads=0, payload_m=4
    )
    assert last.config.params.vectors == VECTORS | {"a": full}
    edge = told(f"qdrant:{tmp_path}/db#c")
    assert edge["vectors"]["bytes"]["datatype"] == "uint8"
    assert edge["payload_schema"]["lang"]["params"]["is_tenant"] is True
    store = open_store(f"{base}#three")
    assert not [each for each in store.source().identity().findings if each.code == "source.settings_left"]
    store.close()


@pytest.mark.parametrize("kind", ["http", "edge"])
def test_a_payload_index_that_would_find_nothing_is_left_out_and_told_of(
    base: str, client: QdrantClient, tmp_path: Path, kind: str
) -> None:
    seed(client)
    address = f"{base}#two" if kind == "http" else f"qdrant:{tmp_path}/db#two"
    one = open_store(f"{base}#one")
    spec = one.source().describe()
    rows = [row for batch in read_all(one.source(), batch_rows=50) for row in rows_from_batch(batch, spec)]
    one.close()
    moved = [Row(row.id, payload={"metadata": row.payload, "lang": "de"}, vectors=row.vectors) for row in rows]
    store = open_store(address)
    sink = store.sink()
    sink.create(spec, Origin(spec, "0"))
    sink.upsert(batch_from_rows(moved, spec))
    sink.flush()
    sink.finish(TransferAccount())
    assert set(store.source().describe().index["qdrant"]["payload_schema"]) == {"lang", "nobody"}
    [left] = [each for each in store.source().identity().findings if each.code == "source.settings_left"]
    assert set(left.detail["settings"]) >= {"payload_schema.rev.data_type", "payload_schema.text.params.tokenizer"}
    assert not any(name.startswith("payload_schema.lang") for name in left.detail["settings"])
    store.close()


def test_an_applications_own_collection_gets_no_index(base: str, client: QdrantClient) -> None:
    seed(client)
    client.create_collection("two", vectors_config=VECTORS, sparse_vectors_config=WORDS)
    _, after = copied(f"{base}#one", f"{base}#two")
    assert len(after) == 20
    assert client.get_collection("two").payload_schema == {}


def test_a_load_that_was_cut_short_makes_the_indexes_that_are_missing(base: str, client: QdrantClient) -> None:
    seed(client)
    copied(f"{base}#one", f"{base}#two")
    client.delete_payload_index("two", "rev", wait=True)
    copied(f"{base}#one", f"{base}#two")
    assert "rev" in client.get_collection("two").payload_schema


@pytest.mark.parametrize("kind", ["http", "edge"])
@pytest.mark.parametrize("number", [0.5, -1.0, 256.0, -0.0])
def test_a_field_of_uint8_takes_whole_numbers_and_refuses_by_record_what_would_be_cut_off(
    base: str, client: QdrantClient, tmp_path: Path, kind: str, number: float
) -> None:
    client.create_collection(
        "one", vectors_config=models.VectorParams(size=2, distance=DOT, datatype=models.Datatype.UINT8)
    )
    address = f"{base}#two" if kind == "http" else f"qdrant:{tmp_path}/db#two"
    copied(f"{base}#one", address)
    store = open_store(address)
    spec = store.source().describe()
    assert spec.vectors[0].dtype is DType.FLOAT32
    good = Row("1", vectors={"vector": np.array([255.0, 0.0], np.float32)})
    bad = Row("2", vectors={"vector": np.array([1.0, number], np.float32)})
    with pytest.raises(DataInvalid, match=r"'2'.*uint8"):
        store.sink().upsert(batch_from_rows([good, bad], spec))
    assert store.source().count() == 0
    store.sink().upsert(batch_from_rows([good], spec))
    [found] = store.source().identity().findings
    assert (found.code, found.detail["datatype"]) == ("source.stored_as", "uint8")
    store.close()


def test_float32_takes_what_came_from_uint8_where_the_collection_is_there_already(
    base: str, client: QdrantClient
) -> None:
    seed(client)
    plain = {name: params.model_copy(update={"datatype": None}) for name, params in VECTORS.items() if name != "half"}
    client.create_collection("two", vectors_config=plain | {"half": VECTORS["half"]}, sparse_vectors_config=WORDS)
    before, after = copied(f"{base}#one", f"{base}#two")
    assert [row.payload for row in before] == [row.payload for row in after]
    assert np.array_equal(after[3].vectors["multi:late"], before[3].vectors["multi:late"])


def test_what_a_lossy_code_holds_is_said_and_is_not_coded_once_more(base: str, client: QdrantClient) -> None:
    client.create_collection(
        "one", vectors_config=models.VectorParams(size=4, distance=DOT, datatype=models.Datatype.TURBO8)
    )
    client.upsert("one", [models.PointStruct(id=1, vector=[0.1, 0.2, 0.3, -4])], wait=True)
    before, after = copied(f"{base}#one", f"{base}#two")
    assert same(before, after)
    params: Any = client.get_collection("two").config.params.vectors
    assert params.datatype is None
    store, other = open_store(f"{base}#one"), open_store(f"{base}#two")
    [found] = store.source().identity().findings
    assert "turbo8" in found.message
    [left] = other.source().identity().findings
    assert "vectors.(unnamed).datatype" in left.message
    store.close()
    other.close()


def test_a_graphs_settings_are_taken_over_from_another_kind_of_store(base: str, client: QdrantClient) -> None:
    field = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 2)
    index = {"chroma": {"hnsw": {"max_neighbors": 9, "ef_construction": 55, "ef_search": 33}}}
    spec = CollectionSpec("two", IdKind.UINT64, (field,), index=index)
    store = open_store(f"{base}#two")
    assert store.sink().limits().index_settings == {"m", "ef_construction"}
    store.sink().create(spec, Origin(spec, "0"))
    store.close()
    hnsw = client.get_collection("two").config.hnsw_config
    assert (hnsw.m, hnsw.ef_construct) == (9, 55)


SERVER = {
    "params": {
        "vectors": {"size": 2, "distance": "Dot"},
        "shard_number": 6,
        "sharding_method": "custom",
        "replication_factor": 2,
        "write_consistency_factor": 1,
        "on_disk_payload": True,
    },
    "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000, "max_indexing_threads": 0},
    "optimizer_config": {"default_segment_number": 0, "flush_interval_sec": 5, "max_optimization_threads": 3},
    "wal_config": {"wal_capacity_mb": 64, "wal_segments_ahead": 0},
    "strict_mode_config": {"enabled": True, "max_query_limit": 50},
    "payload_schema": {},
}


def test_what_belongs_to_a_server_is_left_and_named(base: str, client: QdrantClient) -> None:
    field = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 2)
    spec = CollectionSpec("two", IdKind.UINT64, (field,), index={"qdrant": SERVER})
    [divided] = qdrant_settings.findings(spec, None)
    assert divided.code == "source.shard_keys"
    store = open_store(f"{base}#two")
    sink = store.sink()
    sink.create(spec, Origin(spec, "0"))
    sink.finish(TransferAccount())  # strict mode is not the shim's
    [left] = store.source().identity().findings
    store.close()
    assert left.detail["settings"] == {
        "optimizers_config.max_optimization_threads": 3,
        "replication_factor": 2,
        "shard_number": 6,
        "sharding_method": "custom",
        "strict_mode_config.enabled": True,
        "strict_mode_config.max_query_limit": 50,
        "wal_config.wal_capacity_mb": 64,
    }


@pytest.mark.parametrize(
    ("key", "may"),
    [
        ("a-plain-key", None),
        ("x.eyJhY2Nlc3MiOiJyIn0.y", False),  # {"access":"r"}
        ("x.eyJhY2Nlc3MiOiJtIn0.y", None),  # {"access":"m"}
        ("x.eyJhY2Nlc3MiOlt7ImNvbGxlY3Rpb24iOiJjIiwiYWNjZXNzIjoiciJ9XX0.y", False),
        ("x.e30.y", None),
        ("x.%%%.y", None),
    ],
)
def test_a_token_that_may_only_read_says_so_and_a_plain_key_says_nothing(
    monkeypatch: pytest.MonkeyPatch, key: str, may: bool | None
) -> None:
    monkeypatch.setenv("KEY", key)
    address = Address.parse("qdrant+http://127.0.0.1:1?api_key=env:KEY#c")
    assert qdrant_client.can_write(address) is may


def test_an_embedded_collection_is_dropped_unless_somebody_else_has_it(tmp_path: Path, client: QdrantClient) -> None:
    field = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 2)
    spec = CollectionSpec("c", IdKind.UINT64, (field,))
    stores = [open_store(f"qdrant:{tmp_path}/db#c") for _ in range(2)]
    one, other = stores
    assert isinstance(one, DropsCollection)
    with pytest.raises(CollectionMissing):
        one.drop()
    one.sink().create(spec, Origin(spec, "0"))
    assert other.source().count() == 0
    with pytest.raises(StoreUnavailable, match="elsewhere in this process"):
        one.drop()
    other.close()
    one.drop()
    assert one.source().identity().collections == ()
    one.sink().create(spec, Origin(spec, "0"))
    assert one.source().count() == 0
    one.close()


def reads(method: str, path: str) -> bool:
    return method == "GET" or (method == "POST" and path.endswith(("/points", "/scroll", "/count", "/query")))


def test_a_server_that_refuses_every_write_is_read_completely(service: Any, base: str, client: QdrantClient) -> None:
    seed(client)
    refusal = b'{"status":{"error":"Forbidden: Write access is required"},"time":0.0}'
    with reading_only(service.address.port, reads, refusal) as (port, refused):
        store: Any = open_store(f"qdrant+http://127.0.0.1:{port}#one")
        source, search = store.source(), store.search()
        identity = source.identity()
        assert (identity.collections, identity.can_write) == (("one",), None)
        source.describe(), source.origin(), source.partitions(3)
        assert sum(batch.num_rows for batch in read_all(source, batch_rows=7)) == source.count() == 20
        assert source.fetch([RecordKey("1")]).num_rows == 1
        search.index_state(), search.coverage(), search.search_options()
        assert len(search.search(Query("a", dense=np.ones(4, np.float32)), k=5, where=Eq(("lang",), "de")).keys) == 5
        assert refused == []
        for write in (lambda: store.sink().delete([RecordKey("1")]), store.drop):
            with pytest.raises(StoreRejected, match="403"):
                write()
        assert refused
        store.close()
    assert client.count("one").count == 20
