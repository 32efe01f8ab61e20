"""The Qdrant shim as the real client sees it: what it serves, what it refuses by name, and what survives a kill."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.common.version_check import is_compatible
from qdrant_client.http.exceptions import UnexpectedResponse

from exitramp.errors import UsageError
from exitramp.faults import Fault
from exitramp.ports import Service
from exitramp.registry import service_adapter

SIZE = 4
ROWS = [
    models.PointStruct(
        id=number, vector=[float(number), 1.0, 0.0, -0.0], payload={"n": number, "even": number % 2 == 0}
    )
    for number in range(1, 8)
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = service_adapter("qdrant-shim").make(str(tmp_path_factory.mktemp("shim")), 0, {})
    made.start()
    yield made
    made.stop()


def base_of(service: Any) -> str:
    return f"http://{service.address.host}:{service.address.port}"


@pytest.fixture
def client(service: Service) -> Iterator[QdrantClient]:
    service.inject(Fault("none"))
    made = QdrantClient(url=base_of(service), check_compatibility=False, timeout=30)
    for each in made.get_collections().collections:
        made.delete_collection(each.name)
    made.create_collection("c", vectors_config=models.VectorParams(size=SIZE, distance=models.Distance.DOT))
    yield made
    made.close()


@pytest.fixture
def http(service: Service, client: QdrantClient) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=base_of(service), timeout=30) as made:
        yield made


def refused(response: httpx.Response, status: int) -> str:
    """The server's word, after its status was looked at."""
    assert response.status_code == status, response.text
    said: str = response.json()["status"]["error"]
    return said


def test_it_says_what_it_is_wherever_it_can(http: httpx.Client, client: QdrantClient) -> None:
    root = http.get("/").json()
    assert root["title"] == "exitramp qdrant shim (engine real, wire emulated)"
    assert http.get("/collections").headers["x-exitramp-evidence"] == "engine real, wire emulated"
    assert http.get("/telemetry").json()["result"]["app"]["name"] == root["title"]
    assert "shim" in service_adapter("qdrant-shim").name
    assert "engine real, wire emulated" in service_adapter("qdrant-shim").summary


def test_the_client_finds_its_version_compatible(http: httpx.Client) -> None:
    from importlib.metadata import version

    assert is_compatible(version("qdrant-client"), http.get("/").json()["version"])


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/livez"])
def test_health_is_answered(http: httpx.Client, path: str) -> None:
    assert http.get(path).status_code == 200


def test_collections_are_made_listed_described_and_deleted(client: QdrantClient) -> None:
    vectors = {
        "body": models.VectorParams(size=3, distance=models.Distance.COSINE, datatype=models.Datatype.FLOAT16),
        "late": models.VectorParams(
            size=2,
            distance=models.Distance.DOT,
            multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
        ),
    }
    client.create_collection(
        "größe und %20 #x",
        vectors_config=vectors,
        sparse_vectors_config={"words": models.SparseVectorParams(modifier=models.Modifier.IDF)},
        hnsw_config=models.HnswConfigDiff(m=8),
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=20000),
        metadata={"a": None, "b": {"c": 1}},
    )
    assert [each.name for each in client.get_collections().collections] == ["c", "größe und %20 #x"]
    info = client.get_collection("größe und %20 #x")
    assert info.config.params.vectors == vectors
    assert info.config.params.sparse_vectors == {"words": models.SparseVectorParams(modifier=models.Modifier.IDF)}
    assert (info.config.hnsw_config.m, info.config.hnsw_config.ef_construct) == (8, 100)
    assert info.config.optimizer_config.indexing_threshold == 20000
    assert info.config.metadata == {"b": {"c": 1}}
    assert info.status is models.CollectionStatus.GREEN
    assert client.collection_exists("c")
    assert client.get_aliases().aliases == client.get_collection_aliases("c").aliases == []
    client.update_collection("c", metadata={"x": 1, "y": 2})
    client.update_collection("c", metadata={"x": None})
    assert client.get_collection("c").config.metadata == {"y": 2}
    assert client.delete_collection("c")
    assert not client.delete_collection("c")
    assert not client.collection_exists("c")


def test_points_are_written_as_a_list_and_as_a_batch_and_replaced_whole(client: QdrantClient) -> None:
    done = client.upsert("c", ROWS, wait=True)
    assert done.status is models.UpdateStatus.COMPLETED
    batch = models.Batch(ids=[1, 8], vectors=[[0.0] * SIZE, [1.0] * SIZE], payloads=[{"other": 1}, {}])
    client.upsert("c", batch, wait=True)
    [first] = client.retrieve("c", [1], with_vectors=True)
    assert (first.payload, first.vector) == ({"other": 1}, [0.0] * SIZE)
    assert client.count("c", exact=True).count == 8


