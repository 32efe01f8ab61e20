"""What the sides of a comparison are called in a drill: steps below it say A and B, and nobody knows which is which."""

from __future__ import annotations

import re
from functools import partial
from typing import Final

from exitramp.records import Finding

# A letter by itself, or with a genitive's s; the group catches one that begins a sentence.
_LETTERS: Final = tuple(
    re.compile(rf"(?<![\w.'-])(?:(?<=\. )({letter})|(?:{letter}))(?!\w)(?!['.-](?!s\b)\w)") for letter in "AB"
)
_SIDES: Final = {"dump": ("primary", "dump"), "restore": ("dump", "substitute")}
"""What a step compares with what, where it is not the primary with the substitute."""
_COMPARED: Final = ("records.", "neighbours.")
"""Findings of a comparison begin so: it calls its two sides A and B, and nothing else does."""


def with_sides(message: str, code: str, step: str, source: object = None) -> str:
    """The message of a finding of `step`, what it compares by its name in this drill.

    source: where the tolerance comes from, if the finding is about one: what the plan announced is not small print.
    """
    if code == "records.rounded" and isinstance(source, str) and source.startswith("the plan announced"):
        message = f"{message} ({source})"
    if code.startswith(_COMPARED):
        for letter, name in zip(_LETTERS, _SIDES.get(step, ("primary", "substitute")), strict=True):
            message = letter.sub(partial(_side, name), message)
    return message


def told(finding: Finding, step: str) -> str:
    """The finding for whoever watches the drill run."""
    return with_sides(finding.message, finding.code, step, finding.detail.get("source"))


def _side(name: str, found: re.Match[str]) -> str:
    return f"{'The' if found[1] else 'the'} {name}"
