"""DuckDB files as odd users have them: names with points, columns that somebody adds, values without a counterpart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from exitramp.cli.main import run
from exitramp.errors import DataInvalid, UsageError
from exitramp.filters import Eq
from exitramp.ports import Origin, Partition, Query
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp.testing.rows import Row, batch_from_rows, rows_from_batch
from exitramp_adapters.stores.duckdb.column_types import fits

SPEC = CollectionSpec("c", IdKind.STRING, (VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.EUCLIDEAN, 2),))
ROWS = [Row(name, None, None, {"n": n}, {"vector": np.array([n, 1], "f4")}) for n, name in enumerate("ab")]


def read(address: str) -> list[Row]:
    store = open_store(address)
    try:
        source = store.source()
        spec = source.describe()
        return [row for page in source.scan(Partition(0), batch_rows=100) for row in rows_from_batch(page.batch, spec)]
    finally:
        store.close()


def made(path: Path, *statements: str) -> str:
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)
    return f"duckdb:{path}?metric=cosine"


def written(path: Path) -> str:
    """A table of exitramp's own."""
    address = f"duckdb:{path}#c"
    store = open_store(address)
    sink = store.sink()
    sink.create(SPEC, Origin(SPEC, "test"))
    sink.upsert(batch_from_rows(ROWS, SPEC))
    sink.flush()
    store.close()
    return address


def test_two_tables_that_points_give_one_name_are_both_collections(tmp_path: Path) -> None:
    address = made(
        tmp_path / "x.duckdb",
        "CREATE SCHEMA a; CREATE TABLE a.b (id VARCHAR PRIMARY KEY, emb FLOAT[2])",
        'CREATE TABLE "a.b" (id VARCHAR PRIMARY KEY, emb FLOAT[2])',
        "INSERT INTO a.b VALUES ('schema', [1, 2]); INSERT INTO \"a.b\" VALUES ('main', [1, 2])",
    )
    source = open_store(address).source()
    assert source.identity().collections == ('"a"."b"', '"main"."a.b"')
    source.close()
    assert [row.id for row in read(f'{address}#"a"."b"')] == ["schema"]
    assert [row.id for row in read(f'{address}#"main"."a.b"')] == ["main"]
    with pytest.raises(UsageError, match=r"'a\.b' is the name of two tables") as refused:
        read(f"{address}#a.b")
    assert refused.value.hint == 'write "a"."b" or "main"."a.b"'


def test_a_schema_may_have_the_name_of_its_file(tmp_path: Path) -> None:
    address = made(
        tmp_path / "art.duckdb",
        "CREATE SCHEMA art.art",
        "CREATE TABLE art.art.t AS SELECT 'a' AS id, [1, 2]::FLOAT[2] AS emb, [1, 2]::DOUBLE[] AS other",
    )
    assert [row.id for row in read(f"{address}&id=id&vectors=emb,other#art.t")] == ["a"]


def test_columns_that_somebody_adds_are_read_and_not_written(tmp_path: Path) -> None:
    address = written(tmp_path / "x.duckdb")
    made(
        tmp_path / "x.duckdb",
        "ALTER TABLE c ADD COLUMN price DECIMAL(5,2); UPDATE c SET price = 1.50 WHERE id = 'a'",
        "ALTER TABLE c ADD COLUMN n INTEGER; UPDATE c SET n = 0 WHERE id = 'a'",
        "ALTER TABLE c ADD COLUMN parts STRUCT(x FLOAT[2]); UPDATE c SET parts = {'x': [1, 2]} WHERE id = 'b'",
    )
    first, second = read(address)
    assert (first.payload_text, second.payload_text) == (
        '{"n":0,"price":{"$exitramp:decimal":"1.50"}}',
        '{"n":1,"parts":{"x":[1.0,2.0]}}',
    )
    store = open_store(address)
    wanted = Query("", dense=np.array([0, 1], "f4"))
    assert [key.id for key in store.search().search(wanted, k=2, where=Eq(("n",), 1)).keys] == ["b"]
    sink = store.sink()
    sink.create(SPEC, Origin(SPEC, "test"))
    sink.upsert(batch_from_rows(ROWS, SPEC))
    sink.flush()
    store.close()
    assert [row.payload for row in read(address)] == [{"n": 0}, {"n": 1}]


