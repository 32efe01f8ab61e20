"""Tables in a DuckDB file: `duckdb:./x.duckdb#table`, or `#schema.table`; `_duckdb_table` says what they look like.

A source opens the file to be read only, and reads one snapshot: by the key, going on behind it where a scan is resumed.
Where the rows stand in the order of their keys, as they do after a load in that order, they are read as they stand;
else DuckDB sorts them, on the disk what does not fit into memory.

Every search compares all vectors, since an index of vss is an experiment in a file by DuckDB's own words. Options:
`index=hnsw` has `finish` build such indexes and searches ask them; for tables and views of others `id`, `namespace`,
`document`, `payload`, `vectors` (see `exitramp.ports.tables`), and `metric`, which an HNSW index would say.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from exitramp.arrow import empty_batch
from exitramp.errors import CollectionMissing, DataInvalid, StoreUnavailable, UsageError
from exitramp.ports import (
    Cursor,
    Origin,
    Page,
    Partition,
    StoreAdapter,
    StoreIdentity,
    make_cursor,
    read_cursor,
)
from exitramp.ports.places import require_page_rows
from exitramp.records import CollectionSpec, Finding, RecordKey, VectorKind
from exitramp.urls import Address, Network
from exitramp_adapters.stores._duckdb_file import acquire, close_quietly, release, sdk, translated
from exitramp_adapters.stores._duckdb_records import batch_of, key_columns, keys_table, select_list
from exitramp_adapters.stores._duckdb_search import DuckSearch
from exitramp_adapters.stores._duckdb_sink import DuckSink, same_key
from exitramp_adapters.stores._duckdb_table import Table, collection_names, find

# A row group of DuckDB's has 122,880 rows. 20,000 x 384 by pages of 1,000 rows came at 0.9 of the speed of larger ones.
_READ_ROWS: Final = 10_000

Place = tuple[str | None, str]
"""A record's namespace and id, as texts."""


