"""Tango's interval made safe for few pairs: no more false verdicts than promised, whatever the rate of discordance.

Tango's score interval is asymptotic: at a nominal 5 % its true rate of false passes reaches 6.8 % for 42 pairs when the
substitute only ever loses. Here the same statistic is used exactly: under the hypothesis that the pass rates differ by
delta, with a share q of pairs that differ the other way, the numbers of discordant pairs are trinomial, so that

    p(delta) = max over q of P(T(delta) >= the T(delta) that was seen)

can be computed (Hsueh, Liu and Chen 2001, Biometrics 57:478-483; Sidik 2003, Journal of Biopharmaceutical Statistics
13:265-278). The lower bound is the delta at which p is one minus the confidence, and never above Tango's own.
"""

from __future__ import annotations

import importlib
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Final

from exitramp.errors import DependencyMissing
from exitramp.evals.paired import Bounds, PairCounts, tango_bounds, tango_statistic

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

EXACT: Final = "Tango score interval, exact over the unknown rate of discordance"
LARGEST_EXACT: Final = 2_000
"""Pairs up to which it is worth its time (2 s); at that number Tango's own rate is within 0.2 points of the nominal."""
_GRID: Final = 101
_BISECTIONS: Final = 14
_SLACK: Final = 1e-9


def exact_bounds(counts: PairCounts, *, confidence: float = 0.95, margin: float | None = None) -> Bounds:
    """One-sided bounds that hold with `confidence` each for any number of pairs up to `LARGEST_EXACT`, then Tango's.

    margin: where given, a bound lies beyond `-margin` only if the exact test at `-margin` itself says so.
    """
    plain = tango_bounds(counts, confidence=confidence)
    if counts.n > LARGEST_EXACT:
        return plain
    turned = PairCounts(counts.both, counts.substitute_only, counts.primary_only, counts.neither)
    lower = _exact_lower(counts, plain.lower, 1 - confidence, None if margin is None else -margin)
    upper = -_exact_lower(turned, -plain.upper, 1 - confidence, margin)
    return Bounds(lower, upper, confidence, EXACT)


def exact_p(counts: PairCounts, delta: float) -> float:
    """The chance of a statistic at least as large as the one seen, if the true difference is `delta`; the largest over
    every rate of discordance."""
    numpy, binom = _needed()
    seen = tango_statistic(counts, delta)
    n = counts.n
    losses = numpy.arange(n + 1)
    least = _least_gains(numpy, n, losses, delta, seen)
    top = (1 - abs(delta)) / 2

    def chances(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        gain, loss = shares + max(delta, 0.0), shares + max(-delta, 0.0)
        weights = binom.pmf(losses[None, :], n, loss[:, None])
        left = numpy.clip(1 - loss, 1e-300, None)
        tails = binom.sf(least[None, :] - 1, (n - losses)[None, :], numpy.clip(gain / left, 0, 1)[:, None])
        found: npt.NDArray[np.float64] = (weights * tails).sum(axis=1)
        return found

    grid = numpy.linspace(0.0, top, _GRID)
    coarse = chances(grid)
    best = int(coarse.argmax())
    fine = numpy.linspace(grid[max(0, best - 1)], grid[min(_GRID - 1, best + 1)], 21)
    return float(max(coarse.max(), chances(fine).max()))


def _exact_lower(counts: PairCounts, plain: float, tail: float, at: float | None) -> float:
    """Tango's lower bound, or a lower one where the exact test asks for it."""
    if at is not None and plain > at and exact_p(counts, at) > tail:
        plain = at
    if plain <= -1 or exact_p(counts, plain) <= tail:
        return plain
    low, high = plain, plain
    step = 0.02
    while low > -1 and exact_p(counts, low) > tail:
        low, high = max(-1.0, low - step), low
        step *= 2
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if exact_p(counts, middle) > tail else (middle, high)
    # The exact test at the margin passed, so that steps of the discrete p elsewhere do not undo it.
    return low if at is None or plain <= at or low > at else min(plain, at + _SLACK)


def _least_gains(numpy: Any, n: int, losses: Any, delta: float, seen: float) -> Any:
    """For each number of losses the fewest gains whose statistic reaches `seen`; n + 1 where none does.

    The statistic rises with the gains, so it is found by halving.
    """
    low = numpy.zeros(n + 1, dtype=numpy.int64)
    high = n - losses + 1
    while bool((low < high).any()):
        middle = (low + high) // 2
        reached = _statistics(numpy, n, middle, losses, delta) >= seen - _SLACK
        high = numpy.where((low < high) & reached, middle, high)
        low = numpy.where((low < high) & ~reached, middle + 1, low)
    return numpy.where(low > n - losses, n + 1, low)


def _statistics(numpy: Any, n: int, gains: Any, losses: Any, delta: float) -> Any:
    """`tango_statistic` of many tables at once."""
    numerator = gains - losses - n * delta
    b = -gains - losses + (2 * n - gains + losses) * delta
    c = -losses * delta * (1 - delta)
    q = (numpy.sqrt(numpy.maximum(0.0, b * b - 8 * n * c)) - b) / (4 * n)
    variance = n * (2 * q + delta * (1 - delta))
    with numpy.errstate(divide="ignore", invalid="ignore"):
        found = numerator / numpy.sqrt(numpy.maximum(variance, 0.0))
    return numpy.where(numerator == 0, 0.0, numpy.where(variance > 0, found, numpy.copysign(numpy.inf, numerator)))


def pairs_for_power(
    variance: float, margin: float, *, confidence: float = 0.95, power: float = 0.8, difference: float = 0.0
) -> int:
    """How many pairs give a pass with that `power` if the true difference is `difference` and single differences vary
    by `variance`: ((z_confidence + z_power) / (margin + difference))^2 * variance, by the normal approximation."""
    room = margin + difference
    if room <= 0:
        return 0
    normal = NormalDist()
    needed = ((normal.inv_cdf(confidence) + normal.inv_cdf(power)) / room) ** 2 * variance
    return int(needed) + 1


def _needed() -> tuple[Any, Any]:
    try:
        return importlib.import_module("numpy"), importlib.import_module("scipy.stats").binom
    except ImportError:
        raise DependencyMissing("paired comparison", "evals", module="scipy") from None
