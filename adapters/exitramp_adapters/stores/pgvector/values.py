"""Typed columns: how each of PostgreSQL's types is asked for, what its value is to us, and what of ours fits into it.

A type that is not named here comes as PostgreSQL's own text of it (`is_textual`), which it also reads again.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import numpy as np
import orjson

from exitramp.errors import DataInvalid
from exitramp_adapters.stores.pgvector import json_form
from exitramp_adapters.stores.pgvector.catalog import Type

Cells = Sequence[bytes | None]

INTEGERS: Final = {"int2": 16, "int4": 32, "int8": 64}
TEXTS: Final = frozenset({"text", "varchar", "bpchar", "name", "citext"})
_EPOCH: Final = datetime(2000, 1, 1)
_EPOCH_UTC: Final = datetime(2000, 1, 1, tzinfo=UTC)
_FIRST_DAY: Final = date(2000, 1, 1).toordinal()
# Beyond these no value of Python's stands, and PostgreSQL's text is given instead ("infinity", a year 10000, 24:00:00).
ROOM: Final = {
    "date": "BETWEEN '0001-01-01' AND '9999-12-31'",
    "timestamp": "BETWEEN '0001-01-01' AND '9999-12-31 23:59:59.999999'",
    "timestamptz": "BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'",
    "time": "< '24:00:00'",
}
_BEYOND: Final = re.compile(
    r"-?infinity|(?P<year>\d{4,7})-\d\d-\d\d"
    r"(?P<hour> \d\d:\d\d:\d\d(?P<fraction>\.\d{1,6})?)?(?P<zone>\+00)?(?P<era> BC)?"
)


@dataclass(frozen=True, slots=True)
class NoFit:
    """A value that the column does not hold exactly."""


NO_FIT: Final = NoFit()


def is_textual(type_: Type) -> bool:
    """Whether values of this type become text although they are none."""
    return type_.labels is None and type_.name not in TEXTS and type_.name not in _DECODERS


def asked(column: str, type_: Type) -> list[str]:
    """The expressions, one or two, by which a column is selected so that `decoded` understands it."""
    if type_.is_array:
        # Of a type without a text of its own JSON can hold the text: to_json of text[] keeps nulls and dimensions.
        return [f"to_json({column}::text[])::text"]
    if type_.name in ROOM:
        within = f"{column} {ROOM[type_.name]}"
        return [f"CASE WHEN {within} THEN {column} END", f"CASE WHEN NOT ({within}) THEN {column}::text END"]
    return [f"{column}::text" if is_textual(type_) or type_.name == "numeric" else column]


def decoded(cells: Sequence[Cells], type_: Type, ids: Sequence[str], *, name: str) -> list[Any]:
    """The values of the column `name`, whose cells were `asked` for. Raises `DataInvalid` naming the record."""
    if type_.is_array:
        item = _from_text(type_)
        return [None if cell is None else _items(orjson.loads(cell), item) for cell in cells[0]]
    if type_.name in ("json", "jsonb"):
        binary = type_.name == "jsonb"
        head = 1 if binary else 0  # the version of its binary form
        texts = [None if cell is None else cell[head:] for cell in cells[0]]
        return json_form.values(texts, ids, what=name, binary=binary)
    decode = str if is_textual(type_) or type_.labels is not None or type_.name in TEXTS else _DECODERS[type_.name]
    if decode is str:
        decode = _text
    found = [None if cell is None else decode(cell) for cell in cells[0]]
    if len(cells) > 1:
        for row, text in enumerate(cells[1]):
            if text is not None:
                found[row] = text.decode("utf-8")
    return found


def _items(found: Any, item: Callable[[str], Any]) -> Any:
    if isinstance(found, list):
        return [_items(each, item) for each in found]
    return None if found is None else item(found)


def _text(cell: bytes) -> str:
    return cell.decode("utf-8")


def _integer(cell: bytes) -> int:
    return int.from_bytes(cell, "big", signed=True)


_DECODERS: Final[dict[str, Callable[[bytes], Any]]] = {
    "bool": lambda cell: cell == b"\x01",
    "int2": _integer,
    "int4": _integer,
    "int8": _integer,
    "float4": lambda cell: struct.unpack(">f", cell)[0],
    "float8": lambda cell: struct.unpack(">d", cell)[0],
    "numeric": lambda cell: Decimal(cell.decode("ascii")),
    "bytea": bytes,
    "uuid": lambda cell: UUID(bytes=bytes(cell)),
    "date": lambda cell: date.fromordinal(_FIRST_DAY + _integer(cell)),
    "time": lambda cell: (_EPOCH + timedelta(microseconds=_integer(cell))).time(),
    "timestamp": lambda cell: _EPOCH + timedelta(microseconds=_integer(cell)),
    "timestamptz": lambda cell: _EPOCH_UTC + timedelta(microseconds=_integer(cell)),
    "json": _text,
    "jsonb": _text,
}


def _from_text(type_: Type) -> Callable[[str], Any]:
    """What an array's item is by its text; a moment beyond Python's calendar stays text."""
    if type_.labels is not None or is_textual(type_):
        return str
    return _TEXT_READERS.get(type_.name, str)


def _moment(read: Callable[[str], Any]) -> Callable[[str], Any]:
    def value(text: str) -> Any:
        try:
            return read(text)
        except ValueError:
            return text

    return value


def _json_item(text: str) -> Any:
    return json_form.parsed(text.encode("utf-8"))


_TEXT_READERS: Final[dict[str, Callable[[str], Any]]] = {
    "bool": lambda text: text in ("true", "t"),
    "int2": int,
    "int4": int,
    "int8": int,
    "float4": lambda text: float(np.float32(text)),
    "float8": float,
    "numeric": Decimal,
    "bytea": lambda text: bytes.fromhex(text.removeprefix("\\x")),
    "uuid": UUID,
    "date": _moment(date.fromisoformat),
    "time": _moment(time.fromisoformat),
    "timestamp": _moment(datetime.fromisoformat),
    "timestamptz": _moment(datetime.fromisoformat),
    "json": _json_item,
    "jsonb": _json_item,
}


def as_text(value: Any, type_: Type) -> str | NoFit | None:
    """The text by which PostgreSQL makes just `value` in a column of this type, None for NULL; `NO_FIT` where it
    would make another one of it."""
    if value is None:
        return None
    if type_.is_array:
        return _array(value, type_) if isinstance(value, list) else NO_FIT
    return _scalar(value, type_)


def _scalar(value: Any, type_: Type) -> str | NoFit:
    name, room = type_.name, type_.modifier
    kind = type(value)
    if type_.labels is not None:
        return value if kind is str and value in type_.labels else NO_FIT
    if name in ("json", "jsonb"):
        text = json_form.alone(value)
        return NO_FIT if text is None else text
    if name in INTEGERS:
        half = 2 ** (INTEGERS[name] - 1)
        return str(value) if kind is int and -half <= value < half else NO_FIT
    if name in ("float4", "float8"):
        if kind is not float or (name == "float4" and not _is_single(value)):
            return NO_FIT
        return repr(value)
    if name == "bool":
        return ("true" if value else "false") if kind is bool else NO_FIT
    if name == "numeric":
        return _decimal(value, room) if kind is Decimal else NO_FIT
    if name == "bytea":
        return "\\x" + value.hex() if kind is bytes else NO_FIT
    if name == "uuid":
        return str(value) if kind is UUID else NO_FIT
    if name in ROOM:
        if kind is str:
            return value if _is_beyond(value, name) else NO_FIT
        return _instant(value, name, room)
    return _characters(value, name, room) if kind is str else NO_FIT


def _is_single(value: float) -> bool:
    with np.errstate(over="ignore"):
        return value != value or float(np.float32(value)) == value


def _decimal(value: Decimal, room: int) -> str | NoFit:
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        return str(value) if value.is_nan() and not value.is_snan() and str(value) == "NaN" else _infinite(value, room)
    if value.is_zero() and value.is_signed():
        return NO_FIT
    if room == -1:
        return format(value, "f") if -16383 <= exponent <= 0 else NO_FIT
    precision, scale = (room - 4) >> 16 & 0xFFFF, (room - 4) & 0x7FF
    scale -= 2048 if scale >= 1024 else 0  # a scale may be negative
    fits = exponent == -max(scale, 0) and len(digits) <= precision
    return format(value, "f") if fits else NO_FIT


def _infinite(value: Decimal, room: int) -> str | NoFit:
    return str(value) if value.is_infinite() and room == -1 else NO_FIT


def _instant(value: Any, name: str, room: int) -> str | NoFit:
    kind: type[Any] = {"date": date, "time": time}.get(name, datetime)
    if type(value) is not kind:
        return NO_FIT
    if kind is date:
        return str(value.isoformat())
    zone = value.tzinfo
    if (name == "timestamptz") != (zone is not None) or value.fold:
        return NO_FIT
    if zone is not None and value.utcoffset() != timedelta(0):
        return NO_FIT  # the moment would be kept, and the hour that somebody wrote would not
    if 0 <= room < 6 and value.microsecond % 10 ** (6 - room):
        return NO_FIT
    return str(value.isoformat())


def _is_beyond(text: str, name: str) -> bool:
    """Whether it is PostgreSQL's own text of a moment that Python has none for. It would read many another one."""
    if name == "time":
        return text == "24:00:00"
    found = _BEYOND.fullmatch(text)
    if found is None or text in ("infinity", "-infinity"):
        return found is not None
    has_hour, has_zone = found["hour"] is not None, found["zone"] is not None
    if has_hour != (name != "date") or has_zone != (name == "timestamptz") or (found["fraction"] or "").endswith("0"):
        return False
    return found["era"] is not None or (len(found["year"]) > 4 and not found["year"].startswith("0"))


