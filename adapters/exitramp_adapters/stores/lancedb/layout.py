"""What a LanceDB table of exitramp's can hold, which columns it has, and what tells its records from one another."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from exitramp.arrow import stream_schema, vector_type
from exitramp.errors import DataInvalid
from exitramp.ports import DocumentRoom, NameRule, Origin, PayloadLimits, SinkLimits
from exitramp.records import CollectionSpec, DType, IdKind, RecordKey, VectorField, VectorKind
from exitramp_adapters.stores.lancedb.tables import FIELD, ID_KIND, INDEX_KEY, LAYOUT, METRICS, ORIGIN, View

_TYPES: Final = frozenset({"null", "bool", "int", "float", "string", "list", "object"})
BATCH_ROWS: Final = 10_000
LIMITS: Final = SinkLimits(
    id_kinds=frozenset(IdKind),
    metrics=frozenset(METRICS.values()),
    payload=PayloadLimits(
        types=_TYPES,
        item_types=_TYPES,
        mixed_lists=True,
        nested=True,
        empty_lists=True,
        empty_objects=True,
        # Lance's JSON has integers of 64 bits; beyond 2^53 the canonical text has an object in their place.
        integer_bits=54,
        integer_maximum=2**53,
        tagged_types=frozenset({"key"}),
    ),
    # A table is the folder `NAME.lance`; one that begins with a dot would be hidden.
    names=NameRule(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", maximum=200),
    vector_kinds=frozenset({VectorKind.DENSE, VectorKind.MULTI}),
    dtypes=frozenset(DType),
    named_vectors=True,
    dense_fields=None,
    field_names=NameRule(r"(?!(id|key|namespace|document|payload)\Z)([A-Za-z][A-Za-z0-9_]*)?", 0, 200),
    shared_field_names=False,
    vectors_required=False,
    vector_free=True,
    namespaces=True,
    documents=DocumentRoom.NATIVE,
    nonfinite_vectors=False,  # infinities are kept, NaN is refused
    keeps_origin=True,
    batch_rows=BATCH_ROWS,
    flush_rows=20_000,  # each flush is a version, a fragment and several syncs
    metadata=(INDEX_KEY, "metadata"),
)


def _columns_of(spec: CollectionSpec) -> dict[str, VectorField]:
    """The vector fields by their columns: each its own name, the unnamed one `vector`, or `vector_` where one is."""
    names = {field.name for field in spec.vectors}
    unnamed = "vector"
    while unnamed in names:
        unnamed += "_"
    return {field.name or unnamed: field for field in spec.vectors}


def table_schema(spec: CollectionSpec, origin: Origin, words: Mapping[str, Any] | None) -> pa.Schema:
    told = {LAYOUT: "1", ID_KIND: spec.id_kind.value, ORIGIN: json_text(origin.to_json())}
    fields = [pa.field("id", pa.string(), nullable=False, metadata=told)]
    if spec.has_namespaces:
        fields += [pa.field("key", pa.string(), nullable=False), pa.field("namespace", pa.string())]
    if spec.has_documents:
        fields.append(pa.field("document", pa.string()))
    fields.append(pa.field("payload", pa.json_()))
    for column, field in _columns_of(spec).items():
        about = {FIELD: json_text({"name": field.name, "metric": field.metric.value})}
        fields.append(pa.field(column, _stored_type(field), metadata=about))
    return pa.schema(fields, metadata={key: str(value) for key, value in (words or {}).items()} or None)


def _stored_type(field: VectorField) -> pa.DataType:
    """As the stream's, but with items that may be null: `merge_insert` refuses a missing vector otherwise."""
    kind = vector_type(field)
    dense = kind if field.kind is VectorKind.DENSE else kind.value_type
    stored = pa.list_(dense.value_type, dense.list_size)
    return stored if field.kind is VectorKind.DENSE else pa.list_(stored)


def table_rows(batch: pa.RecordBatch, view: View) -> pa.RecordBatch:
    """A batch of the stream as rows of the table, without a look at any of them."""
    columns = {name: batch.column(name) for name in stream_schema(view.spec).names}
    columns["payload"] = pa.ExtensionArray.from_storage(pa.json_(), batch.column("payload"))
    if view.roles.namespace is not None:
        columns["key"] = key_column(batch.column("namespace"), batch.column("id"))
    columns |= {
        column: batch.column(field.column).cast(_stored_type(field)) for column, field in view.roles.vectors.items()
    }
    names = [name for name in view.schema.names if name not in view.roles.values]
    fields = [pa.field(name, columns[name].type, name not in ("id", "key")) for name in names]
    return pa.RecordBatch.from_arrays([columns[name] for name in names], schema=pa.schema(fields))


def refuse_nan(rows: pa.Table, view: View) -> None:
    for column, field in view.roles.vectors.items():
        if field.dtype in (DType.INT8, DType.BINARY):
            continue
        for chunk in rows.column(column).chunks:
            flat = chunk.flatten() if field.kind is VectorKind.DENSE else chunk.flatten().flatten()
            if np.isnan(flat.to_numpy(zero_copy_only=False)).any():
                raise DataInvalid(f"a vector of '{column}' holds NaN, which LanceDB refuses")


class KnownKeys:
    """Which keys may be there, by 64-bit hashes in sorted runs that double in size. None that is there is missed."""

    def __init__(self) -> None:
        self._runs: list[npt.NDArray[np.int64]] = []

    def add(self, hashes: npt.NDArray[np.int64]) -> None:
        if not len(hashes):
            return
        run = np.sort(hashes)
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        self._runs.append(run)

    def has(self, hashes: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        found = np.zeros(len(hashes), np.bool_)
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            found |= run[at] == hashes
        return found


def hashes_of(keys: Any) -> npt.NDArray[np.int64]:
    """Python's own hashes of a column of texts: 0.15 us each, and the same only within this process."""
    texts = keys.to_pylist()
    return np.fromiter(map(hash, texts), np.int64, len(texts))


def sql_texts(texts: Sequence[str]) -> str:
    return ",".join("'" + text.replace("'", "''") + "'" for text in texts)


def key_text(key: RecordKey) -> str:
    """As `key_column` writes it: `/ID` in no namespace, else `LENGTH:NAMESPACE/ID`, which no two records share."""
    return f"/{key.id}" if key.namespace is None else f"{len(key.namespace)}:{key.namespace}/{key.id}"


def key_column(namespaces: pa.Array, ids: pa.Array) -> pa.Array:
    lengths = pc.utf8_length(namespaces).cast(pa.string())
    spaces = pc.binary_join_element_wise(lengths, namespaces, ":")
    return pc.binary_join_element_wise(pc.fill_null(spaces, ""), ids, "/")


def json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
