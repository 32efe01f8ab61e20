"""Indexes that an application made, over hashes and over JSON documents, are read whole, and what is odd is named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import redis

from exitramp import canonical
from exitramp.errors import CollectionExists, DataInvalid, StoreRejected, UsageError
from exitramp.filters import And, Eq, Filter, In, Not, Or, Range, matches
from exitramp.ports import IndexState, Origin, Partition, Query, SearchSettings, Service, Store, TransferAccount
from exitramp.records import DType, Metric, RecordKey
from exitramp.registry import open_store, service_adapter
from exitramp.testing import Row, batch_from_rows, rows_from_batch
from exitramp.urls import Address, Network


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = service_adapter("redis-server").make(str(tmp_path_factory.mktemp("redis")), 0, {"appendfsync": "always"})
    service.start()
    yield service
    service.stop()


@pytest.fixture
def base(service: Any) -> str:
    return str(service.address)


@pytest.fixture
def client(base: str) -> Iterator[Any]:
    client: Any = redis.Redis.from_url(base, protocol=3)
    client.flushall()
    for name in client.execute_command("FT._LIST"):
        client.execute_command("FT.DROPINDEX", name)
    yield client
    client.close()


def opened(base: str, name: str, options: str = "") -> Store:
    return open_store(Address.parse(f"{base}{options}#{name}"), Network(timeout_seconds=20.0))


def numbers(*values: float, dtype: str = "<f4") -> bytes:
    return np.array(values, dtype).tobytes()


def vector(name: str, dimensions: int, *, kind: str = "FLAT", item: str = "FLOAT32", metric: str = "L2") -> list[Any]:
    return [*name.split(), "VECTOR", kind, 6, "TYPE", item, "DIM", dimensions, "DISTANCE_METRIC", metric]


def make(client: Any, name: str, *schema: Any, on: str = "HASH", prefixes: tuple[Any, ...] = ("doc:",)) -> None:
    client.execute_command("FT.CREATE", name, "ON", on, "PREFIX", len(prefixes), *prefixes, "SCHEMA", *schema)


def rows_of(store: Store, batch_rows: int = 3) -> dict[str, Row]:
    source = store.source()
    spec = source.describe()
    found = [
        row for page in source.scan(Partition(), batch_rows=batch_rows) for row in rows_from_batch(page.batch, spec)
    ]
    assert len({row.id for row in found}) == len(found)
    return {row.id: row for row in found}


def codes(store: Store) -> dict[str, Any]:
    return {finding.code: finding for finding in store.source().identity().findings}


class TestHashes:
    def test_fields_keep_their_text_and_become_numbers_only_where_nothing_is_lost(self, base: str, client: Any) -> None:
        make(client, "a", "n", "NUMERIC", "t", "TAG", "g", "GEO", "x", "TEXT", *vector("emb AS e", 2))
        texts = ["7", "-7", "0", "0.5", "1e+22", "007", "+7", "7.50", "1e3", "-0", "123456789012345678901", "5e-324"]
        for place, text in enumerate(texts):
            values = {"emb": numbers(1, 2), "n": text, "t": "7", "g": "1.5,2", "x": "0.5", "raw": b"\xff\x00", "": "e"}
            client.hset(f"doc:{place}", mapping=values)
        found = rows_of(opened(base, "a"))
        wanted: list[Any] = [7, -7, 0, 0.5, 1e22, "007", "+7", "7.50", "1e3", "-0", 123456789012345678901, 5e-324]
        for place, value in enumerate(wanted):
            payload = {"n": value, "t": "7", "g": "1.5,2", "x": "0.5", "raw": b"\xff\x00", "": "e"}
            assert found[str(place)].payload_text == canonical.dumps(payload)
            assert np.asarray(found[str(place)].vectors["vector:e"]).tobytes() == numbers(1, 2)

    def test_several_prefixes_odd_keys_and_names_are_read(self, base: str, client: Any) -> None:
        make(client, "several", *vector("v", 2), prefixes=("a*[x]:", b"\xfe?:", "c\\:"))
        keys = [b"a*[x]:1", b"\xfe?:2", b"c\\:3", b"c\\:\xff", "c\\:größe 🚀".encode(), b"c\\:"]
        for key in keys:
            client.hset(key, mapping={"v": numbers(1, 2), b"\xfd": "odd name"})
        client.hset("ax:1", mapping={"v": numbers(1, 2)})  # which the prefix, taken for a pattern, would find
        client.set("c\\:text", "no hash")
        store = opened(base, "several")
        found = rows_of(store)
        ids = {key.decode("utf-8", "backslashreplace") for key in keys}
        assert set(found) == ids
        assert all(row.payload == {"\\xfd": "odd name"} for row in found.values())
        assert store.source().count() == len(keys)
        assert set(codes(store)) == {"source.binary_ids"}
        assert codes(store)["source.binary_ids"].count == 2
        wanted = [RecordKey(id_) for id_ in ids] + [RecordKey("ax:1"), RecordKey("c\\:text")]
        assert set(store.source().fetch(wanted).column("id").to_pylist()) == ids

    def test_keys_that_read_alike_are_an_error_and_not_one_record(self, base: str, client: Any) -> None:
        make(client, "alike", *vector("v", 2))
        client.hset(b"doc:\xff", mapping={"v": numbers(1, 2)})
        client.hset(b"doc:\\xff", mapping={"v": numbers(1, 2)})
        with pytest.raises(DataInvalid, match="read alike"):
            rows_of(opened(base, "alike"))

    @pytest.mark.parametrize(
        ("item", "dtype", "raw"),
        [
            ("FLOAT32", DType.FLOAT32, "<f4"),
            ("FLOAT64", DType.FLOAT64, "<f8"),
            ("FLOAT16", DType.FLOAT16, "<f2"),
            ("BFLOAT16", DType.FLOAT32, None),
        ],
    )
    def test_every_type_and_oddity_of_numbers_is_exact(
        self, base: str, client: Any, item: str, dtype: DType, raw: str | None
    ) -> None:
        make(client, "typed", *vector("v", 4, item=item, metric="IP", kind="HNSW"))
        values = np.array([np.nan, -0.0, np.inf, 1.5], "<f4")
        stored = values.astype(raw) if raw else (values.view("<u4") >> 16).astype("<u2")
        client.hset("doc:1", mapping={"v": stored.tobytes()})
        store = opened(base, "typed")
        [field] = store.source().describe().vectors
        assert (field.dtype, field.metric, field.dimensions) == (dtype, Metric.DOT, 4)
        got = np.asarray(rows_of(store)["1"].vectors["vector:v"])
        assert got.tobytes() == (stored.tobytes() if raw else values.tobytes())

    def test_what_the_index_did_not_take_is_read_and_named(self, base: str, client: Any) -> None:
        make(client, "partly", "n", "NUMERIC", *vector("v", 4))
        client.hset("doc:good", mapping={"v": numbers(1, 2, 3, 4), "n": "1"})
        client.hset("doc:bare", mapping={"n": "2"})  # which the index takes
        client.hset("doc:short", mapping={"v": numbers(1, 2), "n": "3"})
        client.hset("doc:words", mapping={"v": numbers(1, 2, 3, 4), "n": "a number"})
        store = opened(base, "partly")
        found = rows_of(store)
        assert set(found) == {"good", "bare", "short", "words"}
        assert store.source().count() == 4
        assert (found["bare"].vectors, found["short"].vectors) == ({}, {})
        assert found["short"].payload == {"n": 3, "v": numbers(1, 2)}
        assert found["words"].payload == {"n": "a number"}
        named = codes(store)["source.not_indexed"]
        assert (named.count, set(named.ids)) == (2, {"short", "words"})
        assert "a number" not in named.message

    def test_two_fields_over_one_blob_both_have_it(self, base: str, client: Any) -> None:
        make(client, "twice", *vector("v AS near", 2), *vector("v AS far", 2, metric="IP", kind="HNSW"))
        client.hset("doc:1", mapping={"v": numbers(1, 2)})
        store = opened(base, "twice")
        [row] = rows_of(store).values()
        assert {name: np.asarray(value).tolist() for name, value in row.vectors.items()} == {
            "vector:near": [1, 2],
            "vector:far": [1, 2],
        }
        assert row.payload == {}

    def test_an_index_with_a_filter_is_what_the_filter_lets_in(self, base: str, client: Any) -> None:
        schema = ("n", "NUMERIC", *vector("v", 2))
        client.execute_command(
            *("FT.CREATE", "some", "ON", "HASH", "PREFIX", 1, "doc:", "FILTER", "@n>3", "SCHEMA", *schema)
        )
        for number in range(8):
            client.hset(f"doc:{number}", mapping={"v": numbers(1, 2), "n": number})
        store = opened(base, "some")
        assert set(rows_of(store)) == {"4", "5", "6", "7"}
        assert store.source().count() == 4
        assert codes(store)["source.filtered_out"].count == 4
        assert store.source().describe().index["redis"]["filter"] == "@n>3"

    def test_a_field_is_the_document_where_the_address_says_so(self, base: str, client: Any) -> None:
        make(client, "texts", *vector("v", 2))
        client.hset("doc:1", mapping={"v": numbers(1, 2), "content": "words", "k": "x"})
        client.hset("doc:2", mapping={"v": numbers(1, 2), "k": "x"})
        client.hset("doc:3", mapping={"v": numbers(1, 2), "content": b"\xff"})
        found = rows_of(opened(base, "texts", "?document=content"))
        assert [found[id_].document for id_ in "123"] == ["words", None, None]
        assert [found[id_].payload for id_ in "123"] == [{"k": "x"}, {"k": "x"}, {"content": b"\xff"}]

    def test_keys_that_expire_are_told_of(self, base: str, client: Any) -> None:
        make(client, "brief", *vector("v", 2))
        client.hset("doc:1", mapping={"v": numbers(1, 2)})
        client.expire("doc:1", 1000)
        assert "source.expiring_keys" in codes(opened(base, "brief"))

    def test_an_index_without_vectors_or_of_unknown_words_is_named_and_no_default(self, base: str, client: Any) -> None:
        make(client, "none", "n", "NUMERIC")
        with pytest.raises(DataInvalid, match="no vector field"):
            opened(base, "none").source().describe()


class TestDocuments:
    def test_json_documents_are_read_exactly_but_for_the_cast_that_is_told(self, base: str, client: Any) -> None:
        make(
            client,
            "json",
            *("$.n", "AS", "n", "NUMERIC", "$.tags", "AS", "tags", "TAG"),
            *vector("$.in.v AS v", 3),
            *('$["w x"]', "AS"),
            *vector("w", 2, item="FLOAT64", metric="COSINE"),
            *vector("$.many[*] AS many", 2),
            on="JSON",
        )
        whole: dict[str, Any] = {
            "n": 18446744073709551615,
            "f": [1.0, 1, -0.0, 1e22, 0.1],
            "tags": ["a", None],
            "in": {"v": [1, 2.5, 0.1], "k": None},
            "w x": [0.1, 1e300],
            "many": [[1, 2], [3, 4]],
            "$exitramp:int": "5",
        }
        client.json().set("doc:1", "$", whole)
        client.json().set("doc:2", "$", {"in": {"v": [1, 2]}, "w x": None})
        store = opened(base, "json")
        found = rows_of(store)
        rest = {key: value for key, value in whole.items() if key != "w x"} | {"in": {"k": None}}
        assert found["1"].payload_text == canonical.dumps(rest)
        assert np.asarray(found["1"].vectors["vector:v"]).tobytes() == numbers(1, 2.5, 0.1)
        assert np.asarray(found["1"].vectors["vector:w"]).tobytes() == numbers(0.1, 1e300, dtype="<f8")
        assert (found["2"].payload, found["2"].vectors) == ({"in": {"v": [1, 2]}, "w x": None}, {})
        told = codes(store)
        assert told["source.vectors_rounded"].count == 1
        assert told["source.not_indexed"].ids == ("2",)
        assert "$.many[*]" in told["source.vectors_in_payload"].message
        wide = opened(base, "json", "?dtype=float64")
        assert [field.dtype for field in wide.source().describe().vectors] == [DType.FLOAT64] * 2
        assert np.asarray(rows_of(wide)["1"].vectors["vector:v"]).tolist() == [1, 2.5, 0.1]
        assert "source.vectors_rounded" not in codes(wide)
        with pytest.raises(UsageError, match="dtype"):
            opened(base, "json", "?dtype=float32").source().describe()

    def test_json_documents_are_searched_and_not_written(self, base: str, client: Any) -> None:
        make(client, "json", "$.t", "AS", "t", "TAG", *vector("$.v AS v", 2), on="JSON")
        for number in range(9):
            client.json().set(f"doc:{number}", "$", {"t": ["even", "odd"][number % 2], "v": [number, 0]})
        store = opened(base, "json")
        hits = store.search().search(
            Query("v", dense=np.array([0, 0], "f4")), k=3, where=Eq(("t",), "odd"), with_records=True
        )
        assert [key.id for key in hits.keys] == ["1", "3", "5"]
        assert hits.records is not None
        assert set(hits.records.column("id").to_pylist()) == {"1", "3", "5"}
        spec = store.source().describe()
        with pytest.raises(CollectionExists, match="JSON documents"):
            store.sink().create(spec, Origin(spec, "1"))


VALUES = (
    "plain",
    "two words",
    " led",
    "a,b",
    "a;b",
    "a-b.c",
    "(x)|{y}",
    "@n:[1 2]",
    "Größe",
    "größe",
    "ABC",
    "abc",
    "",
)
TAGS = (*VALUES, 'say "it"', "back\\slash", "$q", "*", "-x", "~", "%%a%%", "a\nb", "\x01", "日本", "50€", "x" * 3000)


def every_filter() -> Iterator[Filter]:
    for value in TAGS:
        yield Eq(("t",), value)
        yield Eq(("c",), value)
        yield Not(Eq(("t",), value))
    yield In(("t",), ("plain", "a,b", "none"))
    yield In(("t",), (7, "abc"))
    for number in (7, 7.0, 0, -1.5, 2**53 + 1, 2**64, 1e300, float("inf"), True):
        yield Eq(("n",), number)
        yield Range(("n",), gt=number)
        yield Range(("n",), lte=number)
    yield And((Eq(("t",), "plain"), Range(("n",), gte=0, lt=10)))
    yield Or((Eq(("t",), "abc"), Eq(("n",), -1.5)))
    yield Or((Eq(("t",), "abc"), Eq(("elsewhere",), "abc")))
    yield Eq(("l",), "a")
    yield Not(And((Eq(("t",), "plain"), Range(("n",), gte=0))))


@pytest.mark.parametrize("kind", ["FLAT", "HNSW"])
@pytest.mark.parametrize("on", ["HASH", "JSON"])
def test_filters_pushed_down_leave_what_the_reference_leaves(base: str, client: Any, on: str, kind: str) -> None:
    """Texts of every shape under tags with and without case, numbers that are the same double, in both kinds."""
    path = "$." if on == "JSON" else ""
    make(
        client,
        "f",
        *(f"{path}t", "AS", "t", "TAG", "SEPARATOR", ";", f"{path}c", "AS", "c-c", "TAG", "CASESENSITIVE"),
        *(f"{path}n", "AS", "n", "NUMERIC", f"{path}l", "AS", "l", "TAG"),
        *vector(f"{path}v AS v", 2, kind=kind),
        on=on,
    )
    wholes: list[Any] = [7, 0, -1.5, 2**53, 2**53 + 1, 100, 7.5]
    for place, text in enumerate(TAGS):
        record: dict[str, Any] = {"t": text, "c": text, "n": wholes[place % len(wholes)], "l": "a"}
        if on == "JSON":
            client.json().set(f"doc:{place}", "$", record | {"v": [place, 1], "l": ["a", "b"]})
        else:
            client.hset(f"doc:{place}", mapping=record | {"v": numbers(place, 1)})
    store = opened(base, "f")
    rows = rows_of(store)
    search = store.search()
    for where in every_filter():
        hits = search.search(Query("v", dense=np.array([0, 1], "f4")), k=len(TAGS), where=where)
        wanted = sorted((id_ for id_, row in rows.items() if matches(where, row.payload)), key=int)
        assert [key.id for key in hits.keys] == wanted, f"{where}"


def test_a_filter_finds_lists_that_a_tag_cannot_tell_from_texts(base: str, client: Any) -> None:
    """A collection of exitramp's own, whose index was made anew by the application with tags."""
    spec = opened_spec(base, client)
    client.execute_command("FT.DROPINDEX", "own")
    make(client, "again", "l", "TAG", *vector("vector", 2), prefixes=("own:",))
    search = opened(base, "again").search()
    for name, hits in (("a", ["1", "2"]), ("b", ["1"]), ("c", [])):
        found = search.search(Query("", dense=np.zeros(2, "f4")), k=5, where=Eq(("l",), name))
        assert sorted(key.id for key in found.keys) == hits
    assert spec.name == "own"


