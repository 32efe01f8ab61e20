"""One try on one stack: retrieve, render, answer, each within its time, and every failure under one name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from exitramp.clock import Clock
from exitramp.errors import (
    CollectionMissing,
    DataInvalid,
    ModelDiffers,
    ModelError,
    StoreError,
    StoreProtocolError,
    StoreRejected,
    StoreTimeout,
    StoreUnavailable,
)
from exitramp.orchestration.bounded import Bounded, CallOverdue
from exitramp.orchestration.cutting_off import CUT_OFF, SAID, CallsUnderWay
from exitramp.orchestration.outcome import Step
from exitramp.orchestration.reranking import Reranking, why_not
from exitramp.orchestration.side_calls import Hear, QuestionVectors, hearing
from exitramp.orchestration.stack import Passage, Question, RenderedPrompt, Stack
from exitramp.ports import ChatAnswer, ChatDelta, ChatRequest
from exitramp.wording import counted

# These say something about the request, not about the stack: they open no breaker and are not tried again there.
# The same holds for `busy`, `budget` and `cut_off`, which are our own limits and nothing of the vendor's.
FAULT_OF_REQUEST: Final = frozenset({"invalid_request", "context_length", "content_filter", "busy", "budget", CUT_OFF})
# What one vendor's filter withheld is not carried to another vendor; and when everything ends, nobody is asked.
ENDS_THE_REQUEST: Final = frozenset({"content_filter", CUT_OFF})
TIMEOUTS: Final = frozenset({"timeout", "store_timeout"})

# The model keeps its own deadline by contract; this is for one that does not.
_GRACE_SECONDS: Final = 0.5

_Around = Callable[[], AbstractContextManager[None]]
"""In which whoever is asked beside the answer is heard."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a try did not end with an answer; `retryable` as the error's own type says."""

    error_class: str
    message: str
    retryable: bool
    http_status: int | None = None
    retry_after_seconds: float | None = None
    maybe_billed: bool = False

    @property
    def is_of_request(self) -> bool:
        return self.error_class in FAULT_OF_REQUEST


@dataclass(slots=True)
class Try:
    """How a try goes, and went. `passages` is None while none were retrieved; at its end exactly one of `answer` and
    `failure` is set. `was_sent`: the model was asked.

    fetched: how many passages the store gave. reranked: how many were scored; `not_reranked` is why they were not.
    """

    began: float
    step: Step = Step.RETRIEVE
    passages: tuple[Passage, ...] | None = None
    has_retrieved: bool = False
    fetched: int = 0
    reranked: int = 0
    not_reranked: str | None = None
    was_sent: bool = False
    prompt: RenderedPrompt | None = None
    answer: ChatAnswer | None = None
    failure: Failure | None = None
    retrieve_seconds: float = 0.0
    answer_seconds: float = 0.0
    queued_seconds: float = 0.0
    duration_seconds: float = 0.0


def cut_off(made: Try, now: float) -> Try:
    """What is to be written of a try that has not ended by `now`, or ended when that was written already."""
    failure = Failure(CUT_OFF, SAID, retryable=False, maybe_billed=made.was_sent)
    return replace(made, answer=None, failure=failure, duration_seconds=now - made.began)


