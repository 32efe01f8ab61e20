"""FAISS indexes that keep vectors only roughly: read where the address accepts it, with a finding that says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from exitramp.errors import DataInvalid, UsageError
from exitramp.ports import IndexCoverage, Partition, Query, SearchSettings
from exitramp.records import Metric
from exitramp.registry import open_store
from exitramp.testing.conformance.steps import pages
from tests.adapters.test_faiss import METRICS, numbers

ROUGH = (
    *("PQ4x4", "IVF4,PQ4x4", "SQ8", "SQfp16", "IVF4,SQ8", "HNSW8_SQ8", "HNSW8_PQ4x4", "L2norm,Flat", "PCA4,Flat"),
    *("OPQ4_8,IVF4,PQ4x4", "IDMap,SQ8", "IDMap,PQ4x4", "PQ4x4fs"),
)


def made(path: Path, factory: str, metric: Metric = Metric.EUCLIDEAN) -> tuple[Any, np.ndarray[Any, Any], list[str]]:
    """An index of 200 rows in a file; what it makes of its codes, and its ids."""
    matrix = numbers(200)
    index = faiss.index_factory(8, factory, METRICS[metric.value])
    index.train(numbers(600))
    ids = np.arange(200) * 7 + 1000 if factory.startswith("IDMap") else np.arange(200)
    index.add_with_ids(matrix, ids) if factory.startswith("IDMap") else index.add(matrix)
    faiss.write_index(index, str(path))
    return index, matrix, [str(each) for each in ids]


@pytest.mark.parametrize("factory", ROUGH)
def test_an_approximation_is_read_where_the_address_accepts_it_and_a_finding_says_what_it_is(
    tmp_path: Path, factory: str
) -> None:
    path = tmp_path / "rough.faiss"
    index, matrix, ids = made(path, factory)
    with pytest.raises(DataInvalid, match="cannot be read") as caught:
        open_store(f"faiss:{path}").source().describe()
    assert "?lossy=reconstruct" in (caught.value.hint or "")
    source = open_store(f"faiss:{path}?lossy=reconstruct").source()
    [page] = pages(source, Partition(), 500)
    read = dict(zip(page.batch.column("id").to_pylist(), page.batch.column("vector").to_pylist(), strict=True))
    assert set(read) == set(ids)
    vectors = np.array([read[id_] for id_ in ids], np.float32)
    assert np.abs(vectors - matrix).mean() < np.abs(matrix).mean(), "no approximation at all"
    if factory in ("PQ4x4", "SQ8", "L2norm,Flat"):
        assert vectors.tobytes() == index.reconstruct_n(0, 200).tobytes()
    [told] = [each for each in source.identity().findings if each.code == "source.approximate_vectors"]
    assert type(faiss.downcast_index(index.index) if "IDMap" in factory else index).__name__ in told.message
    assert "approximation" in told.message
    assert source.describe().index["type"] == type(index).__name__


def test_what_is_exact_is_read_as_before_and_no_finding_calls_it_rough(tmp_path: Path) -> None:
    path = tmp_path / "exact.faiss"
    _, matrix, _ = made(path, "IVF4,Flat")
    source = open_store(f"faiss:{path}?lossy=reconstruct").source()
    assert {each.code for each in source.identity().findings} == {"source.no_side_car"}
    [page] = pages(source, Partition(), 500)
    read = dict(zip(page.batch.column("id").to_pylist(), page.batch.column("vector").to_pylist(), strict=True))
    assert np.array([read[str(row)] for row in range(200)], np.float32).tobytes() == matrix.tobytes()


def test_hashes_are_no_approximation(tmp_path: Path) -> None:
    path = tmp_path / "hashes.faiss"
    made(path, "LSH")
    with pytest.raises(DataInvalid, match="IndexLSH") as caught:
        open_store(f"faiss:{path}?lossy=reconstruct").source().describe()
    assert "lossy" not in (caught.value.hint or "")


@pytest.mark.parametrize("factory", ["PQ4x4", "IVF4,PQ4x4", "HNSW8_SQ8", "IDMap,SQ8", "OPQ4_8,IVF4,PQ4x4"])
@pytest.mark.parametrize("metric", [Metric.EUCLIDEAN, Metric.DOT])
def test_a_rough_index_answers_and_exact_compares_what_it_gave_back(
    tmp_path: Path, factory: str, metric: Metric
) -> None:
    path = tmp_path / "rough.faiss"
    _, matrix, ids = made(path, factory, metric)
    store = open_store(f"faiss:{path}?lossy=reconstruct")
    search = store.search()
    assert search.coverage() == IndexCoverage(200, 0)
    [page] = pages(store.source(), Partition(), 500)
    vectors = np.array(page.batch.column("vector").to_pylist(), np.float64)
    query = matrix[5].astype(np.float64)
    scores = vectors @ query if metric is Metric.DOT else -((vectors - query) ** 2).sum(axis=1)
    best = [page.batch.column("id")[int(place)].as_py() for place in np.argsort(-scores)[:200]]
    exact = search.search(Query(dense=matrix[5]), k=5, settings=SearchSettings(exact=True))
    assert np.sign(exact.scores[0] - exact.scores[4]) == (1 if metric is Metric.DOT else -1)
    worst = scores[[page.batch.column("id").to_pylist().index(best[4])]][0]
    found = {key.id for key in exact.keys}
    assert all(scores[page.batch.column("id").to_pylist().index(id_)] >= worst - 1e-5 for id_ in found)
    assert len(search.search(Query(dense=matrix[5]), k=5).keys) == 5
    assert {key.id for key in search.search(Query(dense=matrix[5]), k=200).keys} == set(ids)


def test_only_one_word_accepts_an_approximation(tmp_path: Path) -> None:
    for word in ("yes", "", "true"):
        with pytest.raises(UsageError, match="lossy is 'reconstruct'"):
            open_store(f"faiss:{tmp_path}/x.faiss?lossy={word}")
