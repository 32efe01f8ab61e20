"""Collections whose vectors are the rows of one matrix, and whose other columns stand somewhere beside it, or nowhere.

Row n of the matrix and row n of what stands beside it are one record. Without anything beside it a record is its number
and its vector.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from exitramp.arrow import dense_array, stream_schema
from exitramp.durable import READ, storage_errors
from exitramp.errors import DataInvalid, FormatUnknown, IntegrityError, StoreRejected
from exitramp.ports import Origin
from exitramp.ports.gathered import joined_keys
from exitramp.records import CollectionSpec, DType, Finding, IdKind, RecordKey, VectorField
from exitramp_adapters.stores.files.formats import CHUNK_ROWS, ParquetRows
from exitramp_adapters.stores.files.number_forms import NUMPY
from exitramp_adapters.stores.files.store import Snapshot, Stamp, hashes_in, hashes_of, mark_of, stamp_of

FORMAT: Final = 1
KEY: Final = b"exitramp"
_COLUMNS: Final = ("id", "namespace", "document", "payload")
Rows = Callable[[int, int], npt.NDArray[Any]]
"""Rows from one number to another of a matrix, in the numbers of the field's type."""


class RowNumbers:
    """Records that are nothing but their numbers."""

    origin: Origin | None = None
    findings: tuple[Finding, ...] = ()

    def __init__(self, name: str, rows: int) -> None:
        self.spec = CollectionSpec(name, IdKind.UINT64, ())
        self.rows = rows
        self.parts = range(0, rows, CHUNK_ROWS)
        self.mark = ""

    def read(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        for at in range(start, stop, CHUNK_ROWS):
            ids = pa.array(np.arange(at, min(stop, at + CHUNK_ROWS))).cast(pa.string())
            yield pa.RecordBatch.from_arrays([ids, pa.nulls(len(ids), pa.string())], schema=stream_schema(self.spec))

    def keys(self, start: int, stop: int) -> Iterator[list[RecordKey]]:
        for batch in self.read(start, stop):
            yield [RecordKey(id_) for id_ in batch.column("id").to_pylist()]

    def hashes(self) -> npt.NDArray[np.int64]:
        return np.concatenate(
            [np.zeros(0, np.int64), *(hashes_of(keys, len(keys)) for keys in self.keys(0, self.rows))]
        )

    def require_unchanged(self) -> None:
        """There is no file."""

    def close(self) -> None:
        """There is no file."""


class RecordsFile:
    """A Parquet file that exitramp wrote beside vectors: keys, documents and payloads as they are.

    Its metadata holds the collection's spec and origin, and what else `about` says. Raises `IntegrityError`.
    """

    findings: tuple[Finding, ...] = ()

    def __init__(self, path: Path) -> None:
        self._file = ParquetRows(path)
        self.about = _told(path, self._file.metadata)
        self.spec = CollectionSpec.from_json(self.about["spec"])
        self.origin = None if self.about["origin"] is None else Origin.from_json(self.about["origin"])
        self.rows = self._file.rows or 0
        self.parts = range(0, self.rows, CHUNK_ROWS)
        self._hashes: npt.NDArray[np.int64] | None = None

    def read(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        """Batches without the vector columns."""
        names = [name for name in stream_schema(self.spec).names if name in _COLUMNS]
        schema = pa.schema([field for field in stream_schema(self.spec) if field.name in names])
        for chunk in self._file.chunks((), start):
            if chunk.first >= stop:
                return
            columns = [chunk.columns[name].slice(0, stop - chunk.first) for name in names]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    def keys(self, start: int, stop: int) -> Iterator[list[RecordKey]]:
        for ids, spaces in self._ids(start, stop):
            yield [RecordKey(id_, space) for id_, space in zip(ids, spaces, strict=True)]

    def _ids(self, start: int, stop: int) -> Iterator[tuple[list[str], list[str | None]]]:
        for chunk in self._file.chunks((), start, only=["id", "namespace"]):
            if chunk.first >= stop:
                return
            ids, spaces = (chunk.columns[name].slice(0, stop - chunk.first).to_pylist() for name in ("id", "namespace"))
            yield ids, spaces

    def hashes(self) -> npt.NDArray[np.int64]:
        if self._hashes is None:
            parts = [hashes_in(joined_keys(*found)) for found in self._ids(0, self.rows)]
            self._hashes = np.concatenate([np.zeros(0, np.int64), *parts])
        return self._hashes

    def require_unchanged(self) -> None:
        """It is held open."""

    def close(self) -> None:
        self._file.close()


def is_ours(path: Path) -> bool:
    """Whether a Parquet file is one that exitramp wrote beside vectors."""
    with storage_errors(path, READ):
        path.open("rb").close()
    try:
        return KEY in (pq.read_metadata(path).metadata or {})
    except pa.ArrowException:
        return False


def _told(path: Path, metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(metadata[KEY])
        if found["format"] != FORMAT:
            raise FormatUnknown(f"{path}: format {found['format']!r} is not known to this program")
        return found | {"spec": found["spec"], "origin": found["origin"]}
    except (KeyError, ValueError) as error:
        raise IntegrityError(f"{path} is damaged, or was not written by exitramp") from error


class RecordsWriter:
    """Writes what `RecordsFile` reads. What is told of it comes last, since that may hold a hash of the vectors."""

    def __init__(self, path: Path, spec: CollectionSpec, origin: Origin | None) -> None:
        self._told = {"format": FORMAT, "spec": spec.to_json(), "origin": None if origin is None else origin.to_json()}
        self._stack = ExitStack()
        schema = pa.schema([pa.field(name, pa.string(), nullable=name != "id") for name in _COLUMNS])
        self._schema = schema
        self._writer = self._stack.enter_context(
            pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=["namespace"], write_page_checksum=True)
        )

    def write(self, batch: pa.RecordBatch) -> None:
        nothing = pa.nulls(batch.num_rows, pa.string())
        names = batch.schema.names
        columns = [batch.column(name) if name in names else nothing for name in _COLUMNS]
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema), CHUNK_ROWS)

    def close(self, about: Mapping[str, Any] | None = None) -> None:
        text = json.dumps({**self._told, **(about or {})}, ensure_ascii=False)
        self._writer.add_key_value_metadata({KEY.decode(): text})
        self._stack.close()


