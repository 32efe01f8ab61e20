"""One column of dots per item, sorted: where two sides agree and where they part is seen at once."""

from __future__ import annotations

from exitramp.report.charts.drawing import axis_label, drawing, label, legend, mark_entry, marks, no_data, shortened
from exitramp.report.charts.plane import MARGIN, axis_title, grid, tick_room
from exitramp.report.charts.scales import Ruler, ruler
from exitramp.report.figures import Axis, DotChart, Side, known
from exitramp.report.markup import Markup, point, tag
from exitramp.report.text import visible


def dot_chart(chart: DotChart, *, width: float, key: str) -> Markup:
    """The chart as SVG, `width` units wide."""
    narrow = width < 500
    plot_height = 190.0 if narrow else 220.0
    names, top = legend([mark_entry(side, visible(name)) for name, side in chart.sides], width, 0.0)
    body = [names, label(0, top + 16, shortened(axis_title(chart.axis), width), style="axis")]
    top += 34
    items = chart.sorted_items()
    values = [value for item in items for value in item.values if known(value)]
    if not values:
        body.append(no_data(width, top, plot_height))
        return drawing(width, top + plot_height + 1, body, key=key, title=chart.title, alternative=chart.alternative)

    y = ruler(chart.axis, values, top + plot_height, top, wanted=5)
    near = tick_room(y.labels())
    # Half a column of air at both ends keeps the first and last dots off the axes.
    axis = Axis(chart.items_label, lowest=0.0, highest=float(len(items) + 1))
    x = ruler(axis, [1.0, float(len(items))], near, width - MARGIN, wanted=4 if narrow else 8, whole=True)
    x = Ruler(x.low, x.high, x.near, x.far, tuple(tick for tick in x.ticks if 1 <= tick <= len(items)))
    body += grid(x, y)
    body.append(_spans(chart, x, y))
    size = max(1.4, min(4.0, (x(2) - x(1)) * 0.45))
    for number, (_, side) in enumerate(chart.sides):
        places = [
            (x(rank), y(value)) for rank, item in enumerate(items, start=1) if known(value := item.values[number])
        ]
        # The hollow shape is drawn larger, so that both are seen where they coincide.
        body.append(marks(side, places, size * (1.25 if side is Side.SUBSTITUTE else 0.75)))
    name, height = axis_label(width - MARGIN, y.near + 24, visible(chart.items_label))
    body.append(name)
    return drawing(width, y.near + 32 + height, body, key=key, title=chart.title, alternative=chart.alternative)


def _spans(chart: DotChart, x: Ruler, y: Ruler) -> Markup:
    """A thin line between an item's lowest and highest value."""
    drawn = []
    for rank, item in enumerate(chart.sorted_items(), start=1):
        seen = [value for value in item.values if known(value)]
        if seen and min(seen) != max(seen):
            at = point(x(rank))
            drawn.append(f"M{at} {point(y(min(seen)))}L{at} {point(y(max(seen)))}")
    return tag("path", d="".join(drawn), class_="span") if drawn else Markup()
