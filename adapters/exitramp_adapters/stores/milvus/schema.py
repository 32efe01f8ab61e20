"""What a collection of Milvus is, and what one looks like that exitramp makes.

Ours is what `MilvusClient.create_collection` makes, so that applications find what they know: a primary key `id`
(VARCHAR or INT64), a vector field `vector` or one for each name, and dynamic fields on, in which every key of a payload
is a field. Beside them stands `exitramp_rest`, an array of texts that is empty but for the few payloads that dynamic
fields do not hold: larger than 64 kB, with a key that is a field's own name, or none at all. It then holds the
payload's canonical text, cut into pieces. Where the source was a Milvus too, its typed fields, its partition key and
its indexes are made again. What `create` was told of the origin stands in the collection's property `exitramp.origin`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from exitramp.errors import CollectionMissing, DataInvalid, StoreRejected, UsageError
from exitramp.ports import Origin
from exitramp.ports.tables import OPTIONS as ROLE_OPTIONS
from exitramp.ports.tables import Roles, roles_in
from exitramp.records import CollectionSpec, Finding, IdKind, Metric, VectorField, VectorKind, parse_metric
from exitramp.urls import Address
from exitramp_adapters.stores.milvus.client import NO_INDEX, Connection, Refused
from exitramp_adapters.stores.milvus.column_types import (
    ID_BYTES,
    METRICS,
    MOST_PIECES,
    MOST_TEXT,
    SCALARS,
    TYPE_OF,
    VECTOR_TYPES,
    Kind,
)

KEY: Final = "milvus"
ORIGIN: Final = "exitramp.origin"
NAMES: Final = "exitramp.names"
"""The property that says what vector fields are called, where that is not what `called` makes of their names."""
REST: Final = "exitramp_rest"
META: Final = "$meta"
VECTOR: Final = "vector"
PARTITIONS: Final = "$partitions"
"""As `?namespace=`: each partition is a namespace."""
OPTIONS: Final = (*ROLE_OPTIONS, "metric", "index", "key")


@dataclass(frozen=True, slots=True)
class Collection:
    """What the server told of a collection. `fields` are its own words for each, by name, dynamic ones left out."""

    name: str
    fields: Mapping[str, Any] = field(hash=False)
    key: str
    roles: Roles
    dynamic: bool
    indexes: Mapping[str, Mapping[str, str]] = field(hash=False)
    properties: Mapping[str, str] = field(hash=False)
    told: Mapping[str, Any] = field(hash=False)
    unread: tuple[str, ...] = ()
    is_served: bool = True

    @property
    def has_rest(self) -> bool:
        return REST in self.fields

    @property
    def is_integer(self) -> bool:
        return bool(self.fields[self.key].data_type == Kind.INT64)

    @property
    def partitioned(self) -> bool:
        return self.roles.namespace == PARTITIONS

    def origin(self) -> Origin | None:
        text = self.properties.get(ORIGIN)
        return None if text is None else Origin.from_json(json.loads(text))

    def spec(self) -> CollectionSpec:
        roles = self.roles
        kind = IdKind.INT64 if self.is_integer else IdKind.STRING
        vectors = tuple(roles.vectors.values())
        namespaces, documents = roles.namespace is not None, roles.document is not None
        return CollectionSpec(self.name, kind, vectors, namespaces, documents, {KEY: dict(self.told)})

    def field_of(self, vector: VectorField) -> str:
        """The name of the field that holds `vector`."""
        return next(name for name, each in self.roles.vectors.items() if each == vector)

    def without_vectors(self) -> Collection:
        return replace(self, roles=replace(self.roles, vectors={}))

    def findings(self) -> list[Finding]:
        found = []
        if self.unread:
            said = f"fields of types that exitramp does not read: {', '.join(self.unread)}"
            found.append(Finding("source.fields_unread", said, count=len(self.unread)))
        if self.roles.unread:
            said = f"vector fields that are not read, since ?vectors= names others: {', '.join(self.roles.unread)}"
            found.append(Finding("source.columns_unread", said, count=len(self.roles.unread)))
        partitions = self.told.get("partitions", [])
        if len(partitions) > 1 and not self.partitioned and not self.told.get("partition_key"):
            said = (
                f"it has the partitions {', '.join(partitions[:20])}; which of them a record is in is not read, "
                f"unless the address says ?namespace={PARTITIONS}"
            )
            found.append(Finding("source.partitions", said, count=len(partitions)))
        return found


def find(connection: Connection) -> Collection:
    """The collection of the address. Raises `CollectionMissing`; `DataInvalid` for a metric or type it cannot name."""
    from pymilvus.grpc_gen import milvus_pb2 as pb

    address = connection.address
    name = address.require_collection()
    if not connection.exists() or (connection.is_lite and not _is_plain(name)):
        raise CollectionMissing(f"{address}: there is no collection {name!r}")
    answer = connection.call("DescribeCollection", pb.DescribeCollectionRequest(collection_name=name))
    indexes = _indexes(connection, name)
    try:
        listed = connection.call("ShowPartitions", pb.ShowPartitionsRequest(collection_name=name)).partition_names
    except StoreRejected:
        if address.option("namespace") == PARTITIONS:
            raise
        listed = []  # whoever may read need not be allowed to know them
    fields = {each.name: each for each in answer.schema.fields if not each.is_dynamic}
    key = next(each.name for each in fields.values() if each.is_primary_key)
    properties = {each.key: each.value for each in answer.properties}
    vectors, unread = _vectors(address, fields, indexes, answer.schema)
    names = called(vectors) | json.loads(properties.get(NAMES, "{}"))
    vectors = {name: replace(each, name=names[name]) for name, each in vectors.items()}
    known = [name for name, each in fields.items() if each.data_type in SCALARS and name != REST]
    unread += [name for name, each in fields.items() if name not in known and name not in vectors and name != REST]
    roles = _roles(address, [*known, *vectors], key, vectors)
    told: dict[str, Any] = {
        "fields": [_plain_field(each) for each in fields.values() if each.name != REST],
        "dynamic": answer.schema.enable_dynamic_field,
        "indexes": [{"field": name, **params} for name, params in indexes.items()],
        "partitions": sorted(listed)[:1024],
        "shards": answer.shards_num,
        "consistency": int(answer.consistency_level),
        "properties": {name: value for name, value in properties.items() if name not in (ORIGIN, NAMES)},
    }
    partition_key = [each.name for each in fields.values() if each.is_partition_key]
    if partition_key:
        told |= {"partition_key": partition_key[0], "partitions": []}
    dynamic = bool(answer.schema.enable_dynamic_field)
    left, served = tuple(sorted(set(unread))), not connection.is_lite
    return Collection(name, fields, key, roles, dynamic, indexes, properties, told, left, served)


def _is_plain(name: str) -> bool:
    """milvus-lite makes a folder of every name."""
    return name not in ("", ".", "..") and not set("/\\\0") & set(name)


def _indexes(connection: Connection, name: str) -> dict[str, dict[str, str]]:
    return {
        each.field_name: {"name": each.index_name, **index_params(each.params)}
        for each in described_indexes(connection, name)
    }


def described_indexes(connection: Connection, name: str) -> Sequence[Any]:
    from pymilvus.grpc_gen import milvus_pb2 as pb

    try:
        answer = connection.call("DescribeIndex", pb.DescribeIndexRequest(collection_name=name))
    except Refused as error:
        if error.code == NO_INDEX or "index not found" in error.message or "no index" in error.message.lower():
            return []
        raise
    return list(answer.index_descriptions)


def index_params(pairs: Sequence[Any]) -> dict[str, str]:
    """An index's settings, those that stand as JSON in `params` among the others, as texts."""
    found = {each.key: each.value for each in pairs}
    inner = found.pop("params", "")
    try:
        more = json.loads(inner) if inner else {}
    except ValueError:
        more = {"params": inner}
    return found | {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in more.items()}


