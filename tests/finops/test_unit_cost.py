"""The seven parts by hand, and what must hold for any of them."""

from __future__ import annotations

import decimal
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exitramp.errors import DataInvalid
from exitramp.finops.prices import Price, PriceBook, Unit
from exitramp.finops.recorded import with_unit_cost
from exitramp.finops.unit_cost import Billed, Billing, CostPart, request_costs, unit_cost
from exitramp.records import TraceRecord

Make = Callable[..., TraceRecord]
BILLING = Billing(reranker=Billed("reranker", "cross"))

USAGE = st.fixed_dictionaries(
    {
        "prompt_tokens": st.integers(0, 200_000),
        "gen_tokens": st.integers(0, 20_000),
        "queries": st.integers(0, 5),
        "vector_reads": st.integers(0, 500),
        "vector_writes": st.integers(0, 50),
        "rerank_n": st.integers(0, 200),
        "hitl_minutes": st.floats(0, 60).map(lambda minutes: round(minutes, 3)),
    }
)


def test_every_part_is_what_the_formula_says(book: PriceBook, record: Make) -> None:
    cost = unit_cost(
        record(
            prompt_tokens=1_000,
            cache_read_tokens=400,
            gen_tokens=200,
            queries=2,
            vector_reads=50,
            vector_writes=5,
            rerank_n=20,
            hitl_minutes=0.1,
        ),
        book,
        BILLING,
    )
    assert {part.value: str(amount.usd) for part, amount in cost.parts.items()} == {
        "input": "0.001600000",  # 600 x 2.50 / 1e6 + 400 x 0.25 / 1e6
        "generation": "0.002000000",
        "retrieval": "0.000200000",
        "rerank": "0.000200000",
        "vector_io": "0.000420000",  # 50 x 8 / 1e6 + 5 x 4 / 1e6
        "orchestration": "0.000400000",
        "human_in_the_loop": "0.075000000",
    }
    assert str(cost.unit_cost_usd) == "0.079820000"
    assert "vendor-million_cache_read_tokens" in cost.price_ids
    assert not cost.illustrative


def test_cached_tokens_without_a_price_of_their_own_cost_as_much_as_others(book: PriceBook, record: Make) -> None:
    same = {"provider": "plainvendor", "model_id": "small", "prompt_tokens": 1_000}
    cached = unit_cost(record(**same, cache_read_tokens=900, cache_write_tokens=50), book)
    assert cached.parts[CostPart.INPUT] == unit_cost(record(**same), book).parts[CostPart.INPUT]
    assert cached.parts[CostPart.INPUT].usd == Decimal("0.001")


def test_what_was_not_used_costs_nothing_and_needs_no_price(book: PriceBook, record: Make) -> None:
    cost = unit_cost(record(provider="nobody", model_id="unheard-of", store=None), book)
    assert cost.unit_cost_usd == Decimal("0.0004")
    assert cost.missing == ()


@pytest.mark.parametrize(
    ("changes", "part", "unit"),
    [
        ({"provider": "nobody", "prompt_tokens": 1}, CostPart.INPUT, Unit.INPUT_TOKENS),
        ({"model_id": "x", "model_id_requested": "y", "gen_tokens": 1}, CostPart.GENERATION, Unit.OUTPUT_TOKENS),
        ({"store": "elsewhere", "queries": 1}, CostPart.RETRIEVAL, Unit.QUERY),
        ({"store": None, "vector_reads": 1}, CostPart.VECTOR_IO, Unit.VECTOR_READS),
        ({"rerank_n": 1}, CostPart.RERANK, Unit.RERANK_CANDIDATE),
        ({"ts": datetime(2025, 12, 31, 23, tzinfo=UTC)}, CostPart.ORCHESTRATION, Unit.ORCHESTRATION_REQUEST),
    ],
)
def test_an_unknown_price_makes_the_part_and_the_sum_unknown(
    book: PriceBook, record: Make, changes: dict[str, Any], part: CostPart, unit: Unit
) -> None:
    cost = unit_cost(record(**changes), book)
    assert cost.parts[part].usd is None
    assert cost.unit_cost_usd is None
    assert [gap.unit for gap in cost.missing] == [unit]
    assert cost.to_json()["unit_cost_usd"] is None


def test_a_model_that_answers_under_another_name_is_priced_as_the_one_asked_for(book: PriceBook, record: Make) -> None:
    cost = unit_cost(record(model_id="large-2026-04-01", gen_tokens=1_000), book)
    assert cost.parts[CostPart.GENERATION].usd == Decimal("0.01")


