"""Writing to PostgreSQL: whole records by binary copy, each call in a transaction of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa

from exitramp.arrow import record_keys, require_schema
from exitramp.errors import CollectionExists, DataInvalid, StoreRejected, UsageError
from exitramp.ports import Origin, SinkLimits, TransferAccount, difference_of
from exitramp.records import CollectionSpec, RecordKey, VectorKind
from exitramp.urls import Address
from exitramp_adapters.stores.pgvector import wire
from exitramp_adapters.stores.pgvector.catalog import Column, find, quoted, read_table
from exitramp_adapters.stores.pgvector.columns import Out, columns_of
from exitramp_adapters.stores.pgvector.limits import BATCH_ROWS, LIMITS
from exitramp_adapters.stores.pgvector.records import Selection
from exitramp_adapters.stores.pgvector.session import Server
from exitramp_adapters.stores.pgvector.shape import Shape, shape_of, split_comment
from exitramp_adapters.stores.pgvector.tables import build_indexes, keep_note, make_table, recorded

_STAGE: Final = "exitramp_stage"
_DELETED_AT_ONCE: Final = 5_000
# Rows/s at 384 numbers, of a bare copy of all at once: 0.58 with a transaction for each 1,000 of 2 kB, 0.76 for 2,000.
_KEPT_BYTES: Final = 32 * 2**20


@dataclass(frozen=True, slots=True)
class _Part:
    """One batch, ready to be copied."""

    columns: Sequence[Out]
    data: bytes
    rows: int


class PgvectorSink:
    """What is written is kept here until a flush, or until it is much, and then goes in one transaction, which is on
    the disk when it returns. Nothing is ever left uncommitted between two calls: a connection that was cut and made
    again between them would lose it without a word. What could not be sent is kept, for whoever tries again."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._shape: Shape | None = None
        self._told: Mapping[str, Any] = {}
        self._spec: CollectionSpec | None = None
        self._collisions = 0
        self._item_types: dict[str, int] = {}
        self._parts: list[_Part] = []

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
        shape, where = self._described(), str(self._server.address)
        require_schema(batch, shape.spec, where=where)
        if batch.num_rows > BATCH_ROWS:
            raise UsageError(f"{where}: {batch.num_rows} rows at once, of at most {BATCH_ROWS}")
        if not batch.num_rows:
            return
        if not shape.refuses_doubles and len(set(record_keys(batch))) < batch.num_rows:
            raise UsageError(f"{where}: an id stands twice in one batch")
        if sum(len(part.data) for part in self._parts) >= _KEPT_BYTES:
            self._send()
        with self._server.writing() as session:
            columns = columns_of(session, batch, shape, self._item_types, where=where)
        self._parts.append(_Part(columns, wire.rows([column.cells for column in columns]), batch.num_rows))

    def _send(self) -> None:
        import psycopg

        shape, where, parts = self._described(), str(self._server.address), self._parts
        if not parts:
            return
        with self._server.writing() as session:
            straight = shape.refuses_doubles and not any(out.as_text for out in parts[0].columns)
            if self._collisions < 2 and straight:
                try:
                    with session.transaction():
                        _copy(session, shape.table.sql, parts, where=where)
                    self._parts, self._collisions = [], 0
                    return
                except psycopg.errors.UniqueViolation:
                    self._collisions += 1
            with session.transaction():
                for part in parts:  # one after the other, since an id may stand in several
                    _merge(session, shape, part, where=where)
            self._parts = []

    def delete(self, keys: Sequence[RecordKey]) -> None:
        self._send()
        selection = Selection(self._described())
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            found = selection.where_keys(keys[start : start + _DELETED_AT_ONCE])
            if found is None:
                continue
            with self._server.writing() as session, session.transaction():
                session.execute(f"DELETE FROM {selection.shape.table.sql} WHERE {found[0]}", found[1])

    def flush(self) -> None:
        self._send()

    def finish(self, account: TransferAccount) -> None:
        """Build indexes, let columns that count go on behind what was written, and let the planner know the table."""
        self._send()
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
        """What was not flushed is lost; the store closes its sessions."""
        self._parts = []

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


def _copy(session: Any, table: str, parts: Sequence[_Part], *, where: str) -> None:
    names = ", ".join(quoted(out.column.name) for out in parts[0].columns)
    with session.cursor() as cursor:
        statement = f"COPY {table} ({names}) FROM STDIN (FORMAT BINARY)"
        with cursor.copy(statement.replace("%%", "%")) as copy:  # alone of all it is sent without parameters
            copy.write(wire.HEAD)
            for part in parts:
                copy.write(part.data)
            copy.write(wire.END)
        _require_all(cursor.rowcount, sum(part.rows for part in parts), where=where)


def _require_all(landed: int, rows: int, *, where: str) -> None:
    if landed != rows:
        raise StoreRejected(
            f"{where}: of {rows} records {landed} landed", hint="does a trigger or a rule of the table hold them back?"
        )


def _merge(session: Any, shape: Shape, part: _Part, *, where: str) -> None:
    """By way of a table of this session's own, in which what is not in its column's type is text."""
    columns = part.columns
    stage = f"{_STAGE}_{shape.table.oid}"
    types = ", ".join(
        f"{quoted(out.column.name)} {'text' if out.as_text else out.column.written.replace('%', '%%')}"
        for out in columns
    )
    session.execute(f"CREATE TEMP TABLE IF NOT EXISTS {stage} ({types}) ON COMMIT DELETE ROWS", [])
    session.execute(f"TRUNCATE pg_temp.{stage}", [])
    _copy(session, f"pg_temp.{stage}", [part], where=where)
    names = ", ".join(quoted(out.column.name) for out in columns)
    cast = {out.column.name: f"s.{quoted(out.column.name)}{_cast(out)}" for out in columns}
    keys = [column.name for column in shape.keys]
    others = [out.column.name for out in columns if out.column.name not in keys]
    conflict = ""
    if shape.refuses_doubles:
        changes = ", ".join(f"{quoted(name)} = EXCLUDED.{quoted(name)}" for name in others)
        action = f"DO UPDATE SET {changes}" if others else "DO NOTHING"
        conflict = f" ON CONFLICT ({', '.join(map(quoted, keys))}) {action}"
    else:
        same = " AND ".join(f"t.{quoted(name)} IS NOT DISTINCT FROM {cast[name]}" for name in keys)
        session.execute(f"DELETE FROM {shape.table.sql} t USING pg_temp.{stage} s WHERE {same}", [])
    # Ids are kept, also where a table would number its rows itself ALWAYS; a copy straight into it asks for nothing.
    into = f"INSERT INTO {shape.table.sql} ({names}) OVERRIDING SYSTEM VALUE"
    cursor = session.execute(f"{into} SELECT {', '.join(cast.values())} FROM pg_temp.{stage} s{conflict}", [])
    if others:
        _require_all(cursor.rowcount, part.rows, where=where)


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