class WithMatrix:
    """Records from one place with the rows of a matrix as their vectors. Foreign files raise once they were changed."""

    def __init__(
        self,
        records: Snapshot | RowNumbers | RecordsFile,
        field: VectorField,
        rows: Rows,
        count: int,
        *,
        paths: Sequence[Path],
        spec: CollectionSpec,
        findings: Sequence[Finding] = (),
        held: bool = False,
    ) -> None:
        if records.rows != count:
            raise DataInvalid(f"{paths[0]} holds {count} vectors, and what stands beside it {records.rows} records")
        self._records, self._field, self._rows = records, field, rows
        self.spec, self.origin = spec, records.origin
        self.rows, self.parts = count, records.parts
        self.findings = (*findings, *records.findings)
        self._paths = list(paths)
        self._stamp: Stamp | None = None if held else stamp_of(paths)
        self.mark = mark_of(paths)

    def read(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        schema = stream_schema(self.spec)
        for batch in self._records.read(start, stop):
            vectors = dense_array(self._rows(start, start + batch.num_rows), self._field)
            start += batch.num_rows
            columns = [*batch.columns, vectors]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    def keys(self, start: int, stop: int) -> Iterator[list[RecordKey]]:
        return self._records.keys(start, stop)

    def hashes(self) -> npt.NDArray[np.int64]:
        return self._records.hashes()

    def require_unchanged(self) -> None:
        if self._stamp is not None and stamp_of(self._paths) != self._stamp:
            raise StoreRejected(
                f"{self._paths[0]} was changed while it was read", hint="read it again once it is finished"
            )
        self._records.require_unchanged()

    def close(self) -> None:
        self._records.close()


def ends_of(path: Path) -> dict[str, Any]:
    """What tells that a file is the one that was written together with another, without reading all of it."""
    with storage_errors(path, READ), path.open("rb") as file:
        digest = hashlib.sha256(file.read(65_536))
        size = file.seek(0, 2)
        file.seek(max(0, size - 65_536))
        digest.update(file.read())
    return {"bytes": size, "ends_sha256": digest.hexdigest()}


def numbers_of(found: np.dtype[Any], said: DType | None, rows: Rows, count: int, where: str) -> tuple[DType, Rows]:
    """The field's type for a matrix of these numbers, and its rows in it.

    Types that no field has become float32 if every number is the same there, else float64; that needs a look at all.
    Raises `DataInvalid` naming the row of a number that neither keeps.
    """
    native = found.newbyteorder("=")
    exact = {np.dtype("f4"): DType.FLOAT32, np.dtype("f2"): DType.FLOAT16, np.dtype("f8"): DType.FLOAT64}
    exact |= {np.dtype("i1"): DType.INT8}
    if said is DType.BINARY:
        if native.kind not in "bu" or native.itemsize != 1:
            raise DataInvalid(f"{where}: bits are booleans or bytes, and these are {found}")
        packed = (
            (lambda start, stop: np.packbits(rows(start, stop).astype(bool), axis=1)) if native.kind == "b" else rows
        )
        return DType.BINARY, packed
    if native.kind == "b":
        raise DataInvalid(f"{where}: booleans are a vector of bits only where ?dtype=binary says so")
    if native.kind not in "fiu":
        raise DataInvalid(f"{where}: {found} are no numbers of a vector")
    chosen: DType
    if said is not None:
        chosen = said
    elif native in exact:
        chosen = DType(exact[native])
    else:
        chosen = _fitting(rows, count, where)
    wanted: np.dtype[Any] = NUMPY[chosen]

    def cast(start: int, stop: int) -> npt.NDArray[Any]:
        part = rows(start, stop)
        with np.errstate(over="ignore", invalid="ignore"):
            made: npt.NDArray[Any] = part.astype(wanted, copy=False)
            if said is not None and wanted.kind == "i" and not np.array_equal(made, part):
                raise DataInvalid(f"{where}: there are numbers that {chosen} does not keep, from row {start + 1} on")
        return made

    return chosen, cast


def _fitting(rows: Rows, count: int, where: str) -> DType:
    fits = {DType.FLOAT32: True, DType.FLOAT64: True}
    for start in range(0, count, CHUNK_ROWS):
        part = rows(start, min(count, start + CHUNK_ROWS))
        for each in fits:
            with np.errstate(over="ignore", invalid="ignore"):
                back = part.astype(NUMPY[each])
                same = (np.abs(back) < 2.0**63) if part.dtype.kind in "iu" else np.ones(back.shape, bool)
                same[same] = back[same].astype(part.dtype) == part[same]
            fits[each] = fits[each] and bool(same.all())
        if not fits[DType.FLOAT64]:
            raise DataInvalid(f"{where} row {start + 1} or after it: a number that float64 rounds")
    return DType.FLOAT32 if fits[DType.FLOAT32] else DType.FLOAT64


def odd_rows(rows: Rows, count: int, dtype: DType) -> list[Finding]:
    """The rows with NaN or an infinity in them."""
    if NUMPY[dtype].kind != "f":
        return []
    found: list[int] = []
    for start in range(0, count, CHUNK_ROWS):
        part = rows(start, min(count, start + CHUNK_ROWS))
        found += (np.flatnonzero(~np.isfinite(part).all(axis=1)) + start + 1).tolist()
    if not found:
        return []
    shown = ", ".join(f"row {row}" for row in found[:5]) + (", …" if len(found) > 5 else "")
    return [Finding("source.nonfinite", f"{len(found)} rows have NaN or an infinity: {shown}", count=len(found))]
