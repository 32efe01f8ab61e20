"""Indexes of all kinds, namespaces, addresses and rights, by Pinecone's own client against the mock: wire mocked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exitramp import __version__
from exitramp.arrow import record_keys
from exitramp.errors import (
    AddressError,
    CollectionExists,
    CollectionMissing,
    DataInvalid,
    StoreRejected,
    StoreUnavailable,
    UsageError,
    WriteRefused,
)
from exitramp.faults import Fault
from exitramp.ports import DropsCollection, Origin, Partition, Query, TransferAccount
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp.testing.rows import Row, batch_from_rows, rows_from_batch
from exitramp.urls import Address, Network
from exitramp_adapters.stores.pinecone import reading
from exitramp_adapters.stores.pinecone.client import namespace_of, native_namespace
from tests.adapters.pinecone_mock import MANAGED, Mocked, keys_in, running

HERE = {"cloud": "aws", "region": "us-east-1"}
DENSE = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 4)
SPARSE = VectorField("", VectorKind.SPARSE, DType.FLOAT32, Metric.DOT, None)


@pytest.fixture
def mocked(tmp_path: Path) -> Iterator[Mocked]:
    with running(tmp_path, rates=False) as found:
        yield found


def spec_of(*fields: VectorField, name: str = "docs") -> CollectionSpec:
    return CollectionSpec(name, IdKind.STRING, fields, has_namespaces=True)


def rows_of(mocked: Mocked, index: str, **options: Any) -> list[Row]:
    with mocked.opened(index, **options) as store:
        source = store.source()
        spec = source.describe()
        return [row for page in source.scan(Partition(), batch_rows=50) for row in rows_from_batch(page.batch, spec)]


# Namespaces


@pytest.mark.parametrize(
    "name",
    [None, "", "a", "__default__", "mandant ü/#?", "exitramp-ns-", "exitramp-ns-6162", "exitramp-ns-c3bc", "x" * 512],
)
def test_every_namespace_has_a_spelling_of_its_own_and_comes_back(name: str | None) -> None:
    native = native_namespace(name)
    assert native.isascii()
    assert 1 <= len(native) <= 512
    assert namespace_of(native) == name


def test_the_name_of_a_namespace_that_somebody_else_chose_is_left_as_it_is() -> None:
    for native in ("exitramp-ns-6162", "exitramp-ns-zz", "exitramp-ns-C3BC", "b"):
        assert namespace_of(native) == native
    assert namespace_of("__default__") is None


def test_an_address_narrows_an_index_to_one_namespace(mocked: Mocked) -> None:
    mocked.fill("docs", {"": ["1", "2"], "b": ["1", "3", "4"]})
    with mocked.opened("docs", namespace="b") as store:
        source = store.source()
        assert source.count() == 3
        assert not source.describe().has_namespaces
        assert keys_in(store) == [RecordKey("1"), RecordKey("3"), RecordKey("4")]
        assert source.fetch([RecordKey("2"), RecordKey("3")]).num_rows == 1
        hits = store.search().search(Query(dense=np.array([1, 0], np.float32)), k=9)
        assert {key.id for key in hits.keys} == {"1", "3", "4"}
    with mocked.opened("docs", namespace="__default__") as store:
        assert keys_in(store) == [RecordKey("1"), RecordKey("2")]
    with mocked.opened("docs", namespace="nowhere") as store, pytest.raises(CollectionMissing, match="nowhere"):
        store.source().count()


def test_the_short_form_of_an_address_names_index_and_namespace(mocked: Mocked) -> None:
    mocked.fill("docs", {"": ["1", "2"], "b": ["1", "3", "4"]})
    url = mocked.base.replace("pinecone:", "http:")
    for fragment, wanted in (("", 5), ("#b", 3), ("#__default__", 2)):
        store = open_store(Address.parse(f"pinecone:docs?base_url={url}{fragment}"), Network())
        assert len(keys_in(store)) == store.source().count() == wanted
        store.close()


def test_the_short_form_does_not_write_to_the_cloud_unseen() -> None:
    store = open_store(Address.parse("pinecone:docs?api_key=env:HOME"), Network())
    if store is not None and Address.parse("pinecone:docs").is_loopback:
        with pytest.raises(WriteRefused, match="allow-writes"):
            store.sink()


@pytest.mark.parametrize(
    "address",
    [
        "pinecone:Docs?base_url=http://127.0.0.1:1",
        "pinecone:docs?base_url=nonsense",
        "pinecone:docs?namespace=b&base_url=http://127.0.0.1:1",
        "pinecone://127.0.0.1:1/docs",
        "pinecone://127.0.0.1:1?base_url=http://127.0.0.1:2#docs",
        "pinecone://127.0.0.1:1?nonsense=1#docs",
    ],
)
def test_an_address_that_means_nothing_is_refused(address: str) -> None:
    with pytest.raises(AddressError):
        store = open_store(Address.parse(address), Network())
        store.source().describe()


def test_the_cloud_asks_for_a_key_by_reference() -> None:
    store = open_store(Address.parse("pinecone://pinecone.invalid#docs"), Network())
    with pytest.raises(UsageError, match="api_key=env:"):
        store.source().describe()


# Division and order


def test_a_large_namespace_is_divided_whatever_its_ids_begin_with(
    mocked: Mocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "DIVIDED_FROM", 50)
    ids = [f"doc-{number:04d}" for number in range(300)]
    ids += ["d", "doc", "doc-", "doc-00", "e", "zebra", "a", "~", "\x7f", "doc-00001", "doc-0000~", "DOC-1"]
    mocked.fill("docs", {"": ids, "b": [f"{number:03d}" for number in range(150)], "c": ["only"]})
    with mocked.opened("docs", fetches_per_second=0) as store:
        source = store.source()
        pages = list(source.scan(Partition(), batch_rows=40))
        whole = [key for page in pages for key in record_keys(page.batch)]
        assert len(whole) == len(set(whole)) == len(ids) + 151
        for wanted in (2, 5):
            parts = source.partitions(wanted)
            assert 1 < len(parts) <= wanted
            found = [
                key for part in parts for page in source.scan(part, batch_rows=70) for key in record_keys(page.batch)
            ]
            assert len(found) == len(whole)
            assert set(found) == set(whole)
        for done in (0, 4, len(pages) // 2, len(pages) - 2):
            rest = source.scan(Partition(), batch_rows=40, after=pages[done].cursor)
            got = [key for page in rest for key in record_keys(page.batch)]
            left = [key for page in pages[done + 1 :] for key in record_keys(page.batch)]
            assert sorted(map(repr, got)) == sorted(map(repr, left))


def test_a_token_that_is_no_longer_taken_costs_a_list_and_no_record(mocked: Mocked) -> None:
    mocked.fill("docs", {"": [f"{number:04d}" for number in range(350)]})
    with mocked.opened("docs") as store:
        pages = list(store.source().scan(Partition(), batch_rows=100))
        stale = type(pages[1].cursor)(pages[1].cursor.replace("eyJ", "AAA"))
        assert stale != pages[1].cursor
        rest = [
            key
            for page in store.source().scan(Partition(), batch_rows=100, after=stale)
            for key in record_keys(page.batch)
        ]
    assert [key.id for key in rest] == [f"{number:04d}" for number in range(200, 350)]


def test_ids_from_a_file_stand_in_for_a_list(tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_text('1\n2\n2\nnot-there\n{"id": "3", "namespace": "b"}\n', "utf-8")
    folder = tmp_path / "mock"
    folder.mkdir()
    with running(folder, pod=True) as mocked:
        mocked.fill("pods", {"": ["1", "2"], "b": ["3", "4"]})
        with mocked.opened("pods") as store, pytest.raises(StoreRejected, match="serverless"):
            keys_in(store)
        with mocked.opened("pods", ids=file) as store:
            assert set(keys_in(store)) == {RecordKey("1"), RecordKey("2"), RecordKey("3", "b")}
            findings = {finding.code: finding for finding in store.source().identity().findings}
            assert findings["pinecone.ids"].count == 4
            source = store.source()
            list(source.scan(source.partitions(1)[0], batch_rows=10))
            parts = source.partitions(3)
            assert len(parts) == 2 or len(parts) == 3
            found = {
                key for part in parts for page in source.scan(part, batch_rows=9) for key in record_keys(page.batch)
            }
            assert len(found) == 3
            missing = [each for each in store.source().identity().findings if each.code == "pinecone.ids.missing"]
            assert missing, "nothing tells of the id that no record has"


def test_an_id_with_a_space_is_named_and_not_skipped(mocked: Mocked) -> None:
    mocked.fill("docs", {"": ["1", "with space", "2"]})
    with mocked.opened("docs") as store, pytest.raises(StoreRejected, match="'with space'"):
        keys_in(store)


# Kinds of indexes


def test_sparse_values_beside_dense_ones_come_back_and_are_searched(mocked: Mocked) -> None:
    spec = spec_of(DENSE, SPARSE)
    words = (np.array([3, 70_000, 2**32 - 1], np.uint32), np.array([0.5, -0.25, 1e-3], np.float32))
    plain = np.arange(1, 5, dtype=np.float32)
    rows = [
        Row("1", payload={"a": 0.5}, vectors={"vector": plain, "sparse:": words}),
        Row("2", "b", vectors={"vector": -plain}),
    ]
    with mocked.opened("docs", **HERE) as store:
        sink = store.sink()
        sink.create(spec, Origin(spec, __version__))
        sink.upsert(batch_from_rows(rows, spec))
        sink.finish(TransferAccount())
        hits = store.search().search(Query(sparse=(words[0][:1], words[1][:1])), k=5)
        assert [key.id for key in hits.keys] == ["1"]
        assert len(store.search().search(Query(dense=plain), k=5).keys) == 2
    found = {row.id: row for row in rows_of(mocked, "docs")}
    assert [each.tolist() for each in found["1"].vectors["sparse:"]] == [each.tolist() for each in words]
    assert "sparse:" not in found["2"].vectors


def test_an_index_of_sparse_vectors_alone_is_written_and_read(mocked: Mocked) -> None:
    spec = spec_of(SPARSE)
    words = (np.array([3, 9], np.uint32), np.array([0.5, 2.0], np.float32))
    with mocked.opened("words", type="sparse", **HERE) as store:
        sink = store.sink()
        sink.create(replace(spec, name="words"), Origin(spec, __version__))
        sink.upsert(batch_from_rows([Row("1", vectors={"sparse:": words})], spec))
        sink.finish(TransferAccount())
        with pytest.raises(DataInvalid, match="'2'"):
            sink.upsert(batch_from_rows([Row("2")], spec))
    [row] = rows_of(mocked, "words")
    assert row.vectors["sparse:"][0].tolist() == [3, 9]  # type: ignore[index]


def test_sparse_values_that_the_schema_does_not_tell_of_are_named(mocked: Mocked) -> None:
    dot = {"_values": {"type": "dense_vector", "dimension": 2, "metric": "dotproduct"}}
    mocked.fill("docs", {}, schema=dot)
    sparse = {"indices": [4], "values": [1.0]}
    with mocked.client() as client:
        client.index("docs").upsert(vectors=[{"id": "1", "values": [1.0, 2.0], "sparse_values": sparse}])
    with pytest.raises(DataInvalid, match="type=hybrid"):
        rows_of(mocked, "docs")
    [row] = rows_of(mocked, "docs", type="hybrid")
    assert row.vectors["sparse:"][0].tolist() == [4]  # type: ignore[index]


def test_cosine_beside_sparse_vectors_is_refused_before_anything_is_made(mocked: Mocked) -> None:
    spec = spec_of(replace(DENSE, metric=Metric.COSINE), SPARSE)
    with mocked.opened("docs", **HERE) as store:
        with pytest.raises(DataInvalid, match="dot"):
            store.sink().create(spec, Origin(spec, __version__))
        with pytest.raises(CollectionMissing):
            store.source().describe()


def test_where_a_new_index_shall_be_is_asked_and_carried_over(mocked: Mocked) -> None:
    spec = spec_of(DENSE)
    with mocked.opened("docs") as store, pytest.raises(UsageError, match="region="):
        store.sink().create(spec, Origin(spec, __version__))
    with mocked.client() as client:
        fields = {"_values": {"type": "dense_vector", "dimension": 4, "metric": "dotproduct"}}
        there = MANAGED | {"region": "eu-west-1"}
        client.indexes.create(
            name="first", schema={"fields": fields}, deployment=there, tags={"team": "search"}, timeout=-1
        )
    with mocked.opened("first") as first, mocked.opened("second") as second:
        source = first.source()
        second.sink().create(source.describe().renamed("second"), Origin(source.describe(), __version__))
        made = second.source().describe().index["pinecone"]
        assert made["deployment"]["region"] == "eu-west-1"
        assert made["metadata"] == {"team": "search"}
        assert second.source().origin() == Origin(source.describe(), __version__)


def test_an_origin_with_no_room_in_the_tags_is_refused_before_anything_is_made(mocked: Mocked) -> None:
    noise = np.random.default_rng(3).bytes(4000).hex()
    spec = replace(spec_of(DENSE), index={"other": noise})
    with mocked.opened("docs", **HERE) as store:
        with pytest.raises(DataInvalid, match="tags"):
            store.sink().create(spec, Origin(spec, __version__))
        with pytest.raises(CollectionMissing):
            store.source().describe()


def test_numbers_of_metadata_are_floats_however_they_were_written(mocked: Mocked) -> None:
    mocked.fill("docs", {})
    with mocked.client() as client:
        metadata = {"year": 2020, "ratio": 0.5, "is": True, "tags": ["a", "b"], "gone": None}
        client.index("docs").upsert(vectors=[{"id": "1", "values": [1.0, 2.0], "metadata": metadata}])
    [row] = rows_of(mocked, "docs")
    assert row.payload_text == '{"is":true,"ratio":0.5,"tags":["a","b"],"year":2020.0}'


# Limits of a request


def test_metadata_of_forty_kilobytes_is_kept_and_more_refused_by_name(mocked: Mocked) -> None:
    spec = spec_of(DENSE)
    vector = np.ones(4, np.float32)
    room = 40_960 - len('{"text":""}')
    with mocked.opened("docs", **HERE) as store:
        sink = store.sink()
        sink.create(spec, Origin(spec, __version__))
        sink.upsert(batch_from_rows([Row("1", payload={"text": "x" * room}, vectors={"vector": vector})], spec))
        sink.flush()
        rows = [Row(id_, payload={"text": "x" * (room + (id_ == "3"))}, vectors={"vector": vector}) for id_ in "23"]
        with pytest.raises(DataInvalid, match="'3' takes 40,961 bytes"):
            sink.upsert(batch_from_rows(rows, spec))
        assert store.source().count() == 1, "something of a batch that was refused is there"
    with mocked.opened("docs", metadata_bytes=100_000) as store:
        sink = store.sink()
        sink.upsert(batch_from_rows(rows, spec))
        for _ in range(2):
            with pytest.raises(StoreRejected, match=r"'3': .* 40961 bytes"):
                sink.flush()
        assert store.source().count() == 2, "the record beside the one that is refused did not land"


def test_a_batch_is_cut_into_upserts_of_two_megabytes(mocked: Mocked) -> None:
    wide = replace(DENSE, dimensions=1000)
    spec = spec_of(wide)
    matrix = np.random.default_rng(5).standard_normal((600, 1000), dtype=np.float32)
    rows = [Row(str(number), vectors={"vector": vector}) for number, vector in enumerate(matrix)]
    with mocked.opened("docs", **HERE) as store:
        sink = store.sink()
        sink.create(spec, Origin(spec, __version__))
        sink.upsert(batch_from_rows(rows, spec))
        sink.flush()
        assert store.source().count() == 600
    counters = mocked.service.counters()
    assert 6 <= counters["upsert"] <= 9
    assert counters["rejected"] == 1, "only the look whether the index is there"
    found = {row.id: row for row in rows_of(mocked, "docs")}
    assert all(found[row.id].vectors["vector"].tobytes() == row.vectors["vector"].tobytes() for row in rows)  # type: ignore[union-attr]


# Rights and time


def test_a_key_that_may_only_read_reads_everything(mocked: Mocked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINECONE_VIEWER", "viewer-1")
    mocked.fill("docs", {"": ["1", "2"], "b": ["3"]})
    spec = spec_of(replace(DENSE, dimensions=2))
    with mocked.opened("docs", api_key="env:PINECONE_VIEWER") as store:
        source = store.source()
        source.identity(), source.describe(), source.origin(), source.count()
        assert len(keys_in(store)) == 3
        assert source.fetch([RecordKey("1")]).num_rows == 1
        assert len(store.search().search(Query(dense=np.array([1, 0], np.float32)), k=9).keys) == 3
        before = mocked.service.counters()["records_written"]
        sink = store.sink()
        sink.upsert(batch_from_rows([Row("9", vectors={"vector": np.ones(2, np.float32)})], spec))
        with pytest.raises(StoreRejected):
            sink.flush()
        with pytest.raises(StoreRejected):
            sink.delete([RecordKey("1")])
        with pytest.raises(StoreRejected):
            store.drop()  # type: ignore[attr-defined]
        assert mocked.service.counters()["records_written"] == before


def test_finish_waits_until_readers_see_what_was_written(tmp_path: Path) -> None:
    spec = spec_of(DENSE)
    with running(tmp_path, rates=False, freshness_seconds=0.6) as mocked, mocked.opened("docs", **HERE) as store:
        sink = store.sink()
        sink.create(spec, Origin(spec, __version__))
        sink.upsert(batch_from_rows([Row("1", vectors={"vector": np.ones(4, np.float32)})], spec))
        sink.flush()
        assert store.source().count() == 0, "the mock's delay is not felt, so this test says nothing"
        sink.finish(TransferAccount())
        assert store.source().count() == 1


def test_a_write_that_failed_under_way_is_sent_again_by_whoever_tries_again(mocked: Mocked) -> None:
    spec = spec_of(DENSE)
    rows = [Row(str(number), vectors={"vector": np.ones(4, np.float32)}) for number in range(6)]
    with mocked.opened("docs", **HERE) as store:
        sink = store.sink()
        sink.create(spec, Origin(spec, __version__))
        mocked.service.inject(Fault("unavailable", {"calls": 1}))
        sink.upsert(batch_from_rows(rows[:3], spec))
        with pytest.raises(StoreUnavailable):
            sink.flush()
        sink.upsert(batch_from_rows(rows[3:], spec))
        sink.flush()
        assert store.source().count() == 6, "what failed under way was forgotten"


def test_a_collection_without_namespaces_has_none_until_somebody_makes_one(mocked: Mocked) -> None:
    spec = replace(spec_of(DENSE), has_namespaces=False)
    rows = [Row(str(number), vectors={"vector": np.ones(4, np.float32)}) for number in range(3)]
    with mocked.opened("docs", **HERE) as store:
        sink = store.sink()
        sink.create(spec, Origin(spec, __version__))
        sink.upsert(batch_from_rows(rows, spec))
        sink.flush()
        assert not store.source().describe().has_namespaces
    assert [row.key for row in rows_of(mocked, "docs")] == [row.key for row in rows]
    with mocked.client() as client:
        client.index("docs").upsert(vectors=[("9", [1.0, 2.0, 3.0, 4.0])], namespace="b")
    assert RecordKey("9", "b") in {row.key for row in rows_of(mocked, "docs")}


def test_an_index_is_dropped(mocked: Mocked) -> None:
    mocked.fill("docs", {"": ["1"]})
    with mocked.opened("docs") as store:
        assert isinstance(store, DropsCollection)
        store.drop()
        with pytest.raises(CollectionMissing):
            store.source().count()
        with pytest.raises(CollectionMissing):
            store.drop()


def test_an_index_that_is_there_with_another_metric_is_left_alone(mocked: Mocked) -> None:
    mocked.fill("docs", {"": ["1"]})
    spec = spec_of(replace(DENSE, dimensions=2))
    with mocked.opened("docs", **HERE) as store, pytest.raises(CollectionExists, match="metric"):
        store.sink().create(spec, Origin(spec, __version__))
