"""Writing a collection of files: rows and deletions are made durable beside it, and `finish` writes the files anew, or
what is missing of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pyarrow as pa

from exitramp.arrow import record_keys, require_schema, stream_schema
from exitramp.durable import storage_errors, sync_folder
from exitramp.errors import CollectionExists, CollectionMissing, DataInvalid, StoreRejected, UsageError
from exitramp.ports import Origin, SinkLimits, TransferAccount, difference_of
from exitramp.ports.gathered import Gathered
from exitramp.records import CollectionSpec, RecordKey, VectorKind
from exitramp.urls import Address
from exitramp_adapters.stores.files.growing import Growing
from exitramp_adapters.stores.files.merged import Merged
from exitramp_adapters.stores.files.staging import Staging
from exitramp_adapters.stores.files.store import FilesStore, Snapshot, mark_of, stamp_of

SCALARS: Final = ("null", "bool", "int", "float", "nonfinite", "string", "timestamp", "date", "time", "decimal")
ALL_TYPES: Final = frozenset((*SCALARS, "uuid", "bytes", "list", "object"))
BATCH_ROWS: Final = 10_000
_BUFFER_BYTES: Final = 64 * 2**20


class StagedStore(FilesStore):
    """Files that can be written too, by way of a folder beside them."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._sinks: list[StagedSink] = []
        self._stagings: dict[Path, Staging] = {}

    def staging_of(self, name: str | None) -> Staging:
        """What was written beside the files, the same object for all sinks of this store."""
        folder = self.staging_folder(name)
        return self._stagings.setdefault(folder, Staging(folder))

    def staging_folder(self, name: str | None) -> Path:
        """The folder beside the files with what was written to the collection of this name (None: the address's own).

        Raises `CollectionMissing` where nothing says which collection is meant.
        """
        raise NotImplementedError

    def limits(self) -> SinkLimits:
        raise NotImplementedError

    def base_paths(self) -> list[Path]:
        """The files that are the collection, whether they are there or not."""
        raise NotImplementedError

    def has_base(self) -> bool:
        raise NotImplementedError

    def open_base(self) -> Snapshot:
        """What the files hold, without what was written since."""
        raise NotImplementedError

    def missing(self) -> CollectionMissing:
        """What is said where there is no such collection."""
        return CollectionMissing(f"{self.address}: there is no file {self.address.path}")

    def require_own(self) -> None:
        """Raises `CollectionExists` where somebody else made the files, so that writing would lose something."""
        raise NotImplementedError

    def rows_begin(self, spec: CollectionSpec) -> int | None:
        """At which byte of the file the first row of the matrix begins, where that can be said before it is written and
        all rows follow as they are in a batch."""
        return None

    def write_base(self, held: Snapshot) -> tuple[Mapping[Path, Path], Sequence[Path]]:
        """Write the collection under new names; which names those are to get, and what is to be removed then."""
        raise NotImplementedError

    def remove_base(self) -> None:
        """Remove what the files hold of the collection, which exitramp wrote."""
        with storage_errors(self.address.path):
            for path in self.base_paths():
                path.unlink(missing_ok=True)
        sync_folder(self.address.path.parent)

    def drop(self) -> None:
        """Remove the collection and what was written beside it. Raises `CollectionMissing`, and `CollectionExists` for
        files that somebody else made."""
        with self._lock:
            self.require_open()
            staging = self.staging_of(None)
            if not self.has_base() and not staging.exists():
                raise self.missing()
            staging.lock(self)
            try:
                staging.take_up()
                self.require_own()
                self.let_go()
                staging.clear()
                if self.has_base():
                    self.remove_base()
            finally:
                staging.unlock(self)

    def sink(self) -> StagedSink:
        self.require_open()
        sink = StagedSink(self)
        self._sinks.append(sink)
        return sink

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()
        self._sinks.clear()
        super().close()

    def stamp(self) -> object:
        return stamp_of([*self.base_paths(), *self.staging_of(None).files()])

    def open_snapshot(self) -> Snapshot:
        staging = self.staging_of(None)
        for _ in range(3):  # a writer may give its files their names between our looks
            before = self.stamp()
            try:
                return self._open(staging)
            except (CollectionMissing, FileNotFoundError):
                if self.stamp() == before:
                    raise
        return self._open(staging)

    def _open(self, staging: Staging) -> Snapshot:
        if staging.is_committed() or not staging.exists():
            if not self.has_base():
                raise self.missing()
            return self.open_base()
        spec, origin, vectors = staging.head()
        base = self.open_base() if self.has_base() else None
        segments = staging.segments(vectors)
        mark = mark_of([path for path in (*self.base_paths(), *staging.files()) if path.exists()])
        return Merged(spec, origin, base, segments, mark, vectors)


