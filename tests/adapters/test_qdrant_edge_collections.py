"""Qdrant's engine in process: collections on disk, who has them open, and scans over them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pytest
import qdrant_edge as engine

from exitramp.arrow import stream_schema, vector_type
from exitramp.errors import (
    AddressError,
    CollectionExists,
    CollectionMissing,
    DataInvalid,
    StoreProtocolError,
    StoreRejected,
    StoreUnavailable,
    UsageError,
)
from exitramp.ports import Origin, Partition, make_cursor
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp.testing import Row, batch_from_rows, rows_from_batch

PLAIN = CollectionSpec(
    "c", IdKind.UINT64, (VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 2),), index={"made": "by hand"}
)
VECTOR = np.array([1.0, 2.0], np.float32)
ORIGIN = Origin(PLAIN, "0")


def raw_create(folder: Path, *ids: str) -> None:
    """A shard as an application makes one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    params = engine.EdgeVectorParams(2, engine.Distance.Dot)
    shard = engine.EdgeShard.create(str(folder), engine.EdgeConfig(vectors=params))
    points = [engine.Point(int(id_) if id_.isdecimal() else id_, [1.0, 2.0], None) for id_ in ids]
    if points:
        shard.update(engine.UpdateOperation.upsert_points(points))
    shard.close()


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "db"


@contextmanager
def opened(db: Path, collection: str = "c") -> Iterator[Any]:
    store = open_store(f"qdrant:{db}#{quote(collection, safe='')}")
    try:
        yield store
    finally:
        store.close()


def row(id_: str, payload: dict[str, Any] | None = None, **vectors: Any) -> Row:
    return Row(id_, payload=payload, vectors=vectors or {"vector": VECTOR})


def put(db: Path, rows: Sequence[Row], spec: CollectionSpec = PLAIN, collection: str = "c") -> None:
    with opened(db, collection) as store:
        sink = store.sink()
        sink.create(spec, ORIGIN)
        sink.upsert(batch_from_rows(rows, spec))
        sink.flush()


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        ([], IdKind.UINT64),
        (["1", "2"], IdKind.UINT64),
        (["6ba7b810-9dad-11d1-80b4-00c04fd430c8"], IdKind.UUID),
        (["1", "00000000-0000-0000-0000-000000000000"], IdKind.STRING),
    ],
)
def test_the_kind_of_ids_is_read_off_the_records(db: Path, ids: list[str], kind: IdKind) -> None:
    raw_create(db / "c", *ids)
    with opened(db) as store:
        assert store.source().describe().id_kind is kind


def test_an_empty_collection_has_the_kind_of_ids_it_was_made_for(db: Path) -> None:
    put(db, [], CollectionSpec("c", IdKind.UUID, PLAIN.vectors))
    with opened(db) as store:
        assert store.source().describe().id_kind is IdKind.UUID


def test_a_shard_that_others_made_is_described_by_its_own_configuration(db: Path) -> None:
    params = engine.EdgeVectorParams
    vectors = {
        "small": params(4, engine.Distance.Manhattan, datatype=engine.VectorStorageDatatype.Uint8),
        "half": params(4, engine.Distance.Euclid, datatype=engine.VectorStorageDatatype.Float16),
        "": params(4, engine.Distance.Cosine),
    }
    hnsw = engine.HnswIndexConfig(8, 50, 1000)
    db.mkdir()
    engine.EdgeShard.create(str(db / "c"), engine.EdgeConfig(vectors=vectors, hnsw_config=hnsw)).close()
    with opened(db) as store:
        found = store.source().describe()
        assert [(f.name, f.dtype, f.metric) for f in found.vectors] == [
            ("", DType.FLOAT32, Metric.COSINE),
            ("half", DType.FLOAT16, Metric.EUCLIDEAN),
            ("small", DType.FLOAT32, Metric.MANHATTAN),
        ]
        assert found.index["qdrant"]["hnsw_config"]["m"] == 8
        assert found.index["qdrant"]["vectors"]["small"]["datatype"] == "uint8"
        assert store.source().origin() is None


def test_an_unknown_distance_is_an_error_and_not_cosine() -> None:
    from exitramp_adapters.stores.qdrant.forms import fields_from_params

    with pytest.raises(DataInvalid, match="'Jaccard'"):
        fields_from_params({"vectors": {"size": 4, "distance": "Jaccard"}}, where="somewhere")


