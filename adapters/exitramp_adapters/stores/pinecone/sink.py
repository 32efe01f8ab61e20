"""Writing into an index of Pinecone's: upserts of at most 2 MB, several in flight; the origin goes into its tags."""

from __future__ import annotations

import base64
import json
import math
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

import pyarrow as pa

from exitramp.errors import (
    CollectionExists,
    CollectionMissing,
    DataInvalid,
    ExitrampError,
    RequestTooLarge,
    StoreProtocolError,
    StoreRejected,
    UsageError,
)
from exitramp.ports import Origin, SinkLimits, TransferAccount, difference_of
from exitramp.ports.collection_metadata import KEY
from exitramp.records import CollectionSpec, IdKind, RecordKey, VectorField, VectorKind
from exitramp_adapters.stores.pinecone import reading, records
from exitramp_adapters.stores.pinecone.client import DEFAULT_NAMESPACE
from exitramp_adapters.stores.pinecone.opened import OpenedPinecone
from exitramp_adapters.stores.pinecone.search import by_namespace

_TAGS: Final = 20
_TAG_CHARACTERS: Final = 120
_POLL_SECONDS: Final = 0.1
_DELETED_AT_ONCE: Final = 1000
_UPSERTS_IN_FLIGHT: Final = 8


class PineconeSink:
    """Sends while more is being prepared. Each upsert is durable when it is acknowledged, and shows to readers with a
    delay; `finish` waits for that."""

    def __init__(self, store: OpenedPinecone) -> None:
        self._store = store
        self._written: dict[str, int] = {}
        self._uploads = Uploads(self._send, _UPSERTS_IN_FLIGHT)

    def limits(self) -> SinkLimits:
        limits = records.limits_for(self._store.kind, self._store.metadata_bytes)
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
        there, wanted = store.fields(), spec.vectors
        different = difference_of(CollectionSpec("", IdKind.STRING, there), CollectionSpec("", IdKind.STRING, wanted))
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
            store.fields(),
            namespace=connection.namespace,
            metadata_bytes=store.metadata_bytes,
            where=str(connection.address),
        )
        for request in requests:
            self._uploads.put(request)

    def _send(self, request: records.Request) -> None:
        try:
            with self._store.connection.data() as index:
                answer = index.upsert(vectors=request.native(), namespace=request.namespace)
        except RequestTooLarge as error:
            # Halved here, not above: by now it may be another batch's turn.
            halves = request.halves()
            if not halves:
                raise StoreRejected(f"record '{request.vectors[0]['id']}': {error.message}") from error
            for half in halves:
                self._send(half)
            return
        if answer.upserted_count != len(request.vectors):
            raise StoreProtocolError(
                f"{self._store.connection.address}: of {len(request.vectors)} records that were sent, "
                f"{answer.upserted_count} were taken"
            )
        lsn = None if answer.response_info is None else answer.response_info.lsn_committed
        if lsn is not None:
            self._written[request.namespace] = max(lsn, self._written.get(request.namespace, 0))

    def delete(self, keys: Sequence[RecordKey]) -> None:
        self._uploads.settle()
        self._store.connection.model()
        for namespace, ids in by_namespace(self._store, keys).items():
            for start in range(0, len(ids), _DELETED_AT_ONCE):
                with self._store.connection.data() as index:
                    index.delete(ids=ids[start : start + _DELETED_AT_ONCE], namespace=namespace)

    def flush(self) -> None:
        """Return when everything was acknowledged: Pinecone writes its log first. It is asked whether it still answers,
        since nothing may have been under way."""
        self._uploads.settle()
        self._store.connection.model(fresh=True)

    def finish(self, account: TransferAccount) -> None:
        """Wait until readers see what was written, as far as Pinecone says how far it is; whoever set a deadline ends
        it."""
        self._uploads.settle()
        for namespace, lsn in sorted(self._written.items()):
            while True:
                with self._store.connection.data() as index:
                    answer = index.query(top_k=1, namespace=namespace, **_any_query(self._store.fields()[0]))
                info = answer.response_info
                if info is None or info.lsn_reconciled is None or info.is_reconciled(lsn):
                    break
                time.sleep(_POLL_SECONDS)
        self._written.clear()

    def close(self) -> None:
        """What was not flushed may be lost."""
        self._uploads.close()


class Uploads:
    """Requests under way, a few at a time: 20,000 records of 384 numbers took a third less than one batch's after the
    other's. One that failed is kept and sent again by the next call, which whoever tries again makes."""

    def __init__(self, send: Callable[[records.Request], None], most: int) -> None:
        self._send, self._most = send, most
        self._flights: reading.Flights | None = None
        self._under_way: deque[tuple[Future[None], records.Request]] = deque()
        self._failed: list[records.Request] = []
        self._lock = threading.Lock()

    def put(self, request: records.Request) -> None:
        """Send it soon; raises what an older one met."""
        with self._lock:
            # What is written twice must land in this order.
            if self._failed or any(request.shares(other) for _, other in self._under_way):
                self._settle()
            if len(self._under_way) >= self._most:
                self._settle_one()
            self._start(request)

    def settle(self) -> None:
        """Return when all were acknowledged; raises what one of them met, having waited for the others."""
        with self._lock:
            self._settle()

    def close(self) -> None:
        if self._flights is not None:
            self._flights.close()

    def _start(self, request: records.Request) -> None:
        if self._flights is None:
            self._flights = reading.Flights(self._most)
        self._under_way.append((self._flights.send(partial(self._send, request)), request))

    def _settle(self) -> None:
        again, self._failed = self._failed, []
        for request in again:
            self._start(request)
        met: ExitrampError | None = None
        while self._under_way:
            try:
                self._settle_one()
            except ExitrampError as error:
                met = met or error
        if met is not None:
            raise met

    def _settle_one(self) -> None:
        future, request = self._under_way[0]
        try:
            future.result()
        except ExitrampError:
            self._failed.append(request)
            raise
        finally:
            if future.done():
                self._under_way.popleft()


def _any_query(field: VectorField) -> dict[str, Any]:
    if field.kind is VectorKind.SPARSE:
        return {"sparse_vector": {"indices": [0], "values": [1.0]}}
    return {"vector": [1.0 / math.sqrt(field.item_count)] * field.item_count}
