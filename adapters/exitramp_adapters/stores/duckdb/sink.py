"""Writing a table: what is written between two flushes is one transaction, and a flush commits it.

A commit is on the disk when it returns (in the file or in the log beside it, both synced), so that kill -9 keeps what
was acknowledged and nothing of what was not. There is no index on the id: DuckDB would hold it in memory and insert at
a fraction of the speed, and the join that finds the records to replace reads one column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from exitramp.arrow import record_keys, require_schema, stream_schema
from exitramp.errors import CollectionExists, CollectionMissing, DataInvalid, StoreRejected, UsageError
from exitramp.ports import Origin, SinkLimits, TransferAccount, difference_of
from exitramp.ports.index_settings import hnsw_of
from exitramp.ports.tables import Roles
from exitramp.records import CollectionSpec, DType, Finding, IdKind, Metric, RecordKey, VectorField, VectorKind
from exitramp_adapters.stores.duckdb.catalog import HNSW_METRICS, INDEX_KEY, names_in, relation_in, relation_of
from exitramp_adapters.stores.duckdb.column_types import can_be_written
from exitramp_adapters.stores.duckdb.file import close_quietly, load_vss, quoted, sdk, translated
from exitramp_adapters.stores.duckdb.limits import BATCH_ROWS, INDEXED_LIMITS, LIMITS
from exitramp_adapters.stores.duckdb.records import key_columns, keys_table, written
from exitramp_adapters.stores.duckdb.table import HASH, ID_TYPES, Table, find, remark_of, type_of

if TYPE_CHECKING:
    from exitramp_adapters.stores.duckdb.adapter import DuckStore

_SETTINGS: Final = {"m": "M", "ef_construction": "ef_construction", "ef_search": "ef_search"}
_LOG_LEFT: Final = (
    "what was written last stands in '{log}' beside the file, since somebody in this process still reads what was "
    "there before; DuckDB folds it in when the file is closed, and until then whoever copies the file has to copy both"
)
_ID_FORMS: Final = {
    IdKind.UINT64: r"^(0|[1-9][0-9]{0,19})$",
    IdKind.INT64: r"^(0|-?[1-9][0-9]{0,18})$",
    IdKind.UUID: r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
}


class DuckSink:
    """Writes in a transaction of its own, which others in this process see when it is flushed."""

    def __init__(self, store: DuckStore) -> None:
        self._store = store
        self._table: Table | None = None
        self._cursor: Any = None
        self._begun = False
        self._undone = False
        self._highest: str | None = None  # no id in the table is greater: where all that come are, none is replaced

    def limits(self) -> SinkLimits:
        return INDEXED_LIMITS if self._store.index == "hnsw" else LIMITS

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        where, name = str(self._store.address), self._store.address.require_collection()
        self._store.require_open()
        if any(vector.kind is VectorKind.SPARSE and vector.metric is not Metric.DOT for vector in spec.vectors):
            raise StoreRejected(f"{where}: sparse vectors are compared by their dot product only")
        cursor = self._writing()
        with translated(where):
            found = names_in(cursor)
            if name not in found:
                alike = [each for each in found if each.lower() == name.lower()]
                if alike:
                    raise CollectionExists(
                        f"{where}: there is a table '{alike[0]}', and DuckDB takes no two names that differ in case",
                        hint="choose another name",
                    )
                self._make(cursor, spec, origin)
            else:
                self._accept(cursor, spec, origin)

    def _make(self, cursor: Any, spec: CollectionSpec, origin: Origin) -> None:
        roles, types = _layout_for(spec)
        schema, table = relation_of(self._store.address.require_collection())
        relation = relation_in(cursor, schema, table)
        comment = str(spec.index.get(INDEX_KEY, {}).get("metadata", {}).get("comment", ""))
        columns = ", ".join(f"{quoted(column)} {kind}" for column, kind in types.items())
        cursor.execute("BEGIN")
        try:
            cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
            cursor.execute(f"CREATE TABLE {relation} ({columns})")
            _remark(cursor, relation, remark_of(comment, roles, spec.id_kind, origin))
            cursor.execute("COMMIT")
        except BaseException:
            _undo(cursor)
            raise
        self._table = find(cursor, self._store.address)

    def _accept(self, cursor: Any, spec: CollectionSpec, origin: Origin) -> None:
        table = find(cursor, self._store.address)
        self._require_own(table)
        different = difference_of(table.spec, spec)
        if different:
            raise CollectionExists(
                f"{self._store.address} is there already and {different}", hint="choose another name"
            )
        [[rows]] = cursor.execute(f"SELECT count(*) FROM {table.relation}").fetchall()
        if not rows:  # what was told of records that are gone explains no others
            _remark(cursor, table.relation, remark_of(table.comment, table.roles, table.spec.id_kind, origin))
            table = find(cursor, self._store.address)
        self._table = table

    def _require_own(self, table: Table) -> None:
        if not table.is_own:
            kind = "a view" if table.is_view else "a table that exitramp did not make"
            raise CollectionExists(
                f"{self._store.address} is {kind}: it is read, and nothing is written to it",
                hint="write into a new table",
            )

    def _writing(self) -> Any:
        self._store.require_open()
        if self._cursor is None:
            self._cursor = self._store.cursor(write=True)
        return self._cursor

    def _own(self) -> Table:
        if self._table is None:
            if not self._store.file.path.exists():
                raise CollectionMissing(f"{self._store.address}: there is no file {self._store.file.path}")
            with translated(str(self._store.address)):
                table = find(self._writing(), self._store.address)
            self._require_own(table)
            self._table = table
        return self._table

    def upsert(self, batch: pa.RecordBatch) -> None:
        table, where = self._own(), str(self._store.address)
        ordered = stream_schema(table.spec).names
        if sorted(ordered) == sorted(batch.schema.names):  # the fields may have been named in another order before
            batch = batch.select(ordered)
        require_schema(batch, table.spec, where=where)
        if batch.num_rows > BATCH_ROWS:
            raise UsageError(f"{where}: {batch.num_rows} rows at once, of at most {BATCH_ROWS}")
        if not batch.num_rows:
            return
        ids = batch.column("id")
        if pc.count_distinct(ids).as_py() != batch.num_rows and len(set(record_keys(batch))) != batch.num_rows:
            raise DataInvalid(f"{where}: an id stands twice in one batch")
        _require_ids(ids, table.spec.id_kind, where)
        namespaces = batch.column("namespace") if table.spec.has_namespaces else pa.nulls(len(ids), pa.string())
        rows, selected = written(batch, table)
        with self._in_transaction() as cursor:
            least, most = pc.min_max(ids).as_py().values()
            if self._highest is not None and least <= self._highest:
                self._remove(cursor, table, ids, namespaces)
            self._highest = most if self._highest is None else max(most, self._highest)
            names = ", ".join(quoted(name) for name in rows.column_names)
            cursor.register("exitramp_rows", rows)
            cursor.execute(f"INSERT INTO {table.relation} ({names}) SELECT {selected} FROM exitramp_rows")
            cursor.unregister("exitramp_rows")

    def delete(self, keys: Sequence[RecordKey]) -> None:
        table = self._own()
        if keys:
            with self._in_transaction() as cursor:
                self._remove(cursor, table, *key_columns(keys))

    def _remove(self, cursor: Any, table: Table, ids: pa.Array, namespaces: pa.Array) -> None:
        cursor.register("exitramp_keys", keys_table(ids, namespaces))
        cursor.execute(f"DELETE FROM {table.relation} USING exitramp_keys k WHERE {same_key(table)}")
        cursor.unregister("exitramp_keys")

    def _in_transaction(self) -> _Transaction:
        return _Transaction(self)

    def flush(self) -> None:
        where = str(self._store.address)
        self._own()
        self._refuse_undone()
        if self._begun:
            with translated(where), self._store.file.lock:
                self._writing().execute("COMMIT")
            self._begun = False

    def _refuse_undone(self) -> None:
        """DuckDB answers the COMMIT of a transaction that failed as if it were done."""
        if self._undone:
            raise StoreRejected(
                f"{self._store.address}: what was written since the last flush was undone when something in it failed",
                hint="run the same command again: it goes on where it was acknowledged",
            )

    def finish(self, account: TransferAccount) -> Sequence[Finding]:
        """Build the indexes that `?index=hnsw` asks for, and fold the log into the file."""
        self.flush()
        table, cursor, where = self._own(), self._writing(), str(self._store.address)
        with translated(where):
            if self._store.index == "hnsw":
                load_vss(cursor, where)
                for statement in _index_statements(table):
                    cursor.execute("SET hnsw_enable_experimental_persistence = true")
                    cursor.execute(statement)
                self._table = None
            try:
                cursor.execute("CHECKPOINT")
            except sdk().TransactionException:
                log = f"{self._store.file.path.name}.wal"
                return [Finding("target.log", _LOG_LEFT.format(log=log), detail={"file": log})]
        return []

    def close(self) -> None:
        """What was not flushed is lost."""
        cursor, self._cursor = self._cursor, None
        self._begun = False
        if cursor is not None:
            with suppress(sdk().Error):
                _undo(cursor)
            close_quietly(cursor)


class _Transaction:
    """Begins one where none is open; after an error all of it is undone, and the sink says so from then on."""

    def __init__(self, sink: DuckSink) -> None:
        self._sink = sink
        self._translated = translated(str(sink._store.address))

    def __enter__(self) -> Any:
        sink = self._sink
        sink._refuse_undone()
        cursor = sink._writing()
        self._translated.__enter__()
        if not sink._begun:
            cursor.execute("BEGIN")
            sink._begun = True
            table = sink._own()
            [[sink._highest]] = cursor.execute(f"SELECT max({table.id_text()}) FROM {table.relation}").fetchall()
        return cursor

    def __exit__(self, kind: Any, error: Any, trace: Any) -> Any:
        sink = self._sink
        if error is not None:
            sink._begun, sink._undone = False, True
            _undo(sink._cursor)
        return self._translated.__exit__(kind, error, trace)


def _undo(cursor: Any) -> None:
    with suppress(sdk().Error):
        cursor.execute("ROLLBACK")


def same_key(table: Table) -> str:
    """The condition on which a row is that of a key in the table `k`."""
    if table.roles.namespace is None:
        return f"{table.id_text()} = k.exitramp_id AND k.exitramp_ns IS NULL"
    return f"{table.id_text()} = k.exitramp_id AND {table.namespace_text()} IS NOT DISTINCT FROM k.exitramp_ns"


def _remark(cursor: Any, relation: str, remark: str) -> None:
    cursor.execute(f"COMMENT ON TABLE {relation} IS '{remark.replace(chr(39), chr(39) * 2)}'")


def _layout_for(spec: CollectionSpec) -> tuple[Roles, dict[str, str]]:
    """The columns of a table for `spec`: its own, those of a DuckDB table it was once, and the vectors'."""
    types = {"id": ID_TYPES[spec.id_kind]}
    if spec.has_namespaces:
        types["namespace"] = "VARCHAR"
    if spec.has_documents:
        types["document"] = "VARCHAR"
    types["payload"] = "JSON"
    taken = {"id", "namespace", "document", "payload", HASH}
    vectors: dict[str, VectorField] = {}
    for vector in spec.vectors:
        column = _free(vector.name or ("vector" if vector.kind is VectorKind.DENSE else vector.kind.value), taken)
        vectors[column] = vector
    told = spec.index.get(INDEX_KEY, {})
    held = told.get("columns", {})
    values = _kinds({name: held[name] for name in told.get("values", ()) if name in held}, taken)
    types[HASH] = "UBIGINT"
    types |= values | {column: type_of(vector) for column, vector in vectors.items()}
    roles = Roles(
        "id",
        "namespace" if spec.has_namespaces else None,
        "document" if spec.has_documents else None,
        "payload",
        vectors,
        tuple(values),
    )
    return roles, types


