"""Collections of Milvus as an application makes and reads them: with `MilvusClient` alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.grpc_gen import milvus_pb2

from exitramp import canonical
from exitramp.faults import Fault
from exitramp.ports import Service
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField
from exitramp.testing import Feature, Row, StoreHarness

METRICS = {Metric.COSINE: "COSINE", Metric.DOT: "IP", Metric.EUCLIDEAN: "L2", Metric.HAMMING: "HAMMING"}
KINDS = {DType.FLOAT32: DataType.FLOAT_VECTOR, DType.BINARY: DataType.BINARY_VECTOR}
REST = "exitramp_rest"
OURS = ("id", "vector", REST)


class MilvusHarness(StoreHarness):
    def __init__(self, uri: str, token: str = "", database: str = "") -> None:
        self.uri = uri
        self.token = token
        self.database = database

    @contextmanager
    def client(self) -> Iterator[Any]:
        client: Any = MilvusClient(uri=self.uri, token=self.token, db_name=self.database, timeout=30)
        try:
            yield client
        finally:
            client.close()

    def raw_seed(self, collection: str, spec: CollectionSpec, rows: Sequence[Row]) -> None:
        with self.client() as client:
            schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=True)
            if spec.id_kind is IdKind.INT64:
                schema.add_field("id", DataType.INT64, is_primary=True)
            else:
                schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=1024)
            params = client.prepare_index_params()
            for field in spec.vectors:
                name = field.name or "vector"
                schema.add_field(name, KINDS[field.dtype], dim=field.dimensions)
                kind = "BIN_FLAT" if field.dtype is DType.BINARY else "HNSW"
                settings = {} if kind == "BIN_FLAT" else {"M": 8, "efConstruction": 64}
                params.add_index(name, index_type=kind, metric_type=METRICS[field.metric], params=settings)
            client.create_collection(collection, schema=schema)
            make_indexes(client, collection, params, self.database)
            load(client, collection)
            if rows:
                client.insert(collection, [raw_record(row, spec) for row in rows])

    def raw_read(self, collection: str) -> list[Row]:
        with self.client() as client:
            described = client.describe_collection(collection)
            found = raw_records(client, collection)
        return [raw_row(record, described["fields"]) for record in found]

    def raw_edit(self, collection: str, id_: str, key: str, value: Any) -> None:
        with self.client() as client:
            kinds = {each["name"]: each["type"] for each in client.describe_collection(collection)["fields"]}
            text = id_ if kinds["id"] == DataType.INT64 else json.dumps(id_)
            [record] = client.query(collection, filter=f"id in [{text}]", output_fields=["*"], consistency_level=0)
            assert key in record
            client.upsert(collection, {**record, key: value})

    def raw_collections(self) -> list[str]:
        with self.client() as client:
            return list(client.list_collections())


class LiteHarness(MilvusHarness):
    lacks = {
        Feature.SERVER_KILL: "milvus-lite runs in our own process",
        Feature.SERVER_STOP: "milvus-lite runs in our own process",
    }

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder / "x.db"))

    def address(self, collection: str) -> str:
        return f"milvus:{self.uri}#{quote(collection, safe='')}"

    @contextmanager
    def client(self) -> Iterator[Any]:
        """milvus-lite lets in one process, and keeps a folder open until it is told."""
        from milvus_lite.server_manager import server_manager_instance

        with super().client() as client:
            try:
                # Every process begins with nothing loaded.
                for name in client.list_collections():
                    client.load_collection(name)
                yield client
            finally:
                server_manager_instance.release_server(self.uri)


class ServerHarness(MilvusHarness):
    lacks: dict[Feature, str] = {}

    def __init__(self, service: Service, base: str, token: str, database: str) -> None:
        """Each in a database of its own: calls that a test gave up may still be under way when the next one begins."""
        self.service = service
        self.base = base
        super().__init__(base.removeprefix("milvus+"), token)
        with self.client() as client:
            client.create_database(database)
        self.database = database

    def address(self, collection: str) -> str:
        return f"{self.base}?db={self.database}&token=env:MILVUS_TEST_TOKEN#{quote(collection, safe='')}"

    def remove(self) -> None:
        with self.client() as client:
            for name in client.list_collections():
                client.drop_collection(name)
            client.drop_database(self.database)

    def kill(self) -> None:
        self.service.inject(Fault("sigkill"))

    def restart(self) -> None:
        """Until what was loaded is so again: the server does that by itself, after it has begun to answer."""
        self.service.inject(Fault("restart"))
        self._client = None
        deadline = time.monotonic() + 60
        with self.client() as client:
            for name in client.list_collections():
                while True:
                    try:
                        client.query(name, output_fields=["count(*)"])
                        break
                    except MilvusException:
                        assert time.monotonic() < deadline
                        time.sleep(0.05)

    def stop(self) -> None:
        self.service.inject(Fault("sigstop"))

    def resume(self) -> None:
        """A server that stood still for longer than its session's life ends by itself then, and is started anew."""
        self.service.inject(Fault("sigcont"))
        self.service.inject(Fault("sigkill"))
        self.restart()


