"""The in-memory reference store: every kind of record, every metric, exact search, nothing clever.

`memory:NAME#COLLECTION` is a store that lives as long as the process, shared by everybody who names it. It is what a
store ought to do, so that tests have something to compare others with; nothing in it survives the process.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from exitramp import __version__, canonical
from exitramp.arrow import empty_batch, record_keys, require_schema, stream_schema
from exitramp.errors import CollectionExists, CollectionMissing, DataInvalid, StoreUnavailable, UsageError
from exitramp.filters import Filter
from exitramp.ports import (
    DEFAULT_SETTINGS,
    Cursor,
    DocumentRoom,
    Hits,
    IndexState,
    Origin,
    Page,
    Partition,
    PayloadLimits,
    Query,
    SearchSettings,
    SinkLimits,
    StoreAdapter,
    StoreIdentity,
    TransferAccount,
    make_cursor,
    read_cursor,
)
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorField, VectorKind
from exitramp.testing.reference import matches, nearest_first, nothing_in, score
from exitramp.testing.rows import Vector, column_from_values, values_from_column
from exitramp.urls import Address, Network

ALL_TYPES = frozenset(
    ("null", "bool", "int", "float", "nonfinite", "string", "timestamp")
    + ("date", "time", "decimal", "uuid", "bytes", "list", "object")
)
LIMITS = SinkLimits(
    id_kinds=frozenset(IdKind),
    metrics=frozenset(Metric),
    payload=PayloadLimits(
        types=ALL_TYPES,
        item_types=ALL_TYPES,
        mixed_lists=True,
        nested=True,
        empty_lists=True,
        empty_objects=True,
        integer_bits=8192,
    ),
    vector_kinds=frozenset(VectorKind),
    dtypes=frozenset(DType),
    named_vectors=True,
    dense_fields=None,
    vectors_required=False,
    vector_free=True,
    namespaces=True,
    documents=DocumentRoom.NATIVE,
    nonfinite_vectors=True,
    keeps_origin=True,
    durable=False,
)

Place = tuple[bool, str, str]
"""Where a record stands in the order: those in no namespace first, then by namespace and id, by code points."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One record as it is kept; `payload` is canonical JSON."""

    key: RecordKey
    document: str | None
    payload: str | None
    vectors: Mapping[str, Vector] = field(hash=False)


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


def place_of(key: RecordKey) -> Place:
    return (key.namespace is not None, key.namespace or "", key.id)


class MemoryStore:
    """One opened address of a memory store. `limits` may be narrower than the store's own, to play a lesser one."""

    def __init__(self, name: str, collection: str | None, *, limits: SinkLimits = LIMITS) -> None:
        self.address = Address("memory", name, collection)
        self.declared = limits
        self._closed = False

    def source(self) -> MemorySource:
        return MemorySource(self)

    def sink(self) -> MemorySink:
        return MemorySink(self)

    def search(self) -> MemorySearch:
        return MemorySearch(self)

    def close(self) -> None:
        self._closed = True

    def everything(self) -> dict[str, MemoryCollection]:
        """All collections of the store. Raises `StoreUnavailable` once it is closed."""
        if self._closed:
            raise StoreUnavailable(f"{self.address} was closed", hint="open it again")
        return collections_of(self.address.location)

    def collection(self) -> MemoryCollection:
        """Raises `CollectionMissing`; looking for a collection never makes it."""
        name = self.address.require_collection()
        found = self.everything().get(name)
        if found is None:
            raise CollectionMissing(f"{self.address}: there is no collection '{name}'")
        return found