def test_an_added_column_that_says_something_else_than_the_payload_is_refused(tmp_path: Path) -> None:
    address = written(tmp_path / "x.duckdb")
    made(tmp_path / "x.duckdb", "ALTER TABLE c ADD COLUMN n INTEGER; UPDATE c SET n = 7")
    with pytest.raises(DataInvalid, match="the record 'a' has the key 'n' in its payload, and something else in"):
        read(address)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("TIME '24:00:00'", "the column 'v' holds a time64"),
        ("[TIME '24:00:00']", "the column 'v' holds a time64"),
        ("""'{"a": 1, "a": 2}'::JSON""", "the record 'k' has in 'v' JSON in which a key stands twice"),
        ("""['1e400'::JSON]""", "the record 'k' has in 'v' JSON with a number beyond"),
    ],
)
def test_a_value_that_would_become_another_is_refused_by_its_column(tmp_path: Path, value: str, said: str) -> None:
    made(tmp_path / "x.duckdb", f"CREATE TABLE t AS SELECT 'k' AS id, [1, 2]::FLOAT[2] AS emb, {value} AS v")
    with pytest.raises(DataInvalid) as refused:
        read(f"duckdb:{tmp_path / 'x.duckdb'}?metric=cosine&id=id#t")
    assert said in refused.value.message


def test_a_note_that_is_none_is_told_of_its_table_and_hides_no_other(tmp_path: Path) -> None:
    address = made(
        tmp_path / "x.duckdb",
        "CREATE TABLE t (id VARCHAR PRIMARY KEY, x INTEGER); COMMENT ON TABLE t IS 'exitramp: nope'",
        "CREATE TABLE u (id VARCHAR PRIMARY KEY, emb FLOAT[2])",
    )
    store: Any = open_store(address)
    assert store.source().identity().collections == ("t", "u")
    store.close()
    with pytest.raises(DataInvalid, match="#t: the note of exitramp in its comment is no JSON"):
        read(f"{address}#t")


def test_signs_of_zero_and_the_bits_of_nan_outlast_the_compression_of_the_file(tmp_path: Path) -> None:
    """DuckDB makes runs of numbers that are equal to it one number when it writes them into the file."""
    signed = np.array([[0.0, 0.0], [-0.0, -0.0], [0.0, -0.0], [np.nan, np.nan], [-np.nan, -np.nan]], np.float32)
    for name, matrix in ("zeros", signed[:3]), ("nans", signed[3:]), ("all", np.repeat(signed, 300, axis=0)):
        np.save(tmp_path / f"{name}.npy", matrix)
        target = f"duckdb:{tmp_path}/x.duckdb#{name}"
        assert (
            run(["copy", f"npy:{tmp_path}/{name}.npy?metric=euclidean", target, "--state", str(tmp_path / name)]) == 0
        )
        with duckdb.connect(str(tmp_path / "x.duckdb")) as connection:
            connection.execute("FORCE CHECKPOINT")
        assert run(["compare", f"npy:{tmp_path}/{name}.npy?metric=euclidean", target, "--no-neighbours"]) == 0


def test_a_negative_zero_stands_in_no_column_of_numbers() -> None:
    for kind in (duckdb.sqltype("DOUBLE"), duckdb.sqltype("FLOAT")):
        assert fits(0.0, kind)
        assert fits(-1.5, kind)
        assert fits(float("nan"), kind)
        assert not fits(-0.0, kind)
    assert not fits([1.0, -0.0], duckdb.sqltype("DOUBLE[]"))
