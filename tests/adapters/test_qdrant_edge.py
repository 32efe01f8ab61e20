"""Qdrant's engine in process: the conformance suite, seeded and read back through the raw binding."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from uuid import UUID

import numpy as np
import pytest
import qdrant_edge as engine

from exitramp.records import CollectionSpec, DType, Metric, VectorField, VectorKind
from exitramp.testing import Feature, Row, StoreConformance, StoreHarness

DISTANCES = {
    Metric.COSINE: engine.Distance.Cosine,
    Metric.DOT: engine.Distance.Dot,
    Metric.EUCLIDEAN: engine.Distance.Euclid,
    Metric.MANHATTAN: engine.Distance.Manhattan,
}


class EdgeHarness(StoreHarness):
    lacks = {
        Feature.SERVER_KILL: "it is no server; the writer itself is killed instead",
        Feature.SERVER_STOP: "it is no server",
    }

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def address(self, collection: str) -> str:
        return f"qdrant:{self.folder}#{quote(collection, safe='')}"

    @contextmanager
    def shard(self, collection: str) -> Iterator[Any]:
        shard = engine.EdgeShard.load(str(self.folder / quote(collection, safe="")))
        try:
            yield shard
        finally:
            shard.close()

    def raw_seed(self, collection: str, spec: CollectionSpec, rows: Sequence[Row]) -> None:
        raw_create(self.folder / quote(collection, safe=""), spec, rows)

    def raw_read(self, collection: str) -> list[Row]:
        with self.shard(collection) as shard:
            config = json.loads((self.folder / quote(collection, safe="") / "edge_config.json").read_text())
            records, _ = shard.scroll(engine.ScrollRequest(limit=100_000, with_payload=True, with_vector=True))
            return [raw_row(record, config) for record in records]

    def raw_edit(self, collection: str, id_: str, key: str, value: Any) -> None:
        with self.shard(collection) as shard:
            point = int(id_) if id_.isdecimal() else UUID(id_)
            [record] = shard.retrieve([point], True, False)
            shard.update(engine.UpdateOperation.overwrite_payload([point], dict(record.payload) | {key: value}))

    def raw_collections(self) -> list[str]:
        if not self.folder.is_dir():
            return []
        return [unquote(path.name) for path in self.folder.iterdir() if (path / "edge_config.json").is_file()]


def raw_create(folder: Path, spec: CollectionSpec, rows: Sequence[Row]) -> None:
    """A shard as an application makes one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    dense = {field.name: raw_params(field) for field in spec.vectors if field.kind is not VectorKind.SPARSE}
    sparse = {field.name: engine.EdgeSparseVectorParams() for field in spec.vectors if field.kind is VectorKind.SPARSE}
    shard = engine.EdgeShard.create(str(folder), engine.EdgeConfig(vectors=dense, sparse_vectors=sparse))
    points = [
        engine.Point(
            int(row.id) if row.id.isdecimal() else UUID(row.id),
            {
                field.name: raw_vector(row.vectors[field.column])
                for field in spec.vectors
                if field.column in row.vectors
            },
            dict(row.payload) if row.payload is not None else None,
        )
        for row in rows
    ]
    if points:
        shard.update(engine.UpdateOperation.upsert_points(points))
    shard.flush()
    shard.close()


def raw_params(field: VectorField) -> Any:
    return engine.EdgeVectorParams(
        field.dimensions or 0,
        DISTANCES[field.metric],
        datatype=engine.VectorStorageDatatype.Float16 if field.dtype is DType.FLOAT16 else None,
        multivector_config=engine.MultiVectorConfig(engine.MultiVectorComparator.MaxSim)
        if field.kind is VectorKind.MULTI
        else None,
    )


def raw_vector(value: Any) -> Any:
    if isinstance(value, tuple):
        return engine.SparseVector(value[0].tolist(), value[1].tolist())
    return np.asarray(value).astype(np.float32).tolist()


def raw_row(record: Any, config: dict[str, Any]) -> Row:
    held = record.vector if isinstance(record.vector, dict) else {"": record.vector}
    vectors: dict[str, Any] = {}
    for name, value in held.items():
        if name in config["sparse_vectors"]:
            vectors[f"sparse:{name}"] = (np.array(value.indices, np.uint32), np.array(value.values, np.float32))
            continue
        params = config["vectors"][name]
        column = "multi:" + name if params.get("multivector_config") else f"vector:{name}" if name else "vector"
        vectors[column] = np.array(value, np.float16 if params.get("datatype") == "float16" else np.float32)
    return Row(str(record.id), payload=record.payload, vectors=vectors)


class TestQdrantEdge(StoreConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> EdgeHarness:
        return EdgeHarness(tmp_path / "db")


def test_importing_the_adapters_loads_no_sdk_and_leaves_root_logging_alone() -> None:
    code = (
        "import logging, sys\nbefore = (logging.root.level, list(logging.root.handlers))\n"
        "import exitramp_adapters.stores.qdrant.edge, exitramp_adapters.stores.qdrant.rest\n"
        "import exitramp_adapters.services.qdrant_shim.adapter\n"
        "assert before == (logging.root.level, list(logging.root.handlers))\n"
        "sdks = {'qdrant_edge', 'qdrant_client', 'starlette', 'uvicorn', 'httpx', 'grpc', 'pydantic'}\n"
        "loaded = sdks & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
