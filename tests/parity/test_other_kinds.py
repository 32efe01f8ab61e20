"""The truth of sparse vectors and of lists of vectors is what comparing every pair in float64 gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitramp.arrow import vector_type
from exitramp.errors import DataInvalid
from exitramp.filters import Range
from exitramp.parity.recall import judge, overlap
from exitramp.parity.sampling import sample_queries
from exitramp.parity.scoring import kind_of, multi, sparse, tie_width
from exitramp.parity.truth import Ranking, Truth, exact_neighbours
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorField, VectorKind
from exitramp.testing.reference import score
from exitramp.testing.rows import NUMPY_TYPE, Row

Vector = Any
METRICS = [Metric.DOT, Metric.COSINE]


def sparse_field(metric: Metric = Metric.DOT) -> VectorField:
    return VectorField("words", VectorKind.SPARSE, DType.FLOAT32, metric, None)


def multi_field(metric: Metric = Metric.COSINE, dtype: DType = DType.FLOAT32, dimensions: int = 8) -> VectorField:
    return VectorField("late", VectorKind.MULTI, dtype, metric, dimensions)


def words(**weights: float) -> Vector:
    """`i3=1.5` is the weight 1.5 at the index 3, in the order in which they are given."""
    indices = np.array([int(name[1:]) for name in weights], np.uint32)
    return indices, np.array(list(weights.values()), np.float32)


def source_of(parity: Any, field: VectorField, vectors: list[Vector], payloads: Any = None) -> Any:
    spec = CollectionSpec("c", IdKind.STRING, (field,))
    rows = [
        Row(
            f"r{number:03d}",
            payload=payloads[number] if payloads else None,
            vectors={} if vector is None else {field.column: vector},
        )
        for number, vector in enumerate(vectors)
    ]
    return parity.Source(spec, rows)


def found(source: Any, queries: list[Vector], *, k: int = 5, metric: Metric | None = None, **more: Any) -> Truth:
    [field] = source.spec.vectors
    return exact_neighbours(source, field, queries, [Ranking(metric or field.metric)], k=k, **more)[0]


def expected(field: VectorField, metric: Metric, query: Vector, source: Any) -> dict[RecordKey, float]:
    """Every record's distance, one at a time; of sparse vectors only what is above zero."""
    asked = VectorField(field.name, field.kind, field.dtype, metric, field.dimensions)
    distances = {}
    for row in source.rows:
        vector = row.vectors.get(field.column)
        if vector is None or not np.isfinite(np.asarray(vector[1] if isinstance(vector, tuple) else vector)).all():
            continue
        if field.kind is VectorKind.MULTI and not len(vector):
            continue
        near = score(asked, query, vector)
        if field.kind is VectorKind.MULTI:
            near /= len(query)
        elif near <= 1e-12:
            continue
        distances[row.key] = 1 - near if metric is Metric.COSINE else -near
    return distances


def assert_true(truth: Truth, source: Any, queries: list[Vector], *, kept: int) -> None:
    [field] = source.spec.vectors
    for place, query in enumerate(queries):
        wanted = expected(field, truth.ranking.metric, query, source)
        assert len(truth.keys[place]) == min(kept, len(wanted))
        assert truth.distances[place] == pytest.approx(sorted(wanted.values())[:kept], rel=1e-12, abs=1e-14)
        for key, distance in zip(truth.keys[place], truth.distances[place], strict=True):
            assert distance == pytest.approx(wanted[key], rel=1e-12, abs=1e-14)


numbers = st.floats(-4, 4, width=32).map(lambda value: 0.0 if abs(value) < 1e-3 else value)
whole = st.integers(-3, 3).map(float)


@st.composite
def sparse_vectors(draw: st.DrawFn, values: st.SearchStrategy[float]) -> Vector:
    indices = draw(st.lists(st.sampled_from([0, 1, 2, 7, 30_000, 2**31, 2**32 - 1]), max_size=6))
    return np.array(indices, np.uint32), np.array([draw(values) for _ in indices], np.float32)


@settings(max_examples=80, deadline=None)
@given(data=st.data(), metric=st.sampled_from(METRICS), values=st.sampled_from([whole, whole.map(abs)]))
def test_sparse_neighbours_are_those_of_comparing_every_pair(
    parity: Any, data: st.DataObject, metric: Metric, values: Any
) -> None:
    """Whole numbers, so that what cancels is zero; indices in any order, and some twice."""
    vectors = data.draw(st.lists(sparse_vectors(values) | st.none(), max_size=25))
    queries = data.draw(st.lists(sparse_vectors(values), min_size=1, max_size=4))
    source = source_of(parity, sparse_field(), vectors)
    truth = found(source, queries, k=3, metric=metric, slack=2, batch_rows=data.draw(st.sampled_from([1, 4, 100])))
    assert truth.matching == sum(vector is not None for vector in vectors)
    assert_true(truth, source, queries, kept=5)