def test_points_are_read_by_id_and_by_scrolling(client: QdrantClient, http: httpx.Client) -> None:
    client.upsert("c", ROWS, wait=True)
    some, following = client.scroll("c", limit=3, with_vectors=False)
    assert ([each.id for each in some], following) == ([1, 2, 3], 4)
    assert some[0].vector is None
    rest, following = client.scroll("c", limit=100, offset=following, with_payload=["even"], with_vectors=True)
    assert ([each.id for each in rest], following) == ([4, 5, 6, 7], None)
    assert rest[0].payload == {"even": True}
    assert np.signbit(np.array(rest[0].vector)[3])
    assert client.retrieve("c", [99]) == []
    assert http.get("/collections/c/points/3").json()["result"]["payload"]["n"] == 3
    assert "99" in refused(http.get("/collections/c/points/99"), 404)


def test_points_are_counted_deleted_and_edited_by_filter_and_id(client: QdrantClient) -> None:
    client.upsert("c", ROWS, wait=True)
    even = models.Filter(must=[models.FieldCondition(key="even", match=models.MatchValue(value=True))])
    assert client.count("c", even).count == 3
    client.set_payload("c", {"even": True}, [1])
    assert client.count("c", even).count == 4
    client.delete("c", models.FilterSelector(filter=even))
    client.delete("c", [3])
    assert [each.id for each in client.scroll("c")[0]] == [5, 7]


def test_nearest_points_are_found_with_filter_offset_and_threshold(client: QdrantClient) -> None:
    client.upsert("c", ROWS, wait=True)
    query = [1.0, 0.0, 0.0, 0.0]
    hits = client.query_points("c", query=query, limit=3).points
    assert [(hit.id, hit.score) for hit in hits] == [(7, 7.0), (6, 6.0), (5, 5.0)]
    odd = models.Filter(must_not=[models.FieldCondition(key="even", match=models.MatchValue(value=True))])
    params = models.SearchParams(exact=True, hnsw_ef=32)
    hits = client.query_points("c", query, query_filter=odd, offset=1, score_threshold=2.5, search_params=params).points
    assert [hit.id for hit in hits] == [5, 3]


VECTORS = {"size": 4, "distance": "Dot"}
FILTER = {"must": [{"key": "n", "match": {"value": 1}}]}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/collections/c/points/search", {"vector": [1, 2, 3, 4], "limit": 1}),
        ("POST", "/collections/c/points/recommend", {}),
        ("POST", "/collections/c/points/query/batch", {"searches": []}),
        ("PUT", "/collections/c/points/vectors", {"points": []}),
        ("POST", "/collections/c/snapshots", {}),
        ("GET", "/cluster", None),
        ("DELETE", "/", None),
        ("GET", "/no/such/route", None),
    ],
)
def test_an_unknown_route_names_itself(http: httpx.Client, method: str, path: str, body: Any) -> None:
    said = refused(http.request(method, path, json=body), 501)
    assert f"{method} {path} is not emulated" in said


