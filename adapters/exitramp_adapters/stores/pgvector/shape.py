"""What a table is as a collection: which column is what, by the note that exitramp left, or by the address and indexes.

A table that exitramp made carries a note in its comment, behind whatever a user wrote there: a last line `exitramp:`
and JSON. It says which columns are id, namespace, document, payload and vectors, what the metrics are, and where the
records came from. Of anybody else's table nothing is guessed from a name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from exitramp.errors import DataInvalid, ExitrampError, StoreProtocolError, UsageError
from exitramp.ports import Origin
from exitramp.ports.tables import Roles, roles_in
from exitramp.records import (
    CollectionSpec,
    Finding,
    IdKind,
    VectorField,
)
from exitramp.urls import Address
from exitramp_adapters.stores.pgvector.catalog import Column, Index, Table, quoted, shown_name
from exitramp_adapters.stores.pgvector.fields import Held, fields_of, said_metric
from exitramp_adapters.stores.pgvector.values import TEXTS, is_textual

INDEX_KEY: Final = "pgvector"
"""The key in a spec's `index` under which a table's columns and indexes stand."""
NOTE: Final = "exitramp:"
EXTRA: Final = "_exitramp"
"""The column in which a table of ours keeps what its other columns have no room for; NULL for nearly every record."""
_NAMED_ROLES: Final = ("id", "namespace", "document", "payload")


@dataclass(frozen=True, slots=True)
class Shape:
    """A table as a collection. `ids` are several columns where the key is made of several: an id is then the JSON list
    of their texts. `note` is what exitramp left; without one the table is somebody else's."""

    table: Table
    spec: CollectionSpec
    ids: tuple[Column, ...]
    namespace: Column | None
    document: Column | None
    payload: Column | None
    extra: Column | None
    values: tuple[Column, ...]
    vectors: tuple[Held, ...]
    note: Mapping[str, Any] | None
    findings: tuple[Finding, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether the whole payload stands in one jsonb column of ours."""
        return self.extra is not None and self.payload is not None and not self.values

    @property
    def origin(self) -> Origin | None:
        told = None if self.note is None else self.note.get("origin")
        return None if told is None else Origin.from_json(told)

    @property
    def refuses_doubles(self) -> bool:
        """Whether the server itself refuses a second record of the same key, and of no other. In a table of ours two
        empty namespaces are the same one; in others two NULLs are not."""
        names = {column.name for column in self.keys}
        sure = self.note is not None or all(column.not_null for column in self.keys)
        return (sure and not self.table.has_heirs) and any(
            index.unique and index.valid and not index.partial and set(index.columns) == names
            for index in self.table.indexes
        )

    @property
    def keys(self) -> tuple[Column, ...]:
        """The columns that tell records apart, in the order in which they are read."""
        return (*(() if self.namespace is None else (self.namespace,)), *self.ids)

    def held(self, name: str) -> Held:
        """Raises `UsageError` naming the fields there are."""
        for each in self.vectors:
            if each.field.name == name:
                return each
        known = ", ".join(repr(each.field.name) for each in self.vectors) or "none"
        raise UsageError(f"the table {self.table.name!r} has no vector field {name!r}", hint=f"it has: {known}")


def split_comment(comment: str | None) -> tuple[str | None, dict[str, Any] | None]:
    """A user's own words on a table, and our note behind them. Raises `StoreProtocolError` for a note of another
    version."""
    words, separator, text = (comment or "").rpartition(NOTE + "{")
    if not separator or (words and not words.endswith("\n")):
        return comment, None
    try:
        note = json.loads("{" + text)
    except ValueError:
        return comment, None
    if not isinstance(note, dict) or note.get("layout") != 1:
        raise StoreProtocolError(
            "the table's comment was left by another version of exitramp, and this one does not know what it says",
            hint="read it with that version",
        )
    return words.removesuffix("\n").removesuffix("\n") or None, note


def comment_of(words: str | None, note: Mapping[str, Any]) -> str:
    head = f"{words}\n\n" if words else ""
    return head + NOTE + json.dumps(note, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def shape_of(session: Any, table: Table, address: Address) -> Shape:
    """Raises `UsageError` or `DataInvalid`, with the option that helps, where the table by itself says too little."""
    words, note = split_comment(table.comment)
    shape = _by_note(table, note, address) if note is not None else _foreign(session, table, address)
    told = {"table": _table_facts(shape, words), "indexes": [_index_facts(index) for index in table.indexes]}
    if note is None or shape.values:
        told |= {"columns": _column_facts(shape)}
    findings = (*shape.findings, *_hidden(table))
    return replace(shape, spec=replace(shape.spec, index={INDEX_KEY: told}), findings=findings)


def _hidden(table: Table) -> Iterable[Finding]:
    if table.hides_rows:
        yield Finding(
            "source.row_security",
            f"row security is on for {shown_name(table.schema, table.name)}: rows that its policies hide from this "
            "user are neither counted nor read; a role with BYPASSRLS, or the owner, sees all",
        )


def _by_note(table: Table, note: Mapping[str, Any], address: Address) -> Shape:
    try:
        return _noted(table, note, address)
    except ExitrampError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise StoreProtocolError(
            f"{address}: the table's comment, from {NOTE!r} on, is none that exitramp wrote ({type(error).__name__})",
            hint="take that line out of the comment, and the table is one like any other",
        ) from error


def _noted(table: Table, note: Mapping[str, Any], address: Address) -> Shape:
    def column(name: str | None) -> Column | None:
        if name is None:
            return None
        if name not in table.index:
            raise DataInvalid(f"{address}: the column {name!r}, which exitramp made, is not there any more")
        return table.column(name)

    for role in _NAMED_ROLES:
        said, known = address.option(role), note["id"][0] if role == "id" else note[role]
        if said is not None and said not in (known, role):
            raise UsageError(f"{address}: {role}={said}: exitramp made this table, with {known!r} for that")
    vectors = []
    for entry in note["vectors"]:
        field = VectorField.from_json(entry["field"])
        _require_same_metric(address, field, len(note["vectors"]))
        found = column(entry["column"])
        vectors.append(Held(found, field, entry.get("dimensions", field.dimensions)))  # type: ignore[arg-type]
    spec = CollectionSpec(
        address.require_collection(),
        IdKind(note["id_kind"]),
        tuple(each.field for each in vectors),
        has_namespaces=note["namespace"] is not None,
        has_documents=note["document"] is not None,
    )
    return Shape(
        table,
        spec,
        _present(column(name) for name in note["id"]),
        column(note["namespace"]),
        column(note["document"]),
        column(note["payload"]),
        column(EXTRA),
        _present(column(name) for name in note["values"]),
        tuple(vectors),
        note,
        tuple(_added(table, note)),
    )


def _added(table: Table, note: Mapping[str, Any]) -> Iterable[Finding]:
    roles = (note[role] for role in ("namespace", "document", "payload"))
    known = {*note["id"], *roles, *note["values"], *(each["column"] for each in note["vectors"]), EXTRA}
    for column in table.columns:
        if column.name not in known and column.name not in note.get("unread", ()):
            yield Finding(
                "pgvector.unread",
                f"the column '{column.name}' was added since exitramp made this table, and is not read",
            )


def _present(columns: Iterable[Column | None]) -> tuple[Column, ...]:
    return tuple(column for column in columns if column is not None)


def _require_same_metric(address: Address, field: VectorField, fields: int) -> None:
    said = said_metric(address, field.name, only=fields == 1)
    if said is not None and said != field.metric:
        raise UsageError(
            f"{address}: metric={said.value}: '{field.column}' of this table was made for {field.metric.value}",
            hint="leave the option out",
        )


def _foreign(session: Any, table: Table, address: Address) -> Shape:
    fields = fields_of(session, table, address)
    names = [column.name for column in table.columns if column.name not in fields]
    roles, ids = _roles(table, address, names, {name: held.field for name, held in fields.items()})
    vectors = tuple(replace(fields[name], field=roles.vectors[name]) for name in roles.vectors)
    if not vectors:
        there = ", ".join(column.name for column in table.columns)
        raise DataInvalid(
            f"{address} has no column of vectors",
            hint=f"its columns are {there}; a bit column is a vector where ?vectors=COLUMN or an index says so",
        )
    namespace = None if roles.namespace is None else table.column(roles.namespace)
    document, payload = _document(table, roles, address), _payload(table, roles, address)
    values = tuple(table.column(name) for name in roles.values)
    shape = Shape(
        table,
        CollectionSpec(
            address.require_collection(),
            _id_kind(ids),
            tuple(each.field for each in vectors),
            has_namespaces=namespace is not None,
            has_documents=document is not None,
        ),
        ids,
        namespace,
        document,
        payload,
        None,
        values,
        vectors,
        None,
    )
    _require_unique(session, shape, address)
    return replace(shape, findings=tuple(_findings(table, values, roles)))


def _roles(
    table: Table, address: Address, names: Sequence[str], fields: Mapping[str, VectorField]
) -> tuple[Roles, tuple[Column, ...]]:
    """The roles and the columns of the id, of which there may be several: `?id=a,b`."""
    namespace = address.option("namespace")
    key = [name for name in table.key if name != namespace]
    said = address.option("id")
    parts = [] if said is None else [said] if said in names or "," not in said else said.split(",")
    if said is None and len(key) > 1:
        listed, texts = ",".join(key), [name for name in key if table.column(name).type.name in TEXTS]
        hint = f"say ?id={listed}, and an id is the list of them"
        hint += f"; or, where one of them is a tenant, ?namespace={(texts or key)[0]}" if len(key) == 2 else ""
        raise UsageError(f"{address}: its key has {len(key)} columns: {', '.join(key)}", hint=hint)
    rest = parts[1:]
    unknown = [name for name in rest if name not in names]
    if unknown:
        raise UsageError(f"{address}: id={unknown[0]}: there is no such column", hint=f"there are {', '.join(names)}")
    asked = replace(address, options=dict(address.options) | ({"id": parts[0]} if parts else {}))
    roles = roles_in(asked, [name for name in names if name not in rest], key=key, vectors=fields)
    return roles, (table.column(roles.id), *(table.column(name) for name in rest))


def _document(table: Table, roles: Roles, address: Address) -> Column | None:
    if roles.document is None:
        return None
    column = table.column(roles.document)
    if column.type.is_array or (column.type.name not in TEXTS and column.type.labels is None):
        raise UsageError(f"{address}: document={column.name}: that column is a {column.written} and no text")
    return column


def _payload(table: Table, roles: Roles, address: Address) -> Column | None:
    if roles.payload is None:
        return None
    column = table.column(roles.payload)
    if column.type.is_array or column.type.name not in ("json", "jsonb"):
        raise UsageError(f"{address}: payload={column.name}: that column is a {column.written} and no JSON")
    return column


def _id_kind(ids: Sequence[Column]) -> IdKind:
    if len(ids) > 1 or ids[0].type.is_array:
        return IdKind.STRING
    return {"int2": IdKind.INT64, "int4": IdKind.INT64, "int8": IdKind.INT64, "uuid": IdKind.UUID}.get(
        ids[0].type.name, IdKind.STRING
    )


def _require_unique(session: Any, shape: Shape, address: Address) -> None:
    """Looks through the whole table, but only where no index promises what an id must be: of two NULLs it does not."""
    names = [column.name for column in shape.keys]
    if shape.table.tells_apart(names) and all(column.not_null for column in shape.keys):
        return
    columns = ", ".join(quoted(name) for name in names)
    missing = " OR ".join(f"{quoted(column.name)} IS NULL" for column in shape.ids)
    [lacking] = session.execute(f"SELECT count(*) FROM {shape.table.sql} WHERE {missing}", []).fetchone()
    if lacking:
        raise DataInvalid(
            f"{address}: {lacking} rows have no id in {names[-1]!r}", hint="choose another column: ?id=COLUMN"
        )
    texts = ", ".join(f"{quoted(name)}::text" for name in names)
    twice = session.execute(
        f"SELECT {texts} FROM {shape.table.sql} GROUP BY {columns} HAVING count(*) > 1 ORDER BY {columns} LIMIT 3", []
    ).fetchall()
    if twice:
        shown = ", ".join("/".join(str(part) for part in row) for row in twice)
        raise DataInvalid(
            f"{address}: ids stand in several rows: {shown}",
            hint="choose a column in which each stands once: ?id=COLUMN, or ?id=COLUMN,COLUMN",
        )


def _findings(table: Table, values: Sequence[Column], roles: Roles) -> Iterable[Finding]:
    for column in values:
        if is_textual(column.type):
            yield Finding(
                "pgvector.text",
                f"the column '{column.name}' ({column.written}) is given as PostgreSQL's own text of it",
            )
    for name in roles.unread:
        yield Finding("pgvector.unread", f"the vectors of '{name}' are left out: the address names others")


def _table_facts(shape: Shape, words: str | None) -> dict[str, Any]:
    table = shape.table
    facts: dict[str, Any] = {"schema": table.schema, "name": table.name, "kind": table.kind}
    return facts | ({} if words is None else {"comment": words})


def _index_facts(index: Index) -> dict[str, Any]:
    return {
        "name": index.name,
        "method": index.method,
        "unique": index.unique,
        "primary": index.primary,
        "valid": index.valid,
        "partial": index.partial,
        "columns": list(index.columns),
        "classes": list(index.classes),
        "options": dict(index.options),
        "definition": index.definition,
    }


def _column_facts(shape: Shape) -> list[dict[str, Any]]:
    """The columns in their order, so that a table like it can be made again. Ours for what does not fit is none."""
    role: dict[str, str] = {column.name: "id" for column in shape.ids}
    for name, column in (("namespace", shape.namespace), ("document", shape.document), ("payload", shape.payload)):
        if column is not None:
            role[column.name] = name
    role |= {column.name: "value" for column in shape.values}
    fields = {held.column.name: held.field for held in shape.vectors}
    facts = []
    for column in shape.table.columns:
        if column is shape.extra:
            continue
        type_ = column.type
        entry: dict[str, Any] = {
            "name": column.name,
            "type": column.written,
            "base": type_.name,
            "schema": type_.schema,
            "modifier": type_.modifier,
            "array": type_.is_array,
            "not_null": column.not_null,
            "role": "vector" if column.name in fields else role.get(column.name, "unread"),
        }
        for name, held in (("domain", type_.is_domain), ("generated", column.generated), ("counts", column.counts_up)):
            entry |= {name: True} if held else {}
        if type_.labels is not None:
            entry["labels"] = list(type_.labels)
        if column.name in fields:
            entry["field"] = fields[column.name].name
        facts.append(entry)
    return facts