def opened_spec(base: str, client: Any) -> Any:
    make(client, "model", *vector("vector", 2))
    store = opened(base, "model")
    spec = store.source().describe().renamed("own")
    client.execute_command("FT.DROPINDEX", "model")
    sink = opened(base, "own", "?prefix=own:").sink()
    sink.create(spec, Origin(spec, "1"))
    values: list[Any] = [["a", "b"], "a"]
    rows = [
        Row(str(place + 1), payload={"l": value}, vectors={"vector": np.zeros(2, "f4")})
        for place, value in enumerate(values)
    ]
    sink.upsert(batch_from_rows(rows, spec))
    sink.flush()
    return spec


class TestApproximate:
    def seeded(self, client: Any, count: int = 3000) -> np.ndarray[Any, Any]:
        index = [*vector("v", 16, kind="HNSW")]
        index[3:4] = [10]
        make(client, "big", "n", "NUMERIC", *index, "M", 2, "EF_CONSTRUCTION", 4)
        matrix = np.random.default_rng(5).standard_normal((count, 16)).astype("f4")
        with client.pipeline(transaction=False) as writing:
            for place in range(count):
                writing.hset(f"doc:{place}", mapping={"v": matrix[place].tobytes(), "n": place})
            writing.execute()
        return matrix

    def test_exact_finds_what_a_poor_graph_misses_and_filters_give_k(self, base: str, client: Any) -> None:
        matrix = self.seeded(client)
        store = opened(base, "big")
        search: Any = store.search()
        assert (search.index_state(), search.search_options()) == (IndexState.READY, {"ef": None})
        assert (search.coverage().indexed, search.coverage().compared) == (3000, 0)
        missed = more = 0
        for row in range(40):
            query = Query("v", dense=matrix[row])
            truth = np.argsort(((matrix - matrix[row]) ** 2).sum(axis=1), kind="stable")[:10]
            wanted = {str(each) for each in truth}
            plain = search.search(query, k=10)
            wide = search.search(query, k=10, settings=SearchSettings(options={"ef": 500}))
            exact = search.search(query, k=10, settings=SearchSettings(exact=True))
            assert {key.id for key in exact.keys} == wanted
            assert len(plain.keys) == 10
            missed += len(wanted - {key.id for key in plain.keys})
            more += len(wanted - {key.id for key in wide.keys})
            rare = search.search(query, k=10, where=Range(("n",), gte=2990))
            assert len(rare.keys) == 10
            unindexed = search.search(query, k=5, where=Eq(("n",), 2999))
            assert [key.id for key in unindexed.keys] == ["2999"]
        assert missed > 0, "the graph is better than meant: this test tells nothing of `exact`"
        assert more < missed, "ef changes nothing"

    def test_exact_needs_no_attribute_but_the_vector(self, base: str, client: Any) -> None:
        make(client, "bare", *vector("v", 2, kind="HNSW"))
        for place in range(30):
            client.hset(f"doc:{place}", mapping={"v": numbers(place, 0)})
        query = Query("v", dense=np.zeros(2, "f4"))
        hits = opened(base, "bare").search().search(query, k=30, settings=SearchSettings(exact=True))
        assert [key.id for key in hits.keys] == [str(place) for place in range(30)]

    def test_more_than_the_graph_reaches_is_asked_for_and_found(self, base: str, client: Any) -> None:
        self.seeded(client, 1000)
        hits = opened(base, "big").search().search(Query("v", dense=np.ones(16, "f4")), k=1000)
        assert len(set(hits.keys)) == 1000

    @pytest.mark.parametrize("options", [{"ef": 0}, {"ef": "5"}, {"EF": 5}, {"ef": True}])
    def test_settings_that_make_no_sense_are_refused(self, base: str, client: Any, options: Any) -> None:
        self.seeded(client, 5)
        with pytest.raises(UsageError):
            opened(base, "big").search().search(
                Query("v", dense=np.ones(16, "f4")), k=1, settings=SearchSettings(options=options)
            )

    def test_vectors_of_nan_do_not_spoil_the_order_of_others(self, base: str, client: Any) -> None:
        make(client, "nan", *vector("v", 2, metric="COSINE"))
        for place in range(40):
            bad = place % 2
            client.hset(f"doc:{place}", mapping={"v": numbers(float("nan") if bad else 1, place)})
        hits = opened(base, "nan").search().search(Query("v", dense=np.array([1, 0], "f4")), k=5)
        assert [key.id for key in hits.keys] == ["0", "2", "4", "6", "8"]


