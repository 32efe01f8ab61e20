"""A mock of Pinecone for a test, and indexes filled by the official client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pinecone import Pinecone

from exitramp.arrow import record_keys
from exitramp.ports import Service, Store
from exitramp.records import RecordKey
from exitramp.registry import open_store, service_adapter
from exitramp.urls import Address, Network

MANAGED = {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"}


@dataclass(frozen=True)
class Mocked:
    service: Service
    base: str

    def address(self, index: str, **options: Any) -> Address:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return Address.parse(f"{self.base}{'?' if query else ''}{query}#{index}")

    @contextmanager
    def opened(self, index: str, **options: Any) -> Iterator[Store]:
        store = open_store(self.address(index, **options), Network(timeout_seconds=10.0))
        try:
            yield store
        finally:
            store.close()

    @contextmanager
    def client(self) -> Iterator[Pinecone]:
        client = Pinecone(api_key="raw", host=self.base.replace("pinecone:", "http:"))
        try:
            yield client
        finally:
            client.close()

    def fill(
        self, index: str, ids: Mapping[str, Sequence[str]], *, schema: Mapping[str, Any] | None = None
    ) -> dict[str, int]:
        """An index of two dimensions with these ids by namespace; what the mock has counted when that is done."""
        fields = schema or {"_values": {"type": "dense_vector", "dimension": 2, "metric": "cosine"}}
        with self.client() as client:
            client.indexes.create(name=index, schema={"fields": dict(fields)}, deployment=MANAGED, timeout=-1)
            data = client.index(index)
            for namespace, named in ids.items():
                for start in range(0, len(named), 1000):
                    part = named[start : start + 1000]
                    data.upsert(vectors=[(id_, [1.0, 0.5], {"id": id_}) for id_ in part], namespace=namespace)
        return dict(self.service.counters())


@contextmanager
def running(folder: Path, **options: Any) -> Iterator[Mocked]:
    """A mock without a wait; rates and all other limits as documented, unless `options` say otherwise."""
    service = service_adapter("mock-pinecone").make(str(folder), 0, {"latency_ms": 0, **options})
    address = service.start()
    try:
        yield Mocked(service, str(address))
    finally:
        service.stop()


def keys_in(store: Store, *, batch_rows: int = 500) -> list[RecordKey]:
    source = store.source()
    return [
        key
        for partition in source.partitions(1)
        for page in source.scan(partition, batch_rows=batch_rows)
        for key in record_keys(page.batch)
    ]
