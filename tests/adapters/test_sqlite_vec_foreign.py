"""Tables that somebody else made: vec0 with columns of every kind, alone or joined, and vectors in ordinary tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exitramp.errors import CollectionExists, CollectionMissing, DataInvalid, UsageError
from exitramp.filters import And, Eq, Exists, Filter, In, Not, Range, matches
from exitramp.ports import Origin, Partition, Query
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey
from exitramp.registry import open_store
from exitramp.testing.reference import nearest_first, score
from exitramp.testing.rows import Row, rows_from_batch
from exitramp_adapters.stores.sqlite_vec.declared import OtherColumn, VectorColumn, parse_vec0
from exitramp_adapters.stores.sqlite_vec.rows import Rows
from tests.adapters.test_sqlite_vec import opened_file, turned

EVERYTHING = """CREATE VIRTUAL TABLE docs USING vec0(
  doc_id TEXT PRIMARY KEY, -- the id, of course
  body float[8] distance_metric=cosine,
  /* smaller, (with a paren */ small INT8[8] DISTANCE_METRIC = L1, bits bit[16],
  tenant text partition key, year integer partition key,
  genre text, pages integer, price float, open boolean,
  +contents text, +raw blob, +weight float, +rank integer,
  chunk_size=16)"""
WORDS = ("short", "a text of more than twelve bytes", "größer 🚀", "")


def numbers(rows: int, dimensions: int = 8, seed: int = 1) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal((rows, dimensions), dtype=np.float32)


def small(rows: int, dimensions: int = 8) -> np.ndarray[Any, np.dtype[np.int8]]:
    return np.random.default_rng(2).integers(-128, 128, (rows, dimensions), np.int8)


def bits(rows: int, width: int = 2) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(3).integers(0, 256, (rows, width), np.uint8)


def everything(path: Path, rows: int = 75) -> list[dict[str, Any]]:
    """The table with all kinds of columns, in which each third row was written a second time."""
    made: list[dict[str, Any]] = []
    for number in range(rows):
        made.append(
            {
                "doc_id": f"d-{number * 37 % 101:03d}",
                "tenant": (None, "", "a", "b")[number % 4],
                "year": 2020 + number % 2,
                "genre": WORDS[number % 4],
                "pages": (number - 3) * 2**40,
                "price": number / 7,
                "open": bool(number % 3),
                "contents": None if number % 5 == 0 else f"text {number}",
                "raw": None if number % 3 == 0 else bytes([number, 0, 255]),
                "weight": None if number % 4 == 0 else number / 3,
                "rank": None if number % 6 == 0 else number,
            }
        )
    with opened_file(path) as connection:
        connection.execute(EVERYTHING)
        connection.execute("BEGIN")
        for again in (False, True):
            for number, row in enumerate(made):
                if again and number % 3:
                    continue
                connection.execute("DELETE FROM docs WHERE doc_id = ?", (row["doc_id"],))
                connection.execute(
                    f"INSERT INTO docs({', '.join(row)}, body, small, bits)"
                    f" VALUES ({', '.join('?' * len(row))}, ?, vec_int8(?), vec_bit(?))",
                    (
                        *(int(value) if isinstance(value, bool) else value for value in row.values()),
                        numbers(rows)[number].tobytes(),
                        small(rows)[number].tobytes(),
                        bits(rows)[number].tobytes(),
                    ),
                )
        connection.execute("COMMIT")
    return made


def read(address: str, batch_rows: int = 20) -> tuple[CollectionSpec, list[Row]]:
    store = open_store(address)
    source = store.source()
    spec = source.describe()
    found: list[Row] = []
    for partition in source.partitions(3):
        for page in source.scan(partition, batch_rows=batch_rows):
            page.batch.validate(full=True)
            found += rows_from_batch(page.batch, spec)
    assert source.count() == len(found)
    store.close()
    return spec, found


def test_a_declaration_is_read_whatever_its_spelling() -> None:
    found = parse_vec0("docs", EVERYTHING)
    assert found is not None
    assert (found.key, found.key_is_text, found.chunk_rows) == ("doc_id", True, 16)
    assert found.vectors == (
        VectorColumn("body", DType.FLOAT32, 8, Metric.COSINE),
        VectorColumn("small", DType.INT8, 8, Metric.MANHATTAN),
        VectorColumn("bits", DType.BINARY, 16, Metric.HAMMING),
    )
    roles = [(other.name, other.role, other.type) for other in found.others]
    assert roles[:3] == [
        ("tenant", "partition", "text"),
        ("year", "partition", "integer"),
        ("genre", "metadata", "text"),
    ]
    assert roles[5:7] == [("open", "metadata", "boolean"), ("contents", "auxiliary", "text")]


@pytest.mark.parametrize(
    "declared",
    [
        "CREATE VIRTUAL TABLE t USING vec0(emb F32[4], x t)",
        'CREATE VIRTUAL TABLE "we,ird (" USING "vec0" (emb float[ 4 ] ,x te)',
        "CREATE VIRTUAL TABLE [t]\nUSING\tVEC0(emb float32[4] -- it's a comment, with a comma\n, x text)",
        "CREATE VIRTUAL TABLE t /* using fts5( */ using vec0(emb float[4] d=l2, x TEXT, c=8)",
        "CREATE VIRTUAL TABLE 'it''s' USING vec0(emb float[4] indexed by flat(), x text)",
    ],
)
def test_a_declaration_may_be_cut_short_quoted_and_commented(declared: str) -> None:
    found = parse_vec0("t", declared)
    assert found is not None
    assert found.vectors == (VectorColumn("emb", DType.FLOAT32, 4, Metric.EUCLIDEAN),)
    assert found.others == (OtherColumn("x", "metadata", "text"),)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("emb float[4] distance_metric=chebyshev", "the metric 'chebyshev'"),
        ("emb float[4] indexed by diskann(neighbor_quantizer=binary)", "index of the kind 'diskann'"),
        ("emb float16[4] what=else", "not known here"),
        ("emb float[4], x decimal", "not known here"),
        ("emb float[4], block_size=4", "not known here"),
        ("emb float[4], 'x' text", "not known here"),
    ],
)
def test_what_is_not_known_of_a_declaration_is_named(arguments: str, said: str) -> None:
    if "float16" in arguments:
        arguments = arguments.replace("float16", "float")
    with pytest.raises(DataInvalid, match=said):
        parse_vec0("t", f"CREATE VIRTUAL TABLE t USING vec0({arguments})")


def test_other_tables_are_no_vec0() -> None:
    assert parse_vec0("t", "CREATE TABLE t(vec0 text)") is None
    assert parse_vec0("t", "CREATE VIRTUAL TABLE t USING fts5(using vec0)") is None


@pytest.mark.parametrize("batch_rows", [7, 1000])
def test_every_column_of_a_vec0_table_is_read_as_what_it_is(tmp_path: Path, batch_rows: int) -> None:
    path = tmp_path / "x.db"
    made = everything(path)
    spec, found = read(f"sqlite-vec:{path}?namespace=tenant&document=contents#docs", batch_rows)
    assert (spec.name, spec.id_kind, spec.has_namespaces, spec.has_documents) == ("docs", IdKind.STRING, True, True)
    assert [(field.name, field.dtype, field.metric, field.dimensions) for field in spec.vectors] == [
        ("body", DType.FLOAT32, Metric.COSINE, 8),
        ("small", DType.INT8, Metric.MANHATTAN, 8),
        ("bits", DType.BINARY, Metric.HAMMING, 16),
    ]
    assert spec.index["sqlite-vec"]["chunk_size"] == 16
    assert spec.index["sqlite-vec"]["columns"]["tenant"] == "text partition"
    by_id = {row.id: row for row in found}
    assert len(by_id) == len(found) == len(made)
    for number, row in enumerate(made):
        got = by_id[row["doc_id"]]
        payload = {key: value for key, value in row.items() if key not in ("doc_id", "tenant", "contents")}
        wanted = Row(row["doc_id"], row["tenant"], row["contents"], payload)
        assert (got.namespace, got.document, got.payload_text) == (row["tenant"], row["contents"], wanted.payload_text)
        assert np.asarray(got.vectors["vector:body"]).tobytes() == numbers(75)[number].tobytes()
        assert np.asarray(got.vectors["vector:small"]).tobytes() == small(75)[number].tobytes()
        assert np.asarray(got.vectors["vector:bits"]).tobytes() == turned(bits(75)[number].tobytes())


def test_bits_are_read_in_the_order_that_the_address_says(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    everything(path)
    _, found = read(f"sqlite-vec:{path}?first_bit=high&vectors=bits#docs")
    assert {np.asarray(row.vectors["vector:bits"]).tobytes() for row in found} == {row.tobytes() for row in bits(75)}
    with pytest.raises(UsageError, match="first_bit is low"):
        read(f"sqlite-vec:{path}?first_bit=last#docs")


@pytest.mark.parametrize("field", ["body", "small", "bits"])
@pytest.mark.parametrize(
    "where",
    [
        None,
        Eq(("genre",), "short"),
        And((In(("year",), (2020,)), Not(Eq(("open",), True)))),
        Range(("price",), gte=1, lt=7.5),
        Eq(("open",), False),
        Eq(("weight",), 1.0),
        Not(Exists(("nothing",))),
    ],
)
def test_a_vec0_table_is_searched_by_each_of_its_columns(tmp_path: Path, field: str, where: Filter | None) -> None:
    path = tmp_path / "x.db"
    everything(path)
    spec, rows = read(f"sqlite-vec:{path}?namespace=tenant#docs")
    declared = spec.vector(field)
    store = open_store(f"sqlite-vec:{path}?namespace=tenant#docs")
    passing = [row for row in rows if where is None or matches(where, row.payload)]
    for row in rows[::13]:
        query = np.asarray(row.vectors[declared.column])
        truth = nearest_first(
            declared.metric, [(score(declared, query, other.vectors[declared.column]), other.id) for other in passing]
        )[:10]
        hits = store.search().search(Query(field, dense=query), k=10, where=where, with_records=True)
        assert len(hits.keys) == min(10, len(passing))
        got = {other.id: score(declared, query, other.vectors[declared.column]) for other in passing}
        assert np.allclose([got[key.id] for key in hits.keys], [far for far, _ in truth], atol=1e-4)
        assert hits.records is not None
        assert hits.records.num_rows == len(hits.keys)
    store.close()


def joined(path: Path) -> None:
    with opened_file(path) as connection:
        connection.execute("CREATE VIRTUAL TABLE vec_notes USING vec0(emb float[8], lang text)")
        connection.execute(
            "CREATE TABLE notes(note_id INTEGER PRIMARY KEY, title TEXT, meta JSON, price DECIMAL, photo BLOB)"
        )
        for number in range(1, 41):
            connection.execute(
                "INSERT INTO notes VALUES (?, ?, ?, ?, ?)",
                (number, f"note {number}", json.dumps({"b": number, "a": None}), number / 4, bytes([number])),
            )
            if number % 10:
                raw = numbers(41)[number].tobytes()
                connection.execute(
                    "INSERT INTO vec_notes(rowid, emb, lang) VALUES (?, ?, ?)",
                    (number, raw, "de" if number % 2 else "en"),
                )


def test_a_joined_table_gives_the_records_and_vec0_their_vectors(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    joined(path)
    address = f"sqlite-vec:{path}?join=notes&document=title&payload=meta#vec_notes"
    spec, found = read(address)
    assert (spec.id_kind, [field.metric for field in spec.vectors]) == (IdKind.INT64, [Metric.EUCLIDEAN])
    assert [row.id for row in found] == [str(number) for number in range(1, 41)]
    for number, row in enumerate(found, start=1):
        lang = None if number % 10 == 0 else "de" if number % 2 else "en"
        price = number / 4 if number % 4 else number // 4  # a NUMERIC column turns whole numbers into integers
        wanted = {"lang": lang, "price": price, "photo": bytes([number]), "b": number, "a": None}
        assert row.document == f"note {number}"
        assert row.payload_text == Row("", payload=wanted).payload_text
        assert ("vector:emb" in row.vectors) is bool(number % 10)
    store = open_store(address)
    assert store.source().fetch([RecordKey("7"), RecordKey("10"), RecordKey("007"), RecordKey("x")]).num_rows == 2
    hits = store.search().search(Query("emb", dense=numbers(41)[7]), k=3, where=Eq(("lang",), "de"))
    assert hits.keys[0] == RecordKey("7")
    assert len(store.search().search(Query("emb", dense=numbers(41)[7]), k=50).keys) == 36
    store.close()


def test_vectors_without_a_row_are_told_of_and_take_no_place_among_hits(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    joined(path)
    with opened_file(path) as connection:
        connection.execute("DELETE FROM notes WHERE note_id IN (7, 8)")
    store = open_store(f"sqlite-vec:{path}?join=notes#vec_notes")
    [finding] = store.source().identity().findings
    assert (finding.code, finding.count) == ("source.vectors_alone", 2)
    hits = store.search().search(Query("emb", dense=numbers(41)[7]), k=34)
    assert len(hits.keys) == 34
    assert RecordKey("7") not in hits.keys
    store.close()


def plain(path: Path) -> None:
    with opened_file(path) as connection:
        connection.execute("CREATE TABLE items(code TEXT PRIMARY KEY, emb BLOB, words TEXT, wide BLOB, n INT, b BLOB)")
        for number in range(30):
            vector = numbers(30)[number]
            values = (
                f"i{number}",
                None if number == 4 else vector.tobytes(),
                json.dumps(vector.tolist()),
                vector.astype("<f8").tobytes(),
                number if number % 2 else None,
                bits(30)[number].tobytes(),
            )
            connection.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?)", values)


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "l1", "dot"])
def test_vectors_in_an_ordinary_table_are_read_as_the_address_says(tmp_path: Path, metric: str) -> None:
    path = tmp_path / "x.db"
    plain(path)
    address = (
        f"sqlite-vec:{path}?vectors=emb:float32,words:json,wide:float64,b:binary&metric={metric}&first_bit=high#items"
    )
    spec, found = read(address)
    assert [(field.name, field.dtype, field.dimensions) for field in spec.vectors] == [
        ("emb", DType.FLOAT32, 8),
        ("words", DType.FLOAT32, 8),
        ("wide", DType.FLOAT64, 8),
        ("b", DType.BINARY, 16),
    ]
    for number, row in enumerate(found):
        assert row.payload == {"n": number if number % 2 else None}
        assert ("vector:emb" in row.vectors) is (number != 4)
        assert np.asarray(row.vectors["vector:words"]).tobytes() == numbers(30)[number].tobytes()
        assert np.asarray(row.vectors["vector:wide"]).tobytes() == numbers(30)[number].astype("<f8").tobytes()
        assert np.asarray(row.vectors["vector:b"]).tobytes() == bits(30)[number].tobytes()
    store = open_store(address)
    for name in ("emb", "words", "wide", "b"):
        field = spec.vector(name)
        query = np.asarray(found[9].vectors[field.column])
        having = [row for row in found if field.column in row.vectors]
        truth = nearest_first(
            field.metric, [(score(field, query, row.vectors[field.column]), row.id) for row in having]
        )
        hits = store.search().search(Query(name, dense=query), k=5)
        if name != "b":  # equal distances are many there
            assert [key.id for key in hits.keys] == [id_ for _, id_ in truth[:5]]
    store.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "nothing says which columns"),
        ("?vectors=emb", "does not say what the numbers are"),
        ("?vectors=emb:float32", "by which metric"),
        ("?vectors=emb:float32&metric=chebyshev", "metric"),
        ("?vectors=emb:bfloat16&metric=cosine", "does not say what the numbers are"),
        ("?vectors=nope:float32&metric=cosine", "there is no column"),
        ("?vectors=emb:float32&metric=cosine&document=nope", "there is no such column"),
        ("?vectors=emb:float32&metric=cosine&join=docs", "has no option 'join'"),
    ],
)
def test_what_an_ordinary_table_does_not_say_must_be_said(tmp_path: Path, options: str, said: str) -> None:
    path = tmp_path / "x.db"
    plain(path)
    with pytest.raises(UsageError, match=said):
        read(f"sqlite-vec:{path}{options}#items")


def test_a_vector_of_another_length_is_named_by_its_record(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    plain(path)
    with opened_file(path) as connection:
        connection.execute("UPDATE items SET emb = x'00000000' WHERE code = 'i17'")
    with pytest.raises(DataInvalid, match="'i17'"):
        read(f"sqlite-vec:{path}?vectors=emb:float32&metric=cosine#items")


def test_ids_of_two_types_and_tables_that_are_not_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    plain(path)
    with opened_file(path) as connection:
        connection.execute("CREATE TABLE mixed(k, emb BLOB)")
        connection.execute("INSERT INTO mixed VALUES (7, x'00000000'), ('7', x'00000000')")
        connection.execute("CREATE TABLE without(k TEXT PRIMARY KEY, emb BLOB) WITHOUT ROWID")
        connection.execute("INSERT INTO without VALUES ('7', x'00000000')")
        connection.execute("CREATE VIEW seen AS SELECT * FROM mixed")
    options = "vectors=emb:float32&metric=cosine"
    for name, said in (("mixed", "integer and text"), ("without", "WITHOUT ROWID"), ("seen", "view")):
        with pytest.raises(UsageError, match=said):
            read(f"sqlite-vec:{path}?id=k&{options}#{name}")
    with pytest.raises(UsageError, match="no primary key"):
        read(f"sqlite-vec:{path}?{options}#mixed")
    with pytest.raises(CollectionMissing, match="no table 'ITEMS'") as caught:
        read(f"sqlite-vec:{path}?{options}#ITEMS")
    assert "it is written 'items'" in str(caught.value)


def test_nothing_is_written_into_a_table_of_somebody_else(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    everything(path)
    spec, _ = read(f"sqlite-vec:{path}#docs")
    for name in ("docs", "DOCS"):
        store = open_store(f"sqlite-vec:{path}#{name}")
        with pytest.raises(CollectionExists, match="exitramp did not make it"):
            store.sink().create(spec, Origin(spec, "0"))
        store.close()
    store = open_store(f"sqlite-vec:{path}#docs")
    with pytest.raises(CollectionExists, match="not made by exitramp"):
        store.sink().delete([RecordKey("d-001")])
    store.close()


def test_scattered_rows_are_read_as_vec0_gives_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of many partitions has a chunk of its own, of which a page wants one row."""
    monkeypatch.setattr(Rows, "_chunk", None)  # so many chunks are not read whole
    path = tmp_path / "x.db"
    with opened_file(path) as connection:
        connection.execute(
            "CREATE VIRTUAL TABLE v USING vec0(kk integer primary key, emb float[8], tenant text partition key)"
        )
        connection.execute(
            "CREATE VIRTUAL TABLE w USING vec0(kk text primary key, emb float[8], tenant text partition key)"
        )
        for number in range(120):
            values = (numbers(120)[number].tobytes(), f"t{number % 40}")
            connection.execute("INSERT INTO v(kk, emb, tenant) VALUES (?, ?, ?)", (number * 3, *values))
            connection.execute("INSERT INTO w(kk, emb, tenant) VALUES (?, ?, ?)", (f"k{number}", *values))
    for name in "vw":
        _, found = read(f"sqlite-vec:{path}?namespace=tenant#{name}", 50)
        for number, row in enumerate(found):
            assert row.key == RecordKey(str(number * 3) if name == "v" else f"k{number}", f"t{number % 40}")
            assert np.asarray(row.vectors["vector:emb"]).tobytes() == numbers(120)[number].tobytes()


