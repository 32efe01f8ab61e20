"""usearch indexes that somebody else made: each dtype as it is kept, several vectors for a key, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from usearch.index import Index, MetricKind

from exitramp.errors import CollectionExists, DataInvalid, IntegrityError, UsageError
from exitramp.ports import IndexCoverage, Partition, Query, SearchSettings
from exitramp.records import DType, IdKind, Metric, VectorKind
from exitramp.registry import open_store
from exitramp.testing.conformance.steps import pages

Matrix = np.ndarray[Any, Any]
ROWS, DIMENSIONS = 200, 16


def numbers(rows: int = ROWS) -> Matrix:
    return np.random.default_rng(5).standard_normal((rows, DIMENSIONS)).astype(np.float32)


def made(path: Path, keys: Any, vectors: Matrix, dtype: str, metric: Any = "cos", **more: Any) -> Index:
    index = Index(ndim=DIMENSIONS, metric=metric, dtype=dtype, **more)
    index.add(np.asarray(keys, np.uint64), vectors, dtype="b1" if dtype == "b1" else None)
    index.save(path)
    return index


def read(address: str) -> dict[str, Any]:
    """What a scan gives, by id."""
    store = open_store(address)
    source = store.source()
    table = pa.Table.from_batches([page.batch for page in pages(source, Partition(), 70)])
    field = source.describe().vectors[0]
    store.close()
    return dict(zip(table.column("id").to_pylist(), table.column(field.column).to_pylist(), strict=True))


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [("f32", DType.FLOAT32), ("f64", DType.FLOAT64), ("f16", DType.FLOAT16), ("i8", DType.INT8)],
)
@pytest.mark.parametrize("metric", ["cos", "ip", "l2sq"])
def test_vectors_are_read_in_the_type_that_they_have(tmp_path: Path, dtype: str, wanted: DType, metric: str) -> None:
    path, keys = tmp_path / "theirs.usearch", np.arange(ROWS) * 10**15 + 7
    index = made(path, keys, numbers(), dtype, metric)
    store = open_store(f"usearch:{path}")
    spec, identity = store.source().describe(), store.source().identity()
    assert (spec.name, spec.id_kind) == ("theirs", IdKind.UINT64)
    assert (spec.vectors[0].dtype, spec.vectors[0].metric.value[:3]) == (
        wanted,
        {"ip": "dot", "l2sq": "euc"}.get(metric, metric),
    )
    assert spec.index["usearch"]["scalar"] == dtype.upper()
    assert {each.code for each in identity.findings} == {"source.no_side_car"}
    found = read(f"usearch:{path}")
    assert set(found) == {str(key) for key in keys.tolist()}
    for key in keys.tolist():
        assert np.array(found[str(key)], wanted.value).tobytes() == index.get(key).tobytes()
    query = np.array(found[str(keys[3])], wanted.value)
    if metric != "ip":
        assert store.search().search(Query(dense=query), k=3).keys[0].id == str(keys[3])
    assert store.search().coverage() == IndexCoverage(ROWS, 0)


@pytest.mark.parametrize("dtype", ["bf16", "e5m2", "e4m3", "e3m2", "e2m3"])
def test_narrow_floats_are_widened_exactly_and_a_finding_names_them(tmp_path: Path, dtype: str) -> None:
    """What comes out goes in again and comes out the same, and is near what was put in."""
    path, matrix = tmp_path / "narrow.usearch", numbers() / 4
    made(path, np.arange(ROWS), matrix, dtype, "l2sq")
    store = open_store(f"usearch:{path}")
    assert store.source().describe().vectors[0].dtype is DType.FLOAT32
    [told] = [each for each in store.source().identity().findings if each.code == "source.widened_vectors"]
    assert dtype.upper() in told.message
    found = read(f"usearch:{path}")
    wide = np.array([found[str(row)] for row in range(ROWS)], np.float32)
    assert np.abs(wide - matrix).max() < 0.5
    if dtype == "bf16":
        assert not (wide.view(np.uint32) & 0xFFFF).any()
        assert np.abs(wide - matrix).max() < 0.02
    again = made(tmp_path / "again.usearch", np.arange(ROWS), wide, dtype, "l2sq")
    assert read(f"usearch:{tmp_path}/again.usearch") == found
    assert len(again) == ROWS
    assert store.search().search(Query(dense=wide[3]), k=1).keys[0].id == "3"


def test_unsigned_bytes_are_numbers_from_0_to_255(tmp_path: Path) -> None:
    path = tmp_path / "bytes.usearch"
    matrix = np.random.default_rng(1).integers(0, 256, (ROWS, DIMENSIONS)).astype(np.uint8)
    index = Index(ndim=DIMENSIONS, metric="l2sq", dtype="u8")
    index.add(np.arange(ROWS, dtype=np.uint64), matrix, dtype="u8")
    index.save(path)
    found = read(f"usearch:{path}")
    assert np.array_equal(np.array([found[str(row)] for row in range(ROWS)]), matrix)
    search = open_store(f"usearch:{path}").search()
    assert search.coverage().is_exact
    assert search.search(Query(dense=matrix[9].astype(np.float32)), k=1).keys[0].id == "9"


def test_bits_are_bits(tmp_path: Path) -> None:
    path = tmp_path / "bits.usearch"
    bits = np.random.default_rng(1).integers(0, 256, (ROWS, DIMENSIONS // 8)).astype(np.uint8)
    made(path, np.arange(ROWS), bits, "b1", "hamming")
    store = open_store(f"usearch:{path}")
    [field] = store.source().describe().vectors
    assert (field.dtype, field.metric, field.dimensions) == (DType.BINARY, Metric.HAMMING, DIMENSIONS)
    found = read(f"usearch:{path}")
    assert np.array_equal(np.array([found[str(row)] for row in range(ROWS)]), bits)
    for settings in (SearchSettings(), SearchSettings(exact=True)):
        hits = store.search().search(Query(dense=bits[5]), k=5, settings=settings)
        wanted = np.sort(np.unpackbits(bits ^ bits[5], axis=1).sum(axis=1))[:5]
        assert hits.scores == tuple(wanted.tolist())


def test_several_vectors_of_a_key_are_read_as_a_list_of_them(tmp_path: Path) -> None:
    path, matrix = tmp_path / "several.usearch", numbers(6)
    made(path, [7, 7, 7, 8, 9, 9], matrix, "f32", "ip", multi=True)
    store = open_store(f"usearch:{path}")
    [field] = store.source().describe().vectors
    assert (field.kind, field.dtype, field.dimensions) == (VectorKind.MULTI, DType.FLOAT32, DIMENSIONS)
    assert store.source().count() == 3
    found = {key: {tuple(vector) for vector in vectors} for key, vectors in read(f"usearch:{path}").items()}
    rows = [tuple(row) for row in matrix.tolist()]
    assert found == {"7": set(rows[:3]), "8": {rows[3]}, "9": set(rows[4:])}
    assert store.search().coverage() == IndexCoverage()
    with pytest.raises(UsageError, match="several vectors"):
        store.search().search(Query(dense=matrix[0]), k=1)


def test_an_index_that_may_hold_several_and_does_not_is_read_as_any_other(tmp_path: Path) -> None:
    path, matrix = tmp_path / "several.usearch", numbers(6)
    made(path, np.arange(6), matrix, "f32", "ip", multi=True)
    source = open_store(f"usearch:{path}").source()
    assert source.describe().vectors[0].kind is VectorKind.DENSE
    assert source.describe().index["usearch"]["multi"] is True
    assert np.array(read(f"usearch:{path}")["3"], np.float32).tobytes() == matrix[3].tobytes()


def test_deleted_ones_are_not_read(tmp_path: Path) -> None:
    path, matrix = tmp_path / "fewer.usearch", numbers()
    index = made(path, np.arange(ROWS), matrix, "f32")
    index.remove(np.arange(0, ROWS, 2))
    index.save(path)
    store = open_store(f"usearch:{path}")
    assert set(read(f"usearch:{path}")) == {str(row) for row in range(1, ROWS, 2)}
    assert store.source().describe().index["usearch"]["deleted"] == ROWS // 2
    hits = store.search().search(Query(dense=matrix[0]), k=ROWS)
    assert {key.id for key in hits.keys} == {str(row) for row in range(1, ROWS, 2)}


@pytest.mark.parametrize("metric", ["pearson", "divergence"])
def test_a_metric_without_a_counterpart_is_named_unless_the_address_says_another(tmp_path: Path, metric: str) -> None:
    path, matrix = tmp_path / "odd.usearch", np.abs(numbers())
    made(path, np.arange(ROWS), matrix, "f32", metric)
    with pytest.raises(DataInvalid, match=metric.title()) as caught:
        open_store(f"usearch:{path}").source().describe()
    assert "?metric=" in (caught.value.hint or "")
    store = open_store(f"usearch:{path}?metric=euclidean")
    assert store.source().describe().vectors[0].metric is Metric.EUCLIDEAN
    [told] = [each for each in store.source().identity().findings if each.code == "source.no_side_car"]
    assert "because the address says so" in told.message
    search = store.search()
    assert search.coverage().is_exact, "its graph was built by another metric"
    assert search.search(Query(dense=matrix[4]), k=1).scores == (0.0,)


def test_a_metric_of_nobodys_is_read_without_asking_the_index(tmp_path: Path) -> None:
    """usearch ends the process when such an index is searched."""
    path, matrix = tmp_path / "odd.usearch", numbers()
    made(path, np.arange(ROWS), matrix, "f32", "l2sq")
    whole = bytearray(path.read_bytes())
    place = whole.index(b"usearch") + 13
    assert whole[place] == MetricKind.L2sq.value
    whole[place] = 0
    path.write_bytes(whole)
    with pytest.raises(DataInvalid, match="Unknown"):
        open_store(f"usearch:{path}").source().describe()
    store = open_store(f"usearch:{path}?metric=cosine")
    assert store.search().search(Query(dense=matrix[4]), k=1).keys[0].id == "4"


def test_the_address_cannot_say_another_metric_than_the_index(tmp_path: Path) -> None:
    path = tmp_path / "theirs.usearch"
    made(path, np.arange(ROWS), numbers(), "f32", "ip")
    with pytest.raises(UsageError, match="has the metric dot"):
        open_store(f"usearch:{path}?metric=cosine").source().describe()


def test_a_key_that_usearch_forgets_is_missed(tmp_path: Path) -> None:
    path = tmp_path / "last.usearch"
    made(path, [1, 2, 2**64 - 1], numbers(3), "f32")
    source = open_store(f"usearch:{path}").source()
    assert source.count() == 2
    [told] = [each for each in source.identity().findings if each.code == "source.unreadable_records"]
    assert told.count == 1


@pytest.mark.parametrize("content", [b"", b"no index at all", 0.5, 0.99])
def test_a_file_that_is_no_index_is_named(tmp_path: Path, content: bytes | float) -> None:
    path = tmp_path / "broken.usearch"
    made(path, np.arange(ROWS), numbers(), "f32")
    whole = path.read_bytes()
    path.write_bytes(content if isinstance(content, bytes) else whole[: int(len(whole) * content)])
    with pytest.raises(IntegrityError, match=r"broken\.usearch"):
        open_store(f"usearch:{path}").source().count()


def test_an_index_that_exitramp_did_not_make_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "theirs.usearch"
    made(path, np.arange(ROWS), numbers(), "f32")
    before = path.read_bytes()
    with pytest.raises(CollectionExists, match="side-car"):
        open_store(f"usearch:{path}").sink().delete([])
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["theirs.usearch"]


def test_arrow_is_loaded_before_usearch_and_a_process_that_did_otherwise_is_told(tmp_path: Path) -> None:
    """Loaded first, usearch's C++ runtime makes Arrow take lists of 16 for lists of 24."""
    path = tmp_path / "theirs.usearch"
    made(path, np.arange(ROWS), numbers(), "f32")
    program = f"""
from exitramp.registry import open_store
import sys
print("usearch" in sys.modules, open_store("usearch:{path}").source().count())
import pyarrow as pa
print(pa.list_(pa.float32(), 16), pa.list_(pa.float32(), 16) == pa.list_(pa.float32(), 24))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["False", str(ROWS), "fixed_size_list<item:", "float>[16]", "False"]
    wrong = "import usearch.index\n" + program
    done = subprocess.run([sys.executable, "-c", wrong], capture_output=True, text=True, timeout=120)
    assert "before pyarrow" in done.stderr or done.stdout.split()[-1] == "False", "Arrow is unsound and nobody says so"
