"""A case: what is asked, and everything that tells a good answer from a bad one.

A case is one JSON object. `id` and either `question` (a text) or `messages` (a conversation, `role` and `content` each)
are required. Optional: `use_case` (default `all`), `checks` (see `exitramp.evals.checks`; all have to hold),
`assertion` (one check more, by an older name), `relevant` (document id to grade 1, 2 or 3), `logged_ids`
(what an application retrieved when the question was logged: for overlap, not for truth), `choices` (of a
multiple-choice question), `variables` (for prompt templates), `metadata`, `vector`, `token_overlap` and `sha256`, the
hash of the case without it: as JSON with sorted keys, no spaces and non-ASCII characters kept. A file that states it
and does not match it is refused. Golden sets of drills and of `reindex --golden` are sets of such cases.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from exitramp.errors import DataInvalid
from exitramp.evals.checks import ASKS_A_MODEL, Check, parse_check
from exitramp.evals.sets.fields import DEFAULT_USE_CASE, case_sha256, parse_overlap, parse_relevant, parse_vector
from exitramp.evals.sets.plain import require_plain
from exitramp.ports import ChatMessage

ROLES: Final = ("system", "user", "assistant")
KNOWN: Final = (
    "id", "use_case", "question", "messages", "choices", "variables", "checks", "assertion", "relevant", "logged_ids",
    "vector", "token_overlap", "metadata", "sha256",
)  # fmt: skip
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Case:
    """One case. `data` is its JSON object without `sha256`; `sha256` is over exactly that."""

    id: str
    use_case: str
    messages: tuple[ChatMessage, ...] = field(repr=False)
    checks: tuple[Check, ...] = field(repr=False)
    relevant: Mapping[str, int] = field(hash=False, repr=False)
    logged_ids: tuple[str, ...] = field(repr=False)
    choices: tuple[str, ...] = field(repr=False)
    variables: Mapping[str, Any] = field(hash=False, repr=False)
    metadata: Mapping[str, Any] = field(hash=False, repr=False)
    data: Mapping[str, Any] = field(hash=False, repr=False)
    sha256: str
    vector: tuple[float, ...] | None = field(default=None, repr=False)
    """The question as the model embedded it that embedded the store: for one that is not at hand."""
    token_overlap: float | None = None

    @property
    def question(self) -> str:
        """What the user last said."""
        return next(message.content for message in reversed(self.messages) if message.role == "user")

    @property
    def text(self) -> str:
        """What is put to that which takes one text and no messages: a store, a stack, an application in a drill."""
        return self.asked()[-1].content

    @property
    def is_labelled(self) -> bool:
        """Whether somebody said what is right: without it only overlap with what was logged can be measured."""
        return bool(self.checks or self.relevant)

    @property
    def asks_a_model(self) -> bool:
        """Whether a check of it is decided by a model: by an embedder, or by a judge."""
        return any(check.kind in ASKS_A_MODEL for check in self.checks)

    @property
    def question_sha256(self) -> str:
        """What is asked, whatever it is called: two cases of one hash get one answer, and are no two observations.

        Case, white space and the forms of Unicode make no difference.
        """
        said = [[message.role, *_folded(message.content)] for message in self.asked()]
        parts = [self.use_case, said, self.variables]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def text_sha256(self) -> str:
        """The same of `text` alone, for what is decided by nothing else: what a search finds."""
        return hashlib.sha256(json.dumps(_folded(self.text)).encode()).hexdigest()

    def asked(self) -> tuple[ChatMessage, ...]:
        """The messages as a model gets them: choices stand below the question, each behind its letter."""
        if not self.choices:
            return self.messages
        listed = "\n".join(f"{letter}) {text}" for letter, text in zip(_LETTERS, self.choices, strict=False))
        *before, last = self.messages
        told = f"{last.content}\n\n{listed}\n\nEnd with ANSWER: and the letter of the right choice."
        return (*before, ChatMessage(last.role, told))


def _folded(text: str) -> list[str]:
    return unicodedata.normalize("NFKC", text).casefold().split()


def parse_case(data: object) -> Case:
    """The case that a JSON object describes. Raises `DataInvalid`; no message holds a text of the case."""
    if not isinstance(data, dict):
        raise DataInvalid("not a JSON object")
    require_plain(data)
    unknown = sorted(set(data) - set(KNOWN))
    if unknown:
        raise DataInvalid(f"unknown key {unknown[0]!r}", hint=f"known are: {', '.join(sorted(KNOWN))}")
    id_ = _text(data, "id")
    digest = case_sha256(data)
    if "sha256" in data and data["sha256"] != digest:
        raise DataInvalid(
            f"the case {id_!r} does not match its sha256: it was changed, or its hash was",
            hint="review the case, then leave its sha256 away, or write the hash of the case as it stands",
        )
    choices = _texts(data, "choices")
    if len(choices) > len(_LETTERS):
        raise DataInvalid(f"more than {len(_LETTERS)} choices")
    return Case(
        id=id_,
        use_case=_text(data, "use_case") if "use_case" in data else DEFAULT_USE_CASE,
        messages=_messages(data),
        checks=_checks(data),
        relevant=parse_relevant(data.get("relevant", {})),
        logged_ids=_texts(data, "logged_ids"),
        choices=choices,
        variables=_object(data, "variables"),
        metadata=_object(data, "metadata"),
        data={key: value for key, value in data.items() if key != "sha256"},
        sha256=digest,
        vector=parse_vector(data.get("vector")),
        token_overlap=parse_overlap(data.get("token_overlap")),
    )


def _messages(data: Mapping[str, Any]) -> tuple[ChatMessage, ...]:
    if ("question" in data) == ("messages" in data):
        raise DataInvalid("a case has either 'question' or 'messages'")
    if "question" in data:
        return (ChatMessage("user", _text(data, "question")),)
    listed = data["messages"]
    if not isinstance(listed, list) or not listed:
        raise DataInvalid("'messages' is not a list with something in it")
    found = []
    for each in listed:
        if not isinstance(each, dict) or set(each) != {"role", "content"} or each["role"] not in ROLES:
            raise DataInvalid(f"a message is not an object of 'role' ({', '.join(ROLES)}) and 'content'")
        found.append(ChatMessage(each["role"], _text(each, "content")))
    if found[-1].role != "user":
        raise DataInvalid("the last of 'messages' is not the user's: nothing is asked")
    return tuple(found)


def _checks(data: Mapping[str, Any]) -> tuple[Check, ...]:
    listed = data.get("checks", [])
    if not isinstance(listed, list):
        raise DataInvalid("'checks' is not a list")
    assertion = [data["assertion"]] if data.get("assertion") is not None else []
    return tuple(parse_check(each) for each in [*assertion, *listed])


def _object(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key, {})
    if not isinstance(value, dict):
        raise DataInvalid(f"{key!r} is not an object")
    return value


def _texts(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = data.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise DataInvalid(f"{key!r} is not a list of texts")
    if len(set(value)) != len(value):
        raise DataInvalid(f"{key!r} holds a text twice")
    return tuple(value)


def _text(data: Mapping[str, Any], key: str) -> str:
    if key not in data:
        raise DataInvalid(f"the key {key!r} is missing")
    value = data[key]
    if not isinstance(value, str) or not value.strip():
        raise DataInvalid(f"{key!r} is not a text with something in it")
    return value
