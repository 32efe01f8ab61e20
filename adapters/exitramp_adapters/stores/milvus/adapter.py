"""Milvus: a server (`milvus+http://HOST:PORT#collection`) or a folder of milvus-lite 3 (`milvus:./x.db#collection`).

Both answer the same calls, and differ in what they take; `schema` says what a collection of ours looks like.

Reading goes by the primary key: every page asks for the next keys behind the last one, which come in order. A page is
asked for at the time at which the scan began: asked for "now" (`Strong`) a server with its usual settings lets each
wait 0.2 s for that to pass. Milvus reads only what is loaded into its memory. A source does not load a server's
collection by itself, since the memory is not ours to spend: `?load=true` allows it. milvus-lite's memory is ours.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence, Set
from importlib.metadata import version
from itertools import pairwise
from typing import Any, Final

import pyarrow as pa

from exitramp.arrow import empty_batch, usual_row_bytes
from exitramp.errors import CollectionMissing, RequestTooLarge, StoreProtocolError, StoreRejected, UsageError
from exitramp.ports import (
    Cursor,
    Origin,
    Page,
    Partition,
    StoreAdapter,
    StoreIdentity,
    make_cursor,
    read_cursor,
)
from exitramp.ports.places import require_page_rows
from exitramp.records import CollectionSpec, Finding, RecordKey
from exitramp.urls import Address, Network
from exitramp_adapters.stores.milvus.client import Connection, NotLoaded, Refused
from exitramp_adapters.stores.milvus.column_types import MOST_ROWS
from exitramp_adapters.stores.milvus.columns import batch_of
from exitramp_adapters.stores.milvus.schema import META, OPTIONS, REST, Collection, find, pairs
from exitramp_adapters.stores.milvus.search import MilvusSearch
from exitramp_adapters.stores.milvus.sink import MilvusSink, version_of
from exitramp_adapters.stores.milvus.wait import (
    LEAST_KEY,
    STRONG,
    count,
    key_list,
    key_literal,
    load,
    require_whole,
)

# A server's answer holds 64 MB at most.
_PAGE_BYTES: Final = 24 << 20
# Of milvus-lite: a page of fewer begins small, and each that follows is so many times as large. To look at the first 64
# of 5,000 records takes so two queries and 24 ms of the processor, where one query of all of them takes 290.
_FEW_ROWS: Final = 500
_GROWTH: Final = 4
_CUSTOMIZED: Final = 4
_OPTIONS: Final = (*OPTIONS, "load")


class MilvusStore(Connection):
    """One opened address."""

    def __init__(self, address: Address, network: Network) -> None:
        super().__init__(address, network, *_OPTIONS)
        if address.option("load", "false") not in ("true", "false"):
            raise UsageError(f"{address}: load is true or false")

    def source(self) -> MilvusSource:
        return MilvusSource(self)

    def sink(self) -> MilvusSink:
        return MilvusSink(self)

    def search(self) -> MilvusSearch:
        return MilvusSearch(self, MilvusSource(self))

    def drop(self) -> None:
        from pymilvus.grpc_gen import milvus_pb2 as pb

        find(self)
        self.call("DropCollection", pb.DropCollectionRequest(collection_name=self.name))

    def collection(self) -> Collection:
        """What is there now, loaded where that is allowed."""
        found = find(self)
        if self.is_lite or self.address.option("load") == "true":
            load(self)
        return found


class MilvusSource:
    """Reads pages by ranges of keys."""

    def __init__(self, store: MilvusStore) -> None:
        self._store = store

    def identity(self) -> StoreIdentity:
        store = self._store
        findings: list[Finding] = []
        names: tuple[str, ...] = ()
        told = version("milvus-lite") if store.is_lite else version_of(store)
        if store.exists():
            with contextlib.suppress(StoreRejected):  # whoever may read one need not be allowed to list all
                names = store.names()
            if store.address.collection is not None:
                with contextlib.suppress(CollectionMissing):  # then there is nothing to know of it
                    findings = find(store).findings()
        return StoreIdentity(
            store.address.scheme,
            str(store.address),
            told or "unknown",
            version("pymilvus"),
            collections=names,
            findings=tuple(findings),
        )

    def describe(self) -> CollectionSpec:
        return find(self._store).spec()

    def origin(self) -> Origin | None:
        return find(self._store).origin()

    def count(self) -> int:
        """Strictly of now. A key that was inserted twice, which Milvus allows, counts twice."""
        try:
            require_whole(self._store)
            return count(self._store)
        except NotLoaded:
            self._store.collection()
            require_whole(self._store)
            return count(self._store)

    def partitions(self, wanted: int) -> Sequence[Partition]:
        """Ranges of keys with about equally many of them, for which all keys are read, or the collection's partitions
        where they are namespaces; the first and the last range are open, so later ones fit."""
        collection = self._store.collection()
        if collection.partitioned:
            names = sorted(collection.told["partitions"])
            parts = max(1, min(wanted, len(names)))
            tokens: list[dict[str, Any]] = [{"names": names[part::parts]} for part in range(parts)]
        elif wanted <= 1:
            return [Partition()]
        else:
            reading = Reading(self._store, collection, [collection.key])
            keys = [key for page in reading.pages(MOST_ROWS) for key in page.column("id").to_pylist()]
            parts = max(1, min(wanted, len(keys)))
            bounds = [None, *(keys[len(keys) * part // parts] for part in range(1, parts)), None]
            tokens = [{"start": bounds[part], "end": bounds[part + 1]} for part in range(parts)]
        return [Partition(part, parts, json.dumps(token)) for part, token in enumerate(tokens)]

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        require_page_rows(batch_rows)
        collection = self._store.collection()
        require_whole(self._store)
        token = json.loads(partition.token) if partition.token else {}
        behind = {} if after is None else read_cursor(after)
        names: list[str | None] = [None]
        if collection.partitioned:
            names = sorted(token.get("names") or collection.told["partitions"])
            names = names[names.index(behind["name"]) :] if behind.get("name") in names else names
        held: tuple[pa.RecordBatch, Cursor] | None = None
        for name in names:
            reading = Reading(self._store, collection, _outputs(collection), name)
            start = behind.get("key") if name == behind.get("name") else None
            for batch in reading.pages(batch_rows, start=token.get("start"), end=token.get("end"), behind=start):
                if held is not None:
                    yield Page(*held)
                # Whether it is the last one, only the next answer tells.
                held = batch, make_cursor(key=batch.column("id")[-1].as_py(), name=name)
        if held is None:
            held = empty_batch(collection.spec()), after or make_cursor(name=names[0])
        yield Page(*held, last=True)

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        return self.fetch_from(self._store.collection(), keys)

    def fetch_from(self, collection: Collection, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        spec = collection.spec()
        parts = []
        for space in _spaces(collection):
            ids = dict.fromkeys(key.id for key in keys if key.namespace == space or not collection.partitioned)
            reading = Reading(self._store, collection, _outputs(collection), space)
            parts += [reading.ask(expression, MOST_ROWS) for expression in key_list(list(ids), collection)]
        whole = pa.Table.from_batches(parts, schema=empty_batch(spec).schema).combine_chunks()
        [batch] = whole.to_batches() or [empty_batch(spec)]
        return (
            _only(batch, set(keys)) if spec.has_namespaces or any(key.namespace is not None for key in keys) else batch
        )

    def matching(self, collection: Collection, expression: str, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """The records that pass an expression."""
        for name in _spaces(collection):
            reading = Reading(self._store, collection, _outputs(collection), name)
            yield from reading.pages(batch_rows, where=expression, short_is_last=True)

    def close(self) -> None:
        """Nothing is held here; the store is closed by whoever opened it."""


class Reading:
    """Queries of one collection, and of one partition where that is a namespace, as of when the first was asked."""

    def __init__(
        self, store: MilvusStore, collection: Collection, outputs: Sequence[str], partition: str | None = None
    ) -> None:
        self.outputs = list(outputs)
        self._store = store
        self._collection = collection
        self._spec = collection.spec()
        self._partition = partition
        self._keys_only = self.outputs == [collection.key]
        self._time: int | None = None

    def pages(
        self,
        batch_rows: int,
        *,
        start: str | None = None,
        end: str | None = None,
        behind: str | None = None,
        where: str = "",
        short_is_last: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """Batches in the order of keys, none of them empty. Only an empty answer is the end: of a key that stands
        twice one comes back, so that an answer may well be shorter than what was asked for. A search may end sooner."""
        key = self._collection.key
        most = MOST_ROWS if self._store.is_lite else min(batch_rows, MOST_ROWS)
        most = most if self._keys_only else min(most, max(1, _PAGE_BYTES // usual_row_bytes(self._spec)))
        # milvus-lite looks at every record for every page, so its pages are soon as large as they may be, and cut here;
        # but whoever asks for few at a time may want no more than those.
        rows = min(batch_rows, most) if batch_rows < _FEW_ROWS else most
        until = "" if end is None else f"{key} < {key_literal(end, self._collection)}"
        least = None if start is None else key_literal(start, self._collection)  # none is less than the least one
        low = "" if least is None else f"{key} >= {least}"
        while True:
            if behind is not None:
                last = key_literal(behind, self._collection)
                low = f"{key} >= {LEAST_KEY + 1}" if last is None else f"{key} > {last}"
            try:
                batch = self.ask(" and ".join(part for part in (low, until, where and f"({where})") if part), rows)
            except RequestTooLarge:
                if rows == 1:
                    raise
                rows = most = max(1, rows // 4)
                continue
            if not batch.num_rows:
                return
            ids = batch.column("id").to_pylist()
            self._require_order(ids, behind)
            behind = ids[-1]
            for first in range(0, batch.num_rows, batch_rows):
                yield batch.slice(first, batch_rows)
            if short_is_last and len(ids) < rows:
                return
            rows = min(most, rows * _GROWTH)

    def ask(self, expression: str, limit: int) -> pa.RecordBatch:
        from pymilvus.grpc_gen import milvus_pb2 as pb

        request = pb.QueryRequest(
            collection_name=self._store.name,
            expr=expression,
            output_fields=self.outputs,
            partition_names=[] if self._partition is None else [self._partition],
            # What `query_iterator` says: the answer is then the smallest keys of all, in order.
            query_params=pairs(limit=limit, iterator="True", reduce_stop_for_best="True"),
            consistency_level=STRONG,
        )
        if self._time is None:
            self._time = self._now()
        if self._time:
            request.consistency_level = _CUSTOMIZED
            request.guarantee_timestamp = self._time
        answer = self._store.call("Query", request)
        if self._keys_only:
            [column] = [each for each in answer.fields_data if each.field_name == self._collection.key]
            keys = column.scalars.long_data.data if self._collection.is_integer else column.scalars.string_data.data
            return pa.RecordBatch.from_pydict({"id": pa.array([str(key) for key in keys], pa.string())})
        return batch_of(answer.fields_data, self._collection, self._spec, self._namespace())

    def _namespace(self) -> str | None:
        return self._partition

    def _now(self) -> int:
        """The server's own time; 0 where it does not tell, and every query is then as of when it is asked."""
        from pymilvus.grpc_gen import milvus_pb2 as pb

        if self._store.is_lite:
            return 0
        try:
            return int(self._store.call("AllocTimestamp", pb.AllocTimestampRequest()).timestamp)
        except Refused:
            return 0

    def _require_order(self, ids: Sequence[str], behind: str | None) -> None:
        keys: list[Any] = [int(id_) for id_ in ids] if self._collection.is_integer else [id_.encode() for id_ in ids]
        if behind is not None:
            keys.insert(0, int(behind) if self._collection.is_integer else behind.encode())
        if any(one >= two for one, two in pairwise(keys)):
            raise StoreProtocolError(f"{self._store.address}: keys came back out of order, so some may be missing")