def test_vectors_without_a_distance_hide_no_others(tmp_path: Path) -> None:
    """vec0's own answer lacks some: the merge of its chunks takes a NaN for the nearest."""
    path = tmp_path / "x.db"
    vectors = numbers(64)
    vectors[[0, 9, 33]] = np.nan
    vectors[[17, 40]] = 0
    with opened_file(path) as connection:
        connection.execute("CREATE VIRTUAL TABLE v USING vec0(emb float[8] distance_metric=cosine, chunk_size=16)")
        for number, vector in enumerate(vectors):
            connection.execute("INSERT INTO v(rowid, emb) VALUES (?, ?)", (number + 1, vector.tobytes()))
    spec, rows = read(f"sqlite-vec:{path}#v")
    field = spec.vectors[0]
    store = open_store(f"sqlite-vec:{path}#v")
    for number in (3, 20, 50):
        query = vectors[number]
        truth = nearest_first(Metric.COSINE, [(score(field, query, row.vectors[field.column]), row.id) for row in rows])
        hits = store.search().search(Query("emb", dense=query), k=12)
        assert [key.id for key in hits.keys] == [id_ for _, id_ in truth[:12]]
        assert len(store.search().search(Query("emb", dense=query), k=64).keys) == 64
    store.close()


def test_two_scans_of_parts_are_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    everything(path)
    store = open_store(f"sqlite-vec:{path}#docs")
    parts = store.source().partitions(4)
    assert len(parts) == 4
    sizes = [sum(page.batch.num_rows for page in store.source().scan(part, batch_rows=5)) for part in parts]
    assert sum(sizes) == 75
    assert max(sizes) <= 20
    assert sum(page.batch.num_rows for page in store.source().scan(Partition(), batch_rows=5)) == 75
    store.close()
