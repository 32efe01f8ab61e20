"""Engines that live in the process that uses them, by their bare libraries, with memory as the yardstick.

Each fills a collection from rows that come a block at a time, and reads all of it a batch at a time, of which nothing
is kept: what the process then holds, the engine holds. Texts of an index file stand in Parquet beside it, written and
read by groups of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import bare_milvus, corpus
from benchmarks.bare_files import records
from benchmarks.corpus import DIMENSIONS, NAME, Block

Blocks = Iterator[Block]
_PAGE_ROWS: Final = 1000


@dataclass(frozen=True)
class BareStream:
    """One engine. `load` fills a collection with so many rows; `read` counts those that it has read."""

    load: Callable[[Blocks, int], None]
    read: Callable[[], int]


def _with_texts(
    path: Path,
    make: Callable[[int], Any],
    add: Callable[[Any, Block], object],
    save: Callable[[Any], object],
    restore: Callable[[], Any],
    vectors: Callable[[Any, range], Any],
) -> BareStream:
    """An index file, and the Parquet file beside it."""
    beside = path.with_name(path.name + ".parquet")

    def load(blocks: Blocks, rows: int) -> None:
        index = make(rows)
        writer: Any = None
        for block in blocks:
            add(index, block)
            table = records(block)
            writer = writer or pq.ParquetWriter(beside, table.schema, compression="zstd", use_dictionary=False)
            writer.write_table(table)
        writer.close()
        save(index)

    def read() -> int:
        index = restore()
        at = 0
        with pq.ParquetFile(beside) as file:
            for batch in file.iter_batches(_PAGE_ROWS):
                assert vectors(index, range(at, at + batch.num_rows)).shape == (batch.num_rows, DIMENSIONS)
                at += batch.num_rows
        return at

    return BareStream(load, read)


def faiss(folder: Path) -> BareStream:
    import faiss as engine

    path = folder / "bare.faiss"

    def vectors(index: Any, rows: range) -> Any:
        flat = engine.rev_swig_ptr(index.get_xb(), index.ntotal * index.d).reshape(-1, DIMENSIONS)
        return flat[rows.start : rows.stop].copy()

    return _with_texts(
        path,
        lambda rows: engine.IndexFlatIP(DIMENSIONS),
        lambda index, block: index.add(block.vectors),
        lambda index: engine.write_index(index, str(path)),
        lambda: engine.read_index(str(path)),
        vectors,
    )


def usearch(folder: Path) -> BareStream:
    from usearch.index import Index

    path = folder / "bare.usearch"
    return _with_texts(
        path,
        lambda rows: Index(ndim=DIMENSIONS, metric="cos", dtype="f32"),
        lambda index, block: index.add(np.array(block.numbers, np.uint64), block.vectors),
        lambda index: index.save(str(path)),
        lambda: Index.restore(str(path)),
        lambda index, rows: np.vstack(index.get(np.array(rows, np.uint64))),
    )


def hnswlib(folder: Path) -> BareStream:
    import hnswlib as engine

    path = folder / "bare.bin"

    def make(rows: int) -> Any:
        index = engine.Index(space="cosine", dim=DIMENSIONS)
        index.init_index(max_elements=rows, M=16, ef_construction=200)
        return index

    def restore() -> Any:
        index = engine.Index(space="cosine", dim=DIMENSIONS)
        index.load_index(str(path))
        return index

    return _with_texts(
        path,
        make,
        lambda index, block: index.add_items(block.vectors, np.array(block.numbers)),
        lambda index: index.save_index(str(path)),
        restore,
        lambda index, rows: index.get_items(np.array(rows), return_type="numpy"),
    )


def chroma(folder: Path) -> BareStream:
    def load(blocks: Blocks, rows: int) -> None:
        client = corpus.chroma_client(folder)
        collection = corpus.make_chroma(client)
        for block in blocks:
            corpus.load_chroma(collection, block, 1000)
        client.close()

    def read() -> int:
        client = corpus.chroma_client(folder)
        collection = client.get_collection(NAME, embedding_function=None)
        ids = collection.get(include=[])["ids"]
        rows = 0
        for start in range(0, len(ids), _PAGE_ROWS):
            wanted = ids[start : start + _PAGE_ROWS]
            rows += len(collection.get(ids=wanted, include=["embeddings", "documents", "metadatas"])["ids"])
        client.close()
        return rows

    return BareStream(load, read)


def lancedb(folder: Path) -> BareStream:
    import lancedb as engine

    def load(blocks: Blocks, rows: int) -> None:
        database = engine.connect(str(folder))
        table: Any = None
        for block in blocks:
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.vectors.reshape(-1)), DIMENSIONS)
            part = records(block).append_column("embedding", vectors)
            table = table.add(part) and table if table is not None else database.create_table(NAME, part)

    def read() -> int:
        found = engine.connect(str(folder)).open_table(NAME).search().to_batches(_PAGE_ROWS)
        return sum(batch.num_rows for batch in found)

    return BareStream(load, read)


def duckdb(folder: Path) -> BareStream:
    import duckdb as engine

    path = folder / "x.duckdb"

    def load(blocks: Blocks, rows: int) -> None:
        connection = engine.connect(str(path))
        columns = f"id VARCHAR PRIMARY KEY, document VARCHAR, payload JSON, embedding FLOAT[{DIMENSIONS}]"
        connection.execute(f"CREATE TABLE {NAME} ({columns})")
        for block in blocks:
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.vectors.reshape(-1)), DIMENSIONS)
            connection.register("part", records(block).append_column("embedding", vectors))
            connection.execute(f"INSERT INTO {NAME} SELECT * FROM part")
            connection.unregister("part")
        connection.close()

    def read() -> int:
        connection = engine.connect(str(path), read_only=True)
        found = connection.execute(f"SELECT * FROM {NAME}").to_arrow_reader(_PAGE_ROWS)
        return sum(batch.num_rows for batch in found)

    return BareStream(load, read)


def milvus(folder: Path) -> BareStream:
    """Milvus lite, whose engine is in this process too."""
    from pymilvus import MilvusClient

    path = folder / "x.db"
    bare = bare_milvus.lite(path)

    def load(blocks: Blocks, rows: int) -> None:
        assert bare.load_blocks is not None
        bare.load_blocks(blocks)

    def read() -> int:
        client = MilvusClient(str(path))
        client.load_collection(NAME)
        pages = client.query_iterator(
            NAME, batch_size=_PAGE_ROWS, output_fields=["id", "document", "payload", "vector"]
        )
        rows = 0
        while page := pages.next():
            rows += len(page)
        pages.close()
        return rows

    return BareStream(load, read)


ENGINES: Final = {each.__name__: each for each in (faiss, usearch, hnswlib, chroma, lancedb, duckdb, milvus)}
