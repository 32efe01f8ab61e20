"""What leaving costs once: taking the data out, embedding it anew, loading it, running both sides, and labour.

A line whose price is not in the book is unknown and makes the total unknown. A line that nobody asked for is named
in `not_included`, so that a reader does not take its absence for zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final

from exitramp.errors import DataInvalid
from exitramp.finops.prices import MONEY, MissingPrice, PriceBook, Unit, plain, round_usd
from exitramp.finops.unit_cost import ZERO_USD, Billed, add_usd

BYTES_PER_GB: Final = Decimal(10**9)

_MONTHS_PER_YEAR, _DAYS_PER_YEAR = Decimal(12), Decimal(365)


@dataclass(frozen=True, slots=True)
class Egress:
    """Bytes that leave the primary, billed by `by` per GB of 10^9 bytes."""

    payload_bytes: int
    by: Billed


@dataclass(frozen=True, slots=True)
class Reembedding:
    """Tokens that the new embedding model reads; `by` is None when none are needed, and `why_none` says why."""

    tokens: int = 0
    by: Billed | None = None
    why_none: str = ""

    def __post_init__(self) -> None:
        if (self.by is None) != bool(self.why_none) or (self.by is None and self.tokens):
            raise DataInvalid("a re-embedding names either who bills its tokens or why there are none")


@dataclass(frozen=True, slots=True)
class VectorTraffic:
    """Records read out of the primary, or written into the substitute, where that is billed by the record."""

    records: int
    by: Billed


@dataclass(frozen=True, slots=True)
class ParallelRun:
    """Days on which both sides run, and what each costs in a month (None while unknown).

    `illustrative` says that the run-rates rest on made-up prices.
    """

    days: int
    primary_monthly_usd: Decimal | None
    substitute_monthly_usd: Decimal | None
    illustrative: bool


@dataclass(frozen=True, slots=True)
class Labour:
    """Hours of people at a rate, with where the two come from."""

    hours: Decimal
    usd_per_hour: Decimal
    source: str


@dataclass(frozen=True, slots=True)
class ExitCostLine:
    """One line. `usd` is None where it is unknown, and `note` then says what is missing; `paid_anyway` is what would
    be paid without leaving too."""

    name: str
    quantity: Decimal
    counted: str
    usd: Decimal | None
    source: str
    price_id: str | None = None
    illustrative: bool = False
    note: str = ""
    paid_anyway: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "quantity": plain(self.quantity),
            "counted": self.counted,
            "usd": plain(self.usd),
            "source": self.source,
            "price_id": self.price_id,
            "illustrative": self.illustrative,
            "note": self.note,
            "paid_anyway": self.paid_anyway,
        }


@dataclass(frozen=True, slots=True)
class ExitCost:
    """All lines, and what was not asked about."""

    lines: tuple[ExitCostLine, ...]
    not_included: tuple[str, ...]

    @property
    def total_usd(self) -> Decimal | None:
        """The sum of the lines, exactly; None if one is unknown."""
        return add_usd(line.usd for line in self.lines)

    @property
    def additional_usd(self) -> Decimal | None:
        """What leaving adds: the sum without what would be paid anyway; None if a line of it is unknown."""
        return add_usd(line.usd for line in self.lines if not line.paid_anyway)

    @property
    def illustrative(self) -> bool:
        return any(line.illustrative for line in self.lines)

    @property
    def unknown(self) -> tuple[str, ...]:
        return tuple(line.name for line in self.lines if line.usd is None)

    def to_json(self) -> dict[str, Any]:
        return {
            "lines": [line.to_json() for line in self.lines],
            "total_usd": plain(self.total_usd),
            "additional_usd": plain(self.additional_usd),
            "illustrative": self.illustrative,
            "unknown": list(self.unknown),
            "not_included": list(self.not_included),
        }


def exit_cost(
    book: PriceBook,
    *,
    day: date,
    egress: Egress,
    reembedding: Reembedding,
    parallel_run: ParallelRun,
    read_out: VectorTraffic | None = None,
    load: VectorTraffic | None = None,
    labour: Labour | None = None,
) -> ExitCost:
    """The one-off cost of leaving at the prices of `day`.

    Both shares of the parallel run are in the total; the primary's would have been paid without a switch too, which
    its line says, and is not in `additional_usd`. Raises `DataInvalid` for a negative quantity.
    """
    lines = [
        _priced("egress", egress.payload_bytes, "bytes", book, Unit.EGRESS_GB, egress.by, day, per=BYTES_PER_GB),
        _reembedding_line(reembedding, book, day),
        _parallel_line("primary", parallel_run.days, parallel_run.primary_monthly_usd, parallel_run.illustrative),
        _parallel_line("substitute", parallel_run.days, parallel_run.substitute_monthly_usd, parallel_run.illustrative),
    ]
    if read_out:
        lines.append(_priced("read_out", read_out.records, "records", book, Unit.VECTOR_READS, read_out.by, day))
    if load:
        lines.append(_priced("load", load.records, "records", book, Unit.VECTOR_WRITES, load.by, day))
    if labour:
        usd = round_usd(MONEY.multiply(_checked(labour.hours, "labour"), _checked(labour.usd_per_hour, "labour")))
        lines.append(ExitCostLine("labour", labour.hours, "hours", usd, labour.source))
    asked = {line.name for line in lines}
    return ExitCost(tuple(lines), tuple(name for name in ("read_out", "load", "labour") if name not in asked))


def _priced(
    name: str,
    count: int,
    counted: str,
    book: PriceBook,
    unit: Unit,
    by: Billed,
    day: date,
    *,
    per: Decimal = Decimal(1),
) -> ExitCostLine:
    quantity = _checked(Decimal(count), name)
    price = book.look_up(by.provider, by.item, unit, day=day)
    if isinstance(price, MissingPrice):
        return ExitCostLine(name, quantity, counted, None, book.name, note=str(price))
    usd = round_usd(price.cost(MONEY.divide(quantity, per)))
    return ExitCostLine(name, quantity, counted, usd, price.source, price.id, price.illustrative)


def _reembedding_line(wanted: Reembedding, book: PriceBook, day: date) -> ExitCostLine:
    if wanted.by is None:
        return ExitCostLine("re_embedding", Decimal(0), "tokens", ZERO_USD, "none needed", note=wanted.why_none)
    return _priced("re_embedding", wanted.tokens, "tokens", book, Unit.INPUT_TOKENS, wanted.by, day)


def _parallel_line(side: str, days: int, monthly_usd: Decimal | None, illustrative: bool) -> ExitCostLine:
    quantity = _checked(Decimal(days), "parallel_run")
    name, source = f"parallel_run_{side}", "monthly run-rate x 12 / 365 a day"
    anyway = side == "primary"
    if monthly_usd is None:
        unknown = f"the {side}'s run-rate is unknown"
        return ExitCostLine(name, quantity, "days", None, source, note=unknown, paid_anyway=anyway)
    yearly = MONEY.multiply(_checked(monthly_usd, "parallel_run"), _MONTHS_PER_YEAR)
    usd = round_usd(MONEY.divide(MONEY.multiply(yearly, quantity), _DAYS_PER_YEAR))
    note = "paid without a switch too" if anyway else ""
    return ExitCostLine(name, quantity, "days", usd, source, illustrative=illustrative, note=note, paid_anyway=anyway)


def _checked(quantity: Decimal, name: str) -> Decimal:
    if not quantity >= 0:
        raise DataInvalid(f"exit cost: {name} is {quantity}")
    return quantity
