"""Columns of Milvus's messages as columns of a stream, and back.

A vector field goes over as its bytes: protobuf's own text of a `FloatArray` is a tag, a length, and the numbers as they
lie in memory. 20,000 x 384 take 40 ms so, and 2 s as the list of Python floats that the message shows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp import canonical
from exitramp.arrow import dense_array, dense_matrix, require_schema, stream_schema, vector_type
from exitramp.errors import DataInvalid
from exitramp.payloads import decoded_payloads, parsed_payloads, payload_array
from exitramp.ports.tables import payload_column
from exitramp.records import CollectionSpec, DType, VectorField, VectorKind
from exitramp_adapters.stores._milvus_schema import (
    ARRAY,
    BFLOAT16_VECTOR,
    BINARY_VECTOR,
    BOOL,
    DOUBLE,
    FLOAT,
    FLOAT16_VECTOR,
    FLOAT_VECTOR,
    GEOMETRY,
    INT8,
    INT8_VECTOR,
    INT16,
    INT32,
    INT64,
    JSON,
    META,
    MOST_META,
    MOST_PIECES,
    MOST_TEXT,
    REST,
    SPARSE_VECTOR,
    STRING,
    TEXT,
    TIMESTAMPTZ,
    VARCHAR,
    Collection,
)

Numbers = npt.NDArray[Any]
_SLOTS: Final[Mapping[int, str]] = (
    {BOOL: "bool_data", INT8: "int_data", INT16: "int_data", INT32: "int_data", INT64: "long_data"}
    | {FLOAT: "float_data", DOUBLE: "double_data", JSON: "json_data"}
    | dict.fromkeys((VARCHAR, STRING, TEXT, TIMESTAMPTZ), "string_data")
)
_BYTES: Final[Mapping[int, tuple[str, str]]] = {
    BINARY_VECTOR: ("binary_vector", "u1"),
    FLOAT16_VECTOR: ("float16_vector", "<f2"),
    BFLOAT16_VECTOR: ("bfloat16_vector", "<u2"),
    INT8_VECTOR: ("int8_vector", "i1"),
}
_INTEGER_BITS: Final = {INT8: 8, INT16: 16, INT32: 32, INT64: 64}
# Of characters, of which each takes four bytes at most.
_LOST_KEYS: Final = frozenset({str(2**63 - 1), str(-(2**63))})
_PIECE: Final = MOST_TEXT // 4
_NULL: Final = "null"
_NONE: Final = b"{}"
# Names that Milvus, or milvus-lite in the rows it makes of the columns, uses itself.
_TAKEN: Final = frozenset({META, "_seq", "_partition"})


def batch_of(
    columns: Sequence[Any], collection: Collection, spec: CollectionSpec, namespace: str | None
) -> pa.RecordBatch:
    """The records of an answer; `namespace` is that of all of them, where partitions are."""
    found = {META if each.is_dynamic else each.field_name: each for each in columns}
    roles = collection.roles
    keys = found[collection.key].scalars
    ids = [str(key) for key in keys.long_data.data] if collection.is_integer else list(keys.string_data.data)
    made: dict[str, pa.Array] = {"id": pa.array(ids, pa.string())}
    if collection.partitioned:
        made["namespace"] = pa.array([namespace] * len(ids), pa.string())
    elif roles.namespace is not None:
        made["namespace"] = _texts(found[roles.namespace], collection, roles.namespace, ids)
    if roles.document is not None:
        made["document"] = _texts(found[roles.document], collection, roles.document, ids)
    made["payload"] = _payloads(found, collection, ids)
    for name, vector in roles.vectors.items():
        made[vector.column] = _vectors(found[name], vector, len(ids))
    schema = stream_schema(spec)
    return pa.RecordBatch.from_arrays([made[name] for name in schema.names], schema=schema)


def values_of(column: Any, field: Any, count: int) -> list[Any]:
    """The values of a scalar field, None where it is null."""
    kind = field.data_type
    scalars = column.scalars
    values: list[Any]
    if kind == ARRAY:
        inner = _SLOTS[field.element_type]
        values = [list(getattr(each, inner).data) for each in scalars.array_data.data]
    elif kind == GEOMETRY:
        values = list(scalars.geometry_wkt_data.data)
    else:
        values = list(getattr(scalars, _SLOTS[kind]).data)
    valid = list(column.valid_data)
    if valid and len(values) < count:  # only those that are there were sent
        there = iter(values)
        values = [next(there) if each else None for each in valid]
    elif valid:
        values = [value if each else None for value, each in zip(values, valid, strict=True)]
    if kind == JSON:
        return [None if value is None else canonical.parse(bytes(value).decode("utf-8")) for value in values]
    if kind == TIMESTAMPTZ:
        return [None if value is None else datetime.fromisoformat(value) for value in values]
    return values


def _texts(column: Any, collection: Collection, name: str, ids: Sequence[str]) -> pa.Array:
    values = values_of(column, collection.fields[name], len(ids))
    if not all(value is None or isinstance(value, str) for value in values):
        raise DataInvalid(f"the field {name!r} holds no texts", hint="name a VARCHAR field")
    return pa.array(values, pa.string())


def _payloads(found: Mapping[str, Any], collection: Collection, ids: Sequence[str]) -> pa.Array:
    roles = collection.roles
    values = {name: values_of(found[name], collection.fields[name], len(ids)) for name in roles.values}
    objects: list[Any] | None = None
    if collection.dynamic:
        texts = [bytes(each) or b"{}" for each in found[META].scalars.json_data.data]
        objects = decoded_payloads(pa.array([text.decode("utf-8") for text in texts], pa.string()))
    if roles.payload is not None:
        objects = _joined(objects, values_of(found[roles.payload], collection.fields[roles.payload], len(ids)), ids)
    if collection.has_rest:
        rests = values_of(found[REST], collection.fields[REST], len(ids))
        if any(rests):
            return _with_rest(values, objects or [{}] * len(ids), rests, ids)
    if not values and objects is not None:
        try:
            return payload_array(objects)
        except DataInvalid:
            pass  # that which names the record
    return payload_column(ids, values, objects)


def _joined(objects: list[Any] | None, more: Sequence[Any], ids: Sequence[str]) -> list[Any]:
    """Objects of the field that the address calls the payload, with the dynamic fields among them."""
    if objects is None:
        return list(more)
    found = []
    for id_, dynamic, told in zip(ids, objects, more, strict=True):
        both = sorted({*dynamic} & {*(told or {})}) if isinstance(told, dict) else []
        if both:
            raise DataInvalid(f"the record {id_!r} has the key {both[0]!r} in its payload and as a field")
        if dynamic and told is not None and not isinstance(told, dict):
            raise DataInvalid(f"the payload of the record {id_!r} is no object but a {canonical.type_name(told)}")
        found.append({**dynamic, **told} if dynamic and told is not None else dynamic or told)
    return found


def _with_rest(
    values: Mapping[str, Sequence[Any]], objects: Sequence[Any], rests: Sequence[list[str]], ids: Sequence[str]
) -> pa.Array:
    """Of a record with a rest, that is the payload; but a dynamic field that somebody wrote since is one too."""
    rows: list[Any] = []
    columns = zip(*values.values(), strict=True) if values else ((),) * len(ids)
    for own, typed, rest in zip(objects, columns, rests, strict=True):
        if not rest:
            rows.append(dict(zip(values, typed, strict=True)) | own)
            continue
        kept = canonical.loads("".join(rest))
        rows.append({**(kept or {}), **own} if own else kept)
    return payload_column(ids, {}, rows)


def _vectors(column: Any, vector: VectorField, count: int) -> pa.Array:
    if vector.kind is VectorKind.SPARSE:
        return _sparse(column, vector, count)
    held = column.vectors
    if column.type == FLOAT_VECTOR:
        flat: Numbers = np.frombuffer(_inside(held.float_vector.SerializeToString()), "<f4")
    else:
        name, item = _BYTES[column.type]
        flat = np.frombuffer(getattr(held, name), item)
        if column.type == BFLOAT16_VECTOR:
            flat = (flat.astype("<u4") << 16).view("<f4")
    rows = flat.reshape(-1, vector.item_count)
    valid = np.array(column.valid_data, dtype=bool) if len(column.valid_data) else np.ones(count, dtype=bool)
    if len(rows) < count and len(rows) == int(valid.sum()):
        full = np.zeros((count, vector.item_count), rows.dtype)
        full[valid] = rows
        rows = full
    if len(rows) != count:
        raise DataInvalid(f"{len(rows)} vectors of {count} records came back for the field {vector.name!r}")
    return dense_array(rows, vector, valid=valid)


def _sparse(column: Any, vector: VectorField, count: int) -> pa.Array:
    contents = column.vectors.sparse_float_vector.contents
    valid = list(column.valid_data) or [True] * count
    texts = list(contents) if len(contents) == count else _spread(contents, valid)
    cells = np.frombuffer(b"".join(texts), np.dtype([("index", "<u4"), ("value", "<f4")]))
    ends = np.cumsum([0, *(len(text) // 8 for text in texts)], dtype=np.int32)
    layout = vector_type(vector)
    parts = [
        pa.ListArray.from_arrays(
            pa.array(ends), pa.array(np.ascontiguousarray(cells[name])), type=layout.field(at).type
        )
        for at, name in enumerate(("index", "value"))
    ]
    return pa.StructArray.from_arrays(
        parts, fields=list(layout), mask=pa.array([not each for each in valid], pa.bool_())
    )


def _spread(contents: Sequence[bytes], valid: Sequence[bool]) -> list[bytes]:
    there = iter(contents)
    return [next(there) if each else b"" for each in valid]


def _inside(text: bytes) -> memoryview:
    """What stands behind the tag and the length of a message that has one packed field; nothing, where it has none."""
    if not text:
        return memoryview(b"")
    at = 1
    while text[at] & 0x80:
        at += 1
    return memoryview(text)[at + 1 :]


def _packed(numbers: bytes) -> bytes:
    """The opposite: the text of a message whose only field, the first one, is packed."""
    length, head = len(numbers), bytearray([0x0A])
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + numbers


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
    if kind == FLOAT_VECTOR:
        made.vectors.float_vector.MergeFromString(_packed(numbers))
    else:
        setattr(made.vectors, _BYTES[kind][0], numbers)
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
        column = _column(META, JSON)
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
    if field.data_type == ARRAY:
        most = int(params.get("max_capacity", MOST_PIECES))
        text = int(params.get("max_length", MOST_TEXT))
        return isinstance(value, list) and len(value) <= most and all(_fits(field.element_type, v, text) for v in value)
    return _fits(field.data_type, value, int(params.get("max_length", MOST_TEXT)))


def _fits(kind: int, value: Any, most: int) -> bool:
    if kind == BOOL:
        return isinstance(value, bool)
    if kind in _INTEGER_BITS:
        bound = 1 << (_INTEGER_BITS[kind] - 1)
        return type(value) is int and -bound <= value < bound
    if kind in (FLOAT, DOUBLE):
        if type(value) is not float or not math.isfinite(value):
            return False
        with np.errstate(over="ignore"):
            return kind == DOUBLE or float(np.float32(value)) == value
    if kind in (VARCHAR, STRING, TEXT):
        return isinstance(value, str) and len(value.encode()) <= most
    if kind == GEOMETRY:
        return isinstance(value, str)
    if kind == TIMESTAMPTZ:
        return isinstance(value, datetime) and value.utcoffset() is not None
    if kind == JSON:
        found = _json(value)
        return found is not None and len(found) <= MOST_META
    return False


def _zero(field: Any) -> Any:
    if field.data_type in (VARCHAR, STRING, TEXT):
        return ""
    if field.data_type == ARRAY:
        return []
    if field.data_type == JSON:
        return {}
    if field.data_type == TIMESTAMPTZ:
        return datetime.fromtimestamp(0, UTC)
    if field.data_type == GEOMETRY:
        return "POINT (0 0)"
    return {BOOL: False, FLOAT: 0.0, DOUBLE: 0.0}.get(field.data_type, 0)


def _typed_column(name: str, field: Any, values: Sequence[Any]) -> Any:
    made = _column(name, field.data_type)
    if field.nullable:
        made.valid_data.extend([value is not None for value in values])
        values = [value for value in values if value is not None]
    if field.data_type == ARRAY:
        inner = _SLOTS[field.element_type]
        made.scalars.array_data.element_type = field.element_type
        for value in values:
            getattr(made.scalars.array_data.data.add(), inner).data.extend(value)
        if not values:
            made.scalars.array_data.SetInParent()
        return made
    if field.data_type == GEOMETRY:
        slot = made.scalars.geometry_wkt_data
    else:
        slot = getattr(made.scalars, _SLOTS[field.data_type])
    if field.data_type == JSON:
        values = [_json(value) for value in values]
    elif field.data_type == TIMESTAMPTZ:
        values = [value.isoformat() for value in values]
    slot.data.extend(values)
    slot.SetInParent()
    return made
