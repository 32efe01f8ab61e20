"""What was written to a file and is not in it yet: segments beside it that make every flush durable.

A `.npy` file, an HDF5 file or a folder of Parquet cannot be added to without being written anew. So what arrives goes
into a folder beside it, one Arrow file for each flush with its rows and the keys that were deleted; `finish` writes the
files anew from what is there and in the segments. Until then a reader sees both as one collection, the latest write of
a key being the one that counts. The new files are written under other names; a list of them made durable is the moment
from which they are the collection, whether they have their names yet or not, so that a process killed anywhere leaves
either the old state with its segments or the new one.

Where the files are to be one matrix, the vectors of all segments go to a file of their own, which becomes that matrix
unless a key was written twice or deleted (see `growing`). A head of the second format says so; one of the first, as
earlier versions left it, is of segments that hold all of their rows, and is gone on with so.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.arrow import record_keys
from exitramp.durable import READ, make_folder, storage_errors, sync_folder, write_atomically
from exitramp.errors import FormatUnknown, IntegrityError, StoreRejected
from exitramp.ports import Origin
from exitramp.ports.gathered import plain_keys
from exitramp.records import CollectionSpec, RecordKey
from exitramp_adapters.stores.files.growing import Growing
from exitramp_adapters.stores.files.store import hashes_in
from exitramp_adapters.stores.files.syncing import Syncing

FORMAT: Final = 1
WITH_MATRIX: Final = 2
_HEAD, _COMMIT, _LOCK, _MATRIX = "collection.json", "commit.json", "lock", "matrix"


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

    def begin(self, spec: CollectionSpec, origin: Origin | None, begin: int | None = None) -> None:
        """With `begin`, vectors go to a file of their own, from that byte on."""
        told = {"format": FORMAT, "spec": spec.to_json(), "origin": None if origin is None else origin.to_json()}
        if begin is not None:
            told |= {"format": WITH_MATRIX, "begin": begin}
        make_folder(self.folder)
        write_atomically(self.folder / _HEAD, json.dumps(told, ensure_ascii=False).encode())

    def head(self) -> tuple[CollectionSpec, Origin | None, Growing | None]:
        """What is written, and where its vectors are if segments do not hold them."""
        path = self.folder / _HEAD
        try:
            with storage_errors(path, READ):
                told = json.loads(path.read_bytes())
            if told["format"] not in (FORMAT, WITH_MATRIX):
                raise FormatUnknown(f"{path}: format {told['format']!r} is not known to this program")
            origin = None if told["origin"] is None else Origin.from_json(told["origin"])
            spec = CollectionSpec.from_json(told["spec"])
            if told["format"] == FORMAT:
                return spec, origin, None
            [field] = spec.vectors
            return spec, origin, Growing(self.folder / _MATRIX, int(told["begin"]), field)
        except (KeyError, ValueError, TypeError) as error:
            raise IntegrityError(f"{path} is damaged") from error

    def segments(self, vectors: Growing | None) -> list[Segment]:
        return [Segment(path, vectors) for path in self._segments()]

    def add(self, batches: Sequence[pa.RecordBatch], schema: pa.Schema, gone: Sequence[RecordKey]) -> None:
        """Return when the rows and deletions are on the disk."""
        there = self._segments()
        number = int(there[-1].stem) + 1 if there else 1
        path = self.folder / f"{number:08d}.arrow"
        told = {b"gone": json.dumps([[key.id, key.namespace] for key in gone], ensure_ascii=False).encode()}
        *_, vectors = self.head()
        with storage_errors(path), ExitStack() as stack:
            first = Segment(there[-1], vectors).stop if there else 0
            new = path.with_suffix(".tmp")
            # Not a file of Python's: pyarrow does not look at how much of a write such a one took.
            file = stack.enter_context(pa.OSFile(str(new), "wb"))
            syncing = stack.enter_context(Syncing(new))
            if vectors is not None:
                told[b"first"] = str(first).encode()
                schema = schema.remove(schema.get_field_index(vectors.field.column))
                add_vectors = stack.enter_context(vectors.added(first))
            with pa.ipc.new_file(file, schema.with_metadata(told)) as writer:
                for batch in batches:
                    if vectors is not None:
                        add_vectors(batch)
                        batch = batch.drop_columns([vectors.field.column])
                    writer.write_batch(batch.replace_schema_metadata(told))
                    syncing.wrote(batch.nbytes)
            if vectors is not None:
                syncing.sync_soon()  # beside that of the vectors: ten flushes took 85 ms so, else 92
        with storage_errors(path):
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
        for folder in {(base / name).parent for _, name in told["renames"]}:
            sync_folder(folder)
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
    """What one flush wrote; `gone` are keys that it deleted. Nothing of it is held but while it is read.

    Where `vectors` have a file of their own, `first` is the number there of its first row, `stop` of the next one's.
    """

    def __init__(self, path: Path, vectors: Growing | None) -> None:
        self.path = path
        try:
            with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
                metadata = reader.schema.metadata or {}
                told = json.loads(metadata[b"gone"])
                self.rows = sum(reader.get_batch(number).num_rows for number in range(reader.num_record_batches))
            self.first = int(metadata[b"first"]) if b"first" in metadata else None
        except (pa.ArrowInvalid, KeyError, ValueError) as error:
            raise IntegrityError(f"{path} is damaged") from error
        self.stop = 0 if self.first is None else self.first + self.rows
        self.gone = [RecordKey(id_, space) for id_, space in told]
        self._hashes: npt.NDArray[np.int64] | None = None
        self._vectors = vectors
        if self.first is not None:
            if vectors is None:
                raise IntegrityError(f"{path} is no segment of what {path.with_name(_HEAD)} describes")
            vectors.require(self.stop)

    def read(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        for at, batch in self._stored(start, stop):
            if self.first is None or self._vectors is None:
                yield batch
            else:
                yield self._vectors.beside(batch, self.first + at)

    def _stored(self, start: int, stop: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """What stands in the segment itself, with the number of each batch's first row in it."""
        at = 0
        with pa.memory_map(str(self.path)) as file, pa.ipc.open_file(file) as reader:
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number).replace_schema_metadata(None)
                low, high = max(0, start - at), min(batch.num_rows, stop - at)
                if low < high:
                    yield at + low, batch.slice(low, high - low)
                at += batch.num_rows

    def keys(self, start: int, stop: int) -> Iterator[list[RecordKey]]:
        for _, batch in self._stored(start, stop):
            yield record_keys(batch)

    def hashes(self) -> npt.NDArray[np.int64]:
        if self._hashes is None:
            parts = [hashes_in(plain_keys(batch)) for _, batch in self._stored(0, self.rows)]
            self._hashes = np.concatenate([np.zeros(0, np.int64), *parts])
        return self._hashes
