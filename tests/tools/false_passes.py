"""How often a substitute that is worse by exactly the margin passes: by simulation, for many shapes and few cases.

    python -m tests.tools.false_passes [--runs 2000]

Prints the rate for each shape and number of cases, and ends with 1 if one is above 5 % by more than chance explains.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exitramp.evals.comparing.comparison import holm
from exitramp.evals.verdicts import Pairs
from exitramp.records import Verdict

LIMIT = 0.05
Values = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, float], tuple[Values, Values]]


def flips(discordance: float) -> Draw:
    """Pass or fail; a share of the pairs differs, the margin more of them to the worse."""

    def draw(rng: np.random.Generator, n: int, margin: float) -> tuple[Values, Values]:
        gained = max(0.0, (discordance - margin) / 2)
        kind = rng.choice(3, size=n, p=[gained + margin, gained, 1 - margin - 2 * gained])
        return np.where(kind == 1, 0.0, 1.0), np.where(kind == 0, 0.0, 1.0)

    return draw


def rare_losses(rng: np.random.Generator, n: int, margin: float) -> tuple[Values, Values]:
    """Graded: all the same but for total losses, which few cases may not show."""
    lost = rng.random(n) < margin
    return np.ones(n), np.where(lost, 0.0, 1.0)


def even_losses(rng: np.random.Generator, n: int, margin: float) -> tuple[Values, Values]:
    """Graded: every case is worse by about the margin."""
    before = rng.uniform(0.6, 1.0, n)
    return before, before - margin + rng.uniform(-0.1, 0.1, n)


def flips_in_grades(rng: np.random.Generator, n: int, margin: float) -> tuple[Values, Values]:
    """Graded: half of the cases move by 0.3, more of them down."""
    down = 0.25 + margin / 0.6
    kind = rng.choice(3, size=n, p=[down, 0.5 - down, 0.5])
    return np.full(n, 0.6), 0.6 + np.where(kind == 0, -0.3, np.where(kind == 1, 0.3, 0.0))


SHAPES: dict[str, tuple[bool, Draw]] = {
    "yes/no, only losses": (True, flips(0.0)),
    "yes/no, few flips": (True, flips(0.15)),
    "yes/no, many flips": (True, flips(0.6)),
    "graded, rare total losses": (False, rare_losses),
    "graded, even losses": (False, even_losses),
    "graded, flips": (False, flips_in_grades),
}


@dataclass(frozen=True, slots=True)
class Rate:
    shape: str
    n: int
    margin: float
    runs: int
    passes: int

    @property
    def share(self) -> float:
        return self.passes / self.runs

    @property
    def is_too_high(self) -> bool:
        """Above 5 % by more than three standard errors."""
        return self.share > LIMIT + 3 * math.sqrt(LIMIT * (1 - LIMIT) / self.runs)


def rates(runs: int, *, numbers: tuple[int, ...], margin: float = 0.1, seed: int = 1) -> Iterator[Rate]:
    rng = np.random.default_rng(seed)
    for shape, (binary, draw) in SHAPES.items():
        for n in numbers:
            passes = 0
            known: dict[tuple[float, ...], bool] = {}
            for run in range(runs):
                before, after = draw(rng, n, margin)
                ids = tuple(str(number) for number in range(n))
                pairs = Pairs(ids, tuple(before.tolist()), tuple(np.clip(after, 0, 1).tolist()), binary)
                # Yes/no are decided by their four counts alone; graded ones by a bootstrap with this run's seed.
                table = (before @ after, before.sum(), after.sum()) if binary else (run,)
                if table not in known:
                    known[table] = holm({"m": pairs}, {"m": margin}, seed=run)["m"].verdict is Verdict.PASS
                passes += known[table]
            yield Rate(shape, n, margin, runs, passes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=2000)
    found = []
    print(f"{'shape':28} {'cases':>6} {'passes':>8}")
    for rate in rates(parser.parse_args().runs, numbers=(10, 29, 42, 60, 119)):
        found.append(rate)
        print(f"{rate.shape:28} {rate.n:6} {rate.share:8.2%}{'  too high' if rate.is_too_high else ''}", flush=True)
    return int(any(rate.is_too_high for rate in found))


if __name__ == "__main__":
    sys.exit(main())
