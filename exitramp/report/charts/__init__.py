"""Charts as inline SVG: no script, no font, no library; colours and type come from the page's own style."""

from __future__ import annotations

from exitramp.report.charts.bars import bar_chart, histogram
from exitramp.report.charts.dots import dot_chart
from exitramp.report.charts.line import line_chart
from exitramp.report.figures import BarChart, Chart, DotChart, LineChart
from exitramp.report.markup import Markup

WIDE: float = 720.0
NARROW: float = 340.0


def draw(chart: Chart, *, width: float, key: str) -> Markup:
    """The `svg` element for `chart`, `width` user units wide; `key` is unique in the page and begins its ids."""
    if isinstance(chart, LineChart):
        return line_chart(chart, width=width, key=key)
    if isinstance(chart, BarChart):
        return bar_chart(chart, width=width, key=key)
    if isinstance(chart, DotChart):
        return dot_chart(chart, width=width, key=key)
    return histogram(chart, width=width, key=key)
