"""Chroma, embedded and over HTTP: the conformance suite, seeded and read back through the raw client."""

from __future__ import annotations

import math
import random
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import quote

import chromadb
import numpy as np
import pytest
from chromadb.config import Settings

from exitramp.arrow import dense_matrix
from exitramp.codec.payload import project
from exitramp.errors import (
    CollectionExists,
    CollectionMissing,
    DataInvalid,
    StoreRejected,
    StoreUnavailable,
    UsageError,
)
from exitramp.faults import Fault
from exitramp.filters import And, Eq, Filter, In, Not, Or, Range
from exitramp.ports import Origin, Partition, Query, TransferAccount
from exitramp.records import (
    CollectionSpec,
    DType,
    IdKind,
    Metric,
    RecordKey,
    VectorField,
    VectorKind,
)
from exitramp.registry import open_store
from exitramp.testing import Feature, Row, StoreConformance, StoreHarness, batch_from_rows
from exitramp.testing.conformance.compare import assert_same_records
from exitramp.testing.reference import matches
from exitramp_adapters.services.chroma_run import ChromaRun
from exitramp_adapters.stores.chroma import opened as chroma_opened
from exitramp_adapters.stores.chroma import sink as chroma_sink
from exitramp_adapters.stores.chroma.limits import LIMITS
from exitramp_adapters.stores.chroma.settings import switches

SPACES = {Metric.COSINE: "cosine", Metric.EUCLIDEAN: "l2", Metric.DOT: "ip"}


class ChromaHarness(StoreHarness):
    """What both ways in have in common: the raw client is opened and closed within each call."""

    def raw_client(self) -> Any:
        raise NotImplementedError

    @contextmanager
    def client(self) -> Iterator[Any]:
        client = self.raw_client()
        try:
            yield client
        finally:
            client.close()

    def raw_seed(self, collection: str, spec: CollectionSpec, rows: Sequence[Row]) -> None:
        with self.client() as client:
            raw_create(client, collection, spec, rows)

    def raw_read(self, collection: str) -> list[Row]:
        with self.client() as client:
            got = client.get_collection(collection, embedding_function=None).get(
                include=["embeddings", "metadatas", "documents"]
            )
        columns = zip(got["ids"], got["documents"], got["metadatas"], got["embeddings"], strict=True)
        return [Row(id_, None, doc, meta, {"vector": np.asarray(vec).astype("<f4")}) for id_, doc, meta, vec in columns]

    def raw_edit(self, collection: str, id_: str, key: str, value: Any) -> None:
        with self.client() as client:
            client.get_collection(collection, embedding_function=None).update(ids=[id_], metadatas=[{key: value}])

    def raw_collections(self) -> list[str]:
        with self.client() as client:
            return [found.name for found in client.list_collections()]


def raw_create(client: Any, name: str, spec: CollectionSpec, rows: Sequence[Row]) -> Any:
    """A collection as an application makes one."""
    [field] = spec.vectors
    configuration = {"hnsw": {"space": SPACES[field.metric]}}
    collection = client.create_collection(name, embedding_function=None, configuration=configuration)
    for start in range(0, len(rows), 5000):
        part = rows[start : start + 5000]
        collection.add(
            ids=[row.id for row in part],
            embeddings=np.array([row.vectors[field.column] for row in part]),
            metadatas=[row.payload for row in part],
            documents=[row.document for row in part],
        )
    return collection


class EmbeddedHarness(ChromaHarness):
    lacks = {
        Feature.SERVER_KILL: "it is no server; the writer itself is killed instead",
        Feature.SERVER_STOP: "it is no server",
    }

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def address(self, collection: str) -> str:
        return f"chroma:{self.folder}#{quote(collection, safe='')}"

    def raw_client(self) -> Any:
        return chromadb.PersistentClient(str(self.folder), settings=Settings(anonymized_telemetry=False))

    def raw_collections(self) -> list[str]:
        return super().raw_collections() if self.folder.is_dir() else []


class HttpHarness(ChromaHarness):
    def __init__(self, folder: Path) -> None:
        self.service = ChromaRun(str(folder), {})
        self.service.start()

    def address(self, collection: str) -> str:
        return f"{self.service.address}#{quote(collection, safe='')}"

    def raw_client(self) -> Any:
        port = self.service.address.port or 0
        return chromadb.HttpClient("127.0.0.1", port, settings=Settings(anonymized_telemetry=False))

    def kill(self) -> None:
        self.service.inject(Fault("sigkill"))

    def restart(self) -> None:
        self.service.inject(Fault("restart"))

    def stop(self) -> None:
        self.service.inject(Fault("sigstop"))

    def resume(self) -> None:
        self.service.inject(Fault("sigcont"))


