"""Each block of the model as HTML."""

from __future__ import annotations

from collections.abc import Sequence

from exitramp.records import Verdict
from exitramp.report.cells import (
    BLANK_TEXT,
    JUDGED_BY_NOTHING,
    NO_PROMISE,
    NO_VERDICT,
    NOTICE_WORDS,
    VERDICT_WORDS,
    cell_text,
    is_code,
    is_number,
    is_quiet,
)
from exitramp.report.chart_tables import chart_table
from exitramp.report.charts import NARROW, WIDE, draw
from exitramp.report.figures import BarChart, Chart, DotChart, Histogram, LineChart
from exitramp.report.icons import icon
from exitramp.report.markup import Attribute, Markup, escape, join, tag
from exitramp.report.model import (
    Align,
    Blank,
    Block,
    Bullets,
    Callout,
    Cell,
    Code,
    Column,
    Fold,
    Inline,
    KeyValues,
    Notice,
    Paragraph,
    Quantity,
    Span,
    Style,
    Subheading,
    Table,
    Timeline,
    VerdictTable,
)
from exitramp.report.text import NOT_MEASURED, reads_right_to_left, seconds_text, visible

_SHORT = 14
"""A table of no more rows than this is not broken over two sheets."""
_UNBROKEN = 24
"""A word of no more characters than this is never broken in a table; a longer one, a hash say, may be anywhere."""
_LONG_CODE_LINES = 40
_STYLE_TAGS = {Style.STRONG: "strong", Style.EMPHASIS: "em", Style.CODE: "code"}


def verdict_chip(verdict: Verdict) -> Markup:
    return tag("span", icon(verdict.value), VERDICT_WORDS[verdict], class_=f"chip {verdict.value}")


def stamp_chip(kind: Notice, text: str) -> Markup:
    return tag("span", icon(kind.value), text, class_=f"stamp {tone(kind)}")


def tone(kind: Notice) -> str:
    """The colour of a notice; a warning shares inconclusive's, what is unsigned has fail's ink on none."""
    return {Notice.WARNING: "inconclusive", Notice.UNSIGNED: "unsigned"}.get(kind, kind.value)


def inline(parts: Sequence[Inline]) -> Markup:
    return join(*(_styled(part) for part in parts))


def _styled(part: Inline) -> Markup:
    if isinstance(part, str):
        return _isolated(part)
    return tag(_STYLE_TAGS[part.style], _isolated(part.text))


def _isolated(text: str) -> Markup:
    """Right-to-left text in an element of its own, so that it does not reorder the numbers around it."""
    return tag("bdi", text) if reads_right_to_left(text) else escape(text)


def cell(value: Cell, column: Column | None = None) -> Markup:
    """What stands in a cell or beside a name."""
    if isinstance(value, Verdict):
        return verdict_chip(value)
    if isinstance(value, Blank):
        hidden = tag("span", f"{value.label}: {BLANK_TEXT}", class_="hidden")
        return tag("span", hidden, class_="blank-cell")
    text = cell_text(value, column)
    if is_quiet(value):
        return tag("span", text, class_="quiet")
    if is_code(value):
        return tag("code", _isolated(text), class_="whole" if len(visible(text)) <= _UNBROKEN else None)
    if isinstance(value, Span):
        return tag(_STYLE_TAGS[value.style], _isolated(text))
    if isinstance(value, Quantity):
        return _unparted(text)
    return _isolated(text)


def _unparted(text: str) -> Markup:
    """A number and its interval: a line may end between the two, and never within either."""
    number, opened, interval = text.partition(" (")
    whole = tag("span", number, class_="quantity")
    return Markup(f"{whole} {tag('span', f'({interval}', class_='quantity')}") if opened else whole


