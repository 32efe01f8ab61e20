"""The fields of a trace record as they come out of a file, looked at before anybody reckons with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from exitramp.records import TraceRecord

KINDS: Final = {field.name: str(field.type).partition(" | ")[0] for field in fields(TraceRecord)}
_OPTIONAL: Final = frozenset(field.name for field in fields(TraceRecord) if str(field.type).endswith("| None"))
_NUMBERS: Final = {"int": int, "float": int | float, "Decimal": Decimal}


class NotARecord(ValueError):
    """A field is not what it has to be; the message names it."""


def record_of(values: Mapping[str, Any]) -> TraceRecord:
    """Raises `NotARecord` for a field of another type, a number that is none and a time without a zone, `TypeError`
    for one that is unknown or missing."""
    for name, value in values.items():
        kind = KINDS.get(name)
        if kind is not None and not (value is None and name in _OPTIONAL) and not _is(kind, value):
            raise NotARecord(f"'{name}' is no {_WORDS[kind]}")
    return TraceRecord(**values)


def _is(kind: str, value: object) -> bool:
    if kind in _NUMBERS:
        # A number beyond all floats is no count of anything either.
        return isinstance(value, _NUMBERS[kind]) and not isinstance(value, bool) and _is_finite(value)
    if kind == "datetime":
        return isinstance(value, datetime) and value.tzinfo is not None
    if kind.startswith("tuple"):
        return isinstance(value, tuple) and all(isinstance(each, str) for each in value)
    return isinstance(value, bool if kind == "bool" else str)


def _is_finite(value: int | float | Decimal) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


_WORDS: Final = {
    "int": "whole number",
    "float": "number",
    "Decimal": "amount",
    "datetime": "time with a zone",
    "str": "text",
    "bool": "true or false",
    "tuple[str, ...]": "list of texts",
}
