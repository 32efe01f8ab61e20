"""What is special to Weaviate, on the mock of its contract: tenants, typed properties, batches that land in part."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from weaviate.classes.config import Configure, DataType, Property, ReferenceProperty, Tokenization, VectorDistances
from weaviate.classes.data import DataObject, GeoCoordinate
from weaviate.classes.tenants import Tenant, TenantActivityStatus

from exitramp.arrow import record_keys
from exitramp.errors import CollectionMissing, DataInvalid, RoleUnsupported, StoreRejected, UsageError
from exitramp.faults import Fault
from exitramp.filters import And, Eq, Exists, Not, Or, Range
from exitramp.ports import Origin, Partition, Query, SearchSettings, Service, Store
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorField, VectorKind, Verdict
from exitramp.registry import open_store, service_adapter
from exitramp.testing.rows import Row, batch_from_rows, rows_from_batch
from exitramp.urls import Address, Network
from exitramp_adapters.stores.weaviate import records, schema, values
from tests.adapters.test_weaviate import raw_client

IDS = [str(uuid.UUID(int=number * 7919 + 1)) for number in range(40)]


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Address]]:
    service = service_adapter("mock-weaviate").make(str(tmp_path_factory.mktemp("weaviate")), 0, {})
    yield service, service.start()
    service.stop()


@pytest.fixture
def base(mock: tuple[Service, Address]) -> Address:
    with raw_client(mock[1]) as client:
        client.collections.delete_all()
    return mock[1]


def opened(base: Address, name: str) -> closing[Any]:
    return closing(open_store(base.with_collection(name), Network(timeout_seconds=20.0)))


def read(store: Store, wanted: int = 1) -> dict[RecordKey, Row]:
    source = store.source()
    spec = source.describe()
    found = [
        row
        for partition in source.partitions(wanted)
        for page in source.scan(partition, batch_rows=7)
        for row in rows_from_batch(page.batch, spec)
    ]
    assert len({row.key for row in found}) == len(found)
    return {row.key: row for row in found}


def spec_of(name: str, **changes: Any) -> CollectionSpec:
    field = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 3)
    return replace(CollectionSpec(name, IdKind.UUID, (field,)), **changes)


def plain_row(id_: str, payload: dict[str, Any] | None, namespace: str | None = None) -> Row:
    return Row(id_, namespace, None, payload, {"vector": np.array([1, 2, 3], np.float32)})


def test_tenants_are_namespaces_and_those_asleep_are_named_and_left_asleep(base: Address) -> None:
    with raw_client(base) as client:
        made = client.collections.create(
            "Shops",
            vector_config=Configure.Vectors.self_provided(name="v"),
            properties=[Property(name="n", data_type=DataType.INT)],
            multi_tenancy_config=Configure.multi_tenancy(enabled=True),
        )
        made.tenants.create(["awake", "asleep", "empty"])
        for name in ("awake", "asleep"):
            rows = [DataObject(properties={"n": 1}, uuid=id_, vector={"v": [1.0, 2.0]}) for id_ in IDS[:3]]
            assert not made.with_tenant(name).data.insert_many(rows).errors
        made.tenants.update([Tenant(name="asleep", activity_status=TenantActivityStatus.INACTIVE)])
    with opened(base, "Shops") as store:
        source = store.source()
        found = {finding.code: finding for finding in source.identity().findings}
        assert found["source.tenants_inactive"].verdict is Verdict.INCONCLUSIVE
        assert found["source.tenants_inactive"].ids == ("asleep",)
        assert source.count() == 3
        assert {key.namespace for key in read(store)} == {"awake"}
        assert source.fetch([RecordKey(IDS[0], "asleep")]).num_rows == 0
        query = Query("v", dense=np.array([1, 1], np.float32))
        with pytest.raises(UsageError, match="asleep"):
            store.search().search(query, k=2)
        hits = store.search().search(query, k=2, settings=SearchSettings(options={"tenant": "awake"}))
        assert {key.namespace for key in hits.keys} == {"awake"}
    with raw_client(base) as client:
        status = client.collections.get("Shops").tenants.get()["asleep"].activity_status
        assert status is TenantActivityStatus.INACTIVE


def test_namespaces_that_no_tenant_may_be_called_come_back(base: Address) -> None:
    spaces = [None, "", "plain-1", "mandant ü", "exitramp_none", "n" * 300, "exitramp_x_YQ"]
    assert len({records.tenant_of(space) for space in spaces}) == len(spaces)
    spec = spec_of("Spaces", has_namespaces=True)
    rows = [plain_row(IDS[0], {"place": place}, space) for place, space in enumerate(spaces)]
    with opened(base, "Spaces") as store:
        sink = store.sink()
        sink.create(spec, Origin(spec, "0"))
        sink.upsert(batch_from_rows(rows, spec))
        found = read(store)
        assert {key.namespace: row.payload for key, row in found.items()} == {
            space: {"place": place} for place, space in enumerate(spaces)
        }
        hits = store.search().search(Query("", dense=np.array([1, 0, 0], np.float32)), k=10)
        assert {key.namespace for key in hits.keys} == set(spaces)


def test_every_type_of_property_of_a_foreign_collection_is_read_and_carried_into_another(base: Address) -> None:
    when = datetime(2024, 2, 29, 12, 30, 1, 250_000, tzinfo=timezone(timedelta(hours=2)))
    with raw_client(base) as client:
        client.collections.create("Other", vector_config=Configure.Vectors.self_provided())
        made = client.collections.create(
            "Foreign",
            vector_config=[
                Configure.Vectors.self_provided(
                    name="title", vector_index_config=Configure.VectorIndex.flat(distance_metric=VectorDistances.DOT)
                ),
                Configure.Vectors.self_provided(
                    name="body",
                    vector_index_config=Configure.VectorIndex.hnsw(
                        distance_metric=VectorDistances.MANHATTAN, ef_construction=77, max_connections=11
                    ),
                ),
                Configure.MultiVectors.self_provided(name="late"),
                Configure.Vectors.self_provided(name="never"),
            ],
            properties=[
                Property(name="words", data_type=DataType.TEXT),
                Property(name="code", data_type=DataType.TEXT, tokenization=Tokenization.FIELD),
                Property(name="whole", data_type=DataType.INT),
                Property(name="real", data_type=DataType.NUMBER),
                Property(name="yes", data_type=DataType.BOOL),
                Property(name="when", data_type=DataType.DATE),
                Property(name="key", data_type=DataType.UUID),
                Property(name="raw", data_type=DataType.BLOB),
                Property(name="at", data_type=DataType.GEO_COORDINATES),
                Property(name="wholes", data_type=DataType.INT_ARRAY),
                Property(name="reals", data_type=DataType.NUMBER_ARRAY),
                Property(name="texts", data_type=DataType.TEXT_ARRAY),
                Property(name="moments", data_type=DataType.DATE_ARRAY),
                Property(name="keys", data_type=DataType.UUID_ARRAY),
                Property(
                    name="inside",
                    data_type=DataType.OBJECT,
                    nested_properties=[
                        Property(name="a", data_type=DataType.INT),
                        Property(name="b", data_type=DataType.TEXT_ARRAY),
                    ],
                ),
            ],
            references=[ReferenceProperty(name="of", target_collection="Other")],
        )
        properties: dict[str, Any] = {
            "words": " two Words ",
            "code": "A-1",
            "whole": 7,
            "real": 1.0,
            "yes": False,
            "when": when,
            "key": uuid.UUID(IDS[3]),
            "raw": "AP8=",
            "at": GeoCoordinate(latitude=52.5, longitude=13.25),
            "wholes": [1, 2],
            "reals": [0.5, 1.0],
            "texts": ["x", "y"],
            "moments": [when],
            "keys": [uuid.UUID(IDS[4])],
            "inside": {"a": 1, "b": ["c"]},
        }
        vectors = {"title": [1.0, 2.0], "body": [1.0, 2.0, 3.0], "late": [[1.0, 2.0], [3.0, 4.0]]}
        rows = [
            DataObject(properties=properties, uuid=IDS[0], vector=vectors),
            DataObject(properties={"code": "B"}, uuid=IDS[1], vector={"body": [3.0, 2.0, 1.0]}),
            DataObject(properties={"words": "none"}, uuid=str(uuid.UUID(int=0))),
        ]
        assert not made.data.insert_many(rows).errors
    wanted = {
        **properties,
        "raw": b"\x00\xff",
        "at": {"latitude": 52.5, "longitude": 13.25},
    }
    with opened(base, "Foreign") as store:
        source = store.source()
        spec = source.describe()
        assert {field.column: (field.metric, field.dimensions) for field in spec.vectors} == {
            "vector:title": (Metric.DOT, 2),
            "vector:body": (Metric.MANHATTAN, 3),
            "multi:late": (Metric.COSINE, 2),
        }
        codes = {finding.code: finding.message for finding in source.identity().findings}
        assert "of" in codes["source.references_unread"]
        assert "never" in codes["source.vectors_empty"]
        found = {key.id: row for key, row in read(store, 3).items()}
        assert found[IDS[0]].payload == wanted
        assert found[IDS[0]].payload_text == Row("", payload=wanted).payload_text
        assert found[IDS[1]].payload == {"code": "B"}
        assert list(found[IDS[1]].vectors) == ["vector:body"]
        assert found[str(uuid.UUID(int=0))].vectors == {}
        search, query = store.search(), Query("body", dense=np.array([1, 2, 3], np.float32))
        assert [key.id for key in search.search(query, k=5, where=Eq(("code",), "A-1")).keys] == [IDS[0]]
        assert [key.id for key in search.search(query, k=5, where=Range(("whole",), gt=6.5, lte=7)).keys] == [IDS[0]]
        for where in (Eq(("words",), "two Words"), Exists(("code",)), Eq(("inside", "a"), 1), Eq(("code",), " A-1")):
            with pytest.raises(UsageError):
                search.search(query, k=5, where=where)
        late = search.search(Query("late", multi=np.array([[1, 2]], np.float32)), k=1)
        assert late.keys[0].id == IDS[0]
    with opened(base, "Carried") as store:
        sink = store.sink()
        spec = replace(spec, name="Carried")
        sink.create(spec, Origin(spec, "0"))
        sink.upsert(batch_from_rows(found.values(), spec))
        assert {key.id: row.payload_text for key, row in read(store).items()} == {
            id_: row.payload_text for id_, row in found.items()
        }
        again = store.source().describe().index["weaviate"]
        assert again["vectorConfig"]["body"]["vectorIndexConfig"]["efConstruction"] == 77
        assert again["vectorConfig"]["title"]["vectorIndexType"] == "flat"
        kinds = {each["name"]: each["dataType"][0] for each in again["properties"]}
        assert (kinds["when"], kinds["raw"], kinds["at"], kinds["inside"]) == (
            "date",
            "blob",
            "geoCoordinates",
            "object",
        )
    with raw_client(base) as client:
        carried = client.collections.get("Carried").query.fetch_object_by_id(IDS[0])
        assert carried.properties["when"] == when, "a moment of the source is a date of the sink"


def test_of_a_batch_that_lands_in_part_those_that_did_not_are_named(base: Address) -> None:
    with raw_client(base) as client:
        made = client.collections.create(
            "Parts",
            vectorizer_config=Configure.Vectorizer.none(),
            vector_index_config=Configure.VectorIndex.hnsw(distance_metric=VectorDistances.DOT),
        )
        made.data.insert_many([DataObject(properties={}, uuid=IDS[0], vector=[1.0, 2.0, 3.0])])
    spec = spec_of("Parts")
    with opened(base, "Parts") as store:
        sink = store.sink()
        sink.create(spec, Origin(spec, "0"))
        sink.upsert(batch_from_rows([plain_row(IDS[1], {"n": 1})], spec))
        # The server is told of a schema that the adapter does not know of: one of two is refused there.
        objects = records.objects_of(
            batch_from_rows([plain_row(IDS[2], None), plain_row(IDS[3], None)], spec), [None] * 2, store.shape(), {},
            where="here",
        )  # fmt: skip
        objects[1].vector_bytes = objects[1].vector_bytes[:8]
        with pytest.raises(StoreRejected, match=f"1 of 2 objects were refused.*{IDS[3]}"):
            sink._send(objects)
        assert set(read(store)) == {RecordKey(id_) for id_ in IDS[:3]}
        assert store.source().count() == 3


def test_a_key_that_is_an_integer_here_and_a_text_there_is_kept_and_found(base: Address) -> None:
    spec = spec_of("Mixed")
    given: list[Any] = [1, "1", 1.0, True, " a", "a", -0.0, 2**60, [1, "a"], None, {"deep": {"er": "x" * 500}}]
    rows = [plain_row(IDS[place], {"k": value, "Upper": value}) for place, value in enumerate(given)]
    with opened(base, "Mixed") as store:
        sink = store.sink()
        sink.create(spec, Origin(spec, "0"))
        sink.upsert(batch_from_rows(rows, spec))
        assert {key.id: row.payload_text for key, row in read(store).items()} == {
            row.id: row.payload_text for row in rows
        }
        search, query = store.search(), Query("", dense=np.array([1, 2, 3], np.float32))

        def matching(where: Any) -> set[int]:
            return {IDS.index(key.id) for key in search.search(query, k=40, where=where).keys}

        for key in ("k", "Upper"):
            assert matching(Eq((key,), 1)) == {0, 2, 8}
            assert matching(Eq((key,), "a")) == {5, 8}
            assert matching(Eq((key,), " a")) == {4}
            assert matching(Eq((key,), 0)) == {6}
            assert matching(Exists((key,))) == set(range(len(given)))
            assert matching(Eq((key, "deep", "er"), "x" * 500)) == {10}
            assert matching(Not(Or((Eq((key,), 1), Exists((key, "deep")))))) == {1, 3, 4, 5, 6, 7, 9}
            assert matching(And((Exists((key,)), Eq((key,), True)))) == {3}
            with pytest.raises(UsageError, match="kept as text"):
                matching(Range((key,), gte=0))


def test_nanoseconds_are_kept_as_their_text() -> None:
    assert values.moment("2024-01-02T03:04:05.123456789Z") == "2024-01-02T03:04:05.123456789Z"
    assert values.moment("2024-01-02T03:04:05.123456000Z") == datetime(2024, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)
    assert values.moment("2024-01-02T03:04:05-07:00") == datetime(
        2024, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=-7))
    )


def test_an_unknown_distance_or_index_is_an_error_that_names_it() -> None:
    config = {"vectorIndexType": "hnsw", "vectorIndexConfig": {"distance": "chebyshev"}}
    with pytest.raises(DataInvalid, match="chebyshev"):
        schema.declared_vectors({"class": "A", "vectorConfig": {"v": config}}, where="here")
    with pytest.raises(DataInvalid, match="spann"):
        schema.declared_vectors({"class": "A", **config, "vectorIndexType": "spann"}, where="here")


def test_reading_needs_no_right_to_write(base: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second mock has the first one's files, and a key that may change nothing."""
    monkeypatch.setenv("WEAVIATE_TEST_KEY", "a-viewers-key")
    full = service_adapter("mock-weaviate").make(str(tmp_path), 0, {})
    with raw_client(full.start()) as client:
        made = client.collections.create("Held", vector_config=Configure.Vectors.self_provided(name="v"))
        made.data.insert_many([DataObject(properties={"n": 1}, uuid=id_, vector={"v": [1.0, 2.0]}) for id_ in IDS[:9]])
    full.stop()
    options = {"api_key_env": "WEAVIATE_TEST_KEY", "read_only": True}
    service = service_adapter("mock-weaviate").make(str(tmp_path), 0, options)
    address = service.start()
    try:
        with opened(address, "Held") as store:
            source = store.source()
            assert source.identity().evidence == "wire mocked"
            assert len(read(store, 2)) == source.count() == 9
            assert source.fetch([RecordKey(IDS[0]), RecordKey("no uuid"), RecordKey(IDS[20])]).num_rows == 1
            assert len(store.search().search(Query("v", dense=np.array([1, 1], np.float32)), k=3).keys) == 3
            with pytest.raises(StoreRejected):
                store.sink().upsert(source.fetch([RecordKey(IDS[0])]))
            with pytest.raises(StoreRejected):
                store.drop()
        keyless = replace(address, options={"grpc_port": address.options["grpc_port"]})
        with opened(keyless, "Held") as store, pytest.raises(StoreRejected) as caught:
            store.source().describe()
        assert "api key" in str(caught.value)
    finally:
        service.stop()


