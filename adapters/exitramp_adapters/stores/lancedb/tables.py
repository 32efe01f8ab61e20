"""A version of a LanceDB table as a collection: which column is what, and batches of its rows as records.

A table that exitramp made says so on its columns, in Lance's own metadata of fields, which every later version keeps:

| column      | type                       | metadata                                                              |
| `id`        | string                     | `exitramp:layout` "1", `exitramp:id_kind`, `exitramp:origin` as JSON  |
| `key`       | string, with namespaces    | the id within its namespace: LanceDB finds no null by comparing       |
| `namespace` | string, with namespaces    |                                                                       |
| `document`  | string, with documents     |                                                                       |
| `payload`   | JSON                       | Lance's own: `json_get_string(payload, 'k') = 'v'` works in a query   |
| `vector`, … | fixed-size lists, or lists of them | `exitramp:field`: name and metric                             |

Lance keeps JSON in a binary form of its own and writes it out again with sorted keys; 500,000 floats and texts of all
kinds came back as the same values, small floats in another spelling, which is put right on reading.

Every other table is somebody's own, read as `exitramp.ports.tables` says: the address names the id's column, unless
the table has a primary key; a metric is that of the column's index, or the address says it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from exitramp.arrow import dense_array, dense_matrix, stream_schema, vector_type
from exitramp.errors import (
    DataInvalid,
    UsageError,
)
from exitramp.payloads import canonical_objects
from exitramp.ports import Origin
from exitramp.ports.tables import Roles, payload_column, plain_values, roles_in
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind, parse_metric
from exitramp.urls import Address
from exitramp_adapters.stores.lancedb.json_form import is_text, lance_texts, payload_objects, payload_of

INDEX_KEY: Final = "lancedb"
LAYOUT, ID_KIND, ORIGIN, FIELD = (f"exitramp:{word}" for word in ("layout", "id_kind", "origin", "field"))
METRICS: Final = {
    "l2": Metric.EUCLIDEAN,
    "cosine": Metric.COSINE,
    "dot": Metric.DOT,
    "hamming": Metric.HAMMING,
}
DISTANCES: Final = {metric: word for word, metric in METRICS.items()}
_DTYPES: Final = {
    pa.float32(): DType.FLOAT32,
    pa.float16(): DType.FLOAT16,
    pa.float64(): DType.FLOAT64,
    pa.int8(): DType.INT8,
    pa.uint8(): DType.BINARY,
}
_EMBEDDING: Final = "embedding_functions"
_PRIMARY_KEY: Final = re.compile(r"lance-schema:unenforced-primary-key(:position)?")


@dataclass(frozen=True, slots=True)
class View:
    """One version of a table, which nothing changes any more. `table` is LanceDB's handle, checked out at it.

    key: the column that no two rows may have alike. ours: whether exitramp made the table. blobs: columns of which a
    query gives where the bytes are, and not what they are.
    """

    table: Any
    version: int
    schema: pa.Schema
    roles: Roles
    spec: CollectionSpec
    key: str
    ours: bool
    blobs: frozenset[str] = frozenset()

    @property
    def columns(self) -> list[str]:
        """Those that are read."""
        roles = self.roles
        named = [name for name in (roles.id, roles.namespace, roles.document, roles.payload) if name is not None]
        return [*named, *roles.values, *roles.vectors]

    def asked(self) -> Any:
        """A query for them."""
        query = self.table.search().select(self.columns)
        return query.with_row_id(True) if self.blobs else query


def view_of(table: Any, address: Address) -> View:
    """Raises `UsageError` where nothing tells which column is the id, or by which metric a column is compared."""
    schema: pa.Schema = table.schema
    version = int(table.version)
    ours = _told(schema, "id", LAYOUT) is not None
    if ours and _told(schema, "id", LAYOUT) != "1":
        raise DataInvalid(f"{address} was made by a later exitramp", hint="read it with that one")
    indices = index_settings(table)
    fields = _vector_fields(schema, indices, address)
    if ours:
        has = {name: name if name in schema.names else None for name in ("namespace", "document", "payload")}
        taken = {"id", "key", *fields, *(name for name in has if has[name])}
        others = tuple(name for name in schema.names if name not in taken)
        roles = Roles("id", has["namespace"], has["document"], has["payload"], fields, others)
    else:
        names = list(schema.names)
        key = [name for name in names if any(_PRIMARY_KEY.fullmatch(k) for k in _metadata(schema, name))]
        roles = roles_in(address, names, key=key, vectors=fields)
        if len(roles.vectors) == 1 and address.option("vectors") is not None:
            roles = replace(roles, vectors={c: replace(field, name="") for c, field in roles.vectors.items()})
    blobs = _blobs_in(schema, roles, address)
    unknown = [column for column, field in roles.vectors.items() if field.metric is _UNKNOWN]
    if unknown:
        raise UsageError(
            f"{address}: nothing tells by which metric '{unknown[0]}' is compared: it has no index",
            hint="say it: ?metric=cosine, or ?metric=COLUMN:cosine,… (l2 is called euclidean); "
            "?vectors=COLUMN,… leaves columns out",
        )
    told: dict[str, Any] = {"version": version, "indices": indices, "metadata": _own_words(schema)}
    if _EMBEDDING.encode() in (schema.metadata or {}):
        told[_EMBEDDING] = schema.metadata[_EMBEDDING.encode()].decode(errors="replace")
    if not ours:
        told["columns"] = {name: str(schema.field(name).type) for name in schema.names}
    spec = CollectionSpec(
        address.require_collection(),
        IdKind(_told(schema, "id", ID_KIND) or "string") if ours else _id_kind(schema.field(roles.id), address),
        tuple(roles.vectors.values()),
        has_namespaces=roles.namespace is not None,
        has_documents=roles.document is not None,
        index={INDEX_KEY: told},
    )
    return View(table, version, schema, roles, spec, "key" if ours and roles.namespace else roles.id, ours, blobs)


def origin_in(view: View) -> Origin | None:
    text = _told(view.schema, "id", ORIGIN) if view.ours else None
    return None if text is None else Origin.from_json(json.loads(text))


def index_settings(table: Any) -> list[dict[str, Any]]:
    """The table's indexes as LanceDB tells of them, vector and scalar ones."""
    found = []
    for index in table.list_indices():
        stats = table.index_stats(index.name)
        found.append(
            {
                "name": index.name,
                "type": str(stats.index_type) if stats else str(index.index_type),
                "columns": list(index.columns),
                "distance": getattr(stats, "distance_type", None),
                "unindexed": int(getattr(stats, "num_unindexed_rows", 0) or 0),
                "details": getattr(index, "index_details", None),
            }
        )
    return sorted(found, key=lambda each: str(each["name"]))


