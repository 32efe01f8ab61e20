"""Non-inferiority: pass, fail or inconclusive from the bound of a paired difference, and from nothing else.

The lower bound above -margin passes; the upper bound below -margin fails; an interval that spans -margin is
inconclusive. So is every comparison of so few cases that not even a loss of the whole margin would be sure to show:
where 1 - 0.05^(1/n) exceeds the margin, n cases without a single loss still leave a loss of the margin possible.

Several metrics are each held to their own margin and all must pass. That needs no correction for multiplicity: the
chance that *all* of them pass wrongly is at most that of any one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from exitramp.errors import DataInvalid
from exitramp.evals.exact_pairs import exact_bounds
from exitramp.evals.paired import (
    BOOTSTRAP_RESAMPLES,
    PairCounts,
    bootstrap_bounds,
    count_pairs,
    mcnemar_exact,
    wilson_interval,
)
from exitramp.evals.scorers import Outcome, Score
from exitramp.records import Verdict
from exitramp.wording import counted

UNMEASURED_SHARE_LIMIT: Final = 0.05


@dataclass(frozen=True, slots=True)
class Pairs:
    """The same cases on both sides, in the order of their ids. Values are pass or fail, or a metric from 0 to 1.

    `unmeasured` are cases without a value on the primary (or known to the substitute alone): they are left out.
    `substitute_missing` are cases that the primary has a value for and the substitute has not: they are *in*, with
    the worst value, because not answering is what a switch must not lead to.
    """

    case_ids: tuple[str, ...]
    primary: tuple[float, ...]
    substitute: tuple[float, ...]
    binary: bool
    unmeasured: tuple[str, ...] = ()
    substitute_missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.case_ids) == len(self.primary) == len(self.substitute):
            raise DataInvalid("the two sides do not hold the same cases")
        values = (*self.primary, *self.substitute)
        if self.binary and not all(value in (0, 1) for value in values):
            raise DataInvalid("a pass or fail is neither 0 nor 1")
        if not all(0 <= value <= 1 for value in values):
            raise DataInvalid("a metric is outside [0, 1]")

    @property
    def n(self) -> int:
        return len(self.case_ids)

    def counts(self) -> PairCounts:
        """The two-by-two table of a binary metric."""
        if not self.binary:
            raise DataInvalid("a graded metric has no two-by-two table")
        return count_pairs([bool(value) for value in self.primary], [bool(value) for value in self.substitute])


@dataclass(frozen=True, slots=True)
class NonInferiority:
    """The judgement on one metric. Bounds and means are None where nothing was measured.

    `lower` and `upper` are one-sided bounds at `confidence`; the Wilson intervals are two-sided at the same level
    and, like McNemar's p-value, shown for the reader: they decide nothing.
    """

    metric: str
    verdict: Verdict
    reason: str
    n: int
    margin: float
    confidence: float
    method: str
    cases_needed: int
    primary: float | None = None
    substitute: float | None = None
    difference: float | None = None
    lower: float | None = None
    upper: float | None = None
    counts: PairCounts | None = None
    primary_wilson: tuple[float, float] | None = None
    substitute_wilson: tuple[float, float] | None = None
    mcnemar_p: float | None = None
    seed: int | None = None
    unmeasured: tuple[str, ...] = ()
    substitute_missing: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        data["verdict"] = self.verdict.value
        data["counts"] = {name: getattr(self.counts, name) for name in PairCounts.__slots__} if self.counts else None
        return {name: list(value) if isinstance(value, tuple) else value for name, value in data.items()}


@dataclass(frozen=True, slots=True)
class UseCaseSummary:
    """One use case's figures: descriptive, without a verdict, because so few cases cannot carry one."""

    use_case: str
    n: int
    primary: float
    substitute: float
    difference: float


@dataclass(frozen=True, slots=True)
class Flip:
    """A case whose answer passed on one side only. `direction` is `lost` or `gained` by the switch."""

    case_id: str
    use_case: str
    direction: str
    primary: Outcome
    substitute: Outcome


def pair_answers(primary: Mapping[str, Score], substitute: Mapping[str, Score]) -> Pairs:
    """Pair judged answers by case id.

    A case to which the primary gave no complete answer (provider error, truncated) is unmeasured: counted as a
    failure it would flatter the substitute. One to which the substitute gave none counts as failed. One that could
    not be judged on either side is unmeasured.
    """
    unjudged = {case for each in (primary, substitute) for case, score in each.items() if score.is_unjudged}
    return _pair(
        {
            case: float(score.passed) if score.answered and case not in unjudged else None
            for case, score in primary.items()
        },
        {case: float(score.passed) if score.answered else None for case, score in substitute.items()},
        binary=True,
    )


