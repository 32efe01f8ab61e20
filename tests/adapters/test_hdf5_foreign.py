"""HDF5 files as ann-benchmarks writes them, made with h5py alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from exitramp.errors import CollectionExists, CollectionMissing, DataInvalid, UsageError
from exitramp.ports import Origin, Partition, Query, TransferAccount
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp.testing.rows import Row, batch_from_rows, rows_from_batch

MATRIX = np.random.default_rng(3).standard_normal((60, 8), dtype=np.float32)


def made(path: Path, train: Any = MATRIX, *, distance: Any = "angular", point_type: str = "float", **more: Any) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["type"] = "dense"
        if distance is not None:
            file.attrs["distance"] = distance
        file.attrs["dimension"] = len(train[0])
        file.attrs["point_type"] = point_type
        file["train"] = train
        file["test"] = train[:10]
        file["neighbors"] = np.zeros((10, 5), int)
        file["distances"] = np.zeros((10, 5))
        for name, values in more.items():
            file[name] = values


def read(address: str) -> tuple[CollectionSpec, list[Row], list[str]]:
    store = open_store(address)
    source = store.source()
    spec = source.describe()
    rows = [row for page in source.scan(Partition(), batch_rows=7) for row in rows_from_batch(page.batch, spec)]
    assert source.count() == len(rows)
    codes = [finding.code for finding in source.identity().findings]
    store.close()
    return spec, rows, codes


@pytest.mark.parametrize(
    ("distance", "metric"), [("angular", Metric.COSINE), ("euclidean", Metric.EUCLIDEAN), (b"angular", Metric.COSINE)]
)
def test_vectors_are_records_by_their_row_numbers_and_queries_are_none(
    distance: Any, metric: Metric, tmp_path: Path
) -> None:
    made(tmp_path / "a.hdf5", distance=distance)
    spec, rows, codes = read(f"hdf5:{tmp_path}/a.hdf5")
    [field] = spec.vectors
    assert (spec.name, spec.id_kind, field.metric, field.dtype) == ("a", IdKind.UINT64, metric, DType.FLOAT32)
    assert [row.id for row in rows] == [str(number) for number in range(60)]
    assert np.array([row.vectors["vector"] for row in rows]).tobytes() == MATRIX.tobytes()
    assert codes == ["source.row_numbers", "source.queries"]


def test_bits_come_back_as_bits(tmp_path: Path) -> None:
    bits = MATRIX[:, :].repeat(2, axis=1) > 0
    made(tmp_path / "a.hdf5", bits, distance="hamming", point_type="bit")
    spec, rows, _ = read(f"hdf5:{tmp_path}/a.hdf5")
    assert (spec.vectors[0].dtype, spec.vectors[0].metric, spec.vectors[0].dimensions) == (
        DType.BINARY,
        Metric.HAMMING,
        16,
    )
    assert np.array([row.vectors["vector"] for row in rows]).tobytes() == np.packbits(bits, axis=1).tobytes()
    made(tmp_path / "b.hdf5", bits[:, :15], distance="hamming", point_type="bit")
    with pytest.raises(DataInvalid, match="in eights"):
        read(f"hdf5:{tmp_path}/b.hdf5")


def test_a_distance_that_is_not_known_is_named_unless_the_address_says_the_metric(tmp_path: Path) -> None:
    for distance in ("jaccard", None):
        made(tmp_path / "a.hdf5", distance=distance)
        with pytest.raises(UsageError, match="jaccard" if distance else "by which metric") as caught:
            read(f"hdf5:{tmp_path}/a.hdf5")
        assert "?metric=" in str(caught.value.hint)
        assert read(f"hdf5:{tmp_path}/a.hdf5?metric=dot")[0].vectors[0].metric is Metric.DOT


def test_a_dataset_of_ids_gives_them_where_the_address_names_it(tmp_path: Path) -> None:
    texts = [f"id-{number}" for number in range(60)]
    made(tmp_path / "a.hdf5", ids=np.arange(60) - 5, names=texts, twice=[1] * 60)
    spec, rows, _ = read(f"hdf5:{tmp_path}/a.hdf5?id=ids")
    assert (spec.id_kind, [row.id for row in rows[:2]]) == (IdKind.INT64, ["-5", "-4"])
    spec, rows, _ = read(f"hdf5:{tmp_path}/a.hdf5?id=names")
    assert (spec.id_kind, rows[3].id) == (IdKind.STRING, "id-3")
    with pytest.raises(DataInvalid, match="the id '1' stands twice in 'twice': row 1 and row 2"):
        read(f"hdf5:{tmp_path}/a.hdf5?id=twice")
    with pytest.raises(UsageError, match="there is no dataset of 60"):
        read(f"hdf5:{tmp_path}/a.hdf5?id=test")


def test_what_is_no_set_of_dense_vectors_is_refused_by_name(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["other"] = np.zeros(3)
    with pytest.raises(DataInvalid, match="it holds other"):
        read(f"hdf5:{tmp_path}/a.hdf5")
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        file.attrs["type"] = "sparse"
        file["train"] = np.arange(9)
    with pytest.raises(DataInvalid, match="dense dataset"):
        read(f"hdf5:{tmp_path}/b.hdf5")
    (tmp_path / "c.hdf5").write_bytes(b"no hdf5")
    with pytest.raises(DataInvalid, match="no HDF5 file"):
        read(f"hdf5:{tmp_path}/c.hdf5")
    with pytest.raises(CollectionMissing):
        read(f"hdf5:{tmp_path}/none.hdf5")


def test_a_file_of_somebody_else_is_not_written_to(tmp_path: Path) -> None:
    made(tmp_path / "a.hdf5")
    spec = read(f"hdf5:{tmp_path}/a.hdf5")[0]
    store = open_store(f"hdf5:{tmp_path}/a.hdf5")
    with pytest.raises(CollectionExists, match="did not write"):
        store.sink().create(spec, Origin(spec, "0"))
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.hdf5"]


@pytest.mark.parametrize(("metric", "distance"), [(Metric.COSINE, "angular"), (Metric.EUCLIDEAN, "euclidean")])
def test_queries_are_written_with_their_exact_neighbours_where_they_are_asked_for(
    metric: Metric, distance: str, tmp_path: Path
) -> None:
    spec = CollectionSpec(
        "a", IdKind.STRING, (VectorField("", VectorKind.DENSE, DType.FLOAT32, metric, 8),), True, True
    )
    rows = [Row(f"r{number}", "t", None, {"n": number}, {"vector": MATRIX[number]}) for number in range(60)]
    store = open_store(f"hdf5:{tmp_path}/a.hdf5?queries=12")
    sink = store.sink()
    sink.create(spec, Origin(spec, "0"))
    sink.upsert(batch_from_rows(rows, spec))
    sink.finish(TransferAccount())
    search = store.search()
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert (file.attrs["distance"], file.attrs["dimension"], file.attrs["point_type"]) == (distance, 8, "float")
        assert file["train"][:].tobytes() == MATRIX.tobytes()
        assert file["neighbors"].shape == (12, 60)
        for query, found, far in zip(file["test"][:], file["neighbors"][:], file["distances"][:], strict=True):
            keys = [key.id for key in search.search(Query(dense=query), k=60).keys]
            assert [f"r{row}" for row in found] == keys
            assert far[0] == pytest.approx(0, abs=1e-6)
            assert (np.diff(far) >= 0).all()
            one = MATRIX[found[5]].astype(float)
            cosine = 1 - one @ query / np.linalg.norm(one) / np.linalg.norm(query)
            assert far[5] == pytest.approx(cosine if metric is Metric.COSINE else np.linalg.norm(one - query), abs=1e-6)
    store.close()


def test_a_number_of_queries_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="queries=many"):
        open_store(f"hdf5:{tmp_path}/a.hdf5?queries=many")