def test_the_origin_is_kept_and_a_damaged_side_car_is_named(db: Path) -> None:
    put(db, [row("1")])
    with opened(db) as store:
        assert store.source().origin() == ORIGIN
    (db / "c" / "exitramp.json").write_text("{")
    with opened(db) as store, pytest.raises(StoreProtocolError, match=r"exitramp\.json"):
        store.source().origin()


def test_creating_again_accepts_the_same_fields_and_names_a_different_one(db: Path) -> None:
    put(db, [row("1")])
    put(db, [row("2")])
    for other in (
        VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 3),
        VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 2),
        VectorField("", VectorKind.DENSE, DType.FLOAT16, Metric.DOT, 2),
        VectorField("title", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 2),
    ):
        with opened(db) as store, pytest.raises(CollectionExists, match="vector field"):
            store.sink().create(CollectionSpec("c", IdKind.UINT64, (other,)), ORIGIN)
    with opened(db) as store:
        assert store.source().count() == 2


def test_an_emptied_collection_takes_the_origin_of_what_comes_next(db: Path) -> None:
    later = Origin(CollectionSpec("later", IdKind.STRING, PLAIN.vectors, has_documents=True), "1")
    put(db, [row("1")])
    with opened(db) as store:
        sink = store.sink()
        sink.create(PLAIN, later)
        assert store.source().origin() == ORIGIN
        sink.delete([RecordKey("1")])
        sink.create(PLAIN, later)
        assert store.source().origin() == later


def test_a_missing_collection_is_named_with_those_that_are_there(db: Path) -> None:
    put(db, [], collection="articles")
    put(db, [], collection="with space/and ü")
    with opened(db, "artikel") as store:
        with pytest.raises(CollectionMissing, match="'artikel'") as caught:
            store.source().count()
        assert store.source().identity().collections == ("articles", "with space/and ü")
    assert "'articles', 'with space/and ü'" in str(caught.value)
    assert not (db / "artikel").exists()


def test_a_folder_that_is_itself_a_shard_is_pointed_out(db: Path) -> None:
    put(db, [])
    with opened(db / "c", "x") as store, pytest.raises(CollectionMissing) as caught:
        store.source().count()
    assert f"qdrant:{db}#c" in str(caught.value)


def test_a_folder_that_others_named_is_found_by_its_plain_name(db: Path) -> None:
    raw_create(db / "with space & ü", "1")
    with opened(db, "with space & ü") as store:
        assert store.source().count() == 1
        assert store.source().identity().collections == ("with space & ü",)
    put(db, [row("1"), row("2")], collection="a b")
    assert (db / "a%20b").is_dir()


def test_a_name_that_no_folder_can_have_is_an_error_of_the_address(db: Path) -> None:
    with opened(db, "ü" * 200) as store, pytest.raises(AddressError, match="too long"):
        store.source().count()


def test_a_second_process_is_told_that_the_collection_is_open(db: Path) -> None:
    put(db, [row("1")])
    code = (
        "import sys\nfrom exitramp.registry import open_store\nfrom exitramp.errors import StoreUnavailable\n"
        "try:\n    open_store(sys.argv[1]).source().count()\nexcept StoreUnavailable as error:\n    print(error)\n"
    )
    with opened(db) as store:
        assert store.source().count() == 1
        told = subprocess.run(
            [sys.executable, "-c", code, f"qdrant:{db}#c"], capture_output=True, text=True, check=True
        )
    assert "another process has this collection open" in told.stdout
    assert "next:" in told.stdout


def test_stores_of_one_process_share_the_shard_until_the_last_is_closed(db: Path) -> None:
    put(db, [row("1")])
    with opened(db) as one:
        with opened(db) as two:
            two.sink().upsert(batch_from_rows([row("2")], PLAIN))
            assert one.source().count() == 2
        assert one.source().count() == 2
        with pytest.raises(StoreUnavailable, match="closed"):
            two.source().count()
    engine.EdgeShard.load(str(db / "c")).close()


def test_closing_twice_and_closing_unused_do_nothing(db: Path) -> None:
    store = open_store(f"qdrant:{db}#c")
    store.close()
    store.close()
    with pytest.raises(StoreUnavailable):
        store.source().identity()


