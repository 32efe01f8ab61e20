"""A real Milvus 2.3 server and milvus-lite 3, one suite for both, seeded and read back by `MilvusClient` alone."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient

from exitramp.errors import DataInvalid, StoreRejected, StoreUnavailable, UsageError
from exitramp.faults import Fault
from exitramp.filters import Eq
from exitramp.ports import IndexState, Partition, Query, SearchSettings, Service, TransferAccount
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import open_store, service_adapter
from exitramp.testing import Row, StoreConformance, batch_from_rows
from exitramp.testing.conformance.compare import assert_same_records
from exitramp.testing.conformance.steps import limits_of, opened, origin_of, read, write
from exitramp.testing.within import rows_within, spec_within
from tests.adapters.milvus_harness import (
    LiteHarness,
    MilvusHarness,
    ServerHarness,
    filled,
    load,
    make_indexes,
    typed_schema,
)
from tests.adapters.test_milvus_filters import assert_filters_are_asked

TOKEN = "root:Milvus"
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, str]]:
    """One for the module: it takes 7 s to unpack and start. It asks who calls."""
    options = {"authorization": True, "session_seconds": 4}
    service = service_adapter("milvus-server").make(str(tmp_path_factory.mktemp("milvus")), 0, options)
    try:
        yield service, str(service.start())
    finally:
        service.stop()


@pytest.fixture
def server_harness(server: tuple[Service, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerHarness]:
    service, base = server
    monkeypatch.setenv("MILVUS_TEST_TOKEN", TOKEN)
    service.inject(Fault("none"))  # alive, whatever the test before did to it
    fresh = ServerHarness(service, base, TOKEN, f"test{next(NUMBERS)}")
    yield fresh
    service.inject(Fault("none"))
    fresh.remove()


class TestMilvusServerOnly:
    """What a server has and milvus-lite has not."""

    @pytest.fixture
    def harness(self, server_harness: ServerHarness) -> ServerHarness:
        return server_harness

    def test_an_index_is_built_and_answers_and_leaves_vectors_as_they_were(self, harness: ServerHarness) -> None:
        limits = limits_of(harness)
        spec = CollectionSpec("indexed", IdKind.STRING, (_field(Metric.COSINE),))
        rows = rows_within(spec, limits, 1500, 1)
        with opened(harness, spec.name) as store:
            sink, search = store.sink(), store.search()
            sink.create(spec, origin_of(spec))
            sink.upsert(batch_from_rows(rows, spec))
            growing = search.coverage()  # type: ignore[attr-defined]
            assert (growing.indexed, growing.compared) == (0, 1500)
            sink.finish(TransferAccount())
            built = search.coverage()  # type: ignore[attr-defined]
            assert (built.indexed, built.compared) == (1500, 0)
            assert search.index_state() is IndexState.READY
            assert search.search_options() == {"ef": None}  # type: ignore[attr-defined]
            query = Query("", dense=np.asarray(rows[7].vectors["vector"]))
            exact = search.search(query, k=10, settings=SearchSettings(exact=True))
            wide = search.search(query, k=10, settings=SearchSettings(options={"ef": 500}))
            assert len({*exact.keys} & {*wide.keys}) >= 9
            assert exact.scores == pytest.approx(wide.scores, abs=1e-5)
            few = search.search(query, k=3, where=Eq(("number",), 1400))
            assert [key.id for key in few.keys] == [rows[1400].id]
        assert_same_records(rows, read(harness, spec.name, encoded=False).rows, spec, limits, "with an index")

    def test_typed_fields_partition_keys_and_indexes_are_made_again(self, harness: ServerHarness) -> None:
        with harness.client() as client:
            schema = typed_schema(DataType.VARCHAR)
            schema.add_field("tenant", DataType.VARCHAR, max_length=30, is_partition_key=True)
            client.create_collection("theirs", schema=schema, num_partitions=4)
            params = client.prepare_index_params()
            params.add_index("body", index_type="IVF_FLAT", metric_type="L2", params={"nlist": 4})
            params.add_index("title", index_type="Trie", metric_type="", params={})
            make_indexes(client, "theirs", params, harness.database)
            load(client, "theirs")
            filled(client, "theirs", tenant="of a tenant")
        found = read(harness, "theirs", encoded=False)
        assert {row.id for row in found.rows} == {"-5", "7", str(2**53 + 1)}
        assert all(row.payload["tenant"] == "of a tenant" for row in found.rows if row.payload)
        write(harness, found.spec.renamed("again"), found.rows, encoded=False)
        again = read(harness, "again", encoded=False)
        assert {row.key: row.payload_text for row in again.rows} == {row.key: row.payload_text for row in found.rows}
        told, before = again.spec.index["milvus"], found.spec.index["milvus"]
        assert told["partition_key"] == before["partition_key"] == "tenant"
        assert [each for each in told["fields"] if not each.get("is_primary_key")] == [
            each for each in before["fields"] if not each.get("is_primary_key")
        ]
        assert {each["field"]: each["index_type"] for each in told["indexes"]} == {"body": "IVF_FLAT", "title": "Trie"}
        address = harness.address("theirs").replace("#", "&namespace=tenant#")
        store = open_store(address)
        [page] = list(store.source().scan(Partition(), batch_rows=10))
        assert set(page.batch.column("namespace").to_pylist()) == {"of a tenant"}
        hits = store.search().search(Query("body", dense=np.zeros(4, np.float32)), k=2)
        assert {key.namespace for key in hits.keys} == {"of a tenant"}
        store.close()

    def test_what_is_not_loaded_is_loaded_only_where_that_is_allowed(self, harness: ServerHarness) -> None:
        limits = limits_of(harness)
        spec = spec_within(limits, "asleep")
        write(harness, spec, rows_within(spec, limits, 5, 1), encoded=False)
        with harness.client() as client:
            client.release_collection("asleep")
        with opened(harness, "asleep") as store:
            assert store.source().describe().name == "asleep"
            for look in (store.source().count, lambda: list(store.source().scan(Partition(), batch_rows=5))):
                with pytest.raises(UsageError, match="not loaded") as caught:
                    look()
                assert "load=true" in str(caught.value)
        with harness.client() as client:
            assert client.get_load_state("asleep")["state"].name == "NotLoad"
        store = open_store(harness.address("asleep").replace("#", "&load=true#"))
        assert store.source().count() == 5
        store.close()

    def test_a_user_who_may_only_read_reads_everything_and_writes_nothing(
        self, harness: ServerHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limits = limits_of(harness)
        spec = spec_within(limits, "guarded")
        rows = rows_within(spec, limits, 5, 1)
        write(harness, spec, rows, encoded=False)
        with harness.client() as client:
            client.create_user("reader", "reading1")
            client.create_role("readers")
            for kind, privilege in (
                *(("Collection", each) for each in ("Query", "Search", "IndexDetail", "GetLoadState")),
                *(("Global", each) for each in ("DescribeCollection", "ShowCollections")),
            ):
                client.grant_privilege("readers", kind, privilege, "*", db_name=harness.database)
            client.grant_role("reader", "readers")
        monkeypatch.setenv("MILVUS_TEST_TOKEN", "reader:reading1")
        _until_it_may_read(harness, "guarded")
        try:
            _wait_until_granted(harness)
            assert_same_records(rows, read(harness, "guarded", encoded=False).rows, spec, limits, "by a reader")
            with opened(harness, "guarded") as store:
                store.source().identity()
                assert store.search().search(Query("", dense=np.asarray(rows[0].vectors["vector"])), k=1).keys
                with pytest.raises(StoreRejected, match="refuses access"):
                    store.sink().upsert(batch_from_rows(rows[:1], spec))
                with pytest.raises(StoreRejected, match="refuses access"):
                    store.sink().delete([rows[0].key])
            monkeypatch.setenv("MILVUS_TEST_TOKEN", "reader:wrong")
            with opened(harness, "guarded") as store, pytest.raises(StoreRejected, match="refuses access"):
                store.source().count()
        finally:
            with harness.client() as client:
                client.drop_user("reader")
                for kind, privilege in (
                    *(("Collection", each) for each in ("Query", "Search", "IndexDetail", "GetLoadState")),
                    *(("Global", each) for each in ("DescribeCollection", "ShowCollections")),
                ):
                    client.revoke_privilege("readers", kind, privilege, "*", db_name=harness.database)
                client.drop_role("readers")

    def test_a_metric_that_is_not_known_is_named(self, harness: ServerHarness) -> None:
        with harness.client() as client:
            schema = MilvusClient.create_schema()
            schema.add_field("id", DataType.INT64, is_primary=True)
            schema.add_field("vector", DataType.BINARY_VECTOR, dim=16)
            client.create_collection("jaccard", schema=schema)
            params = client.prepare_index_params()
            params.add_index("vector", index_type="BIN_FLAT", metric_type="JACCARD", params={})
            make_indexes(client, "jaccard", params, harness.database)
            load(client, "jaccard")
            client.insert("jaccard", [{"id": 1, "vector": b"ab"}])
        with opened(harness, "jaccard") as store, pytest.raises(DataInvalid, match="JACCARD"):
            store.source().describe()
        store = open_store(harness.address("jaccard").replace("#", "&metric=hamming#"))
        assert store.source().describe().vectors[0].metric is Metric.HAMMING
        store.close()

    def test_a_key_that_stands_twice_is_read_once(self, harness: ServerHarness) -> None:
        limits = limits_of(harness)
        spec = spec_within(limits, "twice")
        rows = rows_within(spec, limits, 4, 1)
        harness.raw_seed("twice", spec, rows)
        with harness.client() as client:
            client.insert("twice", [{"id": rows[1].id, "vector": np.asarray(rows[1].vectors["vector"])}])
        with opened(harness, "twice") as store:
            assert store.source().count() == 5
            found = [
                each for page in store.source().scan(Partition(), batch_rows=2) for each in page.batch["id"].to_pylist()
            ]
        assert sorted(found) == sorted(row.id for row in rows)

    def test_integer_keys_are_made_where_they_are_asked_for(self, harness: ServerHarness) -> None:
        spec = CollectionSpec("numbered", IdKind.INT64, (_field(Metric.EUCLIDEAN),))
        ids = ("-9223372036854775807", "-1", "0", "9223372036854775806")
        rows = [Row(id_, payload={}, vectors={"vector": np.arange(16, dtype=np.float32)}) for id_ in ids]
        store = open_store(harness.address("numbered").replace("#", "&key=int64#"))
        sink = store.sink()
        sink.create(spec, origin_of(spec))
        sink.upsert(batch_from_rows(rows, spec))
        for lost in ("9223372036854775807", "-9223372036854775808"):
            with pytest.raises(DataInvalid, match=lost):
                sink.upsert(batch_from_rows([Row(lost, payload={}, vectors=rows[0].vectors)], spec))
        found = [
            each for page in store.source().scan(Partition(), batch_rows=1) for each in page.batch["id"].to_pylist()
        ]
        assert tuple(found) == ids
        store.close()

    @pytest.mark.parametrize("rest", [True, False])
    def test_the_server_is_asked_each_filter(self, harness: ServerHarness, rest: bool) -> None:
        assert_filters_are_asked(harness, rest=rest)

    def test_a_database_or_a_server_that_is_not_there_is_named(self, harness: ServerHarness) -> None:
        store = open_store(f"{harness.base}?db=nowhere&token=env:MILVUS_TEST_TOKEN#any")
        with pytest.raises(UsageError, match="nowhere"):
            store.source().count()
        store.close()
        store = open_store("milvus+http://127.0.0.1:9#any")
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            store.source().count()
        store.close()


class TestMilvusLite(StoreConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> MilvusHarness:
        return LiteHarness(tmp_path)


class TestMilvusServer(StoreConformance):
    @pytest.fixture
    def harness(self, server_harness: ServerHarness) -> MilvusHarness:
        return server_harness


def _until_it_may_read(harness: ServerHarness, collection: str) -> None:
    """What somebody may do, each part of the server hears a moment later."""
    deadline = time.monotonic() + 30
    while True:
        with opened(harness, collection) as store:
            try:
                store.source().describe()
                store.source().count()
                return
            except StoreRejected:
                assert time.monotonic() < deadline
        time.sleep(0.05)


def _field(metric: Metric) -> VectorField:
    return VectorField("", VectorKind.DENSE, DType.FLOAT32, metric, 16)


def _wait_until_granted(harness: ServerHarness) -> None:
    """A server's parts hear of a new privilege one after the other, within seconds."""
    until = time.monotonic() + 60
    while True:
        try:
            read(harness, "guarded", encoded=False)
        except StoreRejected:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)
        else:
            return
