"""Payloads and ids that some store has been seen to change, refuse or lose, by name."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Final

from exitramp.records import IdKind

_TOKYO = timezone(timedelta(hours=9))
_DEEP: Any = "bottom"
for _level in range(20):
    _DEEP = {"level": _level, "inside": [_DEEP]}

LONGEST: Final = "100 KB of text"
HARD_PAYLOADS: Final[Mapping[str, Mapping[str, Any] | None]] = {
    "absent": None,
    "empty": {},
    "null beside missing": {"present": None},
    "booleans and their doubles": {"true": True, "false": False, "one": 1, "one_float": 1.0, "one_text": "1"},
    "integers": {f"i{place}": value for place, value in enumerate((0, -1, 2**31, -(2**31) - 1, 2**53, -(2**53)))},
    "integers past a double": {"a": 2**53 + 1, "b": -(2**53) - 1, "c": 2**63 - 1, "d": -(2**63)},
    "integers past 64 bits": {"a": 2**63, "b": 2**64 - 1, "c": 2**64, "d": -(2**63) - 1, "e": 10**40},
    "negative zero": {"minus": -0.0, "plus": 0.0, "integer": 0},
    "nonfinite": {"nan": float("nan"), "up": float("inf"), "down": float("-inf")},
    "floats that round": {"a": 0.1 + 0.2, "b": 2 / 3, "c": 1234567.890123456, "d": 1.7976931348623157e308, "e": 1e23},
    "floats that are short": {"a": 0.1, "b": 1.5, "c": 100.0, "d": 1e22, "e": -2.5e-3},
    "subnormal floats": {"a": 5e-324, "b": 2.2250738585072014e-308, "c": -5e-324},
    "texts": {"empty": "", "space": " ", "lines": "a\nb\r\n\tc", "quotes": "'\"`\\", "long": "x" * 300},
    "unicode texts": {
        "a": "żółć ß ﬀ İ",
        "b": "日本語",
        "c": "🏳️‍🌈👩🏽‍🚀",
        "d": "e\u0301 é",
        "e": "\u202eabc\u2028\ufeff",
        "f": "𝔘𐀀",
    },
    "control characters": {"a": "\x01\x1f\x7f"},
    "the character zero": {"a": "before\x00after"},
    "text that looks like something": {
        "a": "null",
        "b": "NaN",
        "c": "1e5",
        "d": "2024-01-01",
        "e": '{"a":1}',
        "f": "[]",
    },
    "bytes": {"none": b"", "all": bytes(range(256))},
    "timestamps": {
        "utc": datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC),
        "zone": datetime(2024, 2, 29, 23, 59, 59, tzinfo=_TOKYO),
        "naive": datetime(1999, 12, 31, 23, 59, 59, 999999),
        "early": datetime(1, 1, 1, tzinfo=UTC),
        "date": date(2024, 2, 29),
        "time": time(23, 59, 59, 1),
    },
    "decimals": {
        "a": Decimal("1.10"),
        "b": Decimal("1.1"),
        "c": Decimal("1E+3"),
        "d": Decimal("-0"),
        "e": Decimal("NaN"),
    },
    "uuid": {"a": uuid.UUID(int=0), "b": uuid.UUID("6ba7b810-9dad-41d1-80b4-00c04fd430c8")},
    "empty list": {"a": []},
    "empty object": {"a": {}},
    "lists": {"ints": [3, 1, 2], "texts": ["b", "a", "a"], "floats": [0.5, -1.5], "bools": [True, False], "one": ["x"]},
    "lists of odd floats": {"a": [0.1 + 0.2, -0.0], "b": [float("nan")]},
    "mixed lists": {"a": [1, "1", 1.0, True, None], "b": [1, 1.0]},
    "lists with nulls": {"a": [None], "b": ["x", None]},
    "nested lists": {"a": [[1], [], [[2, 3]]], "b": [[]]},
    "nested": {"a": {"b": {"c": [{"d": 1}, {"d": None}]}, "e": {}}, "f": [{"g": []}]},
    "nested odd values": {
        "a": {"f": 0.1 + 0.2, "i": 2**63, "t": datetime(2024, 1, 1, tzinfo=UTC), "n": None, "b": b"\xff"}
    },
    "deep": {"root": _DEEP},
    "the empty key": {"": "value", "a": {"": 1}},
    "keys with dots and dollars": {"a.b": 1, "a": {"b": 2}, "$set": 3, "$x": {"$y": 4}, "a.b.c": 5, "#d": 6, ".": 7},
    "keys with quotes": {"a'b": 1, 'a"b': 2, "a`b": 3, "a\\b": 4, "a b": 5, "a/b": 6, "a[0]": 7, "a\nb": 8},
    "keys with emoji": {"🙂": 1, "ключ": 2, "é": 3, "e\u0301": 4, "K" * 300: 5},
    "keys that differ in case": {"key": 1, "Key": 2, "KEY": 3},
    "keys that stores use": {"id": 1, "_id": 2, "document": "theirs", "vector": 3, "payload": 4, "chroma:document": 5},
    "keys like the payload's tags": {"$exitramp:int": "5", "$exitramp:esc:int": 6, "x": {"$exitramp:bytes": "AA=="}},
    "the codec's marker, a number": {"_exitramp": 7, "other": "kept"},
    "the codec's marker, a text": {"_exitramp": "just a text"},
    "the codec's marker, forged": {"_exitramp": '{"$marker":1,"id":"forged"}', "other": 0.1 + 0.2},
    "the codec's marker, an object": {"_exitramp": {"top": {"other": {"o": "forged", "n": None}}}, "other": None},
    "many keys": {f"key_{place:03d}": place for place in range(200)},
    LONGEST: {"text": "0123456789äöü§\n" * 6000},
}


def hard_payloads(text_bytes: int | None) -> Mapping[str, Mapping[str, Any] | None]:
    """The hard payloads, the longest cut to some `text_bytes` of JSON where a store has no room for more."""
    if text_bytes is None:
        return HARD_PAYLOADS
    return {**HARD_PAYLOADS, LONGEST: {"text": "0123456789äöü§\n" * max(1, text_bytes // 20)}}


HARD_IDS: Final[Mapping[IdKind, tuple[str, ...]]] = {
    IdKind.UINT64: tuple(str(n) for n in (0, 1, 7, 10, 2**31, 2**32, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1)),
    IdKind.INT64: tuple(str(n) for n in (-(2**63), -(2**53) - 1, -1, 0, 1, 7, 2**32, 2**53 + 1, 2**63 - 1)),
    IdKind.UUID: (
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        "f81d4fae-7dec-81d0-a765-00a0c91e6bf6",  # version 8, as the codec's own derived ids are
    ),
    IdKind.STRING: (
        *("7", "007", "+7", "7.0", "-1", "0", "18446744073709551616", "٧", "null", "NaN", "true", "_exitramp", "$id"),
        *("a", "A", "é", "e\u0301", "ß", "日本語", "🏳️‍🌈", "\u202eabc", " a", "a ", "a b", "a\tb", "a\nb", "..", "."),
        *("a/b", "a\\b", "a#b", "a?b=c", "a%20b", "a&b", "a:b", "a,b", "a;b", "a'b", 'a"b', "a`b", "a*b", "(a)", "[a]"),
        *("6BA7B810-9DAD-11D1-80B4-00C04FD430C8", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "x-" + "0" * 40),
        *("x" * 300, "é" * 300, "🙂" * 300),
    ),
}
