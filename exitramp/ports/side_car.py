"""The two files of a collection in an index file: the index, and the side-car with all that an index has no room for.

`PATH` is an index file as its library writes it; `PATH.exitramp` is a Parquet file with the columns `id`, `namespace`,
`document` and `payload` (canonical JSON), and two more where they are needed: `label`, uint64, is what the index calls
the record (without it, row n of the index is row n of the side-car); `vector` holds the originals where the index does
not give them back. The Parquet key `exitramp` holds JSON: format version, spec, origin, how the index is made, and the
SHA-256 of the index file that belongs to it; the key `exitramp.sha256` holds the SHA-256 of that JSON.

Both are written as `….new` and made durable, then the index is renamed, then the side-car. A process killed between
the two renames leaves an index whose side-car is still called `….new`; its hash tells that it belongs there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from exitramp.durable import READ, WRITTEN, path_error, storage_errors
from exitramp.errors import ExitrampError, FormatUnknown, IntegrityError, StoreRejected
from exitramp.ports.index_bytes import Bytes, HashedFile, VectorsAt, hash_file
from exitramp.ports.reading import Origin
from exitramp.ports.side_car_columns import Columns, read_columns, write_columns
from exitramp.records import CollectionSpec

FORMAT: Final = 1
METADATA_KEY: Final = b"exitramp"
FileState = tuple[int, int, int] | None
Signature = tuple[FileState, ...]


@dataclass(frozen=True, slots=True)
class SideCar:
    """What a side-car says. `factory` is how its index is made, in the adapter's words. `data` are the bytes of its
    index, whose hash is right, where they were wanted."""

    spec: CollectionSpec
    origin: Origin | None
    factory: str
    columns: Columns
    data: Bytes | None = None


def side_car_path(path: Path) -> Path:
    return path.with_name(path.name + ".exitramp")


def _new(path: Path) -> Path:
    return path.with_name(path.name + ".new")


def signature(path: Path) -> Signature:
    """What changes when either file is replaced, so that a reader knows when to read again; None: it is not there."""
    return _signature(path, side_car_path(path))


def _signature(*paths: Path) -> Signature:
    found: list[tuple[int, int, int] | None] = []
    for each in paths:
        with storage_errors(each, READ):
            try:
                stat = each.stat()
            except FileNotFoundError:
                found.append(None)
            else:
                found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def read_side_car(path: Path, vectors_at: VectorsAt = lambda head: None) -> SideCar | None:
    """The side-car of the index file `path`; None where there is none.

    `vectors_at` tells whether the index's own bytes are wanted too. Raises `IntegrityError` naming both files where
    they do not belong together, or the one that is damaged.
    """
    side_car = side_car_path(path)
    if not path.exists():
        raise IntegrityError(f"{side_car} is there without the index {path} that it belongs to")
    if not side_car.exists() and not _new(side_car).exists():
        return None
    hashed: HashedFile | None = None
    with ThreadPoolExecutor(1) as other:
        hashing = other.submit(hash_file, path, vectors_at)  # of 20,000 x 384 twice as long as reading the side-car
        for candidate in (side_car, _new(side_car)):
            if not candidate.exists():
                continue
            try:
                about = _about(candidate)
            except IntegrityError:
                if candidate == side_car:
                    raise
                continue  # a side-car that was not written to its end belongs to no index
            found, damage = _columns_or_damage(candidate)
            hashed = hashed or hashing.result()
            if about.get("index_sha256") == hashed.sha256:
                if found is None:
                    raise IntegrityError(f"{candidate} is damaged") from damage
                origin = None if about["origin"] is None else Origin.from_json(about["origin"])
                spec = CollectionSpec.from_json(about["spec"])
                return SideCar(spec, origin, str(about["factory"]), found, hashed.data)
    raise IntegrityError(
        f"{side_car} belongs to another index than {path}: the SHA-256 it holds is not that file's",
        hint="put the two files back that were written together, or move the side-car away to read vectors alone",
    )


def _columns_or_damage(side_car: Path) -> tuple[Columns | None, Exception | None]:
    """What keeps the columns from being read is said only of one that belongs to the index."""
    try:
        return read_columns(side_car), None
    except (OSError, pa.ArrowException) as error:
        return None, error


def _about(side_car: Path) -> dict[str, Any]:
    """What a side-car says of itself, whose own hash stands beside it, since Parquet checks its pages only."""
    with storage_errors(side_car, READ):
        side_car.open("rb").close()  # one that may not be read is not for that damaged
    try:
        metadata = pq.read_metadata(side_car).metadata or {}
        text = metadata[METADATA_KEY]
        if hashlib.sha256(text).hexdigest().encode() != metadata[METADATA_KEY + b".sha256"]:
            raise ValueError("another hash")
        about: dict[str, Any] = json.loads(text)
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise IntegrityError(f"{side_car} is damaged, or no side-car of exitramp") from error
    if about.get("format") != FORMAT:
        raise FormatUnknown(f"{side_car}: side-car format {about.get('format')!r} is not known to this program")
    return about


def file_sha256(path: Path) -> str:
    with storage_errors(path, READ), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_both(path: Path, write_index: Callable[[Path], None], told: SideCar, before: Signature) -> Signature:
    """Write both files and return when they are durable; `write_index` writes the index under the path it is given.

    Returns their signature, which a rename does not change, so that nobody else's can be taken for it. Raises
    `StoreRejected` where another process is writing there, or has since the files had the signature `before`, and as
    `durable.path_error` says where the disk refuses.
    """
    side_car = side_car_path(path)
    with _alone(path), _disk(path):
        if signature(path) != before:
            _new(path).unlink(missing_ok=True)
            raise written_meanwhile(path)
        _take_up(path)
        _new(path).open("wb").close()  # the index's library would not say why it cannot write there
        write_index(_new(path))
        with ThreadPoolExecutor(1) as other:  # the disk is busy with it, and a processor
            digest = other.submit(file_sha256, _new(path))
            _fsync(_new(path))
        about = {
            "format": FORMAT,
            "index_sha256": digest.result(),
            "factory": told.factory,
            "spec": told.spec.to_json(),
            "origin": None if told.origin is None else told.origin.to_json(),
        }
        text = json.dumps(about, ensure_ascii=False).encode()
        metadata = {METADATA_KEY: text, METADATA_KEY + b".sha256": hashlib.sha256(text).hexdigest().encode()}
        write_columns(_new(side_car), told.columns, metadata)
        _fsync(_new(side_car))
        _fsync(path.parent)
        written = _signature(_new(path), _new(side_car))
        _new(path).replace(path)
        _fsync(path.parent)
        _new(side_car).replace(side_car)
        _fsync(path.parent)
    return written


def written_meanwhile(path: Path) -> StoreRejected:
    return StoreRejected(
        f"{path} was written by somebody else meanwhile; nothing was overwritten",
        hint="let one writer at a time work on an index file, then run this again",
    )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Held while both are written: two writers have the same names for what is not whole yet.

    The lock is on the new index itself, so that no file of its own is left behind. It goes where that is renamed to:
    who waited for the name in between has another file than now has it.
    """
    new = _new(path)
    try:
        handle = os.open(new, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise path_error(path, error, WRITTEN) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(handle), new.stat()):
            raise BlockingIOError
    except (BlockingIOError, FileNotFoundError):
        os.close(handle)
        raise StoreRejected(
            f"{path}: another process is writing there", hint="let one writer at a time, then run this again"
        ) from None
    try:
        yield
    finally:
        os.close(handle)


def _take_up(path: Path) -> None:
    """Give a side-car whose writer was killed before its rename the name it was meant to have, before a new one is
    written over it: until then it is the only one that fits the index."""
    waiting = _new(side_car_path(path))
    if not (path.exists() and waiting.exists()):
        return
    try:
        belongs = _about(waiting).get("index_sha256") == file_sha256(path)
    except IntegrityError:
        return  # not written to its end, so the index was not renamed either
    if belongs:
        waiting.replace(side_car_path(path))
        _fsync(path.parent)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """What the file system or the index's writer raises, as an error of ours; nothing half-written keeps its name."""
    try:
        yield
    except (OSError, RuntimeError, ExitrampError) as error:
        if os.path.exists(_new(path)):  # once the index has its name, the new side-car is the only one that fits it
            for each in (_new(path), _new(side_car_path(path))):
                with suppress(OSError):
                    each.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise path_error(path, error, WRITTEN) from error
        if isinstance(error, ExitrampError):  # of what was there before and is to be kept
            raise
        raise StoreRejected(f"{path}: the index could not be written", hint="is there room on that disk?") from error
