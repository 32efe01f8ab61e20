"""What reading costs: limits that end it before they are exceeded, and what all of it would take.

Documented, as of November 2026: a list request costs 1 read unit, whatever its page; a fetch 1 for every ten records
that it finds, at least 1 (docs.pinecone.io/guides/manage-cost/understanding-cost). An index lets through 200 list and
100 fetch requests a second, and does not limit their units (docs.pinecone.io/reference/api/database-limits).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from exitramp.errors import SpendExceeded, UsageError
from exitramp.ports.estimating import EstimateLine, ReadingEstimate, ReadingSpent, UnitPrice
from exitramp.records import Finding
from exitramp.urls import Address

LIMITS: Final = frozenset({"limit", "max_read_units", "max_usd", "max_minutes"})
PAGE_IDS: Final = 100
LIST_UNITS: Final = 1
RECORDS_PER_UNIT: Final = 10
LISTS_PER_SECOND: Final = 200
FETCHES_PER_SECOND: Final = 100
QUERIES_PER_SECOND: Final = 100
REQUEST_SECONDS: Final = 0.06
"""What a request was assumed to take: of the order of what users report of a region nearby, and not measured here."""
NUMBER_BYTES: Final = 12
"""A float32 in its few digits with a sign and a comma, in an answer's JSON."""
RECORD_BYTES: Final = 560
"""Id twice, braces, and 500 bytes of metadata, which the documentation reckons with."""
_USUAL_MEGABITS: Final = 100
"""A second, of a line that is not one of a data centre's."""
PRICE: Final = UnitPrice(
    usd_per_million_units=16.0,
    unit="read unit",
    terms="Standard plan, on demand, AWS us-east-1, without egress and without the monthly minimum of $50",
    source="https://www.pinecone.io/pricing/, as captured in https://docs.flexprice.io/cookbooks/pricing-teardowns/"
    "pinecone-pricing",
    captured="2026-11-04",
)
EXPORT: Final = Finding(
    "pinecone.export",
    "Pinecone writes a backup of this index as Parquet to your own S3 or Google Cloud storage (Standard and Enterprise "
    "plans): no read units, no requests, faster than reading over its API. Prefer it, and read what it wrote with "
    "file:FOLDER?layout=pinecone; it may lack the last fifteen minutes",
    detail={"see": "https://docs.pinecone.io/guides/manage-data/export-backup"},
)


@dataclass(frozen=True, slots=True)
class ReadingLimits:
    """What an address allows one command to spend; None is no limit."""

    rows: int | None = None
    read_units: int | None = None
    usd: float | None = None
    minutes: float | None = None

    @classmethod
    def of(cls, address: Address) -> ReadingLimits:
        rows, units = (number(address, name) for name in ("limit", "max_read_units"))
        usd, minutes = (number(address, name) for name in ("max_usd", "max_minutes"))
        return cls(None if rows is None else int(rows), None if units is None else int(units), usd, minutes)


def number(address: Address, name: str) -> float | None:
    """The option `name` as a number above zero. Raises `UsageError`."""
    text = address.option(name)
    if text is None:
        return None
    try:
        value = float(text.replace("_", ""))
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise UsageError(f"{address}: {name}={text} is no number above zero")
    return value


