"""Index files read from bytes that were hashed before: as their libraries read them, and damaged ones."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow  # noqa: F401  before usearch, whose C++ runtime spoils Arrow's otherwise
import pytest
from usearch.index import Index

from exitramp.errors import IntegrityError
from exitramp.ports import DEFAULT_SETTINGS, Query
from exitramp.ports.index_bytes import hash_file
from exitramp.records import DType, Metric, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp.testing.conformance.steps import limits_of, read, refusal, write
from exitramp.testing.within import rows_within, spec_within
from exitramp_adapters.stores.faiss.index import flat_in, index_in, read_rows, vectors_at
from exitramp_adapters.stores.usearch.in_bytes import VECTORS_AT, Lazy, parsed
from tests.adapters.side_car_harness import numpy_type
from tests.adapters.test_faiss import FaissHarness
from tests.adapters.test_usearch import METRICS, SCALARS, UsearchHarness


def vectors_of(dtype: DType, metric: Metric, rows: int, dimensions: int) -> Any:
    field = VectorField("", VectorKind.DENSE, dtype, metric, dimensions)
    numbers = np.random.default_rng(rows + dimensions).integers(-100, 100, (rows, field.item_count))
    return (numbers + 100 if dtype is DType.BINARY else numbers).astype(numpy_type(field))


@pytest.mark.parametrize("at", [None, 0, 8, 45, 49])
@pytest.mark.parametrize("size", [0, 1, 63, 2**20, 3 * 2**20 + 5])
def test_a_file_is_hashed_and_given_as_it_stands(tmp_path: Path, size: int, at: int | None) -> None:
    content = random.Random(size).randbytes(size)
    path = tmp_path / "x"
    path.write_bytes(content)
    heads: list[bytes] = []
    found = hash_file(path, lambda head: heads.append(head) or at)  # type: ignore[func-returns-value]
    assert (found.sha256, heads) == (hashlib.sha256(content).hexdigest(), [content[:64]])
    assert (found.data is None) == (at is None)
    if found.data is not None:
        assert found.data.tobytes() == content
        assert not found.data.flags.writeable
        assert not content or (found.data.ctypes.data + (at or 0)) % 64 == 0


@pytest.mark.parametrize("metric", [faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2, faiss.METRIC_L1])
@pytest.mark.parametrize(("rows", "dimensions"), [(0, 4), (1, 1), (7, 5), (300, 24)])
def test_a_flat_index_in_bytes_is_the_one_in_the_file(tmp_path: Path, metric: int, rows: int, dimensions: int) -> None:
    matrix = np.random.default_rng(rows).standard_normal((rows, dimensions), dtype=np.float32)
    index = faiss.index_factory(dimensions, "Flat", metric)
    index.add(matrix)
    path = tmp_path / "x.faiss"
    faiss.write_index(index, str(path))
    data = hash_file(path, vectors_at).data
    assert data is not None
    inside = index_in(path, data)
    found = read_rows(path, inside, reconstructs=False)
    assert (type(inside), inside.metric_type, inside.ntotal) == (type(faiss.read_index(str(path))), metric, rows)
    assert found.matrix.tobytes() == matrix.tobytes()
    own = flat_in(data, found.matrix)
    if rows:
        assert own is not None
        assert own.tobytes() == matrix.tobytes()
        assert (own.ctypes.data, own.ctypes.data % 64) == (found.matrix.ctypes.data, 0)
        for each, expected in zip(inside.search(matrix[:1], 3), index.search(matrix[:1], 3), strict=True):
            assert np.array_equal(each, expected)


@pytest.mark.parametrize("factory", ["HNSW8,Flat", "IVF2,Flat", "IDMap,Flat", "PQ4"])
def test_other_faiss_indexes_are_left_to_faiss(tmp_path: Path, factory: str) -> None:
    index = faiss.index_factory(8, factory)
    path = tmp_path / "x.faiss"
    faiss.write_index(index, str(path))
    assert hash_file(path, vectors_at).data is None


PAIRS = [(dtype, metric) for dtype in SCALARS for metric in METRICS]
PAIRS = [(dtype, metric) for dtype, metric in PAIRS if (dtype is DType.BINARY) == (metric is Metric.HAMMING)]


@pytest.mark.parametrize(("dtype", "metric"), PAIRS)
@pytest.mark.parametrize(("rows", "dimensions", "connectivity", "removed"), [(1, 8, 16, 0), (400, 24, 3, 90)])
def test_usearch_bytes_hold_what_usearch_gives(
    tmp_path: Path, dtype: DType, metric: Metric, rows: int, dimensions: int, connectivity: int, removed: int
) -> None:
    matrix = vectors_of(dtype, metric, rows, dimensions)
    index = Index(ndim=dimensions, metric=METRICS[metric], dtype=SCALARS[dtype], connectivity=connectivity)
    keys = np.random.default_rng(1).permutation(rows).astype(np.uint64) * 5 + 2**40
    index.add(keys, matrix, dtype=SCALARS[dtype])
    if removed:
        index.remove(keys[:removed])
    path = tmp_path / "x.usearch"
    index.save(path)
    data = hash_file(path, lambda _: VECTORS_AT).data
    assert data is not None
    found = parsed(data)
    assert found is not None
    assert sorted(found.keys.tolist()) == sorted(keys[removed:].tolist())
    given = Index.restore(path).get(found.keys)
    assert found.vectors.tobytes() == b"".join(np.ascontiguousarray(each).tobytes() for each in given)
    head = Index.metadata(path)
    assert (found.metric, found.scalar) == (head["kind_metric"].value, head["kind_scalar"].value)
    assert (found.dimensions, found.version) == (head["dimensions"], head["version"])
    assert (found.deleted, found.connectivity) == (head["count_deleted"], connectivity)
    lazy = Lazy(lambda: Index(ndim=dimensions, metric=METRICS[metric], dtype=SCALARS[dtype]), data)
    for vector in matrix[:5]:
        ours = lazy.index.search(vector, 3, dtype=SCALARS[dtype])
        assert ours.keys.tolist() == index.search(vector, 3, dtype=SCALARS[dtype]).keys.tolist()


def test_usearch_files_of_another_kind_are_left_to_usearch(tmp_path: Path) -> None:
    multi = Index(ndim=4, multi=True)
    multi.add(np.array([1, 1, 2], np.uint64), np.eye(4, dtype=np.float32)[:3])
    for index in (multi, Index(ndim=4)):
        index.save(tmp_path / "x")
        assert parsed(np.fromfile(tmp_path / "x", np.uint8)) is None


def test_damaged_usearch_bytes_lead_nowhere_beyond_them(tmp_path: Path) -> None:
    """They are never given to it unhashed; should they be, it ends with fewer vectors or none."""
    index = Index(ndim=4, connectivity=4)
    index.add(np.arange(40, dtype=np.uint64), np.random.default_rng(1).standard_normal((40, 4), dtype=np.float32))
    index.save(tmp_path / "x")
    whole = (tmp_path / "x").read_bytes()
    chance = random.Random(1)
    damaged = [whole[:size] for size in range(0, len(whole), 7)] + [whole + b"\0", b"\xff" * len(whole)]
    for place in range(len(whole)):
        for changed in {whole[place] ^ 1, whole[place] ^ 0x80, 0xFF, chance.randrange(256)} - {whole[place]}:
            damaged.append(whole[:place] + bytes([changed]) + whole[place + 1 :])
    head = 8 + 40 * 16
    damaged += [whole[:head] + chance.randbytes(104) + whole[head + 104 :] for _ in range(300)]
    damaged += [whole[: head + 64] + b"\xff" * length + whole[head + 64 + length :] for length in range(1, 140)]
    for each in damaged:
        found = parsed(np.frombuffer(each, np.uint8))
        assert found is None or (found.vectors.shape[0] == len(found.keys) <= 40)


@pytest.mark.parametrize("harness_type", [FaissHarness, UsearchHarness])
def test_a_damaged_index_is_refused_in_the_same_words_wherever_it_is_damaged(tmp_path: Path, harness_type: Any) -> None:
    harness = harness_type(tmp_path)
    spec = spec_within(limits_of(harness), "articles", pair=(DType.FLOAT32, Metric.DOT))
    write(harness, spec, rows_within(spec, limits_of(harness), 20, 3))
    path = harness.path("articles")
    whole, chance = path.read_bytes(), random.Random(3)
    places = [*range(64), *range(len(whole) - 64, len(whole)), *chance.sample(range(len(whole)), 60)]
    damaged = [whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :] for place in places]
    damaged += [whole[: chance.randrange(len(whole))] for _ in range(40)] + [b"", whole + b"\0"]
    for each in damaged:
        path.write_bytes(each)
        error = refusal(lambda: read(harness, "articles"))
        assert isinstance(error, IntegrityError)
        assert "belongs to another index" in str(error)
    path.write_bytes(whole)
    assert len(read(harness, "articles").rows) == 20


@pytest.mark.parametrize("harness_type", [FaissHarness, UsearchHarness])
def test_a_file_that_is_replaced_after_it_was_read_does_not_change_what_was_read(
    tmp_path: Path, harness_type: Any
) -> None:
    """Neither what is still to be read of it nor its index, which is made of the bytes that were hashed."""
    harness = harness_type(tmp_path)
    spec = spec_within(limits_of(harness), "articles", pair=(DType.FLOAT32, Metric.DOT))
    rows = rows_within(spec, limits_of(harness), 20, 3)
    write(harness, spec, rows)
    path = harness.path("articles")
    store = open_store(harness.address("articles"))
    held: Any = store.opened().held  # type: ignore[attr-defined]
    before = held.matrix.tobytes()
    path.write_bytes(b"\xff" * path.stat().st_size)  # in place
    assert held.matrix.tobytes() == before
    vector = np.asarray(rows[0].vectors["vector"])
    scores, _ = store.engine.ask(held, vector, 20, None, DEFAULT_SETTINGS)  # type: ignore[attr-defined]
    assert len(scores) == 20
    error = refusal(lambda: store.search().search(Query(dense=vector), k=3))
    assert isinstance(error, IntegrityError)
    store.close()
