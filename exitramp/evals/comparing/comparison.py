"""The comparison of two runs: a verdict from lower bounds against margins, and from nothing else.

Metrics that decide are tested one by one by Holm's procedure (Holm 1979, Scandinavian Journal of Statistics 6:65-70):
while any bound at the confidence 1 - 5 % / (metrics left) is beyond its margin, that metric is decided and left out of
the next round. So the chance of even one false pass, or one false fail, among them all is at most 5 %. All must pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from statistics import fmean
from typing import Any, Final

from exitramp.errors import UsageError
from exitramp.evals.comparing.margins import EVERY
from exitramp.evals.comparing.notes import notes_of
from exitramp.evals.comparing.pairing import (
    PASS,
    ByCase,
    Together,
    metrics_in,
    pairs_of,
    passed_share,
    together,
    unjudged_in_second,
)
from exitramp.evals.comparing.side import JUDGE_ONE, Side, not_its_own, side_of, store_errors
from exitramp.evals.exact_pairs import pairs_for_power
from exitramp.evals.runs.folder import Result, Run
from exitramp.evals.verdicts import NonInferiority, Pairs, cases_needed, non_inferiority
from exitramp.records import Verdict
from exitramp.wording import counted

CONFIDENCE: Final = 0.95
POWER: Final = 0.8
SEED: Final = 7
_SHOWN_MARGIN: Final = 0.05


@dataclass(frozen=True, slots=True)
class MetricResult:
    """One metric. `decides` False: shown, and its verdict counts for nothing. `cases_for_power`: how many cases a pass
    would take with a power of 80 % if both sides are equal and vary as they did here."""

    judged: NonInferiority
    decides: bool
    cases_for_power: int

    def to_json(self) -> dict[str, Any]:
        data = self.judged.to_json() | {"decides": self.decides, "cases_for_power": self.cases_for_power}
        return data if self.decides else data | {"verdict": None, "reason": "shown, decides nothing", "margin": None}


@dataclass(frozen=True, slots=True)
class Flipped:
    """A case that passed more often on one side. `direction` is `lost` or `gained` by the switch."""

    case_id: str
    use_case: str
    direction: str
    first: tuple[Result, ...] = field(repr=False)
    second: tuple[Result, ...] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        return {
            "case_id": self.case_id,
            "use_case": self.use_case,
            "direction": self.direction,
            "first": [_shown(result) for result in self.first],
            "second": [_shown(result) for result in self.second],
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of comparing two runs. `margin_fixed` says when the margins were fixed, `next_step` what to do where
    the verdict is not about who was to be judged."""

    verdict: Verdict
    reason: str
    first: Side
    second: Side
    margin_fixed: str
    metrics: tuple[MetricResult, ...]
    flipped: tuple[Flipped, ...]
    cases: int
    notes: tuple[str, ...]
    next_step: str | None = None
    judges_order: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict.value,
            "reason": self.reason,
            "cases": self.cases,
            "margin_fixed": self.margin_fixed,
            "metrics": [metric.to_json() for metric in self.metrics],
            "first": self.first.to_json(),
            "second": self.second.to_json(),
            "flipped": [flip.to_json() for flip in self.flipped],
            "notes": list(self.notes),
            "next_step": self.next_step,
            "judges_order": self.judges_order,
        }


