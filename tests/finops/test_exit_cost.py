"""What leaving costs once, line by line."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exitramp.errors import DataInvalid
from exitramp.finops.exit_cost import (
    Egress,
    ExitCost,
    Labour,
    ParallelRun,
    Reembedding,
    VectorTraffic,
    exit_cost,
)
from exitramp.finops.prices import PriceBook, plain
from exitramp.finops.unit_cost import Billed

STORE = Billed("chroma", "vector_store")
NONE_NEEDED = Reembedding(why_none="both sides use the same embedding model")


def leave(book: PriceBook, **changes: Any) -> ExitCost:
    wanted: dict[str, Any] = {
        "day": date(2026, 5, 6),
        "egress": Egress(2_500_000_000, STORE),
        "reembedding": NONE_NEEDED,
        "parallel_run": ParallelRun(30, Decimal(365), Decimal("73"), illustrative=False),
    }
    return exit_cost(book, **{**wanted, **changes})


def test_egress_is_billed_by_the_decimal_gigabyte_and_a_parallel_run_by_the_day(book: PriceBook) -> None:
    cost = leave(book)
    assert {line.name: plain(line.usd) for line in cost.lines} == {
        "egress": "0.225000000",
        "re_embedding": "0.000000000",
        "parallel_run_primary": "360.000000000",
        "parallel_run_substitute": "72.000000000",
    }
    assert cost.total_usd == Decimal("432.225")
    assert cost.additional_usd == Decimal("72.225")
    assert not cost.illustrative
    assert cost.lines[0].price_id == "chroma-gb_egress"
    assert cost.lines[0].source == "annex B"
    assert "paid without a switch" in cost.lines[2].note


def test_no_re_embedding_is_a_line_that_says_why(book: PriceBook) -> None:
    line = leave(book).lines[1]
    assert (line.usd, line.note) == (0, "both sides use the same embedding model")
    with pytest.raises(DataInvalid, match="why there are none"):
        Reembedding()
    with pytest.raises(DataInvalid, match="why there are none"):
        Reembedding(tokens=5, why_none="x")


def test_re_embedding_is_billed_by_the_token(book: PriceBook) -> None:
    cost = leave(book, reembedding=Reembedding(40_000_000, Billed("mock", "toy")))
    assert cost.lines[1].usd == Decimal(40)
    assert cost.illustrative


def test_reading_out_loading_and_labour_are_lines_where_asked_for_and_named_where_not(book: PriceBook) -> None:
    assert leave(book).not_included == ("read_out", "load", "labour")
    cost = leave(
        book,
        read_out=VectorTraffic(40_000_000, STORE),
        load=VectorTraffic(1_000_000, STORE),
        labour=Labour(Decimal("12.5"), Decimal(90), "two engineers' time sheets"),
    )
    assert [str(line.usd) for line in cost.lines[4:]] == ["320.000000000", "4.000000000", "1125.000000000"]
    assert cost.lines[-1].source == "two engineers' time sheets"
    assert cost.not_included == ()


def test_an_unknown_price_or_run_rate_makes_the_total_unknown_and_is_named(book: PriceBook) -> None:
    cost = leave(
        book,
        egress=Egress(1, Billed("qdrant", "vector_store")),
        parallel_run=ParallelRun(30, None, Decimal(1), illustrative=True),
    )
    assert cost.total_usd is None
    assert cost.unknown == ("egress", "parallel_run_primary")
    assert "qdrant/vector_store" in cost.lines[0].note
    assert cost.illustrative


def test_a_price_that_no_longer_holds_is_unknown(book: PriceBook) -> None:
    assert leave(book, day=date(2025, 1, 1)).unknown == ("egress",)


def test_negative_quantities_are_refused(book: PriceBook) -> None:
    for changes in (
        {"egress": Egress(-1, STORE)},
        {"parallel_run": ParallelRun(-1, Decimal(1), Decimal(1), illustrative=False)},
        {"parallel_run": ParallelRun(1, Decimal(-1), Decimal(1), illustrative=False)},
        {"labour": Labour(Decimal(-1), Decimal(1), "x")},
    ):
        with pytest.raises(DataInvalid, match="exit cost"):
            leave(book, **changes)


@given(payload_bytes=st.integers(0, 10**15), days=st.integers(0, 400))
def test_the_lines_sum_to_the_total_exactly_and_more_never_costs_less(
    book: PriceBook, payload_bytes: int, days: int
) -> None:
    run = ParallelRun(days, Decimal("812.345678901"), Decimal("99.99"), illustrative=False)
    cost = leave(book, egress=Egress(payload_bytes, STORE), parallel_run=run)
    more = leave(
        book,
        egress=Egress(payload_bytes + 1, STORE),
        parallel_run=ParallelRun(days + 1, run.primary_monthly_usd, run.substitute_monthly_usd, illustrative=False),
    )
    assert cost.total_usd == sum(line.usd or Decimal(0) for line in cost.lines)
    assert more.total_usd is not None
    assert cost.total_usd is not None
    assert more.total_usd > cost.total_usd


def test_an_exit_cost_turns_into_json(book: PriceBook) -> None:
    data = json.loads(json.dumps(leave(book).to_json()))
    assert data["total_usd"] == "432.225000000"
    assert data["lines"][1]["usd"] == "0.000000000"
    assert data["not_included"] == ["read_out", "load", "labour"]
