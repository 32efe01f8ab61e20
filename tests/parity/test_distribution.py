"""A distribution tells the same as the whole list of its values would."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exitramp.parity import distribution
from exitramp.parity.distribution import Distribution


def nearest_rank(values: list[float], percent: int) -> float:
    """By the definition, in whole numbers: the smallest value that at least `percent` per cent do not exceed."""
    ordered = sorted(values)
    return next(v for n, v in enumerate(ordered, 1) if Fraction(n, len(ordered)) >= Fraction(percent, 100))


@given(
    parts=st.lists(st.lists(st.floats(-1e6, 1e6), max_size=30), max_size=5),
    equal=st.lists(st.tuples(st.floats(-2, 2), st.integers(0, 40)), max_size=3),
)
def test_figures_are_those_of_the_whole_list(parts: list[list[float]], equal: list[tuple[float, int]]) -> None:
    found = Distribution()
    values: list[float] = []
    for part in parts:
        found.add(np.array(part, np.float64))
        values += part
    for value, times in equal:
        found.add_equal(value, times)
        values += [value] * times
    assert found.count == len(values)
    assert found.minimum == min(values, default=None)
    assert found.maximum == max(values, default=None)
    if values:
        assert found.mean == pytest.approx(math.fsum(values) / len(values), abs=1e-6)
        for percent in (0, 1, 5, 50, 95, 99, 100):
            assert found.percentile(percent) == nearest_rank(values, percent)
    else:
        assert found.mean is None
        assert found.percentile(50) is None


def test_a_percentile_is_at_its_rank_for_every_number_of_values() -> None:
    for n in range(1, 301):
        found = Distribution()
        found.add(np.arange(1, n + 1, dtype=np.float64))
        for percent in (1, 5, 50, 95, 99):
            assert found.percentile(percent) == -(-percent * n // 100), (n, percent)


def test_what_is_not_finite_is_counted_as_undefined_and_the_result_is_still_json() -> None:
    found = Distribution()
    found.add(np.array([1.0, np.nan, np.inf, -np.inf]))
    assert (found.count, found.undefined, found.minimum, found.maximum) == (1, 3, 1.0, 1.0)
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["undefined"] == 3


def test_a_sum_that_overflows_leaves_no_mean() -> None:
    found = Distribution()
    found.add(np.full(3, 1.7e308))
    assert found.mean is None
    assert found.maximum == 1.7e308
    json.dumps(found.to_json(), allow_nan=False)


def test_a_long_stream_is_sampled_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "KEPT", 4000)
    found = Distribution(seed=3)
    for value in np.random.default_rng(0).permutation(20_000).reshape(40, 500).astype(np.float64):
        found.add(value)
    found.add_equal(30_000.0, 20_000)
    data = found.to_json()
    assert data["sampled"] is True
    assert (data["count"], data["min"], data["max"]) == (40_000, 0.0, 30_000.0)
    assert data["mean"] == pytest.approx((19_999 / 2 + 30_000) / 2)
    assert found.percentile(25) == pytest.approx(10_000, rel=0.1)
    assert data["p95"] == 30_000.0
