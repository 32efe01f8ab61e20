"""Making a table for a collection: plain, or like the one that the records came from.

A plain table has an id, a namespace and a document where there are some, the payload as jsonb, and a column for each
vector field. Where the collection was a table of PostgreSQL's before, with columns of its own, those are made again
under their names and with their types, so that the application's SQL goes on working. What the types are is read as
data and never run: each is looked up in this database's own catalogue, and one that is not there becomes text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from exitramp.errors import StoreRejected
from exitramp.ports import Origin
from exitramp.ports.index_settings import graph_settings
from exitramp.records import CollectionSpec, IdKind, VectorField, VectorKind
from exitramp.urls import Address
from exitramp_adapters.stores.pgvector.catalog import NAME_BYTES, parsed_name, quoted, required_extension
from exitramp_adapters.stores.pgvector.limits import SPARSE_DIMENSIONS, operator_class, type_name
from exitramp_adapters.stores.pgvector.shape import EXTRA, INDEX_KEY, Shape, comment_of
from exitramp_adapters.stores.pgvector.values import INTEGERS, TEXTS

_NULLS_NOT_DISTINCT_SINCE: Final = 150_000
_KEY_TYPES: Final = {
    IdKind.STRING: 'text COLLATE "C"',
    IdKind.INT64: "bigint",
    IdKind.UINT64: "numeric(20)",
    IdKind.UUID: "uuid",
}
_KEY_BASES: Final = {
    IdKind.STRING: frozenset({"text", "varchar", "citext"}),
    IdKind.INT64: frozenset(INTEGERS),
    IdKind.UUID: frozenset({"uuid"}),
    IdKind.UINT64: frozenset[str](),
}
_WORD: Final = re.compile(r"[a-z_][a-z0-9_]*")
_OPTIONS: Final = {"hnsw": ("m", "ef_construction"), "ivfflat": ("lists",)}
_SCALAR_METHODS: Final = frozenset({"btree", "hash", "gin", "gist", "spgist", "brin"})


@dataclass(frozen=True, slots=True)
class Made:
    """One column to be made, and what the note says of it."""

    name: str
    definition: str
    role: str
    field: VectorField | None = None
    dimensions: int | None = None


def recorded(spec: CollectionSpec, origin: Origin) -> Mapping[str, Any]:
    """What a table of PostgreSQL's was, if the records come from one, at whatever distance."""
    for index in (spec.index, origin.spec.index):
        told = index.get(INDEX_KEY)
        if isinstance(told, Mapping):
            return told
    return {}


def make_table(session: Any, address: Address, spec: CollectionSpec, origin: Origin) -> None:
    """Table, key and note in one transaction. Raises `StoreRejected` where the database has no pgvector."""
    with session.transaction():
        if spec.vectors:
            session.execute("CREATE EXTENSION IF NOT EXISTS vector", [])
        space = required_extension(session, address) if spec.vectors else "public"
        schema, name = parsed_name(address.require_collection())
        if schema is not None:
            # IF NOT EXISTS would ask for the right to make schemas where one is there, too.
            there = session.execute("SELECT FROM pg_namespace WHERE nspname = %s", [schema]).fetchone()
            if there is None:
                session.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}", [])
        else:
            [schema] = session.execute("SELECT current_schema()", []).fetchone()
            if schema is None:
                raise StoreRejected(f"{address}: no schema is on the search path", hint="write #SCHEMA.TABLE")
        told = recorded(spec, origin)
        columns = _like(session, told, spec, schema=schema, space=space) if told.get("columns") else _plain(spec, space)
        table = f"{quoted(schema)}.{quoted(name)}"
        listed = ", ".join(f"{quoted(column.name)} {column.definition}" for column in columns)
        session.execute(f"CREATE TABLE {table} ({listed})", [])
        _make_key(session, table, columns, told, address)
        words = told.get("table", {}).get("comment") if isinstance(told.get("table"), Mapping) else None
        keep_note(session, table, words if isinstance(words, str) else None, _note(columns, spec, origin))


def keep_note(session: Any, table: str, words: str | None, note: Mapping[str, Any]) -> None:
    from psycopg import sql

    text = sql.Literal(comment_of(words, note)).as_string(session)
    session.execute(f"COMMENT ON TABLE {table} IS {text.replace('%', '%%')}", [])