def _spaces(collection: Collection) -> list[str | None]:
    """The partitions, where each is a namespace; else all of them at once."""
    return [*sorted(collection.told["partitions"])] if collection.partitioned else [None]


def _outputs(collection: Collection) -> list[str]:
    roles = collection.roles
    named = [name for name in (roles.namespace, roles.document, roles.payload) if name is not None]
    named = [name for name in named if name in collection.fields]
    rest = [REST] if collection.has_rest else []
    meta = [META] if collection.dynamic else []
    return list(dict.fromkeys([collection.key, *named, *roles.values, *roles.vectors, *rest, *meta]))


def _only(batch: pa.RecordBatch, wanted: Set[RecordKey]) -> pa.RecordBatch:
    names = batch.schema.names
    spaces = batch.column("namespace").to_pylist() if "namespace" in names else [None] * batch.num_rows
    ids = batch.column("id").to_pylist()
    rows = [row for row, key in enumerate(zip(ids, spaces, strict=True)) if RecordKey(*key) in wanted]
    return batch.take(pa.array(rows, pa.int64()))


def _open(address: Address, network: Network) -> MilvusStore:
    return MilvusStore(address, network)


LITE: Final = StoreAdapter(
    scheme="milvus",
    summary="a folder of milvus-lite 3, by one process at a time",
    address_form="milvus:FOLDER.db[?db=NAME]#COLLECTION",
    open=_open,
    extra="milvus",
    requires=("pymilvus", "milvus_lite"),
    metric=True,
    opening="its engine writes its log of what is in memory into data files when it is closed, and builds indexes",
)
HTTP: Final = StoreAdapter(
    scheme="milvus+http",
    summary="a Milvus server, 2.3 or later",
    address_form="milvus+http://HOST:PORT[?db=NAME&token=env:NAME&tls=true]#COLLECTION",
    open=_open,
    extra="milvus",
    requires=("pymilvus",),
    metric=True,
)
