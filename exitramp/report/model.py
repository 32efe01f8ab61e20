"""The document that every renderer renders: values only, no markup, no drawing.

Text is never interpreted: what is to be strong or code says so as a `Span`. A value that was not measured is None and
is rendered as "not measured"; what cannot be measured by its nature is `NOT_APPLICABLE`; what a person must fill in
is a `Blank` and stays blank. A document that holds a Blank is unsigned.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Final

from exitramp.records import Verdict
from exitramp.report.figures import BarChart, DotChart, Histogram, LineChart
from exitramp.report.text import Number
from exitramp.report.walk import nodes, with_texts
from exitramp.secrets import redact


class Style(StrEnum):
    STRONG = "strong"
    EMPHASIS = "emphasis"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class Span:
    """Text set apart from the sentence it stands in."""

    text: str
    style: Style


Inline = str | Span
_ANCHOR = re.compile(r"[a-z][a-z0-9-]*\Z")


def strong(text: str) -> Span:
    return Span(text, Style.STRONG)


def emphasis(text: str) -> Span:
    return Span(text, Style.EMPHASIS)


def code(text: str) -> Span:
    """An id, a hash, a name, a command: set in a fixed width and broken anywhere."""
    return Span(text, Style.CODE)


class Absent(Enum):
    """Not a missing measurement but a question that does not arise."""

    NOT_APPLICABLE = "not applicable"


NOT_APPLICABLE: Final = Absent.NOT_APPLICABLE


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with its unit; `low` and `high` are the ends of its interval, where one was computed."""

    value: Number
    unit: str = ""
    decimals: int | None = None
    low: Number | None = None
    high: Number | None = None


@dataclass(frozen=True, slots=True)
class Blank:
    """What a person must fill in, with room for `lines` lines of handwriting."""

    label: str
    lines: int = 1
    hint: str = ""


Cell = str | int | float | Decimal | datetime | Span | Quantity | Verdict | Blank | Absent | None


@dataclass(frozen=True, slots=True)
class Paragraph:
    spans: tuple[Inline, ...]


def prose(*spans: Inline) -> Paragraph:
    """A paragraph of these parts, one after the other."""
    return Paragraph(spans)


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list; `ordered` numbers it."""

    items: tuple[tuple[Inline, ...], ...]
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Subheading:
    text: str


class Notice(StrEnum):
    """What a callout or stamp is about; each has a word, a shape and a colour of its own."""

    MOCK = "mock"
    SIMULATED = "simulated"
    UNSIGNED = "unsigned"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Callout:
    """Something the reader must not miss."""

    kind: Notice
    title: str
    body: tuple[Paragraph | Bullets, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyValues:
    items: tuple[tuple[str, Cell], ...]


class Align(StrEnum):
    LEFT = "left"
    RIGHT = "right"


@dataclass(frozen=True, slots=True)
class Column:
    """`unit` stands in the header, `decimals` rounds the column's plain numbers."""

    title: str
    unit: str = ""
    align: Align = Align.LEFT
    decimals: int | None = None


def numbers(title: str, unit: str = "", decimals: int | None = None) -> Column:
    """A column of numbers: aligned right."""
    return Column(title, unit, Align.RIGHT, decimals)


@dataclass(frozen=True, slots=True)
class Row:
    cells: tuple[Cell, ...]
    verdict: Verdict | None = None


def row(*cells: Cell, verdict: Verdict | None = None) -> Row:
    return Row(cells, verdict)