def _note(columns: Sequence[Made], spec: CollectionSpec, origin: Origin) -> dict[str, Any]:
    by_role: dict[str, list[str]] = {}
    for column in columns:
        by_role.setdefault(column.role, []).append(column.name)
    vectors = [
        {"column": column.name, "field": column.field.to_json(), "dimensions": column.dimensions}
        for column in columns
        if column.field is not None
    ]
    return {
        "layout": 1,
        "id": by_role["id"],
        "id_kind": spec.id_kind.value,
        **{role: next(iter(by_role.get(role, ())), None) for role in ("namespace", "document", "payload")},
        "values": by_role.get("value", []),
        "unread": by_role.get("unread", []),
        "vectors": vectors,
        "origin": origin.to_json(),
    }


def _plain(spec: CollectionSpec, space: str) -> list[Made]:
    columns = [Made("id", f"{_KEY_TYPES[spec.id_kind]} NOT NULL", "id")]
    if spec.has_namespaces:
        columns.append(Made("namespace", 'text COLLATE "C"', "namespace"))
    if spec.has_documents:
        columns.append(Made("document", "text", "document"))
    columns.append(Made("payload", "jsonb", "payload"))
    taken = {column.name for column in columns} | {EXTRA} | {field.name for field in spec.vectors}
    for field in spec.vectors:
        columns.append(_vector(field, field.name or _free("embedding", taken), space, None))
    return [*columns, Made(EXTRA, "jsonb", "extra")]


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _vector(field: VectorField, name: str, space: str, dimensions: int | None) -> Made:
    base = type_name(field)
    if field.kind is VectorKind.SPARSE:
        size = dimensions or SPARSE_DIMENSIONS
        return Made(name, f"{quoted(space)}.sparsevec({size})", "vector", field, size)
    qualified = "bit" if base == "bit" else f"{quoted(space)}.{base}"
    array = "[]" if field.kind is VectorKind.MULTI else ""
    return Made(name, f"{qualified}({field.dimensions}){array}", "vector", field, field.dimensions)


def _like(session: Any, told: Mapping[str, Any], spec: CollectionSpec, *, schema: str, space: str) -> list[Made]:
    """Columns like those that are recorded. Each is looked at by itself: what does not go with `spec`, or is not as we
    write it, is left out or made in our own way."""
    left = {field.name: field for field in spec.vectors}
    columns: list[Made] = []
    for entry in told["columns"]:
        if not _is_sound(entry) or entry["name"] in {column.name for column in columns} | {EXTRA}:
            continue
        name, role = entry["name"], entry["role"]
        if role == "vector":
            field = left.pop(entry.get("field"), None)
            if field is not None:
                size = entry["modifier"] if entry["base"] == "sparsevec" and entry["modifier"] > 0 else None
                columns.append(_vector(field, name, space, size))
            continue
        definition = _definition(session, entry, schema)
        if role == "id":
            parts = sum(1 for each in told["columns"] if isinstance(each, Mapping) and each.get("role") == "id")
            if parts == 1 and (entry["base"] not in _KEY_BASES[spec.id_kind] or entry.get("array")):
                definition = _KEY_TYPES[spec.id_kind]
            counts = " GENERATED BY DEFAULT AS IDENTITY" if entry.get("counts") and entry["base"] in INTEGERS else ""
            definition = f"{definition} NOT NULL{counts}"
        if (role == "namespace" and not spec.has_namespaces) or (role == "document" and not spec.has_documents):
            role = "unread"
        if role == "document" and (entry["base"] not in TEXTS or entry.get("array")) and "labels" not in entry:
            definition = "text"
        if role == "payload" and entry["base"] not in ("json", "jsonb"):
            definition = "jsonb"
        if role == "unread" and entry.get("counts") and entry["base"] in INTEGERS:
            definition += " GENERATED BY DEFAULT AS IDENTITY"  # nobody writes it, so that it numbers the rows by itself
        columns.append(Made(name, definition, role))
    taken = {column.name for column in columns} | {EXTRA}
    roles = {column.role for column in columns}
    if "id" not in roles:
        columns.insert(0, Made(_free("id", taken), f"{_KEY_TYPES[spec.id_kind]} NOT NULL", "id"))
    if spec.has_namespaces and "namespace" not in roles:
        columns.append(Made(_free("namespace", taken), 'text COLLATE "C"', "namespace"))
    if spec.has_documents and "document" not in roles:
        columns.append(Made(_free("document", taken), "text", "document"))
    for field in left.values():
        columns.append(_vector(field, _free(field.name or "embedding", taken), space, None))
    return [*columns, Made(EXTRA, "jsonb", "extra")]