@pytest.mark.parametrize(
    ("method", "path", "body", "key"),
    [
        ("PUT", "/collections/d", {"vectors": {"size": 4, "distance": "Dot"}, "sise": 1}, "sise"),
        ("PUT", "/collections/d", {"vectors": {"size": 4, "distance": "Dot", "metric": 1}}, "metric"),
        ("PUT", "/collections/d", {"vectors": {"a": {"size": 4, "distance": "Dot", "on_dsk": True}}}, "on_dsk"),
        ("PUT", "/collections/d", {"vectors": {"size": 4, "distance": "Jaccard"}}, "Jaccard"),
        ("PUT", "/collections/d", {"vectors": {"size": 4}}, "distance"),
        ("PUT", "/collections/d", {"vectors": {"size": 4, "distance": "Dot"}, "hnsw_config": {"ef": 3}}, "ef"),
        ("PUT", "/collections/d", {"vectors": VECTORS, "quantization_config": {"rotary": {}}}, "rotary"),
        ("PUT", "/collections/d", {"vectors": VECTORS | {"quantization_config": {"product": {}}}}, "compression"),
        ("PUT", "/collections/d", {"vectors": VECTORS | {"datatype": "float8"}}, "float8"),
        ("PUT", "/collections/c/index", {"field_name": "n", "field_schema": "decimal"}, "decimal"),
        ("PUT", "/collections/c/index", {"field_name": "n", "field_schema": {"type": "bool", "range": 1}}, "range"),
        ("PUT", "/collections/c/points", {"points": [], "upsert": True}, "upsert"),
        ("PUT", "/collections/c/points", {"points": [{"id": 1, "vector": [1, 2, 3, 4], "meta": {}}]}, "meta"),
        ("PUT", "/collections/c/points", {"points": [{"id": 1}]}, "vector"),
        ("POST", "/collections/c/points/scroll", {"page": 3}, "page"),
        ("POST", "/collections/c/points/scroll", {"filter": {"all": []}}, "all"),
        ("POST", "/collections/c/points/scroll", {"filter": {"must": [{"key": "n", "matches": 1}]}}, "matches"),
        ("POST", "/collections/c/points/scroll", {"filter": {"must": [{"key": "n", "match": {"text": "a"}}]}}, "text"),
        ("POST", "/collections/c/points/count", {"where": FILTER}, "where"),
        ("POST", "/collections/c/points/query", {"query": [1, 2, 3, 4], "params": {"ef": 3}}, "ef"),
        ("POST", "/collections/c/points", {"ids": [1], "vectors": True}, "vectors"),
        ("POST", "/collections/c/points/delete", {"ids": [1]}, "ids"),
    ],
)
def test_an_unknown_key_is_refused_by_name(http: httpx.Client, method: str, path: str, body: Any, key: str) -> None:
    assert key in refused(http.request(method, path, json=body), 400)


@pytest.mark.parametrize(
    ("method", "path", "body", "what"),
    [
        ("PUT", "/collections/d", {"vectors": {"size": 4, "distance": "Dot"}, "shard_number": 2}, "shard_number"),
        (
            "PUT",
            "/collections/d",
            {"vectors": {"size": 4, "distance": "Dot"}, "strict_mode_config": {"enabled": True}},
            "strict_mode_config",
        ),
        ("PUT", "/collections/d", {}, "without vectors"),
        (
            "PUT",
            "/collections/d",
            {"vectors": {"size": 4, "distance": "Dot"}, "optimizers_config": {"memmap_threshold": 1}},
            "memmap_threshold",
        ),
        ("PUT", "/collections/c/index", {"field_name": "n"}, "field_schema"),
        ("PATCH", "/collections/c", {"metadata": {}, "hnsw_config": {"m": 3}}, "hnsw_config"),
        ("POST", "/collections/c/points/scroll", {"order_by": "n"}, "order_by"),
        ("POST", "/collections/c/points/query", {"query": {"nearest": 3}}, "by a vector"),
        ("POST", "/collections/c/points/query", {"query": {"fusion": "rrf"}}, "by a vector"),
        ("POST", "/collections/c/points/query", {"query": [1, 2, 3, 4], "prefetch": []}, "prefetch"),
        ("PUT", "/collections/c/points", {"points": [], "shard_key": "a"}, "shard_key"),
    ],
)
def test_a_part_of_the_contract_that_is_not_here_is_named(
    http: httpx.Client, method: str, path: str, body: Any, what: str
) -> None:
    assert what in refused(http.request(method, path, json=body), 501)


GOOD = {"id": 1, "vector": [1.0, 2.0, 3.0, 4.0]}


@pytest.mark.parametrize(
    ("status", "bad"),
    [
        (400, {"id": 2, "vector": [1.0, 2.0, 3.0]}),
        (400, {"id": 2, "vector": [1.0, 2.0, 3.0, None]}),
        (400, {"id": 2, "vector": [1.0, 2.0, 3.0, "4"]}),
        (400, {"id": 2, "vector": {"title": [1.0, 2.0, 3.0, 4.0]}}),
        (400, {"id": -2, "vector": [1.0, 2.0, 3.0, 4.0]}),
        (400, {"id": 2**64, "vector": [1.0, 2.0, 3.0, 4.0]}),
        (400, {"id": "42", "vector": [1.0, 2.0, 3.0, 4.0]}),
        (400, {"id": True, "vector": [1.0, 2.0, 3.0, 4.0]}),
        (400, {"id": 2, "vector": [1.0, 2.0, 3.0, 4.0], "payload": [1]}),
        (400, {"id": 2, "vector": [[1.0, 2.0, 3.0, 4.0]]}),
    ],
)
def test_one_bad_point_keeps_the_whole_request_out(http: httpx.Client, status: int, bad: Any) -> None:
    refused(http.put("/collections/c/points", json={"points": [GOOD, bad]}), status)
    assert http.post("/collections/c/points/count", json={}).json()["result"]["count"] == 0


