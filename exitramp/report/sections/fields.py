"""Reading a journal's data without trusting its shape: what is missing or of another type is None or empty.

A report is made of journals that older and newer versions wrote, and of runs that were killed. None of that may end
in a traceback, and none of it may turn into a zero: what is not there comes out as None and reads "not measured".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, Final

from exitramp.records import Verdict

Data = Mapping[str, Any]
NOTHING: Final[Data] = MappingProxyType({})


def part(data: object, *keys: str) -> Data:
    """The object found by going down `keys`; empty where there is none."""
    for key in keys:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data if isinstance(data, Mapping) else NOTHING


def figure(data: object, *keys: str) -> int | float | None:
    """The finite number found by going down `keys`."""
    found = part(data, *keys[:-1]).get(keys[-1])
    return found if isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found) else None


def count(data: object, *keys: str) -> int | None:
    """The whole number found by going down `keys`."""
    found = figure(data, *keys)
    return found if isinstance(found, int) else None


def money(data: object, *keys: str) -> Decimal | None:
    """The amount found by going down `keys`: a journal writes money as text, so that no cent is rounded."""
    found = part(data, *keys[:-1]).get(keys[-1])
    if not isinstance(found, str | int | float | Decimal) or isinstance(found, bool):
        return None
    try:
        amount = Decimal(str(found))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() else None


def word(data: object, *keys: str) -> str:
    """The text found by going down `keys`; "" where there is none."""
    found = part(data, *keys[:-1]).get(keys[-1])
    return found if isinstance(found, str) else ""


def flag(data: object, *keys: str) -> bool | None:
    """The yes or no found by going down `keys`; None where nobody said."""
    found = part(data, *keys[:-1]).get(keys[-1])
    return found if isinstance(found, bool) else None


def objects(data: object, *keys: str) -> tuple[Data, ...]:
    """The objects of the list found by going down `keys`."""
    return tuple(item for item in _list(data, *keys) if isinstance(item, Mapping))


def words(data: object, *keys: str) -> tuple[str, ...]:
    """The texts of the list found by going down `keys`."""
    return tuple(item for item in _list(data, *keys) if isinstance(item, str))


def figures(data: object, *keys: str) -> tuple[int | float, ...]:
    """The numbers of the list found by going down `keys`."""
    return tuple(item for item in _list(data, *keys) if isinstance(item, int | float) and not isinstance(item, bool))


def verdict(data: object, *keys: str) -> Verdict | None:
    """The verdict found by going down `keys`; None where there is none, and for a word that is no verdict."""
    found = word(data, *keys)
    return Verdict(found) if found in {each.value for each in Verdict} else None


def _list(data: object, *keys: str) -> Sequence[object]:
    found = part(data, *keys[:-1]).get(keys[-1])
    return found if isinstance(found, list | tuple) else ()
