"""Qdrant over REST with the real client against the shim over the real engine: engine real, wire emulated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from exitramp.faults import Fault
from exitramp.ports import Service
from exitramp.records import CollectionSpec, DType, Metric, VectorField, VectorKind
from exitramp.registry import service_adapter
from exitramp.testing import Feature, Row, StoreConformance, StoreHarness

DISTANCES = {
    Metric.COSINE: models.Distance.COSINE,
    Metric.DOT: models.Distance.DOT,
    Metric.EUCLIDEAN: models.Distance.EUCLID,
    Metric.MANHATTAN: models.Distance.MANHATTAN,
}


class HttpHarness(StoreHarness):
    lacks: dict[Feature, str] = {}

    def __init__(self, service: Service, base: str) -> None:
        self.service = service
        self.base = base

    def address(self, collection: str) -> str:
        return f"{self.base}#{quote(collection, safe='')}"

    @contextmanager
    def client(self) -> Iterator[QdrantClient]:
        client = QdrantClient(url=self.base.removeprefix("qdrant+"), check_compatibility=False, timeout=30)
        try:
            yield client
        finally:
            client.close()

    def raw_seed(self, collection: str, spec: CollectionSpec, rows: Sequence[Row]) -> None:
        with self.client() as client:
            client.create_collection(
                collection,
                vectors_config={f.name: raw_params(f) for f in spec.vectors if f.kind is not VectorKind.SPARSE},
                sparse_vectors_config={
                    f.name: models.SparseVectorParams() for f in spec.vectors if f.kind is VectorKind.SPARSE
                },
            )
            for start in range(0, len(rows), 100):
                points = [raw_point(row, spec) for row in rows[start : start + 100]]
                client.upsert(collection, points, wait=True)

    def raw_read(self, collection: str) -> list[Row]:
        with self.client() as client:
            params = client.get_collection(collection).config.params
            records, _ = client.scroll(collection, limit=100_000, with_payload=True, with_vectors=True)
            return [raw_row(record, params) for record in records]

    def raw_edit(self, collection: str, id_: str, key: str, value: Any) -> None:
        with self.client() as client:
            client.set_payload(collection, {key: value}, [int(id_) if id_.isdecimal() else id_], wait=True)

    def raw_collections(self) -> list[str]:
        with self.client() as client:
            return [each.name for each in client.get_collections().collections]

    def kill(self) -> None:
        self.service.inject(Fault("sigkill"))

    def restart(self) -> None:
        self.service.inject(Fault("restart"))

    def stop(self) -> None:
        self.service.inject(Fault("sigstop"))

    def resume(self) -> None:
        self.service.inject(Fault("sigcont"))


def raw_params(field: VectorField) -> models.VectorParams:
    return models.VectorParams(
        size=field.dimensions or 0,
        distance=DISTANCES[field.metric],
        datatype=models.Datatype.FLOAT16 if field.dtype is DType.FLOAT16 else None,
        multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
        if field.kind is VectorKind.MULTI
        else None,
    )


def raw_point(row: Row, spec: CollectionSpec) -> models.PointStruct:
    vectors: dict[str, Any] = {}
    for field in spec.vectors:
        value: Any = row.vectors.get(field.column)
        if isinstance(value, tuple):
            vectors[field.name] = models.SparseVector(indices=value[0].tolist(), values=value[1].tolist())
        elif value is not None:
            vectors[field.name] = np.asarray(value).astype(np.float32).tolist()
    payload = None if row.payload is None else dict(row.payload)
    return models.PointStruct(id=int(row.id) if row.id.isdecimal() else row.id, vector=vectors, payload=payload)


def raw_row(record: models.Record, params: models.CollectionParams) -> Row:
    config: Any = params.vectors
    dense = {"": config} if isinstance(config, models.VectorParams) else config
    held: Any = record.vector if isinstance(record.vector, dict) else {"": record.vector}
    vectors: dict[str, Any] = {}
    for name, value in held.items():
        if isinstance(value, models.SparseVector):
            vectors[f"sparse:{name}"] = (np.array(value.indices, np.uint32), np.array(value.values, np.float32))
            continue
        dtype = np.float16 if dense[name].datatype is models.Datatype.FLOAT16 else np.float32
        column = f"multi:{name}" if dense[name].multivector_config else f"vector:{name}" if name else "vector"
        vectors[column] = np.array(value, dtype)
    return Row(str(record.id), payload=record.payload, vectors=vectors)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, str]]:
    service = service_adapter("qdrant-shim").make(str(tmp_path_factory.mktemp("shim")), 0, {})
    address = service.start()
    yield service, str(address)
    service.stop()


@pytest.fixture
def harness(shim: tuple[Service, str]) -> HttpHarness:
    service, base = shim
    service.inject(Fault("none"))  # alive, whatever the test before did to it
    fresh = HttpHarness(service, base)
    with fresh.client() as client:
        for name in fresh.raw_collections():
            client.delete_collection(name)
    return fresh


class TestQdrantHttp(StoreConformance):
    """The suite; `harness` is the module's."""
