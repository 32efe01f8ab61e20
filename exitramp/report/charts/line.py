"""Series over a common axis: lines, areas and dots, with phases and events behind them."""

from __future__ import annotations

from dataclasses import replace

from exitramp.report.charts.drawing import (
    Entry,
    axis_label,
    drawing,
    label,
    legend,
    line_entry,
    mark_entry,
    marks,
    no_data,
    shortened,
)
from exitramp.report.charts.plane import MARGIN, Header, axis_title, grid, tick_room
from exitramp.report.charts.scales import Ruler, is_logarithmic, ruler
from exitramp.report.figures import LineChart, Mark, Series, known
from exitramp.report.markup import Markup, point, tag
from exitramp.report.text import visible


def line_chart(chart: LineChart, *, width: float, key: str) -> Markup:
    """The chart as SVG, `width` units wide."""
    narrow = width < 500
    plot_height = 190.0 if narrow else 240.0
    values = [y for one in chart.series for _, y in one.points if known(y)]
    title = axis_title(chart.y, logarithmic=is_logarithmic(chart.y, values))
    names, top = legend([_entry(one) for one in chart.series], width, 0.0)
    body = [names, label(0, top + 16, shortened(title, width), style="axis")]
    top += 32
    if not values:
        body.append(no_data(width, top, plot_height))
        return _finish(chart, width, top + plot_height + 1, body, key)

    draft = ruler(chart.y, values, plot_height, 0.0, wanted=4 if narrow else 5)
    near = tick_room(draft.labels())
    # The data end where they end: room after them would look like time in which nothing was sent.
    end = chart.x.highest if chart.x.highest is not None else max(_x_values(chart))
    x = ruler(replace(chart.x, highest=end), _x_values(chart), near, width - MARGIN, wanted=4 if narrow else 8)
    header = Header.of(chart.events, chart.phases, x)
    bottom = top + header.height + plot_height
    y = ruler(chart.y, values, bottom, bottom - plot_height, wanted=4 if narrow else 5)
    body += header.draw(x, y, top)
    body += grid(x, y)
    for one in chart.series:
        body += _series(one, x, y, 1.8 if narrow else 2.2)
    name, name_height = axis_label(width - MARGIN, bottom + 24, axis_title(chart.x))
    bottom += 24 + name_height + 8
    keys, taken = legend(header.keys, width, bottom)
    body += [name, keys]
    return _finish(chart, width, bottom + taken, body, key)


def _finish(chart: LineChart, width: float, height: float, body: list[Markup], key: str) -> Markup:
    return drawing(width, height, body, key=key, title=chart.title, alternative=chart.alternative)


def _x_values(chart: LineChart) -> list[float]:
    ends = [edge for phase in chart.phases for edge in (phase.start, phase.end)]
    return [x for one in chart.series for x, _ in one.points] + [event.at for event in chart.events] + ends


def _entry(one: Series) -> Entry:
    name = visible(one.name)
    if not any(known(y) for _, y in one.points):
        name += ": no data"
    return mark_entry(one.side, name) if one.mark is Mark.DOTS else line_entry(one.side, name)


def _series(one: Series, x: Ruler, y: Ruler, size: float) -> list[Markup]:
    measured = [(x(at), y(value)) for at, value in one.points if known(value)]
    if one.mark is Mark.DOTS:
        return [marks(one.side, measured, size)] if measured else []
    out = []
    stretches = _stretches(one, x, y)
    if one.mark is Mark.AREA:
        for stretch in stretches:
            outline = "L".join(f"{point(a)} {point(b)}" for a, b in stretch)
            closed = f"M{point(stretch[0][0])} {point(y.near)}L{outline}L{point(stretch[-1][0])} {point(y.near)}Z"
            out.append(tag("path", d=closed, class_=f"area {one.side.value}"))
    drawn = "".join("M" + "L".join(f"{point(a)} {point(b)}" for a, b in stretch) for stretch in stretches)
    out.append(tag("path", d=drawn, class_=f"line {one.side.value}"))
    alone = [stretch[0] for stretch in stretches if len(stretch) == 1]
    if alone:  # a line through one point shows nothing
        out.append(marks(one.side, alone, size))
    return out


def _stretches(one: Series, x: Ruler, y: Ruler) -> list[list[tuple[float, float]]]:
    """The points between one missing value and the next."""
    found: list[list[tuple[float, float]]] = [[]]
    for at, value in one.points:
        if not known(value):
            found.append([])
        else:
            found[-1].append((x(at), y(value)))
    return [stretch for stretch in found if stretch]
