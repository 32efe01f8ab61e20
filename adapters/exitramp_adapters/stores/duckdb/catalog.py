"""What DuckDB's catalog tells of a file: its tables and views, their comments, keys and indexes.

A note of exitramp's is the last line of a table's comment, behind whatever a user wrote there.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from exitramp.errors import DataInvalid
from exitramp.records import Metric
from exitramp_adapters.stores.duckdb.file import load_vss, quoted, vss_path

INDEX_KEY: Final = "duckdb"
"""The key in a spec's `index` under which a table's columns, indexes and comment stand."""
NOTE: Final = "exitramp: "
_HNSW: Final = re.compile(r"(?is)\sUSING HNSW \((\"(?:[^\"]|\"\")*\"|[^()]+)\)")
HNSW_METRICS: Final = {"cosine": Metric.COSINE, "l2sq": Metric.EUCLIDEAN, "ip": Metric.DOT}


def names_in(cursor: Any) -> dict[str, tuple[str, str, str, str, str]]:
    """By name (`table`, or `schema.table` outside `main`) the schema, the table, the kind, the comment and the SQL.

    Where two would have one name, since a point stands in one of them, both have that of DuckDB: `"schema"."table"`.
    """
    rows = cursor.execute(
        "SELECT schema_name, table_name, 'table', comment, sql FROM duckdb_tables()"
        " WHERE NOT internal AND NOT temporary AND database_name = current_database() UNION ALL "
        "SELECT schema_name, view_name, 'view', comment, sql FROM duckdb_views()"
        " WHERE NOT internal AND NOT temporary AND database_name = current_database()"
    ).fetchall()
    plain = [name if schema == "main" else f"{schema}.{name}" for schema, name, *_ in rows]
    twice = {name for name, count in Counter(plain).items() if count > 1}
    return {
        f"{quoted(row[0])}.{quoted(row[1])}" if name in twice else name: (*row[:3], row[3] or "", row[4] or "")
        for name, row in zip(plain, rows, strict=True)
    }


def relation_in(cursor: Any, schema: str, table: str) -> str:
    """What SQL calls it. The file is named too: DuckDB takes `art.t` in `art.duckdb` for ambiguous where both are."""
    [[database]] = cursor.execute("SELECT current_database()").fetchall()
    return ".".join(quoted(part) for part in (database, schema, table))


def collection_names(cursor: Any) -> tuple[str, ...]:
    """Tables and views that hold vectors, or that exitramp made."""
    like = "data_type SIMILAR TO '(FLOAT|DOUBLE)\\[[0-9]+\\](\\[\\])?'"
    rows = cursor.execute(
        f"SELECT schema_name, table_name FROM duckdb_columns() WHERE {like} AND database_name = current_database()"
    ).fetchall()
    holding = set(rows)
    found = names_in(cursor)
    return tuple(sorted(name for name, told in found.items() if told[:2] in holding or has_note(told[3])))


def relation_of(collection: str) -> tuple[str, str]:
    """Schema and table that a collection's name stands for: `schema.table`, or a table of `main`."""
    schema, dot, name = collection.partition(".")
    return (schema, name) if dot else ("main", collection)


def columns_of(cursor: Any, relation: str) -> list[Any]:
    described = cursor.execute(f"SELECT * FROM {relation} LIMIT 0")
    columns: list[Any] = described.description
    described.fetchall()
    return columns


def has_note(remark: str) -> bool:
    return remark.rpartition("\n")[2].startswith(NOTE)


def note_in(remark: str) -> tuple[str, dict[str, Any] | None]:
    """What a user wrote in a comment, and the note in its last line."""
    before, _, last = remark.rpartition("\n")
    if not last.startswith(NOTE):
        return remark, None
    try:
        note = json.loads(last.removeprefix(NOTE))
    except ValueError as error:
        raise DataInvalid("the note of exitramp in its comment is no JSON") from error
    if not isinstance(note, dict):
        raise DataInvalid("the note of exitramp in its comment is no JSON object")
    return before, note


def primary_key(cursor: Any, schema: str, table: str) -> list[str]:
    found = cursor.execute(
        "SELECT constraint_column_names FROM duckdb_constraints() WHERE database_name = current_database()"
        " AND schema_name = ? AND table_name = ? AND constraint_type = 'PRIMARY KEY'",
        [schema, table],
    ).fetchall()
    return list(found[0][0]) if found else []


def indexes_of(cursor: Any, schema: str, table: str) -> list[dict[str, Any]]:
    rows = cursor.execute(
        "SELECT index_name, is_unique, expressions, sql FROM duckdb_indexes() WHERE database_name = current_database()"
        " AND schema_name = ? AND table_name = ? ORDER BY index_name",
        [schema, table],
    ).fetchall()
    return [{"name": name, "unique": unique, "on": on, "sql": sql} for name, unique, on, sql in rows]


def hnsw_of(
    cursor: Any, schema: str, table: str, indexes: Sequence[Mapping[str, Any]], where: str
) -> dict[str, dict[str, Any]]:
    """By column, what there is to tell of its HNSW index; without the extension only that there is one."""
    found = {column: {"name": each["name"]} for each in indexes if (column := _hnsw_column(each["sql"])) is not None}
    if not found or vss_path() is None:
        return found
    load_vss(cursor, where)
    rows = cursor.execute(
        "SELECT index_name, metric, dimensions, count FROM pragma_hnsw_index_info()"
        " WHERE catalog_name = current_database() AND schema_name = ? AND table_name = ?",
        [schema, table],
    ).fetchall()
    for name, metric, dimensions, count in rows:
        for about in found.values():
            if about["name"] == name:
                about |= {"metric": metric, "dimensions": dimensions, "count": count}
    return found


def _hnsw_column(sql: str) -> str | None:
    """The column of an HNSW index by the words that made it; None for an index of another kind."""
    match = _HNSW.search(sql)
    if match is None:
        return None
    name = match[1]
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
