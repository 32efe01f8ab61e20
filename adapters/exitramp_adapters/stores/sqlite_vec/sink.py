"""Writing a collection of the layout that `collection` describes: one transaction for each call."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from exitramp.arrow import dense_matrix, record_keys, require_schema
from exitramp.errors import CollectionExists, DataInvalid, StoreRejected, UsageError
from exitramp.ports import TAGGED_TYPES, DocumentRoom, Origin, PayloadLimits, SinkLimits, TransferAccount, difference_of
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorKind
from exitramp_adapters.stores.sqlite_vec.collection import (
    ABOUT,
    COLUMN,
    FORMAT,
    INDEX_KEY,
    NAMES,
    Collection,
    Part,
    about_own,
    tables_in,
)
from exitramp_adapters.stores.sqlite_vec.database import quoted
from exitramp_adapters.stores.sqlite_vec.declared import DEFAULT_CHUNK_ROWS, ELEMENT_SQL, METRICS, TYPES
from exitramp_adapters.stores.sqlite_vec.found import find
from exitramp_adapters.stores.sqlite_vec.rows import Rows
from exitramp_adapters.stores.sqlite_vec.vectors import stored_bytes, unrankable

if TYPE_CHECKING:
    from exitramp_adapters.stores.sqlite_vec.adapter import SqliteVecStore

_SCALARS: Final = ("null", "bool", "int", "float", "nonfinite", "string", "timestamp", "date", "time", "decimal")
_ALL_TYPES: Final = frozenset((*_SCALARS, "uuid", "bytes", "list", "object"))
# A call is a transaction of its own. Of 20,000 x 384, 100 rows at once came to 39,000 a second of processor time, 1,000
# to 75,000, 2,000 to 84,000 and 5,000, which at 8,192 numbers would be 160 MB, to 88,000.
BATCH_ROWS: Final = 2_000
_LIMITS: Final = SinkLimits(
    id_kinds=frozenset(IdKind),
    metrics=frozenset({Metric.COSINE, Metric.EUCLIDEAN, Metric.MANHATTAN, Metric.HAMMING}),
    payload=PayloadLimits(
        types=_ALL_TYPES,
        item_types=_ALL_TYPES,
        mixed_lists=True,
        nested=True,
        empty_lists=True,
        empty_objects=True,
        integer_bits=8192,
        tagged_types=TAGGED_TYPES,
    ),
    names=NAMES,
    dtypes=frozenset(TYPES),
    dimensions=8192,
    named_vectors=True,
    dense_fields=None,
    vectors_required=False,
    vector_free=True,
    namespaces=True,
    documents=DocumentRoom.NATIVE,
    nonfinite_vectors=True,
    keeps_origin=True,
    adopts_empty=False,
    batch_rows=BATCH_ROWS,
)


class SqliteVecSink:
    """Writes whole records. Each call is on the disk when it returns, so that a flush has nothing left to do."""

    def __init__(self, store: SqliteVecStore) -> None:
        self._store = store
        self._found: Collection | None = None

    def limits(self) -> SinkLimits:
        return _LIMITS

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        address = self._store.address
        address.only_options()
        name = address.require_collection()
        for field in spec.vectors:
            if field.kind is not VectorKind.DENSE or field.dtype not in TYPES or field.metric not in _LIMITS.metrics:
                raise StoreRejected(
                    f"{address}: vec0 has no {field.kind} vectors of {field.dtype} under {field.metric}"
                )
            if (field.metric is Metric.HAMMING) is not (field.dtype is DType.BINARY):
                raise StoreRejected(f"{address}: vec0 compares bits by hamming, and nothing else")
        if re.fullmatch(NAMES.pattern, name) is None:
            raise UsageError(f"{address}: {name!r} may be the name of a table that belongs to another collection")
        with self._store.database.write(make=True) as connection:
            tables = tables_in(connection)
            if name in about_own(connection, tables):
                self._accept(connection, spec, origin)
                return
            alike = [each for each in tables if each.lower() == name.lower()]
            if alike:
                raise CollectionExists(
                    f"{address}: the table {alike[0]!r} is there already, and exitramp did not make it",
                    hint="choose another name; SQLite does not tell upper from lower case in names",
                )
            _make(connection, name, spec, origin, tables)

    def _accept(self, connection: Any, spec: CollectionSpec, origin: Origin) -> None:
        address = self._store.address
        found = find(connection, address)
        different = difference_of(found.spec, spec)
        if different:
            raise CollectionExists(f"{address} is there already and {different}", hint="choose another name")
        name = quoted(found.table)
        if connection.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone() is None:
            [(text,)] = connection.execute(f"SELECT about FROM {ABOUT} WHERE name = ?", (found.table,)).fetchall()
            about = json.loads(text) | {"origin": origin.to_json()}  # of records that are gone it explains no others
            connection.execute(f"UPDATE {ABOUT} SET about = ? WHERE name = ?", (json.dumps(about), found.table))

    def _collection(self, connection: Any) -> Collection:
        if self._found is None:
            found = find(connection, self._store.address)
            if not found.is_own:
                raise CollectionExists(
                    f"{self._store.address} was not made by exitramp, and is only read", hint="choose another name"
                )
            self._found = found
        return self._found

    def upsert(self, batch: pa.RecordBatch) -> None:
        """Replace whole records. One that is there keeps its rowid, by which scans go."""
        where = str(self._store.address)
        if batch.num_rows > BATCH_ROWS:
            raise UsageError(f"{where}: {batch.num_rows} rows at once, of at most {BATCH_ROWS}")
        with self._store.database.write() as connection:
            found = self._collection(connection)
            require_schema(batch, found.spec, where=where)
            keys = record_keys(batch)
            if len(set(keys)) != len(keys):
                raise DataInvalid(f"{where}: an id stands twice in one batch")
            if keys:
                _write(connection, found, batch, keys)

    def delete(self, keys: Sequence[RecordKey]) -> None:
        if not keys:
            return
        with self._store.database.write() as connection:
            found = self._collection(connection)
            rowids = [(rowid,) for rowid in Rows(found).rowids_of(connection, keys)]
            _delete_vectors(connection, found, rowids)
            connection.executemany(f"DELETE FROM {quoted(found.table)} WHERE rowid = ?", rowids)

    def flush(self) -> None:
        """Every call before was a transaction that is on the disk."""
        self._store.database.require_open()

    def finish(self, account: TransferAccount) -> None:
        """vec0 compares every vector: there is no index to build."""
        self.flush()

    def close(self) -> None:
        self._found = None


def _make(connection: Any, name: str, spec: CollectionSpec, origin: Origin, tables: dict[str, Any]) -> None:
    """All tables in the one transaction that is open, so that none is ever there without the others."""
    connection.execute(
        f"CREATE TABLE {quoted(name)} (rowid INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, namespace TEXT,"
        " document TEXT, payload TEXT)"
    )
    # A NULL is never the same as another one, so that a plain UNIQUE would take one id twice in no namespace.
    connection.execute(
        f"CREATE UNIQUE INDEX {quoted(name + '_key')} ON {quoted(name)} (id, namespace IS NULL, ifnull(namespace, ''))"
    )
    connection.execute(
        f"CREATE TABLE {quoted(name + '_unranked')} (field TEXT NOT NULL, record INTEGER NOT NULL,"
        " vector BLOB NOT NULL, PRIMARY KEY (field, record))"
    )
    told = spec.index.get(INDEX_KEY)
    chunk_rows = told.get("chunk_size") if isinstance(told, dict) else None
    if type(chunk_rows) is not int or chunk_rows % 8 or not 0 < chunk_rows <= 4096:
        chunk_rows = DEFAULT_CHUNK_ROWS
    words = {metric: word for word, metric in METRICS.items()}
    made: dict[str, str] = {}
    taken = {each.lower() for each in tables}
    for field in spec.vectors:
        table = _vector_table(name, field.name, taken)
        metric = "" if field.dtype is DType.BINARY else f" distance_metric={words[field.metric]}"
        connection.execute(
            f"CREATE VIRTUAL TABLE {quoted(table)} USING vec0({COLUMN} {TYPES[field.dtype]}[{field.dimensions}]"
            f"{metric}, chunk_size={chunk_rows})"
        )
        made[field.column] = table
    connection.execute(f"CREATE TABLE IF NOT EXISTS {ABOUT} (name TEXT PRIMARY KEY NOT NULL, about TEXT NOT NULL)")
    plain = CollectionSpec(name, spec.id_kind, spec.vectors, spec.has_namespaces, spec.has_documents)
    about = {"format": FORMAT, "spec": plain.to_json(), "tables": made, "origin": origin.to_json()}
    connection.execute(f"INSERT OR REPLACE INTO {ABOUT} VALUES (?, ?)", (name, json.dumps(about)))


def _vector_table(name: str, field: str, taken: set[str]) -> str:
    """`NAME_vec` or `NAME_vec_FIELD`, and a number where SQLite would take that for another one's."""
    plain = re.sub(r"[\x00-\x1f]", "_", f"{name}_vec" + (f"_{field[:200]}" if field else ""))
    table, number = plain, 1
    while table.lower() in taken:
        number += 1
        table = f"{plain}_{number}"
    taken.add(table.lower())
    return table


