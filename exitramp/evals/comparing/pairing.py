"""Two runs' results as pairs of a metric, one pair a case, repeats averaged within their case.

The first run is the one in use, the second the one that would replace it. A case to which the first gave no complete
answer is unmeasured: counted as a failure it would flatter the second. One to which the second gave none counts as
failed. A case that a judge could not be had for, on either side, is unmeasured too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from exitramp.evals.runs.folder import Result, Run
from exitramp.evals.scorers import Outcome
from exitramp.evals.verdicts import Pairs

PASS = "pass"
_NO_ANSWER = (Outcome.PROVIDER_ERROR, Outcome.TRUNCATED)

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


def pairs_of(both: Together, metric: str) -> Pairs:
    """Pairs of `metric` over the cases that have it. Binary where every case was asked once on both sides."""
    values: dict[str, tuple[float | None, float | None]] = {}
    unscored: set[str] = set()
    for case in sorted(both.first):
        first, second = both.first[case], both.second[case]
        if not any(_has(result, metric) for result in (*first, *second)):
            continue
        if any(_all_unscored(results, metric) for results in (first, second)):
            unscored.add(case)
            continue
        values[case] = (_mean(first, metric, missing=None), _mean(second, metric, missing=0.0))
    measured = {case: pair for case, pair in values.items() if pair[0] is not None}
    answered_by_none = {case for case in measured if not any(_answered(each) for each in both.second[case])}
    singly = all(len(results) == 1 for case in values for results in (both.first[case], both.second[case]))
    pairs = Pairs(
        case_ids=tuple(measured),
        primary=tuple(pair[0] or 0.0 for pair in measured.values()),
        substitute=tuple(pair[1] or 0.0 for pair in measured.values()),
        binary=metric == PASS and singly,
        unmeasured=tuple(sorted(unscored | (values.keys() - measured.keys()))),
    )
    return replace(pairs, substitute_missing=tuple(sorted(answered_by_none)))


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


def _all_unscored(results: tuple[Result, ...], metric: str) -> bool:
    return metric == PASS and all(result.outcome == Outcome.UNSCORED for result in results)


def _mean(results: tuple[Result, ...], metric: str, *, missing: float | None) -> float | None:
    values: list[float] = []
    for result in results:
        if metric == PASS and result.outcome == Outcome.UNSCORED:
            continue
        if not _answered(result):
            values += [] if missing is None else [missing]
        elif metric == PASS:
            values.append(float(result.outcome == Outcome.PASS))
        elif metric in result.values:
            values.append(result.values[metric])
        elif missing is not None:
            values.append(missing)
    return sum(values) / len(values) if values else None
