"""What looks like a tag of ours in JSON that somebody else wrote is a key of their own: no decimal is made of it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymilvus import DataType, MilvusClient

from exitramp.filters import Eq, Exists, Range
from exitramp.ports import Origin, Partition, Query
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp.testing import Row, batch_from_rows
from exitramp.testing.rows import rows_from_batch
from tests.adapters.milvus_harness import LiteHarness

THEIRS: dict[str, Any] = {
    "price": {"$exitramp:decimal": "1"},
    "wrong": {"$exitramp:date": "never"},
    "among": {"$exitramp:int": "5", "b": 1},
    "escaped": {"$exitramp:esc:int": "5"},
    "list": [{"$exitramp:float": "Infinity"}],
}
OURS = {"big": 2**53 + 1, "key": {"$exitramp:decimal": "1"}}
TEXT = json.dumps(THEIRS)
SPEC = CollectionSpec(
    "t", IdKind.STRING, (VectorField("vector", VectorKind.DENSE, DType.FLOAT32, Metric.EUCLIDEAN, 2),)
)


def _sqlite(folder: Path) -> str:
    with sqlite3.connect(folder / "x.db") as base:
        base.execute("CREATE TABLE t (id TEXT PRIMARY KEY, meta TEXT, v BLOB)")
        base.execute("INSERT INTO t VALUES ('a', ?, ?)", (TEXT, np.array([1, 2], "<f4").tobytes()))
    base.close()
    return f"sqlite-vec:{folder}/x.db?vectors=v:float32&metric=euclidean&payload=meta#t"


def _sqlite_beside(folder: Path) -> str:
    address = _sqlite(folder)
    with sqlite3.connect(folder / "x.db") as base:
        base.execute("ALTER TABLE t ADD COLUMN n INTEGER")
    base.close()
    return address


def _duckdb(kind: str, folder: Path) -> str:
    with duckdb.connect(str(folder / "x.duckdb")) as base:
        base.execute(f"CREATE TABLE t (id VARCHAR PRIMARY KEY, meta {kind}, v FLOAT[2])")
        base.execute("INSERT INTO t VALUES ('a', ?, [1, 2])", [TEXT])
    return f"duckdb:{folder}/x.duckdb?metric=euclidean&payload=meta#t"


def _duckdb_beside(folder: Path) -> str:
    address = _duckdb("JSON", folder)
    with duckdb.connect(str(folder / "x.duckdb")) as base:
        base.execute("ALTER TABLE t ADD COLUMN n INTEGER")
    return address


def _lancedb(kind: pa.DataType, folder: Path) -> str:
    held = pa.array([TEXT], pa.string())
    meta = pa.ExtensionArray.from_storage(kind, held) if isinstance(kind, pa.BaseExtensionType) else held
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([1, 2], pa.float32()), 2)
    lancedb.connect(str(folder / "lance")).create_table("t", pa.table({"id": ["a"], "meta": meta, "v": vectors}))
    return f"lancedb:{folder}/lance?id=id&metric=euclidean&payload=meta#t"


def _parquet(folder: Path) -> str:
    pq.write_table(pa.table({"id": ["a"], "meta": [TEXT], "v": pa.array([[1.0, 2.0]])}), folder / "x.parquet")
    return f"file:{folder}/x.parquet?id=id&vectors=v&metric=euclidean&payload=meta"


def _lines(folder: Path) -> str:
    (folder / "x.jsonl").write_text(json.dumps({"id": "a", "v": [1, 2], **THEIRS}) + "\n")
    return f"file:{folder}/x.jsonl?id=id&vectors=v&metric=euclidean"


def _csv(folder: Path) -> str:
    told = TEXT.replace('"', '""')
    (folder / "x.csv").write_text(f'id,v,meta\na,"[1, 2]","{told}"\n')
    return f"file:{folder}/x.csv?id=id&vectors=v&metric=euclidean&payload=meta"


def _milvus(folder: Path) -> str:
    harness = LiteHarness(folder)
    with harness.client() as client:
        client.create_collection("t", schema=_milvus_schema(), index_params=_milvus_index(client))
        client.insert("t", [{"id": "a", "v": [1, 2], **THEIRS}])
    return str(harness.address("t"))


def _milvus_schema() -> Any:
    schema = MilvusClient.create_schema(enable_dynamic_field=True)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=20)
    schema.add_field("v", DataType.FLOAT_VECTOR, dim=2)
    schema.add_field("price", DataType.JSON)
    return schema


def _milvus_index(client: Any) -> Any:
    params = client.prepare_index_params()
    params.add_index("v", index_type="FLAT", metric_type="L2")
    return params


FOREIGN: dict[str, Callable[[Path], str]] = {
    "sqlite-vec": _sqlite,
    "sqlite-vec beside columns": _sqlite_beside,
    "duckdb JSON": lambda folder: _duckdb("JSON", folder),
    "duckdb VARCHAR": lambda folder: _duckdb("VARCHAR", folder),
    "duckdb beside columns": _duckdb_beside,
    "lancedb text": lambda folder: _lancedb(pa.string(), folder),
    "lancedb JSON": lambda folder: _lancedb(pa.json_(), folder),
    "Parquet": _parquet,
    "JSON lines": _lines,
    "CSV": _csv,
    "milvus-lite": _milvus,
}


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_keys_like_tags_that_somebody_else_wrote_are_keys(make: Callable[[Path], str], tmp_path: Path) -> None:
    [row] = _rows(make(tmp_path))
    assert row.payload is not None
    assert {key: row.payload[key] for key in THEIRS} == THEIRS
    assert '"price":{"$exitramp:esc:decimal":"1"}' in (row.payload_text or "")


def test_values_of_columns_of_json_are_not_tags_either(tmp_path: Path) -> None:
    [row] = _rows(_duckdb("JSON", tmp_path).replace("&payload=meta", ""))
    assert row.payload == {"meta": THEIRS}


def test_duckdb_filters_somebody_elses_keys_as_they_are(tmp_path: Path) -> None:
    store = open_store(_duckdb("JSON", tmp_path))
    try:
        query = Query("v", dense=np.array([1, 2], "f4"))
        for where, wanted in (
            (Eq(("price", "$exitramp:decimal"), "1"), 1),
            (Exists(("escaped", "$exitramp:int")), 0),
            (Range(("list",), gte=1.0), 0),
        ):
            assert len(store.search().search(query, k=5, where=where).keys) == wanted, where
    finally:
        store.close()


@pytest.mark.parametrize("address", ["sqlite-vec:{}/own.db#t", "duckdb:{}/own.duckdb#t", "lancedb:{}/own#t"])
def test_tags_are_read_where_the_origin_stands(address: str, tmp_path: Path) -> None:
    address = address.format(tmp_path)
    store = open_store(address)
    try:
        spec, sink = SPEC, store.sink()
        sink.create(spec, Origin(spec, "test"))
        row = Row("a", payload=OURS, vectors={SPEC.vectors[0].column: np.array([1, 2], "f4")})
        sink.upsert(batch_from_rows([row], spec))
        sink.flush()
    finally:
        store.close()
    [row] = _rows(address)
    assert row.payload == OURS


def _rows(address: str) -> list[Row]:
    store = open_store(address)
    try:
        source = store.source()
        spec = source.describe()
        return [row for page in source.scan(Partition(), batch_rows=9) for row in rows_from_batch(page.batch, spec)]
    finally:
        store.close()
