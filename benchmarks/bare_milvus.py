"""The best that Milvus's own client does: fill a collection, and read all of it, of a server or of milvus-lite.

The client makes a Python object of every number, both ways; exitramp goes by the same calls without that. A load ends
when the records are in the write-ahead log, the last segment is cut off, and its index, the same as exitramp's, is
built. Of milvus-lite, which leaves that to the system, the files are synced then.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.bare_tables import Bare, check
from benchmarks.corpus import DIMENSIONS, NAME, Block

_FIELDS: Final = ("id", "document", "payload", "vector")
_POLL_SECONDS: Final = 0.05
_BATCH_ROWS: Final = 2500
_PAGE_ROWS: Final = 4000
"""The best of 1,000 to 16,384 rows, with both; they hardly differ."""


def served(location: str) -> Bare:
    return _milvus(f"http:{location}", None)


def lite(path: Path) -> Bare:
    return _milvus(str(path), path)


def _milvus(uri: str, path: Path | None) -> Bare:
    from pymilvus import DataType, MilvusClient

    def make(client: Any) -> None:
        if client.has_collection(NAME):
            client.drop_collection(NAME)
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=512)
        schema.add_field("document", DataType.VARCHAR, max_length=65_535)
        schema.add_field("payload", DataType.JSON)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIMENSIONS)
        client.create_collection(NAME, schema=schema)

    def index(client: Any) -> None:
        params = client.prepare_index_params()
        settings = {"M": 16, "efConstruction": 200}
        params.add_index("vector", index_type="HNSW", metric_type="COSINE", params=settings)
        client.create_index(NAME, params)
        while path is None and client.describe_index(NAME, "vector")["pending_index_rows"]:
            time.sleep(_POLL_SECONDS)
        client.load_collection(NAME)

    def load(block: Block) -> None:
        load_blocks([block])

    def load_blocks(blocks: Iterable[Block]) -> None:
        client = MilvusClient(uri)
        make(client)
        for block in blocks:
            for start in range(0, len(block.ids), _BATCH_ROWS):
                rows = slice(start, start + _BATCH_ROWS)
                columns = (block.ids[rows], block.documents[rows], block.payloads[rows], block.vectors[rows])
                client.insert(NAME, [dict(zip(_FIELDS, row, strict=True)) for row in zip(*columns, strict=True)])
        client.flush(NAME)
        index(client)
        _close(client, path)
        if path is not None:
            _sync(path)

    def read(rows: int) -> None:
        client = MilvusClient(uri)
        if path is not None:
            client.load_collection(NAME)
        found: list[dict[str, Any]] = []
        pages = client.query_iterator(NAME, batch_size=_PAGE_ROWS, output_fields=list(_FIELDS))
        while page := pages.next():
            found += page
        pages.close()
        matrix = np.array([each["vector"] for each in found], np.float32)
        check(*([each[name] for each in found] for name in _FIELDS[:3]), matrix, rows)
        _close(client, path)

    return Bare(load, read, "document=document&payload=payload", load_blocks=load_blocks)


def _close(client: Any, path: Path | None) -> None:
    client.close()
    if path is not None:
        from milvus_lite.server_manager import server_manager_instance

        server_manager_instance.release_server(str(path))  # it lets in nobody else


def _sync(path: Path) -> None:
    for folder, _, files in os.walk(path):
        for each in (*files, ""):
            handle = os.open(Path(folder, each), os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
