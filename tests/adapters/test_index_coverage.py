"""What a store tells of how it answers: from an approximate index, or by comparing every vector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest
import qdrant_edge

from exitramp.ports import IndexCoverage, Origin, Query, SearchSettings
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp.testing import Row, batch_from_rows
from exitramp_adapters.stores.qdrant import engine_config
from exitramp_adapters.stores.qdrant.index import coverage, full_scans

FIELD = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 64)
ROWS = 2000


def matrix(rows: int, numbers: int = 64) -> Any:
    return np.random.default_rng(5).standard_normal((rows, numbers)).astype(np.float32)


def recall(search: Any, vectors: Any, queries: int = 30) -> float:
    """At the least effort that an index can be told to make."""
    found = 0.0
    for query in matrix(queries + len(vectors))[-queries:]:
        truth = {str(place) for place in np.argsort(-(vectors @ query))[:10]}
        hits = search.search(Query(dense=query), k=10, settings=SearchSettings(options={"hnsw_ef": 1}))
        found += len(truth & {key.id for key in hits.keys}) / 10
    return found / queries


def engine_collection(folder: Path, vectors: Any, **config: Any) -> None:
    """Made by the engine itself, its index built."""
    shard_folder = folder / "c"
    shard_folder.mkdir(parents=True)
    made = engine_config.edge_config({"": {"size": 64, "distance": "Dot"}}, {}, config)
    shard = qdrant_edge.EdgeShard.create(str(shard_folder), made)
    points = [qdrant_edge.Point(place, memoryview(row), {}) for place, row in enumerate(vectors)]
    shard.update(qdrant_edge.UpdateOperation.upsert_points(points))
    shard.optimize()
    shard.flush()
    shard.close()


def test_qdrant_without_an_index_is_exact_and_says_from_when_on_it_has_one(tmp_path: Path) -> None:
    spec = CollectionSpec("c", IdKind.UINT64, (FIELD,))
    store = open_store(f"qdrant:{tmp_path}/db#c")
    sink = store.sink()
    sink.create(spec, Origin(spec, "0"))
    sink.upsert(batch_from_rows([Row(str(i), vectors={"vector": row}) for i, row in enumerate(matrix(50))], spec))
    sink.flush()
    told = store.search().coverage()
    store.close()
    assert (told.indexed, told.compared, told.is_exact) == (0, 50, True)
    assert "10,000 KiB" in told.note


@pytest.mark.parametrize(
    ("full_scan", "exact"),
    [(10_000, True), (10, False)],
)
def test_an_index_that_qdrant_passes_over_is_not_called_one_that_answers(
    tmp_path: Path, full_scan: int, exact: bool
) -> None:
    """The engine counts every vector as indexed in both; only with the lower threshold does it miss any."""
    vectors = matrix(ROWS)
    engine_collection(
        tmp_path / "db",
        vectors,
        hnsw_config={"m": 4, "ef_construct": 4, "full_scan_threshold": full_scan},
        optimizers_config={"indexing_threshold": 100},
    )
    store = open_store(f"qdrant:{tmp_path}/db#c")
    told, found = store.search().coverage(), recall(store.search(), vectors)
    store.close()
    assert told.is_exact is exact
    assert (told.indexed, told.compared) == ((0, ROWS) if exact else (ROWS, 0))
    assert (found == 1.0) is exact, found


def test_chroma_answers_from_its_index_however_few_records_there_are(tmp_path: Path) -> None:
    """An index of the poorest settings misses some of 40: nothing is compared one by one."""
    client = chromadb.PersistentClient(str(tmp_path / "db"))
    poor = {"hnsw": {"space": "ip", "ef_construction": 2, "max_neighbors": 2, "ef_search": 1}}
    made = client.create_collection("c01", configuration=poor, embedding_function=None)
    vectors = matrix(40)
    made.add(ids=[str(place) for place in range(40)], embeddings=vectors)
    client.close()
    store = open_store(f"chroma:{tmp_path}/db#c01")
    search = store.search()
    found = [
        len({str(place) for place in np.argsort(-(vectors @ query))[:5]} & {key.id for key in hits.keys}) / 5
        for query in matrix(60)[-20:]
        if (hits := search.search(Query(dense=query), k=5))
    ]
    told = search.coverage()
    store.close()
    assert told == IndexCoverage(40, 0)
    assert np.mean(found) < 0.9


TITLE = VectorField("title", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 1000)
SMALL = VectorField("small", VectorKind.DENSE, DType.FLOAT16, Metric.DOT, 10)
LATE = VectorField("late", VectorKind.MULTI, DType.FLOAT32, Metric.DOT, 2)
WORDS = VectorField("words", VectorKind.SPARSE, DType.FLOAT32, Metric.DOT, None)


@pytest.mark.parametrize(
    ("fields", "points", "indexed", "told"),
    [
        ((TITLE,), 5000, 5000, (5000, 0)),
        ((TITLE,), 5000, 4000, (4000, 1000)),
        ((TITLE,), 5000, 5100, (5000, 0)),  # deleted ones are still counted
        ((TITLE,), 5000, 100, (0, 5000)),  # 400 KB: passed over
        ((TITLE, SMALL), 5000, 10_000, (10_000, 0)),  # nobody knows of which field they are
        ((SMALL,), 5000, 5000, (0, 5000)),
        ((LATE,), 5, 5, (5, 0)),  # of any number of vectors each
        ((TITLE, WORDS), 5000, 5000, (None, None)),  # the sparse ones are counted too
        ((TITLE, WORDS), 5000, 0, (0, 5000)),
    ],
)
def test_what_qdrants_counts_come_to(
    fields: tuple[VectorField, ...], points: int, indexed: int, told: tuple[int | None, int | None]
) -> None:
    usual = {field.name: 10_000 for field in fields}
    found = coverage(fields, points=points, indexed=indexed, full_scan=usual, indexing_threshold=None)
    assert (found.indexed, found.compared) == told


def test_the_threshold_of_a_field_is_its_own_else_that_of_the_collection() -> None:
    own = {"a": {"size": 2, "hnsw_config": {"full_scan_threshold": 7}}, "b": {"size": 2, "hnsw_config": {"m": 4}}}
    assert full_scans(own, {"full_scan_threshold": 5}) == {"a": 7, "b": 5}
    assert full_scans({"size": 2, "distance": "Dot"}, None) == {"": 10_000}
