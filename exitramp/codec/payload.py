"""Payloads: which part a sink keeps as it is, and how the rest is kept beside it and put back.

`project` is the single answer to "what will stand natively in the store for this value": the plan asks it, encoding
writes it, decoding compares with it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from exitramp import canonical
from exitramp.codec import marker
from exitramp.ports import PayloadLimits


class _Absent:
    """Nothing is written natively for this value."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()
FLOAT_TOLERANCE_ULP: Final = 4
DEEPEST: Final = 200
"""Nothing deeper is looked into value by value: Python's own stack ends not far behind it."""


@dataclass(frozen=True, slots=True)
class Projected:
    """`native` is what the store will hold (or ABSENT); `kept` says how that stands to the original:
    `exact`, `reversible` (the original goes into the marker) or `float` (the same, and floats in it may come back 4 ulp
    off)."""

    native: Any
    kept: str


def is_deeper(value: Any, depth: int) -> bool:
    """Whether more than `depth` objects and lists stand in each other in `value`. Without recursion: it may be deep."""
    level = [value]
    for _ in range(depth + 1):
        level = [item for item in level if isinstance(item, Mapping | list | tuple)]
        if not level:
            return False
        level = [inner for item in level for inner in (item.values() if isinstance(item, Mapping) else item)]
    return True


def project_key(key: str, value: Any, limits: PayloadLimits) -> Projected:
    """What a sink keeps of the top-level `key`."""
    if not is_kept_key(key, limits.key_pattern):
        return Projected(ABSENT, "reversible")
    if isinstance(value, list | dict) and is_deeper(value, DEEPEST if limits.depth is None else limits.depth):
        return Projected(ABSENT, "reversible")
    return project(value, limits)


@lru_cache(maxsize=2048)
def is_kept_key(key: str, pattern: str) -> bool:
    """Collections have few keys and ask this for every value: 0.1 us remembered, 1 looked at anew."""
    return key != marker.MARKER_KEY and re.fullmatch(pattern, key) is not None


def project(value: Any, limits: PayloadLimits, *, depth: int = 0) -> Projected:
    """What a sink keeps of one value; `depth` 0 is a top-level key's."""
    kind = canonical.type_name(value)
    allowed = limits.types if depth == 0 or limits.nested else frozenset[str]()
    if kind == "list":
        return _project_list(value, limits, depth)
    if kind == "object":
        return _project_object(value, limits, depth)
    if kind == "int" and kind not in allowed and "float" in allowed and abs(value) <= 2**53:
        return Projected(float(value), "reversible")  # so that an application still finds the number
    if kind not in allowed:
        text = _as_text(value)
        if text is None or "string" not in allowed:
            return Projected(ABSENT, "reversible")
        return Projected(text, "reversible")
    return _project_scalar(value, kind, limits, depth)


def _project_scalar(value: Any, kind: str, limits: PayloadLimits, depth: int) -> Projected:
    if kind == "int":
        top = limits.integer_maximum if limits.integer_maximum is not None else 2 ** (limits.integer_bits - 1) - 1
        fits = -(2 ** (limits.integer_bits - 1)) <= value <= top
        return Projected(value, "exact") if fits else Projected(ABSENT, "reversible")
    if kind == "float":
        if value == 0 and math.copysign(1.0, value) < 0 and not limits.negative_zero:
            return Projected(0.0, "reversible")
        if limits.float_digits is not None and not _short_float(value, limits.float_digits, limits.float_exponent):
            return Projected(value, "float")
        return Projected(value, "exact")
    if kind == "string" and limits.string_bytes is not None and len(value.encode("utf-8")) > limits.string_bytes:
        return Projected(ABSENT, "reversible")
    return Projected(value, "exact")


def _project_list(value: list[Any], limits: PayloadLimits, depth: int) -> Projected:
    nothing = Projected(ABSENT, "reversible")
    if "list" not in limits.types or (depth and not limits.nested) or (not value and not limits.empty_lists):
        return nothing
    kinds = {canonical.type_name(item) for item in value}
    if not kinds <= limits.item_types or (len(kinds) > 1 and not limits.mixed_lists):
        return nothing
    native, rounded = [], False
    for item in value:
        # Items are judged by `item_types`; what is kept of each must be the item itself or the list keeps its place
        # numbers no longer.
        done = _project_item(item, limits, depth + 1)
        if done.native is ABSENT or done.kept == "reversible":
            return nothing
        rounded = rounded or done.kept == "float"
        native.append(done.native)
    return Projected(native, "float" if rounded else "exact")


def _project_item(item: Any, limits: PayloadLimits, depth: int) -> Projected:
    kind = canonical.type_name(item)
    if kind in {"list", "object"}:
        return project(item, limits, depth=depth) if limits.nested else Projected(ABSENT, "reversible")
    return _project_scalar(item, kind, limits, depth)


def _project_object(value: Mapping[str, Any], limits: PayloadLimits, depth: int) -> Projected:
    if not limits.nested or "object" not in limits.types or (not value and not limits.empty_objects):
        return Projected(ABSENT, "reversible")
    parts = {key: project(item, limits, depth=depth + 1) for key, item in value.items()}
    kept = {done.kept for done in parts.values()}
    if "reversible" in kept:
        # What is left of it is known by its hash, in which a float must not come back changed.
        native = {key: done.native for key, done in parts.items() if done.native is not ABSENT and done.kept != "float"}
    else:
        native = {key: done.native for key, done in parts.items()}
    if not native and not limits.empty_objects:
        return Projected(ABSENT, "reversible")
    return Projected(native, "reversible" if "reversible" in kept else "float" if "float" in kept else "exact")


