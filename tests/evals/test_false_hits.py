"""What a semantic cache would answer falsely is counted, bounded and not talked away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exitramp.cli.main import run
from exitramp.errors import DataInvalid
from exitramp.evals.false_hits import exact_bounds, have_one_answer, likest_pairs, measure
from exitramp.evals.sets.case import Case, parse_case
from exitramp.records import Verdict


def case(number: int, relevant: dict[str, int] | None = None, **more: Any) -> Case:
    data = {"id": f"c{number}", "question": f"question {number}", **more}
    return parse_case(data | ({"relevant": relevant} if relevant else {}))


def test_a_hit_is_right_only_where_both_have_a_best_document_in_common() -> None:
    one, same = case(1, {"a": 3, "b": 1}), case(2, {"a": 2})
    assert have_one_answer(one, same)
    assert not have_one_answer(one, case(3, {"b": 3})), "what helps one is not the answer to it"
    check: dict[str, Any] = {"checks": [{"kind": "contains", "text": "x"}]}
    assert have_one_answer(case(4, **check), case(5, **check))
    assert not have_one_answer(case(4, **check), case(6, checks=[{"kind": "contains", "text": "y"}]))
    assert not have_one_answer(one, case(4, **check))


def test_hits_are_counted_at_each_threshold_and_never_between_use_cases() -> None:
    cases = [case(1, {"a": 3}), case(2, {"a": 3}), case(3, {"b": 3}), case(4, {"c": 3}, use_case="other")]
    vectors = np.array([[1, 0], [0.96, 0.28], [0.8, 0.6], [1, 0]], np.float32)
    likest = likest_pairs(cases, vectors)
    assert [(each.case_id, each.other_id, each.is_right) for each in likest] == [
        ("c1", "c2", True), ("c2", "c1", True), ("c3", "c2", False),
    ]  # fmt: skip
    found = measure(likest, (0.99, 0.95, 0.9))
    assert [(row.threshold, row.hits, row.false) for row in found.rows] == [(0.9, 3, 1), (0.95, 2, 0), (0.99, 0, 0)]
    best = found.recommended(0.7)
    assert best is not None
    assert best.threshold == 0.95
    assert found.recommended(0.05) is None, "three questions show nothing of 5 %"


def test_a_threshold_at_which_nothing_is_answered_is_not_recommended() -> None:
    rng = np.random.default_rng(1)
    cases = [case(number, {f"d{number}": 3}) for number in range(100)]
    found = measure(likest_pairs(cases, rng.normal(size=(100, 64)).astype(np.float32)), (0.9, 0.99))
    bounded = found.bounded_from(0.05)
    assert bounded is not None
    assert bounded.threshold == 0.9
    assert found.recommended(0.05) is None


def test_the_bounds_are_those_of_the_textbook() -> None:
    assert exact_bounds(0, 119)[1] == pytest.approx(1 - 0.05 ** (1 / 119))
    assert exact_bounds(3, 3) == pytest.approx((0.05 ** (1 / 3), 1.0))
    low, high = exact_bounds(10, 100)
    assert (low, high) == pytest.approx((0.0553, 0.1637), abs=1e-4)
    [row] = measure(likest_pairs([case(1, {"a": 3}), case(2, {"b": 3})], np.ones((2, 3), np.float32)), (0.5,)).rows
    assert row.verdict(0.05) is Verdict.FAIL
    assert row.verdict(0.5) is Verdict.INCONCLUSIVE


def test_a_set_without_two_labelled_cases_is_refused() -> None:
    with pytest.raises(DataInvalid, match="no use case"):
        likest_pairs([case(1, {"a": 3}), case(2)], np.ones((2, 3), np.float32))


STACK = """\
version: 1
models: {{main: {{address: "local:smol"}}}}
embedders: {{words: {{address: "wordllama:"}}}}
cache: {{semantic: {{embedder: words, thresholds: {{words: {threshold}}}}}}}
"""


@pytest.mark.parametrize(
    ("threshold", "code", "verdict"), [(0.9, 0, "pass"), (0.1, 1, "fail"), (0.7, 3, "inconclusive")]
)
def test_a_stack_files_own_threshold_is_judged_on_the_packaged_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], threshold: float, code: int, verdict: str
) -> None:
    stack = tmp_path / "stack.yaml"
    stack.write_text(STACK.format(threshold=threshold))
    assert run(["eval", "cache", "pydocs", "--stack", str(stack), "--json"]) == code
    told = json.loads(capsys.readouterr().out)["embedders"][0]
    assert told["verdict"] == verdict
    assert told["recommended"] is None
    assert [row["false_hits"] for row in told["thresholds"]] == sorted(
        (row["false_hits"] for row in told["thresholds"]), reverse=True
    )


@pytest.mark.parametrize("options", [[], ["--embedder", "wordllama:", "--thresholds", "2"], ["--embedder", "no:"]])
def test_a_mistake_is_said_without_a_traceback(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "cache", "pydocs", *options]) == 2
    assert "Traceback" not in capsys.readouterr().err
