"""Records at the edges of what a sink declares: just within each limit, and one step beyond."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exitramp.codec.ids import fits_rule
from exitramp.ports import NameRule, PayloadLimits, SinkLimits
from exitramp.records import VectorField
from exitramp.testing.rows import NUMPY_TYPE

ANY_DEPTH: Final = 100
ANY_TEXT_BYTES: Final = 1_000_000
_KEYS: Final = ("edge", "Edge", "EDGE", "e", "a_edge", "1")
_DIGITS: Final = "1234567890123456789"


@dataclass(frozen=True, slots=True)
class Edge:
    """A payload just within a limit, and one just beyond it; None where there is no limit."""

    name: str
    within: dict[str, Any]
    beyond: dict[str, Any] | None


def payload_edges(limits: PayloadLimits, text_bytes: int | None = None) -> list[Edge]:
    """One for each limit on values. Where a sink declares none, `within` is what it must take all the same: texts of
    a million bytes, or of `text_bytes`."""
    key = next((each for each in _KEYS if re.fullmatch(limits.key_pattern, each)), None)
    if key is None:
        return []
    found: list[Edge] = []

    def add(name: str, within: Any, beyond: Any = None) -> None:
        found.append(Edge(name, {key: within}, None if beyond is None else {key: beyond}))

    if "int" in limits.types:
        low = -(2 ** (limits.integer_bits - 1))
        high = -low - 1 if limits.integer_maximum is None else limits.integer_maximum
        add("the least integer", low, low - 1)
        add("the greatest integer", high, high + 1)
    if "float" in limits.types:
        _floats(limits, add)
    if "string" in limits.types:
        size = limits.string_bytes
        text = _text((text_bytes or ANY_TEXT_BYTES) if size is None else size)
        add("the longest text", text, None if size is None else text + "x")
    if limits.nested and "object" in limits.types:
        leaf = 1 if "int" in limits.types else "leaf"
        depth = limits.depth
        within = _nested(ANY_DEPTH if depth is None else depth, leaf)
        add("the deepest nesting", within, None if depth is None else _nested(depth + 1, leaf))
    return found


def _floats(limits: PayloadLimits, add: Any) -> None:
    digits, exponent = limits.float_digits, limits.float_exponent
    if digits is None:
        add("the float of most digits", 0.1 + 0.2)
        add("the greatest float", 1.7976931348623157e308)
        add("the least float", 5e-324)
        return
    whole = int(_DIGITS[:digits])
    more = float(f"0.{_DIGITS[:17]}") if digits < 17 else None
    add("the float of most digits", float(f"0.{whole}"), more)
    add("the float of the greatest exponent", float(f"{whole}e{exponent}"), float(f"{whole}e{exponent + 1}"))
    add("the float of the least exponent", float(f"{whole}e-{exponent}"), float(f"{whole}e-{exponent + 1}"))


def _text(size: int) -> str:
    """`size` bytes of UTF-8, of two bytes each where they are even."""
    return "é" * (size // 2) + "x" * (size % 2)


def _nested(depth: int, leaf: Any) -> Any:
    value = leaf
    for _ in range(depth):
        value = {"in": value}
    return value


def id_edges(limits: SinkLimits) -> tuple[str, str] | None:
    """A text id of as many bytes as are taken, and one of a byte more; None where any number is."""
    if limits.id_bytes is None:
        return None
    text = _text if limits.id_pattern is None else "x".__mul__
    return text(limits.id_bytes), text(limits.id_bytes) + "x"


def longest_name(rule: NameRule) -> str | None:
    """A name as long as the rule takes; None where none of plain letters is."""
    return next((name for letter in "aA" if fits_rule(name := letter * rule.maximum, rule)), None)


@dataclass(frozen=True, slots=True)
class MagnitudeEdge:
    """A vector just within a limit of magnitude, and one beyond it."""

    name: str
    within: npt.NDArray[Any]
    beyond: npt.NDArray[Any]


def magnitude_edges(field: VectorField, limits: SinkLimits) -> list[MagnitudeEdge]:
    """Vectors whose greatest number is just what is declared, and ones of half as much or twice as much again."""
    if limits.magnitude_metrics is not None and field.metric not in limits.magnitude_metrics:
        return []
    dtype = NUMPY_TYPE[field.dtype]
    found = []
    for name, edge, step in (
        ("the greatest magnitude", limits.vector_magnitude, 2.0),
        ("the least magnitude", limits.vector_magnitude_least, 0.5),
    ):
        if edge is not None and float(np.finfo(dtype).tiny) < edge < float(np.finfo(dtype).max) / 4:
            shape = np.linspace(-1, 0.5, field.item_count)
            within = (shape * edge).astype(dtype)
            # Rounded to the type it may lie a little beyond what was declared.
            within[0] = -np.nextafter(dtype.type(edge), dtype.type(edge * (0.9 if step > 1 else 1.1)))
            found.append(MagnitudeEdge(name, within, (shape * edge * step).astype(dtype)))
    return found
