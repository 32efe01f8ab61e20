"""What a drill's readers are told: the sides of a comparison by their names, and what went wrong in words.

Steps below a drill say A and B, and nobody knows which is which; the names of Python's classes say nothing to anybody
who does not read the program.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Final

from exitramp.errors import ExitrampError, ModelError
from exitramp.records import Finding

# A letter by itself, or with a genitive's s; the group catches one that begins a sentence.
_LETTERS: Final = tuple(
    re.compile(rf"(?<![\w.'-])(?:(?<=\. )({letter})|(?:{letter}))(?!\w)(?!['.-](?!s\b)\w)") for letter in "AB"
)
_SIDES: Final = {"dump": ("primary", "dump"), "restore": ("dump", "substitute")}
"""What a step compares with what, where it is not the primary with the substitute."""
_COMPARED: Final = ("records.", "neighbours.")
"""Findings of a comparison begin so: it calls its two sides A and B, and nothing else does."""


_ERRORS: Final[Mapping[str, str]] = {
    "CollectionMissing": "there is no such collection",
    "CollectionExists": "the collection holds something else already",
    "ConsentMissing": "nobody agreed to what would be lost",
    "DataInvalid": "a record breaks a rule",
    "RoleUnsupported": "it cannot be used that way",
    "StoreUnavailable": "it cannot be reached",
    "StoreTimeout": "it did not answer in time",
    "RequestTooLarge": "what was sent at once was too large for it",
    "StoreRejected": "it refused the request",
    "StoreProtocolError": "it answered something that its contract does not allow",
    "WriteRefused": "nobody allowed it to be written",
    "UsageError": "what was asked of it is wrong",
    "ModelError": "its answer was an error",
    "SpendExceeded": "a stop condition was reached",
}
_CLASS: Final = re.compile(
    rf"(?<![\w.'\"`])(?P<name>{'|'.join(_ERRORS)}|(?:Config|Address|Integrity|Remote|Store)Error)\b(?P<colon>: )?"
)


def error_words(error: ExitrampError) -> str:
    """What went wrong, shorter than its message and without an address or a name of the program's."""
    if isinstance(error, ModelError):
        return error.error_class.replace("_", " ")
    return next((_ERRORS[each.__name__] for each in type(error).__mro__ if each.__name__ in _ERRORS), "it failed")


def without_classes(text: str) -> str:
    """A text in which no class of the program's errors is named: a journal of an older version may hold some."""
    return _CLASS.sub(lambda found: "" if found["colon"] else _ERRORS.get(found["name"], "an error"), text)


def with_sides(message: str, code: str, step: str, source: object = None) -> str:
    """The message of a finding of `step`, what it compares by its name in this drill.

    source: where the tolerance comes from, if the finding is about one: what the plan announced is not small print.
    """
    if code == "records.rounded" and isinstance(source, str) and source.startswith("the plan announced"):
        message = f"{message} ({source})"
    message = without_classes(message)
    if code.startswith(_COMPARED):
        for letter, name in zip(_LETTERS, _SIDES.get(step, ("primary", "substitute")), strict=True):
            message = letter.sub(partial(_side, name), message)
    return message


def told(finding: Finding, step: str) -> str:
    """The finding for whoever watches the drill run."""
    return with_sides(finding.message, finding.code, step, finding.detail.get("source"))


def _side(name: str, found: re.Match[str]) -> str:
    return f"{'The' if found[1] else 'the'} {name}"
