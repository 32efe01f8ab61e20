"""What PostgreSQL's catalogue says of a table: its columns with their types, its key, its indexes, its comment.

Nothing here is decided; what a column is to us is `shape`'s to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from exitramp.errors import CollectionMissing, StoreRejected, UsageError
from exitramp.urls import Address

NAME_BYTES: Final = 63
"""A longer name PostgreSQL cuts off without more than a notice, so none is ever sent."""
VECTOR_TYPES: Final = ("vector", "halfvec", "sparsevec")
_KINDS: Final = {"r": "table", "p": "partitioned table", "v": "view", "m": "materialized view", "f": "foreign table"}
_PART: Final = re.compile(r'"((?:[^"]|"")+)"|((?!")[^.]+)')


def quoted(name: str) -> str:
    """A name as it stands in a statement. Every statement here is executed with parameters, so `%` is doubled."""
    return '"' + name.replace('"', '""').replace("%", "%%") + '"'


def quoted_text(text: str) -> str:
    """A text as it stands in a statement that is executed with parameters; names only, which hold no backslash that
    would mean anything."""
    return "'" + text.replace("'", "''") + "'"


def parsed_name(text: str) -> tuple[str | None, str]:
    """Schema and table of `table`, `schema.table` or, with dots inside, `"my.schema"."my.table"`; case is kept.

    Raises `UsageError` for anything else, and for names that PostgreSQL would cut off.
    """
    parts: list[str] = []
    at = 0
    while at <= len(text):
        found = _PART.match(text, at)
        if found is None:
            break
        parts.append(found[1].replace('""', '"') if found[1] is not None else found[2])
        at = found.end()
        if at == len(text) or text[at] != ".":
            break
        at += 1
    if at != len(text) or len(parts) not in (1, 2) or text.endswith("."):
        hint = 'write TABLE or SCHEMA.TABLE, and where a name has a dot in it "my.schema"."my.table"'
        raise UsageError(f"{text!r} is no name of a table", hint=hint)
    for part in parts:
        if len(part.encode("utf-8")) > NAME_BYTES or "\0" in part:
            raise UsageError(f"{part!r} is no name for PostgreSQL: at most {NAME_BYTES} bytes, none of them zero")
    return (parts[0], parts[1]) if len(parts) == 2 else (None, parts[0])


def shown_name(schema: str, name: str) -> str:
    """`schema.table` as `parsed_name` reads it."""
    return ".".join(
        '"' + part.replace('"', '""') + '"' if "." in part or '"' in part else part for part in (schema, name)
    )


@dataclass(frozen=True, slots=True)
class Type:
    """A type without its domains: `name` as in pg_type; of an array that of its items."""

    name: str
    schema: str
    modifier: int
    is_array: bool = False
    is_domain: bool = False
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `written` is its type as PostgreSQL writes it; `counts_up` whether it numbers rows by itself."""

    name: str
    written: str
    type: Type
    not_null: bool = False
    generated: bool = False
    counts_up: bool = False
    deterministic: bool = True


@dataclass(frozen=True, slots=True)
class Index:
    """One index. `columns` are None for those of its parts that are expressions; `parts` are all, as written."""

    name: str
    method: str
    unique: bool
    primary: bool
    valid: bool
    partial: bool
    columns: tuple[str | None, ...]
    parts: tuple[str, ...]
    classes: tuple[str, ...]
    options: Mapping[str, str]
    definition: str


