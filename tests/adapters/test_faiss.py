"""FAISS index files: the suite, seeded and read with faiss and pyarrow alone, and what only this store can do wrong."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exitramp import canonical
from exitramp.errors import (
    AddressError,
    CollectionExists,
    CollectionMissing,
    DataInvalid,
    FormatUnknown,
    IntegrityError,
    StoreRejected,
    StoreUnavailable,
    UsageError,
)
from exitramp.filters import Eq
from exitramp.ports import Partition, Query, SearchSettings
from exitramp.records import CollectionSpec, DType, IdKind, Metric
from exitramp.registry import open_store
from exitramp.testing import Feature, Row, StoreConformance, StoreHarness, batch_from_rows
from exitramp.testing.conformance.compare import assert_same_records
from exitramp.testing.conformance.filters import FilterConformance
from exitramp.testing.conformance.search import SearchConformance
from exitramp.testing.conformance.steps import keys_of, limits_of, origin_of, pages, read, refusal, write
from exitramp.testing.conformance.vectors import VectorConformance
from exitramp.testing.conformance.writing import WritingConformance
from exitramp.testing.within import rows_within, spec_within

METRICS = {"dot": faiss.METRIC_INNER_PRODUCT, "cosine": faiss.METRIC_INNER_PRODUCT}
METRICS |= {"euclidean": faiss.METRIC_L2, "manhattan": faiss.METRIC_L1}


class FaissHarness(StoreHarness):
    lacks = {
        Feature.SERVER_KILL: "files, no server",
        Feature.SERVER_STOP: "files, no server",
    }

    def __init__(self, folder: Path, options: str = "") -> None:
        self.folder = folder
        self.options = options

    def path(self, collection: str) -> Path:
        return self.folder / f"{hashlib.sha256(collection.encode()).hexdigest()[:16]}.faiss"

    def side_car(self, collection: str) -> Path:
        return Path(f"{self.path(collection)}.exitramp")

    def address(self, collection: str) -> str:
        return f"faiss:{self.path(collection)}{self.options}"

    def raw_seed(self, collection: str, spec: CollectionSpec, rows: Sequence[Row]) -> None:
        [field] = spec.vectors
        matrix = np.array([row.vectors[field.column] for row in rows], np.float32).reshape(len(rows), field.item_count)
        index = faiss.IndexFlat(field.item_count, METRICS[field.metric.value])
        stored = matrix.copy()
        if field.metric is Metric.COSINE:
            faiss.normalize_L2(stored)
        index.add(stored)
        faiss.write_index(index, str(self.path(collection)))
        columns = {
            "id": pa.array([row.id for row in rows], pa.string()),
            "namespace": pa.array([row.namespace for row in rows], pa.string()),
            "document": pa.array([row.document for row in rows], pa.string()),
            "payload": pa.array([row.payload_text for row in rows], pa.string()),
        }
        if field.metric is Metric.COSINE:
            columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), field.item_count)
        self.write_side_car(collection, pa.table(columns), spec.renamed(collection).to_json())

    def write_side_car(self, collection: str, table: pa.Table, spec: Any) -> None:
        digest = hashlib.sha256(self.path(collection).read_bytes()).hexdigest()
        self.write_about(collection, table, {"index_sha256": digest, "factory": "Flat", "spec": spec, "origin": None})

    def write_about(self, collection: str, table: pa.Table, about: dict[str, Any]) -> None:
        text = json.dumps({"format": 1} | about).encode()
        metadata = {b"exitramp": text, b"exitramp.sha256": hashlib.sha256(text).hexdigest().encode()}
        pq.write_table(table.replace_schema_metadata(metadata), self.side_car(collection))

    def raw_read(self, collection: str) -> list[Row]:
        index = faiss.read_index(str(self.path(collection)))
        table = pq.read_table(self.side_car(collection))
        about = json.loads(table.schema.metadata[b"exitramp"])
        assert about["index_sha256"] == hashlib.sha256(self.path(collection).read_bytes()).hexdigest()
        if isinstance(index, faiss.IndexIVFFlat):
            index.make_direct_map()
        vectors = [index.reconstruct(row) for row in range(index.ntotal)]
        if about["spec"]["vectors"][0]["metric"] == "cosine":
            originals = [np.array(vector, np.float32) for vector in table.column("vector").to_pylist()]
            for stored, original in zip(vectors, originals, strict=True):
                with np.errstate(all="ignore"):
                    unit = original.astype(np.float64) / np.linalg.norm(original.astype(np.float64))
                assert not np.isfinite(unit).all() or np.allclose(stored, unit, atol=1e-6) or not original.any()
            vectors = originals
        return [
            Row(
                row["id"],
                row["namespace"],
                row["document"],
                None if row["payload"] is None else canonical.loads(row["payload"]),
                {"vector": vector},
            )
            for row, vector in zip(
                table.select(["id", "namespace", "document", "payload"]).to_pylist(), vectors, strict=True
            )
        ]

    def raw_edit(self, collection: str, id_: str, key: str, value: Any) -> None:
        table = pq.read_table(self.side_car(collection))
        [place] = [place for place, found in enumerate(table.column("id").to_pylist()) if found == id_]
        payloads = table.column("payload").to_pylist()
        payloads[place] = canonical.dumps(canonical.loads(payloads[place] or "{}") | {key: value})
        spot = table.schema.get_field_index("payload")
        edited = table.set_column(spot, "payload", pa.array(payloads, pa.string()))
        self.write_side_car(collection, edited, json.loads(table.schema.metadata[b"exitramp"])["spec"])

    def raw_collections(self) -> list[str]:
        found = [pq.read_metadata(path).metadata[b"exitramp"] for path in self.folder.glob("*.faiss.exitramp")]
        return [json.loads(about)["spec"]["name"] for about in found]


class TestFaiss(StoreConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> FaissHarness:
        return FaissHarness(tmp_path)


class TestFaissHnsw(VectorConformance, WritingConformance, SearchConformance, FilterConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> FaissHarness:
        return FaissHarness(tmp_path, "?factory=HNSW16,Flat")


class TestFaissIvf(VectorConformance, WritingConformance, SearchConformance, FilterConformance):
    """With one list, since most tests have fewer records than an index of several lists needs."""

    @pytest.fixture
    def harness(self, tmp_path: Path) -> FaissHarness:
        return FaissHarness(tmp_path, "?factory=IVF1,Flat")


def numbers(rows: int = 20, dimensions: int = 8) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(5).standard_normal((rows, dimensions), dtype=np.float32)


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


def made(
    folder: Path, rows: int = 6, options: str = "", metric: Metric | None = None
) -> tuple[FaissHarness, CollectionSpec, list[Row]]:
    harness = FaissHarness(folder, options)
    limits = limits_of(harness)
    spec = spec_within(limits, "articles")
    if metric is not None:
        spec = replace(spec, vectors=(replace(spec.vectors[0], metric=metric),))
    records = rows_within(spec, limits, rows, 3)
    write(harness, spec, records)
    return harness, spec, records


def test_a_side_car_of_another_index_is_an_integrity_error_naming_both(tmp_path: Path) -> None:
    harness, *_ = made(tmp_path)
    path = harness.path("articles")
    index = faiss.read_index(str(path))
    index.add(numbers(1, 16))
    faiss.write_index(index, str(path))
    with pytest.raises(IntegrityError) as caught:
        harness.open("articles").source().describe()
    assert str(path) in caught.value.message
    assert str(harness.side_car("articles")) in caught.value.message


def test_a_side_car_without_its_index_is_an_integrity_error(tmp_path: Path) -> None:
    harness, *_ = made(tmp_path)
    harness.path("articles").unlink()
    with pytest.raises(IntegrityError, match="without the index"):
        harness.open("articles").source().describe()


def test_a_flipped_byte_in_either_file_changes_nothing_silently(tmp_path: Path) -> None:
    """Bytes of Parquet that nobody reads may flip unseen; then what is read is what was written."""
    harness, spec, rows = made(tmp_path)
    noticed: dict[Path, int] = {}
    for path in (harness.path("articles"), harness.side_car("articles")):
        whole = path.read_bytes()
        for place in range(0, len(whole), max(1, len(whole) // 60)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            error = refusal(lambda: read(harness, "articles"))
            assert error is None or isinstance(error, IntegrityError)
            if error is None:
                assert_same_records(rows, read(harness, "articles").rows, spec, limits_of(harness), str(place))
            noticed[path] = noticed.get(path, 0) + (error is not None)
        path.write_bytes(whole)
    assert noticed[harness.path("articles")] >= 60
    assert noticed[harness.side_car("articles")] >= 10


def test_a_side_car_of_an_unknown_format_is_refused(tmp_path: Path) -> None:
    harness, *_ = made(tmp_path)
    table = pq.read_table(harness.side_car("articles"))
    about = json.loads(table.schema.metadata[b"exitramp"])
    harness.write_about("articles", table, about | {"format": 2})
    with pytest.raises(FormatUnknown):
        harness.open("articles").source().describe()


KILLED_WRITER = """
import os, signal, pathlib
from exitramp.registry import open_store
from exitramp.records import CollectionSpec
from exitramp.testing.conformance.steps import origin_of
from exitramp.testing.rows import batch_from_rows
from exitramp.testing.within import rows_within
calls, whole = [], pathlib.Path.replace
def replace(self, target):
    calls.append(target)
    if len(calls) == {killed_before}:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self, target)
