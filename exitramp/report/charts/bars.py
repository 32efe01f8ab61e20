"""Horizontal bars, side by side or stacked, and histograms."""

from __future__ import annotations

import itertools

from exitramp.report.charts.drawing import (
    BOLD,
    FONT,
    Entry,
    axis_label,
    drawing,
    label,
    legend,
    line,
    no_data,
    rectangle,
    shortened,
    text_width,
)
from exitramp.report.charts.plane import MARGIN, axis_title, grid, tick_room
from exitramp.report.charts.scales import Ruler, decimals_of, ruler
from exitramp.report.figures import Axis, BarChart, BarSeries, Histogram, Scale, known
from exitramp.report.markup import Markup
from exitramp.report.palette import PART_COUNT
from exitramp.report.text import NOT_MEASURED, number_text, visible, with_unit

_STACK, _BAR, _GAP = 34.0, 18.0, 22.0


def bar_chart(chart: BarChart, *, width: float, key: str) -> Markup:
    """The chart as SVG, `width` units wide. Each stacked part carries a letter, so that no colour need be told."""
    measured = [value for one in chart.series for value in one.values if known(value)]
    names, top = legend([_entry(chart, number, one) for number, one in enumerate(chart.series)], width, 0.0)
    body = [names]
    top += 8
    if not measured:
        body.append(no_data(width, top, 120.0))
        return drawing(width, top + 121, body, key=key, title=chart.title, alternative=chart.alternative)
    ends = [_total(chart, at) for at in range(len(chart.categories))] if chart.stacked else measured
    axis = Axis(chart.axis.label, chart.axis.unit, Scale.LINEAR, chart.axis.lowest, chart.axis.highest)
    # Room at the right for the value that stands at the longest bar's end.
    room = 0.0 if chart.stacked else max(text_width(_value(chart, value, width)) for value in measured) + 10
    x = ruler(axis, ends, 1.0, width - MARGIN - room, wanted=3 if width < 500 else 6)
    for at, category in enumerate(chart.categories):
        body += _headline(chart, at, category, width, top + 14)
        top += 22
        height = _STACK if chart.stacked else _BAR * len(chart.series)
        body += _grid_behind(x, top, top + height)
        body += _stack(chart, at, x, top) if chart.stacked else _group(chart, at, x, top, width)
        top += height + _GAP
    top -= _GAP
    body += _axis_below(x, top, width)
    name, height = axis_label(width - MARGIN, top + 26, axis_title(chart.axis))
    body.append(name)
    return drawing(width, top + 34 + height, body, key=key, title=chart.title, alternative=chart.alternative)


def histogram(chart: Histogram, *, width: float, key: str) -> Markup:
    """The chart as SVG, `width` units wide; the series of one bin stand side by side."""
    narrow = width < 500
    plot_height = 150.0 if narrow else 180.0
    entries = [Entry(rectangle(2, -6, 14, 12, f"bar {one.side.value}"), visible(one.name)) for one in chart.series]
    names, top = legend(entries, width, 0.0)
    body = [names, label(0, top + 16, "Count", style="axis")]
    top += 34
    counts = [count for one in chart.series for count in one.counts]
    if not any(counts):
        body.append(no_data(width, top, plot_height))
        return drawing(width, top + plot_height + 1, body, key=key, title=chart.title, alternative=chart.alternative)
    y = ruler(Axis("Count"), counts, top + plot_height, top, wanted=4, whole=True)
    fixed = Axis(chart.axis.label, chart.axis.unit, Scale.LINEAR, chart.edges[0], chart.edges[-1])
    x = ruler(fixed, chart.edges, tick_room(y.labels()), width - MARGIN, wanted=4 if narrow else 8)
    body += grid(x, y)
    for bin_number, (low, high) in enumerate(itertools.pairwise(chart.edges)):
        left, room = x(low) + 1, (x(high) - x(low) - 2) / len(chart.series)
        for number, one in enumerate(chart.series):
            if one.counts[bin_number]:
                height = y.near - y(one.counts[bin_number])
                body.append(rectangle(left + number * room, y.near - height, room, height, f"bar {one.side.value}"))
    name, height = axis_label(width - MARGIN, y.near + 24, axis_title(chart.axis))
    body.append(name)
    return drawing(width, y.near + 32 + height, body, key=key, title=chart.title, alternative=chart.alternative)


