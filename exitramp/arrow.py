"""The Arrow side of a stream: which columns a collection's batches have.

| column            | type                                        | null means               |
| id                | string, not null                            |                          |
| namespace         | string                                      | the record is in none    |
| document          | string                                      | the record has none      |
| payload           | string, canonical JSON                      | the record has none      |
| vector, vector:N  | fixed-size list of the dtype, or of bytes   | the record has none      |
| multi:N           | list of such fixed-size lists               | the record has none      |
| sparse:N          | struct of indices uint32 and values float32 | the record has none      |
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.errors import DataInvalid
from exitramp.records import CollectionSpec, DType, RecordKey, VectorField, VectorKind

_ITEM: dict[DType, pa.DataType] = {
    DType.FLOAT32: pa.float32(),
    DType.FLOAT16: pa.float16(),
    DType.FLOAT64: pa.float64(),
    DType.INT8: pa.int8(),
    DType.BINARY: pa.uint8(),
}


def vector_type(field: VectorField) -> pa.DataType:
    """The Arrow type of a vector field's column. The items inside are not nullable."""
    if field.kind is VectorKind.SPARSE:
        return pa.struct(
            [
                pa.field("indices", pa.list_(pa.field("item", pa.uint32(), nullable=False)), nullable=False),
                pa.field("values", pa.list_(pa.field("item", pa.float32(), nullable=False)), nullable=False),
            ]
        )
    dense = pa.list_(pa.field("item", _ITEM[field.dtype], nullable=False), field.item_count)
    return dense if field.kind is VectorKind.DENSE else pa.list_(pa.field("item", dense, nullable=False))


def stream_schema(spec: CollectionSpec) -> pa.Schema:
    """The schema of every batch of a collection's stream, columns in a fixed order."""
    fields = [pa.field("id", pa.string(), nullable=False)]
    if spec.has_namespaces:
        fields.append(pa.field("namespace", pa.string()))
    if spec.has_documents:
        fields.append(pa.field("document", pa.string()))
    fields.append(pa.field("payload", pa.string()))
    fields += [pa.field(vector.column, vector_type(vector)) for vector in spec.vectors]
    return pa.schema(fields)


def usual_row_bytes(spec: CollectionSpec) -> int:
    """About what one record takes. Ids, documents and payloads are not known beforehand: a usual record has 1 kB."""
    return 1024 + sum(field.item_count * 4 for field in spec.vectors if field.dimensions is not None)


def empty_batch(spec: CollectionSpec) -> pa.RecordBatch:
    """A batch of no rows with the collection's schema."""
    return pa.RecordBatch.from_pylist([], schema=stream_schema(spec))


def dense_array(
    matrix: npt.NDArray[np.generic], field: VectorField, *, valid: npt.NDArray[np.bool_] | None = None
) -> pa.Array:
    """A dense column from a matrix [rows, items] without copying per row; `valid` [rows] marks rows that have one.

    Numbers that do not stand at a multiple of their own size (cut out of a message) are copied: Arrow asks for that
    alignment, pyarrow does not look, and a library that is handed the column may end on it.
    """
    items = matrix.shape[1]
    if items != field.item_count:
        raise DataInvalid(f"column {field.column!r}: rows of {items} numbers where {field.item_count} are declared")
    item = pa.array(np.require(matrix, requirements=["C", "A"]).reshape(-1), type=_ITEM[field.dtype])
    mask = None if valid is None or bool(valid.all()) else pa.array(~valid)
    return pa.FixedSizeListArray.from_arrays(item, type=vector_type(field), mask=mask)


def dense_matrix(column: pa.Array) -> npt.NDArray[np.generic]:
    """The numbers of a dense column as a matrix [rows, items], without copying; rows that are null hold anything."""
    items = column.type.list_size
    flat = column.values  # ignores the offset of a slice, so cut it here
    flat = flat.slice(column.offset * items, len(column) * items)
    if flat.null_count > column.null_count * items:
        raise DataInvalid("a vector holds a null where a number belongs")
    dtype = np.dtype(flat.type.to_pandas_dtype())
    if not len(flat):
        return np.zeros((len(column), items), dtype)
    # The items under a null row may be marked null too, which forbids to_numpy; their bits are nobody's concern.
    values = np.frombuffer(flat.buffers()[1], dtype=dtype, count=len(flat), offset=flat.offset * dtype.itemsize)
    return values.reshape(len(column), items)


def record_keys(batch: pa.RecordBatch) -> list[RecordKey]:
    """The key of every row."""
    ids: list[str] = batch.column("id").to_pylist()
    if "namespace" not in batch.schema.names:
        return [RecordKey(id_) for id_ in ids]
    return [RecordKey(id_, ns) for id_, ns in zip(ids, batch.column("namespace").to_pylist(), strict=True)]


def require_schema(batch: pa.RecordBatch, spec: CollectionSpec, *, where: str) -> None:
    """Raises `DataInvalid` naming the first column in which `batch` differs from what `spec` promises."""
    wanted = stream_schema(spec)
    if batch.schema.equals(wanted):
        return
    names: Sequence[str] = batch.schema.names
    for expected in wanted:
        if expected.name not in names:
            raise DataInvalid(f"{where}: the column {expected.name!r} is missing")
        found = batch.schema.field(expected.name).type
        if found != expected.type:
            raise DataInvalid(f"{where}: the column {expected.name!r} is {found}, not {expected.type}")
    extra = [name for name in names if name not in wanted.names]
    if extra:
        raise DataInvalid(f"{where}: the column {extra[0]!r} is not in the collection's spec")
    raise DataInvalid(f"{where}: the columns stand in another order than the spec's")
