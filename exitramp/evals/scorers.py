"""Assertions on answers, and why an answer did not pass: wrong, cut short, or never given.

They stay apart because they call for different people: a wrong answer is the model's or the retrieval's, a truncated
one a limit's, a provider's error and a store's those of whoever runs the one or the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from exitramp.errors import DataInvalid
from exitramp.evals.bounded import TooSlow, decide
from exitramp.evals.checks import folded
from exitramp.orchestration.outcome import STORE_ERROR_CLASSES

# What the two vendor shapes say when they stopped for a limit and not because the answer was complete.
CUT_FINISH_REASONS: Final = frozenset({"length", "max_tokens", "model_context_window_exceeded"})


class AssertionKind(StrEnum):
    """What has to be true of an answer.

    `contains_any`, `contains_all` and `exact` compare after Unicode NFC, casefold and collapsing of white space, so
    that a line break or a capital does not decide; `regex` is `re.search` on the answer exactly as it came.
    """

    CONTAINS_ANY = "contains_any"
    CONTAINS_ALL = "contains_all"
    EXACT = "exact"
    REGEX = "regex"


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
class Assertion:
    """One condition on an answer. `phrases` holds one text for `exact`; `pattern` is set for `regex` alone."""

    kind: AssertionKind
    phrases: tuple[str, ...] = ()
    pattern: str | None = None

    def holds(self, answer: str) -> bool:
        """Whether `answer` satisfies it. Raises `TooSlow` for a pattern that takes too long."""
        if self.kind is AssertionKind.REGEX:
            return decide({"kind": "regex", "pattern": self.pattern}, answer)
        text = folded(answer)
        wanted = [folded(phrase) for phrase in self.phrases]
        if self.kind is AssertionKind.EXACT:
            return text == wanted[0]
        found = [phrase in text for phrase in wanted]
        return any(found) if self.kind is AssertionKind.CONTAINS_ANY else all(found)


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


def parse_assertion(data: object) -> Assertion:
    """The assertion that a golden file's JSON object describes.

    Raises `DataInvalid` for an unknown kind or key, an empty list or phrase, or a pattern that does not compile.
    """
    if not isinstance(data, Mapping):
        raise DataInvalid("'assertion' is not an object")
    try:
        kind = AssertionKind(str(data.get("kind")))
    except ValueError:
        raise DataInvalid("'assertion.kind' is not known", hint=f"known are: {', '.join(AssertionKind)}") from None
    field = {AssertionKind.REGEX: "pattern", AssertionKind.EXACT: "text"}.get(kind, "phrases")
    extra = sorted(str(key) for key in data if key not in ("kind", field))
    if extra:
        raise DataInvalid(f"'assertion' of kind {kind} has the unknown key {extra[0]!r}")
    if field not in data:
        raise DataInvalid(f"'assertion' of kind {kind} lacks the key {field!r}")
    value: Any = data[field]
    if kind is AssertionKind.REGEX:
        return Assertion(kind, pattern=_compilable(value))
    phrases = [value] if kind is AssertionKind.EXACT else value
    if not isinstance(phrases, list) or not phrases:
        raise DataInvalid(f"'assertion.{field}' is not a list with something in it")
    # An empty phrase is in every answer: the assertion could not fail.
    if not all(isinstance(phrase, str) and folded(phrase) for phrase in phrases):
        raise DataInvalid(f"'assertion.{field}' holds something that is not a text, or an empty one")
    return Assertion(kind, phrases=tuple(phrases))


def score_answer(
    case_id: str,
    assertion: Assertion,
    answer: str | None,
    *,
    error_class: str | None = None,
    finish_reason: str | None = None,
) -> Score:
    """Judge one answer; one that was cut short is `truncated` even if what arrived would have passed.

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
        return Score(case_id, Outcome.PASS if assertion.holds(answer) else Outcome.WRONG)
    except TooSlow:
        return Score(case_id, Outcome.UNSCORED)


def _compilable(pattern: object) -> str:
    if not isinstance(pattern, str) or not pattern:
        raise DataInvalid("'assertion.pattern' is not a text with something in it")
    try:
        re.compile(pattern)
    except re.error as error:
        raise DataInvalid(f"'assertion.pattern' does not compile: {error.msg} at {error.pos}") from None
    return pattern
