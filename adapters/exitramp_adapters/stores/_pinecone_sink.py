"""Writing into an index of Pinecone's: upserts of at most 2 MB, several in flight; the origin goes into its tags."""

from __future__ import annotations

import base64
import json
import math
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

import pyarrow as pa

from exitramp.errors import CollectionExists, CollectionMissing, DataInvalid, StoreProtocolError, UsageError
from exitramp.ports import Origin, SinkLimits, TransferAccount, difference_of
from exitramp.ports.collection_metadata import KEY
from exitramp.records import CollectionSpec, IdKind, RecordKey, VectorKind
from exitramp_adapters.stores import _pinecone_reading as reading
from exitramp_adapters.stores import _pinecone_records as records
from exitramp_adapters.stores._pinecone_client import DEFAULT_NAMESPACE
from exitramp_adapters.stores._pinecone_opened import OpenedPinecone
from exitramp_adapters.stores._pinecone_search import by_namespace

_TAGS: Final = 20
_TAG_CHARACTERS: Final = 120
_POLL_SECONDS: Final = 0.1
_DELETED_AT_ONCE: Final = 1000
_UPSERTS_IN_FLIGHT: Final = 4


class PineconeSink:
    """Each upsert is durable when it is acknowledged, and shows to readers with a delay; `finish` waits for that."""

    def __init__(self, store: OpenedPinecone) -> None:
        self._store = store
        self._written: dict[str, int] = {}

    def limits(self) -> SinkLimits:
        limits = records.limits_for(self._store.kind)
        return limits if self._store.connection.namespace is None else replace(limits, namespaces=False)

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        store, connection = self._store, self._store.connection
        schema = records.schema_of(spec, where=str(connection.address))
        note = self._note(origin)
        try:
            connection.model(fresh=True)
        except CollectionMissing:
            self._make(spec, schema, note)
            return
        there, wanted = store.spec(), spec
        different = difference_of(
            CollectionSpec("", IdKind.STRING, there.vectors), CollectionSpec("", IdKind.STRING, wanted.vectors)
        )
        if different is not None:
            raise CollectionExists(f"{connection.address} is there already: {different}", hint="choose another name")
        if not self._count():
            self._tag(note)

    def _count(self) -> int:
        narrowed, held = self._store.connection.namespace, self._store.connection.stats().namespaces
        return sum(each.vector_count for name, each in held.items() if narrowed in (None, name or DEFAULT_NAMESPACE))

    def _make(self, spec: CollectionSpec, schema: dict[str, Any], note: dict[str, str]) -> None:
        connection = self._store.connection
        told = spec.index.get("pinecone") or {}
        address, deployment = connection.address, told.get("deployment") or {}
        cloud, region = (address.option(name) or deployment.get(name) for name in ("cloud", "region"))
        if cloud is None or region is None:
            hint = "say it, e.g. ?cloud=aws&region=us-east-1"
            raise UsageError(f"{address}: nothing says where the new index shall be", hint=hint)
        tags = {key: str(value) for key, value in (told.get(KEY) or {}).items()} | note
        self._require_room(tags)
        with suppress(CollectionExists), connection.control() as control:
            control.indexes.create(
                name=connection.name,
                schema=schema,
                deployment={"deployment_type": "managed", "cloud": cloud, "region": region},
                tags=tags,
                timeout=-1,
            )
        while not connection.model(fresh=True).status.ready:  # whoever set a deadline ends it
            time.sleep(_POLL_SECONDS)

    def _note(self, origin: Origin) -> dict[str, str]:
        packed = zlib.compress(json.dumps(origin.to_json(), separators=(",", ":"), sort_keys=True).encode(), 9)
        text = base64.urlsafe_b64encode(packed).decode().rstrip("=")
        parts = [text[start : start + _TAG_CHARACTERS] for start in range(0, len(text), _TAG_CHARACTERS)]
        return {f"{self._store.note_name()}{number}": part for number, part in enumerate(parts)}

    def _tag(self, note: dict[str, str]) -> None:
        """Put the note into the tags of an index that is there, and take away what is left of an older one."""
        connection, name = self._store.connection, self._store.note_name()
        there = dict(connection.model().tags or {})
        old = {key: "" for key in there if key.startswith(name) and key.removeprefix(name).isdecimal()}
        self._require_room({key: value for key, value in (there | old | note).items() if value})
        with connection.control() as control:
            control.indexes.configure(connection.name, tags=old | note)
        connection.model(fresh=True)

    def _require_room(self, tags: Mapping[str, str]) -> None:
        if len(tags) > _TAGS:
            raise DataInvalid(
                f"{self._store.connection.address}: the index would need {len(tags)} tags, of {_TAGS} that Pinecone "
                "has room for: its own, and those that say where the records come from",
                hint="take tags away, or leave out what the source says of its indexes",
            )

    def upsert(self, batch: pa.RecordBatch) -> None:
        store, connection = self._store, self._store.connection
        requests = records.requests_of(
            batch,
            store.spec(),
            namespace=connection.namespace,
            metadata_bytes=store.metadata_bytes,
            where=str(connection.address),
        )
        if len(requests) == 1:
            self._send(requests[0])
            return
        flights = reading.Flights(min(_UPSERTS_IN_FLIGHT, max(1, len(requests))))
        try:
            sent = [flights.send(partial(self._send, request)) for request in requests]
            for future in sent:
                future.result()
        finally:
            flights.close()

    def _send(self, request: records.Request) -> None:
        with self._store.connection.data() as index:
            answer = index.upsert(vectors=request.vectors, namespace=request.namespace)
        if answer.upserted_count != len(request.vectors):
            raise StoreProtocolError(
                f"{self._store.connection.address}: of {len(request.vectors)} records that were sent, "
                f"{answer.upserted_count} were taken"
            )
        self._note_written(request.namespace, answer)

    def _note_written(self, namespace: str, answer: Any) -> None:
        lsn = None if answer.response_info is None else answer.response_info.lsn_committed
        if lsn is not None:
            self._written[namespace] = max(lsn, self._written.get(namespace, 0))

    def delete(self, keys: Sequence[RecordKey]) -> None:
        self._store.connection.model()
        for namespace, ids in by_namespace(self._store, keys).items():
            for start in range(0, len(ids), _DELETED_AT_ONCE):
                with self._store.connection.data() as index:
                    index.delete(ids=ids[start : start + _DELETED_AT_ONCE], namespace=namespace)

    def flush(self) -> None:
        """What was acknowledged is durable: Pinecone writes its log first. It is asked whether it still answers."""
        self._store.connection.model(fresh=True)

    def finish(self, account: TransferAccount) -> None:
        """Wait until readers see what was written, as far as Pinecone says how far it is; whoever set a deadline ends
        it."""
        spec = self._store.spec()
        for namespace, lsn in sorted(self._written.items()):
            while True:
                with self._store.connection.data() as index:
                    answer = index.query(top_k=1, namespace=namespace, **_any_query(spec))
                info = answer.response_info
                if info is None or info.lsn_reconciled is None or info.is_reconciled(lsn):
                    break
                time.sleep(_POLL_SECONDS)
        self._written.clear()

    def close(self) -> None:
        """Nothing is held beside the store."""


def _any_query(spec: CollectionSpec) -> dict[str, Any]:
    field = spec.vectors[0]
    if field.kind is VectorKind.SPARSE:
        return {"sparse_vector": {"indices": [0], "values": [1.0]}}
    return {"vector": [1.0 / math.sqrt(field.item_count)] * field.item_count}
