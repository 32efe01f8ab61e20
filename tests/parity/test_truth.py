"""The truth is what comparing every pair in float64 gives, whatever the data do to float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitramp.errors import DataInvalid, UsageError
from exitramp.filters import Eq
from exitramp.parity import truth as truth_module
from exitramp.parity.scoring.dense import Block, Queries
from exitramp.parity.truth import Ranking, Truth, exact_neighbours
from exitramp.records import DType, Metric, RecordKey, VectorField, VectorKind
from exitramp.testing.data import ordinary_matrix
from exitramp.testing.reference import GREATER_IS_NEARER, score
from exitramp.testing.rows import NUMPY_TYPE, Row

PAIRS = [(dtype, metric) for dtype in DType for metric in Metric]


def true_distances(field: VectorField, metric: Metric, query: Any, rows: list[Row]) -> dict[RecordKey, float]:
    """By the reference, one record at a time."""
    asked = VectorField(field.name, field.kind, field.dtype, metric, field.dimensions)
    found = {}
    for row in rows:
        near = score(asked, query, row.vectors["vector"])
        far = 1 - near if metric is Metric.COSINE else -near if metric in GREATER_IS_NEARER else near
        if np.isfinite(far) and np.isfinite(row.vectors["vector"].astype(np.float64)).all():
            found[row.key] = far
    return found


def assert_true(truth: Truth, field: VectorField, queries: Any, rows: list[Row], slack: int) -> None:
    for index, query in enumerate(queries):
        expected = true_distances(field, truth.ranking.metric, query, rows)
        nearest = sorted(expected.values())[: truth.k + slack]
        assert truth.distances[index] == pytest.approx(np.array(nearest), rel=1e-12, abs=1e-15)
        assert len(set(truth.keys[index])) == len(nearest)
        for key, distance in zip(truth.keys[index], truth.distances[index], strict=True):
            assert distance == pytest.approx(expected[key], rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(("dtype", "metric"), PAIRS)
def test_neighbours_are_those_of_comparing_every_pair(parity: Any, dtype: DType, metric: Metric) -> None:
    spec = parity.spec(metric, dtype=dtype, dimensions=24)
    field = spec.vectors[0]
    rows = parity.rows(ordinary_matrix(field, 150, np.random.default_rng(3)))
    queries = ordinary_matrix(field, 9, np.random.default_rng(4))
    [truth] = exact_neighbours(
        parity.Source(spec, rows), field, queries, [Ranking(metric)], k=5, slack=3, batch_rows=40
    )
    assert truth.matching == 150
    assert_true(truth, field, queries, rows, 3)


def hostile(kind: str, dtype: Any, rows: int, rng: np.random.Generator) -> Any:
    """Data on which nearest neighbours by plain float32 products come out wrong."""
    matrix = rng.standard_normal((rows, 12))
    most = np.sqrt(float(np.finfo(dtype).max)) / 100
    tiny = float(np.finfo(dtype).tiny)
    made = {
        "far from the origin": 1000 + matrix * 1e-3,
        "almost one direction": np.ones(12) + matrix * 1e-5,
        "norms from tiny to huge": matrix * np.logspace(np.log10(tiny), np.log10(most), rows)[:, None],
        "all tiny": matrix * tiny,
        "all huge": matrix * most,
        "many doubles": matrix[rng.integers(0, 5, rows)],
        "many zeros": np.where(rng.random((rows, 1)) < 0.5, 0, matrix),
        "one huge among small": np.where(np.arange(rows)[:, None] == 7, most, matrix),
    }[kind].astype(dtype)
    made[rows // 2, 0] = np.nan
    made[rows // 3] = np.inf
    return made


@pytest.mark.parametrize("metric", [metric for metric in Metric if metric is not Metric.HAMMING])
@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.FLOAT64])
@pytest.mark.parametrize(
    "kind",
    [
        "far from the origin",
        "almost one direction",
        "norms from tiny to huge",
        "all tiny",
        "all huge",
        "many doubles",
        "many zeros",
        "one huge among small",
    ],
)
def test_neighbours_are_exact_on_hostile_data(parity: Any, kind: str, dtype: DType, metric: Metric) -> None:
    spec = parity.spec(metric, dtype=dtype, dimensions=12)
    matrix = hostile(kind, NUMPY_TYPE[dtype], 120, np.random.default_rng(5))
    rows = parity.rows(matrix)
    queries = matrix[[0, 1, 50, 119]]
    [truth] = exact_neighbours(
        parity.Source(spec, rows), spec.vectors[0], queries, [Ranking(metric)], k=4, slack=2, batch_rows=25
    )
    for index, query in enumerate(queries):
        expected = true_distances(spec.vectors[0], metric, query, rows)
        got = truth.distances[index]
        assert got == pytest.approx(np.array(sorted(expected.values())[: len(got)]), rel=1e-9, abs=1e-15)
        assert len(got) == min(6, len(expected))


def test_float32_products_alone_would_have_been_wrong() -> None:
    """What the test above guards against is real: the product's own order differs from the exact one."""
    matrix = hostile("far from the origin", np.float32, 200, np.random.default_rng(5))
    matrix = matrix[np.isfinite(matrix).all(axis=1)]
    squares = (matrix * matrix).sum(axis=1) - 2 * (matrix @ matrix[0])
    wide = matrix.astype(np.float64)
    exact = ((wide - wide[0]) ** 2).sum(axis=1)
    assert set(np.argsort(squares)[:10]) != set(np.argsort(exact)[:10])


