"""Bounds are never narrower than what was asked allows, and cover what they claim to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitramp.errors import DataInvalid
from exitramp.parity.intervals import Bounds, mean_bounds, queries_needed


def recall_bounds(values: Any, **more: Any) -> Bounds:
    return mean_bounds(np.array(values, np.float64), least=0.0, most=1.0, seed=1, **more)


@pytest.mark.parametrize("n", [1, 20, 100, 200, 1000])
def test_equal_values_leave_room_for_the_query_that_was_not_asked(n: int) -> None:
    bounds = recall_bounds([1.0] * n)
    assert bounds.mean == bounds.upper == 1.0
    assert bounds.lower == pytest.approx(0.05 ** (1 / n), abs=0.02 / math.sqrt(n))
    assert bounds.lower < 1.0


def test_equal_differences_of_nothing_are_not_a_difference_of_exactly_nothing() -> None:
    bounds = mean_bounds(np.zeros(100), least=-1.0, most=1.0, seed=1)
    assert bounds.lower == pytest.approx(-(1 - 0.05 ** (1 / 100)), abs=0.002)
    assert bounds.upper == pytest.approx(1 - 0.05 ** (1 / 100), abs=0.002)


def test_a_population_asked_in_full_is_known_exactly() -> None:
    assert recall_bounds([0.5, 1.0], population=2) == Bounds(0.75, 0.75, 0.75, 2)


def test_bounds_tighten_as_more_of_the_population_is_asked() -> None:
    lowers = [recall_bounds([1.0] * 100, population=population).lower for population in (100, 120, 200, 1000, 10**6)]
    assert lowers == sorted(lowers, reverse=True)
    assert lowers[-1] == pytest.approx(recall_bounds([1.0] * 100).lower, abs=0.002)


def test_bounds_of_a_population_are_the_hypergeometric_ones_where_all_are_equal() -> None:
    """Five of 200 lost is the least that 100 without a loss rule out: C(195, 100) / C(200, 100) is below 5 %."""
    lost = next(m for m in range(100) if math.comb(200 - m, 100) / math.comb(200, 100) <= 0.05)
    assert lost == 5
    assert recall_bounds([1.0] * 100, population=200).lower == pytest.approx(1 - (lost - 1) / 200, abs=0.0051)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.sampled_from([0.0, 0.3, 0.9, 1.0]), min_size=1, max_size=60),
    more=st.none() | st.integers(0, 500),
    seed=st.integers(0, 5),
)
def test_bounds_enclose_the_mean_stay_in_range_and_follow_from_the_seed(
    values: list[float], more: int | None, seed: int
) -> None:
    def found() -> Bounds:
        population = None if more is None else len(values) + more
        data = np.array(values)
        return mean_bounds(data, least=0.0, most=1.0, seed=seed, population=population, resamples=500)

    bounds = found()
    assert 0.0 <= bounds.lower <= bounds.mean <= bounds.upper <= 1.0
    assert bounds == found()


@pytest.mark.parametrize("population", [None, 400])
@pytest.mark.parametrize("chances", [(0.01, 0.0), (0.05, 0.1), (0.3, 0.3)])
def test_the_lower_bound_is_right_at_least_as_often_as_it_says(
    population: int | None, chances: tuple[float, ...]
) -> None:
    """Recall of 0 with the first chance and 0.8 with the second, otherwise 1; 300 samples of 60."""
    rng = np.random.default_rng(11)
    wrong = 0
    for trial in range(300):
        draw = rng.random(population or 60)
        values = np.where(draw < chances[0], 0.0, np.where(draw < sum(chances), 0.8, 1.0))
        truth = values.mean() if population else 1 - chances[0] - 0.2 * chances[1]
        bounds = mean_bounds(values[:60], least=0.0, most=1.0, seed=trial, population=population, resamples=1000)
        wrong += bounds.lower > truth
    assert wrong <= 300 * 0.05 + 3 * math.sqrt(300 * 0.05 * 0.95)


def test_queries_needed_are_just_enough_for_a_perfect_answer_to_pass() -> None:
    assert queries_needed(0.1) == 29
    assert queries_needed(0.02) == 149
    for population in (50, 150, 1500):
        needed = queries_needed(0.02, population=population)
        assert needed <= min(population, 149)
        lost = max(1, math.ceil(0.02 * population))
        chances = [math.comb(population - lost, n) / math.comb(population, n) for n in (needed - 1, needed)]
        assert chances[0] > 0.05 >= chances[1]


@pytest.mark.parametrize("values", [[], [1.1], [-0.1], [float("nan")]])
def test_no_values_or_impossible_ones_have_no_bounds(values: list[float]) -> None:
    with pytest.raises(DataInvalid):
        recall_bounds(values)


@pytest.mark.parametrize("make", [lambda: queries_needed(0.0), lambda: recall_bounds([1.0], confidence=1.0)])
def test_a_margin_or_confidence_of_nothing_is_refused(make: Any) -> None:
    with pytest.raises(DataInvalid):
        make()