def _is_sound(entry: Any) -> bool:
    if not isinstance(entry, Mapping):
        return False
    kinds = {"name": str, "base": str, "modifier": int, "role": str}
    if not all(isinstance(entry.get(key), kind) for key, kind in kinds.items()):
        return False
    name = entry["name"]
    roles = ("id", "namespace", "document", "payload", "value", "vector", "unread")
    return 0 < len(name.encode("utf-8")) <= NAME_BYTES and "\0" not in name and entry["role"] in roles


def _definition(session: Any, entry: Mapping[str, Any], schema: str) -> str:
    """The type as this database writes it; text where it has none of that name."""
    labels = entry.get("labels")
    if isinstance(labels, list) and all(isinstance(label, str) for label in labels):
        found = _enumeration(session, entry["base"], labels, schema)
        return "text" if found is None else found + ("[]" if entry.get("array") else "")
    if not _WORD.fullmatch(entry["base"]):
        return "text"
    row = session.execute(
        """
        SELECT format_type(CASE WHEN %s THEN t.typarray ELSE t.oid END, %s)
        FROM pg_type t WHERE t.oid = coalesce(to_regtype('pg_catalog.' || quote_ident(%s)), to_regtype(quote_ident(%s)))
          AND t.typtype IN ('b', 'r', 'm') AND t.typarray <> 0
        """,
        [bool(entry.get("array")), entry["modifier"], entry["base"], entry["base"]],
    ).fetchone()
    return "text" if row is None else str(row[0]).replace("%", "%%")


def _enumeration(session: Any, name: str, labels: Sequence[str], schema: str) -> str | None:
    """The enumeration of that name in the table's schema, made where it is not there; None where it is another one."""
    if not 0 < len(name.encode("utf-8")) <= NAME_BYTES or "\0" in name or not labels:
        return None
    qualified = f"{quoted(schema)}.{quoted(name)}"
    there = session.execute(
        """
        SELECT t.typtype = 'e', ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = t.oid)
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typname = %s AND n.nspname = %s
        """,
        [name, schema],
    ).fetchone()
    if there is not None:
        return qualified if there[0] and set(labels) <= set(there[1]) else None
    from psycopg import sql

    listed = ", ".join(sql.Literal(label).as_string(session).replace("%", "%%") for label in labels)
    session.execute(f"CREATE TYPE {qualified} AS ENUM ({listed})", [])
    return qualified


def _make_key(session: Any, table: str, columns: Sequence[Made], told: Mapping[str, Any], address: Address) -> None:
    """The primary key as it was, where there was one and it goes with the records' own; else over what tells records
    apart. A namespace may be NULL, and two NULLs are the same one."""
    ids = [column.name for column in columns if column.role == "id"]
    namespaces = [column.name for column in columns if column.role == "namespace"]
    for index in told.get("indexes", ()) if told.get("columns") else ():
        if isinstance(index, Mapping) and index.get("primary") and isinstance(index.get("columns"), list):
            key = [name for name in index["columns"] if name in ids or name in namespaces]
            if len(key) == len(index["columns"]) and set(key) >= set(ids):
                session.execute(f"ALTER TABLE {table} ADD PRIMARY KEY ({', '.join(map(quoted, key))})", [])
                return
    if not namespaces:
        session.execute(f"ALTER TABLE {table} ADD PRIMARY KEY ({', '.join(map(quoted, ids))})", [])
        return
    [number] = session.execute("SELECT current_setting('server_version_num')::int", []).fetchone()
    if number < _NULLS_NOT_DISTINCT_SINCE:
        raise StoreRejected(
            f"{address}: a namespace may be empty, and only PostgreSQL 15 and later take two empty ones for the same",
            hint="copy one namespace at a time, or into a newer server",
        )
    first = ", ".join(f"{quoted(name)} NULLS FIRST" for name in namespaces)
    listed = ", ".join(map(quoted, ids))
    session.execute(f"CREATE UNIQUE INDEX ON {table} ({first}, {listed}) NULLS NOT DISTINCT", [])


