"""Index files with a side-car as a store: what an adapter says of its library, and the roles that follow from it.

Of a collection that is open the index is in memory, as such libraries want it, and the keys. Documents, payloads and
originals are only where they are few (`side_car_columns.HELD_BYTES`); else they are read as a scan goes on, or set
aside in a file without a name where records are wanted in another order than the side-car's. A sink holds keys, and at
most 32 MiB of rows; more are set aside until the next flush, which comes by itself at 256 MiB. A flush writes both
files anew, whole, by groups of rows, so checkpoints should be many rows apart. One writer at a time: a flush onto files
that somebody else replaced meanwhile is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.durable import storage_errors, sync_folder
from exitramp.errors import CollectionMissing, StoreUnavailable, UsageError
from exitramp.ports.index_bytes import Bytes
from exitramp.ports.places import cursor_behind, parts_of, require_page_rows, span
from exitramp.ports.reading import Cursor, Origin, Page, Partition, StoreIdentity
from exitramp.ports.searching import IndexCoverage, SearchSettings
from exitramp.ports.side_car import FileState, side_car_path, signature
from exitramp.ports.side_car_records import (
    PAGE_ROWS,
    Change,
    Held,
    IndexContent,
    Opened,
    batch_of,
    in_order,
    load,
    reader,
)
from exitramp.ports.side_car_search import SideCarSearch
from exitramp.ports.side_car_sink import SideCarSink
from exitramp.ports.side_car_vectors import Matrix
from exitramp.ports.writing import SinkLimits
from exitramp.records import CollectionSpec, Finding, RecordKey, VectorField
from exitramp.urls import Address


class IndexEngine(Protocol):
    """A library of index files. scheme: of its addresses. labelled: whether the side-car says what the index calls each
    record; otherwise it calls them by their row."""

    scheme: str
    labelled: bool

    def version(self) -> str: ...

    def vectors_at(self, head: bytes) -> int | None:
        """Where vectors begin in a file that begins like this, if all its bytes are wanted; see `hash_file`."""
        ...

    def read(self, path: Path, told: VectorField | None, data: Bytes | None) -> IndexContent:
        """What the file holds. `told` is what its side-car says that its vectors are, None where there is none; `data`
        are its bytes where they were wanted and have the side-car's hash.

        Raises `DataInvalid` naming what it cannot read; `IntegrityError` for a file that is damaged or no index, and
        for an index of something else than what was told.
        """
        ...

    def limits(self, limits: SinkLimits) -> SinkLimits:
        """What it takes, given what the side-car takes."""
        ...

    def gives_back(self, held: Held) -> bool:
        """Whether these vectors come out of their index as they were; else the side-car keeps them."""
        ...

    def empty(self, field: VectorField, told: Mapping[str, Any]) -> tuple[Any, str]:
        """An index without records and in what words it is to be made again, `told` being the settings of the index
        that the records come from, of whatever kind of store (`CollectionSpec.index`)."""
        ...

    def follow(self, path: Path, change: Change) -> Any:
        """An index of the collection after a change, while more may come, made of the file or anew.

        `path` holds what was before; `change` does not know its index, and is left as it is.
        """
        ...

    def finished(self, path: Path, held: Held) -> tuple[Any, str] | None:
        """The index that is wanted in the end and in what words it is made, or None where that is the one in the file.
        As in `follow`, `held` does not know it."""
        ...

    def write(self, index: Any, path: Path) -> None: ...

    def lying(self, path: Path, state: FileState, held: Held) -> Matrix | None:
        """The vectors of `held` where the index has them that was just written, whose file has this `state`, without
        reading them; None where they cannot be read by parts."""
        ...

    def ask(
        self,
        held: Held,
        vector: npt.NDArray[Any],
        k: int,
        rows: npt.NDArray[np.int64] | None,
        settings: SearchSettings,
    ) -> tuple[Sequence[float], npt.NDArray[Any]]:
        """Scores and labels of the `k` nearest among these rows (None: all), of which there are at least `k`."""
        ...

    def search_options(self, held: Held) -> Mapping[str, Any]:
        """As in `TellsOptions`."""
        ...

    def coverage(self, held: Held) -> IndexCoverage: ...


def number_option(address: Address, name: str) -> int | None:
    """The option as a number from 1 on, None where it is not given. Raises `UsageError` for anything else."""
    text = address.option(name)
    if text is not None and not (text.isascii() and text.isdigit() and int(text)):
        raise UsageError(f"{address}: {name} is a whole number from 1 on, not '{text}'")
    return None if text is None else int(text)


class SideCarStore:
    """One index file. Its roles share what was loaded, and load again when the files were replaced."""

    def __init__(self, address: Address, engine: IndexEngine) -> None:
        self.address = address
        self.path: Path = address.path
        self.engine = engine
        self._loaded: Opened | None = None
        self._closed = False

    def source(self) -> SideCarSource:
        return SideCarSource(self)

    def sink(self) -> SideCarSink:
        return SideCarSink(self)

    def search(self) -> SideCarSearch:
        return SideCarSearch(self)

    def drop(self) -> None:
        """Remove both files. Raises `CollectionMissing`, and `UsageError` for an index without a side-car, which
        somebody else made."""
        if not self.opened().held.has_side_car:
            raise UsageError(f"{self.address}: exitramp did not make this index, and does not remove it")
        beside = side_car_path(self.path)
        with storage_errors(self.path):
            for each in (self.path, beside, beside.with_name(beside.name + ".new")):
                each.unlink(missing_ok=True)
        sync_folder(self.path.parent)
        self.forget()

    def close(self) -> None:
        self.forget()
        self._closed = True

    def forget(self) -> None:
        """Let go of what was loaded, as other files are there now; whoever asks next loads those."""
        self._loaded = None

    def require_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"{self.address} was closed", hint="open it again")

    def opened(self) -> Opened:
        """What the files hold now. Raises as `load` does, and `CollectionMissing` for one of another name."""
        self.require_open()
        now = signature(self.path)
        if self._loaded is None or self._loaded.signature != now:
            wanted = self.address.collection
            held = load(self.engine, self.path, wanted)
            if wanted is not None and held.spec.name != wanted:
                raise CollectionMissing(
                    f"{self.path} holds the collection '{held.spec.name}', not '{wanted}'",
                    hint=f"an index file holds one collection: write {self.engine.scheme}:{self.address.location}",
                )
            self._loaded = in_order(held, now)
        return self._loaded


class SideCarSource:
    """Reads what was loaded when the scan began: a scan sees one state of the files, whatever is written meanwhile."""

    def __init__(self, store: SideCarStore) -> None:
        self._store = store

    def identity(self) -> StoreIdentity:
        store, version = self._store, self._store.engine.version()
        told = (store.engine.scheme, str(store.address), version, version)
        folder = store.path.parent
        can_write = os.access(folder, os.W_OK) if folder.exists() else None  # files are replaced, not changed
        if signature(store.path)[0] is None:
            return StoreIdentity(*told, can_write=can_write)
        held = store.opened().held
        findings = (*(() if held.has_side_car else (self._alone(held),)), *held.content.findings)
        return StoreIdentity(*told, can_write=can_write, collections=(held.spec.name,), findings=findings)

    def _alone(self, held: Held) -> Finding:
        """What to know of an index by itself. Nothing in the file tells who wrote it."""
        path = self._store.path
        return Finding(
            "source.no_side_car",
            f"{path} has no side-car: {held.content.alone}, and there are no documents and no payloads; if exitramp "
            f"wrote this index, {side_car_path(path)} is missing: put it back",
        )

    def describe(self) -> CollectionSpec:
        held = self._store.opened().held
        return replace(held.spec, index=dict(held.content.about))

    def origin(self) -> Origin | None:
        return self._store.opened().held.origin

    def count(self) -> int:
        return len(self._store.opened().places)

    def partitions(self, wanted: int) -> Sequence[Partition]:
        return parts_of(self._store.opened().places, wanted)

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        require_page_rows(batch_rows)
        opened = self._store.opened()
        low, high = span(opened.places, partition, after)
        held = reader(opened.held, opened.rows[low:high])
        cursor = after or cursor_behind(None)
        while True:
            self._store.require_open()
            until = min(high, low + min(batch_rows, PAGE_ROWS))
            if until > low:
                cursor = cursor_behind(opened.places[until - 1])
            yield Page(batch_of(held, opened.rows[low:until]), cursor, until >= high)
            if until >= high:
                return
            low = until

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        opened = self._store.opened()
        found = [row for row in map(opened.row_of, dict.fromkeys(keys)) if row is not None]
        return batch_of(opened.held, np.array(found, np.int64))

    def close(self) -> None:
        """Nothing is held here; the store is closed by whoever opened it."""
