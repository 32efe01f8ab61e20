"""Ending a run before it costs more than was allowed, or takes longer."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from exitramp.clock import Clock
from exitramp.errors import ConfigError, UsageError
from exitramp.evals.measuring import Measurer
from exitramp.evals.runs.stack_subject import StackSubject
from exitramp.evals.runs.subject import Subject
from exitramp.evals.sets.case import Case
from exitramp.finops.prices import PriceBook
from exitramp.finops.unit_cost import CostPart, add_usd, request_costs
from exitramp.orchestration.supposed_tokens import supposed_tokens
from exitramp.orchestration.trace import supposed_record
from exitramp.records import TraceRecord

_MODELS: Final = (CostPart.INPUT, CostPart.GENERATION, CostPart.RETRIEVAL, CostPart.RERANK)


@dataclass(frozen=True, slots=True)
class Spent:
    """What models cost; None where a price is `missing`, each by its name, or where there is no price book."""

    usd: Decimal | None
    missing: tuple[str, ...] = ()


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
        self._lock = threading.Lock()
        self._reserved: dict[str, Decimal] = {}
        self._shares: dict[str, Decimal] = {}
        self._dearest = Decimal(0)
        self._missing: tuple[str, ...] = ()
        self.spent_usd = spent_usd

    @property
    def holds_money(self) -> bool:
        return self._max_usd is not None

    def cost(self, traces: Iterable[TraceRecord]) -> Spent:
        """What all models that a request asked cost: chat, embedding, reranking and judging, over all attempts.

        Stores, orchestration and people cost something too: `exitramp cost unit` has those.
        """
        if self._book is None:
            return Spent(None)
        of_models = (replace(record, queries=0, vector_reads=0, vector_writes=0, hitl_minutes=0.0) for record in traces)
        costs = [cost.parts[part] for cost in request_costs(of_models, self._book) for part in _MODELS]
        missing = dict.fromkeys(str(gap) for cost in costs for gap in cost.missing)
        return Spent(add_usd(cost.usd for cost in costs), tuple(missing))

    def count(self, usd: Decimal) -> None:
        """What an earlier start of the run spent, or may have."""
        with self._lock:
            self.spent_usd += usd

    def check_prices(self, ways: Iterable[Sequence[TraceRecord]]) -> None:
        """Raises `ConfigError` with every price for want of which a limit of money cannot be held."""
        if self._book is None or self._max_usd is None:
            return
        missing = dict.fromkeys(gap for way in ways for gap in self.cost(way).missing)
        if missing:
            raise ConfigError(
                f"{'; '.join(missing)}: --max-usd cannot be held",
                hint="add each with its source, an amount of 0 for what costs nothing; or leave --max-usd away",
            )

    def stops(self, key: str, ways: Sequence[Sequence[TraceRecord]]) -> str | None:
        """Why the request `key` is not to be made, or None; then what it may cost is put aside for it: the dearest of
        the `ways` in which it may go, or what the dearest one before it did cost."""
        if self._ends is not None and self._clock.monotonic() >= self._ends:
            return "--max-minutes is reached"
        if self._max_usd is None:
            return None
        wanted = self._dearest
        for way in ways:
            found = self.cost(way)
            self._missing = self._missing or found.missing
            wanted = max(wanted, found.usd or wanted)
        if self._missing:
            return f"--max-usd cannot be held: {'; '.join(self._missing)}"
        with self._lock:
            if self.spent_usd + sum(self._reserved.values()) + wanted > self._max_usd:
                return f"--max-usd would be exceeded by the next question ({self.spent_usd:.6f} USD are spent or held)"
            self._reserved[key] = self._shares[key] = wanted
        return None

    def covers(self, key: str, tries: int) -> bool:
        """Whether so many tries of the request `key` may be billed; puts aside what is not yet for them."""
        if self._max_usd is None:
            return True
        with self._lock:
            more = self._shares[key] * tries - self._reserved[key]
            if more > 0 and self.spent_usd + sum(self._reserved.values()) + more > self._max_usd:
                return False
            self._reserved[key] += max(more, Decimal(0))
        return True

    def covers_more(self, key: str, record: TraceRecord, thought: TraceRecord) -> bool:
        """Whether a try of `key` may be sent as `record` says, where `thought` was put aside for; then the difference
        is put aside too, for each of its tries."""
        if self._max_usd is None:
            return True
        usd, before = self.cost([record]).usd, self.cost([thought]).usd
        if usd is None or before is None or usd <= before:
            return True
        with self._lock:
            share = self._shares[key]
            tries = self._reserved[key] / share if share else Decimal(1)
            more = (usd - before) * tries
            if self.spent_usd + sum(self._reserved.values()) + more > self._max_usd:
                return False
            self._shares[key] += usd - before
            self._reserved[key] += more
        return True

    def settle(self, key: str, spent: Spent, *, doubtful: int = 0) -> Decimal:
        """What the request really cost. `doubtful` tries of it may have been billed without an answer: each counts as
        much as was put aside. Returns what is counted for them."""
        self._missing = self._missing or spent.missing
        with self._lock:
            self._reserved.pop(key, None)
            share = self._shares.pop(key, Decimal(0))
            # What nobody could price is taken for what was put aside.
            usd = share if spent.usd is None else spent.usd
            held = share * doubtful
            self._dearest = max(self._dearest, usd)
            self.spent_usd += usd + held
        return held


def supposed_ways(
    subject: Subject, measurer: Measurer, case: Case, maximum_tokens: int
) -> list[tuple[TraceRecord, ...]]:
    """What a case would ask of models at most, in each way that it may go and with its measuring: records to ask
    prices for."""
    measured = measurer.supposed(case, maximum_tokens)
    if isinstance(subject, StackSubject):
        return [(*way, *measured) for way in subject.ways(case)]
    read = supposed_tokens(*(message.content for message in subject.sent(case).messages))
    return [(supposed_record(subject.identity(), read, maximum_tokens), *measured)]
