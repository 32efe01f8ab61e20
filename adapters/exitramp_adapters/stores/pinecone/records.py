"""What Pinecone can hold, and records between a stream's columns and those of its API.

Nothing of this was measured on Pinecone: it is what its documentation says (docs.pinecone.io/guides/index-data/
indexing-overview, docs.pinecone.io/reference/api/database-limits/operation-limits) and what its client 10.2 checks.
Where both are silent the narrower thing is declared, and the codec keeps the rest.

* Numbers of metadata are doubles, so an integer comes back as a float: declared as not kept, and so kept beside.
* A null in metadata is left out without a word; lists hold texts alone; there are no objects; 40 KB is the most.
* Dense values are float32, at least one of them not zero, and all finite. Whether -0.0 and subnormal numbers come back
  with their bits is not said. That cosine leaves vectors at their length is how its answers look in the documentation.
* Ids are 1 to 512 ASCII characters, and `fetch` takes none with a space.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from exitramp.arrow import dense_array, dense_matrix, record_keys, require_schema, stream_schema, vector_type
from exitramp.errors import DataInvalid, StoreProtocolError, UsageError
from exitramp.payloads import decoded_payloads, payload_array
from exitramp.ports import NameRule, PayloadLimits, Query, SinkLimits
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorField, VectorKind, parse_metric
from exitramp_adapters.stores.pinecone.client import NAMES, native_namespace

DENSE: Final = "_values"
SPARSE: Final = "_sparse_values"
METRICS: Final[Mapping[Metric, str]] = {
    Metric.COSINE: "cosine",
    Metric.DOT: "dotproduct",
    Metric.EUCLIDEAN: "euclidean",
}
MOST_ROWS: Final = 1000
METADATA_BYTES: Final = 40_960
# An upsert is 2 MB at most. Half of it keeps several under way for a batch; a write is billed by its size alone.
_REQUEST_BYTES: Final = 1_000_000
_MOST_SPARSE: Final = 1000
_ID_PATTERN: Final = r"[\x21-\x7e]{1,512}"
_TAKES_PATTERN: Final = "id_pattern" in {field.name for field in dataclasses.fields(SinkLimits)}
"""Whether a sink can say which texts it takes for ids. While none can, only ids that are numbers or UUIDs are written
as they are, and the codec stands a UUID in for every other."""
_IDS: Final[dict[str, Any]] = (
    {"id_kinds": frozenset({IdKind.STRING}), "id_bytes": 512, "id_pattern": _ID_PATTERN}
    if _TAKES_PATTERN
    else {"id_kinds": frozenset({IdKind.UINT64, IdKind.INT64, IdKind.UUID})}
)
LIMITS: Final = SinkLimits(
    **_IDS,
    metrics=frozenset(METRICS),
    payload=PayloadLimits(
        types=frozenset({"bool", "float", "string", "list"}),
        item_types=frozenset({"string"}),
        negative_zero=False,
        key_pattern=r"(?s)(?!\$).*",
        empty_payload=False,
    ),
    names=NameRule(NAMES, 1, 45),
    vector_kinds=frozenset({VectorKind.DENSE, VectorKind.SPARSE}),
    dimensions=20_000,
    sparse_metrics=frozenset({Metric.DOT}),
    namespaces=True,
    negative_zero_vectors=False,
    subnormal_vectors=False,
    zero_vectors=False,
    sparse_duplicates=False,
    keeps_origin=True,
    batch_rows=MOST_ROWS,
    metadata=("pinecone", "metadata"),
)


def fields_of(schema: Any, metric: str | None, *, where: str) -> tuple[VectorField, ...]:
    """The vector fields of an index. Raises `DataInvalid` for one that is none of vectors, or names no known metric.

    `metric` is the address's word, for an index that names one which is not known.
    """
    found: list[VectorField] = []
    held = dict(schema.fields)
    strange = sorted(set(held) - {DENSE, SPARSE})
    if strange:
        raise DataInvalid(
            f"{where}: the index has the fields {', '.join(strange)}, so it is one of documents or of integrated "
            "embedding, and only indexes of vectors can be read here",
            hint="export it as a backup in Parquet",
        )
    dense = held.get(DENSE)
    if dense is not None:
        named = {native: ours for ours, native in METRICS.items()}.get(str(dense.metric).lower())
        if metric is not None:
            named = parse_metric(metric, where="option 'metric'")
        if named is None:
            hint = f"say which it is: ?metric={'|'.join(each.value for each in METRICS)}"
            raise DataInvalid(f"{where}: the index has the unknown metric {dense.metric!r}", hint=hint)
        found.append(VectorField("", VectorKind.DENSE, DType.FLOAT32, named, dense.dimension))
    if SPARSE in held:
        found.append(VectorField("", VectorKind.SPARSE, DType.FLOAT32, Metric.DOT, None))
    return tuple(found)


def schema_of(spec: CollectionSpec, *, where: str) -> dict[str, Any]:
    """The schema of an index for these fields. Raises `DataInvalid`."""
    made: dict[str, Any] = {}
    for field in spec.vectors:
        if field.kind is VectorKind.SPARSE:
            made[SPARSE] = {"type": "sparse_vector"}
        else:
            made[DENSE] = {"type": "dense_vector", "dimension": field.dimensions, "metric": METRICS[field.metric]}
    if len(made) == 2 and made[DENSE]["metric"] != "dotproduct":
        hint = "write it with ?metric=dot, or leave the sparse field to a store that has it"
        raise DataInvalid(f"{where}: Pinecone searches sparse vectors beside dense ones under dot only", hint=hint)
    return {"fields": made}


def is_native_id(id_: str) -> bool:
    """Whether a record of Pinecone's can have this id, and can be fetched by it."""
    return 1 <= len(id_) <= 512 and id_.isascii() and id_.isprintable() and " " not in id_