@settings(max_examples=80, deadline=None)
@given(
    data=st.data(),
    metric=st.sampled_from(METRICS),
    dtype=st.sampled_from([DType.FLOAT32, DType.FLOAT64, DType.FLOAT16, DType.INT8]),
)
def test_multi_neighbours_are_those_of_comparing_every_pair(
    parity: Any, data: st.DataObject, metric: Metric, dtype: DType
) -> None:
    field = multi_field(metric, dtype, 3)

    def lists(least: int) -> st.SearchStrategy[Vector]:
        row = st.lists(whole if dtype is DType.INT8 else numbers, min_size=3, max_size=3)
        many = st.lists(row, min_size=least, max_size=5)
        return many.map(lambda rows: np.array(rows, NUMPY_TYPE[dtype]).reshape(-1, 3))

    vectors = data.draw(st.lists(lists(0) | st.none(), max_size=25))
    queries = data.draw(st.lists(lists(1), min_size=1, max_size=4))
    source = source_of(parity, field, vectors)
    truth = found(source, queries, k=3, slack=2, batch_rows=data.draw(st.sampled_from([1, 4, 100])))
    assert_true(truth, source, queries, kept=5)


def many_sparse(count: int, seed: int, *, signed: bool = False) -> list[Vector]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        indices = np.sort(rng.choice(60, rng.integers(1, 20), replace=False)).astype(np.uint32)
        made.append((indices, rng.uniform(-1.0 if signed else 0.01, 1.0, len(indices)).astype(np.float32)))
    return made


def many_multi(field: VectorField, count: int, seed: int, *, most: int = 7) -> list[Vector]:
    rng = np.random.default_rng(seed)
    matrices = [rng.standard_normal((rng.integers(1, most + 1), field.item_count)) for _ in range(count)]
    return [matrix.astype(NUMPY_TYPE[field.dtype]) for matrix in matrices]


@pytest.mark.parametrize("metric", METRICS)
def test_the_result_does_not_depend_on_where_lists_and_rows_are_cut(
    parity: Any, monkeypatch: pytest.MonkeyPatch, metric: Metric
) -> None:
    field = multi_field(metric)
    for source, module, name, queries in (
        (source_of(parity, field, many_multi(field, 90, 1)), multi, "VECTORS_AT_ONCE", many_multi(field, 9, 2)),
        (source_of(parity, sparse_field(metric), many_sparse(90, 1)), sparse, "PRODUCTS_AT_ONCE", many_sparse(9, 2)),
    ):
        truths = []
        for at_once in (10**6, 5, 1):
            monkeypatch.setattr(module, name, at_once)
            truths.append(found(source, queries, batch_rows=37))
            assert_true(truths[-1], source, queries, kept=21)
        assert truths[0].keys == truths[1].keys == truths[2].keys


def test_lists_that_float32_cannot_tell_apart_are_ranked_rightly(parity: Any) -> None:
    field = multi_field(Metric.DOT, DType.FLOAT64)
    rng = np.random.default_rng(3)
    vectors = [1000 + rng.standard_normal((3, 8)) * 1e-6 for _ in range(80)]
    vectors += [rng.standard_normal((2, 8)) * size for size in (1e-200, 1e-20, 1e20, 1e100)]
    source = source_of(parity, field, vectors)
    queries = [vectors[0], vectors[1] * 1e-18, vectors[2] * 1e18]
    truth = found(source, queries, slack=3)
    plain = [np.concatenate(vectors[:80]).astype(np.float32) @ queries[0].astype(np.float32).T]
    assert len(np.unique(plain[0])) < 200, "in float32 many of them are the same"
    for place, query in enumerate(queries):
        wanted = expected(field, Metric.DOT, query, source)
        assert truth.distances[place] == pytest.approx(sorted(wanted.values())[:8], rel=1e-12)


def test_what_is_not_there_or_not_finite_is_no_neighbour(parity: Any) -> None:
    rows = [words(i1=1), None, words(i1=np.nan), words(i1=np.inf), words(), words(i2=1)]
    truth = found(source_of(parity, sparse_field(), rows), [words(i1=1)])
    assert [key.id for key in truth.keys[0]] == ["r000"]
    assert truth.matching == 3, "two of which no truth names"
    field = multi_field(dimensions=2)
    lists = [np.array(rows, np.float32).reshape(-1, 2) for rows in ([[1, 0]], [], [[1, 0], [np.nan, 0]], [[0, 0]])]
    truth = found(source_of(parity, field, [*lists, None]), [lists[0]])
    assert [key.id for key in truth.keys[0]] == ["r000", "r003"]
    assert truth.distances[0].tolist() == [0, 1], "a zero vector has cosine 0"


