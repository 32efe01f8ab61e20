"""Minimum, mean and percentiles of a stream of numbers in bounded memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

KEPT = 1_000_000
"""So many values are kept for the percentiles; of longer streams a uniform sample is (said in `sampled`)."""


class Distribution:
    """Exact count, minimum, maximum and mean; percentiles from all values or, beyond `KEPT`, from a seeded sample."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._kept: list[npt.NDArray[np.float64]] = []
        self._share = 1.0
        self.count = 0
        self.undefined = 0
        self._sum = 0.0
        self._constant: dict[float, int] = {}
        self.minimum: float | None = None
        self.maximum: float | None = None

    def add(self, values: npt.NDArray[np.float64]) -> None:
        """Take in values; those that are not finite numbers are counted as undefined and left out of the rest."""
        finite = values[np.isfinite(values)]
        self.undefined += len(values) - len(finite)
        if not len(finite):
            return
        self._bounds(float(finite.min()), float(finite.max()))
        self.count += len(finite)
        with np.errstate(over="ignore"):  # then there is no mean, and `mean` says so
            self._sum += float(finite.sum())
        self._kept.append(finite if self._share == 1.0 else finite[self._rng.random(len(finite)) < self._share])
        while sum(map(len, self._kept)) > KEPT:
            self._kept = [part[self._rng.random(len(part)) < 0.5] for part in self._kept]
            self._constant = {value: count // 2 for value, count in self._constant.items()}
            self._share /= 2

    def add_equal(self, value: float, times: int) -> None:
        """Take in `times` values that are all `value`, without a list of them."""
        if times:
            self._bounds(value, value)
            self.count += times
            self._sum += value * times
            self._constant[value] = self._constant.get(value, 0) + max(1, round(times * self._share))

    def _bounds(self, low: float, high: float) -> None:
        self.minimum = low if self.minimum is None else min(low, self.minimum)
        self.maximum = high if self.maximum is None else max(high, self.maximum)

    @property
    def mean(self) -> float | None:
        """None for no values, and where their sum overflows."""
        return self._sum / self.count if self.count and math.isfinite(self._sum) else None

    def percentile(self, percent: float) -> float | None:
        """The smallest value that at least `percent` per cent of all values do not exceed."""
        if not self.count:
            return None
        parts = [*self._kept, np.array(list(self._constant), np.float64)]
        weights = [np.ones(len(part), np.float64) for part in self._kept]
        weights.append(np.array(list(self._constant.values()), np.float64))
        values, weight = np.concatenate(parts), np.concatenate(weights)
        order = np.argsort(values, kind="stable")
        reached = np.cumsum(weight[order])
        index = int(np.searchsorted(reached, percent * reached[-1] / 100.0, side="left"))
        return float(values[order][min(index, len(values) - 1)])

    def to_json(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "undefined": self.undefined,
            "min": self.minimum,
            "max": self.maximum,
            "mean": self.mean,
            "p1": self.percentile(1),
            "p5": self.percentile(5),
            "p50": self.percentile(50),
            "p95": self.percentile(95),
            "p99": self.percentile(99),
            "sampled": self._share < 1.0,
        }
