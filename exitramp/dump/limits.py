"""What a dump can hold: everything the model has; and the few things that no batch may have, written or read."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from exitramp.arrow import require_schema
from exitramp.canonical import ESCAPED_PREFIX, TAG_PREFIX
from exitramp.errors import DataInvalid
from exitramp.ports import DocumentRoom, NameRule, PayloadLimits, SinkLimits
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorKind

_TYPES: Final = frozenset(
    {
        *("null", "bool", "int", "float", "nonfinite", "string", "list", "object"),
        *("bytes", "timestamp", "date", "time", "decimal", "uuid"),
    }
)

MOST_DIMENSIONS: Final = 2**24
"""The schema of the manifest says so too. Unbounded, a few bytes of a file could ask for any amount of memory: a null
takes as much of it as a vector does."""

LIMITS: Final = SinkLimits(
    id_kinds=frozenset(IdKind),
    metrics=frozenset(Metric),
    payload=PayloadLimits(
        types=_TYPES,
        item_types=_TYPES,
        mixed_lists=True,
        nested=True,
        empty_lists=True,
        empty_objects=True,
        integer_bits=14_280,  # the 4300 digits that Python turns into a number at most
    ),
    names=NameRule(maximum=65_535),
    vector_kinds=frozenset(VectorKind),
    dtypes=frozenset(DType),
    named_vectors=True,
    dense_fields=None,
    vectors_required=False,
    vector_free=True,
    namespaces=True,
    documents=DocumentRoom.NATIVE,
    nonfinite_vectors=True,
    keeps_origin=True,
    batch_rows=65_536,
    verbatim=True,
)


def require_sound(batch: pa.RecordBatch, spec: CollectionSpec) -> None:
    """Raises `DataInvalid` naming column and row of what a stream of `spec` never has: no id, a hole in a vector, a
    sparse vector with more indices than values, text that is not UTF-8, a payload that is no object, other columns."""
    require_schema(batch, spec, where="dump")
    for vector in spec.vectors:
        if (vector.dimensions or 0) > MOST_DIMENSIONS:
            raise DataInvalid(f"column {vector.column!r}: {vector.dimensions} dimensions, of at most {MOST_DIMENSIONS}")
    require_sound_columns(batch, spec)
    if odd := not_objects(batch.column("payload")):
        raise DataInvalid(f"the payload of record {batch.column('id')[odd[0]].as_py()!r} is no JSON object")


def require_sound_columns(batch: pa.RecordBatch, spec: CollectionSpec) -> None:
    """The part of `require_sound` that looks at the columns of `spec` that are in `batch`, and not into payloads.

    0.08 us a row of 384 numbers and a kilobyte of text.
    """
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid as error:
        raise DataInvalid(f"a batch of {len(batch)} rows is not valid Arrow data: {_first_line(error)}") from error
    if batch.column("id").null_count:
        row = batch.column("id").is_valid().index(False).as_py()
        raise DataInvalid(f"row {row} of a batch has no id")
    for vector in spec.vectors:
        if vector.column not in batch.schema.names:
            continue
        column = batch.column(vector.column)
        if _has_hole(column):
            row = next(row for row, value in enumerate(column.to_pylist()) if _holds_none(value))
            name = batch.column("id")[row].as_py()
            raise DataInvalid(f"the vector in column {vector.column!r} of record {name!r} has a missing number")
        if vector.kind is VectorKind.SPARSE:
            indices, values = (part.value_lengths() for part in column.flatten())
            if not indices.equals(values):
                row = pc.fill_null(pc.not_equal(indices, values), False).index(True).as_py()
                name = batch.column("id")[row].as_py()
                raise DataInvalid(
                    f"the sparse vector of record {name!r} in {vector.column!r} has not as many values as indices"
                )


def not_objects(payloads: pa.Array) -> list[int]:
    """The numbers of the rows whose payload, canonical JSON, is something else than an object; null is in order."""
    is_tag = pc.and_not(pc.starts_with(payloads, f'{{"{TAG_PREFIX}'), pc.starts_with(payloads, f'{{"{ESCAPED_PREFIX}'))
    odd = pc.or_(pc.invert(pc.starts_with(payloads, "{")), is_tag)
    [rows] = pc.fill_null(odd, False).to_numpy(zero_copy_only=False).nonzero()
    return [int(row) for row in rows]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _has_hole(column: pa.Array) -> bool:
    """Whether anything inside the values that are there is null."""
    if pa.types.is_struct(column.type):
        return any(child.null_count > column.null_count or _has_hole(child) for child in column.flatten())
    if pa.types.is_fixed_size_list(column.type) and not column.values.null_count:
        return False
    if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
        items = column.flatten()
        return bool(items.null_count) or _has_hole(items)
    return False


def _holds_none(value: Any) -> bool:
    if isinstance(value, dict):
        return any(item is None or _holds_none(item) for item in value.values())
    return isinstance(value, list) and any(item is None or _holds_none(item) for item in value)