_UNKNOWN: Any = "unknown"


def _vector_fields(schema: pa.Schema, indices: list[dict[str, Any]], address: Address) -> dict[str, VectorField]:
    said = _said_metrics(address)
    indexed = {index["columns"][0]: index["distance"] for index in indices if index["distance"]}
    fields = {}
    for part in schema:
        kind, dense = VectorKind.DENSE, part.type
        if pa.types.is_list(dense) or pa.types.is_large_list(dense):
            kind, dense = VectorKind.MULTI, dense.value_type
        if not pa.types.is_fixed_size_list(dense) or dense.value_type not in _DTYPES:
            continue
        dtype = _DTYPES[dense.value_type]
        told = json.loads(_told(schema, part.name, FIELD) or "{}")
        if "metric" in told:
            metric: Any = parse_metric(told["metric"], where=f"{address}: '{part.name}'")
        elif part.name in indexed:
            if indexed[part.name] not in METRICS:
                raise DataInvalid(
                    f"{address}: the index of '{part.name}' has the unknown metric {indexed[part.name]!r}"
                )
            metric = METRICS[indexed[part.name]]
        elif dtype is DType.BINARY and kind is VectorKind.DENSE:
            metric = Metric.HAMMING  # LanceDB compares bytes by no other
        else:
            metric = said.get(part.name, said.get("", _UNKNOWN))
        count = dense.list_size * (8 if dtype is DType.BINARY else 1)
        fields[part.name] = VectorField(told.get("name", part.name), kind, dtype, metric, count)
    return fields


def _said_metrics(address: Address) -> dict[str, Metric]:
    found = {}
    for part in (address.option("metric") or "").split(","):
        name, _, metric = part.rpartition(":")
        if metric:
            found[name] = parse_metric(metric, where="option 'metric'")
    return found


def _id_kind(field: pa.Field, address: Address) -> IdKind:
    kind = field.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return IdKind.STRING
    if pa.types.is_integer(kind):
        return IdKind.UINT64 if pa.types.is_unsigned_integer(kind) else IdKind.INT64
    if isinstance(kind, pa.UuidType):
        return IdKind.UUID
    raise UsageError(f"{address}: id={field.name}: a {kind} is no id", hint="name a column of texts, integers or UUIDs")


def _metadata(schema: pa.Schema, name: str) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (schema.field(name).metadata or {}).items()}


def _told(schema: pa.Schema, name: str, key: str) -> str | None:
    return _metadata(schema, name).get(key) if name in schema.names else None


def _own_words(schema: pa.Schema) -> dict[str, str]:
    """What is written on the table as a whole, but for what LanceDB itself acts upon: it would embed what is added."""
    words = {key.decode(): value.decode(errors="replace") for key, value in (schema.metadata or {}).items()}
    words.pop(_EMBEDDING, None)
    return words