class Budget:
    """What was spent since the store was opened, and what may still be. Each request is reserved with its documented
    cost before it is sent and settled with what its answer says, so that requests in flight cannot add up to too much.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self.limits = ReadingLimits.of(address)
        self._price = number(address, "usd_per_million_read_units") or PRICE.usd_per_million_units
        usd = self.limits.usd
        most = min(self.limits.read_units or math.inf, math.inf if usd is None else 1e6 * usd / self._price)
        self._kept_for_records = units_of_fetch(PAGE_IDS) if most >= 2 * (LIST_UNITS + units_of_fetch(PAGE_IDS)) else 1
        self._lock = threading.Lock()
        self._began: float | None = None
        self._slowest_seconds = 0.0
        self._query_units = 1
        self._requests = self._rows = self._units = 0
        self._reserved_units = self._reserved_rows = 0
        self._doubtful_units = 0

    @property
    def price(self) -> UnitPrice:
        if self._price == PRICE.usd_per_million_units:
            return PRICE
        return UnitPrice(self._price, PRICE.unit, "as the address says", "usd_per_million_read_units", "")

    def reserve_list(self) -> str | None:
        """None, or which limit another list request would exceed."""
        with self._lock:
            # Lists run ahead of fetches: what they leave must pay for records, or a small budget would list for ever.
            refused = self._refused(LIST_UNITS + self._kept_for_records)
            if refused is None:
                self._reserve(LIST_UNITS, 0)
            return refused

    def reserve_query(self) -> tuple[int, str | None]:
        """What another query is reserved with, and which limit it would exceed. A query costs a unit for each GB of its
        namespace, which nothing tells beforehand: as much as the dearest so far, and the first one unit."""
        with self._lock:
            units = self._query_units
            refused = self._refused(units)
            if refused is None:
                self._reserve(units, 0)
            return units, refused

    def settle_query(self, answer: Any, *, units: int, seconds: float) -> None:
        used = getattr(getattr(answer, "usage", None), "read_units", None)
        with self._lock:
            self._query_units = max(self._query_units, math.ceil(used or 0))
        self.settle(answer, units=units, rows=0, found=0, seconds=seconds)

    def reserve_fetch(self, rows: int) -> tuple[int, str | None]:
        """How many of `rows` records may be fetched at once, and which limit keeps the others back."""
        with self._lock:
            most, left, limit = self.limits.rows, rows, None
            if most is not None and rows > most - self._rows - self._reserved_rows:
                left, limit = max(0, most - self._rows - self._reserved_rows), f"limit={most}"
            while left > 0:
                refused = self._refused(units_of_fetch(left))
                if refused is None:
                    self._reserve(units_of_fetch(left), left)
                    return left, limit
                limit = refused
                # Time is not made longer by asking for less; units are what ten records less cost less.
                left = 0 if refused.startswith("max_minutes") else (left - 1) // RECORDS_PER_UNIT * RECORDS_PER_UNIT
            return 0, limit

    def _reserve(self, units: int, rows: int) -> None:
        self._began = self._began or time.monotonic()
        self._reserved_units += units
        self._reserved_rows += rows

    def _refused(self, units: int) -> str | None:
        limits, whole = self.limits, self._units + self._doubtful_units + self._reserved_units + units
        if limits.read_units is not None and whole > limits.read_units:
            return f"max_read_units={limits.read_units}"
        if limits.usd is not None and whole * self._price / 1e6 > limits.usd:
            return f"max_usd={limits.usd:g}"
        if limits.minutes is not None and self._began is not None:
            elapsed = time.monotonic() - self._began
            if elapsed + self._slowest_seconds > 60 * limits.minutes:
                return f"max_minutes={limits.minutes:g}"
        return None

    def settle(self, answer: Any, *, units: int, rows: int, found: int, seconds: float) -> None:
        """An answer came for what was reserved as `units` and `rows`; it says itself what it cost, if it does."""
        used = getattr(getattr(answer, "usage", None), "read_units", None)
        with self._lock:
            self._requests += 1
            self._rows += found
            self._units += units if used is None else used
            self._slowest_seconds = max(self._slowest_seconds, seconds)
            self._reserved_units -= units
            self._reserved_rows -= rows

    def release(self, *, units: int, rows: int) -> None:
        """Nothing was sent."""
        with self._lock:
            self._reserved_units -= units
            self._reserved_rows -= rows

    def fail(self, error: BaseException, *, units: int, rows: int) -> None:
        """No answer came that says what it cost. Of what was sent, nobody knows what the vendor bills: the limits count
        it, and what `spent` tells, which is what answers said, does not."""
        self.release(units=units, rows=rows)
        if not _never_sent(error):
            with self._lock:
                self._doubtful_units += units

    def spent(self) -> ReadingSpent:
        with self._lock:
            seconds = 0.0 if self._began is None else time.monotonic() - self._began
            return ReadingSpent(self._requests, self._units, self._rows, seconds, self._units * self._price / 1e6)

    def exceeded(self, limit: str, at: str) -> SpendExceeded:
        """The error that ends a reading; `at` says where it stands."""
        done = self.spent()
        usd = "" if done.usd is None else f", ${done.usd:.4f}"
        doubtful = self._doubtful_units
        if doubtful:
            usd += f" (and perhaps {doubtful:,} more for requests that failed)"
        return SpendExceeded(
            f"{self._address}: stopped before {limit} would be exceeded, after {done.rows:,} records for "
            f"{done.read_units:,} read units{usd} in {done.seconds / 60:.1f} minutes; {at}",
            hint="run the same command again with a limit for what is left: it goes on behind what was acknowledged",
        )


def _never_sent(error: BaseException) -> bool:
    """Whether that is certain, since no connection was made."""
    import httpx

    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        seen = seen.__cause__
    return seen is not None


def units_of_fetch(records: int) -> int:
    return max(1, math.ceil(records / RECORDS_PER_UNIT))


def estimate(
    counts: Mapping[str, int], *, numbers: int, lanes: int, in_flight: int, price: UnitPrice
) -> ReadingEstimate:
    """What reading so many records by namespace takes. `numbers` are those of one record's dense vector.

    lists in a row are `lanes` at a time, since each page's token comes with the page before; fetches `in_flight`.
    """
    rows = sum(counts.values())
    pages = sum(max(1, math.ceil(count / PAGE_IDS)) for count in counts.values())
    last = sum(units_of_fetch(count % PAGE_IDS) for count in counts.values() if count % PAGE_IDS)
    fetch_units = sum(count // PAGE_IDS for count in counts.values()) * units_of_fetch(PAGE_IDS) + last
    list_rate = min(0.9 * LISTS_PER_SECOND, lanes / REQUEST_SECONDS)
    fetch_rate = min(0.9 * FETCHES_PER_SECOND, in_flight / REQUEST_SECONDS)
    record_bytes = RECORD_BYTES + NUMBER_BYTES * numbers
    ids_bytes = 50 * rows
    lines = (
        EstimateLine(
            "list",
            pages,
            pages * LIST_UNITS,
            pages / list_rate,
            ids_bytes,
            f"{PAGE_IDS} ids a page, 1 read unit each; {lanes} at a time, {list_rate:.0f} a second of at most "
            f"{LISTS_PER_SECOND}",
        ),
        EstimateLine(
            "fetch",
            pages,
            fetch_units,
            pages / fetch_rate,
            rows * record_bytes,
            f"up to {PAGE_IDS} records a request, 1 read unit for ten; {in_flight} at a time, {fetch_rate:.0f} a "
            f"second of at most {FETCHES_PER_SECOND}",
        ),
    )
    units = sum(line.read_units for line in lines)
    serial = 2 * pages * REQUEST_SECONDS
    findings = [EXPORT] if rows else []
    findings.append(
        Finding(
            "pinecone.count",
            "these are the counts of describe_index_stats, which lag behind what was written just now",
            count=rows,
        )
    )
    seconds = max(line.seconds for line in lines)  # listing and fetching overlap
    size = sum(line.bytes for line in lines)
    if seconds and 8e-6 * size / seconds > _USUAL_MEGABITS:
        hours = 8e-6 * size / _USUAL_MEGABITS / 3600
        told = f"{8e-6 * size / seconds:,.0f} Mbit/s would have to come through for that; at {_USUAL_MEGABITS} it takes"
        findings.append(Finding("pinecone.bandwidth", f"{told} {hours:,.1f} hours, should answers not be compressed"))
    return ReadingEstimate(
        rows=rows,
        requests=sum(line.requests for line in lines),
        read_units=units,
        seconds=seconds,
        bytes=size,
        usd=units * price.usd_per_million_units / 1e6,
        price=price,
        lines=lines,
        assumptions={
            "seconds_of_a_request": REQUEST_SECONDS,
            "bytes_of_a_record": float(record_bytes),
            "seconds_one_request_after_another": serial,
        },
        findings=tuple(findings),
    )
