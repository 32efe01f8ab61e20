"""Prices for a drill: what an attempt cost while it runs, and the comparison before and after."""

from __future__ import annotations

from collections.abc import Callable

from exitramp.drill.inputs import load_prices
from exitramp.drill.run import DrillRun
from exitramp.finops.prices import PriceBook
from exitramp.finops.recorded import with_unit_cost
from exitramp.finops.unit_cost import unit_cost
from exitramp.orchestration.load import LoadEnd, LoadRequest
from exitramp.records import TraceRecord


def price_book(run: DrillRun) -> PriceBook | None:
    """The drill's price book, read once."""
    if "prices" not in run.shared:
        run.shared["prices"] = load_prices(run.spec)
    book: PriceBook | None = run.shared["prices"]
    return book


def attempt_price(run: DrillRun) -> Callable[[TraceRecord], TraceRecord] | None:
    """What writes its cost into an attempt's trace; None where the drill has no prices."""
    book = price_book(run)
    if book is None:
        return None
    return lambda record: with_unit_cost(record, unit_cost(record, book), book)


def count_request(run: DrillRun, request: LoadRequest) -> None:
    """Count a request of a stream towards the stop conditions."""
    traces = request.outcome.traces if request.outcome is not None else ()
    run.count(traces, failed=request.end is LoadEnd.FAILED)
