"""What was written to a file and is not in it yet: segments beside it that make every flush durable.

A `.npy` file, an HDF5 file or a folder of Parquet cannot be added to without being written anew. So what arrives goes
into a folder beside it, one Arrow file for each flush with its rows and the keys that were deleted; `finish` writes the
files anew from what is there and in the segments. Until then a reader sees both as one collection, the latest write of
a key being the one that counts. The new files are written under other names; a list of them made durable is the moment
from which they are the collection, whether they have their names yet or not, so that a process killed anywhere leaves
either the old state with its segments or the new one.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.arrow import record_keys, stream_schema
from exitramp.durable import READ, make_folder, storage_errors, sync_folder, write_atomically
from exitramp.errors import FormatUnknown, IntegrityError, StoreRejected
from exitramp.ports import Origin
from exitramp.ports.gathered import plain_keys
from exitramp.records import CollectionSpec, Finding, RecordKey
from exitramp_adapters.stores.files.store import Snapshot, hashes_in, hashes_of, key_hash
from exitramp_adapters.stores.files.syncing import Syncing

FORMAT: Final = 1
_HEAD, _COMMIT, _LOCK = "collection.json", "commit.json", "lock"
_ROWS: Final = 4096


class Staging:
    """The folder with what was written to one collection."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._locked: int | None = None
        self._owners: set[int] = set()

    def exists(self) -> bool:
        return (self.folder / _HEAD).exists()

    def files(self) -> list[Path]:
        """What changes when something is written."""
        return [self.folder / _HEAD, self.folder / _COMMIT, *self._segments()]

    def _segments(self) -> list[Path]:
        with storage_errors(self.folder, READ):
            return sorted(self.folder.glob("*.arrow")) if self.folder.exists() else []

    def begin(self, spec: CollectionSpec, origin: Origin | None) -> None:
        told = {"format": FORMAT, "spec": spec.to_json(), "origin": None if origin is None else origin.to_json()}
        make_folder(self.folder)
        write_atomically(self.folder / _HEAD, json.dumps(told, ensure_ascii=False).encode())

    def head(self) -> tuple[CollectionSpec, Origin | None]:
        path = self.folder / _HEAD
        try:
            with storage_errors(path, READ):
                told = json.loads(path.read_bytes())
            if told["format"] != FORMAT:
                raise FormatUnknown(f"{path}: format {told['format']!r} is not known to this program")
            origin = None if told["origin"] is None else Origin.from_json(told["origin"])
            return CollectionSpec.from_json(told["spec"]), origin
        except (KeyError, ValueError, TypeError) as error:
            raise IntegrityError(f"{path} is damaged") from error

    def segments(self) -> list[Segment]:
        return [Segment(path) for path in self._segments()]

    def add(self, batches: Sequence[pa.RecordBatch], schema: pa.Schema, gone: Sequence[RecordKey]) -> None:
        """Return when the rows and deletions are on the disk."""
        there = self._segments()
        number = int(there[-1].stem) + 1 if there else 1
        path = self.folder / f"{number:08d}.arrow"
        told = json.dumps([[key.id, key.namespace] for key in gone], ensure_ascii=False)
        new = path.with_suffix(".tmp")
        with storage_errors(path):
            with (
                new.open("wb", buffering=0) as file,
                Syncing(new) as syncing,
                pa.ipc.new_file(file, schema.with_metadata({b"gone": told.encode()})) as writer,
            ):
                for batch in batches:
                    writer.write_batch(batch.replace_schema_metadata({b"gone": told.encode()}))
                    syncing.wrote(batch.nbytes)
            new.rename(path)
        sync_folder(self.folder)

    def lock(self, owner: object) -> None:
        """Only one process writes, with as many sinks as it likes. Raises `StoreRejected` where another one does."""
        self._owners.add(id(owner))
        if self._locked is not None:
            return
        make_folder(self.folder)
        path = self.folder / _LOCK
        with storage_errors(path):
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            self._owners.clear()
            raise StoreRejected(
                f"{self.folder}: another process is writing there", hint="let one at a time, then run this again"
            ) from error
        self._locked = handle

    def unlock(self, owner: object) -> None:
        self._owners.discard(id(owner))
        if self._locked is None or self._owners:
            return
        if not self.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._locked)
        self._locked = None

    def commit(self, renames: Mapping[Path, Path], gone: Sequence[Path] = ()) -> None:
        """From now on the new files are the collection: `renames` gives each its name, `gone` are what they replace."""
        base = self.folder.parent
        told = {
            "renames": [[str(new.relative_to(base)), str(name.relative_to(base))] for new, name in renames.items()],
            "gone": [str(path.relative_to(base)) for path in gone],
        }
        write_atomically(self.folder / _COMMIT, json.dumps(told).encode())
        self.take_up()

    def take_up(self) -> None:
        """Complete a commit that was begun, if there is one."""
        told = self._commit()
        if told is None:
            return
        base = self.folder.parent
        for new, name in told["renames"]:
            with storage_errors(base / name):
                if (base / new).exists():
                    (base / new).replace(base / name)
                sync_folder((base / name).parent)
        for each in told["gone"]:
            path = base / each
            with storage_errors(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        self.clear()

    def clear(self) -> None:
        """What stands in the head goes first: without it the rest means nothing."""
        with storage_errors(self.folder):
            (self.folder / _HEAD).unlink(missing_ok=True)
            for path in sorted(self.folder.iterdir(), key=lambda path: path.name == _COMMIT):
                if path.name != _LOCK:
                    path.unlink()
        sync_folder(self.folder)
        if self._locked is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def is_committed(self) -> bool:
        return (self.folder / _COMMIT).exists()

    def effective(self, path: Path) -> Path:
        """Where the file that is called `path` stands, which may not have got its name yet."""
        told = self._commit()
        for new, name in () if told is None else told["renames"]:
            if self.folder.parent / name == path and (self.folder.parent / new).exists():
                return self.folder.parent / str(new)
        return path

    def _commit(self) -> dict[str, Any] | None:
        path = self.folder / _COMMIT
        with storage_errors(path, READ):
            try:
                found: dict[str, Any] = json.loads(path.read_bytes())
            except FileNotFoundError:
                return None
        return found


class Segment:
    """What one flush wrote; `gone` are keys that it deleted. Nothing of it is held but while it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
                told = json.loads((reader.schema.metadata or {})[b"gone"])
                self.rows = sum(reader.get_batch(number).num_rows for number in range(reader.num_record_batches))
        except (pa.ArrowInvalid, KeyError, ValueError) as error:
            raise IntegrityError(f"{path} is damaged") from error
        self.gone = [RecordKey(id_, space) for id_, space in told]
        self._hashes: npt.NDArray[np.int64] | None = None

    def read(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        at = 0
        with pa.memory_map(str(self.path)) as file, pa.ipc.open_file(file) as reader:
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number).replace_schema_metadata(None)
                low, high = max(0, start - at), min(batch.num_rows, stop - at)
                if low < high:
                    yield batch.slice(low, high - low)
                at += batch.num_rows

    def keys(self, start: int, stop: int) -> Iterator[list[RecordKey]]:
        for batch in self.read(start, stop):
            yield record_keys(batch)

    def hashes(self) -> npt.NDArray[np.int64]:
        if self._hashes is None:
            parts = [hashes_in(plain_keys(batch)) for batch in self.read(0, self.rows)]
            self._hashes = np.concatenate([np.zeros(0, np.int64), *parts])
        return self._hashes


class Merged:
    """A collection whose files and segments are one: of each key the latest write."""

    findings: tuple[Finding, ...] = ()

    def __init__(
        self, spec: CollectionSpec, origin: Origin | None, base: Snapshot | None, segments: Sequence[Segment], mark: str
    ) -> None:
        self.spec, self.origin, self.mark = spec, origin, mark
        self._base = base
        self._parts: list[Snapshot | Segment] = [*([] if base is None else [base]), *segments]
        self._alive = _alive(self._parts)
        sizes = [
            part.rows if alive is None else len(alive) for part, alive in zip(self._parts, self._alive, strict=True)
        ]
        self._starts = [0, *np.cumsum(sizes, dtype=np.int64).tolist()]
        self.rows = self._starts[-1]
        self.parts = range(0, self.rows, _ROWS)

    def hashes(self) -> npt.NDArray[np.int64]:
        found = [np.zeros(0, np.int64)]
        for part, alive in zip(self._parts, self._alive, strict=True):
            found.append(part.hashes() if alive is None else part.hashes()[alive])
        return np.concatenate(found)

    def read(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        schema = stream_schema(self.spec)
        for part, low, high, rows in self._inside(start, stop):
            at = low
            for batch in part.read(low, high):
                at += batch.num_rows
                if rows is not None:
                    batch = batch.take(pa.array(_within(rows, at - batch.num_rows, at)))
                if batch.num_rows:
                    yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)

    def keys(self, start: int, stop: int) -> Iterator[list[RecordKey]]:
        for part, low, high, rows in self._inside(start, stop):
            at = low
            for keys in part.keys(low, high):
                at += len(keys)
                yield keys if rows is None else [keys[row] for row in _within(rows, at - len(keys), at).tolist()]

    def _inside(self, start: int, stop: int) -> Iterator[tuple[Any, int, int, npt.NDArray[np.int64] | None]]:
        """Each part that has some of these rows, from which to which of its own they stand, and which they are."""
        for number, (part, alive) in enumerate(zip(self._parts, self._alive, strict=True)):
            low, high = max(start, self._starts[number]), min(stop, self._starts[number + 1])
            if low >= high:
                continue
            low, high = low - self._starts[number], high - self._starts[number]
            rows = None if alive is None else alive[low:high]
            yield (part, low, high, None) if rows is None else (part, int(rows[0]), int(rows[-1]) + 1, rows)

    def require_unchanged(self) -> None:
        """The files are held open, and segments stay until the files are there."""

    def close(self) -> None:
        if self._base is not None:
            self._base.close()


def _within(rows: npt.NDArray[np.int64], low: int, high: int) -> npt.NDArray[np.int64]:
    """Those of the sorted `rows` from `low` to `high`, counted from `low`."""
    first, last = np.searchsorted(rows, [low, high])
    return rows[first:last] - low


def _alive(parts: Sequence[Any]) -> list[npt.NDArray[np.int64] | None]:
    """Of each part the rows that no later one wrote again or deleted; None: all of them.

    Keys are compared by their hashes first. Only those that share one with another are looked at themselves, which in a
    plain load are none.
    """
    gone = [getattr(part, "gone", []) for part in parts]
    hashes = [part.hashes() for part in parts]
    every = np.concatenate([np.zeros(0, np.int64), *hashes, *(hashes_of(keys, len(keys)) for keys in gone)])
    values, counts = np.unique(every, return_counts=True)
    shared = values[counts > 1]
    if not len(shared):
        return [None] * len(parts)
    latest: dict[RecordKey, tuple[int, int]] = {}
    dead: list[list[int]] = [[] for _ in parts]
    wanted = set(shared.tolist())
    for number, part in enumerate(parts):
        for key in gone[number]:
            if key_hash(key) in wanted and key in latest:
                where, row = latest.pop(key)
                dead[where].append(row)
        suspects = np.flatnonzero(np.isin(hashes[number], shared))
        for row, key in _keys_at(part, suspects):
            if key in latest:
                where, before = latest[key]
                dead[where].append(before)
            latest[key] = number, row
    return [
        None if not rows else np.setdiff1d(np.arange(len(found)), np.array(rows, np.int64))
        for rows, found in zip(dead, hashes, strict=True)
    ]


def _keys_at(part: Any, rows: npt.NDArray[np.int64]) -> Iterator[tuple[int, RecordKey]]:
    if not len(rows):
        return
    at, wanted = int(rows[0]), set(rows.tolist())
    for keys in part.keys(at, int(rows[-1]) + 1):
        for key in keys:
            if at in wanted:
                yield at, key
            at += 1
