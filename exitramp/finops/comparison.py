"""Cost before and after: per request, by part, by use case, and by the month at a stated volume.

Percentiles interpolate between neighbours, as numpy's default and SQL's PERCENTILE_CONT do, but in decimals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any

from exitramp.errors import DataInvalid
from exitramp.finops.prices import MONEY, MissingPrice, Price, plain, round_usd
from exitramp.finops.unit_cost import CostPart, RequestCost, add_usd
from exitramp.records import Verdict


@dataclass(frozen=True, slots=True)
class Spread:
    """Cost per request over some requests; None where there are none, or one's cost is unknown."""

    requests: int
    mean_usd: Decimal | None = None
    p50_usd: Decimal | None = None
    p95_usd: Decimal | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "mean_usd": plain(self.mean_usd),
            "p50_usd": plain(self.p50_usd),
            "p95_usd": plain(self.p95_usd),
        }


@dataclass(frozen=True, slots=True)
class CostSummary:
    """One side. `part_means_usd` add up to the mean to within the rounding of seven means to nine places.

    `possibly_billed` counts requests that a vendor may charge more for than the trace shows.
    """

    label: str
    overall: Spread
    total_usd: Decimal | None
    part_means_usd: Mapping[CostPart, Decimal | None] = field(hash=False)
    use_cases: Mapping[str, Spread] = field(hash=False)
    price_ids: tuple[str, ...] = ()
    illustrative: bool = False
    missing: tuple[MissingPrice, ...] = ()
    possibly_billed: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "overall": self.overall.to_json(),
            "total_usd": plain(self.total_usd),
            "part_means_usd": {part.value: plain(usd) for part, usd in self.part_means_usd.items()},
            "use_cases": {name: spread.to_json() for name, spread in self.use_cases.items()},
            "price_ids": list(self.price_ids),
            "illustrative": self.illustrative,
            "missing_prices": [str(gap) for gap in self.missing],
            "possibly_billed": self.possibly_billed,
        }


@dataclass(frozen=True, slots=True)
class Change:
    """After against before. `ratio` is None where before is zero or either is unknown."""

    before_usd: Decimal | None
    after_usd: Decimal | None

    @property
    def difference_usd(self) -> Decimal | None:
        if self.before_usd is None or self.after_usd is None:
            return None
        return MONEY.subtract(self.after_usd, self.before_usd)

    @property
    def ratio(self) -> Decimal | None:
        if self.before_usd is None or self.after_usd is None or self.before_usd == 0:
            return None
        return round_usd(MONEY.divide(self.after_usd, self.before_usd))

    def to_json(self) -> dict[str, Any]:
        return {
            "before_usd": plain(self.before_usd),
            "after_usd": plain(self.after_usd),
            "difference_usd": plain(self.difference_usd),
            "ratio": plain(self.ratio),
        }


@dataclass(frozen=True, slots=True)
class CostComparison:
    """Both sides and what changed. `verdict` is None while there is a result but no cap to hold it to.

    `monthly` is mean x `monthly_requests` plus the fixed monthly prices, unknown if one of them is in
    `missing_fixed`. `mix_differs` says that the two sides hold
    other shares of use cases, so that the overall mean compares unlike things and the use cases should be read.
    """

    before: CostSummary
    after: CostSummary
    verdict: Verdict | None
    reason: str
    monthly_requests: int
    mean: Change
    p50: Change
    p95: Change
    monthly: Change
    parts: Mapping[CostPart, Change] = field(hash=False)
    use_cases: Mapping[str, Change] = field(hash=False)
    mix_differs: bool = False
    missing_fixed: tuple[MissingPrice, ...] = ()
    fixed_illustrative: bool = False
    cap_usd_per_request: Decimal | None = None

    @property
    def illustrative(self) -> bool:
        return self.before.illustrative or self.after.illustrative or self.fixed_illustrative

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict.value if self.verdict else None,
            "reason": self.reason,
            "illustrative": self.illustrative,
            "monthly_requests": self.monthly_requests,
            "cap_usd_per_request": plain(self.cap_usd_per_request),
            "mean": self.mean.to_json(),
            "p50": self.p50.to_json(),
            "p95": self.p95.to_json(),
            "monthly": self.monthly.to_json(),
            "parts": {part.value: change.to_json() for part, change in self.parts.items()},
            "use_cases": {name: change.to_json() for name, change in self.use_cases.items()},
            "mix_differs": self.mix_differs,
            "missing_fixed_prices": [str(gap) for gap in self.missing_fixed],
            "before": self.before.to_json(),
            "after": self.after.to_json(),
        }


def summarise_costs(costs: Iterable[RequestCost], *, label: str) -> CostSummary:
    """One side's figures; with a single unknown cost in it the means and percentiles over it are unknown too."""
    listed = tuple(costs)
    grouped: dict[str, list[RequestCost]] = {}
    for cost in listed:
        grouped.setdefault(cost.use_case_id, []).append(cost)
    return CostSummary(
        label=label,
        overall=_spread([cost.unit_cost_usd for cost in listed]),
        total_usd=add_usd(cost.unit_cost_usd for cost in listed),
        part_means_usd={part: _mean([cost.parts[part].usd for cost in listed]) for part in CostPart},
        use_cases={name: _spread([cost.unit_cost_usd for cost in group]) for name, group in sorted(grouped.items())},
        price_ids=tuple(sorted({price for cost in listed for price in cost.price_ids})),
        illustrative=any(cost.illustrative for cost in listed),
        missing=tuple(dict.fromkeys(gap for cost in listed for gap in cost.missing)),
        possibly_billed=sum(cost.possibly_billed for cost in listed),
    )