def test_a_sum_that_only_cancels_is_no_nearness(parity: Any) -> None:
    third = np.float32(1) / np.float32(3)
    rows = [words(i1=0.1, i2=-third), words(i1=0.1, i2=-third, i3=1e-9), words(i1=0.1, i2=-third, i3=1e-3)]
    query = words(i1=third, i2=np.float32(0.1), i3=1.0)
    truth = found(source_of(parity, sparse_field(), rows), [query])
    assert [key.id for key in truth.keys[0]] == ["r002"]


ABOVE, NEGATIVE = ("r000", "r001"), ("r002",)
FEW = [words(i1=2), words(i1=1, i2=5), words(i1=-1), words(i3=1), words(i4=1), words(i1=0), None]


@pytest.mark.parametrize(
    ("answer", "recall"),
    [
        (ABOVE, 1),  # as a store that returns nothing else
        ((*ABOVE, *NEGATIVE), 1),  # Qdrant
        ((*ABOVE, "r003", "r004", "r005", *NEGATIVE), 1),  # pgvector, DuckDB, memory
        ((*ABOVE, "r006"), 1),
        (("r000", "r003", "r004"), 0.5),
        (("r003", "r004", "r005"), 0),
        ((), 0),
    ],
)
def test_what_scores_nothing_counts_neither_way(parity: Any, answer: tuple[str, ...], recall: float) -> None:
    source = source_of(parity, sparse_field(), FEW)
    queries = [words(i1=1)]
    truth = found(source, queries, k=6)
    assert truth.wanted(0) == 2
    hits = [tuple(RecordKey(id_) for id_ in answer)]
    judged = judge(source, source.spec.vectors[0], queries, truth, hits)
    assert judged.recall[0] == recall
    assert (judged.strangers, judged.outside) == (0, 0)
    assert judged.short == (len(answer) < 2)
    assert overlap(truth, judged, judged, hits, hits)[0] == recall, "agreeing on nothing is no agreement"


@pytest.mark.parametrize(
    ("field", "vectors", "asked"),
    [
        (sparse_field(), [words(i1=1), words(i1=0), words(), words(i1=np.nan), None, words(i2=1, i1=-1)], "05"),
        (sparse_field(), [(np.array([3, 3], np.uint32), np.ones(2, np.float32)), words(i3=1)], "1"),
        (
            multi_field(dimensions=2),
            [np.array(rows, np.float32).reshape(-1, 2) for rows in ([[1, 0]], [], [[1, 0], [0, 0]], [[np.inf, 1]])],
            "0",
        ),
        (multi_field(dimensions=2, dtype=DType.INT8), [np.array([[1, 0], [3, 4]], np.int8), None], "0"),
    ],
)
def test_only_what_every_store_can_be_asked_with_is_a_query(
    parity: Any, field: VectorField, vectors: list[Vector], asked: str
) -> None:
    source = source_of(parity, field, vectors)
    sample = sample_queries(source, field, queries=20, seed=1, batch_rows=3)
    assert sorted(key.id[-1] for key in sample.keys) == sorted(asked)
    assert sample.population == len(asked)
    for key, vector in zip(sample.keys, sample.vectors, strict=True):
        stored = next(row.vectors[field.column] for row in source.rows if row.key == key)
        assert all(np.array_equal(one, other) for one, other in zip(vector, stored, strict=True))


def test_a_sample_of_any_kind_does_not_depend_on_order(parity: Any) -> None:
    for field, vectors in ((sparse_field(), many_sparse(60, 4)), (multi_field(), many_multi(multi_field(), 60, 4))):
        source = source_of(parity, field, vectors)
        one = sample_queries(source, field, queries=9, seed=2)
        source.rows.reverse()
        other = sample_queries(source, field, queries=9, seed=2, batch_rows=7)
        assert one.keys == other.keys
        for first, second in zip(one.vectors, other.vectors, strict=True):
            assert all(np.array_equal(part, again) for part, again in zip(first, second, strict=True))