def test_an_index_that_is_being_built_says_so(base: str, client: Any) -> None:
    with client.pipeline(transaction=False) as writing:
        for place in range(20_000):
            writing.hset(f"doc:{place}", mapping={"v": numbers(place, 1)})
        writing.execute()
    make(client, "late", *vector("v", 2, kind="HNSW"))
    store = opened(base, "late")
    assert store.search().index_state() is IndexState.BUILDING
    assert store.source().count() == 20_000
    spec = store.source().describe()
    store.sink().create(spec, Origin(spec, "1"))
    store.sink().finish(TransferAccount())
    assert store.search().index_state() is IndexState.READY


def test_an_answer_that_the_server_cut_short_is_an_error(base: str, client: Any) -> None:
    make(client, "slow", *vector("v", 512))
    with client.pipeline(transaction=False) as writing:
        for place in range(5000):
            writing.hset(f"doc:{place}", mapping={"v": bytes(2048)})
        writing.execute()
    store = opened(base, "slow")
    assert store.source().describe().name == "slow"  # so that the connection is there, with the longer deadline
    store.network = Network(timeout_seconds=0.001)  # type: ignore[attr-defined]
    with pytest.raises(Exception, match=r"part only|gave up"):
        store.search().search(Query("v", dense=np.zeros(512, "f4")), k=5000)


