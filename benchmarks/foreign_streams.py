"""Files that somebody else wrote, as sources, of rows that come a block at a time."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.bare_files import records
from benchmarks.corpus import DIMENSIONS, NAME, Block

Blocks = Iterator[Block]
_ROLES = "id=id&document=document&payload=payload&metric=cosine"


def parquet(folder: Path, blocks: Blocks, rows: int) -> str:
    path = folder / "x.parquet"
    _written(path, (_with_vectors(block, pa.float32()) for block in blocks))
    return f"file:{path}?{_ROLES}&vectors=embedding"


def text_csv(folder: Path, blocks: Blocks, rows: int) -> str:
    path = folder / "x.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "document", "payload", "embedding"])
        for block in blocks:
            writer.writerows(_texts(block))
    return f"file:{path}?{_ROLES}&vectors=embedding"


def jsonl(folder: Path, blocks: Blocks, rows: int) -> str:
    path = folder / "x.jsonl"
    with path.open("w") as file:
        for block in blocks:
            vectors = block.vectors.astype(np.float64).tolist()
            for id_, text, payload, vector in zip(block.ids, block.documents, block.payloads, vectors, strict=True):
                file.write(json.dumps({"id": id_, "document": text, "payload": payload, "embedding": vector}) + "\n")
    return f"file:{path}?{_ROLES}&vectors=embedding"


def npy(folder: Path, blocks: Blocks, rows: int) -> str:
    """A matrix, and its side-car in Parquet."""
    path, beside = folder / "x.npy", folder / "x.parquet"
    matrix = np.lib.format.open_memmap(path, "w+", np.float32, (rows, DIMENSIONS))

    def tables() -> Iterator[pa.Table]:
        for block in blocks:
            matrix[block.numbers.start : block.numbers.stop] = block.vectors
            yield records(block)

    _written(beside, tables())
    matrix.flush()
    return f"npy:{path}?sidecar={beside}&{_ROLES}"


def hdf5(folder: Path, blocks: Blocks, rows: int) -> str:
    """As ann-benchmarks writes it: vectors, and queries with their neighbours; ids are row numbers."""
    import h5py

    path = folder / "x.hdf5"
    with h5py.File(path, "w") as file:
        file.attrs["distance"] = "angular"
        file.attrs["type"] = "dense"
        train = file.create_dataset("train", (rows, DIMENSIONS), np.float32)
        for block in blocks:
            train[block.numbers.start : block.numbers.stop] = block.vectors
        file["test"] = np.asarray(train[:100])
        file["neighbors"] = np.zeros((100, 100), np.int32)
        file["distances"] = np.zeros((100, 100), np.float32)
    return f"hdf5:{path}"


def vdf(folder: Path, blocks: Blocks, rows: int) -> str:
    """As vdf-io writes a dump: vectors as doubles, each key of a payload in a column of its own."""
    home = folder / "vdf"
    (home / NAME).mkdir(parents=True)

    def tables() -> Iterator[pa.Table]:
        for block in blocks:
            table = _with_vectors(block, pa.float64()).drop_columns(["payload"]).rename_columns({"embedding": "vector"})
            for key in block.payloads[0]:
                table = table.append_column(key, [[payload[key] for payload in block.payloads]])
            yield table

    _written(home / NAME / "1.parquet", tables())
    about: dict[str, Any] = {"namespace": "", "index_name": NAME, "dimensions": DIMENSIONS, "metric": "Cosine"}
    about |= {"total_vector_count": rows, "exported_vector_count": rows, "vector_columns": ["vector"]}
    about |= {"data_path": NAME, "model_name": "NOT_PROVIDED", "model_map": {}}
    meta = {"version": "0.1.248", "indexes": {NAME: [about]}, "exported_from": "bare", "id_column": "id"}
    meta |= {"exported_at": "2026-01-01T00:00:00+00:00", "file_structure": [], "author": "bare"}
    (home / "VDF_META.json").write_text(json.dumps(meta))
    return f"vdf:{home}?document=document#{NAME}"


SOURCES = {"parquet": parquet, "csv": text_csv, "jsonl": jsonl, "npy": npy, "hdf5": hdf5, "vdf": vdf}


def _with_vectors(block: Block, kind: pa.DataType) -> pa.Table:
    flat = pa.array(block.vectors.reshape(-1)).cast(kind)
    ends = pa.array(np.arange(0, len(flat) + 1, DIMENSIONS, dtype=np.int32))
    return records(block).append_column("embedding", pa.ListArray.from_arrays(ends, flat))


def _texts(block: Block) -> Iterator[tuple[str, str, str, str]]:
    vectors = map(json.dumps, block.vectors.astype(np.float64).tolist())
    return zip(block.ids, block.documents, map(json.dumps, block.payloads), vectors, strict=True)


def _written(path: Path, tables: Iterator[pa.Table]) -> None:
    first = next(tables)
    with pq.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)
