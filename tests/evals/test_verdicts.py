"""A verdict comes from the bound alone, and too few cases never pass."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exitramp.errors import DataInvalid
from exitramp.evals.exact_pairs import EXACT
from exitramp.evals.scorers import Outcome, Score
from exitramp.evals.verdicts import (
    Pairs,
    by_question,
    cases_needed,
    flipped_cases,
    non_inferiority,
    pair_answers,
    pair_values,
    summarise_use_cases,
)
from exitramp.records import Verdict


def binary(both: int, lost: int, gained: int, neither: int) -> Pairs:
    primary = [1.0] * (both + lost) + [0.0] * (gained + neither)
    substitute = [1.0] * both + [0.0] * lost + [1.0] * gained + [0.0] * neither
    return Pairs(tuple(map(str, range(len(primary)))), tuple(primary), tuple(substitute), binary=True)


def graded(primary: list[float], substitute: list[float]) -> Pairs:
    return Pairs(tuple(map(str, range(len(primary)))), tuple(primary), tuple(substitute), binary=False)


def judge(pairs: Pairs, margin: float = 0.10) -> Verdict:
    return non_inferiority(pairs, metric="m", margin=margin, resamples=2_000).verdict


def test_a_lower_bound_above_the_margin_passes() -> None:
    result = non_inferiority(binary(80, 4, 3, 9), metric="assertions", margin=0.10)
    assert result.verdict is Verdict.PASS
    assert result.lower is not None
    assert result.lower > -0.10
    assert "lower bound" in result.reason


def test_an_upper_bound_below_the_margin_fails() -> None:
    result = non_inferiority(binary(50, 30, 2, 14), metric="assertions", margin=0.10)
    assert result.verdict is Verdict.FAIL
    assert result.upper is not None
    assert result.upper < -0.10


def test_bounds_on_both_sides_of_the_margin_decide_nothing() -> None:
    assert judge(binary(70, 12, 2, 12)) is Verdict.INCONCLUSIVE


def test_a_significant_mcnemar_test_does_not_fail_a_loss_within_the_margin() -> None:
    result = non_inferiority(binary(960, 20, 2, 18), metric="assertions", margin=0.10)
    assert result.mcnemar_p is not None
    assert result.mcnemar_p < 0.001
    assert result.verdict is Verdict.PASS


def test_an_insignificant_mcnemar_test_does_not_pass_a_loss_that_may_exceed_the_margin() -> None:
    result = non_inferiority(binary(30, 5, 1, 4), metric="assertions", margin=0.10)
    assert result.mcnemar_p is not None
    assert result.mcnemar_p > 0.05
    assert result.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("pairs", [binary(5, 0, 0, 0), binary(0, 5, 0, 0), graded([1.0] * 5, [1.0] * 5)])
def test_five_questions_decide_nothing_whatever_they_show(pairs: Pairs) -> None:
    result = non_inferiority(pairs, metric="m", margin=0.10)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.cases_needed == 29
    assert "29 cases are needed" in result.reason


@pytest.mark.parametrize("kind", [binary, lambda n, *_: graded([0.7] * n, [0.7] * n)])
def test_identical_pairs_pass_from_the_needed_number_of_cases_on_and_not_before(kind: object) -> None:
    for margin in (0.05, 0.10, 0.20):
        needed = cases_needed(margin)
        assert judge(kind(needed, 0, 0, 0), margin) is Verdict.PASS  # type: ignore[operator]
        assert judge(kind(needed - 1, 0, 0, 0), margin) is Verdict.INCONCLUSIVE  # type: ignore[operator]


@given(st.floats(0.001, 0.999))
def test_cases_needed_is_the_smallest_number_that_meets_the_rule(margin: float) -> None:
    needed = cases_needed(margin)
    assert 1 - 0.05 ** (1 / needed) <= margin
    assert needed == 1 or 1 - 0.05 ** (1 / (needed - 1)) > margin


def test_nothing_measured_is_inconclusive() -> None:
    result = non_inferiority(graded([], []), metric="m", margin=0.10)
    assert (result.verdict, result.n, result.lower) == (Verdict.INCONCLUSIVE, 0, None)
    assert "nothing was measured" in result.reason


def test_a_true_loss_of_the_margin_passes_at_most_one_time_in_twenty() -> None:
    # 1,500 runs: 5 % and three standard errors are 6.7 %. `test_exact_pairs` enumerates what is only drawn here.
    draw = random.Random(7)
    verdicts: dict[tuple[int, ...], Verdict] = {}
    passed = 0
    for _ in range(1_500):
        outcomes = draw.choices(["both", "lost", "gained", "neither"], [0.68, 0.14, 0.04, 0.14], k=30)
        both, lost, gained, neither = (outcomes.count(cell) for cell in ("both", "lost", "gained", "neither"))
        if (lost, gained) not in verdicts:  # concordant pairs are alike to the method
            verdicts[lost, gained] = judge(binary(both, lost, gained, neither))
        passed += verdicts[lost, gained] is Verdict.PASS
    assert passed / 1_500 <= 0.067


def test_graded_values_with_a_true_loss_of_the_margin_pass_at_most_one_time_in_twenty() -> None:
    rng = np.random.default_rng(3)
    passed = 0
    for _ in range(300):
        lost = rng.random(40) < 0.2
        pairs = graded([1.0] * 40, list(np.where(lost, rng.choice([0.25, 0.75], 40), 1.0)))
        passed += judge(pairs) is Verdict.PASS
    assert passed / 300 <= 0.088


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=120),
    st.floats(0.02, 0.5),
)
def test_the_verdict_is_what_the_bounds_say(cases: list[tuple[bool, bool]], margin: float) -> None:
    pairs = Pairs(
        tuple(map(str, range(len(cases)))),
        tuple(float(before) for before, _ in cases),
        tuple(float(after) for _, after in cases),
        binary=True,
    )
    result = non_inferiority(pairs, metric="m", margin=margin)
    assert result.lower is not None
    assert result.upper is not None
    if len(cases) < cases_needed(margin) or (result.primary or 0.0) <= margin:
        assert result.verdict is Verdict.INCONCLUSIVE
    else:
        expected = Verdict.PASS if result.lower > -margin else Verdict.INCONCLUSIVE
        assert result.verdict is (Verdict.FAIL if result.upper < -margin else expected)
    assert result.difference == pytest.approx((result.substitute or 0) - (result.primary or 0))


@pytest.mark.parametrize("primary", [0.0, 0.1])
def test_nothing_is_proved_where_the_primary_has_no_more_to_lose_than_the_margin(primary: float) -> None:
    result = non_inferiority(graded([primary] * 60, [primary] * 60), metric="ndcg@10", margin=0.1)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert f"the primary itself reaches {primary:.3f}" in result.reason


@pytest.mark.parametrize("margin", [0, 1, -0.1, 10, math.nan])
def test_a_margin_that_is_no_share_is_refused(margin: float) -> None:
    with pytest.raises(DataInvalid, match="margin"):
        non_inferiority(binary(50, 0, 0, 0), metric="m", margin=margin)


def scores(**outcomes: str) -> dict[str, Score]:
    return {case: Score(case, Outcome(outcome)) for case, outcome in outcomes.items()}


def test_a_question_the_primary_did_not_answer_is_left_out_and_named() -> None:
    pairs = pair_answers(
        scores(a="pass", b="provider_error", c="truncated"), scores(a="pass", b="pass", c="pass", d="pass")
    )
    assert pairs.case_ids == ("a",)
    assert pairs.unmeasured == ("b", "c", "d")


def test_a_question_the_substitute_did_not_answer_counts_as_failed() -> None:
    pairs = pair_answers(
        scores(a="pass", b="pass", c="wrong", d="pass"), scores(a="provider_error", b="truncated", c="pass")
    )
    assert pairs.case_ids == ("a", "b", "c", "d")
    assert pairs.substitute == (0.0, 0.0, 1.0, 0.0)
    assert pairs.substitute_missing == ("a", "b", "d")
    assert pairs.counts().primary_only == 3


def test_more_than_one_unmeasured_case_in_twenty_decides_nothing() -> None:
    measured: dict[str, float | None] = {f"q{i:03}": 1.0 for i in range(95)}
    five = pair_values(measured | dict.fromkeys("abcde"), dict.fromkeys(measured, 1.0))
    six = pair_values(measured | dict.fromkeys("abcdef"), dict.fromkeys(measured, 1.0))
    assert judge(five) is Verdict.PASS
    result = non_inferiority(six, metric="m", margin=0.10)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "6 of 101 cases" in result.reason


def test_values_pair_by_case_and_not_by_position() -> None:
    pairs = pair_values({"a": 0.1, "b": 0.9}, {"b": 0.8, "a": 0.2})
    assert (pairs.primary, pairs.substitute) == ((0.1, 0.9), (0.2, 0.8))


def test_sides_that_do_not_match_or_values_out_of_range_are_refused() -> None:
    with pytest.raises(DataInvalid, match="same cases"):
        Pairs(("a",), (1.0,), (), binary=False)
    with pytest.raises(DataInvalid, match=r"outside \[0, 1\]"):
        graded([0.5], [1.5])
    with pytest.raises(DataInvalid, match="neither 0 nor 1"):
        Pairs(("a",), (0.5,), (1.0,), binary=True)
    with pytest.raises(DataInvalid, match="two-by-two"):
        graded([0.5], [0.5]).counts()


def test_flipped_cases_name_ids_and_direction_and_lost_ones_come_first() -> None:
    before = scores(a="wrong", b="pass", c="pass", d="pass", e="truncated", only="pass")
    after = scores(a="pass", b="wrong", c="pass", d="provider_error", e="wrong")
    flips = flipped_cases(before, after, dict.fromkeys("abcde", "docs_qa"))
    assert [(flip.case_id, flip.direction) for flip in flips] == [("b", "lost"), ("d", "lost"), ("a", "gained")]
    assert flips[1].substitute is Outcome.PROVIDER_ERROR


def test_use_cases_are_described_without_a_verdict() -> None:
    pairs = pair_values({"a": 1.0, "b": 0.5, "c": 0.0}, {"a": 0.5, "b": 0.5, "c": 0.25})
    first, second = summarise_use_cases(pairs, {"a": "x", "b": "x", "c": "y"})
    assert (first.use_case, first.n, first.primary, first.substitute, first.difference) == ("x", 2, 0.75, 0.5, -0.25)
    assert (second.use_case, second.n) == ("y", 1)
    assert not hasattr(first, "verdict")
    with pytest.raises(DataInvalid, match="'c' has no use case"):
        summarise_use_cases(pairs, {"a": "x", "b": "x"})


def test_a_result_turns_into_json_with_everything_that_led_to_it() -> None:
    data = json.loads(json.dumps(non_inferiority(binary(80, 4, 3, 9), metric="a", margin=0.10).to_json()))
    assert data["verdict"] == "pass"
    assert data["method"] == EXACT
    assert data["counts"] == {"both": 80, "primary_only": 4, "substitute_only": 3, "neither": 9}
    assert len(data["primary_wilson"]) == 2
    seeded = non_inferiority(graded([0.5] * 40, [0.5] * 40), metric="ndcg", margin=0.1, seed=9).to_json()
    assert (seeded["seed"], seeded["counts"]) == (9, None)


def test_a_question_under_a_hundred_ids_is_one_observation() -> None:
    ids = [f"c{n:03}" for n in range(100)]
    pairs = pair_answers(
        {case: Score(case, Outcome.PASS) for case in ids},
        {case: Score(case, Outcome.PASS if case < "c050" else Outcome.WRONG) for case in ids},
    )
    one = by_question(pairs, dict.fromkeys(ids, "the same"))
    assert (one.n, one.case_ids, one.primary, one.substitute, one.binary) == (1, ("c000",), (1.0,), (0.5,), False)
    assert non_inferiority(one, metric="assertions", margin=0.05).verdict is Verdict.INCONCLUSIVE
    assert by_question(pairs, {case: case for case in ids}) is pairs
    with pytest.raises(DataInvalid, match="'c000' asks nothing"):
        by_question(pairs, {})
