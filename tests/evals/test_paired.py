"""The intervals against published values, other implementations, exact enumeration and simulation."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from exitramp.errors import DataInvalid
from exitramp.evals.paired import (
    PairCounts,
    bootstrap_bounds,
    count_pairs,
    mcnemar_exact,
    tango_bounds,
    tango_statistic,
    wilson_interval,
)

TABLES = st.tuples(*[st.integers(0, 60)] * 4).filter(sum).map(lambda cells: PairCounts(*cells))

# both, substitute only, primary only, neither; two-sided level; the interval as printed.
PUBLISHED = [
    pytest.param(43, 0, 1, 0, 0.90, -0.096, 0.037, id="tango-1998-section-6.1-contact-lenses"),
    pytest.param(4, 9, 3, 16, 0.95, -0.027, 0.390, id="tango-1998-psychiatric-treatment"),
    pytest.param(53, 16, 8, 9, 0.95, -0.020, 0.207, id="agresti-min-2005"),
    pytest.param(1, 1, 7, 12, 0.95, -0.517, -0.026, id="fagerland-2014-table-V-airway-reactivity"),
]


def exact_false_pass_rate(n: int, margin: float, discordance: float) -> float:
    """P(Tango's lower bound > -margin) when the true difference is -margin, by enumerating every table."""
    worse, better = (discordance + margin) / 2, (discordance - margin) / 2
    z = NormalDist().inv_cdf(0.95)
    total = 0.0
    for discordant in range(n + 1):
        weight = binom.pmf(discordant, n, discordance)
        for gained in range(discordant + 1):
            counts = PairCounts(n - discordant, discordant - gained, gained, 0)
            if tango_statistic(counts, -margin) <= z:
                continue
            total += weight * binom.pmf(gained, discordant, better / (worse + better))
    return total


@pytest.mark.parametrize(("both", "gained", "lost", "neither", "level", "lower", "upper"), PUBLISHED)
def test_tango_bounds_equal_the_published_intervals(
    both: int, gained: int, lost: int, neither: int, level: float, lower: float, upper: float
) -> None:
    bounds = tango_bounds(PairCounts(both, lost, gained, neither), confidence=(1 + level) / 2)
    assert round(bounds.lower, 3) == lower
    assert round(bounds.upper, 3) == upper


def test_tango_statistic_equals_the_published_example() -> None:
    # Tango 1998, section 6.1: Z = 1.709 and one-sided p = 0.044 at a margin of 0.1. The paper divides rounded terms.
    statistic = tango_statistic(PairCounts(43, 1, 0, 0), -0.1)
    assert statistic == pytest.approx(1.709, abs=1e-3)
    assert 1 - NormalDist().cdf(statistic) == pytest.approx(0.044, abs=5e-4)


@pytest.mark.parametrize(
    ("lost", "gained", "n", "level", "lower", "upper"),
    # Outputs of the R package PropCIs, scoreci.mp, as other projects pinned them.
    [
        (60, 20, 1000, 0.95, -0.0584, -0.0231),
        (20, 60, 1000, 0.95, 0.0231, 0.0584),
        (25, 28, 618, 0.90, -0.0148, 0.0247),
    ],
)
def test_tango_bounds_equal_another_implementation(
    lost: int, gained: int, n: int, level: float, lower: float, upper: float
) -> None:
    bounds = tango_bounds(PairCounts(n - lost - gained, lost, gained, 0), confidence=(1 + level) / 2)
    assert (round(bounds.lower, 4), round(bounds.upper, 4)) == (lower, upper)


@given(TABLES)
def test_tango_bounds_enclose_what_was_seen_and_stay_in_range(counts: PairCounts) -> None:
    bounds = tango_bounds(counts)
    assert -1 <= bounds.lower <= counts.difference <= bounds.upper <= 1
    assert bounds.lower < bounds.upper


@given(TABLES)
def test_swapping_the_sides_mirrors_tango_bounds(counts: PairCounts) -> None:
    bounds = tango_bounds(counts)
    mirrored = tango_bounds(PairCounts(counts.both, counts.substitute_only, counts.primary_only, counts.neither))
    assert bounds.lower == pytest.approx(-mirrored.upper, abs=1e-12)
    assert bounds.upper == pytest.approx(-mirrored.lower, abs=1e-12)


@given(TABLES)
def test_the_score_equation_holds_at_the_bounds(counts: PairCounts) -> None:
    bounds, z = tango_bounds(counts), NormalDist().inv_cdf(0.95)
    if -1 < bounds.lower < counts.difference:
        assert tango_statistic(counts, bounds.lower) == pytest.approx(z, abs=1e-5)
    if counts.difference < bounds.upper < 1:
        assert tango_statistic(counts, bounds.upper) == pytest.approx(-z, abs=1e-5)


@given(TABLES)
def test_tango_statistic_at_zero_is_mcnemars(counts: PairCounts) -> None:
    discordant = counts.primary_only + counts.substitute_only
    expected = (counts.substitute_only - counts.primary_only) / math.sqrt(discordant) if discordant else 0.0
    assert tango_statistic(counts, 0.0) == pytest.approx(expected)


@pytest.mark.parametrize("discordance", [0.10, 0.14, 0.20, 0.30, 0.40])
@pytest.mark.parametrize(("n", "ceiling"), [(29, 0.054), (30, 0.051), (42, 0.068), (96, 0.051), (100, 0.058)])
def test_tango_passes_a_loss_of_the_margin_about_as_often_as_five_per_cent(
    n: int, ceiling: float, discordance: float
) -> None:
    assert exact_false_pass_rate(n, 0.10, discordance) <= ceiling


@given(TABLES)
def test_mcnemar_equals_statsmodels(counts: PairCounts) -> None:
    table = [[counts.both, counts.primary_only], [counts.substitute_only, counts.neither]]
    expected = mcnemar(table, exact=True).pvalue if counts.primary_only + counts.substitute_only else 1.0
    assert mcnemar_exact(counts) == pytest.approx(expected)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_statsmodels(case: tuple[int, int]) -> None:
    passed, n = case
    expected = proportion_confint(passed, n, alpha=0.05, method="wilson")
    assert wilson_interval(passed, n) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("value", [0.0, -0.25, 1.0, -1.0])
def test_bounds_of_identical_differences_have_width(value: float) -> None:
    bounds = bootstrap_bounds([value] * 30, seed=1)
    assert bounds.lower == pytest.approx(value - (value + 1) * (1 - 0.05 ** (1 / 30)))
    assert bounds.upper == pytest.approx(value + (1 - value) * (1 - 0.05 ** (1 / 30)))


def test_the_simulated_bound_meets_the_exact_one_where_all_but_a_hair_is_identical() -> None:
    exact = bootstrap_bounds([0.0] * 30, seed=1)
    nearly = bootstrap_bounds([0.0] * 29 + [1e-12], seed=1)
    assert nearly.lower == pytest.approx(exact.lower, abs=0.004)
    assert nearly.upper == pytest.approx(exact.upper, abs=0.004)


def test_a_bound_of_passes_and_failures_meets_clopper_and_pearsons() -> None:
    # Differences of -1 and 0 alone are binomial, and there Gaffke's bound is the exact one.
    upper_loss = proportion_confint(4, 60, alpha=0.10, method="beta")[1]
    assert bootstrap_bounds([-1.0] * 4 + [0.0] * 56, seed=3).lower == pytest.approx(-upper_loss, abs=0.004)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_bootstrap_bounds_enclose_the_mean_whatever_the_order(values: list[float], shuffle: object) -> None:
    bounds = bootstrap_bounds(values, seed=5, resamples=400)
    assert -1 <= bounds.lower <= np.mean(values) + 1e-9
    assert np.mean(values) - 1e-9 <= bounds.upper <= 1
    assert bootstrap_bounds(sorted(values), seed=5, resamples=400) == bounds


def test_one_seed_gives_one_result_and_blocks_do_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    values = list(np.random.default_rng(1).normal(-0.02, 0.2, 90).clip(-1, 1))
    first = bootstrap_bounds(values, seed=11)
    assert bootstrap_bounds(values, seed=11) == first
    assert bootstrap_bounds(values, seed=12) != first
    monkeypatch.setattr("exitramp.evals.paired._BLOCK_CELLS", 5_000)
    assert bootstrap_bounds(values, seed=11) == first


def rare_losses(rng: np.random.Generator, n: int) -> np.ndarray:
    return -(rng.random(n) < 0.10).astype(float)


def near_total_losses(rng: np.random.Generator, n: int) -> np.ndarray:
    draw = rng.random(n)
    return np.where(draw < 0.1105, -rng.beta(19, 1, n), np.where(draw < 0.1205, rng.random(n), 0.0))


def graded_losses(rng: np.random.Generator, n: int) -> np.ndarray:
    draw = rng.random(n)
    return np.where(draw < 0.25, -rng.beta(1.2, 1.2, n), np.where(draw < 0.35, rng.beta(1, 3, n), 0.0))


def flips_both_ways(rng: np.random.Generator, n: int) -> np.ndarray:
    draw = rng.random(n)
    return np.where(draw < 0.12, -1.0, np.where(draw < 0.14, 1.0, 0.0))


@pytest.mark.parametrize("n", [30, 96])
@pytest.mark.parametrize("shape", [rare_losses, near_total_losses, graded_losses, flips_both_ways])
def test_the_bootstrap_passes_a_loss_of_the_margin_at_most_five_per_cent_of_the_time(shape: object, n: int) -> None:
    # Every shape has the mean -0.10. 400 runs: three standard errors above 5 % are 8.3 %.
    rng = np.random.default_rng(20261101)
    lower = [
        bootstrap_bounds(shape(rng, n).tolist(), seed=run, resamples=600).lower  # type: ignore[operator]
        for run in range(400)
    ]
    assert np.mean(np.array(lower) > -0.10) <= 0.083


def test_an_ordinary_percentile_bootstrap_would_pass_such_a_loss_far_too_often() -> None:
    # Why the worst-case pair is there: without it the same simulation gives about 15 %.
    rng = np.random.default_rng(20261101)
    passed = 0
    for _ in range(400):
        seen = near_total_losses(rng, 30)
        passed += np.quantile(seen[rng.integers(0, 30, (600, 30))].mean(axis=1), 0.05) > -0.10
    assert passed / 400 > 0.10


def test_what_is_no_pair_is_refused() -> None:
    with pytest.raises(DataInvalid, match="not pairs"):
        count_pairs([True], [True, False])
    with pytest.raises(DataInvalid, match="no pairs"):
        bootstrap_bounds([], seed=1)
    with pytest.raises(DataInvalid, match="no pairs"):
        tango_bounds(PairCounts(0, 0, 0, 0))
    with pytest.raises(DataInvalid, match=r"outside \[-1, 1\]"):
        bootstrap_bounds([0.0, 1.5], seed=1)
    with pytest.raises(DataInvalid, match=r"outside \[-1, 1\]"):
        bootstrap_bounds([0.0, math.nan], seed=1)
    with pytest.raises(DataInvalid, match="not a pass rate"):
        wilson_interval(3, 2)
    with pytest.raises(DataInvalid, match="confidence"):
        tango_bounds(PairCounts(1, 0, 0, 0), confidence=95)
