"""Models whose bill somebody else sends than the vendor whose shape they speak."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from exitramp.ports import (
    ChatAnswer,
    ChatDelta,
    ChatModel,
    ChatRequest,
    ModelIdentity,
    Reranked,
    Reranker,
    TellsRefusals,
)


class BilledModel:
    """A model whose bill somebody else sends than the vendor whose shape it speaks."""

    def __init__(self, model: ChatModel, billed_as: str) -> None:
        self._model = model
        self._billed_as = billed_as

    def identity(self) -> ModelIdentity:
        return replace(self._model.identity(), provider=self._billed_as)

    def answer(
        self,
        request: ChatRequest,
        *,
        timeout_seconds: float,
        on_delta: Callable[[ChatDelta], None] | None = None,
    ) -> ChatAnswer:
        return self._model.answer(request, timeout_seconds=timeout_seconds, on_delta=on_delta)

    def refuses(self) -> tuple[str, ...]:
        return self._model.refuses() if isinstance(self._model, TellsRefusals) else ()

    def close(self) -> None:
        self._model.close()


class BilledReranker:
    """A reranker whose bill names who sends it."""

    def __init__(self, reranker: Reranker, billed_as: str) -> None:
        self._reranker = reranker
        self._billed_as = billed_as

    def identity(self) -> ModelIdentity:
        return replace(self._reranker.identity(), provider=self._billed_as)

    def rerank(
        self,
        question: str,
        texts: Sequence[str],
        *,
        timeout_seconds: float = 60.0,
        idempotency_key: str | None = None,
    ) -> Reranked:
        return self._reranker.rerank(question, texts, timeout_seconds=timeout_seconds, idempotency_key=idempotency_key)

    def close(self) -> None:
        self._reranker.close()