def _vectors(
    address: Address, fields: Mapping[str, Any], indexes: Mapping[str, Mapping[str, str]], schema: Any
) -> tuple[dict[str, VectorField], list[str]]:
    """The vector fields by name, and the names of what is there and not read."""
    made, unread = {}, [each.name for each in schema.struct_array_fields]
    wanted = {name for name in (address.option("vectors") or "").split(",") if name}
    outputs = {name for function in schema.functions for name in function.output_field_names}
    for name, each in fields.items():
        if each.data_type not in VECTOR_TYPES:
            continue
        if name in outputs and each.data_type == Kind.SPARSE_VECTOR:
            unread.append(name)  # of a full-text function: made from the text, and never given out
            continue
        sparse = each.data_type == Kind.SPARSE_VECTOR
        dimensions = None if sparse else int(_params(each)["dim"])
        # What the address leaves out need not have an index.
        left = bool(wanted) and name not in wanted
        metric = Metric.DOT if left else _metric(address, name, indexes.get(name), sparse=sparse)
        kind = VectorKind.SPARSE if sparse else VectorKind.DENSE
        made[name] = VectorField(name, kind, VECTOR_TYPES[each.data_type], metric, dimensions)
    return made, unread


def called(names: Iterable[str]) -> dict[str, str]:
    """What these vector fields of one collection are called: `vector` is the unnamed one where it is the only one."""
    found = list(names)
    return {name: "" if found == [VECTOR] else name for name in found}


