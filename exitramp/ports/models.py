"""What the registry knows of a model vendor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from exitramp.ports.chat import ChatModel
from exitramp.ports.embedding import Embedder
from exitramp.ports.reranking import Reranker
from exitramp.urls import Address, Network


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
    open_reranker: Callable[[Address, Network], Reranker] | None = None
