"""`hdf5:./articles.hdf5`: files in the layout of ann-benchmarks, which many index libraries read.

The dataset `train` holds the vectors, the attribute `distance` (angular, euclidean, hamming) says how they are compared.
What else a record has stands in the group `exitramp`, which other readers leave alone: keys, documents and payloads just
as they are. A file of somebody else holds no such group: ids are row numbers then, from 0, or those of the dataset that
`?id=` names. Its queries and their neighbours (`test`, `neighbors`, `distances`) are no records and are not read; with
`?queries=100` so many rows are written as queries too, with their 100 exact neighbours.

The file is held open and read in slices. Writing goes by way of a folder beside it until the load is finished; then the
file is written anew: 100,000 x 384 took 1.2 s.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from exitramp.arrow import dense_matrix, stream_schema
from exitramp.durable import READ, WRITTEN, path_error, storage_errors
from exitramp.errors import CollectionExists, CollectionMissing, DataInvalid, FormatUnknown, IntegrityError, UsageError
from exitramp.ports import DocumentRoom, NameRule, Origin, PayloadLimits, SinkLimits, StoreAdapter
from exitramp.records import CollectionSpec, DType, Finding, IdKind, Metric, RecordKey, VectorField, VectorKind
from exitramp.urls import Address, Network
from exitramp_adapters.stores._files_formats import CHUNK_ROWS
from exitramp_adapters.stores._files_matrix import RowNumbers, Rows, WithMatrix, numbers_of, odd_rows
from exitramp_adapters.stores._files_numbers import NUMPY
from exitramp_adapters.stores._files_options import dtype_said, metric_said
from exitramp_adapters.stores._files_search import FilesSearch, distances
from exitramp_adapters.stores._files_sink import ALL_TYPES, BATCH_ROWS, StagedStore, sync_file
from exitramp_adapters.stores._files_store import Snapshot, hashes_of

FORMAT: Final = 1
_DISTANCES: Final = {"angular": Metric.COSINE, "euclidean": Metric.EUCLIDEAN, "hamming": Metric.HAMMING}
_TEXTS: Final = ("id", "namespace", "document", "payload")
_NEIGHBOURS: Final = 100
_DTYPES: Final = frozenset(DType)


class Hdf5Store(StagedStore):
    """One HDF5 file."""

    scheme = "hdf5"

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        address.only_options("metric", "metrics", "dtype", "id", "queries")
        self.path: Path = address.path
        queries = address.option("queries", "0")
        if not str(queries).isdecimal():
            raise UsageError(f"{address}: queries={queries} is no number of rows")
        self._queries = int(str(queries))

    def version(self) -> str:
        import h5py

        return f"h5py {h5py.__version__}"

    def search(self) -> FilesSearch:
        self.require_open()
        return FilesSearch(self)

    def limits(self) -> SinkLimits:
        return SinkLimits(
            id_kinds=frozenset(IdKind),
            metrics=frozenset(_DISTANCES.values()),
            payload=PayloadLimits(
                types=ALL_TYPES,
                item_types=ALL_TYPES,
                mixed_lists=True,
                nested=True,
                empty_lists=True,
                empty_objects=True,
                integer_bits=8192,
            ),
            names=NameRule(maximum=10_000),
            dtypes=_DTYPES,
            namespaces=True,
            documents=DocumentRoom.NATIVE,
            nonfinite_vectors=True,
            keeps_origin=True,
            batch_rows=BATCH_ROWS,
        )

    def staging_folder(self, name: str | None) -> Path:
        return self.path.with_name(self.path.name + ".exitramp-load")

    def base_paths(self) -> list[Path]:
        return [self.path]

    def has_base(self) -> bool:
        return self._at().exists()

    def _at(self) -> Path:
        return self.staging_of(None).effective(self.path)

    def require_own(self) -> None:
        if self.has_base():
            with open_file(self._at()) as file:
                if "exitramp" not in file:
                    raise CollectionExists(
                        f"{self.path} is a file that exitramp did not write", hint="write to another path"
                    )

    def open_base(self) -> Snapshot:
        path = self._at()
        file = open_file(path)
        train = file.get("train")
        if train is None or len(train.shape) != 2 or file.attrs.get("type", "dense") == "sparse":
            there = ", ".join(sorted(file)) or "nothing"
            file.close()
            raise DataInvalid(
                f"{path}: there is no dense dataset 'train' with a vector in each row (it holds {there})",
                hint="sparse sets of ann-benchmarks, sets of numbers under jaccard, are not read",
            )
        rows: Rows = lambda start, stop: train[start:stop]  # noqa: E731
        if "exitramp" not in file:
            return self._foreign(path, file, rows)
        records = _Beside(path, file)
        [field] = records.spec.vectors
        wanted = self.address.collection
        if wanted is not None and records.spec.name != wanted:
            raise CollectionMissing(f"{path} holds the collection '{records.spec.name}', not '{wanted}'")
        dtype = np.dtype(bool) if field.dtype is DType.BINARY else NUMPY[field.dtype]
        if train.dtype != dtype or train.shape[1] != field.dimensions or len(train) != records.rows:
            raise IntegrityError(f"{path}: 'train' is not what the group 'exitramp' describes")
        if field.dtype is DType.BINARY:
            rows = lambda start, stop: np.packbits(train[start:stop], axis=1)  # noqa: E731
        return WithMatrix(records, field, rows, len(train), paths=[path], spec=records.spec, held=True)

    def _foreign(self, path: Path, file: Any, rows: Rows) -> Snapshot:
        train = file["train"]
        count, items = train.shape
        said = dtype_said(self.address, "", "")
        if said is None and file.attrs.get("point_type") == "bit":
            said = DType.BINARY
        if said is DType.BINARY and train.dtype != np.dtype(bool) and file.attrs.get("point_type") == "bit":
            bits = rows
            rows = lambda start, stop: bits(start, stop).astype(bool)  # noqa: E731
        found = np.dtype(bool) if said is DType.BINARY and file.attrs.get("point_type") == "bit" else train.dtype
        dtype, cast = numbers_of(found, said, rows, count, str(path))
        packed = dtype is DType.BINARY and found != np.dtype(bool)
        if dtype is DType.BINARY and not packed and items % 8:
            raise DataInvalid(f"{path}: vectors of {items} bits, which come in eights")
        dimensions = items * 8 if packed else items
        field = VectorField("", VectorKind.DENSE, dtype, self._metric(path, file), dimensions)
        findings = odd_rows(cast, count, dtype)
        name = self.address.collection or self.path.stem
        ids = self.address.option("id")
        records: Snapshot | RowNumbers = RowNumbers(name, count) if ids is None else _Ids(path, file, ids, name, count)
        if ids is None:
            findings.append(Finding("source.row_numbers", f"{path} has no ids: they are row numbers, from 0"))
        if "test" in file:
            text = f"{len(file['test'])} queries in 'test', and their neighbours, are no records and are not read"
            findings.append(Finding("source.queries", text))
        about = {"hdf5": {key: _plain(value) for key, value in file.attrs.items()}}
        spec = CollectionSpec(name, records.spec.id_kind, (field,), index=about)
        return WithMatrix(records, field, cast, count, paths=[path], spec=spec, findings=findings)

    def _metric(self, path: Path, file: Any) -> Metric:
        told = file.attrs.get("distance")
        told = told.decode() if isinstance(told, bytes) else told
        if self.address.option("metric") or self.address.option("metrics") or told is None:
            return metric_said(self.address, "", "train")
        if told not in _DISTANCES:
            raise DataInvalid(
                f"{path}: the distance '{told}' is not known", hint=f"known are {', '.join(_DISTANCES)}; or say ?metric=…"
            )
        return _DISTANCES[told]

    def write_base(self, held: Snapshot) -> tuple[Mapping[Path, Path], Sequence[Path]]:
        new = self.path.with_name(self.path.name + ".new")
        [field] = held.spec.vectors
        bits = field.dtype is DType.BINARY
        with storage_errors(new):
            new.unlink(missing_ok=True)
        with open_file(new, "w") as file:
            file.attrs["type"] = "dense"
            file.attrs["distance"] = next(name for name, metric in _DISTANCES.items() if metric is field.metric)
            file.attrs["dimension"] = field.dimensions
            file.attrs["point_type"] = "bit" if bits else "float"
            dtype = np.dtype(bool) if bits else NUMPY[field.dtype]
            train = file.create_dataset("train", (held.rows, field.dimensions), dtype)
            group = file.create_group("exitramp")
            texts = [_Texts(group, name, held.rows) for name in _TEXTS]
            at = 0
            for batch in held.read(0, held.rows):
                matrix = dense_matrix(batch.column(field.column))
                train[at : at + batch.num_rows] = np.unpackbits(matrix, axis=1) if bits else matrix
                for each in texts:
                    each.add(batch, at)
                at += batch.num_rows
            origin = None if held.origin is None else held.origin.to_json()
            told = {"format": FORMAT, "spec": held.spec.to_json(), "origin": origin}
            group["about"] = np.frombuffer(json.dumps(told, ensure_ascii=False).encode(), np.uint8)
            if self._queries:
                _write_queries(file, train, field, min(self._queries, held.rows))
        sync_file(new)
        return {new: self.path}, []


class open_file:  # noqa: N801  (a file, as `open` is)
    """An HDF5 file; what h5py and the system raise about it is an error of ours that names it."""

    def __new__(cls, path: Path, mode: str = "r") -> Any:
        import h5py

        if mode == "r":
            with storage_errors(path, READ):
                path.open("rb").close()
        try:
            return h5py.File(path, mode, locking=False)
        except OSError as error:
            if error.errno is not None:
                raise path_error(path, error, READ if mode == "r" else WRITTEN) from error
            raise DataInvalid(f"{path}: no HDF5 file that can be read") from error


class _Beside:
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
            self.rows = len(self._group["id.ends"])
        except (KeyError, ValueError) as error:
            raise IntegrityError(f"{path}: the group 'exitramp' is damaged") from error
        self.parts = range(0, self.rows, CHUNK_ROWS)
        self.mark = ""

    def _column(self, name: str, start: int, stop: int) -> pa.Array:
        ends = self._group[f"{name}.ends"][max(0, start - 1) : stop]
        offsets = ends if start else np.concatenate([[0], ends])
        content = self._group[f"{name}.bytes"][offsets[0] : offsets[-1]]
        absent = self._group[f"{name}.absent"][start:stop]
        places = pa.array((offsets - offsets[0]).astype(np.int64))
        found = pa.LargeStringArray.from_buffers(len(absent), places.buffers()[1], pa.py_buffer(content))
        found.validate(full=True)
        return pc.if_else(pa.array(absent), pa.scalar(None, pa.large_string()), found).cast(pa.string())

    def read(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        schema = pa.schema([field for field in stream_schema(self.spec) if field.name in _TEXTS])
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


class _Ids(RowNumbers):
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


class _Texts:
    """A column of texts on its way into the group."""

    def __init__(self, group: Any, name: str, rows: int) -> None:
        self._name = name
        self._ends = group.create_dataset(f"{name}.ends", (rows,), np.int64)
        self._absent = group.create_dataset(f"{name}.absent", (rows,), bool)
        self._bytes = group.create_dataset(f"{name}.bytes", (0,), np.uint8, maxshape=(None,), chunks=(1 << 18,))
        self._size = 0

    def add(self, batch: pa.RecordBatch, at: int) -> None:
        rows = batch.num_rows
        column = batch.column(self._name) if self._name in batch.schema.names else pa.nulls(rows, pa.string())
        absent = column.is_null().to_numpy(zero_copy_only=False)
        texts = pc.fill_null(column, "").cast(pa.large_binary())
        lengths = pc.binary_length(texts).to_numpy(zero_copy_only=False)
        content = b"".join(texts.to_pylist())
        self._bytes.resize((self._size + len(content),))
        if content:
            self._bytes[self._size :] = np.frombuffer(content, np.uint8)
        self._ends[at : at + rows] = self._size + np.cumsum(lengths)
        self._absent[at : at + rows] = absent
        self._size += len(content)


def _write_queries(file: Any, train: Any, field: VectorField, count: int) -> None:
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


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.item() if isinstance(value, np.generic) else value if isinstance(value, str | int | float) else str(value)


def _open(address: Address, network: Network) -> Hdf5Store:
    return Hdf5Store(address)


ADAPTER = StoreAdapter(
    scheme="hdf5",
    summary="HDF5 files in the layout of ann-benchmarks",
    address_form="hdf5:PATH.hdf5",
    open=_open,
    extra="hdf5",
    requires=("h5py",),
)
