"""Writing to PostgreSQL: tables made, whole records replaced, records deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa

from exitramp.arrow import record_keys, require_schema
from exitramp.errors import CollectionExists, DataInvalid, UsageError
from exitramp.ports import Origin, SinkLimits, TransferAccount, difference_of
from exitramp.records import CollectionSpec, RecordKey, VectorKind
from exitramp.urls import Address
from exitramp_adapters.stores.pgvector import wire
from exitramp_adapters.stores.pgvector.catalog import Column, find, quoted, read_table
from exitramp_adapters.stores.pgvector.columns import columns_of
from exitramp_adapters.stores.pgvector.limits import BATCH_ROWS, LIMITS
from exitramp_adapters.stores.pgvector.records import Selection
from exitramp_adapters.stores.pgvector.sending import Part, Sending
from exitramp_adapters.stores.pgvector.session import Server
from exitramp_adapters.stores.pgvector.shape import Shape, shape_of, split_comment
from exitramp_adapters.stores.pgvector.tables import build_indexes, keep_note, make_table, recorded

_DELETED_AT_ONCE: Final = 5_000


class PgvectorSink:
    """Records become rows of the copy format here, and `Sending` brings them to the server, some while the next are
    made. After a flush all of them are on its disk."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._shape: Shape | None = None
        self._told: Mapping[str, Any] = {}
        self._spec: CollectionSpec | None = None
        self._item_types: dict[str, int] = {}
        self._sending = Sending(server)

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
        columns = columns_of(self._server, batch, shape, self._item_types, where=where)
        part = Part(columns, wire.rows([column.cells for column in columns]), batch.num_rows)
        self._sending.add(part, shape)

    def delete(self, keys: Sequence[RecordKey]) -> None:
        shape = self._described()
        self._sending.flush(shape)
        selection = Selection(shape)
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            found = selection.where_keys(keys[start : start + _DELETED_AT_ONCE])
            if found is None:
                continue
            with self._server.writing() as session, session.transaction():
                session.execute(f"DELETE FROM {selection.shape.table.sql} WHERE {found[0]}", found[1])

    def flush(self) -> None:
        self._sending.flush(self._described())

    def finish(self, account: TransferAccount) -> None:
        """Build indexes, let columns that count go on behind what was written, and let the planner know the table."""
        shape = self._described()
        self._sending.flush(shape)
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
        self._sending.forget()

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


def _count_on(session: Any, shape: Shape, column: Column) -> None:
    """An application that leaves the id to the table must not be given one that is there."""
    name = quoted(column.name)
    highest = f"greatest((SELECT max({name}) FROM {shape.table.sql}), 1)"
    session.execute(
        f"SELECT setval(pg_get_serial_sequence(%s, %s)::regclass, {highest})",
        [shape.table.sql.replace("%%", "%"), column.name],
    )