pathlib.Path.replace = replace
spec = CollectionSpec.from_json({spec!r})
store = open_store({address!r})
sink = store.sink()
sink.create(spec, origin_of(spec))
sink.upsert(batch_from_rows(rows_within(spec, sink.limits(), {rows}, 4), spec))
sink.flush()
"""


def killed_writer(harness: FaissHarness, spec: CollectionSpec, rows: int, killed_before: int) -> None:
    """A process that writes the first `rows` rows and is killed before its n-th rename."""
    program = KILLED_WRITER.format(
        killed_before=killed_before, spec=spec.to_json(), address=harness.address(spec.name), rows=rows
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr


def keys_held(harness: FaissHarness) -> set[str]:
    return {row.id for row in read(harness, "articles").rows}


def test_a_process_killed_between_two_renames_leaves_all_or_nothing_of_a_flush(tmp_path: Path) -> None:
    """The rename of the index is the moment at which a flush happens; the side-car follows or is found as `….new`."""
    harness = FaissHarness(tmp_path)
    spec = spec_within(limits_of(harness), "articles")
    rows = rows_within(spec, limits_of(harness), 8, 4)
    killed_writer(harness, spec, 3, killed_before=1)  # in `create`, before the index has its name
    with pytest.raises(CollectionMissing):
        harness.open("articles").source().describe()
    killed_writer(harness, spec, 3, killed_before=2)  # in `create`, before the side-car has
    assert keys_held(harness) == set()
    write(harness, spec, rows[:3])
    killed_writer(harness, spec, 8, killed_before=1)
    assert keys_held(harness) == {row.id for row in rows[:3]}
    killed_writer(harness, spec, 5, killed_before=2)
    assert keys_held(harness) == {row.id for row in rows[:5]}
    # Now the only fitting side-car is called `….new`; a further writer first gives it its name, and is killed in turn.
    killed_writer(harness, spec, 8, killed_before=2)
    assert keys_held(harness) == {row.id for row in rows[:5]}
    write(harness, spec, rows)
    assert_same_records(rows, read(harness, "articles").rows, spec, limits_of(harness), "in the end")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".exitramp", ".faiss"]


def test_two_writers_do_not_overwrite_each_other(tmp_path: Path) -> None:
    harness, spec, rows = made(tmp_path)
    one, two = harness.open("articles").sink(), harness.open("articles").sink()
    for sink in (one, two):
        sink.create(spec, origin_of(spec))
    one.upsert(batch_from_rows(rows[:1], spec))
    two.upsert(batch_from_rows(rows[1:2], spec))
    one.flush()
    with pytest.raises(StoreRejected, match="somebody else"):
        two.flush()


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


def test_cosine_keeps_magnitudes_and_ranks_by_direction(tmp_path: Path) -> None:
    harness, _, rows = made(tmp_path, metric=Metric.COSINE)
    [row] = [row for row in harness.raw_read("articles") if row.id == rows[2].id]
    assert np.asarray(row.vectors["vector"]).tobytes() == np.asarray(rows[2].vectors["vector"]).tobytes()
    stored = faiss.read_index(str(harness.path("articles"))).reconstruct_n(0, len(rows))
    assert np.allclose(np.linalg.norm(stored, axis=1), 1, atol=1e-6)
    query = np.asarray(rows[2].vectors["vector"]) * 1000
    assert harness.open("articles").search().search(Query(dense=query), k=1).keys == (rows[2].key,)


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


def test_a_folder_that_is_not_there_is_an_error_of_ours(tmp_path: Path) -> None:
    harness = FaissHarness(tmp_path / "no such folder")
    spec = spec_within(limits_of(harness), "articles")
    with pytest.raises(StoreUnavailable, match="could not be written"):
        harness.open("articles").sink().create(spec, origin_of(spec))


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


def test_a_scan_sees_one_state_while_files_are_replaced(tmp_path: Path) -> None:
    harness, spec, rows = made(tmp_path, rows=9)
    scan = harness.open("articles").source().scan(Partition(), batch_rows=4)
    first = next(scan)
    write(harness, spec, rows_within(spec, limits_of(harness), 20, 3)[9:])
    assert {row.key for row in rows} == set(keys_of([first, *scan]))
    assert harness.open("articles").source().count() == 20


def test_nothing_of_a_failed_write_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harness, spec, rows = made(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    sink = harness.open("articles").sink()
    sink.create(spec, origin_of(spec))
    sink.upsert(batch_from_rows([replace(rows[0], payload={})], spec))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(StoreUnavailable, match="No space left"):
        sink.flush()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    monkeypatch.undo()
    sink.flush()  # what was not written is still there to be written
    assert read(harness, "articles").by_id()[rows[0].id].payload == {}
