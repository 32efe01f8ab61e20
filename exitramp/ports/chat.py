"""Chat models: what is asked, what is answered, and what comes while it is being answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from exitramp.records import Usage


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish that a tool be called. `arguments` is JSON text as the model wrote it, which may be no JSON."""

    id: str
    name: str
    arguments: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool that a model may ask for. `parameters` is a JSON Schema."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """What an answer has to be: any JSON object, or one that a JSON Schema describes under a name."""

    kind: Literal["json_object", "json_schema"]
    name: str = "answer"
    schema: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """`role` is system, user, assistant or tool.

    tool_calls: what an assistant's message asked for. tool_call_id: which of them a tool's message answers.
    """

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question to a chat model. `idempotency_key` is stable over retries of the same request.

    temperature, top_p: None leaves them to the vendor.
    tool_choice: auto, none, required or a tool's name; None leaves it to the vendor.
    What a model cannot be asked is a `ModelError` of class `invalid_request` that names it, and never left away.
    """

    messages: tuple[ChatMessage, ...]
    maximum_tokens: int = 512
    temperature: float | None = 0.0
    idempotency_key: str | None = None
    stream: bool = False
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: str | None = None
    response_format: ResponseFormat | None = None
    stop: tuple[str, ...] = ()
    top_p: float | None = None


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """A complete answer: one without a finish reason is a `ModelError` of class `truncated`, never this.

    `text` may be empty only where there are `tool_calls`. `finish_reason` is stop, length, tool_calls or a vendor's
    own word for something else.
    """

    text: str
    finish_reason: str
    model_id: str
    usage: Usage
    latency_ms: float
    time_to_first_token_ms: float | None = None
    vendor_request_id: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class ChatDelta:
    """A piece of an answer that is on its way; whether an answer comes of it is not known yet.

    tool_call: its place among the answer's tool calls and what came of it: name and id with its first piece, then
        pieces of the arguments.
    """

    text: str = ""
    tool_call: tuple[int, ToolCall] | None = None


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Who answers. `is_mock` is shown wherever an answer of it is shown."""

    provider: str
    model: str
    address: str
    is_mock: bool = False


class ChatModel(Protocol):
    """A model that answers messages. Raises `ModelError`; never retries."""

    def identity(self) -> ModelIdentity: ...

    def answer(
        self,
        request: ChatRequest,
        *,
        timeout_seconds: float,
        on_delta: Callable[[ChatDelta], None] | None = None,
    ) -> ChatAnswer:
        """The whole answer within `timeout_seconds`, or `ModelError`.

        `on_delta` is told each piece of a streamed answer in order, on some thread, before this returns or raises; it
        must be quick and must not raise. Without `stream` it is told nothing.
        """
        ...

    def close(self) -> None: ...


@runtime_checkable
class TellsRefusals(Protocol):
    """A `ChatModel` whose shape cannot say everything that a `ChatRequest` can."""

    def refuses(self) -> tuple[str, ...]:
        """What of a request it refuses, each as a person would name it, such as `temperature above 0`."""
        ...
