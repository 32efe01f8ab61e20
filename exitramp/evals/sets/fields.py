"""Fields of a case that more than one reader asks for, each checked; and JSON in which nothing stands twice."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, Final

from exitramp.errors import DataInvalid

GRADES: Final = (1, 2, 3)
DEFAULT_USE_CASE: Final = "all"
_GREATEST_FLOAT32: Final = 3.4028234663852886e38


def case_sha256(case: Mapping[str, Any]) -> str:
    """The hash that belongs into a case's `sha256`; `case` is its JSON object, with or without that key.

    Raises `DataInvalid` for what UTF-8 cannot hold (lone surrogates).
    """
    bare = {key: value for key, value in case.items() if key != "sha256"}
    canonical = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    try:
        return hashlib.sha256(canonical.encode("utf-8")).hexdigest()
    except UnicodeEncodeError:
        raise DataInvalid("a text in the case holds a lone surrogate") from None


def parse_relevant(value: object) -> dict[str, int]:
    """The grades of `relevant`, checked."""
    if not isinstance(value, dict):
        raise DataInvalid("'relevant' is not an object of document ids and grades")
    for document, grade in value.items():
        if isinstance(grade, bool) or grade not in GRADES or not isinstance(grade, int):
            raise DataInvalid(f"the grade of {document!r} is not 1, 2 or 3")
    return value


def parse_vector(value: object) -> tuple[float, ...] | None:
    """A case's `vector`, checked."""
    if value is None:
        return None
    numbers = value if isinstance(value, list) else []
    if not numbers or not all(isinstance(each, int | float) and not isinstance(each, bool) for each in numbers):
        raise DataInvalid("'vector' is not a list of numbers")
    try:
        found = tuple(float(each) for each in numbers)
    except OverflowError:
        found = (math.inf,)
    if not all(abs(each) <= _GREATEST_FLOAT32 for each in found):
        raise DataInvalid("'vector' holds a number that no 32-bit float can hold")
    if not any(found):
        raise DataInvalid("'vector' is all zero, which is near to nothing")
    return found


def parse_overlap(value: object) -> float | None:
    """A case's `token_overlap`, checked."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise DataInvalid("'token_overlap' is not a number from 0 to 1")
    return float(value)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object with no key twice, for `json.loads`."""
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise DataInvalid(f"the key {twice!r} stands twice")
    return dict(pairs)


def no_constant(name: str) -> float:
    """NaN and the infinities are not JSON; for `json.loads`."""
    raise DataInvalid(f"{name} is not JSON")


def finite(figures: str) -> float:
    """A number that a double holds, for `json.loads`: 1e999 would come back as no number at all."""
    found = float(figures)
    if not math.isfinite(found):
        raise DataInvalid("a number in it is greater than any that can be held")
    return found


def whole(figures: str) -> int:
    """A whole number of as many figures as Python reads, for `json.loads`."""
    try:
        return int(figures)
    except ValueError:
        raise DataInvalid(f"a number in it has {len(figures):,} figures") from None
