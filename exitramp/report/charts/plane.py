"""The frame around a plot: both axes, what stands above it (names, events, phases) and below it (what they mean)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from exitramp.report.charts.drawing import (
    BOLD,
    FONT,
    LINE,
    Entry,
    label,
    line,
    rectangle,
    shortened,
    text_width,
    wrapped,
)
from exitramp.report.charts.scales import Ruler
from exitramp.report.figures import Axis, EventMark, Phase
from exitramp.report.markup import Markup
from exitramp.report.text import visible

MARGIN = 8.0
"""Room between the end of the x axis and that of the drawing."""
_MOST_LANES = 6
_MOST_SEARCHED = 12


def axis_title(axis: Axis, *, logarithmic: bool = False) -> str:
    """`Latency, ms, logarithmic`."""
    parts = [visible(axis.label), visible(axis.unit), "logarithmic" if logarithmic else ""]
    return ", ".join(part for part in parts if part)


def tick_room(labels: Sequence[str]) -> float:
    """How wide the labels of a vertical axis stand left of it."""
    return max((text_width(text) for text in labels), default=0.0) + 10


def grid(x: Ruler, y: Ruler) -> list[Markup]:
    """Horizontal lines and both axes' numbers; a number that would touch the one before is left out."""
    out: list[Markup] = []
    for tick, text in zip(y.ticks, y.labels(), strict=True):
        at = y(tick)
        out.append(line(x.near, at, x.far, at, "base" if at == y.near else "grid"))
        out.append(label(x.near - 8, at + 4, text, anchor="end", style="tick"))
    out.append(line(x.near, y.near, x.far, y.near, "base"))
    taken = float("-inf")
    for tick, text in zip(x.ticks, x.labels(), strict=True):
        half = text_width(text) / 2
        at = min(x(tick), x.far + MARGIN - half)
        if at - half < taken + 6:
            continue
        taken = at + half
        out.append(line(x(tick), y.near, x(tick), y.near + 5, "base"))
        out.append(label(at, y.near + 18, text, anchor="middle", style="tick"))
    return out


@dataclass(slots=True)
class Header:
    """What is drawn above the plot, once the x axis is known; `height` is what it takes, `keys` go below the plot."""

    height: float
    keys: list[Entry] = field(default_factory=list)
    _events: list[tuple[EventMark, str, int]] = field(default_factory=list)
    _phases: list[tuple[Phase, list[str]]] = field(default_factory=list)
    _lanes: int = 0
    _strip: float = 0.0

    @classmethod
    def of(cls, events: Sequence[EventMark], phases: Sequence[Phase], x: Ruler) -> Header:
        """Lay out `events` in lanes and `phases` in a strip; what does not fit is numbered or lettered instead."""
        header = cls(height=0.0)
        header._place_events(sorted(events, key=lambda event: event.at), x)
        header._place_phases(phases, x)
        header._strip = max((len(lines) for _, lines in header._phases), default=0) * LINE
        header._strip += 6 if header._strip else 0
        header.height = header._strip + header._lanes * LINE + (10 if header._lanes else 0)
        return header

    def draw(self, x: Ruler, y: Ruler, top: float) -> list[Markup]:
        """Bands behind the plot, their names on top, the events' names under these and their lines through the plot.

        The names of phases come first so that no event's line runs through them.
        """
        out: list[Markup] = []
        for number, (phase, lines) in enumerate(self._phases):
            left, right = x(max(phase.start, x.low)), x(min(phase.end, x.high))
            style = "band" if number % 2 == 0 else "band second"
            out.append(rectangle(left, top, max(0.5, right - left), y.near - top, style))
            for at, text in enumerate(lines):
                out.append(label((left + right) / 2, top + 13 + at * LINE, text, anchor="middle", style="small"))
        base = top + self._strip + self._lanes * LINE
        for event, text, lane in self._events:
            at_x = x(event.at)
            height = base - lane * LINE
            out.append(line(at_x, height - 12 if text else base, at_x, y.near, "event"))
            anchor, where = ("start", at_x + 4) if _starts(at_x, text, x) >= at_x else ("end", at_x - 4)
            if text:
                out.append(label(where, height - 3, text, anchor=anchor, style="strong"))
        return out

    def _place_events(self, events: list[EventMark], x: Ruler) -> None:
        shown = [event for event in events if x.low <= event.at <= x.high]
        names = [shortened(visible(event.label), _room(x(event.at), x), BOLD) for event in shown]
        lanes = _lanes([(x(e.at), *_extent(x(e.at), name, x)) for e, name in zip(shown, names, strict=True)])
        if lanes is None:
            self.keys += [_key(str(number), visible(event.label)) for number, event in enumerate(shown, start=1)]
            names = [str(number) for number in range(1, len(shown) + 1)]
            lanes = _lanes([(x(e.at), *_extent(x(e.at), name, x)) for e, name in zip(shown, names, strict=True)])
        if lanes is None:
            names, lanes = _crowd([x(event.at) for event in shown]), [0] * len(shown)
        self._events = list(zip(shown, names, lanes, strict=True))
        self._lanes = max(lanes, default=-1) + 1

    def _place_phases(self, phases: Sequence[Phase], x: Ruler) -> None:
        shown = [phase for phase in phases if phase.end > x.low and phase.start < x.high]
        placed = []
        for phase in shown:
            room = x(min(phase.end, x.high)) - x(max(phase.start, x.low)) - 6
            lines = wrapped(visible(phase.label), room, FONT - 1)
            placed.append((phase, lines, len(lines) <= 3 and all(text_width(t, FONT - 1) <= room for t in lines)))
        if all(fits for _, _, fits in placed):
            self._phases = [(phase, lines) for phase, lines, _ in placed]
            return
        letters = [_letter(number) for number in range(len(shown))]
        self._phases = [(phase, [letter]) for phase, letter in zip(shown, letters, strict=True)]
        self.keys += [_key(letter, visible(phase.label)) for phase, letter in zip(shown, letters, strict=True)]


