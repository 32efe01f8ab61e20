"""Writing into Weaviate: whole objects in batches, each answered for by itself."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from exitramp.arrow import require_schema
from exitramp.errors import CollectionExists, CollectionMissing, StoreRejected, UsageError
from exitramp.ports import IndexState, Origin, SinkLimits, TransferAccount, difference_of
from exitramp.records import CollectionSpec, RecordKey
from exitramp_adapters.stores.weaviate import records, schema, values
from exitramp_adapters.stores.weaviate.client import brief
from exitramp_adapters.stores.weaviate.collection import PAGE_ROWS, Collection, by_tenant
from exitramp_adapters.stores.weaviate.filters import ids_message

# A message may have some 100 MB; the official client sends a hundred objects or so at once.
_SENT_BYTES: Final = 8_000_000
_POLL_SECONDS: Final = 0.2


class WeaviateSink:
    """Writes whole objects; the server answers once each is in its log, and for each by itself."""

    def __init__(self, store: Collection) -> None:
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
            name: each
            for name, each in kinds.items()
            if not name.startswith(schema.PREFIX) and not schema.is_reference(each)
        }

    def delete(self, keys: Sequence[RecordKey]) -> None:
        from weaviate.proto.v1 import batch_delete_pb2

        store = self._store
        for tenant, ids in by_tenant(keys, store.shape(), store.parts()).items():
            for first in range(0, len(ids), PAGE_ROWS):
                request = batch_delete_pb2.BatchDeleteRequest(
                    collection=store.name, filters=ids_message(ids[first : first + PAGE_ROWS])
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
        while self._store.index_state() is IndexState.BUILDING:
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """The store holds the connection."""
