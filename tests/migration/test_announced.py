"""What may differ after a copy is what the plan announced for each field, and no more than that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from exitramp.migration import announced_tolerances
from exitramp.parity.kernel import compare_matrices
from exitramp.parity.tolerance import Tolerance, tolerance_of
from exitramp.ports import Origin, SinkLimits
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.testing.memory import LIMITS
from exitramp.testing.memory_records import collections_of
from exitramp.testing.rows import Row, batch_from_rows
from exitramp.transfer.plan import Fidelity, Plan, make_plan
from exitramp.transfer.survey import survey_source
from exitramp.wrappers import open_endpoint

Planned = Callable[..., Plan]
HOLDS_FLOAT32 = replace(LIMITS, dtypes=frozenset({DType.FLOAT32}))
SCALES = replace(HOLDS_FLOAT32, normalises=frozenset({Metric.COSINE}))
ROUNDS = replace(HOLDS_FLOAT32, rounds=frozenset({Metric.COSINE}), subnormal_vectors=False)


@pytest.fixture
def planned(request: pytest.FixtureRequest) -> Planned:
    """Plans a copy of one unnamed field's vectors into a store with the limits given."""
    name = request.node.name

    def plan(limits: SinkLimits, vectors: npt.ArrayLike, dtype: DType = DType.FLOAT32) -> Plan:
        matrix = np.asarray(vectors)
        field = VectorField("", VectorKind.DENSE, dtype, Metric.COSINE, matrix.shape[1])
        spec = CollectionSpec("c", IdKind.STRING, (field,))
        rows = [Row(str(n), payload={}, vectors={"vector": vector}) for n, vector in enumerate(matrix)]
        with open_endpoint(f"memory:{name}#c") as endpoint:
            sink = endpoint.sink()
            sink.create(spec, Origin(spec, "test"))
            sink.upsert(batch_from_rows(rows, spec))
            found = make_plan(survey_source(endpoint.source(), limits, batch_rows=10), limits)
        collections_of(name).clear()
        return found

    return plan


def _line(plan: Plan) -> tuple[Fidelity, tuple[str, ...]]:
    [line] = [each for each in plan.lines if each.subject == "vector"]
    return line.fidelity, line.changes


def _within(granted: Tolerance, a: npt.ArrayLike, b: npt.ArrayLike) -> bool:
    found = compare_matrices(np.atleast_2d(a), np.atleast_2d(b))
    return bool(granted.within(found).all())


def test_what_comes_back_exactly_must_be_equal_to_the_bit_whatever_the_store_could_do(planned: Planned) -> None:
    for limits in (SCALES, ROUNDS):
        for dtype in (DType.FLOAT16, DType.INT8):
            plan = planned(limits, np.array([[1, 2, 3]], dtype.value), dtype)
            assert _line(plan)[0] is Fidelity.REVERSIBLE
            assert announced_tolerances(plan)["vector"].is_exact
            assert tolerance_of(plan.layout.original.vectors[0], limits).is_exact


def test_lost_magnitude_leaves_the_direction_at_unit_length_and_nothing_else(planned: Planned) -> None:
    raw = np.array([[3, 4, 0]], "f4")
    plan = planned(SCALES, raw)
    assert _line(plan) == (Fidelity.LOSSY, ("magnitude",))
    granted = announced_tolerances(plan)["vector"]
    assert announced_tolerances(plan, ["vector"]) == {"vector": granted}
    refused = announced_tolerances(plan, [])["vector"]
    assert not _within(refused, raw, raw / 5), "nobody accepted that"
    assert _within(refused, raw / 5, raw / 5 * np.float32(1.000001)), "unit vectors lose nothing"
    assert _within(granted, raw, raw / 5)
    assert not _within(granted, raw, raw / 10), "a vector that was halved as well"
    assert not _within(granted, raw, raw * 2)
    assert not _within(granted, raw, np.array([[0.61, 0.79, 0]], "f4"))
    assert not _within(granted, raw, raw * np.nan)


def test_lost_precision_leaves_half_a_unit_in_the_last_place_of_what_the_store_holds(planned: Planned) -> None:
    raw = np.array([[1 / 3, np.pi * 1e20, -1e-30]])
    plan = planned(HOLDS_FLOAT32, raw, DType.FLOAT64)
    assert _line(plan) == (Fidelity.LOSSY, ("precision",))
    granted = announced_tolerances(plan)["vector"]
    assert announced_tolerances(plan, [])["vector"].is_exact, "nobody accepted that"
    narrow = raw.astype("f4")
    assert _within(granted, raw, narrow.astype("f8"))
    for step in (1, -1):
        beside = np.nextafter(narrow, np.float32(np.inf * step)).astype("f8")
        apart = np.abs(beside - raw) > np.abs(narrow.astype("f8") - raw) * 1.01
        for place in np.flatnonzero(apart[0]):
            other = narrow.astype("f8")
            other[0, place] = beside[0, place]
            assert not _within(granted, raw, other), "one unit further than rounding goes"


def test_a_store_that_rounds_as_well_is_granted_that_beside(planned: Planned) -> None:
    raw = np.array([[1 / 3, np.pi, -1e-3]])
    granted = announced_tolerances(planned(ROUNDS, raw, DType.FLOAT64))["vector"]
    near, far = (raw.astype("f4") * (1 + n * np.finfo("f4").eps) for n in (2, 9))
    assert _within(granted, raw, near.astype("f4").astype("f8"))
    assert not _within(granted, raw, far.astype("f4").astype("f8"))


def test_float64_that_float32_holds_is_rounded_by_the_store_in_units_of_float32(planned: Planned) -> None:
    raw = np.array([[0.5, 0.25, 3]])
    plan = planned(ROUNDS, raw, DType.FLOAT64)
    assert _line(plan) == (Fidelity.ROUNDED, ("ulp",))
    granted = announced_tolerances(plan)["vector"]
    beside = np.nextafter(raw.astype("f4"), np.float32(9)).astype("f8")
    assert _within(granted, raw, beside)
    assert _within(tolerance_of(plan.layout.original.vectors[0], ROUNDS), raw, beside)


def test_a_placeholder_loses_nothing_that_is_read_back(planned: Planned) -> None:
    limits = replace(HOLDS_FLOAT32, vectors_required=True, nonfinite_vectors=False)
    plan = planned(limits, np.array([[np.nan, 1, 1], [1, 2, 3]], "f4"))
    assert _line(plan) == (Fidelity.LOSSY, ("placeholder",))
    assert announced_tolerances(plan, ["vector"])["vector"].is_exact


def test_norms_of_vectors_that_the_marker_keeps_do_not_make_a_field_lossy(planned: Planned) -> None:
    unit = np.array([0.6, 0.8, 0])
    limits = replace(SCALES, nonfinite_vectors=False, vector_magnitude=1e16, vectors_required=False)
    plan = planned(limits, np.array([unit, unit * np.nan, unit * 0], "f4"))
    assert _line(plan) == (Fidelity.ROUNDED, ("unit",))
    plan = planned(limits, np.array([unit, unit * 1e30], "f4"))
    assert _line(plan) == (Fidelity.LOSSY, ("search", "unit")), "a search could have found the long one"
    assert not _within(announced_tolerances(plan)["vector"], unit.astype("f4"), unit.astype("f4") * np.float32(1.001))