@dataclass(frozen=True, slots=True)
class Table:
    """The first column names its row. A table without rows says so; `note` stands below it."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""

    def __post_init__(self) -> None:
        for number, one in enumerate(self.rows, start=1):
            if len(one.cells) != len(self.columns):
                raise ValueError(
                    f"table {self.caption!r}: row {number} has {len(one.cells)} cells for {len(self.columns)} columns"
                )


@dataclass(frozen=True, slots=True)
class Objective:
    """One objective and how it came out. `key` is stable (`rto_seconds`) and names the JUnit testcase."""

    key: str
    name: str
    target: str
    measured: Cell
    verdict: Verdict
    note: str = ""

    def __post_init__(self) -> None:
        if self.verdict is Verdict.PASS and self.measured is None:
            raise ValueError(f"objective {self.key!r} passes although nothing was measured")


@dataclass(frozen=True, slots=True)
class VerdictTable:
    """Objectives with their verdicts; `unjudged` are names and figures of what was measured without a promise."""

    caption: str
    rows: tuple[Objective, ...]
    unjudged: tuple[tuple[str, Cell], ...] = ()


@dataclass(frozen=True, slots=True)
class Moment:
    """One entry of a timeline, `at_seconds` after its start. `reference` says where it is written down (`#17`)."""

    at_seconds: float | None
    title: str
    detail: tuple[Inline, ...] = ()
    reference: str = ""
    milestone: bool = False


@dataclass(frozen=True, slots=True)
class Timeline:
    caption: str
    moments: tuple[Moment, ...]


@dataclass(frozen=True, slots=True)
class Code:
    """Verbatim lines: a command, a configuration."""

    text: str
    language: str = ""
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Fold:
    """Detail that is closed on screen and always printed."""

    summary: str
    blocks: tuple[Block, ...]


Block = (
    Paragraph
    | Bullets
    | Subheading
    | Callout
    | KeyValues
    | Table
    | VerdictTable
    | Timeline
    | Blank
    | Code
    | LineChart
    | BarChart
    | DotChart
    | Histogram
    | Fold
)


@dataclass(frozen=True, slots=True)
class Section:
    """`anchor` is a stable name for links, of small letters, digits and hyphens; `new_page` starts a new sheet."""

    number: int
    title: str
    blocks: tuple[Block, ...]
    anchor: str
    new_page: bool = False

    def __post_init__(self) -> None:
        if not _ANCHOR.match(self.anchor):
            raise ValueError(f"section {self.number}: its anchor {self.anchor!r} is no plain word")


@dataclass(frozen=True, slots=True)
class Stamp:
    """A word that stands beside the verdict wherever it is shown."""

    kind: Notice
    text: str


@dataclass(frozen=True, slots=True)
class Meta:
    """What identifies a run. Hashes are lower-case hex; None where there is none.

    `is_anchored`: the run itself noted that head; only then may it be handed on as an anchor. `seconds`: how long the
    run took by a clock that nobody sets; without it the moments' difference stands for it.
    """

    run_id: str
    program: str
    generated_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    objectives_sha256: str | None = None
    event_log_head: str | None = None
    event_count: int | None = None
    is_anchored: bool = False
    seconds: float | None = None
    is_without_pauses: bool = False
    """Whether the run was interrupted and resumed: `seconds` are then fewer than from its start to its end."""

    @property
    def duration_seconds(self) -> float | None:
        if self.seconds is not None:
            return self.seconds
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at).total_seconds()


_RANK = {Verdict.PASS: 0, Verdict.INCONCLUSIVE: 1, Verdict.FAIL: 2}


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report. Raises ValueError for a verdict better than its objectives allow, or on none at all."""

    title: str
    subtitle: str
    verdict: Verdict
    verdict_reason: str
    meta: Meta
    objectives: tuple[Objective, ...]
    sections: tuple[Section, ...]
    stamps: tuple[Stamp, ...] = ()

    def __post_init__(self) -> None:
        allowed = Verdict.worst([objective.verdict for objective in self.objectives])
        if _RANK[self.verdict] < _RANK[allowed]:
            raise ValueError(f"a report cannot be {self.verdict.value} when its objectives are {allowed.value}")
        for what, names in (
            ("objective", [objective.key for objective in self.objectives]),
            ("section anchor", [section.anchor for section in self.sections]),
            ("section number", [section.number for section in self.sections]),
        ):
            if len(set(names)) != len(names):
                raise ValueError(f"a report names a {what} twice")

    @property
    def blank_count(self) -> int:
        """How many fields a person must still fill in."""
        return sum(isinstance(node, Blank) for node in nodes(self))

    @property
    def all_stamps(self) -> tuple[Stamp, ...]:
        """The stamps, and `unsigned` as long as something is blank: a program cannot sign."""
        signed = not self.blank_count or any(stamp.kind is Notice.UNSIGNED for stamp in self.stamps)
        return self.stamps if signed else (*self.stamps, Stamp(Notice.UNSIGNED, "unsigned"))


def masked(document: Document) -> Document:
    """`document` with every known secret in its texts masked: the last gate before anything is written."""
    return with_texts(document, redact)