class TestChromaEmbedded(StoreConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> EmbeddedHarness:
        return EmbeddedHarness(tmp_path / "db")


class TestChromaHttp(StoreConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Iterator[HttpHarness]:
        harness = HttpHarness(tmp_path / "service")
        yield harness
        harness.service.stop()


@pytest.fixture(params=["embedded", "http"])
def chroma(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ChromaHarness]:
    """Either way in."""
    if request.param == "embedded":
        yield EmbeddedHarness(tmp_path / "db")
        return
    harness = HttpHarness(tmp_path / "service")
    yield harness
    harness.service.stop()


def spec_of(metric: Metric = Metric.EUCLIDEAN, *, dimensions: int = 4, **more: Any) -> CollectionSpec:
    field = VectorField("", VectorKind.DENSE, DType.FLOAT32, metric, dimensions)
    return CollectionSpec("articles", IdKind.STRING, (field,), has_documents=True, **more)


def rows_of(payloads: Sequence[Any], *, dimensions: int = 4) -> list[Row]:
    matrix = np.random.default_rng(5).normal(size=(len(payloads), dimensions)).astype(np.float32)
    return [Row(f"r{n:05d}", None, None, payload, {"vector": matrix[n]}) for n, payload in enumerate(payloads)]


@contextmanager
def opened(harness: ChromaHarness, collection: str = "articles", options: str = "") -> Iterator[Any]:
    store = open_store(harness.address(collection).replace("#", f"{options}#"))
    try:
        yield store
    finally:
        store.close()


def create(store: Any, spec: CollectionSpec) -> Any:
    sink = store.sink()
    sink.create(spec, Origin(spec, "test"))
    return sink


# What is kept


def test_short_floats_come_back_exactly_and_longer_ones_within_four_ulp(chroma: ChromaHarness) -> None:
    rng = random.Random(3)
    limits = LIMITS.payload
    short = [float(f"{rng.randrange(10 ** rng.randint(1, 15))}e{rng.randint(-30, 30)}") for _ in range(4000)]
    short = [value for value in short if project(value, limits).kept == "exact"]
    long = [rng.uniform(-1, 1) * 10.0 ** rng.randint(-300, 300) for _ in range(2000)] + [sys.float_info.max, 5e-324]
    assert len(short) > 2000
    rows = rows_of([{"short": a, "list": [a, a], "long": b} for a, b in zip(short, cycle(long), strict=False)])
    with opened(chroma) as store:
        create(store, spec_of()).upsert(batch_from_rows(rows, spec_of()))
    for row in chroma.raw_read("articles"):
        wanted, got = rows[int(row.id[1:])].payload, row.payload
        assert wanted is not None
        assert got is not None
        assert (got["short"], got["list"]) == (wanted["short"], wanted["list"])
        assert abs(got["long"] - wanted["long"]) <= 4 * math.ulp(wanted["long"])


@pytest.mark.parametrize(
    "payload",
    [
        *({"a": [1.0, math.nan]}, {"a": math.inf}, {"a": None}, {"a": 2**63}, {"a": {}}, {"a": []}, {"a": [1, "x"]}),
        *({"a": [True, 1]}, {"a": [[1]]}, {"chroma:x": 1}, {"$x": 1}, {"": 1}, {}, {"a": b"x"}),
    ],
    ids=str,
)
def test_a_payload_that_chroma_would_change_is_refused_before_anything_is_written(
    chroma: ChromaHarness, payload: dict[str, Any]
) -> None:
    """A NaN in a list above all: an embedded Chroma takes it and cannot read its own log any more."""
    rows = rows_of([{"fine": 1}, payload])
    with opened(chroma) as store:
        sink = create(store, spec_of())
        with pytest.raises(DataInvalid, match="r00001"):
            sink.upsert(batch_from_rows(rows, spec_of()))
        assert store.source().count() == 0


@pytest.mark.parametrize("scale", [1e-30, 1e19])
def test_a_vector_that_cosine_would_destroy_is_refused_and_other_metrics_keep_it(
    chroma: ChromaHarness, scale: float
) -> None:
    extreme = np.array([1.0, 2.0, -3.0, 0.5], np.float32) * np.float32(scale)
    rows = [*rows_of([None]), Row("extreme", vectors={"vector": extreme})]
    for metric in Metric.COSINE, Metric.DOT, Metric.EUCLIDEAN:
        spec = replace(spec_of(metric), name=f"under-{metric.value}")
        with opened(chroma, spec.name) as store:
            sink = create(store, spec)
            if metric is Metric.COSINE:
                with pytest.raises(DataInvalid, match="'extreme'"):
                    sink.upsert(batch_from_rows(rows, spec))
                assert store.source().count() == 0
                continue
            sink.upsert(batch_from_rows(rows, spec))
        [kept] = [row for row in chroma.raw_read(spec.name) if row.id == "extreme"]
        assert np.asarray(kept.vectors["vector"]).tobytes() == extreme.tobytes()


def test_a_nan_that_cosine_made_is_read_as_one(chroma: ChromaHarness) -> None:
    """An application's own vector, too long for cosine: the server sends null in its place."""
    rows = [Row("a", vectors={"vector": np.full(4, 1e20, np.float32)}), *rows_of([None])]
    chroma.raw_seed("articles", spec_of(Metric.COSINE), rows)
    with opened(chroma) as store:
        [page] = store.source().scan(Partition(), batch_rows=10)
    matrix = dense_matrix(page.batch.column("vector"))
    assert np.isnan(matrix[0]).all()
    assert np.isfinite(matrix[1]).all()


@pytest.mark.parametrize("ids", [[""], ["a", "b", ""]])
def test_an_empty_id_is_refused_by_its_row(chroma: ChromaHarness, ids: list[str]) -> None:
    rows = [replace(row, id=id_) for row, id_ in zip(rows_of([None] * len(ids)), ids, strict=True)]
    with opened(chroma) as store:
        sink = create(store, spec_of())
        with pytest.raises(DataInvalid, match=f"row {len(ids) - 1} "):
            sink.upsert(batch_from_rows(rows, spec_of()))


def test_a_uri_of_the_application_is_part_of_the_payload(chroma: ChromaHarness) -> None:
    with chroma.client() as client:
        collection = raw_create(client, "articles", spec_of(), [])
        collection.add(ids=["a"], embeddings=[[1.0, 2.0, 3.0, 4.0]], uris=["file:///a.png"], metadatas=[{"n": 1}])
        collection.add(ids=["b"], embeddings=[[1.0, 2.0, 3.0, 4.0]], uris=["file:///b.png"])
    with opened(chroma) as store:
        batch = store.source().fetch([RecordKey("a"), RecordKey("b")])
    assert batch.column("payload").to_pylist() == [
        '{"chroma:uri":"file:///a.png","n":1}',
        '{"chroma:uri":"file:///b.png"}',
    ]


# Filters


def any_payload(rng: random.Random) -> dict[str, Any] | None:
    big = 2**60 + 1
    numbers = [0, 1, 2, -1, -2, 0.0, 1.0, 0.5, 1.5, -0.5, -1.5, big, big - 1, float(big), 2**53, 2.0**53, 1e15]
    values = [*numbers, True, False, "", "1", "x", "true", [1, 2], [1.0, 0.5], ["x", "1"], [True], [big], [-0.5, 1.5]]
    payload = {key: rng.choice(values) for key in ("a", "b") if rng.random() < 0.8}
    return payload or None


def any_filter(rng: random.Random, depth: int = 2) -> Filter:
    scalars: list[Any] = [0, 1, 2, -1, 1.0, 0.5, 1.5, -0.5, -1.5, 2**60 + 1, 2**53, True, False, "", "1", "x"]
    field = (rng.choice("ab"),)
    bounds = [value for value in scalars if type(value) in (int, float)]
    match rng.randrange(7 if depth else 3):
        case 0:
            return Eq(field, rng.choice(scalars))
        case 1:
            return In(field, tuple(rng.sample(scalars, rng.randint(1, 3))))
        case 2:
            names = rng.sample(["gte", "gt", "lte", "lt"], rng.randint(1, 2))
            return Range(field, **{name: rng.choice(bounds) for name in names})
        case 3:
            return And(tuple(any_filter(rng, depth - 1) for _ in range(rng.randint(1, 3))))
        case 4:
            return Or(tuple(any_filter(rng, depth - 1) for _ in range(rng.randint(1, 3))))
        case _:
            return Not(any_filter(rng, depth - 1))


def test_every_filter_that_is_honoured_leaves_what_the_reference_leaves(chroma: ChromaHarness) -> None:
    rng = random.Random(17)
    rows = rows_of([any_payload(rng) for _ in range(250)])
    chroma.raw_seed("articles", spec_of(), rows)
    honoured = 0
    with opened(chroma) as store:
        search = store.search()
        for _ in range(250):
            where = any_filter(rng)
            try:
                hits = search.search(Query(dense=np.zeros(4)), k=len(rows), where=where)
            except UsageError:
                continue
            honoured += 1
            wanted = {row.key for row in rows if matches(where, row.payload)}
            assert set(hits.keys) == wanted, f"{where} found {len(hits.keys)} of {len(wanted)}"
    assert honoured > 150


# Reading


def test_ids_are_all_listed_although_others_are_deleted_in_between(
    chroma: ChromaHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listed forwards by offset, each deletion before the offset would hide a live record behind it."""
    rows = rows_of([None] * 100)
    chroma.raw_seed("articles", spec_of(), rows)
    monkeypatch.setattr(chroma_opened, "_LIST_ROWS", 10)
    gone: list[str] = []
    with opened(chroma) as store:
        collection = store._chroma.collection()
        listing = type(collection).get

        def listing_after_a_deletion(self: Any, *args: Any, **kwargs: Any) -> Any:
            if "limit" in kwargs and len(gone) < 40:
                victims = [row.id for row in rows[3 * len(gone) // 4 :: 7] if row.id not in gone][:4]
                self.delete(ids=victims)
                gone.extend(victims)
            return listing(self, *args, **kwargs)

        monkeypatch.setattr(type(collection), "get", listing_after_a_deletion)
        found = [
            id_ for page in store.source().scan(Partition(), batch_rows=50) for id_ in page.batch["id"].to_pylist()
        ]
    assert len(gone) == 40
    assert len(found) == len(set(found))
    assert {row.id for row in rows} - set(gone) <= set(found)


def test_an_empty_collection_of_the_application_needs_to_be_told_its_dimensions(chroma: ChromaHarness) -> None:
    chroma.raw_seed("articles", spec_of(), [])
    with opened(chroma) as store, pytest.raises(DataInvalid, match="never held a record"):
        store.source().describe()
    with opened(chroma, options="?dimensions=4") as store:
        assert store.source().describe().vectors[0].dimensions == 4
    with opened(chroma) as store:
        sink = create(store, spec_of())
        sink.upsert(batch_from_rows(rows_of([None]), spec_of()))
        assert store.source().describe().vectors[0].dimensions == 4
        assert store.source().origin() is None, "the collection is the application's own"
    with opened(chroma) as store, pytest.raises(CollectionExists, match="dimensions 4, not 5"):
        create(store, spec_of(dimensions=5))


def test_a_missing_collection_is_said_together_with_those_there_are(chroma: ChromaHarness) -> None:
    chroma.raw_seed("articles", spec_of(), [])
    chroma.raw_seed("drafts", spec_of(), [])
    for name in "elsewhere", "no such name", "x":
        with opened(chroma, name) as store, pytest.raises(CollectionMissing, match="'articles', 'drafts'"):
            store.source().count()


def test_a_path_without_a_chroma_is_named_and_not_made(tmp_path: Path) -> None:
    with opened(EmbeddedHarness(tmp_path / "nothing")) as store:
        for look in store.source().describe, store.source().count, store.search().index_state, store.sink().flush:
            with pytest.raises(CollectionMissing, match="nothing"):
                look()
        assert store.source().identity().collections == ()
        assert store.sink().limits() == LIMITS
    assert not (tmp_path / "nothing").exists()


# Writing


def test_index_settings_and_the_users_own_metadata_come_along(chroma: ChromaHarness) -> None:
    with chroma.client() as client:
        client.create_collection(
            "articles",
            embedding_function=None,
            metadata={"owner": "docs", "version": 2, "ratio": 0.5, "public": True, "hnsw:space": "ip"},
        )
        client.create_collection(
            "tuned",
            embedding_function=None,
            metadata={"owner": "search"},
            configuration={"hnsw": {"space": "cosine", "max_neighbors": 24, "ef_search": 77, "sync_threshold": 500}},
        )
    for name, metric in (("articles", Metric.DOT), ("tuned", Metric.COSINE)):
        with opened(chroma, name, "?dimensions=4") as store:
            spec = store.source().describe()
        assert spec.vectors[0].metric is metric
        copy = replace(spec, name=f"{name}-again")
        with opened(chroma, copy.name) as store:
            sink = create(store, copy)
            sink.finish(TransferAccount())
            again = store.source().describe()
        with chroma.client() as client:
            raw = client.get_collection(copy.name, embedding_function=None)
        told, kept = spec.index["chroma"], again.index["chroma"]
        wanted = {key: value for key, value in told["metadata"].items() if key != "hnsw:space"}
        # The schema repeats what the graph was made with, as it was then: of a load, not of what it is now.
        assert kept | {"schema": None} == told | {"schema": None, "metadata": wanted}
        assert switches(kept["schema"]) == switches(told["schema"])
        assert {key: value for key, value in raw.metadata.items() if not key.startswith("_exitramp")} == wanted
        assert raw.configuration_json["hnsw"] == told["hnsw"]


def test_index_files_are_rewritten_seldom_while_loading_and_as_usual_afterwards(chroma: ChromaHarness) -> None:
    """Embedded, a kill while they are rewritten makes a collection unreadable; a server is not ours to kill."""

    def threshold() -> int:
        with chroma.client() as client:
            found: int = client.get_collection("articles", embedding_function=None).configuration_json["hnsw"][
                "sync_threshold"
            ]
            return found

    loading = 10_000 if isinstance(chroma, EmbeddedHarness) else 1000
    for _ in range(2):  # the second time round the collection is there already
        with opened(chroma) as store:
            create(store, spec_of()).upsert(batch_from_rows(rows_of([None] * 20), spec_of()))
        assert threshold() == loading
        with opened(chroma) as store:
            store.sink().finish(TransferAccount())
        assert threshold() == 1000
    chroma.raw_seed("theirs", spec_of(), rows_of([None]))
    with opened(chroma, "theirs") as store:
        create(store, replace(spec_of(), name="theirs")).finish(TransferAccount())
    with chroma.client() as client:
        theirs = client.get_collection("theirs", embedding_function=None)
    assert theirs.configuration_json["hnsw"]["sync_threshold"] == 1000
    assert theirs.metadata is None, "a collection of the application's own is told nothing"


def test_finishing_writes_the_index_so_that_opening_does_not_build_it_again(tmp_path: Path) -> None:
    harness = EmbeddedHarness(tmp_path)

    def logged() -> int:
        with closing(sqlite3.connect(f"file:{tmp_path / 'chroma.sqlite3'}?mode=ro", uri=True)) as log:
            [(count,)] = log.execute("select count(*) from embeddings_queue where id like 'r%'")
            return int(count)

    rows = rows_of([None] * 1200)
    with opened(harness) as store:
        sink = create(store, spec_of())
        for start in range(0, len(rows), 600):
            sink.upsert(batch_from_rows(rows[start : start + 600], spec_of()))
        assert logged() == len(rows), "this is to show that the log is what the test thinks it is"
        sink.finish(TransferAccount())
        assert logged() == 0
        assert store.source().count() == len(rows)
    assert_same_records(rows, harness.raw_read("articles"), spec_of(), LIMITS, "after finishing")


def test_a_batch_is_cut_to_what_a_request_may_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = HttpHarness(tmp_path)
    spec = spec_of(dimensions=512)
    rows = rows_of([{"text": "x" * 2000}] * 60, dimensions=512)
    batch = batch_from_rows(rows, spec)
    monkeypatch.setattr(chroma_sink, "_WRITE_BYTES", batch.nbytes // 7)
    try:
        with opened(harness) as store:
            sink = create(store, spec)
            sink.upsert(batch)
            huge = batch_from_rows([replace(rows[0], document="x" * 42_500_000)], spec)
            with pytest.raises(StoreRejected, match="that large"):
                sink.upsert(huge)
        assert len(harness.raw_read("articles")) == 60, "what was refused took the record that was there with it"
    finally:
        harness.service.stop()


def test_records_of_a_namespace_are_nobodys_here(chroma: ChromaHarness) -> None:
    chroma.raw_seed("articles", spec_of(), rows_of([None] * 2))
    with opened(chroma) as store:
        assert store.source().fetch([RecordKey("r00000", "tenant"), RecordKey("")]).num_rows == 0
        store.sink().delete([RecordKey("r00000", "tenant"), RecordKey("")])
        assert store.source().count() == 2


def test_any_record_replaces_any_other_whole(chroma: ChromaHarness) -> None:
    """Chroma merges what it is given into what is there, and lists and single values are kept in different places."""
    rng = random.Random(23)
    values = [1, -5, 1.5, 2.0, True, False, "x", "", [1, 2], [3], [1.5, 2.5], ["a", "b"], ["a"], [True], 2**62]
    spec, limits = spec_of(), LIMITS
    with opened(chroma) as store:
        sink = create(store, spec)
        for _ in range(5):
            payloads = [{key: rng.choice(values) for key in "abc" if rng.random() < 0.6} or None for _ in range(150)]
            rows = [
                replace(row, document=rng.choice([None, "", f"of {row.id}"]), vectors={"vector": rng_vector(rng)})
                for row in rows_of(payloads)
            ]
            rng.shuffle(rows)
            sink.upsert(batch_from_rows(rows[: rng.randint(100, 150)], spec))
            sink.upsert(batch_from_rows(rows, spec))
    assert_same_records(rows, chroma.raw_read("articles"), spec, limits, "after five rounds")


def rng_vector(rng: random.Random) -> Any:
    return np.array([rng.gauss(0, 1) for _ in range(4)], np.float32)


def test_a_uri_of_a_replaced_record_goes_with_it(chroma: ChromaHarness) -> None:
    with chroma.client() as client:
        collection = raw_create(client, "articles", spec_of(), [])
        collection.add(ids=["r00000"], embeddings=[[1.0, 2.0, 3.0, 4.0]], uris=["file:///a.png"])
    with opened(chroma) as store:
        create(store, spec_of()).upsert(batch_from_rows(rows_of([{"n": 1}]), spec_of()))
        assert store.source().fetch([RecordKey("r00000")])["payload"].to_pylist() == ['{"n":1}']


# Opening


def test_several_opens_of_one_path_share_the_engine(tmp_path: Path) -> None:
    harness = EmbeddedHarness(tmp_path)
    harness.raw_seed("articles", spec_of(), rows_of([None] * 3))
    with opened(harness) as one, opened(harness) as two:
        one.sink().delete([RecordKey("r00000")])
        assert two.source().count() == 2
        one.close()
        assert two.source().count() == 2
        with harness.client() as raw:
            assert raw.get_collection("articles", embedding_function=None).count() == 2


def test_a_client_with_other_settings_in_the_same_process_is_named(tmp_path: Path) -> None:
    harness = EmbeddedHarness(tmp_path)
    harness.raw_seed("articles", spec_of(), [])
    other = chromadb.PersistentClient(str(tmp_path), settings=Settings(allow_reset=True))
    try:
        with opened(harness) as store, pytest.raises(StoreRejected, match="other settings"):
            store.source().count()
    finally:
        other.close()
    with opened(harness) as store:
        assert store.source().count() == 0


def test_a_tenant_or_database_that_is_not_there_is_refused(chroma: ChromaHarness) -> None:
    chroma.raw_seed("articles", spec_of(), [])
    for options in "?tenant=nobody", "?database=elsewhere":
        with opened(chroma, options=options) as store, pytest.raises((StoreRejected, CollectionMissing)) as caught:
            store.source().count()
        assert not caught.value.retryable


def test_a_server_that_is_not_there_is_unavailable() -> None:
    store = open_store("chroma+http://127.0.0.1:9#articles")
    for call in store.source().count, store.source().identity, store.search().index_state:
        with pytest.raises(StoreUnavailable):
            call()
    store.close()


def test_a_restarted_server_is_used_again_by_the_same_store(tmp_path: Path) -> None:
    harness = HttpHarness(tmp_path)
    try:
        harness.raw_seed("articles", spec_of(), rows_of([None] * 3))
        with opened(harness) as store:
            assert store.source().count() == 3
            harness.kill()
            with pytest.raises(StoreUnavailable):
                store.source().count()
            harness.restart()
            assert store.source().count() == 3
    finally:
        harness.service.stop()


def test_a_collection_that_was_made_anew_is_found_again(chroma: ChromaHarness) -> None:
    chroma.raw_seed("articles", spec_of(), rows_of([None] * 3))
    with opened(chroma) as store:
        source = store.source()
        assert source.count() == 3
        with chroma.client() as client:
            client.delete_collection("articles")
        with pytest.raises(CollectionMissing):
            source.count()
        chroma.raw_seed("articles", spec_of(), rows_of([None]))
        assert source.count() == 1
