"""LanceDB tables as odd users have them: blobs that lie apart from their rows, names that look like LanceDB's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from exitramp.errors import UsageError
from exitramp.filters import Exists
from exitramp.ports import Partition, Query, SearchSettings
from exitramp.records import RecordKey
from exitramp.registry import open_store
from exitramp.testing.rows import Row, rows_from_batch

SAID = "?id=id&metric=cosine#t"
BLOB = pa.field("blob", pa.large_binary(), metadata={"lance-encoding:blob": "true"})


def made(path: Path, schema: list[pa.Field], *columns: Any) -> str:
    vector = pa.array([[float(row), 1.0] for row in range(len(columns[0]))], pa.list_(pa.float32(), 2))
    fields = [pa.field("id", pa.string()), pa.field("vector", vector.type), *schema]
    ids = [f"r{row}" for row in range(len(columns[0]))]
    table = pa.Table.from_arrays([pa.array(ids), vector, *columns], schema=pa.schema(fields))
    lancedb.connect(path).create_table("t", table)
    return f"lancedb:{path}{SAID}"


def read(address: str, rows: int = 2) -> list[Row]:
    source = open_store(address).source()
    spec = source.describe()
    return [row for page in source.scan(Partition(0), batch_rows=rows) for row in rows_from_batch(page.batch, spec)]


def test_a_column_of_blobs_is_read_for_its_bytes(tmp_path: Path) -> None:
    values = [b"\x00\xff" * 70_000, None, b"", b"last"]
    address = made(tmp_path / "db", [BLOB], pa.array(values, pa.large_binary()))
    assert [row.payload for row in read(address)] == [{"blob": value} for value in values]
    lancedb.connect(tmp_path / "db").open_table("t").delete("id = 'r0'")
    assert [row.payload for row in read(address)] == [{"blob": value} for value in values[1:]]
    store = open_store(address)
    spec = store.source().describe()
    [row] = rows_from_batch(store.source().fetch([RecordKey("r3")]), spec)
    assert row.payload == {"blob": b"last"}
    wanted = Query("vector", dense=read(address)[-1].vectors["vector:vector"])  # type: ignore[arg-type]
    hits = store.search().search(wanted, k=1, with_records=True)
    assert hits.records is not None
    assert rows_from_batch(hits.records, spec)[0].payload == {"blob": b"last"}
    with pytest.raises(UsageError, match="the blob column 'blob' is not filtered by"):
        store.search().search(wanted, k=1, where=Exists(("blob",)))


def test_a_column_whose_name_begins_like_lances_own_is_read(tmp_path: Path) -> None:
    address = made(tmp_path / "db", [pa.field("_row", pa.int64()), pa.field("_rownum", pa.int64())], [7], [8])
    assert [row.payload for row in read(address)] == [{"_row": 7, "_rownum": 8}]


def test_blobs_of_an_older_format_are_refused_by_their_column(tmp_path: Path) -> None:
    options = {"new_table_data_storage_version": "2.0"}
    vector = pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))
    schema = pa.schema([pa.field("id", pa.string()), pa.field("vector", vector.type), BLOB])
    table = pa.Table.from_arrays([pa.array(["a"]), vector, pa.array([b"x"], pa.large_binary())], schema=schema)
    lancedb.connect(tmp_path / "db", storage_options=options).create_table("t", table)
    with pytest.raises(UsageError, match="the bytes of the blob column 'blob' cannot be fetched"):
        read(f"lancedb:{tmp_path / 'db'}{SAID}")


def test_a_search_ends_where_fewer_records_than_asked_for_have_a_distance(tmp_path: Path) -> None:
    vectors = [[0.0, 0.0]] * 20 + [[1.0, 0.0], [0.0, 1.0]]
    columns = {"id": pa.array([f"r{row}" for row in range(22)]), "v": pa.array(vectors, pa.list_(pa.float32(), 2))}
    lancedb.connect(tmp_path / "db").create_table("t", pa.table(columns))
    search = open_store(f"lancedb:{tmp_path}/db{SAID}").search()
    assert search is not None
    for settings in (SearchSettings(), SearchSettings(exact=True)):
        hits = search.search(Query("v", dense=np.array([1.0, 0.0], np.float32)), k=5, settings=settings)
        assert [key.id for key in hits.keys] == ["r20", "r21"]
        assert search.search(Query("v", dense=np.zeros(2, np.float32)), k=5, settings=settings).keys == ()