def test_a_store_over_http_has_the_prices_of_the_store(book: PriceBook, record: Make) -> None:
    assert unit_cost(record(store="chroma+http", queries=1), book).parts[CostPart.RETRIEVAL].usd == Decimal("0.0001")


def test_the_prices_are_those_of_the_utc_day(book: PriceBook, record: Make) -> None:
    new_year_in_the_east = datetime(2026, 1, 1, 3, tzinfo=timezone(timedelta(hours=5)))
    assert unit_cost(record(ts=new_year_in_the_east), book).unit_cost_usd is None
    assert unit_cost(record(ts=new_year_in_the_east + timedelta(hours=2)), book).unit_cost_usd is not None


def test_a_made_up_price_marks_the_cost(book: PriceBook, record: Make) -> None:
    assert unit_cost(record(provider="mock", model_id="toy", gen_tokens=1), book).illustrative
    assert not unit_cost(record(provider="mock", model_id="toy"), book).illustrative


@given(usage=USAGE, cached=st.integers(0, 200_000))
def test_the_parts_sum_to_the_unit_cost_exactly(
    book: PriceBook, record: Make, usage: dict[str, Any], cached: int
) -> None:
    cost = unit_cost(record(**usage, cache_read_tokens=min(cached, usage["prompt_tokens"])), book, BILLING)
    amounts = [part.usd for part in cost.parts.values()]
    assert all(amount is not None and amount.as_tuple().exponent == -9 for amount in amounts)
    assert sum(amounts) == cost.unit_cost_usd
    assert sum(map(Decimal, cost.to_json()["parts"].values())) == Decimal(cost.to_json()["unit_cost_usd"])


@given(usage=USAGE, field=st.sampled_from(["prompt_tokens", "gen_tokens", "queries", "vector_reads", "rerank_n"]))
def test_more_of_anything_never_costs_less(book: PriceBook, record: Make, usage: dict[str, Any], field: str) -> None:
    less = unit_cost(record(**usage), book, BILLING)
    more = unit_cost(record(**{**usage, field: usage[field] + 1}), book, BILLING)
    assert less.unit_cost_usd is not None
    assert more.unit_cost_usd is not None
    assert more.unit_cost_usd >= less.unit_cost_usd


@given(usage=USAGE, factor=st.integers(2, 50))
def test_twice_the_usage_is_twice_the_cost_but_for_what_is_allocated(
    book: PriceBook, record: Make, usage: dict[str, Any], factor: int
) -> None:
    # Every price here has few enough places that no part is rounded.
    once = unit_cost(record(**usage), book, BILLING)
    scaled = {name: Decimal(str(value)) * factor for name, value in usage.items()}
    minutes = float(scaled.pop("hitl_minutes"))
    counts = {name: int(value) for name, value in scaled.items()}
    often = unit_cost(record(**counts, hitl_minutes=minutes), book, BILLING)
    for part in set(CostPart) - {CostPart.ORCHESTRATION}:
        once_usd, often_usd = once.parts[part].usd, often.parts[part].usd
        assert once_usd is not None
        assert often_usd == once_usd * factor


@given(usage=USAGE)
def test_the_callers_decimal_context_changes_nothing(book: PriceBook, record: Make, usage: dict[str, Any]) -> None:
    plain = unit_cost(record(**usage), book, BILLING)
    with decimal.localcontext(decimal.Context(prec=3, rounding=decimal.ROUND_UP)):
        assert unit_cost(record(**usage), book, BILLING) == plain
        assert unit_cost(record(**usage), book, BILLING).unit_cost_usd == plain.unit_cost_usd


def test_the_attempts_of_a_request_add_up_and_orchestration_counts_once(book: PriceBook, record: Make) -> None:
    failed = record(status="error", prompt_tokens=1_000, possibly_billed=True)
    answered = record(attempt=2, provider="mock", model_id="toy", gen_tokens=1_000)
    other = record(request_id="r2")
    first, second = request_costs([answered, other, failed], book)
    assert (first.request_id, first.attempts, first.possibly_billed) == ("r1", 2, True)
    assert first.unit_cost_usd == Decimal("0.0025") + Decimal("0.002") + Decimal("0.0004")
    assert first.illustrative
    assert (second.request_id, second.possibly_billed) == ("r2", False)