def build_indexes(session: Any, shape: Shape, told: Mapping[str, Any], spec: CollectionSpec) -> None:
    """An index on every vector column that pgvector has one for: as it was at the source, or HNSW, with the settings of
    another kind of store's graph if the records come from one. Of a table that was made again as it was, the indexes
    are those it had, on other columns too."""
    table, space = shape.table.sql, quoted(shape.table.extension or "public")
    known = [index for index in told.get("indexes", ()) if isinstance(index, Mapping)]
    again = bool(told.get("columns")) and bool(shape.values or shape.extra)
    for held in shape.vectors:
        if any(index.columns == (held.column.name,) for index in shape.table.indexes):
            continue
        mine = [index for index in known if index.get("columns") == [held.column.name] and index.get("valid")]
        methods = [(index["method"], _options(index)) for index in mine if index.get("method") in _OPTIONS]
        if not methods and not (again and known):
            methods = [("hnsw", _graph(spec.index))]
        for method, options in methods[:1]:
            class_ = operator_class(held.field, method=method) or operator_class(held.field, method="hnsw")
            if class_ is None:
                continue
            method = method if operator_class(held.field, method=method) else "hnsw"
            _build_vector_index(
                session, f"{table} USING {method} ({quoted(held.column.name)} {space}.{class_}){options}", held.field
            )
    for index in known if again else ():
        _build_scalar_index(session, shape, index)


def _graph(index: Mapping[str, Any]) -> str:
    """As another kind of store told of its graph, within what pgvector takes; its own defaults else."""
    told = graph_settings(index, "m", "ef_construction")
    links, breadth = told.get("m", 16), told.get("ef_construction", 64)
    if not told or not 2 <= links <= 100 or not max(4, 2 * links) <= breadth <= 1000:
        return ""
    return f" WITH (m = {links}, ef_construction = {breadth})"


def _build_vector_index(session: Any, what: str, field: VectorField) -> None:
    import psycopg

    try:
        session.execute(f"CREATE INDEX ON {what}", [])
    except psycopg.errors.ProgramLimitExceeded:
        if field.kind is not VectorKind.SPARSE:  # of which some may have more numbers than an index takes
            raise


def _options(index: Mapping[str, Any]) -> str:
    given = index.get("options")
    options = given if isinstance(given, Mapping) else {}
    numbers = [(name, str(options.get(name, ""))) for name in _OPTIONS[index["method"]]]
    listed = ", ".join(f"{name} = {int(number)}" for name, number in numbers if number.isdecimal())
    return f" WITH ({listed})" if listed else ""


def _build_scalar_index(session: Any, shape: Shape, index: Mapping[str, Any]) -> None:
    """On plain columns, whole, by a method and operator classes that this database has; any other is only recorded."""
    method, columns, classes = index.get("method"), index.get("columns"), index.get("classes")
    if method not in _SCALAR_METHODS or index.get("primary") or index.get("partial") or not index.get("valid"):
        return
    if not isinstance(columns, list) or not isinstance(classes, list) or len(columns) != len(classes):
        return
    if not columns or any(name not in shape.table.index for name in columns):
        return
    if any(list(each.columns) == columns and each.method == method for each in shape.table.indexes):
        return
    parts = []
    for name, class_ in zip(columns, classes, strict=True):
        row = session.execute(
            """
            SELECT n.nspname, o.opcname FROM pg_opclass o JOIN pg_am a ON a.oid = o.opcmethod
              JOIN pg_namespace n ON n.oid = o.opcnamespace JOIN pg_attribute c ON c.attrelid = %s AND c.attname = %s
            WHERE a.amname = %s AND o.opcname = %s LIMIT 1
            """,
            [shape.table.oid, name, method, class_],
        ).fetchone()
        if row is None:
            return
        parts.append(f"{quoted(name)} {quoted(row[0])}.{quoted(row[1])}")
    unique = "UNIQUE " if index.get("unique") and method == "btree" else ""
    import psycopg

    try:
        with session.transaction():
            session.execute(f"CREATE {unique}INDEX ON {shape.table.sql} USING {method} ({', '.join(parts)})", [])
    except (psycopg.errors.DatatypeMismatch, psycopg.errors.ProgramLimitExceeded):
        return  # a column that became text here, or a value too long for this kind of index
