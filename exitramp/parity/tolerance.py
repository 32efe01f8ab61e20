"""How far apart two vectors may be and still count as the same, and where that comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from exitramp.codec.layout import native_dtype
from exitramp.errors import UsageError
from exitramp.parity.kernel import Differences
from exitramp.ports import SinkLimits
from exitramp.records import DType, VectorField, VectorKind

ROUNDED_ULP = 4.0
UNIT_COSINE = 1.0 - 1e-6
UNIT_L2 = 2e-5
_FRACTION_BITS = {DType.FLOAT16: 10, DType.FLOAT32: 23, DType.FLOAT64: 52}


@dataclass(frozen=True, slots=True)
class Tolerance:
    """A row is within when its greatest ULP distance is at most `ulp`, or its cosine is at least `cosine` and its L2
    distance at most `l2` (each where given). All unset: only equal bits are equal. `source` says who decided.

    `length` is how far from 1 the length of B's vector may be, beside its cosine, where B was said to be scaled.
    """

    ulp: float | None = None
    cosine: float | None = None
    l2: float | None = None
    source: str = "exact"
    length: float | None = None

    @property
    def is_exact(self) -> bool:
        return self.ulp is None and self.cosine is None and self.l2 is None  # `length` holds beside a cosine only

    def within(self, found: Differences) -> npt.NDArray[np.bool_]:
        """Which of the unequal rows are within."""
        near = np.zeros(len(found.unequal), np.bool_)
        if self.ulp is not None:
            near |= found.ulp <= self.ulp
        if self.cosine is not None or self.l2 is not None:
            apart = np.ones(len(near), np.bool_)
            if self.cosine is not None:
                apart &= found.cosine >= self.cosine
            if self.l2 is not None:
                apart &= found.l2 <= self.l2
            if self.length is not None:
                apart &= np.abs(found.length_b - 1) <= self.length
            near |= apart
        return near

    def to_json(self) -> dict[str, Any]:
        plain = {"ulp": self.ulp, "cosine": self.cosine, "l2": self.l2, "source": self.source}
        return plain if self.length is None else plain | {"length": self.length}


def tolerance_of(field: VectorField, limits: SinkLimits | None) -> Tolerance:
    """What a store with `limits` does to the vectors of `field`: nothing, 4 ulp, or scaling to unit length.

    A store that normalises is granted 1e-6 in cosine and 2e-5 in L2, which vectors meet whose norm was within 1e-5
    of one; vectors of other norms fail, since their magnitude is really gone.
    """
    if limits is None or field.kind is not VectorKind.DENSE:
        return Tolerance()  # what such a store changes in others, the codec keeps beside
    held = native_dtype(field.dtype, limits)
    if field.metric in limits.normalises and held is not None and field.dtype in {DType.FLOAT32, DType.FLOAT64}:
        return Tolerance(cosine=UNIT_COSINE, l2=UNIT_L2, source="the store normalises; unit vectors stay within this")
    # A narrower type than the store's own is rounded back.
    if field.metric in limits.rounds and held in _FRACTION_BITS and field.dtype in {held, DType.FLOAT64}:
        return Tolerance(ulp=ROUNDED_ULP * ulps_of(held, field.dtype), source="the store rounds")
    return Tolerance()


def ulps_of(held: DType, dtype: DType) -> float:
    """How many units in the last place of `dtype` one of the dtype `held` is, where it is the coarser."""
    return 2.0 ** max(0, _FRACTION_BITS[dtype] - _FRACTION_BITS[held]) if held in _FRACTION_BITS else 1.0


def loosest(a: Tolerance, b: Tolerance) -> Tolerance:
    """The tolerance for two sides of which each may have changed the vectors."""
    if a.is_exact or b.is_exact:
        return b if a.is_exact else a
    return Tolerance(
        ulp=_most(a.ulp, b.ulp),
        cosine=min((value for value in (a.cosine, b.cosine) if value is not None), default=None),
        l2=_most(a.l2, b.l2),
        source=a.source if a.source == b.source else f"{a.source}; {b.source}",
        length=None if None in (a.length, b.length) else _most(a.length, b.length),
    )


def _most(a: float | None, b: float | None) -> float | None:
    return max((value for value in (a, b) if value is not None), default=None)


def parse_tolerances(texts: tuple[str, ...]) -> Mapping[str, Tolerance]:
    """`COLUMN=exact`, `COLUMN=ulp:4`, `COLUMN=cosine:0.999,l2:0.1` or `COLUMN=direction` by column name."""
    found: dict[str, Tolerance] = {}
    for text in texts:
        column, separator, body = text.rpartition("=")
        if not separator:
            raise UsageError(f"--tolerance {text!r}", hint="write e.g. vector=ulp:4 or vector=cosine:0.9999,l2:0.01")
        if body == "exact":
            found[column] = Tolerance(source="set by the user")
            continue
        if body == "direction":
            found[column] = Tolerance(cosine=UNIT_COSINE, source="set by the user: direction only")
            continue
        bounds: dict[str, float] = {}
        for part in body.split(","):
            name, _, number = part.partition(":")
            if name not in {"ulp", "cosine", "l2"}:
                known = "known: exact, direction, ulp:N, cosine:X and l2:Y (those three also together, by commas)"
                raise UsageError(f"--tolerance {text!r}: unknown measure {name!r}", hint=known)
            try:
                bounds[name] = float(number)
            except ValueError:
                raise UsageError(f"--tolerance {text!r}: {number!r} is not a number") from None
            if not math.isfinite(bounds[name]):
                raise UsageError(f"--tolerance {text!r}: {number!r} is no bound")
        found[column] = Tolerance(**bounds, source="set by the user")
    return found
