"""A stack: a store to retrieve from, a model that answers, and what a question becomes on its way through both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from exitramp.orchestration.handling import Slots
from exitramp.ports import ChatMessage, ChatModel, ChatRequest
from exitramp.records import TraceRecord

if TYPE_CHECKING:
    from exitramp.orchestration.reranking import Reranking


@dataclass(frozen=True, slots=True)
class Passage:
    """A retrieved text. `score` is in the store's own units."""

    id: str
    text: str = field(repr=False)
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. `id` names the request and is its idempotency key; `depth_k` passages are retrieved.

    stop: texts before which an answer ends.
    request: the messages themselves, where the caller wrote them; then nothing is retrieved and no prompt is rendered.
    """

    id: str
    text: str = field(repr=False)
    use_case_id: str
    depth_k: int = 5
    maximum_tokens: int = 512
    temperature: float = 0.0
    stream: bool = False
    tags: tuple[str, ...] = ()
    request: ChatRequest | None = field(default=None, repr=False)
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """The messages to send, and which prompt made them."""

    messages: tuple[ChatMessage, ...] = field(repr=False)
    name: str | None = None
    version: str | None = None
    sha256: str | None = None


class Retriever(Protocol):
    """Finds passages. Raises `StoreError`, `CollectionMissing` or `ModelError` (of the query's embedder)."""

    def __call__(self, question_text: str, k: int, /) -> Sequence[Passage]:
        """The nearest `k` passages, nearest first; fewer only where there are fewer."""
        ...


class Renderer(Protocol):
    """Makes the prompt out of a question and its passages."""

    def __call__(self, question: Question, passages: Sequence[Passage], /) -> RenderedPrompt: ...


@dataclass(frozen=True, slots=True)
class Stack:
    """A store and a model that are switched as one.

    store: how traces name the store.
    price: writes into the trace of a call what it cost; None leaves the cost to the cost commands.
    slots: how many calls of its model may be under way; None is any number.
    depth_k: how many passages are retrieved for a question that leaves it to the stack, by 0.
    rerank: puts more passages than that in a better order; None leaves them in the store's.
    """

    name: str
    retrieve: Retriever
    render: Renderer
    model: ChatModel
    store: str
    price: Callable[[TraceRecord], TraceRecord] | None = None
    slots: Slots | None = None
    depth_k: int | None = None
    rerank: Reranking | None = None
