"""Our filters in Qdrant's REST form, each exactly or not at all.

Tried out on the engine (unindexed fields):

* `match` with an integer finds integers only and `range` finds integers and floats alike, so a number is matched by a
  range; numbers are compared as doubles there, which is exact below 2^53.
* both look into lists, item by item; our `Range` does not, so what matches as an item (`key[]`) is taken out again.
* `is_empty` is the same for a missing key, null and an empty list, `is_null` the same for null and a list that holds
  one: no condition tells a present key from a missing one in every case, so `Exists` is refused.
* keys are quoted in a path; there is no way to write a quote or a backslash inside one.
"""

from __future__ import annotations

import math
from typing import Any, Final, assert_never

from exitramp.errors import UsageError
from exitramp.filters import And, Eq, Exists, Field, Filter, In, Not, Or, Range, Scalar

_EXACT_BELOW: Final = 2**53


def filter_json(where: Filter) -> dict[str, Any]:
    """The filter of a Qdrant request. Raises `UsageError` naming the operator that it cannot express exactly."""
    return {"must": [_condition(where)]}


def _condition(part: Filter) -> dict[str, Any]:
    match part:
        case And(parts):
            return {"must": [_condition(each) for each in _some(parts, "and")]}
        case Or(parts):
            return {"should": [_condition(each) for each in _some(parts, "or")]}
        case Not(inner):
            return {"must_not": [_condition(inner)]}
        case Eq(field, value):
            return _equals(field, value)
        case In(field, values):
            return _one_of(field, values)
        case Range(field):
            return _within(field, part)
        case Exists(field):
            raise _refused("exists", field, "it does not tell a missing key from null or an empty list")
    assert_never(part)


def _some(parts: tuple[Filter, ...], operator: str) -> tuple[Filter, ...]:
    if not parts:
        raise UsageError(f"filter '{operator}' takes a list of filters")
    return parts


def _equals(field: Field, value: Scalar) -> dict[str, Any]:
    key = _path(field, "eq")
    if isinstance(value, bool | str):
        return {"key": key, "match": {"value": value}}
    if isinstance(value, float) and not math.isfinite(value):
        raise _refused("eq", field, "its numbers are finite")
    if abs(value) < _EXACT_BELOW:
        return {"key": key, "range": {"gte": value, "lte": value}}
    if isinstance(value, int) and -(2**63) <= value < 2**63 and int(float(value)) != value:
        return {"key": key, "match": {"value": value}}  # no float can equal it, so looking at integers is enough
    raise _refused("eq", field, "it compares numbers from 2^53 on as doubles and may find a neighbour")


def _one_of(field: Field, values: tuple[Scalar, ...]) -> dict[str, Any]:
    if not values:
        raise UsageError("filter 'in' takes a list of values")
    texts = [value for value in values if isinstance(value, str)]
    conditions = [_equals(field, value) for value in values if not isinstance(value, str)]
    if texts:
        conditions.append({"key": _path(field, "in"), "match": {"any": texts}})
    return {"should": conditions}


def _within(field: Field, part: Range) -> dict[str, Any]:
    key = _path(field, "range")
    bounds = {name: bound for name in ("gte", "gt", "lte", "lt") if (bound := getattr(part, name)) is not None}
    if not bounds:
        raise UsageError("filter 'range' takes numbers in gte, gt, lte or lt")
    for bound in bounds.values():
        if not math.isfinite(bound) or abs(bound) >= _EXACT_BELOW:
            raise _refused("range", field, "it compares numbers as doubles, which is exact for bounds below 2^53 only")
    return {"must": [{"key": key, "range": bounds}], "must_not": [{"key": f"{key}[]", "range": bounds}]}


def _path(field: Field, operator: str) -> str:
    for key in field:
        if '"' in key or "\\" in key:
            raise _refused(operator, field, "a key with a quote or a backslash cannot be written in its paths")
    return ".".join(f'"{key}"' for key in field)


def _refused(operator: str, field: Field, why: str) -> UsageError:
    return UsageError(f"Qdrant cannot filter by '{operator}' on {'.'.join(field)!r} exactly: {why}")
