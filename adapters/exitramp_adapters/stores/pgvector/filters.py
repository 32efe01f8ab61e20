"""Filters as SQL: each part means on a row just what `exitramp.filters` says of the record, or it is refused.

Every part is true or false, never NULL, so that NOT says what it says. Whatever is no number, text or truth value to a
record (a decimal, a moment, a UUID) equals nothing here either, although PostgreSQL could well compare it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from exitramp.errors import UsageError
from exitramp.filters import And, Eq, Exists, Filter, In, Leaf, Not, Or, Range, Scalar
from exitramp_adapters.stores.pgvector import json_form
from exitramp_adapters.stores.pgvector.catalog import Column, quoted
from exitramp_adapters.stores.pgvector.shape import Shape
from exitramp_adapters.stores.pgvector.values import INTEGERS, ROOM, TEXTS, is_textual


@dataclass(frozen=True, slots=True)
class Sql:
    """A piece of a statement with its parameters."""

    text: str
    words: tuple[Any, ...] = ()

    def __format__(self, spec: str) -> str:
        raise TypeError("a piece is put together by `joined`, or its parameters are lost")


FALSE: Final = Sql("false")
TRUE: Final = Sql("true")


def where(condition: Filter, shape: Shape) -> Sql:
    """Raises `UsageError` for what cannot be said exactly."""
    match condition:
        case And(parts):
            return _all(" AND ", [where(part, shape) for part in parts])
        case Or(parts):
            return _all(" OR ", [where(part, shape) for part in parts])
        case Not(part):
            return joined("NOT (", where(part, shape), ")")
    return joined("coalesce(", _leaf(condition, shape), ", false)")


def joined(*parts: str | Sql) -> Sql:
    texts: list[str] = []
    words: list[Any] = []
    for part in parts:
        texts.append(part if isinstance(part, str) else part.text)
        words += [] if isinstance(part, str) else part.words
    return Sql("".join(texts), tuple(words))


def _all(word: str, parts: Sequence[Sql]) -> Sql:
    whole: list[str | Sql] = []
    for part in parts:
        whole += [word if whole else "", "(", part, ")"]
    return joined(*whole)


def _leaf(leaf: Leaf, shape: Shape) -> Sql:
    for key in leaf.field:
        _require_text(key)
    key, rest = leaf.field[0], leaf.field[1:]
    column = next((each for each in shape.values if each.name == key), None)
    extra = None if shape.extra is None else Sql(quoted(shape.extra.name))
    if column is not None:
        own = _on_column(leaf, column, rest, extra)
        if extra is None:
            return own
        more, types = joined(extra, " -> 'more'"), joined(extra, " -> 'mt'")
        beside = joined(quoted(column.name), " IS NULL AND jsonb_exists(", more, ", ", Sql("%s::text", (key,)), ")")
        other = _on_json(leaf, _at(more, leaf.field), _at(types, leaf.field))
        return joined("CASE WHEN ", beside, " THEN ", other, " ELSE ", own, " END")
    if shape.payload is not None:
        root = Sql(quoted(shape.payload.name) + ("" if shape.payload.type.name == "jsonb" else "::jsonb"))
        types_ = None if extra is None else _at(joined(extra, " -> 't'"), leaf.field)
        return _on_json(leaf, _at(root, leaf.field), types_)
    if extra is not None:
        more, types = joined(extra, " -> 'more'"), joined(extra, " -> 'mt'")
        return _on_json(leaf, _at(more, leaf.field), _at(types, leaf.field))
    return FALSE


def _at(root: Sql, path: Sequence[str]) -> Sql:
    """By keys alone: `->` with a text looks into no list, as `#>` would where a key is a number."""
    for key in path:
        root = joined("(", root, " -> ", Sql("%s::text", (key,)), ")")
    return root


def _on_json(leaf: Leaf, value: Sql, types: Sql | None) -> Sql:
    """`types` is what stands beside it of values that are natural texts there, and not texts."""
    match leaf:
        case Exists():
            return joined(value, " IS NOT NULL")
        case Eq(_, wanted):
            return _equal_json(wanted, value, types)
        case In(_, values):
            return _all(" OR ", [_equal_json(wanted, value, types) for wanted in values])
        case Range():
            infinite: tuple[str | Sql, ...] = ()
            if types is not None:
                text = joined(value, " #>> '{}'")
                known = joined(types, """ = '"float"' AND (""", text, ") IN ('Infinity', '-Infinity')")
                infinite = (" WHEN 'string' THEN CASE WHEN ", known, " THEN (", text, ")::numeric END")
            number = joined(
                "(CASE jsonb_typeof(", value, ") WHEN 'number' THEN ", value, "::numeric", *infinite, " END)"
            )
            return _within(leaf, number, "numeric")


def _equal_json(wanted: Scalar, value: Sql, types: Sql | None) -> Sql:
    typed: str | None = None
    if isinstance(wanted, str):
        text = json_form.json_text(_require_text(wanted))
    elif isinstance(wanted, float) and not math.isfinite(wanted):
        if types is None or math.isnan(wanted):
            return FALSE
        text, typed = ('"Infinity"' if wanted > 0 else '"-Infinity"'), "float"
    else:
        text = json_form.json_text(wanted)
    literal = Sql("%s::jsonb", (text,))
    if types is None or not text.startswith('"'):
        among = joined("jsonb_typeof(", value, ") = 'array' AND ", value, " @> ", literal)
        return joined("(", value, " = ", literal, " OR (", among, "))")
    kind = Sql(" IS NULL") if typed is None else Sql(" = %s::jsonb", (f'"{typed}"',))
    listed = joined("CASE WHEN jsonb_typeof(", value, ") = 'array' THEN ", value, " ELSE '[]' END")
    item = joined("(", types, " -> (item.number - 1)::text)", kind)
    among = joined(
        *("EXISTS (SELECT FROM jsonb_array_elements(", listed, ") WITH ORDINALITY AS item(value, number) "),
        *("WHERE item.value = ", literal, " AND ", item, ")"),
    )
    return joined("((", value, " = ", literal, " AND ", types, kind, ") OR ", among, ")")


def _on_column(leaf: Leaf, column: Column, rest: Sequence[str], extra: Sql | None) -> Sql:
    name, type_ = quoted(column.name), column.type
    if type_.name in ("json", "jsonb") and not type_.is_array:
        root = Sql(name if type_.name == "jsonb" else f"{name}::jsonb")
        if rest or not isinstance(leaf, Exists):
            return _on_json(leaf, _at(root, rest), None)
    if rest:
        return FALSE
    match leaf:
        case Exists():
            if extra is None:
                return TRUE
            missing = joined("jsonb_exists(", extra, " -> 'missing', ", Sql("%s::text", (column.name,)), ")")
            return joined("NOT coalesce(", name, " IS NULL AND ", missing, ", false)")
        case Eq(_, wanted):
            return _equal(wanted, column)
        case In(_, values):
            return _all(" OR ", [_equal(wanted, column) for wanted in values])
        case Range():
            if type_.is_array or (type_.name not in INTEGERS and type_.name not in ("float4", "float8")):
                return FALSE
            if type_.name in INTEGERS:
                return _within(leaf, Sql(f"{name}::numeric"), "numeric")
            return joined(name, " <> 'NaN' AND ", _within(leaf, Sql(f"{name}::float8"), "float8"))


def _equal(wanted: Scalar, column: Column) -> Sql:
    name, type_ = quoted(column.name), column.type
    if type_.is_array:
        return _among(wanted, column)
    if isinstance(wanted, bool):
        return Sql(f"{name} = %s", (wanted,)) if type_.name == "bool" else FALSE
    if isinstance(wanted, str):
        _require_text(wanted)
        if type_.name in ROOM:  # what Python's calendar has no room for is its text
            return Sql(f"NOT ({name} {ROOM[type_.name]}) AND {name}::text = %s", (wanted,))
        if type_.name == "bpchar":
            return Sql(f'rpad({name}::text, {max(type_.modifier - 4, 1)}) COLLATE "C" = %s', (wanted,))
        if type_.name in TEXTS or type_.labels is not None or is_textual(type_):
            return Sql(f'{name}::text COLLATE "C" = %s', (wanted,))
        return FALSE
    if type_.name in INTEGERS:
        return Sql(f"{name}::numeric = %s::numeric", (_number(wanted),)) if math.isfinite(wanted) else FALSE
    if type_.name in ("float4", "float8"):
        exact = _as_double(wanted)
        return FALSE if exact != wanted else Sql(f"{name} <> 'NaN' AND {name}::float8 = %s::float8", (repr(exact),))
    return FALSE


def _among(wanted: Scalar, column: Column) -> Sql:
    """Whether an item of an array does; of one with several dimensions the items are lists."""
    name, type_ = f"{quoted(column.name)}", column.type
    one = f"array_ndims({name}) = 1 AND "
    if isinstance(wanted, bool):
        return Sql(one + f"%s = ANY({name})", (wanted,)) if type_.name == "bool" else FALSE
    if isinstance(wanted, str):
        _require_text(wanted)
        if type_.name in TEXTS or type_.labels is not None or is_textual(type_):
            return Sql(one + f'%s = ANY({name}::text[] COLLATE "C")', (wanted,))
        if type_.name in ROOM or type_.name in ("json", "jsonb"):
            raise UsageError(f"the items of '{column.name}' ({column.written}) cannot be compared with a text")
        return FALSE
    if type_.name in INTEGERS:
        if not math.isfinite(wanted):
            return FALSE
        return Sql(one + f"%s::numeric = ANY({name}::numeric[])", (_number(wanted),))
    if type_.name in ("float4", "float8"):
        exact = _as_double(wanted)
        return FALSE if exact != wanted else Sql(one + f"%s::float8 = ANY({name}::float8[])", (repr(exact),))
    if type_.name in ("json", "jsonb"):
        raise UsageError(f"the items of '{column.name}' ({column.written}) cannot be compared with a number")
    return FALSE


def _within(leaf: Range, number: Sql, type_: str) -> Sql:
    parts = []
    for operator, bound in ((">=", leaf.gte), (">", leaf.gt), ("<=", leaf.lte), ("<", leaf.lt)):
        if bound is None:
            continue
        if isinstance(bound, float) and math.isnan(bound):
            return FALSE
        text = _number(bound)
        if type_ == "float8":
            # An integer between two doubles: the nearest one is on this side of it or on that.
            exact = _as_double(bound)
            text = repr(exact)
            if exact < bound:
                operator = {">=": ">", "<": "<="}.get(operator, operator)
            elif exact > bound:
                operator = {">": ">=", "<=": "<"}.get(operator, operator)
        parts.append(joined(number, f" {operator} ", Sql(f"%s::{type_}", (text,))))
    return _all(" AND ", parts) if parts else joined(number, " IS NOT NULL")


def _number(value: float) -> str:
    """As it would stand in jsonb, to the digit."""
    if isinstance(value, float) and not math.isfinite(value):
        return "Infinity" if value > 0 else "-Infinity"
    return json_form.json_text(value)


def _as_double(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _require_text(text: str) -> str:
    if json_form.ZERO in text:
        raise UsageError("a text with the character zero is in no text of PostgreSQL, and cannot be looked for")
    return text
