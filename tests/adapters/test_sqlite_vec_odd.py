"""sqlite-vec files as odd users have them: what an application adds to a table that exitramp made is not lost."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from exitramp.errors import DataInvalid
from exitramp.filters import Eq
from exitramp.ports import Origin, Partition, Query
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp.testing.rows import Row, batch_from_rows, rows_from_batch

SPEC = CollectionSpec("c", IdKind.STRING, (VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.EUCLIDEAN, 2),))
ROWS = [Row(name, None, None, {"n": n}, {"vector": np.array([n, 1], "f4")}) for n, name in enumerate("ab")]


def read(address: str) -> list[Row]:
    source = open_store(address).source()
    spec = source.describe()
    return [row for page in source.scan(Partition(0), batch_rows=100) for row in rows_from_batch(page.batch, spec)]


def written(path: Path, *statements: str) -> str:
    """A collection of exitramp's own, and what somebody does to it."""
    address = f"sqlite-vec:{path}#c"
    store = open_store(address)
    sink = store.sink()
    sink.create(SPEC, Origin(SPEC, "test"))
    sink.upsert(batch_from_rows(ROWS, SPEC))
    store.close()
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return address


def test_columns_that_somebody_adds_and_documents_where_there_were_none_are_read(tmp_path: Path) -> None:
    address = written(
        tmp_path / "x.db",
        "ALTER TABLE c ADD COLUMN price REAL",
        "ALTER TABLE c ADD COLUMN lang TEXT GENERATED ALWAYS AS (payload ->> '$.n') VIRTUAL",
        "UPDATE c SET price = 1.5, document = 'text' WHERE id = 'a'",
    )
    assert [row.payload for row in read(address)] == [{"document": "text", "n": 0, "price": 1.5}, {"n": 1}]
    search = open_store(address).search()
    wanted = Query("", dense=np.array([1, 1], "f4"))
    assert [key.id for key in search.search(wanted, k=2, where=Eq(("price",), 1.5)).keys] == ["a"]
    assert [key.id for key in search.search(wanted, k=2, where=Eq(("n",), 1)).keys] == ["b"]


def test_an_added_column_that_says_something_else_than_the_payload_is_refused(tmp_path: Path) -> None:
    address = written(tmp_path / "x.db", "ALTER TABLE c ADD COLUMN n INTEGER", "UPDATE c SET n = 7 WHERE id = 'b'")
    with pytest.raises(DataInvalid, match="the record 'b' has the key 'n' in its payload, and something else in"):
        read(address)


def test_a_column_that_repeats_a_key_of_the_payload_adds_nothing(tmp_path: Path) -> None:
    address = written(tmp_path / "x.db", "ALTER TABLE c ADD COLUMN n INTEGER", "UPDATE c SET n = payload ->> '$.n'")
    assert [row.payload for row in read(address)] == [{"n": 0}, {"n": 1}]


def test_a_file_tells_its_collections_without_one_being_named(tmp_path: Path) -> None:
    address = written(tmp_path / "x.db").removesuffix("#c")
    identity = open_store(address).source().identity()
    assert (identity.collections, identity.findings) == (("c",), ())


@pytest.mark.parametrize("text", ["[1, null]", "[true, 2]", '["1", 2]', "[1e400, 2]", "[1e39, 2]", "5", '{"a": 1}'])
def test_json_that_is_no_vector_is_refused_by_its_record(tmp_path: Path, text: str) -> None:
    with sqlite3.connect(tmp_path / "x.db") as connection:
        connection.execute("CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT)")
        connection.execute("INSERT INTO t VALUES ('a', '[1, 2]'), ('b', ?)", (text,))
    connection.close()
    with pytest.raises(DataInvalid, match="the record 'b' holds no vector of 2 dimensions in 'v'"):
        read(f"sqlite-vec:{tmp_path / 'x.db'}?vectors=v:json&metric=cosine#t")