def make_indexes(client: Any, collection: str, params: Any, database: str) -> None:
    """`create_index` without its wait of half a second."""
    for each in params:
        told = each.get_index_configs()
        pairs = {"index_type": told["index_type"], "metric_type": told["metric_type"]}
        settings = told.get("params") or {key: value for key, value in told.items() if key not in pairs}
        request = milvus_pb2.CreateIndexRequest(
            db_name=database, collection_name=collection, field_name=each.field_name, index_name=each.index_name
        )
        for key, value in (pairs | {"params": json.dumps(settings)}).items():
            request.extra_params.add(key=key, value=value)
        status = client._get_connection()._stub.CreateIndex(request, timeout=30)
        assert not status.code, status.reason


def load(client: Any, collection: str) -> None:
    """`load_collection` without its half seconds."""
    client.load_collection(collection, _async=True)
    deadline = time.monotonic() + 60
    while client.get_load_state(collection)["state"].name != "Loaded":
        assert time.monotonic() < deadline
        time.sleep(0.02)


def raw_record(row: Row, spec: CollectionSpec) -> dict[str, Any]:
    record: dict[str, Any] = {"id": int(row.id) if spec.id_kind is IdKind.INT64 else row.id, **(row.payload or {})}
    for field in spec.vectors:
        vector = np.asarray(row.vectors[field.column])
        record[field.name or "vector"] = vector.tobytes() if field.dtype is DType.BINARY else vector
    return record


def raw_records(client: Any, collection: str) -> list[dict[str, Any]]:
    """In pages by key, as an answer holds 16,384 records at most."""
    kinds = {each["name"]: each["type"] for each in client.describe_collection(collection)["fields"]}
    key = next(each["name"] for each in client.describe_collection(collection)["fields"] if each.get("is_primary"))
    found: list[dict[str, Any]] = []
    seen: set[Any] = set()
    iterator = client.query_iterator(collection, batch_size=5000, output_fields=["*"], consistency_level="Strong")
    while batch := iterator.next():
        found += [record for record in batch if record[key] not in seen]
        seen |= {record[key] for record in batch}
    iterator.close()
    assert key in kinds
    return found


def raw_row(record: dict[str, Any], fields: Sequence[Any]) -> Row:
    vectors: dict[str, Any] = {}
    payload = dict(record)
    for each in fields:
        name = each["name"]
        column = "vector" if name == "vector" else f"vector:{name}"
        if each["type"] == DataType.FLOAT_VECTOR:
            vectors[column] = np.array(payload.pop(name), np.float32)
        elif each["type"] == DataType.BINARY_VECTOR:
            [packed] = payload.pop(name)
            vectors[column] = np.frombuffer(packed, np.uint8)
    id_ = str(payload.pop("id"))
    rest = list(payload.pop(REST, []))
    if rest:
        return Row(id_, payload=canonical.loads("".join(rest)), vectors=vectors)
    return Row(id_, payload=json.loads(json.dumps(payload)), vectors=vectors)


def spec_of(name: str, *fields: VectorField, id_kind: IdKind = IdKind.STRING) -> CollectionSpec:
    return CollectionSpec(name, id_kind, fields)


def typed_schema(key: DataType) -> Any:
    """One field of each scalar type beside a vector, and dynamic ones."""
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("doc", key, is_primary=True, **({} if key == DataType.INT64 else {"max_length": 100}))
    schema.add_field("body", DataType.FLOAT_VECTOR, dim=4)
    for name, kind in (
        ("flag", DataType.BOOL),
        ("tiny", DataType.INT8),
        ("small", DataType.INT16),
        ("middle", DataType.INT32),
        ("large", DataType.INT64),
        ("half", DataType.FLOAT),
        ("ratio", DataType.DOUBLE),
        ("told", DataType.JSON),
    ):
        schema.add_field(name, kind)
    schema.add_field("title", DataType.VARCHAR, max_length=500)
    schema.add_field("tags", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=8, max_length=50)
    schema.add_field("numbers", DataType.ARRAY, element_type=DataType.INT64, max_capacity=8)
    return schema


def filled(client: Any, name: str, *, above: int = 0, tenant: str = "", **where: Any) -> None:
    """Three records; dynamic fields differ. With a tenant, keys are texts."""
    typed = {
        "flag": True,
        "tiny": -128,
        "small": 32767,
        "middle": -(2**31),
        "large": 2**62,
        "half": 0.5,
        "ratio": 0.1 + 0.2,
        "title": "größer 🚀",
        "told": {"a": [1, 1.0, None], "b": {"c": "x"}},
        "tags": ["a", "b"],
        "numbers": [1, 2, 3],
    }
    more = [{}, {"extra": 7, "nested": {"deep": [None]}}, {"extra": 8}]
    rows = [
        {"doc": str(key) if tenant else key + above, "body": [place, 1, 2, 3], **typed, **more[place]}
        for place, key in enumerate((-5, 7, 2**53 + 1))
    ]
    rows = [row | {"tenant": tenant} for row in rows] if tenant else rows
    client.insert(name, rows, **where)
