"""The exact interval: against brute force, and its promise at the margin for every number of pairs tried."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import multinomial

from exitramp.evals.exact_pairs import exact_bounds, exact_p, pairs_for_power
from exitramp.evals.paired import PairCounts, tango_bounds, tango_statistic
from exitramp.evals.verdicts import cases_needed


def _tables(n: int) -> list[PairCounts]:
    return [PairCounts(n - b - c, c, b, 0) for b in range(n + 1) for c in range(n + 1 - b)]


def _false_pass_rate(n: int, margin: float, passes: set[tuple[int, int]], share: float) -> float:
    """P(pass) at a true difference of -margin, `share` of the pairs being gained, by every table there is."""
    chances = multinomial(n, [share, share + margin, 1 - margin - 2 * share])
    return float(sum(chances.pmf([b, c, n - b - c]) for b, c in passes))


@pytest.mark.parametrize(("n", "margin"), [(8, 0.4), (14, 0.2), (30, 0.1), (42, 0.1)])
def test_no_rate_of_discordance_gives_more_than_5_percent_false_passes(n: int, margin: float) -> None:
    decided = {
        (table.substitute_only, table.primary_only)
        for table in _tables(n)
        if tango_bounds(table).lower > -margin and exact_p(table, -margin) <= 0.05
    }
    assert decided, "something can pass"
    for share in np.linspace(0, (1 - margin) / 2, 23):
        assert _false_pass_rate(n, margin, decided, float(share)) <= 0.05 + 1e-9


def test_tango_alone_breaks_that_promise_where_the_substitute_only_loses() -> None:
    plain = {(table.substitute_only, table.primary_only) for table in _tables(42) if tango_bounds(table).lower > -0.1}
    assert _false_pass_rate(42, 0.1, plain, 0.0) > 0.065


def test_the_p_value_is_that_of_every_table_counted_out() -> None:
    n, delta = 9, -0.2
    for seen in (PairCounts(9, 0, 0, 0), PairCounts(5, 1, 3, 0), PairCounts(6, 2, 1, 0)):
        least = tango_statistic(seen, delta) - 1e-9
        reached = [table for table in _tables(n) if tango_statistic(table, delta) >= least]
        found = 0.0
        for share in np.linspace(0, 0.4, 401):
            chances = multinomial(n, [share, share + 0.2, 0.8 - 2 * share])
            found = max(
                found,
                sum(
                    chances.pmf([t.substitute_only, t.primary_only, n - t.substitute_only - t.primary_only])
                    for t in reached
                ),
            )
        assert exact_p(seen, delta) == pytest.approx(found, abs=2e-4)


@pytest.mark.parametrize("margin", [0.05, 0.1, 0.2])
def test_identical_pairs_pass_from_the_number_on_that_can_show_it_and_not_before(margin: float) -> None:
    needed = cases_needed(margin)
    assert exact_bounds(PairCounts(needed, 0, 0, 0), margin=margin).lower > -margin
    assert exact_bounds(PairCounts(needed - 1, 0, 0, 0), margin=margin).lower <= -margin


def test_bounds_are_never_narrower_than_tangos_and_turn_with_the_sides() -> None:
    for counts in (PairCounts(50, 4, 2, 8), PairCounts(20, 0, 0, 0), PairCounts(0, 10, 10, 0), PairCounts(0, 5, 0, 0)):
        plain, exact = tango_bounds(counts), exact_bounds(counts)
        turned = exact_bounds(PairCounts(counts.both, counts.substitute_only, counts.primary_only, counts.neither))
        assert -1 <= exact.lower <= plain.lower
        assert plain.upper <= exact.upper <= 1
        assert (turned.lower, turned.upper) == pytest.approx((-exact.upper, -exact.lower), abs=1e-9)


def test_the_power_is_what_a_simulation_finds() -> None:
    n = pairs_for_power(0.1, 0.1, confidence=0.95, power=0.8)
    rng = np.random.default_rng(3)
    draws = rng.multinomial(n, [0.05, 0.05, 0.9], size=300)
    passed = [exact_p(PairCounts(int(n - b - c), int(c), int(b), 0), -0.1) <= 0.05 for b, c, _ in draws]
    assert 0.7 < sum(passed) / len(passed) < 0.9
    assert math.isclose(n, 62, abs_tol=2)
