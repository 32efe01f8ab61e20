"""Qdrant's points to and from Arrow, for both SDKs.

Points of either SDK have `id`, `payload` and `vector`, sparse vectors `indices` and `values`, so that one reader
serves both. `vector` is a list where the point has the unnamed vector only, else a mapping by name.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.arrow import dense_array, dense_matrix, empty_batch, require_schema, stream_schema, vector_type
from exitramp.errors import DataInvalid, StoreProtocolError, UsageError
from exitramp.payloads import decoded_payloads, has_tags, payload_array
from exitramp.ports import Cursor, Hits, Page, make_cursor
from exitramp.records import CollectionSpec, DType, RecordKey, VectorField, VectorKind
from exitramp_adapters.stores.qdrant.forms import cursor_id, id_after, id_order, id_text

PAGE_ROWS: Final = 1000
Scroll = Callable[[Any, int], tuple[list[Any], Any]]
"""`scroll(start, rows)`: at most `rows` points from the id `start` on, and the id behind them or None."""


def scan_pages(
    scroll: Scroll, spec: CollectionSpec, *, batch_rows: int, chunk_rows: int, after: Cursor | None, where: str
) -> Iterator[Page]:
    """Every record in the order of ids, numbers before UUIDs; a cursor holds the last id of its page.

    A page is put together from scrolls of `chunk_rows`: the Python numbers of more rows leave the processor's cache,
    and 1,000 rows at once read a third slower than eight times 125.
    """
    if batch_rows < 1:
        raise UsageError(f"a page of {batch_rows} rows cannot be read")
    behind = cursor_id(after)
    start = None if behind is None else id_after(behind)
    over = behind is not None and start is None
    while True:
        parts: list[pa.RecordBatch] = []
        room = min(batch_rows, PAGE_ROWS)
        while room and not over:
            records, start = scroll(start, min(room, chunk_rows))
            over = start is None
            if not over and (not records or id_order(start) <= id_order(records[-1].id)):
                raise StoreProtocolError(f"{where}: a scroll says that it goes on, but not behind where it ended")
            behind = id_text(records[-1].id) if records else behind
            room -= len(records)
            parts.append(records_batch(records, spec, where=where))
        yield Page(_joined(parts, spec), make_cursor(after=behind), last=over)
        if over:
            return


def _joined(parts: list[pa.RecordBatch], spec: CollectionSpec) -> pa.RecordBatch:
    if len(parts) == 1:
        return parts[0]
    full = [part for part in parts if part.num_rows]
    return pa.Table.from_batches(full).combine_chunks().to_batches()[0] if full else empty_batch(spec)


def records_batch(records: Sequence[Any], spec: CollectionSpec, *, where: str) -> pa.RecordBatch:
    """The SDK's records as a batch of `spec`'s stream. Raises `DataInvalid` naming a record that has no Arrow form."""
    ids = [id_text(record.id) for record in records]
    columns = [pa.array(ids, pa.string()), payload_array([record.payload or {} for record in records])]
    held = [record.vector for record in records]  # made of Python numbers anew each time it is asked for
    for field in spec.vectors:
        values = [
            vector.get(field.name) if isinstance(vector, dict) else vector if field.name == "" else None
            for vector in held
        ]
        columns.append(_column(values, field, ids, where))
    return pa.RecordBatch.from_arrays(columns, schema=stream_schema(spec))


def _column(values: list[Any], field: VectorField, ids: Sequence[str], where: str) -> pa.Array:
    valid = np.fromiter((value is not None for value in values), dtype=bool, count=len(values))
    match field.kind:
        case VectorKind.DENSE:
            blank = [0.0] * field.item_count
            matrix = _matrix([blank if value is None else value for value in values], field, ids, where)
            return dense_array(matrix, field, valid=valid)
        case VectorKind.MULTI:
            rows = [row for value in values if value is not None for row in value]
            owners = [id_ for id_, value in zip(ids, values, strict=True) for _ in value or ()]
            single = VectorField("", VectorKind.DENSE, field.dtype, field.metric, field.dimensions)
            inner = dense_array(_matrix(rows, field, owners, where), single)
            return pa.ListArray.from_arrays(_offsets(values), inner, type=vector_type(field), mask=pa.array(~valid))
        case VectorKind.SPARSE:
            layout = vector_type(field)
            children = []
            for side, dtype in (("indices", np.uint32), ("values", np.float32)):
                parts = [getattr(value, side) if value is not None else [] for value in values]
                flat = np.array([number for part in parts for number in part], dtype=dtype)
                children.append(pa.ListArray.from_arrays(_offsets(parts), pa.array(flat), type=layout.field(side).type))
            return pa.StructArray.from_arrays(children, fields=list(layout), mask=pa.array(~valid))


def _matrix(rows: list[Any], field: VectorField, ids: Sequence[str], where: str) -> npt.NDArray[Any]:
    """Rows of Python floats as a matrix. Packing row by row is half again as fast as numpy on lists of lists."""
    pack = struct.Struct(f"<{field.item_count}f").pack
    try:
        data = b"".join([pack(*row) for row in rows])
    except (struct.error, OverflowError, TypeError) as error:
        for id_, row in zip(ids, rows, strict=True):
            if len(row) != field.item_count or not all(isinstance(number, float | int) for number in row):
                raise DataInvalid(
                    f"{where}: the record {id_} holds in {field.column!r} something that is no vector of"
                    f" {field.item_count} numbers (JSON has no NaN and no infinity)"
                ) from error
        raise DataInvalid(f"{where}: {field.column!r} holds a number that is no float32") from error
    matrix = np.frombuffer(data, dtype="<f4").reshape(len(rows), field.item_count)
    return matrix.astype(np.float16) if field.dtype is DType.FLOAT16 else matrix


def _offsets(parts: Sequence[Any]) -> pa.Array:
    lengths = [0 if part is None else len(part) for part in parts]
    return pa.array(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), pa.int32())


SparseRow = tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]


def vector_rows(
    batch: pa.RecordBatch, field: VectorField, *, finite: bool, whole: bool = False, where: str
) -> list[Any]:
    """Each row's value of one field: float32 [items], float32 [n, items], a pair for sparse, or None.

    `finite` refuses NaN and infinities by name of the record, for a wire that would turn them into null. `whole`
    refuses what is no whole number from 0 to 255, for a field of uint8, of which Qdrant would cut off the rest.
    """
    column = batch.column(field.column)
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    rows: list[Any]
    match field.kind:
        case VectorKind.DENSE:
            matrix = dense_matrix(column).astype(np.float32, copy=False)
            rows = [row if there else None for row, there in zip(matrix, valid, strict=True)]
        case VectorKind.MULTI:
            inner = dense_matrix(column.values).astype(np.float32, copy=False)
            spans = pairwise(column.offsets.to_numpy())
            rows = [inner[start:end] if there else None for (start, end), there in zip(spans, valid, strict=True)]
        case VectorKind.SPARSE:
            rows = [_sparse_row(column, row) if there else None for row, there in enumerate(valid)]
    for row, value in enumerate(rows):
        fault = None if value is None else _fault(value, field, finite, whole)
        if fault:
            raise DataInvalid(
                f"{where}: the record {batch.column('id')[row].as_py()!r} holds in {field.column!r} {fault}"
            )
    return rows


def _fault(value: Any, field: VectorField, finite: bool, whole: bool) -> str | None:
    if field.kind is VectorKind.MULTI and not len(value):
        return "a list of no vectors, which Qdrant refuses"  # its engine panics on one
    numbers = value[1] if field.kind is VectorKind.SPARSE else value
    if finite and not np.isfinite(numbers).all():
        return "a NaN or an infinity, which Qdrant's JSON cannot carry"
    if whole and not ((numbers == np.floor(numbers)) & (numbers <= 255) & ~np.signbit(numbers)).all():
        return "a number that is not whole or outside 0 to 255, and the field is stored as uint8"
    if finite and field.kind is VectorKind.SPARSE and len(np.unique(value[0])) != len(value[0]):
        return "an index twice, which Qdrant refuses"
    return None


def _sparse_row(column: pa.Array, row: int) -> SparseRow:
    entry = column[row]
    return entry["indices"].values.to_numpy(), entry["values"].values.to_numpy()


def payload_rows(batch: pa.RecordBatch, *, where: str) -> Iterator[dict[str, Any] | None]:
    """Each row's payload decoded. Raises `DataInvalid` for one that no JSON object stands for."""
    texts = batch.column("payload")
    tagged = has_tags(texts)
    for row, payload in enumerate(decoded_payloads(texts)):
        if payload is not None and not isinstance(payload, dict):
            raise DataInvalid(f"{where}: the payload of {batch.column('id')[row].as_py()!r} is no JSON object")
        # Only integers past 2^53 stand in the canonical text as a tag and in JSON as themselves.
        if tagged and payload is not None and not _is_plain(payload):
            raise DataInvalid(
                f"{where}: the payload of {batch.column('id')[row].as_py()!r} holds a value that JSON has no type for"
            )
        yield payload


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(item) for item in value.values())
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, bool | int | str)


