"""What is behind an address: a collection that exitramp made, a vec0 table, or an ordinary table that holds vectors.

A collection NAME that exitramp makes is

    "NAME"            (rowid, id, namespace, document, payload): a row for each record, payload being canonical JSON
    "NAME_vec"        a vec0 table with the column `embedding` for the unnamed field, a vector under the record's rowid
    "NAME_vec_FIELD"  the same for each named field
    "NAME_unranked"   (field, record, vector): vectors that vec0 could keep, but whose distance is no number
    "exitramp_collections"  (name, about): what each collection is, and what `create` was told of its origin

One vec0 table for each field, as vec0 takes no row without a vector, and no column names but of plain letters. A vector
whose distance is NaN spoils the merge in which vec0 finds the nearest: others are lost then, so such ones stand aside.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from exitramp.errors import DataInvalid, FormatUnknown
from exitramp.ports import NameRule, Origin
from exitramp.ports.tables import Roles
from exitramp.records import CollectionSpec, DType, Finding, VectorField
from exitramp.urls import Address
from exitramp_adapters.stores.sqlite_vec.database import quoted
from exitramp_adapters.stores.sqlite_vec.declared import parse_vec0

FORMAT: Final = 1
ABOUT: Final = "exitramp_collections"
COLUMN: Final = "embedding"
INDEX_KEY: Final = "sqlite-vec"
# Not the names of tables that belong to another one, of ours or of vec0.
NAMES: Final = NameRule(
    r"(?is)(?!sqlite_|exitramp_)(?!.*_vec(_.*)?$)(?!.*_(unranked|info|chunks|rowids|auxiliary)$)"
    r"(?!.*_(vector_chunks|metadatachunks|metadatatext)\d\d$)[^\0]+",
    1,
    500,
)
STORED: Final = {
    "float32": (DType.FLOAT32, "<f4"),
    "float16": (DType.FLOAT16, "<f2"),
    "float64": (DType.FLOAT64, "<f8"),
    "int8": (DType.INT8, "i1"),
    "binary": (DType.BINARY, "u1"),
    "json": (DType.FLOAT32, "json"),
}
"""How a column may hold its vectors: the word in an address, the dtype, and numpy's word for one number."""


@dataclass(frozen=True, slots=True)
class Part:
    """Where a field's vectors are: in the vec0 table `table`, as its vector column `number`, or in an ordinary table.

    `key` is the column of vec0's primary key, `inline` the SQL of the vectors where the records' own SELECT has them at
    hand, `stored` numpy's word for a number.
    """

    field: VectorField
    table: str
    column: str
    stored: str
    number: int | None = None
    chunk_rows: int = 0
    key: str = "rowid"
    key_is_text: bool = False
    inline: str | None = None


@dataclass(frozen=True, slots=True)
class Collection:
    """How to read a collection: `source` is the FROM of its records, `rowid` what pages go by, `columns` SQL by name.

    `table` is the ordinary table of the records, or vec0's own list of rowids.
    """

    spec: CollectionSpec
    table: str
    source: str
    rowid: str
    columns: Mapping[str, str] = field(hash=False)
    roles: Roles
    parts: tuple[Part, ...]
    origin: Origin | None = None
    is_own: bool = False
    booleans: frozenset[str] = frozenset()
    low_bit_first: bool = True
    findings: tuple[Finding, ...] = ()

    def part(self, name: str) -> Part:
        """Raises `DataInvalid` naming the fields there are."""
        wanted = self.spec.vector(name)
        return next(part for part in self.parts if part.field == wanted)


def tables_in(connection: Any) -> dict[str, tuple[str, str]]:
    """By name the kind and the words of every table and view but those of SQLite itself."""
    rows = connection.execute("SELECT name, type, sql FROM sqlite_master WHERE type IN ('table', 'view')")
    return {name: (kind, sql or "") for name, kind, sql in rows if not name.startswith("sqlite_")}


def about_own(connection: Any, tables: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By name, what is written down of the collections that exitramp made and that are still there."""
    if ABOUT not in tables:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for name, text in connection.execute(f"SELECT name, about FROM {ABOUT}"):
        if name in tables and f"{name}_unranked" in tables:
            found[name] = json.loads(text)
            if found[name].get("format") != FORMAT:
                raise FormatUnknown(f"the collection {name!r} is of a format that this program does not know")
    return found


def own_collection(
    address: Address, name: str, about: Mapping[str, Any], tables: Mapping[str, tuple[str, str]], names: Sequence[str]
) -> Collection:
    """`names`: the columns that the table of the records has now.

    One that the collection has no use for, since somebody added it or wrote documents where there were none, is a key
    of the payload in every row in which it is not null.
    """
    address.only_options()
    spec = CollectionSpec.from_json(about["spec"])
    parts = []
    for told in spec.vectors:
        table = about["tables"][told.column]
        vec0 = parse_vec0(table, tables[table][1]) if table in tables else None
        if vec0 is None:
            raise DataInvalid(f"{address}: the vec0 table {table!r} of this collection is not there any more")
        [column] = vec0.vectors
        made = replace(told, dtype=column.dtype, dimensions=column.dimensions, metric=column.metric)
        parts.append(Part(made, table, column.name, stored_as(made), 0, vec0.chunk_rows))
    index = {INDEX_KEY: {"chunk_size": parts[0].chunk_rows}} if parts else {}
    columns = {each: f"t.{quoted(each)}" for each in names}
    roles = Roles(
        "id",
        "namespace" if spec.has_namespaces else None,
        "document" if spec.has_documents else None,
        "payload",
    )
    known = {roles.id, roles.namespace, roles.document, roles.payload}
    if not known - {None} <= columns.keys():
        raise DataInvalid(f"{address}: the table {name!r} has lost a column: it had {', '.join(map(str, known))}")
    roles = replace(roles, values=tuple(each for each in names if each not in known))
    return Collection(
        replace(spec, name=name, vectors=tuple(part.field for part in parts), index=index),
        name,
        f"{quoted(name)} t",
        "t.rowid",
        columns,
        roles,
        tuple(parts),
        None if about["origin"] is None else Origin.from_json(about["origin"]),
        is_own=True,
    )


def stored_as(made: VectorField) -> str:
    return STORED[made.dtype.value][1]
