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

import re
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from exitramp.errors import AddressError, CollectionMissing, StoreUnavailable, UsageError
from exitramp.ports import StoreAdapter
from exitramp.ports.tables import OPTIONS
from exitramp.records import VectorKind
from exitramp.urls import Address, Network
from exitramp_adapters.stores.lancedb.engine import load, translated
from exitramp_adapters.stores.lancedb.search import LanceSearch
from exitramp_adapters.stores.lancedb.sink import INDEX_TYPES, LanceSink
from exitramp_adapters.stores.lancedb.source import LISTED, LanceSource
from exitramp_adapters.stores.lancedb.tables import View, view_of

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
            with translated(str(self.address)):
                self._database = load().connect(str(self.path.absolute()), read_consistency_interval=timedelta(0))
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
        names = ", ".join(repr(name) for name in self.names()[:LISTED]) or "none"
        hint = f"the tables there are: {names}"
        if self.path.name.endswith(".lance"):
            hint = f"the folder is itself a table: write lancedb:{self.path.parent}#{self.path.name[:-6]}"
        return CollectionMissing(f"{self.address}: there is no table '{self.address.collection}'", hint=hint)


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
