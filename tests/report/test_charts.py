"""Scales, the arrangement of labels, and what a chart draws of its data."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exitramp.report.chart_tables import MOST_ROWS, chart_table
from exitramp.report.charts import NARROW, WIDE, draw
from exitramp.report.charts.drawing import shortened, text_width, wrapped
from exitramp.report.charts.plane import Header, _lanes
from exitramp.report.charts.scales import Ruler, nice_step, ruler
from exitramp.report.figures import (
    Axis,
    BarChart,
    BarSeries,
    Chart,
    DotChart,
    DotItem,
    EventMark,
    Histogram,
    HistogramSeries,
    LineChart,
    Mark,
    Phase,
    Scale,
    Series,
    Side,
)
from exitramp.report.sample_charts import cost_chart, latency_chart, recall_chart

NUMBERS = st.floats(-1e9, 1e9).filter(lambda value: value == 0 or abs(value) > 1e-9)


@given(st.lists(NUMBERS, min_size=1), st.integers(2, 10))
def test_a_ruler_holds_every_value_between_its_ends(values: list[float], wanted: int) -> None:
    found = ruler(Axis("x"), values, 0.0, 500.0, wanted=wanted)
    assert all(-1e-6 <= found(value) <= 500 + 1e-6 for value in values)
    assert list(found.ticks) == sorted(set(found.ticks))
    assert found.low <= found.ticks[0]
    assert found.ticks[-1] <= found.high
    assert 2 <= len(found.ticks) <= 2 * wanted + 3
    assert len(set(found.labels())) == len(found.ticks), "two ticks read alike"


@given(st.lists(st.floats(1e-6, 1e9), min_size=1))
def test_a_logarithmic_ruler_holds_every_value_between_its_ends(values: list[float]) -> None:
    found = ruler(Axis("x", scale=Scale.LOG), values, 300.0, 0.0, wanted=5)
    assert found.logarithmic
    assert all(-1e-6 <= found(value) <= 300 + 1e-6 for value in values)
    assert found.ticks


@pytest.mark.parametrize("values", [[0.0, 10.0], [-1.0, 10.0], []])
def test_a_value_without_a_logarithm_makes_the_scale_linear(values: list[float]) -> None:
    assert not ruler(Axis("x", scale=Scale.LOG), values, 0.0, 100.0, wanted=5).logarithmic


@given(st.floats(1e-9, 1e9))
def test_a_step_is_one_two_or_five_times_a_power_of_ten(rough: float) -> None:
    step = nice_step(rough)
    assert 0.4 < step / rough < 2
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert any(mantissa == pytest.approx(wanted) for wanted in (1, 2, 5))


def test_ticks_of_counts_are_whole_numbers() -> None:
    assert ruler(Axis("n"), [1.0, 2.0], 0.0, 100.0, wanted=8, whole=True).ticks == (0.0, 1.0, 2.0)


def test_a_fixed_end_is_kept_unless_data_lie_beyond_it() -> None:
    fixed = Axis("recall", lowest=0.0, highest=1.0)
    assert (ruler(fixed, [0.4], 0.0, 1.0, wanted=5).low, ruler(fixed, [0.4], 0.0, 1.0, wanted=5).high) == (0.0, 1.0)
    assert ruler(fixed, [1.4], 0.0, 1.0, wanted=5).high == 1.4


@given(st.text(), st.floats(0, 400))
def test_a_shortened_text_is_not_wider_than_its_room(text: str, room: float) -> None:
    shown = shortened(text, room)
    assert shown in (text, "…") or text_width(shown) <= room


@given(st.lists(st.text("abc", min_size=1, max_size=9), min_size=1), st.floats(40, 200))
def test_wrapping_loses_no_word(words: list[str], room: float) -> None:
    assert " ".join(wrapped(" ".join(words), room)) == " ".join(words)


@given(st.lists(st.tuples(st.floats(0, 500), st.floats(10, 120)), max_size=6, unique_by=lambda pair: pair[0]))
def test_no_label_meets_another_or_another_s_line(places: list[tuple[float, float]]) -> None:
    spans = [(at, at, at + width) for at, width in places]
    lanes = _lanes(spans)
    if lanes is None:
        return
    for one, (at, left, right) in enumerate(spans):
        for two, (its_at, its_left, its_right) in enumerate(spans):
            if one == two:
                continue
            if lanes[one] == lanes[two]:
                assert right <= its_left or its_right <= left
            if lanes[one] >= lanes[two]:
                assert not its_left + 1 < at < its_right - 1
            assert its_at == its_left


def test_events_that_cannot_all_be_named_are_numbered_and_named_below() -> None:
    x = Ruler(0.0, 10.0, 40.0, 330.0, (0.0, 10.0))
    crowd = [EventMark(5.0 + number / 100, f"something that happened {number}") for number in range(8)]
    header = Header.of(crowd, [], x)
    assert [entry.text for entry in header.keys] == [event.label for event in crowd]


def test_phases_too_narrow_for_their_names_are_lettered_and_named_below() -> None:
    x = Ruler(0.0, 100.0, 40.0, 330.0, (0.0, 100.0))
    header = Header.of([], [Phase(1, 2, "refuses connections"), Phase(2, 90, "b")], x)
    assert [entry.text for entry in header.keys] == ["refuses connections", "b"]
    assert Header.of([], [Phase(1, 80, "hangs")], x).keys == []


def texts_of(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_chart_of_nothing_says_so(nothing_to_draw: tuple[Any, ...], width: float) -> None:
    for chart in nothing_to_draw:
        assert "no data" in texts_of(draw(chart, width=width, key="c")), chart.title


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("build", [latency_chart, recall_chart, cost_chart])
def test_a_drawing_has_a_name_and_a_description(build: Callable[[], Chart], width: float) -> None:
    chart = build()
    svg = draw(chart, width=width, key="k")
    assert 'role="img" aria-labelledby="k-title" aria-describedby="k-desc"' in svg
    assert '<title id="k-title">' in svg
    assert '<desc id="k-desc">' in svg
    assert f'viewBox="0 0 {width:.0f} ' in svg


def test_every_request_is_a_mark_and_every_failure_a_cross() -> None:
    chart = latency_chart()
    svg = draw(chart, width=WIDE, key="k")
    for series in chart.series:
        [path] = re.findall(rf'<path d="([^"]*)" class="dot {series.side.value}" stroke-width="4.4"', svg) or [
            path
            for path in re.findall(rf'<path d="([^"]*)" class="dot {series.side.value}"', svg)
            if path.count("M") == len(series.points)
        ]
        assert path.count("M") == len(series.points)


def test_a_missing_value_breaks_a_line_and_a_lone_point_is_a_mark() -> None:
    series = Series("s", ((0, 1.0), (1, 2.0), (2, None), (3, float("nan")), (4, 1.0)), Side.PRIMARY, Mark.LINE)
    svg = draw(LineChart("t", "a", Axis("x"), Axis("y"), (series,)), width=WIDE, key="k")
    [line] = re.findall(r'<path d="([^"]*)" class="line primary"></path>(?=<path)', svg)
    assert line.count("M") == 2
    assert re.findall(r'<path d="M[^M"]*h0" class="dot primary"', svg)


def test_a_part_not_measured_is_named_and_not_counted_in_silence() -> None:
    texts = texts_of(draw(cost_chart(), width=WIDE, key="k"))
    assert "rerank: not measured" in texts
    assert "0.00215\u00a0USD, 1 part not measured" in texts


def test_bars_show_their_value_and_none_where_there_is_none() -> None:
    chart = BarChart("t", "a", Axis("x", "ms"), ("c", "d"), (BarSeries("s", (12.5, None), Side.PRIMARY),))
    texts = texts_of(draw(chart, width=WIDE, key="k"))
    assert "12.5\u00a0ms" in texts
    assert "not measured" in texts


def test_two_sides_differ_in_shape_and_not_in_colour_alone() -> None:
    svg = draw(recall_chart(), width=WIDE, key="k")
    [primary] = [path for path in re.findall(r'<path d="([^"]*)" class="dot primary"', svg) if path.count("M") > 1]
    [substitute] = [p for p in re.findall(r'<path d="([^"]*)" class="dot substitute"', svg) if p.count("M") > 1]
    assert "h0" in primary
    assert "h0" not in substitute
    assert substitute.endswith("z")


def test_items_are_sorted_and_what_was_not_measured_comes_first() -> None:
    sides = (("p", Side.PRIMARY), ("s", Side.SUBSTITUTE))
    items = (DotItem("a", (0.9, 0.1)), DotItem("b", (0.2, None)), DotItem("c", (None, 0.5)), DotItem("d", (0.2, 0.1)))
    chart = DotChart("t", "a", Axis("x"), "i", "i", sides, items)
    assert [item.label for item in chart.sorted_items()] == ["c", "b", "d", "a"]


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_drawing_twice_gives_the_same(width: float) -> None:
    for build in (latency_chart, recall_chart, cost_chart):
        assert draw(build(), width=width, key="k") == draw(build(), width=width, key="k")


def test_a_table_of_few_points_holds_every_one() -> None:
    series = (Series("a", ((0, 1.0), (1, None))), Series("b", ((1, 2.5),)))
    table = chart_table(LineChart("t", "a", Axis("x", "s"), Axis("y", "ms"), series, (EventMark(1, "e"),)))
    assert [one.cells for one in table.rows] == [(0, 1.0, None), (1, None, 2.5)]
    assert table.note == "e at 1 s"


def test_a_table_of_many_points_counts_all_of_them() -> None:
    chart = latency_chart()
    assert len(chart.series[0].points) > MOST_ROWS
    table = chart_table(chart)
    for number, series in enumerate(chart.series, start=1):
        cells = [str(one.cells[number]) for one in table.rows]
        assert sum(int(cell.split(" / ")[0]) for cell in cells if cell != "none") == len(series.points)


def test_items_with_the_same_values_share_a_row_and_none_is_lost() -> None:
    chart = recall_chart()
    table = chart_table(chart)
    assert [column.title for column in table.columns] == ["primary", "substitute", "How many", "Which"]
    assert table.columns[1].decimals == 1
    assert len(table.rows) < len(chart.items) / 3
    told = [(one.cells[:2], label) for one in table.rows for label in str(one.cells[3]).split(", ")]
    assert sorted(told) == sorted((item.values, item.label) for item in chart.items)
    assert sum(int(str(one.cells[2])) for one in table.rows) == len(chart.items)


def test_of_very_many_items_with_the_same_values_all_are_counted_and_the_first_named() -> None:
    sides = (("primary", Side.PRIMARY), ("substitute", Side.SUBSTITUTE))
    items = tuple(DotItem(f"q{n:03d}", (1.0, float("nan") if n == 7 else 1.0)) for n in range(200))
    table = chart_table(DotChart("t", "a", Axis("recall"), "question", "questions", sides, items))
    assert [one.cells[:3] for one in table.rows] == [(1.0, None, 1), (1.0, 1.0, 199)]
    assert str(table.rows[1].cells[3]).endswith("… and 119 more, all in report.json")


def test_items_with_values_of_their_own_have_a_row_of_their_own() -> None:
    sides = (("primary", Side.PRIMARY),)
    items = tuple(DotItem(f"q{n:03d}", (n / 200,)) for n in range(200))
    table = chart_table(DotChart("t", "a", Axis("recall"), "question", "questions", sides, items))
    assert [one.cells for one in table.rows] == [(item.label, *item.values) for item in items]


def test_the_tables_of_the_other_charts_hold_every_value() -> None:
    costs = chart_table(cost_chart())
    assert [one.cells[0] for one in costs.rows] == [series.name for series in cost_chart().series]
    assert (None, None) in [one.cells[1:] for one in costs.rows]
    counts = chart_table(Histogram("t", "a", Axis("x"), (0.0, 0.5, 1.0), (HistogramSeries("h", (3, 4)),)))
    assert [one.cells for one in counts.rows] == [("0 – 0.5", 3), ("0.5 – 1", 4)]