def _key(sign: str, text: str) -> Entry:
    return Entry(label(9, 4, sign, anchor="middle", style="strong"), text)


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else str(number + 1)


def _crowd(places: Sequence[float]) -> list[str]:
    """Numbers for lines too close for a number each: the first of a group carries `3–7`, the others nothing."""
    groups: list[list[int]] = []
    for number, at in enumerate(places):
        if groups and at < places[groups[-1][0]] + text_width("00–00", BOLD) + 8:
            groups[-1].append(number)
        else:
            groups.append([number])
    texts = [""] * len(places)
    for group in groups:
        first, last = group[0] + 1, group[-1] + 1
        texts[group[0]] = str(first) if first == last else f"{first}–{last}"
    return texts


def _room(at: float, x: Ruler) -> float:
    """How wide the label of a line at `at` may be."""
    return min(0.7 * (x.far - x.near), max(x.far - at, at) - 6)


def _extent(at: float, text: str, x: Ruler) -> tuple[float, float]:
    left = _starts(at, text, x)
    return left, left + text_width(text, BOLD) + 4


def _starts(at: float, text: str, x: Ruler) -> float:
    """A label stands right of its line, and left of it where it would leave the plot."""
    width = text_width(text, BOLD) + 4
    return at if at + width <= x.far or at - width < 0 else at - width


def _lanes(spans: list[tuple[float, float, float]]) -> list[int] | None:
    """A lane for each (line, left, right), 0 the lowest, so that no label meets another or another's line.

    A line runs from its own label down, so a label may stand over a line only above that line's own label. None
    where no arrangement of at most six lanes is free of collisions, or where there are too many to try.
    """
    if len(spans) > _MOST_SEARCHED:
        return None
    for most in range(1, _MOST_LANES + 1):
        found = _search(spans, most, [])
        if found is not None:
            return found
    return None


def _search(spans: list[tuple[float, float, float]], most: int, chosen: list[int]) -> list[int] | None:
    if len(chosen) == len(spans):
        return chosen
    mine = spans[len(chosen)]
    for lane in range(most):
        if not any(_collide(mine, lane, spans[i], other) for i, other in enumerate(chosen)):
            found = _search(spans, most, [*chosen, lane])
            if found is not None:
                return found
    return None


def _collide(one: tuple[float, float, float], lane: int, two: tuple[float, float, float], other: int) -> bool:
    if lane == other and one[1] < two[2] and two[1] < one[2]:
        return True
    return (lane >= other and two[1] + 1 < one[0] < two[2] - 1) or (other >= lane and one[1] + 1 < two[0] < one[2] - 1)