@pytest.mark.parametrize("field", [sparse_field(), multi_field()])
def test_slices_and_nulls_of_arrow_do_not_shift_anything(field: VectorField) -> None:
    rng = np.random.default_rng(5)
    if field.kind is VectorKind.SPARSE:
        values: list[Any] = [
            {"indices": rng.choice(9, 3, replace=False).tolist(), "values": rng.random(3).tolist()} for _ in range(9)
        ]
    else:
        values = [rng.standard_normal((size, 8)).tolist() for size in (1, 3, 2, 0, 4, 1, 1, 2, 5)]
    values[2] = values[6] = None
    column = pa.array(values, vector_type(field))
    kind = kind_of(field.kind)
    queries = kind.queries(kind.vectors(column, [0, 4]), field)
    pairs = (np.repeat([0, 1], 4), np.tile(np.arange(4), 2))
    uncut = queries.block(column)
    part = queries.block(column.slice(1, 4))
    assert part.usable.tolist() == uncut.usable[1:5].tolist()
    usable = part.usable[pairs[1]]
    for metric in METRICS:
        at = (pairs[0][usable], pairs[1][usable])
        assert part.distances(at, metric).tolist() == uncut.distances((at[0], at[1] + 1), metric).tolist()


def test_queries_of_another_shape_are_refused() -> None:
    field = multi_field()
    for wrong in (np.zeros((2, 7), np.float32), np.zeros((0, 8), np.float32), np.zeros(8, np.float32)):
        with pytest.raises(DataInvalid, match="multi:late"):
            kind_of(field.kind).queries([wrong], field)


@settings(max_examples=40, deadline=None)
@given(
    metric=st.sampled_from(METRICS),
    scale=st.sampled_from([1e-30, 1e-10, 1.0, 1e6, 1e18]),
    offset=st.sampled_from([0.0, 1.0, 1e4]),
    dimensions=st.sampled_from([1, 3, 100]),
    seed=st.integers(0, 10**6),
)
def test_the_bound_on_the_error_of_maxsim_never_loses_a_pair(
    metric: Metric, scale: float, offset: float, dimensions: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    field = multi_field(metric, DType.FLOAT32, dimensions)
    lists = [
        ((rng.standard_normal((rng.integers(1, 9), dimensions)) + offset) * scale).astype(np.float32) for _ in range(36)
    ]
    queries = multi.MultiQueries(lists[:6], field)
    values = [each.tolist() for each in lists[6:]]
    block = queries.block(pa.array(values, vector_type(field)))
    pairs = (np.repeat(np.arange(6), 30), np.tile(np.arange(30), 6))
    true, near = block.distances(pairs, metric).reshape(6, 30), block.nearness(metric)
    for place in range(30):
        least = queries.least_nearness(metric, true[:, place])
        assert (near >= least[:, None])[true < true[:, [place]]].all()


def test_a_tie_is_as_wide_for_lists_as_for_single_vectors(parity: Any) -> None:
    """The mean over the query's vectors stands for their sum: of a hundred, cosines add up to a hundred."""
    field = multi_field(Metric.COSINE, dimensions=2)
    angle = 1e-3
    rows = [np.array([[1, 0]], np.float32), np.array([[np.cos(angle), np.sin(angle)]], np.float32)]
    truth = found(source_of(parity, field, rows), [np.tile(rows[0], (100, 1))], k=1)
    assert truth.distances[0] == pytest.approx([0, angle**2 / 2], abs=1e-7)
    assert tie_width(Metric.COSINE, 0.0, 1e-6) == 1e-6
    assert truth.boundary(0, 1e-6) > truth.distances[0][1] > truth.boundary(0, 1e-8)


@pytest.mark.parametrize("field", [sparse_field(), multi_field()])
def test_several_rankings_of_one_block_do_not_disturb_each_other(parity: Any, field: VectorField) -> None:
    vectors = many_multi(field, 80, 8) if field.kind is VectorKind.MULTI else many_sparse(80, 8, signed=True)
    source = source_of(parity, field, vectors, [{"n": number} for number in range(80)])
    lost = frozenset(row.key for row in source.rows[:30])
    rankings = [
        Ranking(field.metric),
        Ranking(field.metric, Range(("n",), lt=20)),
        Ranking(Metric.COSINE, without=lost),
        Ranking(Metric.DOT),
        Ranking(field.metric),
    ]
    own = [row.key for row in source.rows[:9]]
    truths = exact_neighbours(source, field, vectors[:9], rankings, k=4, slack=3, exclude=own, batch_rows=23)
    assert [truth.matching for truth in truths] == [80, 20, 50, 80, 80]
    assert truths[0].keys == truths[4].keys
    for truth, among in zip(truths, ([*range(80)], [*range(20)], [*range(30, 80)], [*range(80)]), strict=False):
        for place in range(9):
            held = parity.Source(source.spec, [source.rows[row] for row in among if row != place])
            wanted = expected(field, truth.ranking.metric, vectors[place], held)
            assert truth.distances[place] == pytest.approx(sorted(wanted.values())[:7], rel=1e-12, abs=1e-14)