def hits_of(hits: Sequence[Any], spec: CollectionSpec, *, with_records: bool, where: str) -> Hits:
    """Scored points of either SDK, which come nearest first."""
    return Hits(
        tuple(RecordKey(id_text(hit.id)) for hit in hits),
        tuple(float(hit.score) for hit in hits),
        records_batch(hits, spec, where=where) if with_records else None,
    )


def in_order(batch: pa.RecordBatch, spec: CollectionSpec, *, where: str) -> pa.RecordBatch:
    """`batch` with the columns in `spec`'s order, since Qdrant forgets in which order its fields were made.

    Raises `DataInvalid` naming a column that is missing, of another type or too many.
    """
    names = stream_schema(spec).names
    if sorted(names) == sorted(batch.schema.names):
        batch = batch.select(names)
    require_schema(batch, spec, where=where)
    return batch


def require_rows(batch: pa.RecordBatch, most: int, *, where: str) -> None:
    """Raises `UsageError` for more than `most` rows, `DataInvalid` for an id that stands twice."""
    if batch.num_rows > most:
        raise UsageError(f"{where}: {batch.num_rows} rows at once, of at most {most}")
    ids = batch.column("id").to_pylist()
    if len(set(ids)) < len(ids):
        twice = next(id_ for row, id_ in enumerate(ids) if id_ in ids[:row])
        raise DataInvalid(f"{where}: the id {twice!r} stands twice in one batch")
