"""One run as a comparison tells it: what was asked, who answered, and whether its answers are its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from exitramp.evals.runs.answerers import Answerers, answerers_of
from exitramp.evals.runs.folder import Run
from exitramp.evals.scorers import Outcome
from exitramp.orchestration.outcome import STORE_ERROR_CLASSES
from exitramp.wording import counted

JUDGE_ONE: Final = (
    "see why it did not answer, then make that run again in another folder; `eval run --stack FILE --only NAME` asks "
    "that one alone, and --judge-order compares the order itself, whoever answers"
)
"""What to do where a side's answers are not its own."""


@dataclass(frozen=True, slots=True)
class Side:
    """One run. `outcomes` counts results over all repeats; `answerers` is of runs that asked a stack file."""

    folder: str
    run_id: str
    subject: Mapping[str, Any] = field(hash=False)
    is_mock: bool
    is_complete: bool
    outcomes: Mapping[str, int] = field(hash=False)
    error_classes: Mapping[str, int] = field(hash=False)
    answerers: Answerers = Answerers()

    def to_json(self) -> dict[str, Any]:
        names = [name for name in self.__slots__ if name != "answerers"]
        return {name: getattr(self, name) for name in names} | self.answerers.to_json()


def side_of(run: Run) -> Side:
    results = list(run.results.values())
    return Side(
        folder=str(run.folder),
        run_id=str(run.manifest["run_id"]),
        subject=run.plan["subject"],
        is_mock=any(result.data.get("mock") for result in results),
        is_complete=run.is_complete,
        outcomes=dict(sorted(Counter(result.outcome or "unlabelled" for result in results).items())),
        error_classes=dict(sorted(Counter(each.error_class for each in results if each.error_class).items())),
        answerers=answerers_of(results, run.plan["subject"]),
    )


def not_its_own(side: Side, name: str) -> tuple[str, ...]:
    """Why answers of the `name` run say nothing of what its stack file asks first; empty where they all do."""
    found, told = side.answerers, []
    if found.by_stand_ins:
        of_all = f"{found.by_stand_ins} of {counted(found.all, 'answer')} of the {name} run"
        told.append(f"{of_all} came from a stand-in: {', '.join(map(str, found.stand_ins))}")
    if found.unknown:
        told.append(f"it is not known who gave {found.unknown} of {counted(found.all, 'answer')} of the {name} run")
    return tuple(told)


def store_errors(side: Side, name: str) -> str | None:
    """How many questions of the `name` run its store left without an answer, if any."""
    failed = side.outcomes.get(Outcome.STORE_ERROR, 0)
    if not failed:
        return None
    classes = ", ".join(f"{each} {n}" for each, n in side.error_classes.items() if each in STORE_ERROR_CLASSES)
    every = counted(sum(side.outcomes.values()), "result")
    return f"{failed} of {every} of the {name} run {'is' if failed == 1 else 'are'} a failure of its store ({classes})"
