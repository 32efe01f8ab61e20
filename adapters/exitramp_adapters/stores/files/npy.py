"""`npy:./articles.npy`, a matrix of numpy with a side-car, and `fvecs:` for `.fvecs`, `.ivecs` and `.bvecs`.

Row n of the matrix is row n of the side-car. One that exitramp wrote, `articles.npy.parquet`, is found by itself: it
holds ids, namespaces, documents and payloads just as they are, and what the numbers mean. Another one is named in the
address, `?sidecar=articles.jsonl&id=url&document=body&metric=cosine`: any file of rows, whose columns are read as plain
files' are. Without a side-car an id is the number of its row, from 0. A matrix does not say by which metric its rows
are compared, so that the address must.

The matrix is mapped and not loaded. Writing goes by way of a folder beside it until the load is finished; then both
files are written anew. Where nothing stood there before and no key came twice or was deleted, the vectors wait in a
file that needs only its head to be the matrix: 100,000 x 384 took 0.16 s to finish so, and 0.25 s anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt

from exitramp.arrow import dense_matrix
from exitramp.durable import READ, storage_errors
from exitramp.errors import (
    CollectionExists,
    CollectionMissing,
    DataInvalid,
    IntegrityError,
    RoleUnsupported,
    UsageError,
)
from exitramp.ports import TAGGED_TYPES, DocumentRoom, NameRule, PayloadLimits, SinkLimits, StoreAdapter
from exitramp.records import CollectionSpec, DType, Finding, IdKind, Metric, VectorField, VectorKind
from exitramp.urls import Address, Network
from exitramp_adapters.stores.files.cells import Part
from exitramp_adapters.stores.files.formats import open_rows
from exitramp_adapters.stores.files.matrix import (
    RecordsFile,
    RecordsWriter,
    RowNumbers,
    Rows,
    WithMatrix,
    ends_of,
    is_ours,
    numbers_of,
    odd_rows,
)
from exitramp_adapters.stores.files.number_forms import NUMPY
from exitramp_adapters.stores.files.options import TABLE_OPTIONS, dtype_said, metric_said
from exitramp_adapters.stores.files.plain import plain_table
from exitramp_adapters.stores.files.rows import TableSnapshot
from exitramp_adapters.stores.files.search import FilesSearch
from exitramp_adapters.stores.files.sink import ALL_TYPES, BATCH_ROWS, StagedStore, grown_in, sync_file
from exitramp_adapters.stores.files.store import FilesStore, Snapshot, stamp_of
from exitramp_adapters.stores.files.syncing import Syncing

_VECS: Mapping[str, np.dtype[Any]] = {".fvecs": np.dtype("<f4"), ".ivecs": np.dtype("<i4"), ".bvecs": np.dtype("u1")}
_HEAD_BYTES: Final = 128  # what numpy itself takes, and a multiple of 64


class NpyStore(StagedStore):
    """One matrix and its side-car."""

    scheme = "npy"

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        address.only_options(*TABLE_OPTIONS, "sidecar")
        self.path: Path = address.path
        self._sidecar = self.path.with_name(self.path.name + ".parquet")
        self._other = _named_sidecar(address)

    def search(self) -> FilesSearch:
        self.require_open()
        return FilesSearch(self)

    def limits(self) -> SinkLimits:
        return SinkLimits(
            id_kinds=frozenset(IdKind),
            metrics=frozenset(Metric),
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
            dtypes=frozenset(DType),
            namespaces=True,
            documents=DocumentRoom.NATIVE,
            nonfinite_vectors=True,
            keeps_origin=True,
            batch_rows=BATCH_ROWS,
            files=(str(self.path), str(self._sidecar)),
        )

    def staging_folder(self, name: str | None) -> Path:
        return self.path.with_name(self.path.name + ".exitramp-load")

    def base_paths(self) -> list[Path]:
        return [self.path, self._sidecar, *([] if self._other is None else [self._other])]

    def has_base(self) -> bool:
        return self._at(self.path).exists()

    def _at(self, path: Path) -> Path:
        return self.staging_of(None).effective(path)

    def _is_ours(self) -> bool:
        return self._other is None and self._at(self._sidecar).exists() and is_ours(self._at(self._sidecar))

    def require_own(self) -> None:
        if self.has_base() and not self._is_ours():
            raise CollectionExists(
                f"{self.path} is a matrix that exitramp did not write, or its side-car {self._sidecar} is lost",
                hint="put the side-car back, or write to another path",
            )

    def open_base(self) -> Snapshot:
        path = self._at(self.path)
        matrix = _mapped(path)
        if not self._is_ours():
            said = dtype_said(self.address, "", "")
            return foreign(self.address, path, self._other, matrix.dtype, _rows(matrix), matrix.shape, said)
        records = RecordsFile(self._at(self._sidecar))
        [field] = records.spec.vectors
        if records.about.get("matrix") != ends_of(path):
            raise IntegrityError(
                f"{self._sidecar} belongs to another matrix than {self.path}",
                hint="put the files back that were written together, or move the side-car away to read vectors alone",
            )
        if matrix.dtype != NUMPY[field.dtype] or matrix.shape[1:] != (field.item_count,):
            raise IntegrityError(f"{self.path} is no matrix of what {self._sidecar} describes")
        self._require_name(records.spec)
        paths = [path, self._at(self._sidecar)]
        return WithMatrix(records, field, _rows(matrix), len(matrix), paths=paths, spec=records.spec, held=True)

    def _require_name(self, spec: CollectionSpec) -> None:
        wanted = self.address.collection
        if wanted is not None and spec.name != wanted:
            raise CollectionMissing(
                f"{self.path} holds the collection '{spec.name}', not '{wanted}'",
                hint=f"a matrix holds one collection: write npy:{self.address.location}",
            )

    def rows_begin(self, spec: CollectionSpec) -> int | None:
        return _HEAD_BYTES

    def write_base(self, held: Snapshot) -> tuple[Mapping[Path, Path], Sequence[Path]]:
        new, beside = (path.with_name(path.name + ".new") for path in (self.path, self._sidecar))
        [field] = held.spec.vectors
        with storage_errors(self.path):
            records = RecordsWriter(beside, held.spec, held.origin)
            head = _head(NUMPY[field.dtype], held.rows, field.item_count)
            grown = grown_in(held)
            if grown is not None:
                new = grown.path
                grown.complete(head, held.rows)
                for batch in held.read(0, held.rows):
                    records.write(batch)
            else:
                with new.open("wb") as file, Syncing(new) as syncing:
                    file.write(head)
                    for batch in held.read(0, held.rows):
                        matrix = np.ascontiguousarray(dense_matrix(batch.column(field.column)))
                        syncing.write_soon(partial(file.write, matrix.data), matrix.nbytes)
                        records.write(batch)  # 23 ms of 20,000, as the matrix takes with its sync beside it
                    syncing.settle()
                    file.flush()
            records.close({"matrix": ends_of(new)})
            sync_file(beside)
        return {new: self.path, beside: self._sidecar}, []


class VecsStore(FilesStore):
    """A file of vectors that each begin with their number of dimensions."""

    scheme = "fvecs"

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        address.only_options(*TABLE_OPTIONS, "sidecar")
        self.path: Path = address.path
        self._other = _named_sidecar(address)

    def sink(self) -> NoReturn:
        raise RoleUnsupported(
            "files of this kind are only read", hint="write to npy:, which keeps ids and payloads too"
        )

    def search(self) -> FilesSearch:
        self.require_open()
        return FilesSearch(self)

    def stamp(self) -> object:
        return stamp_of([self.path, *([] if self._other is None else [self._other])])

    def open_snapshot(self) -> Snapshot:
        if not self.path.exists():
            raise CollectionMissing(f"there is no file {self.path}")
        kind = _VECS.get(self.path.suffix.lower())
        if kind is None:
            hint = f"known are {', '.join(_VECS)}"
            raise UsageError(f"{self.path}: what numbers are in it cannot be told from its name", hint=hint)
        matrix = _vecs(self.path, kind)
        rows: Rows = lambda start, stop: np.ascontiguousarray(matrix[start:stop, 4:]).view(kind)  # noqa: E731
        shape = (len(matrix), (matrix.shape[1] - 4) // kind.itemsize)
        return foreign(self.address, self.path, self._other, kind, rows, shape, dtype_said(self.address, "", ""))


def foreign(
    address: Address,
    path: Path,
    sidecar: Path | None,
    found: np.dtype[Any],
    rows: Rows,
    shape: tuple[int, ...],
    said: DType | None,
) -> Snapshot:
    """A matrix that somebody else wrote, with the side-car that the address names."""
    count, items = shape
    dtype, cast = numbers_of(found, said, rows, count, str(path))
    packed = said is DType.BINARY
    if packed and found.kind == "b" and items % 8:
        raise DataInvalid(f"{path}: vectors of {items} bits, which come in eights")
    dimensions = items * 8 if packed and found.kind != "b" else items
    field = VectorField("", VectorKind.DENSE, dtype, metric_said(address, "", "vector"), dimensions)
    findings = odd_rows(cast, count, dtype)
    name = address.collection or path.stem
    records: Snapshot | RowNumbers
    if sidecar is None:
        records = RowNumbers(name, count)
        findings.append(Finding("source.row_numbers", f"{path} has no side-car: ids are row numbers, from 0"))
    else:
        table = plain_table(address, [Part(open_rows(sidecar))], name, vectors=False, row_ids=True)
        records = TableSnapshot(table)
    about = {"npy": {"dtype": found.str, "shape": list(shape)}}
    spec = CollectionSpec(
        name, records.spec.id_kind, (field,), records.spec.has_namespaces, records.spec.has_documents, about
    )
    paths = [path, *([] if sidecar is None else [sidecar])]
    return WithMatrix(records, field, cast, count, paths=paths, spec=spec, findings=findings)


def _named_sidecar(address: Address) -> Path | None:
    named = address.option("sidecar")
    if named is None:
        for option in ("id", "namespace", "document", "payload", "types", "nulls"):
            if address.option(option) is not None:
                raise UsageError(f"{address}: '{option}' says something of a side-car", hint="add ?sidecar=PATH")
        return None
    return Path(named).expanduser()


def _mapped(path: Path) -> npt.NDArray[Any]:
    """Raises `DataInvalid` for what is no matrix; pickled objects are never loaded."""
    with storage_errors(path, READ):
        try:
            found: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise DataInvalid(f"{path}: no .npy file of numbers that can be mapped") from error
    if found.ndim != 2 or not found.shape[1]:
        raise DataInvalid(f"{path}: an array of shape {found.shape}, where a matrix of one vector a row is wanted")
    return found


def _head(dtype: np.dtype[Any], rows: int, items: int) -> bytes:
    """The head of a matrix, of the same length for any number of rows: the form allows for blanks at its end."""
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': ({rows}, {items}), }}"
    length = _HEAD_BYTES - 10
    return np.lib.format.magic(1, 0) + length.to_bytes(2, "little") + f"{text:{length - 1}}\n".encode()


def _rows(matrix: npt.NDArray[Any]) -> Rows:
    native = matrix.dtype.newbyteorder("=")
    return lambda start, stop: np.ascontiguousarray(matrix[start:stop]).astype(native, copy=False)


def _vecs(path: Path, kind: np.dtype[Any]) -> npt.NDArray[np.uint8]:
    """The file as bytes [rows, 4 + those of a vector]. Raises `DataInvalid` naming the row of other dimensions."""
    with storage_errors(path, READ):
        size = path.stat().st_size
        if size < 4:
            raise DataInvalid(f"{path}: there are no vectors in it")
        flat = np.memmap(path, np.uint8, mode="r")
    dimensions = int(flat[:4].view("<i4")[0])
    width = 4 + dimensions * kind.itemsize
    if dimensions < 1:
        raise DataInvalid(f"{path} row 1: {dimensions} dimensions")
    whole: npt.NDArray[np.uint8] = flat[: size // width * width].reshape(-1, width)
    heads = np.ascontiguousarray(whole[:, :4]).view("<i4").reshape(-1)
    wrong = np.flatnonzero(heads != dimensions)
    if len(wrong):
        raise DataInvalid(
            f"{path} row {wrong[0] + 1}: {heads[wrong[0]]} dimensions, where those before have {dimensions}"
        )
    if size % width:
        raise DataInvalid(f"{path} row {len(whole) + 1}: the file ends in the middle of a vector")
    return whole


def _open(address: Address, network: Network) -> NpyStore:
    return NpyStore(address)


def _open_vecs(address: Address, network: Network) -> VecsStore:
    return VecsStore(address)


ADAPTER = StoreAdapter(
    scheme="npy",
    summary="a matrix of numpy with a side-car for ids, documents and payloads",
    address_form="npy:PATH.npy?sidecar=PATH&metric=METRIC",
    open=_open,
    metric=True,
    ending=".npy",
)
FVECS = StoreAdapter(
    scheme="fvecs",
    summary=".fvecs, .ivecs and .bvecs files with a side-car",
    address_form="fvecs:PATH.fvecs?sidecar=PATH&metric=METRIC",
    open=_open_vecs,
    roles=("source", "search"),
    metric=True,
)
