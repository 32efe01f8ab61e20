"""Tables in a DuckDB file: `duckdb:./x.duckdb#table`, or `#schema.table`; `table` says what they look like.

A source opens the file to be read only, and reads one snapshot: by the key, going on behind it where a scan is resumed.
Where the rows stand in the order of their keys, as they do after a load in that order, they are read as they stand;
else they are sorted, by way of files in the folder for temporary ones where they are more than 32 MiB.

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

from exitramp.arrow import empty_batch
from exitramp.errors import CollectionMissing, StoreUnavailable, UsageError
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
from exitramp_adapters.stores.duckdb.catalog import collection_names
from exitramp_adapters.stores.duckdb.file import acquire, close_quietly, release, sdk, translated
from exitramp_adapters.stores.duckdb.keys import bounds_between, last_place, place_from
from exitramp_adapters.stores.duckdb.records import batch_of, key_columns, keys_table, select_list
from exitramp_adapters.stores.duckdb.scan import Scan
from exitramp_adapters.stores.duckdb.search import DuckSearch
from exitramp_adapters.stores.duckdb.sink import DuckSink, same_key
from exitramp_adapters.stores.duckdb.table import Table, find

# Of the CPU time of a bare loop over Arrow, 20,000 x 384 took 1.0 by pages of 1,000 or 2,000 rows, 1.1 by larger ones.
_READ_ROWS: Final = 2048


class DuckStore:
    """One opened address; the file is shared with whoever else in this process has it open."""

    def __init__(self, address: Address) -> None:
        index = address.option("index")
        if index not in (None, "hnsw"):
            raise UsageError(f"{address}: index={index}: there is only hnsw")
        self.address = address
        self.index = index
        self.file = acquire(address.path)
        self.ordered: tuple[int, bool] | None = None
        """Of which opening of the file it is known whether the rows stand in the order of their keys, and whether."""
        self._closed = False
        self._found: tuple[int, Table] | None = None

    def source(self) -> DuckSource:
        return DuckSource(self)

    def sink(self) -> DuckSink:
        return DuckSink(self)

    def search(self) -> DuckSearch:
        return DuckSearch(self)

    def drop(self) -> None:
        table, cursor = self.table(), self.cursor(write=True)
        with translated(str(self.address)):
            cursor.execute(f"DROP {'VIEW' if table.is_view else 'TABLE'} {table.relation}")
            close_quietly(cursor)

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
        """Asked once for as long as the file is open to be read only, since then nobody can write it: 6 ms."""
        cursor = self.cursor()
        file, held = self.file, self._found
        with translated(str(self.address)):
            try:
                with file.lock:
                    opened, fixed = file.opened, not file.writable
                    if held is not None and fixed and held[0] == opened:
                        return held[1]
                    found = find(cursor, self.address)
                self._found = (opened, found) if fixed else None
                return found
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
        table, cursor = self._store.table(), self._store.cursor()
        with translated(str(self._store.address)):
            try:
                found = bounds_between(cursor, table, wanted)
            finally:
                close_quietly(cursor)
        bounds = [None, *found, None]
        parts = len(bounds) - 1
        return [Partition(part, parts, json.dumps(bounds[part : part + 2])) for part in range(parts)]

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        require_page_rows(batch_rows)
        low, high = (
            None if bound is None else place_from(bound) for bound in json.loads(partition.token or "[null, null]")
        )
        held = None if after is None else read_cursor(after).get("place")
        scan = Scan(self._store, low, high, None if held is None else place_from(held), min(batch_rows, _READ_ROWS))
        try:
            page = scan.next()
            while True:
                following = None if page is None else scan.next()
                batch = scan.empty() if page is None else page
                cursor = make_cursor(place=held) if page is None else make_cursor(place=last_place(page))
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
