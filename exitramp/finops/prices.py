"""A price book: dated prices of models and services, each with its source, read strictly from YAML.

    version: 1
    name: our-contract
    currency: USD
    prices:
      - id: openai-large-input-2026
        provider: openai
        model: gpt-large              # or `service:` for what is not a model
        unit: usd_per_million_input_tokens
        amount: "2.50"
        source: contract of 3 March 2026, annex B
        retrieved: 2026-03-03
        valid_from: 2026-03-01
        valid_to: 2026-12-31          # the last day; left out or null while open
        illustrative: false

A price of zero is a row with the amount 0 and a source that says so. What has no row is unknown.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from enum import StrEnum
from os import PathLike
from pathlib import Path
from typing import Final, Protocol

import yaml

from exitramp.errors import ConfigError, DataInvalid
from exitramp.yaml_loader import BOOL, NULL, compose

# Enough digits that no product or sum of ours is rounded before it is quantised, whatever context the caller set.
MONEY: Final = Context(prec=60, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])
USD_STEP: Final = Decimal("0.000000001")
USD_LIMIT: Final = Decimal(10**9)

_BOOK_KEYS: Final = ("version", "name", "currency", "prices")
_REQUIRED: Final = ("id", "provider", "unit", "amount", "source", "retrieved", "valid_from", "illustrative")
_KNOWN: Final = frozenset({*_REQUIRED, "model", "service", "valid_to"})
_AMOUNT: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,18})?")


class Unit(StrEnum):
    """What a price is for one of. A GB is 10^9 bytes."""

    INPUT_TOKENS = "usd_per_million_input_tokens"
    CACHE_READ_TOKENS = "usd_per_million_cache_read_tokens"
    CACHE_WRITE_TOKENS = "usd_per_million_cache_write_tokens"
    OUTPUT_TOKENS = "usd_per_million_output_tokens"
    QUERY = "usd_per_query"
    RERANK_CANDIDATE = "usd_per_rerank_candidate"
    VECTOR_READS = "usd_per_million_vector_reads"
    VECTOR_WRITES = "usd_per_million_vector_writes"
    EGRESS_GB = "usd_per_gb_egress"
    ORCHESTRATION_REQUEST = "usd_per_request_orchestration"
    HITL_MINUTE = "usd_per_hitl_minute"
    MONTH = "usd_per_month"

    @property
    def batch(self) -> int:
        """How many of the counted thing one price covers: a million, or one."""
        return 1_000_000 if self.value.startswith("usd_per_million_") else 1


@dataclass(frozen=True, slots=True)
class Price:
    """One row. `item` is the model or service; `valid_to` is the last day it holds, None while it is open.

    `illustrative` marks a price that nobody charges, made up so that a drill has something to multiply.
    """

    id: str
    provider: str
    item: str
    unit: Unit
    amount: Decimal
    source: str
    retrieved: date
    valid_from: date
    valid_to: date | None
    illustrative: bool

    def holds_on(self, day: date) -> bool:
        return self.valid_from <= day and (self.valid_to is None or day <= self.valid_to)

    def cost(self, quantity: Decimal) -> Decimal:
        """The price of `quantity` of the counted thing, not yet rounded."""
        return MONEY.divide(MONEY.multiply(self.amount, quantity), Decimal(self.unit.batch))


@dataclass(frozen=True, slots=True)
class MissingPrice:
    """A price that was needed and is not in the book."""

    provider: str
    item: str
    unit: Unit
    day: date
    book: str

    def __str__(self) -> str:
        return f"{self.book} has no {self.unit} for {self.provider}/{self.item} on {self.day.isoformat()}"


@dataclass(frozen=True, slots=True)
class PriceBook:
    """All rows of one file; `sha256` is over its bytes. No two rows answer the same question on the same day."""

    name: str
    sha256: str
    prices: tuple[Price, ...]
    _rows: _Rows = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rows, overlap = _arranged(self.prices)
        if overlap:
            raise DataInvalid(_overlap_message(*overlap))
        # A book of thousands of models is asked some ten times for every record of a trace.
        object.__setattr__(self, "_rows", rows)

    def find(self, provider: str, item: str, unit: Unit, *, day: date) -> Price | None:
        """The price that holds on `day`, or None, which means unknown and not zero."""
        rows = self._rows.get((provider, item, unit), ())
        return next((price for price in rows if price.holds_on(day)), None)

    def look_up(self, provider: str, item: str, unit: Unit, *, day: date) -> Price | MissingPrice:
        """The price that holds on `day`, or what is missing, to be carried into the result."""
        return self.find(provider, item, unit, day=day) or MissingPrice(provider, item, unit, day, self.name)

    def require(self, provider: str, item: str, unit: Unit, *, day: date) -> Price:
        """As `look_up`, but a missing price raises `ConfigError` that names the row to add."""
        found = self.look_up(provider, item, unit, day=day)
        if isinstance(found, MissingPrice):
            raise ConfigError(str(found), hint="add a row with its source; a price of zero is a row with amount 0")
        return found


class ReadableText(Protocol):
    """A file inside an installed package, as `importlib.resources` hands it out."""

    @property
    def name(self) -> str: ...
    def read_bytes(self) -> bytes: ...


def load_price_book(source: str | PathLike[str] | ReadableText, *, name: str | None = None) -> PriceBook:
    """The book in a YAML file. A `str` is the YAML itself; `name` is what errors call the file.

    Raises `ConfigError` naming file and line: unknown or doubled key, missing field, an amount that is no plain
    number, a date that is none, an id used twice, two rows for the same thing on the same day.
    """
    if isinstance(source, str):
        raw, file = source.encode(), name or "price book"
    else:
        readable = Path(source) if isinstance(source, PathLike) else source
        file = name or str(source if isinstance(source, PathLike) else readable.name)
        try:
            raw = readable.read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot be read: {error.strerror}", file=file) from error
    book = _mapping(_compose(raw, file), _BOOK_KEYS, _BOOK_KEYS, file)
    if _text(book["version"], "version", file) != "1":
        raise _wrong(book["version"], file, "this version of price book is not known; 1 is")
    if _text(book["currency"], "currency", file) != "USD":
        raise _wrong(book["currency"], file, "a price book is in USD")
    rows = book["prices"]
    if not isinstance(rows, yaml.SequenceNode) or not rows.value:
        raise _wrong(rows, file, "'prices' is not a list with something in it")
    lines: dict[str, int] = {}
    prices: list[Price] = []
    for node in rows.value:
        price = _price(node, file)
        if price.id in lines:
            raise _wrong(node, file, f"the id {price.id!r} is already used on line {lines[price.id]}")
        lines[price.id] = node.start_mark.line + 1
        prices.append(price)
    _, overlap = _arranged(tuple(prices))
    if overlap:
        raise ConfigError(_overlap_message(*overlap), file=file, line=lines[overlap[1].id])
    return PriceBook(_text(book["name"], "name", file), hashlib.sha256(raw).hexdigest(), tuple(prices))


def round_usd(amount: Decimal) -> Decimal:
    """`amount` with nine places, half to even, as decimal(18,9) holds it. Raises `DataInvalid` beyond that type."""
    rounded = amount.quantize(USD_STEP, context=MONEY)
    if not -USD_LIMIT < rounded < USD_LIMIT:
        raise DataInvalid("an amount of a billion dollars or more does not fit decimal(18,9)")
    return rounded


def plain(amount: Decimal | None) -> str | None:
    """An amount as JSON text, never with an exponent; None stays None."""
    return None if amount is None else format(amount, "f")


def _price(node: yaml.Node, file: str) -> Price:
    row = _mapping(node, _REQUIRED, _KNOWN, file)
    if ("model" in row) == ("service" in row):
        raise _wrong(node, file, "a price names either a 'model' or a 'service'")
    item = "model" if "model" in row else "service"
    amount = row["amount"].value
    if not isinstance(amount, str) or not _AMOUNT.fullmatch(amount):
        raise _wrong(row["amount"], file, "'amount' is not a plain number of dollars such as 2.50")
    try:
        unit = Unit(_text(row["unit"], "unit", file))
    except ValueError:
        raise _wrong(row["unit"], file, "'unit' is not known", hint=f"known are: {', '.join(Unit)}") from None
    illustrative = row["illustrative"]
    if illustrative.tag != BOOL or illustrative.value not in ("true", "false"):
        raise _wrong(illustrative, file, "'illustrative' is not true or false")
    has_end = "valid_to" in row and row["valid_to"].tag != NULL
    valid_from = _date(row["valid_from"], "valid_from", file)
    valid_to = _date(row["valid_to"], "valid_to", file) if has_end else None
    if valid_to is not None and valid_to < valid_from:
        raise _wrong(row["valid_to"], file, "'valid_to' is before 'valid_from'")
    return Price(
        id=_text(row["id"], "id", file),
        provider=_text(row["provider"], "provider", file),
        item=_text(row[item], item, file),
        unit=unit,
        amount=Decimal(amount),
        source=_text(row["source"], "source", file),
        retrieved=_date(row["retrieved"], "retrieved", file),
        valid_from=valid_from,
        valid_to=valid_to,
        illustrative=illustrative.value == "true",
    )


_Rows = dict[tuple[str, str, Unit], list[Price]]


def _arranged(prices: tuple[Price, ...]) -> tuple[_Rows, tuple[Price, Price] | None]:
    """Rows by what they price, and the first two that hold on one day for the same thing, in the book's order."""
    rows: _Rows = {}
    for price in prices:
        same = rows.setdefault((price.provider, price.item, price.unit), [])
        for earlier in same:
            first, second = sorted((earlier, price), key=lambda row: row.valid_from)
            if first.valid_to is None or second.valid_from <= first.valid_to:
                return rows, (earlier, price)
        same.append(price)
    return rows, None


