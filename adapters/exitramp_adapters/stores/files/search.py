"""Exact search in files: every vector is compared, in float64, a block at a time.

The vectors of a field are written once into a temporary file without a name, which the system keeps in memory as long
as there is room; their ids and namespaces are held. So a search costs one pass over them and no reading of the
original, which may be text. A filter is asked of every record once and remembered for the searches that follow.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.arrow import dense_matrix
from exitramp.errors import DataInvalid, UsageError
from exitramp.filters import Filter, matches
from exitramp.payloads import decoded_payloads
from exitramp.ports import DEFAULT_SETTINGS, Hits, IndexCoverage, IndexState, Query, SearchSettings
from exitramp.records import DType, Metric, RecordKey, VectorField, VectorKind
from exitramp_adapters.stores.files.store import FilesStore, Snapshot, take_rows

_BLOCK_BYTES: Final = 32 * 2**20
_FILTERS_KEPT: Final = 8
_BITS: Final = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Spooled:
    """A field's vectors [rows that have one, items], and which rows those are."""

    matrix: npt.NDArray[Any]
    rows: npt.NDArray[np.int64]


class FilesSearch:
    """Compares every vector, so that its answer is the truth."""

    def __init__(self, store: FilesStore) -> None:
        self._store = store
        self._held: Snapshot | None = None
        self._forget(None)

    def _forget(self, held: Snapshot | None) -> None:
        self._held = held
        self._spooled: dict[str, Spooled] = {}
        self._passing: dict[str, npt.NDArray[np.bool_]] = {}
        self._names: dict[str, pa.ChunkedArray] = {}

    def index_state(self) -> IndexState:
        self._store.snapshot()
        return IndexState.READY

    def coverage(self) -> IndexCoverage:
        held = self._current()
        dense = [field for field in held.spec.vectors if field.kind is VectorKind.DENSE]
        compared = sum(len(self._spool(held, field).rows) for field in dense)
        return IndexCoverage(0, compared, "files have no index")

    def search(
        self,
        query: Query,
        *,
        k: int,
        where: Filter | None = None,
        settings: SearchSettings = DEFAULT_SETTINGS,
        with_records: bool = False,
    ) -> Hits:
        held = self._current()
        field, wanted = self._asked(held, query, k, settings)
        spooled = self._spool(held, field)
        distance = distances(field, wanted, spooled.matrix)
        # NaN is the distance of nothing to anything: behind all others.
        distance = np.where(np.isnan(distance), np.inf, distance)
        chosen = np.arange(len(distance))
        if where is not None:
            chosen = np.flatnonzero(self._passes(held, where)[spooled.rows])
        k = min(k, len(chosen))
        if k < len(chosen):
            edge = np.partition(distance[chosen], k - 1)[k - 1] if k else -np.inf
            chosen = chosen[distance[chosen] <= edge]
        nearest = chosen[np.argsort(distance[chosen], kind="stable")[:k]]
        rows = spooled.rows[nearest]
        sign = -1.0 if field.metric in {Metric.DOT, Metric.COSINE} else 1.0
        return Hits(
            self._keys(rows),
            tuple(sign * float(each) for each in distance[nearest]),
            take_rows(held, np.sort(rows)) if with_records else None,
        )

    def _asked(
        self, held: Snapshot, query: Query, k: int, settings: SearchSettings
    ) -> tuple[VectorField, npt.NDArray[Any]]:
        if k < 1:
            raise UsageError(f"the {k} nearest records cannot be found")
        if settings.options:
            raise UsageError(f"{self._store.scheme}: has no search option '{next(iter(settings.options))}'")
        if query.dense is None or query.multi is not None or query.sparse is not None:
            raise UsageError(f"{self._store.address} is searched with one dense vector")
        found = [each for each in held.spec.vectors if (each.name, each.kind) == (query.field, VectorKind.DENSE)]
        if not found:
            raise UsageError(f"the field '{held.spec.vector(query.field).column}' is not searched with a dense vector")
        wanted = np.asarray(query.dense)
        if wanted.shape != (found[0].item_count,):
            raise DataInvalid(f"a query of {wanted.size} numbers for '{found[0].column}' of {found[0].item_count}")
        return found[0], wanted

    def _current(self) -> Snapshot:
        held = self._store.snapshot()
        if held is not self._held:
            self._forget(held)
        return held

    def _spool(self, held: Snapshot, field: VectorField) -> Spooled:
        if field.column in self._spooled:
            return self._spooled[field.column]
        rows, at = [np.zeros(0, np.int64)], 0
        names: dict[str, list[pa.Array]] = {"id": [], "namespace": []}
        dtype: np.dtype[Any] = np.dtype(np.uint8)
        with tempfile.TemporaryFile(prefix="exitramp-") as file:
            for batch in held.read(0, held.rows):
                column = batch.column(field.column)
                matrix = dense_matrix(column)
                dtype = matrix.dtype
                valid = column.is_valid().to_numpy(zero_copy_only=False)
                file.write(np.ascontiguousarray(matrix if valid.all() else matrix[valid]).data)
                rows.append(np.flatnonzero(valid) + at)
                at += batch.num_rows
                for name in names.keys() & set(batch.schema.names):
                    names[name].append(pa.concat_arrays([batch.column(name)]))  # a copy: not a view of all the rest
            file.flush()
            held.require_unchanged()
            there = np.concatenate(rows)
            shape = (len(there), field.item_count)
            empty = np.zeros(shape, dtype)
            matrix = np.memmap(file, dtype=dtype, mode="r", shape=shape) if len(there) else empty
        self._names = {name: pa.chunked_array(parts, pa.string()) for name, parts in names.items()}
        return self._spooled.setdefault(field.column, Spooled(matrix, there))

    def _keys(self, rows: npt.NDArray[np.int64]) -> tuple[RecordKey, ...]:
        ids = self._names["id"].take(pa.array(rows)).to_pylist()
        if not self._names["namespace"].num_chunks:
            return tuple(RecordKey(id_) for id_ in ids)
        spaces = self._names["namespace"].take(pa.array(rows)).to_pylist()
        return tuple(RecordKey(id_, space) for id_, space in zip(ids, spaces, strict=True))

    def _passes(self, held: Snapshot, where: Filter) -> npt.NDArray[np.bool_]:
        known = self._passing.get(repr(where))
        if known is None:
            parts = [np.zeros(0, bool)]
            for batch in held.read(0, held.rows):
                payloads = decoded_payloads(batch.column("payload"))
                parts.append(np.array([matches(where, payload) for payload in payloads], bool))
            known = np.concatenate(parts)
            if len(self._passing) >= _FILTERS_KEPT:
                self._passing.pop(next(iter(self._passing)))
            self._passing[repr(where)] = known
        return known