class TestRights:
    def test_a_user_who_may_only_read_reads_everything_and_cannot_write(
        self, base: str, client: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make(client, "a", "t", "TAG", *vector("v", 2))
        make(client, "j", *vector("$.v AS v", 2), on="JSON", prefixes=("j:",))
        for number in range(5):
            client.hset(f"doc:{number}", mapping={"v": numbers(number, 1), "t": "x"})
            client.json().set(f"j:{number}", "$", {"v": [number, 1]})
        reads = "+@read +ft.info +ft.search +ft._list +ft.aggregate +ft.cursor +json.get"
        client.execute_command("ACL", "SETUSER", "reader", "reset", "on", ">secret", "~*", *reads.split())
        monkeypatch.setenv("READER_PASSWORD", "secret")
        before = dump_of(client)
        for name in "aj":
            store = opened(base.replace("//", "//reader@"), name, "?password=env:READER_PASSWORD")
            assert store.source().identity().can_write is False
            assert len(rows_of(store)) == store.source().count() == 5
            hits = store.search().search(Query("v", dense=np.zeros(2, "f4")), k=2, settings=SearchSettings(exact=True))
            assert [key.id for key in hits.keys] == ["0", "1"]
            assert store.source().fetch([RecordKey("3")]).num_rows == 1
            assert store.source().origin() is None
            assert store.search().index_state() is IndexState.READY
            spec = store.source().describe()
            with pytest.raises((StoreRejected, CollectionExists)):
                store.sink().create(spec, Origin(spec, "1"))
        assert dump_of(client) == before
        assert opened(base, "a").source().identity().can_write is True
        assert dump_of(client) == before
        client.execute_command("ACL", "DELUSER", "reader")

    def test_a_wrong_password_is_refused_with_the_way_to_give_one(
        self, base: str, client: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WRONG", "hunter2-hunter2")
        client.execute_command("ACL", "SETUSER", "someone", "reset", "on", ">right", "~*", "+@all")
        with pytest.raises(StoreRejected, match="refuses access") as caught:
            opened(base.replace("//", "//someone@"), "a", "?password=env:WRONG").source().describe()
        assert "hunter2" not in str(caught.value)
        client.execute_command("ACL", "DELUSER", "someone")


def dump_of(client: Any) -> dict[bytes, bytes | None]:
    return {key: client.dump(key) for key in client.scan_iter()}
