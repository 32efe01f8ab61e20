"""The two files of a FAISS collection: the index, and the side-car with everything that an index has no room for.

`PATH` is an index file as FAISS writes it; row n of it is row n of `PATH.exitramp`, a Parquet file with the columns
`id`, `namespace`, `document`, `payload` (canonical JSON) and, for cosine only, `vector`: the index then holds unit
vectors, as FAISS has no cosine, and the originals would be lost without it. The Parquet key `exitramp` holds JSON:
format version, spec, origin, index factory, and the SHA-256 of the index file that belongs to it; the key
`exitramp.sha256` holds the SHA-256 of that JSON.

Both are written as `….new` and made durable, then the index is renamed, then the side-car. A process killed between
the two renames leaves an index whose side-car is still called `….new`; its hash tells that it belongs there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from exitramp.durable import READ, WRITTEN, path_error, storage_errors
from exitramp.errors import CollectionMissing, DataInvalid, FormatUnknown, IntegrityError, StoreRejected
from exitramp.ports import Origin
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp_adapters.stores._faiss_index import faiss_metric, metric_of, read_index, read_rows, sdk

FORMAT: Final = 1
METADATA_KEY: Final = b"exitramp"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A collection as its files hold it.

    `matrix` float32[rows, dimensions] holds the original vectors; `labels` int64[rows] what the index calls each row;
    `table` has the side-car's columns without `vector`.
    """

    spec: CollectionSpec
    origin: Origin | None
    factory: str
    index: Any
    labels: npt.NDArray[np.int64]
    matrix: npt.NDArray[np.float32]
    table: pa.Table
    has_side_car: bool


def side_car_path(path: Path) -> Path:
    return path.with_name(path.name + ".exitramp")


def _new(path: Path) -> Path:
    return path.with_name(path.name + ".new")


def signature(path: Path) -> tuple[tuple[int, int, int] | None, ...]:
    """What changes when either file is replaced, so that a reader knows when to read again."""
    found: list[tuple[int, int, int] | None] = []
    for each in (path, side_car_path(path)):
        with storage_errors(each, READ):
            try:
                stat = each.stat()
            except FileNotFoundError:
                found.append(None)
            else:
                found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def table_schema() -> pa.Schema:
    """The side-car's columns beside `vector`."""
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("namespace", pa.string()),
            pa.field("document", pa.string()),
            pa.field("payload", pa.string()),
        ]
    )


def load(path: Path, name: str | None) -> Loaded:
    """Read both files, the side-car being optional.

    Raises `CollectionMissing`; `IntegrityError` naming both files where they do not belong together; `DataInvalid`
    naming an index type that does not give vectors back as they were.
    """
    for _ in range(3):  # a writer may rename its files between our looking at one and at the other
        before = signature(path)
        try:
            return _load(path, name)
        except IntegrityError:
            if signature(path) == before:
                raise
    return _load(path, name)


def _load(path: Path, name: str | None) -> Loaded:
    side_car = side_car_path(path)
    if not path.exists():
        if side_car.exists():
            raise IntegrityError(f"{side_car} is there without the index {path} that it belongs to")
        raise CollectionMissing(f"there is no index file {path}")
    index = read_index(path)
    if not side_car.exists() and not _new(side_car).exists():
        return _without_side_car(path, name, index)
    about, table = _matching_side_car(path)
    spec = CollectionSpec.from_json(about["spec"])
    _, labels, stored = read_rows(path, index)
    if table.num_rows != len(stored):
        raise IntegrityError(f"{path} holds {len(stored)} vectors and {side_car} {table.num_rows} records")
    [field] = spec.vectors
    if (field.dimensions, faiss_metric(field.metric)) != (index.d, index.metric_type):
        raise IntegrityError(f"{path} is not an index of what {side_car} describes: {field.metric}, {field.dimensions}")
    matrix = _originals(table, stored.shape) if field.metric is Metric.COSINE else stored
    origin = None if about["origin"] is None else Origin.from_json(about["origin"])
    held = pa.Table.from_arrays([table.column(each) for each in table_schema().names], schema=table_schema())
    return Loaded(spec, origin, str(about["factory"]), index, labels, matrix, held, True)


