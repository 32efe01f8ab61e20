"""Tables that somebody else made, read whole: every type, several vector columns, keys and names of all kinds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from urllib.parse import quote
from uuid import UUID

import numpy as np
import pytest

from exitramp.errors import CollectionMissing, DataInvalid, UsageError
from exitramp.ports import Partition, StoreIdentity
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorKind
from exitramp.registry import open_store
from exitramp.testing.rows import Row, rows_from_batch
from exitramp_adapters.services.postgres import Postgres
from tests.adapters.pgvector_harness import PgvectorHarness, served

TYPED = """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE DOMAIN positive AS int CHECK (value > 0);
CREATE TABLE "My Items" (
  "Id" bigserial PRIMARY KEY, "50%" text, short varchar(5), fixed char(4), small int2, big int8, single float4,
  double float8, truth bool, price numeric(10,2), ratio numeric, moment timestamp, instant timestamptz, day date,
  hour time, key uuid, raw bytea, plain json, held jsonb, feeling mood, feelings mood[], numbers int[], words text[],
  prices numeric[], keys uuid[], grid int[], counted positive, host inet, span interval, room int4range, flags bit(5),
  derived int GENERATED ALWAYS AS (small * 2) STORED,
  body vector(3), half halfvec(4), terms sparsevec(50), bits bit(16));
CREATE INDEX ON "My Items" USING hnsw (body vector_cosine_ops) WITH (m = 8, ef_construction = 32);
CREATE INDEX ON "My Items" USING ivfflat (half halfvec_l2_ops) WITH (lists = 1);
CREATE INDEX ON "My Items" USING hnsw (terms sparsevec_ip_ops);
CREATE INDEX ON "My Items" USING hnsw (bits bit_hamming_ops);
INSERT INTO "My Items" VALUES (
  7, 'fifty', 'abc', 'xy', 1, 3, 0.1, 0.1, true, 1.10, 2.50, '2024-01-02 03:04:05.678901',
  '2024-01-02 03:04:05.678901+09', '2024-02-29', '23:59:59.5', '6ba7b810-9dad-41d1-80b4-00c04fd430c8', '\\x00ff',
  '{"a": 1.0, "b": [1, null]}', '{"big": 123456789012345678901234567890, "fine": 0.1234567890123456789}', 'ok',
  '{sad,ok}', '{1,NULL,3}', '{"a","b c",NULL,"q\\"x"}', '{1.10,NULL}', '{6ba7b810-9dad-41d1-80b4-00c04fd430c8}',
  '{{1,2},{3,4}}', 5, '10.0.0.1/8', '1 day 2 hours', '[1,5)', '10101', default,
  '[1,2,3]', '[1,2,3,4]', '{1:0.5,50:2}/50', '1010101001010101');
INSERT INTO "My Items" ("Id", moment, instant, day, hour, double, ratio)
  VALUES (8, 'infinity', '-infinity', '10000-01-01', '24:00', 'NaN', 'NaN');
