"""What makes an answer pass, and what keeps a wrong, a cut and a missing one apart."""

from __future__ import annotations

import pytest

from exitramp.evals.checks import Check, parse_check
from exitramp.evals.scorers import Outcome, score_answer

ANY = parse_check({"kind": "contains_any", "phrases": ["os.replace", "os.rename"]})
ALL = parse_check({"kind": "contains_all", "phrases": ["atomic", "same file system"]})
EXACT = parse_check({"kind": "exact", "text": "Forty-two."})
REGEX = parse_check({"kind": "regex", "pattern": r"\b4[0-9]\b"})


@pytest.mark.parametrize(
    ("check", "answer", "holds"),
    [
        (ANY, "Use os.replace instead.", True),
        (ANY, "Use shutil.move instead.", False),
        (ALL, "It is atomic on the same file system.", True),
        (ALL, "It is atomic.", False),
        (EXACT, "  forty-two. ", True),
        (EXACT, "forty-two. Or so.", False),
        (REGEX, "about 42 of them", True),
        (REGEX, "about 142 of them", False),
    ],
)
def test_a_check_holds_for_what_it_describes(check: Check, answer: str, holds: bool) -> None:
    assert check.holds(answer) is holds


def test_capitals_line_breaks_and_composed_characters_do_not_decide_a_phrase() -> None:
    check = parse_check({"kind": "contains_any", "phrases": ["Same  file\nsystem", "caf\u00e9"]})
    assert check.holds("on the SAME file system")
    assert check.holds("a cafe\u0301 nearby")


def test_a_regex_sees_the_answer_as_it_came() -> None:
    assert not parse_check({"kind": "regex", "pattern": "atomic"}).holds("ATOMIC")
    assert parse_check({"kind": "regex", "pattern": "(?i)atomic"}).holds("ATOMIC")


def test_a_wrong_answer_a_cut_one_and_none_at_all_stay_apart() -> None:
    assert score_answer("q", [ANY], "os.rename").outcome is Outcome.PASS
    assert score_answer("q", [ANY], "os.rename", finish_reason="end_turn").outcome is Outcome.PASS
    assert score_answer("q", [ANY], "").outcome is Outcome.WRONG
    assert score_answer("q", [ANY], None).outcome is Outcome.PROVIDER_ERROR
    assert score_answer("q", [ANY], None, error_class="overloaded").outcome is Outcome.PROVIDER_ERROR
    assert score_answer("q", [ANY], None, error_class="store_timeout").outcome is Outcome.STORE_ERROR
    assert score_answer("q", [ANY], "half", error_class="truncated").outcome is Outcome.TRUNCATED
    assert score_answer("q", [ANY], "half", finish_reason="length").outcome is Outcome.TRUNCATED


def test_a_cut_answer_does_not_pass_even_if_it_holds_the_phrase() -> None:
    score = score_answer("q", [ANY], "Use os.rename, but", finish_reason="max_tokens")
    assert (score.outcome, score.passed, score.answered) == (Outcome.TRUNCATED, False, False)


def test_an_answer_beside_an_error_does_not_pass() -> None:
    assert not score_answer("q", [ANY], "os.rename", error_class="content_filter").passed


def test_all_checks_have_to_hold() -> None:
    number = parse_check({"kind": "number", "value": 42})
    assert score_answer("q", [ANY, number], "os.rename, 42").outcome is Outcome.PASS
    assert score_answer("q", [ANY, number], "os.rename, 41").outcome is Outcome.WRONG