class StackCalls:
    """Calls one stack, the store and the model each in `bounded`."""

    def __init__(self, stack: Stack, clock: Clock, bounded: Bounded) -> None:
        self._stack = stack
        self._clock = clock
        self._bounded = bounded

    def attempt(
        self,
        question: Question,
        made: Try,
        *,
        retrieve_seconds: Callable[[], float],
        answer_seconds: Callable[[], float],
        on_delta: Callable[[ChatDelta], None] | None = None,
        hear: Hear = lambda call: None,
        vectors: QuestionVectors | None = None,
        under_way: CallsUnderWay | None = None,
        may_send: Callable[[ChatRequest], bool] = lambda request: True,
    ) -> None:
        """One try, which fills in `made`. With its `passages` (of this stack, from a try before) nothing is retrieved
        again.

        Each limit is worked out when its step begins. Raises what `render` raises, and what is no failure of a store
        or a model. `hear` is told what was asked of models beside the answer; `vectors` are those of the question so
        far; `under_way` knows what of that has not ended; `may_send` says whether there is money for a prompt that
        holds passages.
        """
        around = partial(hearing, hear, vectors, under_way)
        try:
            if made.passages is None and question.request is None:
                made.passages = self._retrieve(made, question, retrieve_seconds, around)
            made.step = Step.ANSWER
            request = question.request
            if request is None:
                made.prompt = self._stack.render(question, made.passages or ())
                request = _request(question, made.prompt)
                if not may_send(request):
                    raise _Refused("budget", "with its passages it could cost more than is left of the budget")
            request = replace(request, idempotency_key=question.id, stream=request.stream or on_delta is not None)
            made.answer = self._answer(made, request, answer_seconds(), on_delta)
        except _Refused as error:
            made.failure = Failure(error.error_class, error.message, retryable=False)
        except (ModelError, ModelDiffers, StoreError, CollectionMissing, ConnectionError, TimeoutError) as error:
            made.failure = _failure(error)
        made.duration_seconds = self._clock.monotonic() - made.began

    def _retrieve(
        self, made: Try, question: Question, seconds: Callable[[], float], around: _Around
    ) -> tuple[Passage, ...]:
        began = self._clock.monotonic()
        rerank = self._stack.rerank
        wanted = question.depth_k if rerank is None else max(question.depth_k, rerank.candidates)

        def work() -> tuple[Passage, ...]:
            with around():
                return tuple(self._stack.retrieve(question.text, wanted))

        try:
            found = self._bounded(work, timeout_seconds=seconds())
        except CallOverdue as error:
            raise StoreTimeout(f"{self._stack.store}: the retrieval was {error}") from error
        finally:
            made.retrieve_seconds = self._clock.monotonic() - began
        made.has_retrieved, made.fetched = True, len(found)
        if rerank is not None and found:
            found = self._reranked(made, rerank, question, found, min(rerank.timeout_seconds, seconds()), around)
            made.retrieve_seconds = self._clock.monotonic() - began
        return found[: question.depth_k]

    def _reranked(
        self,
        made: Try,
        rerank: Reranking,
        question: Question,
        found: tuple[Passage, ...],
        seconds: float,
        around: _Around,
    ) -> tuple[Passage, ...]:
        """In the store's order where they could not be scored, for which the trace has the reason."""

        def work() -> tuple[Passage, ...]:
            with around():
                return tuple(rerank.reordered(question.text, found, timeout_seconds=seconds))

        try:
            ordered = self._bounded(work, timeout_seconds=seconds + _GRACE_SECONDS)
        except CallOverdue:
            made.not_reranked = "timeout"
            return found
        except (ModelError, DataInvalid) as error:
            made.not_reranked = why_not(error)
            return found
        made.reranked = sum(bool(passage.text.strip()) for passage in found)
        return ordered

    def _answer(
        self, made: Try, request: ChatRequest, seconds: float, on_delta: Callable[[ChatDelta], None] | None
    ) -> ChatAnswer:
        slots, began = self._stack.slots, self._clock.monotonic()
        if slots is not None:
            if not slots.take(timeout_seconds=seconds):
                made.queued_seconds = self._clock.monotonic() - began
                said = f"{counted(slots.limit, 'call is', 'calls are')} under way, as many as may be"
                raise _Refused("busy", said)
            made.queued_seconds = self._clock.monotonic() - began
            seconds -= made.queued_seconds
        try:
            return self._complete(made, request, seconds, on_delta)
        finally:
            if slots is not None:
                slots.release()

    def _complete(
        self, made: Try, request: ChatRequest, seconds: float, on_delta: Callable[[ChatDelta], None] | None
    ) -> ChatAnswer:
        model = self._stack.model
        began = self._clock.monotonic()

        def work() -> ChatAnswer:
            if on_delta is None:
                return model.answer(request, timeout_seconds=seconds)
            return model.answer(request, timeout_seconds=seconds, on_delta=on_delta)

        made.was_sent = True
        try:
            answer = self._bounded(work, timeout_seconds=seconds + _GRACE_SECONDS)
        except CallOverdue as error:
            raise ModelError(f"the model was {error}", error_class="timeout", maybe_billed=True) from error
        finally:
            made.answer_seconds = self._clock.monotonic() - began
        if not answer.finish_reason or not (answer.text or answer.tool_calls):
            # The port forbids it; a third party's adapter that does it all the same must not pass half an answer on.
            raise ModelError("the answer is not complete", error_class="truncated", maybe_billed=True)
        return answer


class _Refused(Exception):
    """By a limit of our own: nobody is asked."""

    def __init__(self, error_class: str, message: str) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.message = message


def _request(question: Question, prompt: RenderedPrompt) -> ChatRequest:
    return ChatRequest(
        prompt.messages,
        maximum_tokens=question.maximum_tokens,
        temperature=question.temperature,
        stream=question.stream,
        stop=question.stop,
    )


def _failure(error: Exception) -> Failure:
    if isinstance(error, ModelDiffers):
        return Failure("store_model_differs", error.message, retryable=False)
    if isinstance(error, ModelError):
        return Failure(
            error.error_class,
            error.message,
            error.retryable,
            error.http_status,
            error.retry_after_seconds,
            error.maybe_billed,
        )
    message = error.message if isinstance(error, StoreError | CollectionMissing) else type(error).__name__
    match error:
        case CollectionMissing():
            return Failure("store_missing", message, retryable=False)
        case StoreTimeout() | TimeoutError():
            return Failure("store_timeout", message, retryable=True)
        case StoreUnavailable() | ConnectionError():
            return Failure("store_unavailable", message, retryable=True)
        case StoreRejected():
            return Failure("store_rejected", message, retryable=False)
        case StoreProtocolError():
            return Failure("store_protocol", message, retryable=False)
    return Failure("store_error", message, retryable=getattr(error, "retryable", False))
