"""What adapters are tested with: the reference store, hard records, and the conformance suite for third parties.

The suite needs pytest; the reference store and the generators do not, so the names are fetched when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exitramp.testing.conformance import Feature, StoreConformance, StoreHarness
    from exitramp.testing.conformance.chat import (
        ChatAnswerConformance,
        ChatConformance,
        ChatFeature,
        ChatHarness,
        ChatWire,
        ChatWireConformance,
        Said,
        WireError,
    )
    from exitramp.testing.conformance.embedders import EmbedderConformance, EmbedderFeature, EmbedderHarness
    from exitramp.testing.conformance.embedding_wire import AskedTexts, EmbeddingWireConformance, RemoteEmbedderHarness
    from exitramp.testing.conformance.rerank_wire import RemoteRerankerHarness, RerankWireConformance
    from exitramp.testing.conformance.rerankers import RerankerConformance, RerankerHarness
    from exitramp.testing.data import hard_ids, hard_records, hard_vectors
    from exitramp.testing.hard_values import HARD_IDS, HARD_PAYLOADS
    from exitramp.testing.memory import MemoryStore
    from exitramp.testing.rows import Row, batch_from_rows, rows_from_batch
    from exitramp.testing.runner import Outcome, run_suite
    from exitramp.testing.scripted import Arrived, Reply, ScriptedServer

_HOMES = {
    "ChatAnswerConformance": "conformance.chat",
    "ChatConformance": "conformance.chat",
    "ChatFeature": "conformance.chat",
    "ChatHarness": "conformance.chat",
    "ChatWire": "conformance.chat",
    "ChatWireConformance": "conformance.chat",
    "EmbedderConformance": "conformance.embedders",
    "EmbedderFeature": "conformance.embedders",
    "EmbedderHarness": "conformance.embedders",
    "EmbeddingWireConformance": "conformance.embedding_wire",
    "RemoteEmbedderHarness": "conformance.embedding_wire",
    "RemoteRerankerHarness": "conformance.rerank_wire",
    "RerankWireConformance": "conformance.rerank_wire",
    "RerankerConformance": "conformance.rerankers",
    "RerankerHarness": "conformance.rerankers",
    "ScriptedServer": "scripted",
    "Reply": "scripted",
    "Arrived": "scripted",
    "AskedTexts": "conformance.embedding_wire",
    "WireError": "conformance.chat",
    "Said": "conformance.chat",
    "Feature": "conformance",
    "HARD_IDS": "hard_values",
    "HARD_PAYLOADS": "hard_values",
    "MemoryStore": "memory",
    "Outcome": "runner",
    "Row": "rows",
    "StoreConformance": "conformance",
    "StoreHarness": "conformance",
    "batch_from_rows": "rows",
    "hard_ids": "data",
    "hard_records": "data",
    "hard_vectors": "data",
    "rows_from_batch": "rows",
    "run_suite": "runner",
}

__all__ = [
    "HARD_IDS",
    "HARD_PAYLOADS",
    "Arrived",
    "AskedTexts",
    "ChatAnswerConformance",
    "ChatConformance",
    "ChatFeature",
    "ChatHarness",
    "ChatWire",
    "ChatWireConformance",
    "EmbedderConformance",
    "EmbedderFeature",
    "EmbedderHarness",
    "EmbeddingWireConformance",
    "Feature",
    "MemoryStore",
    "Outcome",
    "RemoteEmbedderHarness",
    "RemoteRerankerHarness",
    "Reply",
    "RerankWireConformance",
    "RerankerConformance",
    "RerankerHarness",
    "Row",
    "Said",
    "ScriptedServer",
    "StoreConformance",
    "StoreHarness",
    "WireError",
    "batch_from_rows",
    "hard_ids",
    "hard_records",
    "hard_vectors",
    "rows_from_batch",
    "run_suite",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
