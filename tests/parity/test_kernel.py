"""Unequal rows are found exactly, and measured rightly where floating point is at its most awkward."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitramp.parity import kernel
from exitramp.parity.kernel import BLOCK_ROWS, compare_matrices, unequal_rows
from exitramp.parity.tolerance import Tolerance

FLOATS = [np.float16, np.float32, np.float64]


def random_matrix(rows: int, items: int, dtype: Any = np.float32, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((rows, items)).astype(dtype)


def test_equal_matrices_have_no_unequal_row_even_where_they_hold_nan() -> None:
    a = random_matrix(BLOCK_ROWS + 3, 5)
    a[7, 2], a[9] = np.nan, 0.0
    found = compare_matrices(a, a.copy())
    assert found.rows == len(a)
    assert len(found.unequal) == len(found.cosine) == len(found.ulp) == 0


@settings(max_examples=60, deadline=None)
@given(
    row=st.integers(0, 2 * BLOCK_ROWS + 10),
    bit=st.integers(0, 3 * 32 - 1),
)
def test_any_single_flipped_bit_is_found_in_its_row_and_no_other(row: int, bit: int) -> None:
    a = random_matrix(2 * BLOCK_ROWS + 11, 3)
    b = a.copy()
    raw = b[row].view(np.uint8)
    raw[bit // 8] ^= 1 << (bit % 8)
    assert unequal_rows(a, b).tolist() == [row]
    assert compare_matrices(a, b).unequal.tolist() == [row]


@pytest.mark.parametrize("dtype", [*FLOATS, np.int8, np.uint8])
def test_measures_equal_those_of_plain_arithmetic_row_by_row(dtype: Any) -> None:
    a = (random_matrix(700, 33, np.float64) * 20).astype(dtype)
    b = a.copy()
    changed = [0, 5, 511, 512, 699]
    b[changed] = (random_matrix(5, 33, np.float64, seed=1) * 20).astype(dtype)
    found = compare_matrices(a, b)
    assert found.unequal.tolist() == changed
    for at, row in enumerate(changed):
        x, y = a[row].astype(float), b[row].astype(float)
        assert found.cosine[at] == pytest.approx(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)), rel=1e-12)
        assert found.l2[at] == pytest.approx(np.linalg.norm(x - y), rel=1e-12)
        assert found.max_abs[at] == np.abs(x - y).max()


def test_measures_do_not_depend_on_how_many_rows_are_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = random_matrix(300, 7), random_matrix(300, 7, seed=1)
    whole = compare_matrices(a, b)
    monkeypatch.setattr(kernel, "MEASURED_BYTES", 8 * 7 * 11)
    parts = compare_matrices(a, b)
    for name in ("unequal", "cosine", "l2", "max_abs", "ulp"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))


@pytest.mark.parametrize("dtype", FLOATS)
@settings(max_examples=60, deadline=None)
@given(steps=st.integers(1, 300), start=st.floats(-4, 4, width=16))
def test_ulp_counts_the_representable_numbers_between_two(dtype: Any, steps: int, start: float) -> None:
    a = np.array([[start, 1.0]], dtype)
    b = a.copy()
    for _ in range(steps):
        b[0, 0] = np.nextafter(b[0, 0], dtype(10))
    assert compare_matrices(a, b).ulp.tolist() == [steps]


def test_ulp_counts_across_zero() -> None:
    least = np.finfo(np.float32).smallest_subnormal
    a = np.array([[-least], [-0.0], [-3 * least]], np.float32)
    b = np.array([[least], [0.0], [2 * least]], np.float32)
    assert compare_matrices(a, b).ulp.tolist() == [2, 0, 5]


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_greatest_number_is_not_a_rounding_of_infinity(dtype: Any) -> None:
    most = np.finfo(dtype).max
    a = np.array([[np.inf, 1], [np.inf, 1], [np.nan, 1], [np.inf, 1]], dtype)
    b = np.array([[most, 1], [np.nan, 1], [most, 1], [np.inf, np.nextafter(dtype(1), dtype(2))]], dtype)
    found = compare_matrices(a, b)
    assert found.ulp.tolist() == [math.inf, math.inf, math.inf, 1]
    assert Tolerance(ulp=4).within(found).tolist() == [False, False, False, True]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_whole_numbers_that_differ_are_never_within_a_tolerance_in_ulp(dtype: Any) -> None:
    a = np.array([[1, 2], [100, 2]], dtype)
    b = np.array([[1, 3], [1, 2]], dtype)
    assert Tolerance(ulp=4).within(compare_matrices(a, b)).tolist() == [False, False]


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1e200, 1e300])
def test_cosine_of_float64_survives_numbers_whose_squares_overflow_or_vanish(scale: float) -> None:
    a = np.array([[3.0, 4.0], [1.0, 0.0]]) * scale
    b = np.array([[4.0, 3.0], [0.0, 1.0]]) * scale
    found = compare_matrices(a, b)
    assert found.cosine == pytest.approx([0.96, 0.0], rel=1e-3)
    assert found.l2 == pytest.approx(np.sqrt(2.0) * np.array([scale, scale]), rel=1e-3)


def test_cosine_is_undefined_where_a_side_is_zero_or_not_finite() -> None:
    a = np.array([[0, 0], [1, 2], [np.inf, 1], [np.nan, 1]], np.float32)
    b = np.array([[1, 0], [0, 0], [1, 1], [1, 1]], np.float32)
    found = compare_matrices(a, b)
    assert np.isnan(found.cosine).all()
    assert not Tolerance(cosine=-1.0).within(found).any()


def test_l2_of_neighbouring_numbers_is_exact_to_float64() -> None:
    a = np.full((1, 2), np.float32(1.0))
    b = np.full((1, 2), np.nextafter(np.float32(1.0), np.float32(2.0)))
    step = Fraction(1, 2**23)
    assert compare_matrices(a, b).l2[0] == pytest.approx(math.sqrt(2 * step**2), rel=1e-15)
