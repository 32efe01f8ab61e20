"""Records as the contract's messages, and back: vectors as their bytes, payloads by `values`."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import numpy as np
import pyarrow as pa

from exitramp import canonical
from exitramp.arrow import dense_array, dense_matrix, stream_schema, vector_type
from exitramp.errors import DataInvalid, StoreProtocolError, UsageError
from exitramp.payloads import decoded_payloads, payload_array
from exitramp.records import CollectionSpec, VectorField, VectorKind
from exitramp_adapters.stores.weaviate import values
from exitramp_adapters.stores.weaviate.schema import DOCUMENT, NAMESPACE, PREFIX, REST, TERMS, Declared, Shape

_TENANT_CHARACTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_SPELT, _NONE, _HASHED = f"{PREFIX}x_", f"{PREFIX}none", f"{PREFIX}h_"
_TENANT_LENGTH: Final = 64


def tenant_of(namespace: str | None) -> str:
    """The tenant's name for a namespace: itself where it may be one, else spelt in base64, or as a hash if too long."""
    if namespace is None:
        return _NONE
    plain = set(namespace) <= _TENANT_CHARACTERS and not namespace.startswith(PREFIX)
    if plain and 0 < len(namespace) <= _TENANT_LENGTH:
        return namespace
    spelt = _SPELT + base64.urlsafe_b64encode(namespace.encode()).decode("ascii").rstrip("=")
    return spelt if len(spelt) <= _TENANT_LENGTH else _HASHED + hashlib.sha256(namespace.encode()).hexdigest()[:50]


def namespace_of(tenant: str) -> str | None:
    """The namespace for a tenant's name. One whose name is a hash says it in each object."""
    if tenant == _NONE:
        return None
    if tenant.startswith(_SPELT):
        spelt = tenant.removeprefix(_SPELT)
        try:
            return base64.urlsafe_b64decode(spelt + "=" * (-len(spelt) % 4)).decode()
        except ValueError:
            return tenant
    return tenant


def batch_of(results: Sequence[Any], shape: Shape, tenant: str, *, where: str) -> pa.RecordBatch:
    """The objects of a reply as a batch of the stream. Raises `DataInvalid` naming the row that is not of the spec."""
    spec = shape.spec
    ids = [each.metadata.id or str(UUID(bytes=each.metadata.id_as_bytes)) for each in results]
    documents: list[str | None] = []
    payloads: list[dict[str, Any] | None] = []
    namespaces: list[str | None] = [namespace_of(tenant)] * len(ids)
    for row, each in enumerate(results):
        payload, document, namespace = _payload_of(each.properties.non_ref_props, ids[row], where)
        payloads.append(payload)
        documents.append(document)
        if namespace is not None:
            namespaces[row] = namespace
    columns: dict[str, pa.Array] = {
        "id": pa.array(ids, pa.string()),
        "namespace": pa.array(namespaces, pa.string()),
        "document": pa.array(documents, pa.string()),
        "payload": payload_array(payloads),
    }
    for field in spec.vectors:
        found = vector_bytes(results, shape.native[field.name])
        make = _dense if field.kind is VectorKind.DENSE else _multi
        columns[field.column] = make(found, field, ids, where)
    schema = stream_schema(spec)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _payload_of(properties: Any, id_: str, where: str) -> tuple[dict[str, Any] | None, str | None, str | None]:
    own: dict[str, str] = {}
    payload: dict[str, Any] = {}
    for key, value in properties.fields.items():
        kind = value.WhichOneof("kind")
        if kind == "null_value" or kind is None:
            continue
        if key[:9] == PREFIX:
            if kind == "text_value":
                own[key] = value.text_value
            if key in (DOCUMENT, REST, NAMESPACE, TERMS):
                continue
        payload[key] = getattr(value, kind) if kind in _PLAIN else values.read(value)
    rest = own.get(REST)
    if rest is not None:
        try:
            held = canonical.loads(rest)
        except DataInvalid as error:
            raise DataInvalid(f"{where}: the record '{id_}' has a property {REST} that is no JSON") from error
        if not isinstance(held, dict):
            raise DataInvalid(f"{where}: the record '{id_}' has a property {REST} that is no JSON object")
        payload = held | payload  # what an application wrote into a property of its own is newer
    return payload if payload or rest is not None else None, own.get(DOCUMENT), own.get(NAMESPACE)


_PLAIN: Final = frozenset({"text_value", "int_value", "bool_value", "number_value"})


def vector_bytes(results: Iterable[Any], declared: Declared) -> list[bytes | None]:
    """What each result has of a vector; None where it has none."""
    if not declared.name:
        return [each.metadata.vector_bytes or None for each in results]
    name = declared.name
    return [
        next((vector.vector_bytes for vector in each.metadata.vectors if vector.name == name), None) or None
        for each in results
    ]


def _dense(found: list[bytes | None], field: VectorField, ids: Sequence[str], where: str) -> pa.Array:
    size = field.item_count * 4
    for row, vector in enumerate(found):
        if vector is not None and len(vector) != size:
            raise DataInvalid(
                f"{where}: the record '{ids[row]}' has {len(vector) // 4} numbers in '{field.column}', not {size // 4}"
            )
    nothing = bytes(size)
    matrix = np.frombuffer(b"".join([nothing if each is None else each for each in found]), "<f4")
    valid = np.array([each is not None for each in found], dtype=bool)
    return dense_array(matrix.reshape(len(found), field.item_count), field, valid=valid)


