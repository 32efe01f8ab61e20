"""What embedding costs: by the price book where it has the model, nothing for weights at hand, else unknown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

from exitramp.embedding_identity import WEIGHTS
from exitramp.finops.prices import MissingPrice, Unit, load_price_book, round_usd
from exitramp.finops.prices import Price as Row
from exitramp.ports import Embedder

NOBODY_BILLS = "the weights are on this machine, and nobody bills for them"


@dataclass(frozen=True, slots=True)
class Price:
    """`row` None and `known`: it costs nothing. `told` says where it is from, or why nobody knows."""

    row: Row | None
    known: bool
    told: str

    @property
    def is_free(self) -> bool:
        return self.known and self.row is None

    def usd(self, tokens: int) -> Decimal | None:
        """What so many input tokens cost; None is unknown, and not nothing."""
        if not self.known:
            return None
        return Decimal(0) if self.row is None else round_usd(self.row.cost(Decimal(tokens)))


def price_of(embedder: Embedder, book: Path | None, *, day: date) -> Price:
    """The price of `embedder`'s input tokens on `day`. Raises `ConfigError` for a book that is none."""
    identity = embedder.identity()
    if book is None and embedder.model().revision.startswith(WEIGHTS):
        return Price(None, True, NOBODY_BILLS)
    if book is None:
        return Price(None, False, f"no price of {identity.provider}/{identity.model} was given")
    found = load_price_book(book).look_up(identity.provider, identity.model, Unit.INPUT_TOKENS, day=day)
    if isinstance(found, MissingPrice):
        if embedder.model().revision.startswith(WEIGHTS):
            return Price(None, True, NOBODY_BILLS)
        return Price(None, False, str(found))
    made_up = ", illustrative" if found.illustrative else ""
    return Price(found, True, f"{found.id} ({found.amount} USD per million tokens{made_up}): {found.source}")
