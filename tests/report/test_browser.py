"""The page in a real browser: no errors, no requests, nothing cut off, nothing overlapping, and pages on paper."""

from __future__ import annotations

import html
import json
import random
import re
import shutil
import subprocess
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
from tests.report.devtools import Spoken, browser, spoken
from tests.report.drill_journals import document_of_run, judged, played
from tests.report.drill_results import results

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
# The report stands unchanged in frames of several widths; the script is the page's around it.
PROBE = """<!doctype html><meta charset="utf-8"><body>%s<pre id="found"></pre><script>
function overlaps(a, b) {
  return Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
      && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
}
onload = () => {
  const found = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, view = frame.contentWindow, collisions = [], outside = [], wide = [];
    for (const svg of page.querySelectorAll("svg.drawing")) {
      const box = svg.getBoundingClientRect();
      if (!box.width) continue;
      const texts = [...svg.querySelectorAll("text")].map(t => [t.textContent, t.getBoundingClientRect()]);
      texts.forEach(([text, a], i) => {
        if (a.left < box.left - 2 || a.right > box.right + 2 || a.bottom > box.bottom + 4) outside.push(text);
        for (const [other, b] of texts.slice(i + 1)) if (overlaps(a, b)) collisions.push([text, other]);
      });
    }
    for (const node of page.body.querySelectorAll("*"))
      if (!node.closest(".scroll, pre, svg, .hidden")
          && node.getBoundingClientRect().right > view.innerWidth + 1)
        wide.push(node.tagName + " " + node.className + " " + node.textContent.slice(0, 40));
    return {
      width: view.innerWidth, scrolled: page.documentElement.scrollWidth, wide, collisions, outside,
      drawn: [...page.querySelectorAll("svg.drawing")].filter(s => s.getBoundingClientRect().width).length,
      smallest: Math.min(...[...page.querySelectorAll("svg.drawing text")].filter(t => t.getBoundingClientRect().width)
        .map(t => parseFloat(view.getComputedStyle(t).fontSize) * t.getScreenCTM().a)),
      resources: view.performance.getEntriesByType("resource").map(r => r.name),
    };
  });
  document.getElementById("found").textContent = JSON.stringify(found);
};
</script>"""


