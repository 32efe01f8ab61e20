"""A real embedding model behind the mock's embeddings shape: the vectors are the model's, the vendor stays a mock.

Option `embedder` names it by its address, such as `minilm:` or `use:`. What it was loaded with (its tokeniser, its
limits) decides; a request has no purpose, so texts are embedded as documents, as a vendor without one would.
"""

from __future__ import annotations

import asyncio
import importlib.util
from importlib.metadata import entry_points
from typing import Final

from exitramp.errors import DataInvalid, DependencyMissing, ModelError, UsageError
from exitramp.ports import Embedder, ModelAdapter, Purpose
from exitramp.ports.embedding import batches_of
from exitramp.urls import Address, Network
from exitramp_adapters.services.mock_vendor.embeddings import EmbedAsk, body_of
from exitramp_adapters.services.mock_vendor.replies import Replies
from exitramp_adapters.services.mock_vendor.shape import Ask, Refusal
from exitramp_adapters.services.mock_vendor.speaking import Said

_GROUP: Final = "exitramp.models"
_REMOTE: Final = frozenset({"openai", "local", "anthropic"})
_TIMEOUT_SECONDS: Final = 600.0


def embedder_adapter(text: str) -> ModelAdapter:
    """The adapter of an embedder on this machine. Raises `UsageError` for anything else, and `DependencyMissing`."""
    address = Address.parse(text)
    found = [entry for entry in entry_points(group=_GROUP) if entry.name == address.scheme]
    adapter = found[0].load() if found and address.scheme not in _REMOTE else None
    if not isinstance(adapter, ModelAdapter) or adapter.open_embedder is None:
        raise UsageError(
            f"a mock vendor's option 'embedder' names no embedding model on this machine: {address.scheme}:",
            hint="'exitramp models' lists them, e.g. wordllama: or minilm:; --forward asks a server",
        )
    for module in adapter.requires:
        if importlib.util.find_spec(module) is None:
            raise DependencyMissing(address.scheme, adapter.extra or address.scheme, module=module)
    return adapter


class RealVectors:
    """Vectors by a real model; everything else is said by `inner`. One call at a time, off the event loop."""

    def __init__(self, text: str, inner: Replies) -> None:
        opens = embedder_adapter(text).open_embedder
        assert opens is not None
        self._embedder: Embedder = opens(Address.parse(text), Network())
        self._inner = inner
        self._turn = asyncio.Lock()
        self.name = inner.name
        self.models = inner.models
        self.embedding_models: tuple[str, ...] = (self._embedder.identity().model,)

    async def say(self, ask: Ask) -> Said:
        return await self._inner.say(ask)

    async def embed(self, ask: EmbedAsk) -> dict[str, object]:
        if ask.dimensions_asked and ask.dimensions != self._embedder.dimensions:
            text = f"the model behind this mock makes vectors of {self._embedder.dimensions} numbers"
            raise Refusal("invalid_request", text, field="dimensions")
        async with self._turn:
            return await asyncio.to_thread(self._embedded, ask)

    def _embedded(self, ask: EmbedAsk) -> dict[str, object]:
        import numpy as np

        try:
            found = [
                self._embedder.embed(part, purpose=Purpose.DOCUMENT, timeout_seconds=_TIMEOUT_SECONDS)
                for part in batches_of(ask.texts, self._embedder.limits())
            ]
        except DataInvalid:
            text = "the model behind this mock makes no vector of one of the texts"
            raise Refusal("invalid_request", text, field="input") from None
        except ModelError as error:
            raise Refusal("error_500", f"The model behind this mock failed ({error.error_class}).") from None
        tokens = sum(each.usage.prompt_tokens for each in found)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {**body_of(ask, np.vstack([each.vectors for each in found])), "usage": usage}
