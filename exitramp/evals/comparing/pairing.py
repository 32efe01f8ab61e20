"""Two runs' results as pairs of a metric, one pair a question, repeats averaged within their case.

Cases that ask the same under several ids are averaged as well: five questions under a hundred ids are five.

The first run is the one in use, the second the one that would replace it. A case to which the first gave no complete
answer is unmeasured: counted as a failure it would flatter the second. One to which the second gave none counts as
failed. A case that a judge could not be had for, on either side, is unmeasured too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from exitramp.evals.runs.folder import Result, Run
from exitramp.evals.scorers import Outcome
from exitramp.evals.verdicts import Pairs, by_question

PASS = "pass"
_NO_ANSWER = (Outcome.PROVIDER_ERROR, Outcome.STORE_ERROR, Outcome.TRUNCATED)

ByCase = Mapping[str, tuple[Result, ...]]


@dataclass(frozen=True, slots=True)
class Together:
    """Both runs' results of the cases that both hold in the same form, by case and repeat."""

    first: ByCase
    second: ByCase
    left_out: tuple[str, ...] = ()
    """Cases that only one run was asked, or that are not the same case under that id."""


def together(first: Run, second: Run) -> Together:
    """The cases of both runs; those whose hash differs are left out and named."""
    one, other = _by_case(first), _by_case(second)
    same = {
        case
        for case in one.keys() & other.keys()
        if one[case][0].data["case_sha256"] == other[case][0].data["case_sha256"]
    }
    left = sorted((one.keys() | other.keys()) - same)
    return Together({case: one[case] for case in same}, {case: other[case] for case in same}, tuple(left))


def metrics_in(both: Together) -> tuple[str, ...]:
    """The metrics that the first run has a value of, `pass` first."""
    found: dict[str, None] = {}
    for results in both.first.values():
        for result in results:
            if result.outcome is not None and _is_labelled(result):
                found[PASS] = None
            found |= dict.fromkeys(result.values)
    order = (PASS, "ndcg", "recall", "mrr", "overlap", "similarity")
    return tuple(name for name in order if name in found)


def asked_alike(both: Together) -> int:
    """How many cases ask what another one asks already."""
    return len(both.first) - len({_question(results) for results in both.first.values()})


def unjudged_in_second(both: Together, metric: str) -> tuple[str, ...]:
    """Cases of which the second run has an answer that could not be judged, in any repeat, and the first has none."""
    return tuple(
        case
        for case in sorted(both.first)
        if metric == PASS and _any_unscored(both.second[case]) and not _any_unscored(both.first[case])
    )


def pairs_of(both: Together, metric: str, *, unjudged_fails: bool = False) -> Pairs:
    """Pairs of `metric` over the cases that have it. Binary where every case was asked once on both sides.

    unjudged_fails: whether an answer of the second run that could not be judged counts as wrong, as it may be.
    """
    values: dict[str, tuple[float | None, float | None]] = {}
    unscored: set[str] = set()
    for case in sorted(both.first):
        first, second = both.first[case], both.second[case]
        if not any(_has(result, metric) for result in (*first, *second)):
            continue
        if metric == PASS and (_any_unscored(first) or (_any_unscored(second) and not unjudged_fails)):
            unscored.add(case)
            continue
        values[case] = (_mean(first, metric, missing=None), _mean(second, metric, missing=0.0))
    measured = {case: pair for case, pair in values.items() if pair[0] is not None}
    answered_by_none = {case for case in measured if not any(_answered(each) for each in both.second[case])}
    singly = all(len(results) == 1 for case in values for results in (both.first[case], both.second[case]))
    pairs = Pairs(
        case_ids=tuple(measured),
        primary=tuple(first or 0.0 for first, _ in measured.values()),
        substitute=tuple(second or 0.0 for _, second in measured.values()),
        binary=metric == PASS and singly,
        unmeasured=tuple(sorted(unscored | (values.keys() - measured.keys()))),
        substitute_missing=tuple(sorted(answered_by_none)),
    )
    return by_question(pairs, {case: _question(both.first[case]) for case in measured})


def passed_share(results: tuple[Result, ...]) -> float | None:
    """The share of a case's repeats that passed; None where it has no checks."""
    judged = [result for result in results if result.outcome is not None and _is_labelled(result)]
    return sum(result.outcome == Outcome.PASS for result in judged) / len(judged) if judged else None


def _by_case(run: Run) -> dict[str, tuple[Result, ...]]:
    found: dict[str, list[Result]] = {}
    for (case, _), result in sorted(run.results.items()):
        found.setdefault(case, []).append(result)
    return {case: tuple(results) for case, results in found.items()}


def _is_labelled(result: Result) -> bool:
    """Whether its case has checks; of one whose answer never came, no result of a check tells it."""
    return bool(result.data["labelled"])


def _has(result: Result, metric: str) -> bool:
    return (result.outcome is not None and _is_labelled(result)) if metric == PASS else metric in result.values


def _answered(result: Result) -> bool:
    return result.outcome not in _NO_ANSWER


def _any_unscored(results: tuple[Result, ...]) -> bool:
    """One repeat that nobody could judge is enough: the others say nothing of it."""
    return any(result.outcome == Outcome.UNSCORED for result in results)


def _question(results: tuple[Result, ...]) -> str:
    """What a case asks; runs that were made before it was written down have their cases' names for it."""
    data = results[0].data
    return str(data.get("question_sha256") or data["case_id"])


def _mean(results: tuple[Result, ...], metric: str, *, missing: float | None) -> float | None:
    values: list[float] = []
    for result in results:
        if not _answered(result):
            values += [] if missing is None else [missing]
        elif metric == PASS:
            values.append(float(result.outcome == Outcome.PASS))
        elif metric in result.values:
            values.append(result.values[metric])
        elif missing is not None:
            values.append(missing)
    return sum(values) / len(values) if values else None
