"""Where records stand: places by namespace and id, as SQL compares them, and bounds between parts of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from exitramp_adapters.stores.duckdb.table import Table

Place = tuple[str | None, str]
"""A record's namespace and id, as texts."""
_SAMPLE_ROWS: Final = 20_000


def key_type(table: Table, column: str) -> str:
    """The type of what `Table.key` gives."""
    return "VARCHAR" if table.types[column].id in ("hugeint", "uhugeint") else str(table.types[column])


def place_from(held: Any) -> Place:
    return (None if held[0] is None else str(held[0]), str(held[1]))


def place_at(page: pa.RecordBatch, row: int) -> Place:
    spaces = page.schema.get_field_index("namespace")
    return (None if spaces < 0 else page.column(spaces)[row].as_py(), page.column("id")[row].as_py())


def last_place(page: pa.RecordBatch) -> Place:
    return place_at(page, page.num_rows - 1)


def _compared(table: Table, bound: Place, values: list[Any], word: str) -> str:
    """The id compared with that of a place, `<`, `>` or `>=`, within one namespace."""
    values.append(bound[1])
    return f"{table.key('id')} {word} CAST(? AS {key_type(table, table.roles.id)})"


def behind(table: Table, bound: Place, values: list[Any], word: str = ">") -> str:
    if table.roles.namespace is None:
        return _compared(table, bound, values, word)
    ns, kind = table.key("namespace"), key_type(table, table.roles.namespace)
    if bound[0] is None:
        return f"({ns} IS NOT NULL OR {_compared(table, bound, values, word)})"
    values += [bound[0], bound[0]]
    return f"({ns} > CAST(? AS {kind}) OR ({ns} = CAST(? AS {kind}) AND {_compared(table, bound, values, word)}))"


def at_least(table: Table, bound: Place, values: list[Any]) -> str:
    return behind(table, bound, values, ">=")


def before(table: Table, bound: Place, values: list[Any]) -> str:
    if table.roles.namespace is None:
        return _compared(table, bound, values, "<")
    ns, kind = table.key("namespace"), key_type(table, table.roles.namespace)
    if bound[0] is None:
        return f"({ns} IS NULL AND {_compared(table, bound, values, '<')})"
    values += [bound[0], bound[0]]
    less = _compared(table, bound, values, "<")
    return f"({ns} IS NULL OR {ns} < CAST(? AS {kind}) OR ({ns} = CAST(? AS {kind}) AND {less}))"


def bounds_between(cursor: Any, table: Table, parts: int, where: str = "", values: Sequence[Any] = ()) -> list[Place]:
    """At most `parts` - 1 places, rising, that cut the rows into parts of about one size.

    By a sample: of a small table by all its rows. Sorting every key of a large one takes memory that it may not have.
    """
    namespace = "NULL" if table.roles.namespace is None else table.key("namespace")
    sampled = cursor.execute(
        f"SELECT CAST(ns AS VARCHAR), CAST(id AS VARCHAR) FROM (SELECT {namespace} AS ns, {table.key('id')} AS id"
        f" FROM {table.relation}{where} USING SAMPLE reservoir({_SAMPLE_ROWS} ROWS)) ORDER BY ns NULLS FIRST, id",
        list(values),
    ).fetchall()
    at = sorted({len(sampled) * part // parts for part in range(1, parts)} - {0})
    return [place_from(sampled[row]) for row in at if row < len(sampled)]


def part_of(table: Table, bounds: Sequence[Place], values: list[Any]) -> str:
    """The SQL of the number of the part that a row is in: a tree of comparisons, so that none takes many."""

    def tree(low: int, high: int) -> str:
        if low == high:
            return str(low)
        middle = (low + high) // 2
        condition = before(table, bounds[middle], values)
        return f"CASE WHEN {condition} THEN {tree(low, middle)} ELSE {tree(middle + 1, high)} END"

    return f"CAST({tree(0, len(bounds))} AS INTEGER)"
