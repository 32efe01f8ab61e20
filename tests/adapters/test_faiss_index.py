"""What is made of a FAISS address: the index type, the collection, and how it is searched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pyarrow.parquet as pq
import pytest

from exitramp.errors import (
    AddressError,
    CollectionMissing,
    StoreRejected,
    UsageError,
)
from exitramp.filters import Eq
from exitramp.ports import Query, SearchSettings
from exitramp.records import DType, Metric
from exitramp.registry import open_store
from exitramp.testing import Row, run_suite
from exitramp.testing.conformance.steps import limits_of, origin_of, read, write
from exitramp.testing.within import spec_within
from tests.adapters.test_faiss import FaissHarness, made


def test_cosine_keeps_magnitudes_and_ranks_by_direction(tmp_path: Path) -> None:
    harness, _, rows = made(tmp_path, metric=Metric.COSINE)
    [row] = [row for row in harness.raw_read("articles") if row.id == rows[2].id]
    assert np.asarray(row.vectors["vector"]).tobytes() == np.asarray(rows[2].vectors["vector"]).tobytes()
    stored = faiss.read_index(str(harness.path("articles"))).reconstruct_n(0, len(rows))
    assert np.allclose(np.linalg.norm(stored, axis=1), 1, atol=1e-6)
    query = np.asarray(rows[2].vectors["vector"]) * 1000
    assert harness.open("articles").search().search(Query(dense=query), k=1).keys == (rows[2].key,)


def test_vectors_of_unit_length_stand_in_the_index_as_they_are_and_nowhere_else(tmp_path: Path) -> None:
    harness, spec, rows = made(tmp_path, metric=Metric.COSINE)

    def scaled(row: Row, factor: float) -> Row:
        vector = np.asarray(row.vectors["vector"], np.float32)
        vector /= np.linalg.norm(vector)
        return replace(row, vectors={"vector": vector * np.float32(factor)})

    units = [scaled(row, 1) for row in rows]
    for now, apart in ((units, False), ([scaled(rows[0], 1 + 2**-12), *units[1:]], True)):
        write(harness, spec, now)
        assert ("vector" in pq.read_schema(harness.side_car("articles")).names) is apart
        found = {row.key: np.asarray(row.vectors["vector"]).tobytes() for row in read(harness).rows}
        assert found == {row.key: np.asarray(row.vectors["vector"]).tobytes() for row in now}
    stored = faiss.read_index(str(harness.path("articles"))).reconstruct_n(0, len(rows))
    assert np.allclose(np.linalg.norm(stored, axis=1), 1, atol=1e-7)


@pytest.mark.parametrize(("factory", "type_name"), [("HNSW8,Flat", "IndexHNSWFlat"), ("IVF4,Flat", "IndexIVFFlat")])
def test_the_factory_decides_the_index_that_finish_builds(tmp_path: Path, factory: str, type_name: str) -> None:
    harness, spec, rows = made(tmp_path, rows=40, options=f"?factory={factory}")
    assert type(faiss.read_index(str(harness.path("articles")))).__name__ == type_name
    assert harness.open("articles").source().describe().index["type"] == type_name
    plain = FaissHarness(tmp_path)
    write(plain, spec, rows[:1])  # the file remembers it
    assert type(faiss.read_index(str(harness.path("articles")))).__name__ == type_name
    where = Eq(("number",), 7)
    hits = plain.open("articles").search().search(Query(dense=np.asarray(rows[0].vectors["vector"])), k=5, where=where)
    assert [key.id for key in hits.keys] == [rows[7].id]


def test_a_factory_with_more_lists_than_records_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only 6 records"):
        made(tmp_path, options="?factory=IVF64,Flat")


def test_an_index_of_several_lists_is_held_to_the_number_that_it_declares() -> None:
    """The suite's other tests have fewer records than such an index needs."""
    [outcome] = run_suite(
        lambda folder: FaissHarness(folder, "?factory=IVF8,Flat"),
        only=lambda name: name.startswith("test_as_many_records_as_an_index_needs"),
    )
    assert outcome.outcome == "passed", outcome


@pytest.mark.parametrize("factory", ["PQ8", "L2norm,Flat", "IVF0,Flat", "SQfp16", "Flat;rm"])
def test_factories_that_lose_something_are_refused(tmp_path: Path, factory: str) -> None:
    with pytest.raises(UsageError, match="none of Flat"):
        open_store(f"faiss:{tmp_path}/x.faiss?factory={factory}")


def test_search_options_are_the_index_types_own(tmp_path: Path) -> None:
    harness, _, rows = made(tmp_path, rows=40, options="?factory=HNSW8,Flat")
    query = Query(dense=np.asarray(rows[3].vectors["vector"]))
    search = harness.open("articles").search()
    assert len(search.search(query, k=40, settings=SearchSettings(options={"ef": 80})).keys) == 40
    with pytest.raises(UsageError, match="no search option 'nprobe'"):
        search.search(query, k=1, settings=SearchSettings(options={"nprobe": 8}))


def test_a_collection_that_does_not_fit_an_index_file_is_refused(tmp_path: Path) -> None:
    harness = FaissHarness(tmp_path)
    spec = spec_within(limits_of(harness), "articles")
    [field] = spec.vectors
    for vectors in ((), (field, replace(field, name="second")), (replace(field, dtype=DType.FLOAT64),)):
        with pytest.raises(StoreRejected):
            harness.open("articles").sink().create(replace(spec, vectors=vectors), origin_of(spec))
    assert not list(tmp_path.iterdir())


def test_an_option_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AddressError, match="no option 'metric'"):
        open_store(f"faiss:{tmp_path}/x.faiss?metric=cosine")


def test_the_collection_in_the_address_must_be_the_one_in_the_file(tmp_path: Path) -> None:
    harness, *_ = made(tmp_path)
    path = harness.path("articles")
    assert open_store(f"faiss:{path}#articles").source().count() == 6
    with pytest.raises(CollectionMissing, match="holds the collection 'articles'"):
        open_store(f"faiss:{path}#others").source().count()
