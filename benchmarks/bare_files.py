"""The best that bare libraries of index files and matrices do: write a collection, and read all of it.

What a library has no room for, they keep in a Parquet file beside: id, text and payload text, zstd, row for row. All is
written under other names, synced, renamed, and the folder synced: as durable as exitramp's own. What exitramp does
besides and these do not: hash the files and check the hashes, keep the records in an order of their own, look for ids
that stand twice, refuse a collection that is not what it says. The vectors have norm 1, so that FAISS and hnswlib take
them for cosine as they are, without a copy of the originals beside.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.bare_tables import Bare, check
from benchmarks.corpus import DIMENSIONS, NAME, Block

Matrix = npt.NDArray[np.float32]
_TEXTS: Final = ("id", "document", "payload")


def written(files: Mapping[Path, Callable[[str], object]]) -> None:
    """Write each file and return when all of them are on the disk under their names."""
    for path, write in files.items():
        new = path.with_name(path.name + ".new")
        write(str(new))
        with new.open("rb+") as file:
            os.fsync(file.fileno())
        new.replace(path)
    for folder in {path.parent for path in files}:
        handle = os.open(folder, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def records(block: Block) -> pa.Table:
    return pa.table({"id": block.ids, "document": block.documents, "payload": list(map(json.dumps, block.payloads))})


def with_side_car(path: Path, write: Callable[[str, Matrix], object], read: Callable[[str], Matrix]) -> Bare:
    """A file of vectors in the order of the rows, and the Parquet file beside it."""
    beside = path.with_name(path.name + ".parquet")

    def load(block: Block) -> None:
        table = records(block)
        written(
            {
                path: lambda new: write(new, block.vectors),
                beside: lambda new: pq.write_table(table, new, compression="zstd", use_dictionary=False),
            }
        )

    def read_both(rows: int) -> None:
        table = pq.read_table(beside)
        check(*(table[name] for name in _TEXTS), read(str(path)), rows)

    return Bare(load, read_both, f"sidecar={beside}&id=id&document=document&payload=payload&metric=cosine")


def faiss(folder: Path) -> Bare:
    """A flat index, whose vectors are read where they lie."""
    import faiss as engine

    def write(path: str, vectors: Matrix) -> None:
        index = engine.IndexFlatIP(DIMENSIONS)
        index.add(vectors)
        engine.write_index(index, path)

    def read(path: str) -> Matrix:
        index = engine.read_index(path)
        flat: Matrix = engine.rev_swig_ptr(index.get_xb(), index.ntotal * index.d).reshape(-1, DIMENSIONS)
        return flat.copy()  # which stays when the index goes

    return with_side_car(folder / "bare.faiss", write, read)


def usearch(folder: Path) -> Bare:
    """A graph with the library's own settings, its keys the numbers of the rows; read as a view, without the copy."""
    from usearch.index import Index

    def write(path: str, vectors: Matrix) -> None:
        index = Index(ndim=DIMENSIONS, metric="cos", dtype="f32")
        index.add(np.arange(len(vectors), dtype=np.uint64), vectors)
        index.save(path)

    def read(path: str) -> Matrix:
        index = Index.restore(path, view=True)
        matrix: Matrix = np.vstack(index.get(np.arange(len(index), dtype=np.uint64)))
        return matrix

    return with_side_car(folder / "bare.usearch", write, read)


def hnswlib(folder: Path) -> Bare:
    """A graph with the library's own settings, under the inner product, lest it scale what is of norm 1 already."""
    import hnswlib as engine

    def write(path: str, vectors: Matrix) -> None:
        index = engine.Index(space="ip", dim=DIMENSIONS)
        index.init_index(max_elements=len(vectors), M=16, ef_construction=200)
        index.add_items(vectors, np.arange(len(vectors)))
        index.save_index(path)

    def read(path: str) -> Matrix:
        index = engine.Index(space="ip", dim=DIMENSIONS)
        index.load_index(path)
        matrix: Matrix = index.get_items(np.arange(index.element_count), return_type="numpy")
        return matrix

    return with_side_car(folder / "bare.bin", write, read)


def npy(folder: Path) -> Bare:
    def write(path: str, vectors: Matrix) -> None:
        with Path(path).open("wb") as file:
            np.save(file, vectors)

    def read(path: str) -> Matrix:
        matrix: Matrix = np.load(path)
        return matrix

    return with_side_car(folder / "bare.npy", write, read)


def hdf5(folder: Path) -> Bare:
    """Vectors and texts as datasets of one file, texts as bytes of one width: those of any width take twice as long."""
    import h5py

    path = folder / "bare.hdf5"

    def load(block: Block) -> None:
        def write(new: str) -> None:
            with h5py.File(new, "w") as file:
                file.attrs["distance"] = "angular"
                file["train"] = block.vectors
                for name, texts in (("id", block.ids), ("document", block.documents)):
                    file[name] = np.array([text.encode() for text in texts])
                file["payload"] = np.array([json.dumps(payload).encode() for payload in block.payloads])

        written({path: write})

    def read(rows: int) -> None:
        with h5py.File(path) as file:
            texts = [[each.decode() for each in file[name][:].tolist()] for name in _TEXTS]
            check(*texts, file["train"][:], rows)

    return Bare(load, read)


def vdf(folder: Path) -> Bare:
    """As vdf-io writes a dump: one Parquet file with vectors as doubles and each key of the payloads in a column of its
    own, Snappy, a JSON file that tells of it. Read to floats and one payload for each record."""
    home = folder / "bare"

    def load(block: Block) -> None:
        flat = pa.array(block.vectors.reshape(-1).astype(np.float64))
        ends = pa.array(np.arange(0, len(flat) + 1, DIMENSIONS, dtype=np.int32))
        columns: dict[str, Any] = {"id": block.ids, "vector": pa.ListArray.from_arrays(ends, flat)}
        columns["document"] = block.documents
        columns |= {key: [payload[key] for payload in block.payloads] for key in block.payloads[0]}
        table = pa.table(columns)
        about = {"namespace": "", "index_name": NAME, "dimensions": DIMENSIONS, "metric": "Cosine"}
        about |= {"total_vector_count": len(block.ids), "exported_vector_count": len(block.ids)}
        about |= {"vector_columns": ["vector"], "data_path": NAME, "model_name": "NOT_PROVIDED", "model_map": {}}
        meta = {"version": "0.1.248", "indexes": {NAME: [about]}, "exported_from": "bare", "id_column": "id"}
        meta |= {"exported_at": datetime.now(UTC).isoformat(), "file_structure": [], "author": "bare"}
        (home / NAME).mkdir(parents=True, exist_ok=True)
        written(
            {
                home / NAME / "1.parquet": lambda new: pq.write_table(table, new),
                home / "VDF_META.json": lambda new: Path(new).write_text(json.dumps(meta)),
            }
        )

    def read(rows: int) -> None:
        table = pq.read_table(home / NAME)
        matrix = table["vector"].combine_chunks().flatten().to_numpy().astype(np.float32).reshape(-1, DIMENSIONS)
        payloads = table.drop_columns(["id", "document", "vector"]).to_pylist()
        check(table["id"], table["document"], payloads, matrix, rows)

    return Bare(load, read, "document=document")
