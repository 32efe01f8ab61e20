"""What reading a whole collection will cost, worked out from the store's own counts before a record is read.

For stores whose vendor counts requests, bills for reading, or lets so many requests a second through: their source
tells beforehand what a reading takes (`Estimates`), and afterwards what it took (`TellsSpending`). A store that costs
nothing but time has neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from exitramp.records import Finding


@dataclass(frozen=True, slots=True)
class UnitPrice:
    """What one unit of reading costs. `captured` is the day (ISO) on which `source` said so; prices change."""

    usd_per_million_units: float
    unit: str
    terms: str
    source: str
    captured: str

    def to_json(self) -> dict[str, Any]:
        return {
            "usd_per_million_units": self.usd_per_million_units,
            "unit": self.unit,
            "terms": self.terms,
            "source": self.source,
            "captured": self.captured,
        }


@dataclass(frozen=True, slots=True)
class EstimateLine:
    """One kind of request: how many, what they cost in units, and the sentence that says how that was worked out.

    `seconds` is what this kind takes by itself, at the rate that is reckoned with.
    """

    what: str
    requests: int
    read_units: int
    seconds: float
    bytes: int
    note: str

    def to_json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "requests": self.requests,
            "read_units": self.read_units,
            "seconds": self.seconds,
            "bytes": self.bytes,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class ReadingEstimate:
    """What reading `rows` records takes: the store's count, unless somebody said how many.

    seconds: from beginning to end with the requests in flight that the adapter keeps; at least.
    bytes: what comes over the wire, about. usd: None where no price is known. assumptions: by name, what was reckoned
    with and is not measured. findings: what whoever reads must know first, such as a cheaper way.
    """

    rows: int
    requests: int
    read_units: int
    seconds: float
    bytes: int
    usd: float | None
    price: UnitPrice | None = None
    lines: tuple[EstimateLine, ...] = ()
    assumptions: Mapping[str, float] = field(default_factory=dict, hash=False)
    findings: tuple[Finding, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "requests": self.requests,
            "read_units": self.read_units,
            "seconds": self.seconds,
            "bytes": self.bytes,
            "usd": self.usd,
            "price": None if self.price is None else self.price.to_json(),
            "lines": [line.to_json() for line in self.lines],
            "assumptions": dict(self.assumptions),
            "findings": [finding.to_json() for finding in self.findings],
        }


@dataclass(frozen=True, slots=True)
class ReadingSpent:
    """What was spent since the store was opened, by the store's own answers. `usd` is None where no price is known."""

    requests: int = 0
    read_units: int = 0
    rows: int = 0
    seconds: float = 0.0
    usd: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "read_units": self.read_units,
            "rows": self.rows,
            "seconds": self.seconds,
            "usd": self.usd,
        }


@runtime_checkable
class Estimates(Protocol):
    """A `VectorSource` that tells beforehand what reading all of it takes."""

    def estimate(self, rows: int | None = None, *, partitions: int = 1) -> ReadingEstimate:
        """For `rows` records, None: for as many as the store says it holds, read in so many parts at a time.

        Reads no record. Raises `CollectionMissing`.
        """
        ...


@runtime_checkable
class TellsSpending(Protocol):
    """A `VectorSource` that tells what reading took so far, whoever read through its store."""

    def spent(self) -> ReadingSpent: ...
