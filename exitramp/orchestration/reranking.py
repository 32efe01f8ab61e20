"""Passages in a better order: more are fetched than are shown, and another model says which of them answer best.

What cannot be reranked stays in the store's order and the answer is given all the same; the trace says so. A reranker
makes answers better, and an answer is worth more than its order.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from exitramp.clock import Clock
from exitramp.errors import DataInvalid, ModelError
from exitramp.orchestration.side_calls import make_side_call, question_vectors
from exitramp.orchestration.stack import Passage
from exitramp.orchestration.supposed_tokens import supposed_tokens
from exitramp.ports import Embedder, Purpose, Reranker, batches_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_KEPT_VECTORS: Final = 4096


class Scorer(Protocol):
    """How well each text answers the question, higher is better. Raises `ModelError` or `DataInvalid`."""

    def __call__(self, question: str, texts: Sequence[str], /, *, timeout_seconds: float) -> Sequence[float]: ...


@dataclass(frozen=True, slots=True)
class Reranking:
    """`candidates` passages are fetched and scored within `timeout_seconds`."""

    scorer: Scorer
    candidates: int
    timeout_seconds: float

    def reordered(self, question: str, passages: Sequence[Passage], *, timeout_seconds: float) -> list[Passage]:
        """Best first, each with its new score; of equal score in the order of their ids. What has no text cannot be
        scored and comes last, in the store's order. Raises as the scorer does."""
        with_text = [passage for passage in passages if passage.text.strip()]
        if not with_text:
            return list(passages)
        scores = self.scorer(question, [passage.text for passage in with_text], timeout_seconds=timeout_seconds)
        scored = [replace(passage, score=float(score)) for passage, score in zip(with_text, scores, strict=True)]
        scored.sort(key=lambda passage: (-(passage.score or 0.0), passage.id))
        return [*scored, *(passage for passage in passages if not passage.text.strip())]


class EmbeddingScorer:
    """The cosine of a question's vector and a text's, by an embedder that need not be the collection's.

    Vectors of texts are kept, the eldest leaving first, as the same passages come again and again. Thread-safe.
    """

    def __init__(self, embedder: Embedder, clock: Clock) -> None:
        self._embedder = embedder
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, npt.NDArray[np.float32]] = OrderedDict()

    def __call__(self, question: str, texts: Sequence[str], /, *, timeout_seconds: float) -> list[float]:
        import numpy as np

        end = self._clock.monotonic() + timeout_seconds
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        with self._lock:
            known = {key: self._kept[key] for key in keys if key in self._kept}
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        made = self._vectors([question], Purpose.QUERY, end)
        fresh = dict(zip(new, self._vectors(list(new.values()), Purpose.DOCUMENT, end), strict=True))
        known |= fresh
        with self._lock:
            self._kept.update(fresh)
            while len(self._kept) > _KEPT_VECTORS:
                self._kept.popitem(last=False)
        scores: list[float] = (np.stack([known[key] for key in keys]) @ made[0]).tolist()
        return scores

    def _vectors(self, texts: Sequence[str], purpose: Purpose, end: float) -> list[npt.NDArray[np.float32]]:
        """Of length one; what has no direction is like nothing."""
        import numpy as np

        found: list[npt.NDArray[np.float32]] = []
        for part in batches_of(texts, self._embedder.limits()):
            seconds = end - self._clock.monotonic()
            if seconds <= 0:
                raise ModelError("the candidates were not embedded in time", error_class="timeout")
            for row in embed_told(self._embedder, part, purpose, seconds, self._clock):
                norm = float(np.linalg.norm(row))
                found.append(row / np.float32(norm) if norm > 0 else np.zeros_like(row))
        return found


class ModelScorer:
    """The scores of a reranker."""

    def __init__(self, reranker: Reranker, clock: Clock) -> None:
        self._reranker = reranker
        self._clock = clock

    def __call__(self, question: str, texts: Sequence[str], /, *, timeout_seconds: float) -> Sequence[float]:
        found = make_side_call(
            "rerank",
            self._reranker.identity(),
            lambda: self._reranker.rerank(question, texts, timeout_seconds=timeout_seconds),
            texts=len(texts),
            at_most_tokens=lambda: (
                supposed_tokens(*texts) + len(texts) * supposed_tokens(question)
            ),  # with each of them
            clock=self._clock,
        )
        return found.scores


def embed_told(
    embedder: Embedder, texts: Sequence[str], purpose: Purpose, seconds: float, clock: Clock
) -> npt.NDArray[np.float32]:
    """One call of an embedder, told as a side call; none, where it is a question that this request has embedded by it
    before. Raises `ModelError` or `DataInvalid`."""
    is_question = purpose is Purpose.QUERY and len(texts) == 1
    known = question_vectors().find(embedder, texts[0]) if is_question else None
    if known is not None:
        return known[None, :]
    found = make_side_call(
        "embed",
        embedder.identity(),
        lambda: embedder.embed(texts, purpose=purpose, timeout_seconds=seconds),
        texts=len(texts),
        at_most_tokens=lambda: supposed_tokens(*texts),
        clock=clock,
    )
    if is_question:
        question_vectors().keep(embedder, texts[0], found.vectors[0])
    return found.vectors


def why_not(error: ModelError | DataInvalid) -> str:
    """A word for the trace."""
    return error.error_class if isinstance(error, ModelError) else "invalid_text"
