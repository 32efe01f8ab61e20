"""Section 12: what a request costs before and after, by the month, and what leaving costs once."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from exitramp.report.model import (
    Block,
    Bullets,
    Callout,
    Cell,
    Column,
    Inline,
    Notice,
    Row,
    Section,
    Table,
    numbers,
    prose,
    row,
    strong,
)
from exitramp.report.sections.charts import COST_PARTS, cost_chart
from exitramp.report.sections.fields import Data, count, flag, money, objects, part, word, words
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.prices import price_sources
from exitramp.report.sections.words import counted, listed, not_measured, sentence
from exitramp.report.text import NO_BREAK, number_text

_LINES: Final = {
    "egress": "Egress: the data leave the primary",
    "re_embedding": "Embedding anew",
    "parallel_run_primary": "Parallel run: the primary",
    "parallel_run_substitute": "Parallel run: the substitute",
    "read_out": "Reading everything out",
    "load": "Writing everything into the substitute",
    "labour": "People’s time",
}
_NOT_COUNTED: Final = "not counted"


def cost_section(journal: Journal) -> Section:
    found = journal.data("cost")
    comparison = part(found, "comparison")
    if not comparison:
        return Section(12, "Cost before, after and once", (not_measured(journal, "cost"),), "cost")
    blocks: list[Block] = []
    if flag(comparison, "illustrative") or flag(found, "exit", "illustrative"):
        blocks.append(
            Callout(
                Notice.MOCK,
                "prices are illustrative",
                (
                    prose(
                        "The price book marks them as made up: mock vendors, and stores on one’s own machine, send no"
                        " bill. The figures show the method. Put your own contract’s prices in before showing them to"
                        " anyone who decides."
                    ),
                ),
            )
        )
    blocks += [*_gaps(journal, found), *_assumed(journal)]
    chart = cost_chart(comparison)
    if chart is not None:
        blocks.append(chart)
    blocks += [*_compared(comparison), *_once(part(found, "exit")), *price_sources(found)]
    return Section(12, "Cost before, after and once", tuple(blocks), "cost")


def _gaps(journal: Journal, found: Data) -> Iterator[Block]:
    """Prices that are not in the book: of what rests on them no figure is known."""
    comparison, leaving = part(found, "comparison"), part(found, "exit")
    missing = (*words(comparison, "before", "missing_prices"), *words(comparison, "after", "missing_prices"))
    missing = (*missing, *words(comparison, "missing_fixed_prices"))
    book = word(found, "price_book", "name")
    lines = [each for each in objects(leaving, "lines") if money(each, "usd") is None and word(each, "source") == book]
    missing = (*missing, *(word(each, "note") for each in lines))
    missing = tuple(dict.fromkeys(filter(None, missing))) or _told(journal, "cost.missing_prices")
    if missing:
        body = (Bullets(tuple((each,) for each in missing)),)
        yield Callout(Notice.WARNING, "prices are missing, so what rests on them is not known", body)


def _assumed(journal: Journal) -> Iterator[Block]:
    told = _told(journal, "cost.assumed_requests")
    if told:
        body = tuple(prose(sentence(each)) for each in told)
        yield Callout(Notice.WARNING, "the number of requests a month is assumed, not known", body)


def _told(journal: Journal, code_: str) -> tuple[str, ...]:
    step = journal.step("cost")
    return tuple(word(each, "message") for each in step.findings if word(each, "code") == code_) if step else ()


def _compared(comparison: Data) -> Iterator[Block]:
    parts = part(comparison, "parts")
    order = [*(name for name in COST_PARTS if name in parts), *(name for name in parts if name not in COST_PARTS)]
    means = part(comparison, "mean")
    yield Table(
        "Cost of one request, mean by part, in USD",
        _sides("Part", 5),
        (
            *(_change(COST_PARTS.get(name, name), part(parts, name)) for name in order),
            _change("Together: mean of a request", means),
            _change("Half of all requests cost at most", part(comparison, "p50")),
            _change("95% of all requests cost at most", part(comparison, "p95")),
        ),
        # Of a pass the figures above and the objective say it; of anything else each digit may matter.
        note="" if word(comparison, "verdict") == "pass" else sentence(word(comparison, "reason")),
    )
    requests = count(comparison, "monthly_requests")
    volume = f" at {counted(requests, 'request')}" if requests is not None else ""
    yield Table(f"By the month{volume}, in USD", _sides("What", 2), (_change("Run-rate", part(comparison, "monthly")),))
    cases = part(comparison, "use_cases")
    if cases:
        yield Table(
            "By use case: mean of a request, in USD",
            _sides("Use case", 5),
            tuple(_change(name, part(cases, name)) for name in sorted(cases)),
        )
    if flag(comparison, "mix_differs"):
        yield prose("The two sides hold other shares of use cases: read the use cases, not the mean of all.")


def _sides(first: str, decimals: int) -> tuple[Column, ...]:
    return (
        Column(first),
        numbers("Primary", "", decimals),
        numbers("Substitute", "", decimals),
        numbers("Difference", "", decimals),
    )


def _change(title: str, change: Data) -> Row:
    cells: list[Cell] = [money(change, name) for name in ("before_usd", "after_usd", "difference_usd")]
    return row(title, *cells)


def _once(leaving: Data) -> Iterator[Block]:
    lines = objects(leaving, "lines")
    if not lines:
        yield prose(strong("Not measured."), " What leaving costs once is not in the journal.")
        return
    rows = [
        row(
            _LINES.get(word(each, "name"), word(each, "name").replace("_", " ")),
            _quantity(each),
            money(each, "usd"),
            "; ".join(filter(None, (word(each, "note"), word(each, "source")))) or "not stated",
        )
        for each in lines
    ]
    rows += [
        row(_LINES.get(name, name.replace("_", " ")), _NOT_COUNTED, _NOT_COUNTED, "no drill sees it: yours to add")
        for name in words(leaving, "not_included")
    ]
    unknown = [_LINES.get(name, name) for name in words(leaving, "unknown")]
    note = f"Unknown, and so is every sum that holds it: {listed(unknown)}." if unknown else ""
    if "additional_usd" in leaving:
        yield prose(*_sums(leaving))
        sums = [
            row("Leaving adds", "without what would be paid anyway", money(leaving, "additional_usd"), "their sum"),
            row("With what would be paid anyway", "all lines above", money(leaving, "total_usd"), "their sum"),
        ]
    else:
        sums = [row("Together, of what was counted", "all lines above", money(leaving, "total_usd"), "their sum")]
        note = f"{note} This journal does not say what of it would be paid without leaving, too.".strip()
    yield Table(
        "What leaving costs once, in USD",
        (Column("What"), Column("How much"), numbers("USD", "", 2), Column("From")),
        (*rows, *sums),
        note=note,
    )


def _sums(leaving: Data) -> Iterator[Inline]:
    adds, whole = money(leaving, "additional_usd"), money(leaving, "total_usd")
    anyway = [each for each in objects(leaving, "lines") if flag(each, "paid_anyway")]
    yield strong("What leaving adds is not known." if adds is None else f"Leaving adds {_usd(adds)}.")
    if anyway:
        if whole is not None:
            yield f" With what would be paid anyway it is {_usd(whole)}."
        else:
            yield " What it comes to with what would be paid anyway is not known."
        named = [_LINES.get(word(each, "name"), word(each, "name")) for each in anyway]
        yield f" Paid without leaving, too: {listed(named)}."
    left = [_LINES.get(name, name) for name in words(leaving, "not_included")]
    if left:
        yield f" Not counted: {listed(left)}."


def _usd(amount: Decimal) -> str:
    return f"{number_text(amount, 2).replace('< ', 'less than ')}{NO_BREAK}USD"


def _quantity(line: Data) -> Cell:
    amount = money(line, "quantity")
    if amount is None:
        return None
    whole: int | Decimal = int(amount) if amount == amount.to_integral_value() else amount
    unit = word(line, "counted")
    return f"{number_text(whole)} {unit.removesuffix('s') if whole == 1 else unit}".strip()
