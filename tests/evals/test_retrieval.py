"""Retrieval values against hand calculation, and ties that names cannot decide."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exitramp.errors import DataInvalid
from exitramp.evals.retrieval import Unmeasured, mean_retrieval, order_hits, orient_hits, score_retrieval


def scored(*ids: str) -> list[tuple[str, float]]:
    return [(document, 1.0 - place / 100) for place, document in enumerate(ids)]


def test_ndcg_has_linear_gain() -> None:
    found = score_retrieval({"q": {"a": 3, "b": 1}}, {"q": scored("b", "a")}, k=10)["q"]
    assert found.ndcg == pytest.approx((1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3)))
    assert (found.recall, found.reciprocal_rank) == (1.0, 1.0)


def test_only_the_first_k_count() -> None:
    hits = {"q": scored("x", "y", "a", "b")}
    found = score_retrieval({"q": {"a": 2, "b": 1}}, hits, k=3)["q"]
    assert found.recall == 0.5
    assert found.reciprocal_rank == pytest.approx(1 / 3)
    assert found.ndcg == pytest.approx((2 / math.log2(4)) / (2 + 1 / math.log2(3)))
    nothing = score_retrieval({"q": {"a": 2, "b": 1}}, hits, k=2)["q"]
    assert (nothing.ndcg, nothing.recall, nothing.reciprocal_rank) == (0.0, 0.0, 0.0)


def test_ties_go_to_the_smaller_id_whatever_the_order() -> None:
    hits = [("c", 0.5), ("a", 0.5), ("b", 0.9), ("d", 0.5)]
    for seed in range(5):
        shuffled = random.Random(seed).sample(hits, len(hits))
        assert order_hits(shuffled) == ("b", "a", "c", "d")
        assert score_retrieval({"q": {"a": 1}}, {"q": shuffled})["q"].reciprocal_rank == 0.5


@given(st.permutations(range(8)), st.sets(st.integers(0, 7), min_size=1))
def test_values_depend_on_the_order_of_hits_and_not_on_names(order: list[int], relevant: set[int]) -> None:
    plain = {"q": [(f"doc{number}", float(-place)) for place, number in enumerate(order)]}
    odd = {"é q": [(f"\n {9 - number}\u2028 doc", float(-place)) for place, number in enumerate(order)]}
    one = score_retrieval({"q": {f"doc{number}": 1 + number % 3 for number in relevant}}, plain, k=5)["q"]
    two = score_retrieval({"é q": {f"\n {9 - number}\u2028 doc": 1 + number % 3 for number in relevant}}, odd, k=5)[
        "é q"
    ]
    assert (one.ndcg, one.recall, one.reciprocal_rank) == (two.ndcg, two.recall, two.reciprocal_rank)
    first = next((place for place, number in enumerate(order[:5], 1) if number in relevant), None)
    assert one.reciprocal_rank == pytest.approx(1 / first if first else 0.0)
    assert one.recall == pytest.approx(len(relevant & set(order[:5])) / len(relevant))


def test_an_empty_result_scores_zero_but_no_search_scores_nothing() -> None:
    scores = score_retrieval({"empty": {"a": 1}, "never": {"a": 1}, "aimless": {}}, {"empty": [], "aimless": []})
    assert list(scores) == ["empty", "never", "aimless"]
    assert (scores["empty"].ndcg, scores["empty"].unmeasured) == (0.0, None)
    assert (scores["never"].ndcg, scores["never"].unmeasured) == (None, Unmeasured.NO_SEARCH)
    assert (scores["aimless"].recall, scores["aimless"].unmeasured) == (None, Unmeasured.NO_RELEVANT_IDS)


def test_means_are_over_measured_cases_and_name_the_rest() -> None:
    scores = score_retrieval(
        {"a": {"x": 1}, "b": {"x": 1}, "c": {}}, {"a": scored("x"), "b": scored("y", "x"), "c": []}
    )
    means = mean_retrieval(scores.values())
    assert (means.cases, means.mrr, means.recall, means.unmeasured) == (2, 0.75, 1.0, ("c",))
    nothing = mean_retrieval([scores["c"]])
    assert (nothing.cases, nothing.ndcg, nothing.mrr) == (0, None, None)


def test_hits_that_cannot_be_ranked_are_refused() -> None:
    with pytest.raises(DataInvalid, match="'a' stands twice"):
        order_hits([("a", 1.0), ("a", 0.5)])
    with pytest.raises(DataInvalid, match="not a number"):
        order_hits([("a", math.nan)])
    with pytest.raises(DataInvalid, match="'stranger'"):
        score_retrieval({"q": {"a": 1}}, {"stranger": []})
    with pytest.raises(DataInvalid, match="at least 1"):
        score_retrieval({"q": {"a": 1}}, {"q": []}, k=0)


def test_distances_and_similarities_both_end_with_the_nearest_scoring_highest() -> None:
    assert order_hits(orient_hits(["a", "b", "c"], [0.9, 0.5, 0.1])) == ("a", "b", "c")
    assert order_hits(orient_hits(["b", "c", "a"], [0.1, 0.5, 0.5])) == ("b", "a", "c")
    assert orient_hits([], []) == []
    with pytest.raises(DataInvalid, match="neither fall nor rise"):
        orient_hits(["a", "b", "c"], [0.1, 0.9, 0.5])
    with pytest.raises(DataInvalid, match="2 hits with 1 score"):
        orient_hits(["a", "b"], [0.1])
