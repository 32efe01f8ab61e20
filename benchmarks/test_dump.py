"""A dump beside the best loop that the bare client allows, which reads the same records and keeps them usable.

What the bare loop ends with: the list of ids, a float32 matrix [rows, 384] of all vectors, the list of payload dicts
and (Chroma) the list of documents. It writes nothing. The dump reads the same, and digests, measures, writes, syncs,
decodes again and compares besides. Both include opening the store; importing is not measured.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from benchmarks import corpus
from benchmarks.corpus import NAME, QUICK
from benchmarks.turns import against_bare
from exitramp.migration import migrate
from exitramp.ports import Service
from exitramp.records import Verdict
from exitramp.registry import service_adapter
from exitramp.wrappers import open_endpoint

TARGET: Final = 0.8
FLOOR: Final = 0.2
EDGE_ROWS: Final = 4_000 if QUICK else 100_000
CHROMA_ROWS: Final = 1_000 if QUICK else 20_000
REMOTE_ROWS: Final = 1_000 if QUICK else 20_000


def dump(address: str, folder: Path, rows: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with open_endpoint(address) as source, open_endpoint(f"dump:{folder}") as target:
        result = migrate(source, target)
    assert (result.rows, result.verdict) == (rows, Verdict.PASS)


def check(ids: list[Any], matrix: Any, payloads: list[Any], rows: int) -> None:
    assert len(set(ids)) == len(payloads) == rows
    assert matrix.shape == (rows, corpus.DIMENSIONS)
    assert matrix.dtype == np.float32


def read_edge(folder: Path, rows: int, page_rows: int) -> None:
    import qdrant_edge as engine

    shard = engine.EdgeShard.load(str(folder / NAME))
    ids: list[Any] = []
    payloads: list[Any] = []
    parts: list[Any] = []
    start: Any = None
    while True:
        request = engine.ScrollRequest(offset=start, limit=page_rows, with_payload=True, with_vector=True)
        records, start = shard.scroll(request)
        ids += [record.id for record in records]
        payloads += [record.payload for record in records]
        parts.append(np.array([record.vector for record in records], np.float32))
        if start is None:
            break
    check(ids, np.concatenate(parts), payloads, rows)
    shard.close()


def read_remote(url: str, rows: int, page_rows: int) -> None:
    from qdrant_client import QdrantClient

    client = QdrantClient(url=url, check_compatibility=False, timeout=60, trust_env=False)
    ids: list[Any] = []
    payloads: list[Any] = []
    parts: list[Any] = []
    start: Any = None
    while True:
        records, start = client.scroll(NAME, offset=start, limit=page_rows, with_payload=True, with_vectors=True)
        ids += [record.id for record in records]
        payloads += [record.payload for record in records]
        parts.append(np.array([record.vector for record in records], np.float32))
        if start is None:
            break
    check(ids, np.concatenate(parts), payloads, rows)
    client.close()


def read_chroma(collection: Any, rows: int, page_rows: int) -> None:
    """The ids first, then the records by id: twice as fast as by offset, and nothing drifts under writes."""
    ids: list[Any] = []
    payloads: list[Any] = []
    documents: list[Any] = []
    parts: list[Any] = []
    listed = collection.get(include=[])["ids"]
    for start in range(0, len(listed), page_rows):
        found = collection.get(ids=listed[start : start + page_rows], include=["embeddings", "documents", "metadatas"])
        ids += found["ids"]
        payloads += found["metadatas"]
        documents += found["documents"]
        parts.append(np.asarray(found["embeddings"], np.float32))
    check(ids, np.concatenate(parts), payloads, rows)
    assert len(documents) == rows


def read_chroma_embedded(folder: Path, rows: int, page_rows: int) -> None:
    client = corpus.chroma_client(folder)
    read_chroma(client.get_collection(NAME, embedding_function=None), rows, page_rows)
    client.close()


def read_chroma_http(port: int, rows: int, page_rows: int) -> None:
    client = chroma_http_client(port)
    read_chroma(client.get_collection(NAME, embedding_function=None), rows, page_rows)


def chroma_http_client(port: int) -> Any:
    import chromadb
    from chromadb.config import Settings

    return chromadb.HttpClient(host="127.0.0.1", port=port, settings=Settings(anonymized_telemetry=False))


@pytest.fixture(scope="module")
def chroma_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chroma") / "files"
    corpus.fill_chroma(folder, CHROMA_ROWS)
    return folder


@pytest.fixture
def chroma_server(tmp_path: Path, chroma_files: Path) -> Iterator[Service]:
    """A real server over a copy of the embedded collection's files."""
    shutil.copytree(chroma_files, tmp_path / "server" / "data")
    service = service_adapter("chroma-run").make(str(tmp_path / "server"), 0, {})
    service.start()
    yield service
    service.stop()


@pytest.fixture
def qdrant_server(tmp_path: Path) -> Iterator[Service]:
    from qdrant_client import QdrantClient

    service = service_adapter("qdrant-shim").make(str(tmp_path / "server"), 0, {})
    address = service.start()
    client = QdrantClient(url=f"http:{address.location}", check_compatibility=False, timeout=60, trust_env=False)
    corpus.make_remote(client)
    corpus.load_remote(client, corpus.whole(REMOTE_ROWS), 256)
    client.close()
    yield service
    service.stop()


def test_dump_from_qdrant_embedded(benchmark: Any, tmp_path: Path) -> None:
    corpus.fill_edge(tmp_path / "files", EDGE_ROWS)
    bare = {f"pages of {page}": partial(read_edge, tmp_path / "files", EDGE_ROWS, page) for page in (128, 256)}
    ours = partial(dump, f"qdrant:{tmp_path / 'files'}#{NAME}", tmp_path / "dump", EDGE_ROWS)
    against_bare(benchmark, ours, bare, rows=EDGE_ROWS, target=TARGET, floor=FLOOR)


def test_dump_from_qdrant_http(benchmark: Any, tmp_path: Path, qdrant_server: Service) -> None:
    place = qdrant_server.start().location
    bare = {f"pages of {page}": partial(read_remote, f"http:{place}", REMOTE_ROWS, page) for page in (128, 512)}
    ours = partial(dump, f"qdrant+http:{place}#{NAME}", tmp_path / "dump", REMOTE_ROWS)
    against_bare(benchmark, ours, bare, rows=REMOTE_ROWS, target=TARGET, floor=FLOOR)


def test_dump_from_chroma_embedded(benchmark: Any, tmp_path: Path, chroma_files: Path) -> None:
    bare = {f"gets of {page}": partial(read_chroma_embedded, chroma_files, CHROMA_ROWS, page) for page in (500, 1000)}
    ours = partial(dump, f"chroma:{chroma_files}#{NAME}", tmp_path / "dump", CHROMA_ROWS)
    against_bare(benchmark, ours, bare, rows=CHROMA_ROWS, target=TARGET, floor=FLOOR)


def test_dump_from_chroma_http(benchmark: Any, tmp_path: Path, chroma_server: Service) -> None:
    place = chroma_server.start().location
    port = int(place.rpartition(":")[2])
    bare = {f"gets of {page}": partial(read_chroma_http, port, CHROMA_ROWS, page) for page in (500, 1000)}
    ours = partial(dump, f"chroma+http:{place}#{NAME}", tmp_path / "dump", CHROMA_ROWS)
    against_bare(benchmark, ours, bare, rows=CHROMA_ROWS, target=TARGET, floor=FLOOR)
