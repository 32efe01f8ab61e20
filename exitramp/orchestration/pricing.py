"""What a call of an opened stack file costs, by its price book, and what of that a budget counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from exitramp.finops.prices import PriceBook, Unit
from exitramp.finops.recorded import free_of_cost, of_unknown_cost, with_unit_cost
from exitramp.finops.unit_cost import IN_PROCESS, Billed, Billing, CostPart, add_usd, tokens_part, unit_cost
from exitramp.orchestration.side_calls import SideCall
from exitramp.orchestration.trace import UNKNOWN_USAGE, supposed_record
from exitramp.ports import ModelIdentity
from exitramp.records import TraceRecord


class Pricing:
    """`rerankers`: of each stack whose store is reranked by a vendor, who that is.

    A vendor that bills rerankings by candidates is charged on the answer's record, one that bills by tokens on the
    record of the reranking itself; the book has a price for the one or the other.
    """

    def __init__(self, book: PriceBook, rerankers: Mapping[str, ModelIdentity]) -> None:
        self._book = book
        self._rerankers = rerankers

    def priced(self, record: TraceRecord, stack: str | None = None) -> TraceRecord:
        """The record with what it cost by part, or the names of the prices that are missing."""
        if self._is_free(record):
            return free_of_cost(record, self._book)
        billed, billing = self._billed(record, stack)
        found = with_unit_cost(record, unit_cost(billed, self._book, billing), self._book)
        return of_unknown_cost(found) if record.possibly_billed and record.usage_source == UNKNOWN_USAGE else found

    def spent(self, record: TraceRecord, stack: str | None = None) -> Decimal | None:
        """What a budget counts: the parts whose price is known, those of the tokens always; else None."""
        if self._is_free(record):
            return Decimal(0)
        record, billing = self._billed(record, stack)
        parts = unit_cost(record, self._book, billing).parts
        if parts[tokens_part(record)].usd is None or parts[CostPart.GENERATION].usd is None:
            return None
        return add_usd(part.usd for part in parts.values() if part.usd is not None)

    def side_call_at_most(self, call: SideCall) -> Decimal:
        """What a call beside an answer can have been billed at most, though it brought nothing."""
        record = replace(
            supposed_record(call.identity, call.at_most_tokens, 0),
            operation=call.operation,
            request_id=f"doubt:{call.operation}",
        )
        if call.operation == "rerank" and self._has(record, Unit.RERANK_CANDIDATE):
            billing = Billing(reranker=Billed(call.identity.provider, call.identity.model))
            found = unit_cost(replace(record, prompt_tokens=0, rerank_n=call.texts), self._book, billing)
            return found.parts[CostPart.RERANK].usd or Decimal(0)
        return self.spent(record) or Decimal(0)

    def counts_reranking(self, reranker: ModelIdentity) -> bool:
        """Whether the book has a price for its candidates or for its tokens."""
        record = replace(supposed_record(reranker, 0, 0), operation="rerank")
        return self._has(record, Unit.RERANK_CANDIDATE) or self._has(record, Unit.INPUT_TOKENS)

    def _is_free(self, record: TraceRecord) -> bool:
        if record.cache_hit:
            return True
        if record.operation == "embed":
            return record.provider in IN_PROCESS and not self._has(record, Unit.INPUT_TOKENS)
        # Billed by candidates, which stand on the answer's record.
        return (
            record.operation == "rerank"
            and not self._has(record, Unit.INPUT_TOKENS)
            and self._has(record, Unit.RERANK_CANDIDATE)
        )

    def _billed(self, record: TraceRecord, stack: str | None) -> tuple[TraceRecord, Billing]:
        """The record without candidates that nobody bills."""
        if not record.rerank_n:
            return record, Billing()
        reranker = self._rerankers.get(stack or "")
        if reranker is None:
            return replace(record, rerank_n=0), Billing()
        named = replace(record, provider=reranker.provider, model_id=reranker.model, model_id_requested=reranker.model)
        if not self._has(named, Unit.RERANK_CANDIDATE) and self._has(named, Unit.INPUT_TOKENS):
            return replace(record, rerank_n=0), Billing()
        return record, Billing(reranker=Billed(reranker.provider, reranker.model))

    def _has(self, record: TraceRecord, unit: Unit) -> bool:
        day = record.ts.date()
        return any(
            self._book.find(record.provider, model, unit, day=day) is not None
            for model in (record.model_id, record.model_id_requested)
            if model
        )
