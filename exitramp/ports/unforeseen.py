"""A model whose adapter raises what its port has no word for: a `KeyError` over an answer that nobody foresaw.

Whoever asks knows the classes of `ModelError` and nothing else: by them it fails over, counts, and says what may have
been billed. So such an exception becomes one of them, with its kind and its place, and without its words, which may
hold a key or a prompt. What is raised on purpose passes, and so does what whoever listens to a stream raises.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from exitramp.errors import ExitrampError, ModelError
from exitramp.ports.chat import ChatAnswer, ChatDelta, ChatModel, ChatRequest, ModelIdentity, TellsRefusals
from exitramp.ports.embedding import (
    Embedded,
    Embedder,
    EmbedderLimits,
    HoldsStaticWeights,
    Purpose,
    StaticWeights,
    require_vectors,
)
from exitramp.ports.models import ModelAdapter
from exitramp.ports.reranking import Reranked, Reranker
from exitramp.records import EmbeddingModel, Usage
from exitramp.urls import Address, Network


def place_of(error: BaseException) -> str:
    """Of an exception its kind and where it was raised, and nothing that it says: `KeyError at gemini.py:84`."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"


def guarded(adapter: ModelAdapter) -> ModelAdapter:
    """`adapter`, whose models raise `ExitrampError` and nothing else of their own."""
    chat, embedder, reranker = adapter.open_chat, adapter.open_embedder, adapter.open_reranker
    return replace(
        adapter,
        open_chat=None if chat is None else lambda address, network: _chat(adapter.scheme, chat, address, network),
        open_embedder=None
        if embedder is None
        else lambda address, network: _embedder(adapter.scheme, embedder, address, network),
        open_reranker=None
        if reranker is None
        else lambda address, network: _Reranker(adapter.scheme, reranker(address, network)),
    )


@contextmanager
def _foreseen(scheme: str, *, maybe_billed: bool, heard: Sequence[Exception] = ()) -> Iterator[None]:
    try:
        yield
    except (ExitrampError, MemoryError):
        raise
    except Exception as error:
        if any(error is each for each in heard):
            raise
        kind = "timeout" if isinstance(error, TimeoutError) else "malformed"
        kind = "connection" if isinstance(error, ConnectionError) else kind
        found = ModelError(
            f"{scheme}: its adapter raised {place_of(error)}, which a model's port does not know",
            error_class=kind,
            maybe_billed=maybe_billed,
            hint="tell whoever made the adapter; what it may raise stands in docs/models.md",
        )
        found.retryable = found.retryable and kind != "malformed"  # a fault of a program's is there the next time too
        raise found from error


class _Chat:
    def __init__(self, scheme: str, model: ChatModel) -> None:
        self._scheme = scheme
        self._model = model

    def identity(self) -> ModelIdentity:
        return self._model.identity()

    def answer(
        self,
        request: ChatRequest,
        *,
        timeout_seconds: float,
        on_delta: Callable[[ChatDelta], None] | None = None,
    ) -> ChatAnswer:
        if on_delta is None:
            with _foreseen(self._scheme, maybe_billed=True):
                return self._model.answer(request, timeout_seconds=timeout_seconds)
        heard: list[Exception] = []

        def listen(delta: ChatDelta) -> None:
            try:
                on_delta(delta)
            except Exception as error:
                heard.append(error)
                raise

        with _foreseen(self._scheme, maybe_billed=True, heard=heard):
            return self._model.answer(request, timeout_seconds=timeout_seconds, on_delta=listen)

    def close(self) -> None:
        self._model.close()


class _ChatThatRefuses(_Chat):
    def __init__(self, scheme: str, model: ChatModel, refusing: TellsRefusals) -> None:
        super().__init__(scheme, model)
        self._refusing = refusing

    def refuses(self) -> tuple[str, ...]:
        return self._refusing.refuses()


class _Embedder:
    def __init__(self, scheme: str, embedder: Embedder) -> None:
        self._scheme = scheme
        self._embedder = embedder

    def identity(self) -> ModelIdentity:
        return self._embedder.identity()

    def model(self) -> EmbeddingModel:
        with _foreseen(self._scheme, maybe_billed=False):
            return self._embedder.model()

    @property
    def dimensions(self) -> int:
        with _foreseen(self._scheme, maybe_billed=False):  # one behind HTTP may have to ask
            return self._embedder.dimensions

    def limits(self) -> EmbedderLimits:
        return self._embedder.limits()

    def count_tokens(self, texts: Sequence[str]) -> Usage:
        with _foreseen(self._scheme, maybe_billed=False):
            return self._embedder.count_tokens(texts)

    def embed(
        self,
        texts: Sequence[str],
        *,
        purpose: Purpose,
        timeout_seconds: float = 60.0,
        idempotency_key: str | None = None,
    ) -> Embedded:
        with _foreseen(self._scheme, maybe_billed=True):
            found = self._embedder.embed(
                texts, purpose=purpose, timeout_seconds=timeout_seconds, idempotency_key=idempotency_key
            )
            require_vectors(found, len(texts), f"{self._scheme}: {found.model_id}")
            return found

    def close(self) -> None:
        self._embedder.close()


class _EmbedderWithWeights(_Embedder):
    def __init__(self, scheme: str, embedder: Embedder, holding: HoldsStaticWeights) -> None:
        super().__init__(scheme, embedder)
        self._holding = holding

    def static_weights(self) -> StaticWeights:
        return self._holding.static_weights()


class _Reranker:
    def __init__(self, scheme: str, reranker: Reranker) -> None:
        self._scheme = scheme
        self._reranker = reranker

    def identity(self) -> ModelIdentity:
        return self._reranker.identity()

    def rerank(
        self,
        question: str,
        texts: Sequence[str],
        *,
        timeout_seconds: float = 60.0,
        idempotency_key: str | None = None,
    ) -> Reranked:
        with _foreseen(self._scheme, maybe_billed=True):
            return self._reranker.rerank(
                question, texts, timeout_seconds=timeout_seconds, idempotency_key=idempotency_key
            )

    def close(self) -> None:
        self._reranker.close()


def _chat(scheme: str, opens: Callable[[Address, Network], ChatModel], address: Address, network: Network) -> ChatModel:
    model = opens(address, network)
    return _ChatThatRefuses(scheme, model, model) if isinstance(model, TellsRefusals) else _Chat(scheme, model)


def _embedder(
    scheme: str, opens: Callable[[Address, Network], Embedder], address: Address, network: Network
) -> Embedder:
    embedder = opens(address, network)
    if isinstance(embedder, HoldsStaticWeights):
        return _EmbedderWithWeights(scheme, embedder, embedder)
    return _Embedder(scheme, embedder)