def test_a_shard_without_a_log_is_read_but_not_written(db: Path) -> None:
    db.mkdir()
    params = engine.EdgeVectorParams(2, engine.Distance.Dot)
    shard = engine.EdgeShard.create(str(db / "c"), engine.EdgeConfig(vectors=params, wal_enabled=False))
    shard.update(engine.UpdateOperation.upsert_points([engine.Point(1, [1.0, 2.0], None)]))
    shard.flush()
    shard.close()
    with opened(db) as store:
        assert store.source().count() == 1
        with pytest.raises(StoreRejected, match="write-ahead log"):
            store.sink().create(PLAIN, ORIGIN)
        with pytest.raises(StoreRejected, match="write-ahead log"):
            store.sink().upsert(batch_from_rows([row("2")], PLAIN))


def test_a_cursor_at_the_greatest_id_is_followed_by_one_empty_last_page(db: Path) -> None:
    ids = ["18446744073709551615", "ffffffff-ffff-ffff-ffff-ffffffffffff"]
    put(db, [row(id_) for id_ in ids])
    with opened(db) as store:
        source = store.source()
        first, second = source.scan(Partition(), batch_rows=1)
        [rest] = source.scan(Partition(), batch_rows=5, after=first.cursor)
        assert rest.batch.column("id").to_pylist() == [ids[1]]
        [nothing] = source.scan(Partition(), batch_rows=5, after=second.cursor)
        assert (nothing.batch.num_rows, nothing.last) == (0, True)


def test_a_cursor_of_another_store_is_refused(db: Path) -> None:
    put(db, [row("1")])
    with opened(db) as store, pytest.raises(UsageError, match="another kind of store"):
        list(store.source().scan(Partition(), batch_rows=5, after=make_cursor(offset=3)))


def test_points_without_vectors_and_with_some_of_them_come_back_so(db: Path) -> None:
    title = VectorField("title", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 2)
    spec = CollectionSpec("c", IdKind.UINT64, (*PLAIN.vectors, title))
    rows = [row("1", vector=VECTOR), Row("2", vectors={"vector:title": VECTOR}), Row("3")]
    put(db, rows, spec)
    with opened(db) as store:
        [page] = store.source().scan(Partition(), batch_rows=10)
        found = {each.id: sorted(each.vectors) for each in rows_from_batch(page.batch, spec)}
        assert found == {"1": ["vector"], "2": ["vector:title"], "3": []}
        put(db, [Row("1")], spec)
        assert not rows_from_batch(store.source().fetch([RecordKey("1")]), spec)[0].vectors


def test_a_folder_of_the_clients_local_mode_is_called_what_it_is(tmp_path: Path) -> None:
    from qdrant_client import QdrantClient, models

    client = QdrantClient(path=str(tmp_path / "local"))
    client.create_collection("c", vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT))
    client.close()
    before = sorted(path.name for path in (tmp_path / "local").rglob("*"))
    with opened(tmp_path / "local") as store:
        with pytest.raises(CollectionMissing) as missing:
            store.source().describe()
        assert "local mode" in (missing.value.hint or "")
        with pytest.raises(UsageError) as refused:
            store.sink().create(PLAIN, ORIGIN)
        assert "local mode" in (refused.value.hint or "")
    assert sorted(path.name for path in (tmp_path / "local").rglob("*")) == before


def test_vectors_at_any_byte_of_memory_are_taken(db: Path) -> None:
    """As they stand in another store's answer, whose bytes are not copied."""
    [field] = PLAIN.vectors
    numbers = pa.py_buffer(b"?" + VECTOR.tobytes() * 2).slice(1)
    inner = pa.Array.from_buffers(pa.float32(), 4, [None, numbers])
    column = pa.FixedSizeListArray.from_arrays(inner, type=vector_type(field))
    columns = [pa.array(["1", "2"]), pa.nulls(2, pa.string()), column]
    with opened(db) as store:
        sink = store.sink()
        sink.create(PLAIN, ORIGIN)
        sink.upsert(pa.RecordBatch.from_arrays(columns, schema=stream_schema(PLAIN)))
        sink.flush()
    with opened(db) as store:
        pages = store.source().scan(Partition(), batch_rows=10)
        found = [each.vectors["vector"].tolist() for page in pages for each in rows_from_batch(page.batch, PLAIN)]
    assert found == [[1.0, 2.0], [1.0, 2.0]]
