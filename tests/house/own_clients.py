"""Places for collections of every kind of store, and their records as the store's own client gives them back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from exitramp.registry import service_adapter
from tests.adapters.milvus_harness import LiteHarness
from tests.adapters.test_qdrant_edge import EdgeHarness
from tests.tour.places import places

MOCKS = {"pinecone": "mock-pinecone", "weaviate+http": "mock-weaviate"}
Find = Callable[[str], Any]


@contextmanager
def addresses(kind: str, folder: Path) -> Iterator[Callable[[str], str]]:
    """The address of a collection of this kind by its name, in one place for all of them."""
    if kind in MOCKS:
        options = {"latency_ms": 0, "rates": False} if kind == "pinecone" else {}
        service = service_adapter(MOCKS[kind]).make(str(folder), 0, options)
        try:
            base = service.start().with_collection(None).text
            if kind == "pinecone":
                yield lambda name: f"{base}?cloud=aws&region=us-east-1#{name}"
            else:
                yield lambda name: f"{base}#{name.capitalize()}"
        finally:
            service.stop()
    elif kind == "milvus":
        yield LiteHarness(folder).address
    else:
        for each in (folder, *folder.parents[:3]):
            each.chmod(each.stat().st_mode | 0o011)  # a PostgreSQL that must not run as root has to get through
        with places(folder, [kind]) as found:
            yield found[kind].address


@contextmanager
def record_in(kind: str, address: str) -> Iterator[Find]:
    """What the store's own client has under each name of the page, of the one record that is in the collection."""
    path, name = Path(urlsplit(address).path), urlsplit(address).fragment
    match kind:
        case "chroma":
            yield partial(_walked, _chroma(path, name))
        case "qdrant":
            [row] = EdgeHarness(path).raw_read(name)
            yield partial(_walked, {"id": row.id, "payload": row.payload})
        case "pgvector":
            import psycopg

            with psycopg.connect(address.replace("pgvector:", "postgresql:").partition("#")[0]) as connection:
                yield lambda said: _only(connection.execute(f"SELECT {said} FROM {name}".encode()).fetchall())
        case "duckdb":
            import duckdb

            with duckdb.connect(path, read_only=True) as database:
                yield lambda said: _only(database.execute(f"SELECT {said} FROM {name}").fetchall())
        case "sqlite-vec":
            with closing(sqlite3.connect(path)) as file:
                yield lambda said: _only(file.execute(f"SELECT {said} FROM {name}").fetchall())
        case "lancedb":
            import lancedb

            table = lancedb.connect(path).open_table(name)
            yield lambda said: _only([(row["it"],) for row in table.search().select({"it": said}).to_list()])
        case "redis":
            key, fields = _redis(address, name)
            yield lambda said: key if said.endswith(":") else fields.get(said)
        case "milvus":
            with LiteHarness(path.parent).client() as client:
                [held] = client.query(name, filter='id != ""', output_fields=["*"])
            yield partial(_walked, held)
        case "pinecone":
            yield partial(_walked, _pinecone(address, name))
        case "weaviate+http":
            yield partial(_walked, _weaviate(address, name))
        case "hdf5":
            yield partial(_walked, _hdf5(path))
        case "vdf":
            [held] = _parquet(path / name / "1.parquet")
            [about] = json.loads((path / "VDF_META.json").read_text(encoding="utf-8"))["indexes"][name]
            yield partial(_walked, {**held, "VDF_META.json": about["namespace"]})
        case _:
            [held] = _parquet(Path(f"{path}.parquet" if kind == "npy" else f"{path}.exitramp"))
            yield partial(_walked, {**held, "payload": json.loads(held["payload"])})


def _walked(held: Mapping[str, Any], path: str) -> Any:
    value: Any = held
    for key in [path] if path in held else path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _only(rows: list[Any]) -> Any:
    [(value,)] = rows
    return value


def _chroma(path: Path, name: str) -> dict[str, Any]:
    import chromadb
    from chromadb.config import Settings

    client = chromadb.PersistentClient(path, Settings(anonymized_telemetry=False))
    held = client.get_collection(name).get()
    return {each: _only([tuple(held[each] or ())]) for each in ("ids", "documents", "metadatas")}  # type: ignore[literal-required]


def _redis(address: str, name: str) -> tuple[str, dict[str, Any]]:
    import redis

    client: Any = redis.Redis.from_url(address.partition("#")[0])
    [key] = client.keys(f"{name}:*")
    fields = client.hgetall(key)
    client.close()
    return key.decode().removeprefix(f"{name}:"), {
        each.decode(): value.decode() for each, value in fields.items() if each != b"vector"
    }


def _pinecone(address: str, name: str) -> dict[str, Any]:
    from pinecone import Pinecone

    client = Pinecone(api_key="raw", host=address.partition("?")[0].replace("pinecone:", "http:"))
    index = client.index(name)
    [namespace] = index.describe_index_stats().namespaces
    ids = [item.id for page in index.list(namespace=namespace) for item in page.vectors if item.id is not None]
    [vector] = index.fetch(ids=ids, namespace=namespace).vectors.values()
    client.close()
    return {"id": vector.id, "metadata": vector.metadata, "namespace": namespace}


def _weaviate(address: str, name: str) -> dict[str, Any]:
    import weaviate

    where = urlsplit(address)
    client = weaviate.connect_to_custom(
        http_host="127.0.0.1",
        http_port=where.port or 0,
        http_secure=False,
        grpc_host="127.0.0.1",
        grpc_port=int(parse_qs(where.query)["grpc_port"][0]),
        grpc_secure=False,
        skip_init_checks=True,
    )
    try:
        held = client.collections.get(name)
        has_tenants = held.config.get().multi_tenancy_config.enabled
        tenant = next(iter(held.tenants.get())) if has_tenants else None
        [found] = (held if tenant is None else held.with_tenant(tenant)).iterator()
        return {"uuid": str(found.uuid), "properties": found.properties, "tenant": tenant}
    finally:
        client.close()


def _hdf5(path: Path) -> dict[str, Any]:
    import h5py

    with h5py.File(path) as file:
        group: Any = file["exitramp"]
        names = [name for name in ("id", "document", "payload", "namespace") if f"{name}.bytes" in group]
        texts = {name: group[f"{name}.bytes"][()].tobytes().decode() for name in names}
    return {**texts, "payload": json.loads(texts["payload"])}


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path, partitioning=None).to_pylist()
    return rows


def shown_record(kind: str, address: str) -> Any:
    """The record `kb/x` of the collection `articles`, by the very call that the page names."""
    match kind:
        case "pgvector":
            import psycopg
            from psycopg.rows import dict_row

            base = address.replace("pgvector:", "postgresql:").partition("#")[0]
            with psycopg.connect(base, row_factory=dict_row) as connection:
                return connection.execute("SELECT * FROM articles").fetchone()
        case "duckdb":
            import duckdb

            with duckdb.connect(urlsplit(address).path, read_only=True) as database:
                found = database.execute("SELECT * FROM articles")
                [row] = found.fetchall()
                return dict(zip([each[0] for each in found.description or ()], row, strict=True))
        case "redis":
            import redis

            client: Any = redis.Redis.from_url(address.partition("#")[0])
            held = client.hgetall("articles:kb/x")
            client.close()
            return held
        case _:
            with LiteHarness(Path(urlsplit(address).path).parent).client() as milvus:
                [record] = milvus.query("articles", filter='id == "kb/x"', output_fields=["*"])
                return dict(record)
