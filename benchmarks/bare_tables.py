"""The best that the bare clients of stores that are tables or keys do: fill a collection, and read all of it.

Each reads ids, texts, payload texts and a float32 matrix, and each loads them from a block in memory, durably.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.corpus import DIMENSIONS, NAME, Block

_ROW: Final = struct.Struct(">h")
_SIZE: Final = struct.Struct(">i")
_HEAD: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)


@dataclass(frozen=True)
class Bare:
    """One store. `load` fills an empty one; `read` reads what it filled; `options` lead exitramp to it.

    `index` builds the index that exitramp builds at the end of a load, where it builds one; `load_blocks` is `load` of
    rows that come a block at a time.
    """

    load: Callable[[Block], None]
    read: Callable[[int], None]
    options: str = ""
    index: Callable[[], None] | None = None
    load_blocks: Callable[[Iterable[Block]], None] | None = None


def check(ids: Any, texts: Any, payloads: Any, matrix: Any, rows: int) -> None:
    assert len(ids) == len(texts) == len(payloads) == rows
    assert matrix.shape == (rows, DIMENSIONS)


def postgres(conninfo: str) -> Bare:
    import psycopg

    def load(block: Block) -> None:
        vectors = np.empty((len(block.ids), 4 + 4 * DIMENSIONS), np.uint8)
        vectors[:, :4] = np.frombuffer(struct.pack(">hh", DIMENSIONS, 0), np.uint8)
        vectors[:, 4:] = block.vectors.astype(">f4").view(np.uint8).reshape(len(block.ids), -1)
        with psycopg.connect(conninfo) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            connection.execute(f"DROP TABLE IF EXISTS {NAME}")
            columns = f"id text PRIMARY KEY, document text, payload jsonb, embedding vector({DIMENSIONS})"
            connection.execute(f"CREATE TABLE {NAME} ({columns})")
            with connection.cursor().copy(f"COPY {NAME} FROM STDIN (FORMAT BINARY)") as copy:
                copy.write(_HEAD)
                parts: list[bytes] = []
                for id_, text, payload, vector in zip(block.ids, block.documents, block.payloads, vectors, strict=True):
                    cells = (id_.encode(), text.encode(), b"\x01" + json.dumps(payload).encode(), vector.tobytes())
                    parts.append(_ROW.pack(4) + b"".join(_SIZE.pack(len(cell)) + cell for cell in cells))
                    if len(parts) == 500:
                        copy.write(b"".join(parts))
                        parts.clear()
                copy.write(b"".join(parts) + b"\xff\xff")

    def read(rows: int) -> None:
        found: list[list[bytes]] = []
        with psycopg.connect(conninfo) as connection:
            query = f"SELECT id, document, payload::text, embedding FROM {NAME}"
            with connection.cursor().copy(f"COPY ({query}) TO STDOUT (FORMAT BINARY)") as copy:
                for number, data in enumerate(copy):
                    line = bytes(data)
                    at = 2 if number else len(_HEAD) + 2
                    if len(line) <= at:
                        continue
                    cells = []
                    for _ in range(4):
                        [size] = _SIZE.unpack_from(line, at)
                        cells.append(line[at + 4 : at + 4 + size])
                        at += 4 + size
                    found.append(cells)
        vectors = np.frombuffer(b"".join(cells[3][4:] for cells in found), ">f4").astype(np.float32)
        texts = [[cells[each].decode() for cells in found] for each in range(3)]
        check(*texts, vectors.reshape(-1, DIMENSIONS), rows)

    def index() -> None:
        with psycopg.connect(conninfo) as connection:
            connection.execute(f"CREATE INDEX ON {NAME} USING hnsw (embedding vector_cosine_ops)")

    return Bare(load, read, "&document=document&payload=payload&metric=cosine", index)


def duckdb(path: Path) -> Bare:
    import duckdb as engine
    import pyarrow as pa

    def table(block: Block) -> pa.Table:
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.vectors.reshape(-1)), DIMENSIONS)
        payloads = [json.dumps(payload) for payload in block.payloads]
        return pa.table({"id": block.ids, "document": block.documents, "payload": payloads, "embedding": vectors})

    def load(block: Block) -> None:
        path.unlink(missing_ok=True)
        with engine.connect(str(path)) as connection:
            rows = table(block)  # noqa: F841  (DuckDB finds it by its name)
            columns = f"id VARCHAR PRIMARY KEY, document VARCHAR, payload JSON, embedding FLOAT[{DIMENSIONS}]"
            connection.execute(f"CREATE TABLE {NAME} ({columns})")
            connection.execute(f"INSERT INTO {NAME} SELECT * FROM rows")
            connection.execute("CHECKPOINT")

    def read(rows: int) -> None:
        with engine.connect(str(path), read_only=True) as connection:
            found = connection.execute(f"SELECT * FROM {NAME}").to_arrow_table()
        matrix = found["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, DIMENSIONS)
        check(found["id"], found["document"], found["payload"], matrix, rows)

    return Bare(load, read, "&document=document&payload=payload&metric=cosine")


def lancedb(path: Path) -> Bare:
    import shutil

    import lancedb as engine
    import pyarrow as pa

    def load(block: Block) -> None:
        shutil.rmtree(path, ignore_errors=True)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.vectors.reshape(-1)), DIMENSIONS)
        payloads = [json.dumps(payload) for payload in block.payloads]
        rows = pa.table({"id": block.ids, "document": block.documents, "payload": payloads, "embedding": vectors})
        engine.connect(str(path)).create_table(NAME, rows.to_reader(max_chunksize=10_000))

    def read(rows: int) -> None:
        found = pa.Table.from_batches(list(engine.connect(str(path)).open_table(NAME).search().to_batches()))
        matrix = found["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, DIMENSIONS)
        check(found["id"], found["document"], found["payload"], matrix, rows)

    return Bare(load, read, "&id=id&document=document&metric=cosine")


def redis(port: int, *, fields: bool = False) -> Bare:
    """With `fields` a load writes each key of the payload as a field, as exitramp does, and no text of them all."""
    import redis as engine

    def written(payload: dict[str, Any]) -> dict[str, str]:
        if not fields:
            return {"payload": json.dumps(payload)}
        return {key: value if isinstance(value, str) else json.dumps(value) for key, value in payload.items()}

    def load(block: Block) -> None:
        client = engine.Redis(port=port)
        client.flushall()
        vector = ["embedding", "VECTOR", "FLAT", "6", "TYPE", "FLOAT32", "DIM", str(DIMENSIONS)]
        schema = ["ON", "HASH", "PREFIX", "1", f"{NAME}:", "SCHEMA", *vector, "DISTANCE_METRIC", "COSINE"]
        client.execute_command("FT.CREATE", NAME, *schema)
        ids = block.ids
        for start in range(0, len(ids), 500):
            pipeline = client.pipeline(transaction=False)
            for row in range(start, min(len(ids), start + 500)):
                values = {"document": block.documents[row], **written(block.payloads[row])}
                pipeline.hset(f"{NAME}:{ids[row]}", mapping={**values, "embedding": block.vectors[row].tobytes()})
            pipeline.execute()
        client.execute_command("WAITAOF", 1, 0, 0)

    def read(rows: int) -> None:
        client = engine.Redis(port=port)
        keys = list(client.scan_iter(f"{NAME}:*", count=1000))
        found: list[dict[bytes, bytes]] = []
        for start in range(0, len(keys), 500):
            pipeline = client.pipeline(transaction=False)
            for key in keys[start : start + 500]:
                pipeline.hgetall(key)
            found += pipeline.execute()
        matrix = np.frombuffer(b"".join(each[b"embedding"] for each in found), np.float32).reshape(-1, DIMENSIONS)
        texts = [[each[name].decode() for each in found] for name in (b"document", b"payload")]
        check(keys, *texts, matrix, rows)

    return Bare(load, read)


def sqlite_vec(path: Path) -> Bare:
    import pysqlite3 as sqlite
    import sqlite_vec as extension

    def connected() -> Any:
        connection = sqlite.connect(str(path))
        connection.enable_load_extension(True)
        extension.load(connection)
        connection.execute("PRAGMA cache_size=-65536")
        return connection

    def load(block: Block) -> None:
        path.unlink(missing_ok=True)
        connection = connected()
        columns = f"id text primary key, embedding float[{DIMENSIONS}] distance_metric=cosine, +document text"
        connection.execute(f"CREATE VIRTUAL TABLE {NAME} USING vec0({columns}, +payload text)")
        payloads = map(json.dumps, block.payloads)
        rows = zip(block.ids, map(memoryview, block.vectors), block.documents, payloads, strict=True)
        with connection:
            connection.executemany(f"INSERT INTO {NAME}(id, embedding, document, payload) VALUES (?, ?, ?, ?)", rows)
        connection.close()

    def read(rows: int) -> None:
        connection = connected()
        found = connection.execute(f"SELECT id, document, payload, embedding FROM {NAME}").fetchall()
        matrix = np.frombuffer(b"".join(row[3] for row in found), np.float32).reshape(-1, DIMENSIONS)
        check(*([row[each] for row in found] for each in range(3)), matrix, rows)
        connection.close()

    return Bare(load, read, "&document=document&payload=payload")