def compare_costs(
    before: CostSummary,
    after: CostSummary,
    *,
    monthly_requests: int,
    fixed_before: Iterable[Price | MissingPrice] = (),
    fixed_after: Iterable[Price | MissingPrice] = (),
    cap_usd_per_request: Decimal | None = None,
) -> CostComparison:
    """Set two sides against each other.

    `fixed_before` and `fixed_after` are what each side pays by the month, as `PriceBook.look_up` gives it. The
    verdict is inconclusive if a side has no requests or an unknown cost; else, with a cap, whether the mean after
    the switch is within it. Raises `DataInvalid` for a volume below 1 or a negative cap.
    """
    if monthly_requests < 1:
        raise DataInvalid(f"a monthly volume of {monthly_requests} requests is nothing to compare")
    if cap_usd_per_request is not None and not cap_usd_per_request >= 0:
        raise DataInvalid("the cost cap is negative")
    paid_before, paid_after = tuple(fixed_before), tuple(fixed_after)
    verdict, reason = _judge(before, after, cap_usd_per_request)
    return CostComparison(
        before=before,
        after=after,
        verdict=verdict,
        reason=reason,
        monthly_requests=monthly_requests,
        mean=Change(before.overall.mean_usd, after.overall.mean_usd),
        p50=Change(before.overall.p50_usd, after.overall.p50_usd),
        p95=Change(before.overall.p95_usd, after.overall.p95_usd),
        monthly=Change(
            monthly_run_rate(before, monthly_requests=monthly_requests, fixed=paid_before),
            monthly_run_rate(after, monthly_requests=monthly_requests, fixed=paid_after),
        ),
        parts={part: Change(before.part_means_usd[part], after.part_means_usd[part]) for part in CostPart},
        use_cases={
            name: Change(
                before.use_cases[name].mean_usd if name in before.use_cases else None,
                after.use_cases[name].mean_usd if name in after.use_cases else None,
            )
            for name in sorted({*before.use_cases, *after.use_cases})
        },
        mix_differs=_mix(before) != _mix(after),
        missing_fixed=tuple(fee for fee in (*paid_before, *paid_after) if isinstance(fee, MissingPrice)),
        fixed_illustrative=any(isinstance(fee, Price) and fee.illustrative for fee in (*paid_before, *paid_after)),
        cap_usd_per_request=cap_usd_per_request,
    )


def monthly_run_rate(
    side: CostSummary, *, monthly_requests: int, fixed: Iterable[Price | MissingPrice] = ()
) -> Decimal | None:
    """Total over the requests seen, scaled to the month's volume, plus the fixed prices; None if any is unknown."""
    fees = add_usd(price.amount if isinstance(price, Price) else None for price in fixed)
    if side.total_usd is None or fees is None or side.overall.requests == 0:
        return None
    scaled = MONEY.divide(MONEY.multiply(side.total_usd, Decimal(monthly_requests)), Decimal(side.overall.requests))
    return round_usd(MONEY.add(scaled, fees))


def _judge(before: CostSummary, after: CostSummary, cap: Decimal | None) -> tuple[Verdict | None, str]:
    for side in (before, after):
        if side.overall.requests == 0:
            return Verdict.INCONCLUSIVE, f"{side.label}: no requests, so nothing to compare"
        if side.overall.mean_usd is None:
            return Verdict.INCONCLUSIVE, f"{side.label}: a price is missing: {side.missing[0]}"
    mean = after.overall.mean_usd
    if cap is None or mean is None:
        return None, "compared; no cost cap was set"
    if mean <= cap:
        return Verdict.PASS, f"{after.label}: {plain(mean)} USD a request is within the cap of {plain(cap)}"
    return Verdict.FAIL, f"{after.label}: {plain(mean)} USD a request is above the cap of {plain(cap)}"


def _mix(side: CostSummary) -> dict[str, Fraction]:
    return {name: Fraction(spread.requests, side.overall.requests) for name, spread in side.use_cases.items()}


def _spread(amounts: Sequence[Decimal | None]) -> Spread:
    known = sorted(amount for amount in amounts if amount is not None)
    if not amounts or len(known) < len(amounts):
        return Spread(len(amounts))
    return Spread(len(amounts), _mean(amounts), _percentile(known, 50), _percentile(known, 95))


def _mean(amounts: Sequence[Decimal | None]) -> Decimal | None:
    total = add_usd(amounts)
    return None if total is None or not amounts else round_usd(MONEY.divide(total, Decimal(len(amounts))))


def _percentile(ordered: Sequence[Decimal], per_cent: int) -> Decimal:
    place, rest = divmod((len(ordered) - 1) * per_cent, 100)
    low = ordered[place]
    if not rest:
        return low
    step = MONEY.multiply(MONEY.subtract(ordered[place + 1], low), Decimal(rest))
    return round_usd(MONEY.add(low, MONEY.divide(step, Decimal(100))))
