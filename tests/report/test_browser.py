"""The page in a real browser: no errors, no requests, nothing cut off, nothing overlapping."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from exitramp.records import Verdict
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
from exitramp.report.html import render_html
from exitramp.report.model import Document
from exitramp.report.sample import sample_document
from tests.report.chromium import NEEDS_CHROMIUM, probe, run_chromium

pytestmark = NEEDS_CHROMIUM


@pytest.fixture(scope="module")
def measured(folder: Path) -> list[dict[str, Any]]:
    return probe(folder, render_html(sample_document(Verdict.INCONCLUSIVE)), (360, 390, 720, 1280))


def test_the_page_is_never_wider_than_its_window(measured: list[dict[str, Any]]) -> None:
    for view in measured:
        assert view["wide"] == [], view["width"]
        assert view["scrolled"] <= view["width"]


def test_no_text_of_a_chart_overlaps_another_or_leaves_its_drawing(measured: list[dict[str, Any]]) -> None:
    for view in measured:
        assert view["collisions"] == [], view["width"]
        assert view["outside"] == [], view["width"]


def test_each_chart_is_drawn_once_and_can_be_read_at_every_width(measured: list[dict[str, Any]]) -> None:
    for view in measured:
        assert view["drawn"] == 5
        assert view["smallest"] >= 9.5, f"text of {view['smallest']} px at {view['width']}"


def test_the_page_asks_for_no_resource(measured: list[dict[str, Any]]) -> None:
    assert all(view["resources"] == [] for view in measured)


def test_a_hostile_document_is_not_wider_than_a_phone(folder: Path, hard: Document) -> None:
    [view] = probe(folder, render_html(hard), (360,))
    assert view["wide"] == []
    assert view["scrolled"] <= 360
    assert view["outside"] == []


def test_labels_stay_apart_whatever_the_data(
    folder: Path, of: Callable[..., Document], nothing_to_draw: tuple[Any, ...]
) -> None:
    for view in probe(folder, render_html(of(*crowded_charts(), *nothing_to_draw)), (360, 720, 1280)):
        assert view["collisions"] == [], view["width"]
        assert view["outside"] == [], view["width"]


def test_labels_that_overlap_or_leave_would_have_been_seen(folder: Path) -> None:
    texts = "".join(f'<text x="{x}" y="{y}">{name}</text>' for x, y, name in ((10, 50, "aaaa"), (15, 52, "bbbb")))
    svg = f'<svg class="drawing" width="200" height="100">{texts}<text x="190" y="20">leaves</text></svg>'
    [view] = probe(folder, f"<!doctype html><body>{svg}", (400,))
    assert view["collisions"] == [["aaaa", "bbbb"]]
    assert view["outside"] == ["leaves"]


def crowded_charts() -> Iterator[Chart]:
    """Many and close events, narrow phases, long names, and values that are huge, tiny, negative, equal or alone."""
    draw = random.Random(3)
    time, value = Axis("time", "s"), Axis("value", "ms")
    noise = Series("a", tuple((float(at), draw.random() * 1e6) for at in range(101)), Side.PRIMARY)
    names = [EventMark(at, f"event number {at}") for at in (1, 2, 3, 40, 41, 60, 80, 99)]
    phases = (Phase(0, 10, "first phase of all"), Phase(10, 60, "two"), Phase(60, 61, "x"), Phase(61, 100, "the last"))
    yield LineChart("events", "a", time, value, (noise,), tuple(names), phases)
    yield LineChart("crowd", "a", time, value, (noise,), tuple(EventMark(50 + n / 5, f"event {n}") for n in range(14)))
    for name, points in {
        "alone": ((5.0, 3.0),),
        "equal": ((5.0, 3.0), (6.0, 3.0)),
        "tiny": ((0.0, 1e-7), (1.0, 3e-7)),
        "negative": ((0.0, -5.0), (1.0, 3.0)),
        "far from zero": ((1000.0, 0.991), (1010.0, 0.9999)),
    }.items():
        yield LineChart(name, "a", time, Axis("a" * 80), (Series("b" * 90, points, Side.OTHER),))
    wide = Series("w", ((0.0, 1e-4), (1.0, 1e7)), Side.FAILED, Mark.AREA)
    yield LineChart("logarithmic", "a", time, Axis("v", scale=Scale.LOG), (wide,))
    parts = tuple(BarSeries(f"part {number} with a name", (draw.random(), draw.random())) for number in range(12))
    yield BarChart("parts", "a", Axis("cost", "USD"), ("Before", "After, and a name that goes on and on"), parts, True)
    yield BarChart("tiny part", "a", value, ("a",), (BarSeries("big", (1e6,)), BarSeries("small", (1e-3,))), True)
    yield BarChart("both ways", "a", value, ("a", "b"), (BarSeries("p", (-5.0, 3.0)), BarSeries("s", (2.0, None))))
    sides = (("primary", Side.PRIMARY), ("substitute", Side.SUBSTITUTE))
    for count in (1, 2, 400):
        items = tuple(DotItem(f"q{n}", (draw.random(), draw.random() if n % 7 else None)) for n in range(count))
        yield DotChart(f"dots {count}", "a", Axis("recall"), "question", "questions " * 12, sides, items)
    counts = tuple(draw.randrange(50) for _ in range(10))
    edges = tuple(number / 10 for number in range(11))
    yield Histogram("bins", "a", Axis("score"), edges, (HistogramSeries("p", counts), HistogramSeries("s", counts)))


def open_page(folder: Path, text: str, name: str) -> tuple[list[str], list[str]]:
    """What the browser wrote on its console, and the addresses it asked for."""
    page, log = folder / f"{name}.html", folder / f"{name}.netlog"
    page.write_text(text, encoding="utf-8")
    done = run_chromium(folder, page, "--enable-logging=stderr", f"--log-net-log={log}", "--dump-dom")
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    asked = [
        address
        for address in re.findall(r'"url":"([^"]+)"', log.read_text(encoding="utf-8", errors="replace"))
        if address.startswith(("http", "ws")) and "example.invalid" not in address
    ]
    return console, [address for address in asked if "127.0.0.1" in address]


def test_the_browser_reports_no_error_and_sends_no_request(folder: Path) -> None:
    assert open_page(folder, render_html(sample_document()), "report") == ([], [])


def test_an_intruder_would_have_been_seen_and_is_stopped_by_the_policy(folder: Path) -> None:
    """Without this the test above could pass by looking in the wrong place."""
    page = render_html(sample_document())
    intruder = page.replace("<main", '<img src="http://127.0.0.1:9/x.png"><script>1</script><main', 1)
    console, asked = open_page(folder, intruder, "with-policy")
    assert len(console) == 2
    assert asked == []
    _, asked = open_page(folder, re.sub(r"<meta http-equiv=[^>]*>", "", intruder), "without-policy")
    assert asked
