"""Searching PostgreSQL: filters on typed columns mean what they mean on records, settings are those that were asked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from exitramp.errors import UsageError
from exitramp.filters import And, Eq, Exists, Filter, In, Not, Or, Range, Scalar, matches
from exitramp.ports import IndexState, Query, SearchSettings
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp.testing.rows import Row
from exitramp_adapters.services.postgres import Postgres
from tests.adapters.pgvector_harness import PgvectorHarness, served
from tests.adapters.test_pgvector_foreign import address, make
from tests.adapters.test_pgvector_restore import UNFITTING, read, typed_spec, write

EXACT = SearchSettings(exact=True)
ROWS = 3000


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


SCALARS: tuple[Scalar, ...] = (
    *(True, False, 0, 1, 1.0, 3, 3.0, 7, 0.5, 1.5, 0.1, 2**53, 2**53 + 1, 2.0**53, 10**23, 1e23, -5),
    *(float("inf"), float("-inf"), float("nan"), "", "a", "A", "a ", "x", "ok", "3", "true", "é", "b c", "%s"),
    *("infinity", "1 day 02:00:00", "10.0.0.1", "2024-01-01", "1.10"),
)


def filters_on(*names: str) -> Iterator[Filter]:
    for name in names:
        for path in ((name,), (name, "in"), (name, "deep", "er"), (name, "0")):
            yield Exists(path)
            yield from (Eq(path, value) for value in (SCALARS if len(path) == 1 else ("a", 7, 1.5, True)))
            yield Range(path, gte=1)
        yield In((name,), (3, "a", True))
        for bounds in ({"gt": 0.5, "lte": 7}, {"lt": 3}, {"gte": 2**53 + 1}, {"lte": 2**53 + 1}, {"gt": -1e308}):
            yield Range((name,), **bounds)
        yield Range((name,), lt=float("inf"))
        yield Range((name,), gte=float("inf"))


def assert_like_the_reference(where: str, filters: Iterator[Filter]) -> int:
    """Every filter leaves just the records that it leaves by its meaning, or is refused; how many were answered."""
    spec, rows = read(where)
    store = open_store(where)
    search = store.search()
    query = Query(spec.vectors[0].name, dense=np.array([1, 2, 3], np.float32))
    answered = 0
    for number, each in enumerate(filters):
        for asked in (each, Not(each))[: 1 + (number % 4 == 0)]:
            try:
                hits = search.search(query, k=len(rows), where=asked, settings=EXACT)
            except UsageError:
                continue
            wanted = {id_ for id_, row in rows.items() if matches(asked, row.payload)}
            assert {key.id for key in hits.keys} == wanted, asked
            answered += 1
    store.close()
    return answered


TYPED_COLUMNS = (
    "small int2, big int8, double float8, single float4, truth bool, word text, fixed char(3), feeling mood, "
    "price numeric, made timestamptz, day date, span interval, held jsonb, plain json, numbers int[], "
    "doubles float8[], words text[], truths bool[], grid int[], prices numeric[]"
)
TYPED_ROWS = """
1, 2, 0.5, 0.1, true, 'a', 'x', 'ok', 1.10, '2024-01-01', '2024-01-01', '1 day 2 hours', '{"in": "a"}', '{"in": 7}', \
'{1,3}', '{0.5,NULL}', '{a,"b c"}', '{true}', '{{1,2},{3,4}}', '{1.10}'
3, 9007199254740993, 1e23, 1.5, false, 'A', 'a', 'sad', 3, 'infinity', '10000-01-01', '1 second', '"a"', '7', \
'{}', '{1e23,Infinity}', '{""}', '{false,NULL}', '{}', '{}'
7, 9007199254740992, 'NaN', 'Infinity', true, '', 'é', 'ok', 'NaN', '-infinity', '-infinity', NULL, \
'["a", 1.0, 7]', '{"deep": {"er": 7}}', '{7}', '{9007199254740992}', '{é,%s}', '{}', NULL, NULL
NULL, NULL, '-Infinity', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'null', 'true', NULL, NULL, NULL, \
NULL, NULL, NULL
-5, -9007199254740993, -0.0, 3, false, '3', '3', 'sad', 0, '2024-01-01', '2024-01-01', NULL, \
'{"in": ["a"], "0": 7}', '[["a"]]', '{0}', '{0.1}', '{3}', '{true,false}', '{{0,1}}', '{0}'
"""


def test_filters_on_typed_columns_of_somebody_elses_table(harness: PgvectorHarness) -> None:
    make(
        harness,
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        f"CREATE TABLE items (id int PRIMARY KEY, {TYPED_COLUMNS}, meta jsonb, body vector(3))",
        "CREATE INDEX ON items USING hnsw (body vector_l2_ops)",
    )
    for number, row in enumerate(TYPED_ROWS.strip().splitlines()):
        meta = ("{}", "NULL", '{"m": "a"}', '{"m": 7, "x.y": 1}', '{"m": ["a", null, 7.0], "n": {"in": "a"}}')[number]
        quoted = meta if meta == "NULL" else f"'{meta}'"
        make(harness, f"INSERT INTO items VALUES ({number}, {row}, {quoted}, '[1,2,3]')")
    names = [part.strip().split()[0] for part in TYPED_COLUMNS.split(",")]
    where = address(harness, "items", payload="meta")
    assert assert_like_the_reference(where, filters_on(*names, "m", "n", "x.y", "nobody")) > 1500


def test_filters_on_a_table_made_again_and_on_what_its_columns_do_not_hold(harness: PgvectorHarness) -> None:
    spec = typed_spec(harness)
    vector = np.array([1, 2, 3], np.float32)
    rows = [Row(id_, payload=payload, vectors={"vector:body": vector}) for id_, payload in UNFITTING.items()]
    where = address(harness, "copied.items")
    write(where, spec, *rows)
    names = ("price", "made", "small", "meta", "tags", "span", "other", "null", "_x", "nobody")
    assert assert_like_the_reference(where, filters_on(*names)) > 700


def test_filters_on_a_table_of_ours(harness: PgvectorHarness) -> None:
    field = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.EUCLIDEAN, 3)
    spec = CollectionSpec("docs", IdKind.STRING, (field,))
    values: list[Any] = [
        *(True, False, 0, 1, 1.0, -0.0, 3, 7, 0.5, 2**53, 2**53 + 1, 2.0**53, 10**23, 1e23, float("inf"), float("nan")),
        *(
            "",
            "a",
            "ok",
            "3",
            "Infinity",
            "infinity",
            "é",
            None,
            [],
            {},
            ["a", 3],
            [["a"]],
            [float("inf")],
            ["Infinity"],
        ),
        *(
            [None, 1.0],
            {"in": "a"},
            {"in": ["a"]},
            {"0": 7},
            {"deep": {"er": 7}},
            Decimal("1.10"),
            ["1.10", Decimal(1)],
        ),
        *(datetime(2024, 1, 1, tzinfo=UTC), date(2024, 1, 1), "2024-01-01", [date(2024, 1, 1), "x"], b"a", "x\x00"),
    ]
    rows = [
        Row(f"r{number}", payload={"v": value} | ({"only": 1} if number % 2 else {}))
        for number, value in enumerate(values)
    ]
    vector = np.array([1, 2, 3], np.float32)
    rows = [*(Row(row.id, payload=row.payload, vectors={"vector": vector}) for row in rows)]
    rows += [Row("none", vectors={"vector": vector}), Row("empty", payload={}, vectors={"vector": vector})]
    where = address(harness, "docs")
    write(where, spec, *rows)
    more = (
        And((Exists(("only",)), Not(Eq(("v",), "a")))),
        Or((Eq(("v",), 1), Range(("v",), gt=1e22))),
        Not(And((Exists(("v",)), Exists(("only",))))),
    )
    assert assert_like_the_reference(where, iter([*filters_on("v", "only", "nobody"), *more])) > 100
    store = open_store(where)
    with pytest.raises(UsageError, match="character zero"):
        store.search().search(Query(dense=vector), k=1, where=Eq(("v",), "x\x00"))
    store.close()


@pytest.fixture
def many(harness: PgvectorHarness) -> str:
    make(
        harness,
        "CREATE TABLE many (id int PRIMARY KEY, kind text, body vector(32), half halfvec(32))",
        "SELECT setseed(0.5)",
        "INSERT INTO many SELECT n, 'k' || n % 500, "
        "(SELECT array_agg(random() + 0 * n * i) FROM generate_series(1, 32) i)::vector, NULL "
        f"FROM generate_series(1, {ROWS}) n",
        "CREATE INDEX many_body ON many USING hnsw (body vector_l2_ops) WITH (m = 4, ef_construction = 8)",
        "CREATE INDEX many_half ON many USING ivfflat (half halfvec_l2_ops) WITH (lists = 10)",
        "ANALYZE many",
    )
    return address(harness, "many", vectors="body")


def nearest(where: str, k: int, condition: Filter | None = None, settings: SearchSettings = EXACT) -> list[str]:
    store = open_store(where)
    column = store.source().describe().vectors[0].name
    hits = store.search().search(
        Query(column, dense=np.full(32, 0.3, np.float32)), k=k, where=condition, settings=settings
    )
    store.close()
    assert list(hits.scores) == sorted(hits.scores)
    return [key.id for key in hits.keys]


def test_an_index_that_stops_short_is_made_up_for(many: str) -> None:
    """By itself it returns ef_search at most, and under a filter what is left of those."""
    least = SearchSettings(options={"ef_search": 10, "iterative_scan": "off"})
    assert len(nearest(many, 200, settings=SearchSettings())) == 200
    assert len(nearest(many, 1500, settings=SearchSettings())) == 1500
    assert len(nearest(many, 60, settings=least)) == 60
    rare = Eq(("kind",), "k7")
    assert nearest(many, 6, rare) == nearest(many, 6, rare, SearchSettings())
    assert sorted(nearest(many, 10, rare, least), key=int) == [str(number) for number in range(7, ROWS, 500)]
    assert nearest(many, 5, Eq(("kind",), "none"), least) == []


def test_search_settings_are_those_that_were_asked_for(many: str) -> None:
    """A poorer search finds less: with ef_search 10 the index misses neighbours that it finds with 400."""
    truth = set(nearest(many, 10))
    found = {
        ef: len(truth & set(nearest(many, 10, settings=SearchSettings(options={"ef_search": ef})))) for ef in (10, 400)
    }
    assert found[10] < found[400]
    for options in (
        {"ef_search": 0},
        {"ef_search": "many"},
        {"ef_search": True},
        {"probes": 10**9},
        {"iterative_scan": "sometimes"},
        {"nprobe": 3},
    ):
        with pytest.raises(UsageError):
            nearest(many, 3, settings=SearchSettings(options=options))


def test_an_index_is_told_of_where_the_server_uses_it(many: str, harness: PgvectorHarness) -> None:
    store = open_store(many)
    told = store.search().coverage()  # type: ignore[attr-defined]
    assert (told.indexed, told.compared, told.note) == (ROWS, 0, "")
    assert store.search().index_state() is IndexState.READY
    make(harness, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'many_body'::regclass")
    assert store.search().index_state() is IndexState.UNKNOWN
    told = store.search().coverage()  # type: ignore[attr-defined]
    assert (told.indexed, told.compared) == (0, ROWS)
    store.close()
    small = address(harness, "small", metric="cosine")
    make(harness, "CREATE TABLE small (id int PRIMARY KEY, v vector(3))", "INSERT INTO small VALUES (1, '[1,2,3]')")
    store = open_store(small)
    told = store.search().coverage()  # type: ignore[attr-defined]
    store.close()
    assert (told.indexed, told.compared, told.note) == (0, 1, "'vector:v' has no index")


def test_lists_are_probed_as_asked(harness: PgvectorHarness, many: str) -> None:
    make(harness, "UPDATE many SET half = body::halfvec", "REINDEX INDEX many_half", "ANALYZE many")
    where = many.replace("vectors=body", "vectors=half")
    truth = set(nearest(where, 20))
    one = nearest(where, 20, settings=SearchSettings(options={"probes": 1, "iterative_scan": "off"}))
    every = nearest(where, 20, settings=SearchSettings(options={"probes": 10}))
    assert set(every) == truth
    assert len(one) == 20


def test_records_without_a_vector_and_vectors_of_zeros(harness: PgvectorHarness) -> None:
    make(
        harness,
        "CREATE TABLE few (id int PRIMARY KEY, v vector(2))",
        "CREATE INDEX ON few USING hnsw (v vector_cosine_ops)",
        "INSERT INTO few VALUES (1, '[1,0]'), (2, NULL), (3, '[0,0]'), (4, '[0,1]')",
    )
    store = open_store(address(harness, "few"))
    hits = store.search().search(Query("v", dense=np.array([1, 0.1], np.float32)), k=10)
    store.close()
    assert [key.id for key in hits.keys] == ["1", "4", "3"]
    assert np.isnan(hits.scores[2])


def test_multi_vectors_are_searched_by_the_best_of_each(harness: PgvectorHarness) -> None:
    make(
        harness,
        "CREATE TABLE late (id int PRIMARY KEY, v vector(2)[])",
        "INSERT INTO late VALUES (1, ARRAY['[1,0]','[0,1]']::vector[]), (2, ARRAY['[1,0]']::vector[])",
        "INSERT INTO late VALUES (3, '{}'), (4, NULL)",
    )
    store = open_store(address(harness, "late", metric="dot"))
    query = Query("v", multi=np.array([[1, 0], [0, 1]], np.float32))
    hits = store.search().search(query, k=10)
    store.close()
    assert [key.id for key in hits.keys] == ["1", "2", "3"]
    assert hits.scores[:2] == (-2.0, -1.0)
