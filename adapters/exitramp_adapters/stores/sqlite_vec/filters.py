"""Filters as SQL on a payload of canonical JSON, for what SQL answers exactly; the rest is decided in Python.

A filter becomes a condition, and beside it one that says of which rows the first may be wrong. Those are looked at by
`exitramp.filters.matches`: payloads with values that stand there as a tag (big integers, NaN, timestamps) or with
escaped characters, and numbers so near to one of the filter's that SQLite may take them for it. It does not round every
decimal text to the nearest double: of 150,000 with exponents of any size 3.51 took 24,000 for a neighbour.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from exitramp.canonical import TAG_PREFIX
from exitramp.filters import And, Eq, Exists, Field, Filter, In, Not, Or, Range, Scalar

# In quotes a path takes any character but these; a key with one of them is compared in Python.
_PLAIN_KEY: Final = re.compile(r'[^"\\\x00-\x1f]+')
_NEAR: Final = 1e-9
_EXACT_INTEGER: Final = 2**53


@dataclass(frozen=True, slots=True)
class Condition:
    """Two conditions on the column `t.payload` with the values of their question marks: `sql` holds unless `doubt`."""

    sql: str
    values: tuple[Any, ...]
    doubt: str
    doubt_values: tuple[Any, ...]


def condition_of(where: Filter) -> Condition | None:
    """None for a filter of which SQL cannot decide anything."""
    doubts: list[tuple[str, tuple[Any, ...]]] = []
    made = _sql(where, doubts)
    if made is None:
        return None
    doubts.insert(0, ("instr(t.payload, ?) OR instr(t.payload, '\\u')", (f'"{TAG_PREFIX}',)))
    return Condition(
        made[0],
        made[1],
        " OR ".join(f"ifnull({sql}, 0)" for sql, _ in doubts),
        tuple(value for _, values in doubts for value in values),
    )


def _sql(where: Filter, doubts: list[tuple[str, tuple[Any, ...]]]) -> tuple[str, tuple[Any, ...]] | None:
    match where:
        case And(parts) | Or(parts):
            made = [_sql(part, doubts) for part in parts]
            word = " AND " if isinstance(where, And) else " OR "
            sure = [each for each in made if each is not None]
            if len(sure) < len(made):
                return None
            if not sure:
                return ("1" if isinstance(where, And) else "0"), ()
            return f"({word.join(sql for sql, _ in sure)})", tuple(value for _, values in sure for value in values)
        case Not(part):
            inner = _sql(part, doubts)
            return None if inner is None else (f"(NOT {inner[0]})", inner[1])
    path = _path(where.field)
    if path is None:
        return None
    match where:
        case Exists():
            return "(json_type(t.payload, ?) IS NOT NULL)", (path,)
        case Eq(_, value):
            return _equal(path, (value,), doubts)
        case In(_, several):
            return _equal(path, several, doubts)
        case Range():
            return _range(path, where, doubts)


def _path(field: Field) -> str | None:
    if not all(_PLAIN_KEY.fullmatch(key) for key in field):
        return None
    return "$" + "".join(f'."{key}"' for key in field)


def _equal(
    path: str, wanted: tuple[Scalar, ...], doubts: list[tuple[str, tuple[Any, ...]]]
) -> tuple[str, tuple[Any, ...]] | None:
    """The value, or any item of a list, is one of these. An object has rows in json_each too, which are not items."""
    tests: list[str] = []
    values: list[Any] = []
    for value in wanted:
        if isinstance(value, bool):
            tests.append(f"e.type = '{'true' if value else 'false'}'")
        elif isinstance(value, str):
            if "\0" in value:
                return None
            tests.append("(e.type = 'text' AND e.atom = ?)")
            values.append(value)
        else:
            if not _is_near_zero_or_plain(value):
                return None
            tests.append("(e.type IN ('integer', 'real') AND e.atom = ?)")
            values.append(value)
            doubts.append(
                (_near("EXISTS (SELECT 1 FROM json_each(t.payload, ?) e WHERE {})", "e.atom"), (path, value, value))
            )
    each = f"EXISTS (SELECT 1 FROM json_each(t.payload, ?) e WHERE {' OR '.join(tests) or '0'})"
    return f"(ifnull(json_type(t.payload, ?) <> 'object', 0) AND {each})", (path, path, *values)


def _range(path: str, where: Range, doubts: list[tuple[str, tuple[Any, ...]]]) -> tuple[str, tuple[Any, ...]] | None:
    tests, values = ["ifnull(json_type(t.payload, ?) IN ('integer', 'real'), 0)"], [path]
    given: list[Any] = list(values)
    for sign, bound in ((">=", where.gte), (">", where.gt), ("<=", where.lte), ("<", where.lt)):
        if bound is None:
            continue
        if not _is_near_zero_or_plain(bound):
            return None
        tests.append(f"json_extract(t.payload, ?) {sign} ?")
        given += [path, bound]
        one = _near("(json_type(t.payload, ?) = 'real' AND {})", "json_extract(t.payload, ?)")
        doubts.append((one, (path, path, bound, bound)))
    return f"({' AND '.join(tests)})", tuple(given)


def _near(around: str, found: str) -> str:
    """A real number that is not the wanted one for certain, and not another for certain. A whole one within reach of
    exact arithmetic is read exactly, so that it stands in no doubt."""
    real = "e.type = 'real' AND " if found == "e.atom" else ""
    return around.format(f"{real}abs({found} - ?) <= {_NEAR} * (abs(?) + 1e-300)")


def _is_near_zero_or_plain(value: float) -> bool:
    """Integers that a double holds exactly, and finite floats."""
    if isinstance(value, int):
        return abs(value) <= _EXACT_INTEGER
    return value == value and abs(value) <= _EXACT_INTEGER
