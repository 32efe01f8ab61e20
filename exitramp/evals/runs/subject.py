"""What is questioned: a model here, a stack or somebody's application elsewhere, all behind one port."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from exitramp.errors import MODEL_ERROR_CLASSES, ModelError
from exitramp.evals.sets.case import Case
from exitramp.orchestration.outcome import STORE_ERROR_CLASSES
from exitramp.ports import ChatMessage, ChatModel, ChatRequest, ModelIdentity
from exitramp.records import TraceRecord, Usage


@dataclass(frozen=True, slots=True)
class Prompted:
    """A case as it is sent, and by which prompt: name, version, SHA-256 of its template."""

    messages: tuple[ChatMessage, ...] = field(repr=False)
    prompt: tuple[str, str, str] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer. `retrieved_ids` None: nobody told what was retrieved. `traces` None: the run makes its own.

    answered_by: which stack or model of a stack file. stands_in_for: which one was to be asked before it, and
    `stands_in_because`, an error's class or a word, why it did not answer.
    """

    text: str = field(repr=False)
    finish_reason: str | None
    model_id: str
    latency_ms: float
    usage: Usage | None = None
    retrieved_ids: tuple[str, ...] | None = None
    time_to_first_token_ms: float | None = None
    prompt: tuple[str, str, str] | None = None
    traces: tuple[TraceRecord, ...] | None = None
    answered_by: str | None = None
    stands_in_for: str | None = None
    stands_in_because: str | None = None


class SubjectFailed(ModelError):
    """A subject that writes traces of its own, and tried for itself as often as it will, gave no answer.

    Its class may be a store's too (`STORE_ERROR_CLASSES`). store_said: what the store said then, which is ours to
    repeat; a vendor's words are not. was_asked: whether anybody was, and no breaker was open for everybody.
    """

    def __init__(
        self,
        message: str,
        kind: str,
        traces: tuple[TraceRecord, ...],
        *,
        http_status: int | None = None,
        store_said: str | None = None,
        was_asked: bool = True,
    ) -> None:
        known = kind if kind in MODEL_ERROR_CLASSES else "server_error"
        super().__init__(message, error_class=known, http_status=http_status)
        if kind in STORE_ERROR_CLASSES:
            self.error_class = kind
        self.retryable = False
        self.traces = traces
        self.store_said = store_said
        self.was_asked = was_asked


class Subject(Protocol):
    """Something that answers cases. Raises `ModelError`; its class is what the result says."""

    def identity(self) -> ModelIdentity: ...

    def describe(self) -> Mapping[str, Any]:
        """All that decides its answers, for the manifest and for the replay cache: no secret, no text."""
        ...

    def ask(self, case: Case, *, key: str, timeout_seconds: float) -> Reply: ...

    def sent(self, case: Case) -> Prompted:
        """What would be sent, as far as it is known here: for the replay cache and for cost estimates."""
        ...

    def close(self) -> None: ...


class ModelSubject:
    """A chat model, asked what a case says, or what `render` makes of it."""

    def __init__(
        self,
        model: ChatModel,
        *,
        maximum_tokens: int = 512,
        temperature: float | None = 0.0,
        render: Callable[[Case], Prompted] | None = None,
        prompts: Mapping[str, str] | None = None,
        stream: bool = False,
    ) -> None:
        """`prompts`: each prompt's name and SHA-256, for the manifest."""
        self._stream = stream
        self._model = model
        self._maximum_tokens = maximum_tokens
        self._temperature = temperature
        self._render = render or (lambda case: Prompted(case.asked()))
        self._prompts = dict(prompts or {})

    @property
    def maximum_tokens(self) -> int:
        return self._maximum_tokens

    def identity(self) -> ModelIdentity:
        return self._model.identity()

    def describe(self) -> Mapping[str, Any]:
        found = self._model.identity()
        return {
            "kind": "model",
            "provider": found.provider,
            "model": found.model,
            "address": found.address,
            "maximum_tokens": self._maximum_tokens,
            "temperature": self._temperature,
            "prompts": self._prompts,
            **({"stream": True} if self._stream else {}),
        }

    def sent(self, case: Case) -> Prompted:
        return self._render(case)

    def ask(self, case: Case, *, key: str, timeout_seconds: float) -> Reply:
        prompted = self._render(case)
        request = ChatRequest(
            prompted.messages,
            maximum_tokens=self._maximum_tokens,
            temperature=self._temperature,
            idempotency_key=key,
            stream=self._stream,
        )
        answer = self._model.answer(request, timeout_seconds=timeout_seconds)
        return Reply(
            text=answer.text,
            finish_reason=answer.finish_reason,
            model_id=answer.model_id,
            latency_ms=answer.latency_ms,
            usage=answer.usage,
            time_to_first_token_ms=answer.time_to_first_token_ms,
            prompt=prompted.prompt,
        )

    def close(self) -> None:
        self._model.close()
