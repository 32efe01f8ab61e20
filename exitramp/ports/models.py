"""Chat models and embedders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from exitramp.records import (
    EmbeddingModel,
    Usage,
)
from exitramp.urls import Address, Network

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """`role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question to a chat model. `idempotency_key` is stable over retries of the same request."""

    messages: tuple[ChatMessage, ...]
    maximum_tokens: int = 512
    temperature: float = 0.0
    idempotency_key: str | None = None
    stream: bool = False


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """A complete answer: one without a finish reason is a `ModelError` of class `truncated`, never this."""

    text: str
    finish_reason: str
    model_id: str
    usage: Usage
    latency_ms: float
    time_to_first_token_ms: float | None = None
    vendor_request_id: str | None = None


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

    def answer(self, request: ChatRequest, *, timeout_seconds: float) -> ChatAnswer:
        """The whole answer within `timeout_seconds`, or `ModelError`."""
        ...

    def close(self) -> None: ...


class Embedder(Protocol):
    """A model that turns texts into vectors."""

    def model(self) -> EmbeddingModel: ...

    @property
    def dimensions(self) -> int: ...

    def embed_documents(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """float32[n, dimensions], in the order of `texts`."""
        ...

    def embed_queries(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """float32[n, dimensions]; differs from documents where the model uses prefixes."""
        ...


@dataclass(frozen=True, slots=True)
class ModelAdapter:
    """What the registry knows of a model vendor's API shape. `open` takes the address and the network setting."""

    scheme: str
    summary: str
    address_form: str
    roles: tuple[str, ...]
    open_chat: Callable[[Address, Network], ChatModel] | None = None
    open_embedder: Callable[[Address, Network], Embedder] | None = None
    extra: str | None = None
    requires: tuple[str, ...] = ()
    evidence: str = "real"
