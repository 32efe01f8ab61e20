"""The in-memory reference store: every kind of record, every metric, exact search, nothing clever.

`memory:NAME#COLLECTION` is a store that lives as long as the process, shared by everybody who names it. It is what a
store ought to do, so that tests have something to compare others with; nothing in it survives the process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from exitramp import __version__
from exitramp.arrow import require_schema
from exitramp.errors import CollectionExists, CollectionMissing, DataInvalid, StoreUnavailable, UsageError
from exitramp.filters import Filter
from exitramp.ports import (
    DEFAULT_SETTINGS,
    Cursor,
    DocumentRoom,
    Hits,
    IndexCoverage,
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
    difference_of,
)
from exitramp.ports.places import cursor_behind, parts_of, place_of, require_page_rows, span
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorField, VectorKind
from exitramp.testing.memory_records import MemoryCollection, batch_of, collections_of, records_of
from exitramp.testing.reference import matches, nearest_first, nothing_in, score
from exitramp.testing.rows import Vector
from exitramp.urls import Address, Network

_SCALARS = (
    *("null", "bool", "int", "float", "nonfinite", "string"),
    *("timestamp", "date", "time", "decimal", "uuid", "bytes"),
)
ALL_TYPES = frozenset((*_SCALARS, "list", "object"))
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

    def drop(self) -> None:
        self.collection()
        del self.everything()[self.address.require_collection()]

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
        return parts_of(self._store.collection().order, wanted)

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        require_page_rows(batch_rows)
        held = self._store.collection()
        cursor = after
        while True:
            self._store.collection()  # a closed store or a dropped collection ends the scan, not with a short answer
            with held.lock:
                low, high = span(held.order, partition, cursor)
                places = held.order[low : min(high, low + batch_rows)]
                batch = batch_of([held.records[place] for place in places], held.spec)
            cursor = cursor_behind(places[-1]) if places else cursor or cursor_behind(None)
            last = low + len(places) >= high
            yield Page(batch, cursor, last)
            if last:
                return

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        held = self._store.collection()
        with held.lock:
            places = [place_of(key) for key in dict.fromkeys(keys)]
            return batch_of([held.records[place] for place in places if place in held.records], held.spec)

    def close(self) -> None:
        """Nothing is held; the store itself is closed by whoever opened it."""


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
        difference = difference_of(there.spec, spec)
        if difference:
            raise CollectionExists(
                f"{self._store.address} is there already and {difference}", hint="choose another name"
            )
        if not there.records and self.limits().keeps_origin:
            there.origin = origin

    def upsert(self, batch: pa.RecordBatch) -> None:
        held = self._store.collection()
        where = str(self._store.address)
        require_schema(batch, held.spec, where=where)
        if batch.num_rows > self.limits().batch_rows:
            raise UsageError(f"{where}: {batch.num_rows} rows at once, of at most {self.limits().batch_rows}")
        records = records_of(batch, held.spec)
        seen: set[RecordKey] = set()
        for row, record in enumerate(records):
            if record.key in seen:
                raise DataInvalid(f"{where}: row {row}: the id '{record.key}' stands twice in one batch")
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
        """Nothing is held; the store itself is closed by whoever opened it."""


class MemorySearch:
    """Looks at every record, so that its answer is the truth."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def index_state(self) -> IndexState:
        self._store.collection()
        return IndexState.READY

    def coverage(self) -> IndexCoverage:
        held = self._store.collection()
        columns = [field.column for field in held.spec.vectors if field.kind is not VectorKind.SPARSE]
        with held.lock:
            compared = sum(column in record.vectors for record in held.records.values() for column in columns)
        return IndexCoverage(0, compared, "it has no index")

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
        field, wanted = _wanted(query, held.spec)
        with held.lock:
            scored = [
                (score(field, wanted, record.vectors[field.column]), place)
                for place, record in held.records.items()
                if field.column in record.vectors
                and not nothing_in(record.vectors[field.column])
                and (where is None or matches(where, record.decoded()))
            ]
            nearest = nearest_first(field.metric, scored)[:k]
            found = [held.records[place] for _, place in nearest]
            records = batch_of(found, held.spec) if with_records else None
        return Hits(tuple(record.key for record in found), tuple(near for near, _ in nearest), records)


def _wanted(query: Query, spec: CollectionSpec) -> tuple[VectorField, Vector]:
    """The field that is searched and the vector to look for. Fields of different kinds may share a name."""
    vectors = {VectorKind.DENSE: query.dense, VectorKind.MULTI: query.multi, VectorKind.SPARSE: query.sparse}
    given = {kind: vector for kind, vector in vectors.items() if vector is not None}
    if len(given) != 1:
        raise UsageError("a query holds exactly one of a dense, a multi and a sparse vector")
    [(kind, wanted)] = given.items()
    field = next((each for each in spec.vectors if (each.name, each.kind) == (query.field, kind)), None)
    if field is None:
        raise UsageError(f"the field '{spec.vector(query.field).column}' is not searched with a {kind.value} vector")
    if not isinstance(wanted, tuple) and wanted.shape[-1] != field.item_count:
        raise DataInvalid(f"a query of {wanted.shape[-1]} numbers for '{field.column}' of {field.item_count}")
    return field, wanted


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