def test_dropping_removes_the_collection_and_a_missing_one_is_named(base: Address) -> None:
    spec = spec_of("Gone")
    with opened(base, "Gone") as store:
        with pytest.raises(CollectionMissing):
            store.drop()
        store.sink().create(spec, Origin(spec, "0"))
        store.drop()
        with pytest.raises(CollectionMissing):
            store.source().describe()


@pytest.mark.parametrize(
    "text",
    [
        "weaviate+http://127.0.0.1:8080?grpc_port=none#A",
        "weaviate+http://127.0.0.1:8080?grpc_port=8080#A",
        "weaviate+http://127.0.0.1:8080?ef=3#A",
        "weaviate+http:./path#A",
        "weaviate+http://127.0.0.1:8080?tls=maybe#A",
    ],
)
def test_addresses_that_lead_nowhere_are_refused_before_anything_is_asked(text: str) -> None:
    with pytest.raises(UsageError):
        open_store(Address.parse(text), Network())


def test_search_settings_that_are_the_collections_are_refused_with_a_word(base: Address) -> None:
    spec = spec_of("Settings")
    with opened(base, "Settings") as store:
        store.sink().create(spec, Origin(spec, "0"))
        query = Query("", dense=np.array([1, 2, 3], np.float32))
        with pytest.raises(UsageError) as caught:
            store.search().search(query, k=1, settings=SearchSettings(options={"ef": 64}))
        assert "settings of the collection" in str(caught.value)
        with pytest.raises(UsageError, match="exact"):
            store.search().search(query, k=1, settings=SearchSettings(exact=True))
        assert dict(store.search().search_options()) == {"tenant": None}


