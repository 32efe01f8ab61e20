"""The rows that every benchmark moves, the same each time, and stores filled with them by their own clients."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

QUICK: Final = os.environ.get("EXITRAMP_BENCH_QUICK", "") not in ("", "0")
"""Fewer rows and rounds, to see that everything runs; the ratios of so little say nothing."""
DIMENSIONS: Final = 384
NAME: Final = "articles"
_TEXT: Final = (
    "array close column document field file index library matrix method model module name number object open page path "
    "query raises read record returns row shape store string table text the this type value vector with write"
)
_WORDS: Final = tuple(_TEXT.split())


@dataclass(frozen=True, slots=True)
class Block:
    """Rows as a client takes them: `vectors` float32 [rows, 384] of norm 1, flat payloads, texts of some 400 bytes."""

    numbers: range
    vectors: npt.NDArray[np.float32]
    payloads: list[dict[str, Any]]
    documents: list[str]

    @property
    def ids(self) -> list[str]:
        return [f"article:{number:07d}" for number in self.numbers]

    def with_documents(self) -> list[dict[str, Any]]:
        """The payloads with the text among them, for a store that has no other place for it."""
        return [payload | {"document": text} for payload, text in zip(self.payloads, self.documents, strict=True)]


def blocks(rows: int, block_rows: int) -> Iterator[Block]:
    """`rows` rows, a block at a time."""
    numbers, words = np.random.default_rng(7), random.Random(7)
    for start in range(0, rows, block_rows):
        span = range(start, min(rows, start + block_rows))
        vectors = numbers.standard_normal((len(span), DIMENSIONS), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        payloads = [
            {
                "title": f"section {number}",
                "source": words.choice(["library", "manual", "tutorial"]),
                "page": number % 97,
                "score": round(words.random(), 4),
                "public": bool(number % 2),
            }
            for number in span
        ]
        yield Block(span, vectors, payloads, [" ".join(words.choices(_WORDS, k=60)) for _ in span])


def whole(rows: int) -> Block:
    [block] = blocks(rows, rows)
    return block


def fill_edge(folder: Path, rows: int) -> None:
    """A collection of Qdrant's engine at `folder`/articles. Its index is not built: a scan does not use it."""
    shard = make_shard(folder / NAME)
    for block in blocks(rows, 500):
        load_shard(shard, block, 500)
    shard.flush()
    shard.close()


def make_shard(path: Path) -> Any:
    import qdrant_edge as engine

    path.mkdir(parents=True)
    params = engine.EdgeVectorParams(DIMENSIONS, engine.Distance.Cosine)
    return engine.EdgeShard.create(str(path), engine.EdgeConfig(vectors=params))


def load_shard(shard: Any, block: Block, batch_rows: int) -> None:
    """The engine's own bulk load, its write-ahead log on. A memoryview is the fastest form that it takes."""
    import qdrant_edge as engine

    payloads = block.with_documents()
    for start in range(0, len(payloads), batch_rows):
        rows = range(start, min(len(payloads), start + batch_rows))
        points = [engine.Point(block.numbers[row], memoryview(block.vectors[row]), payloads[row]) for row in rows]
        shard.update(engine.UpdateOperation.upsert_points(points))


def chroma_client(folder: Path) -> Any:
    import chromadb
    from chromadb.config import Settings

    # The same settings as the adapter's, or Chroma refuses to open one folder twice in a process.
    settings = Settings(_env_file=None, anonymized_telemetry=False, chroma_otel_collection_endpoint="")
    return chromadb.PersistentClient(str(folder), settings=settings)


def make_chroma(client: Any, *, sync_rows: int | None = None) -> Any:
    hnsw: dict[str, Any] = {"space": "cosine"} | ({"sync_threshold": sync_rows} if sync_rows else {})
    return client.create_collection(NAME, configuration={"hnsw": hnsw}, embedding_function=None)


def load_chroma(collection: Any, block: Block, batch_rows: int) -> None:
    """Chroma's own bulk load; each call is in its log when it returns."""
    ids = block.ids
    for start in range(0, len(ids), batch_rows):
        rows = slice(start, start + batch_rows)
        collection.add(
            ids=ids[rows],
            embeddings=block.vectors[rows],
            metadatas=block.payloads[rows],
            documents=block.documents[rows],
        )


def fill_chroma(folder: Path, rows: int) -> None:
    client = chroma_client(folder)
    load_chroma(make_chroma(client), whole(rows), 1000)
    client.close()


def make_remote(client: Any, name: str = NAME) -> None:
    from qdrant_client import models

    params = models.VectorParams(size=DIMENSIONS, distance=models.Distance.COSINE)
    client.create_collection(name, vectors_config=params)


def load_remote(client: Any, block: Block, batch_rows: int, name: str = NAME) -> None:
    """qdrant-client's own bulk load over REST, in columns, each batch applied and in the log when it returns."""
    from qdrant_client import models

    payloads = block.with_documents()
    for start in range(0, len(payloads), batch_rows):
        rows = slice(start, start + batch_rows)
        points = models.Batch(
            ids=list(block.numbers[rows]), vectors=block.vectors[rows].tolist(), payloads=payloads[rows]
        )
        client.upsert(name, points, wait=True)
