"""From PostgreSQL into PostgreSQL: the same columns, types and indexes; and what no column holds comes back as well.

Also what our own tables look like to an application, and what somebody else's table takes and refuses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exitramp.codec import DecodingSource, EncodingSink
from exitramp.errors import CollectionExists, DataInvalid, StoreProtocolError
from exitramp.ports import Origin, Partition, TransferAccount
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp.testing.rows import Row, batch_from_rows, rows_from_batch
from exitramp.transfer.copying import copy_records
from exitramp_adapters.services.postgres import Postgres
from tests.adapters.pgvector_harness import PgvectorHarness, served
from tests.adapters.test_pgvector_foreign import TYPED, address, make

BODY = VectorField("body", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 3)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with served(tmp_path_factory.mktemp("postgres")) as made:
        yield made


@pytest.fixture
def harness(service: Postgres) -> PgvectorHarness:
    fresh = PgvectorHarness(service)
    fresh.clear()
    make(fresh, "DROP SCHEMA IF EXISTS copied CASCADE")
    return fresh


def copy(source: str, target: str) -> None:
    one, other = open_store(source), open_store(target)
    copy_records(DecodingSource(one.source()), EncodingSink(other.sink()), batch_rows=500)
    one.close()
    other.close()


def read(where: str) -> tuple[CollectionSpec, dict[str, Row]]:
    store = open_store(where)
    source = DecodingSource(store.source())
    spec = source.describe()
    pages = list(source.scan(Partition(), batch_rows=100))
    store.close()
    return spec, {row.id: row for page in pages for row in rows_from_batch(page.batch, spec)}


def write(where: str, spec: CollectionSpec, *rows: Row, finish: bool = True) -> None:
    store = open_store(where)
    sink = EncodingSink(store.sink())
    sink.create(spec, Origin(spec, "0"))
    sink.upsert(batch_from_rows(rows, spec))
    sink.flush()
    if finish:
        sink.finish(TransferAccount())
    store.close()


def query(harness: PgvectorHarness, statement: str) -> list[tuple[Any, ...]]:
    with harness.connection() as connection:
        return list(connection.execute(statement).fetchall())


def columns(harness: PgvectorHarness, table: str) -> list[tuple[Any, ...]]:
    return query(
        harness,
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        f"WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
    )


@pytest.mark.parametrize("way", ["straight", "by a dump"])
def test_a_typed_table_is_made_again_with_its_columns_its_types_and_its_indexes(
    harness: PgvectorHarness, tmp_path: Path, way: str
) -> None:
    make(harness, TYPED, "COMMENT ON TABLE \"My Items\" IS 'the team''s own words'")
    make(harness, 'CREATE INDEX ON "My Items" (small)', 'CREATE INDEX ON "My Items" USING gin (held jsonb_path_ops)')
    one, other = address(harness, "My Items"), address(harness, "copied.My Items")
    if way == "straight":
        copy(one, other)
    else:
        copy(one, f"dump:{tmp_path}/d")
        copy(f"dump:{tmp_path}/d", other)
    made = dict(columns(harness, 'copied."My Items"'))
    assert made.pop("_exitramp") == "jsonb"
    was = dict(columns(harness, 'public."My Items"'))
    renamed = {"feeling": "copied.mood", "feelings": "copied.mood[]", "counted": "integer"}
    assert made == was | renamed
    # What stands in a column of type json is the same JSON, and not the same blanks.
    cells = ", ".join('"plain"::jsonb' if name == "plain" else f'"{name}"::text' for name in was)
    rows = [query(harness, f'SELECT {cells} FROM {schema}."My Items" ORDER BY "Id"') for schema in ("public", "copied")]
    assert rows[0] == rows[1]
    indexes = query(
        harness, "SELECT regexp_replace(indexdef, '.* USING ', '') FROM pg_indexes WHERE schemaname = 'copied'"
    )
    assert {row[0] for row in indexes} == {
        '("Id")'.join(["btree ", ""]),
        "hnsw (body vector_cosine_ops) WITH (m='8', ef_construction='32')",
        "ivfflat (half halfvec_l2_ops) WITH (lists='1')",
        "hnsw (terms sparsevec_ip_ops)",
        "hnsw (bits bit_hamming_ops)",
        "btree (small)",
        "gin (held jsonb_path_ops)",
    }
    [comment] = query(harness, "SELECT obj_description('copied.\"My Items\"'::regclass)")
    assert comment[0].startswith("the team's own words\n\nexitramp:{")
    assert query(harness, 'SELECT _exitramp FROM copied."My Items"') == [(None,), (None,)]
    # What the application does goes on: it inserts without an id, and looks for neighbours under a condition.
    make(harness, "INSERT INTO copied.\"My Items\" (short, body, feeling) VALUES ('new', '[1,1,1]', 'ok')")
    near = (
        "SELECT \"Id\" FROM copied.\"My Items\" WHERE feeling = 'ok' AND price > 1 ORDER BY body <=> '[1,2,3]' LIMIT 1"
    )
    assert query(harness, near) == [(7,)]
    spec, found = read(other)
    _, before = read(one)
    assert {id_: found[id_].payload_text for id_ in before} == {id_: row.payload_text for id_, row in before.items()}
    assert found["9"].payload is not None
    assert found["9"].payload["short"] == "new"
    assert [field.name for field in spec.vectors] == ["body", "half", "terms", "bits"]


def typed_spec(harness: PgvectorHarness) -> CollectionSpec:
    make(
        harness,
        "CREATE TABLE items (id text PRIMARY KEY, price numeric(10,2), made timestamptz, small int2, meta jsonb, "
        "tags text[], span interval, spans interval[], body vector(3))",
        "CREATE INDEX ON items USING hnsw (body vector_cosine_ops)",
    )
    return read(address(harness, "items"))[0]


FITTING: Mapping[str, Any] = {
    "price": Decimal("1.10"),
    "made": datetime(2024, 1, 1, tzinfo=UTC),
    "small": 3,
    "meta": {"a": [1, 1.0, None]},
    "tags": ["a", None],
    "span": "1 day 02:00:00",
    "spans": ["00:00:01", None],
}
UNFITTING: Mapping[str, Mapping[str, Any] | None] = {
    "none": None,
    "empty": {},
    "all": FITTING,
    "nulls": dict.fromkeys(FITTING),
    "missing": {"price": Decimal("1.10"), "small": None},
    "more": {**FITTING, "other": Decimal("2"), "null": None, "_x": {"t": datetime(2024, 1, 1, tzinfo=UTC)}},
    "other scale": {**FITTING, "price": Decimal("1.1")},
    "other type": {**FITTING, "price": 1.1, "made": "yesterday", "small": "3", "tags": "a"},
    "too large": {**FITTING, "small": 40_000, "price": Decimal("123456789.00")},
    "another zone": {**FITTING, "made": datetime.fromisoformat("2024-01-01T00:00:00+09:00")},
    "another's text": {**FITTING, "span": "1 day 2 hours", "spans": ["1 second"], "made": "2024-01-01"},
    "no interval": {**FITTING, "span": "a while", "spans": ["00:00:01", "a while"]},
    "no moment": {**FITTING, "made": "infinity"},
    "long ago": {**FITTING, "made": "0044-03-15 00:00:00+00 BC"},
    "too exact": {**FITTING, "made": "0044-03-15 00:00:00.10+00 BC"},
    "ragged": {**FITTING, "tags": [["a"], ["b", "c"]]},
    "zero": {**FITTING, "tags": ["a\x00b"], "meta": {"z": "\x00"}},
    "not json": {**FITTING, "meta": {"when": datetime(2024, 1, 1)}},
    "odd numbers": {**FITTING, "small": -0.0, "meta": {"f": -0.0, "n": float("nan"), "big": 1e300}},
}


def test_what_typed_columns_do_not_hold_comes_back_exactly(harness: PgvectorHarness) -> None:
    spec = typed_spec(harness)
    vector = np.array([1, 2, 3], np.float32)
    rows = [Row(id_, payload=payload, vectors={"vector:body": vector}) for id_, payload in UNFITTING.items()]
    where = address(harness, "copied.items")
    write(where, spec, *rows)
    found = read(where)[1]
    for row in rows:
        assert found[row.id].payload_text == row.payload_text, row.id
    store = open_store(where)
    fetched = rows_from_batch(store.source().fetch([row.key for row in rows]), spec)
    store.close()
    assert {row.id: row.payload_text for row in fetched} == {row.id: row.payload_text for row in rows}
    assert query(harness, "SELECT price, small FROM copied.items WHERE id = 'more'") == [(Decimal("1.10"), 3)]
    assert query(harness, "SELECT count(*) FROM copied.items WHERE _exitramp IS NULL") == [(4,)]


def test_what_the_application_writes_into_a_typed_table_wins(harness: PgvectorHarness) -> None:
    spec = typed_spec(harness)
    where = address(harness, "copied.items")
    rows = [Row(id_, payload=UNFITTING[id_]) for id_ in ("missing", "other type", "none")]
    write(where, spec, *rows)
    make(
        harness,
        "UPDATE copied.items SET made = '2025-01-01', small = 9 WHERE id IN ('missing', 'other type')",
        "UPDATE copied.items SET tags = '{x}' WHERE id = 'none'",
    )
    found = read(where)[1]
    moment = datetime(2025, 1, 1, tzinfo=UTC)
    assert found["missing"].payload == {"price": Decimal("1.10"), "small": 9, "made": moment}
    assert found["other type"].payload == {**FITTING, "price": 1.1, "tags": "a", "made": moment, "small": 9}
    assert found["none"].payload == {"tags": ["x"]}


def test_a_record_that_is_written_again_keeps_nothing_of_the_old(harness: PgvectorHarness) -> None:
    spec = typed_spec(harness)
    where = address(harness, "copied.items")
    vector = {"vector:body": np.array([1, 2, 3], np.float32)}
    write(where, spec, Row("1", payload=UNFITTING["other type"], vectors=vector))
    write(where, spec, Row("1", payload={"small": 1}))
    found = read(where)[1]["1"]
    assert (found.payload, found.vectors) == ({"small": 1}, {})
    assert query(harness, "SELECT price, tags, _exitramp -> 'more' FROM copied.items") == [(None, None, None)]


def test_types_of_a_dump_are_read_as_data_and_never_run(harness: PgvectorHarness) -> None:
    spec = typed_spec(harness)
    told = json.loads(json.dumps(dict(spec.index)))
    for column in told["pgvector"]["columns"]:
        if column["name"] == "price":
            column |= {"base": "int4); DROP TABLE items; --", "type": "int4); DROP TABLE items; --"}
        if column["name"] == "tags":
            column |= {"base": "no_such_type"}
    for index in told["pgvector"]["indexes"]:
        index |= {"method": "hnsw; DROP TABLE items", "options": {"m": "8); DROP TABLE items; --"}}
    told["pgvector"]["columns"].append(
        {"name": 'x"; DROP TABLE items; --', "base": "int4", "modifier": -1, "role": "value"}
    )
    told["pgvector"]["columns"].append({"nonsense": 1})
    where = address(harness, "copied.items")
    write(where, replace(spec, index=told), Row("1", payload=FITTING))
    assert read(where)[1]["1"].payload_text == Row("1", payload=FITTING).payload_text
    assert query(harness, "SELECT count(*) FROM items") == [(0,)]
    made = dict(columns(harness, "copied.items"))
    assert (made["price"], made["tags"]) == ("text", "text")


def test_a_key_of_several_columns_is_made_again(harness: PgvectorHarness) -> None:
    make(
        harness,
        "CREATE TABLE tenants (tenant text, number int, note text, body vector(3), PRIMARY KEY (tenant, number))",
        "CREATE INDEX ON tenants USING hnsw (body vector_cosine_ops)",
        "INSERT INTO tenants VALUES ('a', 1, 'x', '[1,2,3]'), ('b', 1, NULL, NULL)",
    )
    for options in ({"namespace": "tenant"}, {"id": "tenant,number"}):
        make(harness, "DROP SCHEMA IF EXISTS copied CASCADE")
        copy(address(harness, "tenants", **options), address(harness, "copied.tenants"))
        copy(address(harness, "tenants", **options), address(harness, "copied.tenants"))  # again: each replaces itself
        assert query(harness, "SELECT tenant, number, note FROM copied.tenants ORDER BY tenant") == [
            ("a", 1, "x"),
            ("b", 1, None),
        ]
        [(key,)] = query(
            harness, "SELECT indexdef FROM pg_indexes WHERE indexname = 'tenants_pkey' AND schemaname = 'copied'"
        )
        assert key.endswith("(tenant, number)")
        store = open_store(address(harness, "copied.tenants"))
        sink = store.sink()
        spec = store.source().describe()
        [row, _] = [r for p in store.source().scan(Partition(), batch_rows=5) for r in rows_from_batch(p.batch, spec)]
        sink.delete([row.key])
        sink.flush()
        assert store.source().count() == 1
        store.close()


def test_a_table_of_ours_is_what_an_application_expects(harness: PgvectorHarness) -> None:
    spec = CollectionSpec("docs", IdKind.STRING, (replace(BODY, name=""),), has_namespaces=True, has_documents=True)
    payload = {
        "title": "größer",
        "price": Decimal("1.10"),
        "when": datetime(2024, 1, 1, tzinfo=UTC),
        "big": 2**70,
        "large": 1e22,
        "one": 1.0,
        "zero": "a\x00b",
        "list": [Decimal("2"), "x"],
    }
    row = Row("a", "t", "text \x00 more", payload, {"vector": np.array([1, 2, 3], np.float32)})
    where = address(harness, "docs")
    write(where, spec, row)
    [(document, held, types)] = query(harness, "SELECT document, payload::text, _exitramp FROM docs WHERE id = 'a'")
    assert document == "text \ufffd more"
    assert '"price": "1.10"' in held
    assert '"when": "2024-01-01T00:00:00+00:00"' in held
    assert f'"big": {2**70}' in held
    assert '"large": 10000000000000000000000.0' in held
    assert '"one": 1.0' in held
    assert types["t"] == {
        "price": "decimal",
        "when": "timestamp",
        "zero": ["json", '"a\\u0000b"'],
        "list": {"0": "decimal"},
    }
    found = read(where)[1]["a"]
    assert (found.document, found.payload_text) == (row.document, row.payload_text)
    make(harness, 'UPDATE docs SET document = \'new\', payload = payload || \'{"when": "later", "zero": "z"}\'')
    found = read(where)[1]["a"]
    assert found.document == "new"
    assert found.payload == payload | {"when": "later", "zero": "z"}


def test_a_number_that_no_double_is_stays_what_it_is(harness: PgvectorHarness) -> None:
    spec = CollectionSpec("docs", IdKind.STRING, (replace(BODY, name=""),))
    where = address(harness, "docs")
    write(where, spec, Row("a", payload={"n": 1}))
    numbers = "0.1234567890123456789", "1.50", "1e400", "12345678901234567890.5", "0.00001", "1e-7", "-0.0", "100"
    wanted: list[Any] = [Decimal(numbers[0]), 1.5, 10**400, Decimal(numbers[3]), 1e-5, 1e-7, 0.0, 100]
    for number, value in zip(numbers, wanted, strict=True):
        make(harness, f"UPDATE docs SET payload = '{{\"n\": {number}}}'")
        got = read(where)[1]["a"].payload
        assert got is not None
        assert (type(got["n"]), got["n"]) == (type(value), value), number


def test_sparse_vectors_that_no_column_holds_come_back_and_are_not_passed_over(harness: PgvectorHarness) -> None:
    words = VectorField("words", VectorKind.SPARSE, DType.FLOAT32, Metric.DOT, None)
    spec = CollectionSpec("docs", IdKind.STRING, (replace(BODY, name=""), words))
    pairs = {
        "within": ([5, 1], [1.0, 2.0]),
        "beyond": ([2**32 - 1, 3], [1.0, 2.0]),
        "zero": ([1], [0.0]),
        "none": ([], []),
    }
    rows = [
        Row(id_, vectors={"sparse:words": (np.array(i, np.uint32), np.array(v, np.float32))})
        for id_, (i, v) in pairs.items()
    ]
    where = address(harness, "docs")
    write(where, spec, *rows)
    found = read(where)[1]
    assert [side.tolist() for side in found["within"].vectors["sparse:words"]] == [[1, 5], [2.0, 1.0]]
    for id_ in ("beyond", "zero", "none"):
        assert [side.tolist() for side in found[id_].vectors["sparse:words"]] == [list(side) for side in pairs[id_]]
    assert query(harness, "SELECT id FROM docs WHERE words IS NULL ORDER BY id") == [("beyond",), ("zero",)]


def test_somebody_elses_table_takes_what_fits_and_refuses_the_rest_by_name(harness: PgvectorHarness) -> None:
    spec = typed_spec(harness)
    where = address(harness, "items")
    row = Row("1", payload=FITTING, vectors={"vector:body": np.array([1, 2, 3], np.float32)})
    write(where, spec, row)
    write(where, spec, replace(row, payload={**FITTING, "small": 4}))
    found = read(where)[1]["1"]
    assert found.payload_text == Row("1", payload={**FITTING, "small": 4}).payload_text
    assert query(harness, "SELECT obj_description('items'::regclass)") == [(None,)], "its comment is not ours to write"
    for name, words in (
        ("missing", "lacks the key 'made'"),
        ("more", "'_x'"),
        ("other type", "does not hold this"),
        ("not json", "'meta'"),
    ):
        with pytest.raises(DataInvalid, match=f"'{name}'.*{words}"):
            write(where, spec, Row(name, payload=UNFITTING[name]))
    assert query(harness, "SELECT id FROM items") == [("1",)]
    with pytest.raises(CollectionExists, match="metric"):
        write(where, replace(spec, vectors=(replace(BODY, metric=Metric.DOT),)), row)


def test_a_table_whose_index_is_yet_to_be_made_takes_the_metric_of_what_is_written(harness: PgvectorHarness) -> None:
    make(harness, "CREATE TABLE items (id text PRIMARY KEY, title text, body vector(3))")
    spec = CollectionSpec("items", IdKind.STRING, (BODY,))
    write(address(harness, "items"), spec, Row("1", payload={"title": "x"}))
    assert query(harness, "SELECT id, title FROM items") == [("1", "x")]


def test_a_record_in_another_namespace_does_not_replace_one_of_the_same_id(harness: PgvectorHarness) -> None:
    """A table whose key is the id alone has no room for both, and says so."""
    make(harness, "CREATE TABLE items (id text PRIMARY KEY, tenant text, body vector(3))")
    where = address(harness, "items", namespace="tenant", metric="cosine")
    spec = CollectionSpec("items", IdKind.STRING, (BODY,), has_namespaces=True)
    write(where, spec, Row("1", "a"))
    with pytest.raises(DataInvalid, match="23505"):
        write(where, spec, Row("1", "b"))
    write(where, spec, Row("1", "a", vectors={"vector:body": np.array([1, 2, 3], np.float32)}))
    assert query(harness, "SELECT id, tenant, body::text FROM items") == [("1", "a", "[1,2,3]")]


def test_a_table_without_a_key_is_given_no_record_twice(harness: PgvectorHarness) -> None:
    """Nor is one whose key takes two NULLs for different, as a namespace may be."""
    make(
        harness,
        "CREATE TABLE items (name text, tenant text, body vector(3))",
        "CREATE TABLE loose (name text, tenant text, body vector(3), UNIQUE (tenant, name))",
        "INSERT INTO items VALUES ('1', NULL, '[1,1,1]')",
        "INSERT INTO loose VALUES ('1', NULL, '[1,1,1]')",
    )
    spec = CollectionSpec("items", IdKind.STRING, (BODY,), has_namespaces=True)
    vector = {"vector:body": np.array([1, 2, 3], np.float32)}
    for table in ("items", "loose"):
        where = address(harness, table, id="name", namespace="tenant", metric="cosine")
        for _ in range(2):
            write(where, spec, Row("1", None, vectors=vector), Row("1", "a", vectors=vector))
        found = query(harness, f"SELECT name, tenant, body::text FROM {table} ORDER BY tenant")
        assert found == [("1", "a", "[1,2,3]"), ("1", None, "[1,2,3]")]
        make(harness, f"INSERT INTO {table} VALUES ('1', NULL, '[1,1,1]')")
        store = open_store(where)
        with pytest.raises(DataInvalid, match="several rows"):
            store.source().describe()
        store.close()


def test_columns_that_an_application_added_to_a_table_of_ours_are_named(harness: PgvectorHarness) -> None:
    spec = CollectionSpec("docs", IdKind.STRING, (replace(BODY, name=""),))
    where = address(harness, "docs")
    write(where, spec, Row("a"))
    make(harness, "ALTER TABLE docs ADD COLUMN lang text")
    store = open_store(where)
    [finding] = store.source().identity().findings
    store.close()
    assert (finding.code, "'lang'" in finding.message) == ("pgvector.unread", True)


def test_a_note_that_exitramp_did_not_write_is_no_traceback(harness: PgvectorHarness) -> None:
    make(harness, "CREATE TABLE docs (id text PRIMARY KEY, v vector(3))")
    for note in ('{"layout": 1}', '{"layout": 1, "id": 3, "id_kind": "x"}', '{"layout": 2}', '{"layout": 1, "id": []}'):
        make(harness, f"COMMENT ON TABLE docs IS 'exitramp:{note}'")
        store = open_store(address(harness, "docs"))
        with pytest.raises(StoreProtocolError):
            store.source().describe()
        store.close()
    make(harness, "COMMENT ON TABLE docs IS 'we once tried exitramp:{but not for long'")
    store = open_store(address(harness, "docs", metric="dot"))
    assert store.source().describe().index["pgvector"]["table"]["comment"].startswith("we once")
    store.close()


def test_a_key_that_no_index_takes_is_refused_by_its_record(harness: PgvectorHarness) -> None:
    spec = CollectionSpec("docs", IdKind.STRING, (replace(BODY, name=""),), has_namespaces=True)
    with pytest.raises(DataInvalid, match="2,600 bytes"):
        write(address(harness, "docs"), spec, Row("a" * 1500, "b" * 1500))


def test_hnsw_settings_of_one_of_our_tables_go_with_it(harness: PgvectorHarness) -> None:
    spec = CollectionSpec("docs", IdKind.STRING, (replace(BODY, name=""),))
    write(address(harness, "docs"), spec, Row("a"), finish=False)
    make(harness, "CREATE INDEX ON docs USING hnsw (embedding vector_cosine_ops) WITH (m = 5, ef_construction = 21)")
    copy(address(harness, "docs"), address(harness, "copied.docs"))
    [(made,)] = query(harness, "SELECT indexdef FROM pg_indexes WHERE schemaname = 'copied' AND indexdef LIKE '%hnsw%'")
    assert made.endswith("WITH (m='5', ef_construction='21')")


def test_settings_of_another_stores_graph_are_taken_over_within_what_pgvector_takes(harness: PgvectorHarness) -> None:
    for number, (told, wanted) in enumerate(
        (
            ({"hnsw": {"max_neighbors": 24, "ef_construction": 120}}, " WITH (m='24', ef_construction='120')"),
            ({"hnsw_config": {"m": 512, "ef_construct": 1000}}, ""),
            ({"m": 40, "ef_construct": 50}, ""),
        )
    ):
        spec = CollectionSpec("docs", IdKind.STRING, (replace(BODY, name=""),), index={"other": told})
        write(address(harness, f"docs{number}"), spec, Row("a"))
        [(made,)] = query(harness, f"SELECT indexdef FROM pg_indexes WHERE indexname LIKE 'docs{number}_embedding%'")
        assert made.endswith("vector_cosine_ops)" + wanted)


def test_beyond_what_an_index_takes_none_is_built_and_it_says_so(harness: PgvectorHarness) -> None:
    wide = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 2001)
    half = VectorField("half", VectorKind.DENSE, DType.FLOAT16, Metric.COSINE, 4000)
    where = address(harness, "docs")
    write(
        where,
        CollectionSpec("docs", IdKind.STRING, (wide, half)),
        Row("a", vectors={"vector": np.ones(2001, np.float32)}),
    )
    built = query(harness, "SELECT indexdef FROM pg_indexes WHERE tablename = 'docs' AND indexdef LIKE '%hnsw%'")
    assert len(built) == 1
    assert "half halfvec_cosine_ops" in built[0][0]
    store = open_store(where)
    told = store.search().coverage()  # type: ignore[attr-defined]
    store.close()
    assert (told.indexed, told.compared) == (0, 1)
    assert "2001 dimensions" in told.note
