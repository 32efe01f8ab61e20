"""Filters over the side-car's payloads, one record at a time: FAISS itself knows only vectors and row numbers."""

from __future__ import annotations

from typing import Any

from exitramp import canonical
from exitramp.filters import And, Eq, Exists, Field, Filter, In, Not, Or, Range, Scalar

_MISSING = object()


def passes(where: Filter, payload: str | None) -> bool:
    """Whether the record with this payload (canonical JSON) passes."""
    return _passes(where, None if payload is None else canonical.loads(payload))


def _passes(where: Filter, payload: Any) -> bool:
    match where:
        case And(parts):
            return all(_passes(part, payload) for part in parts)
        case Or(parts):
            return any(_passes(part, payload) for part in parts)
        case Not(part):
            return not _passes(part, payload)
        case Exists(path):
            return _at(payload, path) is not _MISSING
        case Eq(path, value):
            return _any_equal(_at(payload, path), (value,))
        case In(path, values):
            return _any_equal(_at(payload, path), values)
        case Range(path):
            return _within(_at(payload, path), where)


def _at(payload: Any, path: Field) -> Any:
    for key in path:
        if not isinstance(payload, dict) or key not in payload:
            return _MISSING
        payload = payload[key]
    return payload


def _any_equal(found: Any, values: tuple[Scalar, ...]) -> bool:
    items = found if isinstance(found, list) else [found]
    return any(_kind(item) == _kind(value) and item == value for item in items for value in values)


def _within(found: Any, where: Range) -> bool:
    if _kind(found) != "number":
        return False
    return (
        (where.gte is None or found >= where.gte)
        and (where.gt is None or found > where.gt)
        and (where.lte is None or found <= where.lte)
        and (where.lt is None or found < where.lt)
    )


def _kind(value: Any) -> str | None:
    """true is not 1, and 1 is 1.0; what is neither bool, number nor text equals nothing that a filter can hold."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else None
