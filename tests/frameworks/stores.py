"""For both frameworks: vectors made of texts alone, Chroma's client, and a server that Qdrant's client talks to."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
from chromadb.config import Settings
from qdrant_client import QdrantClient

DIMENSIONS = 24
QUESTIONS = ("text 3 ü", "bare 2", "something else", "and another")


def embedded(text: str) -> list[float]:
    """A unit vector that depends on nothing but the text."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    vector = np.random.default_rng(seed).standard_normal(DIMENSIONS).astype(np.float32)
    found: list[float] = (vector / np.linalg.norm(vector)).tolist()
    return found


def chroma_client(folder: Path) -> Any:
    return chromadb.PersistentClient(folder.resolve(), Settings(anonymized_telemetry=False))


def qdrant_client(address: str) -> QdrantClient:
    return QdrantClient(url=address.removeprefix("qdrant+"), check_compatibility=False)
