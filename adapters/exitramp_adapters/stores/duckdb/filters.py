"""Filters as SQL: on a payload of JSON, and on columns of every type that compares as `exitramp.filters` says.

JSON is reached by pointers, which take any key; that each step is an object is asked beside it, since a pointer also
counts into lists. Integers are compared as integers however large they are, and a bound of the other kind is turned
into one of the same, exactly. What becomes text in a payload is not filtered by: that is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from exitramp.canonical import ESCAPED_PREFIX, TAG_PREFIX
from exitramp.errors import UsageError
from exitramp.filters import And, Exists, Filter, In, Leaf, Not, Or, Range, Scalar
from exitramp_adapters.stores.duckdb.column_types import INTEGERS, is_json, is_text, is_textual, parts_of
from exitramp_adapters.stores.duckdb.file import quoted
from exitramp_adapters.stores.duckdb.table import Table

_NO: Final = "FALSE"
_OPERATORS: Final = {"gte": ">=", "gt": ">", "lte": "<=", "lt": "<"}


@dataclass(slots=True)
class _Making:
    """The values of the question marks, in their order. `tags`: whether JSON in the table is our own text."""

    values: list[Any]
    tags: bool

    def value(self, value: Any) -> str:
        self.values.append(value)
        return "?"


def condition_of(where: Filter, table: Table) -> tuple[str, list[Any]]:
    """The condition, never null, and the values of its question marks. Raises `UsageError` for what it cannot say."""
    making = _Making([], table.is_own)
    return _condition(where, table, making), making.values


def _condition(where: Filter, table: Table, making: _Making) -> str:
    match where:
        case And(parts) | Or(parts):
            if not parts:
                return "TRUE" if isinstance(where, And) else _NO
            word = " AND " if isinstance(where, And) else " OR "
            return f"({word.join(_condition(part, table, making) for part in parts)})"
        case Not(part):
            return f"(NOT {_condition(part, table, making)})"
    return f"coalesce({_leaf(where, table, making)}, FALSE)"


def _leaf(where: Leaf, table: Table, making: _Making) -> str:
    roles, key = table.roles, where.field[0]
    found = []
    if key in roles.values:
        kind, column = table.types[key], quoted(key)
        if isinstance(where, Exists) and len(where.field) == 1:
            found.append(f"{column} IS NOT NULL" if table.is_own else "TRUE")
        else:
            found.append(f"coalesce({_typed(where, column, kind, where.field[1:], making)}, FALSE)")
    if roles.payload is not None and (table.is_own or not found):
        kind, column = table.types[roles.payload], quoted(roles.payload)
        if is_json(kind):
            found.append(_json(where, column, where.field, making))
        elif kind.id == "varchar":
            found.append(_json(where, f"TRY_CAST({column} AS JSON)", where.field, making))
        else:
            found.append(_typed(where, column, kind, where.field, making))
    return f"({' OR '.join(f'coalesce({each}, FALSE)' for each in found)})" if found else _NO


def _json(where: Leaf, root: str, path: tuple[str, ...], making: _Making) -> str:
    guards = [f"json_type({root}, {_text(_pointer(path[:depth], making))}) = 'OBJECT'" for depth in range(len(path))]
    pointer = _text(_pointer(path, making))
    if isinstance(where, Exists):
        return " AND ".join([*guards, f"json_type({root}, {pointer}) IS NOT NULL"])
    found = f"json_extract({root}, {pointer})"
    if isinstance(where, Range):
        return " AND ".join([*guards, _in_range(where, lambda word, bound: _json_bound(found, word, bound, making))])
    wanted = where.values if isinstance(where, In) else (where.value,)
    one, item = _json_among(found, wanted, making), _json_among("x", wanted, making)
    items = f"len(list_filter(json_extract({found}, '$[*]'), lambda x: coalesce({item}, FALSE))) > 0"
    return " AND ".join([*guards, f"CASE json_type({found}) WHEN 'ARRAY' THEN {items} ELSE {one} END"])


def _pointer(path: tuple[str, ...], making: _Making) -> str:
    """A JSON pointer (RFC 6901) to where a payload holds a path: a key that looks like a tag stands escaped in ours."""
    escaped = making.tags
    keys = [ESCAPED_PREFIX + key[len(TAG_PREFIX) :] if escaped and key.startswith(TAG_PREFIX) else key for key in path]
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in keys)


def _json_among(found: str, wanted: Sequence[Scalar], making: _Making) -> str:
    """One condition for each type, however many values: a condition for each took 128 MiB at 20 of them."""
    texts, flags, numbers = _by_type(wanted)
    parts = []
    if texts:
        listed = ", ".join(making.value(text) for text in texts)
        parts.append(f"(json_type({found}) = 'VARCHAR' AND ({found} ->> '$') IN ({listed}))")
    if flags:
        listed = ", ".join("'true'" if flag else "'false'" for flag in flags)
        parts.append(f"(json_type({found}) = 'BOOLEAN' AND ({found} ->> '$') IN ({listed}))")
    if numbers:
        parts.append(
            _json_number(
                found,
                lambda number, kind: _integers_among(number, numbers, kind),
                lambda number: _doubles_among(number, numbers),
                making,
            )
        )
    return f"({' OR '.join(parts) or _NO})"


def _by_type(wanted: Sequence[Scalar]) -> tuple[list[str], list[bool], list[int | float]]:
    texts = [each for each in wanted if isinstance(each, str)]
    flags = [each for each in wanted if isinstance(each, bool)]
    return texts, flags, [each for each in wanted if not isinstance(each, str | bool)]


def _json_number(
    found: str, integers: Callable[[str, str], str], doubles: Callable[[str], str], making: _Making
) -> str:
    """DuckDB calls an integer beyond 64 bits a DOUBLE, and its text tells; an infinity stands there as a tag."""
    text = f"({found} ->> '$')"
    tag = f"({found} ->> '/{TAG_PREFIX}float')"
    small = integers(f"TRY_CAST({text} AS HUGEINT)", "HUGEINT")
    large = integers(f"TRY_CAST({text} AS BIGNUM)", "BIGNUM")
    double, endless = (doubles(f"TRY_CAST({each} AS DOUBLE)") for each in (text, tag))
    return (
        f"CASE json_type({found}) WHEN 'BIGINT' THEN {small} WHEN 'UBIGINT' THEN {small} "
        f"WHEN 'DOUBLE' THEN CASE WHEN regexp_full_match({text}, '-?[0-9]+') THEN {large} ELSE {double} END "
        + (f"WHEN 'OBJECT' THEN {tag} IN ('Infinity', '-Infinity') AND {endless} " if making.tags else "")
        + "ELSE FALSE END"
    )


def _json_bound(found: str, word: str, bound: float, making: _Making) -> str:
    return _json_number(
        found,
        lambda number, kind: _integers(number, word, bound, kind),
        lambda number: _doubles(number, word, bound),
        making,
    )


def _typed(where: Leaf, found: str, kind: Any, path: tuple[str, ...], making: _Making) -> str:
    """A condition on a value of a column's type, and on what a path leads to within it."""
    if is_textual(kind):
        raise UsageError(f"a filter on '{where.field[0]}' cannot be honoured: its values become text ({kind})")
    if is_json(kind):
        return _json(where, found, path, making)
    if path:
        parts = parts_of(kind)
        if kind.id in ("map", "union"):
            raise UsageError(f"a filter within '{where.field[0]}' cannot be honoured: it is of the type {kind}")
        if kind.id != "struct" or path[0] not in parts:
            return _NO
        inside = f"struct_extract({found}, {_text(path[0])})"
        if isinstance(where, Exists) and len(path) == 1:
            return f"{found} IS NOT NULL"
        return _typed(where, inside, parts[path[0]], path[1:], making)
    if isinstance(where, Exists):
        return "TRUE"
    if isinstance(where, Range):
        return _in_range(where, lambda word, bound: _bound(found, kind, word, bound))
    wanted = where.values if isinstance(where, In) else (where.value,)
    if kind.id in ("list", "array"):
        item = _among("x", parts_of(kind)["child"], wanted, making)
        as_list = found if kind.id == "list" else f"CAST({found} AS {parts_of(kind)['child']}[])"
        return f"len(list_filter({as_list}, lambda x: coalesce({item}, FALSE))) > 0"
    return _among(found, kind, wanted, making)


