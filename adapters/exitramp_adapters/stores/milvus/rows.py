"""Records as the columns of an upsert; `columns` goes the other way.

What the fields of a collection do not hold goes into `exitramp_rest`, where there is one; elsewhere it is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa

from exitramp import canonical
from exitramp.arrow import dense_matrix, require_schema, stream_schema
from exitramp.errors import DataInvalid
from exitramp.payloads import parsed_payloads
from exitramp.records import CollectionSpec, DType, VectorField
from exitramp_adapters.stores.milvus.column_types import BYTES, MOST_META, MOST_PIECES, MOST_TEXT, SLOTS, Kind
from exitramp_adapters.stores.milvus.schema import META, REST, Collection

_INTEGER_BITS: Final = {Kind.INT8: 8, Kind.INT16: 16, Kind.INT32: 32, Kind.INT64: 64}
_LOST_KEYS: Final = frozenset({str(2**63 - 1), str(-(2**63))})
# Of characters, of which each takes four bytes at most.
_PIECE: Final = MOST_TEXT // 4
_NULL: Final = "null"
_NONE: Final = b"{}"
# Names that Milvus, or milvus-lite in the rows it makes of the columns, uses itself.
_TAKEN: Final = frozenset({META, "_seq", "_partition"})


def columns_for(batch: pa.RecordBatch, collection: Collection, spec: CollectionSpec, *, where: str) -> list[Any]:
    """What an upsert of these rows says, field by field. Raises `DataInvalid` naming a record that has no room here."""
    names = stream_schema(spec).names
    if set(names) == set(batch.schema.names):
        batch = batch.select(names)
    require_schema(batch, spec, where=where)
    ids = batch.column("id").to_pylist()
    made = [_keys(ids, collection, where)]
    for name, vector in collection.roles.vectors.items():
        made.append(_vector_column(name, batch.column(vector.column), vector, collection, ids, where))
    payloads = batch.column("payload")
    decoded = iter(parsed_payloads(batch))
    rows = [next(decoded) if there else None for there in payloads.is_valid().to_pylist()]
    texts = payloads.to_pylist()
    return made + _payload_columns(rows, texts, collection, ids, where)


def _keys(ids: Sequence[str], collection: Collection, where: str) -> Any:
    made = _column(collection.key, collection.fields[collection.key].data_type)
    if collection.is_integer:
        for id_ in ids if collection.is_served else ():
            if id_ in _LOST_KEYS:
                raise DataInvalid(f"{where}: the id {id_} is one of two INT64 keys that Milvus has no room for")
        made.scalars.long_data.data.extend([int(id_) for id_ in ids])
        return made
    most = int({each.key: each.value for each in collection.fields[collection.key].type_params}["max_length"])
    for id_ in ids:
        if len(id_) * 4 > most and len(id_.encode()) > most:
            raise DataInvalid(f"{where}: the id {id_[:40]!r}… has more than the {most} bytes that a key has here")
    made.scalars.string_data.data.extend(ids)
    return made


def _column(name: str, kind: int) -> Any:
    from pymilvus.grpc_gen import schema_pb2

    return schema_pb2.FieldData(field_name=name, type=kind)


def _vector_column(
    name: str, column: pa.Array, vector: VectorField, collection: Collection, ids: Sequence[str], where: str
) -> Any:
    if column.null_count:
        row = column.is_valid().to_pylist().index(False)
        raise DataInvalid(f"{where}: the record {ids[row]!r} has no vector in {name!r}, which Milvus demands")
    matrix = dense_matrix(column)
    if vector.dtype in (DType.FLOAT32, DType.FLOAT16) and not np.isfinite(matrix).all():
        row = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
        raise DataInvalid(f"{where}: the record {ids[row]!r} has NaN or an infinity in {name!r}, which Milvus refuses")
    kind = collection.fields[name].data_type
    made = _column(name, kind)
    made.vectors.dim = vector.dimensions
    numbers = np.ascontiguousarray(matrix).tobytes()
    if kind == Kind.FLOAT_VECTOR:
        made.vectors.float_vector.MergeFromString(_packed(numbers))
    else:
        setattr(made.vectors, BYTES[kind][0], numbers)
    return made


def _payload_columns(
    rows: Sequence[Any], texts: Sequence[str | None], collection: Collection, ids: Sequence[str], where: str
) -> list[Any]:
    typed = {name: collection.fields[name] for name in collection.roles.values}
    reserved = {*collection.fields, *_TAKEN} - {*typed}
    metas: list[bytes] = []
    rests: list[list[str]] = []
    columns: dict[str, list[Any]] = {name: [] for name in typed}
    for id_, row, text in zip(ids, rows, texts, strict=True):
        fits, meta = _fitted(row, text, typed, reserved, collection)
        if not fits and not collection.has_rest:
            said = "its payload has no room in the fields of this collection"
            raise DataInvalid(
                f"{where}: the record {id_!r}: {said}",
                hint="copy into a new collection, which has room for every payload",
            )
        rests.append([] if fits else _pieces(_NULL if text is None else text))
        metas.append(meta if fits else _NONE)
        for name, field in typed.items():
            columns[name].append(
                row[name] if fits and row and name in row else None if field.nullable else _zero(field)
            )
    made = [_typed_column(name, typed[name], values) for name, values in columns.items()]
    if collection.has_rest:
        made.append(_typed_column(REST, collection.fields[REST], rests))
    if collection.dynamic:
        column = _column(META, Kind.JSON)
        column.is_dynamic = True
        column.scalars.json_data.data.extend(metas)
        made.append(column)
    return made


def _fitted(
    row: Any, text: str | None, typed: Mapping[str, Any], reserved: set[str], collection: Collection
) -> tuple[bool, bytes]:
    """Whether the fields of this collection hold the payload, and what its dynamic fields are then."""
    if row is None:
        # Without any field to fill, no payload and an empty one would be one.
        return not collection.has_rest and not typed and not collection.dynamic, _NONE
    if not typed and reserved.isdisjoint(row) and collection.dynamic and not _has_tag(text or ""):
        meta = (text or "").encode()
        return len(meta) <= MOST_META, meta
    left = {key: value for key, value in row.items() if key not in typed}
    if not reserved.isdisjoint(left) or (left and not collection.dynamic):
        return False, _NONE
    for name, field in typed.items():
        # A nullable field that was left out would come back as null.
        if (name not in row and field.nullable) or not _holds(field, row.get(name)):
            return False, _NONE
    found = _json(left)
    return (found is not None and len(found) <= MOST_META), found or _NONE


def _json(value: Any) -> bytes | None:
    """JSON with integers in full, where canonical text has a tag for long ones; None for what only a tag can say."""
    try:
        found = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
    except (TypeError, ValueError):
        return None
    return None if _has_tag(found) else found.encode()


def _has_tag(text: str) -> bool:
    """Whether a key is one, as none inside a text is: there a backslash stands before its quote."""
    return canonical.TAG_PREFIX in text and any(mark + canonical.TAG_PREFIX in text for mark in ('{"', ',"'))


def _pieces(text: str) -> list[str]:
    return [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]


def _holds(field: Any, value: Any) -> bool:
    """Whether the field gives this value back exactly."""
    params = {each.key: each.value for each in field.type_params}
    if value is None:
        return bool(field.nullable)
    if field.data_type == Kind.ARRAY:
        most = int(params.get("max_capacity", MOST_PIECES))
        text = int(params.get("max_length", MOST_TEXT))
        return isinstance(value, list) and len(value) <= most and all(_fits(field.element_type, v, text) for v in value)
    return _fits(field.data_type, value, int(params.get("max_length", MOST_TEXT)))


def _fits(kind: int, value: Any, most: int) -> bool:
    if kind == Kind.BOOL:
        return isinstance(value, bool)
    if kind in _INTEGER_BITS:
        bound = 1 << (_INTEGER_BITS[Kind(kind)] - 1)
        return type(value) is int and -bound <= value < bound
    if kind in (Kind.FLOAT, Kind.DOUBLE):
        if type(value) is not float or not math.isfinite(value):
            return False
        with np.errstate(over="ignore"):
            return kind == Kind.DOUBLE or float(np.float32(value)) == value
    if kind in (Kind.VARCHAR, Kind.STRING, Kind.TEXT):
        return isinstance(value, str) and len(value.encode()) <= most
    if kind == Kind.GEOMETRY:
        return isinstance(value, str)
    if kind == Kind.TIMESTAMPTZ:
        return isinstance(value, datetime) and value.utcoffset() is not None
    if kind == Kind.JSON:
        found = _json(value)
        return found is not None and len(found) <= MOST_META
    return False


def _zero(field: Any) -> Any:
    if field.data_type in (Kind.VARCHAR, Kind.STRING, Kind.TEXT):
        return ""
    if field.data_type == Kind.ARRAY:
        return []
    if field.data_type == Kind.JSON:
        return {}
    if field.data_type == Kind.TIMESTAMPTZ:
        return datetime.fromtimestamp(0, UTC)
    if field.data_type == Kind.GEOMETRY:
        return "POINT (0 0)"
    return {Kind.BOOL: False, Kind.FLOAT: 0.0, Kind.DOUBLE: 0.0}.get(field.data_type, 0)


def _typed_column(name: str, field: Any, values: Sequence[Any]) -> Any:
    made = _column(name, field.data_type)
    if field.nullable:
        made.valid_data.extend([value is not None for value in values])
        values = [value for value in values if value is not None]
    if field.data_type == Kind.ARRAY:
        inner = SLOTS[field.element_type]
        made.scalars.array_data.element_type = field.element_type
        for value in values:
            getattr(made.scalars.array_data.data.add(), inner).data.extend(value)
        if not values:
            made.scalars.array_data.SetInParent()
        return made
    if field.data_type == Kind.GEOMETRY:
        slot = made.scalars.geometry_wkt_data
    else:
        slot = getattr(made.scalars, SLOTS[field.data_type])
    if field.data_type == Kind.JSON:
        values = [_json(value) for value in values]
    elif field.data_type == Kind.TIMESTAMPTZ:
        values = [value.isoformat() for value in values]
    slot.data.extend(values)
    slot.SetInParent()
    return made


def _packed(numbers: bytes) -> bytes:
    """The opposite: the text of a message whose only field, the first one, is packed."""
    length, head = len(numbers), bytearray([0x0A])
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + numbers
