"""Part of section 12: the rows of the price book on which its figures rest, so that each can be looked up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from exitramp.report.model import (
    NOT_APPLICABLE,
    Block,
    Bullets,
    Cell,
    Column,
    Fold,
    Row,
    Table,
    code,
    prose,
    row,
)
from exitramp.report.sections.fields import Data, flag, money, objects, part, word, words
from exitramp.report.sections.words import counted
from exitramp.report.text import NO_BREAK, number_text

_UNITS: Final = {
    "usd_per_million_input_tokens": "a million input tokens",
    "usd_per_million_cache_read_tokens": "a million tokens read from the cache",
    "usd_per_million_cache_write_tokens": "a million tokens written to the cache",
    "usd_per_million_output_tokens": "a million output tokens",
    "usd_per_query": "a query",
    "usd_per_rerank_candidate": "a candidate reranked",
    "usd_per_million_vector_reads": "a million vectors read",
    "usd_per_million_vector_writes": "a million vectors written",
    "usd_per_gb_egress": "a GB of egress",
    "usd_per_request_orchestration": "a request",
    "usd_per_hitl_minute": "a minute of a person",
    "usd_per_month": "a month",
}
_USES: Final = {
    "request:primary": "requests, primary",
    "request:substitute": "requests, substitute",
    "month:primary": "the month, primary",
    "month:substitute": "the month, substitute",
    "exit:egress": "egress",
    "exit:re_embedding": "embedding anew",
    "exit:read_out": "reading out",
    "exit:load": "writing in",
}


def price_sources(found: Data) -> Iterator[Block]:
    """The price book, and every row that a figure rests on. Of an older journal, which holds no rows, their ids."""
    book, rows, ids = part(found, "price_book"), objects(found, "prices_used"), _ids(found)
    if not book and not rows and not ids:
        return
    told: list[Block] = []
    if book:
        told.append(prose(f"Price book {word(book, 'name')}, SHA-256 ", code(word(book, "sha256")), "."))
    if rows:
        told.append(_table(rows))
    elif ids:
        told += [
            prose("This journal holds the ids of the prices alone; the rows themselves stand in the price book."),
            Bullets(tuple((code(each),) for each in ids)),
        ]
    title = f"Where the prices come from: {counted(len(rows), 'row')} of the price book" if rows else ""
    yield Fold(title or "Where the prices come from", tuple(told))


def _ids(found: Data) -> list[str]:
    comparison = part(found, "comparison")
    ids = {*words(comparison, "before", "price_ids"), *words(comparison, "after", "price_ids")}
    return sorted(ids | {word(each, "price_id") for each in objects(found, "exit", "lines")} - {""})


def _table(rows: tuple[Data, ...]) -> Table:
    return Table(
        "Every price that a figure of this section rests on",
        (
            Column("Price"),
            Column("Of"),
            Column("Amount"),
            Column("Source, and when it holds"),
            Column("Made up"),
            Column("Used for"),
        ),
        tuple(_row(each) for each in rows),
        note="Made up: marked illustrative in the price book, and charged by nobody. The run-rates of a month and of"
        " the parallel run rest on the prices of requests and of the month together.",
    )


def _row(price: Data) -> Row:
    made_up = flag(price, "illustrative")
    return row(
        code(word(price, "id")),
        " / ".join(filter(None, (word(price, "provider"), word(price, "item")))) or None,
        _amount(price),
        "; ".join(filter(None, (word(price, "source"), *_dates(price)))) or None,
        None if made_up is None else "yes" if made_up else "no",
        "; ".join(_USES.get(each, each) for each in words(price, "used_for")) or NOT_APPLICABLE,
    )


def _amount(price: Data) -> Cell:
    """`2.50 USD a million input tokens`, the amount to the places that the price book gives it."""
    amount, unit = money(price, "amount"), word(price, "unit")
    if amount is None:
        return None
    shown = number_text(amount, max(0, -int(amount.as_tuple().exponent)))
    return f"{shown}{NO_BREAK}USD {_UNITS.get(unit, unit.replace('_', ' '))}".strip()


def _dates(price: Data) -> Iterator[str]:
    retrieved, since, until = (word(price, key) for key in ("retrieved", "valid_from", "valid_to"))
    if retrieved:
        yield f"retrieved {retrieved}"
    if since:
        yield f"holds from {since}" + (f" to {until}" if until else ", no end set")
