"""Writing to PostgreSQL: whole records by binary copy, each call in a transaction of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa

from exitramp.arrow import require_schema
from exitramp.errors import CollectionExists, DataInvalid, StoreRejected, UsageError
from exitramp.ports import Origin, SinkLimits, TransferAccount, difference_of
from exitramp.records import CollectionSpec, RecordKey, VectorKind
from exitramp.urls import Address
from exitramp_adapters.stores import _pgvector_wire as wire
from exitramp_adapters.stores._pgvector_catalog import Column, find, quoted, read_table
from exitramp_adapters.stores._pgvector_columns import Out, columns_of
from exitramp_adapters.stores._pgvector_limits import BATCH_ROWS, LIMITS
from exitramp_adapters.stores._pgvector_records import Selection
from exitramp_adapters.stores._pgvector_session import Server
from exitramp_adapters.stores._pgvector_shape import Shape, shape_of, split_comment
from exitramp_adapters.stores._pgvector_tables import build_indexes, keep_note, make_table, recorded

_STAGE: Final = "exitramp_stage"
_DELETED_AT_ONCE: Final = 5_000


class PgvectorSink:
    """Each call is committed, and so on the disk, when it returns: had a flush to do it, a connection that was cut and
    made again between two calls would lose the first of them without a word."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._shape: Shape | None = None
        self._told: Mapping[str, Any] = {}
        self._spec: CollectionSpec | None = None
        self._collisions = 0
        self._item_types: dict[str, int] = {}

    def limits(self) -> SinkLimits:
        return LIMITS

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        address = self._server.address
        self._told, self._spec = recorded(spec, origin), spec
        with self._server.writing() as session:
            if find(session, address) is None:
                make_table(session, address, spec, origin)
            table = read_table(session, address)
            self._shape = shape = _existing(session, table, address, spec)
            different = difference_of(shape.spec, spec)
            if different:
                raise CollectionExists(f"{address} is there already: {different}", hint="choose another table")
            self._item_types = _item_types(session, shape)
            words, note = split_comment(table.comment)
            if note is not None and note.get("origin") != origin.to_json():
                [filled] = session.execute(f"SELECT EXISTS (SELECT FROM {table.sql})", []).fetchone()
                if not filled:  # what was told of records that are gone explains no others
                    keep_note(session, table.sql, words, note | {"origin": origin.to_json()})

    def upsert(self, batch: pa.RecordBatch) -> None:
        """Replace whole records. A copy straight into the table is twice as fast as one that looks for what is there,
        and is taken back as a whole where an id is."""
        import psycopg

        shape, where = self._described(), str(self._server.address)
        require_schema(batch, shape.spec, where=where)
        if batch.num_rows > BATCH_ROWS:
            raise UsageError(f"{where}: {batch.num_rows} rows at once, of at most {BATCH_ROWS}")
        if not batch.num_rows:
            return
        with self._server.writing() as session:
            columns = columns_of(session, batch, shape, self._item_types, where=where)
            data = wire.rows([column.cells for column in columns])
            if self._collisions < 2 and not any(column.as_text for column in columns):
                try:
                    with session.transaction():
                        _copy(session, shape.table.sql, columns, data, batch.num_rows, where=where)
                    self._collisions = 0
                    return
                except psycopg.errors.UniqueViolation:
                    self._collisions += 1
            with session.transaction():
                _merge(session, shape, columns, data, batch.num_rows, where=where)

    def delete(self, keys: Sequence[RecordKey]) -> None:
        selection = Selection(self._described())
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            found = selection.where_keys(keys[start : start + _DELETED_AT_ONCE])
            if found is None:
                continue
            with self._server.writing() as session, session.transaction():
                session.execute(f"DELETE FROM {selection.shape.table.sql} WHERE {found[0]}", found[1])

    def flush(self) -> None:
        """Every call was on the disk when it returned."""

    def finish(self, account: TransferAccount) -> None:
        """Build indexes, let columns that count go on behind what was written, and let the planner know the table."""
        shape = self._described()
        with self._server.writing() as session:
            if shape.note is None:
                return  # what indexes somebody's own table has is not ours to say
            shape = replace(shape, table=read_table(session, self._server.address))
            build_indexes(session, shape, self._told, self._spec or shape.spec)
            for column in shape.table.columns:
                if column.counts_up:
                    _count_on(session, shape, column)
            session.execute(f"ANALYZE {shape.table.sql}", [])

    def close(self) -> None:
        """The store closes its sessions."""

    def _described(self) -> Shape:
        if self._shape is None:
            address = self._server.address
            with self._server.writing() as session:
                self._shape = shape_of(session, read_table(session, address), address)
                self._item_types = _item_types(session, self._shape)
        return self._shape


