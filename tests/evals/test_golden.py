"""Golden files are read strictly, and what is wrong is named by file and line without showing a question."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exitramp.errors import ConfigError, PathUnusable
from exitramp.evals.golden import asked_again, golden_coverage, load_golden, require_relevant
from exitramp.evals.sets import read_set, write_set
from exitramp.evals.sets.fields import case_sha256

FULL: dict[str, Any] = {
    "id": "q-001",
    "use_case": "docs_qa",
    "question": "Wie öffne ich SECRET-QUESTION?",
    "relevant": {"zipfile.ZipFile#0": 3, "zipfile#0": 1},
    "assertion": {"kind": "contains_any", "phrases": ["SECRET-PHRASE"]},
    "token_overlap": 0.25,
}


def line(**changes: Any) -> str:
    case = {key: value for key, value in {**FULL, **changes}.items() if value is not ...}
    return json.dumps(case, ensure_ascii=False)


def test_a_full_case_is_read_as_it_stands() -> None:
    (case,) = load_golden(json.dumps({**FULL, "sha256": case_sha256(FULL)}))
    assert (case.id, case.use_case, case.token_overlap) == ("q-001", "docs_qa", 0.25)
    assert case.relevant == {"zipfile.ZipFile#0": 3, "zipfile#0": 1}
    [check] = case.checks
    assert check.holds("a secret-phrase")
    assert case.sha256 == case_sha256(FULL)


def test_the_hash_is_over_canonical_json_without_itself() -> None:
    # By hand: printf %s '{"id":"a","question":"ä?","relevant":{"d":1}}' | sha256sum
    case = {"relevant": {"d": 1}, "question": "ä?", "id": "a", "sha256": "whatever"}
    assert case_sha256(case) == "e2843d3a37fda539e9923208b7bcb754fd11f54803e7117abdad47d190bfad5a"


def test_three_keys_are_enough_for_a_case_of_ones_own() -> None:
    (case,) = load_golden('{"id": "a", "question": "b?", "relevant": {"d": 1}}')
    assert (case.use_case, case.checks, case.token_overlap) == ("all", (), None)
    assert case.sha256 == case_sha256({"id": "a", "question": "b?", "relevant": {"d": 1}})


def test_a_case_may_be_answered_without_being_retrieved() -> None:
    (case,) = load_golden(line(relevant={}))
    assert case.relevant == {}


def test_cases_come_in_the_files_order_and_blank_lines_are_no_cases(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + f"{line(id='b')}\r\n\r\n{line(id='a')}\n".encode())
    assert [case.id for case in load_golden(path)] == ["b", "a"]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        (line(question=...), "either 'question' or 'messages'"),
        (line(relevent={"a": 1}), "unknown key 'relevent'"),
        (line(question="  "), "'question'"),
        (line(id=7), "'id'"),
        (line(use_case=None), "'use_case'"),
        (line(relevant=["zipfile#0"]), "'relevant'"),
        (line(relevant={"zipfile#0": 4}), "grade of 'zipfile#0'"),
        (line(relevant={"zipfile#0": 0}), "grade of 'zipfile#0'"),
        (line(relevant={"zipfile#0": True}), "grade of 'zipfile#0'"),
        (line(relevant={"zipfile#0": 1.0}), "grade of 'zipfile#0'"),
        (line(relevant={"zipfile#0": "2"}), "grade of 'zipfile#0'"),
        (line(assertion={"kind": "vibes"}), "a check's 'kind' is not known"),
        (line(token_overlap=1.5), "'token_overlap'"),
        (line(token_overlap=True), "'token_overlap'"),
        (line(sha256="0" * 64), "does not match its sha256"),
        (line(sha256=None), "does not match its sha256"),
        ('{"id": "a", "id": "b", "question": "c", "relevant": {"d": 1}}', "'id' stands twice"),
        ('{"id": "a", "question": "c", "relevant": {"d": 1, "d": 2}}', "'d' stands twice"),
        ('{"id": "a", "question": "c", "relevant": {"d": NaN}}', "NaN"),
        ('{"id": "a", "question": "\\ud800", "relevant": {"d": 1}}', "lone surrogate"),
        (line(id="first"), "'first' was already used on line 1"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_line_without_its_text(bad: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_golden(f"{line(id='first')}\n\n{bad}\n", name="mine.jsonl")
    assert str(caught.value).startswith("mine.jsonl:3: ")
    assert says in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_a_changed_question_no_longer_matches_its_hash() -> None:
    with pytest.raises(ConfigError, match="sha256"):
        load_golden(line(sha256=case_sha256(FULL), question="another"))


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_golden_set_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="no case"):
        load_golden(text)


def test_a_file_that_is_not_there_or_not_utf8_is_named(tmp_path: Path) -> None:
    with pytest.raises(PathUnusable, match=r"gone\.jsonl"):
        load_golden(tmp_path / "gone.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(line().encode() + b"\n\xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.jsonl:2: not UTF-8"):
        load_golden(tmp_path / "latin.jsonl")


def test_a_question_does_not_show_in_a_cases_repr() -> None:
    assert "SECRET" not in repr(load_golden(line()))


def test_absent_golden_ids_are_counted_and_named() -> None:
    cases = load_golden(
        "\n".join(line(id=f"q{i}", question=f"{i}?", relevant={f"d{i}": 1, "shared": 2}) for i in range(40))
    )
    some = golden_coverage(cases, {"shared", *(f"d{i}" for i in range(2, 40))})
    assert (some.affected_cases, some.absent_ids) == (("q0", "q1"), ("d0", "d1"))
    assert some.present["q0"] == {"shared": 2}
    assert some.affected_share == 0.05
    assert not some.too_many_absent
    more = golden_coverage(cases, ["shared", *(f"d{i}" for i in range(3, 40))])
    assert more.too_many_absent
    assert golden_coverage(cases, ()).present["q7"] == {}


def test_a_golden_set_without_cases_covers_nothing() -> None:
    assert golden_coverage((), {"a"}).too_many_absent


def test_a_question_may_bring_its_own_vector() -> None:
    (case,) = load_golden(line(vector=[1, -0.5, 1e-3]))
    assert case.vector == (1.0, -0.5, 0.001)
    (case,) = load_golden(line())
    assert case.vector is None


@pytest.mark.parametrize("vector", [[], "1,2", [1, "2"], [True], [[1.0]], {"0": 1}, [10**400], [1e300], [0, 0.0]])
def test_a_vector_that_is_none_is_refused_by_line(vector: Any) -> None:
    with pytest.raises(ConfigError, match=r":1: 'vector'"):
        load_golden(line(vector=vector))


def test_a_question_under_many_ids_is_one_question_of_the_coverage() -> None:
    rows = [line(id=f"same-{n}", question="there?", relevant={"there": 3}) for n in range(100)]
    cases = load_golden("\n".join([*rows, line(id="other", question="gone?", relevant={"gone": 3})]))
    found = golden_coverage(cases, {"there"})
    assert (found.questions, found.affected_questions, found.too_many_absent) == (2, 1, True)


def test_a_set_of_eval_run_is_a_golden_set_in_json_lines_and_in_parquet(tmp_path: Path) -> None:
    """One set is asked of a model, of a drill's stacks and of a mapping."""
    checks = [{"kind": "contains", "text": "a"}, {"kind": "number", "value": 3}]
    talk = [{"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Which?"}]
    rows = [
        {"id": "a", "question": "A?", "checks": checks, "relevant": {"d": 3}, "metadata": {"by": "me"}},
        {"id": "b", "messages": talk, "choices": ["x", "y"], "checks": [{"kind": "choice", "text": "A"}]},
    ]
    path = tmp_path / "set.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    write_set(read_set(path).cases, tmp_path / "set.parquet")
    for each in (path, tmp_path / "set.parquet"):
        assert load_golden(each) == read_set(path).cases
    first, second = load_golden(path)
    assert [check.kind for check in first.checks] == ["contains", "number"]
    assert (first.text, second.text.split("\n")[0]) == ("A?", "Which?")
    assert "B) y" in second.text


def test_a_set_of_another_tool_is_to_be_converted_first(tmp_path: Path) -> None:
    (tmp_path / "tests.yaml").write_text("tests: []", "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_golden(tmp_path / "tests.yaml")
    assert caught.value.hint == "make one of it: exitramp eval sets convert tests.yaml tests.jsonl"


def test_where_only_what_is_found_counts_a_set_without_relevant_ids_says_what_to_do() -> None:
    bare = load_golden(line(relevant=...))
    with pytest.raises(ConfigError, match=r"own\.jsonl: none of its 1 cases says what is to be found") as caught:
        require_relevant(bare, "own.jsonl")
    assert '"relevant"' in str(caught.value.hint)
    require_relevant([*bare, *load_golden(line())], "own.jsonl")


def test_cases_that_ask_the_same_are_named_and_counted_once() -> None:
    assert asked_again([("a", "1"), ("b", "2")]) is None
    found = asked_again([("a", "1"), ("b", "1"), ("c", "2"), ("d", "1")])
    assert found is not None
    assert (found.ids, found.count) == (("b", "d"), 2)
    assert found.message == (
        "2 of 4 golden cases ask what another one asks already: averaged with it, so that 2 questions count"
    )
