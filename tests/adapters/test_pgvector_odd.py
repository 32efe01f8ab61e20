"""What PostgreSQL allows and few expect: rows that a policy hides, tables that inherit, years of seven digits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from exitramp.codec.ids import native_id
from exitramp.errors import DataInvalid
from exitramp.ports import Origin, Partition
from exitramp.records import RecordKey
from exitramp.registry import open_store
from exitramp.testing import Row, batch_from_rows
from exitramp_adapters.stores.pgvector.limits import LIMITS
from tests.adapters.pgvector_harness import PgvectorHarness, served
from tests.adapters.test_pgvector_foreign import address, make, read, refused


@pytest.fixture(name="harness", scope="module")
def _harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PgvectorHarness]:
    with served(tmp_path_factory.mktemp("postgres")) as service:
        harness = PgvectorHarness(service)
        harness.clear()
        yield harness


def test_rows_that_a_policy_hides_are_announced_to_whom_it_hides_them(harness: PgvectorHarness) -> None:
    make(
        harness,
        "CREATE ROLE tenant LOGIN",
        "CREATE TABLE guarded (id int PRIMARY KEY, tenant text, v vector(2))",
        "INSERT INTO guarded VALUES (1, 'tenant', '[1,2]'), (2, 'other', '[1,2]')",
        "ALTER TABLE guarded ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY own ON guarded USING (tenant = current_user)",
        "GRANT USAGE ON SCHEMA public TO tenant",
        "GRANT SELECT ON guarded TO tenant",
    )
    where = address(harness, "guarded", metric="dot")
    _, rows, identity = read(where.replace("postgres@", "tenant@"))
    assert [row.id for row in rows] == ["1"]
    [finding] = identity.findings
    assert finding.code == "source.row_security"
    assert "public.guarded" in finding.message
    _, rows, identity = read(where)
    assert ([row.id for row in rows], identity.findings) == (["1", "2"], ())


def test_an_id_that_stands_in_a_table_and_in_its_heir_is_named(harness: PgvectorHarness) -> None:
    """A primary key does not hold for the tables that inherit from its own, whose rows are read with it."""
    make(
        harness,
        "CREATE TABLE parent (id int PRIMARY KEY, v vector(2))",
        "CREATE TABLE child (more int) INHERITS (parent)",
        "INSERT INTO parent VALUES (1, '[1,2]')",
        "INSERT INTO child VALUES (2, '[1,2]', 3)",
    )
    where = address(harness, "parent", metric="dot")
    assert [row.id for row in read(where)[1]] == ["1", "2"]
    make(harness, "INSERT INTO child VALUES (1, '[3,4]', 5)")
    refused(where, DataInvalid, "ids stand in several rows: 1")


def test_a_day_in_a_year_of_seven_digits_goes_back_into_its_column(harness: PgvectorHarness) -> None:
    make(
        harness,
        "CREATE TABLE late (id int PRIMARY KEY, day date, v vector(2))",
        "INSERT INTO late VALUES (1, '5874897-12-31', '[1,2]')",
    )
    copied(harness, "late", "late_too")
    with harness.connection() as connection:
        assert connection.execute("SELECT day::text FROM late_too").fetchall() == [("5874897-12-31",)]


def test_a_table_of_ids_and_vectors_alone_comes_back_without_payloads(harness: PgvectorHarness) -> None:
    make(
        harness,
        "CREATE TABLE bare (id int PRIMARY KEY, v vector(2))",
        "INSERT INTO bare VALUES (1, '[1,2]'), (2, '[3,4]')",
    )
    copied(harness, "bare", "bare_too", Row("3", payload={}), Row("4", payload={"a": 1}))
    make(harness, "INSERT INTO bare_too (id, v) VALUES (5, '[1,2]')")
    _, rows, _ = read(address(harness, "bare_too"))
    assert [(row.id, row.payload) for row in rows] == [
        ("1", None),
        ("2", None),
        ("3", {}),
        ("4", {"a": 1}),
        ("5", None),
    ]
    with harness.connection() as connection:
        kept = connection.execute("SELECT id FROM bare_too WHERE _exitramp IS NOT NULL ORDER BY id").fetchall()
    assert kept == [(3,), (4,)]


def test_ids_are_kept_where_a_table_always_numbers_its_rows_itself(harness: PgvectorHarness) -> None:
    columns = "(id int {} PRIMARY KEY, word text, v vector(2))"
    make(
        harness,
        f"CREATE TABLE worded {columns.format('')}",
        f"CREATE TABLE numbered {columns.format('GENERATED ALWAYS AS IDENTITY')}",
        "CREATE INDEX ON numbered USING hnsw (v vector_ip_ops)",
        "INSERT INTO worded VALUES (7, 'x', '[1,2]'), (9, 'y', '[3,4]')",
    )
    copied(harness, "worded", "numbered")
    copied(harness, "worded", "numbered")  # in place of those that are there
    assert [(row.id, row.payload) for row in read(address(harness, "numbered"))[1]] == [
        ("7", {"word": "x"}),
        ("9", {"word": "y"}),
    ]


def test_an_id_with_the_character_zero_is_kept_beside_one_that_postgresql_takes() -> None:
    assert native_id(RecordKey("a\0b"), LIMITS).startswith("x-")
    assert native_id(RecordKey("a\nb"), LIMITS) == "a\nb"


def test_whoever_may_make_tables_in_a_schema_need_not_be_allowed_to_make_schemas(harness: PgvectorHarness) -> None:
    make(
        harness,
        "CREATE ROLE app LOGIN",
        "CREATE SCHEMA app AUTHORIZATION app",
        "GRANT USAGE ON SCHEMA public TO app",
        "CREATE TABLE given (id int PRIMARY KEY, v vector(2))",
        "INSERT INTO given VALUES (1, '[1,2]')",
    )
    copied(harness, "given", "app.given", user="app")
    assert [row.id for row in read(address(harness, "app.given"))[1]] == ["1"]


def copied(harness: PgvectorHarness, table: str, other: str, *more: Row, user: str = "postgres") -> None:
    source = open_store(address(harness, table, metric="dot"))
    target = open_store(address(harness, other).replace("postgres@", f"{user}@"))
    reader, sink = source.source(), target.sink()
    sink.create(reader.describe(), Origin(reader.describe(), "test"))
    for page in reader.scan(Partition(), batch_rows=10):
        sink.upsert(page.batch)
    spec = reader.describe()
    if more:
        sink.upsert(batch_from_rows(more, spec))
    sink.flush()
    source.close()
    target.close()
