"""What a request takes of the budget: held before anybody is asked, counted try by try as each ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from exitramp.errors import SpendExceeded
from exitramp.orchestration.holding import Holding, limit_around
from exitramp.orchestration.router import Router
from exitramp.orchestration.stack import Question
from exitramp.orchestration.supposed_tokens import supposed_tokens
from exitramp.orchestration.supposing import supposed_ways
from exitramp.orchestration.trace import supposed_record
from exitramp.ports import ChatRequest, ModelIdentity
from exitramp.records import TraceRecord

if TYPE_CHECKING:
    from exitramp.orchestration.opened import Generation

UNSEEN_TOKENS: Final = 4096
"""Held for the passages of a question before they are found."""


class Spending:
    """Of one request. Thread-safe once it is held. `identity` says which model a stack asks."""

    def __init__(
        self, opened: Generation, router: Router, question: Question, identity: Callable[[str], ModelIdentity]
    ) -> None:
        self._opened = opened
        self._budget, self._pricing = opened.budget, opened.pricing
        self._router = router
        self._question = question
        self._identity = identity
        self._limit = limit_around()
        self._holding: Holding | None = None

    def hold(self, order: tuple[str, ...]) -> None:
        """Hold what the dearest of those that may be asked can take. Raises `SpendExceeded`."""
        budget, pricing = self._budget, self._pricing
        if budget is None or pricing is None:
            return
        request, estimate = self._question.request, Decimal(0)
        most = self._question.maximum_tokens if request is None else request.maximum_tokens
        if request is None:
            # The passages nobody has seen yet; once they are there, `may_send` looks at what they really hold.
            tokens = supposed_tokens(self._question.text) + UNSEEN_TOKENS
        else:
            tokens = _read(request)
        for name in order:
            supposed = supposed_record(self._identity(name), tokens, most)
            cost = pricing.spent(replace(supposed, rerank_n=self._candidates(name)), name)
            if cost is None:  # there was one when the file was opened
                raise SpendExceeded(
                    f"the budget cannot be held: no price for the tokens of {supposed.provider}/{supposed.model_id} "
                    f"holds today",
                    hint="add one that does to the price book, and save the stack file again",
                )
            estimate = max(estimate, cost)
        if estimate:
            self._holding = Holding(budget, estimate, self._question.use_case_id)

    def begins(self, tries: int) -> bool:
        """Whether so many tries may be billed, by the budget and by whoever asks; then one more is under way."""
        if self._limit is not None and not self._limit.covers(tries):
            return False
        return self._holding is None or self._holding.begins(tries)

    def may_send(self, stack: str, request: ChatRequest) -> bool:
        """Whether there is money for a prompt as it is, with its passages; then it is held."""
        identity = self._identity(stack)
        record = supposed_record(identity, _read(request), request.maximum_tokens)
        record = replace(record, rerank_n=self._candidates(stack))
        if self._limit is not None:
            thought = self._supposed(stack)
            if thought is not None and not self._limit.covers_more(record, thought):
                return False
        if self._holding is None or self._pricing is None:
            return True
        cost = self._pricing.spent(record, stack)
        return cost is None or self._holding.raise_to(cost)

    def _supposed(self, stack: str) -> TraceRecord | None:
        """What its answer was thought to take at most before anything was found."""
        question, names = self._question, self._opened.file.stack_order
        if stack not in names:
            return None
        ways = supposed_ways(
            self._opened, question.text, use_case=question.use_case_id, maximum_tokens=question.maximum_tokens
        )
        return ways[names.index(stack)][0]

    def ended(self, stack: str, record: TraceRecord | None) -> None:
        """A try has: what it cost, and what it could cost at most where nobody knows. `record` is None for one that
        ended by an exception."""
        holding, pricing = self._holding, self._pricing
        if holding is None or pricing is None:
            return
        spent = None
        if record is not None and (not record.possibly_billed or record.status == "cancelled"):
            spent = pricing.spent(record, stack)
        holding.ended(holding.estimate if spent is None else spent)

    def settle(self) -> None:
        """The request has ended, by an answer or without."""
        if self._holding is not None:
            self._holding.settle()

    def _candidates(self, name: str) -> int:
        """How many passages are reranked for a stack."""
        stack = self._router.find(name)
        return stack.rerank.candidates if stack is not None and stack.rerank is not None else 0


def _read(request: ChatRequest) -> int:
    """How many tokens a vendor reads of it at most: tools, their calls and a schema are read as well."""
    sent = asdict(replace(request, idempotency_key=None))
    return supposed_tokens(json.dumps(sent, ensure_ascii=False, default=str))