def id_texts(column: pa.Array, field: pa.Field, first_row: int = 0) -> pa.Array:
    """Ids as text. Raises `DataInvalid` naming the row that has none."""
    if column.null_count:
        row = column.is_valid().index(False).as_py()
        raise DataInvalid(f"row {first_row + row} of the table has no id: '{field.name}' is null there")
    if isinstance(field.type, pa.UuidType):
        return pa.array([str(value) for value in column.to_pylist()], pa.string())
    return column.cast(pa.string())


def records_of(batch: pa.RecordBatch, view: View, first_row: int = 0) -> pa.RecordBatch:
    """Rows of the table, whose columns are `view.columns` at least, as a batch of the collection's stream."""
    roles, schema = view.roles, stream_schema(view.spec)
    ids = id_texts(batch.column(roles.id), view.schema.field(roles.id), first_row)
    columns = {"id": ids, "payload": _payloads(batch, view, ids)}
    for name, column in (("namespace", roles.namespace), ("document", roles.document)):
        if column is not None:
            columns[name] = _texts(batch.column(column), column)
    for name, field in roles.vectors.items():
        columns[field.column] = _vectors(batch.column(name), field, ids)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _blobs_in(schema: pa.Schema, roles: Roles, address: Address) -> frozenset[str]:
    """Raises `UsageError` for blobs within lists and structs, which LanceDB's client cannot fetch."""
    found = {name for name in roles.values if _is_blob(schema.field(name))}
    nested = [name for name in roles.values if name not in found and _holds_blobs(schema.field(name).type)]
    if nested:
        raise UsageError(f"{address}: the column '{nested[0]}' has blobs inside its values, which cannot be fetched")
    return frozenset(found)


def _is_blob(field: pa.Field) -> bool:
    told = field.metadata or {}
    named = told.get(b"ARROW:extension:name", b"").decode(), getattr(field.type, "extension_name", "")
    return "lance.blob.v2" in named or told.get(b"lance-encoding:blob") == b"true"


def _holds_blobs(kind: pa.DataType) -> bool:
    inside = [kind.field(number) for number in range(kind.num_fields)]
    return any(_is_blob(part) or _holds_blobs(part.type) for part in inside)


def _values(batch: pa.RecordBatch, name: str, view: View) -> list[Any]:
    column = batch.column(name)
    if name not in view.blobs or not pa.types.is_struct(column.type):
        return plain_values(column)
    try:
        fetched = view.table.fetch_blobs(name, batch.column("_rowid").to_pylist())
    except (AttributeError, KeyError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"the bytes of the blob column '{name}' cannot be fetched ({type(error).__name__})",
            hint="LanceDB 0.40 fetches those of tables in its newer format (lance.blob.v2)",
        ) from error
    return list(fetched.to_pylist())


def _texts(column: pa.Array, name: str) -> pa.Array:
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise UsageError(f"the column '{name}' is a {kind} and no text")
    return column.cast(pa.string())


def _payloads(batch: pa.RecordBatch, view: View, ids: pa.Array) -> pa.Array:
    roles = view.roles
    held = None if roles.payload is None else batch.column(roles.payload)
    if held is not None and is_text(held.type) and not roles.values:
        if isinstance(held, pa.ExtensionArray):
            return lance_texts(held.storage.cast(pa.string()), ids, tags=view.ours)
        return canonical_objects(held.cast(pa.string()), partial(payload_of, ids), tags=view.ours)
    if held is None and not roles.values:
        return pa.nulls(len(batch), pa.string())
    objects = None if held is None else payload_objects(held, ids, tags=view.ours)
    return payload_column(ids.to_pylist(), {name: _values(batch, name, view) for name in roles.values}, objects)


def _vectors(column: pa.Array, field: VectorField, ids: pa.Array) -> pa.Array:
    try:
        return dense_column(column, field) if field.kind is VectorKind.DENSE else _multi(column, field)
    except DataInvalid as error:
        raise DataInvalid(f"'{field.name}', among the records '{ids[0]}' to '{ids[-1]}': {error.message}") from error


def dense_column(column: pa.Array, field: VectorField) -> pa.Array:
    valid = column.is_valid().to_numpy(zero_copy_only=False) if column.null_count else None
    return dense_array(dense_matrix(column), field, valid=valid)


def _multi(column: pa.Array, field: VectorField) -> pa.Array:
    """Lists of vectors, cut and joined without a look at each row."""
    inner = column.flatten()  # of the rows that are there: a null row has no items in it
    if inner.null_count:
        raise DataInvalid("a null stands where a vector belongs")
    single = VectorField("", VectorKind.DENSE, field.dtype, field.metric, field.dimensions)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    offsets: npt.NDArray[np.int32] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    mask = column.is_null() if column.null_count else None
    items = dense_array(dense_matrix(inner), single)
    return pa.ListArray.from_arrays(pa.array(offsets), items, type=vector_type(field), mask=mask)
