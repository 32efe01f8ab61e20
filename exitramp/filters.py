"""A small filter language as a syntax tree. Adapters translate it; `matches` says what it means on one record, and
`exitramp.parity.filters` the same on columns of them.

A field is a path of keys, so that keys with dots in them stay one key. A missing field and a null match nothing but
`Not(...)` and `Exists(...)`: `Exists` is true where the key is present, null or not. Where the value is a list, `Eq`
and `In` ask whether any item matches, as the stores do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from exitramp.errors import UsageError

_EXAMPLE = 'write e.g. {"eq": {"field": "package", "value": "numpy"}}'
Scalar = bool | int | float | str
Field = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Eq:
    """The field equals `value`, of the same JSON type (true is not 1; 1 and 1.0 are equal)."""

    field: Field
    value: Scalar


@dataclass(frozen=True, slots=True)
class In:
    """The field equals one of `values`."""

    field: Field
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """The field is a number within the bounds that are given."""

    field: Field
    gte: float | None = None
    gt: float | None = None
    lte: float | None = None
    lt: float | None = None


@dataclass(frozen=True, slots=True)
class Exists:
    """The field's key is present."""

    field: Field


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Filter


Leaf = Eq | In | Range | Exists
Filter = Leaf | And | Or | Not
_MISSING = object()


def matches(where: Filter, payload: Any) -> bool:
    """Whether a record with this payload, decoded (None: it has none), passes the filter."""
    match where:
        case And(parts):
            return all(matches(part, payload) for part in parts)
        case Or(parts):
            return any(matches(part, payload) for part in parts)
        case Not(part):
            return not matches(part, payload)
    return holds(where, payload)


def holds(where: Leaf, payload: Any) -> bool:
    """`matches` for a filter without parts."""
    found = _at(payload, where.field)
    match where:
        case Exists():
            return found is not _MISSING
        case Eq(_, value):
            return any(_equal(item, value) for item in _items(found))
        case In(_, values):
            return any(_equal(item, value) for item in _items(found) for value in values)
        case Range(_, gte, gt, lte, lt):
            if type(found) is not int and type(found) is not float:
                return False
            above = (gte is None or found >= gte) and (gt is None or found > gt)
            return above and (lte is None or found <= lte) and (lt is None or found < lt)


def leaves(where: Filter) -> Iterator[Leaf]:
    """The parts of a filter that have none themselves, in its order."""
    match where:
        case And(parts) | Or(parts):
            for part in parts:
                yield from leaves(part)
        case Not(part):
            yield from leaves(part)
        case _:
            yield where


def _at(payload: Any, path: Field) -> Any:
    for key in path:
        if not isinstance(payload, dict) or key not in payload:
            return _MISSING
        payload = payload[key]
    return payload


def _items(found: Any) -> list[Any] | tuple[Any]:
    return found if isinstance(found, list) else (found,)


def _equal(found: Any, wanted: Scalar) -> bool:
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    if type(found) is str or type(wanted) is str:
        return type(found) is type(wanted) and found == wanted
    return type(found) in (int, float) and bool(found == wanted)


def parse_filter(data: Any) -> Filter:
    """The filter that JSON such as `{"and": [{"eq": {"field": "a", "value": 1}}, …]}` describes.

    `field` is a key, or a list of keys for a nested field. Raises `UsageError` on anything unknown.
    """
    if not isinstance(data, Mapping) or len(data) != 1:
        raise UsageError("a filter is an object with one operator", hint=_EXAMPLE)
    [(operator, body)] = data.items()
    match operator:
        case "and" | "or":
            if not isinstance(body, list) or not body:
                raise UsageError(f"filter '{operator}' takes a list of filters")
            parts = tuple(parse_filter(part) for part in body)
            return And(parts) if operator == "and" else Or(parts)
        case "not":
            return Not(parse_filter(body))
        case "eq":
            _keys(operator, body, {"field", "value"})
            return Eq(_field(body["field"]), _scalar(body["value"]))
        case "in":
            _keys(operator, body, {"field", "values"})
            if not isinstance(body["values"], list) or not body["values"]:
                raise UsageError("filter 'in' takes a list of values")
            return In(_field(body["field"]), tuple(_scalar(value) for value in body["values"]))
        case "exists":
            _keys(operator, body, {"field"})
            return Exists(_field(body["field"]))
        case "range":
            bounds = {key: body[key] for key in ("gte", "gt", "lte", "lt") if isinstance(body, Mapping) and key in body}
            _keys(operator, body, {"field", *bounds})
            if not bounds or not all(type(bound) in (int, float) for bound in bounds.values()):
                raise UsageError("filter 'range' takes numbers in gte, gt, lte or lt")
            return Range(_field(body["field"]), **bounds)
    raise UsageError(f"unknown filter operator {operator!r}", hint="known: and, or, not, eq, in, range, exists")


def _keys(operator: str, body: Any, wanted: set[str]) -> None:
    if not isinstance(body, Mapping) or set(body) != wanted:
        raise UsageError(f"filter '{operator}' takes exactly {', '.join(sorted(wanted))}", hint=_EXAMPLE)


def _field(value: Any) -> Field:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and value and all(isinstance(key, str) for key in value):
        return tuple(value)
    raise UsageError("a filter's field is a key or a list of keys")


def _scalar(value: Any) -> Scalar:
    if isinstance(value, bool | int | float | str):
        return value
    raise UsageError("a filter compares with true, false, a number or a text")
