"""Records written by upserts, each in place of the one with its key."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from exitramp.durable import storage_errors
from exitramp.errors import CollectionExists, CollectionMissing, DataInvalid, RequestTooLarge, UsageError
from exitramp.ports import Origin, SinkLimits, TransferAccount, difference_of
from exitramp.records import CollectionSpec, DType, RecordKey, VectorField
from exitramp_adapters.stores.milvus.client import Connection
from exitramp_adapters.stores.milvus.column_types import BATCH_ROWS, METRIC_NAMES, limits_of
from exitramp_adapters.stores.milvus.rows import columns_for
from exitramp_adapters.stores.milvus.schema import (
    KEY,
    NAMES,
    ORIGIN,
    Collection,
    called,
    described_indexes,
    field_name,
    find,
    pairs,
    schema_for,
)
from exitramp_adapters.stores.milvus.wait import GROWING, count, key_list, load, segments

# Bytes of one upsert: a server takes 64 MB, its log writes pieces of 5 MB where it is Pulsar.
_MOST_BYTES: Final = 16 << 20
_POLL_SECONDS: Final = 0.05
# Milvus indexes no segment of fewer rows (minSegmentNumRowsToEnableIndex): it compares them one by one.
LEAST_INDEXED: Final = 1024
_INDEX_WORDS: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "hnsw": ("HNSW", {"M": 16, "efConstruction": 200}),
    "flat": ("FLAT", {}),
    "ivf_flat": ("IVF_FLAT", {"nlist": 128}),
    "autoindex": ("AUTOINDEX", {}),
}
_NEEDED: Final[Mapping[str, Mapping[str, Any]]] = {
    **dict(_INDEX_WORDS.values()),
    **{kind: {"nlist": 128} for kind in ("IVF_SQ8", "SCANN", "BIN_IVF_FLAT")},
}


class MilvusSink:
    """An upsert is answered when it stands in the server's write-ahead log, which survives kill -9; so `flush` has
    nothing to wait for there. (Milvus's own Flush cuts a segment off, and many small ones make all searches slow.)
    Of milvus-lite it syncs the files."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._limits: SinkLimits | None = None
        self._target: tuple[Collection, CollectionSpec] | None = None
        self._synced: dict[str, tuple[int, int]] = {}

    def limits(self) -> SinkLimits:
        if self._limits is None:
            lite, key = self._connection.is_lite, self._connection.address.option("key")
            if key not in (None, "int64", "varchar"):
                raise UsageError(f"{self._connection.address}: key is varchar or int64")
            version = "" if lite else version_of(self._connection)
            self._limits = limits_of(version, is_lite=lite, integer_keys=key == "int64")
        return self._limits

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        from pymilvus.grpc_gen import milvus_pb2 as pb

        connection, name = self._connection, self._connection.name
        self._require_plain_address()
        told = json.dumps(origin.to_json(), ensure_ascii=False)
        if not _is_there(connection):
            rule = self.limits().names
            if not name.isascii() or not name.replace("_", "a").isalnum() or name[:1].isdigit():
                hint = f"letters, digits and _, at most {rule.maximum}, none of the digits first"
                raise UsageError(f"{connection.address}: Milvus has no collection of such a name", hint=hint)
            schema = schema_for(name, spec)
            before = spec.index.get(KEY) or {}
            request = pb.CreateCollectionRequest(
                collection_name=name,
                schema=schema.SerializeToString(),
                shards_num=int(before.get("shards") or 1),
                consistency_level=int(before.get("consistency") or 0),
                properties=pairs(**{**before.get("properties", {}), **_names(spec), ORIGIN: told}),
            )
            connection.call("CreateCollection", request)
        self._make_indexes(spec)
        load(connection)
        collection = self._find()
        different = difference_of(collection.spec(), spec)
        if different:
            kind = "int64" if collection.is_integer else "varchar"
            hint = f"its keys are {kind}: write ?key={kind}" if "id_kind" in different else "choose another name"
            raise CollectionExists(f"{connection.address} is there already and {different}", hint=hint)
        if collection.properties.get(ORIGIN) != told and not count(connection):
            properties = pairs(**{ORIGIN: told})
            request = pb.AlterCollectionRequest(collection_name=name, properties=properties)
            connection.call("AlterCollection", request)
        self._target = collection, collection.spec()

    def _require_plain_address(self) -> None:
        for option in ("namespace", "document", "payload"):
            if option in self._connection.address.options:
                raise UsageError(
                    f"{self._connection.address}: {option} is for reading: what is written here has the texts in the "
                    "payload, each key in a field of its own, and namespaces with the ids, since a key stands once",
                    hint="leave the option away",
                )

    def _make_indexes(self, spec: CollectionSpec) -> None:
        """Those that are not there: all of a new collection, and of one that was begun by somebody who was killed."""
        from pymilvus.grpc_gen import milvus_pb2 as pb

        connection = self._connection
        have = {each.field_name for each in described_indexes(connection, connection.name)}
        answer = connection.call("DescribeCollection", pb.DescribeCollectionRequest(collection_name=connection.name))
        if not any(pair.key == ORIGIN for pair in answer.properties):
            return
        there = {each.name for each in answer.schema.fields}
        wanted: dict[str, Mapping[str, Any]] = {}
        before = {each["field"]: each for each in (spec.index.get(KEY) or {}).get("indexes", ())}
        vectors = {field_name(vector): vector for vector in spec.vectors}
        for name, told in before.items():
            if name not in vectors:
                wanted[name] = {key: value for key, value in told.items() if key not in ("field", "name")}
        for name, vector in vectors.items():
            wanted[name] = self._index_of(vector, before.get(name))
        for name, params in wanted.items():
            if name in there and name not in have:
                flat = {key: params[key] for key in ("index_type", "metric_type") if key in params}
                rest = {key: _number(value) for key, value in params.items() if key not in flat and _is_setting(key)}
                given = pairs(**flat, params=json.dumps(rest))
                request = pb.CreateIndexRequest(
                    collection_name=connection.name, field_name=name, index_name=name, extra_params=given
                )
                connection.call("CreateIndex", request)

    def _index_of(self, vector: VectorField, before: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """What the address says, else what a Milvus before this had on such vectors, else HNSW."""
        metric = METRIC_NAMES[vector.metric]
        said = self._connection.address.option("index")
        if said is not None and said.lower() not in _INDEX_WORDS:
            known = ", ".join(_INDEX_WORDS)
            raise UsageError(f"{self._connection.address}: index={said}", hint=f"known are: {known}")
        if said is None and before is not None and before.get("metric_type") == metric and before.get("index_type"):
            told = {key: value for key, value in before.items() if key not in ("field", "name")}
            # milvus-lite does not tell the settings without which a server makes no such index.
            needed = {} if self._connection.is_lite else _NEEDED.get(str(told["index_type"]).upper(), {})
            return {**needed, **told}
        kind, params = _INDEX_WORDS[(said or "hnsw").lower()]
        if vector.dtype is DType.BINARY:
            kind, params = "BIN_FLAT", {}
        return {"index_type": kind, "metric_type": metric, **params}

    def _find(self) -> Collection:
        collection = find(self._connection)
        key = collection.fields[collection.key]
        if key.autoID:
            hint = "copy into another collection: exitramp makes one that keeps the ids"
            raise CollectionExists(f"{self._connection.address} gives its records ids of its own (autoID)", hint=hint)
        unread = {*collection.unread, *collection.roles.unread}
        left = [name for name, each in collection.fields.items() if name in unread and not each.nullable]
        if left:
            said = f"has the field {left[0]!r}, which exitramp does not write"
            raise CollectionExists(f"{self._connection.address} {said}", hint="copy into another collection")
        return collection

    def upsert(self, batch: pa.RecordBatch) -> None:
        where = str(self._connection.address)
        if batch.num_rows > BATCH_ROWS:
            raise UsageError(f"{where}: {batch.num_rows} rows at once, of at most {BATCH_ROWS}")
        if batch.num_rows:
            collection, spec = self._opened()
            rows = max(1, min(batch.num_rows, _MOST_BYTES * batch.num_rows // max(1, batch.nbytes)))
            # All of it is looked at before any of it is sent.
            parts = [batch.slice(first, rows) for first in range(0, batch.num_rows, rows)]
            made = [columns_for(part, collection, spec, where=where) for part in parts]
            for part, columns in zip(parts, made, strict=True):
                self._send(part, columns)

    def _send(self, batch: pa.RecordBatch, columns: Sequence[Any]) -> None:
        from pymilvus.grpc_gen import milvus_pb2 as pb

        # An upsert of milvus-lite leaves what it does not name of the old record, and its insert replaces; a server's
        # insert keeps both records, and its upsert replaces.
        make, method = (pb.InsertRequest, "Insert") if self._connection.is_lite else (pb.UpsertRequest, "Upsert")
        request = make(collection_name=self._connection.name, fields_data=columns, num_rows=batch.num_rows)
        try:
            answer = self._connection.call(method, request)
        except RequestTooLarge as error:
            if batch.num_rows == 1:
                name = batch.column("id")[0].as_py()
                raise DataInvalid(f"{self._connection.address}: the record {name!r} is larger than it takes") from error
            collection, spec = self._opened()
            half = batch.num_rows // 2
            for part in (batch.slice(0, half), batch.slice(half)):
                self._send(part, columns_for(part, collection, spec, where=str(self._connection.address)))
            return
        if len(answer.err_index):
            names = [batch.column("id")[row].as_py() for row in answer.err_index[:20]]
            raise DataInvalid(f"{self._connection.address} did not take the records {', '.join(map(repr, names))}")

    def delete(self, keys: Sequence[RecordKey]) -> None:
        from pymilvus.grpc_gen import milvus_pb2 as pb

        collection, _ = self._opened()
        ids = [key.id for key in keys if key.namespace is None]
        for expression in key_list(ids, collection):
            request = pb.DeleteRequest(collection_name=self._connection.name, expr=expression)
            self._connection.call("Delete", request)

    def flush(self) -> None:
        if self._connection.is_lite:
            self._sync()

    def _sync(self) -> None:
        """milvus-lite writes before it answers, and leaves it to the system when that reaches the disk."""
        with storage_errors(self._connection.address.path):
            for folder, _, files in os.walk(self._connection.address.path):
                for path in (*(Path(folder, name) for name in files), Path(folder)):
                    try:
                        found = path.stat()
                        stamp = (found.st_size, found.st_mtime_ns)
                        if self._synced.get(str(path)) == stamp:
                            continue
                        handle = os.open(path, os.O_RDONLY)
                    except FileNotFoundError:  # merged into another one meanwhile
                        continue
                    try:
                        os.fsync(handle)
                    finally:
                        os.close(handle)
                    self._synced[str(path)] = stamp

    def finish(self, account: TransferAccount) -> None:
        """Cut the last segment off and wait until its index is built and in use; whoever set a deadline ends it."""
        from pymilvus.grpc_gen import milvus_pb2 as pb

        connection, name = self._connection, self._connection.name
        if connection.is_lite:
            connection.call("Flush", pb.FlushRequest(collection_names=[name]))
            self._sync()
            return
        if count(connection) < LEAST_INDEXED:
            return
        flushed = connection.call("Flush", pb.FlushRequest(collection_names=[name]))
        state = pb.GetFlushStateRequest(
            segmentIDs=flushed.coll_segIDs[name].data,
            flush_ts=flushed.coll_flush_ts.get(name, 0),
            collection_name=name,
        )
        _wait(lambda: bool(connection.call("GetFlushState", state).flushed))
        _wait(lambda: not any(each.pending_index_rows for each in described_indexes(connection, name)))
        _wait(lambda: _all_answer(segments(connection), count(connection)))

    def close(self) -> None:
        """Nothing is held here."""

    def _opened(self) -> tuple[Collection, CollectionSpec]:
        if self._target is None:
            self._require_plain_address()
            collection = self._find()
            self._target = collection, collection.spec()
        return self._target


def _names(spec: CollectionSpec) -> dict[str, str]:
    names = {field_name(vector): vector.name for vector in spec.vectors}
    return {} if names == called(names) else {NAMES: json.dumps(names)}


def version_of(connection: Connection) -> str:
    from pymilvus.grpc_gen import milvus_pb2 as pb

    return str(connection.call("GetVersion", pb.GetVersionRequest()).version)


def _is_there(connection: Connection) -> bool:
    from pymilvus.grpc_gen import milvus_pb2 as pb

    try:
        connection.call("DescribeCollection", pb.DescribeCollectionRequest(collection_name=connection.name))
    except CollectionMissing:
        return False
    return True


def _all_answer(found: Sequence[Any], wanted: int) -> bool:
    """Whether so many records are in segments that are there to stay, with an index where they are large enough."""
    settled = [each for each in found if each.state != GROWING]
    built = all(each.indexID or each.num_rows < LEAST_INDEXED for each in settled)
    return built and sum(each.num_rows for each in settled) >= wanted


def _is_setting(key: str) -> bool:
    return "." not in key and key not in ("mmap_enabled", "index_id")


def _number(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _wait(until: Callable[[], bool]) -> None:
    while not until():
        time.sleep(_POLL_SECONDS)
