"""Checks that no answer can fail, or meet: refused with their line, in a run's set as in a drill's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exitramp.cli.main import run
from exitramp.errors import ConfigError, DataInvalid
from exitramp.evals.checks import parse_check
from exitramp.evals.golden import load_golden
from exitramp.evals.sets import read_set

PATTERNS = [
    ".*", "", "a*", "^", "$", r"\A", "^.*", "(?s)^.*$", r"[\s\S]*", r"(?:yes|)", "(a?)*", r"^[\w\W]*$", r"\b|",
]  # fmt: skip
FAILING = [
    ".+", "^.*$", r"\S", "^$", "^[^x]*$", r"^[^\u0600-\u06ff]*$", r"^\D*$", r"^[\x00-\x7f]*$", "^(?!.*sorry)",
    r"^(?!.*\bAKIA[0-9A-Z]{16}\b)", r"(?s)^.{0,500}$", r"^\w*$", "(?=.*a)(?=.*b)", r"^\s*$", "^(?:yes|no)?$",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("turned", [False, True])
def test_a_pattern_that_finds_something_in_every_answer_is_refused(pattern: str, turned: bool) -> None:
    with pytest.raises(DataInvalid, match=r"judges nothing|not a text with something in it"):
        parse_check({"kind": "regex", "pattern": pattern, "not": turned})


@pytest.mark.parametrize("pattern", FAILING)
def test_a_pattern_that_an_answer_can_fail_is_none_of_those(pattern: str) -> None:
    assert parse_check({"kind": "regex", "pattern": pattern}).kind == "regex"


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ({"kind": "number", "value": 3, "tolerance": 1e300}, r"room for every number \(1e\+300"),
        ({"kind": "number", "value": 3, "relative": 1e300}, "room for every number"),
        ({"kind": "number", "value": 1e200, "relative": 1e200}, "room for every number"),
        ({"kind": "number", "value": 10**400}, "'value' of a check is not a number"),
        ({"kind": "similarity", "text": "a", "threshold": 0}, "an empty answer reaches its threshold"),
        ({"kind": "similarity", "text": "a", "threshold": -0.5}, "an empty answer reaches its threshold"),
        ({"kind": "similarity", "text": "a", "threshold": float("nan")}, "a cosine above 0"),
        ({"kind": "json_schema", "schema": False, "not": True}, "nothing fits its schema"),
        ({"kind": "json_schema", "schema": {"not": {}}}, "nothing fits its schema"),
        ({"kind": "choice", "texts": list("abcdefghijklmnopqrstuvwxyz")}, "every letter is the right one"),
        ({"kind": "contains", "text": ""}, "an empty one"),
        ({"kind": "contains_any", "phrases": ["a", " \n"]}, "an empty one"),
        ({"kind": "contains_all", "phrases": []}, "not a list with something in it"),
        ({"kind": "regex", "pattern": "a{99999999999999}"}, "does not compile"),
        ({"kind": "regex", "pattern": "(" * 5000 + ")" * 5000}, "does not compile"),
    ],
)
def test_what_judges_nothing_is_refused_with_its_reason(check: dict[str, Any], said: str) -> None:
    with pytest.raises(DataInvalid, match=said):
        parse_check(check)


def test_any_json_is_a_check_that_an_answer_can_fail() -> None:
    for schema in ({}, True):
        check = parse_check({"kind": "json_schema", "schema": schema})
        assert check.holds("[1]")
        assert not check.holds("no json")


def test_a_set_that_has_one_is_refused_with_its_line_wherever_it_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = {"id": "a", "question": "Why?", "relevant": {"d": 1}}
    bad = {"id": "b", "question": "Who?", "relevant": {"d": 1}, "assertion": {"kind": "regex", "pattern": ".*"}}
    file = tmp_path / "set.jsonl"
    file.write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n", encoding="utf-8")
    for read in (load_golden, read_set):
        with pytest.raises(ConfigError, match=r"set\.jsonl:2: a check of kind regex judges nothing"):
            read(file)
    assert run(["eval", "sets", "convert", str(file), str(tmp_path / "out.parquet")]) == 2
    assert f"{file}:2: a check of kind regex judges nothing" in capsys.readouterr().err
    assert not (tmp_path / "out.parquet").exists()


def test_another_tools_assertion_that_judges_nothing_is_named_as_lost(tmp_path: Path) -> None:
    file = tmp_path / "tests.yaml"
    file.write_text("tests: [{vars: {question: Why}, assert: [{type: regex, value: '.*'}]}]", encoding="utf-8")
    found = read_set(file)
    assert found.cases[0].checks == ()
    assert any("regex: a check of kind regex judges nothing" in each.what for each in found.losses)