def batch_of(found: Sequence[tuple[str | None, Any]], spec: CollectionSpec, *, where: str) -> pa.RecordBatch:
    """Records as the client gives them, each with its namespace, as the columns of a stream in the same order."""
    vectors = [vector for _, vector in found]
    columns: dict[str, pa.Array] = {
        "id": pa.array([vector.id for vector in vectors], pa.string()),
        "namespace": pa.array([namespace for namespace, _ in found], pa.string()),
        "payload": payload_array([_payload(vector.metadata) for vector in vectors]),
    }
    declared = {field.kind for field in spec.vectors}
    for vector in vectors:
        if vector.sparse_values is not None and vector.sparse_values.indices and VectorKind.SPARSE not in declared:
            raise DataInvalid(
                f"{where}: the record '{vector.id}' has sparse values, which the index's schema does not tell of",
                hint="read them with ?type=hybrid",
            )
    for field in spec.vectors:
        columns[field.column] = _sparse(vectors) if field.kind is VectorKind.SPARSE else _dense(vectors, field, where)
    schema = stream_schema(spec)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _payload(metadata: dict[str, Any] | None) -> dict[str, Any] | None:
    """Every number is a double, however the answer spells it."""
    if not metadata:
        return None
    return {key: float(value) if type(value) is int else value for key, value in metadata.items()}


def _dense(vectors: Sequence[Any], field: VectorField, where: str) -> pa.Array:
    items = field.item_count
    valid = np.array([bool(vector.values) for vector in vectors], bool)
    for vector in vectors:
        if vector.values and len(vector.values) != items:
            raise StoreProtocolError(f"{where}: '{vector.id}' has {len(vector.values)} numbers of {items}")
    held = np.array([vector.values for vector in vectors if vector.values], np.float32).reshape(-1, items)
    if valid.all():
        return dense_array(held, field)
    matrix = np.zeros((len(vectors), items), np.float32)
    matrix[valid] = held
    return dense_array(matrix, field, valid=valid)


def _sparse(vectors: Sequence[Any]) -> pa.Array:
    held = [vector.sparse_values for vector in vectors]
    valid = np.array([bool(each is not None and each.indices) for each in held], bool)
    layout = vector_type(VectorField("", VectorKind.SPARSE, DType.FLOAT32, Metric.DOT, None))
    children = []
    for side, dtype in (("indices", np.uint32), ("values", np.float32)):
        parts = [getattr(each, side) if there else [] for each, there in zip(held, valid, strict=True)]
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts], dtype=np.int64)])
        flat = np.array([item for part in parts for item in part]).astype(dtype)
        children.append(
            pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(flat), type=layout.field(side).type)
        )
    return pa.StructArray.from_arrays(children, fields=list(layout), mask=pa.array(~valid, pa.bool_()))


