"""Reading a table by its keys, in one snapshot, from any place on."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from exitramp.arrow import empty_batch, usual_row_bytes
from exitramp.errors import DataInvalid
from exitramp_adapters.stores.duckdb.ahead import Ahead
from exitramp_adapters.stores.duckdb.file import close_quietly, translated
from exitramp_adapters.stores.duckdb.keys import (
    Place,
    at_least,
    before,
    behind,
    bounds_between,
    last_place,
    part_of,
    place_at,
)
from exitramp_adapters.stores.duckdb.records import batch_of, select_list
from exitramp_adapters.stores.duckdb.spool import ID, MOST_PARTS, NAMESPACE, PART, PART_BYTES, SPACED, in_order
from exitramp_adapters.stores.duckdb.table import Table

if TYPE_CHECKING:
    from exitramp_adapters.stores.duckdb.adapter import DuckStore

_SPOOL_ROWS: Final = 8192
# DuckDB works by 2,048 rows: of pages of 1,000 one takes 5 to 8 ms and the next 0.4, so that fetching them one by one
# leaves whoever reads waiting in every other.
_ROWS_AHEAD: Final = 2048
_MOST_AHEAD: Final = 4
_BYTES_AHEAD: Final = 8 * 2**20
_END: Final = object()


class Scan:
    """A result that is read page by page. Whoever opens the file anew lets go of it, and it goes on behind its key.

    While a page is turned into a batch the next is fetched (see `ahead`), from this result only: where it was let go
    of, it is begun anew by whoever reads, once all that was fetched has become pages and the key is that of the last.
    """

    def __init__(
        self, store: DuckStore, low: Place | None, high: Place | None, behind: Place | None, batch_rows: int
    ) -> None:
        self._store, self._low, self._high, self._behind, self._batch_rows = store, low, high, behind, batch_rows
        self._where = str(store.address)
        self._cursor: Any = None
        self._rows: Any = None
        self._table: Table = store.table()
        self._ended = False
        self._ahead = Ahead()
        self._held: deque[Any] = deque()
        page_bytes = batch_rows * usual_row_bytes(self._table.spec)
        self._pages_ahead = max(1, min(_MOST_AHEAD, _ROWS_AHEAD // batch_rows, _BYTES_AHEAD // page_bytes))
        self._fetching = self._left = False

    def empty(self) -> pa.RecordBatch:
        return empty_batch(self._table.spec)

    def next(self) -> pa.RecordBatch | None:
        """The next page, None at the end. Raises `DataInvalid` naming an id that stands in two rows."""
        store = self._store
        while not self._ended:
            store.require_open()
            rows = self._following()
            if rows is None:
                self._ended = True
                self.close()
                break
            if not rows.num_rows:
                continue
            page = batch_of(rows, self._table)
            self._require_new(page)
            self._behind = last_place(page)
            return page
        return None

    def _following(self) -> pa.RecordBatch | None:
        """The next rows as DuckDB gives them. Raises what fetching them did, after those that came before."""
        if not self._held:
            self._held.extend(self._ahead.take() or [self._fetch(anew=True)])
            if isinstance(self._held[-1], pa.RecordBatch):
                self._ahead.ask(self._fetch_some)
        rows = self._held.popleft()
        if isinstance(rows, BaseException):
            raise rows
        return None if rows is _END else rows

    def _fetch_some(self) -> list[Any]:
        """The next pages, none where the result was let go of; what ends them stands last: `_END`, or an error."""
        found: list[Any] = []
        try:
            while len(found) < self._pages_ahead:
                found.append(self._fetch())
                if not isinstance(found[-1], pa.RecordBatch):
                    break
        except Exception as error:  # noqa: BLE001  (raised in the reader, whatever it is)
            found.append(error)
        return [each for each in found if each is not None]

    def _fetch(self, *, anew: bool = False) -> Any:
        """The next rows, or `_END`; where there is no result, the first rows of one begun `anew`, or None."""
        with self._store.file.lock, translated(self._where):
            if self._rows is None and anew:
                self._begin()
            if self._rows is None:
                return None
            self._fetching = True
            try:
                return next(self._rows, _END)
            finally:
                self._fetching = False
                if self._left:
                    self.let_go()

    def _begin(self) -> None:
        table = self._table
        self._cursor = self._store.cursor()
        self._store.file.readers.add(self)
        self._cursor.execute("BEGIN")
        conditions: list[str] = []
        values: list[Any] = []
        for sql, bound in ((behind, self._behind), (at_least, self._low), (before, self._high)):
            if bound is not None:
                conditions.append(sql(table, bound, values))
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        select = select_list(table)
        if self._in_order():
            query = f"SELECT {select} FROM {table.relation}{where}"
            self._rows = iter(self._cursor.execute(query, values).to_arrow_reader(self._batch_rows))
            return
        [[rows]] = self._cursor.execute(f"SELECT count(*) FROM {table.relation}{where}", values).fetchall()
        parts = max(1, min(MOST_PARTS, -(-rows * usual_row_bytes(table.spec) // PART_BYTES)))
        bounds = bounds_between(self._cursor, table, parts, where, values)
        chosen: list[Any] = []
        part = part_of(table, bounds, chosen)
        namespace = "NULL" if table.roles.namespace is None else table.key("namespace")
        keys = f"{namespace} IS NOT NULL AS {SPACED}, {namespace} AS {NAMESPACE}, {table.key('id')} AS {ID}"
        query = f"SELECT {select}, {keys}, {part} AS {PART} FROM {table.relation}{where}"
        found = self._cursor.execute(query, [*chosen, *values]).to_arrow_reader(_SPOOL_ROWS)
        self._rows = in_order(found, len(bounds) + 1, self._batch_rows)

    def _in_order(self) -> bool:
        """Whether the rows stand in the order of their keys: reading 100,000 ids for it takes 3 to 11 ms.

        Asked once for as long as the file is open to be read only, since then nobody can write it.
        """
        store, table = self._store, self._table
        if store.ordered is not None and store.ordered[0] == store.file.opened:
            return store.ordered[1]
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
        rises = found is not False and not table.is_view
        store.ordered = None if store.file.writable else (store.file.opened, rises)
        return rises

    def _require_new(self, page: pa.RecordBatch) -> None:
        """In the order of keys two rows with one key stand beside each other."""
        ids = page.column("id")
        same = pc.equal(ids[1:], ids[:-1])
        if page.schema.get_field_index("namespace") >= 0:
            spaces = page.column("namespace").fill_null("\0none")
            same = pc.and_(same, pc.equal(spaces[1:], spaces[:-1]))
        place = same.index(pa.scalar(True)).as_py()
        doubled = ids[place].as_py() if place >= 0 else None
        if doubled is None and self._behind is not None and place_at(page, 0) == self._behind:
            doubled = self._behind[1]
        if doubled is not None:
            raise DataInvalid(
                f"{self._where}: the id '{doubled}' stands in more than one row",
                hint="name a column with ?id= that holds each value once, or a view of the table that does",
            )

    def let_go(self) -> None:
        """Close the result and its connection, for now."""
        if self._fetching:  # what reads was collected as garbage, on the very thread that fetches and has the lock
            self._left = True
            return
        rows, self._rows = self._rows, None
        cursor, self._cursor = self._cursor, None
        if hasattr(rows, "close"):  # what was put into files goes with it
            rows.close()
        del rows
        self._store.file.readers.discard(self)
        if cursor is not None:
            close_quietly(cursor)

    def close(self) -> None:
        """Waits for what is being fetched, and lets it go."""
        self._ahead.end()
        self._held.clear()
        with self._store.file.lock:
            self.let_go()
