"""Weaviate over its REST and gRPC contract: `weaviate+http://HOST:PORT?grpc_port=50051#Collection`.

Tested against a mock of the contract only; see docs/stores/weaviate.md for what each part rests on.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final
from uuid import UUID

import pyarrow as pa

from exitramp.arrow import empty_batch, require_schema, usual_row_bytes
from exitramp.errors import CollectionExists, CollectionMissing, RequestTooLarge, StoreRejected, UsageError
from exitramp.filters import Filter
from exitramp.ports import (
    DEFAULT_SETTINGS,
    Cursor,
    Hits,
    IndexCoverage,
    IndexState,
    Origin,
    Page,
    Partition,
    Query,
    SearchSettings,
    SinkLimits,
    StoreAdapter,
    StoreIdentity,
    TransferAccount,
    difference_of,
    make_cursor,
    read_cursor,
)
from exitramp.ports.places import require_page_rows
from exitramp.records import CollectionSpec, Finding, RecordKey, VectorKind, Verdict
from exitramp.urls import Address, Network
from exitramp_adapters.stores import _weaviate_records as records
from exitramp_adapters.stores import _weaviate_schema as schema
from exitramp_adapters.stores import _weaviate_values as values
from exitramp_adapters.stores._weaviate_client import Connection
from exitramp_adapters.stores._weaviate_filters import Translation, ids_message

EVIDENCE: Final = "wire mocked"
_FIRST: Final = str(UUID(int=0))
# Objects asked for at once, and about how many bytes: the server takes limits up to 10,000 and messages up to 100 MB.
_PAGE_ROWS: Final = 1000
_PAGE_BYTES: Final = 16_000_000
_MOST_RESULTS: Final = 10_000
_SENT_BYTES: Final = 8_000_000
_POLL_SECONDS: Final = 0.2


class WeaviateStore(Connection):
    """One opened address. Its roles share what the server said of the collection."""

    def __init__(self, address: Address, network: Network) -> None:
        super().__init__(address, network)
        self._shape: schema.Shape | None = None
        self._tenants: dict[str, bool] | None = None

    def source(self) -> WeaviateSource:
        return WeaviateSource(self)

    def sink(self) -> WeaviateSink:
        return WeaviateSink(self)

    def search(self) -> WeaviateSearch:
        return WeaviateSearch(self)

    def drop(self) -> None:
        """Remove the collection. Raises `CollectionMissing`."""
        self.definition()
        self.expect("delete", f"/schema/{self.name}")
        self._shape = self._tenants = None

    @property
    def name(self) -> str:
        name = self.address.require_collection()
        if not schema.is_name(name):
            raise UsageError(
                f"{self.address}: Weaviate takes no collection named {name!r}",
                hint="a capital letter first, then letters, digits and _",
            )
        return name

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(str(each["class"]) for each in self.expect("get", "/schema").get("classes") or ()))

    def definition(self) -> dict[str, Any]:
        """What the server says of the collection, in its own JSON. Raises `CollectionMissing`."""
        status, told = self.rest("get", f"/schema/{self.name}")
        if status == 404:
            names = ", ".join(repr(name) for name in self.names()[:20]) or "none"
            raise CollectionMissing(
                f"{self.address}: there is no collection {self.name!r}", hint=f"the collections there are: {names}"
            )
        if status != 200 or not isinstance(told, dict):
            raise StoreRejected(f"{self.address} does not describe the collection ({status})")
        return told

    def shape(self, *, fresh: bool = False) -> schema.Shape:
        if self._shape is None or fresh:
            definition, where = self.definition(), str(self.address)
            dimensions: dict[str, int] = {}
            if not schema.is_own_description(definition):
                dimensions = self._seen_dimensions(definition, where)
            self._shape = schema.shape_of(definition, dimensions, where=where)
        return self._shape

    def forget(self) -> None:
        self._shape = self._tenants = None

    def _seen_dimensions(self, definition: Mapping[str, Any], where: str) -> dict[str, int]:
        """Of a collection that somebody else made, which does not tell: read until each vector was seen, or all was."""
        wanted = {each.name: each for each in schema.declared_vectors(definition, where=where)}
        seen: dict[str, int] = {}
        for tenant in self.active_tenants() if schema.has_tenants(definition) else [""]:
            for results in self._walk(tenant, list(wanted), [], _PAGE_ROWS):
                for name in wanted.keys() - seen.keys():
                    found = next((each for each in records.vector_bytes(results, wanted[name]) if each), None)
                    if found is not None:
                        multi = wanted[name].kind is VectorKind.MULTI
                        seen[name] = int.from_bytes(found[:2], "little") if multi else len(found) // 4
                if len(seen) == len(wanted):
                    return seen
        return seen

    def tenants(self, *, fresh: bool = False) -> dict[str, bool]:
        """Every tenant, and whether its records can be read as they are."""
        if self._tenants is None or fresh:
            told = self.expect("get", f"/schema/{self.name}/tenants") or ()
            # One without a status is one that nobody changed; HOT and ACTIVE are the same by another name.
            self._tenants = {
                str(each["name"]): (each.get("activityStatus") or "ACTIVE") in ("ACTIVE", "HOT") for each in told
            }
        return self._tenants

    def active_tenants(self) -> list[str]:
        return sorted(name for name, active in self.tenants(fresh=True).items() if active)

    def parts(self) -> list[str]:
        """The tenants that can be read, or the one "" of a collection without."""
        return self.active_tenants() if self.shape().tenancy else [""]

    def request(self, tenant: str, vectors: Sequence[str], properties: Sequence[str], limit: int) -> Any:
        from weaviate.proto.v1 import search_get_pb2 as pb

        return pb.SearchRequest(
            collection=self.name,
            tenant=tenant,
            limit=limit,
            properties=pb.PropertiesRequest(non_ref_properties=properties),
            metadata=pb.MetadataRequest(
                uuid=True, vector="" in vectors, vectors=[name for name in vectors if name], distance=False
            ),
            uses_127_api=True,
        )

    def whole(self, tenant: str, limit: int) -> Any:
        """A request for everything that records of this collection are made of."""
        shape = self.shape()
        native = [each.name for each in shape.native.values()]
        wanted = [name for name in shape.payload_properties() if name != schema.TERMS]
        return self.request(tenant, native, wanted, limit)

    def listed(self, request: Any) -> Sequence[Any]:
        return records.require_rows(self.call("Search", request), request.limit, where=str(self.address))

    def behind(self, request: Any, after: str) -> Sequence[Any]:
        """The objects behind an id, by ascending ids. Fewer at once where a message would be too large."""
        request.after = after
        while True:
            try:
                return self.listed(request)
            except RequestTooLarge:
                if request.limit == 1:
                    raise
                request.limit //= 2

    def _walk(self, tenant: str, vectors: Sequence[str], properties: Sequence[str], rows: int) -> Iterator[Sequence[Any]]:
        request = self.request(tenant, vectors, properties, 1)
        request.filters.CopyFrom(ids_message([_FIRST]))
        yield self.listed(request)
        after = _FIRST
        while True:
            found = self.behind(self.request(tenant, vectors, properties, rows), after)
            if not found:
                return
            yield found
            after = found[-1].metadata.id

    def by_ids(self, tenant: str, ids: list[str]) -> Sequence[Any]:
        request = self.whole(tenant, max(1, len(ids)))
        request.filters.CopyFrom(ids_message(ids))
        return self.listed(request)

    def count(self, tenant: str) -> int:
        from weaviate.proto.v1 import aggregate_pb2

        request = aggregate_pb2.AggregateRequest(collection=self.name, tenant=tenant, objects_count=True)
        return int(self.call("Aggregate", request).single_result.objects_count)

    def shards(self) -> list[Mapping[str, Any]]:
        told = self.expect("get", f"/nodes/{self.name}?output=verbose")
        return [shard for node in told.get("nodes") or () for shard in node.get("shards") or ()]


class WeaviateSource:
    """Reads by the cursor, tenant by tenant, in the order of ids; nothing is ever activated or changed."""

    def __init__(self, store: WeaviateStore) -> None:
        self._store = store

    def identity(self) -> StoreIdentity:
        store = self._store
        names = store.names()
        found: list[Finding] = []
        if store.address.collection in names:
            found = self._findings()
        return StoreIdentity(
            "weaviate+http",
            str(store.address),
            store.version(),
            version("weaviate-client"),
            evidence=EVIDENCE,
            collections=names,
            findings=tuple(found),
        )

    def _findings(self) -> list[Finding]:
        store = self._store
        definition, found = store.definition(), []
        if schema.has_tenants(definition):
            asleep = sorted(name for name, active in store.tenants(fresh=True).items() if not active)
            if asleep:
                said = (
                    f"{len(asleep)} of its tenants are not active, so that their records cannot be read: "
                    f"{', '.join(asleep[:20])}; activate them first, which this does not do"
                )
                found.append(
                    Finding("source.tenants_inactive", said, Verdict.INCONCLUSIVE, tuple(asleep[:20]), len(asleep))
                )
        shape = store.shape()
        if shape.references():
            said = f"cross-references are not read: {', '.join(shape.references()[:20])}"
            found.append(Finding("source.references_unread", said, count=len(shape.references())))
        declared = [each.name for each in schema.declared_vectors(definition, where=str(store.address))]
        unseen = [name for name in declared if name not in {each.name for each in shape.native.values()}]
        if unseen and not shape.own:
            said = f"vectors that no record has are left out: {', '.join(repr(name) for name in unseen)}"
            found.append(Finding("source.vectors_empty", said, count=len(unseen)))
        return found

    def describe(self) -> CollectionSpec:
        return self._store.shape(fresh=True).spec

    def origin(self) -> Origin | None:
        return self._store.shape(fresh=True).origin

    def count(self) -> int:
        return sum(self._store.count(tenant) for tenant in self._store.parts())

    def partitions(self, wanted: int) -> Sequence[Partition]:
        """Tenants in groups; a collection without, by ranges of ids, which are spread evenly where they are random."""
        tenants = self._store.parts()
        if self._store.shape().tenancy:
            of = max(1, min(wanted, len(tenants)))
            tokens = [[[name, _FIRST, None] for name in tenants[part::of]] for part in range(of)]
        else:
            of = max(1, wanted)
            bounds = [str(UUID(int=2**128 * part // of)) for part in range(of)]
            ends = [*bounds[1:], None]
            tokens = [[["", bounds[part], ends[part]]] for part in range(of)]
        return [Partition(part, of, json.dumps(token)) for part, token in enumerate(tokens)]

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        require_page_rows(batch_rows)
        store, shape = self._store, self._store.shape()
        rows = min(batch_rows, _PAGE_ROWS, max(1, _PAGE_BYTES // usual_row_bytes(shape.spec)))
        segments: list[tuple[str, str, str | None]] = (
            [tuple(each) for each in json.loads(partition.token)]
            if partition.token
            else [(tenant, _FIRST, None) for tenant in store.parts()]
        )
        told = None if after is None else read_cursor(after)
        if told is not None and told.get("id") is not None:
            names = [segment[0] for segment in segments]
            if told["tenant"] not in names:
                raise UsageError(f"{store.address}: the cursor is of the tenant {told['tenant']!r}, which is not there")
            segments = segments[names.index(told["tenant"]) :]
        behind = None if told is None else told.get("id")
        cursor = make_cursor(tenant=segments[0][0] if segments else "", id=behind)
        for tenant, start, end in segments:
            for results in self._segment(tenant, start, end, behind, rows):
                cursor = make_cursor(tenant=tenant, id=results[-1].metadata.id)
                yield Page(records.batch_of(results, shape, tenant, where=str(store.address)), cursor)
            behind = None
        yield Page(empty_batch(shape.spec), cursor, last=True)

    def _segment(
        self, tenant: str, start: str, end: str | None, behind: str | None, rows: int
    ) -> Iterator[Sequence[Any]]:
        """Ids from `start` on, before `end`. The cursor begins behind an id, so the first one is asked for by itself."""
        store = self._store
        after = behind
        if after is None:
            if found := store.by_ids(tenant, [start]):
                yield found
            after = start
        while True:
            found = store.behind(store.whole(tenant, rows), after)
            within = [each for each in found if end is None or each.metadata.id < end]
            if within:
                yield within
            if len(within) < len(found) or not found:
                return
            after = found[-1].metadata.id

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        store, shape = self._store, self._store.shape()
        parts = []
        for tenant, ids in _by_tenant(keys, shape, store.parts()).items():
            for first in range(0, len(ids), _PAGE_ROWS):
                found = store.by_ids(tenant, ids[first : first + _PAGE_ROWS])
                parts.append(records.batch_of(found, shape, tenant, where=str(store.address)))
        if not parts:
            store.version()
            return empty_batch(shape.spec)
        return pa.Table.from_batches(parts).combine_chunks().to_batches()[0] if any(len(part) for part in parts) else parts[0]

    def close(self) -> None:
        """The store holds the connection."""


class WeaviateSink:
    """Writes whole objects; the server answers once each is in its log, and for each by itself."""

    def __init__(self, store: WeaviateStore) -> None:
        self._store = store
        self._spec: CollectionSpec | None = None
        self._lock = threading.Lock()

    def limits(self) -> SinkLimits:
        return schema.LIMITS

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        store = self._store
        try:
            there = store.shape(fresh=True)
        except CollectionMissing:
            store.expect("post", "/schema", schema.definition_of(spec, origin, store.name))
            store.forget()
            self._spec = spec
            return
        different = difference_of(there.spec, spec)
        if different is not None:
            raise CollectionExists(f"{store.address} is there already and {different}", hint="choose another name")
        self._spec = spec
        if there.own and not any(store.count(tenant) for tenant in store.parts()):
            # What was told of records that are gone explains no others.
            described = {**store.definition(), "description": schema.description_of(spec, origin)}
            store.expect("put", f"/schema/{store.name}", described)
            store.forget()

    def upsert(self, batch: pa.RecordBatch) -> None:
        store, where = self._store, str(self._store.address)
        shape = store.shape()
        require_schema(batch, self._spec or shape.spec, where=where)
        if batch.num_rows > schema.BATCH_ROWS:
            raise UsageError(f"{where}: {batch.num_rows} rows at once, of at most {schema.BATCH_ROWS}")
        if shape.tenancy:
            self._need_tenants({records.tenant_of(name) for name in batch.column("namespace").to_pylist()})
        payloads = records.payloads_of(batch)
        kinds = self._need_properties(payloads, shape)
        objects = records.objects_of(batch, payloads, shape, kinds, where=where)
        some: list[Any] = []
        size = 0
        for each in objects:
            length = each.ByteSize()
            if some and size + length > _SENT_BYTES:
                self._send(some)
                some, size = [], 0
            some.append(each)
            size += length
        if some:
            self._send(some)

    def _send(self, objects: list[Any]) -> None:
        from weaviate.proto.v1 import batch_pb2

        reply = self._store.call("BatchObjects", batch_pb2.BatchObjectsRequest(objects=objects))
        if reply.errors:
            from exitramp_adapters.stores._weaviate_client import brief

            failed = sorted({each.index for each in reply.errors if each.index < len(objects)})
            ids = ", ".join(repr(objects[index].uuid) for index in failed[:20])
            raise StoreRejected(
                f"{self._store.address}: {len(failed)} of {len(objects)} objects were refused, the others are there: "
                f"{ids} ({brief(reply.errors[0].error)})"
            )

    def _need_tenants(self, wanted: set[str]) -> None:
        store = self._store
        with self._lock:
            missing = sorted(wanted - store.tenants().keys())
            if missing:
                store.expect("post", f"/schema/{store.name}/tenants", [{"name": name} for name in missing])
            there = store.tenants(fresh=bool(missing))
        asleep = sorted(name for name in wanted if not there.get(name))
        if asleep:
            raise StoreRejected(f"{store.address}: these tenants are not active: {', '.join(asleep[:20])}")

    def _need_properties(
        self, payloads: Sequence[dict[str, Any] | None], shape: schema.Shape
    ) -> dict[str, Mapping[str, Any]]:
        """The properties that payload keys go into, after those that were missing were made."""
        store, kinds = self._store, shape.properties()
        own = [each for each in schema.own_properties(shape.spec) if each["name"] not in kinds]
        wanted: dict[str, dict[str, Any]] = {}
        room = values.MOST_PROPERTIES - len(kinds)
        for payload in payloads:
            for key, value in (payload or {}).items():
                if key not in kinds and key not in wanted and len(wanted) < room:
                    guessed = values.guessed_property(key, value)
                    if guessed is not None:
                        wanted[key] = guessed
        if own or wanted:
            with self._lock:
                for each in [*own, *wanted.values()]:
                    # Somebody else who writes at the same time may have made it: what it is then is looked up below.
                    with contextlib.suppress(StoreRejected):
                        store.expect("post", f"/schema/{store.name}/properties", each)
                store.forget()
                kinds = store.shape().properties()
            for each in own:
                if each["name"] not in kinds:
                    raise StoreRejected(f"{store.address}: the property {each['name']!r} cannot be made")
        return {
            name: each for name, each in kinds.items() if not name.startswith(schema.PREFIX) and not schema.is_reference(each)
        }

    def delete(self, keys: Sequence[RecordKey]) -> None:
        from weaviate.proto.v1 import batch_delete_pb2

        store = self._store
        for tenant, ids in _by_tenant(keys, store.shape(), store.parts()).items():
            for first in range(0, len(ids), _PAGE_ROWS):
                request = batch_delete_pb2.BatchDeleteRequest(
                    collection=store.name, filters=ids_message(ids[first : first + _PAGE_ROWS])
                )
                if tenant:
                    request.tenant = tenant
                reply = store.call("BatchDelete", request)
                if reply.failed or reply.successful != reply.matches:
                    raise StoreRejected(f"{store.address}: {reply.failed} of {reply.matches} objects were not deleted")

    def flush(self) -> None:
        """Every batch was answered for when it was sent."""

    def finish(self, account: TransferAccount) -> None:
        """Wait while vectors are indexed in the background; whoever set a deadline ends it."""
        while WeaviateSearch(self._store).index_state() is IndexState.BUILDING:
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """The store holds the connection."""


class WeaviateSearch:
    """Nearest records by the server's index; over all tenants, or one that `tenant` names."""

    def __init__(self, store: WeaviateStore) -> None:
        self._store = store

    def index_state(self) -> IndexState:
        self._store.shape()
        found = {str(shard.get("vectorIndexingStatus")) for shard in self._store.shards()}
        if "INDEXING" in found:
            return IndexState.BUILDING
        return IndexState.READY if found <= {"READY"} else IndexState.UNKNOWN

    def search_options(self) -> Mapping[str, Any]:
        """`ef` and what it depends on are settings of the collection in Weaviate, not of a search."""
        return {"tenant": None}

    def coverage(self) -> IndexCoverage:
        """By the count of objects, since it has none of vectors: told for one field, and of one kind of index."""
        shape = self._store.shape()
        kinds = {each.index for each in shape.native.values()}
        if len(shape.native) != 1 or kinds - {"flat", "hnsw"}:
            return IndexCoverage(note="Weaviate does not count the vectors that each of its indexes has")
        count = sum(self._store.count(tenant) for tenant in self._store.parts())
        return IndexCoverage(0, count) if kinds == {"flat"} else IndexCoverage(count, 0)

    def search(
        self,
        query: Query,
        *,
        k: int,
        where: Filter | None = None,
        settings: SearchSettings = DEFAULT_SETTINGS,
        with_records: bool = False,
    ) -> Hits:
        store, shape = self._store, self._store.shape()
        field, vector = records.query_bytes(query, shape.spec, k=k)
        native = shape.native[field.name]
        if settings.exact and native.index != "flat":
            raise UsageError(f"an index of the kind {native.index!r} has no exact search", hint="a flat one compares all")
        if k > _MOST_RESULTS:
            raise UsageError(f"a search for {k} records, of at most {_MOST_RESULTS}")
        condition: Any = None
        tenants = self._asked(settings.options)
        if where is not None:
            translation = Translation(shape, store.version())
            condition = translation.message(where)
            self._require_lacking(translation, tenants)
        found: list[tuple[float, RecordKey, Any, str]] = []
        for tenant in tenants if condition is not False else []:
            request = store.whole(tenant, k) if with_records else store.request(tenant, [], _named(shape), k)
            request.metadata.distance = True
            kind = 2 if field.kind is VectorKind.MULTI else 1
            request.near_vector.vectors.add(name=native.name, vector_bytes=vector, type=kind)
            if native.name:
                request.near_vector.targets.target_vectors.append(native.name)
            if condition is not None and condition is not True:
                request.filters.CopyFrom(condition)
            for each in store.listed(request):
                key = RecordKey(each.metadata.id, _namespace(each, tenant) if shape.tenancy else None)
                found.append((each.metadata.distance, key, each, tenant))
        nearest = heapq.nsmallest(k, found, key=lambda hit: hit[0])
        batch = None
        if with_records:
            parts = [
                records.batch_of([hit[2] for hit in nearest if hit[3] == tenant], shape, tenant, where=str(store.address))
                for tenant in dict.fromkeys(hit[3] for hit in nearest)
            ]
            batch = pa.Table.from_batches(parts).combine_chunks().to_batches()[0] if parts else empty_batch(shape.spec)
        return Hits(tuple(hit[1] for hit in nearest), tuple(float(hit[0]) for hit in nearest), batch)

    def _asked(self, options: Mapping[str, Any]) -> list[str]:
        store = self._store
        for name in options:
            if name != "tenant":
                raise UsageError(
                    f"Weaviate has no search option {name!r}",
                    hint="its option is: tenant; ef, dynamicEf… and flatSearchCutoff are settings of the collection",
                )
        if not store.shape().tenancy:
            if options.get("tenant") is not None:
                raise UsageError(f"{store.address} has no tenants")
            return [""]
        tenants = store.tenants(fresh=True)
        if options.get("tenant") is not None:
            if not tenants.get(str(options["tenant"])):
                raise UsageError(f"{store.address} has no active tenant {options['tenant']!r}")
            return [str(options["tenant"])]
        asleep = sorted(name for name, active in tenants.items() if not active)
        if asleep:
            raise UsageError(
                f"{store.address}: a search over all tenants would leave out those that are not active: "
                f"{', '.join(asleep[:20])}",
                hint="ask one tenant with the search option tenant=NAME",
            )
        return sorted(tenants)

    def _require_lacking(self, translation: Translation, tenants: Sequence[str]) -> None:
        """A range cannot be asked for of numbers that are kept as text."""
        for term, path in translation.lacking.items():
            for tenant in tenants:
                request = self._store.request(tenant, [], [], 1)
                request.filters.CopyFrom(translation.of_term(term))
                if self._store.listed(request):
                    raise UsageError(
                        f"Weaviate cannot filter by 'range' on {'.'.join(path)!r} exactly: records have numbers there "
                        "that are kept as text, since they fit no property of the collection"
                    )


