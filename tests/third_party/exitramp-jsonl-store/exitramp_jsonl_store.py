"""`jsonl:FOLDER#NAME`: a collection in the file `FOLDER/NAME.jsonl`, one writer at a time.

The first line says what the collection is, `{"dimensions": 384, "metric": "dot"}`. Every other line is a record,
`{"id": "a", "document": "…", "payload": {…}, "vector": […]}`, of which only the id must be there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from exitramp import arrow, canonical, durable, errors, ports
from exitramp.filters import Filter, matches
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorField, VectorKind, parse_metric
from exitramp.urls import Address, Network

VERSION = "0.1.0"

# region limits
LIMITS = ports.SinkLimits(
    id_kinds=frozenset({IdKind.STRING}),
    id_bytes=64,
    metrics=frozenset({Metric.COSINE, Metric.DOT}),
    payload=ports.PayloadLimits(
        types=frozenset({"null", "bool", "int", "float", "string", "list"}),
        item_types=frozenset({"string"}),
        empty_lists=True,
    ),
    # Lower case only: some file systems take `A.jsonl` and `a.jsonl` for one file.
    names=ports.NameRule(r"[a-z0-9][a-z0-9._-]*", maximum=100),
    vectors_required=False,
    documents=ports.DocumentRoom.NATIVE,
    keeps_origin=True,
    batch_rows=500,
)
# endregion


# region file
@dataclass(frozen=True, slots=True)
class Held:
    """What a file held when it was read: its first line, what that means, and the records in the order of ids."""

    head: dict[str, Any]
    spec: CollectionSpec
    records: dict[str, dict[str, Any]] = field(hash=False)


def read_file(path: Path) -> Held:
    """Raises `DataInvalid` naming the line that is not of this format."""
    lines = path.read_bytes().split(b"\n")  # bytes, because str is also split at characters that a text may hold
    head: dict[str, Any] = {}
    records = {}
    for number, line in enumerate(lines[:-1], start=1):
        try:
            if number == 1:
                head = json.loads(line)
                metric = parse_metric(head["metric"], where=f"{path}:1")
                vector = VectorField("", VectorKind.DENSE, DType.FLOAT32, metric, head["dimensions"])
                continue
            record = json.loads(line)
            if "vector" in record:
                with np.errstate(over="raise"):  # a number beyond float32 must not become an infinity
                    record["vector"] = np.array(record["vector"], np.float32)
                if record["vector"].shape != (vector.dimensions,):
                    raise ValueError("dimensions")
            records[record["id"]] = record
        except (ValueError, LookupError, TypeError, ArithmeticError) as error:
            raise errors.DataInvalid(f"{path}:{number}: not of this format ({type(error).__name__})") from error
    if not head or lines[-1]:
        raise errors.DataInvalid(f"{path}: ends in the middle of a line")
    spec = CollectionSpec(path.stem, IdKind.STRING, (vector,), has_documents=True)
    return Held(head, spec, dict(sorted(records.items())))


def line_of(record: dict[str, Any]) -> bytes:
    """Raises `DataInvalid` for what JSON has no form for: NaN, timestamps."""
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False, default=np.ndarray.tolist).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise errors.DataInvalid(f"the record '{record.get('id')}' holds what JSON has no form for") from error


def batch_of(records: Sequence[dict[str, Any]], spec: CollectionSpec) -> pa.RecordBatch:
    """The records as the columns of a stream; what a record does not have is null."""
    [vector] = spec.vectors
    nothing = np.zeros(vector.item_count, np.float32)
    matrix = np.array([record.get("vector", nothing) for record in records], np.float32)
    valid = np.array(["vector" in record for record in records], dtype=bool)
    payloads = [canonical.dumps(record["payload"]) if "payload" in record else None for record in records]
    columns = [
        pa.array([record["id"] for record in records], pa.string()),
        pa.array([record.get("document") for record in records], pa.string()),
        pa.array(payloads, pa.string()),
        arrow.dense_array(matrix.reshape(len(records), vector.item_count), vector, valid=valid),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=arrow.stream_schema(spec))


# endregion


# region store
class JsonlStore:
    """One opened address. Its roles share what was read of the file, which is read again when it has changed."""

    def __init__(self, address: Address) -> None:
        address.only_options()
        name, rule = address.collection, LIMITS.names
        if name is not None and not (re.fullmatch(rule.pattern, name) and len(name) <= rule.maximum):
            hint = f"at most {rule.maximum} of a-z 0-9 . _ -, a letter or digit first"
            raise errors.AddressError(f"{address}: jsonl has no collection of such a name", hint=hint)
        self.address = address
        self._read: tuple[object, Held] | None = None
        self._closed = False

    def source(self) -> JsonlSource:
        return JsonlSource(self)

    def sink(self) -> JsonlSink:
        return JsonlSink(self)

    def search(self) -> JsonlSearch:
        return JsonlSearch(self)

    def close(self) -> None:
        self._closed = True

    def path(self) -> Path:
        if self._closed:
            raise errors.StoreUnavailable(f"{self.address} was closed", hint="open it again")
        return self.address.path / f"{self.address.require_collection()}.jsonl"

    def held(self) -> Held:
        """What the file holds now."""
        path = self.path()
        with durable.storage_errors(path):
            if not path.exists():
                raise errors.CollectionMissing(f"{self.address}: there is no file {path}")
            found = path.stat()
            stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
            if self._read is None or self._read[0] != stamp:
                self._read = stamp, read_file(path)
        return self._read[1]


# endregion


# region source
class JsonlSource:
    """Reads in the order of ids; a cursor is the id of a page's last record."""

    def __init__(self, store: JsonlStore) -> None:
        self._store = store

    def identity(self) -> ports.StoreIdentity:
        folder = self._store.address.path
        names = tuple(sorted(path.stem for path in folder.glob("*.jsonl")))
        can_write = os.access(folder, os.W_OK) if folder.exists() else None
        return ports.StoreIdentity("jsonl", str(self._store.address), VERSION, VERSION, can_write, collections=names)

    def describe(self) -> CollectionSpec:
        return self._store.held().spec

    def origin(self) -> ports.Origin | None:
        told = self._store.held().head.get("origin")
        return None if told is None else ports.Origin.from_json(told)

    def count(self) -> int:
        return len(self._store.held().records)

    def partitions(self, wanted: int) -> Sequence[ports.Partition]:
        return [ports.Partition()]

    def scan(
        self, partition: ports.Partition, *, batch_rows: int, after: ports.Cursor | None = None
    ) -> Iterator[ports.Page]:
        """Everything as it stood when the scan began."""
        held = self._store.held()
        behind = None if after is None else ports.read_cursor(after)["id"]
        left = [record for id_, record in held.records.items() if behind is None or id_ > behind]
        for start in range(0, max(1, len(left)), batch_rows):
            rows = left[start : start + batch_rows]
            cursor = ports.make_cursor(id=rows[-1]["id"] if rows else behind)
            yield ports.Page(batch_of(rows, held.spec), cursor, last=start + batch_rows >= len(left))

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        held = self._store.held()
        wanted = dict.fromkeys(key.id for key in keys if key.namespace is None)
        return batch_of([held.records[id_] for id_ in wanted if id_ in held.records], held.spec)

    def close(self) -> None:
        """Nothing is held here."""


