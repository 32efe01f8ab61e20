"""Filters as Pinecone's metadata filters, by what is documented of them, exactly or not at all.

Documented: `$eq` on texts, numbers and booleans, where a list of texts takes on each of its values; `$in` on texts and
numbers, at most 10,000; `$gt` and its like on numbers; `$exists`; `$and`, `$or`; `$not` around a field's condition.
What `$not` makes of a record without the field is not said, so that one more condition asks for those. Keys begin with
no `$`; whether a dot in one means anything is not said, so that a filter on such a key is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from exitramp.errors import UsageError
from exitramp.filters import And, Eq, Exists, Field, Filter, In, Not, Or, Range, Scalar

Where = dict[str, Any]
_MOST_VALUES: Final = 10_000


def filter_json(where: Filter) -> Where:
    """Pinecone's form of `where`. Raises `UsageError` naming what it cannot honour exactly."""
    return _translated(where, negated=False)


def _translated(where: Filter, *, negated: bool) -> Where:
    match where:
        case And(parts) | Or(parts):
            conjunction = isinstance(where, And) is not negated
            return _joined("$and" if conjunction else "$or", [_translated(part, negated=negated) for part in parts])
        case Not(part):
            return _translated(part, negated=not negated)
        case Exists(field):
            return {_key(field): {"$exists": not negated}}
        case Eq(field, value):
            return _leaf(_key(field), {"$eq": _value(value)}, negated=negated)
        case In(field, values):
            return _in(_key(field), values, negated=negated)
        case Range(field, gte, gt, lte, lt):
            bounds = {"$gte": gte, "$gt": gt, "$lte": lte, "$lt": lt}
            given = {name: _value(bound) for name, bound in bounds.items() if bound is not None}
            if not given:
                raise UsageError("a range without a bound", hint="leave it out")
            # Each bound by itself: what `$not` makes of two at once is not said.
            each = [_leaf(_key(field), {name: bound}, negated=negated) for name, bound in given.items()]
            return _joined("$or" if negated else "$and", each)


def _in(key: str, values: Sequence[Scalar], *, negated: bool) -> Where:
    """Booleans are not among what `$in` takes."""
    if not values or len(values) > _MOST_VALUES:
        raise UsageError(f"Pinecone looks for 1 to {_MOST_VALUES:,} values at once, not {len(values):,}")
    plain = [_value(value) for value in values if not isinstance(value, bool)]
    parts = [_leaf(key, {"$in": plain}, negated=negated)] if plain else []
    truths = {value for value in values if isinstance(value, bool)}
    parts += [_leaf(key, {"$eq": value}, negated=negated) for value in sorted(truths)]
    return _joined("$and" if negated else "$or", parts)


def _leaf(key: str, condition: Where, *, negated: bool) -> Where:
    if not negated:
        return {key: condition}
    return {"$or": [{key: {"$not": condition}}, {key: {"$exists": False}}]}


def _value(value: Scalar) -> Scalar:
    """`value` as it is compared: Pinecone's numbers are doubles."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        try:
            fits = int(float(value)) == value
        except OverflowError:
            fits = False
    else:
        fits = math.isfinite(value)
    if not fits:
        raise UsageError("Pinecone compares doubles, and this number is none", hint="compare with a smaller one")
    return float(value)


def _key(field: Field) -> str:
    if len(field) != 1:
        raise UsageError(f"Pinecone's metadata is flat: it has no field {'.'.join(field)!r}", hint="filter on a key")
    [key] = field
    if not key or key.startswith("$") or "." in key:
        raise UsageError(f"Pinecone says nothing of a filter on the key {key!r}", hint="filter on another key")
    return key


def _joined(name: str, parts: Sequence[Where]) -> Where:
    if not parts:
        raise UsageError("a filter without any condition", hint="leave the filter out")
    return parts[0] if len(parts) == 1 else {name: list(parts)}
