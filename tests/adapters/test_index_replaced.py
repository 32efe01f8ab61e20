"""Index files that somebody replaces while they are read, and files larger than any memory."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exitramp.errors import IntegrityError
from exitramp.ports import Origin, Partition, side_car
from exitramp.ports.index_bytes import hash_file
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp.testing import Row, batch_from_rows
from exitramp.urls import Address, Network

FIELD = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.EUCLIDEAN, 4)
SPEC = CollectionSpec("own", IdKind.STRING, (FIELD,))


def written(path: Path, scheme: str, state: int) -> None:
    sink = open_store(Address.parse(f"{scheme}:{path}"), Network()).sink()
    sink.create(SPEC, Origin(SPEC, "1"))
    numbers = np.full(4, state, np.float32)
    sink.upsert(batch_from_rows([Row("r", payload={"state": state}, vectors={"vector": numbers})], SPEC))
    sink.flush()


def between(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Act when a side-car's description was read and its table was not."""
    columns: Any = vars(side_car)["read_columns"]

    def acted(path: Path) -> Any:
        act()
        return columns(path)

    monkeypatch.setattr(side_car, "read_columns", acted)


@pytest.mark.parametrize("scheme", ["faiss", "usearch", "hnswlib"])
@pytest.mark.parametrize("times", [1, 50])
def test_records_never_stand_beside_the_vectors_of_another_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, times: int
) -> None:
    states = [tmp_path / f"state-{state}" for state in (1, 2)]
    for state, path in enumerate(states, 1):
        written(path, scheme, state)
    path = tmp_path / "x"
    hashed = vars(side_car)["hash_file"]
    done: list[Any] = []
    read: list[None] = []

    def put(state: int) -> None:
        for name in ("", ".exitramp"):
            new = tmp_path / "new"
            new.write_bytes((tmp_path / f"state-{state}{name}").read_bytes())
            new.replace(tmp_path / f"x{name}")

    def hashing(*given: Any) -> Any:
        done.append(hashed(*given))
        return done[-1]

    def replace() -> None:
        deadline = time.monotonic() + 20
        while len(done) <= len(read) and time.monotonic() < deadline:  # the index is hashed on a thread of its own
            pass
        read.append(None)
        if len(read) <= times:
            put(1 + len(read) % 2)

    put(1)
    monkeypatch.setattr(side_car, "hash_file", hashing)
    between(monkeypatch, replace)
    store = open_store(Address.parse(f"{scheme}:{path}"), Network())
    if times > 1:
        with pytest.raises(IntegrityError):
            store.source().describe()
        return
    [page] = store.source().scan(Partition(), batch_rows=10)
    assert page.batch.column("payload").to_pylist() == ['{"state":2}']
    assert page.batch.column("vector").to_pylist() == [[2.0] * 4]


def test_a_file_for_which_there_is_no_memory_is_hashed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"few")

    class Huge:
        st_size = 2**62

    monkeypatch.setattr(os, "fstat", lambda handle: Huge())
    found = hash_file(path, lambda head: 0)
    assert (found.sha256, found.data) == (hashlib.sha256(b"few").hexdigest(), None)
