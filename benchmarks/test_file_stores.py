"""Reading and loading stores that are files, and Milvus, beside the best of their bare clients.

As `test_stores` measures it. Where what a library writes has no room for all of a record, ours reads what exitramp
wrote there, and the bare client what it wrote itself. Of npy and vdf both are measured: files of others are looked
through once before they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks import bare_files, bare_milvus, corpus
from benchmarks.bare_tables import Bare
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


@pytest.mark.parametrize("kind", KINDS)
def test_bulk_load(benchmark: Any, tmp_path: Path, kind: str) -> None:
    rows = rows_of(kind)
    block = corpus.whole(rows)
    found = batches(block)
    numbers = iter(range(1000))
    with store(kind, tmp_path) as (bare, address):
        ours = partial(load, lambda: address(f"{_OURS}{next(numbers)}"), found)
        against_bare(benchmark, ours, {"bare": partial(bare.load, block)}, rows=rows, target=TARGET, floor=FLOOR)
