"""The verdict on neighbours rests on exact truth, tells data from index, and never passes on nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from exitramp.clock import ManualClock
from exitramp.errors import DataInvalid, StoreRejected, StoreTimeout, UsageError
from exitramp.filters import Eq, Filter, Range
from exitramp.parity.neighbours import Demands, NeighbourParity, compare_neighbours, metric_disagreement
from exitramp.ports import IndexState, SearchSettings, TransferAccount
from exitramp.records import DType, Finding, Metric, RecordKey, VectorField, VectorKind, Verdict
from exitramp.testing.memory import MemoryStore
from exitramp.testing.rows import Row, batch_from_rows

SECRET = "confidential"
RNG = np.random.default_rng(21)
# Norms from 0.3 to 3, so that cosine, dot and Euclid rank differently.
MATRIX = (RNG.standard_normal((120, 8)) * RNG.uniform(0.3, 3.0, (120, 1))).astype(np.float32)
PAYLOADS = [{"part": f"{SECRET} {number % 4}", "page": number} for number in range(120)]
QUARTER = Eq(("part",), f"{SECRET} 1")


class Pair:
    """Two equal sides that a test may then change."""

    def __init__(self, parity: Any, metric: Metric = Metric.COSINE, rows: int = 120) -> None:
        self.spec = parity.spec(metric)
        self.rows: list[Row] = parity.rows(MATRIX[:rows].copy(), PAYLOADS)
        self.a, self.b = parity.Source(self.spec, self.rows), parity.Source(self.spec, self.rows)
        self.search_a = parity.Search(self.spec, self.rows, metric)
        self.search_b = parity.Search(self.spec, self.rows, metric)
        self.clock = ManualClock()

    def compare(self, **more: Any) -> NeighbourParity:
        given = {"queries": 200, "k": 5, "seed": 1, "clock": self.clock, "search_a": self.search_a, **more}
        result = compare_neighbours(self.a, self.b, given.pop("search_a"), self.search_b, **given)
        emitted = json.dumps(result.to_json(), allow_nan=False)
        assert json.loads(emitted)["verdict"] == result.verdict
        assert SECRET not in emitted + result.summary() + repr(result.findings)
        return result


@pytest.fixture
def pair(parity: Any) -> Pair:
    return Pair(parity)


def losing(chance: float, seed: int = 0) -> Any:
    """An index that puts another record for a hit, with this chance for each."""
    rng = np.random.default_rng(seed)

    def bend(keys: list[RecordKey], k: int) -> list[RecordKey]:
        return [keys[-1 - at] if rng.random() < chance else key for at, key in enumerate(keys[:k])]

    return bend


def found(result: NeighbourParity, code: str) -> list[Finding]:
    return [finding for finding in result.findings if finding.code == f"neighbours.{code}"]


def test_two_exact_indexes_pass_and_every_record_was_asked(pair: Pair) -> None:
    result = pair.compare(records=Verdict.PASS)
    [part] = result.parts
    assert (result.verdict, result.findings, result.own_records) == (Verdict.PASS, (), True)
    assert part.recall_a == part.recall_b == part.overlap == (1.0,) * 120
    assert part.bounds_b is not None
    assert (part.bounds_b.lower, part.queries, part.short_b) == (1.0, 120, 0)
    assert sorted(part.query_ids) == [row.id for row in pair.rows]
    assert (
        result.summary()
        == "vector: recall@5 of B 1.0000 (lower bound 1.0000, floor 0.95), of A 1.0000, overlap 1.0000,"
        " over 120 queries"
    )


def test_a_record_is_never_an_answer_to_its_own_vector(pair: Pair) -> None:
    returned: list[list[RecordKey]] = []
    pair.search_b.bend = lambda keys, k: returned.append(keys[:k]) or keys[:k]
    result = pair.compare(queries=20)
    own = result.parts[0].query_ids
    assert all(any(key.id == id_ for key in hits) for id_, hits in zip(own, returned, strict=True))
    assert result.parts[0].recall_b == (1.0,) * 20


def test_an_index_that_answers_badly_fails_though_the_data_agree(pair: Pair) -> None:
    pair.search_b.bend = losing(0.4)
    result = pair.compare(records=Verdict.PASS)
    assert result.verdict is Verdict.FAIL
    [recall], [margin] = found(result, "recall"), found(result, "margin")
    assert "the data agree but the index answers differently" in recall.message
    assert recall.verdict is margin.verdict is Verdict.FAIL
    part = result.parts[0]
    worst = part.worst()
    assert worst is not None
    assert part.recall_b is not None
    assert part.recall_b[worst] == min(value for value in part.recall_b if value is not None)
    assert recall.ids[0] in part.query_ids
    assert len(recall.ids) == 20
    assert not found(result, "metric")


def test_where_the_data_differ_the_finding_says_so_and_what_b_makes_of_what_it_holds(pair: Pair) -> None:
    lost = {row.key for row in pair.rows[::4]}
    pair.b.rows = pair.search_b.rows = [row for row in pair.rows if row.key not in lost]
    result = pair.compare(records=Verdict.FAIL, missing=frozenset(lost))
    assert result.verdict is Verdict.FAIL
    [recall], [missing] = found(result, "recall"), found(result, "missing")
    assert "the data differ" in recall.message
    assert "the data agree" not in repr(result.findings)
    assert missing.detail["recall_among_held"] == 1.0
    assert missing.count == 30


def test_without_a_verdict_on_the_records_nothing_is_said_of_the_data(pair: Pair) -> None:
    pair.search_b.bend = losing(0.5)
    [recall] = found(pair.compare(), "recall")
    assert "whether the data agree is not known" in recall.message


def test_an_index_of_another_declared_metric_fails_by_the_name_of_both(parity: Any, pair: Pair) -> None:
    pair.b.spec = parity.spec(Metric.DOT)
    pair.search_b.metric = Metric.DOT
    result = pair.compare(records=Verdict.PASS)
    assert result.verdict is Verdict.FAIL
    [metric] = found(result, "metric")
    assert metric.verdict is Verdict.FAIL
    assert "the data agree but the index answers differently: it answers by another metric" in metric.message
    assert "B declares dot, A cosine" in metric.message
    assert "1.0000 by dot" in metric.message
    assert metric.detail == {"metric_a": "cosine", "metric_b": "dot"}
    assert result.metric_overlap is not None
    assert result.metric_overlap < 0.9
    assert result.parts[0].mean_a == 1.0


def test_a_metric_that_nobody_declares_is_recognised_by_the_answers(pair: Pair) -> None:
    pair.search_b.metric = Metric.DOT
    result = pair.compare(records=Verdict.PASS)
    [metric] = found(result, "metric")
    assert "B declares cosine like A" in metric.message
    assert "by dot" in metric.message
    assert result.metric_overlap is None


def test_the_stores_own_metric_may_be_given_where_the_spec_tells_the_original(pair: Pair) -> None:
    pair.search_b.metric = Metric.DOT
    result = pair.compare(metric_b=Metric.DOT)
    assert result.metric_b is Metric.DOT
    assert "B declares dot" in found(result, "metric")[0].message


def test_metrics_that_rank_alike_are_told_and_pass(parity: Any, pair: Pair) -> None:
    for row in pair.rows:
        row.vectors["vector"] /= np.linalg.norm(row.vectors["vector"])
    pair.b.spec = parity.spec(Metric.DOT)
    pair.search_b.metric = Metric.DOT
    result = pair.compare()
    assert result.verdict is Verdict.PASS
    [metric] = found(result, "metric")
    assert (metric.verdict, result.metric_overlap) == (None, 1.0)


def test_the_packaged_claim_that_two_metrics_disagree_on_raw_vectors_and_not_on_unit_ones(parity: Any) -> None:
    rng = np.random.default_rng(4)
    raw = (rng.standard_normal((150, 16)) * rng.uniform(0.5, 4.0, (150, 1))).astype(np.float32)
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    spec = parity.spec(dimensions=16)
    sources = {name: parity.Source(spec, parity.rows(matrix)) for name, matrix in (("raw", raw), ("unit", unit))}
    assert metric_disagreement(sources["raw"], 50, Metric.COSINE, Metric.DOT, 10) < 0.9
    assert metric_disagreement(sources["unit"], 50, Metric.COSINE, Metric.DOT, 10) == 1.0
    assert metric_disagreement(sources["unit"], unit[:30], Metric.COSINE, Metric.EUCLIDEAN, 10) == 1.0
    with pytest.raises(DataInvalid):
        metric_disagreement(parity.Source(spec, []), 50, Metric.COSINE, Metric.DOT)


def test_doubles_at_the_boundary_cost_no_recall(parity: Any, pair: Pair) -> None:
    """Ten records for each vector, and a side that names the last ones where the other names the first."""
    rows = parity.rows(MATRIX[np.arange(120) % 12])
    pair.a.rows = pair.b.rows = pair.search_a.rows = pair.search_b.rows = rows
    groups = {row.key: number % 12 for number, row in enumerate(rows)}

    def turned(keys: list[RecordKey], k: int) -> list[RecordKey]:
        order: dict[int, list[RecordKey]] = {}
        for key in keys:
            order.setdefault(groups[key], []).append(key)
        return [key for group in order.values() for key in reversed(group)][:k]

    pair.search_b.bend = turned
    result = pair.compare(records=Verdict.PASS)
    assert result.verdict is Verdict.PASS
    assert result.parts[0].mean_overlap == 1.0


def test_a_few_queries_are_inconclusive_whatever_they_show(pair: Pair) -> None:
    result = pair.compare(queries=19)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert found(result, "too_few")[0].count == 19


def test_more_queries_that_cannot_rule_out_the_margin_are_inconclusive_and_say_how_many_can(pair: Pair) -> None:
    result = pair.compare(queries=40)
    assert (result.parts[0].floor, result.parts[0].margin) == (Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE)
    assert result.verdict is Verdict.INCONCLUSIVE
    [few] = found(result, "too_few")
    assert "40 queries cannot rule out a loss of 0.02" in few.message
    assert pair.compare(queries=40, demands=Demands(recall_floor=0.9, recall_margin=0.1)).verdict is Verdict.PASS


def test_a_clear_failure_needs_no_more_queries(pair: Pair) -> None:
    pair.search_b.bend = losing(0.6)
    result = pair.compare(queries=40)
    assert result.verdict is Verdict.FAIL
    assert found(result, "recall")[0].verdict is Verdict.FAIL


def test_a_floor_within_the_bounds_is_undecided(pair: Pair) -> None:
    pair.search_b.bend = losing(0.05)
    result = pair.compare(queries=60, demands=Demands(recall_floor=0.95, recall_margin=0.5))
    [recall] = found(result, "recall")
    assert (result.verdict, recall.verdict) == (Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE)
    assert "answers differently" not in recall.message


def test_a_side_that_is_as_bad_as_the_other_keeps_the_margin_and_fails_the_floor(pair: Pair) -> None:
    pair.search_a.bend, pair.search_b.bend = losing(0.3, seed=5), losing(0.3, seed=5)
    result = pair.compare()
    assert (result.parts[0].floor, result.parts[0].margin) == (Verdict.FAIL, Verdict.PASS)
    assert result.parts[0].difference is not None
    assert result.parts[0].difference.mean == 0.0


def test_without_an_index_on_a_only_the_floor_is_asked(pair: Pair) -> None:
    result = pair.compare(search_a=None)
    part = result.parts[0]
    assert (result.verdict, part.margin, part.recall_a, part.overlap) == (Verdict.PASS, None, None, None)
    assert "of A" not in result.summary()


@pytest.mark.parametrize("state", [IndexState.BUILDING, IndexState.UNKNOWN])
@pytest.mark.parametrize("bend", [None, 0.6])
def test_an_index_of_b_that_never_gets_ready_decides_nothing(pair: Pair, state: IndexState, bend: float | None) -> None:
    pair.search_b.states = [state]
    if bend:
        pair.search_b.bend = losing(bend)
    result = pair.compare(wait_seconds=7.0)
    assert result.verdict is Verdict.INCONCLUSIVE
    [index] = found(result, "index")
    assert index.detail == {"side": "B"}
    assert result.index_b is state
    assert result.parts[0].bounds_b is not None
    assert sum(pair.clock.slept_seconds) == pytest.approx(7.0)


def test_an_index_that_gets_ready_in_time_is_waited_for(pair: Pair) -> None:
    pair.search_b.states = [IndexState.BUILDING, IndexState.UNKNOWN, IndexState.READY]
    assert pair.compare(wait_seconds=60.0).verdict is Verdict.PASS
    assert len(pair.clock.slept_seconds) == 2


def test_an_unready_index_of_a_leaves_the_margin_open_and_the_floor_decided(pair: Pair) -> None:
    pair.search_a.states = [IndexState.BUILDING]
    result = pair.compare(wait_seconds=0)
    assert (result.verdict, result.parts[0].margin) == (Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE)
    pair.search_b.bend = losing(0.3)
    lenient = pair.compare(wait_seconds=0, demands=Demands(recall_floor=0.3))
    assert (lenient.parts[0].floor, lenient.verdict) == (Verdict.PASS, Verdict.INCONCLUSIVE)
    assert pair.compare(wait_seconds=0).verdict is Verdict.FAIL


def test_nothing_to_ask_with_is_inconclusive(parity: Any, pair: Pair) -> None:
    pair.a.rows = [Row("only"), Row("zero", vectors={"vector": np.zeros(8, np.float32)})]
    result = pair.compare()
    assert (result.verdict, result.parts, len(found(result, "none"))) == (Verdict.INCONCLUSIVE, (), 1)
    assert result.summary() == "vector: nothing measured"


def test_a_field_that_b_does_not_have_is_inconclusive(pair: Pair) -> None:
    pair.b.spec = replace(pair.spec, vectors=())
    assert found(pair.compare(), "field")
    wide = replace(pair.spec.vectors[0], dimensions=9)
    pair.b.spec = replace(pair.spec, vectors=(wide,))
    assert pair.compare().verdict is Verdict.INCONCLUSIVE


def test_a_field_that_a_does_not_have_is_the_users_mistake(pair: Pair) -> None:
    with pytest.raises(DataInvalid, match="title"):
        pair.compare(field="title")


def test_the_callers_own_queries_are_asked_as_they_are(pair: Pair) -> None:
    queries = np.random.default_rng(9).standard_normal((160, 8)).astype(np.float32)
    result = pair.compare(queries=queries)
    part = result.parts[0]
    assert (result.verdict, result.own_records, part.population) == (Verdict.PASS, False, None)
    assert part.query_ids[3] == "query 3"
    assert {k for k, _ in pair.search_b.asked} == {5}
    assert part.bounds_b is not None
    assert part.bounds_b.lower < 1.0


def test_filtered_neighbours_are_compared_under_each_filter(pair: Pair) -> None:
    result = pair.compare(filters=[("a quarter", QUARTER), ("early", Range(("page",), lt=40))])
    assert result.verdict is Verdict.PASS
    assert [(part.name, part.matching, part.asked_for) for part in result.parts] == [
        ("all", 120, True),
        ("a quarter", 30, True),
        ("early", 40, True),
    ]
    assert all(part.recall_b == (1.0,) * 120 for part in result.parts)
    assert pair.a.scans == 2


def test_an_index_that_ignores_filters_fails_by_the_filters_name(pair: Pair) -> None:
    pair.search_b.ignores_filters = True
    result = pair.compare(filters=[("a quarter", QUARTER)])
    assert [part.verdict for part in result.parts] == [Verdict.PASS, Verdict.FAIL]
    [outside] = found(result, "filter")
    assert outside.detail == {"part": "a quarter"}
    assert "a quarter" in outside.message
    assert result.parts[1].outside_b == outside.count
    assert result.verdict is Verdict.FAIL


def test_a_single_hit_outside_the_filter_fails_though_recall_is_perfect(pair: Pair) -> None:
    inner = pair.search_b.bend
    wrong = next(row.key for row in pair.rows if row.payload["page"] == 0)

    def bend(keys: list[RecordKey], k: int) -> list[RecordKey]:
        return [*inner(keys, k), wrong] if len(keys) < 10 else inner(keys, k)

    pair.search_b.bend = bend
    few = Range(("page",), gte=100, lt=104)
    result = pair.compare(filters=[("few", few)])
    assert result.parts[1].recall_b == (1.0,) * 120
    assert result.parts[1].verdict is Verdict.FAIL


def refuse_filters(error: Exception) -> Any:
    return lambda where: error if where is not None else None


def test_a_filter_that_b_refuses_is_a_finding_and_inconclusive(pair: Pair) -> None:
    pair.search_b.refuses = refuse_filters(UsageError("this store has no such filter"))
    result = pair.compare(filters=[("a quarter", QUARTER)])
    assert [part.verdict for part in result.parts] == [Verdict.PASS, Verdict.INCONCLUSIVE]
    [refused] = found(result, "refused")
    assert refused.message == "B refuses the search under the filter a quarter: this store has no such filter"
    assert result.verdict is Verdict.INCONCLUSIVE


def test_a_vendors_own_words_are_not_repeated(pair: Pair) -> None:
    pair.search_b.refuses = refuse_filters(StoreRejected(f"bad filter on {SECRET} 1"))
    assert "StoreRejected" in found(pair.compare(filters=[("a quarter", QUARTER)]), "refused")[0].message


def test_a_store_that_fails_is_no_finding(pair: Pair) -> None:
    pair.search_b.refuses = lambda where: StoreTimeout("no answer")
    with pytest.raises(StoreTimeout):
        pair.compare()


def test_a_refused_search_without_a_filter_is_inconclusive(pair: Pair) -> None:
    pair.search_b.refuses = lambda where: UsageError("no")
    assert pair.compare().verdict is Verdict.INCONCLUSIVE
    pair.search_b.refuses = lambda where: None
    pair.search_a.refuses = lambda where: UsageError("no")
    result = pair.compare()
    assert (result.parts[0].floor, result.parts[0].margin) == (Verdict.PASS, Verdict.INCONCLUSIVE)


def test_filters_are_proposed_from_the_data_and_named_without_values(pair: Pair) -> None:
    result = pair.compare(proposed=3)
    names = [part.name for part in result.parts[1:]]
    assert names[:2] == ["eq:part", "range:page"]
    assert not any(part.asked_for for part in result.parts[1:])
    assert result.verdict is Verdict.PASS
    assert all(1 <= part.matching <= 60 for part in result.parts[1:])


def test_a_proposed_filter_counts_only_where_a_answers_it(pair: Pair) -> None:
    pair.search_a.refuses = refuse_filters(UsageError("no filters here"))
    result = pair.compare(proposed=1)
    assert result.verdict is Verdict.PASS
    assert [finding.verdict for finding in found(result, "refused")] == [None]
    pair.search_b.refuses, pair.search_a.refuses = pair.search_a.refuses, lambda where: None
    result = pair.compare(proposed=1)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert [finding.verdict for finding in found(result, "refused")] == [Verdict.INCONCLUSIVE]


def test_a_filter_that_nothing_matches_is_inconclusive(pair: Pair) -> None:
    result = pair.compare(filters=[("nothing", Eq(("part",), "absent"))])
    assert result.verdict is Verdict.INCONCLUSIVE
    assert found(result, "none")


def test_queries_with_nothing_to_find_are_left_out_and_the_rest_are_no_full_count(pair: Pair) -> None:
    """A filter on one record: the query that is this record has nothing to find, the others find it."""
    result = pair.compare(filters=[("one", Range(("page",), gte=7, lt=8))])
    part = result.parts[1]
    assert part.recall_b is not None
    assert [id_ for id_, value in zip(part.query_ids, part.recall_b, strict=True) if value is None] == ["r007"]
    assert (part.queries, part.population, part.matching) == (119, None, 1)
    assert part.bounds_b is not None
    assert part.bounds_b.lower < 1.0


def test_short_answers_and_strangers_are_counted(pair: Pair) -> None:
    pair.search_b.bend = lambda keys, k: [*keys[: k - 3], RecordKey("nobody")]
    result = pair.compare()
    part = result.parts[0]
    assert part.strangers_b == 120
    assert part.short_b == 120
    assert found(result, "short")[0].count == found(result, "strangers")[0].count == 120


def test_settings_reach_both_sides_or_each_its_own(pair: Pair) -> None:
    exact, loose = SearchSettings(exact=True), SearchSettings(options={"ef": 10})
    pair.compare(queries=20, settings=exact)
    assert (
        {settings for _, settings in pair.search_a.asked}
        == {settings for _, settings in pair.search_b.asked}
        == {exact}
    )
    pair.search_a.asked.clear()
    pair.compare(queries=20, settings=exact, settings_a=loose)
    assert [settings.options for _, settings in pair.search_a.asked] == [{"ef": 10}] * 20


def test_the_result_follows_from_the_seed(pair: Pair) -> None:
    pair.search_b.bend = losing(0.1, seed=1)
    first = pair.compare(queries=50)
    pair.search_b.bend = losing(0.1, seed=1)
    assert pair.compare(queries=50).to_json() == first.to_json()
    assert pair.compare(queries=50, seed=2).parts[0].query_ids != first.parts[0].query_ids


@pytest.mark.parametrize("floor_margin", [(-0.1, 0.02), (1.1, 0.02), (0.9, 0.0), (0.9, 1.0)])
def test_demands_that_make_no_sense_are_refused(floor_margin: tuple[float, float]) -> None:
    with pytest.raises(UsageError):
        Demands(*floor_margin)


@pytest.mark.parametrize(
    ("metric", "dtype"),
    [
        (Metric.MANHATTAN, DType.FLOAT64),
        (Metric.DOT, DType.INT8),
        (Metric.HAMMING, DType.BINARY),
        (Metric.EUCLIDEAN, DType.FLOAT16),
    ],
)
def test_the_memory_store_against_itself_passes_by_every_metric(parity: Any, metric: Metric, dtype: DType) -> None:
    """The store and the truth are two programs that share no arithmetic."""
    from exitramp.testing.data import ordinary_matrix
    from exitramp.testing.memory import collections_of

    vector = VectorField("body", VectorKind.DENSE, dtype, metric, 16)
    spec = replace(parity.spec(), vectors=(vector,))
    name = f"neighbours-{metric}-{dtype}"
    store = MemoryStore(name, "c")
    from exitramp.ports import Origin

    sink = store.sink()
    sink.create(spec, Origin(spec, "1"))
    matrix = ordinary_matrix(vector, 60, np.random.default_rng(2))
    sink.upsert(
        batch_from_rows([Row(f"{n}", payload={"n": n}, vectors={"vector:body": v}) for n, v in enumerate(matrix)], spec)
    )
    sink.finish(TransferAccount())
    where: Filter = Range(("n",), lt=30)
    result = compare_neighbours(
        store.source(), store.source(), store.search(), store.search(), field="body", filters=[("first half", where)]
    )
    collections_of(name).clear()
    assert result.verdict is Verdict.PASS
    assert [part.mean_overlap for part in result.parts] == [1.0, 1.0]
