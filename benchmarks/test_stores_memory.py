"""Peak memory of a complete read and of a bulk load of each store, by number of rows, each in a process of its own.

Where an engine lives in the process that uses it, the yardstick is what its bare library takes more for the same rows:
what counts is by how much ours grows beyond that. Servers are processes of their own and not counted.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks import corpus
from benchmarks.bare_streams import ENGINES
from benchmarks.corpus import QUICK
from benchmarks.foreign_streams import SOURCES
from benchmarks.test_memory import GROWTH_AT_MOST_MB
from exitramp.registry import service_adapter

_SERVICES: Final = {
    "pgvector": "postgres",
    "redis": "redis-server",
    "milvus+http": "milvus-server",
    "qdrant+http": "qdrant-shim",
    "chroma+http": "chroma-run",
}
_SINGLE: Final = ("faiss", "usearch", "hnswlib", "hdf5", "npy")
"""Files that hold one collection, without a name."""


@dataclass(frozen=True)
class Case:
    """The rows of a smaller and a larger collection, and how much a load and a read may grow by: what is known not to
    meet the target fails only when it gets worse."""

    small: int
    large: int
    load_fails_above_mb: int = GROWTH_AT_MOST_MB
    read_fails_above_mb: int = GROWTH_AT_MOST_MB


STORES: Final = {
    "pgvector": Case(10_000, 100_000),
    # From where the engine's own cache is full, which is as large as it is for any number of rows.
    "duckdb": Case(100_000, 200_000),
    "sqlite-vec": Case(100_000, 300_000),
    "lancedb": Case(100_000, 300_000, read_fails_above_mb=100),
    "redis": Case(10_000, 100_000),
    "qdrant": Case(5_000, 20_000),
    "qdrant+http": Case(5_000, 20_000),
    "chroma": Case(5_000, 20_000),
    "chroma+http": Case(5_000, 20_000),
    "milvus": Case(15_000, 30_000, 200, 100),  # from where a page is as large as it may be
    "milvus+http": Case(3_000, 15_000),
    "faiss": Case(10_000, 100_000),
    "usearch": Case(5_000, 20_000),
    "hnswlib": Case(5_000, 20_000),
    "vdf": Case(10_000, 100_000),
    "hdf5": Case(10_000, 100_000),
    "npy": Case(10_000, 100_000),
}
FILES: Final = {
    # Records that take at most 64 MiB are held from the first look on, which 10,000 here would and 100,000 hardly do.
    "parquet": (100_000, 200_000),
    "csv": (10_000, 30_000),  # each number is a text, and parsed one by one
    "jsonl": (10_000, 30_000),
    "npy": (100_000, 200_000),
    "hdf5": (10_000, 100_000),
    "vdf": (50_000, 150_000),
}
_INTO_A_SERVER_WITHOUT_ITS_INDEX: Final = "pgvector"
"""Building it is the server's and takes a minute; this process only waits."""


def peak(operation: str, place: str, rows: int) -> dict[str, int]:
    command = [sys.executable, "-m", "benchmarks.stores_memory_run", operation, place, str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    assert found["rows"] == rows
    return found


@contextmanager
def collection(kind: str, folder: Path) -> Iterator[str]:
    """The address of one that is not there yet."""
    folder.mkdir()
    if kind in _SERVICES:
        service = service_adapter(_SERVICES[kind]).make(str(folder), 0, {})
        try:
            yield service.start().with_collection("ours").text
        finally:
            service.stop()
    else:
        yield f"{kind}:{folder / 'files'}" + ("" if kind in _SINGLE else "#ours")


def report(benchmark: Any, what: str, found: dict[int, int], bare: dict[int, int], fails_above_mb: int) -> None:
    small, large = found
    growth, engine = found[large] - found[small], 0
    told: dict[str, Any] = {f"{what} {rows} rows": f"{megabytes} MB" for rows, megabytes in found.items()}
    if bare:
        engine = max(0, bare[large] - bare[small])
        told[f"{what} bare"] = ", ".join(f"{megabytes} MB" for megabytes in bare.values())
    beyond = growth - engine
    told[f"{what} growth_mb"] = growth
    told[f"{what} bytes_a_row"] = round(beyond * 2**20 / (large - small))
    told[f"{what} beyond_engine_mb"] = beyond
    told[f"{what} met"] = beyond <= GROWTH_AT_MOST_MB
    benchmark.extra_info.update(told)
    assert QUICK or beyond <= fails_above_mb, f"{what}: {beyond} MB more than the engine's own growth"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", list(STORES))
def test_peak_memory_of_a_store(benchmark: Any, tmp_path: Path, kind: str) -> None:
    case = STORES[kind]
    sizes = (500, 1_000) if QUICK else (case.small, case.large)
    found: dict[str, dict[int, int]] = {"load": {}, "read": {}, "bare load": {}, "bare read": {}}
    load = "fill" if kind == _INTO_A_SERVER_WITHOUT_ITS_INDEX else "load"

    def run() -> None:
        for rows in sizes:
            with collection(kind, tmp_path / str(rows)) as address:
                found["load"][rows] = peak(load, address, rows)["private_mb"]
                found["read"][rows] = peak("read", address, rows)["private_mb"]
            if kind in ENGINES:
                bare = tmp_path / f"bare{rows}"
                bare.mkdir()
                for name in ("load", "read"):
                    found[f"bare {name}"][rows] = peak(f"bare:{kind}:{name}", str(bare), rows)["private_mb"]

    benchmark.pedantic(run, rounds=1)
    report(benchmark, "load", found["load"], found["bare load"], case.load_fails_above_mb)
    report(benchmark, "read", found["read"], found["bare read"], case.read_fails_above_mb)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", list(SOURCES))
def test_peak_memory_of_reading_somebody_elses_files(benchmark: Any, tmp_path: Path, kind: str) -> None:
    found: dict[int, int] = {}

    def run() -> None:
        for rows in (500, 1_000) if QUICK else FILES[kind]:
            folder = tmp_path / str(rows)
            folder.mkdir()
            address = SOURCES[kind](folder, corpus.blocks(rows, 2_000), rows)
            found[rows] = peak("read", address, rows)["private_mb"]

    benchmark.pedantic(run, rounds=1)
    report(benchmark, "read", found, {}, GROWTH_AT_MOST_MB)
