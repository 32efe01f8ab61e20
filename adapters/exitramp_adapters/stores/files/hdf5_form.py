"""What stands in an HDF5 file beside its vectors: ids, documents and payloads, and queries for those who measure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from exitramp.arrow import stream_schema
from exitramp.durable import READ, WRITTEN, path_error, storage_errors
from exitramp.errors import DataInvalid, FormatUnknown, IntegrityError, UsageError
from exitramp.ports import Origin
from exitramp.records import CollectionSpec, DType, Finding, IdKind, Metric, RecordKey, VectorField
from exitramp_adapters.stores.files.formats import CHUNK_ROWS
from exitramp_adapters.stores.files.matrix import RowNumbers
from exitramp_adapters.stores.files.number_forms import NUMPY
from exitramp_adapters.stores.files.search import distances
from exitramp_adapters.stores.files.store import hashes_of

FORMAT: Final = 1
TEXTS: Final = ("id", "namespace", "document", "payload")
HEAD_BYTES: Final = 4096
_NEIGHBOURS: Final = 100
_TOGETHER_BYTES: Final = 4 * 2**20
_TOGETHER: Final = 64  # batches, of which a row of one without texts takes nine bytes


class open_file:
    """An HDF5 file; what h5py and the system raise about it is an error of ours that names it."""

    def __new__(cls, path: Path, mode: str = "r", **settings: int) -> Any:
        import h5py

        if mode == "r":
            with storage_errors(path, READ):
                path.open("rb").close()
        try:
            return h5py.File(path, mode, **settings)
        except OSError as error:
            if error.errno is not None:
                raise path_error(path, error, READ if mode == "r" else WRITTEN) from error
            raise DataInvalid(f"{path}: no HDF5 file that can be read") from error


class Beside:
    """The group `exitramp`: each text column as all its bytes, where each row ends, and which rows have none."""

    findings: tuple[Finding, ...] = ()

    def __init__(self, path: Path, file: Any) -> None:
        self._file, self._group = file, file["exitramp"]
        try:
            told = json.loads(bytes(self._group["about"][:]))
            if told["format"] != FORMAT:
                raise FormatUnknown(f"{path}: format {told['format']!r} is not known to this program")
            self.spec = CollectionSpec.from_json(told["spec"])
            self.origin = None if told["origin"] is None else Origin.from_json(told["origin"])
            # Once: a group looks a name up anew each time that it is asked.
            self._datasets = {name: self._group[name] for name in self._group if name != "about"}
            self.rows = len(self._datasets["id.ends"])
        except (KeyError, ValueError) as error:
            raise IntegrityError(f"{path}: the group 'exitramp' is damaged") from error
        self.parts = range(0, self.rows, CHUNK_ROWS)
        self.mark = ""

    def _column(self, name: str, start: int, stop: int) -> pa.Array:
        ends = self._datasets[f"{name}.ends"][max(0, start - 1) : stop]
        offsets = ends if start else np.concatenate([[0], ends])
        content = self._datasets[f"{name}.bytes"][offsets[0] : offsets[-1]]
        absent = self._datasets[f"{name}.absent"][start:stop]
        places = (offsets - offsets[0]).astype(np.int64)
        if len(places) and places.min() >= 0 and places.max() < 2**31:
            short = pa.py_buffer(places.astype(np.int32))
            found = pa.StringArray.from_buffers(len(absent), short, pa.py_buffer(content))
        else:
            found = pa.LargeStringArray.from_buffers(len(absent), pa.py_buffer(places), pa.py_buffer(content))
        found.validate(full=True)
        found = found.cast(pa.string())
        return pc.if_else(pa.array(absent), pa.scalar(None, pa.string()), found) if absent.any() else found

    def read(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        schema = pa.schema([field for field in stream_schema(self.spec) if field.name in TEXTS])
        for at in range(start, stop, CHUNK_ROWS):
            columns = [self._column(name, at, min(stop, at + CHUNK_ROWS)) for name in schema.names]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    def keys(self, start: int, stop: int) -> Iterator[list[RecordKey]]:
        for at in range(start, stop, CHUNK_ROWS):
            names = (self._column(name, at, min(stop, at + CHUNK_ROWS)).to_pylist() for name in ("id", "namespace"))
            yield [RecordKey(id_, space) for id_, space in zip(*names, strict=True)]

    def hashes(self) -> npt.NDArray[np.int64]:
        parts = [hashes_of(keys, len(keys)) for keys in self.keys(0, self.rows)]
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def require_unchanged(self) -> None:
        """It is held open."""

    def close(self) -> None:
        self._file.close()


class Ids(RowNumbers):
    """Records that are nothing but the ids in a dataset of somebody's own."""

    def __init__(self, path: Path, file: Any, name: str, called: str, rows: int) -> None:
        super().__init__(called, rows)
        found = file.get(name)
        if found is None or found.shape != (rows,) or found.dtype.kind not in "iuSO":
            raise UsageError(
                f"{path}: id={name}: there is no dataset of {rows} integers or texts of that name",
                hint=f"there are {', '.join(sorted(file))}",
            )
        values = found[:] if found.dtype.kind in "iu" else found.asstr()[:]
        self._ids = pa.array([str(each) for each in values.tolist()], pa.string())
        numbers = found.dtype.kind in "iu"
        kind = (IdKind.UINT64 if not rows or values.min() >= 0 else IdKind.INT64) if numbers else IdKind.STRING
        self.spec = CollectionSpec(called, kind, ())
        counts = self._ids.value_counts()
        twice = [each["values"] for each in counts.to_pylist() if each["counts"] > 1]
        if twice:
            at = [row + 1 for row, id_ in enumerate(self._ids.to_pylist()) if id_ == twice[0]]
            raise DataInvalid(f"{path}: the id '{twice[0]}' stands twice in '{name}': row {at[0]} and row {at[1]}")

    def read(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        for at in range(start, stop, CHUNK_ROWS):
            ids = self._ids.slice(at, min(stop, at + CHUNK_ROWS) - at)
            yield pa.RecordBatch.from_arrays([ids, pa.nulls(len(ids), pa.string())], schema=stream_schema(self.spec))


def head_of_matrix(beside: Path, field: VectorField, rows: int) -> bytes | None:
    """The first bytes of an HDF5 file whose dataset `train` are the `rows` that stand behind them as they are.

    The library makes such a file at `beside`, told where to put large things and to fill nothing in. None where it puts
    them elsewhere, as it does with rows of less than 4 KiB in all.
    """
    from h5py import h5d, h5p, h5s, h5t

    place = {"alignment_threshold": HEAD_BYTES, "alignment_interval": HEAD_BYTES}
    with open_file(beside, "w", **place) as file:
        how = h5p.create(h5p.DATASET_CREATE)
        how.set_layout(h5d.CONTIGUOUS)
        how.set_alloc_time(h5d.ALLOC_TIME_EARLY)
        how.set_fill_time(h5d.FILL_TIME_NEVER)
        kind, space = h5t.py_create(NUMPY[field.dtype]), h5s.create_simple((rows, field.item_count))
        train = h5d.create(file.id, b"train", kind, space, how)
        begin, size = train.get_offset(), train.get_storage_size()
        del train
    with storage_errors(beside), beside.open("rb") as made:
        head = made.read(HEAD_BYTES)
        whole = made.seek(0, 2) == HEAD_BYTES + size
    with storage_errors(beside):
        beside.unlink()
    return head if begin == HEAD_BYTES and whole else None


class TextsWriter:
    """A column of texts on its way into the group. Some MiB of it are gathered and written at once: batch by batch the
    library's own work was more than the writing, 14 ms of 20,000 rows in four columns and not 7."""

    def __init__(self, group: Any, name: str, rows: int) -> None:
        self._name = name
        self._ends = group.create_dataset(f"{name}.ends", (rows,), np.int64)
        self._absent = group.create_dataset(f"{name}.absent", (rows,), bool)
        self._bytes = group.create_dataset(f"{name}.bytes", (0,), np.uint8, maxshape=(None,), chunks=(1 << 18,))
        self._at = self._written = self._size = 0
        self._gathered: list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.bool_]]] = []

    def add(self, batch: pa.RecordBatch) -> None:
        rows = batch.num_rows
        column = batch.column(self._name) if self._name in batch.schema.names else pa.nulls(rows, pa.string())
        absent = column.is_null().to_numpy(zero_copy_only=False)
        texts = pc.fill_null(column, "").cast(pa.large_binary())  # the texts that are there, without a gap
        _, places, data = texts.buffers()
        offsets = np.frombuffer(places, np.int64, rows + 1, 8 * texts.offset)
        content = np.frombuffer(b"" if data is None else data, np.uint8)[offsets[0] : offsets[-1]]
        self._gathered.append((content, self._size + offsets[1:] - offsets[0], absent))
        self._size += len(content)
        if self._size - self._written > _TOGETHER_BYTES or len(self._gathered) == _TOGETHER:
            self.write()

    def write(self) -> None:
        """Write what is gathered."""
        if not self._gathered:
            return
        content, ends, absent = map(np.concatenate, zip(*self._gathered, strict=True))
        self._gathered.clear()
        if len(content):
            self._bytes.resize((self._size,))
            self._bytes[self._written :] = content
        rows = slice(self._at, self._at + len(ends))
        self._ends[rows], self._absent[rows] = ends, absent
        self._at, self._written = rows.stop, self._size


def write_queries(file: Any, train: Any, field: VectorField, count: int) -> None:
    """So many rows, the same for the same number of them, as queries with their exact neighbours."""
    rows = len(train)
    chosen = np.sort(np.random.default_rng(0).choice(rows, count, replace=False))
    queries = train[chosen]
    depth = min(_NEIGHBOURS, rows)
    best = np.full((count, depth), np.inf)
    found = np.full((count, depth), -1, np.int64)
    for start in range(0, rows, CHUNK_ROWS):
        part = train[start : start + CHUNK_ROWS]
        places = np.arange(start, start + len(part))
        for number, query in enumerate(queries):
            if field.dtype is DType.BINARY:
                far = np.mean(part != query, axis=1)
            else:
                far = distances(field, query, part) + (1.0 if field.metric is Metric.COSINE else 0.0)
            both, where = np.concatenate([best[number], far]), np.concatenate([found[number], places])
            order = np.argsort(both, kind="stable")[:depth]
            best[number], found[number] = both[order], where[order]
    file["test"], file["neighbors"], file["distances"] = queries, found, best


def plain_attribute(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return (
        value.item() if isinstance(value, np.generic) else value if isinstance(value, str | int | float) else str(value)
    )