def _multi(found: list[bytes | None], field: VectorField, ids: Sequence[str], where: str) -> pa.Array:
    size, flat, ends = field.item_count * 4, [], [0]
    for row, vector in enumerate(found):
        body = b"" if vector is None else vector[2:]
        if vector is not None and (int.from_bytes(vector[:2], "little") != field.item_count or len(body) % size):
            raise DataInvalid(f"{where}: the record '{ids[row]}' has vectors of other dimensions in '{field.column}'")
        flat.append(body)
        ends.append(ends[-1] + len(body) // size)
    single = VectorField("", VectorKind.DENSE, field.dtype, field.metric, field.dimensions)
    inner = dense_array(np.frombuffer(b"".join(flat), "<f4").reshape(-1, field.item_count), single)
    mask = pa.array([each is None for each in found], pa.bool_()) if found else None
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), inner, type=vector_type(field), mask=mask)


def payloads_of(batch: pa.RecordBatch) -> list[dict[str, Any] | None]:
    return decoded_payloads(batch.column("payload"))


def objects_of(
    batch: pa.RecordBatch,
    payloads: Sequence[dict[str, Any] | None],
    shape: Shape,
    kinds: Mapping[str, Mapping[str, Any]],
    *,
    where: str,
) -> list[Any]:
    """A message for each row. Raises `DataInvalid` naming the row with a number that is not finite."""
    from weaviate.proto.v1 import batch_pb2

    spec, name = shape.spec, shape.spec.name
    ids: list[str] = batch.column("id").to_pylist()
    namespaces = batch.column("namespace").to_pylist() if spec.has_namespaces else [None] * len(ids)
    documents = batch.column("document").to_pylist() if spec.has_documents else [None] * len(ids)
    vectors = [_vector_column(batch, field, ids, where) for field in spec.vectors]
    texts = batch.column("payload").to_pylist()
    found = []
    for row, id_ in enumerate(ids):
        made = batch_pb2.BatchObject(uuid=_uuid(id_, where), collection=name)
        target = made.properties
        if spec.has_namespaces:
            made.tenant = tenant_of(namespaces[row])
            if made.tenant.startswith(_HASHED):
                target.non_ref_properties.fields[NAMESPACE].string_value = namespaces[row]
        if documents[row] is not None:
            target.non_ref_properties.fields[DOCUMENT].string_value = documents[row]
        payload = payloads[row]
        if payload is not None:
            rest = {}
            for key, value in payload.items():
                definition = kinds.get(key)
                if definition is not None and values.fits(definition, value):
                    values.write(target, definition, value)
                else:
                    rest[key] = value
            if rest or not payload:  # all of it: the text is there already
                whole = len(rest) == len(payload)
                text = texts[row] if whole else canonical.dumps(rest)
                target.non_ref_properties.fields[REST].string_value = text
            if rest:
                target.text_array_properties.add(prop_name=TERMS, values=values.terms(rest))
        for field, column in zip(spec.vectors, vectors, strict=True):
            if (vector := column[row]) is not None:
                native = shape.native[field.name]
                if native.name:
                    kind = 2 if field.kind is VectorKind.MULTI else 1
                    made.vectors.add(name=native.name, vector_bytes=vector, type=kind)
                else:
                    made.vector_bytes = vector
        found.append(made)
    return found


def is_id(id_: str) -> bool:
    """Whether it is a UUID as the server writes it."""
    try:
        return str(UUID(id_)) == id_
    except ValueError:
        return False


def _uuid(id_: str, where: str) -> str:
    if is_id(id_):
        return id_
    raise DataInvalid(f"{where}: the id '{id_}' is no UUID as Weaviate writes it")


def _vector_column(batch: pa.RecordBatch, field: VectorField, ids: list[str], where: str) -> list[bytes | None]:
    column = batch.column(field.column)
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    if field.kind is VectorKind.DENSE:
        matrix = dense_matrix(column)
        finite = np.isfinite(matrix).all(axis=1) | ~valid
        if not finite.all():
            raise DataInvalid(f"{where}: the record '{ids[int(np.argmin(finite))]}' has a number that is not finite")
        return [matrix[row].tobytes() if valid[row] else None for row in range(len(ids))]
    inner, ends = dense_matrix(column.values), column.offsets.to_numpy()
    found: list[bytes | None] = []
    for row, id_ in enumerate(ids):
        if not valid[row]:
            found.append(None)
            continue
        part = inner[ends[row] : ends[row + 1]]
        if not np.isfinite(part).all() or not len(part):
            raise DataInvalid(
                f"{where}: the record '{id_}' has no vectors in '{field.column}', or not of finite numbers"
            )
        found.append((field.dimensions or 0).to_bytes(2, "little") + part.tobytes())
    return found


def query_bytes(query: Any, spec: CollectionSpec, *, k: int) -> tuple[VectorField, bytes]:
    """The query's vector as it is sent. Raises `UsageError` for one that the field cannot take."""
    field = spec.vector(query.field)
    given = query.multi if field.kind is VectorKind.MULTI else query.dense
    if k < 1:
        raise UsageError(f"a search for {k} records")
    if given is None or given.ndim != (2 if field.kind is VectorKind.MULTI else 1) or not given.size:
        raise UsageError(f"the field '{field.column}' is asked with one {field.kind.value} vector")
    if given.shape[-1] != field.dimensions:
        raise UsageError(f"the field '{field.column}' has {field.dimensions} dimensions, the query {given.shape[-1]}")
    numbers = np.ascontiguousarray(given, "<f4")
    if not np.isfinite(numbers).all():
        raise UsageError("a query of numbers that are not finite")
    head = (field.dimensions or 0).to_bytes(2, "little") if field.kind is VectorKind.MULTI else b""
    return field, head + numbers.tobytes()


def require_rows(reply: Any, most: int, *, where: str) -> Sequence[Any]:
    found: Sequence[Any] = reply.results
    if len(found) > most:
        raise StoreProtocolError(f"{where}: {len(found)} objects came where at most {most} were asked for")
    return found