def pair_values(primary: Mapping[str, float | None], substitute: Mapping[str, float | None]) -> Pairs:
    """Pair a graded metric's values (0 to 1, None where unmeasured) by case id."""
    return _pair(primary, substitute, binary=False)


def by_question(pairs: Pairs, question_of: Mapping[str, str]) -> Pairs:
    """The same with cases that ask the same averaged: a question under a hundred ids is one observation.

    `question_of`: what each case asks, by its id. The pair bears the id of the first of its cases; a pass or fail is
    graded from then on, since an average may lie between. Raises `DataInvalid` for a case that is not in it.
    """
    places: dict[str, list[int]] = {}
    for place, case in enumerate(pairs.case_ids):
        if case not in question_of:
            raise DataInvalid(f"the case {case!r} asks nothing that is known")
        places.setdefault(question_of[case], []).append(place)
    if len(places) == pairs.n:
        return pairs
    return replace(
        pairs,
        case_ids=tuple(pairs.case_ids[same[0]] for same in places.values()),
        primary=tuple(math.fsum(pairs.primary[at] for at in same) / len(same) for same in places.values()),
        substitute=tuple(math.fsum(pairs.substitute[at] for at in same) / len(same) for same in places.values()),
        binary=False,
    )


def cases_needed(margin: float, *, confidence: float = 0.95) -> int:
    """The fewest cases on which a verdict is possible: the smallest n with 1 - (1 - confidence)^(1/n) <= margin."""
    tail = 1 - confidence
    n = max(1, math.floor(math.log(tail) / math.log1p(-_checked_margin(margin))) - 1)
    while _unseen_loss(n, tail) > margin:
        n += 1
    return n


def non_inferiority(
    pairs: Pairs,
    *,
    metric: str,
    margin: float,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = BOOTSTRAP_RESAMPLES,
) -> NonInferiority:
    """Judge whether the substitute is worse than the primary by no more than `margin` (0 to 1).

    Binary pairs get Tango's interval as `exact_pairs` makes it, which keeps its promise for few cases too; graded ones
    the guarded bootstrap under `seed`. Raises `DataInvalid` for a margin that is not between 0 and 1,
    `DependencyMissing` without scipy (binary) or numpy (graded).
    """
    needed = cases_needed(margin, confidence=confidence)
    lost: dict[str, Any] = {"unmeasured": pairs.unmeasured, "substitute_missing": pairs.substitute_missing}
    if pairs.n == 0:
        reason = f"nothing was measured; {counted(needed, 'case is', 'cases are')} needed for a margin of {margin:g}"
        return NonInferiority(metric, Verdict.INCONCLUSIVE, reason, 0, margin, confidence, "none", needed, **lost)
    before, after = math.fsum(pairs.primary) / pairs.n, math.fsum(pairs.substitute) / pairs.n
    shown: dict[str, Any] = {}
    if pairs.binary:
        counts = pairs.counts()
        bounds = exact_bounds(counts, confidence=confidence, margin=margin)
        shown = {
            "counts": counts,
            "primary_wilson": wilson_interval(counts.both + counts.primary_only, pairs.n, confidence=confidence),
            "substitute_wilson": wilson_interval(counts.both + counts.substitute_only, pairs.n, confidence=confidence),
            "mcnemar_p": mcnemar_exact(counts),
        }
    else:
        steps = [b - a for a, b in zip(pairs.primary, pairs.substitute, strict=True)]
        bounds = bootstrap_bounds(steps, confidence=confidence, seed=seed, resamples=resamples)
        shown = {"seed": seed}
    verdict, reason = _judge(pairs, bounds.lower, bounds.upper, margin, confidence, needed)
    return NonInferiority(
        metric=metric,
        verdict=verdict,
        reason=reason,
        n=pairs.n,
        margin=margin,
        confidence=confidence,
        method=bounds.method,
        cases_needed=needed,
        primary=before,
        substitute=after,
        difference=after - before,
        lower=bounds.lower,
        upper=bounds.upper,
        **shown,
        **lost,
    )


