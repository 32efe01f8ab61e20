"""From values to pixels, and the round numbers between which a reader can place them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from exitramp.report.figures import Axis, Scale
from exitramp.report.text import number_text

_ROOM_FOR_THREE = 60.0
"""Pixels a decade needs for its 1, 2 and 5 to be written at it: 0.3 of it is more than a line of text."""


@dataclass(frozen=True, slots=True)
class Ruler:
    """One axis laid onto pixels from `near` to `far`; `ticks` ascend and lie within `low` and `high`."""

    low: float
    high: float
    near: float
    far: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of `value`."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return self.near + (value - low) / (high - low) * (self.far - self.near)

    def labels(self) -> tuple[str, ...]:
        """A text for each tick, all with the same number of places on a linear scale."""
        if self.logarithmic or len(self.ticks) < 2:
            return tuple(number_text(_plain(tick)) for tick in self.ticks)
        places = decimals_of(self.ticks[1] - self.ticks[0])
        return tuple(number_text(tick, places) if tick else number_text(0.0, places) for tick in self.ticks)


def ruler(axis: Axis, values: Iterable[float], near: float, far: float, *, wanted: int, whole: bool = False) -> Ruler:
    """The ruler of `axis` for `values` (finite), about `wanted` ticks on it.

    A linear one starts at zero when nothing is negative, unless the axis fixes its end. A logarithmic one becomes
    linear when there is a value that has no logarithm. `whole` keeps the ticks to whole numbers.
    """
    seen = list(values)
    low = axis.lowest if axis.lowest is not None else min([0.0, *seen])
    high = axis.highest if axis.highest is not None else max(seen, default=1.0)
    if is_logarithmic(axis, seen):
        low = axis.lowest if axis.lowest else min(seen)
        return _logarithmic(low, max(high, *seen), near, far)
    low, high = min([low, *seen]), max([high, *seen])
    if low == high:
        low, high = (low - abs(low) * 0.5, high + abs(high) * 0.5) if low else (0.0, 1.0)
    step = nice_step((high - low) / max(1, wanted), whole=whole)
    first = math.floor(low / step + 1e-9) if axis.lowest is None else math.ceil(low / step - 1e-9)
    last = math.ceil(high / step - 1e-9) if axis.highest is None else math.floor(high / step + 1e-9)
    ticks = tuple(_tidy(number * step, step) for number in range(first, last + 1))
    return Ruler(min([low, *ticks]), max([high, *ticks]), near, far, ticks)


def is_logarithmic(axis: Axis, values: Sequence[float]) -> bool:
    """Whether the axis asks for a logarithmic scale and every value has a logarithm."""
    return axis.scale is Scale.LOG and bool(values) and min(values) > 0


def nice_step(rough: float, *, whole: bool = False) -> float:
    """The step of 1, 2 or 5 times a power of ten that is nearest to `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    bounds = ((1.5, 1.0), (3.5, 2.0), (7.5, 5.0), (math.inf, 10.0))
    step = next(factor for bound, factor in bounds if rough / power < bound) * power
    return max(1.0, step) if whole else step


def decimals_of(step: float) -> int:
    """Places needed to write multiples of `step`."""
    return max(0, -math.floor(math.log10(step) + 1e-9))


def _logarithmic(low: float, high: float, near: float, far: float) -> Ruler:
    """From the 1, 2 or 5 of a decade below the lowest to the one above the highest."""
    marks = [
        factor * 10.0**power
        for power in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
        for factor in (1, 2, 5)
    ]
    start = max(mark for mark in marks if mark <= low * (1 + 1e-9))
    end = min(mark for mark in marks if mark >= high * (1 - 1e-9) and mark > start)
    decade = abs(far - near) / math.log10(end / start)
    ticks = [mark for mark in marks if start <= mark <= end]
    if decade < _ROOM_FOR_THREE:
        ticks = [mark for mark in ticks if math.log10(mark) == round(math.log10(mark))] or ticks
    return Ruler(start, end, near, far, tuple(ticks), logarithmic=True)


def _tidy(value: float, step: float) -> float:
    """`value` without the dust that multiplying by a step of 0.1 leaves."""
    return round(value, decimals_of(step) + 2)


def _plain(value: float) -> float | int:
    return int(value) if value == int(value) else value