class MemorySource:
    """Reads a collection in the order of places; a cursor is the place of a page's last record."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def identity(self) -> StoreIdentity:
        names = tuple(sorted(self._store.everything()))
        return StoreIdentity("memory", str(self._store.address), __version__, __version__, True, collections=names)

    def describe(self) -> CollectionSpec:
        return self._store.collection().spec

    def origin(self) -> Origin | None:
        return self._store.collection().origin

    def count(self) -> int:
        return len(self._store.collection().records)

    def partitions(self, wanted: int) -> Sequence[Partition]:
        """Ranges of places with about equally many records now; the first and the last are open, so later ones fit."""
        order = list(self._store.collection().order)
        parts = max(1, min(wanted, len(order)))
        starts = [None, *(order[len(order) * part // parts] for part in range(1, parts)), None]
        return [Partition(part, parts, json.dumps(starts[part : part + 2])) for part in range(parts)]

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        if batch_rows < 1:
            raise UsageError(f"a page of {batch_rows} rows cannot be read")
        held = self._store.collection()
        start, end = _bounds(partition)
        behind = None if after is None else _place_in(after)
        while True:
            self._store.collection()  # a closed store or a dropped collection ends the scan, not with a short answer
            with held.lock:
                low = 0 if start is None else bisect_left(held.order, start)
                low = low if behind is None else max(low, bisect_right(held.order, behind))
                high = len(held.order) if end is None else bisect_left(held.order, end)
                places = held.order[low : min(high, low + batch_rows)]
                batch = _batch([held.records[place] for place in places], held.spec)
                last = low + len(places) >= high
            behind = places[-1] if places else behind
            yield Page(batch, make_cursor(place=behind), last)
            if last:
                return

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        held = self._store.collection()
        with held.lock:
            places = [place_of(key) for key in dict.fromkeys(keys)]
            return _batch([held.records[place] for place in places if place in held.records], held.spec)

    def close(self) -> None:
        self._store.close()


class MemorySink:
    """Writes at once; `flush` has nothing left to do and nothing outlives the process."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def limits(self) -> SinkLimits:
        return self._store.declared

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        everything, name = self._store.everything(), self._store.address.require_collection()
        there = everything.get(name)
        if there is None:
            everything[name] = MemoryCollection(spec.renamed(name), origin if self.limits().keeps_origin else None)
            return
        difference = _difference(there.spec, spec)
        if difference:
            raise CollectionExists(f"{self._store.address} is there already and {difference}")

    def upsert(self, batch: pa.RecordBatch) -> None:
        held = self._store.collection()
        where = str(self._store.address)
        require_schema(batch, held.spec, where=where)
        if batch.num_rows > self.limits().batch_rows:
            raise UsageError(f"{where}: {batch.num_rows} rows at once, of at most {self.limits().batch_rows}")
        records = _records(batch, held.spec)
        seen: set[RecordKey] = set()
        for row, record in enumerate(records):
            if record.key in seen:
                raise DataInvalid(f"{where}: row {row}: the id '{record.key}' stands twice in one batch")
            if record.payload is not None and not canonical.is_canonical(record.payload):
                raise DataInvalid(f"{where}: row {row}: the payload of '{record.key}' is not canonical JSON")
            seen.add(record.key)
        for record in records:
            held.put(record)

    def delete(self, keys: Sequence[RecordKey]) -> None:
        held = self._store.collection()
        for key in keys:
            held.remove(key)

    def flush(self) -> None:
        self._store.collection()

    def finish(self, account: TransferAccount) -> None:
        self._store.collection()

    def close(self) -> None:
        self._store.close()


