"""sqlite-vec: `sqlite-vec:./x.db#TABLE`, a collection in an SQLite file.

`collection` says what a collection is that exitramp makes here. Of what others made, `found`
reads vec0 tables, alone or joined with an ordinary one, and ordinary tables with vectors in BLOBs. Nothing is ever
written into a table that exitramp did not make.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from exitramp.arrow import empty_batch
from exitramp.errors import CollectionMissing, DataInvalid, UsageError
from exitramp.filters import Filter, matches
from exitramp.payloads import decoded_payloads
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
    read_cursor,
)
from exitramp.ports.places import require_page_rows
from exitramp.records import CollectionSpec, DType, Finding, RecordKey
from exitramp.urls import Address, Network
from exitramp_adapters.stores.sqlite_vec.collection import ABOUT, Part
from exitramp_adapters.stores.sqlite_vec.database import Database, quoted, versions
from exitramp_adapters.stores.sqlite_vec.declared import ELEMENT_SQL
from exitramp_adapters.stores.sqlite_vec.filters import condition_of
from exitramp_adapters.stores.sqlite_vec.found import collection_names, find
from exitramp_adapters.stores.sqlite_vec.rows import Rows
from exitramp_adapters.stores.sqlite_vec.sink import SqliteVecSink
from exitramp_adapters.stores.sqlite_vec.vectors import distances, stored_bytes, unrankable

# Of 20,000 x 384, pages of 500 to 5,000 rows came at 200,000 to 250,000 a second, of 250 at 170,000, of 100 at 130,000.
PAGE_ROWS: Final = 5_000
_MOST_NEIGHBOURS: Final = 4096
"""vec0 refuses a greater k."""
_LISTED: Final = "SELECT value FROM json_each(?)"
_BLOCK_BYTES: Final = 16 * 2**20


class SqliteVecStore:
    """One opened address. The file is opened when it is first needed."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.database = Database(address)
        self._rows: Rows | None = None
        self._version = -1

    def source(self) -> SqliteVecSource:
        return SqliteVecSource(self)

    def sink(self) -> SqliteVecSink:
        return SqliteVecSink(self)

    def search(self) -> SqliteVecSearch:
        return SqliteVecSearch(self)

    def drop(self) -> None:
        """Remove the collection's tables. Raises `CollectionMissing`, and `UsageError` for one that somebody else
        made."""
        with self.database.write() as connection:
            found = find(connection, self.address)
            if not found.is_own:
                raise UsageError(f"{self.address}: exitramp did not make this table, and does not remove it")
            for table in (*(part.table for part in found.parts), f"{found.table}_unranked", found.table):
                connection.execute(f"DROP TABLE {quoted(table)}")
            connection.execute(f"DELETE FROM {ABOUT} WHERE name = ?", (found.table,))
            if connection.execute(f"SELECT 1 FROM {ABOUT} LIMIT 1").fetchone() is None:
                connection.execute(f"DROP TABLE {ABOUT}")
        self._rows = None

    def close(self) -> None:
        self.database.close()

    def rows(self, connection: Any) -> Rows:
        """A reader of the collection as it is declared now. Finding that anew for every page would cost a tenth of it,
        so that it is kept, and the chunks that were read with it, for as long as nobody writes to the file."""
        [version] = connection.execute("PRAGMA data_version").fetchone()
        if self._rows is None or self._version != version:
            self._rows, self._version = Rows(find(connection, self.address)), version
        return self._rows


