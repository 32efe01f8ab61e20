"""What a chart shows, as data; how it is drawn is the business of `exitramp.report.charts`.

A value that was not measured is None: it is left out of the drawing and named in the table beside it; so is one that
is no finite number. Each chart carries an `alternative`: what a reader who does not see it should know, in one to
three sentences.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeGuard


def known(value: float | None) -> TypeGuard[float]:
    """Whether `value` can be drawn."""
    return value is not None and math.isfinite(value)


class Scale(StrEnum):
    """`log` falls back to linear, and says so, when a value is zero or negative."""

    LINEAR = "linear"
    LOG = "log"


class Mark(StrEnum):
    """How a series is drawn."""

    LINE = "line"
    AREA = "area"
    DOTS = "dots"


class Side(StrEnum):
    """Whose data a series is. Colour and shape follow from it: filled circle, hollow diamond, cross, square."""

    PRIMARY = "primary"
    SUBSTITUTE = "substitute"
    FAILED = "failed"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Axis:
    """`lowest` and `highest` fix an end that would otherwise follow from the data."""

    label: str
    unit: str = ""
    scale: Scale = Scale.LINEAR
    lowest: float | None = None
    highest: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """Points (x, y) in the order in which they are joined; a None breaks the line."""

    name: str
    points: tuple[tuple[float, float | None], ...]
    side: Side = Side.OTHER
    mark: Mark = Mark.LINE

    def __post_init__(self) -> None:
        _finite([x for x, _ in self.points], f"series {self.name!r}")


@dataclass(frozen=True, slots=True)
class EventMark:
    """A moment worth a vertical line."""

    at: float
    label: str

    def __post_init__(self) -> None:
        _finite([self.at], f"event {self.label!r}")


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the x axis with a name, shaded."""

    start: float
    end: float
    label: str

    def __post_init__(self) -> None:
        _finite([self.start, self.end], f"phase {self.label!r}")


@dataclass(frozen=True, slots=True)
class LineChart:
    """Series over a common x axis, with shaded phases and marked events."""

    title: str
    alternative: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    events: tuple[EventMark, ...] = ()
    phases: tuple[Phase, ...] = ()


@dataclass(frozen=True, slots=True)
class BarSeries:
    """One value for each category of the chart."""

    name: str
    values: tuple[float | None, ...]
    side: Side = Side.OTHER


@dataclass(frozen=True, slots=True)
class BarChart:
    """Horizontal bars: for each category one bar per series, or all of them stacked in one bar."""

    title: str
    alternative: str
    axis: Axis
    categories: tuple[str, ...]
    series: tuple[BarSeries, ...]
    stacked: bool = False

    def __post_init__(self) -> None:
        for one in self.series:
            if len(one.values) != len(self.categories):
                raise ValueError(
                    f"chart {self.title!r}: series {one.name!r} has {len(one.values)} values"
                    f" for {len(self.categories)} categories"
                )
            if self.stacked and any(known(value) and value < 0 for value in one.values):
                raise ValueError(f"chart {self.title!r}: series {one.name!r} is negative and cannot be stacked")


@dataclass(frozen=True, slots=True)
class DotItem:
    """One thing measured on each side, e.g. a query's recall; `values` in the order of the chart's `sides`."""

    label: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class DotChart:
    """One column of dots per item, sorted by the first side's value, then the second's, then the label.

    `item_name` is what one item is called (`Question`), `items_label` names the axis along which they stand.
    """

    title: str
    alternative: str
    axis: Axis
    item_name: str
    items_label: str
    sides: tuple[tuple[str, Side], ...]
    items: tuple[DotItem, ...]

    def __post_init__(self) -> None:
        for item in self.items:
            if len(item.values) != len(self.sides):
                raise ValueError(f"chart {self.title!r}: item {item.label!r} has {len(item.values)} values")

    def sorted_items(self) -> tuple[DotItem, ...]:
        """The items as drawn; what was not measured comes first."""
        worst = float("-inf")
        return tuple(sorted(self.items, key=lambda item: ([v if known(v) else worst for v in item.values], item.label)))


@dataclass(frozen=True, slots=True)
class HistogramSeries:
    """How many values fell between each edge and the next."""

    name: str
    counts: tuple[int, ...]
    side: Side = Side.OTHER


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts between `edges` (ascending, one more than counts); the last bin holds its upper edge too."""

    title: str
    alternative: str
    axis: Axis
    edges: tuple[float, ...]
    series: tuple[HistogramSeries, ...]

    def __post_init__(self) -> None:
        _finite(self.edges, f"histogram {self.title!r}")
        if any(low >= high for low, high in itertools.pairwise(self.edges)):
            raise ValueError(f"histogram {self.title!r}: its edges do not ascend")
        for one in self.series:
            if len(one.counts) != len(self.edges) - 1:
                raise ValueError(f"histogram {self.title!r}: {len(one.counts)} counts for {len(self.edges)} edges")


Chart = LineChart | BarChart | DotChart | Histogram


def _finite(places: Sequence[float], what: str) -> None:
    if not all(map(math.isfinite, places)):
        raise ValueError(f"{what}: a place on the x axis is no finite number")
