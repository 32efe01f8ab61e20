"""PostgreSQL with pgvector: `pgvector://USER@HOST:PORT/DATABASE#SCHEMA.TABLE`.

Any table with a column of vectors is a collection: `shape` says what its columns are, `tables` how
one of ours is made. Reading goes through sessions that cannot write, and a scan is one statement in a snapshot: it sees
the table as it was when it began, whatever is written meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any, Final

import pyarrow as pa

from exitramp.arrow import empty_batch, stream_schema
from exitramp.errors import UsageError
from exitramp.filters import Filter
from exitramp.ports import (
    DEFAULT_SETTINGS,
    Cursor,
    Hits,
    IndexCoverage,
    IndexState,
    Origin,
    Page,
    Partition,
    Query,
    SearchSettings,
    StoreAdapter,
    StoreIdentity,
    make_cursor,
)
from exitramp.ports.places import require_page_rows
from exitramp.records import CollectionSpec, Finding, RecordKey, VectorKind
from exitramp.urls import Address, Network
from exitramp_adapters.stores.pgvector import search as searching
from exitramp_adapters.stores.pgvector.catalog import collections, find, quoted, read_table, versions
from exitramp_adapters.stores.pgvector.records import ALIAS, Selection
from exitramp_adapters.stores.pgvector.session import Server, copied, copied_pages
from exitramp_adapters.stores.pgvector.shape import Shape, shape_of, split_comment
from exitramp_adapters.stores.pgvector.sink import PgvectorSink

# The best of 250, 500, 1,000 and 2,000 at 384 numbers: a page that outgrows the processor's cache is fetched from
# memory three times.
_PAGE_ROWS: Final = 1_000
_PAGE_BYTES: Final = 32 * 2**20
_FETCHED_AT_ONCE: Final = 5_000
_PART: Final = '"part of exitramp"'
"""What no column is called beside which it stands."""


class PgvectorStore:
    """One opened address."""

    def __init__(self, address: Address, network: Network) -> None:
        self._server = Server(address, network)

    def source(self) -> PgvectorSource:
        return PgvectorSource(self._server)

    def sink(self) -> PgvectorSink:
        return PgvectorSink(self._server)

    def search(self) -> PgvectorSearch:
        return PgvectorSearch(self._server)

    def drop(self) -> None:
        """Remove the table. Raises `CollectionMissing`, and `UsageError` for one that somebody else made."""
        with self._server.writing() as session, session.transaction():
            table = read_table(session, self._server.address)
            if split_comment(table.comment)[1] is None:
                raise UsageError(f"{self._server.address}: exitramp did not make this table, and does not remove it")
            session.execute(f"DROP TABLE {table.sql}", [])

    def close(self) -> None:
        self._server.close()


class PgvectorSource:
    """Reads in the order of the key."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._known: Shape | None = None

    def identity(self) -> StoreIdentity:
        address = self._server.address
        findings: tuple[Finding, ...] = ()
        with self._server.reading() as session:
            server, vector = versions(session)
            names = tuple(collections(session))
            found = None if address.collection is None else find(session, address)
            can_write = _can_write(session, None if found is None else found[0])
        if found is not None:
            findings = self._shape(fresh=True).findings
        return StoreIdentity(
            "pgvector",
            str(address),
            f"{server}, pgvector {vector}",
            f"psycopg {version('psycopg')}",
            can_write,
            collections=names,
            findings=findings,
        )

    def describe(self) -> CollectionSpec:
        return self._shape(fresh=True).spec

    def _shape(self, *, fresh: bool = False) -> Shape:
        if self._known is None or fresh:
            with self._server.reading() as session:
                self._known = shape_of(session, read_table(session, self._server.address), self._server.address)
        return self._known

    def origin(self) -> Origin | None:
        return self._shape(fresh=True).origin

    def count(self) -> int:
        with self._server.reading() as session:
            table = read_table(session, self._server.address)
            [rows] = session.execute(f"SELECT count(*) FROM {table.sql}", []).fetchone()
        return int(rows)

    def partitions(self, wanted: int) -> Sequence[Partition]:
        """Ranges of the key with about equally many records now; each is a scan with a snapshot of its own."""
        if wanted <= 1:
            return [Partition()]
        selection = Selection(self._shape(fresh=True))
        keys = ", ".join(quoted(column.name) for column in selection.order)
        texts = ", ".join(f"{ALIAS}.{quoted(column.name)}::text" for column in selection.order)
        part = f"ntile({int(wanted)}) OVER (ORDER BY {selection.ordered()}) AS {_PART}"
        inner = f"(SELECT {keys}, {part} FROM {selection.shape.table.sql} {ALIAS}) {ALIAS}"
        order = selection.ordered(backwards=True)
        with self._server.reading() as session:
            rows = session.execute(
                f"SELECT DISTINCT ON ({_PART}) {texts}, {_PART} FROM {inner} ORDER BY {_PART}, {order}", []
            ).fetchall()
        bounds: list[list[Any] | None] = [None, *(list(row[:-1]) for row in rows[:-1]), None]
        parts = len(bounds) - 1
        return [
            Partition(part, parts, json.dumps({"above": bounds[part], "upto": bounds[part + 1]}))
            for part in range(parts)
        ]

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        """Records added meanwhile are not seen, and those deleted still are."""
        require_page_rows(batch_rows)
        address, most = self._server.address, min(batch_rows, _PAGE_ROWS)
        with self._server.connected_for_reading() as session:  # a copy of which nobody wants the rest ends with it
            session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY", [])
            selection = Selection(shape_of(session, read_table(session, address), address))
            condition, words = selection.span(partition, after)
            query = f"COPY ({selection.sql} WHERE {condition} ORDER BY {selection.ordered()}) TO STDOUT (FORMAT BINARY)"
            place: Sequence[str | None] | None = None
            for rows, last in copied_pages(session, query, words, most_rows=most, most_bytes=_PAGE_BYTES):
                batch, place = selection.batch(rows) if rows else (empty_batch(selection.shape.spec), place)
                self._require_answering()
                yield Page(batch, after or make_cursor(place=None) if place is None else make_cursor(place=place), last)

    def _require_answering(self) -> None:
        """What of a copy has come in already would go on as if nothing were, once the server is stopped or killed. One
        question for each page, of some 4 MB, costs nothing that could be measured."""
        with self._server.reading() as session:
            session.execute("SELECT 1", [])

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        shape = self._shape(fresh=self._known is None)
        selection = Selection(shape)
        batches = []
        for start in range(0, len(keys), _FETCHED_AT_ONCE):
            found = selection.where_keys(keys[start : start + _FETCHED_AT_ONCE])
            if found is None:
                continue
            with self._server.reading() as session:
                query = f"COPY ({selection.sql} WHERE {found[0]}) TO STDOUT (FORMAT BINARY)"
                rows = copied(session, query, found[1])
            batches.append(selection.batch(rows)[0])
        if not batches:
            with self._server.reading() as session:
                read_table(session, self._server.address)
        table = pa.Table.from_batches(batches, stream_schema(shape.spec)).combine_chunks().to_batches()
        return table[0] if table else empty_batch(shape.spec)

    def close(self) -> None:
        """Nothing is held beside the store."""