@dataclass(frozen=True, slots=True)
class Table:
    """What a collection stands in. `extension` is the schema of pgvector's own types, None where it is not there;
    `has_heirs` whether other tables inherit from this one: their rows are read with its own, and its key does not hold
    for them. `hides_rows` whether policies hide rows from this user."""

    oid: int
    schema: str
    name: str
    kind: str
    comment: str | None
    columns: tuple[Column, ...]
    indexes: tuple[Index, ...]
    extension: str | None
    index: Mapping[str, Column] = field(default_factory=dict)
    has_heirs: bool = False
    hides_rows: bool = False

    @property
    def sql(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def key(self) -> tuple[str, ...]:
        """The columns of the primary key, in its order."""
        for index in self.indexes:
            if index.primary:
                return tuple(name for name in index.columns if name is not None)
        return ()

    def tells_apart(self, names: Sequence[str]) -> bool:
        """Whether no two rows can be alike in these columns."""
        return not self.has_heirs and any(
            index.unique and index.valid and not index.partial and set(index.columns) <= set(names)
            for index in self.indexes
        )

    def column(self, name: str) -> Column:
        return self.index[name]


def find(session: Any, address: Address) -> tuple[int, str, str] | None:
    """Number, schema and name of the relation that the address names; None where there is none.

    A name without a schema is looked for as the server would: along the search path.
    """
    schema, name = parsed_name(address.require_collection())
    where, words = "n.nspname = %s AND c.relname = %s", [schema, name]
    if schema is None:
        where, words = "c.oid = to_regclass(quote_ident(%s)) AND c.relpersistence <> 't'", [name]
    found = session.execute(
        f"SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        f"WHERE {where} AND c.relkind::text = ANY(%s)",
        [*words, list(_KINDS)],
    ).fetchone()
    return None if found is None else (int(found[0]), str(found[1]), str(found[2]))


def read_table(session: Any, address: Address) -> Table:
    """Raises `CollectionMissing` naming the tables there are."""
    found = find(session, address)
    if found is None:
        names = collections(session)
        there = ", ".join(names[:20]) or "none"
        raise CollectionMissing(
            f"{address}: there is no table {address.collection!r}", hint=f"the tables with vectors: {there}"
        )
    oid, schema, name = found
    kind, comment, has_heirs, hides_rows = session.execute(
        "SELECT relkind::text, obj_description(oid, 'pg_class'), "
        "relkind <> 'p' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid), row_security_active(oid) "
        "FROM pg_class c WHERE oid = %s",
        [oid],
    ).fetchone()
    columns = _columns(session, oid)
    return Table(
        oid,
        schema,
        name,
        _KINDS[kind],
        comment,
        columns,
        _indexes(session, oid),
        extension(session),
        {column.name: column for column in columns},
        has_heirs,
        hides_rows,
    )


def extension(session: Any) -> str | None:
    """The schema in which pgvector's types and operators are."""
    found = session.execute(
        "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'",
        [],
    ).fetchone()
    return None if found is None else str(found[0])


def required_extension(session: Any, address: Address) -> str:
    found = extension(session)
    if found is None:
        raise StoreRejected(
            f"{address}: this database has no pgvector", hint="CREATE EXTENSION vector, in this database"
        )
    return found


def versions(session: Any) -> tuple[str, str]:
    """Of the server and of pgvector (`none` where it is not there)."""
    server, vector = session.execute(
        "SELECT current_setting('server_version'), (SELECT extversion FROM pg_extension WHERE extname = 'vector')", []
    ).fetchone()
    return str(server).split(" ")[0], str(vector or "none")


def collections(session: Any, *, mark: str = "exitramp:") -> list[str]:
    """`schema.table` of every table with a vector in it, of all schemas, and of those that exitramp made without any.

    A bit string is a vector only where an index of pgvector's says so. Parts of a partitioned table are left out.
    """
    rows = session.execute(
        """
        SELECT n.nspname, c.relname
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind::text = ANY(%s) AND NOT c.relispartition AND c.relpersistence <> 't'
          AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%%'
          AND (
            EXISTS (
              SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
                LEFT JOIN pg_type b ON b.oid = t.typbasetype
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                AND (t.typname = ANY(%s) OR e.typname = ANY(%s) OR b.typname = ANY(%s)))
            OR EXISTS (
              SELECT FROM pg_index i JOIN pg_opclass o ON o.oid = ANY(i.indclass)
              WHERE i.indrelid = c.oid AND o.opcname IN ('bit_hamming_ops', 'bit_jaccard_ops'))
            OR obj_description(c.oid, 'pg_class') LIKE %s)
        ORDER BY 1, 2
        """,
        [list(_KINDS), *([list(VECTOR_TYPES)] * 3), f"%{mark}{{%"],
    ).fetchall()
    return [shown_name(schema, name) for schema, name in rows]


def _columns(session: Any, oid: int) -> tuple[Column, ...]:
    rows = session.execute(
        """
        SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.atttypid::bigint, a.atttypmod, a.attnotnull,
          a.attgenerated <> '',
          a.attidentity <> '' OR coalesce(pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%%', false),
          coalesce(c.collisdeterministic, true)
        FROM pg_attribute a
          LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
          LEFT JOIN pg_collation c ON c.oid = a.attcollation
        WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attnum
        """,
        [oid],
    ).fetchall()
    types = _types(session, {row[2] for row in rows})
    return tuple(
        Column(name, written, _resolved(types, number, modifier), *rest)
        for name, written, number, modifier, *rest in rows
    )


def _types(session: Any, numbers: set[int]) -> dict[int, tuple[Any, ...]]:
    """Rows of pg_type for these and all that they are made of."""
    found: dict[int, tuple[Any, ...]] = {}
    while numbers:
        rows = session.execute(
            """
            SELECT t.oid::bigint, t.typname, n.nspname, t.typtype::text, t.typbasetype::bigint, t.typtypmod,
              CASE WHEN t.typcategory = 'A' AND t.typlen = -1 THEN t.typelem::bigint ELSE 0 END,
              CASE WHEN t.typtype = 'e'
                THEN ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = t.oid ORDER BY enumsortorder) END
            FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.oid = ANY(%s::bigint[]::oid[])
            """,
            [sorted(numbers)],
        ).fetchall()
        found |= {row[0]: row for row in rows}
        numbers = {inner for row in rows for inner in (row[4], row[6]) if inner} - found.keys()
    return found


def _resolved(types: Mapping[int, tuple[Any, ...]], number: int, modifier: int) -> Type:
    is_array = is_domain = False
    while True:
        _, name, schema, kind, base, base_modifier, item, labels = types[number]
        if kind == "d":
            is_domain, number = True, base
            modifier = base_modifier if modifier == -1 else modifier
        elif item and not is_array:
            is_array, number = True, item
        else:
            return Type(name, schema, modifier, is_array, is_domain, None if labels is None else tuple(labels))


def _indexes(session: Any, oid: int) -> tuple[Index, ...]:
    rows = session.execute(
        """
        SELECT ic.relname, am.amname, i.indisunique AND i.indimmediate, i.indisprimary, i.indisvalid,
          i.indpred IS NOT NULL,
          ARRAY(SELECT (SELECT a.attname::text FROM pg_attribute a
                        WHERE a.attrelid = i.indrelid AND a.attnum = i.indkey[k])
                FROM generate_series(0, i.indnkeyatts - 1) k ORDER BY k),
          ARRAY(SELECT pg_get_indexdef(i.indexrelid, k + 1, true)
                FROM generate_series(0, i.indnkeyatts - 1) k ORDER BY k),
          ARRAY(SELECT (SELECT opcname::text FROM pg_opclass WHERE oid = i.indclass[k])
                FROM generate_series(0, i.indnkeyatts - 1) k ORDER BY k),
          coalesce(ic.reloptions, '{}'), pg_get_indexdef(i.indexrelid)
        FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am am ON am.oid = ic.relam
        WHERE i.indrelid = %s ORDER BY i.indexrelid
        """,
        [oid],
    ).fetchall()
    found = []
    for name, method, unique, primary, valid, partial, columns, parts, classes, options, definition in rows:
        settings = dict(option.partition("=")[::2] for option in options)
        lists = tuple(columns), tuple(parts), tuple(classes)
        found.append(Index(name, method, unique, primary, valid, partial, *lists, settings, definition))
    return tuple(found)