class Blocks:
    """Renders blocks in order and numbers what needs an id; one for each page."""

    def __init__(self) -> None:
        self._charts = 0
        self._tables = 0
        self._callouts = 0

    def render(self, blocks: Sequence[Block]) -> Markup:
        return Markup("\n".join(self._block(block) for block in blocks))

    def _block(self, block: Block) -> Markup:
        match block:
            case Paragraph():
                return tag("p", inline(block.spans))
            case Bullets():
                items = (tag("li", inline(item)) for item in block.items)
                return tag("ol" if block.ordered else "ul", *items)
            case Subheading():
                return tag("h3", block.text)
            case Callout():
                return self._callout(block)
            case KeyValues():
                return key_values(block)
            case Table():
                return self._table(block)
            case VerdictTable():
                return self._verdicts(block)
            case Timeline():
                return self._timeline(block)
            case Blank():
                return _blank(block)
            case Code():
                return _code(block)
            case Fold():
                return tag("details", tag("summary", block.summary), self.render(block.blocks))
            case LineChart() | BarChart() | DotChart() | Histogram():
                return self._chart(block)

    def _callout(self, block: Callout) -> Markup:
        self._callouts += 1
        name = f"_n{self._callouts}"
        lead = tag("b", f"{NOTICE_WORDS[block.kind]}:")
        title = tag("p", icon(block.kind.value), lead, " ", block.title, class_="title", id=name)
        body = self.render(block.body) if block.body else None
        return tag("div", title, body, class_=f"callout {tone(block.kind)}", role="note", aria_labelledby=name)

    def _table(self, block: Table) -> Markup:
        with_verdict = any(one.verdict for one in block.rows)
        heads = [tag("th", _header(column), scope="col", class_=_head_class(column)) for column in block.columns]
        if with_verdict:
            heads.append(tag("th", "Verdict", scope="col"))
        rows = []
        for one in block.rows:
            cells = [
                tag(
                    "th" if at == 0 else "td",
                    cell(value, column),
                    scope="row" if at == 0 else None,
                    class_=_cell_class(value, column),
                )
                for at, (value, column) in enumerate(zip(one.cells, block.columns, strict=True))
            ]
            if with_verdict:
                told = verdict_chip(one.verdict) if one.verdict else _quiet(NO_VERDICT)
                cells.append(tag("td", told, class_="verdict"))
            rows.append(tag("tr", *cells))
        if not rows:
            rows = [tag("tr", tag("td", "no rows", colspan=len(heads), class_="quiet"))]
        # A name and its numbers: several such columns stand side by side on a sheet.
        rest = [value for one in block.rows for value in one.cells[1:]]
        slim = len(heads) <= 3 and all(is_number(value) or value is None for value in rest)
        table = self._framed(block.caption, heads, rows, wide=len(heads) > 3, slim=slim)
        return Markup(table + tag("p", block.note, class_="table-note")) if block.note else table

    def _framed(self, caption: str, heads: list[Markup], rows: list[Markup], *, wide: bool, slim: bool) -> Markup:
        self._tables += 1
        name = f"_t{self._tables}"
        table = tag(
            "table",
            tag("caption", tag("span", caption), id=name),
            tag("thead", tag("tr", *heads)),
            tag("tbody", Markup("\n".join(rows))),
        )
        # A table too wide for a phone scrolls in a frame of its own, which a keyboard must be able to reach.
        reach: dict[str, Attribute] = {"role": "region", "aria_labelledby": name, "tabindex": 0} if wide else {}
        size = "short" if len(rows) <= _SHORT else "slim" if slim else ""
        return tag("div", table, class_=" ".join(filter(None, ("scroll", "many" if wide else "", size))), **reach)

    def _verdicts(self, block: VerdictTable) -> Markup:
        """On a narrow screen the rows become cards; the roles keep it a table for those who cannot see that."""
        names = ("Objective", "Target", "Measured", "Verdict", "Note")
        heads = [tag("th", name, scope="col", role="columnheader") for name in names]
        told: list[tuple[str, tuple[Markup, ...], tuple[str, ...]]] = []
        for one in block.rows:
            note = _isolated(one.note) if one.note else Markup()
            shown = (_isolated(one.target), cell(one.measured), verdict_chip(one.verdict), note)
            told.append((one.name, shown, (one.target, cell_text(one.measured), "", one.note)))
        for title, figure in block.unjudged:
            shown = (_quiet(NO_PROMISE), cell(figure), _quiet(NO_VERDICT), _isolated(JUDGED_BY_NOTHING))
            told.append((title, shown, ("", cell_text(figure), "", "")))
        rows = [
            tag(
                "tr",
                tag("th", _isolated(title), scope="row", role="rowheader", class_=_long_class(title)),
                *(
                    tag("td", value, role="cell", data_name=name, class_=_long_class(text))
                    for name, value, text in zip(names[1:], shown, texts, strict=True)
                ),
                role="row",
            )
            for title, shown, texts in told
        ]
        if not rows:
            rows = [tag("tr", tag("td", "no objectives", colspan=5, class_="quiet", role="cell"), role="row")]
        self._tables += 1
        return tag(
            "table",
            tag("caption", block.caption),
            tag("thead", tag("tr", *heads, role="row"), role="rowgroup"),
            tag("tbody", Markup("\n".join(rows)), role="rowgroup"),
            class_="verdicts",
            role="table",
        )

    def _timeline(self, block: Timeline) -> Markup:
        items = []
        for moment in block.moments:
            at = tag("span", seconds_text(moment.at_seconds), class_="at")
            title = tag("strong" if moment.milestone else "span", moment.title, class_="what")
            reference = tag("code", moment.reference, class_="reference") if moment.reference else None
            detail = tag("span", inline(moment.detail), class_="detail") if moment.detail else None
            body = tag("div", title, " " if reference else None, reference, detail)
            items.append(tag("li", at, body, class_="milestone" if moment.milestone else None))
        if not items:
            items.append(tag("li", tag("span", NOT_MEASURED, class_="quiet")))
        caption = tag("figcaption", block.caption)
        return tag("figure", caption, tag("ol", Markup("\n".join(items))), class_="timeline")

    def _chart(self, chart: Chart) -> Markup:
        """Drawn twice, for wide and narrow pages: one picture scaled down to a phone could not be read."""
        self._charts += 1
        key = f"_c{self._charts}"
        plot = tag(
            "figure",
            tag("figcaption", chart.title),
            tag("div", draw(chart, width=WIDE, key=f"{key}w"), class_="wide"),
            tag("div", draw(chart, width=NARROW, key=f"{key}n"), class_="narrow"),
            tag("p", chart.alternative, class_="in-words"),
        )
        numbers = Fold("The numbers behind this chart", (chart_table(chart),))
        return tag("div", plot, self._block(numbers), class_="chart")