@settings(max_examples=60, deadline=None)
@given(
    metric=st.sampled_from([metric for metric in Metric if metric is not Metric.HAMMING]),
    scale=st.sampled_from([1e-30, 1e-10, 1.0, 1e6, 1e18]),
    offset=st.sampled_from([0.0, 1.0, 1e4]),
    dimensions=st.sampled_from([1, 3, 100]),
    seed=st.integers(0, 10**6),
)
def test_the_bound_on_the_error_never_loses_a_pair(
    metric: Metric, scale: float, offset: float, dimensions: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    field = VectorField("", VectorKind.DENSE, DType.FLOAT32, metric, dimensions)
    rows = ((rng.standard_normal((40, dimensions)) + offset) * scale).astype(np.float32)
    queries = Queries(((rng.standard_normal((6, dimensions)) + offset) * scale).astype(np.float32), field)
    near = Block(rows, queries).nearness(metric)
    made = [Row(str(number), vectors={"vector": row}) for number, row in enumerate(rows)]
    true = np.array([list(true_distances(field, metric, query, made).values()) for query in queries.raw])
    for place in range(40):
        bound = true[:, place]
        least = queries.least_nearness(metric, bound)
        assert (near >= least[:, None])[true < bound[:, None]].all()


def test_one_pass_serves_every_metric_filter_and_exclusion(parity: Any) -> None:
    spec = parity.spec()
    rng = np.random.default_rng(6)
    payloads = [None if number % 10 == 0 else {"part": "odd" if number % 2 else "even"} for number in range(80)]
    rows = parity.rows(rng.standard_normal((80, 8)).astype(np.float32), payloads)
    source = parity.Source(spec, rows)
    queries = np.stack([row.vectors["vector"] for row in rows[:6]])
    odd = Eq(("part",), "odd")
    lost = frozenset({rows[20].key, rows[21].key, RecordKey("r022", "elsewhere")})
    rankings = [
        Ranking(Metric.COSINE),
        Ranking(Metric.DOT),
        Ranking(Metric.EUCLIDEAN, odd),
        Ranking(Metric.COSINE, without=lost),
    ]
    own = [row.key for row in rows[:6]]
    truths = exact_neighbours(source, spec.vectors[0], queries, rankings, k=70, exclude=own, slack=20, batch_rows=13)
    assert source.scans == 1
    held = [rows, rows, [row for row in rows if row.payload == {"part": "odd"}], [r for r in rows if r.key not in lost]]
    for truth, ranking, among in zip(truths, rankings, held, strict=True):
        assert truth.matching == len(among)
        for index, query in enumerate(queries):
            expected = true_distances(spec.vectors[0], ranking.metric, query, among)
            expected.pop(own[index], None)
            assert list(truth.keys[index]) == sorted(expected, key=lambda key: expected[key])
            assert truth.wanted(index) == min(70, len(expected))


def test_the_result_does_not_depend_on_pages_and_blocks(parity: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = parity.spec(Metric.EUCLIDEAN)
    rows = parity.rows(np.random.default_rng(7).standard_normal((200, 8)).astype(np.float32))
    queries = np.random.default_rng(8).standard_normal((5, 8)).astype(np.float32)

    def found(rows: list[Row], batch_rows: int) -> Any:
        ranking = [Ranking(Metric.EUCLIDEAN)]
        [truth] = exact_neighbours(
            parity.Source(spec, rows), spec.vectors[0], queries, ranking, k=10, batch_rows=batch_rows
        )
        return truth.keys

    whole = found(rows, 1000)
    assert found(rows, 1) == found(rows, 7) == found(rows[::-1], 90) == whole
    monkeypatch.setattr(truth_module, "BLOCK_PAIRS", 5 * 64)
    assert found(rows, 1000) == whole


def test_records_without_a_vector_are_no_neighbours(parity: Any) -> None:
    spec = parity.spec()
    rows = parity.rows(np.ones((5, 8), np.float32))
    rows[2] = Row("none")
    queries = np.ones((1, 8), np.float32)
    [truth] = exact_neighbours(parity.Source(spec, rows), spec.vectors[0], queries, [Ranking(Metric.COSINE)], k=5)
    assert truth.matching == 4
    assert RecordKey("none") not in truth.keys[0]


def test_an_id_that_stands_twice_is_one_neighbour(parity: Any) -> None:
    spec = parity.spec(Metric.EUCLIDEAN)
    rows = parity.rows(np.random.default_rng(0).standard_normal((30, 8)).astype(np.float32)) * 9
    queries = np.zeros((1, 8), np.float32)
    source = parity.Source(spec, rows)
    [truth] = exact_neighbours(
        source, spec.vectors[0], queries, [Ranking(Metric.EUCLIDEAN)], k=3, slack=2, batch_rows=50
    )
    assert len(set(truth.keys[0])) == 5
    assert_true(truth, spec.vectors[0], queries, rows[:30], 2)


def test_the_boundary_lets_ties_in_and_the_next_record_not(parity: Any) -> None:
    spec = parity.spec(Metric.EUCLIDEAN, dimensions=1)
    rows = parity.rows(np.array([[1.0], [2.0], [2.0], [2.0000005], [2.01]], np.float32))
    queries = np.zeros((1, 1), np.float32)
    [truth] = exact_neighbours(parity.Source(spec, rows), spec.vectors[0], queries, [Ranking(Metric.EUCLIDEAN)], k=2)
    assert (truth.distances[0] <= truth.boundary(0)).tolist() == [True, True, True, True, False]
    assert (truth.distances[0] <= truth.boundary(0, epsilon=0.0)).tolist() == [True, True, True, False, False]


def test_nothing_to_find_is_no_neighbour_and_no_boundary(parity: Any) -> None:
    spec = parity.spec()
    queries = np.ones((2, 8), np.float32)
    [truth] = exact_neighbours(parity.Source(spec, []), spec.vectors[0], queries, [Ranking(Metric.DOT)], k=3)
    assert (truth.keys, truth.wanted(0), truth.boundary(0), truth.matching) == (((), ()), 0, -np.inf, 0)


def test_queries_of_another_shape_and_a_k_of_nothing_are_refused(parity: Any) -> None:
    source, field = parity.Source(parity.spec(), []), parity.spec().vectors[0]
    with pytest.raises(DataInvalid):
        exact_neighbours(source, field, np.ones((2, 7), np.float32), [Ranking(Metric.DOT)], k=3)
    with pytest.raises(UsageError):
        exact_neighbours(source, field, np.ones((2, 8), np.float32), [Ranking(Metric.DOT)], k=0)
