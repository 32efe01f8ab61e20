"""Chroma, embedded and over HTTP: the conformance suite, seeded and read back through the raw client."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import chromadb
import numpy as np
import pytest
from chromadb.config import Settings

from exitramp.faults import Fault
from exitramp.records import CollectionSpec, Metric
from exitramp.testing import Feature, Row, StoreConformance, StoreHarness
from exitramp_adapters.services.chroma_run import ChromaRun

SPACES = {Metric.COSINE: "cosine", Metric.EUCLIDEAN: "l2", Metric.DOT: "ip"}


class ChromaHarness(StoreHarness):
    """What both ways in have in common: the raw client is opened and closed within each call."""

    def raw_client(self) -> Any:
        raise NotImplementedError

    @contextmanager
    def client(self) -> Iterator[Any]:
        client = self.raw_client()
        try:
            yield client
        finally:
            client.close()

    def raw_seed(self, collection: str, spec: CollectionSpec, rows: Sequence[Row]) -> None:
        with self.client() as client:
            raw_create(client, collection, spec, rows)

    def raw_read(self, collection: str) -> list[Row]:
        with self.client() as client:
            got = client.get_collection(collection, embedding_function=None).get(
                include=["embeddings", "metadatas", "documents"]
            )
        columns = zip(got["ids"], got["documents"], got["metadatas"], got["embeddings"], strict=True)
        return [Row(id_, None, doc, meta, {"vector": np.asarray(vec).astype("<f4")}) for id_, doc, meta, vec in columns]

    def raw_edit(self, collection: str, id_: str, key: str, value: Any) -> None:
        with self.client() as client:
            client.get_collection(collection, embedding_function=None).update(ids=[id_], metadatas=[{key: value}])

    def raw_collections(self) -> list[str]:
        with self.client() as client:
            return [found.name for found in client.list_collections()]


def raw_create(client: Any, name: str, spec: CollectionSpec, rows: Sequence[Row]) -> Any:
    """A collection as an application makes one."""
    [field] = spec.vectors
    configuration = {"hnsw": {"space": SPACES[field.metric]}}
    collection = client.create_collection(name, embedding_function=None, configuration=configuration)
    for start in range(0, len(rows), 5000):
        part = rows[start : start + 5000]
        collection.add(
            ids=[row.id for row in part],
            embeddings=np.array([row.vectors[field.column] for row in part]),
            metadatas=[row.payload for row in part],
            documents=[row.document for row in part],
        )
    return collection


class EmbeddedHarness(ChromaHarness):
    lacks = {
        Feature.SERVER_KILL: "it is no server; the writer itself is killed instead",
        Feature.SERVER_STOP: "it is no server",
    }

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def address(self, collection: str) -> str:
        return f"chroma:{self.folder}#{quote(collection, safe='')}"

    def raw_client(self) -> Any:
        return chromadb.PersistentClient(str(self.folder), settings=Settings(anonymized_telemetry=False))

    def raw_collections(self) -> list[str]:
        return super().raw_collections() if self.folder.is_dir() else []


class HttpHarness(ChromaHarness):
    def __init__(self, folder: Path) -> None:
        self.service = ChromaRun(str(folder), {})
        self.service.start()

    def address(self, collection: str) -> str:
        return f"{self.service.address}#{quote(collection, safe='')}"

    def raw_client(self) -> Any:
        port = self.service.address.port or 0
        return chromadb.HttpClient("127.0.0.1", port, settings=Settings(anonymized_telemetry=False))

    def kill(self) -> None:
        self.service.inject(Fault("sigkill"))

    def restart(self) -> None:
        self.service.inject(Fault("restart"))

    def stop(self) -> None:
        self.service.inject(Fault("sigstop"))

    def resume(self) -> None:
        self.service.inject(Fault("sigcont"))


class TestChromaEmbedded(StoreConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> EmbeddedHarness:
        return EmbeddedHarness(tmp_path / "db")


class TestChromaHttp(StoreConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Iterator[HttpHarness]:
        harness = HttpHarness(tmp_path / "service")
        yield harness
        harness.service.stop()