class SqliteVecSource:
    """Reads by rowid, which no other record takes over and none changes: a page costs the same wherever it is."""

    def __init__(self, store: SqliteVecStore) -> None:
        self._store = store

    def identity(self) -> StoreIdentity:
        self._store.database.require_open()
        extension, both = versions()
        address = str(self._store.address)
        if not self._store.database.exists:
            return StoreIdentity("sqlite-vec", address, extension, both)
        with self._store.database.read() as connection:
            names = collection_names(connection)
            findings: tuple[Finding, ...] = ()
            if self._store.address.collection is not None:
                try:
                    findings = find(connection, self._store.address).findings
                except CollectionMissing:
                    findings = ()
        may_write = self._store.database.may_write
        return StoreIdentity("sqlite-vec", address, extension, both, may_write, collections=names, findings=findings)

    def describe(self) -> CollectionSpec:
        with self._store.database.read() as connection:
            return find(connection, self._store.address).spec

    def origin(self) -> Origin | None:
        with self._store.database.read() as connection:
            return find(connection, self._store.address).origin

    def count(self) -> int:
        with self._store.database.read() as connection:
            found = find(connection, self._store.address)
            [count] = connection.execute(f"SELECT count(*) FROM {quoted(found.table)}").fetchone()
        return int(count)

    def partitions(self, wanted: int) -> Sequence[Partition]:
        """Ranges of rowids with about equally many records now; the first and the last are open."""
        with self._store.database.read() as connection:
            found = find(connection, self._store.address)
            table, at = quoted(found.table), found.rowid
            [count] = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            parts = max(1, min(wanted, count))
            bounds: list[int | None] = [None]
            for part in range(1, parts):
                sql = f"SELECT {at} FROM {table} t ORDER BY {at} LIMIT 1 OFFSET ?"
                [bound] = connection.execute(sql, (count * part // parts,)).fetchone()
                bounds.append(bound)
            bounds.append(None)
        return [Partition(part, parts, json.dumps(bounds[part : part + 2])) for part in range(parts)]

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        require_page_rows(batch_rows)
        low, until = json.loads(partition.token or "[null, null]")
        behind: int | None = None if low is None else low - 1
        if after is not None:
            place = read_cursor(after).get("rowid")
            behind = behind if place is None else int(place)
        while True:
            with self._store.database.read() as connection:
                batch, behind, last = self._store.rows(connection).page(
                    connection, behind, until, min(batch_rows, PAGE_ROWS)
                )
            yield Page(batch, make_cursor(rowid=behind), last)
            if last:
                return

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        with self._store.database.read() as connection:
            rows = self._store.rows(connection)
            return rows.by_rowids(connection, rows.rowids_of(connection, keys))

    def close(self) -> None:
        """The store is closed by whoever opened it."""


class SqliteVecSearch:
    """Asks vec0, which compares every vector; compares here what vec0 cannot: plain columns, more than 4,096 hits."""

    def __init__(self, store: SqliteVecStore) -> None:
        self._store = store
        self._spoilt: dict[str, bool] = {}
        self._looked_at: Rows | None = None

    def index_state(self) -> IndexState:
        with self._store.database.read() as connection:
            find(connection, self._store.address)
        return IndexState.READY

    def coverage(self) -> IndexCoverage:
        with self._store.database.read() as connection:
            found = find(connection, self._store.address)
            count = 0
            for part in found.parts:
                table = part.table if part.number is None else f"{part.table}_rowids"
                there = f"count({quoted(part.column)})" if part.number is None else "count(*)"
                count += connection.execute(f"SELECT {there} FROM {quoted(table)}").fetchone()[0]
            if found.is_own:
                count += connection.execute(f"SELECT count(*) FROM {quoted(found.table + '_unranked')}").fetchone()[0]
        return IndexCoverage(0, count, "vec0 compares every vector")

    def search(
        self,
        query: Query,
        *,
        k: int,
        where: Filter | None = None,
        settings: SearchSettings = DEFAULT_SETTINGS,
        with_records: bool = False,
    ) -> Hits:
        for name in settings.options:
            raise UsageError(f"{self._store.address}: a search has no option {name!r}: every vector is compared")
        if k < 1:
            raise UsageError(f"the {k} nearest records cannot be found")
        with self._store.database.read() as connection:
            rows = self._store.rows(connection)
            part = rows.found.part(query.field)
            vector = self._vector(query, part)
            among = None if where is None else self._passing(connection, rows, where)
            if among is not None and not among:
                return Hits((), (), empty_batch(rows.found.spec) if with_records else None)
            scored = self._nearest(connection, rows, part, vector, k, among)
            rowids = [rowid for _, rowid in scored]
            at = f"WHERE {rows.found.rowid} IN ({_LISTED})"
            keys = dict(rows.keys(connection, at, [json.dumps(rowids)]))
            records = rows.by_rowids(connection, rowids) if with_records else None
        hits = tuple(keys[rowid] for rowid in rowids)
        return Hits(hits, tuple(score for score, _ in scored), records)

    def _vector(self, query: Query, part: Part) -> Any:
        if query.dense is None or query.multi is not None or query.sparse is not None:
            raise UsageError(f"{self._store.address} is searched with one dense vector")
        given = np.asarray(query.dense)
        if given.shape != (part.field.item_count,):
            raise DataInvalid(f"a query of {given.size} numbers for {part.field.item_count}")
        if part.field.dtype in (DType.INT8, DType.BINARY):
            wanted = np.dtype("i1" if part.field.dtype is DType.INT8 else "u1")
            if not (given == given.astype(wanted)).all():
                raise UsageError(f"{self._store.address}: {part.field.column!r} is searched with {part.field.dtype}")
            return given.astype(wanted)
        return given.astype("<f4" if part.stored == "json" else part.stored)

    def _passing(self, connection: Any, rows: Rows, where: Filter) -> list[int]:
        """The rowids of the records that a filter lets through."""
        found = rows.found
        condition = condition_of(where) if found.is_own else None
        if condition is None:
            doubtful = [row[0] for row in connection.execute(f"SELECT {found.rowid} FROM {quoted(found.table)} t")]
            sure: list[int] = []
        else:
            head = f"SELECT t.rowid FROM {found.source} WHERE "
            # A value in a column that somebody added is a key of the payload as well.
            beside = "".join(f" OR {found.columns[name]} IS NOT NULL" for name in found.roles.values)
            doubt = f"({condition.doubt}{beside})"
            sure_sql = f"{head} NOT {doubt} AND {condition.sql}"
            sure = [row[0] for row in connection.execute(sure_sql, (*condition.doubt_values, *condition.values))]
            doubtful = [row[0] for row in connection.execute(head + doubt, condition.doubt_values)]
        doubtful.sort()
        for start in range(0, len(doubtful), PAGE_ROWS):
            part = doubtful[start : start + PAGE_ROWS]
            payloads = decoded_payloads(rows.payloads(connection, part))
            sure += [rowid for rowid, payload in zip(part, payloads, strict=True) if matches(where, payload)]
        return sure

    def _nearest(
        self, connection: Any, rows: Rows, part: Part, vector: Any, k: int, among: list[int] | None
    ) -> list[tuple[float, int]]:
        """Distances and rowids, nearest first; of equals the one that was written first."""
        found = rows.found
        spoils = bool(unrankable(part.field.metric, vector.reshape(1, -1))[0])
        if part.number is None or k > _MOST_NEIGHBOURS or spoils or self._is_spoilt(connection, rows, part):
            return self._compared(connection, rows, part, vector, k, among)
        scored = self._asked(connection, rows, part, vector, k, among)
        if found.is_own:
            sql = f"SELECT record FROM {quoted(found.table + '_unranked')} WHERE field = ? ORDER BY record"
            aside = [record for (record,) in connection.execute(sql, (part.field.name,))]
            if among is not None:
                aside = sorted({*aside} & {*among})
            if aside:
                scored = _sorted(scored + self._compared(connection, rows, part, vector, k, aside))[:k]
        return scored

    def _asked(
        self, connection: Any, rows: Rows, part: Part, vector: Any, k: int, among: list[int] | None
    ) -> list[tuple[float, int]]:
        [raw] = stored_bytes(vector.reshape(1, -1), part, low_bit_first=rows.found.low_bit_first)
        key, rowids = quoted(part.key), quoted(part.table + "_rowids")
        match = f"{quoted(part.column)} MATCH {ELEMENT_SQL[part.field.dtype]}"
        sql = f"SELECT {key}, distance FROM {quoted(part.table)} WHERE {match} AND k = ?"
        values: list[Any] = [raw, k]
        if among is not None:
            listed = f"SELECT id FROM {rowids} WHERE rowid IN ({_LISTED})" if part.key_is_text else _LISTED
            # Only what has a vector: an id that vec0 does not know ends its search with an error.
            sql += f" AND {key} IN ({listed})"
            values.append(json.dumps(among))
        hits = connection.execute(sql, values).fetchall()
        if part.key_is_text:
            sql = f"SELECT id, rowid FROM {rowids} WHERE id IN ({','.join('?' * len(hits))})"
            known = dict(connection.execute(sql, [hit[0] for hit in hits]))
            hits = [(known[id_], distance) for id_, distance in hits]
        if among is None and rows.found.table != f"{part.table}_rowids":
            # The records are rows of another table: a vector that has none there is nobody's.
            at = rows.found.rowid
            sql = f"SELECT {at} FROM {quoted(rows.found.table)} t"
            asked = json.dumps([hit[0] for hit in hits])
            if len(connection.execute(f"{sql} WHERE {at} IN ({_LISTED})", (asked,)).fetchall()) < len(hits):
                everybody = [rowid for (rowid,) in connection.execute(sql)]
                return self._asked(connection, rows, part, vector, k, everybody)
        return _sorted([(float(distance), int(rowid)) for rowid, distance in hits])

    def _is_spoilt(self, connection: Any, rows: Rows, part: Part) -> bool:
        """Whether somebody's table holds vectors whose distance is no number: vec0's answers may then lack others."""
        if rows.found.is_own:
            return False
        key = part.field.name
        if self._looked_at is not rows:
            self._looked_at, self._spoilt = rows, {}
        if key not in self._spoilt:
            self._spoilt[key] = any(
                bool((unrankable(part.field.metric, matrix) & valid).any())
                for _, matrix, valid in _blocks(connection, rows, part, None)
            )
        return self._spoilt[key]

    def _compared(
        self, connection: Any, rows: Rows, part: Part, vector: Any, k: int, among: list[int] | None
    ) -> list[tuple[float, int]]:
        """The same answer by comparing every vector here, in float64. Those with no distance come last."""
        best: list[tuple[float, int]] = []
        for rowids, matrix, valid in _blocks(connection, rows, part, among):
            far = distances(part.field.metric, vector, matrix[valid])
            nearest = np.argsort(far, kind="stable")[:k]
            best = _sorted(best + list(zip(far[nearest].tolist(), rowids[valid][nearest].tolist(), strict=True)))[:k]
        return best


def _sorted(scored: list[tuple[float, int]]) -> list[tuple[float, int]]:
    return sorted(scored, key=lambda hit: (hit[0] != hit[0], 0.0 if hit[0] != hit[0] else hit[0], hit[1]))


def _blocks(connection: Any, rows: Rows, part: Part, among: list[int] | None) -> Iterator[tuple[Any, Any, Any]]:
    """Rowids, vectors and which of them are there, block by block, of these records or of all."""
    if among is None:
        sql = f"SELECT {rows.found.rowid} FROM {quoted(rows.found.table)} t"
        among = [row[0] for row in connection.execute(sql)]
    ordered = np.array(sorted(among), np.int64)
    most = max(1, _BLOCK_BYTES // (8 * part.field.item_count))
    for start in range(0, len(ordered), most):
        block = ordered[start : start + most]
        matrix, valid = rows.column(connection, part, block)
        yield block, matrix, valid


def _open(address: Address, network: Network) -> SqliteVecStore:
    return SqliteVecStore(address)


ADAPTER: Final = StoreAdapter(
    scheme="sqlite-vec",
    summary="sqlite-vec in an SQLite file: vec0 tables, and ordinary tables with vectors",
    address_form="sqlite-vec:PATH#TABLE",
    open=_open,
    extra="sqlite-vec",
    requires=("sqlite_vec",),
    fidelity="bit-exact",
    evidence="real",
    opening="beside a file that its writers keep in WAL mode, SQLite makes and removes a -wal and a -shm file, and it "
    "takes back what a writer that was killed had not committed; no record changes",
    metric=True,
)