def compare_runs(
    first: Run,
    second: Run,
    margins: Mapping[str, float],
    *,
    margin_fixed: str,
    common_cases: bool = False,
    judges_order: bool = False,
    seed: int = SEED,
) -> Comparison:
    """Whether the second run is worse than the first by no more than the margins.

    judges_order: whether answers of stand-ins count, since it is a stack file's order that is judged; without it they
    leave open how good the one is that was to be asked. Raises `UsageError` for runs that cannot be compared: other
    sets (unless `common_cases`), or other rulers.
    """
    _require_comparable(first, second, common_cases=common_cases)
    both = together(first, second)
    available = metrics_in(both)
    deciding = _deciding(available, margins)
    pairs = {metric: pairs_of(both, metric) for metric in dict.fromkeys((*deciding, *available))}
    judged = holm({metric: pairs[metric] for metric in deciding}, deciding, seed=seed)
    worst = holm({each: pairs_of(both, each, unjudged_fails=True) for each in deciding}, deciding, seed=seed)
    judged = {metric: _held_back(judged[metric], worst[metric], both) for metric in deciding}
    sides = side_of(first), side_of(second)
    others = [] if judges_order else [*not_its_own(sides[0], "first"), *not_its_own(sides[1], "second")]
    judged = {metric: _told_whose(judged[metric], others, sides[1]) for metric in deciding}
    metrics = [_result(judged[metric], pairs[metric], decides=True) for metric in deciding]
    for metric in available:
        if metric not in deciding:
            shown = non_inferiority(pairs[metric], metric=metric, margin=_SHOWN_MARGIN, seed=seed)
            metrics.append(_result(shown, pairs[metric], decides=False))
    verdict, reason = _overall(first, second, [judged[metric] for metric in deciding], others)
    return Comparison(
        verdict=verdict,
        reason=reason,
        first=sides[0],
        second=sides[1],
        margin_fixed=margin_fixed,
        metrics=tuple(metrics),
        flipped=flipped(both.first, both.second),
        cases=len(both.first),
        notes=tuple(
            notes_of((first, second), sides, both, [judged[each] for each in deciding], judges_order=judges_order)
        ),
        next_step=JUDGE_ONE if others else None,
        judges_order=judges_order,
    )


def holm(pairs: Mapping[str, Pairs], margins: Mapping[str, float], *, seed: int = SEED) -> dict[str, NonInferiority]:
    """Each metric's judgement, at the confidence that Holm's procedure left it."""
    decided: dict[str, NonInferiority] = {}

    @cache
    def at(metric: str, confidence: float) -> NonInferiority:
        margin = margins[metric]
        return non_inferiority(pairs[metric], metric=metric, margin=margin, confidence=confidence, seed=seed)

    for wanted in (Verdict.PASS, Verdict.FAIL):
        left = [metric for metric in pairs if metric not in decided]
        # Whether any passes and whether any fails are two questions, each asked of all metrics.
        share = len(pairs)
        while left:
            confidence = 1 - (1 - CONFIDENCE) / share
            tried = {metric: at(metric, confidence) for metric in left}
            found = [metric for metric in left if tried[metric].verdict is wanted]
            if not found:
                undecided = tried
                break
            decided |= {metric: tried[metric] for metric in found}
            left = [metric for metric in left if metric not in found]
            share -= len(found)
            undecided = {}
        if wanted is Verdict.FAIL and left:
            decided |= undecided
    return {metric: decided[metric] for metric in pairs}


def flipped(first: ByCase, second: ByCase) -> tuple[Flipped, ...]:
    """Cases whose share of passes differs, the lost ones first."""
    found = []
    for case in sorted(first):
        before, after = passed_share(first[case]), passed_share(second[case])
        if before is not None and after is not None and before != after:
            direction = "lost" if after < before else "gained"
            use_case = str(first[case][0].data["use_case"])
            found.append(Flipped(case, use_case, direction, first[case], second[case]))
    return tuple(sorted(found, key=lambda flip: (flip.direction != "lost", flip.case_id)))


def _deciding(available: Sequence[str], margins: Mapping[str, float]) -> dict[str, float]:
    """The metrics that decide, with their margins: those named, and for a margin without a name what the set was made
    for: passes, the order of what was retrieved, and overlap only where nothing has a label."""
    named = {metric: margin for metric, margin in margins.items() if metric != EVERY}
    if EVERY not in margins:
        return named
    usual = [metric for metric in (PASS, "ndcg") if metric in available] or [m for m in ("overlap",) if m in available]
    return named | {metric: margins[EVERY] for metric in usual or (PASS,) if metric not in named}