def _characters(value: str, name: str, room: int) -> str | NoFit:
    if json_form.ZERO in value:
        return NO_FIT
    if name == "varchar" and room >= 4 and len(value) > room - 4:
        return NO_FIT
    if name == "bpchar" and len(value) != max(room - 4, 1):
        return NO_FIT
    if name == "name" and len(value.encode("utf-8")) > 63:
        return NO_FIT
    if name in ("bit", "varbit") and (set(value) - {"0", "1"} or (room >= 0 and len(value) > room)):
        return NO_FIT
    return NO_FIT if name == "bit" and len(value) != room else value


def _array(value: list[Any], type_: Type) -> str | NoFit:
    """An array's literal. Lists in it must be alike in length, since arrays are rectangular, and none of them empty."""
    shape = _shape(value)
    if shape is None or (len(shape) > 1 and 0 in shape):
        return NO_FIT
    parts: list[str] = []
    for item in value:
        if isinstance(item, list):
            inner = _array(item, type_)
        elif item is None:
            inner = "NULL"
        else:
            scalar = _scalar(item.ljust(type_.modifier - 4) if _is_padded(item, type_) else item, type_)
            inner = scalar if isinstance(scalar, NoFit) else _quoted(scalar)
        if isinstance(inner, NoFit):
            return NO_FIT
        parts.append(inner)
    return "{" + ",".join(parts) + "}"


def _is_padded(item: Any, type_: Type) -> bool:
    return type_.name == "bpchar" and isinstance(item, str) and type_.modifier > 4


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _shape(value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, list):
        return ()
    inner = {_shape(item) for item in value}
    if not inner:
        return (0,)
    if len(inner) > 1 or None in inner:
        return None
    [only] = inner
    return None if only is None else (len(value), *only)


def own_texts(value: Any, type_: Type) -> Iterator[str]:
    """The texts in `value` that PostgreSQL would have to read as a type of which only it knows the texts."""
    if not is_textual(type_) or type_.name in ("bit", "varbit"):
        return
    if isinstance(value, list):
        for item in value:
            yield from own_texts(item, type_)
    elif isinstance(value, str) and json_form.ZERO not in value:
        yield value


def require_text(value: str, what: str) -> str:
    """Raises `DataInvalid` for a text that PostgreSQL does not hold."""
    if json_form.ZERO in value:
        raise DataInvalid(f"{what} holds the character zero, which PostgreSQL keeps in no text")
    return value
