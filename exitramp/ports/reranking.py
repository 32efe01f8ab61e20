"""Rerankers: models that say how well each of some texts answers a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from exitramp.ports.chat import ModelIdentity
from exitramp.records import Usage


@dataclass(frozen=True, slots=True)
class Reranked:
    """`scores`: one for each text, in their order, higher is better; in the model's own units, and all finite."""

    scores: tuple[float, ...]
    usage: Usage
    latency_ms: float
    model_id: str


class Reranker(Protocol):
    """Scores texts for a question. Raises `ModelError`; never retries."""

    def identity(self) -> ModelIdentity: ...

    def rerank(
        self,
        question: str,
        texts: Sequence[str],
        *,
        timeout_seconds: float = 60.0,
        idempotency_key: str | None = None,
    ) -> Reranked:
        """At least one text, none of them empty."""
        ...

    def close(self) -> None: ...
