"""LanceDB's tables in a folder: `lancedb:./db#table`. What a table of exitramp's own is stands in `tables`.

Every write to a table makes a new version, and a version never changes. A scan reads the one that was the newest when
it began, whatever is written meanwhile, and so does one that is resumed: its cursor names the version and the number of
rows of it that were read, which in something that does not change is as good as a key. If that version was cleaned away
since, the scan is refused. `?version=7` or `?version=TAG` reads an older one.

Options: `version`; `index=IVF_PQ` (or another type) has `finish` build that index over each vector field,
`index=source` the ones that the source had; for a table that somebody else made `id`, `namespace`, `document`,
`payload`, `vectors` (see `exitramp.ports.tables`) and `metric`, which an index would say. Nothing leaves this machine:
`lancedb:s3://…` is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from exitramp.arrow import empty_batch, record_keys
from exitramp.errors import AddressError, CollectionMissing, DataInvalid, StoreUnavailable, UsageError
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
from exitramp.ports.tables import OPTIONS, textual_columns
from exitramp.records import CollectionSpec, Finding, RecordKey, VectorKind, Verdict
from exitramp.urls import Address, Network
from exitramp_adapters.stores.lancedb.layout import hashes_of, sql_texts
from exitramp_adapters.stores.lancedb.search import LanceSearch
from exitramp_adapters.stores.lancedb.sink import INDEX_TYPES, LanceSink
from exitramp_adapters.stores.lancedb.tables import (
    View,
    id_texts,
    origin_in,
    records_of,
    translated,
    view_of,
)

# 20,000 x 384 in 10 ms by batches of 2,000 to 8,000 rows, 15 ms by 500; wide rows fill the memory sooner than that.
_READ_ROWS: Final = 4096
_AHEAD_BYTES: Final = 32 * 2**20
"""What the engine reads ahead of whoever uses it; its own 2 GiB are all of most tables. A scan of 300,000 x 384 took
310 MB with it and 630 without, in the same time."""
_FETCH_IDS: Final = 1000
_LISTED: Final = 20
_NAMES: Final = re.compile(r"[A-Za-z0-9_.-]+")
_NAME: Final = 249  # with `.lance` behind it a folder's name


class LanceStore:
    """One opened address. A version that was looked at is remembered with what it means, since it does not change."""

    def __init__(self, address: Address) -> None:
        address.only_options("version", "index", "metric", *OPTIONS)
        if "://" in address.location or address.location.startswith("//"):
            raise UsageError(
                f"{address}: only folders of this machine are read and written", hint="lancedb:./FOLDER#TABLE"
            )
        name = address.collection
        if name is not None and (len(name) > _NAME or name.strip(".") == "" or not _NAMES.fullmatch(name)):
            raise AddressError(
                f"{address}: LanceDB has no table of such a name", hint="at most 249 of a-z A-Z 0-9 _ - ."
            )
        self.address = address
        self.path: Path = address.path
        wanted = address.option("version")
        self.pinned: int | str | None = int(wanted) if wanted is not None and wanted.isdecimal() else wanted
        self.index = address.option("index")
        if self.index is not None and self.index not in (*INDEX_TYPES, "source"):
            raise UsageError(f"{address}: index={self.index} is not known", hint=f"source, {', '.join(INDEX_TYPES)}")
        self._database: Any = None
        self._view: View | None = None
        self._closed = False

    def source(self) -> LanceSource:
        return LanceSource(self)

    def sink(self) -> LanceSink:
        return LanceSink(self)

    def search(self) -> LanceSearch:
        return LanceSearch(self)

    def drop(self) -> None:
        """Remove the table. Raises `CollectionMissing`, and `UsageError` for one that somebody else made."""
        self.require_writable()
        if not self.view().ours:
            raise UsageError(f"{self.address}: exitramp did not make this table, and does not remove it")
        with translated(str(self.address)):
            self.database().drop_table(self.name)
        self._view = None

    def close(self) -> None:
        self._closed, self._database, self._view = True, None, None

    def require_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"{self.address} was closed", hint="open it again")

    def require_writable(self) -> None:
        self.require_open()
        if self.pinned is not None:
            raise UsageError(f"{self.address}: an older version is not written to", hint="leave out ?version=")

    @property
    def name(self) -> str:
        return self.address.require_collection()

    def folder(self) -> Path:
        return self.path / f"{self.name}.lance"

    def database(self) -> Any:
        """LanceDB's connection. It would make the folder, so that whoever only reads looks first."""
        self.require_open()
        if self._database is None:
            # Without this the engine tells of every new table, as a warning, on stderr. It reads it when it is loaded.
            os.environ.setdefault("LANCEDB_LOG", "error")
            os.environ.setdefault("LANCE_DEFAULT_IO_BUFFER_SIZE", str(_AHEAD_BYTES))
            import lancedb

            with translated(str(self.address)):
                self._database = lancedb.connect(str(self.path.absolute()), read_consistency_interval=timedelta(0))
        return self._database

    def latest(self) -> Any:
        """A handle on the table that follows its newest version. Raises `CollectionMissing`."""
        self.require_open()
        if not self.folder().is_dir():
            raise self._missing()
        try:
            with translated(str(self.address)):
                return self.database().open_table(self.name)
        except CollectionMissing:
            raise self._missing() from None

    def view(self, at: int | str | None = None) -> View:
        """The version `at`, or the pinned or the newest one. Raises as `view_of` does, and `StoreRejected` for one that
        is no longer there."""
        table, wanted = self.latest(), self.pinned if at is None else at
        with translated(str(self.address)):
            if wanted is None:
                wanted = int(table.version)
            if self._view is not None and self._view.version == wanted:
                return self._view
            table.checkout(wanted)
            found = view_of(table, self.address)
            if self._view is None or at is None:
                self._view = found
            return found

    def names(self) -> tuple[str, ...]:
        if not self.path.is_dir():
            return ()
        return tuple(sorted(each.name[:-6] for each in self.path.iterdir() if each.name.endswith(".lance")))

    def _missing(self) -> CollectionMissing:
        names = ", ".join(repr(name) for name in self.names()[:_LISTED]) or "none"
        hint = f"the tables there are: {names}"
        if self.path.name.endswith(".lance"):
            hint = f"the folder is itself a table: write lancedb:{self.path.parent}#{self.path.name[:-6]}"
        return CollectionMissing(f"{self.address}: there is no table '{self.address.collection}'", hint=hint)


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
            yield Finding("source.doubled_ids", told, Verdict.FAIL, tuple(doubled[:_LISTED]), len(doubled))

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
        """The ids that more than one row has, by one look at that column: 0.3 us for each row, once for a version."""
        if view.version in self._single:
            return []
        found = [hashes_of(keys) for keys in self._keys(view)]
        hashes = np.sort(np.concatenate(found)) if found else np.zeros(0, np.int64)
        twice = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
        if not len(twice):
            self._single.add(view.version)
            return []
        seen: set[str] = set()
        doubled: dict[str, None] = {}
        for keys in self._keys(view):
            for place in np.flatnonzero(np.isin(hashes_of(keys), twice)).tolist():
                key = keys[place].as_py()
                if key in seen:
                    doubled[key] = None
                seen.add(key)
        if not doubled:
            self._single.add(view.version)
        return list(doubled)

    def _keys(self, view: View) -> Iterator[pa.Array]:
        """What no two rows may have alike, as texts: the id, with its namespace where there are some."""
        space = None if view.ours else view.roles.namespace
        with translated(str(self._store.address)):
            names = [view.key] if space is None else [view.key, space]
            row = 0
            for batch in view.table.search().select(names).to_batches():
                ids = id_texts(batch.column(view.key), view.schema.field(view.key), row)
                row += batch.num_rows
                if space is not None:
                    pairs = zip(batch.column(space).to_pylist(), ids.to_pylist(), strict=True)
                    ids = pa.array([repr(pair) for pair in pairs], pa.string())
                yield ids

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


def _open(address: Address, network: Network) -> LanceStore:
    return LanceStore(address)


ADAPTER: Final = StoreAdapter(
    scheme="lancedb",
    summary="LanceDB tables in a folder of this machine, any version of them",
    address_form="lancedb:FOLDER#TABLE",
    open=_open,
    extra="lancedb",
    requires=("lancedb",),
    vector_kinds=(VectorKind.DENSE.value, VectorKind.MULTI.value),
    metric=True,
)
