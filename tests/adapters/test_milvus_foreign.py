"""Collections of milvus-lite that somebody else made: typed fields, several vectors, partitions, what is refused."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient

from exitramp import canonical
from exitramp.arrow import record_keys
from exitramp.errors import CollectionExists, CollectionMissing, DataInvalid, PathUnusable, StoreUnavailable, UsageError
from exitramp.filters import Eq, Range
from exitramp.ports import Partition, Query, SearchSettings
from exitramp.records import IdKind, Metric, RecordKey, VectorKind
from exitramp.registry import open_store
from exitramp.testing import Row, batch_from_rows
from exitramp.testing.conformance.steps import origin_of, rows_from_batch
from exitramp.testing.within import rows_within, spec_within
from tests.adapters.milvus_harness import LiteHarness, filled, typed_schema

TYPED = {
    "flag": True,
    "tiny": -128,
    "small": 32767,
    "middle": -(2**31),
    "large": 2**62,
    "half": 0.5,
    "ratio": 0.1 + 0.2,
    "title": "größer 🚀",
    "told": {"a": [1, 1.0, None], "b": {"c": "x"}},
    "tags": ["a", "b"],
    "numbers": [1, 2, 3],
}


@pytest.fixture
def harness(tmp_path: Path) -> LiteHarness:
    return LiteHarness(tmp_path)


def make(harness: LiteHarness, name: str = "theirs", fill: Callable[[Any, str], None] | None = None) -> None:
    with harness.client() as client:
        schema = typed_schema(DataType.INT64)
        params = client.prepare_index_params()
        params.add_index("body", index_type="IVF_FLAT", metric_type="L2", params={"nlist": 4})
        params.add_index("title", index_type="INVERTED")
        client.create_collection(name, schema=schema, index_params=params)
        (fill or filled)(client, name)


def read(address: str) -> tuple[Any, list[Row]]:
    store = open_store(address)
    try:
        source = store.source()
        spec = source.describe()
        rows = [row for page in source.scan(Partition(), batch_rows=3) for row in rows_from_batch(page.batch, spec)]
        return spec, rows
    finally:
        store.close()


def test_typed_fields_are_keys_of_the_payload_exactly(harness: LiteHarness) -> None:
    make(harness)
    spec, rows = read(harness.address("theirs"))
    assert spec.id_kind is IdKind.INT64
    assert [(field.name, field.metric, field.dimensions) for field in spec.vectors] == [("body", Metric.EUCLIDEAN, 4)]
    assert [row.id for row in rows] == ["-5", "7", "9007199254740993"]
    wanted = TYPED | {"extra": 7, "nested": {"deep": [None]}}
    assert rows[1].payload_text == canonical.dumps(wanted)


def test_what_the_fields_are_can_be_said(harness: LiteHarness) -> None:
    make(harness)
    spec, rows = read(f"milvus:{harness.uri}?document=title&vectors=body#theirs")
    assert spec.has_documents
    assert spec.vectors[0].column == "vector"
    assert rows[1].document == "größer 🚀"
    assert "title" not in (rows[1].payload or {})
    with pytest.raises(UsageError, match="no such column"):
        read(f"milvus:{harness.uri}?document=text#theirs")


def test_a_copy_into_milvus_has_the_same_types_and_indexes(harness: LiteHarness) -> None:
    make(harness)
    spec, rows = read(harness.address("theirs"))
    store = open_store(harness.address("copied"))
    sink = store.sink()
    sink.create(spec, origin_of(spec))
    odd = Row("8", payload={"flag": "no bool", "$exitramp_rest": 1}, vectors=rows[0].vectors)
    sink.upsert(batch_from_rows([*rows, odd], spec))
    sink.flush()
    store.close()
    copied, found = read(harness.address("copied"))
    assert {row.key: row.payload_text for row in found} == {row.key: row.payload_text for row in [*rows, odd]}
    told, before = copied.index["milvus"], spec.index["milvus"]
    assert told["fields"] == before["fields"]
    assert told["indexes"] == before["indexes"]
    with harness.client() as client:
        assert {each["name"]: each["type"] for each in client.describe_collection("copied")["fields"]} == {
            **{each["name"]: each["type"] for each in client.describe_collection("theirs")["fields"]},
            "exitramp_rest": DataType.ARRAY,
        }


def test_typed_fields_are_filtered_by_exactly(harness: LiteHarness) -> None:
    make(harness)
    store = open_store(harness.address("theirs"))
    search = store.search()
    query = Query("body", dense=np.zeros(4, np.float32))
    for where, wanted in (
        (Eq(("title",), "größer 🚀"), {"-5", "7", "9007199254740993"}),
        (Eq(("tags",), "b"), {"-5", "7", "9007199254740993"}),
        (Eq(("numbers",), 4), set()),
        (Eq(("extra",), 7), {"7"}),
        (Range(("extra",), gt=7), {"9007199254740993"}),
        (Eq(("told", "b", "c"), "x"), {"-5", "7", "9007199254740993"}),
    ):
        for exact in (False, True):
            hits = search.search(query, k=5, where=where, settings=SearchSettings(exact=exact))
            assert {key.id for key in hits.keys} == wanted, (where, exact)
    store.close()


def test_partitions_are_named_and_are_namespaces_where_that_is_said(harness: LiteHarness) -> None:
    def fill(client: Any, name: str) -> None:
        for above, partition in ((0, "tenant_a"), (10, "tenant_b")):
            client.create_partition(name, partition)
            filled(client, name, above=above, partition_name=partition)

    make(harness, fill=fill)
    plain = open_store(harness.address("theirs"))
    [finding] = [each for each in plain.source().identity().findings if each.code == "source.partitions"]
    assert "tenant_a" in finding.message
    plain.close()
    store = open_store(f"milvus:{harness.uri}?namespace=$partitions#theirs")
    source = store.source()
    pages = list(source.scan(Partition(), batch_rows=2))
    keys = [key for page in pages for key in record_keys(page.batch)]
    assert sorted(set(keys)) == sorted(keys)
    assert {key.namespace for key in keys} == {"tenant_a", "tenant_b"}
    assert len(keys) == 6
    for done, page in enumerate(pages, start=1):
        left = source.scan(Partition(), batch_rows=2, after=page.cursor)
        rest = [key for each in left for key in record_keys(each.batch)]
        assert rest == [key for each in pages[done:] for key in record_keys(each.batch)]
    assert record_keys(source.fetch([RecordKey("17", "tenant_b"), RecordKey("7")])) == [RecordKey("17", "tenant_b")]
    with pytest.raises(UsageError, match="namespace"):
        store.sink().create(source.describe(), origin_of(source.describe()))
    store.close()


def test_several_vectors_and_sparse_ones_are_read_and_searched(harness: LiteHarness) -> None:
    with harness.client() as client:
        schema = MilvusClient.create_schema()
        schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=20)
        schema.add_field("one", DataType.FLOAT_VECTOR, dim=4)
        schema.add_field("two", DataType.FLOAT_VECTOR, dim=2)
        schema.add_field("words", DataType.SPARSE_FLOAT_VECTOR)
        params = client.prepare_index_params()
        params.add_index("one", index_type="HNSW", metric_type="COSINE", params={"M": 8, "efConstruction": 50})
        params.add_index("two", index_type="FLAT", metric_type="IP")
        params.add_index("words", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
        client.create_collection("wide", schema=schema, index_params=params)
        rows = [{"key": f"k{n}", "one": [n, 1, 0, 0], "two": [n, 0], "words": {n: 0.5, 99: 0.1}} for n in range(5)]
        client.insert("wide", rows)
    spec, found = read(harness.address("wide"))
    assert [(each.name, each.kind, each.metric) for each in spec.vectors] == [
        ("one", VectorKind.DENSE, Metric.COSINE),
        ("two", VectorKind.DENSE, Metric.DOT),
        ("words", VectorKind.SPARSE, Metric.DOT),
    ]
    indices, values = found[3].vectors["sparse:words"]
    assert (list(indices), [round(float(each), 3) for each in values]) == ([3, 99], [0.5, 0.1])
    store = open_store(harness.address("wide"))
    sparse = Query("words", sparse=(np.array([3], np.uint32), np.array([1.0], np.float32)))
    assert store.search().search(sparse, k=1).keys == (RecordKey("k3"),)
    assert store.search().search(sparse, k=5).keys == (RecordKey("k3"),), "the others have nothing in common with it"
    assert store.search().search(Query("two", dense=np.array([1, 0], np.float32)), k=2).keys[0].id == "k4"
    assert set(store.search().search_options()) == {"ef"}
    with pytest.raises(UsageError, match="nprobe"):
        settings = SearchSettings(options={"nprobe": 3})
        store.search().search(Query("two", dense=np.zeros(2, np.float32)), k=1, settings=settings)
    store.close()


def test_a_field_without_an_index_has_no_metric_until_the_address_says_it(harness: LiteHarness) -> None:
    with harness.client() as client:
        schema = MilvusClient.create_schema()
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
        client.create_collection("bare", schema=schema)
        client.insert("bare", [{"id": 1, "vector": [1, 2]}])
    with pytest.raises(DataInvalid, match="metric"):
        read(harness.address("bare"))
    spec, rows = read(f"milvus:{harness.uri}?metric=dot#bare")
    assert spec.vectors[0].metric is Metric.DOT
    assert len(rows) == 1


def test_a_collection_that_makes_its_own_ids_is_read_and_not_written(harness: LiteHarness) -> None:
    with harness.client() as client:
        schema = MilvusClient.create_schema(auto_id=True)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
        params = client.prepare_index_params()
        params.add_index("vector", index_type="FLAT", metric_type="L2")
        client.create_collection("auto", schema=schema, index_params=params)
        client.insert("auto", [{"vector": [1, 2]}, {"vector": [3, 4]}])
    spec, rows = read(harness.address("auto"))
    assert len({row.id for row in rows}) == 2
    store = open_store(harness.address("auto"))
    with pytest.raises(CollectionExists, match="autoID"):
        store.sink().create(spec, origin_of(spec))
    store.close()


def test_payloads_that_fields_do_not_hold_stand_in_the_rest(harness: LiteHarness) -> None:
    store = open_store(harness.address("odd"))
    sink = store.sink()
    spec = spec_within(sink.limits(), "odd")
    plain = rows_within(spec, sink.limits(), 5, 1)
    payloads: list[Any] = [
        {"vector": 1},
        {"id": "x"},
        None,
        {"long": "é" * 40_000},
        {"$meta": 1, "_seq": 2},
    ]
    rows = [Row(row.id, payload=payload, vectors=row.vectors) for row, payload in zip(plain, payloads, strict=True)]
    sink.create(spec, origin_of(spec))
    sink.upsert(batch_from_rows(rows, spec))
    sink.flush()
    store.close()
    _, found = read(harness.address("odd"))
    assert {row.id: row.payload for row in found} == {row.id: row.payload for row in rows}
    with harness.client() as client:
        raw = client.query("odd", filter="array_length(exitramp_rest) > 0", output_fields=["exitramp_rest"])
    assert {each["id"] for each in raw} == {row.id for row in rows}


def test_looking_makes_nothing_and_what_is_no_folder_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "none.db"
    store = open_store(f"milvus:{missing}#articles")
    with pytest.raises(CollectionMissing):
        store.source().count()
    store.source().identity()
    store.close()
    assert not missing.exists()
    missing.write_bytes(b"SQLite format 3\0")
    store = open_store(f"milvus:{missing}#articles")
    with pytest.raises(PathUnusable, match="milvus-lite 2"):
        store.source().count()
    store.close()


def test_a_folder_that_another_process_has_open_is_named(harness: LiteHarness) -> None:
    make(harness)
    held = "import sys; from milvus_lite import MilvusLite; MilvusLite(sys.argv[1]); print('open', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", held, harness.uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        store = open_store(harness.address("theirs"))
        with pytest.raises(StoreUnavailable, match="another process"):
            store.source().count()
        store.close()
        other.kill()
    assert len(read(harness.address("theirs"))[1]) == 3


def test_a_collection_is_dropped_whole(harness: LiteHarness) -> None:
    make(harness)
    store = open_store(harness.address("theirs"))
    store.drop()  # type: ignore[attr-defined]
    with pytest.raises(CollectionMissing):
        store.drop()  # type: ignore[attr-defined]
    store.close()
    assert harness.raw_collections() == []


def test_reading_leaves_logging_as_it_was(harness: LiteHarness) -> None:
    before = (logging.root.level, list(logging.root.handlers))
    make(harness)
    _, rows = read(harness.address("theirs"))
    assert (logging.root.level, list(logging.root.handlers)) == before
    assert rows