def _free(name: str, taken: set[str]) -> str:
    """The name, or one made of it that no column has: DuckDB does not tell them apart by case."""
    made, number = name, 1
    while made.lower() in taken or "\0" in made:
        number += 1
        made = f"{name}_{number}"
    taken.add(made.lower())
    return made


def _kinds(columns: Mapping[str, str], taken: set[str]) -> dict[str, str]:
    """Of the columns of the first DuckDB table those whose type is taken here, and whose name is free."""
    found: dict[str, str] = {}
    for name, kind in columns.items():
        try:
            made = sdk().sqltype(kind)
        except sdk().Error:
            continue  # a type that this DuckDB does not know, or one of a name that the file had given it
        if name.lower() not in taken and str(made) == kind and can_be_written(made):
            taken.add(name.lower())
            found[name] = kind
    return found


def _require_ids(ids: pa.Array, kind: IdKind, where: str) -> None:
    """Raises `DataInvalid` for an id that a column of its kind would give back as another text."""
    if kind in _ID_FORMS:
        right = pc.match_substring_regex(ids, _ID_FORMS[kind])
        if not pc.all(right).as_py():
            row = right.index(pa.scalar(False)).as_py()
            raise DataInvalid(f"{where}: the id '{ids[row]}' is no {kind.value}")


def _index_statements(table: Table) -> list[str]:
    """One HNSW index for each field that can have one and has none, with the settings of the graph there was first."""
    words = {metric: word for word, metric in HNSW_METRICS.items()}
    told = hnsw_of(table.origin.spec.index) if table.origin is not None else None
    settings = "".join(f", {_SETTINGS[name]} = {value}" for name, value in (told.told() if told else {}).items())
    return [
        f"CREATE INDEX {quoted(f'{table.spec.name}_{column}_hnsw')} ON {table.relation} USING HNSW ({quoted(column)})"
        f" WITH (metric = '{words[vector.metric]}'{settings})"
        for column, vector in table.roles.vectors.items()
        if vector.kind is VectorKind.DENSE and vector.dtype is DType.FLOAT32 and vector.metric in words
        if column not in table.hnsw
    ]
