"""DuckDB's types and the values of a payload: what each column is read as, exactly, and which value fits into which.

Arrow, in which DuckDB gives its rows, has no form for some of its types: a UHUGEINT comes as -1, a TIMETZ without its
zone, a BIT as bytes, a UUID as text. Those are asked for as text, and made a value again where Python has one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from math import copysign
from typing import Any, Final
from uuid import UUID

import numpy as np
import pyarrow as pa

from exitramp import canonical
from exitramp.errors import DataInvalid
from exitramp.ports.tables import plain_values
from exitramp_adapters.stores.duckdb.file import quoted

INTEGERS: Final = {
    "tinyint": (-(2**7), 2**7 - 1),
    "smallint": (-(2**15), 2**15 - 1),
    "integer": (-(2**31), 2**31 - 1),
    "bigint": (-(2**63), 2**63 - 1),
    "hugeint": (-(2**127), 2**127 - 1),
    "utinyint": (0, 2**8 - 1),
    "usmallint": (0, 2**16 - 1),
    "uinteger": (0, 2**32 - 1),
    "ubigint": (0, 2**64 - 1),
    "uhugeint": (0, 2**128 - 1),
}
_WIDE: Final = frozenset({"hugeint", "uhugeint", "bignum"})
_AS_TEXT: Final = frozenset({*_WIDE, "bit", "time with time zone", "variant"})
_TEXTUAL: Final = frozenset({"bit", "time with time zone", "variant", "interval", "timestamp_ns", "time_ns"})
_LISTS: Final = frozenset({"list", "array"})


def parts_of(kind: Any) -> dict[str, Any]:
    """The types inside a nested type, by name; of a list, an array or a map under `child`, or `key` and `value`."""
    if kind.id in _LISTS:
        return {"child": kind.children[0][1]}
    if kind.id in ("struct", "map"):
        return dict(kind.children)
    return dict(kind.children[1:]) if kind.id == "union" else {}  # the first is the tag


def is_json(kind: Any) -> bool:
    return kind.id == "varchar" and str(kind) == "JSON"


def is_text(kind: Any) -> bool:
    return kind.id in ("varchar", "enum") and not is_json(kind)


def is_textual(kind: Any) -> bool:
    """Whether something in a column of this type becomes text, for want of a type that holds it in a payload."""
    return kind.id in _TEXTUAL or any(is_textual(part) for part in parts_of(kind).values())


def read_as(kind: Any) -> str:
    """The type to cast a column to, so that Arrow holds all that is in it."""
    if kind.id in _AS_TEXT:
        return "VARCHAR"
    parts = {name: read_as(part) for name, part in parts_of(kind).items()}
    if not parts or all(read == str(part) for read, part in zip(parts.values(), parts_of(kind).values(), strict=True)):
        return str(kind)
    if kind.id == "list":
        return f"{parts['child']}[]"
    if kind.id == "array":
        return f"{parts['child']}[{kind.children[1][1]}]"
    if kind.id == "map":
        return f"MAP({parts['key']}, {parts['value']})"
    return f"{kind.id.upper()}({', '.join(f'{quoted(name)} {part}' for name, part in parts.items())})"


def selected(name: str, kind: Any) -> str:
    """The SQL that reads a column."""
    read = read_as(kind)
    return quoted(name) if read == str(kind) else f"CAST({quoted(name)} AS {read})"


def values_of(column: pa.Array, kind: Any, where: str, ids: pa.Array, *, tags: bool) -> list[Any]:
    """The Python values of a column read by `selected`, as `canonical.dumps` takes them.

    `tags` says whether JSON in it may be our own text. Raises `DataInvalid` naming the column that holds an infinite
    date, one beyond the years 1 to 9999 or 24:00, and the record whose JSON is none that can be read.
    """
    try:
        values = plain_values(column)
    except DataInvalid as error:
        hint = f"read a view of the table in which it is text: CAST({where} AS VARCHAR)"
        raise DataInvalid(f"the column '{where}' holds {error.message}", hint=hint) from error
    restore = _restorer(kind, tags)
    if restore is None:
        return values
    row = 0
    try:
        for row, value in enumerate(values):
            values[row] = None if value is None else restore(value)
    except DataInvalid as error:
        raise DataInvalid(f"the record '{ids[row]}' has in '{where}' {error.message}", hint=error.hint) from error
    return values


def _restorer(kind: Any, tags: bool) -> Callable[[Any], Any] | None:
    """What turns a value as Arrow has it into the one that DuckDB has; None where it is that already."""
    if kind.id in _WIDE:
        return int
    if kind.id == "uuid":
        return UUID
    if is_json(kind):
        parse: Callable[[Any], Any] = partial(canonical.parse, tags=tags)
        return parse
    parts = {name: _restorer(part, tags) for name, part in parts_of(kind).items()}
    if kind.id == "map":
        restorer: Callable[[Any], Any] | None = _map_restorer(kind, parts["key"], parts["value"])
        return restorer
    if all(part is None for part in parts.values()):
        return None
    if kind.id in _LISTS:
        return lambda items: [_through(parts["child"], item) for item in items]
    return lambda fields: {name: _through(parts[name], item) for name, item in fields.items()}


def _map_restorer(kind: Any, key: Callable[[Any], Any] | None, value: Callable[[Any], Any] | None) -> Any:
    """A map with text keys is an object; one whose keys were only read as text is a list of pairs like any other."""
    if is_text(parts_of(kind)["key"]):
        if value is None:
            return None
        return lambda held: {name: _through(value, item) for name, item in held.items()}
    if key is None and value is None and parts_of(kind)["key"].id not in _TEXTUAL:
        return None
    return lambda held: [
        [_through(key, name), _through(value, item)]
        for name, item in (held.items() if isinstance(held, dict) else held)
    ]


def _through(restore: Callable[[Any], Any] | None, value: Any) -> Any:
    return value if value is None or restore is None else restore(value)


def fits(value: Any, kind: Any) -> bool:
    """Whether a column of this type gives `value` back as it is, of the same type and with the same canonical text."""
    exact = type(value)
    if kind.id in INTEGERS:
        low, high = INTEGERS[kind.id]
        return exact is int and low <= value <= high
    if kind.id in _LISTS:
        long_enough = kind.id == "list" or len(value) == kind.children[1][1] if exact is list else False
        return long_enough and all(item is None or fits(item, kind.children[0][1]) for item in value)
    if kind.id == "decimal":
        return exact is Decimal and _fits_decimal(value, *(part for _, part in kind.children))
    if kind.id == "enum":
        return exact is str and value in kind.children[0][1]
    check = _CHECKS.get("json" if is_json(kind) else kind.id)
    return check is not None and check(value)


def _fits_decimal(value: Decimal, width: int, scale: int) -> bool:
    sign, digits, exponent = value.as_tuple()
    return exponent == -scale and len(digits) <= width and (any(digits) or not sign)


def _fits_double(value: Any) -> bool:
    """-0.0 does not: compressed in the file, it becomes what it equals (see `limits`)."""
    return type(value) is float and (value != 0 or copysign(1.0, value) > 0)


def _fits_float(value: Any) -> bool:
    with np.errstate(over="ignore"):
        return _fits_double(value) and (value != value or float(np.float32(value)) == value)


def _moment(value: Any, *, zone: bool, ticks: int = 1) -> bool:
    """`ticks`: of how many microseconds the type counts the moments."""
    if type(value) is not datetime or value.microsecond % ticks or value.fold:
        return False
    return value.utcoffset() == timedelta(0) if zone else value.tzinfo is None


_FINE_TIME: Final = re.compile(r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{9}", re.ASCII)
_FINE_MOMENT: Final = re.compile(r"(1[789]|2[01])\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}", re.ASCII)
_BITS: Final = re.compile(r"[01]+", re.ASCII)


def _fine_moment(text: str) -> bool:
    """Whether it is a moment to the nanosecond as it is read, well within the years that can be counted so."""
    try:
        return _FINE_MOMENT.fullmatch(text) is not None and datetime.fromisoformat(text[:26]).tzinfo is None
    except ValueError:
        return False


_CHECKS: Final[dict[str, Callable[[Any], bool]]] = {
    "boolean": lambda value: type(value) is bool,
    "float": _fits_float,
    "double": _fits_double,
    "varchar": lambda value: type(value) is str,
    "json": lambda value: value is not None,
    "date": lambda value: type(value) is date,
    "time": lambda value: type(value) is time and value.tzinfo is None,
    "timestamp": lambda value: _moment(value, zone=False),
    "timestamp_ms": lambda value: _moment(value, zone=False, ticks=1_000),
    "timestamp_s": lambda value: _moment(value, zone=False, ticks=1_000_000),
    "timestamp with time zone": lambda value: _moment(value, zone=True),
    "timestamp_ns": lambda value: type(value) is str and _fine_moment(value),
    "time_ns": lambda value: type(value) is str and _FINE_TIME.fullmatch(value) is not None,
    "bit": lambda value: type(value) is str and _BITS.fullmatch(value) is not None,
    "bignum": lambda value: type(value) is int,
    "uuid": lambda value: type(value) is UUID,
    "blob": lambda value: type(value) is bytes,
}
_BY_ARROW: Final = {
    "boolean": pa.bool_(),
    "float": pa.float32(),
    "double": pa.float64(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamp_ms": pa.timestamp("us"),
    "timestamp_s": pa.timestamp("us"),
    "timestamp with time zone": pa.timestamp("us", "UTC"),
    "blob": pa.binary(),
}


def can_be_written(kind: Any) -> bool:
    """Whether a table of ours has a column of this type for the values that fit into it."""
    if kind.id in _LISTS:
        return can_be_written(kind.children[0][1]) and kind.children[0][1].id not in _LISTS
    return kind.id in INTEGERS or kind.id in ("decimal", "enum") or kind.id in _CHECKS


def arrow_array(values: Sequence[Any], kind: Any) -> pa.Array:
    """A column of values that fit, None for none, to be cast to the type by DuckDB."""
    if kind.id in _LISTS:
        inner = _arrow_type(kind.children[0][1])
        held = [None if value is None else [_written(item, kind.children[0][1]) for item in value] for value in values]
        return pa.array(held, pa.list_(inner))
    return pa.array([_written(value, kind) for value in values], _arrow_type(kind))


def _arrow_type(kind: Any) -> pa.DataType:
    return _BY_ARROW.get(kind.id, pa.string())


def _written(value: Any, kind: Any) -> Any:
    if value is None or kind.id in _BY_ARROW:
        return value
    return canonical.dumps(value) if is_json(kind) else str(value)