class PgvectorSearch:
    """Nearest records by the table's index, or by looking at every record where there is none."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def _shape(self, session: Any) -> Shape:
        return shape_of(session, read_table(session, self._server.address), self._server.address)

    def index_state(self) -> IndexState:
        with self._server.reading() as session:
            return searching.state(session, self._shape(session))

    def coverage(self) -> IndexCoverage:
        with self._server.reading() as session:
            return searching.coverage(session, self._shape(session))

    def search(
        self,
        query: Query,
        *,
        k: int,
        where: Filter | None = None,
        settings: SearchSettings = DEFAULT_SETTINGS,
        with_records: bool = False,
    ) -> Hits:
        with self._server.reading() as session:
            shape = self._shape(session)
            keys, scores = searching.nearest(session, shape, query, k=k, where=where, settings=settings)
            records = None
            if with_records:
                selection = Selection(shape)
                found = selection.where_keys(keys)
                condition, words = found or ("false", [])
                rows = copied(session, f"COPY ({selection.sql} WHERE {condition}) TO STDOUT (FORMAT BINARY)", words)
                records = selection.batch(rows)[0]
        return Hits(keys, scores, records)


def _can_write(session: Any, oid: int | None) -> bool:
    """By privileges alone: that these sessions cannot write is their own setting."""
    if oid is None:
        query = (
            "SELECT NOT pg_is_in_recovery() AND EXISTS (SELECT FROM pg_namespace n WHERE n.nspname NOT LIKE 'pg\\_%%' "
            "AND n.nspname <> 'information_schema' AND has_schema_privilege(n.oid, 'CREATE'))"
        )
        return bool(session.execute(query, []).fetchone()[0])
    query = "SELECT NOT pg_is_in_recovery() AND has_table_privilege(%s::oid, 'INSERT, UPDATE, DELETE, TRUNCATE')"
    return bool(session.execute(query, [oid]).fetchone()[0])


def _open(address: Address, network: Network) -> PgvectorStore:
    return PgvectorStore(address, network)


ADAPTER: Final = StoreAdapter(
    scheme="pgvector",
    summary="PostgreSQL with pgvector: any table with vectors",
    address_form="pgvector://USER@HOST:PORT/DATABASE[?password=env:NAME&metric=cosine&id=COLUMN]#SCHEMA.TABLE",
    open=_open,
    extra="pgvector",
    requires=("psycopg",),
    vector_kinds=tuple(kind.value for kind in VectorKind),
    metric=True,
)
