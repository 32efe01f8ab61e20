"""Payloads in `jsonb`: what stands there is what an application expects, and nothing is lost by it.

jsonb holds numbers of any length and with their scale, so that an integer past 64 bits stays one and 1.0 is not 1. What
JSON has no type for is written as its natural text, `2024-02-29T12:30:00+00:00`, `1.10`, base64 for bytes, and which
type that text is stands in another column, the record's *types*: a JSON value of the payload's own shape in which only
such places are named. `{"price": "decimal", "tags": {"1": "uuid"}}` says that `price`, and the second of `tags`, are
more than texts. A text with the character zero, which PostgreSQL holds nowhere, stands without it, and its types say
`["json", "…"]`, the canonical JSON of the original. Whoever changes a value later need not know of all that: a text
that is no longer one of its named type, or not the one that was written, is a text.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from uuid import UUID

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from exitramp import canonical
from exitramp.errors import DataInvalid

ZERO: Final = "\x00"
STAND_IN: Final = "\ufffd"
"""What stands for the character zero where an application looks."""
_NEGATIVE_ZERO: Final = "negative zero"
# Canonical text in which one of these stands is looked into before it is written; 0.4 us for 450 bytes.
_NOT_PLAIN: Final = r"\$exitramp:|[0-9]e|-0\.0|\\u0000"
# And text out of jsonb, before it is taken for what a fast parser makes of it: integers past a double, decimals that no
# double is, floats that orjson writes in another way than we do, keys like tags, characters that are escaped.
_NOT_SIMPLE: Final = r"[0-9]{16}|[0-9.]{19}|0\.0000|\$exitramp:|\\u"


def split(value: Any) -> tuple[Any, Any]:
    """What stands in jsonb for a value, and its types (None: JSON says all)."""
    if isinstance(value, str):
        return (value, None) if ZERO not in value else (value.replace(ZERO, STAND_IN), ["json", canonical.dumps(value)])
    if isinstance(value, float):
        if not math.isfinite(value):
            return ("NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"), "float"
        return (0.0, _NEGATIVE_ZERO) if value == 0 and math.copysign(1.0, value) < 0 else (value, None)
    if value is None or isinstance(value, bool | int):
        return value, None
    if isinstance(value, Mapping):
        parts, types = {}, {}
        for key, item in value.items():
            parts[key], known = split(item)
            if known is not None:
                types[key] = known
        if any(ZERO in key for key in parts):
            kept = {key: item for key, item in parts.items() if ZERO not in key}
            return kept, ["json", canonical.dumps(value)]
        return parts, types or None
    if isinstance(value, list | tuple):
        items, types = [], {}
        for number, item in enumerate(value):
            natural, known = split(item)
            items.append(natural)
            if known is not None:
                types[str(number)] = known
        return items, types or None
    name = canonical.type_name(value)
    return _WRITERS[name](value), name


def join(natural: Any, types: Any) -> Any:
    """The value for which `natural` stands; where it is not what `types` says, somebody has changed it since."""
    if types is None:
        return natural
    if isinstance(types, str):
        return _typed(natural, types)
    if isinstance(types, list):
        original = canonical.loads(types[1])
        return original if _same(split(original)[0], natural) else natural
    if isinstance(natural, dict):
        return {key: join(item, types.get(key)) for key, item in natural.items()}
    if isinstance(natural, list):
        return [join(item, types.get(str(number))) for number, item in enumerate(natural)]
    return natural


def _typed(natural: Any, name: str) -> Any:
    if name == _NEGATIVE_ZERO:
        return -0.0 if type(natural) in (int, float) and natural == 0 else natural
    if not isinstance(natural, str) or name not in _READERS:
        return natural
    try:
        value = _READERS[name](natural)
    except (ValueError, InvalidOperation, binascii.Error):
        return natural
    return value if split(value) == (natural, name) else natural


def _same(one: Any, other: Any) -> bool:
    return canonical.dumps(one) == canonical.dumps(other)


_WRITERS: Final[Mapping[str, Callable[[Any], str]]] = {
    "bytes": lambda value: base64.b64encode(value).decode("ascii"),
    "timestamp": lambda value: value.isoformat(),
    "date": lambda value: value.isoformat(),
    "time": lambda value: value.isoformat(),
    "decimal": str,
    "uuid": str,
}
_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "float": float,
    "bytes": lambda text: base64.b64decode(text, validate=True),
    "timestamp": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "decimal": Decimal,
    "uuid": UUID,
}


def json_text(natural: Any) -> str:
    """JSON as jsonb keeps it to the digit: a large float is written out in full, with a point, or it would come back as
    an integer."""
    if isinstance(natural, str):
        return json.dumps(natural, ensure_ascii=False)
    if isinstance(natural, float):
        return f"{int(natural)}.0" if abs(natural) >= 1e16 else repr(natural)
    if isinstance(natural, Decimal):
        return format(natural, "f")
    if isinstance(natural, Mapping):
        parts = []
        for key, item in natural.items():
            parts.append(json.dumps(key, ensure_ascii=False) + ":" + json_text(item))
        return "{" + ",".join(parts) + "}"
    if isinstance(natural, list):
        items = []
        for item in natural:
            items.append(json_text(item))
        return "[" + ",".join(items) + "]"
    return json.dumps(natural)


def alone(value: Any) -> str | None:
    """The JSON text that is read as just `value` where nothing stands beside it; None where there is none. A decimal
    that no double is stands as a number, and is read as a decimal again."""
    natural, types = split(value)
    if types is None:
        return json_text(natural)
    try:
        text = json_text(_with_decimals(value))
        return text if canonical.dumps(parsed(text.encode("utf-8"))) == canonical.dumps(value) else None
    except DataInvalid:
        return None


def _with_decimals(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_decimals(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_decimals(item) for item in value]
    return value if isinstance(value, Decimal) and value.is_finite() else split(value)[0]


def written(payloads: pa.Array) -> tuple[list[bytes | None], dict[int, Any]]:
    """The jsonb text of each canonical payload text, None for none, and by row the types of those that have some."""
    odd = pc.fill_null(pc.match_substring_regex(payloads, _NOT_PLAIN), False).to_pylist()
    texts: list[bytes | None] = payloads.cast(pa.binary()).to_pylist()
    types: dict[int, Any] = {}
    for row, look in enumerate(odd):
        text = texts[row]
        if look and text is not None:
            natural, known = split(canonical.loads(text.decode("utf-8")))
            texts[row] = json_text(natural).encode("utf-8")
            if known is not None:
                types[row] = known
    return texts, types


def payload_texts(texts: Sequence[bytes | None], types: Mapping[int, Any], ids: Sequence[str]) -> pa.Array:
    """Canonical payload texts from jsonb's own text and the types by row. Raises `DataInvalid` naming the record.

    orjson turns a simple one into its canonical form in 1.0 us for 450 bytes; our own rules take 9.
    """
    simple = _simple(texts)
    dumps, sorted_keys = orjson.dumps, orjson.OPT_SORT_KEYS
    found: list[bytes | None]
    try:
        # Read as one list, which takes two thirds of the time of reading each.
        plain = [text if text is not None and look else b"null" for text, look in zip(texts, simple, strict=True)]
        read = orjson.loads(b"[" + b",".join(plain) + b"]")
        found = [None if value is None else dumps(value, option=sorted_keys) for value in read]
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # one is nested deeper than it goes
        found = [None] * len(texts)
    for row, text in enumerate(texts):
        if text is not None and (found[row] is None or row in types):
            found[row] = _canonical(text, types.get(row), ids[row])
    return pa.array(found, pa.binary()).cast(pa.string())


def _canonical(text: bytes, types: Any, id_: str) -> bytes:
    try:
        return canonical.dumps(join(parsed(text), types), keys_are_text=True).encode("utf-8")
    except DataInvalid as error:
        raise DataInvalid(f"the payload of the record '{id_}': {error.message}") from error


def object_texts(texts: Sequence[bytes | None], ids: Sequence[str]) -> pa.Array:
    """Canonical payload texts from jsonb that somebody else wrote. Raises `DataInvalid` naming what is no object."""
    found = payload_texts([None if text == b"null" else text for text in texts], {}, ids)
    wrong = pc.fill_null(pc.invert(pc.starts_with(found, "{")), False)
    row = wrong.index(pa.scalar(True)).as_py()
    if row >= 0:
        kind = canonical.type_name(canonical.loads(found[row].as_py()))
        raise DataInvalid(f"the payload of the record '{ids[row]}' is no object but a {kind}")
    for row, text in enumerate(found.to_pylist()):
        # orjson goes deeper than a payload may.
        if text is not None and text.count("[") + text.count("{") > canonical.MOST_DEPTH:
            _canonical(text.encode("utf-8"), None, ids[row])
    return found


def values(texts: Sequence[bytes | None], ids: Sequence[str], *, what: str, binary: bool) -> list[Any]:
    """What JSON texts hold, exactly: a number that no double is becomes a decimal.

    `binary`: they come out of jsonb, in which no key stands twice and no number has an exponent.
    """
    simple = _simple(texts) if binary else [False] * len(texts)
    found: list[Any] = []
    for row, text in enumerate(texts):
        try:
            found.append(None if text is None else orjson.loads(text) if simple[row] else parsed(text))
        except (orjson.JSONDecodeError, DataInvalid) as error:
            said = error.message if isinstance(error, DataInvalid) else "it is no JSON"
            raise DataInvalid(f"'{what}' of the record '{ids[row]}': {said}") from error
    return found


def _simple(texts: Sequence[bytes | None]) -> list[bool]:
    # As bytes: RE2 then looks for the same ASCII patterns without asking whether it is text.
    odd = pc.match_substring_regex(pa.array(texts, pa.binary()), _NOT_SIMPLE)
    return [not each for each in pc.fill_null(odd, False).to_pylist()]


def parsed(text: bytes) -> Any:
    """What a JSON text holds, by our own rules. Raises `DataInvalid`."""
    try:
        return json.loads(text, parse_float=_number, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise DataInvalid(f"it cannot be read as JSON ({type(error).__name__})") from error


def _number(text: str) -> float | Decimal:
    number = float(text)
    if repr(number) == text:
        return number
    exact = Decimal(text)
    if math.isfinite(number) and exact in (Decimal(repr(number)), Decimal(number)):
        return number
    return exact


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in it")
    return found