"""
VALUES: dict[str, Any] = {
    "50%": "fifty",
    "short": "abc",
    "fixed": "xy  ",
    "small": 1,
    "big": 3,
    "single": float(np.float32(0.1)),
    "double": 0.1,
    "truth": True,
    "price": Decimal("1.10"),
    "ratio": Decimal("2.50"),
    "moment": datetime(2024, 1, 2, 3, 4, 5, 678901),
    "instant": datetime(2024, 1, 1, 18, 4, 5, 678901, tzinfo=UTC),
    "day": date(2024, 2, 29),
    "hour": time(23, 59, 59, 500000),
    "key": UUID("6ba7b810-9dad-41d1-80b4-00c04fd430c8"),
    "raw": b"\x00\xff",
    "plain": {"a": 1.0, "b": [1, None]},
    "held": {"big": 123456789012345678901234567890, "fine": Decimal("0.1234567890123456789")},
    "feeling": "ok",
    "feelings": ["sad", "ok"],
    "numbers": [1, None, 3],
    "words": ["a", "b c", None, 'q"x'],
    "prices": [Decimal("1.10"), None],
    "keys": [UUID("6ba7b810-9dad-41d1-80b4-00c04fd430c8")],
    "grid": [[1, 2], [3, 4]],
    "counted": 5,
    "host": "10.0.0.1/8",
    "span": "1 day 02:00:00",
    "room": "[1,5)",
    "flags": "10101",
    "derived": 2,
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with served(tmp_path_factory.mktemp("postgres")) as made:
        yield made


@pytest.fixture
def harness(service: Postgres) -> PgvectorHarness:
    fresh = PgvectorHarness(service)
    fresh.clear()
    return fresh


def make(harness: PgvectorHarness, *statements: str) -> None:
    with harness.connection() as connection:
        for statement in statements:
            connection.execute(statement)


def address(harness: PgvectorHarness, table: str, **options: str) -> str:
    query = "&".join(f"{name}={quote(value, safe=',:')}" for name, value in options.items())
    return f"{harness.base}{'?' + query if query else ''}#{quote(table, safe='')}"


def read(where: str) -> tuple[CollectionSpec, list[Row], StoreIdentity]:
    store = open_store(where)
    try:
        source = store.source()
        spec = source.describe()
        rows = [row for page in source.scan(Partition(), batch_rows=2) for row in rows_from_batch(page.batch, spec)]
        assert source.count() == len(rows)
        fetched = rows_from_batch(source.fetch([row.key for row in rows]), spec)
        assert sorted(repr(row) for row in fetched) == sorted(repr(row) for row in rows), "fetched as scanned"
        return spec, rows, source.identity()
    finally:
        store.close()


def refused(where: str, error: type[Exception], *words: str) -> None:
    store = open_store(where)
    with pytest.raises(error) as caught:
        store.source().describe()
    store.close()
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_every_type_is_read_exactly_or_as_text_that_is_named(harness: PgvectorHarness) -> None:
    make(harness, TYPED)
    spec, [first, second], identity = read(address(harness, "My Items"))
    assert first.id == "7"
    assert first.payload == VALUES
    assert {key: type(value) for key, value in first.payload.items()} == {k: type(v) for k, v in VALUES.items()}
    nothing = dict.fromkeys(VALUES)
    beyond = {"moment": "infinity", "instant": "-infinity", "day": "10000-01-01", "hour": "24:00:00"}
    assert repr(second.payload) == repr(
        dict(sorted((nothing | beyond | {"double": float("nan"), "ratio": Decimal("NaN")}).items()))
    )
    named = " ".join(finding.message for finding in identity.findings)
    assert {finding.code for finding in identity.findings} == {"pgvector.text"}
    for name in ("host", "span", "room", "flags"):
        assert f"'{name}'" in named
    for name in ("price", "instant", "words", "held", "feeling", "counted"):
        assert f"'{name}'" not in named
    assert spec.id_kind is IdKind.INT64


def test_every_kind_of_vector_is_read_with_the_metric_of_its_index(harness: PgvectorHarness) -> None:
    make(harness, TYPED)
    spec, [first, second], _ = read(address(harness, "My Items"))
    told = {field.name: (field.kind, field.dtype, field.metric, field.dimensions) for field in spec.vectors}
    assert told == {
        "body": (VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 3),
        "half": (VectorKind.DENSE, DType.FLOAT16, Metric.EUCLIDEAN, 4),
        "terms": (VectorKind.SPARSE, DType.FLOAT32, Metric.DOT, None),
        "bits": (VectorKind.DENSE, DType.BINARY, Metric.HAMMING, 16),
    }
    assert np.asarray(first.vectors["vector:body"]).tolist() == [1, 2, 3]
    assert np.asarray(first.vectors["vector:half"]).dtype == np.float16
    assert [side.tolist() for side in first.vectors["sparse:terms"]] == [[0, 49], [0.5, 2.0]]
    assert np.unpackbits(np.asarray(first.vectors["vector:bits"])).tolist() == [1, 0] * 4 + [0, 1] * 4
    assert second.vectors == {}


def test_index_settings_and_columns_are_recorded_as_they_are(harness: PgvectorHarness) -> None:
    make(harness, TYPED, "COMMENT ON TABLE \"My Items\" IS 'the team''s own words'")
    spec, _, _ = read(address(harness, "My Items"))
    told = spec.index["pgvector"]
    assert told["table"] == {"schema": "public", "name": "My Items", "kind": "table", "comment": "the team's own words"}
    settings = {index["columns"][0]: (index["method"], index["options"]) for index in told["indexes"]}
    assert settings["body"] == ("hnsw", {"m": "8", "ef_construction": "32"})
    assert settings["half"] == ("ivfflat", {"lists": "1"})
    columns = {column["name"]: column for column in told["columns"]}
    assert columns["price"]["type"] == "numeric(10,2)"
    assert columns["feeling"]["labels"] == ["sad", "ok"]
    assert (columns["Id"]["role"], columns["Id"]["counts"]) == ("id", True)
    assert columns["derived"]["generated"]


def test_a_multi_vector_is_an_array_of_vectors(harness: PgvectorHarness) -> None:
    make(
        harness,
        "CREATE TABLE late (id int PRIMARY KEY, v vector(2)[])",
        "INSERT INTO late VALUES (1, ARRAY['[1,2]','[3,4]']::vector[]), (2, '{}'), (3, NULL)",
    )
    spec, rows, _ = read(address(harness, "late", metric="dot"))
    assert (spec.vectors[0].kind, spec.vectors[0].dimensions) == (VectorKind.MULTI, 2)
    assert np.asarray(rows[0].vectors["multi:v"]).tolist() == [[1, 2], [3, 4]]
    assert np.asarray(rows[1].vectors["multi:v"]).shape == (0, 2)
    assert rows[2].vectors == {}


def test_a_table_without_an_index_has_no_metric_until_the_address_says_one(harness: PgvectorHarness) -> None:
    make(harness, "CREATE TABLE plain (id int PRIMARY KEY, v vector(3))", "INSERT INTO plain VALUES (1, '[1,2,3]')")
    refused(address(harness, "plain"), DataInvalid, "metric", "?metric=cosine")
    spec, [row], _ = read(address(harness, "plain", metric="manhattan"))
    assert spec.vectors[0].metric is Metric.MANHATTAN
    assert row.payload is None
    refused(address(harness, "plain", metric="chebyshev"), DataInvalid, "chebyshev")


def test_metrics_that_are_unknown_or_contradict_one_another_are_named(harness: PgvectorHarness) -> None:
    make(
        harness,
        "CREATE TABLE two (id int PRIMARY KEY, v vector(3))",
        "CREATE INDEX two_l2 ON two USING hnsw (v vector_l2_ops)",
        "CREATE INDEX two_ip ON two USING hnsw (v vector_ip_ops)",
        "CREATE TABLE jaccard (id int PRIMARY KEY, v bit(8))",
        "CREATE INDEX jaccard_v ON jaccard USING hnsw (v bit_jaccard_ops)",
    )
    refused(address(harness, "two"), DataInvalid, "two_l2", "two_ip", "?metric=")
    assert read(address(harness, "two", metric="dot"))[0].vectors[0].metric is Metric.DOT
    refused(address(harness, "two", metric="cosine"), UsageError, "two_l2")
    refused(address(harness, "jaccard"), DataInvalid, "jaccard", "metric")


def test_a_metric_that_a_column_is_not_searched_by_is_refused(harness: PgvectorHarness) -> None:
    make(harness, "CREATE TABLE plain (id int PRIMARY KEY, v vector(3), b bit(8))")
    refused(address(harness, "plain", vectors="v", metric="hamming"), UsageError, "vector(3)", "hamming")
    refused(address(harness, "plain", vectors="b", metric="cosine"), UsageError, "bit(8)", "hamming")


def test_an_index_on_a_cast_tells_the_metric_and_one_on_quantised_bits_does_not(harness: PgvectorHarness) -> None:
    make(
        harness,
        "CREATE TABLE wide (id int PRIMARY KEY, v vector(3000))",
        "CREATE INDEX ON wide USING hnsw ((v::halfvec(3000)) halfvec_cosine_ops)",
        "CREATE TABLE quantised (id int PRIMARY KEY, v vector(16))",
        "CREATE INDEX ON quantised USING hnsw ((binary_quantize(v)::bit(16)) bit_hamming_ops)",
    )
    assert read(address(harness, "wide"))[0].vectors[0].metric is Metric.COSINE
    refused(address(harness, "quantised"), DataInvalid, "?metric=")


def test_a_bit_column_is_a_vector_only_where_somebody_says_so(harness: PgvectorHarness) -> None:
    make(
        harness,
        "CREATE TABLE flagged (id int PRIMARY KEY, flags bit(16), odd bit(5), v vector(2))",
        "INSERT INTO flagged VALUES (1, '1111000011110000', '10101', '[1,2]')",
    )
    _, [row], _ = read(address(harness, "flagged", metric="dot"))
    assert row.payload == {"flags": "1111000011110000", "odd": "10101"}
    spec, [row], _ = read(address(harness, "flagged", vectors="flags,v", metric="flags:hamming,v:dot"))
    assert [field.name for field in spec.vectors] == ["flags", "v"]
    assert row.payload == {"odd": "10101"}
    refused(address(harness, "flagged", vectors="odd", metric="hamming"), DataInvalid, "eights")


def test_vectors_names_those_that_are_read_and_the_others_are_named(harness: PgvectorHarness) -> None:
    make(harness, TYPED)
    spec, [first, _], identity = read(address(harness, "My Items", vectors="half"))
    assert [field.column for field in spec.vectors] == ["vector:half"]
    assert set(first.vectors) == {"vector:half"}
    left = {finding.message.split("'")[1] for finding in identity.findings if finding.code == "pgvector.unread"}
    assert left == {"body", "terms", "bits"}


def test_a_key_of_several_columns_is_refused_with_what_helps_and_read_when_told_how(harness: PgvectorHarness) -> None:
    make(
        harness,
        "CREATE TABLE tenants (tenant text, number int, note text, v vector(2), PRIMARY KEY (tenant, number))",
        "CREATE INDEX ON tenants USING hnsw (v vector_l2_ops)",
        "INSERT INTO tenants VALUES ('a', 1, 'x', '[1,2]'), ('a', 2, NULL, '[3,4]'), ('b \"1\"', 1, 'z', NULL)",
    )
    refused(address(harness, "tenants"), UsageError, "tenant, number", "?id=tenant,number", "?namespace=tenant")
    spec, rows, _ = read(address(harness, "tenants", namespace="tenant"))
    assert (spec.has_namespaces, spec.id_kind) == (True, IdKind.INT64)
    assert [row.key for row in rows] == [RecordKey("1", "a"), RecordKey("2", "a"), RecordKey("1", 'b "1"')]
    assert rows[0].payload == {"note": "x"}
    spec, rows, _ = read(address(harness, "tenants", id="tenant,number"))
    assert [row.id for row in rows] == ['["a","1"]', '["a","2"]', '["b \\"1\\"","1"]']
    assert spec.id_kind is IdKind.STRING


def test_ids_must_be_there_and_stand_once_and_those_that_do_not_are_named(harness: PgvectorHarness) -> None:
    make(
        harness,
        "CREATE TABLE loose (number int, name text, v vector(2))",
        "INSERT INTO loose VALUES (1, 'one', '[1,2]'), (2, 'two', '[1,2]'), (2, NULL, '[1,2]')",
    )
    refused(address(harness, "loose", metric="dot"), UsageError, "no primary key", "?id=COLUMN")
    refused(address(harness, "loose", metric="dot", id="number"), DataInvalid, "several rows: 2")
    refused(address(harness, "loose", metric="dot", id="name"), DataInvalid, "1 rows have no id")
    refused(address(harness, "loose", metric="dot", id="nobody"), UsageError, "there is no such column", "number, name")
    make(harness, "DELETE FROM loose WHERE name IS NULL")
    _, rows, _ = read(address(harness, "loose", metric="dot", id="name"))
    assert [(row.id, row.payload) for row in rows] == [("one", {"number": 1}), ("two", {"number": 2})]


def test_documents_and_payloads_are_what_the_address_says(harness: PgvectorHarness) -> None:
    make(
        harness,
        "CREATE TABLE store (id uuid PRIMARY KEY, body text, meta jsonb, extra int, v vector(2))",
        "INSERT INTO store VALUES ('6ba7b810-9dad-41d1-80b4-00c04fd430c8', 'text', "
        '\'{"a": 1, "$exitramp:int": "5"}\', 3, \'[1,2]\')',
    )
    told = {"metric": "cosine", "document": "body", "payload": "meta"}
    spec, [row], _ = read(address(harness, "store", **told))
    assert (spec.id_kind, spec.has_documents, row.document) == (IdKind.UUID, True, "text")
    assert row.payload == {"a": 1, "$exitramp:int": "5", "extra": 3}
    refused(address(harness, "store", metric="cosine", document="extra"), UsageError, "integer and no text")
    refused(address(harness, "store", metric="cosine", payload="body"), UsageError, "text and no JSON")
    make(harness, "UPDATE store SET meta = '{\"extra\": 1}'")
    with pytest.raises(DataInvalid, match="in its payload and in a column"):
        read(address(harness, "store", **told))


def test_views_and_partitioned_tables_are_read_like_any_other(harness: PgvectorHarness) -> None:
    make(
        harness,
        "CREATE TABLE parted (id int, day date, v vector(2), PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
        "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2024-01-01') TO ('2024-07-01')",
        "CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM ('2024-07-01') TO ('2025-01-01')",
        "CREATE INDEX ON parted USING hnsw (v vector_cosine_ops)",
        "INSERT INTO parted VALUES (1, '2024-03-01', '[1,2]'), (2, '2024-08-01', '[3,4]')",
        "CREATE VIEW seen AS SELECT id, v, day FROM parted WHERE id > 1",
        "CREATE MATERIALIZED VIEW kept AS SELECT id, v FROM parted",
    )
    spec, rows, identity = read(address(harness, "parted", id="id"))
    assert ([row.id for row in rows], spec.vectors[0].metric) == (["1", "2"], Metric.COSINE)
    assert identity.collections == ("public.kept", "public.parted", "public.seen")
    _, [row], _ = read(address(harness, "seen", id="id", metric="cosine"))
    assert (row.id, row.payload) == ("2", {"day": date(2024, 8, 1)})
    assert len(read(address(harness, "kept", id="id", metric="cosine"))[1]) == 2


def test_dimensions_that_the_type_does_not_tell_are_measured(harness: PgvectorHarness) -> None:
    make(
        harness,
        "CREATE TABLE free (id int PRIMARY KEY, v vector)",
        "CREATE TABLE void (id int PRIMARY KEY, v vector)",
        "INSERT INTO free VALUES (1, '[1,2,3]'), (2, NULL)",
    )
    assert read(address(harness, "free", metric="dot"))[0].vectors[0].dimensions == 3
    refused(address(harness, "void", metric="dot"), DataInvalid, "?dimensions=NUMBER")
    assert read(address(harness, "void", metric="dot", dimensions="5"))[0].vectors[0].dimensions == 5
    make(harness, "INSERT INTO free VALUES (3, '[1,2]')")
    refused(address(harness, "free", metric="dot"), DataInvalid, "1 of 3", "1 of 2")


def test_names_of_schemas_and_tables_keep_their_case_and_dots(harness: PgvectorHarness) -> None:
    make(
        harness,
        'CREATE SCHEMA IF NOT EXISTS "Other.One"',
        'DROP TABLE IF EXISTS "Other.One"."a.b"',
        'CREATE TABLE "Other.One"."a.b" (id int PRIMARY KEY, v vector(2))',
        'CREATE TABLE "CASE" (id int PRIMARY KEY, v vector(2))',
        'CREATE TABLE "case" (id int PRIMARY KEY, v vector(3))',
    )
    assert read(address(harness, "CASE", metric="dot"))[0].vectors[0].dimensions == 2
    assert read(address(harness, "public.case", metric="dot"))[0].vectors[0].dimensions == 3
    spec, _, identity = read(address(harness, '"Other.One"."a.b"', metric="dot"))
    assert identity.collections == ('"Other.One"."a.b"', "public.CASE", "public.case")
    assert spec.name == '"Other.One"."a.b"'
    refused(address(harness, "Case"), CollectionMissing, "public.CASE")
    for name in ("a.b.c", "x" * 64, '"open', ".a", "a."):
        refused(address(harness, name), UsageError)
    make(harness, 'DROP SCHEMA "Other.One" CASCADE')


def test_an_extension_in_a_schema_that_is_not_on_the_search_path_is_found(harness: PgvectorHarness) -> None:
    make(
        harness,
        "CREATE SCHEMA tools",
        "ALTER EXTENSION vector SET SCHEMA tools",
        "CREATE TABLE apart (id int PRIMARY KEY, v tools.vector(2))",
        "CREATE INDEX ON apart USING hnsw (v tools.vector_l2_ops)",
        "INSERT INTO apart VALUES (1, '[1,2]'), (2, '[9,9]')",
    )
    try:
        spec, rows, _ = read(address(harness, "apart"))
        assert (len(rows), spec.vectors[0].metric) == (2, Metric.EUCLIDEAN)
    finally:
        make(harness, "DROP SCHEMA tools CASCADE")


def test_a_table_without_vectors_is_none_of_ours_and_its_columns_are_named(harness: PgvectorHarness) -> None:
    make(harness, "CREATE TABLE users (id int PRIMARY KEY, name text)")
    refused(address(harness, "users"), DataInvalid, "no column of vectors", "id, name")


def test_a_scan_goes_on_in_the_order_of_whatever_the_key_is(harness: PgvectorHarness) -> None:
    """Ids of types that sort otherwise than their texts do."""
    make(
        harness,
        "CREATE TABLE dated (id timestamptz PRIMARY KEY, v vector(2))",
        "INSERT INTO dated SELECT timestamptz '2024-01-01 00:00+00' + n * interval '7 hours 1 second', '[1,2]' "
        "FROM generate_series(1, 40) n",
        "CREATE TABLE counted (id numeric PRIMARY KEY, v vector(2))",
        "INSERT INTO counted SELECT n * 1.5, '[1,2]' FROM generate_series(-20, 20) n",
    )
    for table in ("dated", "counted"):
        store = open_store(address(harness, table, metric="dot"))
        source = store.source()
        for partition in source.partitions(3):
            pages = list(source.scan(partition, batch_rows=3))
            ids = [id_ for page in pages for id_ in page.batch.column("id").to_pylist()]
            for number, page in enumerate(pages):
                rest = [
                    id_
                    for again in source.scan(partition, batch_rows=50, after=page.cursor)
                    for id_ in again.batch.column("id").to_pylist()
                ]
                assert rest == ids[3 * (number + 1) :]
        store.close()


@pytest.mark.parametrize("columns", ["p", "p,note"])
def test_json_that_keeps_a_key_twice_is_named_and_never_read_as_one_of_them(
    harness: PgvectorHarness, columns: str
) -> None:
    make(
        harness,
        "DROP TABLE IF EXISTS twice",
        "CREATE TABLE twice (id int PRIMARY KEY, v vector(2), note text, p json)",
        """INSERT INTO twice VALUES (1, '[1,2]', 'x', '{"b": 1e2, "a": [1.0, 1]}'), (2, '[1,2]', 'x', 'null')""",
        *(["ALTER TABLE twice DROP COLUMN note"] if columns == "p" else []),
    )
    where = address(harness, "twice", metric="dot", payload="p")
    note = {} if columns == "p" else {"note": "x"}
    [first, second] = read(where)[1]
    assert first.payload == {"b": 100.0, "a": [1.0, 1]} | note
    assert second.payload == (note or None)
    make(harness, """INSERT INTO twice (id, v, p) VALUES (3, '[1,2]', '{"a": 1, "a": 2}')""")
    with pytest.raises(DataInvalid, match="'3'"):
        read(where)


def test_jsonb_that_is_no_object_is_no_payload_and_its_record_is_named(harness: PgvectorHarness) -> None:
    make(
        harness,
        "CREATE TABLE scalars (id int PRIMARY KEY, v vector(2), p jsonb)",
        """INSERT INTO scalars VALUES (1, '[1,2]', '{"a": 0.00001, "b": 1.0, "n": 12345678901234567890}')""",
        "INSERT INTO scalars VALUES (2, '[1,2]', NULL), (3, '[1,2]', 'null')",
    )
    where = address(harness, "scalars", metric="dot", payload="p")
    assert [row.payload for row in read(where)[1]] == [{"a": 1e-05, "b": 1.0, "n": 12345678901234567890}, None, None]
    make(harness, "INSERT INTO scalars VALUES (4, '[1,2]', '[1]')")
    with pytest.raises(DataInvalid, match="'4' is no object"):
        read(where)