def _named(shape: schema.Shape) -> list[str]:
    return [schema.NAMESPACE] if schema.NAMESPACE in shape.properties() else []


def _namespace(result: Any, tenant: str) -> str | None:
    field = result.properties.non_ref_props.fields
    if schema.NAMESPACE in field and field[schema.NAMESPACE].WhichOneof("kind") == "text_value":
        return str(field[schema.NAMESPACE].text_value)
    return records.namespace_of(tenant)


def _by_tenant(keys: Sequence[RecordKey], shape: schema.Shape, there: Sequence[str]) -> dict[str, list[str]]:
    """The ids that may be there, each once, by tenant."""
    found: dict[str, dict[str, None]] = {}
    for key in keys:
        if not shape.tenancy and key.namespace is not None:
            continue
        tenant = records.tenant_of(key.namespace) if shape.tenancy else ""
        if tenant in there and records.is_id(key.id):
            found.setdefault(tenant, {})[key.id] = None
    return {tenant: list(ids) for tenant, ids in found.items()}


def _open(address: Address, network: Network) -> WeaviateStore:
    return WeaviateStore(address, network)


ADAPTER: Final = StoreAdapter(
    scheme="weaviate+http",
    summary="Weaviate over REST and gRPC with its own client; tested on a mock of its contract, never on a server",
    address_form="weaviate+http://HOST:PORT?grpc_port=50051[&api_key=env:NAME&tls=true&grpc_host=HOST]#Collection",
    open=_open,
    extra="weaviate",
    requires=("weaviate", "grpc"),
    vector_kinds=(VectorKind.DENSE.value, VectorKind.MULTI.value),
    fidelity="bit-exact",
    evidence=EVIDENCE,
)