def test_a_body_that_is_no_json_and_a_nan_are_refused(http: httpx.Client) -> None:
    refused(http.put("/collections/c/points", content=b'{"points":'), 400)
    body = json.dumps({"points": [{"id": 1, "vector": [1.0, 2.0, 3.0, float("nan")]}]})
    refused(http.put("/collections/c/points", content=body), 400)


def test_missing_doubled_and_badly_named_collections_are_refused(client: QdrantClient, http: httpx.Client) -> None:
    with pytest.raises(UnexpectedResponse) as caught:
        client.count("nowhere")
    assert caught.value.status_code == 404
    assert "nowhere" in str(caught.value)
    vectors = {"vectors": {"size": 4, "distance": "Dot"}}
    assert "already exists" in refused(http.put("/collections/c", json=vectors), 409)
    for name in ("a%2Fb", "a%3Ab", "n" * 256, "%00"):
        refused(http.put(f"/collections/{name}", json=vectors), 400)
    refused(http.put("/collections/d", json={"vectors": {"..%2F/x": {"size": 4, "distance": "Dot"}}}), 400)
    refused(http.put("/collections/d", json={"vectors": {"size": 65537, "distance": "Dot"}}), 422)
    assert "`pretty`" in refused(http.get("/collections?pretty=1"), 400)
    assert [each.name for each in client.get_collections().collections] == ["c"]


def test_an_acknowledged_write_survives_a_kill_and_a_deletion_too(service: Service, client: QdrantClient) -> None:
    client.create_collection("gone", vectors_config=models.VectorParams(size=1, distance=models.Distance.DOT))
    client.create_collection("kept", vectors_config=models.VectorParams(size=1, distance=models.Distance.DOT))
    client.update_collection("kept", metadata={"a": 1})
    for start in range(0, 300, 100):
        points = [models.PointStruct(id=n, vector=[0.5] * SIZE, payload={"n": n}) for n in range(start, start + 100)]
        client.upsert("c", points, wait=True)
    client.delete("c", [7])
    client.set_payload("c", {"n": -8}, [8])
    client.delete_collection("gone")
    service.inject(Fault("sigkill"))
    service.inject(Fault("restart"))
    assert client.count("c").count == 299
    assert client.retrieve("c", [7, 8]) == [models.Record(id=8, payload={"n": -8})]
    assert [each.name for each in client.get_collections().collections] == ["c", "kept"]
    assert client.get_collection("kept").config.metadata == {"a": 1}


def test_the_index_is_built_when_nobody_writes_and_the_status_says_so(client: QdrantClient) -> None:
    size = 2048
    matrix = np.random.default_rng(0).standard_normal((1500, size)).astype(np.float32)
    client.create_collection("big", vectors_config=models.VectorParams(size=size, distance=models.Distance.DOT))
    for start in range(0, 1500, 250):
        points = [models.PointStruct(id=n, vector=matrix[n].tolist()) for n in range(start, start + 250)]
        client.upsert("big", points, wait=True)
    seen = {client.get_collection("big").status}
    deadline = time.monotonic() + 30
    while client.get_collection("big").status is not models.CollectionStatus.GREEN and time.monotonic() < deadline:
        time.sleep(0.02)
    info = client.get_collection("big")
    assert models.CollectionStatus.YELLOW in seen
    assert info.status is models.CollectionStatus.GREEN
    assert info.indexed_vectors_count == 1500
    assert client.query_points("big", matrix[11].tolist(), limit=1).points[0].id == 11