def test_a_request_whose_first_attempt_is_not_in_the_trace_still_bears_its_orchestration(
    book: PriceBook, record: Make
) -> None:
    (cost,) = request_costs([record(attempt=3), record(attempt=2)], book)
    assert cost.unit_cost_usd == Decimal("0.0004")


def test_a_later_attempt_that_may_be_billed_marks_the_request(book: PriceBook, record: Make) -> None:
    (cost,) = request_costs([record(), record(attempt=2, possibly_billed=True)], book)
    assert cost.possibly_billed


@pytest.mark.parametrize(
    ("queries", "reads", "retrieval", "vector_io"),
    # 0.5e-9 a query; 1e-9 a read and 0.5e-9 a write: a part is added up first and rounded once, half to even.
    [(1, 1, "0", "2"), (2, 2, "1", "2"), (3, 3, "2", "4"), (5, 4, "2", "4")],
)
def test_a_part_is_rounded_once_half_to_even(
    record: Make, queries: int, reads: int, retrieval: str, vector_io: str
) -> None:
    day, rows = date(2026, 1, 1), []
    for unit, amount in ((Unit.QUERY, "5e-10"), (Unit.VECTOR_READS, "0.001"), (Unit.VECTOR_WRITES, "0.0005")):
        rows.append(Price(unit, "chroma", "vector_store", unit, Decimal(amount), "x", day, day, None, False))
    rows.append(Price("o", "own", "orchestration", Unit.ORCHESTRATION_REQUEST, Decimal(0), "x", day, day, None, False))
    cost = unit_cost(record(queries=queries, vector_reads=reads, vector_writes=1), PriceBook("fine", "", tuple(rows)))
    assert cost.parts[CostPart.RETRIEVAL].usd == Decimal(retrieval).scaleb(-9)
    assert cost.parts[CostPart.VECTOR_IO].usd == Decimal(vector_io).scaleb(-9)


def test_one_unknown_attempt_makes_the_request_unknown(book: PriceBook, record: Make) -> None:
    (cost,) = request_costs([record(gen_tokens=5), record(attempt=2, provider="nobody", gen_tokens=5)], book)
    assert cost.unit_cost_usd is None


