"""Columns of Milvus's answers as columns of a stream; `rows` goes the other way.

A vector field goes over as its bytes: protobuf's own text of a `FloatArray` is a tag, a length, and the numbers as they
lie in memory. 20,000 x 384 take 40 ms so, and 2 s as the list of Python floats that the message shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp import canonical
from exitramp.arrow import dense_array, stream_schema, vector_type
from exitramp.errors import DataInvalid
from exitramp.payloads import decoded_payloads, has_tags, payload_array
from exitramp.ports.tables import payload_column
from exitramp.records import CollectionSpec, VectorField, VectorKind
from exitramp_adapters.stores.milvus.column_types import BYTES, SLOTS, Kind
from exitramp_adapters.stores.milvus.schema import META, REST, Collection

Numbers = npt.NDArray[Any]


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


def values_of(column: Any, field: Any, ids: Sequence[str]) -> list[Any]:
    """The values of a scalar field, None where it is null. Raises `DataInvalid` naming a record whose JSON is none."""
    kind = field.data_type
    scalars = column.scalars
    values: list[Any]
    if kind == Kind.ARRAY:
        inner = SLOTS[field.element_type]
        values = [list(getattr(each, inner).data) for each in scalars.array_data.data]
    elif kind == Kind.GEOMETRY:
        values = list(scalars.geometry_wkt_data.data)
    else:
        values = list(getattr(scalars, SLOTS[kind]).data)
    valid = list(column.valid_data)
    if valid and len(values) < len(ids):  # only those that are there were sent
        there = iter(values)
        values = [next(there) if each else None for each in valid]
    elif valid:
        values = [value if each else None for value, each in zip(values, valid, strict=True)]
    if kind == Kind.JSON:
        pairs = zip(ids, values, strict=True)
        return [None if value is None else _json(bytes(value), field.name, id_) for id_, value in pairs]
    if kind == Kind.TIMESTAMPTZ:
        return [None if value is None else datetime.fromisoformat(value) for value in values]
    return values


def _json(text: bytes, name: str, id_: str) -> Any:
    """What JSON holds. Nobody writes tags into it, our sink neither: what looks like one is a key of the user's own."""
    try:
        return canonical.parse(text.decode("utf-8"), tags=False)
    except (DataInvalid, UnicodeDecodeError) as error:  # milvus-lite gives a JSON text back without its quotes
        said = error.message if isinstance(error, DataInvalid) else "no UTF-8"
        raise DataInvalid(f"{name!r} of the record {id_!r} cannot be read: {said}") from error


def _texts(column: Any, collection: Collection, name: str, ids: Sequence[str]) -> pa.Array:
    values = values_of(column, collection.fields[name], ids)
    if not all(value is None or isinstance(value, str) for value in values):
        raise DataInvalid(f"the field {name!r} holds no texts", hint="name a VARCHAR field")
    return pa.array(values, pa.string())


def _payloads(found: Mapping[str, Any], collection: Collection, ids: Sequence[str]) -> pa.Array:
    roles = collection.roles
    values = {name: values_of(found[name], collection.fields[name], ids) for name in roles.values}
    objects: list[Any] | None = None
    if collection.dynamic:
        texts = [bytes(each) or b"{}" for each in found[META].scalars.json_data.data]
        column = pa.array([text.decode("utf-8") for text in texts], pa.string())
        if has_tags(column):
            objects = [_json(text, META, id_) for id_, text in zip(ids, texts, strict=True)]
        else:
            objects = decoded_payloads(column)
    if roles.payload is not None:
        objects = _joined(objects, values_of(found[roles.payload], collection.fields[roles.payload], ids), ids)
    if collection.has_rest:
        rests = values_of(found[REST], collection.fields[REST], ids)
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
    if column.type == Kind.FLOAT_VECTOR:
        flat: Numbers = np.frombuffer(_inside(held.float_vector.SerializeToString()), "<f4")
    else:
        name, item = BYTES[column.type]
        flat = np.frombuffer(getattr(held, name), item)
        if column.type == Kind.BFLOAT16_VECTOR:
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
