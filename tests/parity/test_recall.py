"""A hit counts when it is as near as the truth says, whoever it is; and nothing else counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from exitramp.filters import Eq
from exitramp.parity import recall as recall_module
from exitramp.parity.recall import ask, judge, overlap
from exitramp.parity.truth import Ranking, exact_neighbours
from exitramp.ports import DEFAULT_SETTINGS, SearchSettings
from exitramp.records import Metric, RecordKey

LINE = np.array([[1.0], [2.0], [3.0], [3.0], [3.0], [5.0]], np.float32)
ORIGIN = np.zeros((1, 1), np.float32)


def keys(*numbers: int) -> tuple[RecordKey, ...]:
    return tuple(RecordKey(f"r{number:03d}") for number in numbers)


def on_a_line(parity: Any, *, k: int, slack: int = 16, where: Any = None, payloads: Any = None) -> Any:
    """Records at 1, 2, 3, 3, 3 and 5 from the one query; how an answer is judged."""
    spec = parity.spec(Metric.EUCLIDEAN, dimensions=1)
    source = parity.Source(spec, parity.rows(LINE, payloads))
    ranking = Ranking(Metric.EUCLIDEAN, where)
    [truth] = exact_neighbours(source, spec.vectors[0], ORIGIN, [ranking], k=k, slack=slack)
    return truth, source, lambda *hits: judge(source, spec.vectors[0], ORIGIN, truth, [keys(*hits)])


@pytest.mark.parametrize("slack", [0, 16])
@pytest.mark.parametrize(
    ("hits", "recall"),
    [((0, 1, 2), 1), ((0, 1, 4), 1), ((4, 3, 2), 1), ((0, 1, 5), 2 / 3), ((0,), 1 / 3), ((), 0), ((5,), 0)],
)
def test_any_of_the_records_tied_at_rank_k_is_right(parity: Any, slack: int, hits: Any, recall: float) -> None:
    _, _, judged = on_a_line(parity, k=3, slack=slack)
    assert judged(*hits).recall[0] == pytest.approx(recall)


def test_hits_that_the_truth_lists_are_not_read_again(parity: Any) -> None:
    _, source, judged = on_a_line(parity, k=3)
    judged(0, 1, 2)
    assert source.fetches == 0
    judged(0, 1, 99)
    assert source.fetches == 1


def test_hits_that_the_source_does_not_hold_are_counted(parity: Any) -> None:
    _, _, judged = on_a_line(parity, k=3)
    found = judged(0, 98, 99)
    assert (found.strangers, found.outside, found.short) == (2, 0, 0)
    assert found.recall[0] == pytest.approx(1 / 3)


def test_hits_outside_the_filter_are_wrong_and_counted(parity: Any) -> None:
    payloads = [{"side": "left"} if number in {0, 5} else None for number in range(6)]
    truth, _, judged = on_a_line(parity, k=3, where=Eq(("side",), "left"), payloads=payloads)
    assert truth.wanted(0) == 2
    found = judged(0, 1, 5)
    assert (found.recall[0], found.outside, found.short) == (1.0, 1, 0)
    assert judged(0).short == 1
    assert judged(0, 1).recall[0] == 0.5


def test_a_complete_answer_is_no_longer_than_what_there_is(parity: Any) -> None:
    _, _, judged = on_a_line(parity, k=10)
    assert judged(0, 1, 2, 3, 4, 5).recall[0] == 1.0
    assert judged(0, 1, 2, 3, 4, 5).short == 0
    assert judged(0, 1, 2, 3, 4).short == 1


def test_nothing_to_find_is_no_recall_rather_than_a_perfect_one(parity: Any) -> None:
    truth, _, judged = on_a_line(parity, k=3, where=Eq(("side",), "none"))
    found = judged(0)
    assert np.isnan(found.recall[0])
    assert found.mean is None
    assert found.outside == 1
    assert np.isnan(overlap(truth, found, found, [keys(0)], [keys(0)])[0])


@pytest.mark.parametrize(
    ("first", "second", "share"),
    [
        ((0, 1, 2), (0, 1, 2), 1.0),
        ((0, 1, 2), (0, 1, 4), 1.0),
        ((0, 1, 2), (2, 1, 0), 1.0),
        ((0, 1, 2), (0, 1, 5), 2 / 3),
        ((0, 2, 3), (1, 2, 4), 2 / 3),
        ((0,), (1,), 0.0),
        ((), (0, 1, 2), 0.0),
    ],
)
def test_sides_that_name_different_ones_of_equally_far_records_agree(
    parity: Any, first: Any, second: Any, share: float
) -> None:
    truth, _, judged = on_a_line(parity, k=3)
    shares = overlap(truth, judged(*first), judged(*second), [keys(*first)], [keys(*second)])
    assert shares[0] == pytest.approx(share)


def test_hits_are_read_in_bounded_portions(parity: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall_module, "FETCHED_AT_ONCE", 2)
    _, source, judged = on_a_line(parity, k=2, slack=0)
    assert judged(5, 4, 3, 2, 77).recall[0] == 0.0
    assert source.fetches == 3


def test_asking_leaves_the_querys_own_record_out_and_still_gets_k(parity: Any) -> None:
    spec = parity.spec(Metric.EUCLIDEAN, dimensions=1)
    rows = parity.rows(LINE)
    search = parity.Search(spec, rows, Metric.EUCLIDEAN)
    queries = np.concatenate([LINE[:1], ORIGIN])
    settings = SearchSettings(exact=True)
    answers = ask(search, search.spec.vectors[0], queries, k=2, own=[rows[0].key, None], settings=settings)
    assert answers == [keys(1, 2), keys(0, 1)]
    assert search.asked == [(3, settings), (2, settings)]


def test_an_index_that_misses_the_querys_own_record_loses_no_other_hit(parity: Any) -> None:
    spec = parity.spec(Metric.EUCLIDEAN, dimensions=1)
    rows = parity.rows(LINE)
    search = parity.Search(
        spec, rows, Metric.EUCLIDEAN, bend=lambda found, k: [key for key in found if key.id != "r000"][:k]
    )
    assert ask(search, search.spec.vectors[0], LINE[:1], k=2, own=[rows[0].key], settings=DEFAULT_SETTINGS) == [
        keys(1, 2)
    ]


def test_a_hit_returned_twice_counts_once(parity: Any) -> None:
    spec = parity.spec(Metric.EUCLIDEAN, dimensions=1)
    search = parity.Search(spec, parity.rows(LINE), Metric.EUCLIDEAN, bend=lambda found, k: [found[0], *found][:k])
    assert ask(search, search.spec.vectors[0], ORIGIN, k=3, own=[None], settings=DEFAULT_SETTINGS) == [keys(0, 1)]