class StagedSink:
    """Collects rows and deletions; `flush` makes them durable beside the files, `finish` writes these anew."""

    def __init__(self, store: StagedStore) -> None:
        self._store = store
        self._spec: CollectionSpec | None = None
        self._origin: Origin | None = None
        self._staging: Staging | None = None
        self._forget()

    def _forget(self) -> None:
        self._gathered = Gathered()

    def limits(self) -> SinkLimits:
        return self._store.limits()

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        self._store.require_open()
        self._require_within(spec)
        spec = replace(spec, name=self._store.address.collection or spec.name, index={})
        self._take(spec)
        assert self._staging is not None
        self._staging.take_up()
        try:
            self._store.require_own()
            held = self._store.snapshot()
        except CollectionMissing:
            self._spec, self._origin = spec, origin
            self._begin(self._staging)
            return
        different = difference_of(held.spec, spec)
        if different:
            raise CollectionExists(
                f"{self._store.address} is there already and {different}", hint="write to another path"
            )
        self._spec, self._origin = replace(held.spec, index={}), held.origin
        if not held.rows:  # what was told of records that are gone explains no others
            self._origin = origin
            self._begin(self._staging)

    def _begin(self, staging: Staging) -> None:
        assert self._spec is not None
        begin = self._store.rows_begin(self._spec)
        if begin is not None and self._store.has_base():  # which is written anew whatever comes
            begin = None
        staging.begin(self._spec, self._origin, begin)

    def _require_within(self, spec: CollectionSpec) -> None:
        limits = self.limits()
        dense = [field for field in spec.vectors if field.kind is VectorKind.DENSE]
        for field in spec.vectors:
            if field.kind not in limits.vector_kinds or field.metric not in limits.metrics:
                raise StoreRejected(f"{self._store.address} holds no {field.kind} vectors under {field.metric}")
            if field.dtype not in limits.dtypes:
                raise StoreRejected(f"{self._store.address} holds no vectors of {field.dtype}")
        if limits.dense_fields is not None and (len(dense) != limits.dense_fields or dense[0].name):
            raise StoreRejected(f"{self._store.address} holds one vector field, without a name")

    def _take(self, spec: CollectionSpec) -> None:
        if self._staging is None:
            self._staging = self._store.staging_of(spec.name)
        self._staging.lock(self)

    def _collection(self) -> CollectionSpec:
        self._store.require_open()
        if self._spec is None:
            self._store.require_own()
            held = self._store.snapshot()
            self._spec, self._origin = replace(held.spec, index={}), held.origin
            self._take(self._spec)
        return self._spec

    def upsert(self, batch: pa.RecordBatch) -> None:
        spec, where, limits = self._collection(), str(self._store.address), self.limits()
        require_schema(batch, spec, where=where)
        if batch.num_rows > limits.batch_rows:
            raise UsageError(f"{where}: {batch.num_rows} rows at once, of at most {limits.batch_rows}")
        for field in spec.vectors if limits.vectors_required else ():
            column = batch.column(field.column)
            if column.null_count:
                row = column.is_valid().index(False).as_py()
                key = record_keys(batch)[row]
                raise DataInvalid(f"{where}: the record '{key}' has no vector, and every row of a matrix is one")
        self._gathered.add(batch, where=where)
        if self._gathered.nbytes > _BUFFER_BYTES:
            self.flush()

    def delete(self, keys: Sequence[RecordKey]) -> None:
        self._collection()
        self._gathered.remove(keys)

    def flush(self) -> None:
        spec = self._collection()
        if not self._gathered:
            return
        self._take(spec)
        assert self._staging is not None
        if not self._staging.exists():
            self._begin(self._staging)
        self._staging.add(list(self._gathered.kept()), stream_schema(spec), self._gathered.gone)
        self._forget()

    def finish(self, account: TransferAccount) -> None:
        """Write the files anew, if anything was written since they were."""
        self.flush()
        spec = self._collection()
        self._take(spec)
        assert self._staging is not None
        self._staging.take_up()
        if self._staging.exists():
            renames, gone = self._store.write_base(self._store.snapshot())
            self._staging.commit(renames, gone)

    def close(self) -> None:
        """What was not flushed is lost; what was flushed waits beside the files for the next run."""
        self._forget()
        if self._staging is not None:
            self._staging.unlock(self)
            self._staging = None


def grown_in(held: Snapshot) -> Growing | None:
    """The file in which the vectors of what is held stand already as they are to be."""
    return held.grown() if isinstance(held, Merged) else None


def sync_file(path: Path) -> None:
    """Return when what was written to it is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
