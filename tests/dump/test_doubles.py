"""Doubles are found in bounded memory and named exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from exitramp.digests import LeafArray, id_leaves
from exitramp.dump.doubles import DoubleFinder, named_doubles, prefixes
from exitramp.records import RecordKey


def batch_of(ids: list[str], namespaces: list[str | None] | None = None) -> pa.RecordBatch:
    columns = {"id": pa.array(ids)}
    if namespaces is not None:
        columns["namespace"] = pa.array(namespaces, pa.string())
    return pa.RecordBatch.from_pydict(columns)


def found_among(batches: list[pa.RecordBatch], memory_rows: int) -> list[RecordKey]:
    leaves: list[tuple[pa.RecordBatch, LeafArray]] = [(batch, id_leaves(batch)) for batch in batches]
    with DoubleFinder(memory_rows=memory_rows) as finder:
        for _, some in leaves:
            finder.add(some)
        return named_doubles(leaves, finder.suspects())


@pytest.mark.parametrize("memory_rows", [10, 700, 1_000_000])
def test_doubles_are_found_in_memory_and_spilled_alike(memory_rows: int) -> None:
    batches = [batch_of([f"id-{number}" for number in range(begin, begin + 100)]) for begin in range(0, 2000, 100)]
    assert found_among(batches, memory_rows) == []
    batches.append(batch_of(["id-7", "id-1999", "new", "id-7"]))
    assert found_among(batches, memory_rows) == [RecordKey("id-1999"), RecordKey("id-7")]


def test_one_id_in_two_namespaces_is_two_records() -> None:
    one = batch_of(["a", "a", "a", "b"], [None, "", "t", None])
    assert found_among([one], 100) == []
    assert found_among([one, batch_of(["a"], ["t"])], 2) == [RecordKey("a", "t")]


def test_ids_that_only_share_a_prefix_of_their_leaf_are_no_doubles() -> None:
    batch = batch_of(["a", "b"])
    leaves = np.zeros((2, 32), dtype=np.uint8)
    with DoubleFinder() as finder:
        finder.add(leaves)
        suspects = finder.suspects()
    assert len(suspects) == 1
    assert named_doubles([(batch, leaves)], suspects) == []


def test_spilled_files_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    finder = DoubleFinder(memory_rows=5)
    finder.add(id_leaves(batch_of([str(number) for number in range(50)])))
    assert list(tmp_path.iterdir())
    finder.close()
    finder.close()
    assert not list(tmp_path.iterdir())


def test_a_flood_of_doubles_stays_within_bounds() -> None:
    ids = [str(number) for number in range(5000)]
    with DoubleFinder(memory_rows=1000) as finder:
        for _ in range(2):
            finder.add(id_leaves(batch_of(ids)))
        assert len(finder.suspects()) == 1000
    assert len(np.unique(prefixes(id_leaves(batch_of(ids))))) == 5000
