"""Writing a LanceDB table: what it can hold, whole records once each, and an index at the end where one is asked for.

LanceDB's `add` keeps two rows of one id without a word, and its `merge_insert`, which replaces them in one commit,
takes three times as long (20,000 x 384 in 0.16 s, not 0.05). So the sink knows the ids that are there, by 8 bytes of
each: what is surely new is added, the rest is merged. Both are one commit of LanceDB's: a kill leaves the version
before it or the one after it.

LanceDB leaves its files to the operating system and syncs none of them (seen with strace), so `flush` does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from exitramp.arrow import require_schema
from exitramp.durable import make_folder, storage_errors
from exitramp.errors import CollectionExists, CollectionMissing, DataInvalid, StoreRejected, UsageError
from exitramp.ports import Origin, SinkLimits, TransferAccount, difference_of
from exitramp.records import CollectionSpec, DType, Metric, RecordKey, VectorField, VectorKind
from exitramp_adapters.stores.lancedb.engine import translated
from exitramp_adapters.stores.lancedb.layout import (
    BATCH_ROWS,
    LIMITS,
    KnownKeys,
    hashes_of,
    json_text,
    key_text,
    refuse_nan,
    sql_texts,
    table_rows,
    table_schema,
)
from exitramp_adapters.stores.lancedb.tables import (
    DISTANCES,
    ID_KIND,
    INDEX_KEY,
    ORIGIN,
    View,
    index_settings,
    origin_in,
)

if TYPE_CHECKING:
    from exitramp_adapters.stores.lancedb.adapter import LanceStore

INDEX_TYPES: Final = {
    "IVF_FLAT": "IvfFlat",
    "IVF_PQ": "IvfPq",
    "IVF_SQ": "IvfSq",
    "IVF_RQ": "IvfRq",
    "IVF_HNSW_FLAT": "HnswFlat",
    "IVF_HNSW_SQ": "HnswSq",
    "IVF_HNSW_PQ": "HnswPq",
}
_BUFFER_BYTES: Final = 64 * 2**20
_DELETE_IDS: Final = 1000
# With fewer rows in a fragment than this, on the average, `finish` puts them together. To read 20,000 x 384 out of
# fragments of 2,000 rows takes as long as out of one (10 ms), out of those of 400 half again, of 100 six times as long.
_SMALL_FRAGMENT_ROWS: Final = 1_000
_MANY_FRAGMENTS: Final = 16
_A_CENTURY: Final = timedelta(days=36_500)  # by itself it removes the versions that are older than a week


class LanceSink:
    """Collects batches; a flush adds or merges them in one commit each and syncs the files."""

    def __init__(self, store: LanceStore) -> None:
        self._store = store
        self._view: View | None = None
        self._table: Any = None
        self._source_indices: Sequence[Mapping[str, Any]] = ()
        self._known: KnownKeys | None = None
        self._version = -1
        self._batches: list[pa.RecordBatch] = []
        self._buffered_bytes = 0
        self._synced: set[tuple[str, int, int]] = set()
        self._syncing: ThreadPoolExecutor | None = None

    def limits(self) -> SinkLimits:
        # Indexes compare by squares in float32: where those overflow no part of the index is the nearest, and building
        # it ends in an error.
        return LIMITS if self._store.index is None else replace(LIMITS, vector_magnitude=1e15)

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        store = self._store
        store.require_writable()
        told = spec.index.get(INDEX_KEY) or {}
        self._source_indices = told.get("indices") or ()
        for field in spec.vectors:
            if (field.dtype is DType.BINARY) != (field.metric is Metric.HAMMING):
                raise StoreRejected(f"{store.address}: LanceDB compares no {field.dtype} under {field.metric}")
        try:
            view = store.view()
        except CollectionMissing:
            make_folder(store.path)
            with translated(str(store.address)):
                store.database().create_table(store.name, schema=table_schema(spec, origin, told.get("metadata")))
            self._opened(store.view())
            return
        if not view.ours:
            raise CollectionExists(
                f"{store.address} is a table that exitramp did not make", hint="choose another name behind the #"
            )
        different = difference_of(view.spec, spec)
        if different:
            raise CollectionExists(f"{store.address} is there already and {different}", hint="choose another name")
        self._opened(view)
        if not view.table.count_rows() and origin_in(view) != origin:
            text = {ORIGIN: json_text(origin.to_json()), ID_KIND: spec.id_kind.value}
            with translated(str(store.address)):
                self._table.update_field_metadata({"path": "id", "metadata": text})
            self._opened(store.view())

    def _opened(self, view: View) -> None:
        self._view, self._known = view, None
        with translated(str(self._store.address)):
            self._table = self._store.latest()

    def _ready(self) -> View:
        self._store.require_writable()
        if self._view is None:
            view = self._store.view()
            if not view.ours:
                raise CollectionExists(
                    f"{self._store.address} is a table that exitramp did not make",
                    hint="choose another name behind the #",
                )
            self._opened(view)
        assert self._view is not None
        return self._view

    def upsert(self, batch: pa.RecordBatch) -> None:
        view, where = self._ready(), str(self._store.address)
        require_schema(batch, view.spec, where=where)
        if batch.num_rows > BATCH_ROWS:
            raise UsageError(f"{where}: {batch.num_rows} rows at once, of at most {BATCH_ROWS}")
        if not batch.num_rows:
            return
        rows = table_rows(batch, view)
        keys = rows.column(view.key)
        if pc.count_distinct(keys).as_py() != len(keys):
            raise DataInvalid(f"{where}: an id stands twice in one batch")
        self._batches.append(rows)
        self._buffered_bytes += rows.nbytes
        if self._buffered_bytes > _BUFFER_BYTES:
            self._write()

    def delete(self, keys: Sequence[RecordKey]) -> None:
        view = self._ready()
        self._write()
        spaces = view.roles.namespace is not None
        wanted = [key_text(key) if spaces else key.id for key in keys if spaces or key.namespace is None]
        with translated(str(self._store.address)):
            for start in range(0, len(wanted), _DELETE_IDS):
                self._committed(self._table.delete(f"{view.key} IN ({sql_texts(wanted[start : start + _DELETE_IDS])})"))

    def flush(self) -> None:
        self._ready()
        self._write()
        self._sync()

    def _write(self) -> None:
        """Everything that was collected, in one commit, or two where some of it replaces older records."""
        if not self._batches:
            return
        view = self._ready()
        rows = pa.Table.from_batches(self._batches)
        with translated(str(self._store.address)):
            known = self._keys_there(view)
            hashes = hashes_of(rows.column(view.key))
            ordered = np.sort(hashes)
            if (ordered[1:] == ordered[:-1]).any():
                last = {key: row for row, key in enumerate(rows.column(view.key).to_pylist())}
                taken = np.array(sorted(last.values()), np.int64)
                rows, hashes = rows.take(pa.array(taken)), hashes[taken]
            there = known.has(hashes)
            if there.any():
                old = rows.filter(pa.array(there))
                refuse_nan(old, view)
                merge = self._table.merge_insert(view.key).when_matched_update_all().when_not_matched_insert_all()
                # NaN was refused, so that null is the only bad one.
                self._committed(merge.execute(old, on_bad_vectors="null"))
                rows = rows.filter(pa.array(~there))
            if len(rows):
                self._committed(self._table.add(pa.RecordBatchReader.from_batches(rows.schema, rows.to_batches())))
            known.add(hashes[~there])
        self._batches, self._buffered_bytes = [], 0  # not before: a flush that failed may be tried again

    def _committed(self, result: Any) -> None:
        """A version was made. If another came between, what is in the table is not known any more."""
        made = int(result.version)
        self._version = made if made <= self._version + 1 else -1

    def _keys_there(self, view: View) -> KnownKeys:
        """What is in the table now; read again if anybody else has written since."""
        if self._known is None or int(self._table.version) != self._version:
            self._known = KnownKeys()
            reader = self._table.search().select([view.key]).to_batches()
            for batch in reader:
                self._known.add(hashes_of(batch.column(view.key)))
            self._version = int(self._table.version)
        return self._known

    def _sync(self) -> None:
        """Bring to the disk what LanceDB wrote since the last time, side by side: one after the other takes 8 ms."""
        folder = self._store.folder()
        new: dict[str, tuple[str, int, int]] = {}
        with storage_errors(folder):
            for entry in _files_below(folder):
                found = entry.stat()
                mark = (entry.path, found.st_ino, found.st_mtime_ns)
                if mark not in self._synced:
                    new[entry.path] = mark
        if not new:
            return
        folders = {os.path.dirname(path) for path in new} | {str(folder), str(self._store.path)}
        if self._syncing is None:
            self._syncing = ThreadPoolExecutor(8, "exitramp-lancedb-sync")
        for paths in (new, folders):
            list(self._syncing.map(_sync_path, paths))
        self._synced.update(new.values())

    def finish(self, account: TransferAccount) -> None:
        """Put small fragments together, build the index that the address asks for, bring one that is there up to it."""
        self.flush()
        view = self._ready()
        with translated(str(self._store.address)):
            stats: Any = self._table.stats()
            fragments = int(stats["fragment_stats"]["num_fragments"])
            indices = index_settings(self._table)
            small = fragments > _MANY_FRAGMENTS and int(stats["num_rows"]) / fragments < _SMALL_FRAGMENT_ROWS
            if small or any(index["unindexed"] for index in indices):
                self._optimize(view, indices)
            made = {(index["columns"][0], index["type"]) for index in indices}
            for column, config, kind in self._wanted_indices(view):
                if (column, kind) not in made and self._table.count_rows(f"`{column}` IS NOT NULL"):
                    self._table.create_index(column, config=config)
            self._version = -1
        self._sync()

    def _optimize(self, view: View, indices: Sequence[Mapping[str, Any]]) -> None:
        """Put fragments together and bring indexes up to the table. LanceDB does not take it that what is new has no
        vector in a column that has an index: that is then built anew, or dropped where there is none any more."""
        try:
            self._table.optimize(cleanup_older_than=_A_CENTURY)
        except RuntimeError as error:
            if "with 0 vectors" not in str(error):
                raise
            for index in indices:
                column = index["columns"][0]
                field = view.roles.vectors.get(column)
                if index["distance"] and field is not None:
                    self._table.drop_index(index["name"])
                    if self._table.count_rows(f"`{column}` IS NOT NULL"):
                        self._table.create_index(column, config=index_config(index, field, str(self._store.address)))

    def _wanted_indices(self, view: View) -> Iterator[tuple[str, Any, str]]:
        """Column, configuration and type of the indexes that the address asks for."""
        wanted = self._store.index
        if wanted is None or not self._table.count_rows():
            return
        where = str(self._store.address)
        if wanted != "source":
            for column, field in view.roles.vectors.items():
                if _is_indexed(field, wanted):
                    yield column, index_config({"type": wanted}, field, where), wanted
            return
        by_name = {field.name: column for column, field in view.roles.vectors.items()}
        for index in self._source_indices:
            found = by_name.get(index["columns"][0]) or (by_name.get("") if len(by_name) == 1 else None)
            if index["distance"] and found is not None:
                yield found, index_config(index, view.roles.vectors[found], where), str(index["type"])

    def close(self) -> None:
        """What was not flushed is lost."""
        self._batches, self._buffered_bytes, self._known = [], 0, None
        if self._syncing is not None:
            self._syncing.shutdown()
            self._syncing = None


def _is_indexed(field: VectorField, kind: str) -> bool:
    """Whether `?index=` builds over the field. LanceDB has no index over int8, and over bytes only those that keep
    them whole; the one over lists of vectors found 3 of the 10 nearest of 300, so that only `index=source` makes it."""
    if field.kind is VectorKind.MULTI or field.dtype is DType.INT8:
        return False
    return field.dtype is not DType.BINARY or kind.endswith("FLAT")


def index_config(index: Mapping[str, Any], field: VectorField, where: str) -> Any:
    """LanceDB's configuration object for an index such as this one. Raises `StoreRejected` for a kind nobody knows."""
    import lancedb.index as kinds

    made = INDEX_TYPES.get(index["type"])
    if made is None:
        hint = f"leave out ?index=, or choose one of {', '.join(INDEX_TYPES)}"
        raise StoreRejected(f"{where}: the index type {index['type']!r} cannot be made again", hint=hint)
    details = index.get("details") or {}
    hnsw, packed = details.get("hnsw") or {}, details.get("compression") or {}
    options = {
        "m": hnsw.get("max_connections"),
        "ef_construction": hnsw.get("construction_ef"),
        "num_bits": packed.get("num_bits") if packed.get("type") != "sq" else None,
        "num_sub_vectors": packed.get("num_sub_vectors"),
    }
    given = {name: value for name, value in options.items() if value is not None}
    return getattr(kinds, made)(distance_type=DISTANCES[field.metric], **given)


def _sync_path(path: str) -> None:
    with storage_errors(Path(path)):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _files_below(folder: Path) -> Iterator[os.DirEntry[str]]:
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _files_below(Path(entry.path))
        else:
            yield entry