def test_a_mock_is_a_mock_wherever_it_is_named(mock: tuple[Service, Address]) -> None:
    adapter = service_adapter("mock-weaviate")
    assert adapter.is_mock
    with pytest.raises(RoleUnsupported):
        mock[0].inject(Fault("quota"))
    with raw_client(mock[1]) as client:
        assert "mock" in client.get_meta()["hostname"]
    assert mock[0].counters()["requests"] > 0


def test_partitions_by_ranges_of_ids_are_disjoint(base: Address) -> None:
    spec = spec_of("Ranges")
    ids = [str(uuid.UUID(int=place * 2**128 // 37)) for place in range(37)]
    with opened(base, "Ranges") as store:
        store.sink().create(spec, Origin(spec, "0"))
        store.sink().upsert(batch_from_rows([plain_row(id_, None) for id_ in ids], spec))
        source = store.source()
        parts = source.partitions(4)
        assert len(parts) == 4
        keys = [key for part in parts for page in source.scan(part, batch_rows=3) for key in record_keys(page.batch)]
        assert sorted(key.id for key in keys) == ids
        assert [key.id for page in source.scan(Partition(), batch_rows=5) for key in record_keys(page.batch)] == ids


def test_what_others_write_meanwhile_into_new_properties_is_read_by_a_source_that_is_open(base: Address) -> None:
    spec = spec_of("Meanwhile")
    with opened(base, "Meanwhile") as store, opened(base, "Meanwhile") as other:
        store.sink().create(spec, Origin(spec, "0"))
        assert read(store) == {}
        other.sink().upsert(batch_from_rows([plain_row(IDS[0], {"new": "word"})], spec))
        [page, _] = store.source().scan(Partition(), batch_rows=5)
        assert [row.payload for row in rows_from_batch(page.batch, spec)] == [{"new": "word"}]
        hits = store.search().search(Query("", dense=np.array([1, 2, 3], np.float32)), k=3, where=Eq(("new",), "word"))
        assert [key.id for key in hits.keys] == [IDS[0]]
        assert store.search().coverage().is_exact, "a mock that compares every vector passes for no index"
