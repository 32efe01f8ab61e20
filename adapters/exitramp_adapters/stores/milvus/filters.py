"""Filters as expressions of Milvus that leave every record which passes, and perhaps more.

Milvus does not tell null from missing, finds no item of a list by `==`, and compares what is not of one type in ways
that differ by version. So what an expression leaves is looked at once more, on the payload itself, by whoever asks;
here each part becomes a condition that no passing record fails, or none. Payloads that stand in `exitramp_rest` are
none of its fields, and pass all conditions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Final

from exitramp.filters import And, Eq, Field, Filter, In, Or, Range, Scalar
from exitramp_adapters.stores.milvus.column_types import Kind
from exitramp_adapters.stores.milvus.schema import META, REST, Collection
from exitramp_adapters.stores.milvus.wait import literal

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_ .-]*")
_DYNAMIC: Final = re.compile(re.escape(META) + r'\["([A-Za-z_][A-Za-z0-9_]*)"\]')
_INTEGERS: Final = frozenset((Kind.INT8, Kind.INT16, Kind.INT32, Kind.INT64))
_EXACT: Final = 2**53
"""Beyond that an integer is no double, and some versions compare doubles."""
_MOST_VALUES: Final = 200


def prefilter(where: Filter, collection: Collection) -> str:
    """An expression that every record passes which passes `where`; "" where there is none."""
    found = _condition(where, collection)
    if not found:
        return ""
    # Milvus 2.3 compares a length by == and != alone.
    return f"({found}) or array_length({REST}) != 0" if collection.has_rest else found


def _condition(where: Filter, collection: Collection) -> str:
    match where:
        case And(parts):
            return " and ".join(f"({found})" for part in parts if (found := _condition(part, collection)))
        case Or(parts):
            return _any(_condition(part, collection) for part in parts)
        case Eq(field, value):
            return _equal(_place(field, collection), value)
        case In(field, values) if len(values) <= _MOST_VALUES:
            place = _place(field, collection)
            return _any(_equal(place, value) for value in values)
        case Range(field, gte, gt, lte, lt):
            return _within(_place(field, collection), {">=": gte, ">": gt, "<=": lte, "<": lt})
    return ""


def _any(conditions: Iterator[str]) -> str:
    found = list(conditions)
    return " or ".join(f"({each})" for each in found) if all(found) else ""


def _place(field: Field, collection: Collection) -> tuple[str, int, int] | None:
    """How an expression names the field, its type, and that of its items; None where no expression is made of it."""
    first, *inner = field
    if not all(_PLAIN.fullmatch(key) for key in field):
        return None
    roles = collection.roles
    if first in roles.values:
        told = collection.fields[first]
        if inner and told.data_type != Kind.JSON:
            return None
        return "".join([first, *(f'["{key}"]' for key in inner)]), told.data_type, told.element_type
    if roles.payload is not None:
        # The key may be one of both.
        return None if collection.dynamic else (roles.payload + "".join(f'["{key}"]' for key in field), Kind.JSON, 0)
    if not collection.dynamic or first in collection.fields:
        return None
    return META + "".join(f'["{key}"]' for key in field), Kind.JSON, 0


def _equal(place: tuple[str, int, int] | None, value: Scalar) -> str:
    text = _value(value)
    if place is None or not text:
        return ""
    name, kind, items = place
    if kind == Kind.JSON:
        return " or ".join([f"{name} == {text}", *(f"json_contains({_named(name)}, {each})" for each in _forms(value))])
    if kind == Kind.ARRAY:
        return f"array_contains({name}, {text})" if _compares(items, value) else ""
    return f"{name} == {text}" if _compares(kind, value) else ""


def _named(name: str) -> str:
    """The place as `json_contains` of milvus-lite takes it: without `$meta`, where the key is an identifier."""
    found = _DYNAMIC.match(name)
    return name if found is None else found[1] + name[found.end() :]


def _forms(value: Scalar) -> list[str]:
    """How a list may hold the value: among its items Milvus 2.3 finds no 5.0 by 5, nor 5 by 5.0."""
    text = _value(value)
    return [text] if isinstance(value, str | bool) or not float(value).is_integer() else [text, f"{text}.0"]


def _within(place: tuple[str, int, int] | None, bounds: dict[str, float | None]) -> str:
    if place is None or place[1] not in _INTEGERS | {Kind.JSON, Kind.DOUBLE}:
        return ""
    said = [(sign, _value(bound)) for sign, bound in bounds.items() if bound is not None]
    return " and ".join(f"{place[0]} {sign} {text}" for sign, text in said if text)


def _compares(kind: int, value: Scalar) -> bool:
    """Whether such a field may hold it, and the server compares it as what it is."""
    if isinstance(value, bool):
        return kind == Kind.BOOL
    if isinstance(value, str):
        return kind in (Kind.VARCHAR, Kind.TEXT)
    return (
        (kind in _INTEGERS and type(value) is int)
        or kind == Kind.DOUBLE
        or (kind == Kind.FLOAT and float(value).is_integer())
    )


def _value(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return literal(value)
    if not math.isfinite(value) or abs(value) > _EXACT:
        return ""
    return repr(int(value)) if float(value).is_integer() else repr(value)