def _entry(chart: BarChart, number: int, one: BarSeries) -> Entry:
    name = visible(one.name)
    if not any(map(known, one.values)):
        name += f": {NOT_MEASURED}"
    if not chart.stacked:
        return Entry(rectangle(2, -6, 14, 12, f"bar {one.side.value}"), name)
    letter = label(9, 4, _letter(number), anchor="middle", style="on-part")
    return Entry(Markup(rectangle(1, -8, 16, 16, _part(number)) + letter), name)


def _headline(chart: BarChart, at: int, category: str, width: float, y: float) -> list[Markup]:
    """The category's name on the left, for stacks its total on the right."""
    right = ""
    if chart.stacked:
        missing = sum(not known(one.values[at]) for one in chart.series)
        right = _value(chart, _total(chart, at), width) if missing < len(chart.series) else NOT_MEASURED
        if 0 < missing < len(chart.series):
            right += f", {missing} part{'s' if missing > 1 else ''} {NOT_MEASURED}"
    room = width - MARGIN - text_width(right) - 12
    out = [label(0, y, shortened(visible(category), room, BOLD), style="strong")]
    if right:
        out.append(label(width - MARGIN, y, right, anchor="end"))
    return out


def _stack(chart: BarChart, at: int, x: Ruler, top: float) -> list[Markup]:
    out: list[Markup] = []
    total = 0.0
    for number, one in enumerate(chart.series):
        value = one.values[at]
        if not known(value) or not value:
            continue
        left, right = x(total), x(total + value)
        out.append(rectangle(left, top, max(0.5, right - left), _STACK, _part(number)))
        if right - left > text_width(_letter(number)) + 6:
            out.append(
                label((left + right) / 2, top + _STACK / 2 + 4, _letter(number), anchor="middle", style="on-part")
            )
        total += value
    return out


def _group(chart: BarChart, at: int, x: Ruler, top: float, width: float) -> list[Markup]:
    out: list[Markup] = []
    zero = x(max(0.0, x.low))
    for number, one in enumerate(chart.series):
        value = one.values[at]
        y = top + number * _BAR
        if not known(value):
            out.append(label(zero + 6, y + 13, NOT_MEASURED, style="muted"))
            continue
        left, right = sorted((zero, x(value)))
        out.append(rectangle(left, y + 1, max(0.5, right - left), _BAR - 3, f"bar {one.side.value}"))
        out.append(label(right + 6, y + 13, _value(chart, value, width), style="tick value"))
    return out


def _grid_behind(x: Ruler, top: float, bottom: float) -> list[Markup]:
    """The grid beside one category's bars only: through the names between them it would strike them out."""
    zero = x(max(0.0, x.low))
    lines = [line(x(tick), top - 3, x(tick), bottom + 3, "grid") for tick in x.ticks]
    return [*lines, line(zero, top - 3, zero, bottom + 3, "base")]


def _axis_below(x: Ruler, bottom: float, width: float) -> list[Markup]:
    out: list[Markup] = []
    taken = float("-inf")
    for tick, text in zip(x.ticks, x.labels(), strict=True):
        half = text_width(text, FONT) / 2
        at = min(max(x(tick), half), width - half)
        if at - half < taken + 6:
            continue
        taken = at + half
        out.append(label(at, bottom + 20, text, anchor="middle", style="tick"))
    return out


def _total(chart: BarChart, at: int) -> float:
    return sum(value for one in chart.series if known(value := one.values[at]))


def _value(chart: BarChart, value: float, width: float) -> str:
    """To as many places as show a hundredth of the greatest, and no wider than three tenths of the drawing."""
    if chart.stacked:
        sizes = [_total(chart, at) for at in range(len(chart.categories))]
    else:
        sizes = [abs(v) for one in chart.series for v in one.values if known(v)]
    greatest = max(sizes, default=0.0) or 1.0
    text = with_unit(number_text(value, min(8, decimals_of(greatest / 100))), visible(chart.axis.unit))
    return shortened(text, width * 0.3)


def _part(number: int) -> str:
    return f"part part-{number % PART_COUNT + 1}"


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else str(number + 1)