def test_its_account_goes_on_after_a_kill_and_can_be_read_while_it_is_stopped(tmp_path: Path) -> None:
    service = service_adapter("qdrant-shim").make(str(tmp_path), 0, {})
    assert service.counters()["requests"] == 0
    service.start()
    try:
        client = QdrantClient(url=base_of(service), check_compatibility=False, timeout=5)
        client.create_collection("c", vectors_config=models.VectorParams(size=SIZE, distance=models.Distance.DOT))
        client.upsert("c", ROWS, wait=True)
        client.scroll("c", limit=5)
        client.query_points("c", [1.0] * SIZE)
        with pytest.raises(UnexpectedResponse):
            client.count("nowhere")
        service.inject(Fault("sigkill"))
        service.inject(Fault("restart"))
        client.delete("c", [1, 2])
        shown = httpx.get(f"{base_of(service)}/_exitramp/counters").json()
        service.inject(Fault("sigstop"))
        counted = service.counters()
        service.inject(Fault("none"))
        assert (
            dict(counted)
            == shown
            == {
                "requests": 6,
                "answered": 5,
                "rejected": 1,
                "failed": 0,
                "points_written": 7,
                "points_deleted": 2,
                "points_read": 5,
                "queries": 1,
            }
        )
        client.close()
    finally:
        service.stop()
        service.stop()


def test_an_unknown_option_of_the_service_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'port'"):
        service_adapter("qdrant-shim").make(str(tmp_path), 0, {"port": 6333})


SCHEMAS: dict[str, Any] = {
    "tenant": models.KeywordIndexParams(type="keyword", is_tenant=True, on_disk=True, prefix=True),
    "n": models.IntegerIndexParams(type="integer", lookup=True, range=False),
    "score": models.PayloadSchemaType.FLOAT,
    "even": models.PayloadSchemaType.BOOL,
    "place": models.GeoIndexParams(type="geo", on_disk=True),
    "at": models.DatetimeIndexParams(type="datetime", is_principal=True),
    "key": models.UuidIndexParams(type="uuid", is_tenant=True),
    "text.en": models.TextIndexParams(
        type="text",
        tokenizer=models.TokenizerType.MULTILINGUAL,
        min_token_len=2,
        max_token_len=20,
        lowercase=True,
        ascii_folding=True,
        phrase_matching=True,
        stopwords=models.StopwordsSet(languages=[models.Language.ENGLISH], custom=["shim"]),
        stemmer=models.SnowballParams(type="snowball", language=models.SnowballLanguage.ENGLISH),
    ),
}


def test_payload_indexes_are_made_described_and_dropped_and_survive_a_kill(
    service: Service, client: QdrantClient
) -> None:
    client.upsert("c", ROWS, wait=True)
    for key, schema in SCHEMAS.items():
        client.create_payload_index("c", key, field_schema=schema, wait=True)
    client.delete_payload_index("c", "score", wait=True)
    service.inject(Fault("sigkill"))
    service.inject(Fault("restart"))
    found = client.get_collection("c").payload_schema
    assert set(found) == set(SCHEMAS) - {"score"}
    for key, schema in SCHEMAS.items():
        if key in found:
            assert schema in (found[key].params, found[key].data_type)
    assert found["n"].points == len(ROWS)
    assert found["place"].points == 0


def test_settings_of_fields_and_of_the_collection_are_the_engines_and_are_described(client: QdrantClient) -> None:
    scalar = models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type="int8", quantile=0.99))
    binary = models.BinaryQuantization(
        binary=models.BinaryQuantizationConfig(
            always_ram=True,
            encoding=models.BinaryQuantizationEncoding.TWO_BITS,
            query_encoding=models.BinaryQuantizationQueryEncoding.SCALAR4BITS,
        )
    )
    product = models.ProductQuantization(product=models.ProductQuantizationConfig(compression="x16", always_ram=False))
    turbo = models.TurboQuantization(turbo=models.TurboQuantQuantizationConfig(bits="bits1_5"))
    dot = models.Distance.DOT
    graph = models.HnswConfigDiff(m=8, payload_m=4, on_disk=True, inline_storage=True)
    vectors = {
        "a": models.VectorParams(size=4, distance=dot, quantization_config=binary, hnsw_config=graph, on_disk=True),
        "b": models.VectorParams(size=4, distance=dot, quantization_config=product, datatype=models.Datatype.UINT8),
        "c": models.VectorParams(size=4, distance=dot, quantization_config=turbo, memory=models.Memory.CACHED),
    }
    index = models.SparseIndexParams(full_scan_threshold=100, on_disk=True, datatype=models.Datatype.FLOAT16)
    words = {"w": models.SparseVectorParams(index=index, modifier=models.Modifier.IDF)}
    client.create_collection(
        "d", vectors_config=vectors, sparse_vectors_config=words, quantization_config=scalar, on_disk_payload=False
    )
    config = client.get_collection("d").config
    assert config.params.vectors == vectors
    assert config.params.sparse_vectors == words
    assert config.quantization_config == scalar
    assert config.params.on_disk_payload is False
