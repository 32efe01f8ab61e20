"""The text of one cell, the same in every renderer."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from exitramp.records import Verdict
from exitramp.report.model import Absent, Blank, Cell, Column, Notice, Quantity, Span, Style
from exitramp.report.text import (
    EMPTY_TEXT,
    NO_BREAK,
    NOT_APPLICABLE_TEXT,
    NOT_MEASURED,
    number_text,
    with_unit,
)

VERDICT_WORDS = {Verdict.PASS: "Pass", Verdict.FAIL: "Fail", Verdict.INCONCLUSIVE: "Inconclusive"}
VERDICT_MEANINGS = {
    Verdict.PASS: "every objective was measured and met",
    Verdict.FAIL: "at least one objective or check was measured and missed",
    Verdict.INCONCLUSIVE: "nothing failed, but too little is known to say that it passed",
}
NOTICE_WORDS = {
    Notice.MOCK: "Mock",
    Notice.SIMULATED: "Simulated",
    Notice.UNSIGNED: "Unsigned",
    Notice.WARNING: "Warning",
    Notice.INFO: "Note",
}
BLANK_TEXT = "to be filled in"
NO_PROMISE = "no number promised"
NO_VERDICT = "no verdict"
JUDGED_BY_NOTHING = "measured, and judged by nothing"


def cell_text(cell: Cell, column: Column | None = None) -> str:
    """What stands in the cell. A `Blank` gives its label; its renderer draws the room to write in."""
    if cell is None:
        return NOT_MEASURED
    if isinstance(cell, Absent):
        return NOT_APPLICABLE_TEXT
    if isinstance(cell, Verdict):
        return VERDICT_WORDS[cell]
    if isinstance(cell, Blank):
        return cell.label
    if isinstance(cell, Span):
        return cell.text or EMPTY_TEXT
    if isinstance(cell, str):
        return cell or EMPTY_TEXT
    if isinstance(cell, Quantity):
        return quantity_text(cell)
    if isinstance(cell, datetime):
        return moment_text(cell)
    return number_text(cell, column.decimals if column else None)


def quantity_text(quantity: Quantity) -> str:
    """`0.97 (0.93 to 0.99)`, each end of the interval to the same places as the value."""
    text = with_unit(number_text(quantity.value, quantity.decimals), quantity.unit)
    if quantity.low is None and quantity.high is None:
        return text
    ends = [
        NOT_MEASURED if end is None else with_unit(number_text(end, quantity.decimals), quantity.unit)
        for end in (quantity.low, quantity.high)
    ]
    return f"{text} ({ends[0]} to {ends[1]})"


def moment_text(moment: datetime) -> str:
    """`2030-01-01 09:30:12 UTC`. Raises ValueError when `moment` has no zone."""
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone cannot be written down")
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}{NO_BREAK}UTC"


def is_quiet(cell: Cell) -> bool:
    """Whether the cell says that there is nothing to say, and is set in a quieter type."""
    return cell is None or isinstance(cell, Absent) or cell == "" or (isinstance(cell, Span) and not cell.text)


def is_code(cell: Cell) -> bool:
    return isinstance(cell, Span) and cell.style is Style.CODE and bool(cell.text)


def is_number(cell: Cell) -> bool:
    return isinstance(cell, int | float | Decimal | Quantity)


def header_text(column: Column) -> str:
    """`Latency (ms)`."""
    return f"{column.title} ({column.unit})" if column.unit else column.title
