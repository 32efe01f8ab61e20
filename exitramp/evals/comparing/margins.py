"""Margins: by how much a substitute may be worse, by metric, and when that was fixed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from exitramp.errors import UsageError
from exitramp.evals.runs.folder import renamed

METRICS: Final = ("pass", "ndcg", "recall", "mrr", "overlap", "similarity")
"""What can decide: shares of cases that pass, and values from 0 to 1."""
EVERY: Final = "*"
"""A margin for every metric that has none of its own."""


def parse_margins(texts: Sequence[str]) -> dict[str, float]:
    """`0.05` and `ndcg=0.1` as margins by metric. Raises `UsageError`."""
    found: dict[str, float] = {}
    for text in texts:
        name, equals, share = text.rpartition("=")
        metric = renamed(name) if equals else EVERY
        if metric != EVERY and metric not in METRICS:
            raise UsageError(f"--margin: no metric {metric!r} is known", hint=f"known are: {', '.join(METRICS)}")
        try:
            value = float(share)
        except ValueError:
            value = math.nan
        if not 0 < value < 1:
            raise UsageError(f"--margin {text}: not a share between 0 and 1", hint="0.05 is five points of a hundred")
        if metric in found:
            raise UsageError(f"--margin: {'every metric' if metric == EVERY else metric} has two margins")
        found[metric] = value
    return found


def fixed_margins(
    first: Mapping[str, float], second: Mapping[str, float], given: Mapping[str, float]
) -> tuple[dict[str, float], str]:
    """The margins that hold, and when they were fixed. Raises `UsageError` where two of them differ, or none is known.

    first, second: those in the runs' manifests. given: those named now.
    """
    first, second = ({renamed(name): share for name, share in each.items()} for each in (first, second))
    recorded = dict(first or second)
    if first and second and dict(first) != dict(second):
        raise UsageError("the two runs were made with different margins", hint="make one of them again")
    if recorded:
        if given and dict(given) != recorded:
            raise UsageError(
                "the margins given differ from those that were fixed when the runs were made",
                hint="leave --margin away: a margin that is chosen after the answers decides nothing",
            )
        which = "both runs" if first and second else "the first run" if first else "the second run"
        return recorded, f"fixed before {which} began, as the manifest holds it"
    if not given:
        raise UsageError("no margin is known, so that nothing can be decided", hint="name one, e.g. --margin 0.05")
    return dict(
        given
    ), "given with the comparison, when both runs had been made: nothing shows that it was fixed before"
