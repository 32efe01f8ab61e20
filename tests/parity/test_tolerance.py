"""What counts as the same vector is stated, and a bound lets through what meets it and nothing else."""

from __future__ import annotations

import json

import numpy as np
import pytest

from exitramp.errors import UsageError
from exitramp.parity.kernel import compare_matrices
from exitramp.parity.tolerance import ROUNDED_ULP, Tolerance, loosest, parse_tolerances, tolerance_of
from exitramp.ports import PayloadLimits, SinkLimits
from exitramp.records import DType, IdKind, Metric, VectorField, VectorKind


def field_of(metric: Metric) -> VectorField:
    return VectorField("", VectorKind.DENSE, DType.FLOAT32, metric, 8)


def limits(**more: object) -> SinkLimits:
    kinds, metrics = frozenset({IdKind.STRING}), frozenset(Metric)
    return SinkLimits(id_kinds=kinds, metrics=metrics, payload=PayloadLimits(frozenset()), **more)  # type: ignore[arg-type]


def steps_up(row: np.ndarray, steps: int) -> np.ndarray:  # type: ignore[type-arg]
    for _ in range(steps):
        row = np.nextafter(row, np.float32(9))
    return row


def within(tolerance: Tolerance, a: np.ndarray, b: np.ndarray) -> bool:  # type: ignore[type-arg]
    return bool(tolerance.within(compare_matrices(a[None, :], b[None, :]))[0])


ROW = np.random.default_rng(1).standard_normal(8).astype(np.float32)


def test_without_a_bound_only_equal_bits_are_equal() -> None:
    assert Tolerance().is_exact
    assert not within(Tolerance(), ROW, steps_up(ROW, 1))


@pytest.mark.parametrize(("steps", "expected"), [(1, True), (4, True), (5, False)])
def test_rounding_is_granted_four_ulp_and_no_more(steps: int, expected: bool) -> None:
    granted = tolerance_of(field_of(Metric.COSINE), limits(rounds=frozenset({Metric.COSINE})))
    assert granted.ulp == ROUNDED_ULP
    assert within(granted, ROW, steps_up(ROW, steps)) is expected


@pytest.mark.parametrize(("norm", "expected"), [(1.0, True), (1.00001, True), (1.00003, False), (2.0, False)])
def test_scaling_to_unit_length_is_granted_to_vectors_that_nearly_had_it(norm: float, expected: bool) -> None:
    granted = tolerance_of(field_of(Metric.COSINE), limits(normalises=frozenset({Metric.COSINE})))
    unit = (ROW / np.linalg.norm(ROW.astype(np.float64))).astype(np.float32)
    assert within(granted, (unit * np.float32(norm)).astype(np.float32), steps_up(unit, 1)) is expected


def test_a_store_is_granted_something_only_under_the_metrics_it_names() -> None:
    store = limits(normalises=frozenset({Metric.COSINE}), rounds=frozenset({Metric.DOT}))
    assert tolerance_of(field_of(Metric.EUCLIDEAN), store).is_exact
    assert tolerance_of(field_of(Metric.COSINE), None).is_exact


def test_a_distance_must_meet_both_of_cosine_and_l2_where_both_are_given() -> None:
    longer = ROW * np.float32(1.5)
    assert within(Tolerance(cosine=0.999), ROW, longer)
    assert not within(Tolerance(cosine=0.999, l2=0.01), ROW, longer)
    assert not within(Tolerance(l2=0.01), ROW, longer)


def test_the_loosest_of_two_is_met_by_whatever_meets_one_of_them() -> None:
    ulp, unit = Tolerance(ulp=4.0, source="x"), Tolerance(cosine=0.999, l2=9.0, source="y")
    both = loosest(ulp, unit)
    assert both == loosest(unit, ulp) or {both.source, loosest(unit, ulp).source} == {"x; y", "y; x"}
    assert within(both, ROW, steps_up(ROW, 4))
    assert within(both, ROW, ROW * np.float32(1.5))
    assert not within(both, ROW, -ROW)
    assert loosest(Tolerance(), ulp) == loosest(ulp, Tolerance()) == ulp


def test_tolerances_are_read_by_column() -> None:
    found = parse_tolerances(("vector=exact", "vector:a=b=ulp:2", "x=cosine:0.9,l2:0.5", "y=direction"))
    assert found["vector"].is_exact
    assert found["vector:a=b"].ulp == 2
    assert (found["x"].cosine, found["x"].l2) == (0.9, 0.5)
    assert found["y"].l2 is None
    assert found["y"].cosine is not None
    json.dumps([each.to_json() for each in found.values()], allow_nan=False)


@pytest.mark.parametrize("text", ["vector", "vector=", "vector=near", "vector=ulp:x", "vector=ulp:inf", "v=l2:nan"])
def test_a_tolerance_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_tolerances((text,))
