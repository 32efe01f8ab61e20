"""Chroma, in process (`chroma:PATH#COLLECTION`) and over HTTP (`chroma+http://HOST:PORT#COLLECTION`).

What it keeps was measured on 1.5.9, both ways: see `_LIMITS`. Two things that a user of Chroma should know were found
on the way: a NaN inside a list of metadata makes an embedded collection unreadable for good (nothing of the kind is
let through here), and a process killed in the middle of a write may leave the index files torn (see `create`).
"""

from __future__ import annotations

import json
import math
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp import canonical
from exitramp.arrow import dense_array, dense_matrix, empty_batch, stream_schema
from exitramp.errors import (
    AddressError,
    CollectionExists,
    CollectionMissing,
    DataInvalid,
    StoreProtocolError,
    StoreUnavailable,
    UsageError,
)
from exitramp.filters import Filter
from exitramp.ports import (
    DEFAULT_SETTINGS,
    Cursor,
    DocumentRoom,
    Hits,
    IndexState,
    NameRule,
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
from exitramp.records import (
    UNKNOWN,
    CollectionSpec,
    DType,
    EmbeddingModel,
    IdKind,
    Metric,
    RecordKey,
    VectorField,
    VectorKind,
)
from exitramp.urls import Address, Network
from exitramp_adapters.stores import _chroma_client as client
from exitramp_adapters.stores._chroma_filters import where_json

ORIGIN_KEY: Final = "_exitramp_origin"
"""The key in a collection's own metadata under which `create` keeps what it was told."""
URI_KEY: Final = "chroma:uri"
"""The payload key for a record's URI: Chroma's own name for it, which no metadata of a user can have."""

_METRICS: Final = {"cosine": Metric.COSINE, "l2": Metric.EUCLIDEAN, "ip": Metric.DOT}
_SPACES: Final = {metric: space for space, metric in _METRICS.items()}
_EVERYTHING: Final = ["embeddings", "documents", "metadatas", "uris"]

# Rows/s of get(ids=…) at 384 numbers, embedded: 29.1k (100), 29.3k (256), 30.1k (512), 27.1k (1000), 21.7k (4000);
# over HTTP 13.9k to 14.6k whatever the size.
_PAGE_ROWS: Final = 512
_LIST_ROWS: Final = 10_000
# Rows/s of add at 384 numbers: 2.0k (250), 2.3k (500), 2.4k (1000), 2.0k (2000), 2.3k (5000), all within noise.
_WRITE_ROWS: Final = 1000
_WRITE_BYTES: Final = 16 * 2**20  # a server takes 40 MB a request, in which vectors are a third longer
# After so many records Chroma rewrites its index files in place, which a kill must not meet; its own default is 1000.
_LOADING_SYNC_ROWS: Final = 10_000
_SYNC_ROWS: Final = 1000

_NAMES: Final = NameRule(
    r"(?!.*\.\.)(?!\d+\.\d+\.\d+\.\d+\Z)[a-zA-Z0-9][a-zA-Z0-9._-]*[a-zA-Z0-9]", minimum=3, maximum=512
)
_LIMITS: Final = SinkLimits(
    id_kinds=frozenset({IdKind.STRING}),
    metrics=frozenset(_SPACES),
    payload=PayloadLimits(
        # Null, NaN and what is nested are refused or dropped; a list holds one type and at least one item.
        types=frozenset({"bool", "int", "float", "string", "list"}),
        item_types=frozenset({"bool", "int", "float", "string"}),
        negative_zero=False,
        integer_bits=64,
        # 80,000 floats of 15 digits came back as they were, and one in ten of those with 16 or 17 did not: they are
        # parsed imprecisely, once embedded (at most 2 ulp off) and twice over HTTP (at most 3).
        float_digits=15,
        float_exponent=22,
        key_pattern=r"(?s)(?![$#]|chroma:).+",  # "", $ and # are refused, `chroma:` is swallowed
        empty_payload=False,
    ),
    names=_NAMES,
    documents=DocumentRoom.NATIVE,
    # Cosine divides by a float32 norm and multiplies by it again: 2 ulp at most, unless the norm's square overflows
    # (NaN: beyond 1.8e19) or vanishes (zeros: below 1e-21), and numbers that are subnormal by then lose digits. Dot and
    # euclidean keep every finite number to the bit; these two limits are there for cosine.
    rounds=frozenset({Metric.COSINE}),
    subnormal_vectors=False,
    vector_magnitude=1e16,
    keeps_origin=True,
    batch_rows=_WRITE_ROWS,
    durable=True,
)
_LEAST_NORM: Final = 1e-21
_GREATEST_NORM: Final = 1.8e19


class ChromaStore:
    """One opened address, in all its roles. The files are opened, or the client made, when first needed."""

    def __init__(self, address: Address, network: Network) -> None:
        self.address = address
        self._network = network
        self._path = None if address.host is not None else address.path.resolve()
        self._given_dimensions = _dimensions_option(address)
        self._connection: client.Connection | None = None
        self._held: Any = None
        self._closed = False
        self._lock = threading.RLock()

    def source(self) -> ChromaStore:
        return self

    def sink(self) -> ChromaStore:
        return self

    def search(self) -> ChromaSearch:
        return ChromaSearch(self)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            connection, self._connection, self._held = self._connection, None, None
            if connection is not None:
                connection.close()

    @contextmanager
    def calling(self) -> Iterator[None]:
        with client.translated(self.address):
            yield

    def connected(self, *, make: bool = False) -> client.Connection:
        """The connection. Raises `CollectionMissing` for a path that holds no Chroma, unless it is to be made."""
        with self._lock:
            if self._closed:
                raise StoreUnavailable(f"{self.address} was closed", hint="open it again")
            if self._connection is None:
                if self._path is None:
                    self._connection = client.open_http(self.address, self._network)
                else:
                    if not make and not (self._path / client.SQLITE_NAME).is_file():
                        raise CollectionMissing(
                            f"{self.address}: there is no Chroma at {self._path}",
                            hint=f"the folder must hold {client.SQLITE_NAME}",
                        )
                    self._connection = client.open_embedded(self.address, self._path)
            return self._connection

    def collection(self, *, fresh: bool = False) -> Any:
        """Chroma's handle on the collection, asked for once unless `fresh`. Raises `CollectionMissing`."""
        if self._held is None or fresh:
            connection = self.connected()
            name = self.address.require_collection()
            try:
                if not _is_name(name):
                    raise CollectionMissing(f"{self.address}: Chroma has no collections of such a name")
                with self.calling():
                    self._held = connection.collection(name)
            except CollectionMissing as error:
                raise self._missing(error) from error
        return self._held

    def _missing(self, error: CollectionMissing) -> CollectionMissing:
        with self.calling():
            names = self.connected().names()
        listed = ", ".join(repr(name) for name in names[:20]) or "none"
        return CollectionMissing(error.message, hint=f"the collections there are: {listed}")

    # Reading

    def identity(self) -> StoreIdentity:
        installed = version("chromadb")
        server, names = installed, tuple[str, ...]()
        if self._path is None or (self._path / client.SQLITE_NAME).is_file():
            connection = self.connected()
            with self.calling():
                names = connection.names()
                if self._path is None:
                    server = str(connection.server.get_version())
        return StoreIdentity(self.address.scheme, str(self.address), server, installed, collections=names)

    def describe(self) -> CollectionSpec:
        found = self.collection(fresh=True)
        config = found.configuration_json
        index = config.get("hnsw") or config.get("spann") or {}
        space = index.get("space")
        if space not in _METRICS:
            known = ", ".join(_METRICS)
            raise DataInvalid(f"{self.address}: the distance {space!r} has no name here", hint=f"known are: {known}")
        function = config.get("embedding_function") or {}
        field = VectorField(
            "", VectorKind.DENSE, DType.FLOAT32, _METRICS[space], self._dimensions(found), _model(function)
        )
        metadata = {key: value for key, value in (found.metadata or {}).items() if key != ORIGIN_KEY}
        told = {"hnsw": config.get("hnsw"), "spann": config.get("spann"), "embedding_function": function.get("name")}
        return CollectionSpec(
            found.name, IdKind.STRING, (field,), has_documents=True, index={"chroma": told | {"metadata": metadata}}
        )

    def _dimensions(self, found: Any) -> int:
        """Chroma knows them from the first record on."""
        known = found.get_model().dimension or (self._note(found) or {}).get("dimensions") or self._given_dimensions
        if known is None:
            raise DataInvalid(
                f"{self.address} has never held a record, so Chroma does not know how long its vectors are",
                hint="say so with ?dimensions=NUMBER",
            )
        return int(known)

    def origin(self) -> Origin | None:
        note = self._note(self.collection(fresh=True))
        return None if note is None else Origin.from_json(note["origin"])

    def _note(self, found: Any) -> dict[str, Any] | None:
        """What `create` kept, if it was ours."""
        text = (found.metadata or {}).get(ORIGIN_KEY)
        if text is None:
            return None
        try:
            note: dict[str, Any] = json.loads(text)
            Origin.from_json(note["origin"])
        except (ValueError, KeyError, TypeError) as error:
            raise StoreProtocolError(
                f"{self.address}: the collection's metadata {ORIGIN_KEY!r} does not say where the records came from"
            ) from error
        return note

    def count(self) -> int:
        found = self.collection()
        with self.calling():
            return int(found.count())

    def partitions(self, wanted: int) -> Sequence[Partition]:
        """Ranges of ids, as even as they can be: listing 200,000 ids takes under a second."""
        ids = self._ids(None, None)
        parts = max(1, min(wanted, len(ids)))
        if parts == 1:
            return [Partition()]
        ends = [ids[len(ids) * part // parts - 1].as_py() for part in range(1, parts)]
        bounds = zip([None, *ends], [*ends, None], strict=True)
        return [
            Partition(index, parts, json.dumps({"above": above, "upto": upto}))
            for index, (above, upto) in enumerate(bounds)
        ]

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        """In the order of ids, all of which are listed first: Chroma can neither sort nor ask for ids beyond one.

        They take 24 bytes each beside their own text, 5 MB for 200,000, so they are kept in memory and listed anew
        by a scan that is resumed. Records added meanwhile are not seen, those deleted are left out.
        """
        spec = self.describe()
        bounds = json.loads(partition.token) if partition.token else {"above": None, "upto": None}
        above = bounds["above"] if after is None else _after(after)
        ids = self._ids(above, bounds["upto"])
        step = min(batch_rows, _PAGE_ROWS)
        for start in range(0, len(ids), step):
            wanted = ids[start : start + step].to_pylist()
            last = start + step >= len(ids)
            batch = self._records(wanted, spec)
            if batch.num_rows or last:
                yield Page(batch, make_cursor(id=wanted[-1]), last)
        if not len(ids):
            yield Page(empty_batch(spec), make_cursor(id=above), last=True)

    def _ids(self, above: str | None, upto: str | None) -> pa.Array:
        """The ids in that range, sorted by their UTF-8 bytes.

        Listed backwards by offset: Chroma lists in the order of insertion, so a record that is deleted moves only
        those after it, towards where has not been looked yet; forwards, as many live ones would be skipped. In pages,
        since one answer with 200,000 ids took 132 MB embedded and pages of 5,000 took 19 MB.
        """
        import pyarrow.compute as pc

        found = self.collection()
        end = self.count()
        step = max(_LIST_ROWS, end // 50)  # Chroma walks to an offset, so that many pages cost their square
        parts = [pa.array([], pa.large_string())]
        while end > 0:
            start = max(0, end - step)
            with self.calling():
                listed = found.get(include=[], limit=end - start, offset=start)["ids"]
            part = pa.array(listed, pa.large_string())
            if above is not None:
                part = part.filter(pc.greater(part, above))
            parts.append(part if upto is None else part.filter(pc.less_equal(part, upto)))
            end = start
        ids = pa.concat_arrays(parts)
        ids = ids.take(pc.sort_indices(ids))
        first = np.ones(len(ids), dtype=bool)
        first[1:] = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
        return ids if first.all() else ids.filter(pa.array(first))

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        spec = self.describe()
        wanted = list(dict.fromkeys(key.id for key in keys if key.namespace is None and key.id))
        pages = [self._records(wanted[start : start + _PAGE_ROWS], spec) for start in range(0, len(wanted), _PAGE_ROWS)]
        batches = pa.Table.from_batches(pages, stream_schema(spec)).combine_chunks().to_batches()
        return batches[0] if batches else empty_batch(spec)

    def _records(self, ids: list[str], spec: CollectionSpec) -> pa.RecordBatch:
        found = self.collection()
        with self.calling():
            got = found.get(ids=ids, include=_EVERYTHING)
        return records_batch(got["ids"], {name: got[name] for name in _EVERYTHING}, spec)

    # Writing

    def limits(self) -> SinkLimits:
        return _LIMITS

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        """Make the collection, with index settings and metadata as they were if it comes from a Chroma.

        Embedded, Chroma is told to rewrite its index files ten times less often until `finish`. It does so in place:
        of 25 loads killed at some moment, 3 could not be read any more. What is not in those files yet is in its log,
        which is safe, and reading that again at the next open costs what writing it did.
        """
        name = self.address.require_collection()
        if not _is_name(name):
            raise UsageError(f"{self.address}: Chroma takes no such collection name", hint="3 to 512 of a-z 0-9 . _ -")
        [field] = spec.vectors
        connection = self.connected(make=True)
        try:
            existing = self.describe()
        except CollectionMissing:
            pass
        else:
            self._require_same(field, existing.vectors[0])
            return
        told = spec.index.get("chroma") or {}
        hnsw = {
            key: value
            for key in ("ef_construction", "max_neighbors", "ef_search", "sync_threshold")
            if isinstance(value := (told.get("hnsw") or {}).get(key), int)
        }
        note = {"origin": origin.to_json(), "dimensions": field.dimensions, "sync": hnsw.get("sync_threshold")}
        if self._path is not None:
            hnsw["sync_threshold"] = _LOADING_SYNC_ROWS
        metadata = {
            key: value
            for key, value in (told.get("metadata") or {}).items()
            if isinstance(value, bool | int | float | str) and not key.startswith("hnsw:")
        }
        with self.calling():
            model = connection.server.create_collection(
                name=name,
                configuration={"hnsw": {"space": _SPACES[field.metric], **hnsw}},
                metadata=metadata | {ORIGIN_KEY: json.dumps(note)},
                **connection.place,
            )
            self._held = connection.wrapped(model)

    def _require_same(self, wanted: VectorField, there: VectorField) -> None:
        for what in ("metric", "dimensions"):
            one, other = getattr(wanted, what), getattr(there, what)
            if one != other:
                raise CollectionExists(
                    f"{self.address} is there already with {what} {other}, not {one}", hint="choose another name"
                )

    def upsert(self, batch: pa.RecordBatch) -> None:
        """Replace whole records: those that are there are deleted and all are added.

        Chroma's own upsert merges metadata and keeps the old document, which nothing but a deletion removes. Both steps
        are durable by themselves, so a kill between them loses at most these records, and only until they are written
        again: nobody was told that they had landed. Looking for them first costs 1 % of adding them. `add` and not
        `upsert`: should somebody else write the same id in between, their record stays whole.
        """
        found = self.collection()
        ids, documents, metadatas, matrix = self._columns(batch)
        step = max(1, min(_WRITE_ROWS, _WRITE_BYTES * len(ids) // (batch.nbytes + 1)))
        for start in range(0, len(ids), step):
            rows = slice(start, start + step)
            with self.calling():
                there = found.get(ids=ids[rows], include=[])["ids"]
                if there:
                    found.delete(ids=there)
                found.add(ids=ids[rows], embeddings=matrix[rows], metadatas=metadatas[rows], documents=documents[rows])

    def _columns(self, batch: pa.RecordBatch) -> tuple[list[str], list[Any], list[Any], npt.NDArray[np.float32]]:
        """Everything is looked at before anything is written. Raises `DataInvalid` naming the record."""
        ids: list[str] = batch.column("id").to_pylist()
        for row, id_ in enumerate(ids):
            if not id_:
                raise DataInvalid(f"{self.address}: row {row} of the batch has an empty id, which Chroma does not take")
        payloads = batch.column("payload").to_pylist()
        metadatas = [self._metadata(text, id_) for text, id_ in zip(payloads, ids, strict=True)]
        documents = batch.column("document").to_pylist() if "document" in batch.schema.names else [None] * len(ids)
        return ids, documents, metadatas, self._matrix(batch, ids)

    def _metadata(self, text: str | None, id_: str) -> dict[str, Any] | None:
        """A payload as Chroma's metadata. What Chroma would change, drop or choke on later is refused here."""
        if text is None:
            return None
        payload: dict[str, Any] = canonical.loads(text)
        for key, value in payload.items():
            if not _is_kept(value) or re.fullmatch(_LIMITS.payload.key_pattern, key) is None:
                raise DataInvalid(
                    f"{self.address}: record {id_!r}: Chroma does not keep the payload's {key!r} as it is"
                )
        if not payload:
            raise DataInvalid(f"{self.address}: record {id_!r}: Chroma does not keep an empty payload")
        return payload

    def _matrix(self, batch: pa.RecordBatch, ids: list[str]) -> npt.NDArray[np.float32]:
        [field] = self.describe().vectors
        column = batch.column(field.column)
        if column.null_count:
            row = column.is_null().index(True).as_py()
            raise DataInvalid(f"{self.address}: record {ids[row]!r} has no vector, which Chroma needs for every record")
        matrix = dense_matrix(column).astype(np.float32, copy=False)
        if matrix.shape[1] != field.dimensions:
            raise DataInvalid(
                f"{self.address}: vectors of {matrix.shape[1]} numbers where {field.dimensions} are expected"
            )
        bad = ~np.isfinite(matrix).all(axis=1)
        why = "a vector with NaN or an infinity in it"
        if field.metric is Metric.COSINE and not bad.any():
            norms = np.linalg.norm(matrix.astype(np.float64), axis=1)
            # A row with subnormal numbers is beyond what is kept by the limits, and the codec has it whole.
            tiny = (norms > 0) & (norms < _LEAST_NORM)
            tiny[tiny] = (np.abs(matrix[tiny]) >= np.finfo(np.float32).tiny).any(axis=1)
            bad = tiny | (norms > _GREATEST_NORM)
            why = f"a vector whose norm is outside {_LEAST_NORM:g} to {_GREATEST_NORM:g} under cosine"
        if bad.any():
            raise DataInvalid(f"{self.address}: record {ids[int(bad.argmax())]!r}: Chroma does not keep {why}")
        return matrix

    def delete(self, keys: Sequence[RecordKey]) -> None:
        found = self.collection()
        ids = list(dict.fromkeys(key.id for key in keys if key.namespace is None and key.id))
        for start in range(0, len(ids), _WRITE_ROWS):
            with self.calling():
                found.delete(ids=ids[start : start + _WRITE_ROWS])

    def flush(self) -> None:
        """Every call so far is in Chroma's SQLite log, synced, when it returns; 40 kills after one lost nothing.

        It drops from that log what it has written into its index files, which it never syncs: done here, embedded. A
        server does not sync them, and they survive its process being killed, but not a machine that loses power.
        """
        if self._path is None:
            return
        for file in [*self._path.glob("*/*"), *self._path.glob("*/"), self._path]:
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def finish(self, account: TransferAccount) -> None:
        """The index is built as records come in. Embedded, its files are from now on written as often as usual."""
        found = self.collection(fresh=True)
        hnsw = found.configuration_json.get("hnsw") or {}
        note = self._note(found)
        if self._path is not None and note is not None and hnsw.get("sync_threshold") == _LOADING_SYNC_ROWS:
            with self.calling():
                found.modify(configuration={"hnsw": {"sync_threshold": note.get("sync") or _SYNC_ROWS}})


class ChromaSearch:
    """Nearest records by Chroma's index. It was seen to return a record less than there are once many were deleted:
    its graph may not reach every record, and what it does not find is not made up for here."""

    def __init__(self, store: ChromaStore) -> None:
        self._store = store

    def index_state(self) -> IndexState:
        """A single Chroma brings its index up to its log before it answers anything."""
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
        store = self._store
        found = store.collection()
        wanted = _query_vector(query, found.get_model().dimension, k=k, settings=settings)
        translated = None if where is None else where_json(where)
        with store.calling():
            got = found.query(
                query_embeddings=[wanted],
                n_results=k,
                where=translated,
                include=["distances", *(_EVERYTHING if with_records else ())],
            )
        ids = got["ids"][0]
        scores = tuple(math.nan if each is None else float(each) for each in got["distances"][0])
        records = None
        if with_records:
            records = records_batch(ids, {name: got[name] and got[name][0] for name in _EVERYTHING}, store.describe())
        return Hits(tuple(RecordKey(id_) for id_ in ids), scores, records)


def records_batch(ids: Sequence[str], columns: dict[str, Any], spec: CollectionSpec) -> pa.RecordBatch:
    """What `get` or `query` gave (embeddings [rows, dimensions], documents, metadatas, uris) in the order of ids."""
    if not ids:
        return empty_batch(spec)
    order = sorted(range(len(ids)), key=ids.__getitem__)
    # Over HTTP a NaN, which only cosine can have made, arrives as a null; it becomes one again here.
    matrix = np.asarray(columns["embeddings"]).astype(np.float32)[order]
    metadatas, uris, documents = columns["metadatas"], columns["uris"], columns["documents"]
    payloads: list[str | None] = []
    for row in order:
        metadata = metadatas[row]
        if uris[row] is not None:
            metadata = (metadata or {}) | {URI_KEY: uris[row]}
        payloads.append(None if metadata is None else canonical.dumps(metadata))
    return pa.RecordBatch.from_arrays(
        [
            pa.array([ids[row] for row in order], pa.string()),
            pa.array([documents[row] for row in order], pa.string()),
            pa.array(payloads, pa.string()),
            dense_array(matrix, spec.vectors[0]),
        ],
        schema=stream_schema(spec),
    )


def _query_vector(query: Query, dimensions: int | None, *, k: int, settings: SearchSettings) -> Any:
    if settings.exact:
        raise UsageError("Chroma has no exact search", hint="it answers from its index alone")
    for option in settings.options:
        raise UsageError(f"Chroma has no search option {option!r}", hint="ef_search is set where a collection is made")
    if query.field or query.dense is None or query.multi is not None or query.sparse is not None:
        raise UsageError("Chroma is asked with one dense vector, for its only field ''")
    if k < 1:
        raise UsageError(f"{k} neighbours cannot be asked for")
    vector = np.asarray(query.dense).astype(np.float32)
    if vector.ndim != 1 or (dimensions is not None and len(vector) != dimensions):
        raise UsageError(f"a query of shape {vector.shape} where the collection's vectors have {dimensions} numbers")
    if not np.isfinite(vector).all():
        raise UsageError("a query with NaN or an infinity in it")
    return vector


def _is_kept(value: Any) -> bool:
    if isinstance(value, str | bool):
        return True
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list):
        return len({type(item) for item in value}) == 1 and not isinstance(value[0], list) and all(map(_is_kept, value))
    return False


def _is_name(name: str) -> bool:
    return _NAMES.minimum <= len(name) <= _NAMES.maximum and re.fullmatch(_NAMES.pattern, name) is not None


def _model(function: dict[str, Any]) -> EmbeddingModel:
    """The model of the collection's embedding function. "default" stands there whenever nobody named one, also where
    the vectors were made elsewhere, and so says nothing."""
    name = function.get("name")
    if function.get("type") != "known" or not name or name == "default":
        return EmbeddingModel()
    model = (function.get("config") or {}).get("model_name")
    return EmbeddingModel(provider=str(name), name=model if isinstance(model, str) else UNKNOWN)


def _after(cursor: Cursor) -> str | None:
    id_ = read_cursor(cursor).get("id")
    if id_ is not None and not isinstance(id_, str):
        raise UsageError("this cursor is not one of a Chroma scan", hint="start the scan anew")
    return id_


def _dimensions_option(address: Address) -> int | None:
    text = address.option("dimensions")
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise AddressError(f"{address}: dimensions is a number, 1 or more")
    return int(text)


def _open_embedded(address: Address, network: Network) -> ChromaStore:
    address.only_options("tenant", "database", "dimensions")
    return ChromaStore(address, network)


def _open_http(address: Address, network: Network) -> ChromaStore:
    address.only_options("tenant", "database", "dimensions", "tls", "token", "token_header")
    if address.host is None:
        raise AddressError(f"{address} names no host", hint="write chroma+http://HOST:PORT#COLLECTION")
    client.uses_tls(address)
    return ChromaStore(address, network)


EMBEDDED: Final = StoreAdapter(
    scheme="chroma",
    summary="Chroma in process, on a folder of this machine",
    address_form="chroma:PATH#COLLECTION",
    open=_open_embedded,
    extra="chroma",
    requires=("chromadb",),
    fidelity="bit-exact; cosine within 2 ulp",
)
HTTP: Final = StoreAdapter(
    scheme="chroma+http",
    summary="A Chroma server",
    address_form="chroma+http://HOST:PORT#COLLECTION",
    open=_open_http,
    extra="chroma",
    requires=("chromadb",),
    fidelity="bit-exact; cosine within 2 ulp",
)
