"""`hdf5:./articles.hdf5`: files in the layout of ann-benchmarks, which many index libraries read.

The dataset `train` holds the vectors, the attribute `distance` (angular, euclidean, hamming) says how to compare them.
What else a record has stands in the group `exitramp`, which other readers leave alone: keys, documents and payloads
just as they are. A file of somebody else holds no such group: ids are row numbers then, from 0, or those of the dataset
that `?id=` names. Its queries and their neighbours (`test`, `neighbors`, `distances`) are no records and are not read;
with `?queries=100` so many rows are written as queries too, with their 100 exact neighbours.

The file is held open and read in slices. Writing goes by way of a folder beside it until the load is finished; then the
file is written anew. Where nothing stood there before and no key came twice or was deleted, the vectors wait in a file
that becomes it by a head and what stands beside them: 100,000 x 384 took 0.10 s to finish so, and 0.25 s anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from exitramp.arrow import dense_matrix
from exitramp.durable import storage_errors
from exitramp.errors import CollectionExists, CollectionMissing, DataInvalid, IntegrityError, UsageError
from exitramp.ports import TAGGED_TYPES, DocumentRoom, NameRule, PayloadLimits, SinkLimits, StoreAdapter
from exitramp.records import CollectionSpec, DType, Finding, IdKind, Metric, VectorField, VectorKind
from exitramp.urls import Address, Network
from exitramp_adapters.stores.files.hdf5_form import (
    FORMAT,
    HEAD_BYTES,
    TEXTS,
    Beside,
    Ids,
    TextsWriter,
    head_of_matrix,
    open_file,
    plain_attribute,
    write_queries,
)
from exitramp_adapters.stores.files.matrix import RowNumbers, Rows, WithMatrix, numbers_of, odd_rows
from exitramp_adapters.stores.files.number_forms import NUMPY
from exitramp_adapters.stores.files.options import dtype_said, metric_said
from exitramp_adapters.stores.files.search import FilesSearch
from exitramp_adapters.stores.files.sink import ALL_TYPES, BATCH_ROWS, StagedStore, grown_in
from exitramp_adapters.stores.files.store import Snapshot
from exitramp_adapters.stores.files.syncing import Syncing

_DISTANCES: Final = {"angular": Metric.COSINE, "euclidean": Metric.EUCLIDEAN, "hamming": Metric.HAMMING}
_DTYPES: Final = frozenset(DType)


class Hdf5Store(StagedStore):
    """One HDF5 file."""

    scheme = "hdf5"

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        address.only_options("metric", "dtype", "id", "queries")
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
                tagged_types=TAGGED_TYPES,
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
            try:
                return self._foreign(path, file, rows)
            except BaseException:
                file.close()  # else nobody could write it anew in this process
                raise
        records = Beside(path, file)
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
        records: Snapshot | RowNumbers = RowNumbers(name, count) if ids is None else Ids(path, file, ids, name, count)
        if ids is None:
            findings.append(Finding("source.row_numbers", f"{path} has no ids: they are row numbers, from 0"))
        if "test" in file:
            text = f"{len(file['test'])} queries in 'test', and their neighbours, are no records and are not read"
            findings.append(Finding("source.queries", text))
        about = {"hdf5": {key: plain_attribute(value) for key, value in file.attrs.items()}}
        spec = CollectionSpec(name, records.spec.id_kind, (field,), index=about)
        return WithMatrix(records, field, cast, count, paths=[path], spec=spec, findings=findings)

    def _metric(self, path: Path, file: Any) -> Metric:
        told = file.attrs.get("distance")
        told = told.decode() if isinstance(told, bytes) else told
        if self.address.option("metric") or told is None:
            return metric_said(self.address, "", "train")
        if told not in _DISTANCES:
            raise DataInvalid(
                f"{path}: the distance '{told}' is not known",
                hint=f"known are {', '.join(_DISTANCES)}; or say ?metric=…",
            )
        return _DISTANCES[told]

    def rows_begin(self, spec: CollectionSpec) -> int | None:
        return None if spec.vectors[0].dtype is DType.BINARY else HEAD_BYTES  # bits stand there as one byte each

    def write_base(self, held: Snapshot) -> tuple[Mapping[Path, Path], Sequence[Path]]:
        new = self.path.with_name(self.path.name + ".new")
        [field] = held.spec.vectors
        bits = field.dtype is DType.BINARY
        grown = grown_in(held)
        head = None if grown is None else head_of_matrix(new, field, held.rows)
        with storage_errors(new):
            if grown is not None and head is not None:
                new = grown.path
                grown.complete(head, held.rows)
            else:
                grown = None
                new.unlink(missing_ok=True)
                new.touch()
        with storage_errors(new), Syncing(new) as syncing, open_file(new, "r+" if grown else "w") as file:
            file.attrs["type"] = "dense"
            file.attrs["distance"] = next(name for name, metric in _DISTANCES.items() if metric is field.metric)
            file.attrs["dimension"] = field.dimensions
            file.attrs["point_type"] = "bit" if bits else "float"
            dtype = np.dtype(bool) if bits else NUMPY[field.dtype]
            train = file["train"] if grown else file.create_dataset("train", (held.rows, field.dimensions), dtype)
            group = file.create_group("exitramp")
            texts = [TextsWriter(group, name, held.rows) for name in TEXTS]
            at = 0
            for batch in held.read(0, held.rows):
                if not grown:
                    matrix = dense_matrix(batch.column(field.column))
                    train[at : at + batch.num_rows] = np.unpackbits(matrix.astype(np.uint8), axis=1) if bits else matrix
                for each in texts:
                    each.add(batch)
                syncing.wrote(batch.nbytes)  # the library hands rows of the matrix on at once
                at += batch.num_rows
            for each in texts:
                each.write()
            origin = None if held.origin is None else held.origin.to_json()
            told = {"format": FORMAT, "spec": held.spec.to_json(), "origin": origin}
            group["about"] = np.frombuffer(json.dumps(told, ensure_ascii=False).encode(), np.uint8)
            if self._queries:
                write_queries(file, train, field, min(self._queries, held.rows))
        return {new: self.path}, []


def _open(address: Address, network: Network) -> Hdf5Store:
    return Hdf5Store(address)


ADAPTER = StoreAdapter(
    scheme="hdf5",
    summary="HDF5 files in the layout of ann-benchmarks",
    address_form="hdf5:PATH.hdf5",
    open=_open,
    extra="hdf5",
    requires=("h5py",),
    metric=True,
    ending=".hdf5",
)
