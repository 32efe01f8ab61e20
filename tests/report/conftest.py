"""A page as a tree, and a document made of everything that could break a renderer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import pytest

from exitramp.records import Verdict
from exitramp.report.figures import (
    Axis,
    BarChart,
    BarSeries,
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
from exitramp.report.model import (
    NOT_APPLICABLE,
    Blank,
    Block,
    Bullets,
    Callout,
    Code,
    Column,
    Document,
    Fold,
    KeyValues,
    Meta,
    Moment,
    Notice,
    Objective,
    Quantity,
    Section,
    Stamp,
    Subheading,
    Table,
    Timeline,
    VerdictTable,
    code,
    emphasis,
    numbers,
    prose,
    row,
    strong,
)
from tests.report.drill_journals import document_of_run, judged, played
from tests.report.drill_results import results

HARD_TEXTS = {
    "script": "<script>alert('x')</script>",
    "closing": "</style></title></textarea><img src=x onerror=alert(1)>",
    "quotes": "\"double\" 'single' `tick` ``two`` \\ back",
    "entities": "&amp; &lt; &#60; ]]> <!-- c --> <?php ?>",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 𝔘𝔫𝔦",
    "long id": "x" * 600,
    "right to left": "مرحبا بالعالم 123 שלום",
    "overriding": "abc\u202egnp.exe\u2066x\u2069",
    "control": "nul\x00bell\x07esc\x1b[31mdel\x7fc1\x85 tab\tline\nend\r\x0b",
    "noncharacter": "\ufffe\uffff\ufdd0\U0001ffff bom\ufeff zero\u200bwidth soft\u00adhyphen",
    "surrogate": "lone \ud800 and \udfff",
    "markdown": "# a | b *c* _d_ [e](f) ~~g~~ $h$ !x - + 1. | `|`",
    "only a number": "1. one",
    "a rule": "---",
    "address": "https://example.invalid/x?a=1&b=2#c",
    "empty": "",
    "space": " ",
}


def hard_document() -> Document:
    """Every hard text in every place that takes a text."""
    everything = "".join(HARD_TEXTS.values())
    blocks: list[Block] = []
    for text in HARD_TEXTS.values():
        chart_series = (Series(text, ((0.0, 1.0), (1.0, None), (2.0, float("nan"))), Side.PRIMARY, Mark.AREA),)
        blocks += [
            prose(text, strong(text), emphasis(text), code(text)),
            Bullets(((text,), (code(text), text))),
            Subheading(text),
            Callout(Notice.INFO, text, (prose(text),)),
            KeyValues(((text, text), (text, code(text)), ("none", None), ("na", NOT_APPLICABLE))),
            Table(
                text,
                (Column(text, text), numbers(text, text, 2), Column("verdict")),
                (row(text, 0.0004, Verdict.FAIL), row(code(text), Decimal("1.10"), Blank(text), verdict=Verdict.PASS)),
                text,
            ),
            VerdictTable(text, (Objective(text, text, text, text, Verdict.FAIL, text),)),
            Timeline(text, (Moment(None, text, (text, code(text)), text, True),)),
            Blank(text, 2, text),
            Code(text, text, text),
            Fold(text, (prose(text),)),
            LineChart(
                text,
                text,
                Axis(text, text),
                Axis(text, text, Scale.LOG),
                chart_series,
                (EventMark(0.5, text),),
                (Phase(0.2, 0.4, text),),
            ),
            BarChart(text, text, Axis(text, text), (text,), (BarSeries(text, (1.0,)), BarSeries("b", (None,))), True),
            BarChart(text, text, Axis(text, text), (text,), (BarSeries(text, (-1.0,)), BarSeries("b", (2.0,)))),
            DotChart(text, text, Axis(text), text, text, ((text, Side.PRIMARY),), (DotItem(text, (0.5,)),)),
            Histogram(text, text, Axis(text, text), (0.0, 1.0), (HistogramSeries(text, (3,)),)),
        ]
    return Document(
        title=everything,
        subtitle=everything,
        verdict=Verdict.FAIL,
        verdict_reason=everything,
        meta=Meta(everything, everything, datetime(2030, 1, 1, tzinfo=UTC), event_log_head="0" * 64, event_count=0),
        objectives=(
            *(Objective(name, text, text, text, Verdict.PASS, text) for name, text in HARD_TEXTS.items()),
            Objective("no", everything, everything, Quantity(float("nan")), Verdict.FAIL, everything),
        ),
        sections=(Section(1, everything, tuple(blocks), "hard"), Section(2, "", (), "empty")),
        stamps=(Stamp(Notice.MOCK, everything),),
    )


def empty_charts() -> tuple[Block, ...]:
    """One chart of each kind that has nothing to draw."""
    return (
        LineChart("line", "a", Axis("x"), Axis("y"), ()),
        LineChart("line of nothing", "a", Axis("x"), Axis("y"), (Series("s", ((0.0, None),)),)),
        BarChart("bars", "a", Axis("x"), (), ()),
        BarChart("bars of nothing", "a", Axis("x"), ("c",), (BarSeries("s", (None,)),), stacked=True),
        DotChart("dots", "a", Axis("x"), "item", "items", (("p", Side.PRIMARY),), ()),
        Histogram("histogram", "a", Axis("x"), (0.0, 1.0), (HistogramSeries("s", (0,)),)),
        Histogram("histogram of nothing", "a", Axis("x"), (), ()),
    )


def document_of(*blocks: Block) -> Document:
    """The smallest document that holds `blocks`."""
    return Document(
        title="T",
        subtitle="",
        verdict=Verdict.INCONCLUSIVE,
        verdict_reason="",
        meta=Meta("run", "program", datetime(2030, 1, 1, tzinfo=UTC)),
        objectives=(),
        sections=(Section(1, "S", blocks, "s"),),
    )


@dataclass
class Node:
    """An element of a page."""

    name: str
    attributes: dict[str, str | None]
    children: list[Node | str] = field(default_factory=list)

    def all(self, name: str | None = None) -> Iterator[Node]:
        for child in self.children:
            if isinstance(child, Node):
                if name is None or child.name == name:
                    yield child
                yield from child.all(name)

    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text() for child in self.children)

    def has_class(self, name: str) -> bool:
        return name in (self.attributes.get("class") or "").split()


VOID = {"meta", "link", "br", "hr", "img", "input", "wbr", "col"}


class Tree(HTMLParser):
    """Builds `Node`s and refuses a page whose elements do not nest."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("#page", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> names an attribute twice"
        node = Node(tag, dict(attrs))
        self._open[-1].children.append(node)
        if tag not in VOID:
            self._open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1].name == tag, f"</{tag}> closes <{self._open[-1].name}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)


def parse_page(text: str) -> Node:
    tree = Tree()
    tree.feed(text)
    tree.close()
    assert tree._open == [tree.root], "an element is left open"
    return tree.root


@pytest.fixture(scope="session")
def parse() -> Callable[[str], Node]:
    return parse_page


@pytest.fixture(scope="session")
def hard() -> Document:
    return hard_document()


@pytest.fixture(scope="session")
def hard_texts() -> dict[str, str]:
    return HARD_TEXTS


@pytest.fixture(scope="session")
def of() -> Callable[..., Document]:
    return document_of


@pytest.fixture(scope="session")
def nothing_to_draw() -> tuple[Block, ...]:
    return empty_charts()


@pytest.fixture(scope="session")
def drilled(tmp_path_factory: pytest.TempPathFactory) -> Document:
    """The report of a drill, as it is made from a journal."""
    return document_of_run(played(tmp_path_factory.mktemp("drilled"), results()).end("pass", judged()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a module's pages and profiles go."""
    return tmp_path_factory.mktemp("browser")