# endregion


# region sink
class JsonlSink:
    """Collects lines by id, None for a deletion; `flush` writes the file anew with them."""

    def __init__(self, store: JsonlStore) -> None:
        self._store = store
        self._spec: CollectionSpec | None = None
        self._lines: dict[str, bytes | None] = {}

    def limits(self) -> ports.SinkLimits:
        return LIMITS

    def create(self, spec: CollectionSpec, origin: ports.Origin) -> None:
        path, [wanted] = self._store.path(), spec.vectors
        if not path.exists():
            head = {"dimensions": wanted.dimensions, "metric": wanted.metric.value, "origin": origin.to_json()}
            durable.make_folder(path.parent)
            durable.write_atomically(path, line_of(head))
        [there] = self._store.held().spec.vectors
        if (there.metric, there.dimensions) != (wanted.metric, wanted.dimensions):
            what = f"with {there.dimensions} x {there.metric.value}"
            raise errors.CollectionExists(f"{path} is there already, {what}", hint="write to another name")

    def upsert(self, batch: pa.RecordBatch) -> None:
        where = str(self._store.path())
        self._spec = self._spec or self._store.held().spec
        spec = replace(self._spec, has_documents="document" in batch.schema.names)
        arrow.require_schema(batch, spec, where=where)
        if batch.num_rows > LIMITS.batch_rows:
            raise errors.UsageError(f"{where}: {batch.num_rows} rows at once, of at most {LIMITS.batch_rows}")
        vectors, valid = arrow.dense_matrix(batch.column("vector")), batch.column("vector").is_valid().to_pylist()
        for row, record in enumerate(batch.drop_columns(["vector"]).to_pylist()):
            if record["payload"] is not None:
                record["payload"] = canonical.loads(record["payload"])
            record["vector"] = vectors[row] if valid[row] else None
            self._lines[record["id"]] = line_of({key: value for key, value in record.items() if value is not None})

    def delete(self, keys: Sequence[RecordKey]) -> None:
        self._lines.update({key.id: None for key in keys if key.namespace is None})

    def flush(self) -> None:
        path, held = self._store.path(), self._store.held()
        lines = {id_: line_of(record) for id_, record in held.records.items()} | self._lines
        durable.write_atomically(path, line_of(held.head) + b"".join(line for line in lines.values() if line))
        self._lines.clear()

    def finish(self, account: ports.TransferAccount) -> None:
        """There is no index to build."""

    def close(self) -> None:
        """What was not flushed is lost."""
        self._lines.clear()