def _among(found: str, kind: Any, wanted: Sequence[Scalar], making: _Making) -> str:
    if is_json(kind):
        return _json_among(found, wanted, making)
    texts, flags, numbers = _by_type(wanted)
    parts = []
    if flags and kind.id == "boolean":
        parts.append(f"{found} IN ({', '.join('TRUE' if flag else 'FALSE' for flag in flags)})")
    if texts and is_text(kind):
        text = f"CAST({found} AS VARCHAR)" if kind.id == "enum" else f"({found} COLLATE C)"
        parts.append(f"{text} IN ({', '.join(making.value(each) for each in texts)})")
    if numbers:
        parts.append(
            _number(
                found,
                kind,
                lambda number, name: _integers_among(number, numbers, name),
                lambda number: _doubles_among(number, numbers),
            )
        )
    return f"({' OR '.join(parts) or _NO})"


def _number(found: str, kind: Any, integers: Callable[[str, str], str], doubles: Callable[[str], str]) -> str:
    if kind.id in ("bignum", "uhugeint"):
        return integers(found, kind.id.upper())
    if kind.id in INTEGERS:
        return integers(f"CAST({found} AS HUGEINT)", "HUGEINT")
    if kind.id in ("float", "double"):
        number = f"CAST({found} AS DOUBLE)"
        return f"(NOT isnan({number}) AND {doubles(number)})"
    return _NO


