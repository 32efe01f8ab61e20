"""hnswlib indexes that somebody else made: what their bytes tell, what the address must say, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hnswlib
import numpy as np
import pyarrow as pa
import pytest

from exitramp.errors import CollectionExists, DataInvalid, IntegrityError, StoreRejected, UsageError
from exitramp.ports import IndexCoverage, Origin, Partition, Query, SearchSettings
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp.testing.conformance.steps import pages

Matrix = np.ndarray[Any, Any]
SPACES = {Metric.DOT: "ip", Metric.COSINE: "cosine", Metric.EUCLIDEAN: "l2"}
ROWS, DIMENSIONS = 300, 12


def numbers(rows: int = ROWS) -> Matrix:
    return np.random.default_rng(5).standard_normal((rows, DIMENSIONS)).astype(np.float32)


def made(path: Path, labels: Any, space: str = "l2", deleted: Any = (), **settings: int) -> Matrix:
    matrix = numbers(len(labels))
    index = hnswlib.Index(space, DIMENSIONS)
    index.init_index(max_elements=len(labels) + 50, **settings)
    if len(labels):
        index.add_items(matrix, np.asarray(labels, np.uint64))
    for label in deleted:
        index.mark_deleted(label)
    index.save_index(str(path))
    return matrix


def read(address: str) -> dict[str, Any]:
    store = open_store(address)
    table = pa.Table.from_batches([page.batch for page in pages(store.source(), Partition(), 70)])
    store.close()
    return dict(zip(table.column("id").to_pylist(), table.column("vector").to_pylist(), strict=True))


@pytest.mark.parametrize("metric", SPACES)
@pytest.mark.parametrize("settings", [{}, {"M": 5, "ef_construction": 77}])
def test_labels_and_vectors_are_read_and_the_metric_is_asked_for(
    tmp_path: Path, metric: Metric, settings: dict[str, int]
) -> None:
    path, labels = tmp_path / "theirs.bin", np.arange(ROWS, dtype=np.uint64) * 7 + 2**63
    matrix = made(path, labels, SPACES[metric], **settings)
    with pytest.raises(DataInvalid, match="does not say by which metric") as caught:
        open_store(f"hnswlib:{path}").source().describe()
    assert "?metric=" in (caught.value.hint or "")
    store = open_store(f"hnswlib:{path}?metric={metric}")
    spec = store.source().describe()
    assert (spec.name, spec.id_kind, spec.vectors) == (
        "theirs",
        IdKind.UINT64,
        (VectorField("", VectorKind.DENSE, DType.FLOAT32, metric, DIMENSIONS),),
    )
    about = {"M": 16, "ef_construction": 200} | settings
    assert spec.index["hnswlib"] == about | {"deleted": 0}
    codes = {each.code for each in store.source().identity().findings}
    assert codes == {"source.no_side_car"} | ({"source.normalised"} if metric is Metric.COSINE else set())
    found = read(f"hnswlib:{path}?metric={metric}")
    theirs = hnswlib.Index(SPACES[metric], DIMENSIONS)
    theirs.load_index(str(path))
    assert set(found) == {str(label) for label in labels.tolist()}
    kept = theirs.get_items(labels)
    for row, label in enumerate(labels.tolist()):
        assert np.array(found[str(label)], np.float32).tobytes() == kept[row].tobytes()
    if metric is not Metric.COSINE:
        assert kept.tobytes() == matrix.tobytes()
    hits = store.search().search(Query(dense=matrix[3]), k=ROWS, settings=SearchSettings(options={"ef": 20}))
    assert {key.id for key in hits.keys} == set(found)
    assert store.search().coverage() == IndexCoverage(ROWS, 0)


def test_deleted_records_are_left_out_although_hnswlib_lists_them(tmp_path: Path) -> None:
    path = tmp_path / "fewer.bin"
    matrix = made(path, np.arange(ROWS), deleted=range(0, ROWS, 3))
    theirs = hnswlib.Index("l2", DIMENSIONS)
    theirs.load_index(str(path))
    assert len(theirs.get_ids_list()) == ROWS
    store = open_store(f"hnswlib:{path}?metric=euclidean")
    left = {str(row) for row in range(ROWS) if row % 3}
    assert set(read(f"hnswlib:{path}?metric=euclidean")) == left
    assert store.source().count() == len(left)
    [told] = [each for each in store.source().identity().findings if each.code == "source.deleted_records"]
    assert told.count == 100
    for settings in (SearchSettings(), SearchSettings(exact=True)):
        hits = store.search().search(Query(dense=matrix[0]), k=ROWS, settings=settings)
        assert {key.id for key in hits.keys} == left


def test_dimensions_follow_from_the_file_and_those_of_the_address_are_checked(tmp_path: Path) -> None:
    """hnswlib itself loads any file for any number of dimensions."""
    path = tmp_path / "theirs.bin"
    made(path, np.arange(ROWS))
    wrong = hnswlib.Index("l2", DIMENSIONS * 2)
    wrong.load_index(str(path))
    assert open_store(f"hnswlib:{path}?metric=dot&dimensions={DIMENSIONS}").source().count() == ROWS
    with pytest.raises(DataInvalid, match=f"of {DIMENSIONS} dimensions, not 24"):
        open_store(f"hnswlib:{path}?metric=dot&dimensions=24").source().count()
    for odd in ("0", "-1", "many", "1.0"):
        with pytest.raises(UsageError, match="dimensions is a whole number"):
            open_store(f"hnswlib:{path}?metric=dot&dimensions={odd}")


@pytest.mark.parametrize("metric", ["manhattan", "hamming", "no such metric"])
def test_a_metric_that_hnswlib_does_not_have_is_refused(tmp_path: Path, metric: str) -> None:
    with pytest.raises(UsageError, match=metric):
        open_store(f"hnswlib:{tmp_path}/x.bin?metric={metric}")


@pytest.mark.parametrize("content", [b"", b"no index at all", b"\x00" * 200, b"\x80\x05pickle" * 40, 0.3, 0.97, 0.9999])
def test_a_file_that_is_no_whole_index_is_named(tmp_path: Path, content: bytes | float) -> None:
    path = tmp_path / "broken.bin"
    made(path, np.arange(ROWS))
    whole = path.read_bytes()
    path.write_bytes(content if isinstance(content, bytes) else whole[: int(len(whole) * content)])
    with pytest.raises(IntegrityError, match=r"broken\.bin"):
        open_store(f"hnswlib:{path}?metric=dot").source().count()


def test_links_that_lead_out_of_an_index_are_found_before_they_are_followed(tmp_path: Path) -> None:
    path = tmp_path / "broken.bin"
    made(path, np.arange(ROWS))
    whole = path.read_bytes()
    size = 33 * 4 + DIMENSIONS * 4 + 8
    upper = 96 + ROWS * size
    first = next(at for at in range(upper, len(whole), 4) if whole[at : at + 4] != b"\0\0\0\0")
    for place in (96 + 4, 96 + 5 * size + 4, 96, first + 4, first + 8, first):
        path.write_bytes(whole[:place] + b"\xff\xff\xff\x7f" + whole[place + 4 :])
        with pytest.raises(IntegrityError, match="damaged"):
            open_store(f"hnswlib:{path}?metric=dot").source().count()
    path.write_bytes(whole + b"\0\0\0\0")
    with pytest.raises(IntegrityError, match="damaged"):
        open_store(f"hnswlib:{path}?metric=dot").source().count()


def test_an_index_without_records_is_read(tmp_path: Path) -> None:
    made(tmp_path / "empty.bin", [])
    assert read(f"hnswlib:{tmp_path}/empty.bin?metric=dot") == {}


def test_an_index_that_exitramp_did_not_make_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "theirs.bin"
    made(path, np.arange(ROWS))
    before = path.read_bytes()
    with pytest.raises(CollectionExists, match="side-car"):
        open_store(f"hnswlib:{path}?metric=dot").sink().delete([])
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["theirs.bin"]


def test_a_disk_that_takes_a_part_only_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """hnswlib does not look whether its file was written."""
    spec = CollectionSpec(
        "a", IdKind.UINT64, (VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, DIMENSIONS),)
    )
    whole = hnswlib.Index.save_index

    def cut(index: Any, path: bytes) -> None:
        whole(index, path)
        with Path(path.decode()).open("r+b") as file:
            file.truncate(50)

    monkeypatch.setattr(hnswlib.Index, "save_index", cut)
    with pytest.raises(StoreRejected, match="could not be written"):
        open_store(f"hnswlib:{tmp_path}/new.bin").sink().create(spec, Origin(spec, "0"))
    assert not list(tmp_path.iterdir())