@dataclass(frozen=True, slots=True)
class Request:
    """Records for one upsert."""

    namespace: str
    vectors: list[dict[str, Any]]
    ids: frozenset[str]

    @classmethod
    def of(cls, namespace: str, vectors: list[dict[str, Any]]) -> Request:
        return cls(namespace, vectors, frozenset(vector["id"] for vector in vectors))

    def shares(self, other: Request) -> bool:
        """Whether both write one record."""
        return self.namespace == other.namespace and not self.ids.isdisjoint(other.ids)

    def native(self) -> list[Any]:
        """As the client takes them."""
        from pinecone import SparseValues, Vector

        return [
            Vector(
                vector["id"],
                orjson.Fragment(vector["values"]) if vector["values"] else [],
                SparseValues(**vector["sparse_values"]) if "sparse_values" in vector else None,
                vector.get("metadata"),
            )
            for vector in self.vectors
        ]

    def halves(self) -> list[Request]:
        """Two of half as many records; none of a single one."""
        middle = len(self.vectors) // 2
        return (
            [Request.of(self.namespace, part) for part in (self.vectors[:middle], self.vectors[middle:])]
            if middle
            else []
        )


def requests_of(
    batch: pa.RecordBatch,
    vectors: tuple[VectorField, ...],
    *,
    namespace: str | None,
    metadata_bytes: int,
    where: str,
) -> list[Request]:
    """The batch as upserts, by namespace. Everything is looked at first: raises `DataInvalid` naming the record."""
    spec = CollectionSpec("", IdKind.STRING, vectors, has_namespaces="namespace" in batch.schema.names)
    require_schema(batch, spec, where=where)
    if batch.num_rows > MOST_ROWS:
        raise UsageError(f"{where}: {batch.num_rows} rows at once, of at most {MOST_ROWS}")
    if not batch.num_rows:
        return []
    keys = record_keys(batch)
    for key in keys:
        if not is_native_id(key.id):
            hint = "an id is 1 to 512 printable ASCII characters without a space"
            raise DataInvalid(f"{where}: Pinecone takes no record with the id {key.id!r}", hint=hint)
    rows: list[dict[str, Any]] = [{"id": key.id} for key in keys]
    for field in vectors:
        if field.kind is VectorKind.SPARSE:
            _add_sparse(rows, batch.column(field.column), alone=len(vectors) == 1, where=where)
        else:
            _add_dense(rows, batch.column(field.column), where)
    texts = batch.column("payload").to_pylist()
    for row, text, payload in zip(rows, texts, decoded_payloads(batch.column("payload")), strict=True):
        if payload:
            size = len(text.encode("utf-8"))
            if size > metadata_bytes:
                raise DataInvalid(
                    f"{where}: the metadata of record '{row['id']}' takes {size:,} bytes, and Pinecone keeps "
                    f"{metadata_bytes:,} of a record",
                    hint="shorten it at its source, or say what was agreed with Pinecone: ?metadata_bytes=",
                )
            row |= {"metadata": payload, "size": size}
    places = [native_namespace(key.namespace) if namespace is None else namespace for key in keys]
    return _cut(rows, places)


def _cut(rows: Sequence[dict[str, Any]], places: Sequence[str]) -> list[Request]:
    open_: dict[str, tuple[list[dict[str, Any]], int]] = {}
    done: list[Request] = []
    for row, place in zip(rows, places, strict=True):
        size = _size(row)
        held, bytes_ = open_.get(place, ([], 0))
        if held and (bytes_ + size > _REQUEST_BYTES or len(held) >= MOST_ROWS):
            done.append(Request.of(place, held))
            held, bytes_ = [], 0
        held.append(row)
        open_[place] = held, bytes_ + size
    return [*done, *(Request.of(place, held) for place, (held, _) in open_.items())]


def _size(row: Mapping[str, Any]) -> int:
    """The bytes of a record in a request, or a few more."""
    sparse = row.get("sparse_values", {"indices": ()})
    texts: int = len(row["id"]) + len(row["values"]) + row.get("size", 0)
    return texts + 40 * len(sparse["indices"]) + 100