def _bound(found: str, kind: Any, word: str, bound: float) -> str:
    return _number(
        found,
        kind,
        lambda number, name: _integers(number, word, bound, name),
        lambda number: _doubles(number, word, bound),
    )


def _in_range(where: Range, one: Callable[[str, float], str]) -> str:
    bounds = {"gte": where.gte, "gt": where.gt, "lte": where.lte, "lt": where.lt}
    return f"({' AND '.join(one(word, bound) for word, bound in bounds.items() if bound is not None) or 'TRUE'})"


def _integers_among(number: str, wanted: Sequence[int | float], kind: str) -> str:
    """Of the values those that an integer of this kind can be."""
    whole = [int(each) for each in wanted if isinstance(each, int) or each.is_integer()]
    listed = ", ".join(f"'{each}'::{kind}" for each in whole if _fits(each, kind))
    return f"{number} IN ({listed})" if listed else _NO


def _doubles_among(number: str, wanted: Sequence[int | float]) -> str:
    """Of the values those that a double can be."""
    near = [_exact_double(each) for each in wanted]
    listed = ", ".join(f"'{each!r}'::DOUBLE" for each in near if each is not None)
    return f"{number} IN ({listed})" if listed else _NO


def _fits(integer: int, kind: str) -> bool:
    least, most = INTEGERS.get(kind.lower(), (integer, integer))
    return least <= integer <= most


def _exact_double(number: int | float) -> float | None:
    try:
        near = float(number)
    except OverflowError:
        return None
    return near if near == number else None


def _integers(number: str, word: str, bound: float, kind: str = "HUGEINT") -> str:
    """`number` is an integer; a bound between two integers is the same as one of them."""
    if isinstance(bound, float):
        if math.isnan(bound):
            return _NO
        if math.isinf(bound):
            return "TRUE" if word in (("lte", "lt") if bound > 0 else ("gte", "gt")) else _NO
        if bound != math.floor(bound):
            word, bound = ("gte", math.ceil(bound)) if word in ("gte", "gt") else ("lte", math.floor(bound))
        bound = int(bound)
    least, most = INTEGERS.get(kind.lower(), (bound, bound))
    if not least <= bound <= most:
        return "TRUE" if word in (("lte", "lt") if bound > most else ("gte", "gt")) else _NO
    return f"{number} {_OPERATORS[word]} '{bound}'::{kind}"


def _doubles(number: str, word: str, bound: float) -> str:
    """`number` is a double; a bound that is an integer between two doubles is the same as one of them."""
    if isinstance(bound, int):
        try:
            near = float(bound)
        except OverflowError:
            near = math.inf if bound > 0 else -math.inf
        if near == bound:
            bound = near
        elif word in ("gte", "gt"):
            word, bound = "gte", near if near > bound else math.nextafter(near, math.inf)
        else:
            word, bound = "lte", near if near < bound else math.nextafter(near, -math.inf)
    if math.isnan(bound):
        return _NO
    return f"{number} {_OPERATORS[word]} '{bound!r}'::DOUBLE"


def _text(text: str) -> str:
    """A text as SQL. A character zero would end the statement there, and no key may be cut short."""
    if "\0" in text:
        raise UsageError("a filter's field with the character zero in it cannot be honoured")
    return "'" + text.replace("'", "''") + "'"
