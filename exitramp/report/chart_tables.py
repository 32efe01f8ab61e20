"""The numbers behind a chart as a table: for readers who do not see the picture, and for those who check it."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

from exitramp.report.figures import BarChart, Chart, DotChart, Histogram, LineChart, Series, known
from exitramp.report.model import Align, Column, Row, Table, numbers
from exitramp.report.text import number_text

MOST_ROWS = 60
"""A line chart of more points than this is given as windows of its x axis, with count, median and highest."""
MOST_LABELS = 80
"""Of more items with the same values than this the first so many are named; their number always is."""
_WINDOWS = 24


def chart_table(chart: Chart) -> Table:
    """Every value drawn; for a line chart of many points a summary of them by window."""
    if isinstance(chart, LineChart):
        return _lines(chart)
    if isinstance(chart, BarChart):
        return _bars(chart)
    if isinstance(chart, DotChart):
        return _dots(chart)
    return _histogram(chart)


def _caption(title: str) -> str:
    return f"The numbers behind “{title}”"


def _lines(chart: LineChart) -> Table:
    places = sorted({x for one in chart.series for x, _ in one.points})
    note = _note(chart)
    if len(places) > MOST_ROWS:
        return _windows(chart, places[0], places[-1], note)
    lookup = [dict(one.points) for one in chart.series]
    columns = (
        Column(chart.x.label, chart.x.unit),
        *(numbers(one.name, chart.y.unit, _places([y for _, y in one.points])) for one in chart.series),
    )
    rows = tuple(Row((x, *(values.get(x) for values in lookup))) for x in places)
    return Table(_caption(chart.title), columns, rows, note)


def _windows(chart: LineChart, low: float, high: float, note: str) -> Table:
    """Equal windows of the x axis, and in each how many points every series has, their median and their highest."""
    width = (high - low) / _WINDOWS
    unit = f", {chart.y.unit}" if chart.y.unit else ""
    columns = [Column(chart.x.label, chart.x.unit)]
    columns += [Column(f"{one.name}: how many / median / highest{unit}", align=Align.RIGHT) for one in chart.series]
    rows = []
    for window in range(_WINDOWS):
        start, end = low + window * width, low + (window + 1) * width
        cells = [f"{_edge(start)} to {_edge(end)}"]
        for one in chart.series:
            values = _within(one, start, end, last=window == _WINDOWS - 1)
            numbers_in_it = (len(values), statistics.median(values), max(values)) if values else ()
            cells.append(" / ".join(_three_digits(value) for value in numbers_in_it) or "none")
        rows.append(Row(tuple(cells)))
    return Table(_caption(chart.title), tuple(columns), tuple(rows), note)


def _three_digits(value: float) -> str:
    """Enough of a summary's number, and never less than its whole part: `56.3`, `1,026`."""
    if isinstance(value, int) or not math.isfinite(value) or value == 0:
        return number_text(value)
    return number_text(value, max(0, 2 - math.floor(math.log10(abs(value)))))


def _edge(value: float) -> str:
    return number_text(round(value, 1), 1)


def _within(one: Series, start: float, end: float, *, last: bool) -> list[float]:
    return [y for x, y in one.points if known(y) and start <= x and (x < end or (last and x <= end * (1 + 1e-12)))]


def _note(chart: LineChart) -> str:
    """Events and phases in words."""
    unit = f" {chart.x.unit}" if chart.x.unit else ""
    parts = [f"{event.label} at {number_text(event.at)}{unit}" for event in sorted(chart.events, key=lambda e: e.at)]
    parts += [f"{p.label} from {number_text(p.start)} to {number_text(p.end)}{unit}" for p in chart.phases]
    return "; ".join(parts)


def _bars(chart: BarChart) -> Table:
    places = _places([value for one in chart.series for value in one.values])
    columns = (Column("Part"), *(numbers(category, chart.axis.unit, places) for category in chart.categories))
    return Table(_caption(chart.title), columns, tuple(Row((one.name, *one.values)) for one in chart.series))


def _dots(chart: DotChart) -> Table:
    """An item a row; where many have the same values, a row for each combination of values."""
    places = _places([value for item in chart.items for value in item.values])
    sides = tuple(numbers(name, chart.axis.unit, places) for name, _ in chart.sides)
    items = chart.sorted_items()
    # What was not measured may also be given as NaN, which is not equal to itself.
    alike = itertools.groupby(items, key=lambda item: tuple(map(_shown, item.values)))
    groups = [(values, [item.label for item in same]) for values, same in alike]
    if len(items) > MOST_ROWS // 2 and len(groups) <= len(items) // 3:
        columns = (*sides, numbers("How many"), Column("Which"))
        rows = tuple(Row((*values, len(labels), _some(labels))) for values, labels in groups)
        return Table(_caption(chart.title), columns, rows)
    columns = (Column(chart.item_name), *sides)
    return Table(_caption(chart.title), columns, tuple(Row((item.label, *item.values)) for item in items))


def _some(labels: Sequence[str]) -> str:
    more = len(labels) - MOST_LABELS
    return ", ".join(labels[:MOST_LABELS]) + (
        f" … and {number_text(more)} more, all in report.json" if more > 0 else ""
    )


def _shown(value: float | None) -> float | None:
    return value if known(value) else None


def _histogram(chart: Histogram) -> Table:
    columns = (Column(chart.axis.label, chart.axis.unit), *(numbers(one.name) for one in chart.series))
    rows = tuple(
        Row((f"{number_text(low)} – {number_text(high)}", *(one.counts[at] for one in chart.series)))
        for at, (low, high) in enumerate(itertools.pairwise(chart.edges))
    )
    return Table(_caption(chart.title), columns, rows)


def _places(values: Sequence[float | None]) -> int | None:
    """The places that write all the values exactly, so that they stand in line; None where six are not enough."""
    seen = [value for value in values if known(value)]
    return next((places for places in range(7) if all(round(value, places) == value for value in seen)), None)