# endregion


# region search
class JsonlSearch:
    """Looks at every record."""

    def __init__(self, store: JsonlStore) -> None:
        self._store = store

    def index_state(self) -> ports.IndexState:
        self._store.held()
        return ports.IndexState.READY

    def search(
        self,
        query: ports.Query,
        *,
        k: int,
        where: Filter | None = None,
        settings: ports.SearchSettings = ports.DEFAULT_SETTINGS,
        with_records: bool = False,
    ) -> ports.Hits:
        held = self._store.held()
        vector = held.spec.vector(query.field)
        if settings.options or k < 1:
            raise errors.UsageError("jsonl: a search takes no options, and k is at least 1")
        if query.dense is None or query.dense.shape != (vector.dimensions,):
            raise errors.UsageError(f"jsonl: a query is one dense vector of {vector.dimensions} numbers")
        passing = held.records.values()
        if where is not None:
            passing = [record for record in passing if matches(where, record.get("payload"))]
        records = [record for record in passing if "vector" in record]
        matrix = np.array([record["vector"] for record in records], np.float64).reshape(-1, vector.item_count)
        wanted = query.dense.astype(np.float64)
        scores = matrix @ wanted
        if vector.metric is Metric.COSINE:
            norms = np.linalg.norm(matrix, axis=1) * np.linalg.norm(wanted)
            scores = np.divide(scores, norms, out=np.zeros_like(scores), where=norms > 0)
        nearest = np.argsort(-scores, kind="stable")[:k].tolist()
        hits = [records[row] for row in nearest]
        return ports.Hits(
            tuple(RecordKey(record["id"]) for record in hits),
            tuple(float(scores[row]) for row in nearest),
            batch_of(hits, held.spec) if with_records else None,
        )


# endregion


# region adapter
def _open(address: Address, network: Network) -> JsonlStore:
    return JsonlStore(address)


ADAPTER = ports.StoreAdapter(
    scheme="jsonl",
    summary="a folder with one JSON-lines file for each collection",
    address_form="jsonl:FOLDER#COLLECTION",
    open=_open,
)
# endregion
