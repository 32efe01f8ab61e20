"""Before and after, by request, part, use case and month; never on nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exitramp.errors import DataInvalid
from exitramp.finops.comparison import CostSummary, compare_costs, monthly_run_rate, summarise_costs
from exitramp.finops.prices import PriceBook, Unit
from exitramp.finops.unit_cost import CostPart, request_costs
from exitramp.records import TraceRecord, Verdict

Make = Callable[..., TraceRecord]
DAY = date(2026, 5, 6)


@pytest.fixture
def side(book: PriceBook, record: Make) -> Callable[..., CostSummary]:
    def make(label: str, *tokens: int, provider: str = "vendor", model: str = "large", **use_cases: int) -> CostSummary:
        records = [
            record(request_id=f"{label}{number}", provider=provider, model_id=model, gen_tokens=count)
            for number, count in enumerate(tokens)
        ]
        records += [
            record(request_id=f"{label}-{name}", use_case_id=name, provider=provider, model_id=model, gen_tokens=count)
            for name, count in use_cases.items()
        ]
        return summarise_costs(request_costs(records, book), label=label)

    return make


def test_a_side_has_its_mean_median_and_percentile(side: Callable[..., CostSummary]) -> None:
    summary = side("before", 100, 200, 300, 400)
    assert summary.overall.requests == 4
    assert summary.overall.mean_usd == Decimal("0.0029")
    assert summary.overall.p50_usd == Decimal("0.0029")
    assert summary.overall.p95_usd == Decimal("0.00425")
    assert summary.total_usd == Decimal("0.0116")
    assert summary.part_means_usd[CostPart.GENERATION] == Decimal("0.0025")
    assert summary.part_means_usd[CostPart.ORCHESTRATION] == Decimal("0.0004")


def test_the_change_is_after_against_before(side: Callable[..., CostSummary]) -> None:
    result = compare_costs(side("primary", 1_000, 3_000), side("substitute", 500, 1_100), monthly_requests=1_000_000)
    assert (result.mean.before_usd, result.mean.after_usd) == (Decimal("0.0204"), Decimal("0.0084"))
    assert result.mean.difference_usd == Decimal("-0.0120")
    assert result.mean.ratio == Decimal("0.411764706")
    assert result.parts[CostPart.GENERATION].difference_usd == Decimal("-0.012")
    assert result.parts[CostPart.ORCHESTRATION].ratio == 1
    assert result.parts[CostPart.RERANK].ratio is None
    assert result.monthly.before_usd == Decimal(20_400)
    assert (result.verdict, result.reason) == (None, "compared; no cost cap was set")


def test_fixed_prices_enter_the_month_and_not_the_request(side: Callable[..., CostSummary], book: PriceBook) -> None:
    fee = book.look_up("chroma", "vector_store", Unit.MONTH, day=DAY)
    gap = book.look_up("qdrant", "vector_store", Unit.MONTH, day=DAY)
    result = compare_costs(
        side("a", 100), side("b", 100), monthly_requests=1_000, fixed_before=[fee], fixed_after=[gap]
    )
    assert result.monthly.before_usd == Decimal("71.4")
    assert result.monthly.after_usd is None
    assert [str(missing) for missing in result.missing_fixed] == [str(gap)]
    assert result.mean.difference_usd == 0


def test_the_month_is_scaled_from_the_total_and_not_from_a_rounded_mean(side: Callable[..., CostSummary]) -> None:
    summary = side("a", 1, 0, 0)
    assert summary.overall.mean_usd == Decimal("0.000403333")
    assert monthly_run_rate(summary, monthly_requests=3_000_000_000) == Decimal("1210000")


def test_no_requests_on_a_side_is_inconclusive(side: Callable[..., CostSummary]) -> None:
    for pair in ((side("empty"), side("full", 1)), (side("full", 1), side("empty")), (side("empty"), side("empty"))):
        result = compare_costs(*pair, monthly_requests=10, cap_usd_per_request=Decimal(1))
        assert result.verdict is Verdict.INCONCLUSIVE
        assert "empty: no requests" in result.reason
        assert result.mean.difference_usd is None
        assert result.mean.ratio is None
        assert result.monthly.difference_usd is None


def test_an_unknown_cost_on_a_side_is_inconclusive_and_named(side: Callable[..., CostSummary]) -> None:
    result = compare_costs(
        side("known", 1), side("odd", 1, provider="nobody"), monthly_requests=10, cap_usd_per_request=Decimal(1)
    )
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "nobody/large" in result.reason
    assert result.after.overall.mean_usd is None
    assert result.after.part_means_usd[CostPart.ORCHESTRATION] == Decimal("0.0004")


def test_a_cap_is_met_up_to_its_last_place(side: Callable[..., CostSummary]) -> None:
    before, after = side("before", 10), side("after", 100)
    met = compare_costs(before, after, monthly_requests=1, cap_usd_per_request=Decimal("0.0014"))
    broken = compare_costs(before, after, monthly_requests=1, cap_usd_per_request=Decimal("0.001399999"))
    assert (met.verdict, broken.verdict) == (Verdict.PASS, Verdict.FAIL)


def test_use_cases_are_compared_apart_and_a_different_mix_is_told(side: Callable[..., CostSummary]) -> None:
    before = side("before", api=100, docs=200)
    same = compare_costs(before, side("after", api=50, docs=200), monthly_requests=1)
    assert same.use_cases["api"].difference_usd == Decimal("-0.0005")
    assert same.use_cases["docs"].difference_usd == 0
    assert not same.mix_differs
    other = compare_costs(before, side("after", api=100, triage=200), monthly_requests=1)
    assert other.mix_differs
    assert other.use_cases["docs"].after_usd is None
    assert other.use_cases["triage"].difference_usd is None


def test_made_up_prices_mark_the_comparison(side: Callable[..., CostSummary]) -> None:
    real, toy = side("real", 1), side("toy", 1, provider="mock", model="toy")
    assert not compare_costs(real, real, monthly_requests=1).illustrative
    assert compare_costs(real, toy, monthly_requests=1).illustrative


def test_a_volume_or_cap_that_means_nothing_is_refused(side: Callable[..., CostSummary]) -> None:
    with pytest.raises(DataInvalid, match="monthly volume of 0"):
        compare_costs(side("a", 1), side("b", 1), monthly_requests=0)
    with pytest.raises(DataInvalid, match="cap"):
        compare_costs(side("a", 1), side("b", 1), monthly_requests=1, cap_usd_per_request=Decimal(-1))


def test_a_comparison_turns_into_json_without_exponents(side: Callable[..., CostSummary]) -> None:
    data = json.loads(json.dumps(compare_costs(side("a", 0), side("b", 1), monthly_requests=7).to_json()))
    assert data["mean"]["before_usd"] == "0.000400000"
    assert data["parts"]["rerank"]["after_usd"] == "0.000000000"
    assert data["before"]["overall"]["requests"] == 1


@given(tokens=st.lists(st.integers(0, 10**6), min_size=1, max_size=60))
def test_percentiles_equal_numpys_and_part_means_add_up_to_the_mean(
    book: PriceBook, record: Make, tokens: list[int]
) -> None:
    records = [record(request_id=str(number), gen_tokens=count) for number, count in enumerate(tokens)]
    costs = request_costs(records, book)
    summary = summarise_costs(costs, label="x")
    amounts = [float(cost.unit_cost_usd or 0) for cost in costs]
    assert float(summary.overall.p50_usd or 0) == pytest.approx(np.percentile(amounts, 50), abs=2e-9)
    assert float(summary.overall.p95_usd or 0) == pytest.approx(np.percentile(amounts, 95), abs=2e-9)
    assert summary.total_usd == sum((cost.unit_cost_usd or Decimal(0)) for cost in costs)
    gap = sum(usd or Decimal(0) for usd in summary.part_means_usd.values()) - (summary.overall.mean_usd or 0)
    assert abs(gap) <= Decimal("4e-9")


@given(tokens=st.lists(st.integers(0, 10**5), min_size=1, max_size=20), volume=st.integers(1, 10**6))
def test_the_run_rate_grows_with_the_volume(book: PriceBook, record: Make, tokens: list[int], volume: int) -> None:
    records = [record(request_id=str(number), gen_tokens=count) for number, count in enumerate(tokens)]
    summary = summarise_costs(request_costs(records, book), label="x")
    less = monthly_run_rate(summary, monthly_requests=volume)
    more = monthly_run_rate(summary, monthly_requests=2 * volume)
    assert less is not None
    assert more is not None
    assert abs(more - 2 * less) <= Decimal("2e-9")
