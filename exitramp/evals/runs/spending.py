"""Ending a run before it costs more than was allowed, or takes longer."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from exitramp.clock import Clock
from exitramp.errors import ConfigError, UsageError
from exitramp.evals.runs.subject import Prompted
from exitramp.finops.prices import PriceBook, Unit
from exitramp.finops.unit_cost import CostPart, add_usd, request_costs
from exitramp.ports import ModelIdentity
from exitramp.records import TraceRecord

# Of UTF-8 bytes per token: what tokenisers need at most for any language, so that an estimate is never too low by much.
_BYTES_PER_TOKEN: Final = 2


class Allowance:
    """What is left of money and time. Money counts over the whole run, resumed or not; time from the last start."""

    def __init__(
        self,
        clock: Clock,
        *,
        book: PriceBook | None = None,
        max_usd: Decimal | None = None,
        max_minutes: float | None = None,
        spent_usd: Decimal = Decimal(0),
    ) -> None:
        if max_usd is not None and book is None:
            raise UsageError("--max-usd needs prices to be held", hint="name a price book with --prices")
        self._clock = clock
        self._book = book
        self._max_usd = max_usd
        self._ends = None if max_minutes is None else clock.monotonic() + max_minutes * 60.0
        self._reserved: dict[str, Decimal] = {}
        self._dearest = Decimal(0)
        self.spent_usd = spent_usd
        self.is_known = True

    def cost(self, traces: Sequence[TraceRecord]) -> Decimal | None:
        """What the models' tokens cost over the attempts of a request; None where a price is missing or there is no
        price book. Stores, orchestration and people cost something too: `exitramp cost unit` has those."""
        if self._book is None:
            return None
        costs = request_costs(traces, self._book)
        return add_usd(cost.parts[part].usd for cost in costs for part in (CostPart.INPUT, CostPart.GENERATION))

    def check_prices(self, identity: ModelIdentity) -> None:
        """Raises `ConfigError` where a limit of money cannot be held for want of a price."""
        if self._book is None or self._max_usd is None:
            return
        day = self._clock.now().date()
        for unit in (Unit.INPUT_TOKENS, Unit.OUTPUT_TOKENS):
            if self._book.find(identity.provider, identity.model, unit, day=day) is None:
                raise ConfigError(
                    f"{self._book.name} has no {unit} for {identity.provider}/{identity.model}, "
                    "so that --max-usd cannot be held",
                    hint="add that price, or leave --max-usd away",
                )

    def stops(self, key: str, identity: ModelIdentity, sent: Prompted, maximum_tokens: int) -> str | None:
        """Why the request `key` is not to be made, or None; then what it may cost is put aside for it."""
        if self._ends is not None and self._clock.monotonic() >= self._ends:
            return "--max-minutes is reached"
        if self._max_usd is None or self._book is None:
            return None
        if not self.is_known:
            return "--max-usd cannot be held: the price book lacks a price for what answered"
        wanted = max(self._estimate(identity, sent, maximum_tokens), self._dearest)
        if self.spent_usd + sum(self._reserved.values()) + wanted > self._max_usd:
            return f"--max-usd would be exceeded by the next question ({self.spent_usd:.6f} USD are spent)"
        self._reserved[key] = wanted
        return None

    def settle(self, key: str, usd: Decimal | None) -> None:
        """What the request really cost."""
        reserved = self._reserved.pop(key, Decimal(0))
        # What nobody could price is taken for what was put aside.
        spent = reserved if usd is None else usd
        self.is_known = self.is_known and usd is not None
        self._dearest = max(self._dearest, spent)
        self.spent_usd += spent

    def _estimate(self, identity: ModelIdentity, sent: Prompted, maximum_tokens: int) -> Decimal:
        if self._book is None:
            return Decimal(0)
        day = self._clock.now().date()
        size = sum(len(message.content.encode("utf-8", "surrogatepass")) for message in sent.messages)
        total = Decimal(0)
        for unit, tokens in (
            (Unit.INPUT_TOKENS, size // _BYTES_PER_TOKEN + 16),
            (Unit.OUTPUT_TOKENS, maximum_tokens),
        ):
            price = self._book.find(identity.provider, identity.model, unit, day=day)
            total += price.cost(Decimal(tokens)) if price is not None else Decimal(0)
        return total
