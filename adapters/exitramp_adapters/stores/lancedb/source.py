"""Reading one version of a LanceDB table: all of it, a range of its rows, or the rows of some ids."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from exitramp.arrow import empty_batch, record_keys
from exitramp.errors import DataInvalid
from exitramp.ports import Cursor, Origin, Page, Partition, StoreIdentity, make_cursor, read_cursor
from exitramp.ports.places import require_page_rows
from exitramp.ports.tables import textual_columns
from exitramp.records import CollectionSpec, Finding, RecordKey, Verdict
from exitramp_adapters.stores.lancedb.doubled import doubled_keys
from exitramp_adapters.stores.lancedb.engine import translated
from exitramp_adapters.stores.lancedb.layout import sql_texts
from exitramp_adapters.stores.lancedb.tables import View, origin_in, records_of

if TYPE_CHECKING:
    from exitramp_adapters.stores.lancedb.adapter import LanceStore

# 20,000 x 384 in 10 ms by batches of 2,000 to 8,000 rows, 15 ms by 500; wide rows fill the memory sooner than that.
_READ_ROWS: Final = 4096
_FETCH_IDS: Final = 1000
LISTED: Final = 20


class LanceSource:
    """Reads one version of a table."""

    def __init__(self, store: LanceStore) -> None:
        self._store = store
        self._single: set[int] = set()  # versions in which no id stands twice

    def identity(self) -> StoreIdentity:
        store = self._store
        store.require_open()
        installed = version("lancedb")
        named = store.address.collection is not None and store.folder().is_dir()
        return StoreIdentity(
            "lancedb",
            str(store.address),
            installed,
            installed,
            can_write=os.access(store.path, os.W_OK) if store.path.exists() else None,
            collections=store.names(),
            findings=tuple(self._findings(store.view())) if named else (),
        )

    def _findings(self, view: View) -> Iterator[Finding]:
        newest = int(self._store.latest().version)
        if view.version != newest:
            yield Finding(
                "source.version", f"version {view.version} of the table is read; the newest is {newest}", detail={}
            )
        if view.roles.unread:
            named = ", ".join(view.roles.unread)
            yield Finding("source.columns_unread", f"columns that are not read, since ?vectors= names others: {named}")
        textual = textual_columns(view.schema, view.roles.values)
        if textual:
            yield Finding("source.columns_as_text", f"columns whose values become text: {', '.join(textual)}")
        doubled = self._doubled(view)
        if doubled:
            told = f"{len(doubled)} ids stand in more than one row of the table, the first of them '{doubled[0]}'"
            yield Finding("source.doubled_ids", told, Verdict.FAIL, tuple(doubled[:LISTED]), len(doubled))

    def describe(self) -> CollectionSpec:
        return self._store.view().spec

    def origin(self) -> Origin | None:
        return origin_in(self._store.view())

    def count(self) -> int:
        view = self._store.view()
        with translated(str(self._store.address)):
            return int(view.table.count_rows())

    def partitions(self, wanted: int) -> Sequence[Partition]:
        """Ranges of rows of one version, named in each, so that they fit together whatever is written meanwhile."""
        view = self._store.view()
        rows = self.count()
        parts = max(1, min(wanted, rows))
        bounds = [rows * part // parts for part in range(parts)]
        ends: list[int | None] = [*bounds[1:], None]
        return [
            Partition(part, parts, make_cursor(version=view.version, row=start, until=end))
            for part, (start, end) in enumerate(zip(bounds, ends, strict=True))
        ]

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        require_page_rows(batch_rows)
        part = read_cursor(Cursor(partition.token)) if partition.token else {}
        place = part if after is None else read_cursor(after)
        view = self._store.view(place.get("version"))
        self._require_single(view)
        row, until = int(place.get("row", 0)), part.get("until")
        held: pa.RecordBatch | None = None
        for batch in self._batches(view, row, until, batch_rows):
            if held is not None:
                yield Page(held, make_cursor(version=view.version, row=row))
            self._store.require_open()
            held, row = records_of(batch, view, row), row + batch.num_rows
        if held is None:
            held = empty_batch(view.spec)
        yield Page(held, make_cursor(version=view.version, row=row), last=True)

    def _batches(self, view: View, row: int, until: int | None, batch_rows: int) -> Iterator[pa.RecordBatch]:
        if until is not None and until <= row:
            return
        with translated(str(self._store.address)):
            asked = view.asked()
            asked = asked.offset(row) if row else asked
            asked = asked.limit(until - row) if until is not None else asked
            reader = asked.to_batches(batch_size=min(batch_rows, _READ_ROWS))
            for batch in reader:
                for start in range(0, batch.num_rows, batch_rows):
                    yield batch.slice(start, batch_rows)

    def _require_single(self, view: View) -> None:
        doubled = self._doubled(view)
        if doubled:
            where, many = self._store.address, len(doubled)
            raise DataInvalid(
                f"{where}: {many} ids stand in more than one row, the first of them '{doubled[0]}'",
                hint="LanceDB's add keeps both: remove one row of each, or name another column: ?id=COLUMN",
            )

    def _doubled(self, view: View) -> list[str]:
        """The ids that more than one row has; of a version without any it is asked once."""
        if view.version in self._single:
            return []
        with translated(str(self._store.address)):
            found = doubled_keys(view)
        if not found:
            self._single.add(view.version)
        return found

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        view = self._store.view()
        if view.roles.namespace is None:
            keys = [key for key in keys if key.namespace is None]
        wanted = dict.fromkeys(keys)
        ids = _id_literals([key.id for key in wanted], view)
        found = []
        with translated(str(self._store.address)):
            for start in range(0, len(ids), _FETCH_IDS):
                some = ",".join(ids[start : start + _FETCH_IDS])
                asked = view.asked().where(f"`{view.roles.id}` IN ({some})")
                found += [records_of(batch, view) for batch in asked.to_batches() if batch.num_rows]
        if not found:
            return empty_batch(view.spec)
        together = pa.Table.from_batches(found).combine_chunks().to_batches()[0]
        named = record_keys(together)
        if len(set(named)) != len(named):
            self._require_single(view)
        return together.filter(pa.array([key in wanted for key in named]))

    def close(self) -> None:
        """Nothing is held here; the store is closed by whoever opened it."""


_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,19}")


def _id_literals(ids: Sequence[str], view: View) -> list[str]:
    """The ids as SQL; one that the column cannot hold is in no record."""
    unique = list(dict.fromkeys(ids))
    kind = view.schema.field(view.roles.id).type
    if pa.types.is_integer(kind):
        signed = int(pa.types.is_signed_integer(kind))
        low, high = -signed << (kind.bit_width - 1), (1 << (kind.bit_width - signed)) - 1
        return [text for text in unique if _INTEGER.fullmatch(text) and low <= int(text) <= high]
    if isinstance(kind, pa.UuidType):
        return [f"X'{text.replace('-', '')}'" for text in unique if _UUID.fullmatch(text)]
    return [sql_texts([text]) for text in unique]
