"""Weaviate with its own official client against a mock of its contract: wire mocked.

The harness seeds and reads back with the client's own classes, so that what the mock serves is what the client
understands; the adapter sends the same messages through the client's session and stubs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import weaviate
from weaviate.classes.config import Configure, DataType, Property, VectorDistances
from weaviate.classes.data import DataObject

from exitramp import canonical
from exitramp.faults import Fault
from exitramp.ports import Service
from exitramp.records import CollectionSpec, Metric, VectorField, VectorKind
from exitramp.registry import service_adapter
from exitramp.testing import Feature, Row, StoreConformance, StoreHarness
from exitramp.urls import Address

DISTANCES = {
    Metric.COSINE: VectorDistances.COSINE,
    Metric.DOT: VectorDistances.DOT,
    Metric.EUCLIDEAN: VectorDistances.L2_SQUARED,
    Metric.MANHATTAN: VectorDistances.MANHATTAN,
    Metric.HAMMING: VectorDistances.HAMMING,
}
NATIVE = {bool: DataType.BOOL, int: DataType.INT, float: DataType.NUMBER, str: DataType.TEXT}
NO_NAMESPACE = "exitramp_none"


@contextmanager
def raw_client(address: Address) -> Iterator[weaviate.WeaviateClient]:
    """The official client, as a user makes it, but for the start-up check that asks PyPI for a newer version."""
    client = weaviate.connect_to_custom(
        http_host="127.0.0.1",
        http_port=address.port or 0,
        http_secure=False,
        grpc_host="127.0.0.1",
        grpc_port=int(address.options["grpc_port"]),
        grpc_secure=False,
        skip_init_checks=True,
    )
    try:
        yield client
    finally:
        client.close()


class WeaviateHarness(StoreHarness):
    lacks: dict[Feature, str] = {}

    def __init__(self, service: Service, base: Address) -> None:
        self.service = service
        self.base = base

    def address(self, collection: str) -> str:
        return self.base.with_collection(collection).text

    def raw_seed(self, collection: str, spec: CollectionSpec, rows: Sequence[Row]) -> None:
        """As an application would that knows our layout: what a typed property holds is one, the rest is JSON."""
        kinds: dict[str, type] = {}
        for row in rows:
            for key, value in (row.payload or {}).items():
                if is_plain(value):
                    kinds.setdefault(key, type(value))
        properties = [Property(name=key, data_type=NATIVE[kind]) for key, kind in kinds.items()]
        properties += [Property(name=name, data_type=DataType.TEXT) for name in ("exitramp_document", "exitramp_rest")]
        with raw_client(self.base) as client:
            made = client.collections.create(
                collection,
                vector_config=None
                if [field.name for field in spec.vectors] == [""]
                else [raw_vector(field) for field in spec.vectors],
                vectorizer_config=Configure.Vectorizer.none() if spec.vectors[0].name == "" else None,
                vector_index_config=Configure.VectorIndex.hnsw(distance_metric=DISTANCES[spec.vectors[0].metric])
                if spec.vectors[0].name == ""
                else None,
                properties=properties,
                multi_tenancy_config=Configure.multi_tenancy(enabled=spec.has_namespaces),
            )
            spaces = {NO_NAMESPACE if row.namespace is None else row.namespace for row in rows}
            if spec.has_namespaces:
                made.tenants.create(sorted(spaces))
            for space in sorted(spaces):
                part = made.with_tenant(space) if spec.has_namespaces else made
                inside = [row for row in rows if (row.namespace or NO_NAMESPACE) == space or not spec.has_namespaces]
                for start in range(0, len(inside), 100):
                    found = part.data.insert_many([raw_object(row, spec, kinds) for row in inside[start : start + 100]])
                    assert not found.errors, found.errors
                if not spec.has_namespaces:
                    break

    def raw_read(self, collection: str) -> list[Row]:
        with raw_client(self.base) as client:
            held = client.collections.get(collection)
            config = held.config.get()
            if not config.multi_tenancy_config.enabled:
                return [raw_row(each, None, config) for each in held.iterator(include_vector=True)]
            return [
                raw_row(each, None if name == NO_NAMESPACE else name, config)
                for name in held.tenants.get()
                for each in held.with_tenant(name).iterator(include_vector=True)
            ]

    def raw_edit(self, collection: str, id_: str, key: str, value: Any) -> None:
        with raw_client(self.base) as client:
            held = client.collections.get(collection)
            parts = [held]
            if held.config.get().multi_tenancy_config.enabled:
                parts = [held.with_tenant(name) for name in held.tenants.get()]
            for part in parts:
                if not part.data.exists(id_):
                    continue
                rest = part.query.fetch_object_by_id(id_).properties.get("exitramp_rest")
                told = canonical.loads(str(rest)) if rest else {}
                kind = {field.name: field.data_type for field in held.config.get().properties}.get(key)
                if is_plain(value) and key not in told and kind in (None, NATIVE[type(value)]):
                    part.data.update(id_, properties={key: value})
                else:  # a property takes values of its own type only
                    text = canonical.dumps(told | {key: value})
                    part.data.update(
                        id_, properties={key: None, "exitramp_rest": text} if kind else {"exitramp_rest": text}
                    )

    def raw_collections(self) -> list[str]:
        with raw_client(self.base) as client:
            return list(client.collections.list_all())

    def kill(self) -> None:
        self.service.inject(Fault("sigkill"))

    def restart(self) -> None:
        self.service.inject(Fault("restart"))

    def stop(self) -> None:
        self.service.inject(Fault("sigstop"))

    def resume(self) -> None:
        self.service.inject(Fault("sigcont"))


def is_plain(value: Any) -> bool:
    """Whether an application would keep it in a property of its own."""
    if type(value) is int:
        return abs(value) <= 2**53
    return type(value) in NATIVE and value != "" and value == value and value not in (np.inf, -np.inf)


def raw_vector(field: VectorField) -> Any:
    index = Configure.VectorIndex.hnsw(distance_metric=DISTANCES[field.metric])
    if field.kind is VectorKind.MULTI:
        return Configure.MultiVectors.self_provided(name=field.name, vector_index_config=index)
    return Configure.Vectors.self_provided(name=field.name, vector_index_config=index)


def raw_object(row: Row, spec: CollectionSpec, kinds: dict[str, type]) -> DataObject[Any, Any]:
    payload = dict(row.payload or {})
    native = {key: value for key, value in payload.items() if kinds.get(key) is type(value) and is_plain(value)}
    rest = {key: value for key, value in payload.items() if key not in native}
    properties: dict[str, Any] = dict(native)
    if rest or (row.payload is not None and not payload):
        properties["exitramp_rest"] = canonical.dumps(rest)
    if row.document is not None:
        properties["exitramp_document"] = row.document
    held = {
        field.name: np.asarray(row.vectors[field.column]).astype(np.float32).tolist()
        for field in spec.vectors
        if field.column in row.vectors
    }
    return DataObject(properties=properties, uuid=row.id, vector=held[""] if list(held) == [""] else held)


def raw_row(each: Any, namespace: str | None, config: Any) -> Row:
    properties = {key: value for key, value in each.properties.items() if value is not None}
    document, rest = properties.pop("exitramp_document", None), properties.pop("exitramp_rest", None)
    properties.pop("exitramp_terms", None)
    namespace = properties.pop("exitramp_namespace", namespace)
    payload = None if rest is None and not properties else (json_of(rest) | properties)
    vectors: dict[str, Any] = {}
    for name, value in each.vector.items():
        native = "" if config.vector_config is None or name == "exitramp_unnamed" else name
        array = np.array(value, np.float32)
        vectors[f"multi:{native}" if array.ndim == 2 else f"vector:{native}" if native else "vector"] = array
    return Row(str(each.uuid), namespace, document, payload, vectors)


def json_of(rest: str | None) -> dict[str, Any]:
    return {} if rest is None else canonical.loads(rest)


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Address]]:
    service = service_adapter("mock-weaviate").make(str(tmp_path_factory.mktemp("weaviate")), 0, {})
    address = service.start()
    yield service, address
    service.stop()


@pytest.fixture
def harness(mock: tuple[Service, Address]) -> WeaviateHarness:
    service, base = mock
    service.inject(Fault("none"))  # alive, whatever the test before did to it
    fresh = WeaviateHarness(service, base)
    with raw_client(base) as client:
        client.collections.delete_all()
    return fresh


class TestWeaviate(StoreConformance):
    """The suite; `harness` is the module's."""
