"""How values become text, the same in every renderer: numbers, absent values, characters that nobody can see."""

from __future__ import annotations

import math
import unicodedata
from decimal import Decimal
from typing import Final

NOT_MEASURED: Final = "not measured"
NOT_APPLICABLE_TEXT: Final = "not applicable"
NOT_ANCHORED: Final = "not anchored"
EMPTY_TEXT: Final = "(empty)"
MINUS: Final = "\u2212"
NO_BREAK: Final = "\u00a0"

Number = int | float | Decimal

# These reorder the text around them: an id could make a reader see another id than the one that stands there.
_REORDERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_INVISIBLE = frozenset("\u00ad\u200b\u2060\ufeff\u2028\u2029")


def visible(text: str, *, keep_newlines: bool = False) -> str:
    """`text` with everything that cannot be printed made visible: control characters as the pictures U+2400 and on,
    reordering and invisible characters, surrogates and noncharacters as `\\uXXXX`.

    What is returned is legal in XML 1.0 and HTML. Tabs (and, unless kept, line ends) become spaces.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character, keep_newlines) for character in text)


def _shown(character: str, keep_newlines: bool) -> str:
    if character == "\n":
        return "\n" if keep_newlines else " "
    if character == "\t":
        return "\t" if keep_newlines else " "
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    unprintable = 0x80 <= code < 0xA0 or 0xD800 <= code < 0xE000 or 0xFDD0 <= code < 0xFDF0 or code & 0xFFFE == 0xFFFE
    if unprintable or character in _REORDERING or character in _INVISIBLE:
        return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return character


def reads_right_to_left(text: str) -> bool:
    """Whether `text` holds letters of a right-to-left script, so that it must be isolated from what stands around."""
    return not text.isascii() and any(unicodedata.bidirectional(character) in ("R", "AL", "AN") for character in text)


def number_text(value: Number, decimals: int | None = None) -> str:
    """`value` for a reader: thousands separated by commas, a true minus sign, `decimals` places.

    Without `decimals` a float is shown to four significant digits. What is not zero is never shown as zero:
    0.0004 to two places is `< 0.01`.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and not decimals:
        return _signed(f"{value:,}")
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite" if value > 0 else f"{MINUS}infinite"
    if decimals is None:
        return _signed(_significant(value))
    text = f"{value:,.{decimals}f}"
    if value != 0 and not any(digit in text for digit in "123456789"):
        smallest = f"{10**-decimals:.{decimals}f}"
        return f"< {smallest}" if value > 0 else f"> {MINUS}{smallest}"
    return _signed(text)


def _significant(value: Number, digits: int = 4) -> str:
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(float(value))))
    if exponent < -6 or exponent > 14:
        return f"{value:.{digits - 1}e}"
    text = f"{value:,.{max(0, digits - 1 - exponent)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _signed(text: str) -> str:
    return MINUS + text[1:] if text.startswith("-") else text


def with_unit(text: str, unit: str) -> str:
    """`text` and its unit, not to be parted at a line's end; a percent sign stands without a space."""
    return text if not unit else f"{text}%" if unit == "%" else f"{text}{NO_BREAK}{unit}"


def seconds_text(seconds: float | None, decimals: int | None = None) -> str:
    """A moment or duration: `2 min 05.4 s`, `12.30 s`, `0.120 s`, `0 s`; `decimals` for one of less than a minute."""
    if seconds is None:
        return NOT_MEASURED
    if abs(seconds) < 60:
        places = decimals if decimals is not None else 3 if abs(seconds) < 1 else 2
        return with_unit(number_text(seconds, 0 if seconds == 0 else places), "s")
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{number_text(int(minutes))}{NO_BREAK}min {rest:04.1f}{NO_BREAK}s"
