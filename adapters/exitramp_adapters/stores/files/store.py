"""One state of a collection that lies in files, and the roles that every store of files has: reading it in row order.

A snapshot keeps its files open, so that it can be read to its end although others have got their names. Its mark says
which files it was: size, time and the hash of both ends of each. A cursor holds the number of the row behind which it
goes on and the mark, since a row's number means nothing in another file; a scan that is resumed on files that were
changed is an error, and not a guess.

Beside what is being read, 8 bytes a record are held to tell whether an id stands twice, and 16 once records are fetched
by their ids.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.arrow import empty_batch, record_keys, stream_schema
from exitramp.durable import READ, storage_errors
from exitramp.errors import CollectionMissing, StoreRejected, StoreUnavailable
from exitramp.ports import Cursor, Origin, Page, Partition, StoreIdentity, make_cursor, read_cursor
from exitramp.ports.gathered import Key
from exitramp.ports.places import require_page_rows
from exitramp.records import CollectionSpec, Finding, RecordKey
from exitramp.urls import Address
from exitramp_adapters.stores.files.ahead import Ahead

_END_BYTES: Final = 64 * 1024
Stamp = tuple[tuple[str, int, int, int], ...]
"""Of each file its name, inode, size and time: what tells without reading it that it is another one."""


class Snapshot(Protocol):
    """One state of a collection. `read` and `keys` give the rows from `start` to `stop` in order; `parts` are numbers
    of rows at which reading can begin without what stands before."""

    @property
    def spec(self) -> CollectionSpec: ...

    @property
    def origin(self) -> Origin | None: ...

    @property
    def rows(self) -> int: ...

    @property
    def mark(self) -> str: ...

    @property
    def findings(self) -> tuple[Finding, ...]: ...

    @property
    def parts(self) -> Sequence[int]: ...

    def read(self, start: int, stop: int) -> Iterator[pa.RecordBatch]: ...

    def keys(self, start: int, stop: int) -> Iterator[list[RecordKey]]: ...

    def hashes(self) -> npt.NDArray[np.int64]:
        """Of every row, `key_hash` of its key."""
        ...

    def require_unchanged(self) -> None: ...

    def close(self) -> None: ...


def key_hash(key: RecordKey) -> int:
    """64 bits that tell keys apart within this process, mostly; what they say is checked against the keys."""
    return hash(key.id) if key.namespace is None else hash((key.namespace, key.id))


def hashes_of(keys: Iterable[RecordKey], count: int) -> npt.NDArray[np.int64]:
    return np.fromiter((key_hash(key) for key in keys), np.int64, count)


def hashes_in(keys: Sequence[Key]) -> npt.NDArray[np.int64]:
    """The same of keys that are no objects, of which a row costs 0.1 us and not 0.9."""
    return np.fromiter(map(hash, keys), np.int64, len(keys))


def stamp_of(paths: Iterable[Path]) -> Stamp:
    """Raises as `durable.path_error` says; a file that is not there has no size."""
    found = []
    for path in paths:
        with storage_errors(path, READ):
            try:
                stat = path.stat()
            except FileNotFoundError:
                found.append((str(path), 0, -1, 0))
            else:
                found.append((str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return tuple(found)


def mark_of(paths: Iterable[Path]) -> str:
    """16 hexadecimal digits that stand for these files as they are now."""
    digest = hashlib.sha256()
    for path in paths:
        with storage_errors(path, READ), path.open("rb") as file:
            stat = os.fstat(file.fileno())
            digest.update(json.dumps([path.name, stat.st_size, stat.st_mtime_ns]).encode("utf-8", "surrogateescape"))
            digest.update(file.read(_END_BYTES))
            file.seek(max(0, stat.st_size - _END_BYTES))
            digest.update(file.read(_END_BYTES))
    return digest.hexdigest()[:16]


class FilesStore:
    """One opened address. Its roles share the snapshot, and take another one when the files have changed."""

    scheme = ""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._held: tuple[object, Snapshot] | None = None
        self._closed = False
        self.ahead = Ahead()
        self._lock = threading.RLock()  # a call that a deadline gave up is waited for, and not begun again beside it

    def stamp(self) -> object:
        """What changes when the collection does."""
        raise NotImplementedError

    def open_snapshot(self) -> Snapshot:
        raise NotImplementedError

    def names(self) -> tuple[str, ...]:
        """The collections there are at this place."""
        return (self.snapshot().spec.name,)

    def listed(self) -> tuple[str, ...]:
        """The collections of a place that may have several, as far as they can be told without reading one."""
        return ()

    def version(self) -> str:
        return f"pyarrow {pa.__version__}"

    def source(self) -> FilesSource:
        return FilesSource(self)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self.let_go()

    def let_go(self) -> None:
        """Close the files that are held open."""
        self.ahead.rest()
        if self._held is not None:
            self._held[1].close()
        self._held = None

    def require_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"{self.address} was closed", hint="open it again")

    def snapshot(self) -> Snapshot:
        """The collection as it is now. Raises `CollectionMissing`."""
        with self._lock:
            self.require_open()
            stamp = self.stamp()
            if self._held is None or self._held[0] != stamp:
                self._held = stamp, self.open_snapshot()
            return self._held[1]


class FilesSource:
    """Reads the snapshot that was there when the scan began, in the order of its rows."""

    def __init__(self, store: FilesStore) -> None:
        self._store = store
        self._index: tuple[Snapshot, npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None

    def identity(self) -> StoreIdentity:
        version, address = self._store.version(), str(self._store.address)
        self._store.require_open()
        listed = self._store.listed() if self._store.address.collection is None else ()
        if len(listed) > 1:
            return StoreIdentity(self._store.scheme, address, version, version, collections=listed)
        try:
            held = self._store.snapshot()
        except CollectionMissing:
            return StoreIdentity(self._store.scheme, address, version, version)
        return StoreIdentity(
            self._store.scheme, address, version, version, collections=self._store.names(), findings=held.findings
        )

    def describe(self) -> CollectionSpec:
        return self._store.snapshot().spec

    def origin(self) -> Origin | None:
        return self._store.snapshot().origin

    def count(self) -> int:
        return self._store.snapshot().rows

    def partitions(self, wanted: int) -> Sequence[Partition]:
        held = self._store.snapshot()
        bounds = [0]
        for part in range(1, max(1, wanted)):
            ideal = held.rows * part / wanted
            nearest = min(held.parts, key=lambda row: abs(row - ideal), default=0)
            if bounds[-1] < nearest < held.rows:
                bounds.append(int(nearest))
        if len(bounds) == 1:
            return [Partition()]
        bounds.append(held.rows)
        tokens = [json.dumps([*bounds[part : part + 2], held.mark]) for part in range(len(bounds) - 1)]
        return [Partition(part, len(tokens), token) for part, token in enumerate(tokens)]

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        require_page_rows(batch_rows)
        held = self._store.snapshot()
        start, stop, mark = json.loads(partition.token) if partition.token else (0, held.rows, held.mark)
        if after is not None:
            behind = read_cursor(after)
            start, mark = max(start, int(behind["row"])), behind["mark"] if mark == held.mark else mark
        if mark != held.mark:
            raise StoreRejected(
                f"{self._store.address} is not what it was when the scan began: its rows have other numbers now",
                hint="begin anew: remove what keeps the place of the interrupted run (--state, or in .exitramp)",
            )
        cursor = after or make_cursor(row=start, mark=mark)
        waiting: Page | None = None
        for batch in self._read(held, start, stop) if start < stop else ():
            for at in range(0, batch.num_rows, batch_rows):
                self._store.require_open()
                held.require_unchanged()
                page = batch.slice(at, batch_rows)
                start += page.num_rows
                cursor = make_cursor(row=start, mark=mark)
                if waiting is not None:
                    yield waiting
                waiting = Page(page, cursor, False)
        self._store.require_open()
        held.require_unchanged()
        if start < stop:
            raise StoreRejected(f"{self._store.address} holds {start} rows where {stop} were counted")
        yield (
            Page(empty_batch(held.spec), cursor, True) if waiting is None else Page(waiting.batch, waiting.cursor, True)
        )

    def _read(self, held: Snapshot, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._store.ahead.of(held.read(start, stop))
        except Exception:  # what is read while somebody writes there may be no such file any more
            self._store.require_open()
            held.require_unchanged()
            raise

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        held = self._store.snapshot()
        wanted = set(keys)
        rows = self._rows_of(held, wanted)
        found = take_rows(held, rows)
        right = [row for row, key in enumerate(record_keys(found)) if key in wanted]
        return found if len(right) == found.num_rows else found.take(pa.array(right, pa.int64()))

    def _rows_of(self, held: Snapshot, keys: set[RecordKey]) -> npt.NDArray[np.int64]:
        """Rows that may have one of these keys, in order."""
        if self._index is None or self._index[0] is not held:
            hashes = held.hashes()
            order = np.argsort(hashes, kind="stable")
            self._index = held, hashes[order], order
        _, hashes, order = self._index
        wanted = np.unique(hashes_of(keys, len(keys)))
        low, high = np.searchsorted(hashes, wanted), np.searchsorted(hashes, wanted, side="right")
        parts = [order[first:last] for first, last in zip(low.tolist(), high.tolist(), strict=True) if first < last]
        return np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.int64)

    def close(self) -> None:
        """Nothing is held here; the store is closed by whoever opened it."""


def take_rows(held: Snapshot, rows: npt.NDArray[np.int64]) -> pa.RecordBatch:
    """These rows, which are in order, as one batch; those that stand near one another are read together."""
    if not len(rows):
        return empty_batch(held.spec)
    found = []
    for near in np.split(rows, np.flatnonzero(np.diff(rows) > 1024) + 1):
        at = start = int(near[0])
        for batch in held.read(start, int(near[-1]) + 1):
            inside = near[(near >= at) & (near < at + batch.num_rows)] - at
            if len(inside):
                found.append(batch.take(pa.array(inside)))
            at += batch.num_rows
    table = pa.Table.from_batches(found, stream_schema(held.spec)).combine_chunks()
    [batch] = table.to_batches()
    return batch