class MemorySearch:
    """Looks at every record, so that its answer is the truth."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def index_state(self) -> IndexState:
        self._store.collection()
        return IndexState.READY

    def search(
        self,
        query: Query,
        *,
        k: int,
        where: Filter | None = None,
        settings: SearchSettings = DEFAULT_SETTINGS,
        with_records: bool = False,
    ) -> Hits:
        if k < 1:
            raise UsageError(f"the {k} nearest records cannot be found")
        if settings.options:
            raise UsageError(f"memory: has no search option '{next(iter(settings.options))}'")
        held = self._store.collection()
        wanted_field = held.spec.vector(query.field)
        wanted = _wanted(query, wanted_field)
        with held.lock:
            scored = [
                (score(wanted_field, wanted, record.vectors[query.field]), place)
                for place, record in held.records.items()
                if query.field in record.vectors
                and not nothing_in(record.vectors[query.field])
                and (
                    where is None or matches(where, None if record.payload is None else canonical.loads(record.payload))
                )
            ]
            nearest = nearest_first(wanted_field.metric, scored)[:k]
            found = [held.records[place] for _, place in nearest]
            records = _batch(found, held.spec) if with_records else None
        return Hits(tuple(record.key for record in found), tuple(near for near, _ in nearest), records)


def _records(batch: pa.RecordBatch, spec: CollectionSpec) -> list[Stored]:
    documents = batch.column("document").to_pylist() if spec.has_documents else [None] * batch.num_rows
    payloads = batch.column("payload").to_pylist()
    columns = {vector.name: values_from_column(batch.column(vector.column), vector) for vector in spec.vectors}
    return [
        Stored(key, documents[row], payloads[row], {n: c[row] for n, c in columns.items() if c[row] is not None})  # type: ignore[misc]
        for row, key in enumerate(record_keys(batch))
    ]


def _batch(records: Sequence[Stored], spec: CollectionSpec) -> pa.RecordBatch:
    if not records:
        return empty_batch(spec)
    columns: dict[str, pa.Array] = {
        "id": pa.array([record.key.id for record in records], pa.string()),
        "namespace": pa.array([record.key.namespace for record in records], pa.string()),
        "document": pa.array([record.document for record in records], pa.string()),
        "payload": pa.array([record.payload for record in records], pa.string()),
    }
    for vector in spec.vectors:
        columns[vector.column] = column_from_values([record.vectors.get(vector.name) for record in records], vector)
    schema = stream_schema(spec)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _bounds(partition: Partition) -> tuple[Place | None, Place | None]:
    if not partition.token:
        return None, None
    start, end = json.loads(partition.token)
    return (tuple(start) if start else None), (tuple(end) if end else None)


def _place_in(cursor: Cursor) -> Place | None:
    place: Any = read_cursor(cursor).get("place")
    return None if place is None else (bool(place[0]), str(place[1]), str(place[2]))


def _difference(there: CollectionSpec, wanted: CollectionSpec) -> str | None:
    """In which respect the layouts differ. The model may differ: a store is not asked to know it."""
    for name in ("id_kind", "has_namespaces", "has_documents"):
        if getattr(there, name) != getattr(wanted, name):
            return f"its {name} is {getattr(there, name)}, not {getattr(wanted, name)}"
    have = {vector.column: vector for vector in there.vectors}
    want = {vector.column: vector for vector in wanted.vectors}
    for column in sorted(have.keys() ^ want.keys()):
        return f"{'has' if column in have else 'lacks'} the vector field '{column}'"
    for column, vector in want.items():
        for name in ("dtype", "metric", "dimensions"):
            if getattr(have[column], name) != getattr(vector, name):
                return f"'{column}' has {name} {getattr(have[column], name)}, not {getattr(vector, name)}"
    return None


def _wanted(query: Query, vector: VectorField) -> Vector:
    given = {VectorKind.DENSE: query.dense, VectorKind.MULTI: query.multi, VectorKind.SPARSE: query.sparse}
    wanted = given.pop(vector.kind)
    if wanted is None or any(other is not None for other in given.values()):
        raise UsageError(f"the field '{vector.column}' is searched with one {vector.kind.value} vector")
    if not isinstance(wanted, tuple) and wanted.shape[-1] != vector.item_count:
        raise DataInvalid(f"a query of {wanted.shape[-1]} numbers for '{vector.column}' of {vector.item_count}")
    return wanted


def _open(address: Address, network: Network) -> MemoryStore:
    address.only_options()
    return MemoryStore(address.location, address.collection)


ADAPTER = StoreAdapter(
    scheme="memory",
    summary="in-memory reference store; nothing outlives the process",
    address_form="memory:NAME#COLLECTION",
    open=_open,
    vector_kinds=("dense", "multi", "sparse"),
)
