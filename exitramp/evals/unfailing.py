"""Checks that every answer meets, or none: they judge nothing, so a set that has one is refused.

What is refused: a pattern that finds something in whatever is said, a number with room for all numbers, a likeness that
an empty answer reaches, a JSON Schema that nothing fits. What is not: `true` or `{}` as a schema, which an answer that
is no JSON does not fit, and a pattern that forbids something by `(?!…)`, of which nobody can tell what it forbids.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from typing import Any, Final

from exitramp.evals.bounded import TooSlow, decide

WIDEST: Final = 1e9
"""Times the value, or 1 where that is more: beyond it any number that an answer may hold is near enough."""
_FORBIDS: Final = ("(?!", "(?<!")
_ESCAPED: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|U([0-9a-fA-F]{8})|.)", re.DOTALL)
_WORD: Final = re.compile(r"\w+")
_LIKE_NONE: Final = "\u0001 é ß 日本 \u0416\u0639 \U0001f600 0123456789012345678901234567890 a\nb\r\n\n\tz "


def unfailing(kind: str, data: Mapping[str, Any]) -> str | None:
    """Why a check, read already, is met by every answer or by none; None where an answer decides."""
    match kind:
        case "regex" if _finds_always(data["pattern"]):
            return "its pattern finds something in every answer, also in an empty one"
        case "number":
            value = float(data["value"])
            room = max(float(data.get("tolerance", 0.0)), abs(value) * float(data.get("relative", 0.0)))
            if room > WIDEST * max(1.0, abs(value)):
                return f"it leaves room for every number ({room:g} on both sides of {value:g})"
        case "similarity" if data["threshold"] <= 0:
            return "an empty answer reaches its threshold: a cosine to reach is above 0"
        case "json_schema" if data["schema"] is False or data["schema"] in ({"not": {}}, {"not": True}):
            return "nothing fits its schema"
        case "choice" if {text.upper() for text in data.get("texts", ())} >= _LETTERS:
            return "every letter is the right one"
    return None


_LETTERS: Final = set(string.ascii_uppercase)


def _finds_always(pattern: str) -> bool:
    """Whether it finds something in nothing, and in texts that are made of all that it speaks of.

    Asked of texts and not proved: `^[^x]*$` finds something in many a text, and here nothing, since an `x` is in it.
    """
    if any(sign in pattern for sign in _FORBIDS) or re.search(pattern, "") is None:
        return False
    spoken = _ESCAPED.sub(_meant, pattern)
    words = " ".join(_WORD.findall(spoken))
    long = (string.printable + _LIKE_NONE) * 200
    try:
        return all(
            decide({"kind": "regex", "pattern": pattern}, text)
            for text in ("\n", "a", "a\nb", string.printable, _LIKE_NONE, pattern, spoken, words, long)
        )
    except TooSlow:
        return False  # an answer finds out, and says so


def _meant(match: re.Match[str]) -> str:
    code = match[1] or match[2] or match[3]
    return chr(int(code, 16)) if code and int(code, 16) < 0x110000 else " "
