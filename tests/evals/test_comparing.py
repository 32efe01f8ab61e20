"""Comparing runs of real mock vendors of several qualities, and runs made up to the last answer."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from exitramp.cli.main import run
from exitramp.errors import UsageError
from exitramp.evals.comparing.comparison import compare_runs, holm
from exitramp.evals.comparing.margins import fixed_margins
from exitramp.evals.exact_pairs import exact_p
from exitramp.evals.runs.folder import RunFolder, read_run
from exitramp.evals.sets.case import parse_case
from exitramp.evals.verdicts import Pairs
from exitramp.records import Verdict
from exitramp_adapters.services.mock_vendor.adapter import MockVendor
from tests.evals.vendors import vendor, write_cases


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, MockVendor]]:
    folder = tmp_path_factory.mktemp("vendors")
    with (
        vendor(folder / "a") as good,
        vendor(folder / "b", "anthropic") as other,
        vendor(folder / "c", quality="poor") as bad,
    ):
        yield {"good": good, "other": other, "poor": bad}


def asked(where: Path, vendors: Mapping[str, MockVendor], quality: str, *words: str, name: str = "") -> str:
    out = str(where / (name or quality))
    assert (
        run(["eval", "run", str(where / "set.jsonl"), "--model", vendors[quality].address.text, "--out", out, *words])
        == 0
    )
    return out


def compared(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = run(["eval", "compare", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_equal_stacks_pass(tmp_path: Path, vendors: dict[str, MockVendor], capsys: pytest.CaptureFixture[str]) -> None:
    write_cases(tmp_path / "set.jsonl", 70)
    one, other = asked(tmp_path, vendors, "good"), asked(tmp_path, vendors, "other")
    code, told = compared(capsys, one, other, "--margin", "0.05")
    assert (code, told["verdict"]) == (0, "pass")
    assert told["metrics"][0]["difference"] == 0
    assert "nothing shows that it was fixed before" in told["margin_fixed"]
    assert told["first"]["is_mock"] is True


@pytest.mark.parametrize(("easy", "margin", "code", "verdict"), [(0.97, "0.1", 0, "pass"), (0.6, "0.1", 1, "fail")])
def test_a_slightly_worse_stack_passes_within_the_margin_and_fails_outside(
    easy: float,
    margin: str,
    code: int,
    verdict: str,
    tmp_path: Path,
    vendors: dict[str, MockVendor],
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_cases(tmp_path / "set.jsonl", 100, easy=easy)
    one = asked(tmp_path, vendors, "good", "--margin", margin, "--keep-answers")
    other = asked(tmp_path, vendors, "poor", "--margin", margin, "--keep-answers")
    junit = tmp_path / "out.xml"
    found, told = compared(capsys, one, other, "--junit", str(junit), "--answers")
    assert (found, told["verdict"]) == (code, verdict)
    assert told["margin_fixed"] == "fixed before both runs began, as the manifest holds it"
    lost = [flip for flip in told["flipped"] if flip["direction"] == "lost"]
    assert len(lost) == round(100 * (1 - easy))
    assert lost[0]["first"][0]["outcome"] == "pass"
    assert lost[0]["second"][0]["outcome"] == "wrong"
    assert told["answers"][lost[0]["case_id"]][0][0] != told["answers"][lost[0]["case_id"]][1][0]
    suite = ElementTree.fromstring(junit.read_text("utf-8"))[0]
    assert suite.get("failures") == ("2" if code else "0")
    assert run(["eval", "compare", one, other, "--answers"]) == code
    shown = capsys.readouterr().out
    assert "McNemar" in shown
    assert "is a mock" in shown
    assert lost[0]["case_id"] in shown


def test_five_cases_are_inconclusive_and_the_needed_number_is_said(
    tmp_path: Path, vendors: dict[str, MockVendor], capsys: pytest.CaptureFixture[str]
) -> None:
    write_cases(tmp_path / "set.jsonl", 5)
    one, other = asked(tmp_path, vendors, "good"), asked(tmp_path, vendors, "good", name="again")
    code, told = compared(capsys, one, other, "--margin", "0.05")
    assert (code, told["verdict"]) == (3, "inconclusive")
    assert "59 cases are needed" in told["reason"]
    assert told["metrics"][0]["cases_for_power"] >= 59


def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, vendors: dict[str, MockVendor], capsys: pytest.CaptureFixture[str]
) -> None:
    write_cases(tmp_path / "set.jsonl", 6)
    one = asked(tmp_path, vendors, "good", "--margin", "0.1")
    assert run(["eval", "compare", one, one]) == 2
    other = asked(tmp_path, vendors, "other")
    assert run(["eval", "compare", one, other, "--margin", "0.2"]) == 2
    assert "chosen after the answers" in capsys.readouterr().err
    deeper = asked(tmp_path, vendors, "other", "--k", "5", name="deeper")
    assert run(["eval", "compare", one, deeper]) == 2
    assert "(k)" in capsys.readouterr().err
    write_cases(tmp_path / "set.jsonl", 7)
    more = asked(tmp_path, vendors, "other", name="more")
    assert run(["eval", "compare", one, more]) == 2
    assert run(["eval", "compare", one, more, "--common-cases"]) == 3
    assert run(["eval", "compare", one, str(tmp_path)]) == 2
    assert run(["eval", "compare", one, str(tmp_path / "nowhere")]) == 2
    assert run(["eval", "compare", other, more, "--common-cases"]) == 2
    assert "no margin is known" in capsys.readouterr().err
    (tmp_path / "good" / "manifest.json").write_text("{}")
    assert run(["eval", "compare", one, other]) == 4


def made(
    folder: Path,
    outcomes: Sequence[Sequence[str | None]],
    cases: int | None = None,
    *,
    more: Mapping[str, Any] | None = None,
    questions: int | None = None,
    kind: str = "model",
    **values: Sequence[float],
) -> Path:
    """A run with these outcomes: of each case, for each repeat. `questions`: how many different ones its cases ask."""
    plan = {
        "set": {"cases": cases or len(outcomes), "sha256": "s"},
        "subject": {"kind": kind, "provider": "p", "model": folder.name},
        "measured_by": {"k": 10, "embedder": None, "judge": None},
        "repeats": len(outcomes[0]),
        "margins": {},
    }
    with RunFolder(folder, plan, {}) as opened:
        for number, repeats in enumerate(outcomes):
            for repeat, outcome in enumerate(repeats, start=1):
                error = "overloaded" if outcome == "provider_error" else None
                measured = {} if error else {name: found[number] for name, found in values.items()}
                data = {"case_sha256": str(number), "use_case": "all", "labelled": outcome is not None}
                data |= {"question_sha256": f"q{number % (questions or len(outcomes))}", **(more or {})}
                opened.record(
                    (f"c{number:03}", repeat), data | {"outcome": outcome, "error_class": error, "values": measured}
                )
    return folder


def test_errors_count_against_the_second_run_and_are_left_out_of_the_first(tmp_path: Path) -> None:
    good = [["pass"]] * 100
    failing = [["provider_error"]] * 4 + [["truncated"]] * 2 + [["pass"]] * 94
    one, other = read_run(made(tmp_path / "a", good)), read_run(made(tmp_path / "b", failing))
    found = compare_runs(one, other, {"*": 0.05}, margin_fixed="x")
    judged = found.metrics[0].judged
    assert judged.difference == pytest.approx(-0.06)
    assert len(judged.substitute_missing) == 6
    assert found.second.outcomes == {"pass": 94, "provider_error": 4, "truncated": 2}
    assert any("counted as failed" in note for note in found.notes)
    turned = compare_runs(other, one, {"*": 0.05}, margin_fixed="x")
    assert turned.metrics[0].judged.n == 94
    assert turned.verdict is Verdict.INCONCLUSIVE, "more than 5 % unmeasured"


def test_an_unfinished_run_is_never_more_than_inconclusive(tmp_path: Path) -> None:
    one = read_run(made(tmp_path / "a", [["pass"]] * 200))
    other = read_run(made(tmp_path / "b", [["pass"]] * 199, cases=200))
    found = compare_runs(one, other, {"*": 0.05}, margin_fixed="x")
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "not every case was asked" in found.reason


def test_cases_without_a_judgement_are_left_out_on_both_sides(tmp_path: Path) -> None:
    one = read_run(made(tmp_path / "a", [["pass"]] * 70))
    other = read_run(made(tmp_path / "b", [["unscored"]] * 2 + [["pass"]] * 68))
    found = compare_runs(one, other, {"*": 0.05}, margin_fixed="x")
    assert found.metrics[0].judged.n == 68
    one = read_run(made(tmp_path / "c", [["unscored"]] * 2 + [["pass"]] * 68))
    other = read_run(made(tmp_path / "d", [["pass"]] * 70))
    assert compare_runs(one, other, {"*": 0.05}, margin_fixed="x").verdict is Verdict.PASS


def test_no_pass_rests_on_answers_of_the_second_run_that_nobody_could_judge(tmp_path: Path) -> None:
    one = read_run(made(tmp_path / "a", [["pass"]] * 70))
    other = read_run(made(tmp_path / "b", [["unscored"]] * 2 + [["pass"]] * 68))
    found = compare_runs(one, other, {"*": 0.05}, margin_fixed="x")
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "2 answers of the second run could not be judged" in found.reason
    many = read_run(made(tmp_path / "c", [["pass"]] * 300))
    few = read_run(made(tmp_path / "d", [["unscored"]] * 2 + [["pass"]] * 298))
    assert compare_runs(many, few, {"*": 0.05}, margin_fixed="x").verdict is Verdict.PASS, "a pass even if wrong"


def test_a_repeat_that_nobody_could_judge_does_not_vanish_behind_one_that_passed(tmp_path: Path) -> None:
    one = read_run(made(tmp_path / "a", [["pass", "pass"]] * 70))
    other = read_run(made(tmp_path / "b", [["unscored", "pass"]] * 10 + [["pass", "pass"]] * 60))
    found = compare_runs(one, other, {"*": 0.05}, margin_fixed="x")
    assert len(found.metrics[0].judged.unmeasured) == 10
    assert found.verdict is Verdict.INCONCLUSIVE


def test_five_questions_under_a_hundred_ids_are_five(tmp_path: Path) -> None:
    one = read_run(made(tmp_path / "a", [["pass"]] * 100, questions=5, ndcg=[0.9] * 100))
    other = read_run(made(tmp_path / "b", [["pass"]] * 100, questions=5, ndcg=[0.9] * 100))
    found = compare_runs(one, other, {"*": 0.05}, margin_fixed="x")
    assert [metric.judged.n for metric in found.metrics] == [5, 5]
    assert found.verdict is Verdict.INCONCLUSIVE
    assert any("95 cases ask what another one asks" in note for note in found.notes)


def test_a_question_is_the_same_however_it_is_spaced_and_another_one_with_other_choices() -> None:
    one, spaced, other, chosen = (
        parse_case({"id": str(number), "question": question, **more}).question_sha256
        for number, (question, more) in enumerate(
            [("How so?", {}), (" how\u00a0SO? ", {}), ("How not?", {}), ("How so?", {"choices": ["a", "b"]})]
        )
    )
    assert one == spaced
    assert len({one, other, chosen}) == 3


def test_answers_that_were_known_before_are_named(tmp_path: Path) -> None:
    one = read_run(made(tmp_path / "a", [["pass"]] * 70))
    other = read_run(made(tmp_path / "b", [["pass"]] * 70, more={"replayed": True}))
    notes = compare_runs(one, other, {"*": 0.05}, margin_fixed="x").notes
    assert any("70 answers of the second run were kept from an earlier one" in note for note in notes)


def test_repeats_are_no_cases_of_their_own(tmp_path: Path) -> None:
    one = read_run(made(tmp_path / "a", [["pass"] * 20] * 5))
    other = read_run(made(tmp_path / "b", [["pass"] * 20] * 5))
    found = compare_runs(one, other, {"*": 0.05}, margin_fixed="x")
    assert found.metrics[0].judged.n == 5
    assert found.verdict is Verdict.INCONCLUSIVE
    half = read_run(made(tmp_path / "c", [["pass", "wrong"]] * 80))
    full = read_run(made(tmp_path / "d", [["pass", "pass"]] * 80))
    judged = compare_runs(full, half, {"*": 0.05}, margin_fixed="x").metrics[0].judged
    assert (judged.verdict, judged.difference) == (Verdict.FAIL, -0.5)


def test_one_metric_outside_its_margin_fails_the_whole_and_unnamed_ones_decide_nothing(tmp_path: Path) -> None:
    outcomes = [["pass"]] * 150
    one = read_run(made(tmp_path / "a", outcomes, ndcg=[0.9] * 150, recall=[0.9] * 150))
    other = read_run(made(tmp_path / "b", outcomes, ndcg=[0.5] * 150, recall=[0.1] * 150))
    found = compare_runs(one, other, {"*": 0.1}, margin_fixed="x")
    assert {metric.judged.metric: metric.decides for metric in found.metrics} == {
        "pass": True, "ndcg": True, "recall": False,
    }  # fmt: skip
    assert found.verdict is Verdict.FAIL
    assert "ndcg" in found.reason
    only = compare_runs(one, other, {"pass": 0.1}, margin_fixed="x")
    assert only.verdict is Verdict.PASS
    assert [metric.to_json()["verdict"] for metric in only.metrics] == ["pass", None, None]


def test_cases_nobody_labelled_are_judged_by_overlap_only_and_the_notes_say_so(tmp_path: Path) -> None:
    nothing: list[list[str | None]] = [[None]] * 80
    one = read_run(made(tmp_path / "a", nothing, overlap=[0.9] * 80))
    other = read_run(made(tmp_path / "b", nothing, overlap=[0.9] * 80))
    found = compare_runs(one, other, {"*": 0.05}, margin_fixed="x")
    assert [metric.judged.metric for metric in found.metrics if metric.decides] == ["overlap"]
    assert any("nobody labelled 80 cases" in note for note in found.notes)


def _pairs(lost: int, gained: int, n: int) -> Pairs:
    before = [1.0] * (n - gained) + [0.0] * gained
    after = [0.0] * lost + [1.0] * (n - lost)
    return Pairs(tuple(map(str, range(n))), tuple(before), tuple(after), binary=True)


def test_holms_procedure_decides_what_statsmodels_decides_from_the_p_values() -> None:
    rng = random.Random(5)
    for _ in range(6):
        pairs = {f"m{number}": _pairs(rng.randrange(12), rng.randrange(8), 150) for number in range(3)}
        p_values = [exact_p(each.counts(), -0.1) for each in pairs.values()]
        rejected = multipletests(p_values, alpha=0.05, method="holm")[0]
        found = holm(pairs, dict.fromkeys(pairs, 0.1))
        assert [each.verdict is Verdict.PASS for each in found.values()] == list(rejected)


def test_a_level_is_the_same_number_in_the_reason_and_in_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = [["pass"]] * 150
    folders = [made(tmp_path / name, outcomes, ndcg=[0.9] * 150, recall=[0.9] * 150) for name in "ab"]
    words = [f"--margin={name}=0.1" for name in ("pass", "ndcg", "recall")]
    assert run(["eval", "compare", *map(str, folders), *words[:2]]) == 0
    said = capsys.readouterr().out
    assert said.count("97.5%") == 4, "two in the verdict's reason, two in the table"
    assert "98%" not in said
    assert run(["eval", "compare", *map(str, folders), *words]) == 0
    assert capsys.readouterr().out.count("98.33%") == 6


def test_mcnemars_p_is_that_of_statsmodels(tmp_path: Path) -> None:
    one = read_run(made(tmp_path / "a", [["wrong"]] * 3 + [["pass"]] * 77))
    other = read_run(made(tmp_path / "b", [["pass"]] * 72 + [["wrong"]] * 8))
    judged = compare_runs(one, other, {"*": 0.05}, margin_fixed="x").metrics[0].judged
    assert judged.mcnemar_p == pytest.approx(mcnemar([[69, 8], [3, 0]], exact=True).pvalue)


def test_margins_that_were_fixed_hold_and_others_are_refused() -> None:
    assert fixed_margins({"*": 0.1}, {}, {})[1] == "fixed before the first run began, as the manifest holds it"
    assert fixed_margins({}, {"*": 0.1}, {"*": 0.1})[0] == {"*": 0.1}
    for first, second, given in (({"*": 0.1}, {"*": 0.2}, {}), ({"*": 0.1}, {}, {"*": 0.2}), ({}, {}, {})):
        with pytest.raises(UsageError):
            fixed_margins(first, second, given)