def _result(judged: NonInferiority, pairs: Pairs, *, decides: bool) -> MetricResult:
    steps = [after - before for before, after in zip(pairs.primary, pairs.substitute, strict=True)]
    mean = fmean(steps) if steps else 0.0
    # One pair that was not seen is added each way: identical pairs do not show that nothing can differ.
    spread = (sum((step - mean) ** 2 for step in steps) + 2) / (len(steps) + 2)
    least = cases_needed(judged.margin, confidence=judged.confidence)
    return MetricResult(judged, decides, max(least, pairs_for_power(spread, judged.margin, power=POWER)))


def _held_back(judged: NonInferiority, worst: NonInferiority, both: Together) -> NonInferiority:
    """No pass that rests on answers of the second run which nobody could judge, and which may be wrong."""
    unjudged = unjudged_in_second(both, judged.metric)
    if judged.verdict is not Verdict.PASS or worst.verdict is Verdict.PASS or not unjudged:
        return judged
    which = counted(len(unjudged), "answer")
    return replace(
        judged,
        verdict=Verdict.INCONCLUSIVE,
        reason=f"{which} of the second run could not be judged; were they wrong, it would be no pass ({worst.reason})",
    )


def _told_whose(judged: NonInferiority, others: Sequence[str], second: Side) -> NonInferiority:
    """Neither pass nor fail of one that did not answer; and no fail of answers without what a store made of them."""
    if others:
        return replace(judged, verdict=Verdict.INCONCLUSIVE, reason="; ".join(others))
    if judged.verdict is Verdict.FAIL and (failed := store_errors(second, "second")):
        return replace(judged, reason=f"{judged.reason}; {failed}")
    return judged


def _overall(first: Run, second: Run, judged: Sequence[NonInferiority], others: Sequence[str]) -> tuple[Verdict, str]:
    verdict = Verdict.worst([each.verdict for each in judged])
    reason = "; ".join(f"{each.metric}: {each.reason}" for each in judged if each.verdict is verdict)
    unfinished = [str(run.folder) for run in (first, second) if not run.is_complete]
    if unfinished:
        return Verdict.INCONCLUSIVE, f"not every case was asked in {' and '.join(unfinished)}"
    if others:
        return Verdict.INCONCLUSIVE, "; ".join(others)
    return verdict, reason or "nothing was measured"


def _require_comparable(first: Run, second: Run, *, common_cases: bool) -> None:
    if first.manifest["run_id"] == second.manifest["run_id"]:
        raise UsageError("both are the same run", hint="name two")
    if first.plan["set"]["sha256"] != second.plan["set"]["sha256"] and not common_cases:
        raise UsageError(
            "the two runs were asked different sets",
            hint="ask both the same set, or compare what they have in common with --common-cases",
        )
    one, other = (_ruler(run) for run in (first, second))
    if one != other:
        differing = ", ".join(name for name in one if one[name] != other[name])
        raise UsageError(
            f"the two runs were measured by different rulers ({differing})",
            hint="run one of them again with the same --embedder, --judge, --judge-prompt and --k",
        )


def _ruler(run: Run) -> dict[str, Any]:
    """What measured, without where it was: the same model behind another port is the same ruler."""
    found = dict(run.plan["measured_by"])
    for part in ("embedder", "judge"):
        if found.get(part) is not None:
            found[part] = {key: value for key, value in found[part].items() if key != "address"}
    return found


def _shown(result: Result) -> dict[str, Any]:
    shown = ("repeat", "outcome", "error_class", "finish_reason", "model_id", "answer_sha256")
    return {name: result.data.get(name) for name in shown} | {
        "failed_checks": [check["kind"] for check in result.data.get("checks", ()) if check.get("held") is False]
    }
