"""DuckDB tables and views that somebody else made: read whole, every type exactly or named, and never written to."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import numpy as np
import pytest

from exitramp import canonical
from exitramp.arrow import record_keys
from exitramp.errors import CollectionExists, CollectionMissing, DataInvalid, UsageError
from exitramp.filters import And, Eq, Exists, Filter, In, Not, Or, Range, matches
from exitramp.ports import Origin, Partition, Query, Store, TransferAccount
from exitramp.records import DType, IdKind, Metric, RecordKey, VectorKind
from exitramp.registry import open_store
from exitramp.testing.rows import Row, rows_from_batch
from exitramp.urls import Address

REF = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
# By column: its type, how a value is written in SQL, and what it is in a payload.
TYPES: dict[str, tuple[str, str, Any]] = {
    "title": ("VARCHAR", "'größer'", "größer"),
    "flag": ("BOOLEAN", "true", True),
    "tiny": ("TINYINT", "-128", -128),
    "huge": ("HUGEINT", "170141183460469231731687303715884105727", 2**127 - 1),
    "uhuge": ("UHUGEINT", "340282366920938463463374607431768211455", 2**128 - 1),
    "big": ("BIGNUM", "'1' || repeat('0', 40)", 10**40),
    "single": ("FLOAT", "0.1", float(np.float32(0.1))),
    "double": ("DOUBLE", "0.1", 0.1),
    "nan": ("DOUBLE", "'nan'", float("nan")),
    "price": ("DECIMAL(10,2)", "1.1", Decimal("1.10")),
    "wide": ("DECIMAL(38,0)", "99999999999999999999999999999999999999", Decimal(10**38 - 1)),
    "zoned": ("TIMESTAMPTZ", "'2024-02-29 12:00:00.123456+02'", datetime(2024, 2, 29, 10, 0, 0, 123456, UTC)),
    "plain": ("TIMESTAMP", "'1999-12-31 23:59:59.999999'", datetime(1999, 12, 31, 23, 59, 59, 999999)),
    "seconds": ("TIMESTAMP_S", "'2024-01-01 00:00:01'", datetime(2024, 1, 1, 0, 0, 1)),
    "millis": ("TIMESTAMP_MS", "'2024-01-01 00:00:00.5'", datetime(2024, 1, 1, 0, 0, 0, 500000)),
    "nanos": ("TIMESTAMP_NS", "'2024-01-01 00:00:00.123456789'", "2024-01-01T00:00:00.123456789"),
    "day": ("DATE", "'0001-01-01'", date(1, 1, 1)),
    "clock": ("TIME", "'23:59:59.000001'", time(23, 59, 59, 1)),
    "fine": ("TIME_NS", "'23:59:59.000000001'", "23:59:59.000000001"),
    "zoned_clock": ("TIMETZ", "'12:00:00+02'", "12:00:00+02"),
    "ref": ("UUID", f"'{REF}'", UUID(REF)),
    "bytes": ("BLOB", "'\\x00\\xff'::BLOB", b"\x00\xff"),
    "bits": ("BIT", "'10101'", "10101"),
    "mood": ("ENUM('glad', 'so''so')", "'so''so'", "so'so"),
    "span": ("INTERVAL", "INTERVAL '1 month 2 days 3 microseconds'", "P1M2DT3000ns"),
    "by_name": ("MAP(VARCHAR, INTEGER)", "MAP {'a': 1, 'b': NULL}", {"a": 1, "b": None}),
    "by_number": ("MAP(HUGEINT, BIT)", "MAP {7: '1'::BIT}", [[7, "1"]]),
    "parts": ("STRUCT(a UHUGEINT, ids UUID[])", f"{{'a': 7, 'ids': ['{REF}']}}", {"a": 7, "ids": [UUID(REF)]}),
    "either": ("UNION(n INTEGER, s VARCHAR)", "'x'::UNION(n INTEGER, s VARCHAR)", {"s": "x"}),
    "items": ("INTEGER[]", "[1, NULL]", [1, None]),
    "pair": ("INTEGER[2]", "[1, 2]", [1, 2]),
    "nothing": ("INTEGER[]", "[]", []),
    "doc": ("JSON", """'{"b": 1.0, "a": [1, {"x": null}]}'""", {"a": [1, {"x": None}], "b": 1.0}),
    "lists": ("FLOAT[]", "[1, 2]", [1.0, 2.0]),
}
AS_TEXT = ("nanos", "fine", "zoned_clock", "bits", "span", "by_number")


def made(path: Path, *statements: str) -> None:
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)


def address(path: Path, collection: str = "articles", **options: str) -> str:
    return Address("duckdb", str(path), collection, options).text


def read(where: str, batch_rows: int = 1000) -> list[Row]:
    store = open_store(where)
    try:
        source = store.source()
        pages = list(source.scan(Partition(), batch_rows=batch_rows))
        return [row for page in pages for row in rows_from_batch(page.batch, source.describe())]
    finally:
        store.close()


def all_types(path: Path) -> None:
    columns = ", ".join(f'"{name}" {kind}' for name, (kind, _, _) in TYPES.items())
    values = ", ".join(sql for _, sql, _ in TYPES.values())
    made(
        path,
        f"CREATE TABLE articles (nr UINTEGER PRIMARY KEY, emb FLOAT[2], {columns})",
        f"INSERT INTO articles SELECT 1, [1, 2], {values}",
        "INSERT INTO articles (nr) VALUES (2)",
    )


def test_every_type_is_read_exactly_or_as_text_that_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    all_types(path)
    full, empty = read(address(path, metric="cosine"))
    assert full.payload_text == canonical.dumps({name: value for name, (_, _, value) in TYPES.items()})
    assert empty.payload == dict.fromkeys(TYPES)
    assert (full.id, empty.id, empty.vectors) == ("1", "2", {})
    store = open_store(address(path, metric="cosine"))
    [finding] = store.source().identity().findings
    assert finding.code == "source.columns_as_text"
    assert finding.message.endswith(f": {', '.join(AS_TEXT)}")
    told = store.source().describe().index["duckdb"]
    assert told["columns"]["price"] == "DECIMAL(10,2)"
    assert told["primary_key"] == ["nr"]
    store.close()


def test_typed_columns_come_back_as_columns_of_the_same_type(tmp_path: Path) -> None:
    one, other = tmp_path / "one.duckdb", tmp_path / "other.duckdb"
    all_types(one)
    copied(address(one, metric="cosine"), address(other, "kept"))
    assert [(row.id, row.payload_text) for row in read(address(one, metric="cosine"))] == [
        (row.id, row.payload_text) for row in read(address(other, "kept"))
    ]
    with duckdb.connect(str(other), read_only=True) as connection:
        types = dict(
            connection.execute(
                "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'kept'"
            ).fetchall()
        )
        row = connection.execute(
            "SELECT price, zoned::VARCHAR, nanos, payload ->> 'price' FROM kept WHERE id = 1"
        ).fetchone()
    beside = {"zoned_clock", "span", "by_name", "by_number", "parts", "either"}
    assert {name for name in TYPES if name not in types} == beside, "those stay in the payload"
    assert types["price"] == "DECIMAL(10,2)"
    assert (row[0], row[3]) == (Decimal("1.10"), None)


def test_a_value_that_no_typed_column_holds_stays_in_the_payload(tmp_path: Path) -> None:
    one, other = tmp_path / "one.duckdb", tmp_path / "other.duckdb"
    made(one, "CREATE TABLE articles (id VARCHAR PRIMARY KEY, price DECIMAL(4,2), n TINYINT, emb FLOAT[2])")
    copied(address(one, metric="dot"), address(other))
    payloads: list[dict[str, Any] | None] = [
        *({"price": Decimal("1.1"), "n": 300}, {"price": Decimal("1.10"), "n": 7}, {"price": None}, {}, None),
        *({"price": "1.10", "n": True}, {"price": Decimal("123.45"), "n": 1.0, "more": [None]}),
    ]
    store = open_store(address(other))
    sink, spec = store.sink(), store.source().describe()
    sink.create(spec, Origin(spec, "0"))
    from exitramp.testing.rows import batch_from_rows

    rows = [Row(f"r{number}", None, None, payload) for number, payload in enumerate(payloads)]
    sink.upsert(batch_from_rows(rows, spec))
    sink.flush()
    store.close()
    assert [row.payload_text for row in read(address(other))] == [row.payload_text for row in rows]


def copied(one: str, other: str) -> None:
    first, second = open_store(one), open_store(other)
    source, sink = first.source(), second.sink()
    spec = source.describe()
    sink.create(spec, Origin(spec, "0"))
    for page in source.scan(Partition(), batch_rows=1000):
        sink.upsert(page.batch)
    sink.flush()
    sink.finish(TransferAccount())
    first.close()
    second.close()


def test_the_address_says_what_the_columns_are(tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    made(
        path,
        "CREATE TABLE articles (tenant INTEGER, nr UUID, body VARCHAR, meta JSON, emb FLOAT[2], small TINYINT[4],"
        ' bits UTINYINT[2], late FLOAT[2][], lists DOUBLE[], words STRUCT(indices UINTEGER[], "values" FLOAT[]))',
        f"INSERT INTO articles VALUES (7, '{REF}', 'text', '{{\"k\": 1.0}}', [1, 2], [1, 2, 3, 4], [255, 1],"
        " [[1, 2], [3, 4]], [0.1, 0.2], {'indices': [7, 1], 'values': [1, 2]})",
        f"INSERT INTO articles (tenant, nr) VALUES (NULL, '{REF}')",
    )
    said = {"id": "nr", "namespace": "tenant", "document": "body", "payload": "meta"}
    where = address(path, vectors="emb,small,bits,late,lists,words", metric="dot,bits:hamming", **said)
    store = open_store(where)
    spec = store.source().describe()
    fields = {field.name: (field.kind, field.dtype, field.dimensions, field.metric) for field in spec.vectors}
    assert fields == {
        "emb": (VectorKind.DENSE, DType.FLOAT32, 2, Metric.DOT),
        "small": (VectorKind.DENSE, DType.INT8, 4, Metric.DOT),
        "bits": (VectorKind.DENSE, DType.BINARY, 16, Metric.HAMMING),
        "late": (VectorKind.MULTI, DType.FLOAT32, 2, Metric.DOT),
        "lists": (VectorKind.DENSE, DType.FLOAT64, 2, Metric.DOT),
        "words": (VectorKind.SPARSE, DType.FLOAT32, None, Metric.DOT),
    }
    assert spec.id_kind is IdKind.UUID
    bare, full = read(where)
    assert (bare.namespace, bare.document, bare.payload, bare.vectors) == (None, None, None, {})
    assert (full.namespace, full.document, full.payload) == ("7", "text", {"k": 1.0})
    assert np.asarray(full.vectors["vector:lists"]).tolist() == [0.1, 0.2]
    assert np.asarray(full.vectors["multi:late"]).tolist() == [[1, 2], [3, 4]]
    found = store.source().fetch([RecordKey(REF, "7"), RecordKey(REF, "8"), RecordKey(REF.upper(), "7")])
    assert record_keys(found) == [RecordKey(REF, "7")]
    store.close()
    one = open_store(address(path, vectors="emb", metric="dot", **said))
    [finding] = one.source().identity().findings
    assert finding.code == "source.columns_unread"
    one.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "nothing tells by which metric 'emb'"),
        ({"metric": "cosine", "id": "emb"}, "something else already"),
        ({"metric": "cosine", "id": "day"}, "no id is of the type DATE"),
        ({"metric": "cosine", "id": "none"}, "no such column"),
        ({"metric": "cosine", "document": "day"}, "a document is text"),
        ({"metric": "cosine", "payload": "day"}, "holds no objects"),
        ({"metric": "cosine", "vectors": "ragged"}, "no common length"),
        ({"metric": "warp"}, "'warp' is not known"),
        ({"colour": "red"}, "has no option 'colour'"),
        ({"index": "flat"}, "there is only hnsw"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_told_is_refused_by_name(tmp_path: Path, options: dict[str, str], words: str) -> None:
    path = tmp_path / "x.duckdb"
    made(
        path,
        "CREATE TABLE articles (nr INTEGER PRIMARY KEY, day DATE, ragged FLOAT[], emb FLOAT[2])",
        "INSERT INTO articles VALUES (1, NULL, [1], [1, 2]), (2, NULL, [1, 2], NULL)",
    )
    with pytest.raises(UsageError, match=words):
        open_store(address(path, **options)).source().describe()


def test_a_view_is_read_in_the_order_of_its_keys_and_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    made(
        path,
        "CREATE TABLE articles AS SELECT (i * 7919 % 101)::VARCHAR AS nr, i AS n, [i, 1]::FLOAT[2] AS emb"
        " FROM range(90) t(i)",
        "CREATE SCHEMA shop",
        "CREATE VIEW shop.cheap AS SELECT nr, n::VARCHAR AS text, emb FROM articles WHERE n < 40",
    )
    where = address(path, "shop.cheap", id="nr", metric="euclidean")
    rows = read(where, batch_rows=7)
    assert [row.id for row in rows] == sorted(str(i * 7919 % 101) for i in range(40))
    store = open_store(where)
    assert store.source().identity().collections == ("articles", "shop.cheap")
    spec = store.source().describe()
    with pytest.raises(CollectionExists, match="a view"):
        store.sink().create(spec, Origin(spec, "0"))
    with pytest.raises(CollectionExists, match="did not make"):
        open_store(address(path, id="nr", metric="euclidean")).sink().create(spec, Origin(spec, "0"))
    store.close()


@pytest.mark.parametrize("order", ["nr", "nr DESC"])
def test_an_id_that_stands_in_two_rows_is_named(tmp_path: Path, order: str) -> None:
    path = tmp_path / "x.duckdb"
    made(
        path,
        "CREATE TABLE articles AS SELECT 'a' || (i // 2) AS nr, [i, 1]::FLOAT[2] AS emb FROM range(6) t(i) WHERE i <> 1"
        f" ORDER BY {order}",
    )
    for batch_rows in (1, 2, 100):
        with pytest.raises(DataInvalid, match="'a1' stands in more than one row"):
            read(address(path, id="nr", metric="dot"), batch_rows)


def test_a_row_without_an_id_or_with_a_hole_in_its_vector_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    made(
        path,
        "CREATE TABLE articles (nr VARCHAR, emb FLOAT[2])",
        "INSERT INTO articles VALUES ('a', [1, 2]), ('b', [1, NULL])",
        "CREATE TABLE nameless AS SELECT * FROM articles",
        "INSERT INTO nameless VALUES (NULL, [1, 2])",
    )
    with pytest.raises(DataInvalid, match="the record 'b'"):
        read(address(path, id="nr", metric="dot"))
    with pytest.raises(DataInvalid, match="1 rows have no id"):
        read(address(path, "nameless", id="nr", metric="dot"))


def test_ids_are_told_apart_by_their_bytes_whatever_the_column_says(tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    made(
        path,
        "CREATE TABLE articles (nr VARCHAR COLLATE NOCASE, emb FLOAT[2])",
        "INSERT INTO articles VALUES ('b', [1, 2]), ('A', [1, 2]), ('a', [1, 2]), ('B', [1, 2])",
    )
    where = address(path, id="nr", metric="dot")
    assert [row.id for row in read(where, 1)] == ["A", "B", "a", "b"]
    store = open_store(where)
    parts = store.source().partitions(3)
    keys = [
        [key.id for page in store.source().scan(part, batch_rows=1) for key in record_keys(page.batch)]
        for part in parts
    ]
    assert keys == [["A"], ["B"], ["a", "b"]]
    assert record_keys(store.source().fetch([RecordKey("a")])) == [RecordKey("a")]
    store.close()


def test_an_infinite_date_names_its_column(tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    made(path, "CREATE TABLE articles AS SELECT 1 AS nr, DATE 'infinity' AS day, [1, 2]::FLOAT[2] AS emb")
    with pytest.raises(DataInvalid, match="the column 'day'"):
        read(address(path, id="nr", metric="dot"))


def test_names_that_differ_in_case_are_one_table_and_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    made(path, "CREATE TABLE Articles (nr INTEGER PRIMARY KEY, emb FLOAT[2])")
    store = open_store(address(path, "Articles", metric="dot"))
    spec = store.source().describe()
    store.close()
    other = open_store(address(path, "articles"))
    with pytest.raises(CollectionMissing, match="it is written 'Articles'"):
        other.source().count()
    with pytest.raises(CollectionExists, match="differ in case"):
        other.sink().create(spec, Origin(spec, "0"))
    other.close()


FILTERS: tuple[Filter, ...] = (
    *(Eq(("title",), "größer"), Eq(("title",), 1), Eq(("flag",), True), Eq(("flag",), 1), Eq(("tiny",), -128)),
    *(Eq(("tiny",), -128.0), Eq(("huge",), 2**127 - 1), Eq(("uhuge",), 2**128 - 1), Eq(("big",), 10**40)),
    *(
        Range(("big",), gt=10**40 - 1),
        Range(("big",), gt=1e40),
        Range(("huge",), lt=1e38),
        Range(("tiny",), gte=-128.5),
    ),
    *(Range(("single",), gt=0.1), Range(("double",), gt=0.1), Range(("nan",), gte=0), Eq(("double",), 0.1)),
    *(
        Eq(("price",), 1),
        Range(("price",), gte=0),
        Eq(("ref",), REF),
        Eq(("day",), "0001-01-01"),
        Eq(("mood",), "so'so"),
    ),
    *(Eq(("items",), 1), In(("items",), (2, 1)), Eq(("pair",), 2), Eq(("nothing",), 1), Eq(("lists",), 2)),
    *(Eq(("parts", "a"), 7), Eq(("parts", "b"), 7), Exists(("parts", "a")), Exists(("parts", "b")), Exists(("title",))),
    *(Eq(("doc", "b"), 1), Eq(("doc", "a"), 1), Exists(("doc", "a")), Exists(("doc", "c")), Exists(("none",))),
    And((Eq(("flag",), True), Not(Eq(("title",), "x")))),
    Or((Eq(("none",), 1), Range(("double",), lt=1))),
)


def test_filters_on_typed_columns_are_those_on_their_values(tmp_path: Path) -> None:
    path, own = tmp_path / "x.duckdb", tmp_path / "own.duckdb"
    all_types(path)
    made(path, "UPDATE articles SET emb = [2, 1] WHERE nr = 2")
    copied(address(path, metric="dot"), address(own))
    for held in (address(path, metric="dot"), address(own)):
        rows = read(held)
        store = open_store(held)
        for where in (*FILTERS, *(Not(each) for each in FILTERS)):
            hits = store.search().search(Query("emb", dense=np.ones(2, np.float32)), k=9, where=where)
            assert {key.id for key in hits.keys} == {row.id for row in rows if matches(where, row.payload)}, where
        store.close()


def test_a_filter_on_what_becomes_text_or_has_no_path_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    all_types(path)
    store = open_store(address(path, metric="dot"))
    for field in (("nanos",), ("span",), ("by_name", "a"), ("by_number",), ("either", "s")):
        with pytest.raises(UsageError, match=field[0]):
            store.search().search(Query("emb", dense=np.ones(2, np.float32)), k=9, where=Eq(field, "x"))
    store.close()


def test_the_comment_of_a_table_goes_with_it(tmp_path: Path) -> None:
    one, other = tmp_path / "one.duckdb", tmp_path / "other.duckdb"
    made(
        one,
        "CREATE TABLE articles (nr INTEGER PRIMARY KEY, emb FLOAT[2])",
        "COMMENT ON TABLE articles IS 'Owned by search.\nAsk ''Kim'' first.'",
    )
    copied(address(one, metric="dot"), address(other))
    store: Store = open_store(address(other))
    told = store.source().describe().index["duckdb"]["metadata"]
    assert told == {"comment": "Owned by search.\nAsk 'Kim' first."}
    store.close()


def test_an_application_may_say_the_metrics_in_a_comment(tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    made(
        path,
        "CREATE TABLE articles (nr INTEGER PRIMARY KEY, emb FLOAT[2])",
        """COMMENT ON TABLE articles IS 'exitramp: {"format": 1, "metrics": {"emb": "euclidean"}}'""",
    )
    store = open_store(address(path))
    [field] = store.source().describe().vectors
    assert (field.name, field.metric) == ("emb", Metric.EUCLIDEAN)
    store.close()
