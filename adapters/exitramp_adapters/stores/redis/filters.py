"""Filters as queries of RediSearch that leave every record which passes, and perhaps more.

RediSearch compares tags without regard to case and white space, numbers as doubles, a hash's list as one text, and
does not say of a record whether a key is there. So what it leaves is looked at once more, on the payload itself, by
whoever asks (`redis.py`); here each part becomes a condition that no passing record fails, or none. A field of a hash
may hold the JSON of a list, which is one text to the index: a condition then lets through all those records too.
"""

from __future__ import annotations

import math
import re
from typing import Final

from exitramp.filters import And, Eq, Field, Filter, In, Or, Range, Scalar
from exitramp_adapters.stores.redis.index import MARK_ATTRIBUTE, Attribute, Index, separator_of

_MOST_TAG: Final = 1000
_PLAIN: Final = re.compile(r"[0-9A-Za-z_\u0080-\U0010ffff]")


def prefilter(where: Filter | None, index: Index, *, texts_only: bool) -> str | None:
    """A query that every record passes which passes `where`; None where there is none but `*`.

    `texts_only`: whether no field of a hash of this index holds JSON, so that nothing but its own text is in it.
    """
    match where:
        case And(parts):
            known = [found for part in parts if (found := prefilter(part, index, texts_only=texts_only))]
            return " ".join(f"({each})" for each in known) or None
        case Or(parts):
            each = [prefilter(part, index, texts_only=texts_only) for part in parts]
            return None if None in each or not each else "|".join(f"({part})" for part in each)
        case Eq(field, value):
            return _equal(_attributes(field, index), value, index, texts_only=texts_only)
        case In(field, values):
            attributes = _attributes(field, index)
            each = [_equal(attributes, value, index, texts_only=texts_only) for value in values]
            return None if None in each or not each else "|".join(f"({part})" for part in each)
        case Range(field, gte, gt, lte, lt):
            return _within(_attributes(field, index), [*_given(gte, gt)], [*_given(lte, lt)])
    return None


def name_in_query(name: str) -> str:
    """An attribute's name behind an `@`, or a tag: all but letters, digits and what is not ASCII is escaped."""
    return "".join(each if _PLAIN.fullmatch(each) else "\\" + each for each in name)


def _attributes(field: Field, index: Index) -> list[Attribute]:
    """The attributes that hold the field's value. NOINDEX is in no index, and so finds nothing."""
    return [each for each in index.attributes if each.path == field and "NOINDEX" not in each.flags]


def _equal(attributes: list[Attribute], value: Scalar, index: Index, *, texts_only: bool) -> str | None:
    for each in attributes:
        found = None
        if each.kind == "NUMERIC" and not isinstance(value, bool | str):
            found = _within([each], [value], [value])
        elif each.kind == "TAG" and isinstance(value, str):
            found = _tag(each, value, index, texts_only=texts_only)
        if found is not None:
            return found
    return None


def _tag(attribute: Attribute, value: str, index: Index, *, texts_only: bool) -> str | None:
    """One of the tags that the text is taken apart into: a record with this text has them all."""
    separator = separator_of(attribute)
    tags = value.split(separator) if separator else [value]
    if index.on_json:  # measured: " a" is indexed so, and looked for without the blank
        tags = [each for each in tags if each == each.strip()]
    tag = max((each.strip() for each in tags), key=len, default="")
    # How tags treat control characters, long texts, and capitals beyond ASCII, nobody measured.
    if not tag or len(tag) > _MOST_TAG or not tag.isprintable():
        return None
    if not tag.isascii() and "CASESENSITIVE" not in attribute.flags:
        return None
    found = f"@{name_in_query(attribute.name)}:{{{name_in_query(tag)}}}"
    if index.on_json or texts_only:
        return found
    if not index.has_marks or attribute.path is None:
        return None
    return f"({found})|(@{MARK_ATTRIBUTE}:{{{name_in_query(attribute.path[0])}}})"


def _within(attributes: list[Attribute], low: list[float], high: list[float]) -> str | None:
    """Both bounds are inclusive and doubles: rounding keeps the order, so that none is lost."""
    for each in attributes:
        if each.kind == "NUMERIC" and all(map(_is_double, (*low, *high))):
            least = repr(max(map(float, low))) if low else "-inf"
            most = repr(min(map(float, high))) if high else "+inf"
            return f"@{name_in_query(each.name)}:[{least} {most}]"
    return None


def _given(*bounds: float | None) -> list[float]:
    return [bound for bound in bounds if bound is not None]


def _is_double(number: float) -> bool:
    try:
        return math.isfinite(float(number))
    except OverflowError:
        return False
