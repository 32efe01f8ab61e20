"""Where a mock vendor's words come from: its own rule, or whatever else is put in its place."""

from __future__ import annotations

from typing import Protocol

from exitramp_adapters.services.extractive import Rule
from exitramp_adapters.services.mock_vendor import embeddings
from exitramp_adapters.services.mock_vendor.embeddings import EmbedAsk
from exitramp_adapters.services.mock_vendor.shape import Ask
from exitramp_adapters.services.mock_vendor.speaking import Said, speak


class Replies(Protocol):
    """Says what is answered. Raises `Refusal` where there is nothing to say."""

    name: str
    """In one word, for `x-exitramp-replies` and `describe()`."""

    models: tuple[str, ...]
    """The chat models that it speaks for; with none of its own the mock's name stands for it."""

    embedding_models: tuple[str, ...]
    """The embedding models that it makes vectors of."""

    async def say(self, ask: Ask) -> Said: ...

    async def embed(self, ask: EmbedAsk) -> dict[str, object]:
        """The body of an embeddings answer."""
        ...


class RuleReplies:
    """The documented rule: `speaking` for chat, `embeddings` for vectors."""

    name = "rule"
    models: tuple[str, ...] = ()
    embedding_models: tuple[str, ...] = (embeddings.MODEL,)

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    async def say(self, ask: Ask) -> Said:
        return speak(ask, self._rule)

    async def embed(self, ask: EmbedAsk) -> dict[str, object]:
        return embeddings.body_of(ask, embeddings.vectors_of(ask.texts, ask.dimensions))
