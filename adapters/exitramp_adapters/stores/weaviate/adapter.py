"""Weaviate over its REST and gRPC contract: `weaviate+http://HOST:PORT?grpc_port=50051#Collection`.

Tested against a mock of the contract only; see docs/stores/weaviate.md for what each part rests on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any, Final
from uuid import UUID

import pyarrow as pa

from exitramp.arrow import empty_batch, usual_row_bytes
from exitramp.errors import UsageError
from exitramp.ports import Cursor, Origin, Page, Partition, StoreAdapter, StoreIdentity, make_cursor, read_cursor
from exitramp.ports.places import require_page_rows
from exitramp.records import CollectionSpec, Finding, RecordKey, VectorKind, Verdict
from exitramp.urls import Address, Network
from exitramp_adapters.stores.weaviate import records, schema
from exitramp_adapters.stores.weaviate.collection import EVIDENCE, FIRST, PAGE_ROWS, Collection, by_tenant
from exitramp_adapters.stores.weaviate.search import WeaviateSearch
from exitramp_adapters.stores.weaviate.sink import WeaviateSink

_PAGE_BYTES: Final = 16_000_000


class WeaviateStore(Collection):
    """One opened address. Its roles share what the server said of the collection."""

    def source(self) -> WeaviateSource:
        return WeaviateSource(self)

    def sink(self) -> WeaviateSink:
        return WeaviateSink(self)

    def search(self) -> WeaviateSearch:
        return WeaviateSearch(self)


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
            is_mock=store.is_mock(),
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
            tokens = [[[name, FIRST, None] for name in tenants[part::of]] for part in range(of)]
        else:
            of = max(1, wanted)
            bounds = [str(UUID(int=2**128 * part // of)) for part in range(of)]
            ends = [*bounds[1:], None]
            tokens = [[["", bounds[part], ends[part]]] for part in range(of)]
        return [Partition(part, of, json.dumps(token)) for part, token in enumerate(tokens)]

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        require_page_rows(batch_rows)
        store, shape = self._store, self._store.refreshed()
        rows = min(batch_rows, PAGE_ROWS, max(1, _PAGE_BYTES // usual_row_bytes(shape.spec)))
        segments: list[tuple[str, str, str | None]] = (
            [tuple(each) for each in json.loads(partition.token)]
            if partition.token
            else [(tenant, FIRST, None) for tenant in store.parts()]
        )
        told = None if after is None else read_cursor(after)
        if told is not None and told.get("id") is not None:
            names = [segment[0] for segment in segments]
            if told["tenant"] not in names:
                raise UsageError(f"{store.address}: the cursor is of the tenant {told['tenant']!r}, which is not there")
            segments = segments[names.index(told["tenant"]) :]
        behind = None if told is None else told.get("id")
        tenant, last = segments[0][0] if segments else "", behind
        for tenant, start, end in segments:
            for results in self._segment(tenant, start, end, behind, rows):
                last = results[-1].metadata.id
                batch = records.batch_of(results, shape, tenant, where=str(store.address))
                yield Page(batch, make_cursor(tenant=tenant, id=last))
            behind, last = None, last if tenant == segments[-1][0] else None
        yield Page(empty_batch(shape.spec), make_cursor(tenant=tenant, id=last, end=True), last=True)

    def _segment(
        self, tenant: str, start: str, end: str | None, behind: str | None, rows: int
    ) -> Iterator[Sequence[Any]]:
        """Ids from `start` on, before `end`. The cursor begins behind an id; so the first is asked for by itself."""
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
        store, shape = self._store, self._store.refreshed()
        parts = []
        for tenant, ids in by_tenant(keys, shape, store.parts()).items():
            for first in range(0, len(ids), PAGE_ROWS):
                found = store.by_ids(tenant, ids[first : first + PAGE_ROWS])
                parts.append(records.batch_of(found, shape, tenant, where=str(store.address)))
        if not parts:
            store.version()
            return empty_batch(shape.spec)
        return (
            pa.Table.from_batches(parts).combine_chunks().to_batches()[0]
            if any(len(part) for part in parts)
            else parts[0]
        )

    def close(self) -> None:
        """The store holds the connection."""


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