def _metric(address: Address, name: str, index: Mapping[str, str] | None, *, sparse: bool) -> Metric:
    said = _said_metric(address, name)
    told = (index or {}).get("metric_type", "").upper()
    if not told:
        if sparse:
            return Metric.DOT  # the only one that sparse vectors are compared by
        if said is None:
            why = "has no index" if index is None else "has an index that does not say"
            hint = "make an index on it, or say how it is compared: ?metric=cosine (or dot, euclidean, hamming)"
            raise DataInvalid(f"{address}: the field {name!r} {why}, so its metric is not known", hint=hint)
        return said
    if told not in METRICS:
        if said is not None:
            return said
        raise DataInvalid(
            f"{address}: the field {name!r} has the metric {told}, which exitramp has not",
            hint="say by which to compare it instead: ?metric=hamming",
        )
    if said is not None and METRICS[told] != said:
        raise UsageError(f"{address}: metric={said}, but the index on {name!r} says {told}")
    return METRICS[told]


def _said_metric(address: Address, name: str) -> Metric | None:
    """What `?metric=dot`, for all fields, or `?metric=title:dot,body:cosine` says of this one."""
    plain = None
    for part in (address.option("metric") or "").split(","):
        called_, separator, metric = part.rpartition(":")
        if called_ == name and separator:
            return parse_metric(metric, where="option 'metric'")
        if metric and not separator:
            plain = parse_metric(metric, where="option 'metric'")
    return plain


def _roles(address: Address, names: Sequence[str], key: str, vectors: Mapping[str, VectorField]) -> Roles:
    by_partition = address.option("namespace") == PARTITIONS
    asked = replace(address, options={n: v for n, v in address.options.items() if n != "namespace" or not by_partition})
    roles = roles_in(asked, names, key=[key], vectors=vectors)
    if roles.id != key:
        raise UsageError(f"{address}: id={roles.id}: records are found by the primary key, which is {key}")
    if address.option("vectors") is not None and len(roles.vectors) == 1:
        roles = replace(roles, vectors={name: replace(each, name="") for name, each in roles.vectors.items()})
    return replace(roles, namespace=PARTITIONS) if by_partition else roles


def _params(each: Any) -> dict[str, str]:
    return {pair.key: pair.value for pair in each.type_params}


def _plain_field(each: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"name": each.name, "type": int(each.data_type), "params": _params(each)}
    if each.data_type == Kind.ARRAY:
        found["element"] = int(each.element_type)
    flags = ("is_primary_key", "autoID", "is_partition_key", "is_clustering_key", "nullable")
    return found | {flag: True for flag in flags if getattr(each, flag)}


def schema_for(name: str, spec: CollectionSpec) -> Any:
    """The schema of a collection that holds `spec`, with what a Milvus before it told of its fields."""
    from pymilvus.grpc_gen import schema_pb2

    told = spec.index.get(KEY) or {}
    before = {each["name"]: each for each in told.get("fields", ())}
    made = schema_pb2.CollectionSchema(name=name, enable_dynamic_field=True)
    key = next((name for name, each in before.items() if each.get("is_primary_key")), "id")
    vectors = {field_name(vector): vector for vector in spec.vectors}
    if key in vectors:
        key = "id"
    if spec.id_kind is IdKind.INT64:
        made.fields.add(name=key, data_type=Kind.INT64, is_primary_key=True)
    else:
        most = max(ID_BYTES, int(before.get(key, {}).get("params", {}).get("max_length", 0)))
        made.fields.add(name=key, data_type=Kind.VARCHAR, is_primary_key=True, type_params=pairs(max_length=most))
    for name_, vector in vectors.items():
        made.fields.add(name=name_, data_type=TYPE_OF[vector.dtype], type_params=pairs(dim=vector.dimensions))
    for each in before.values():
        taken = each["name"] in vectors or each["name"] in (key, REST)
        if taken or each["type"] not in SCALARS or each.get("is_primary_key"):
            continue
        made.fields.add(
            name=each["name"],
            data_type=each["type"],
            type_params=pairs(**_sized(each)),
            element_type=each.get("element", 0),
            is_partition_key=each.get("is_partition_key", False),
            is_clustering_key=each.get("is_clustering_key", False),
            nullable=each.get("nullable", False),
        )
    made.fields.add(
        name=REST,
        data_type=Kind.ARRAY,
        element_type=Kind.VARCHAR,
        type_params=pairs(max_length=MOST_TEXT, max_capacity=MOST_PIECES),
    )
    return made


def _sized(each: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a scalar field as a server demands them; milvus-lite does not tell the length of texts in an
    array."""
    texts = {Kind.VARCHAR, Kind.STRING}
    least: dict[str, Any] = {"max_capacity": MOST_PIECES} if each["type"] == Kind.ARRAY else {}
    least |= {"max_length": MOST_TEXT} if {each["type"], each.get("element")} & texts else {}
    return least | dict(each["params"])


def field_name(vector: VectorField) -> str:
    return vector.name or VECTOR


def pairs(**values: Any) -> list[Any]:
    from pymilvus.grpc_gen import common_pb2

    return [common_pb2.KeyValuePair(key=name, value=str(value)) for name, value in values.items()]
