"""How often a semantic cache would answer a question with the answer to another one, measured on a golden set.

Each case is asked of a cache that holds all other cases of its use case. It gets the likest one's answer if their
cosine reaches the threshold: a *hit*. The hit is *right* if both questions have a best answer in common: one of the
documents with the highest grade of each, or, where no document is named, the same checks; else it is *false*. What is
bounded is the share of questions that get a false answer, by the exact one-sided bound of Clopper and Pearson (1934).

Thresholds are tested from the highest down and the first that fails ends it, so that no correction for their number is
needed (a fixed sequence). A golden set is made of different questions: it shows what a cache spoils, and, unless it
holds some that mean the same, not what it saves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from exitramp.errors import DataInvalid, DependencyMissing
from exitramp.evals.sets.case import Case
from exitramp.records import Verdict

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

THRESHOLDS: Final = (0.70, 0.75, 0.80, 0.85, 0.90, 0.92, 0.94, 0.96, 0.98)
MOST_FALSE: Final = 0.05
CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Likest:
    """A case and the one whose answer it would get."""

    case_id: str
    other_id: str
    cosine: float
    is_right: bool


@dataclass(frozen=True, slots=True)
class AtThreshold:
    """Of `questions` asked, `hits` were answered from the cache, `false` of them with another question's answer.

    at_most: the upper bound of the share of questions that get a false answer; at_least: the lower one.
    """

    threshold: float
    questions: int
    hits: int
    false: int
    at_least: float
    at_most: float

    def verdict(self, most_false: float) -> Verdict:
        if self.at_most <= most_false:
            return Verdict.PASS
        return Verdict.FAIL if self.at_least > most_false else Verdict.INCONCLUSIVE

    def to_json(self) -> dict[str, Any]:
        return {
            "threshold": self.threshold,
            "questions": self.questions,
            "hits": self.hits,
            "false_hits": self.false,
            "false_share": self.false / self.questions,
            "false_share_at_least": self.at_least,
            "false_share_at_most": self.at_most,
        }


@dataclass(frozen=True, slots=True)
class Measured:
    """All thresholds, lowest first, and the likest pairs, likest first."""

    rows: tuple[AtThreshold, ...]
    likest: tuple[Likest, ...]

    def recommended(self, most_false: float) -> AtThreshold | None:
        """Where `bounded_from` answers something rightly: a threshold at which nothing is shown to be saved is none to
        recommend."""
        found = self.bounded_from(most_false)
        return found if found is not None and found.hits > found.false else None

    def bounded_from(self, most_false: float) -> AtThreshold | None:
        """The lowest threshold that holds with all above it; None where the highest does not."""
        found = None
        for row in reversed(self.rows):
            if row.verdict(most_false) is not Verdict.PASS:
                break
            found = row
        return found


def likest_pairs(cases: Sequence[Case], vectors: npt.NDArray[np.floating[Any]]) -> tuple[Likest, ...]:
    """Each labelled case with the likest other one of its use case, likest first. `vectors`: float[n, d], a row a case.

    Raises `DataInvalid` where fewer than two cases of a use case are labelled.
    """
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    found = []
    for use_case in dict.fromkeys(case.use_case for case in cases):
        places = [place for place, case in enumerate(cases) if case.use_case == use_case and case.is_labelled]
        if len(places) < 2:
            continue
        likeness = units[places] @ units[places].T
        np.fill_diagonal(likeness, -np.inf)
        for row, place in enumerate(places):
            best = int(np.argmax(likeness[row]))
            one, other = cases[place], cases[places[best]]
            found.append(Likest(one.id, other.id, float(likeness[row, best]), have_one_answer(one, other)))
    if not found:
        raise DataInvalid(
            "no use case of the set has two labelled cases, so nothing can be mistaken for another",
            hint="a case is labelled by its relevant documents or by checks",
        )
    return tuple(sorted(found, key=lambda each: (-each.cosine, each.case_id)))


def have_one_answer(one: Case, other: Case) -> bool:
    """Whether the best answer to one is a best answer to the other."""
    if one.relevant and other.relevant:
        return bool(_best(one) & _best(other))
    checks = [case.data.get("checks") or case.data.get("assertion") for case in (one, other)]
    return not one.relevant and not other.relevant and checks[0] == checks[1]


def _best(case: Case) -> set[str]:
    top = max(case.relevant.values())
    return {document for document, grade in case.relevant.items() if grade == top}


def measure(likest: Sequence[Likest], thresholds: Sequence[float] = THRESHOLDS) -> Measured:
    """What each threshold would let through."""
    rows = []
    for threshold in sorted(set(thresholds)):
        hits = [each for each in likest if each.cosine >= threshold]
        false = sum(not each.is_right for each in hits)
        low, high = exact_bounds(false, len(likest))
        rows.append(AtThreshold(threshold, len(likest), len(hits), false, low, high))
    return Measured(tuple(rows), tuple(likest))


def exact_bounds(count: int, of: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The lower and the upper bound of a share, each one-sided and exact at `confidence`."""
    try:
        from scipy.stats import beta
    except ImportError as error:
        raise DependencyMissing("an exact bound", "evals", module="scipy") from error
    low = 0.0 if count == 0 else float(beta.ppf(1 - confidence, count, of - count + 1))
    high = 1.0 if count == of else float(beta.ppf(confidence, count + 1, of - count))
    return low, high