def other_forms(key: str, value: Any, limits: PayloadLimits) -> set[tuple[str, str]]:
    """What of a kept value of the top-level `key` stands in another form for other readers: pairs of the form, which is
    `tagged`, `text` or `apart`, and the type as `PayloadLimits` names it. Without recursion: the value may be deep."""
    if limits.apart_types:
        one = isinstance(value, list | tuple) and len({canonical.type_name(item) for item in value}) == 1
        apart = {_form_name(each) for each in (value if one else [value])} & limits.apart_types
        if apart:
            return {("apart", name) for name in apart}
    found = {("tagged", "key")} if key.startswith(canonical.TAG_PREFIX) and "key" in limits.tagged_types else set()
    tagged = limits.tagged_types
    level = [value]
    while level:
        names = {_form_name(item) for item in level}
        keys = (inner for item in level if isinstance(item, Mapping) for inner in item)
        found |= {("tagged", name) for name in names & tagged} | {("text", name) for name in names & limits.text_types}
        tagged = limits.tagged_types | limits.tagged_items
        if "key" in tagged and any(inner.startswith(canonical.TAG_PREFIX) for inner in keys):
            found.add(("tagged", "key"))
        level = [
            inner
            for item in level
            if isinstance(item, Mapping | list | tuple)
            for inner in (item.values() if isinstance(item, Mapping) else item)
        ]
    return found


def _form_name(value: Any) -> str:
    """The type as `PayloadLimits.tagged_types` names it; "" for an integer that JSON holds."""
    kind = canonical.type_name(value)
    return "" if kind == "int" and abs(value) <= canonical.INTEGER_LIMIT else kind


def _as_text(value: Any) -> str | None:
    """The text under which an application can still find a value that the store has no type for."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal | UUID) else None


def _short_float(value: float, digits: int, exponent: int) -> bool:
    """Whether the shortest text of `value` has at most `digits` digits and, as an integer times a power of ten, a
    power within ±`exponent`: then a reader that multiplies two exact doubles rounds once and is right."""
    mantissa, _, power = repr(value).lower().partition("e")
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    fraction = "" if fraction == "0" else fraction
    significant = (whole + fraction).lstrip("0")
    return len(significant) <= digits and abs(int(power or 0) - len(fraction)) <= exponent


@dataclass(frozen=True, slots=True)
class Restored:
    """`payload` as it was, and the keys whose native value the application has changed since (theirs wins)."""

    payload: dict[str, Any]
    edited: tuple[str, ...]


def encode_keys(payload: Mapping[str, Any], limits: PayloadLimits) -> tuple[dict[str, Any], dict[str, Any]]:
    """The native payload, and the marker's `top` entries for the keys that are not in it as they were."""
    native: dict[str, Any] = {}
    top: dict[str, Any] = {}
    # Most values are texts and booleans, which are kept or not as a whole: 5 us a record less than asking for each.
    plain: set[type] = {bool} if "bool" in limits.types else set()
    if "string" in limits.types and limits.string_bytes is None:
        plain.add(str)
    for key, value in payload.items():
        if type(value) in plain and is_kept_key(key, limits.key_pattern):
            native[key] = value
            continue
        done = project_key(key, value, limits)
        if done.native is not ABSENT:
            native[key] = done.native
        if done.kept == "float":
            top[key] = {"o": value, "n": marker.FLOAT_TOLERANT}
        elif done.kept == "reversible":
            top[key] = {"o": value, "n": None if done.native is ABSENT else marker.value_hash(done.native)}
    return native, top


def restore_keys(native: Mapping[str, Any], top: Mapping[str, Any]) -> Restored:
    """The payload that `encode_keys` was given, except where the native value is no longer the one written."""
    payload = dict(native)
    edited: list[str] = []
    for key, entry in top.items():
        if _unchanged(native.get(key, ABSENT), entry):
            payload[key] = entry["o"]
        else:
            edited.append(key)
    return Restored(payload, tuple(edited))


def _unchanged(now: Any, entry: Mapping[str, Any]) -> bool:
    written = entry["n"]
    if written is None:
        return now is ABSENT
    if now is ABSENT:
        return False
    if written == marker.FLOAT_TOLERANT:
        return _nearly(now, entry["o"])
    return bool(marker.value_hash(now) == written)


def _nearly(now: Any, original: Any) -> bool:
    """Whether `now` is what a store that rounds floats by a few ulp makes of `original`."""
    if isinstance(original, Mapping):
        same = isinstance(now, Mapping) and now.keys() == original.keys()
        return same and all(_nearly(now[key], item) for key, item in original.items())
    if isinstance(original, list | tuple):
        same = isinstance(now, list | tuple) and len(now) == len(original)
        return same and all(map(_nearly, now, original))
    if type(original) is not float:
        return type(now) is type(original) and bool(now == original)
    if isinstance(now, bool) or not isinstance(now, float | int):
        return False
    return abs(float(now) - original) <= FLOAT_TOLERANCE_ULP * math.ulp(original)
