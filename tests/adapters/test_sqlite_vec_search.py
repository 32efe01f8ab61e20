"""Collections that exitramp made: filters in SQL, vectors that vec0 cannot rank, more hits than it gives."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exitramp.errors import UsageError
from exitramp.filters import And, Eq, Exists, Filter, In, Not, Or, Range, matches
from exitramp.ports import Origin, Query, SearchSettings, TransferAccount
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp.testing.reference import nearest_first, score
from exitramp.testing.rows import Row, batch_from_rows, rows_from_batch
from exitramp_adapters.stores.sqlite_vec.filters import condition_of
from tests.adapters.test_sqlite_vec import opened_file, quoted

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 7, 1.0, 0.0, -0.0, 7.5, 0.1 + 0.2, 0.3, 1e-320, 5e-324, 1e300, 9007199254740992.0),
    *(2**53, 2**53 + 1, 2**63, -(2**70), float("nan"), float("inf"), 123456789.12345678, 1e22, 1.5254981319167444e-302),
    *("", "a", "A", "7", "true", "null", "é", "e\u0301", 'quo"te', "back\\slash", "new\nline", "nul\0byte", "nul", "%"),
    *([], [1], [1.0, "a"], [True], [None], ["a", ["b"]], [0.1 + 0.2], [2**60], [{"in": 1}], ["nul\0byte"], [-0.0]),
    *({}, {"in": 1}, {"in": None}, {"in": "a", "a.b": 7}, {"": 1}, {"in": {"in": "a"}}),
    *(datetime(2024, 1, 1, tzinfo=UTC), Decimal("7"), b"a"),
)
KEYS = ("k", "a.b", "", 'quo"te', "back\\slash", "é", "$", "$.k", "[0]", "in", "$exitramp:own", "new\nline")
WANTED: tuple[Any, ...] = tuple(value for value in VALUES if type(value) in (bool, int, float, str))


def random_leaf(rng: random.Random) -> Filter:
    key = "k" if rng.random() < 0.6 else rng.choice(KEYS)
    field = (key,) if rng.random() < 0.8 else (key, rng.choice(("in", "a.b", "")))
    match rng.randrange(5):
        case 0:
            return Exists(field)
        case 1:
            return In(field, tuple(rng.choice(WANTED) for _ in range(rng.randrange(1, 5))))
        case 2:
            numbers = [value for value in WANTED if type(value) in (int, float) and value == value]
            names = rng.sample(("gte", "gt", "lte", "lt"), rng.randrange(1, 3))
            return Range(field, **{name: rng.choice(numbers) for name in names})
    return Eq(field, rng.choice(WANTED))


def random_filter(rng: random.Random) -> Filter:
    match rng.randrange(6):
        case 0:
            return And((random_leaf(rng), random_leaf(rng)))
        case 1:
            return Or((random_leaf(rng), Not(random_leaf(rng))))
        case 2:
            return Not(random_leaf(rng))
    return random_leaf(rng)


def spec_of(metric: Metric = Metric.EUCLIDEAN, dtype: DType = DType.FLOAT32, dimensions: int = 8) -> CollectionSpec:
    field = VectorField("", VectorKind.DENSE, dtype, metric, dimensions)
    return CollectionSpec("notes", IdKind.STRING, (field,))


def written(path: Path, spec: CollectionSpec, rows: list[Row]) -> str:
    address = f"sqlite-vec:{path}#notes"
    store = open_store(address)
    sink = store.sink()
    sink.create(spec, Origin(spec, "0"))
    for start in range(0, len(rows), 1000):
        sink.upsert(batch_from_rows(rows[start : start + 1000], spec))
    sink.flush()
    sink.finish(TransferAccount())
    store.close()
    return address


def test_a_filter_in_sql_leaves_what_it_means(tmp_path: Path) -> None:
    """Seeded: every value under every key, and hundreds of filters, each as `matches` has it, record by record."""
    rng = random.Random(31)
    vectors = np.random.default_rng(1).standard_normal((150, 8), dtype=np.float32)
    rows = [Row("none", vectors={"vector": vectors[0]})]
    for number, vector in enumerate(vectors[1:]):
        payload = {key: rng.choice(VALUES) for key in KEYS if rng.random() < 0.07}
        payload["k"] = VALUES[number % len(VALUES)]
        rows.append(Row(f"r{number}", payload=payload, vectors={"vector": vector}))
    address = written(tmp_path / "x.db", spec_of(), rows)
    store = open_store(address)
    search = store.search()
    in_sql = 0
    for _ in range(500):
        where = random_filter(rng)
        in_sql += condition_of(where) is not None
        hits = search.search(Query("", dense=vectors[5]), k=500, where=where)
        wanted = {row.id for row in rows if matches(where, row.payload)}
        assert {key.id for key in hits.keys} == wanted, f"{where}"
    assert in_sql > 150
    store.close()


def test_sql_decides_of_ordinary_records_without_reading_their_payloads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = {"group": "even", "number": 3, "score": 0.123456789012345, "text": 'two\nlines, "quoted"', "tags": ["a"]}
    vectors = np.random.default_rng(1).standard_normal((50, 8), dtype=np.float32)
    rows = [Row(f"r{n}", payload={**payload, "number": n}, vectors={"vector": vectors[n]}) for n in range(50)]
    store = open_store(written(tmp_path / "x.db", spec_of(), rows))
    monkeypatch.setattr("exitramp_adapters.stores.sqlite_vec.adapter.matches", None)
    for where, count in (
        (Eq(("group",), "even"), 50),
        (Eq(("number",), 7), 1),
        (Range(("number",), gte=10, lt=20.5), 11),
        (And((Eq(("tags",), "a"), Not(In(("number",), (1, 2))))), 48),
        (Range(("score",), lt=0.2), 50),
    ):
        assert len(store.search().search(Query("", dense=vectors[5]), k=100, where=where).keys) == count
    store.close()


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.EUCLIDEAN, Metric.MANHATTAN])
@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.INT8])
def test_what_vec0_cannot_rank_is_kept_ranked_and_hides_no_others(tmp_path: Path, metric: Metric, dtype: DType) -> None:
    spec = spec_of(metric, dtype)
    rng = np.random.default_rng(4)
    vectors: np.ndarray[Any, Any]
    if dtype is DType.INT8:
        vectors = rng.integers(-128, 128, (60, 8), np.int8)
        odd: list[np.ndarray[Any, Any]] = [np.zeros(8, np.int8)] * 3
    else:
        vectors = rng.standard_normal((60, 8)).astype(np.float32)
        zero, tiny, huge, nan = (np.full(8, value, np.float32) for value in (0, 1e-30, 1e25, np.nan))
        odd = [zero, -zero, tiny, huge, nan, np.full(8, np.inf, np.float32), np.full(8, 5e-324, np.float32)]
        odd += [np.where(np.arange(8) == 3, nan, vectors[0]).astype(np.float32)]
    rows = [Row(f"r{n}", payload={"n": n % 2}, vectors={"vector": vector}) for n, vector in enumerate([*odd, *vectors])]
    rows.append(Row("without", payload={"n": 0}))
    address = written(tmp_path / "x.db", spec, rows)
    store = open_store(address)
    back = {row.id: row for row in rows_from_batch(store.source().fetch([row.key for row in rows]), spec)}
    for row in rows:
        assert row.vectors.keys() == back[row.id].vectors.keys()
        if row.vectors:
            assert np.asarray(back[row.id].vectors["vector"]).tobytes() == np.asarray(row.vectors["vector"]).tobytes()
    having = [row for row in rows if row.vectors]
    [field] = spec.vectors
    for query in vectors[:8]:
        for where in (None, Eq(("n",), 1)):
            passing = [row for row in having if where is None or matches(where, row.payload)]
            truth = nearest_first(metric, [(score(field, query, row.vectors["vector"]), row.id) for row in passing])
            hits = store.search().search(Query("", dense=query), k=len(passing) + 5, where=where)
            assert len(hits.keys) == len(passing)
            rank = {id_: far for far, id_ in truth}
            got = np.array([rank[key.id] for key in hits.keys])
            assert np.allclose(got, [far for far, _ in truth], rtol=1e-4, atol=1e-3, equal_nan=True)
    with opened_file(tmp_path / "x.db") as connection:
        for (raw,) in connection.execute("SELECT embedding FROM notes_vec").fetchall():
            distance = {Metric.COSINE: "cosine", Metric.EUCLIDEAN: "l2", Metric.MANHATTAN: "l1"}[metric]
            mark = "vec_int8(?)" if dtype is DType.INT8 else "?"
            sql = f"SELECT vec_distance_{distance}({mark}, {mark})"
            assert connection.execute(sql, (raw, raw)).fetchone()[0] is not None, "vec0 holds what it cannot rank"
    store.close()


def test_more_neighbours_than_vec0_gives_are_compared_here(tmp_path: Path) -> None:
    vectors = np.random.default_rng(6).standard_normal((4300, 8), dtype=np.float32)
    rows = [Row(f"r{n}", payload={"even": n % 2 == 0}, vectors={"vector": vector}) for n, vector in enumerate(vectors)]
    store = open_store(written(tmp_path / "x.db", spec_of(), rows))
    search = store.search()
    far = np.linalg.norm(vectors.astype(np.float64) - vectors[7], axis=1)
    for k in (4096, 4097, 10_000):
        for where in (None, Eq(("even",), True)):
            passing = far if where is None else far[::2]
            hits = search.search(Query("", dense=vectors[7]), k=k, where=where)
            assert len({*hits.keys}) == len(hits.keys) == min(k, len(passing))
            got = [far[int(key.id[1:])] for key in hits.keys]
            assert np.allclose(got, np.sort(passing)[: len(got)], atol=1e-5)
    store.close()


def test_a_search_takes_no_options_and_only_queries_of_its_type(tmp_path: Path) -> None:
    row = Row("a", vectors={"vector": np.arange(8, dtype=np.int8)})
    store = open_store(written(tmp_path / "x.db", spec_of(dtype=DType.INT8), [row]))
    search = store.search()
    with pytest.raises(UsageError, match="no option 'ef'"):
        search.search(Query("", dense=np.ones(8, np.int8)), k=1, settings=SearchSettings(options={"ef": 5}))
    with pytest.raises(UsageError, match="searched with int8"):
        search.search(Query("", dense=np.full(8, 0.5, np.float32)), k=1)
    assert search.search(Query("", dense=np.ones(8, np.float32)), k=1).keys == (RecordKey("a"),)
    store.close()


def test_an_applications_own_sql_finds_and_filters_the_records(tmp_path: Path) -> None:
    """As `docs/stores/sqlite-vec.md` shows it."""
    vectors = np.random.default_rng(8).standard_normal((40, 8), dtype=np.float32)
    rows = [Row(f"r{n}", payload={"lang": "de" if n % 2 else "en"}, vectors={"vector": vectors[n]}) for n in range(40)]
    written(tmp_path / "x.db", spec_of(Metric.COSINE), rows)
    with opened_file(tmp_path / "x.db") as connection:
        found = connection.execute(
            """SELECT r.id, v.distance FROM notes_vec v JOIN notes r ON r.rowid = v.rowid
               WHERE v.embedding MATCH ? AND k = 5
                 AND v.rowid IN (SELECT rowid FROM notes WHERE payload ->> '$.lang' = 'de')
               ORDER BY v.distance""",
            (vectors[9].tobytes(),),
        ).fetchall()
    assert found[0][0] == "r9"
    assert all(int(id_[1:]) % 2 for id_, _ in found)
    assert len(found) == 5


@pytest.mark.parametrize("name", ["a", 'quo"te', "it's", "%s", "ö]["])
def test_a_record_that_is_written_again_keeps_its_place(tmp_path: Path, name: str) -> None:
    spec = spec_of().renamed(name)
    store = open_store(f"sqlite-vec:{tmp_path}/x.db#{name.replace('%', '%25')}")
    sink = store.sink()
    sink.create(spec, Origin(spec, "0"))
    vectors = np.random.default_rng(8).standard_normal((6, 8), dtype=np.float32)
    for version in (1, 2):
        rows = [Row(f"r{n}", payload={"v": version}, vectors={"vector": vectors[n]}) for n in range(3 * version)]
        sink.upsert(batch_from_rows(rows, spec))
    store.close()
    with opened_file(tmp_path / "x.db") as connection:
        places = connection.execute(f"SELECT rowid, id FROM {quoted(name)} ORDER BY rowid").fetchall()
    assert places == [(n + 1, f"r{n}") for n in range(6)]