def test_a_record_takes_its_cost_along(book: PriceBook, record: Make) -> None:
    traced = record(gen_tokens=100)
    assert with_unit_cost(traced, unit_cost(traced, book), book).unit_cost_usd == Decimal("0.0014")
    unknown = replace(traced, provider="nobody")
    assert with_unit_cost(unknown, unit_cost(unknown, book), book).unit_cost_usd is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"gen_tokens": -1}, "gen_tokens is -1"),
        ({"hitl_minutes": float("nan")}, "hitl_minutes is nan"),
        ({"prompt_tokens": 10, "cache_read_tokens": 8, "cache_write_tokens": 3}, "more cached than prompt tokens"),
        ({"ts": datetime(2026, 5, 6)}, "no zone"),
    ],
)
def test_a_record_that_cannot_be_is_refused_by_request(
    book: PriceBook, record: Make, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(DataInvalid, match=f"request 'r1', attempt 1: .*{says}"):
        unit_cost(record(**changes), book)


def test_a_trace_that_counts_an_attempt_twice_is_refused(book: PriceBook, record: Make) -> None:
    with pytest.raises(DataInvalid, match="attempt 1 of request 'r1' stands twice"):
        request_costs([record(), record()], book)
    with pytest.raises(DataInvalid, match="different use cases"):
        request_costs([record(), record(attempt=2, use_case_id="other")], book)


# -- what is asked beside an answer ----------------------------------------------------------------------------------


def _beside(record: Make, operation: str, number: int, **changes: Any) -> TraceRecord:
    ending = changes.pop("ending", operation)
    model = {"provider": "plainvendor", "model_id": "small", "model_id_requested": "small"}
    fields = {"request_id": f"r1:{ending}", "operation": operation, "attempt": number, "store": None}
    return record(**{**model, **fields, **changes})


def test_the_question_that_was_embedded_is_part_of_its_requests_retrieval(book: PriceBook, record: Make) -> None:
    answer = record(prompt_tokens=1_000, gen_tokens=100, queries=1)
    asked = _beside(record, "embed", 1, prompt_tokens=50)
    compared = _beside(record, "embed", 1, ending="cache", prompt_tokens=30)
    [alone] = request_costs([answer], book)
    [cost] = request_costs([compared, asked, answer], book)
    assert (cost.request_id, cost.attempts) == ("r1", 1)
    assert cost.parts[CostPart.INPUT] == alone.parts[CostPart.INPUT]
    assert cost.parts[CostPart.RETRIEVAL].usd == Decimal("0.00018")  # 0.0001 of the query, 80 tokens at 1 a million
    assert cost.parts[CostPart.ORCHESTRATION].usd == Decimal("0.0004"), "once, and not for each call beside it"
    assert cost.unit_cost_usd == (alone.unit_cost_usd or 0) + Decimal("0.00008")


def test_a_reranker_is_billed_by_candidates_or_by_tokens_and_never_by_both(book: PriceBook, record: Make) -> None:
    answer = record(prompt_tokens=1_000, rerank_n=20)
    by_tokens = _beside(record, "rerank", 2, prompt_tokens=400)
    [cost] = request_costs([by_tokens, answer], book)
    assert (cost.parts[CostPart.RERANK].usd, cost.missing) == (Decimal("0.0004"), ())
    named = {"provider": "reranker", "model_id": "cross-2", "model_id_requested": "cross"}
    [cost] = request_costs([_beside(record, "rerank", 2, prompt_tokens=400, **named), answer], book)
    assert (cost.parts[CostPart.RERANK].usd, cost.missing) == (Decimal("0.0002"), ())
    [cost] = request_costs([_beside(record, "rerank", 2, prompt_tokens=400, **named), answer], book, BILLING)
    assert cost.parts[CostPart.RERANK].usd == Decimal("0.0002")
    unknown = {"provider": "else", "model_id": "e-1", "model_id_requested": "e-1"}
    [cost] = request_costs([_beside(record, "rerank", 2, prompt_tokens=400, **unknown), answer], book)
    assert cost.unit_cost_usd is None
    assert [(gap.provider, gap.item) for gap in cost.missing] == [("else", "e-1")], "named by who it really is"


def test_an_embedder_that_reranks_costs_tokens_and_no_candidates(book: PriceBook, record: Make) -> None:
    answer = record(prompt_tokens=1_000, rerank_n=20)
    texts = _beside(record, "embed", 2, prompt_tokens=900)
    [cost] = request_costs([_beside(record, "embed", 1, prompt_tokens=10), texts, answer], book)
    assert (cost.parts[CostPart.RERANK].usd, cost.parts[CostPart.RETRIEVAL].usd) == (Decimal(0), Decimal("0.00091"))


def test_an_embedder_on_this_machine_costs_nothing_and_a_hosted_one_without_a_price_is_unknown(
    book: PriceBook, record: Make
) -> None:
    answer = record(prompt_tokens=1_000)
    own = _beside(record, "embed", 1, prompt_tokens=50, provider="minilm", model_id="m", model_id_requested="m")
    [alone], [cost] = request_costs([answer], book), request_costs([own, answer], book)
    assert cost.unit_cost_usd == alone.unit_cost_usd
    hosted = replace(own, provider="hosted")
    [cost] = request_costs([hosted, answer], book)
    assert cost.parts[CostPart.RETRIEVAL].usd is None
    assert cost.unit_cost_usd is None


def test_one_record_beside_an_answer_is_charged_no_orchestration(book: PriceBook, record: Make) -> None:
    cost = unit_cost(_beside(record, "embed", 1, prompt_tokens=50), book)
    assert cost.unit_cost_usd == cost.parts[CostPart.RETRIEVAL].usd == Decimal("0.00005")


def test_texts_that_were_embedded_for_themselves_are_a_request_with_input(book: PriceBook, record: Make) -> None:
    own = _beside(record, "embed", 1, request_id="e1", prompt_tokens=50)
    answer = record(request_id="a:embed", prompt_tokens=100)  # an id that only looks like one
    costs = {cost.request_id: cost for cost in request_costs([own, answer], book)}
    assert set(costs) == {"e1", "a:embed"}
    assert costs["e1"].parts[CostPart.INPUT].usd == Decimal("0.00005")
    assert costs["e1"].parts[CostPart.ORCHESTRATION].usd == Decimal("0.0004")


def test_a_request_that_got_no_further_than_its_question_is_still_one(book: PriceBook, record: Make) -> None:
    [cost] = request_costs([_beside(record, "embed", 1, prompt_tokens=50)], book)
    assert (cost.request_id, cost.attempts) == ("r1", 0)
    assert cost.parts[CostPart.ORCHESTRATION].usd == Decimal("0.0004")
