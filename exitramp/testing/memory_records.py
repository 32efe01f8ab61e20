"""What the memory store keeps: records by their place in an order, and their way from and to Arrow."""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from exitramp import canonical
from exitramp.arrow import empty_batch, record_keys, stream_schema
from exitramp.errors import DataInvalid
from exitramp.ports import Origin
from exitramp.ports.places import Place, place_of
from exitramp.records import CollectionSpec, RecordKey
from exitramp.testing.rows import Vector, column_from_values, vectors_of


@dataclass(frozen=True, slots=True)
class Stored:
    """One record as it is kept; `payload` is canonical JSON; `vectors` go by column."""

    key: RecordKey
    document: str | None
    payload: str | None
    vectors: Mapping[str, Vector] = field(hash=False)

    def decoded(self) -> Any:
        """The payload as Python values, None where there is none."""
        return None if self.payload is None else canonical.loads(self.payload)


@dataclass(slots=True)
class MemoryCollection:
    """The records by place, and their places in order."""

    spec: CollectionSpec
    origin: Origin | None
    records: dict[Place, Stored] = field(default_factory=dict)
    order: list[Place] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def put(self, record: Stored) -> None:
        with self.lock:
            place = place_of(record.key)
            if place not in self.records:
                insort(self.order, place)
            self.records[place] = record

    def remove(self, key: RecordKey) -> None:
        with self.lock:
            place = place_of(key)
            if self.records.pop(place, None) is not None:
                del self.order[bisect_left(self.order, place)]


_STORES: dict[str, dict[str, MemoryCollection]] = {}


def collections_of(name: str) -> dict[str, MemoryCollection]:
    """The collections of the store `memory:NAME`, to look into and to change from outside in tests."""
    return _STORES.setdefault(name, {})


def records_of(batch: pa.RecordBatch, spec: CollectionSpec) -> list[Stored]:
    """The rows of a batch of `spec`'s stream. Payloads may come in any key order and are kept in the canonical one."""
    documents = batch.column("document").to_pylist() if spec.has_documents else [None] * batch.num_rows
    payloads = batch.column("payload").to_pylist()
    vectors = vectors_of(batch, spec)
    return [
        Stored(key, documents[row], _canonical(payloads[row], key), vectors[row])
        for row, key in enumerate(record_keys(batch))
    ]


def batch_of(records: Sequence[Stored], spec: CollectionSpec) -> pa.RecordBatch:
    """A batch of `spec`'s stream with these records, in their order."""
    if not records:
        return empty_batch(spec)
    columns: dict[str, pa.Array] = {
        "id": pa.array([record.key.id for record in records], pa.string()),
        "namespace": pa.array([record.key.namespace for record in records], pa.string()),
        "document": pa.array([record.document for record in records], pa.string()),
        "payload": pa.array([record.payload for record in records], pa.string()),
    }
    for vector in spec.vectors:
        columns[vector.column] = column_from_values([record.vectors.get(vector.column) for record in records], vector)
    schema = stream_schema(spec)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _canonical(payload: str | None, key: RecordKey) -> str | None:
    if payload is None:
        return None
    try:
        return canonical.dumps(canonical.parse(payload))
    except DataInvalid as error:
        raise DataInvalid(f"the payload of '{key}' is {error.message}") from error
