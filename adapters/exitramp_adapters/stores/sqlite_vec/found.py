"""Finding what an address names: a collection that exitramp made, or a table of somebody else's and how to read it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from exitramp.errors import CollectionMissing, DataInvalid, UsageError
from exitramp.ports.tables import OPTIONS, Roles, roles_in
from exitramp.records import CollectionSpec, DType, Finding, IdKind, Metric, VectorField, VectorKind, parse_metric
from exitramp.urls import Address
from exitramp_adapters.stores.sqlite_vec.collection import (
    ABOUT,
    INDEX_KEY,
    STORED,
    Collection,
    Part,
    about_own,
    own_collection,
    stored_as,
    tables_in,
)
from exitramp_adapters.stores.sqlite_vec.database import quoted
from exitramp_adapters.stores.sqlite_vec.declared import METRICS, Vec0, parse_vec0

_OPTIONS: Final = (*OPTIONS, "join", "metric", "first_bit")
_SHADOWS: Final = re.compile(
    r"(?s)(.+)_(info|chunks|rowids|auxiliary|vector_chunks\d\d|metadatachunks\d\d|metadatatext\d\d)"
)


def collection_names(connection: Any) -> tuple[str, ...]:
    """The collections there are: ours, and vec0 tables of others."""
    tables = tables_in(connection)
    own = about_own(connection, tables)
    ours = {table for about in own.values() for table in about["tables"].values()}
    vec0 = [name for name, (_, sql) in tables.items() if name not in ours and re.search("(?i)using.*vec0", sql)]
    return tuple(sorted({*own, *vec0}))


def find(connection: Any, address: Address) -> Collection:
    """The collection of the address. Raises `CollectionMissing`, `DataInvalid` or `UsageError`."""
    name = address.require_collection()
    tables = tables_in(connection)
    if name not in tables:
        shown = [f"'{each}'" for each in tables if not _SHADOWS.fullmatch(each) and each != ABOUT][:20]
        alike = [each for each in tables if each.lower() == name.lower()]
        hint = f"it is written '{alike[0]}'" if alike else f"the tables there are: {', '.join(shown) or 'none'}"
        raise CollectionMissing(f"{address}: there is no table {name!r}", hint=hint)
    about = about_own(connection, tables).get(name)
    if about is not None:
        # What is reckoned from the payload is no more than it, and is not read twice.
        told = [row[1] for row in connection.execute(f"PRAGMA table_xinfo({quoted(name)})") if not row[6]]
        return own_collection(address, name, about, tables, [each for each in told if each != "rowid"])
    kind, sql = tables[name]
    vec0 = parse_vec0(name, sql)
    if vec0 is not None:
        return _of_vec0(connection, address, vec0, tables)
    if kind != "table" or sql.upper().startswith("CREATE VIRTUAL"):
        raise UsageError(f"{address}: {name!r} is a view or another kind of virtual table; only tables are read")
    return _of_table(connection, address, name)


def _of_vec0(connection: Any, address: Address, vec0: Vec0, tables: Mapping[str, tuple[str, str]]) -> Collection:
    """A vec0 table, by itself or with an ordinary one that has the rest of each record under the same rowid."""
    address.only_options(*(name for name in _OPTIONS if name != "metric"))
    joined = address.option("join")
    rowids = f"{vec0.table}_rowids"
    columns: dict[str, str] = {}
    findings: tuple[Finding, ...] = ()
    key = vec0.key or "rowid"
    if joined is None:
        columns[key], table = ("t.id" if vec0.key_is_text else "t.rowid"), rowids
        at, keys, integers = "t.rowid", [key], not vec0.key_is_text
        source = f"{quoted(rowids)} t"
        on = f"CROSS JOIN {quoted(vec0.table)} v ON v.{quoted(key)} = {columns[key]}"
    else:
        if vec0.key_is_text or joined not in tables or vec0_like(tables[joined]):
            why = "its key is text, not a rowid" if vec0.key_is_text else f"there is no ordinary table {joined!r}"
            raise UsageError(f"{address}: join={joined}: {why}")
        table, at = joined, _rowid_of(connection, address, joined)
        own, keys = _columns_of(connection, joined)
        columns |= {name: f"t.{quoted(name)}" for name in own}
        if not keys:
            columns["rowid"], keys = at, ["rowid"]
        integers = _is_rowid(connection, joined, address.option("id") or keys[0]) or keys == ["rowid"]
        source = f"{quoted(joined)} t"
        on = f"LEFT JOIN {quoted(vec0.table)} v ON v.{quoted(key)} = {at}"
        [alone] = connection.execute(
            f"SELECT count(*) FROM {quoted(rowids)} r WHERE NOT EXISTS"
            f" (SELECT 1 FROM {quoted(joined)} t WHERE {at} = r.rowid)"
        ).fetchone()
        if alone:
            said = f"{alone} vectors of {vec0.table!r} have no row in {joined!r} and are not read"
            findings = (Finding("source.vectors_alone", said, count=alone),)
    of_chunk = "t.chunk_id" if joined is None else f"(SELECT chunk_id FROM {quoted(rowids)} WHERE rowid = {at})"
    numbers = {"auxiliary": 0, "partition": 0, "metadata": 0}
    for other in vec0.others:
        number = numbers[other.role]
        numbers[other.role] += 1
        # Through vec0 itself each of these costs a statement of its own: 20,000 rows came at a third of the speed.
        if other.role == "auxiliary":
            sql = f"(SELECT value{number:02d} FROM {quoted(vec0.table + '_auxiliary')} WHERE rowid = {at})"
        elif other.role == "partition":
            sql = f"(SELECT partition{number:02d} FROM {quoted(vec0.table + '_chunks')} WHERE chunk_id = {of_chunk})"
        else:
            sql = f"v.{quoted(other.name)}"
        columns[f"{vec0.table}.{other.name}" if other.name in columns else other.name] = sql
    through_vec0 = numbers["metadata"] > 0
    fields = {
        column.name: _field(column.name, column.dtype, column.dimensions, column.metric) for column in vec0.vectors
    }
    roles = roles_in(address, [*columns, *fields], key=keys[:1] if len(keys) == 1 else keys, vectors=fields)
    parts = [
        Part(
            fields[column.name],
            vec0.table,
            column.name,
            stored_as(fields[column.name]),
            number,
            vec0.chunk_rows,
            key,
            vec0.key_is_text,
            f"v.{quoted(column.name)}" if through_vec0 else None,
        )
        for number, column in enumerate(vec0.vectors)
        if column.name in roles.vectors
    ]
    told: dict[str, Any] = {"sql": tables[vec0.table][1], "chunk_size": vec0.chunk_rows, "join": joined}
    told["columns"] = {other.name: f"{other.type} {other.role}" for other in vec0.others}
    booleans = {other.name for other in vec0.others if other.role == "metadata" and other.type == "boolean"}
    made = Collection(
        _spec(vec0.table, roles, IdKind.INT64 if integers else IdKind.STRING, told),
        table,
        f"{source} {on}" if through_vec0 else source,
        at,
        columns,
        roles,
        tuple(parts),
        booleans=frozenset(booleans),
        low_bit_first=_low_bit_first(address),
        findings=findings,
    )
    return made if integers or joined is None else _with_id_kind(connection, made)


def vec0_like(table: tuple[str, str]) -> bool:
    return table[0] != "table" or table[1].upper().startswith("CREATE VIRTUAL")


def _of_table(connection: Any, address: Address, name: str) -> Collection:
    """An ordinary table whose vectors are BLOBs (or JSON texts) of which only the address knows what they are."""
    address.only_options(*(each for each in _OPTIONS if each != "join"))
    names, key = _columns_of(connection, name)
    at = _rowid_of(connection, address, name)
    fields: dict[str, VectorField] = {}
    stored: dict[str, str] = {}
    for item in [part for part in (address.option("vectors") or "").split(",") if part]:
        column, _, kind = item.partition(":")
        if column not in names or kind not in STORED:
            raise UsageError(
                f"{address}: vectors={item}: "
                + (f"there is no column {column!r}" if column not in names else "it does not say what the numbers are"),
                hint=f"write vectors=COLUMN:TYPE, TYPE being one of {', '.join(STORED)}; columns: {', '.join(names)}",
            )
        dtype, stored[column] = STORED[kind]
        metric = _metric_of(address, column, dtype)
        fields[column] = _field(
            column, dtype, _dimensions_in(connection, address, name, column, stored[column]), metric
        )
    if not fields:
        raise UsageError(
            f"{address}: nothing says which columns of {name!r} hold vectors, and of which type",
            hint=f"write ?vectors=COLUMN:float32&metric=cosine, or name a vec0 table; columns: {', '.join(names)}",
        )
    plain = replace(address, options={**address.options, "vectors": ",".join(fields)})
    roles = roles_in(plain, names, key=key, vectors=fields)
    columns = {each: f"t.{quoted(each)}" for each in names}
    parts = tuple(
        Part(each, name, column, stored[column], inline=columns[column]) for column, each in roles.vectors.items()
    )
    kind = IdKind.INT64 if _is_rowid(connection, name, roles.id) else IdKind.STRING
    made = Collection(
        _spec(name, roles, kind, {"columns": _declared_types(connection, name)}),
        name,
        f"{quoted(name)} t",
        at,
        columns,
        roles,
        parts,
        low_bit_first=_low_bit_first(address),
    )
    return made if kind is IdKind.INT64 else _with_id_kind(connection, made)


def _with_id_kind(connection: Any, found: Collection) -> Collection:
    """The collection with ids that are numbers if every one of them is stored as one."""
    column = found.columns[found.roles.id]
    kinds = {kind for (kind,) in connection.execute(f"SELECT DISTINCT typeof({column}) FROM {found.source}")}
    if not kinds <= {"text"} and not kinds <= {"integer"}:
        raise DataInvalid(
            f"the column {found.roles.id!r} of {found.table!r} holds {' and '.join(sorted(kinds))} values",
            hint="an id is a text, or an integer, in every row: name another column with ?id=",
        )
    return replace(found, spec=replace(found.spec, id_kind=IdKind.INT64)) if kinds == {"integer"} else found


def _spec(name: str, roles: Roles, kind: IdKind, told: Mapping[str, Any]) -> CollectionSpec:
    return CollectionSpec(
        name,
        kind,
        tuple(roles.vectors.values()),
        has_namespaces=roles.namespace is not None,
        has_documents=roles.document is not None,
        index={INDEX_KEY: dict(told)},
    )


def _field(name: str, dtype: DType, dimensions: int, metric: Metric) -> VectorField:
    return VectorField(name, VectorKind.DENSE, dtype, metric, dimensions)


def _columns_of(connection: Any, table: str) -> tuple[list[str], list[str]]:
    """The columns of an ordinary table, and those of its primary key in their order. Generated ones are columns too."""
    rows = [row for row in connection.execute(f"PRAGMA table_xinfo({quoted(table)})") if row[6] != 1]
    return [row[1] for row in rows], [row[1] for row in sorted(rows, key=lambda row: row[5]) if row[5]]


def _declared_types(connection: Any, table: str) -> dict[str, str]:
    return {row[1]: row[2] for row in connection.execute(f"PRAGMA table_xinfo({quoted(table)})")}


def _rowid_of(connection: Any, address: Address, table: str) -> str:
    """The name by which a table gives its rowids. Raises `UsageError` where it has none: pages go by it."""
    names = {name.lower() for name in _columns_of(connection, table)[0]}
    [without] = connection.execute(
        "SELECT wr FROM pragma_table_list WHERE schema='main' AND name=?", (table,)
    ).fetchone()
    free: Sequence[str] = [name for name in ("rowid", "_rowid_", "oid") if name not in names]
    if without or not free:
        raise UsageError(f"{address}: the table {table!r} is WITHOUT ROWID, which is not read")
    return f"t.{free[0]}"


def _is_rowid(connection: Any, table: str, column: str) -> bool:
    """Whether the column is the rowid itself: INTEGER PRIMARY KEY."""
    rows = list(connection.execute(f"PRAGMA table_xinfo({quoted(table)})"))
    keys = [row for row in rows if row[5]]
    return len(keys) == 1 and keys[0][1] == column and keys[0][2].upper() == "INTEGER"


def _metric_of(address: Address, column: str, dtype: DType) -> Metric:
    if dtype is DType.BINARY:
        return Metric.HAMMING
    said = address.option("metric")
    # `cosine` is for every column, `title:cosine` for one.
    chosen = {item.rpartition(":")[0]: item.rpartition(":")[2] for item in (said or "").split(",") if item}
    word = chosen.get(column, chosen.get(""))
    if word is None:
        raise UsageError(
            f"{address}: nothing says by which metric {column!r} is searched",
            hint="write ?metric=cosine (or euclidean, manhattan, dot), or metric=COLUMN:METRIC,… for several",
        )
    return METRICS.get(word.lower()) or parse_metric(word, where=f"{address}: metric={said}")


def _dimensions_in(connection: Any, address: Address, table: str, column: str, stored: str) -> int:
    """How long the vectors of a column are: all as long as the first. Others are named when they are read."""
    name = quoted(column)
    length = f"json_array_length({name})" if stored == "json" else f"length({name})"
    found = connection.execute(f"SELECT {length} FROM {quoted(table)} WHERE {name} IS NOT NULL LIMIT 1").fetchone()
    if found is None:
        raise DataInvalid(f"{address}: no row has a vector in {column!r}, so nothing tells how long they are")
    size = 1 if stored == "json" else int(stored[-1])
    count = int(found[0] or 0)
    if count < 1 or count % size:
        raise DataInvalid(f"{address}: {column!r} holds {count} bytes in its first row: no vector of that type")
    return count // size * (8 if stored == "u1" else 1)


def _low_bit_first(address: Address) -> bool:
    word = address.option("first_bit", "low")
    if word not in ("low", "high"):
        raise UsageError(f"{address}: first_bit is low (as vec_quantize_binary packs) or high (as numpy.packbits does)")
    return word == "low"