def level_text(confidence: float) -> str:
    """A level of confidence in percent, to two places at most: 95%, 97.5%, 98.33%. Holm's procedure makes such ones."""
    return f"{confidence * 100:.2f}".rstrip("0").rstrip(".") + "%"


def summarise_use_cases(pairs: Pairs, use_case_of: Mapping[str, str]) -> tuple[UseCaseSummary, ...]:
    """Means by use case, in the order of their names. Raises `DataInvalid` for a case without a use case."""
    grouped: dict[str, list[tuple[float, float]]] = {}
    for case, before, after in zip(pairs.case_ids, pairs.primary, pairs.substitute, strict=True):
        if case not in use_case_of:
            raise DataInvalid(f"the case {case!r} has no use case")
        grouped.setdefault(use_case_of[case], []).append((before, after))
    summaries = []
    for use_case, values in sorted(grouped.items()):
        before = math.fsum(value for value, _ in values) / len(values)
        after = math.fsum(value for _, value in values) / len(values)
        summaries.append(UseCaseSummary(use_case, len(values), before, after, after - before))
    return tuple(summaries)


def flipped_cases(
    primary: Mapping[str, Score], substitute: Mapping[str, Score], use_case_of: Mapping[str, str]
) -> tuple[Flip, ...]:
    """Cases that passed on exactly one side, the lost ones first, each by id; a case known to one side is none."""
    flips = [
        Flip(
            case,
            use_case_of[case],
            "lost" if primary[case].passed else "gained",
            primary[case].outcome,
            substitute[case].outcome,
        )
        for case in sorted(set(primary) & set(substitute))
        if primary[case].passed != substitute[case].passed
    ]
    return tuple(sorted(flips, key=lambda flip: (flip.direction != "lost", flip.case_id)))


def _judge(
    pairs: Pairs, lower: float, upper: float, margin: float, confidence: float, needed: int
) -> tuple[Verdict, str]:
    level = level_text(confidence)
    if pairs.n < needed:
        return Verdict.INCONCLUSIVE, (
            f"{counted(pairs.n, 'case')} cannot decide a margin of {margin:g} whatever was seen: a loss of "
            f"{_unseen_loss(pairs.n, 1 - confidence):.3f} could stay hidden; "
            f"{counted(needed, 'case is', 'cases are')} needed"
        )
    total = pairs.n + len(pairs.unmeasured)
    if len(pairs.unmeasured) > UNMEASURED_SHARE_LIMIT * total:
        return Verdict.INCONCLUSIVE, (
            f"{len(pairs.unmeasured)} of {counted(total, 'case')} could not be measured on the primary, more than "
            f"{UNMEASURED_SHARE_LIMIT:.0%}"
        )
    before = math.fsum(pairs.primary) / pairs.n
    if before <= margin:
        # Whatever the substitute does, it cannot be worse by more than there is.
        return Verdict.INCONCLUSIVE, (
            f"the primary itself reaches {before:.3f}, so that a loss of more than {margin:g} could not be seen; were "
            "the questions asked with the right vectors, and are their ids those of its records?"
        )
    if lower > -margin:
        return Verdict.PASS, f"the {level} lower bound of the difference, {lower:+.3f}, is above {-margin:+g}"
    if upper < -margin:
        return Verdict.FAIL, f"the {level} upper bound of the difference, {upper:+.3f}, is below {-margin:+g}"
    return Verdict.INCONCLUSIVE, (
        f"the bounds of the difference, {lower:+.3f} and {upper:+.3f}, lie on both sides of {-margin:+g}"
    )


def _pair(primary: Mapping[str, float | None], substitute: Mapping[str, float | None], *, binary: bool) -> Pairs:
    unmeasured = {case for case in {*primary, *substitute} if primary.get(case) is None}
    missing = {case for case in primary if case not in unmeasured and substitute.get(case) is None}
    measured = sorted({*primary} - unmeasured)
    return Pairs(
        case_ids=tuple(measured),
        primary=tuple(primary[case] or 0.0 for case in measured),
        substitute=tuple(substitute.get(case) or 0.0 for case in measured),
        binary=binary,
        unmeasured=tuple(sorted(unmeasured)),
        substitute_missing=tuple(sorted(missing)),
    )


def _unseen_loss(n: int, tail: float) -> float:
    return float(1 - tail ** (1 / n))


def _checked_margin(margin: float) -> float:
    if not 0 < margin < 1:
        raise DataInvalid(f"a margin of {margin} is not between 0 and 1", hint="0.1 means ten points out of a hundred")
    return margin