def _overlap_message(earlier: Price, later: Price) -> str:
    return f"{later.id!r} and {earlier.id!r} price the same thing on the same day"


def _compose(raw: bytes, file: str) -> yaml.Node:
    # Nodes and not values: only they know their lines, and an amount must not pass through a float.
    try:
        node = compose(raw.decode("utf-8"), file)
    except UnicodeDecodeError as error:
        raise ConfigError("not UTF-8", file=file, line=raw[: error.start].count(b"\n") + 1) from error
    if node is None:
        raise ConfigError("it is empty", file=file)
    return node


def _mapping(
    node: yaml.Node, required: tuple[str, ...], known: tuple[str, ...] | frozenset[str], file: str
) -> Mapping[str, yaml.Node]:
    if not isinstance(node, yaml.MappingNode):
        raise _wrong(node, file, "not a mapping of keys to values")
    found: dict[str, yaml.Node] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _wrong(key, file, "a key is not a plain text")
        if key.value not in known:
            raise _wrong(key, file, f"unknown key {key.value!r}", hint=f"known are: {', '.join(sorted(known))}")
        if key.value in found:
            raise _wrong(key, file, f"the key {key.value!r} stands twice")
        found[key.value] = value
    for name in required:
        if name not in found:
            raise _wrong(node, file, f"the key {name!r} is missing")
    return found


def _text(node: yaml.Node, key: str, file: str) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag == NULL or not node.value.strip():
        raise _wrong(node, file, f"{key!r} is not a text with something in it")
    return str(node.value).strip()


def _date(node: yaml.Node, key: str, file: str) -> date:
    try:
        return date.fromisoformat(_text(node, key, file))
    except ValueError:
        raise _wrong(node, file, f"{key!r} is not a date such as 2026-03-01") from None


def _wrong(node: yaml.Node, file: str, message: str, *, hint: str | None = None) -> ConfigError:
    return ConfigError(message, file=file, line=node.start_mark.line + 1, hint=hint)
