"""What a call cost, written into its trace: the seven parts, the prices they rest on, and those that are missing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from exitramp.finops.prices import Price, PriceBook
from exitramp.finops.unit_cost import ZERO_USD, CostPart, RequestCost
from exitramp.records import TraceRecord

_COLUMNS: Final = {
    CostPart.INPUT: "cost_input_usd",
    CostPart.GENERATION: "cost_generation_usd",
    CostPart.RETRIEVAL: "cost_retrieval_usd",
    CostPart.RERANK: "cost_rerank_usd",
    CostPart.VECTOR_IO: "cost_vector_io_usd",
    CostPart.ORCHESTRATION: "cost_orchestration_usd",
    CostPart.HUMAN: "cost_human_usd",
}


def with_unit_cost(record: TraceRecord, cost: RequestCost, book: PriceBook) -> TraceRecord:
    """The record with its cost by `book` written into it; an unknown part stays None, and says what is missing."""
    parts: dict[str, Any] = {column: cost.parts[part].usd for part, column in _COLUMNS.items()}
    prices = sorted({price for part in cost.parts.values() for price in part.prices}, key=lambda price: price.id)
    return replace(
        record,
        **parts,
        unit_cost_usd=cost.unit_cost_usd,
        cost_source=_named(book),
        price_ids=tuple(price.id for price in prices),
        price_validity=tuple(_validity(price) for price in prices),
        prices_missing=tuple(str(gap) for gap in cost.missing),
    )


def of_unknown_cost(record: TraceRecord) -> TraceRecord:
    """The record of a call that may have been billed though nobody said what it used: 0 tokens would be a lie."""
    return replace(record, unit_cost_usd=None, cost_input_usd=None, cost_generation_usd=None)


def free_of_cost(record: TraceRecord, book: PriceBook) -> TraceRecord:
    """The record of what costs nothing by itself: on one's own machine, kept from before, or billed elsewhere."""
    parts: dict[str, Any] = dict.fromkeys(_COLUMNS.values(), ZERO_USD)
    return replace(record, **parts, unit_cost_usd=ZERO_USD, cost_source=_named(book))


def _named(book: PriceBook) -> str:
    return f"{book.name}@sha256:{book.sha256[:12]}"


def _validity(price: Price) -> str:
    last = "" if price.valid_to is None else price.valid_to.isoformat()
    return f"{price.valid_from.isoformat()}/{last}"
