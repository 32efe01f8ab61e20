"""Filters as Chroma's `where`, exactly or not at all.

Measured on 1.5.9, in process and over HTTP alike, and what each finding led to:

* `$ne`, `$nin` and `$not_contains` match records that lack the key: they are the exact complements of `$eq`, `$in`
  and `$contains`, so a negation is pushed down to them.
* `$eq` looks at single values and `$contains` at the items of a list, and each item type only at its own: the number 1
  is asked for as 1 in both and as 1.0 in lists.
* A number that is compared is cut to an integer for records that hold integers: `$eq 1.5` matches 1, `$gte 0.5`
  matches 0. Only records that hold just that integer are judged wrongly, so one more condition puts them right. An
  integer that no double holds is rounded for records that hold floats, which is mended in the same way.
* There is no complement of `$gt` and its like, and nothing that asks whether a key is there: refused.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Final

from exitramp.errors import UsageError
from exitramp.filters import And, Eq, Exists, Field, Filter, In, Not, Or, Range, Scalar

Where = dict[str, Any]

# A float of more digits may be changed by one ulp on its way into the store, which reads JSON's floats imprecisely.
_DIGITS: Final = 15
_POWER: Final = 22
_INTEGERS: Final = 2**63 - 2**10  # above that an integer becomes, rounded to a double, more than 64 bits hold
_COMPARED: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "$eq": operator.eq,
    "$gte": operator.ge,
    "$gt": operator.gt,
    "$lte": operator.le,
    "$lt": operator.lt,
}


def where_json(where: Filter) -> Where:
    """Chroma's form of `where`. Raises `UsageError` naming the operator that Chroma cannot honour exactly."""
    return _translate(where, negated=False)


def _translate(where: Filter, *, negated: bool) -> Where:
    match where:
        case And(parts) | Or(parts):
            conjunction = isinstance(where, And) is not negated
            return _joined("$and" if conjunction else "$or", [_translate(part, negated=negated) for part in parts])
        case Not(part):
            return _translate(part, negated=not negated)
        case Eq(field, value):
            return _equal(_key(field), value, negated=negated)
        case In(field, values):
            alternatives = [_equal(_key(field), value, negated=negated) for value in values]
            return _joined("$and" if negated else "$or", alternatives)
        case Range() if negated:
            raise _refusal(
                "'not' around a 'range'", "compare the other way round; records without the field are left out then"
            )
        case Range(field, gte, gt, lte, lt):
            bounds = {"$gte": gte, "$gt": gt, "$lte": lte, "$lt": lt}
            given = [(name, bound) for name, bound in bounds.items() if bound is not None]
            return _joined("$and", [_compared(_key(field), name, _number(bound)) for name, bound in given])
        case Exists():
            raise _refusal("'exists'", "compare the field with a value")


def _equal(key: str, value: Scalar, *, negated: bool) -> Where:
    """Whether the value, or an item of it, equals `value`."""
    items: list[Scalar]
    if isinstance(value, bool | str):
        single, items = {key: {"$ne" if negated else "$eq": value}}, [value]
    else:
        number = _number(value)
        single = _compared(key, "$eq", number, negated=negated)
        # A float of more digits is kept exactly in no list, so none is missed by not asking for it.
        items = [number, float(number)] if isinstance(number, int) and _is_short(float(number)) else [number]
    contains = "$not_contains" if negated else "$contains"
    return _joined("$and" if negated else "$or", [single, *({key: {contains: item}} for item in items)])


def _compared(key: str, name: str, number: int | float, *, negated: bool = False) -> Where:
    """`key` compared with `number`, the records that hold the integer it is cut or rounded to being put right."""
    rounded = int(number) if isinstance(number, float) else int(float(number))
    if negated:
        other = {key: {"$ne": number}}
        return other if rounded == number else _joined("$or", [other, {key: {"$eq": rounded}}])
    plain = {key: {name: number}}
    if rounded == number:
        return plain
    if _COMPARED[name](rounded, number):
        return _joined("$or", [plain, {key: {"$eq": rounded}}])
    return _joined("$and", [plain, {key: {"$ne": rounded}}])


def _number(value: Scalar) -> int | float:
    """`value` as Chroma compares it exactly: an integer where it is one."""
    number: int | float = value  # type: ignore[assignment]
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, int) and abs(number) <= _INTEGERS:
        return number
    if isinstance(number, float) and _is_short(number):
        return number
    raise _refusal("a comparison with this number", f"give a float at most {_DIGITS} digits, or an integer of 63 bits")


def _is_short(number: float) -> bool:
    """Whether reading the number's JSON text rounds only once: a short integer times a small power of ten."""
    mantissa, _, power = repr(number).partition("e")
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    fraction = "" if fraction == "0" else fraction
    # "inf" and "nan" are neither digits nor short.
    digits = (whole + fraction).lstrip("0")
    return (whole + fraction).isdigit() and len(digits) <= _DIGITS and abs(int(power or 0) - len(fraction)) <= _POWER


def _key(field: Field) -> str:
    if len(field) != 1:
        raise _refusal(
            f"a filter on the nested field {'.'.join(field)!r}", "its metadata is flat: filter on a top-level key"
        )
    if field[0].startswith(("$", "#", "chroma:")) or not field[0]:
        raise _refusal(f"a filter on the key {field[0]!r}", "it keeps no such key itself")
    return field[0]


def _joined(name: str, parts: Sequence[Where]) -> Where:
    """Chroma wants at least two conditions under `$and` and `$or`."""
    if not parts:
        raise UsageError("a filter without any condition", hint="leave the filter out")
    return parts[0] if len(parts) == 1 else {name: list(parts)}


def _refusal(what: str, hint: str) -> UsageError:
    return UsageError(f"Chroma cannot honour {what} exactly", hint=hint)
