"""Reading and loading stores that are files, and Milvus, beside the best of their bare clients.

As `test_stores` measures it. Where what a library writes has no room for all of a record, ours reads what exitramp
wrote there, and the bare client what it wrote itself. Of npy and vdf both are measured: files of others are looked
through once before they are read. Where the bare client leaves out what every careful reader does, it is measured with
that too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks import bare_files, bare_milvus, corpus
from benchmarks.bare_tables import Bare, check
from benchmarks.corpus import NAME
from benchmarks.test_stores import FLOOR, ROWS, TARGET, batches, load, read
from benchmarks.turns import against_bare
from exitramp.registry import service_adapter

SUFFIXES: Final = {"faiss": "faiss", "usearch": "usearch", "hnswlib": "bin", "hdf5": "hdf5", "npy": "npy"}
OWN: Final = ("faiss", "usearch", "hnswlib", "hdf5", "npy", "vdf")
OTHERS: Final = ("npy", "vdf", "milvus", "milvus+http")
KINDS: Final = (*SUFFIXES, "vdf", "milvus", "milvus+http")
_OURS: Final = "ours"


def rows_of(kind: str) -> int:
    """Loads of 20,000 take Milvus 20 s each."""
    return min(ROWS, 5_000) if kind.startswith("milvus") else ROWS


@contextmanager
def store(kind: str, folder: Path) -> Iterator[tuple[Bare, Callable[[str], str]]]:
    """The bare client of a kind of store, and the addresses of its collections."""
    if kind == "milvus+http":
        service = service_adapter("milvus-server").make(str(folder), 0, {})
        address = service.start()
        try:
            bare = bare_milvus.served(address.location)
            yield bare, lambda name: f"{kind}:{address.location}?{bare.options if name == NAME else ''}#{name}"
        finally:
            service.stop()
    elif kind == "milvus":
        path = folder / "x.db"
        bare = bare_milvus.lite(path)
        yield bare, lambda name: f"{kind}:{path}?{bare.options if name == NAME else ''}#{name}"
    elif kind == "vdf":
        bare = bare_files.vdf(folder)
        at = {NAME: f"{folder}/bare?{bare.options}#{NAME}"}
        yield bare, lambda name: f"vdf:{at.get(name, f'{folder}/{name}#{name}')}"
    else:
        bare = getattr(bare_files, kind)(folder)
        file = f"{kind}:{folder}/%s.{SUFFIXES[kind]}"
        yield bare, lambda name: file % "bare" + f"?{bare.options}" if name == NAME else file % name


@pytest.mark.parametrize(("kind", "name"), [*((kind, _OURS) for kind in OWN), *((kind, NAME) for kind in OTHERS)])
def test_complete_read(benchmark: Any, tmp_path: Path, kind: str, name: str) -> None:
    rows = rows_of(kind)
    block = corpus.whole(rows)
    with store(kind, tmp_path) as (bare, address):
        bare.load(block)
        if name == _OURS:
            load(lambda: address(_OURS), batches(block))
        ours = partial(read, address(name), rows)
        against_bare(benchmark, ours, {"bare": partial(bare.read, rows)}, rows=rows, target=TARGET, floor=FLOOR)


@pytest.mark.parametrize("kind", ["faiss", "usearch"])
def test_complete_read_of_a_checked_index(benchmark: Any, tmp_path: Path, kind: str) -> None:
    """The bare client too hashes an index before its library parses it, since a damaged one may end the process."""
    block = corpus.whole(ROWS)
    with store(kind, tmp_path) as (bare, address):
        bare.load(block)
        load(lambda: address(_OURS), batches(block))

        def theirs() -> None:
            with (tmp_path / f"bare.{SUFFIXES[kind]}").open("rb") as file:
                hashlib.file_digest(file, "sha256")
            bare.read(ROWS)

        ours = partial(read, address(_OURS), ROWS)
        against_bare(benchmark, ours, {"checked": theirs}, rows=ROWS, target=TARGET, floor=FLOOR)


def test_complete_read_of_parsed_payloads(benchmark: Any, tmp_path: Path) -> None:
    """The bare client too parses the payloads of somebody else's npy, as whoever writes them elsewhere has to."""
    with store("npy", tmp_path) as (bare, address):
        bare.load(corpus.whole(ROWS))

        def theirs() -> None:
            table = pq.read_table(tmp_path / "bare.npy.parquet")
            payloads = list(map(json.loads, table["payload"].to_pylist()))
            check(table["id"], table["document"], payloads, np.load(tmp_path / "bare.npy"), ROWS)

        ours = partial(read, address(NAME), ROWS)
        against_bare(benchmark, ours, {"parsed": theirs}, rows=ROWS, target=TARGET, floor=FLOOR)


@pytest.mark.parametrize("kind", KINDS)
def test_bulk_load(benchmark: Any, tmp_path: Path, kind: str) -> None:
    rows = rows_of(kind)
    block = corpus.whole(rows)
    found = batches(block)
    numbers = iter(range(1000))
    with store(kind, tmp_path) as (bare, address):
        ours = partial(load, lambda: address(f"{_OURS}{next(numbers)}"), found)
        against_bare(benchmark, ours, {"bare": partial(bare.load, block)}, rows=rows, target=TARGET, floor=FLOOR)
