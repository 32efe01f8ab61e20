"""Chroma's tenants and databases, what a collection is set to, and sources that may only read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import chromadb
import numpy as np
import pytest
from chromadb.api.types import (
    HnswIndexConfig,
    IntInvertedIndexConfig,
    Schema,
    SparseVector,
    StringInvertedIndexConfig,
    VectorIndexConfig,
)
from chromadb.config import Settings

from exitramp.codec import EncodingSink
from exitramp.errors import StoreRejected, UsageError
from exitramp.filters import Eq
from exitramp.parity.alignment import read_all
from exitramp.payloads import decoded_payloads
from exitramp.ports import Origin, Query, SearchSettings, TransferAccount
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp_adapters.services.chroma_run import ChromaRun
from exitramp_adapters.stores.chroma import settings as chroma_settings
from exitramp_adapters.stores.chroma.records import records_batch
from tests.adapters.reading_proxy import reading_only

FIELD = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 2)
SPEC = CollectionSpec("articles", IdKind.STRING, (FIELD,), has_documents=True)


class Place:
    """A Chroma, in process or a server, as its own client and as exitramp reach it."""

    def __init__(self, folder: Path, server: ChromaRun | None) -> None:
        self.folder, self.server = folder, server

    def address(self, collection: str = "articles", **options: str) -> str:
        base = f"chroma:{self.folder}" if self.server is None else str(self.server.address)
        told = "&".join(f"{name}={value}" for name, value in options.items())
        return f"{base}{'?' if told else ''}{told}#{quote(collection)}"

    @contextmanager
    def client(self, **place: str) -> Iterator[Any]:
        if self.server is None:
            made = chromadb.PersistentClient(str(self.folder), settings=Settings(anonymized_telemetry=False), **place)
        else:
            made = chromadb.HttpClient(
                "127.0.0.1", self.server.address.port or 0, settings=Settings(anonymized_telemetry=False), **place
            )
        try:
            yield made
        finally:
            made.close()

    def make(self, tenant: str, *databases: str) -> None:
        with self.client() as client:
            client._server.create_tenant(tenant)
            for database in databases:
                client._server.create_database(database, tenant=tenant)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaRun]:
    made = ChromaRun(str(tmp_path_factory.mktemp("chroma")), {})
    made.start()
    yield made
    made.stop()


@pytest.fixture(params=["embedded", "http"])
def place(request: pytest.FixtureRequest, tmp_path: Path, server: ChromaRun) -> Iterator[Place]:
    made = Place(tmp_path / "db", None if request.param == "embedded" else server)
    yield made
    if request.param == "http":
        with made.client() as client:
            while found := client.list_collections():
                for each in found:
                    client.delete_collection(each.name)


@contextmanager
def opened(address: str) -> Iterator[Any]:
    store = open_store(address)
    try:
        yield store
    finally:
        store.close()


def fill(client: Any, name: str = "articles", rows: int = 3, **settings: Any) -> None:
    made = client.create_collection(name, embedding_function=None, **settings)
    made.add(
        ids=[f"r{row}" for row in range(rows)],
        embeddings=[[1.0, row] for row in range(rows)],
        documents=[f"text {row}" for row in range(rows)],
        metadatas=[{"lang": "de", "n": row} for row in range(rows)],
    )


def copied(source: str, target: str) -> None:
    with opened(source) as one, opened(target) as other:
        reader, sink = one.source(), EncodingSink(other.sink())
        spec = reader.describe()
        sink.create(spec, Origin(spec, "0"))
        for batch in read_all(reader, batch_rows=100):
            sink.upsert(batch)
        sink.flush()
        sink.finish(TransferAccount())


def test_each_tenant_and_database_has_its_own_collections(place: Place, request: pytest.FixtureRequest) -> None:
    tenant = f"tenant-{abs(hash(request.node.name))}"
    places = [("default_tenant", "default_database"), (tenant, "first"), (tenant, "second")]
    place.make(tenant, "first", "second")
    for number, (owner, database) in enumerate(places):
        with place.client(tenant=owner, database=database) as client:
            fill(client, rows=number + 1)
            fill(client, f"only-{number}")
    for number, (owner, database) in enumerate(places):
        with opened(place.address(tenant=owner, database=database)) as store:
            source = store.source()
            assert source.identity().collections == ("articles", f"only-{number}")
            assert source.count() == number + 1
            assert source.fetch([RecordKey("r0")]).num_rows == 1
            assert len(store.search().search(Query(dense=np.array([1, 0], np.float32)), k=10).keys) == number + 1
    copied(place.address(), place.address("moved", tenant=tenant, database="second"))
    with place.client(tenant=tenant, database="second") as client:
        assert client.get_collection("moved", embedding_function=None).count() == 1
    with opened(place.address("moved", tenant=tenant, database="second")) as store:
        store.drop()
        assert store.source().identity().collections == ("articles", "only-2")


@pytest.mark.parametrize("role", ["source", "sink", "search"])
def test_a_tenant_or_database_that_is_not_there_is_named_and_never_made(
    place: Place, role: str, request: pytest.FixtureRequest
) -> None:
    tenant = f"tenant-{abs(hash(request.node.name))}"
    place.make(tenant, "only")
    with place.client() as client:
        fill(client)
    for options, said, hint in (
        ({"tenant": "nobody"}, "no tenant 'nobody'", "create_tenant"),
        ({"database": "elsewhere"}, "no database 'elsewhere'", "'default_database'"),
        ({"tenant": tenant, "database": "elsewhere"}, "no database 'elsewhere'", "'only'"),
        ({"tenant": tenant}, "no database 'default_database'", "'only'"),
    ):
        with opened(place.address(**options)) as store:
            calls: dict[str, list[Callable[[], Any]]] = {
                "source": [lambda: store.source().identity(), lambda: store.source().count()],
                "sink": [lambda: store.sink().create(SPEC, Origin(SPEC, "0")), lambda: store.sink().flush()],
                "search": [lambda: store.search().index_state()],
            }
            for call in calls[role]:
                with pytest.raises(StoreRejected, match=said) as caught:
                    call()
                assert hint in (caught.value.hint or "")
                assert not caught.value.retryable
    with place.client() as client:
        assert [each["name"] for each in client._server.list_databases(limit=9, offset=0, tenant=tenant)] == ["only"]


def test_files_that_are_not_there_yet_have_no_database_of_a_users_own(tmp_path: Path) -> None:
    with opened(f"chroma:{tmp_path}/db?database=elsewhere#articles") as store:
        with pytest.raises(StoreRejected, match="its own tenant and database"):
            store.sink().create(SPEC, Origin(SPEC, "0"))
        assert store.source().identity().collections == ()
    assert not (tmp_path / "db").exists()


def test_more_collections_than_a_page_are_all_listed(place: Place) -> None:
    names = [f"many-{number:03}" for number in range(130)]
    with place.client() as client:
        for name in names:
            client.create_collection(name, embedding_function=None)
    with opened(place.address()) as store:
        assert store.source().identity().collections == tuple(names)


def test_a_graphs_settings_and_the_schema_go_into_another_chroma(place: Place, tmp_path: Path) -> None:
    schema = Schema()
    schema.delete_index(IntInvertedIndexConfig())
    schema.delete_index(StringInvertedIndexConfig(), "secretive")
    graph = HnswIndexConfig(ef_construction=55, max_neighbors=9, ef_search=44, sync_threshold=900, resize_factor=1.3)
    schema.create_index(VectorIndexConfig(space="ip", hnsw=graph))
    with place.client() as client:
        fill(client, schema=schema)
    for target in (place.address("other"), f"chroma:{tmp_path}/db2#other"):
        copied(place.address(), target)
        with opened(place.address()) as one, opened(target) as store:
            here = one.source().describe()
            there = store.source().describe()
            assert there.vectors[0].metric is Metric.DOT
            told = there.index["chroma"]
            assert {name: told["hnsw"][name] for name in chroma_settings._HNSW} == {
                "ef_construction": 55,
                "max_neighbors": 9,
                "ef_search": 44,
                "sync_threshold": 900,
                "resize_factor": 1.3,
            }
            assert chroma_settings.switches(told["schema"]) == chroma_settings.switches(here.index["chroma"]["schema"])
            assert not store.source().identity().findings
            search = store.search()
            query = Query(dense=np.array([1, 0], np.float32))
            assert len(search.search(query, k=3, where=Eq(("lang",), "de")).keys) == 3
            with pytest.raises(UsageError, match="switched off"):
                search.search(query, k=3, where=Eq(("n",), 1))


def test_a_plain_collection_is_made_without_a_schema(place: Place) -> None:
    with place.client() as client:
        fill(client)
    with opened(place.address()) as store:
        index = store.source().describe().index
        assert chroma_settings.made_schema(index, "l2", {}) is None
    copied(place.address(), place.address("other"))
    with opened(place.address("other")) as store:
        assert not store.source().identity().findings


def test_another_kinds_graph_is_taken_over(place: Place) -> None:
    spec = CollectionSpec(
        "other", IdKind.STRING, (FIELD,), index={"hnswlib": {"M": 12, "ef_construction": 77, "ef": 33}}
    )
    with opened(place.address("other")) as store:
        sink = store.sink()
        assert sink.limits().index_settings == {"m", "ef_construction", "ef_search"}
        sink.create(spec, Origin(spec, "0"))
        hnsw = store.source().describe().index["chroma"]["hnsw"]
        assert (hnsw["max_neighbors"], hnsw["ef_construction"], hnsw["ef_search"]) == (12, 77, 33)


SPANN = {"search_nprobe": 32, "write_nprobe": 32, "ef_construction": 150, "ef_search": 150, "max_neighbors": 24}


def test_what_chroma_cloud_has_is_read_and_named_where_it_is_not(place: Place) -> None:
    """`spann` and sparse vectors are Chroma Cloud's; what is here was made by hand after its client's own forms."""
    schema: dict[str, Any] = {
        "defaults": {"sparse_vector": {"sparse_vector_index": {"enabled": False, "config": {}}}},
        "keys": {"words": {"sparse_vector": {"sparse_vector_index": {"enabled": True, "config": {"bm25": False}}}}},
    }
    index = {"chroma": {"hnsw": None, "spann": {"space": "cosine", **SPANN}, "schema": schema, "metadata": {}}}
    spec = CollectionSpec("other", IdKind.STRING, (FIELD,), has_documents=True, index=index)
    [sparse] = chroma_settings.findings(spec, None)
    assert sparse.detail["keys"] == ["words"]
    with opened(place.address("other")) as store:
        store.sink().create(spec, Origin(spec, "0"))
        told = store.source().describe().index["chroma"]
        assert told["hnsw"]["space"] == "cosine"
        [left] = store.source().identity().findings
        assert left.code == "source.settings_left"
        assert left.detail["settings"]["spann.search_nprobe"] == 32
        assert left.detail["settings"]["schema.words.sparse_vector.sparse_vector_index"] is True
    columns: Mapping[str, Any] = {
        "embeddings": [[1.0, 0.0]],
        "documents": [None],
        "uris": [None],
        "metadatas": [{"words": SparseVector([1, 7], [0.5, 0.25], None), "n": 1}],
    }
    batch = records_batch(["a"], columns, spec)
    [payload] = decoded_payloads(batch.column("payload"))
    assert payload["words"] == {"#type": "sparse_vector", "indices": [1, 7], "values": [0.5, 0.25]}


def test_a_search_goes_by_the_collections_own_ef_and_says_so(place: Place) -> None:
    with place.client() as client:
        fill(client, configuration={"hnsw": {"ef_search": 37}})
    with opened(place.address()) as store:
        search = store.search()
        assert search.search_options() == {"ef_search": 37}
        query = Query(dense=np.array([1, 0], np.float32))
        assert search.search(query, k=3, settings=SearchSettings(options={"ef_search": 37})).keys
        for options, said in (
            ({"ef_search": 38}, "its own ef_search, 37"),
            ({"nprobe": 1}, "no search option 'nprobe'"),
        ):
            with pytest.raises(UsageError, match=said):
                search.search(query, k=3, settings=SearchSettings(options=options))


def reads(method: str, path: str) -> bool:
    return method == "GET" or (method == "POST" and path.endswith(("/get", "/query", "/count")))


def test_a_server_that_refuses_every_write_is_read_completely(tmp_path: Path, server: ChromaRun) -> None:
    place = Place(tmp_path, server)
    with place.client() as client:
        fill(client, "kept", rows=600)
    refusal = b'{"error":"AuthorizationError","message":"Forbidden"}'
    with reading_only(server.address.port or 0, reads, refusal) as (port, refused):
        with opened(f"chroma+http://127.0.0.1:{port}?tenant=default_tenant&database=default_database#kept") as store:
            source = store.source()
            identity = source.identity()
            assert "kept" in identity.collections
            assert identity.can_write is None
            source.describe(), source.origin(), source.partitions(3)
            assert sum(batch.num_rows for batch in read_all(source, batch_rows=100)) == source.count() == 600
            assert source.fetch([RecordKey("r1")]).num_rows == 1
            search = store.search()
            search.index_state(), search.coverage(), search.search_options()
            assert len(search.search(Query(dense=np.ones(2, np.float32)), k=5, where=Eq(("lang",), "de")).keys) == 5
            assert refused == []
            for write in (lambda: store.sink().delete([RecordKey("r1")]), store.drop):
                with pytest.raises(StoreRejected, match="403"):
                    write()
        assert refused
    with place.client() as client:
        assert client.get_collection("kept", embedding_function=None).count() == 600
        client.delete_collection("kept")