def _write(connection: Any, found: Collection, batch: pa.RecordBatch, keys: Sequence[RecordKey]) -> None:
    name = quoted(found.table)
    [last] = connection.execute("SELECT max(seq) FROM sqlite_sequence WHERE name = ?", (found.table,)).fetchone()
    there: dict[RecordKey, int] = {}
    if last:
        rows = Rows(found)
        wanted = set(keys)
        ids = [key.id for key in keys]
        for start in range(0, len(ids), 500):
            part = ids[start : start + 500]
            found_keys = rows.keys(connection, f"WHERE t.id IN ({','.join('?' * len(part))})", part)
            there |= {key: rowid for rowid, key in found_keys if key in wanted}
    next_rowid = (last or 0) + 1
    rowids = np.empty(len(keys), np.int64)
    for row, key in enumerate(keys):
        known = there.get(key)
        if known is None:
            known, next_rowid = next_rowid, next_rowid + 1
        rowids[row] = known
    old = [(rowid,) for rowid in there.values()]
    if old:
        _delete_vectors(connection, found, old)
        connection.executemany(f"DELETE FROM {name} WHERE rowid = ?", old)
    nothing = [None] * len(keys)
    plain = rowids.tolist()
    connection.executemany(
        f"INSERT INTO {name} (rowid, id, namespace, document, payload) VALUES (?, ?, ?, ?, ?)",
        zip(
            plain,
            batch.column("id").to_pylist(),
            batch.column("namespace").to_pylist() if found.spec.has_namespaces else nothing,
            batch.column("document").to_pylist() if found.spec.has_documents else nothing,
            batch.column("payload").to_pylist(),
            strict=True,
        ),
    )
    for each in found.parts:
        _write_vectors(connection, found, each, batch.column(each.field.column), rowids)


