"""Chroma leaves the lists of a deleted collection behind, and gives them to records written later: not to ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest
from chromadb.config import Settings

from exitramp.ports import TransferAccount
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import open_store, service_adapter
from exitramp.testing import Row, batch_from_rows
from exitramp.testing.conformance.steps import origin_of
from exitramp.urls import Address
from exitramp_adapters.stores.chroma.leftovers import leftovers

FIELD = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.EUCLIDEAN, 4)
SPEC = CollectionSpec("articles", IdKind.STRING, (FIELD,), has_documents=True)
ROWS = 40


@pytest.fixture(name="chroma", params=["chroma", "chroma+http"])
def _chroma(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Address, Any]]:
    """The address of a store, and what makes a client of its own."""
    if request.param == "chroma":
        settings = Settings(anonymized_telemetry=False)
        yield Address.parse(f"chroma:{tmp_path / 'db'}"), lambda: chromadb.PersistentClient(tmp_path / "db", settings)
        return
    service = service_adapter("chroma-run").make(str(tmp_path / "server"), 0, {})
    address = service.start()
    try:
        yield address, lambda: chromadb.HttpClient(host="127.0.0.1", port=address.port or 0)
    finally:
        service.stop()


def haunt(client: Any, name: str = "old-ones") -> None:
    """A collection with lists, made and deleted as an application would."""
    found = client.create_collection(name)
    ids = [f"old-{number}" for number in range(2 * ROWS)]
    found.add(ids=ids, embeddings=np.ones((len(ids), 4)), metadatas=[{"tags": ["old"], "ghost": [1, 2]}] * len(ids))
    client.delete_collection(name)


def rows(first: int, count: int) -> list[Row]:
    """Every second record has a list under a key that the deleted ones had too."""
    return [
        Row(f"new-{number}", None, None, {"n": number, **({"tags": ["new"]} if number % 2 else {})}, _vector(number))
        for number in range(first, first + count)
    ]


def _vector(number: int) -> dict[str, Any]:
    return {"vector": np.full(4, number + 1, np.float32)}


def write(address: Address, batches: list[list[Row]]) -> None:
    store = open_store(address.with_collection("articles"))
    sink = store.sink()
    sink.create(SPEC, origin_of(SPEC))
    for batch in batches:
        sink.upsert(batch_from_rows(batch, SPEC))
    sink.flush()
    sink.finish(TransferAccount())
    store.close()


def read(client: Any) -> dict[str, Any]:
    found = client.get_collection("articles").get(include=["metadatas"])
    return dict(zip(found["ids"], found["metadatas"], strict=True))


def wanted(found: list[Row]) -> dict[str, Any]:
    return {row.id: row.payload for row in found}


def test_chroma_still_does_it(chroma: tuple[Address, Any]) -> None:
    """If this fails, Chroma has been mended, and what this page tests can go."""
    _, client = chroma
    haunt(client())
    found = client().create_collection("articles")
    found.add(ids=["a"], embeddings=np.ones((1, 4)), metadatas=[{"n": 1}])
    assert read(client())["a"] == {"n": 1, "tags": ["old"], "ghost": [1, 2]}


def test_nothing_of_a_deleted_collection_turns_up_in_what_is_written(chroma: tuple[Address, Any]) -> None:
    address, client = chroma
    haunt(client())
    write(address, [rows(0, ROWS), rows(ROWS, ROWS)])
    assert read(client()) == wanted(rows(0, 2 * ROWS))


def test_nor_in_records_among_others_that_are_replaced(chroma: tuple[Address, Any]) -> None:
    address, client = chroma
    write(address, [rows(0, 10)])
    haunt(client())
    write(address, [rows(5, ROWS)])
    assert read(client()) == wanted(rows(0, 5 + ROWS))


def test_what_is_dropped_here_leaves_nothing_behind(chroma: tuple[Address, Any]) -> None:
    address, client = chroma
    write(address, [rows(0, ROWS)])
    store = open_store(address.with_collection("articles"))
    store.drop()  # type: ignore[attr-defined]
    store.close()
    assert [each.name for each in client().list_collections()] == []
    found = client().create_collection("articles")
    found.add(ids=["a"], embeddings=np.ones((1, 4)), metadatas=[{"n": 1}])
    assert read(client()) == {"a": {"n": 1}}


def test_files_tell_whether_something_is_left(tmp_path: Path) -> None:
    assert leftovers(tmp_path)  # nothing can be told of what is not there
    client = chromadb.PersistentClient(str(tmp_path))
    assert not leftovers(tmp_path)
    haunt(client)
    assert leftovers(tmp_path)
