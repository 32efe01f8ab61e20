"""The report as GitHub-flavoured Markdown: charts as their alternative in words and the table of their numbers."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from exitramp.records import Verdict
from exitramp.report.cells import (
    BLANK_TEXT,
    JUDGED_BY_NOTHING,
    NO_PROMISE,
    NO_VERDICT,
    NOTICE_WORDS,
    VERDICT_MEANINGS,
    VERDICT_WORDS,
    cell_text,
    header_text,
    is_code,
    is_quiet,
)
from exitramp.report.chart_tables import chart_table
from exitramp.report.figures import BarChart, Chart, DotChart, Histogram, LineChart
from exitramp.report.model import (
    Align,
    Blank,
    Block,
    Bullets,
    Callout,
    Cell,
    Code,
    Column,
    Document,
    Fold,
    Inline,
    KeyValues,
    Paragraph,
    Section,
    Span,
    Style,
    Subheading,
    Table,
    Timeline,
    VerdictTable,
    code,
    masked,
)
from exitramp.report.text import EMPTY_TEXT, NOT_MEASURED, seconds_text, visible

_SIGNS = {Verdict.PASS: "✔", Verdict.FAIL: "✘", Verdict.INCONCLUSIVE: "◆"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~$])")
# What would begin a list, a rule or an underlined heading, at the start of a paragraph or list item.
_BLOCK_START = re.compile(r"^(\s*)(?:([-+=])|(\d+)([.)])(?=\s|$))")
# A sign of emphasis beside a letter, a digit, or another sign.
_WORD_FIRST = re.compile(r"[\w*`]")
_WORD_LAST = re.compile(r"[\w*`]\Z")
_ROOM_TO_WRITE = "\\_" * 24


def render_markdown(document: Document) -> str:
    """The whole document. The same document gives the same text."""
    document = masked(document)
    parts = [
        f"# {escape(document.title)}",
        _paragraph((document.subtitle,)) if document.subtitle else "",
        _verdict(document),
        _identity(document),
        *(_section(section) for section in document.sections),
        "---",
        f"Made from what {escape(document.meta.program)} had logged by {cell_text(document.meta.generated_at)}.",
        "A verdict is evidence for the objectives it names, measured in this run, and for nothing else.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """`text` as Markdown that shows it as it stands within a line: no emphasis, link, HTML or end of a table cell."""
    shown = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", shown)


def code_span(text: str, *, in_table: bool = False) -> str:
    """`text` between backticks, more of them than stand in it; in a table its bars are escaped."""
    shown = visible(text) or EMPTY_TEXT
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if shown[:1] in ("`", " ") or shown[-1:] in ("`", " ") else ""
    return f"{fence}{pad}{shown.replace('|', chr(92) + '|') if in_table else shown}{pad}{fence}"


def verdict_text(verdict: Verdict) -> str:
    return f"{_SIGNS[verdict]} **{VERDICT_WORDS[verdict]}**"


def _verdict(document: Document) -> str:
    stamps = " · ".join(f"**{escape(stamp.text.upper())}**" for stamp in document.all_stamps)
    lines = [
        f"> ## {_SIGNS[document.verdict]} {VERDICT_WORDS[document.verdict]}",
        ">",
        f"> {VERDICT_MEANINGS[document.verdict].capitalize()}. {escape(document.verdict_reason)}".rstrip(),
    ]
    if stamps:
        lines += [">", f"> {stamps}"]
    if document.blank_count:
        fields = "field is" if document.blank_count == 1 else "fields are"
        lines += [">", f"> {document.blank_count} {fields} left for people to fill in."]
    return "\n".join(lines)


def _identity(document: Document) -> str:
    meta = document.meta
    items: list[tuple[str, Cell]] = [
        ("Run", code(meta.run_id)),
        ("Program", meta.program),
        ("Started", meta.started_at),
        ("Ended", meta.ended_at),
        (
            "Duration, pauses left out" if meta.is_without_pauses else "Duration",
            None if meta.duration_seconds is None else seconds_text(meta.duration_seconds),
        ),
        ("Objectives’ hash", None if meta.objectives_sha256 is None else code(meta.objectives_sha256)),
        ("Event log’s head", None if meta.event_log_head is None else code(meta.event_log_head)),
        ("Events logged", meta.event_count),
    ]
    return _key_values(KeyValues(tuple(items)))


def _section(section: Section) -> str:
    heading = f'<a id="{section.anchor}"></a>\n\n## {section.number}. {escape(section.title)}'
    return "\n\n".join((heading, *_blocks(section.blocks)))


def _blocks(blocks: Sequence[Block]) -> Iterable[str]:
    return (_block(block) for block in blocks)


def _block(block: Block) -> str:
    match block:
        case Paragraph():
            return _paragraph(block.spans)
        case Bullets():
            signs = [f"{number}." if block.ordered else "-" for number in range(1, len(block.items) + 1)]
            return "\n".join(f"{sign} {_paragraph(item)}" for sign, item in zip(signs, block.items, strict=True))
        case Subheading():
            return f"### {escape(block.text)}"
        case Callout():
            body = "\n\n".join((f"**{NOTICE_WORDS[block.kind]}: {escape(block.title)}**", *_blocks(block.body)))
            return "\n".join(f"> {line}".rstrip() for line in body.split("\n"))
        case KeyValues():
            return _key_values(block)
        case Table():
            return _table(block)
        case VerdictTable():
            return _verdicts(block)
        case Timeline():
            return _timeline(block)
        case Blank():
            hint = f" ({escape(block.hint)})" if block.hint else ""
            lines = "\n\n".join([_ROOM_TO_WRITE * 2] * max(1, block.lines))
            return f"**{escape(block.label)}**, *{BLANK_TEXT}*{hint}:\n\n{lines}"
        case Code():
            return _code(block)
        case Fold():
            return _folded(block.summary, _blocks(block.blocks))
        case LineChart() | BarChart() | DotChart() | Histogram():
            return _chart(block)


def _chart(chart: Chart) -> str:
    table = _table(chart_table(chart), with_caption=False)
    return f"**Chart: {escape(chart.title)}**\n\n{_paragraph((chart.alternative,))}\n\n" + _folded(
        "The numbers behind this chart", [table]
    )


def _folded(summary: str, blocks: Iterable[str]) -> str:
    # This line is HTML: a backslash would be shown in it.
    title = html.escape(visible(summary))
    return "\n\n".join((f"<details><summary>{title}</summary>", *blocks, "</details>"))


def _paragraph(spans: Sequence[Inline]) -> str:
    """Text that begins a block of its own and must not be taken for the sign of another kind of block."""
    return _BLOCK_START.sub(_escaped_start, _inline(spans))


def _escaped_start(found: re.Match[str]) -> str:
    space, sign, number, stop = found.groups()
    return f"{space}\\{sign}" if sign else f"{space}{number}\\{stop}"


def _inline(spans: Sequence[Inline], *, in_table: bool = False) -> str:
    written = ""
    after_emphasis = False
    for span in spans:
        text, emphasised = _span(span, in_table=in_table), _is_emphasis(span)
        ends = after_emphasis and written.endswith("*") and _WORD_FIRST.match(text)
        begins = emphasised and text.startswith("*") and _WORD_LAST.search(written)
        # Signs between two words are no emphasis to a reader of Markdown, who then sees the asterisks.
        written += f" {text}" if ends or begins else text
        if text:
            after_emphasis = emphasised
    return written


def _is_emphasis(span: Inline) -> bool:
    return isinstance(span, Span) and span.style is not Style.CODE and bool(span.text.strip())


def _span(span: Inline, *, in_table: bool = False) -> str:
    if isinstance(span, str):
        return escape(span)
    if span.style is Style.CODE:
        return code_span(span.text, in_table=in_table)
    sign = "**" if span.style is Style.STRONG else "*"
    bare = span.text.strip()
    if not bare:
        return escape(span.text)
    # Emphasis does not begin or end at a space: what surrounds the words stands outside of the signs.
    before, _, after = span.text.partition(bare)
    return f"{escape(before)}{sign}{escape(bare)}{sign}{escape(after)}"


def _cell(value: Cell, column: Column | None = None) -> str:
    if isinstance(value, Verdict):
        return verdict_text(value)
    if isinstance(value, Blank):
        return _ROOM_TO_WRITE
    if is_quiet(value):
        return f"*{escape(cell_text(value, column))}*"
    if isinstance(value, Span) and (is_code(value) or value.text):
        return _span(value, in_table=True)
    return escape(cell_text(value, column))


def _table(block: Table, *, with_caption: bool = True) -> str:
    with_verdict = any(one.verdict for one in block.rows)
    heads = [escape(header_text(column)) for column in block.columns] + (["Verdict"] if with_verdict else [])
    rules = ["---:" if column.align is Align.RIGHT else "---" for column in block.columns] + ["---"] * with_verdict
    rows = []
    for one in block.rows:
        cells = [_cell(value, column) for value, column in zip(one.cells, block.columns, strict=True)]
        if with_verdict:
            cells.append(verdict_text(one.verdict) if one.verdict else f"*{NO_VERDICT}*")
        rows.append(cells)
    if not rows:
        rows = [["*no rows*", *[""] * (len(heads) - 1)]]
    parts = [f"**{escape(block.caption)}**"] if with_caption else []
    parts.append(_grid(heads, rules, rows))
    if block.note:
        parts.append(f"*{escape(block.note)}*")
    return "\n\n".join(parts)


def _verdicts(block: VerdictTable) -> str:
    rows = [
        [escape(one.name), escape(one.target), _cell(one.measured), verdict_text(one.verdict), escape(one.note)]
        for one in block.rows
    ]
    rows += [
        [escape(title), f"*{NO_PROMISE}*", _cell(figure), f"*{NO_VERDICT}*", JUDGED_BY_NOTHING]
        for title, figure in block.unjudged
    ]
    rows = rows or [["*no objectives*", "", "", "", ""]]
    heads = ["Objective", "Target", "Measured", "Verdict", "Note"]
    return f"**{escape(block.caption)}**\n\n" + _grid(heads, ["---"] * 5, rows)


def _timeline(block: Timeline) -> str:
    rows = [
        [
            escape(seconds_text(moment.at_seconds)),
            _moment(moment.title, milestone=moment.milestone),
            _inline(moment.detail, in_table=True),
            code_span(moment.reference, in_table=True) if moment.reference else "",
        ]
        for moment in block.moments
    ] or [[f"*{NOT_MEASURED}*", "", "", ""]]
    return f"**{escape(block.caption)}**\n\n" + _grid(
        ["At", "What", "Detail", "Event"], ["---:", "---", "---", "---"], rows
    )


def _moment(title: str, *, milestone: bool) -> str:
    return f"**{escape(title)}**" if milestone else escape(title)


def _key_values(block: KeyValues) -> str:
    return _grid(["", ""], ["---", "---"], [[escape(name), _cell(value)] for name, value in block.items])


def _grid(heads: Sequence[str], rules: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rules, *rows))


def _code(block: Code) -> str:
    text = visible(block.text, keep_newlines=True).rstrip("\n")
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * max(3, longest + 1)
    caption = f"**{escape(block.caption)}**\n\n" if block.caption else ""
    language = re.sub(r"[^A-Za-z0-9+-]", "", block.language)
    return f"{caption}{fence}{language}\n{text}\n{fence}"