def _write_vectors(connection: Any, found: Collection, part: Part, column: pa.Array, rowids: Any) -> None:
    matrix = dense_matrix(column)
    if column.null_count:
        valid = column.is_valid().to_numpy(zero_copy_only=False)
        matrix, rowids = matrix[valid], rowids[valid]
    aside = unrankable(part.field.metric, matrix)
    if aside.any():
        connection.executemany(
            f"INSERT INTO {quoted(found.table + '_unranked')} VALUES (?, ?, ?)",
            (
                (part.field.name, rowid, raw)
                for rowid, raw in zip(
                    rowids[aside].tolist(), stored_bytes(matrix[aside], part, low_bit_first=True), strict=True
                )
            ),
        )
        matrix, rowids = matrix[~aside], rowids[~aside]
    connection.executemany(
        f"INSERT INTO {quoted(part.table)} (rowid, {part.column}) VALUES (?, {ELEMENT_SQL[part.field.dtype]})",
        zip(rowids.tolist(), stored_bytes(matrix, part, low_bit_first=True), strict=True),
    )


def _delete_vectors(connection: Any, found: Collection, rowids: list[tuple[int]]) -> None:
    for part in found.parts:
        connection.executemany(f"DELETE FROM {quoted(part.table)} WHERE rowid = ?", rowids)
        connection.executemany(
            f"DELETE FROM {quoted(found.table + '_unranked')} WHERE field = ? AND record = ?",
            [(part.field.name, rowid) for (rowid,) in rowids],
        )
