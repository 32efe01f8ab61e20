"""What Milvus allows and few expect: partitions that are not loaded, JSON that is none, indexes that were dropped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pymilvus import DataType, MilvusClient

from exitramp.errors import DataInvalid, UsageError
from exitramp.ports import Partition
from exitramp.records import Metric
from exitramp.registry import open_store, service_adapter
from exitramp.testing import batch_from_rows
from exitramp.testing.conformance.steps import origin_of
from exitramp.wrappers import open_endpoint
from exitramp_adapters.stores.milvus.schema import schema_for
from tests.adapters.milvus_harness import LiteHarness
from tests.adapters.test_milvus_foreign import make, read


@pytest.fixture(name="base", scope="module")
def _base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    service = service_adapter("milvus-server").make(str(tmp_path_factory.mktemp("milvus")), 0, {})
    try:
        yield str(service.start())
    finally:
        service.stop()


@pytest.fixture
def harness(tmp_path: Path) -> LiteHarness:
    return LiteHarness(tmp_path)


def test_texts_in_arrays_have_the_length_that_a_server_demands(harness: LiteHarness) -> None:
    """milvus-lite does not tell it, and a server makes no such field without one."""
    make(harness)
    spec, _ = read(harness.address("theirs"))
    for field in schema_for("copied", spec).fields:
        names = {pair.key for pair in field.type_params}
        if DataType.VARCHAR in (field.data_type, field.element_type):
            assert "max_length" in names, field.name
        if field.data_type == DataType.ARRAY:
            assert "max_capacity" in names, field.name


def test_json_that_is_none_is_named_with_its_record(harness: LiteHarness) -> None:
    with harness.client() as client:
        schema = MilvusClient.create_schema(auto_id=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=10)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
        schema.add_field("told", DataType.JSON)
        params = client.prepare_index_params()
        params.add_index("vector", index_type="FLAT", metric_type="L2")
        client.create_collection("theirs", schema=schema, index_params=params)
        client.insert("theirs", [{"id": "a", "vector": [1, 2], "told": {}}])
        client.insert("theirs", [{"id": "b", "vector": [1, 2], "told": '"text"'}])
    with pytest.raises(DataInvalid, match="'told' of the record 'b'"):
        read(harness.address("theirs"))


def test_a_collection_of_which_only_some_partitions_are_loaded_is_never_read_as_if_that_were_all(base: str) -> None:
    client = MilvusClient(uri=base.removeprefix("milvus+"))
    client.create_collection("parted", dimension=2, metric_type="L2")
    client.release_collection("parted")
    client.create_partition("parted", "a")
    client.insert("parted", [{"id": 1, "vector": [1, 2]}, {"id": 2, "vector": [1, 2]}])
    client.insert("parted", [{"id": 3, "vector": [1, 2]}], partition_name="a")
    client.load_partitions("parted", ["a"])
    store = open_store(f"{base}#parted")
    for read_it in (store.source().count, lambda: next(iter(store.source().scan(Partition(), batch_rows=10)))):
        with pytest.raises(UsageError, match=r"1 of its 2 partitions are not loaded.*_default"):
            read_it()
    store.close()
    _, rows = read(f"{base}?load=true#parted")
    assert [row.id for row in rows] == ["1", "2", "3"]
    client.close()


def test_the_address_says_a_metric_that_no_index_says(harness: LiteHarness) -> None:
    make(harness)
    with harness.client() as client:
        client.release_collection("theirs")
        client.drop_index("theirs", "body")
    with pytest.raises(DataInvalid, match="has no index"):
        read(harness.address("theirs"))
    for said in ("dot", "body:dot", "other:cosine,body:dot"):
        with open_endpoint(f"milvus:{harness.uri}?metric={said}#theirs") as endpoint:
            assert endpoint.source().describe().vectors[0].metric is Metric.DOT


def test_an_index_of_milvus_lite_whose_settings_it_does_not_tell_is_made_on_a_server(
    harness: LiteHarness, base: str
) -> None:
    with harness.client() as client:
        schema = MilvusClient.create_schema(auto_id=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=10)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
        params = client.prepare_index_params()
        params.add_index("vector", index_type="HNSW", metric_type="L2", params={"M": 8, "efConstruction": 32})
        client.create_collection("theirs", schema=schema, index_params=params)
        client.insert("theirs", [{"id": "a", "vector": [1, 2]}])
    spec, rows = read(harness.address("theirs"))
    assert "M" not in spec.index["milvus"]["indexes"][0], "it tells them by now: this test is no longer needed"
    store = open_store(f"{base}#from_lite")
    sink = store.sink()
    sink.create(spec, origin_of(spec))
    sink.upsert(batch_from_rows(rows, spec))
    store.close()
    copied, found = read(f"{base}#from_lite")
    assert [row.id for row in found] == ["a"]
    assert copied.index["milvus"]["indexes"][0]["index_type"] == "HNSW"
