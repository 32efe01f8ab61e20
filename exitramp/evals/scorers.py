"""Answers judged by their checks, and why an answer did not pass: wrong, cut short, or never given.

They stay apart because they call for different people: a wrong answer is the model's or the retrieval's, a truncated
one a limit's, a provider's error and a store's those of whoever runs the one or the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from exitramp.evals.bounded import TooSlow
from exitramp.evals.checks import Check
from exitramp.orchestration.outcome import STORE_ERROR_CLASSES

# What the two vendor shapes say when they stopped for a limit and not because the answer was complete.
CUT_FINISH_REASONS: Final = frozenset({"length", "max_tokens", "model_context_window_exceeded"})


class Outcome(StrEnum):
    """What became of one answer. Only `pass` counts as passed; `unscored` is one that no judge could be had for, or
    whose pattern took too long."""

    PASS = "pass"
    WRONG = "wrong"
    PROVIDER_ERROR = "provider_error"
    STORE_ERROR = "store_error"
    TRUNCATED = "truncated"
    UNSCORED = "unscored"


@dataclass(frozen=True, slots=True)
class Score:
    """How one case's answer was judged."""

    case_id: str
    outcome: Outcome

    @property
    def passed(self) -> bool:
        return self.outcome is Outcome.PASS

    @property
    def answered(self) -> bool:
        """Whether a complete answer arrived, right or wrong."""
        return self.outcome in (Outcome.PASS, Outcome.WRONG)

    @property
    def is_unjudged(self) -> bool:
        """Whether an answer arrived and nobody could tell what it is worth."""
        return self.outcome is Outcome.UNSCORED


def score_answer(
    case_id: str,
    checks: Sequence[Check],
    answer: str | None,
    *,
    error_class: str | None = None,
    finish_reason: str | None = None,
) -> Score:
    """Judge one answer by checks that ask no model, all of which have to hold.

    One that was cut short is `truncated` even if what arrived would have passed.
    `answer` is None when none came; `error_class` is the model error's class, `finish_reason` the answer's, as the
    vendor named it (`CUT_FINISH_REASONS` are those of an answer that ran into a limit).
    """
    if error_class == "truncated" or finish_reason in CUT_FINISH_REASONS:
        return Score(case_id, Outcome.TRUNCATED)
    if error_class in STORE_ERROR_CLASSES:
        return Score(case_id, Outcome.STORE_ERROR)
    if error_class is not None or answer is None:
        return Score(case_id, Outcome.PROVIDER_ERROR)
    try:
        return Score(case_id, Outcome.PASS if all(check.holds(answer) for check in checks) else Outcome.WRONG)
    except TooSlow:
        return Score(case_id, Outcome.UNSCORED)
