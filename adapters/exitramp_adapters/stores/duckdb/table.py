"""What a table is as a collection: which column is what, by the note that exitramp left, or by the address and indexes.

A table that exitramp makes has the columns `id` (VARCHAR, BIGINT, UBIGINT or UUID), `namespace` and `document` where
there are any, `payload` (JSON) and one for each vector field; columns of a DuckDB table that the records came from hold
what fits into them. `_exitramp` is DuckDB's hash of the payload as it was written: where it is still right, the text is
canonical and need not be looked into. Its comment ends in a line `exitramp: {…}` that says so, behind whatever a user
wrote there. Of anybody else's table or view nothing is guessed from a name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from exitramp.errors import CollectionMissing, DataInvalid, FormatUnknown, UsageError
from exitramp.ports import Origin
from exitramp.ports.tables import OPTIONS, Roles, roles_in
from exitramp.records import CollectionSpec, DType, Finding, IdKind, Metric, VectorField, VectorKind, parse_metric
from exitramp.urls import Address
from exitramp_adapters.stores.duckdb.catalog import (
    HNSW_METRICS,
    INDEX_KEY,
    NOTE,
    columns_of,
    hnsw_of,
    indexes_of,
    names_in,
    note_in,
    primary_key,
    relation_in,
)
from exitramp_adapters.stores.duckdb.column_types import is_json, is_text, is_textual
from exitramp_adapters.stores.duckdb.file import quoted

FORMAT: Final = 1
HASH: Final = "_exitramp"
ID_TYPES: Final = {
    IdKind.STRING: "VARCHAR",
    IdKind.UUID: "UUID",
    IdKind.INT64: "BIGINT",
    IdKind.UINT64: "UBIGINT",
}
_ID_KINDS: Final = {
    **dict.fromkeys(("tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger"), IdKind.INT64),
    "ubigint": IdKind.UINT64,
    "uuid": IdKind.UUID,
    "varchar": IdKind.STRING,
    **dict.fromkeys(("hugeint", "uhugeint"), IdKind.STRING),
}
_NUMBERS: Final = {
    "float": DType.FLOAT32,
    "double": DType.FLOAT64,
    "tinyint": DType.INT8,
    "utinyint": DType.BINARY,
}


@dataclass(frozen=True, slots=True)
class Table:
    """A table or view, found. `roles` says what its columns are, `types` their types by name.

    collated: whether its texts may be ordered by other rules than their bytes. hnsw: the columns that have such an
    index, with what the extension tells of it. comment: what its user wrote. added: columns that somebody gave a table
    of exitramp's own: they are read, and not written.
    """

    spec: CollectionSpec
    relation: str
    roles: Roles
    types: Mapping[str, Any] = field(hash=False)
    is_own: bool
    is_view: bool
    collated: bool
    origin: Origin | None
    comment: str
    hnsw: Mapping[str, Mapping[str, Any]] = field(hash=False)
    added: frozenset[str] = frozenset()

    def key(self, role: str) -> str:
        """The SQL of the id or the namespace, to be compared and ordered by its bytes."""
        column = self.roles.id if role == "id" else str(self.roles.namespace)
        if self.types[column].id in ("hugeint", "uhugeint"):  # which Arrow has no numbers for to sort by
            return f"CAST({quoted(column)} AS VARCHAR)"
        collated = self.collated and self.types[column].id == "varchar"
        return f"({quoted(column)} COLLATE C)" if collated else quoted(column)

    def id_text(self) -> str:
        return f"CAST({self.key('id')} AS VARCHAR)"

    def namespace_text(self) -> str:
        return "NULL" if self.roles.namespace is None else f"CAST({self.key('namespace')} AS VARCHAR)"

    def column_of(self, wanted: VectorField) -> str:
        return next(name for name, each in self.roles.vectors.items() if each == wanted)

    def findings(self) -> Iterable[Finding]:
        """What whoever reads it must know beforehand."""
        if self.roles.unread:
            named = ", ".join(self.roles.unread)
            yield Finding("source.columns_unread", f"columns that are not read, since ?vectors= names others: {named}")
        textual = [name for name in self.roles.values if is_textual(self.types[name])]
        if textual:
            yield Finding("source.columns_as_text", f"columns whose values become text: {', '.join(textual)}")


def find(cursor: Any, address: Address) -> Table:
    """The table of the address. Raises `CollectionMissing`, `UsageError` or `DataInvalid`."""
    name = address.require_collection()
    found = names_in(cursor)
    if name.startswith("main.") and name not in found:
        name = name.removeprefix("main.")
    if name not in found:
        alike = [each for each in found if each.lower() == name.lower()]
        shown = ", ".join(f"'{each}'" for each in sorted(found)[:20]) or "none"
        hint = f"it is written '{alike[0]}'" if alike else f"the tables there are: {shown}"
        spelt = [quoted_name for quoted_name, told in found.items() if name in (told[1], f"{told[0]}.{told[1]}")]
        if len(spelt) > 1:
            raise UsageError(f"{address}: {name!r} is the name of two tables", hint=f"write {' or '.join(spelt)}")
        raise CollectionMissing(f"{address}: there is no table {name!r}", hint=hint)
    schema, table, kind, remark, sql = found[name]
    relation = relation_in(cursor, schema, table)
    types = {column[0]: column[1] for column in columns_of(cursor, relation)}
    try:
        comment, note = note_in(remark)
    except DataInvalid as error:
        raise DataInvalid(f"{address}: {error.message}", hint="COMMENT ON TABLE … IS … mends it") from error
    if note is not None and note.get("format") != FORMAT:
        raise FormatUnknown(f"{address}: the note on {name!r} is of a format that this program does not know")
    indexes = indexes_of(cursor, schema, table)
    hnsw = hnsw_of(cursor, schema, table, indexes, str(address))
    is_own = note is not None and "id" in note
    added: tuple[str, ...] = ()
    if note is not None and is_own:
        address.only_options("index")
        roles, id_kind = _own_roles(address, note, types)
        known = {roles.id, roles.namespace, roles.document, roles.payload, *roles.vectors, *roles.values, HASH}
        added = tuple(column for column in types if column not in known)
        roles = replace(roles, values=(*roles.values, *added))
    else:
        address.only_options("index", "metric", *OPTIONS)
        roles = _foreign_roles(cursor, address, (schema, table), types, (note or {}).get("metrics", {}), hnsw)
        id_kind = _id_kind(address, roles.id, types[roles.id])
    told: dict[str, Any] = {
        "columns": {column: str(held) for column, held in types.items() if not is_own or column in roles.values},
        "values": [name for name in roles.values if name not in added],
        "primary_key": primary_key(cursor, schema, table),
        "indexes": indexes,
        "hnsw": {column: dict(about) for column, about in hnsw.items()},
        "metadata": {"comment": comment} if comment else {},
    }
    spec = CollectionSpec(
        address.require_collection(),
        id_kind,
        tuple(roles.vectors.values()),
        has_namespaces=roles.namespace is not None,
        has_documents=roles.document is not None,
        index={INDEX_KEY: told},
    )
    return Table(
        spec,
        relation,
        roles,
        types,
        is_own,
        kind == "view",
        kind == "view" or "COLLATE" in sql.upper(),
        Origin.from_json(note["origin"]) if note and note.get("origin") else None,
        comment,
        hnsw,
        frozenset(added),
    )


def remark_of(comment: str, table_roles: Roles, id_kind: IdKind, origin: Origin | None) -> str:
    """The comment of a table of ours."""
    note = {
        "format": FORMAT,
        "id": table_roles.id,
        "id_kind": id_kind.value,
        "namespace": table_roles.namespace,
        "document": table_roles.document,
        "payload": table_roles.payload,
        "vectors": {column: each.to_json() for column, each in table_roles.vectors.items()},
        "values": list(table_roles.values),
        "origin": None if origin is None else origin.to_json(),
    }
    line = NOTE + json.dumps(note, ensure_ascii=True)
    return f"{comment}\n{line}" if comment else line


def _own_roles(address: Address, note: Mapping[str, Any], types: Mapping[str, Any]) -> tuple[Roles, IdKind]:
    vectors = {}
    for column, told in note["vectors"].items():
        made = VectorField.from_json(told)
        there = field_of(types[column], made.name, made.metric) if column in types else None
        if there is None or (there.kind, there.dtype, there.dimensions) != (made.kind, made.dtype, made.dimensions):
            raise DataInvalid(f"{address}: the column '{column}' is not there any more as exitramp made it")
        vectors[column] = made
    roles = Roles(
        note["id"], note["namespace"], note["document"], note["payload"], vectors, tuple(note.get("values", ()))
    )
    for column in (roles.id, roles.namespace, roles.document, roles.payload, *roles.values):
        if column is not None and column not in types:
            raise DataInvalid(f"{address}: the column '{column}' is not there any more")
    return roles, IdKind(note["id_kind"])


def _foreign_roles(
    cursor: Any,
    address: Address,
    at: tuple[str, str],
    types: Mapping[str, Any],
    noted: Mapping[str, str],
    hnsw: Mapping[str, Mapping[str, Any]],
) -> Roles:
    """Arrays of FLOAT and DOUBLE are vectors, and lists of such; of other types the columns that the address names."""
    named = [name for name in (address.option("vectors") or "").split(",") if name]
    said = _said_metrics(address)
    fields: dict[str, VectorField] = {}
    for name, kind in types.items():
        found = field_of(kind, name, Metric.DOT)
        if found is None and name in named and kind.id == "list" and kind.children[0][1].id in _NUMBERS:
            found = _of_lists(cursor, address, at, name, kind)
        usual = (
            found is not None and found.dtype in (DType.FLOAT32, DType.FLOAT64) and found.kind is not VectorKind.SPARSE
        )
        if found is not None and (name in named or (usual and kind.id in ("array", "list"))):
            fields[name] = found
    roles = roles_in(address, list(types), key=primary_key(cursor, *at), vectors=fields)
    for column in (roles.document,):
        if column is not None and not is_text(types[column]):
            raise UsageError(f"{address}: document={column}: it is {types[column]}, and a document is text")
    if roles.namespace is not None and types[roles.namespace].id not in _ID_KINDS:
        raise UsageError(
            f"{address}: namespace={roles.namespace}: no namespace is of the type {types[roles.namespace]}"
        )
    if roles.payload is not None and not (
        types[roles.payload].id in ("struct", "map", "varchar") or is_json(types[roles.payload])
    ):
        raise UsageError(f"{address}: payload={roles.payload}: it is {types[roles.payload]}, which holds no objects")
    vectors = {
        column: replace(each, metric=_metric_of(address, column, each, said, noted, hnsw))
        for column, each in roles.vectors.items()
    }
    unread = tuple(name for name in roles.unread if name not in named)
    return replace(roles, vectors=vectors, unread=unread)


def field_of(kind: Any, name: str, metric: Metric) -> VectorField | None:
    """The vector field that a column of this type holds; None for a type of no certain length, or of no vectors."""
    if kind.id == "struct" and str(kind).upper().replace('"', "") == "STRUCT(INDICES UINTEGER[], VALUES FLOAT[])":
        return VectorField(name, VectorKind.SPARSE, DType.FLOAT32, metric, None)
    many = kind.id == "list" and kind.children[0][1].id == "array"
    array = kind.children[0][1] if many else kind
    if array.id != "array" or array.children[0][1].id not in _NUMBERS:
        return None
    dtype, items = _NUMBERS[array.children[0][1].id], int(array.children[1][1])
    dimensions = items * 8 if dtype is DType.BINARY else items
    return VectorField(name, VectorKind.MULTI if many else VectorKind.DENSE, dtype, metric, dimensions)


def type_of(wanted: VectorField) -> str:
    """The type of a column for a vector field."""
    if wanted.kind is VectorKind.SPARSE:
        return 'STRUCT("indices" UINTEGER[], "values" FLOAT[])'
    number = next(name for name, dtype in _NUMBERS.items() if dtype is wanted.dtype)
    return f"{number.upper()}[{wanted.item_count}]{'[]' if wanted.kind is VectorKind.MULTI else ''}"


def _of_lists(cursor: Any, address: Address, at: tuple[str, str], name: str, kind: Any) -> VectorField:
    """A column of lists whose lengths are all one. Raises `DataInvalid` where they differ."""
    relation = relation_in(cursor, *at)
    lengths = f"min(len({quoted(name)})), max(len({quoted(name)}))"
    [[least, most]] = cursor.execute(f"SELECT {lengths} FROM {relation}").fetchall()
    if not least or least != most:
        found = "no row has one" if least is None else f"there are some of {least} and some of {most} numbers"
        raise DataInvalid(f"{address}: vectors={name}: its lists have no common length: {found}")
    dtype = _NUMBERS[kind.children[0][1].id]
    return VectorField(name, VectorKind.DENSE, dtype, Metric.DOT, least * 8 if dtype is DType.BINARY else least)


def _said_metrics(address: Address) -> dict[str, Metric]:
    found = {}
    for part in (address.option("metric") or "").split(","):
        name, _, metric = part.rpartition(":")
        if metric:
            found[name] = parse_metric(metric, where="option 'metric'")
    return found


def _metric_of(
    address: Address,
    column: str,
    each: VectorField,
    said: Mapping[str, Metric],
    noted: Mapping[str, str],
    hnsw: Mapping[str, Mapping[str, Any]],
) -> Metric:
    """By the address, else by the table's note, else by the column's index; never by default."""
    if column in said or "" in said:
        return said.get(column, said.get("", each.metric))
    if column in noted:
        return parse_metric(noted[column], where=f"{address}: '{column}'")
    word = hnsw.get(column, {}).get("metric")
    if word is not None and word not in HNSW_METRICS:
        raise DataInvalid(f"{address}: the index of '{column}' has the unknown metric {word!r}")
    if word is not None:
        return HNSW_METRICS[word]
    if each.dtype is DType.BINARY:
        return Metric.HAMMING
    raise UsageError(
        f"{address}: nothing tells by which metric '{column}' is compared",
        hint="say it: ?metric=cosine, or ?metric=COLUMN:cosine,…",
    )


def _id_kind(address: Address, name: str, kind: Any) -> IdKind:
    if kind.id not in _ID_KINDS or is_json(kind):
        raise UsageError(f"{address}: id={name}: no id is of the type {kind}", hint="name another column, or a view")
    return _ID_KINDS[kind.id]