def distances(field: VectorField, query: npt.NDArray[Any], matrix: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """float64[rows]: smaller is nearer, similarities being negated; cosine is 0 where either is zero."""
    found = np.zeros(len(matrix), np.float64)
    block = max(1, _BLOCK_BYTES // (8 * max(1, matrix.shape[1])))
    for start in range(0, len(matrix), block):
        with np.errstate(all="ignore"):
            found[start : start + block] = _block(field, query, matrix[start : start + block])
    return found


def _block(field: VectorField, query: npt.NDArray[Any], matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if field.dtype is DType.BINARY:
        if field.metric is Metric.HAMMING:
            apart: npt.NDArray[Any] = _BITS[np.bitwise_xor(matrix, query.astype(np.uint8))].sum(axis=1)
            return apart
        query, matrix = np.unpackbits(query.astype(np.uint8)), np.unpackbits(matrix, axis=1)
    one, many = query.astype(np.float64), matrix.astype(np.float64)
    result: npt.NDArray[Any]
    match field.metric:
        case Metric.DOT:
            result = -(many @ one)
        case Metric.COSINE:
            norms = np.linalg.norm(many, axis=1) * np.linalg.norm(one)
            result = np.where(norms == 0, 0.0, -(many @ one) / norms)
        case Metric.EUCLIDEAN:
            result = np.linalg.norm(many - one, axis=1)
        case Metric.MANHATTAN:
            result = np.abs(many - one).sum(axis=1)
        case Metric.HAMMING:
            result = (many != one).sum(axis=1)
    return result
