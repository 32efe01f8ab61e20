"""What a case may be made of: what JSON can say, no deeper than every form of a set can hold."""

from __future__ import annotations

import math
from typing import Any, Final

from exitramp.errors import DataInvalid

DEEPEST: Final = 40
"""Objects and lists in each other. YAML is read to 50, and a case stands a few levels down in a file of promptfoo's."""


def require_plain(data: dict[Any, Any]) -> None:
    """Raises `DataInvalid` naming the key at the top under which something else stands: bytes, a set, a number that is
    none, a name that is no text, or too many things in each other. Without recursion: it may be deep."""
    for key, value in data.items():
        if not isinstance(key, str):
            raise DataInvalid("the name of a key is no text")
        level = [value]
        for _ in range(DEEPEST):
            level = [inner for each in level for inner in _inside(key, each)]
            if not level:
                break
        else:
            raise DataInvalid(f"{key!r} is nested too deep: {DEEPEST} objects and lists in each other are the most")


def _inside(key: str, value: Any) -> list[Any]:
    if isinstance(value, dict):
        if not all(isinstance(each, str) for each in value):
            raise DataInvalid(f"{key!r} has a key whose name is no text")
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise DataInvalid(f"{key!r} holds a number that is none ({value})")
    if value is not None and not isinstance(value, str | int | float):
        raise DataInvalid(f"{key!r} holds something that is neither text, number, true, false nor null")
    return []