def _matching_side_car(path: Path) -> tuple[dict[str, Any], pa.Table]:
    digest = file_sha256(path)
    for candidate in (side_car_path(path), _new(side_car_path(path))):
        if not candidate.exists():
            continue
        try:
            about = _about(candidate)
        except IntegrityError:
            if candidate == side_car_path(path):
                raise
            continue  # a side-car that was not written to its end belongs to no index
        if about.get("index_sha256") == digest:
            try:
                return about, pq.read_table(candidate, page_checksum_verification=True)
            except (OSError, pa.ArrowException) as error:
                raise IntegrityError(f"{candidate} is damaged") from error
    raise IntegrityError(
        f"{side_car_path(path)} belongs to another index than {path}: the SHA-256 it holds is not that file's",
        hint="put the two files back that were written together, or move the side-car away to read vectors alone",
    )


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


def _originals(table: pa.Table, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    if not table.num_rows:
        return np.zeros(shape, np.float32)
    column = table.column("vector").combine_chunks()
    values = column.values.slice(column.offset * shape[1], len(column) * shape[1])
    found: npt.NDArray[np.float32] = np.asarray(values.to_numpy(zero_copy_only=False), np.float32).reshape(shape)
    return found


def _without_side_car(path: Path, name: str | None, index: Any) -> Loaded:
    """What an index alone tells: integer ids (of an IDMap, else row numbers), vectors, the metric."""
    ids, labels, matrix = read_rows(path, index)
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) != len(ids):
        raise DataInvalid(
            f"{path} holds the id {unique[counts > 1][0]} more than once",
            hint="FAISS does not replace on adding; remove the older rows with remove_ids first",
        )
    field = VectorField("", VectorKind.DENSE, DType.FLOAT32, metric_of(path, index), int(index.d))
    about = {"type": type(index).__name__}
    spec = CollectionSpec(name or path.stem, IdKind.INT64, (field,), index=about)
    nothing = pa.nulls(len(ids), pa.string())
    table = pa.Table.from_arrays(
        [pa.array([str(id_) for id_ in ids.tolist()], pa.string()), nothing, nothing, nothing], schema=table_schema()
    )
    return Loaded(spec, None, "", index, labels, matrix, table, False)


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save(path: Path, loaded: Loaded) -> None:
    """Write both files and return when they are durable. Raises as `durable.path_error` says where the disk refuses."""
    side_car = side_car_path(path)
    with _disk(path):
        _take_up(path)
        _new(path).open("wb").close()  # FAISS would not say why it cannot write there
        sdk().write_index(loaded.index, str(_new(path)))
        _fsync(_new(path))
        about = {
            "format": FORMAT,
            "index_sha256": file_sha256(_new(path)),
            "factory": loaded.factory,
            "spec": loaded.spec.to_json(),
            "origin": None if loaded.origin is None else loaded.origin.to_json(),
        }
        table = loaded.table
        if loaded.spec.vectors[0].metric is Metric.COSINE:
            items = pa.array(np.ascontiguousarray(loaded.matrix).reshape(-1), pa.float32())
            table = table.append_column("vector", pa.FixedSizeListArray.from_arrays(items, loaded.matrix.shape[1]))
        text = json.dumps(about, ensure_ascii=False).encode()
        metadata = {METADATA_KEY: text, METADATA_KEY + b".sha256": hashlib.sha256(text).hexdigest().encode()}
        pq.write_table(
            table.replace_schema_metadata(metadata),
            _new(side_car),
            # Floats neither compress nor repeat: trying took four of the five seconds that 100,000 x 384 needed.
            compression={name: "none" if name == "vector" else "zstd" for name in table.schema.names},
            use_dictionary=["namespace"],
            write_page_checksum=True,
        )
        _fsync(_new(side_car))
        _fsync(path.parent)
        _new(path).replace(path)
        _fsync(path.parent)
        _new(side_car).replace(side_car)
        _fsync(path.parent)


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
    """What the file system or FAISS's writer raises, as an error of ours; nothing half-written keeps its name."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if os.path.exists(_new(path)):  # once the index has its name, the new side-car is the only one that fits it
            for each in (_new(path), _new(side_car_path(path))):
                with suppress(OSError):
                    each.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise path_error(path, error, WRITTEN) from error
        raise StoreRejected(f"{path}: FAISS could not write the index", hint="is there room on that disk?") from error
