"""FAISS indexes that somebody else made: what of them can be read, under which ids, and what is refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pytest

from exitramp.errors import (
    CollectionExists,
    DataInvalid,
    IntegrityError,
    UsageError,
)
from exitramp.ports import Partition, Query, SearchSettings
from exitramp.records import IdKind, Metric
from exitramp.registry import open_store
from exitramp.testing.conformance.steps import origin_of, pages
from tests.adapters.test_faiss import METRICS, numbers


def all_rows(path: Path) -> dict[str, Any]:
    store = open_store(f"faiss:{path}")
    source = store.source()
    batches = [page.batch for page in pages(source, Partition(), 7)]
    store.close()
    table = pa.Table.from_batches(batches)
    return dict(zip(table.column("id").to_pylist(), table.column("vector").to_pylist(), strict=True))


@pytest.mark.parametrize("factory", ["Flat", "HNSW8,Flat", "IVF4,Flat"])
@pytest.mark.parametrize("metric", [Metric.EUCLIDEAN, Metric.DOT])
def test_an_index_without_a_side_car_is_read_with_row_numbers_as_ids(
    tmp_path: Path, factory: str, metric: Metric
) -> None:
    path, matrix = tmp_path / "bare.faiss", numbers()
    index = faiss.index_factory(8, factory, METRICS[metric.value])
    index.train(matrix)
    index.add(matrix)
    faiss.write_index(index, str(path))
    store = open_store(f"faiss:{path}")
    spec = store.source().describe()
    assert (spec.name, spec.id_kind, spec.vectors[0].metric) == ("bare", IdKind.INT64, metric)
    assert store.source().origin() is None
    [page] = pages(store.source(), Partition(), 100)
    assert page.batch.column("payload").null_count == 20
    found = all_rows(path)
    assert {id_: np.array(vector, np.float32).tobytes() for id_, vector in found.items()} == {
        str(row): matrix[row].tobytes() for row in range(20)
    }
    hits = store.search().search(Query(dense=matrix[3]), k=3, settings=SearchSettings(exact=True))
    if metric is Metric.EUCLIDEAN:
        assert hits.keys[0].id == "3"
    assert len(hits.keys) == 3


@pytest.mark.parametrize("factory", ["IDMap,Flat", "IDMap2,Flat", "IDMap,HNSW8,Flat", "IVF4,Flat", "IDMap,IVF4,Flat"])
def test_the_ids_of_an_index_are_kept(tmp_path: Path, factory: str) -> None:
    path, matrix = tmp_path / "mapped.faiss", numbers()
    ids = np.arange(20) * 1_000_003 - 7_000_000
    index = faiss.index_factory(8, factory, faiss.METRIC_L2)
    index.train(matrix)
    index.add_with_ids(matrix, ids)
    faiss.write_index(index, str(path))
    found = all_rows(path)
    assert set(found) == {str(id_) for id_ in ids.tolist()}
    for row, id_ in enumerate(ids.tolist()):
        assert np.array(found[str(id_)], np.float32).tobytes() == matrix[row].tobytes()
    store = open_store(f"faiss:{path}")
    assert store.search().search(Query(dense=matrix[4]), k=1).keys[0].id == str(ids[4])


def test_negative_ids_are_found_and_the_id_minus_one_is_read_but_not_searched(tmp_path: Path) -> None:
    """FAISS writes -1 where it found nothing, so that an inverted file never returns a record of that id."""
    path, matrix = tmp_path / "minus.faiss", numbers(5)
    for ids, searched in (([-5, -2, 0, 1, 2], True), ([-1, -2, 0, 1, 2], False)):
        index = faiss.index_factory(8, "IVF1,Flat", faiss.METRIC_L2)
        index.train(matrix)
        index.add_with_ids(matrix, np.array(ids))
        faiss.write_index(index, str(path))
        assert set(all_rows(path)) == {str(id_) for id_ in ids}
        search = open_store(f"faiss:{path}").search()
        if searched:
            assert search.search(Query(dense=matrix[0]), k=9).keys[0].id == "-5"
        else:
            with pytest.raises(UsageError, match="id -1"):
                search.search(Query(dense=matrix[0]), k=1)


def test_an_id_that_stands_in_an_index_twice_is_named(tmp_path: Path) -> None:
    index = faiss.index_factory(8, "IDMap,Flat")
    index.add_with_ids(numbers(3), np.array([1, 42, 42]))
    faiss.write_index(index, str(tmp_path / "double.faiss"))
    with pytest.raises(DataInvalid, match="id 42 more than once"):
        open_store(f"faiss:{tmp_path / 'double.faiss'}").source().describe()


@pytest.mark.parametrize(
    ("factory", "named"),
    [
        ("PQ4x4", "IndexPQ"),
        ("IVF4,PQ4x4", "IndexIVFPQ"),
        ("SQ8", "IndexScalarQuantizer"),
        ("IVF4,SQ8", "IndexIVFScalarQuantizer"),
        ("HNSW8_SQ8", "IndexHNSWSQ"),
        ("L2norm,Flat", "IndexPreTransform"),
        ("PCA4,Flat", "IndexPreTransform"),
        ("LSH", "IndexLSH"),
        ("IDMap,SQ8", "IndexScalarQuantizer"),
        ("Flat,Refine(Flat)", "IndexRefine"),
    ],
)
def test_an_index_that_does_not_keep_vectors_as_they_were_is_refused_by_name(
    tmp_path: Path, factory: str, named: str
) -> None:
    path, matrix = tmp_path / "lossy.faiss", numbers(200)
    index = faiss.index_factory(8, factory, faiss.METRIC_L2)
    index.train(matrix)
    if factory.startswith("IDMap"):
        index.add_with_ids(matrix, np.arange(200))
    else:
        index.add(matrix)
    faiss.write_index(index, str(path))
    with pytest.raises(DataInvalid, match=named) as caught:
        open_store(f"faiss:{path}").source().describe()
    assert caught.value.hint is not None


def test_a_metric_without_a_counterpart_is_refused(tmp_path: Path) -> None:
    index = faiss.IndexFlat(8, faiss.METRIC_Canberra)
    index.add(numbers())
    faiss.write_index(index, str(tmp_path / "odd.faiss"))
    with pytest.raises(DataInvalid, match="metric type"):
        open_store(f"faiss:{tmp_path / 'odd.faiss'}").source().describe()


def test_a_binary_index_is_refused_by_name(tmp_path: Path) -> None:
    index = faiss.IndexBinaryFlat(64)
    index.add(np.zeros((2, 8), np.uint8))
    faiss.write_index_binary(index, str(tmp_path / "bits.faiss"))
    with pytest.raises(DataInvalid, match="binary index"):
        open_store(f"faiss:{tmp_path / 'bits.faiss'}").source().describe()


@pytest.mark.parametrize("content", [b"", b"no index at all", "half"])
def test_a_file_that_is_no_index_is_named(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "broken.faiss"
    index = faiss.IndexFlatL2(8)
    index.add(numbers())
    faiss.write_index(index, str(path))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if isinstance(content, str) else content)
    with pytest.raises(IntegrityError, match=r"broken\.faiss"):
        open_store(f"faiss:{path}").source().count()


def test_an_index_that_exitramp_did_not_make_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "theirs.faiss"
    index = faiss.IndexFlatL2(16)
    index.add(numbers(4, 16))
    faiss.write_index(index, str(path))
    before = path.read_bytes()
    store = open_store(f"faiss:{path}")
    spec = replace(store.source().describe(), id_kind=IdKind.STRING)
    with pytest.raises(CollectionExists, match="side-car"):
        store.sink().create(spec, origin_of(spec))
    with pytest.raises(CollectionExists, match="side-car"):
        store.sink().delete([])
    assert path.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["theirs.faiss"]