def run_chromium(folder: Path, page: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    profile = folder / f"profile-{len(list(folder.iterdir()))}"
    profile.mkdir()
    return subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *arguments, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


def probe(folder: Path, report: str, widths: tuple[int, ...]) -> list[dict[str, Any]]:
    frames = "".join(
        f'<iframe width="{width}" height="800" style="border:0" srcdoc="{html.escape(report)}"></iframe>'
        for width in widths
    )
    page = folder / "probe.html"
    page.write_text(PROBE % frames, encoding="utf-8")
    dumped = run_chromium(folder, page, "--dump-dom").stdout
    found = re.search(r'<pre id="found">(.*?)</pre>', dumped, re.DOTALL)
    assert found, "the probe did not run"
    measured: list[dict[str, Any]] = json.loads(html.unescape(found.group(1)))
    return measured


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


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


@pytest.fixture(scope="module")
def drilled(tmp_path_factory: pytest.TempPathFactory) -> Document:
    """The report of a drill, as it is made from a journal."""
    return document_of_run(played(tmp_path_factory.mktemp("drilled"), results()).end("pass", judged()))


@pytest.fixture(scope="module")
def read_aloud(folder: Path, drilled: Document) -> dict[str, list[Spoken]]:
    """Both documents as a screen reader is given them, folds closed."""
    assert CHROMIUM is not None
    found = {}
    with browser(CHROMIUM, FLAGS, folder / "spoken") as pipe:
        for name, document in (("sample", sample_document()), ("drill", drilled)):
            page = folder / f"spoken-{name}.html"
            page.write_text(render_html(document), encoding="utf-8")
            found[name] = spoken(pipe, page)
    return found


def test_a_screen_reader_is_told_where_it_is(read_aloud: dict[str, list[Spoken]]) -> None:
    for name, nodes in read_aloud.items():
        roles = [node.role for node in nodes]
        for landmark in ("banner", "navigation", "main", "contentinfo"):
            assert roles.count(landmark) == 1, (name, landmark)
        levels = [node.properties["level"] for node in nodes if node.role == "heading"]
        by_place = [node for node in nodes if node.role == "heading"]
        assert levels.count(1) == 1, name
        assert set(levels) == {1, 2, 3}, name
        assert all(node.name for node in by_place), name
        assert next(node for node in nodes if node.role == "RootWebArea").name.startswith("Pass: "), name


def test_whatever_a_screen_reader_stops_at_has_a_name(read_aloud: dict[str, list[Spoken]]) -> None:
    named = {"table", "region", "image", "link", "note", "columnheader", "rowheader", "DisclosureTriangle"}
    for name, nodes in read_aloud.items():
        assert {"table", "image", "note", "columnheader", "rowheader"} <= {node.role for node in nodes}, name
        for node in nodes:
            assert node.name or node.role not in named, (name, node.role, node.parent and node.parent.name)


def test_a_chart_is_one_picture_with_a_name_and_what_it_shows_in_words(read_aloud: dict[str, list[Spoken]]) -> None:
    for name, nodes in read_aloud.items():
        pictures = [node for node in nodes if node.role == "image"]
        assert len(pictures) >= 3, name
        for picture in pictures:
            assert len(picture.description) > 40, (name, picture.name)
        read = [node.name for node in nodes if node.within("image") and node.name]
        assert read == [], "the numbers on an axis are not read out"


def test_every_number_of_a_table_belongs_to_a_row_and_a_column(read_aloud: dict[str, list[Spoken]]) -> None:
    for name, nodes in read_aloud.items():
        for node in nodes:
            if node.role in {"cell", "rowheader", "columnheader"}:
                assert node.within("row"), (name, node.name)
                assert node.within("table"), (name, node.name)


def test_a_picture_that_only_repeats_a_word_is_not_read(read_aloud: dict[str, list[Spoken]]) -> None:
    """Without this, the verdict's shape could be read out in place of its word."""
    for name, nodes in read_aloud.items():
        told = [node.name for node in nodes if node.role == "StaticText" and node.within("banner")]
        assert told[:1] == ["Pass"], name
        assert not [node for node in nodes if node.role in {"image", "SvgRoot"} and node.within("banner")], name


def on_paper(document: Document) -> str:
    """The page as it is printed, for a frame as wide as what A4 leaves between its margins."""
    screens = "@media screen and", "@media (max-width:1px) and"
    return render_html(document).replace("@media print", "@media all").replace(*screens)


def test_nothing_is_wider_than_the_paper(folder: Path, drilled: Document, hard: Document) -> None:
    """On paper nothing scrolls: what sticks out is gone."""
    for name, document in (("drill", drilled), ("sample", sample_document()), ("hard", hard)):
        page = (
            on_paper(document).replace('class="scroll', 'class="').replace("<pre", "<div").replace("</pre>", "</div>")
        )
        [view] = probe(folder, page, (672,))
        assert view["wide"] == [], name


def test_what_is_too_wide_for_the_paper_would_have_been_seen(folder: Path, of: Callable[..., Document]) -> None:
    page = on_paper(of()).replace("<main", '<div style="width:700px">too wide</div><main', 1)
    [view] = probe(folder, page, (672,))
    assert any("too wide" in each for each in view["wide"])


@pytest.mark.parametrize("paper", ["A4", "letter"])
def test_the_first_sheet_holds_the_verdict_the_objectives_and_what_is_not_proven(
    folder: Path, drilled: Document, paper: str
) -> None:
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext to read it with")
    page, pdf = folder / f"first-{paper}.html", folder / f"first-{paper}.pdf"
    page.write_text(render_html(drilled).replace("</style>", f"@page{{size:{paper}}}</style>", 1), encoding="utf-8")
    run_chromium(folder, page, "--no-pdf-header-footer", f"--print-to-pdf={pdf}")
    first = " ".join(
        subprocess.run(
            ["pdftotext", "-l", "1", str(pdf), "-"], capture_output=True, text=True, timeout=60, check=True
        ).stdout.split()
    )
    assert "The switch worked" in first
    for objective in drilled.objectives:
        assert objective.name in first
    assert "What this report does not prove" in first
    assert "Nobody has signed this report." in first, "the whole of it, its last sentence included"


@pytest.mark.parametrize("paper", ["A4", "Letter"])
def test_it_prints_as_pages_with_the_folded_parts(folder: Path, paper: str) -> None:
    sheet = "@page{size:A4}" if paper == "A4" else "@page{size:letter}"
    page = folder / f"{paper}.html"
    page.write_text(render_html(sample_document()).replace("</style>", f"{sheet}</style>", 1), encoding="utf-8")
    pdf = folder / f"{paper}.pdf"
    run_chromium(folder, page, "--no-pdf-header-footer", f"--print-to-pdf={pdf}")
    pages = len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf.read_bytes()))
    assert 8 <= pages <= 24
    if shutil.which("pdftotext") is None:
        pytest.skip(f"{pages} pages; no pdftotext to read them with")
    text = subprocess.run(
        ["pdftotext", "-layout", str(pdf), "-"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    sheets = text.rstrip("\f").split("\f")
    assert len(sheets) == pages
    assert "asyncio.timeout#1" in text, "a folded part was not printed"
    assert all(f"q{number:03d}" in text for number in range(1, 97)), "a chart's numbers were not printed"
    assert "Skip to the report" not in text
    for number, one in enumerate(sheets, start=1):
        assert f"{number} / {pages}" in one
        assert "PASS · MADE-UP NUMBERS · MOCK VENDORS · UNSIGNED" in one
    assert "What this report does not prove" in sheets[0], "the verdict page says what it does not prove"


def test_bars_and_marks_are_printed(folder: Path) -> None:
    """A style for the screen's bar once hid the charts' bars on paper."""
    sheet = render_html(sample_document()).split("@media print", 2)
    hidden = re.findall(r"([^{}]+)\{[^{}]*display:\s*none", "".join(sheet[1:]).split("</style>")[0])
    classes = {name for rule in hidden for name in re.findall(r"\.([\w-]+)", rule)}
    drawn = set(re.findall(r'<(?:rect|path|text)[^>]* class="([\w -]+)"', sheet[-1]))
    assert classes
    assert not classes & {name for names in drawn for name in names.split()}