def _existing(session: Any, table: Any, address: Address, spec: CollectionSpec) -> Shape:
    """The table as a collection; where it does not say its metric, what is to be written does."""
    try:
        return shape_of(session, table, address)
    except DataInvalid:
        if address.option("metric") is not None or not spec.vectors:
            raise
    said = ",".join(
        f"{field.name}:{field.metric.value}" if field.name else field.metric.value for field in spec.vectors
    )
    return shape_of(session, table, replace(address, options=dict(address.options) | {"metric": said}))


def _item_types(session: Any, shape: Shape) -> dict[str, int]:
    """Of each column of arrays of vectors the number of its items' type, which binary arrays name."""
    found = {}
    for held in shape.vectors:
        if held.field.kind is VectorKind.MULTI:
            row = session.execute(
                "SELECT t.typelem::bigint FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid "
                "WHERE a.attrelid = %s AND a.attname = %s",
                [shape.table.oid, held.column.name],
            ).fetchone()
            found[held.column.name] = int(row[0])
    return found


def _copy(session: Any, table: str, columns: Sequence[Out], data: bytes, rows: int, *, where: str) -> None:
    names = ", ".join(quoted(column.column.name) for column in columns)
    with session.cursor() as cursor:
        statement = f"COPY {table} ({names}) FROM STDIN (FORMAT BINARY)"
        with cursor.copy(statement.replace("%%", "%")) as copy:  # alone of all it is sent without parameters
            copy.write(wire.HEAD + data + wire.END)
        _require_all(cursor.rowcount, rows, where=where)


def _require_all(landed: int, rows: int, *, where: str) -> None:
    if landed != rows:
        raise StoreRejected(
            f"{where}: of {rows} records {landed} landed", hint="does a trigger or a rule of the table hold them back?"
        )


def _merge(session: Any, shape: Shape, columns: Sequence[Out], data: bytes, rows: int, *, where: str) -> None:
    """By way of a table of this session's own, in which what is not in its column's type is text."""
    stage = f"{_STAGE}_{shape.table.oid}"
    types = ", ".join(
        f"{quoted(out.column.name)} {'text' if out.as_text else out.column.written.replace('%', '%%')}"
        for out in columns
    )
    session.execute(f"CREATE TEMP TABLE IF NOT EXISTS {stage} ({types}) ON COMMIT DELETE ROWS", [])
    _copy(session, f"pg_temp.{stage}", columns, data, rows, where=where)
    names = ", ".join(quoted(out.column.name) for out in columns)
    cast = {out.column.name: f"s.{quoted(out.column.name)}{_cast(out)}" for out in columns}
    keys = [column.name for column in shape.keys]
    others = [out.column.name for out in columns if out.column.name not in keys]
    unique = any(
        index.unique
        and index.valid
        and not index.partial
        and set(index.columns) == set(keys)
        and None not in index.columns
        for index in shape.table.indexes
    )
    conflict = ""
    if unique:
        changes = ", ".join(f"{quoted(name)} = EXCLUDED.{quoted(name)}" for name in others)
        action = f"DO UPDATE SET {changes}" if others else "DO NOTHING"
        conflict = f" ON CONFLICT ({', '.join(map(quoted, keys))}) {action}"
    else:
        same = " AND ".join(f"t.{quoted(name)} IS NOT DISTINCT FROM {cast[name]}" for name in keys)
        session.execute(f"DELETE FROM {shape.table.sql} t USING pg_temp.{stage} s WHERE {same}", [])
    cursor = session.execute(
        f"INSERT INTO {shape.table.sql} ({names}) SELECT {', '.join(cast.values())} FROM pg_temp.{stage} s{conflict}",
        [],
    )
    if others:
        _require_all(cursor.rowcount, rows, where=where)


def _cast(out: Out) -> str:
    """To the type without its length, since a cast to a length cuts off without a word, and an assignment does not."""
    if not out.as_text:
        return ""
    type_ = out.column.type
    return f"::{quoted(type_.schema)}.{quoted(type_.name)}" + ("[]" if type_.is_array else "")


def _count_on(session: Any, shape: Shape, column: Column) -> None:
    """An application that leaves the id to the table must not be given one that is there."""
    name = quoted(column.name)
    highest = f"greatest((SELECT max({name}) FROM {shape.table.sql}), 1)"
    session.execute(
        f"SELECT setval(pg_get_serial_sequence(%s, %s)::regclass, {highest})",
        [shape.table.sql.replace("%%", "%"), column.name],
    )
