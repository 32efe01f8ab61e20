"""What a vendor's JSON has to be where it is read: a text, a count, a place. Anything else raises.

JSON as Python reads it has more than the shapes allow: `1e999` is infinite, `true` is a 1, and -5 tokens would be money
back. An answer whose counts cannot be is refused as `malformed`; a guess would be charged to somebody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from exitramp.records import Usage

WRONG_SHAPE: Final = (ValueError, RecursionError, TypeError, KeyError, AttributeError, IndexError, OverflowError)
"""What reading data that is not in its shape raises."""
_MOST: Final = 10**12
_WORD_LIMIT: Final = 200


def text(value: object) -> str:
    """Raises `TypeError` for what is none, `ValueError` for half a surrogate pair, which nobody could write down."""
    if not isinstance(value, str):
        raise TypeError("text")
    if not value.isascii():
        value.encode()
    return value


def optional_text(value: object) -> str:
    """ "" for null. Raises `TypeError`."""
    return "" if value is None else text(value)


def word(value: object) -> str | None:
    """A vendor's word for something, such as why it ended; None for null and "". Raises `TypeError`, `ValueError`."""
    found = optional_text(value)
    if len(found) > _WORD_LIMIT:
        raise ValueError("word")
    return found or None


def count(value: object) -> int:
    """A whole number from 0 on; 12.0 is one. Raises `TypeError`, `ValueError` or `OverflowError`."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError("count")
    found = int(value)
    if found != value or not 0 <= found <= _MOST:
        raise ValueError("count")
    return found


def optional_count(value: object) -> int:
    """0 for null. Raises as `count`."""
    return 0 if value is None else count(value)


def fields(value: object) -> Mapping[str, Any]:
    """An object; an empty one for null. Raises `TypeError`."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError("object")
    return value


def consistent(usage: Usage) -> Usage:
    """Raises `ValueError` where more was read from and written to the cache than was read at all."""
    if usage.cache_read_tokens + usage.cache_write_tokens > usage.prompt_tokens:
        raise ValueError("usage")
    return usage