class DuckStore:
    """One opened address; the file is shared with whoever else in this process has it open."""

    def __init__(self, address: Address) -> None:
        index = address.option("index")
        if index not in (None, "hnsw"):
            raise UsageError(f"{address}: index={index}: there is only hnsw")
        self.address = address
        self.index = index
        self.file = acquire(address.path)
        self._closed = False

    def source(self) -> DuckSource:
        return DuckSource(self)

    def sink(self) -> DuckSink:
        return DuckSink(self)

    def search(self) -> DuckSearch:
        return DuckSearch(self)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            release(self.file)

    def require_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"{self.address} was closed", hint="open it again")

    def cursor(self, *, write: bool = False) -> Any:
        self.require_open()
        return self.file.cursor(str(self.address), write=write)

    def table(self) -> Table:
        cursor = self.cursor()
        with translated(str(self.address)):
            try:
                return find(cursor, self.address)
            finally:
                close_quietly(cursor)

    def ask(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        cursor = self.cursor()
        with translated(str(self.address)):
            try:
                found: list[Any] = cursor.execute(sql, list(values)).fetchall()
                return found
            finally:
                close_quietly(cursor)


class DuckSource:
    def __init__(self, store: DuckStore) -> None:
        self._store = store

    def identity(self) -> StoreIdentity:
        store, version = self._store, str(sdk().__version__)
        store.require_open()
        path, address = store.file.path, str(store.address)
        if not path.exists():
            return StoreIdentity("duckdb", address, version, version)
        cursor = store.cursor()
        with translated(address):
            names = collection_names(cursor)
            close_quietly(cursor)
        findings: tuple[Finding, ...] = ()
        if store.address.collection is not None:
            try:
                findings = tuple(store.table().findings())
            except CollectionMissing:
                findings = ()
        can_write = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
        return StoreIdentity("duckdb", address, version, version, can_write, collections=names, findings=findings)

    def describe(self) -> CollectionSpec:
        return self._store.table().spec

    def origin(self) -> Origin | None:
        return self._store.table().origin

    def count(self) -> int:
        return int(self._store.ask(f"SELECT count(*) FROM {self._store.table().relation}")[0][0])

    def partitions(self, wanted: int) -> Sequence[Partition]:
        """Ranges of keys with about equally many records now; the first and the last are open."""
        if wanted <= 1:
            return [Partition()]
        table = self._store.table()
        rows = self.count()
        parts = max(1, min(wanted, rows))
        at = sorted({rows * part // parts for part in range(1, parts)})
        bounds: list[Place | None] = [None]
        if at:
            numbered = (
                f"SELECT {table.namespace_text()} AS ns, {table.id_text()} AS id,"
                f" row_number() OVER (ORDER BY {table.order()}) - 1 AS place FROM {table.relation}"
            )
            wanted_rows = ", ".join(map(str, at))
            bounds += [
                (ns, id_)
                for ns, id_ in self._store.ask(
                    f"SELECT ns, id FROM ({numbered}) WHERE place IN ({wanted_rows}) ORDER BY place"
                )
            ]
        bounds.append(None)
        return [
            Partition(part, len(bounds) - 1, json.dumps(bounds[part : part + 2])) for part in range(len(bounds) - 1)
        ]

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        require_page_rows(batch_rows)
        low, high = (
            None if bound is None else _place(bound) for bound in json.loads(partition.token or "[null, null]")
        )
        held = None if after is None else read_cursor(after).get("place")
        scan = _Scan(self._store, low, high, None if held is None else _place(held), min(batch_rows, _READ_ROWS))
        try:
            page = scan.next()
            while True:
                following = None if page is None else scan.next()
                batch = scan.empty() if page is None else page
                cursor = make_cursor(place=held) if page is None else make_cursor(place=_last(page))
                yield Page(batch, cursor, last=following is None)
                if following is None:
                    return
                page = following
        finally:
            scan.close()

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        table, where = self._store.table(), str(self._store.address)
        wanted = list(dict.fromkeys(keys))
        if not wanted:
            return empty_batch(table.spec)
        cursor = self._store.cursor()
        with translated(where):
            try:
                cursor.register("k", keys_table(*key_columns(wanted)))
                matching = f"EXISTS (SELECT 1 FROM k WHERE {same_key(table)})"
                found = cursor.execute(f"SELECT {select_list(table)} FROM {table.relation} WHERE {matching}")
                rows = found.to_arrow_table().combine_chunks().to_batches()
            finally:
                close_quietly(cursor)
        return batch_of(rows[0], table) if rows else empty_batch(table.spec)

    def close(self) -> None:
        """Nothing is held here; the store is closed by whoever opened it."""


class _Scan:
    """A result that is read page by page. Whoever opens the file anew lets go of it, and it goes on behind its key."""

    def __init__(
        self, store: DuckStore, low: Place | None, high: Place | None, behind: Place | None, batch_rows: int
    ) -> None:
        self._store, self._low, self._high, self._behind, self._batch_rows = store, low, high, behind, batch_rows
        self._where = str(store.address)
        self._cursor: Any = None
        self._rows: Any = None
        self._table: Table = store.table()
        self._ended = False

    def empty(self) -> pa.RecordBatch:
        return empty_batch(self._table.spec)

    def next(self) -> pa.RecordBatch | None:
        """The next page, None at the end. Raises `DataInvalid` naming an id that stands in two rows."""
        store = self._store
        while not self._ended:
            store.require_open()
            with store.file.lock, translated(self._where):
                if self._rows is None:
                    self._begin()
                rows = next(self._rows, None)
            if rows is None:
                self._ended = True
                self.close()
                break
            if not rows.num_rows:
                continue
            page = batch_of(rows, self._table)
            self._require_new(page)
            self._behind = _last(page)
            return page
        return None

    def _begin(self) -> None:
        table = self._table
        self._cursor = self._store.cursor()
        self._store.file.readers.add(self)
        self._cursor.execute("BEGIN")
        conditions: list[str] = []
        values: list[Any] = []
        for sql, bound in ((_behind, self._behind), (_at_least, self._low), (_before, self._high)):
            if bound is not None:
                conditions.append(sql(table, bound, values))
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        order = "" if self._in_order() else f" ORDER BY {table.order()}"
        query = f"SELECT {select_list(table)} FROM {table.relation}{where}{order}"
        self._rows = iter(self._cursor.execute(query, values).to_arrow_reader(self._batch_rows))

    def _in_order(self) -> bool:
        """Whether the rows stand in the order of their keys: reading 100,000 ids for it takes 3 to 11 ms."""
        table = self._table
        rising = "id > before_id"
        if table.roles.namespace is not None:
            rising = (
                "CASE WHEN before_id IS NULL THEN NULL WHEN ns IS NOT DISTINCT FROM before_ns THEN id > before_id "
                "WHEN before_ns IS NULL THEN TRUE WHEN ns IS NULL THEN FALSE ELSE ns > before_ns END"
            )
        ns = "NULL" if table.roles.namespace is None else table.key("namespace")
        [[found, without]] = self._cursor.execute(
            f"SELECT bool_and({rising}), count(*) - count(id) FROM (SELECT id, ns, lag(id) OVER () AS before_id,"
            f" lag(ns) OVER () AS before_ns FROM (SELECT {table.key('id')} AS id, {ns} AS ns FROM {table.relation}))"
        ).fetchall()
        if without:
            raise DataInvalid(f"{self._where}: {without} rows have no id in the column '{table.roles.id}'")
        return found is not False and not table.is_view

    def _require_new(self, page: pa.RecordBatch) -> None:
        """In the order of keys two rows with one key stand beside each other."""
        ids = page.column("id")
        same = pc.equal(ids[1:], ids[:-1])
        if page.schema.get_field_index("namespace") >= 0:
            spaces = page.column("namespace").fill_null("\0none")
            same = pc.and_(same, pc.equal(spaces[1:], spaces[:-1]))
        place = same.index(pa.scalar(True)).as_py()
        doubled = ids[place].as_py() if place >= 0 else None
        if doubled is None and self._behind is not None and _place_at(page, 0) == self._behind:
            doubled = self._behind[1]
        if doubled is not None:
            raise DataInvalid(
                f"{self._where}: the id '{doubled}' stands in more than one row",
                hint="name a column with ?id= that holds each value once, or a view of the table that does",
            )

    def let_go(self) -> None:
        """Close the result and its connection, for now."""
        rows, self._rows = self._rows, None
        cursor, self._cursor = self._cursor, None
        del rows
        self._store.file.readers.discard(self)
        if cursor is not None:
            close_quietly(cursor)

    def close(self) -> None:
        with self._store.file.lock:
            self.let_go()


def _place(held: Any) -> Place:
    return (None if held[0] is None else str(held[0]), str(held[1]))


def _place_at(page: pa.RecordBatch, row: int) -> Place:
    spaces = page.schema.get_field_index("namespace")
    return (None if spaces < 0 else page.column(spaces)[row].as_py(), page.column("id")[row].as_py())


def _last(page: pa.RecordBatch) -> Place:
    return _place_at(page, page.num_rows - 1)


def _compared(table: Table, bound: Place, values: list[Any], word: str) -> str:
    """The id compared with that of a place, `<`, `>` or `>=`, within one namespace."""
    values.append(bound[1])
    return f"{table.key('id')} {word} CAST(? AS {table.types[table.roles.id]})"


def _behind(table: Table, bound: Place, values: list[Any], word: str = ">") -> str:
    if table.roles.namespace is None:
        return _compared(table, bound, values, word)
    ns, kind = table.key("namespace"), table.types[table.roles.namespace]
    if bound[0] is None:
        return f"({ns} IS NOT NULL OR {_compared(table, bound, values, word)})"
    values += [bound[0], bound[0]]
    return f"({ns} > CAST(? AS {kind}) OR ({ns} = CAST(? AS {kind}) AND {_compared(table, bound, values, word)}))"


def _at_least(table: Table, bound: Place, values: list[Any]) -> str:
    return _behind(table, bound, values, ">=")


def _before(table: Table, bound: Place, values: list[Any]) -> str:
    if table.roles.namespace is None:
        return _compared(table, bound, values, "<")
    ns, kind = table.key("namespace"), table.types[table.roles.namespace]
    if bound[0] is None:
        return f"({ns} IS NULL AND {_compared(table, bound, values, '<')})"
    values += [bound[0], bound[0]]
    less = _compared(table, bound, values, "<")
    return f"({ns} IS NULL OR {ns} < CAST(? AS {kind}) OR ({ns} = CAST(? AS {kind}) AND {less}))"


def _open(address: Address, network: Network) -> DuckStore:
    return DuckStore(address)


ADAPTER: Final = StoreAdapter(
    scheme="duckdb",
    summary="tables with array columns in a DuckDB file",
    address_form="duckdb:PATH#TABLE, #SCHEMA.TABLE",
    open=_open,
    extra="duckdb",
    requires=("duckdb",),
    vector_kinds=tuple(kind.value for kind in VectorKind),
    metric=True,
)
