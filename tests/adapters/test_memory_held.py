"""What adapters hold of a collection while they read or write it: bytes and copies are counted, nothing is timed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exitramp.ports import Origin, TransferAccount
from exitramp.ports.side_car import read_side_car, side_car_path
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp.testing import Row, batch_from_rows
from exitramp_adapters.stores import hnswlib
from exitramp_adapters.stores.files.formats import CsvRows
from exitramp_adapters.stores.usearch import graph

FIELD = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 8)
SPEC = CollectionSpec("x", IdKind.STRING, (FIELD,))
MIB = 2**20


def rows_from(first: int, count: int) -> pa.RecordBatch:
    vectors = np.random.default_rng(first).standard_normal((count, 8), np.float32)
    return batch_from_rows(
        [
            Row(f"r{first + row:06d}", payload={"n": first + row}, vectors={"vector": vectors[row]})
            for row in range(count)
        ],
        SPEC,
    )


def test_csv_is_not_read_ahead_by_much_more_than_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    line = "x" * 99_990 + "\n"
    with path.open("w") as file:
        file.write("id,text\n")
        file.writelines(f"r{row},{line}" for row in range(1000))
    before, most, rows = pa.total_allocated_bytes(), 0, 0
    for chunk in CsvRows(path).chunks([]):
        rows += chunk.rows
        most = max(most, pa.total_allocated_bytes() - before)
    assert rows == 1000
    assert most < 60 * MIB < path.stat().st_size


def test_a_row_of_csv_that_is_longer_than_what_is_read_ahead_comes_once_and_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    texts = ["x" * (3 * MIB if row == 70 else 40_000) for row in range(100)]
    path.write_text("id,text\n" + "".join(f"r{row},{text}\n" for row, text in enumerate(texts)))
    file = CsvRows(path)
    for skip in (0, 60, 90):
        found = [
            (chunk.first + row, id_, len(text))
            for chunk in file.chunks([], skip)
            for row, (id_, text) in enumerate(
                zip(chunk.columns["id"].to_pylist(), chunk.columns["text"].to_pylist(), strict=True)
            )
        ]
        assert found == [(row, f"r{row}", len(texts[row])) for row in range(skip, 100)]


def test_lancedb_is_told_how_much_to_read_ahead_before_it_is_loaded(tmp_path: Path) -> None:
    """Its own 2 GiB are all of most tables. What a user has said stays."""
    code = (
        "import os, sys\n"
        "from exitramp.registry import open_store\n"
        "store = open_store(sys.argv[1])\n"
        "assert 'lancedb' not in sys.modules\n"
        "store.database()\n"
        "print(os.environ['LANCE_DEFAULT_IO_BUFFER_SIZE'])\n"
    )
    for said, wanted in ((None, 32 * MIB), ("5000000", 5_000_000)):
        environment = {"PATH": "/usr/bin"} | ({} if said is None else {"LANCE_DEFAULT_IO_BUFFER_SIZE": said})
        command = [sys.executable, "-c", code, f"lancedb:{tmp_path}#t"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        assert int(done.stdout) == wanted


@pytest.mark.parametrize("add", [hnswlib._added, graph.added])
def test_vectors_are_put_into_a_graph_some_at_a_time(add: Callable[..., Any]) -> None:
    """What is put in is copied for the library: all of a collection at once would be there twice."""
    counts: list[int] = []
    labels: list[int] = []

    def added(first: Any, second: Any, **_: Any) -> None:
        vectors, some = (first, second) if first.ndim == 2 else (second, first)
        counts.append(len(vectors))
        labels.extend(some.tolist())

    held: Any = SimpleNamespace(matrix=np.ones((9000, 8), np.float32), labels=np.arange(9000), field=FIELD)
    add(SimpleNamespace(add=added, add_items=added), held, np.arange(9000))
    assert labels == list(range(9000))
    assert max(counts) <= 4096


@pytest.fixture(name="address")
def _address(tmp_path: Path) -> str:
    """10,000 records under cosine, whose originals the side-car keeps."""
    address = f"hnswlib:{tmp_path / 'x.bin'}?M=4&ef_construction=8"
    store = open_store(address)
    sink = store.sink()
    sink.create(SPEC, Origin(SPEC, "test"))
    sink.upsert(rows_from(0, 10_000))
    sink.finish(TransferAccount())
    store.close()
    return address


def test_originals_in_a_side_car_are_encoded_and_decoded_by_groups(address: str) -> None:
    path = open_store(address).path  # type: ignore[attr-defined]
    with pq.ParquetFile(side_car_path(path)) as file:
        assert max(file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)) <= 4096
    told = read_side_car(path)
    assert told is not None
    assert isinstance(told.columns.originals, np.ndarray)  # in one piece, which nobody has to join


def test_originals_are_held_once(address: str) -> None:
    held = open_store(address).opened().held  # type: ignore[attr-defined]
    assert np.shares_memory(held.matrix, held.content.matrix)
