"""How sure a mean over queries is: bounds that stay honest when every query came out the same.

A plain bootstrap of a hundred equal values says that the mean is known exactly, and of ninety-nine equal ones and a
small loss nearly so. What it cannot know is the query that was not asked. So one more query is put among those asked,
with the worst value there is for the lower bound and the best for the upper one, and the weights of all are drawn
from a Dirichlet distribution (D. Rubin, "The Bayesian Bootstrap", Annals of Statistics 9:130, 1981). With all n values
equal to v in [0, 1] the lower 95 % bound is then v · 0.05^(1/n), the exact binomial one for v = 1.

Where the queries are drawn from a known number of records without repetition, those not asked are filled up by a
Pólya urn (A. Lo, "A Bayesian Bootstrap for a Finite Population", Annals of Statistics 16:1684, 1988): bounds of the
mean over all records as queries, which meet once every record was asked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exitramp.errors import DataInvalid

CONFIDENCE: Final = 0.95
RESAMPLES: Final = 20_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """A mean and its one-sided bounds, each by itself right with probability `confidence`."""

    mean: float
    lower: float
    upper: float
    n: int
    confidence: float = CONFIDENCE

    def to_json(self) -> dict[str, Any]:
        return {
            "mean": self.mean,
            "lower": self.lower,
            "upper": self.upper,
            "n": self.n,
            "confidence": self.confidence,
        }


def mean_bounds(
    values: npt.NDArray[np.float64],
    *,
    least: float,
    most: float,
    seed: int,
    population: int | None = None,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> Bounds:
    """Bounds of the mean of which `values`, all within [least, most], are a sample, of `population` if that is known.

    For a paired difference give the differences, pair by pair. Raises `DataInvalid` for no values or one out of range.
    """
    n = len(values)
    if not n or not (values >= least).all() or not (values <= most).all():
        raise DataInvalid(f"{n} values, or some not within {least:g} and {most:g}: no bounds of their mean")
    if not 0.5 < confidence < 1.0:
        raise DataInvalid(f"a confidence of {confidence} is not between 0.5 and 1")
    mean = float(values.mean())
    unasked = None if population is None else max(0, population - n)
    if unasked == 0:
        return Bounds(mean, mean, mean, n, confidence)
    seen, times = np.unique(values, return_counts=True)
    rng = np.random.default_rng(seed)
    lower = _means(rng, np.append(seen, least), np.append(times, 1), unasked, resamples)
    upper = _means(rng, np.append(seen, most), np.append(times, 1), unasked, resamples)
    # Never between two simulated means: interpolation would lean to the narrow side.
    return Bounds(
        mean,
        min(mean, float(np.quantile(lower, 1 - confidence, method="lower"))),
        max(mean, float(np.quantile(upper, confidence, method="higher"))),
        n,
        confidence,
    )


def _means(
    rng: np.random.Generator,
    points: npt.NDArray[np.float64],
    times: npt.NDArray[np.int64],
    unasked: int | None,
    resamples: int,
) -> npt.NDArray[np.float64]:
    """Simulated means. Equal values share one gamma of their number: the same distribution, and far fewer draws."""
    step = max(1, 2**21 // len(points))
    found = []
    for start in range(0, resamples, step):
        weights = rng.standard_gamma(times.astype(np.float64), (min(step, resamples - start), len(points)))
        weights /= weights.sum(axis=1, keepdims=True)
        if unasked is None:
            found.append(weights @ points)
            continue
        asked = np.append(times[:-1], 0)  # the added query was not asked
        found.append((asked + rng.multinomial(unasked, weights)) @ points / (asked.sum() + unasked))
    joined: npt.NDArray[np.float64] = np.concatenate(found)
    return joined


def queries_needed(margin: float, *, population: int | None = None, confidence: float = CONFIDENCE) -> int:
    """How many queries it takes, all without a loss, until a mean loss of `margin` (of a range of one) is ruled out.

    Of a known population M = margin · N queries lost outright would all stay unasked with probability
    C(N - M, n) / C(N, n); without one, with (1 - margin)^n.
    """
    if not 0.0 < margin < 1.0:
        raise DataInvalid(f"a margin of {margin} is not between 0 and 1")
    if population is None:
        return math.ceil(math.log(1 - confidence) / math.log1p(-margin))
    lost = max(1, math.ceil(margin * population))
    unseen, asked = 1.0, 0
    while asked < population and unseen > 1 - confidence:
        unseen *= max(0, population - lost - asked) / (population - asked)
        asked += 1
    return asked
