"""The few things every chart is drawn from: text of a known width, marks, rows that wrap.

Sizes are in the user units of a drawing that is shown at about one unit per CSS pixel. A browser's own font is not
known here, so widths are estimated on the wide side: those of DejaVu Sans, the widest that systems use.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from exitramp.report.figures import Side
from exitramp.report.markup import Markup, point, tag

FONT: float = 12.0
BOLD: float = 13.2
"""The size at which plain text is as wide as bold text of `FONT`."""
LINE: float = 16.0
KEY: float = 20.0
"""Height of a row of the legend."""

_NARROW = frozenset("iljtfrI.,:;|!'()[]/ \u00a0-")
_WIDE = frozenset("mwMW@%\u2014")


def text_width(text: str, size: float = FONT) -> float:
    """About how wide `text` is, in user units."""
    return size * sum(
        0.41 if c in _NARROW else 1.0 if c in _WIDE else 0.74 if c.isupper() else 0.64 if ord(c) < 0x1100 else 1.1
        for c in text
    )


def shortened(text: str, room: float, size: float = FONT) -> str:
    """`text`, cut with an ellipsis where it would be wider than `room`."""
    if text_width(text, size) <= room:
        return text
    while text and text_width(text + "…", size) > room:
        text = text[:-1]
    return text.rstrip() + "…"


def wrapped(text: str, room: float, size: float = FONT) -> list[str]:
    """`text` broken at spaces into lines no wider than `room` where its words allow it."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and text_width(f"{lines[-1]} {word}", size) <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def label(x: float, y: float, text: str, *, anchor: str = "start", style: str = "") -> Markup:
    """A text whose base line is at `y`."""
    where = None if anchor == "start" else anchor
    return tag("text", text, x=point(x), y=point(y), text_anchor=where, class_=style or None)


def axis_label(far: float, y: float, text: str) -> tuple[Markup, float]:
    """The name of a horizontal axis, ending at `far` and broken where it would not fit; and its height."""
    lines = [shortened(one, far) for one in wrapped(text, far)]
    out = [label(far, y + 12 + at * LINE, one, anchor="end", style="axis") for at, one in enumerate(lines)]
    return Markup("".join(out)), len(lines) * LINE


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    return tag("path", d=f"M{point(x1)} {point(y1)}L{point(x2)} {point(y2)}", class_=style)


def rectangle(x: float, y: float, width: float, height: float, style: str) -> Markup:
    return tag("rect", x=point(x), y=point(y), width=point(width), height=point(height), class_=style)


def marks(side: Side, places: Iterable[tuple[float, float]], size: float) -> Markup:
    """One path for any number of marks: a shape apiece costs five times the bytes.

    Circle (primary), hollow diamond (substitute), cross (failed), square (other): told apart without colour.
    """
    s = point(size)
    wide = point(2 * size)
    shape = {
        Side.PRIMARY: "h0",  # of no length with round ends: a dot
        Side.SUBSTITUTE: f"m-{s} 0l{s} -{s}l{s} {s}l-{s} {s}z",
        Side.FAILED: f"m-{s} -{s}l{wide} {wide}m0 -{wide}l-{wide} {wide}",
        Side.OTHER: f"m-{s} -{s}h{wide}v{wide}h-{wide}z",
    }[side]
    drawn = "".join(f"M{point(x)} {point(y)}{shape}" for x, y in places)
    stroke = point(2 * size) if side is Side.PRIMARY else None
    return tag("path", d=drawn, class_=f"dot {side.value}", stroke_width=stroke)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a legend: `drawn` is its mark for a cell 18 wide, its middle at (9, 0)."""

    drawn: Markup
    text: str


def legend(entries: Sequence[Entry], width: float, top: float) -> tuple[Markup, float]:
    """The entries in rows from `top` on, and the height they took."""
    out: list[Markup] = []
    x, y = 0.0, top
    for entry in entries:
        text = shortened(entry.text, width - 24)
        needed = 24 + text_width(text)
        if x and x + needed > width:
            x, y = 0.0, y + KEY
        out.append(tag("g", entry.drawn, label(24, 4, text), transform=f"translate({point(x)} {point(y + KEY / 2)})"))
        x += needed + 18
    return Markup("".join(out)), y + KEY - top if entries else 0.0


def mark_entry(side: Side, text: str) -> Entry:
    return Entry(marks(side, [(9.0, 0.0)], 4.0), text)


def line_entry(side: Side, text: str) -> Entry:
    return Entry(line(0, 0, 18, 0, f"line {side.value}"), text)


def drawing(width: float, height: float, body: Sequence[Markup], *, key: str, title: str, alternative: str) -> Markup:
    """The finished picture. `key` makes the ids of its title and description unique in the page."""
    return tag(
        "svg",
        tag("title", title, id=f"{key}-title"),
        tag("desc", alternative, id=f"{key}-desc"),
        # One picture with a description: the numbers along its axes say nothing one by one.
        tag("g", *body, aria_hidden="true"),
        viewBox=f"0 0 {point(width)} {point(height)}",
        role="img",
        aria_labelledby=f"{key}-title",
        aria_describedby=f"{key}-desc",
        class_="drawing",
    )


def no_data(width: float, top: float, height: float) -> Markup:
    """What stands in a frame that nothing was measured for."""
    return Markup(
        rectangle(0.5, top, width - 1, height, "empty")
        + label(width / 2, top + height / 2 + 4, "no data", anchor="middle", style="muted")
    )
