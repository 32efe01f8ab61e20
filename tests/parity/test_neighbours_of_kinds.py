"""Neighbours of sparse vectors and of lists of vectors are judged like those of dense ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from exitramp.errors import UsageError
from exitramp.filters import Eq
from exitramp.parity.neighbours import NeighbourParity, compare_neighbours
from exitramp.ports import Hits, IndexState, Query, SearchSettings
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind, Verdict
from exitramp.testing.reference import matches, score
from exitramp.testing.rows import Row

ROWS = 60
WORDS = VectorField("words", VectorKind.SPARSE, DType.FLOAT32, Metric.DOT, None)
LATE = VectorField("late", VectorKind.MULTI, DType.FLOAT32, Metric.DOT, 4)
KINDS = [WORDS, LATE]


@dataclass
class Search:
    """Every record by the reference, and then what `leaves` leaves of those with their scores."""

    asks: VectorField
    rows: list[Row]
    leaves: Callable[[list[tuple[float, Row]]], list[tuple[float, Row]]] = lambda scored: scored
    ignores_filters: bool = False
    settings: list[SearchSettings] = field(default_factory=list)

    def index_state(self) -> IndexState:
        return IndexState.READY

    def search(self, query: Query, *, k: int, where: Any, settings: SearchSettings, **more: Any) -> Hits:
        self.settings.append(settings)
        asked = query.sparse if self.asks.kind is VectorKind.SPARSE else query.multi
        assert asked is not None
        among = [row for row in self.rows if where is None or self.ignores_filters or matches(where, row.payload)]
        scored = [(score(self.asks, asked, row.vectors[self.asks.column]), row) for row in among]
        scored = self.leaves(sorted(scored, key=lambda each: -each[0]))[:k]
        return Hits(tuple(row.key for _, row in scored), tuple(near for near, _ in scored))


def rows_of(vector: VectorField) -> list[Row]:
    rng = np.random.default_rng(1)
    rows = []
    for number in range(ROWS):
        if vector.kind is VectorKind.SPARSE:
            indices = np.sort(rng.choice(25, rng.integers(2, 7), replace=False)).astype(np.uint32)
            value: Any = (indices, rng.normal(1.0, 1.0, len(indices)).astype(np.float32))  # some below zero
        else:
            value = rng.standard_normal((rng.integers(1, 5), 4)).astype(np.float32) * rng.uniform(0.2, 5)
        rows.append(Row(f"r{number:02d}", payload={"half": number % 2}, vectors={vector.column: value}))
    return rows


@dataclass
class Pair:
    vector: VectorField
    rows: list[Row]
    a: Any
    b: Any
    search_a: Search
    search_b: Search

    def compare(self, **more: Any) -> NeighbourParity:
        given = {"queries": 200, "k": 5, "field": self.vector.name, "kind": self.vector.kind} | more
        return compare_neighbours(self.a, self.b, self.search_a, self.search_b, **given)


@pytest.fixture(params=KINDS, ids=lambda each: each.kind.value)
def pair(request: pytest.FixtureRequest, parity: Any) -> Pair:
    return made(parity, request.param)


def made(parity: Any, vector: VectorField) -> Pair:
    spec, rows = CollectionSpec("c", IdKind.STRING, (vector,)), rows_of(vector)
    sides = parity.Source(spec, rows), parity.Source(spec, rows)
    return Pair(vector, rows, *sides, Search(vector, rows), Search(vector, rows))


def codes(result: NeighbourParity) -> dict[str, Verdict | None]:
    return {finding.code: finding.verdict for finding in result.findings}


def test_two_that_answer_rightly_pass_under_filters_too(pair: Pair) -> None:
    result = pair.compare(filters=[("half", Eq(("half",), 1))])
    assert result.verdict is Verdict.PASS
    assert (result.kind, result.column) == (pair.vector.kind, pair.vector.column)
    assert [(part.name, part.matching, part.mean_overlap) for part in result.parts] == [
        ("all", ROWS, 1.0),
        ("half", ROWS // 2, 1.0),
    ]
    assert result.to_json()["kind"] == pair.vector.kind.value
    assert pair.a.scans == 2


@pytest.mark.parametrize(
    "leaves",
    [
        lambda scored: [each for each in scored if each[0] != 0],
        lambda scored: [each for each in scored if each[0] > 0],
        lambda scored: scored,
        lambda scored: sorted(scored, key=lambda each: (each[0] <= 0, -each[0] if each[0] > 0 else each[0])),
    ],
)
def test_it_does_not_matter_what_a_store_does_with_scores_of_zero_or_less(parity: Any, leaves: Any) -> None:
    pair = made(parity, WORDS)
    pair.search_b.leaves = leaves
    for result in (pair.compare(k=40), replace(pair, search_a=pair.search_b, search_b=pair.search_a).compare(k=40)):
        [part] = result.parts
        assert result.verdict is Verdict.PASS
        assert (part.mean_a, part.mean_overlap, part.short_b) == (1.0, 1.0, 0)


def test_an_index_that_misses_some_fails_by_the_index(pair: Pair) -> None:
    pair.search_b.leaves = lambda scored: scored[::2]
    result = pair.compare(records=Verdict.PASS)
    assert result.verdict is Verdict.FAIL
    [missed] = [each for each in result.findings if each.code == "neighbours.recall"]
    assert missed.message.startswith("the data agree but the index answers differently")


def test_an_index_that_answers_by_another_metric_is_told_by_it(pair: Pair) -> None:
    pair.search_b.asks = replace(pair.vector, metric=Metric.COSINE)
    result = pair.compare()
    [told] = [each for each in result.findings if each.code == "neighbours.metric"]
    assert (result.verdict, told.verdict) == (Verdict.FAIL, Verdict.FAIL)
    assert told.detail == {"metric_a": "dot", "metric_b": "cosine"}


def test_an_index_that_ignores_filters_fails(pair: Pair) -> None:
    pair.search_b.ignores_filters = True
    result = pair.compare(filters=[("half", Eq(("half",), 1))])
    assert [part.verdict for part in result.parts] == [Verdict.PASS, Verdict.FAIL]
    assert codes(result)["neighbours.filter"] is Verdict.FAIL


def test_lost_records_are_told_from_a_bad_index(pair: Pair) -> None:
    kept, lost = pair.rows[:40], frozenset(row.key for row in pair.rows[40:])
    pair.search_b.rows = kept
    result = pair.compare(missing=lost)
    [told] = [each for each in result.findings if each.code == "neighbours.missing"]
    assert result.verdict is Verdict.FAIL
    assert told.detail["recall_among_held"] == 1.0


def test_a_side_that_refuses_leaves_it_open(pair: Pair) -> None:
    def refuse(scored: Any) -> Any:
        raise UsageError("no such kind here")

    pair.search_b.leaves = refuse
    result = pair.compare()
    assert result.verdict is Verdict.INCONCLUSIVE
    assert [each.message for each in result.findings] == ["B refuses the search: no such kind here"]


def test_a_field_that_b_does_not_have_leaves_it_open(pair: Pair) -> None:
    other = VectorField(pair.vector.name, VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 4)
    pair.b.spec = replace(pair.b.spec, vectors=(other,))
    result = pair.compare()
    assert result.verdict is Verdict.INCONCLUSIVE
    assert list(codes(result)) == ["neighbours.field"]


@pytest.mark.parametrize("metric", [Metric.EUCLIDEAN, Metric.MANHATTAN, Metric.HAMMING])
def test_a_metric_without_one_meaning_leaves_it_open_and_is_named(pair: Pair, metric: Metric) -> None:
    result = pair.compare(metric_b=metric)
    [told] = result.findings
    assert result.verdict is Verdict.INCONCLUSIVE
    assert told.code == "neighbours.unasked"
    assert f"what {metric} means for them" in told.message
    assert pair.vector.column in told.message
    assert pair.search_b.settings == []


def test_too_few_queries_show_nothing(pair: Pair) -> None:
    result = pair.compare(queries=19)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert codes(result)["neighbours.too_few"] is Verdict.INCONCLUSIVE


def test_the_callers_own_queries_are_asked(pair: Pair) -> None:
    asked = [row.vectors[pair.vector.column] for row in rows_of(pair.vector)[:30]]
    result = pair.compare(queries=asked)
    assert (result.own_records, result.parts[0].queries) == (False, 30)
    assert result.parts[0].mean_a == 1.0


def test_what_neighbours_there_are_to_find_is_what_others_have_in_common(parity: Any) -> None:
    pair = made(parity, WORDS)
    apart = [replace(row, vectors={WORDS.column: (np.array([number], np.uint32), np.ones(1, np.float32))})
             for number, row in enumerate(pair.rows)]  # fmt: skip
    pair.a.rows = pair.b.rows = pair.search_a.rows = pair.search_b.rows = apart
    result = pair.compare()
    assert result.verdict is Verdict.INCONCLUSIVE
    assert list(codes(result)) == ["neighbours.none"]