def _quiet(text: str) -> Markup:
    return tag("span", text, class_="quiet")


def key_values(block: KeyValues) -> Markup:
    rows = (tag("div", tag("dt", _isolated(name)), tag("dd", cell(value))) for name, value in block.items)
    return tag("dl", Markup("\n".join(rows)), class_="facts")


def _cell_class(value: Cell, column: Column) -> str | None:
    """Where words must be broken at any letter is decided by what stands there: else the column would not be wide."""
    if column.align is Align.RIGHT:
        return "number"
    return _long_class(cell_text(value, column))


def _long_class(text: str) -> str | None:
    return "long" if _has_long_word(text) else None


def _head_class(column: Column) -> str | None:
    found = (
        "number" if column.align is Align.RIGHT else "",
        "long" if _has_long_word(f"{column.title} {column.unit}") else "",
    )
    return " ".join(filter(None, found)) or None


def _has_long_word(text: str) -> bool:
    return any(len(word) > _UNBROKEN for word in visible(text).split())


def _header(column: Column) -> Markup:
    if not column.unit:
        return _isolated(column.title)
    style = "unit" if len(visible(column.unit)) <= _UNBROKEN else None
    return Markup(_isolated(column.title) + tag("span", f" ({column.unit})", class_=style))


def _blank(block: Blank) -> Markup:
    lines = (Markup('<span class="line"></span>') for _ in range(max(1, block.lines)))
    hint = tag("span", block.hint, class_="hint") if block.hint else None
    label = tag("p", tag("b", block.label), " ", tag("i", BLANK_TEXT), hint, class_="blank-label")
    return tag("div", label, *lines, class_="blank")


def _code(block: Code) -> Markup:
    is_long = block.text.count("\n") > _LONG_CODE_LINES
    text = tag("code", escape(block.text, keep_newlines=True))
    body = tag("pre", text, tabindex=0, class_="long" if is_long else None)
    if not block.caption:
        return body
    return tag("figure", tag("figcaption", block.caption), body, class_="code")
