"""What became of a set on its way from one form to another: its cases, and everything that did not carry over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from exitramp.errors import DataInvalid
from exitramp.evals.sets.case import Case, parse_case


@dataclass(frozen=True, slots=True)
class Loss:
    """One thing that the other form cannot say, or ours cannot. `case_id` None is the whole set's."""

    what: str
    case_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"case_id": self.case_id, "what": self.what}


@dataclass(frozen=True, slots=True)
class Carried:
    """Cases, and what was lost on the way. `text` is what a writer made of them."""

    cases: tuple[Case, ...]
    losses: tuple[Loss, ...] = ()
    text: str = field(default="", repr=False)


class Gathering:
    """Cases as a reader finds them, with their losses; ids are made unique and no case goes without being named."""

    def __init__(self) -> None:
        self.cases: list[Case] = []
        self._losses: dict[Loss, None] = {}
        self._ids: set[str] = set()
        self._numbers: dict[str, int] = {}

    def lose(self, what: str, case_id: str | None = None) -> None:
        self._losses[Loss(what, case_id)] = None

    def unique(self, wanted: str) -> str:
        """`wanted`, or with a number behind it where it was taken."""
        id_, number = wanted, self._numbers.get(wanted, 1)
        while id_ in self._ids:
            number += 1
            id_ = f"{wanted}-{number}"
        self._ids.add(id_)
        self._numbers[wanted] = number
        return id_

    def take(self, data: Mapping[str, Any]) -> None:
        """The case in `data`, without what is empty in it; one that is none is a loss."""
        kept = {key: value for key, value in data.items() if value not in (None, [], {})}
        try:
            self.cases.append(parse_case(kept))
        except DataInvalid as error:
            self.lose(f"the case as a whole: {error.message}", str(data.get("id")))

    def carried(self) -> Carried:
        return Carried(tuple(self.cases), tuple(self._losses))


def conversation(value: object) -> list[dict[str, str]] | str | None:
    """A question or its messages, of what other tools call input: a text, or messages with text in them; None where
    there is something else in it, such as a picture."""
    if isinstance(value, str):
        return value
    if not isinstance(value, Sequence) or isinstance(value, bytes) or not value:
        return None
    said = []
    for each in value:
        if not isinstance(each, Mapping) or set(each) - {"role", "content", "name", "id", "source", "metadata"}:
            return None
        content = each.get("content")
        if isinstance(content, Sequence) and not isinstance(content, str):
            parts = [part for part in content if isinstance(part, Mapping)]
            if len(parts) != len(content) or any(part.get("type") != "text" for part in parts):
                return None
            content = "\n".join(str(part.get("text", "")) for part in parts)
        if not isinstance(content, str) or not isinstance(each.get("role"), str):
            return None
        said.append({"role": each["role"], "content": content})
    only = len(said) == 1 and said[0]["role"] == "user"
    return said[0]["content"] if only else said


def question_part(value: object) -> dict[str, Any]:
    """`question` or `messages` of a case, for `conversation`'s answer."""
    found = conversation(value)
    return {"question": found} if isinstance(found, str) else {"messages": found}


def said(case: Case) -> list[dict[str, str]]:
    """A case's messages as plain objects."""
    return [{"role": each.role, "content": each.content} for each in case.messages]


def lost_in(case: Case, *kept: str) -> list[Loss]:
    """Losses for the parts of a case that a form other than ours has no place for, but for those `kept`."""
    parts = {
        "relevant": "relevant ids, so that retrieval is not judged there",
        "logged_ids": "logged ids",
        "vector": "the question's vector",
        "token_overlap": "the token overlap",
        "use_case": "the use case",
        "metadata": "metadata",
        "variables": "variables",
        "choices": "choices",
    }
    return [Loss(what, case.id) for part, what in parts.items() if part in case.data and part not in kept]
