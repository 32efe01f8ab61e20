"""Pinecone's own client against a mock of its published contract: wire mocked.

The mock's limits on requests a second are off here; they are tried in `test_pinecone_limits.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from pinecone import Pinecone

from exitramp.faults import Fault
from exitramp.ports import Service
from exitramp.records import CollectionSpec, Metric
from exitramp.registry import service_adapter
from exitramp.testing import Feature, Row, StoreConformance, StoreHarness

METRICS = {Metric.COSINE: "cosine", Metric.DOT: "dotproduct", Metric.EUCLIDEAN: "euclidean"}
HERE = "cloud=aws&region=us-east-1"


class PineconeHarness(StoreHarness):
    lacks: dict[Feature, str] = {}

    def __init__(self, service: Service, base: str) -> None:
        self.service = service
        self.base = base

    def address(self, collection: str) -> str:
        return f"{self.base}?{HERE}#{quote(collection, safe='')}"

    @contextmanager
    def client(self) -> Iterator[Pinecone]:
        client = Pinecone(api_key="raw", host=self.base.replace("pinecone:", "http:"))
        try:
            yield client
        finally:
            client.close()

    def raw_seed(self, collection: str, spec: CollectionSpec, rows: Sequence[Row]) -> None:
        [field] = spec.vectors
        dense = {"type": "dense_vector", "dimension": field.dimensions, "metric": METRICS[field.metric]}
        with self.client() as client:
            client.indexes.create(
                name=collection,
                schema={"fields": {"_values": dense}},
                deployment={"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"},
            )
            index = client.index(collection)
            for row in rows:
                values = [float(number) for number in np.asarray(row.vectors[field.column])]
                vector: dict[str, Any] = {"id": row.id, "values": values}
                index.upsert(
                    vectors=[vector | ({"metadata": dict(row.payload)} if row.payload else {})],
                    namespace=row.namespace or "",
                )

    def raw_read(self, collection: str) -> list[Row]:
        found: list[Row] = []
        with self.client() as client:
            index = client.index(collection)
            for namespace in index.describe_index_stats().namespaces:
                for page in index.list(namespace=namespace):
                    ids = [item.id for item in page.vectors if item.id is not None]
                    for start in range(0, len(ids), 10):
                        got = index.fetch(ids=ids[start : start + 10], namespace=namespace).vectors
                        found += [raw_row(vector, namespace) for vector in got.values()]
        return found

    def raw_edit(self, collection: str, id_: str, key: str, value: Any) -> None:
        with self.client() as client:
            index = client.index(collection)
            for namespace in index.describe_index_stats().namespaces:
                got = index.fetch(ids=[id_], namespace=namespace).vectors
                if id_ in got:
                    vector = got[id_]
                    metadata = {**(vector.metadata or {}), key: value}
                    index.upsert(
                        vectors=[{"id": id_, "values": vector.values, "metadata": metadata}], namespace=namespace
                    )

    def raw_collections(self) -> list[str]:
        with self.client() as client:
            return [index.name for index in client.indexes.list()]

    def kill(self) -> None:
        self.service.inject(Fault("sigkill"))

    def restart(self) -> None:
        self.service.inject(Fault("restart"))

    def stop(self) -> None:
        self.service.inject(Fault("sigstop"))

    def resume(self) -> None:
        self.service.inject(Fault("sigcont"))


def raw_row(vector: Any, namespace: str) -> Row:
    vectors = {"vector": np.array(vector.values, np.float32)} if vector.values else {}
    return Row(vector.id, None if namespace == "__default__" else namespace, payload=vector.metadata, vectors=vectors)


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, str]]:
    options = {"latency_ms": 0, "rates": False}
    service = service_adapter("mock-pinecone").make(str(tmp_path_factory.mktemp("mock")), 0, options)
    address = service.start()
    yield service, str(address)
    service.stop()


@pytest.fixture
def harness(mock: tuple[Service, str]) -> PineconeHarness:
    service, base = mock
    service.inject(Fault("none"))  # alive, whatever the test before did to it
    fresh = PineconeHarness(service, base)
    with fresh.client() as client:
        for name in fresh.raw_collections():
            client.indexes.delete(name, timeout=-1)
    return fresh


class TestPinecone(StoreConformance):
    """The suite; `harness` is the module's."""
