"""What became of a question: which stack answered, what was tried before, and how it is traced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from exitramp.orchestration.cutting_off import CUT_OFF
from exitramp.ports import ChatAnswer
from exitramp.records import TraceRecord, Usage


class Step(StrEnum):
    """How far an attempt came before it ended."""

    RETRIEVE = "retrieve"
    ANSWER = "answer"


class RouteReason(StrEnum):
    """Why an attempt went where it went."""

    FIRST = "first_in_order"
    PROBE = "probe"
    FAILED_OVER = "failed_over"
    BREAKER_OPEN = "breaker_open"
    HEDGED = "hedged"
    RESUMED = "resume_as_new"


# The error classes of what is not a model; those of models are `exitramp.errors.MODEL_ERROR_CLASSES`.
STORE_ERROR_CLASSES = frozenset(
    {
        "store_unavailable",
        "store_timeout",
        "store_rejected",
        "store_protocol",
        "store_missing",
        "store_error",
        "store_model_differs",
    }
)
ROUTER_ERROR_CLASSES = frozenset({"deadline", "no_stack", "in_flight", "busy", "budget", CUT_OFF})


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try on one stack.

    number: from 1 within the request, over all stacks.
    step: where it ended; an attempt without an error ended with the answer.
    began_seconds: after the question was asked, on the monotonic clock.
    waited_seconds: how long was waited before it, by backoff.
    """

    number: int
    stack: str
    route_reason: RouteReason
    step: Step
    began_seconds: float
    duration_seconds: float
    retrieve_seconds: float
    answer_seconds: float
    waited_seconds: float = 0.0
    error_class: str | None = None
    error: str | None = None
    http_status: int | None = None
    retry_after_seconds: float | None = None
    maybe_billed: bool = False


CANNOT_BE_ASKED: Final = frozenset({"invalid_request", "context_length"})
"""What a model says of a request that it does not take, or not in this length, whatever else it answers."""


def deciding(attempts: Sequence[Attempt]) -> Attempt:
    """By which of these failures the request failed: the last of those that could be asked it, since a model that takes
    no such request was never a substitute; the last of all where nobody could."""
    last = {attempt.stack: attempt for attempt in attempts}
    able = [attempt for attempt in last.values() if attempt.error_class not in CANNOT_BE_ASKED]
    return able[-1] if able and attempts[-1].error_class in CANNOT_BE_ASKED else attempts[-1]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a question. `answer` is there exactly if it was answered, and is then complete.

    stack: who answered; None if nobody did.
    retrieved_ids: what that stack retrieved, nearest first.
    error_class: of the attempt that decided it, or why there was none (`no_stack`, `deadline`, `in_flight`, `cut_off`).
    is_mock: the answer is a mock's and is to be shown as such.
    from_journal: it was answered before under the same key, and nobody was asked again.
    from_cache: the word for where an answer came from that nobody was asked for.
    traces, beside: of each attempt, and of what was asked of models beside them: embedders, a reranker.
    """

    question_id: str
    stack: str | None
    answer: ChatAnswer | None = field(repr=False)
    retrieved_ids: tuple[str, ...]
    attempts: tuple[Attempt, ...]
    traces: tuple[TraceRecord, ...]
    asked_at: datetime
    duration_seconds: float
    error_class: str | None = None
    error: str | None = None
    is_mock: bool = False
    from_journal: bool = False
    from_cache: str = "none"
    beside: tuple[TraceRecord, ...] = ()

    @property
    def is_answered(self) -> bool:
        return self.answer is not None

    @property
    def finish_reason(self) -> str | None:
        return self.answer.finish_reason if self.answer else None

    @property
    def usage(self) -> Usage | None:
        return self.answer.usage if self.answer else None

    @property
    def maybe_billed_attempts(self) -> int:
        """Attempts without an answer that a vendor may have billed."""
        return sum(attempt.maybe_billed for attempt in self.attempts)
