"""Checks: what holds, what does not, and what is refused before anything is asked."""

from __future__ import annotations

from typing import Any

import pytest

from exitramp.errors import DataInvalid
from exitramp.evals import bounded
from exitramp.evals.bounded import TooSlow
from exitramp.evals.checks import KINDS, chosen_letter, numbers_in, parse_check

SCHEMA = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}


@pytest.mark.parametrize(
    ("check", "answer", "holds"),
    [
        ({"kind": "exact", "text": "Forty  two"}, "forty\ntwo", True),
        ({"kind": "exact", "text": "Forty two", "as_written": True}, "forty two", False),
        ({"kind": "exact", "texts": ["a", "b"]}, "B", True),
        ({"kind": "starts_with", "texts": ["yes", "no"]}, "No, it is not", True),
        ({"kind": "contains", "text": "cafe\u0301"}, "the CAFÉ", True),
        ({"kind": "contains", "text": "x", "not": True}, "y", True),
        ({"kind": "contains_any", "phrases": ["a", "q"]}, "Quick", True),
        ({"kind": "contains_all", "phrases": ["q", "z"]}, "Quick", False),
        ({"kind": "regex", "pattern": r"^\d{3}$"}, "123", True),
        ({"kind": "regex", "pattern": r"(?i)YES", "not": True}, "yes", False),
        ({"kind": "json_schema", "schema": SCHEMA}, '{"name": "x"}', True),
        ({"kind": "json_schema", "schema": SCHEMA}, '{"name": 3}', False),
        ({"kind": "json_schema", "schema": SCHEMA}, 'Here: {"name": "x"}', False),
        ({"kind": "json_schema", "schema": SCHEMA, "within": True}, 'Here: [1] {"name": "x"} {', True),
        ({"kind": "json_schema", "schema": True}, "no json", False),
        ({"kind": "number", "value": 0.2, "tolerance": 0.1}, "it is 7, no: 0.3", True),
        ({"kind": "number", "value": 1000, "relative": 0.01}, "about $1,009.50", True),
        ({"kind": "number", "value": 1000, "relative": 0.01}, "about 1,011", False),
        ({"kind": "number", "value": 7, "take": "first"}, "7 of 9", True),
        ({"kind": "number", "value": 7, "take": "only"}, "7 of 9", False),
        ({"kind": "number", "value": 7}, "seven", False),
        ({"kind": "choice", "text": "b"}, "I think so. ANSWER: B", True),
        ({"kind": "choice", "text": "A"}, "A dog is an animal", False),
    ],
)
def test_a_check_holds_where_its_description_says(check: dict[str, Any], answer: str, holds: bool) -> None:
    assert parse_check(check).holds(answer) is holds


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ({"kind": "containz"}, "'kind' is not known"),
        ({"kind": "exact", "text": "a", "texts": ["b"]}, "needs"),
        ({"kind": "exact", "text": " "}, "empty"),
        ({"kind": "contains", "text": "a", "texts": ["b"]}, "unknown key"),
        ({"kind": "regex", "pattern": "("}, "does not compile"),
        ({"kind": "json_schema", "schema": {"type": "objekt"}}, "is no JSON Schema"),
        ({"kind": "number", "value": "3"}, "'value' of a check is not a number"),
        ({"kind": "number", "value": float("nan")}, "not a number"),
        ({"kind": "number", "value": 3, "tolerance": -1}, "below 0"),
        ({"kind": "number", "value": 3, "take": "best"}, "'take'"),
        ({"kind": "similarity", "text": "a"}, "threshold"),
        ({"kind": "judge", "criterion": ""}, "criterion"),
        ({"kind": "choice", "text": "AB"}, "letters"),
        ([], "not an object"),
    ],
)
def test_a_check_that_could_not_fail_or_not_be_decided_is_refused(check: Any, said: str) -> None:
    with pytest.raises(DataInvalid, match=said):
        parse_check(check)


def test_a_schema_that_refers_to_another_address_is_not_fetched() -> None:
    with pytest.raises(DataInvalid, match="refers to"):
        parse_check({"kind": "json_schema", "schema": {"items": [{"$ref": "http://127.0.0.1:9/schema.json"}]}})
    with pytest.raises(DataInvalid, match="refers to"):
        parse_check({"kind": "json_schema", "schema": {"$ref": "#/$defs/gone"}}).holds("{}")


def test_numbers_are_found_as_people_write_them() -> None:
    assert numbers_in("-3e5, then 1,234.5 and v1.2.3, .5 and abc3.") == [-300000.0, 1234.5, 0.5]


def test_a_letter_is_chosen_only_where_it_stands_as_an_answer() -> None:
    assert [chosen_letter(text) for text in ("**C**", "B) the second", "Answer: (D)", "because", "A dog")] == [
        "C", "B", "D", None, None,
    ]  # fmt: skip


def test_every_kind_says_what_it_lacks() -> None:
    for kind in KINDS:
        with pytest.raises(DataInvalid):
            parse_check({"kind": kind})


def test_a_pattern_that_never_ends_leaves_its_check_undecided_and_the_next_ones_are_decided() -> None:
    endless = parse_check({"kind": "regex", "pattern": "(a+)+$"})
    with pytest.raises(TooSlow, match="2 s of computing"):
        endless.holds("a" * 60 + "!")
    assert endless.holds("a" * 60)
    assert not endless.holds("a" * 20 + "!")
    inside = parse_check({"kind": "json_schema", "schema": {"properties": {"n": {"pattern": "^[0-9]+$"}}}})
    assert inside.holds('{"n": "12"}')
    assert not inside.holds('{"n": "x"}')
    turned = parse_check({"kind": "regex", "pattern": "(?i)IBAN", "not": True})
    assert turned.holds("nothing of that sort \ud800 é")
    assert not turned.holds("an iban")


def test_a_process_that_decides_patterns_and_is_killed_is_replaced() -> None:
    check = parse_check({"kind": "regex", "pattern": "b"})
    assert check.holds("abc")
    child = bounded._DECIDER._child
    assert child is not None
    child.kill()
    child.wait()
    with pytest.raises(TooSlow, match="had to be stopped"):
        check.holds("abc")
    assert check.holds("abc")
