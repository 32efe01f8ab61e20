"""Who gave a run's answers: of a stack file's order, the one that was to be asked or another that stood in for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from exitramp.evals.runs.folder import Result
from exitramp.wording import counted

BREAKER_OPEN, SLOWER, KEPT = "breaker_open", "slower", "kept"
"""Why one stood in for another, where that is no error's class."""

_WORDS: Final = {
    BREAKER_OPEN: "its breaker was open",
    SLOWER: "it was silent for too long",
    KEPT: "not known: the answer was kept in the stack's journal",
}


@dataclass(frozen=True, slots=True)
class StandIn:
    """So many answers that one stack or model gave in the place of another. `because`: an error's class or a word."""

    answered_by: str
    stands_in_for: str
    because: str
    results: int

    def __str__(self) -> str:
        why = _WORDS.get(self.because, self.because)
        return f"'{self.answered_by}' for '{self.stands_in_for}' {counted(self.results, 'time')} ({why})"

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Answerers:
    """Of a run that asked a stack file, all else has none: how many answers each gave, and which of them in another's
    place. `unknown`: answers of which it was not kept who gave them."""

    answered_by: Mapping[str, int] = field(default_factory=dict, hash=False)
    stand_ins: tuple[StandIn, ...] = ()
    unknown: int = 0

    @property
    def all(self) -> int:
        return sum(self.answered_by.values()) + self.unknown

    @property
    def by_stand_ins(self) -> int:
        return sum(each.results for each in self.stand_ins)

    def to_json(self) -> dict[str, Any]:
        return {
            "answered_by": dict(self.answered_by),
            "stand_ins": [each.to_json() for each in self.stand_ins],
            "answered_by_unknown": self.unknown,
        }


def answerers_of(results: Iterable[Result], subject: Mapping[str, Any]) -> Answerers:
    """Of these results of a run's `subject`, as its plan describes it."""
    if subject.get("kind") != "stack":
        return Answerers()
    answered = [result.data for result in results if result.data.get("model_id") is not None]
    names = Counter(data.get("answered_by") for data in answered)
    unknown = names.pop(None, 0)
    placed = Counter(
        (str(data["answered_by"]), str(data["stands_in_for"]), str(data.get("stands_in_because") or "unknown"))
        for data in answered
        if data.get("answered_by") is not None and data.get("stands_in_for") is not None
    )
    stand_ins = tuple(StandIn(*which, results) for which, results in sorted(placed.items()))
    return Answerers({str(name): names[name] for name in sorted(names, key=str)}, stand_ins, unknown)