def _add_dense(rows: list[dict[str, Any]], column: pa.Array, where: str) -> None:
    matrix: npt.NDArray[np.float32] = np.asarray(dense_matrix(column), np.float32)
    if column.null_count:
        row = column.is_null().index(True).as_py()
        raise DataInvalid(f"{where}: record '{rows[row]['id']}' has no vector, and this index wants one of each")
    bad = ~np.isfinite(matrix).all(axis=1)
    if bad.any():
        raise DataInvalid(f"{where}: record '{rows[int(bad.argmax())]['id']}' holds a NaN or an infinity")
    empty = ~matrix.any(axis=1)
    if empty.any():
        raise DataInvalid(f"{where}: the vector of record '{rows[int(empty.argmax())]['id']}' is all zeros")
    # Written here as float32s, in the few digits that these need: 11 bytes a number, where the client would write a
    # double's 20. It puts a text that is JSON already into its request as it is, which takes 1,000 records of 384
    # numbers 16 ms instead of the 50 of lists of Python floats.
    text = orjson.dumps(np.ascontiguousarray(matrix), option=orjson.OPT_SERIALIZE_NUMPY)
    for row, numbers in zip(rows, text[2:-2].split(b"],["), strict=True):
        row["values"] = b"[%b]" % numbers


def _add_sparse(rows: list[dict[str, Any]], column: pa.Array, *, alone: bool, where: str) -> None:
    for row, value in zip(rows, column.to_pylist(), strict=True):
        if value is None and alone:
            raise DataInvalid(f"{where}: record '{row['id']}' has no vector, and this index wants one of each")
        if value is None:
            continue
        if not 1 <= len(value["indices"]) <= _MOST_SPARSE:
            raise DataInvalid(
                f"{where}: the sparse vector of record '{row['id']}' has {len(value['indices'])} numbers, and Pinecone "
                f"takes 1 to {_MOST_SPARSE}"
            )
        row["sparse_values"] = {"indices": value["indices"], "values": value["values"]}
        row.setdefault("values", b"")


def query_of(query: Query, fields: Sequence[VectorField], *, k: int) -> tuple[VectorField, dict[str, Any]]:
    """The field that is searched, and the query's own part of a request. Raises `UsageError`, `DataInvalid`."""
    if not 1 <= k <= 10_000:
        raise UsageError(f"Pinecone finds 1 to 10,000 records at once, not {k:,}")
    if query.multi is not None or (query.dense is None) == (query.sparse is None):
        raise UsageError("Pinecone is asked with one dense or one sparse vector")
    kind = VectorKind.DENSE if query.dense is not None else VectorKind.SPARSE
    asked = [field for field in fields if field.kind is kind and field.name == query.field]
    if not asked:
        known = ", ".join(repr(field.column) for field in fields)
        raise DataInvalid(f"there is no {kind.value} field {query.field!r}", hint=f"there are: {known}")
    if query.sparse is not None:
        indices, weights = query.sparse
        sparse = {"indices": [int(each) for each in indices], "values": [float(each) for each in weights]}
        return asked[0], {"sparse_vector": sparse}
    vector = np.asarray(query.dense, np.float32)
    if vector.shape != (asked[0].item_count,):
        raise DataInvalid(f"a query of {vector.shape[-1]} numbers for a field of {asked[0].item_count}")
    if not np.isfinite(vector).all():
        raise UsageError("the query holds a NaN or an infinity")
    return asked[0], {"vector": vector.tolist()}


def limits_for(kind: str | None, metadata_bytes: int) -> SinkLimits:
    """The limits of the address: with `type=sparse` those of an index of sparse vectors alone."""
    limits = replace(LIMITS, payload_bytes=metadata_bytes)
    if kind == "sparse":
        return replace(limits, vector_kinds=frozenset({VectorKind.SPARSE}), vectors_required=False)
    return limits


def known_keys(keys: Sequence[RecordKey]) -> list[RecordKey]:
    """Those, each once, that a record of Pinecone's can have."""
    return [key for key in dict.fromkeys(keys) if is_native_id(key.id)]
