"""One DuckDB file and several who want it: locks, rights, kills, indexes, and what was not acknowledged."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from exitramp.arrow import record_keys
from exitramp.errors import DataInvalid, PathUnusable, StoreRejected, StoreUnavailable, UsageError
from exitramp.filters import Range
from exitramp.ports import IndexCoverage, Origin, Partition, Query, SearchSettings, Store, TransferAccount
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp.testing.rows import Row, batch_from_rows, rows_from_batch
from exitramp_adapters.stores.duckdb.file import vss_path

FIELD = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 8)
SPEC = CollectionSpec("articles", IdKind.STRING, (FIELD,))


def rows(count: int, seed: int = 1) -> list[Row]:
    matrix = np.random.default_rng(seed).standard_normal((count, 8), dtype=np.float32)
    return [Row(f"r{n:05d}", None, None, {"n": n}, {"vector": matrix[n]}) for n in range(count)]


def filled(path: Path, count: int = 300, *, options: str = "", shuffled: bool = False) -> str:
    where = f"duckdb:{path}{options}#articles"
    store = open_store(where)
    sink = store.sink()
    sink.create(SPEC, Origin(SPEC, "0"))
    held = rows(count)
    order = np.random.default_rng(5).permutation(count) if shuffled else range(count)
    sink.upsert(batch_from_rows([held[n] for n in order], SPEC))
    sink.flush()
    sink.finish(TransferAccount())
    store.close()
    return where


def ids_in(store: Store, batch_rows: int = 100) -> list[str]:
    scan = store.source().scan(Partition(), batch_rows=batch_rows)
    return [key.id for page in scan for key in record_keys(page.batch)]


def child(source: str, *arguments: str, user: int | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", source, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        user=user,
        group=user,
    )


HOLD = "import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == 'r'); print('open', flush=True);"


def test_a_file_that_another_process_writes_is_named_with_that_process(tmp_path: Path) -> None:
    where = filled(tmp_path / "x.duckdb")
    holder = child(HOLD + "sys.stdin.readline()", str(tmp_path / "x.duckdb"), "w")
    out: IO[str] = holder.stdout  # type: ignore[assignment]
    assert out.readline().strip() == "open"
    store = open_store(where)
    with pytest.raises(StoreUnavailable, match=f"the process {holder.pid} has the file open"):
        store.source().count()
    holder.communicate("\n", timeout=30)
    assert store.source().count() == 300, "the same store answers once the file is free"
    store.close()


def test_several_processes_read_and_a_writer_is_told_of_them(tmp_path: Path) -> None:
    where = filled(tmp_path / "x.duckdb")
    holder = child(HOLD + "sys.stdin.readline()", str(tmp_path / "x.duckdb"), "r")
    out: IO[str] = holder.stdout  # type: ignore[assignment]
    assert out.readline().strip() == "open"
    store = open_store(where)
    assert len(ids_in(store)) == 300
    with pytest.raises(StoreUnavailable, match="one process write it"):
        store.sink().create(SPEC, Origin(SPEC, "0"))
    assert store.source().count() == 300, "it is read as before"
    holder.communicate("\n", timeout=30)
    store.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read a file as somebody else")
def test_a_file_is_read_by_a_user_who_may_not_write_it(tmp_path: Path) -> None:
    folder = Path("/tmp") / f"exitramp-duckdb-test-{os.getpid()}"
    folder.mkdir(mode=0o755)
    path = folder / "x.duckdb"
    try:
        filled(path, shuffled=True)  # sorted while it is read
        path.chmod(0o444)
        source = (
            "import os, sys\n"
            "from exitramp_adapters.stores.duckdb.adapter import ADAPTER\n"
            "import duckdb, pyarrow.compute, exitramp.registry, numpy, orjson, pandas\n"
            "os.setgid(65534); os.setuid(65534)\n"
            "from exitramp.urls import Address, Network\n"
            "from exitramp.ports import Partition, Origin, Query\n"
            "store = ADAPTER.open(Address.parse(sys.argv[1]), Network())\n"
            "source = store.source()\n"
            "pages = list(source.scan(Partition(), batch_rows=50))\n"
            "print(sum(page.batch.num_rows for page in pages), source.identity().can_write)\n"
            "print(len(store.search().search(Query('', dense=numpy.ones(8, numpy.float32)), k=5).keys))\n"
            "try:\n    store.sink().create(source.describe(), Origin(source.describe(), '0'))\n"
            "except Exception as error:\n    print(type(error).__name__)\n"
        )
        out, err = child(source, f"duckdb:{path}#articles").communicate(timeout=60)
        assert out.split() == ["300", "False", "5", "PathUnusable"], err[-2000:]
        assert sorted(each.name for each in folder.iterdir()) == ["x.duckdb"]
    finally:
        for each in folder.iterdir():
            each.unlink()
        folder.rmdir()


@pytest.mark.parametrize("shuffled", [False, True])
def test_reading_leaves_the_file_and_its_log_as_they_are(tmp_path: Path, shuffled: bool) -> None:
    path = tmp_path / "x.duckdb"
    where = filled(path, shuffled=shuffled)
    writer = child(
        HOLD
        + "c.execute('INSERT INTO articles (id) VALUES (chr(122))'); print('in', flush=True); sys.stdin.readline()",
        str(path),
        "w",
    )
    out: IO[str] = writer.stdout  # type: ignore[assignment]
    assert [out.readline().strip(), out.readline().strip()] == ["open", "in"]
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    before = {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in tmp_path.iterdir()}
    assert set(before) == {"x.duckdb", "x.duckdb.wal"}
    store = open_store(where)
    assert ids_in(store)[-2:] == ["r00299", "z"], "what only the log holds is read as well"
    store.source().identity(), store.source().origin(), store.source().partitions(3)
    store.search().search(Query(dense=np.ones(8, np.float32)), k=3)
    store.close()
    assert {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in tmp_path.iterdir()} == before


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_scan_goes_on_when_the_file_is_opened_anew_to_be_written(tmp_path: Path, shuffled: bool) -> None:
    where = filled(tmp_path / "x.duckdb", shuffled=shuffled)
    store, other = open_store(where), open_store(where)
    scan = store.source().scan(Partition(), batch_rows=20)
    found = [key.id for key in record_keys(next(scan).batch)]
    sink = other.sink()
    sink.create(SPEC, Origin(SPEC, "0"))  # reading only until now
    sink.upsert(batch_from_rows(rows(5, seed=2), SPEC))
    sink.flush()
    found += [key.id for page in scan for key in record_keys(page.batch)]
    assert found == [row.id for row in rows(300)]
    other.close()
    store.close()


def test_rows_in_no_order_are_sorted_on_the_disk_where_memory_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "CREATE TABLE articles AS SELECT (i * 7919 % 1000003)::VARCHAR AS id,"
            " list_resize([i]::FLOAT[], 256, 0.5)::FLOAT[256] AS emb FROM range(60000) t(i)"
        )
    monkeypatch.setattr("exitramp_adapters.stores.duckdb.file._MEMORY", "48MiB")  # the vectors alone have 61 MB
    monkeypatch.setattr("exitramp_adapters.stores.duckdb.scan.PART_BYTES", 2**20)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = open_store(f"duckdb:{path}?id=id&metric=dot#articles")
    found = ids_in(store, batch_rows=5000)
    assert found == sorted(str(i * 7919 % 1000003) for i in range(60000))
    scan = store.source().scan(Partition(), batch_rows=50)
    assert record_keys(next(iter(scan)).batch)[49].id == found[49]
    assert len(os.listdir(tmp_path)) == 2
    scan.close()  # type: ignore[attr-defined]
    assert os.listdir(tmp_path) == ["x.duckdb"]
    store.close()


def test_what_failed_is_not_acknowledged_by_a_later_flush(tmp_path: Path) -> None:
    """DuckDB answers the COMMIT of a transaction in which something failed as if it were done."""
    where = filled(tmp_path / "x.duckdb", 10)
    store = open_store(where)
    sink: Any = store.sink()
    sink.upsert(batch_from_rows(rows(20), SPEC))
    real = sink._cursor

    class Failing:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def execute(self, sql: str, *values: Any) -> Any:
            return real.execute("SELECT error('no room')" if sql.startswith("INSERT") else sql, *values)

    sink._cursor = Failing()
    with pytest.raises(StoreRejected):
        sink.upsert(batch_from_rows(rows(40)[20:], SPEC))
    sink._cursor = real
    for again in (sink.flush, lambda: sink.upsert(batch_from_rows(rows(3), SPEC))):
        with pytest.raises(StoreRejected, match="was undone"):
            again()
    store.close()
    store = open_store(where)
    assert store.source().count() == 10
    store.close()


def test_rows_and_payloads_of_an_application_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    where = filled(path, 3)
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            """UPDATE articles SET payload = '{ "b": 1E2,\t"a": 9007199254740993 }' WHERE id = 'r00001'"""
        )
        connection.execute(
            "INSERT INTO articles (id, payload) VALUES ('s', '{\"b\": 1, \"a\": 2}'), ('t', 'null'), ('u', NULL)"
        )
    store = open_store(where)
    page = next(iter(store.source().scan(Partition(), batch_rows=100)))
    assert page.batch.column("payload").to_pylist() == [
        '{"n":0}',
        '{"a":{"$exitramp:int":"9007199254740993"},"b":100.0}',
        '{"n":2}',
        '{"a":2,"b":1}',
        None,
        None,
    ]
    store.close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("""UPDATE articles SET payload = '[1]' WHERE id = 't'""")
    store = open_store(where)
    with pytest.raises(DataInvalid, match="the record 't' is no object but a list"):
        ids_in(store)
    store.close()


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    path.write_bytes(b"no database" * 1000)
    store = open_store(f"duckdb:{path}#articles")
    with pytest.raises(DataInvalid, match="no DuckDB file"):
        store.source().count()
    store.close()
    store = open_store(f"duckdb:{tmp_path}#articles")
    with pytest.raises(PathUnusable, match="is a folder"):
        store.source().count()
    store.close()


needs_vss = pytest.mark.skipif(vss_path() is None, reason="duckdb-extension-vss is not installed")


@needs_vss
def test_an_index_answers_only_where_it_is_asked_for(tmp_path: Path) -> None:
    where = filled(tmp_path / "x.duckdb", 3000, options="?index=hnsw")
    query = Query(dense=np.ones(8, np.float32))
    with_index, without = open_store(where), open_store(where.replace("?index=hnsw", ""))
    assert without.search().coverage() == IndexCoverage(  # type: ignore[attr-defined]
        0, 3000, "DuckDB compares every vector although there is an HNSW index, unless ?index=hnsw asks for it"
    )
    assert with_index.search().coverage().indexed == 3000  # type: ignore[attr-defined]
    exact = without.search().search(query, k=20)
    assert with_index.search().search(query, k=20, settings=SearchSettings(exact=True)).keys == exact.keys
    by_index = with_index.search().search(query, k=20, settings=SearchSettings(options={"ef_search": 200}))
    assert len(set(by_index.keys) & set(exact.keys)) >= 18
    asked = without.search().search(query, k=20, settings=SearchSettings(options={"index": "hnsw", "ef_search": 200}))
    assert asked.keys == by_index.keys
    few = with_index.search().search(query, k=20, where=Range(("n",), lt=15))
    assert len(few.keys) == 15, "the index finds, and then filters"
    for options in ({"ef_search": 0, "index": "hnsw"}, {"ef_search": 9}, {"index": "ivf"}, {"index": "hnsw", "ef": 1}):
        with pytest.raises(UsageError):
            without.search().search(query, k=2, settings=SearchSettings(options=options))
    told = without.source().describe().index["duckdb"]["hnsw"]["vector"]
    assert (told["metric"], told["dimensions"]) == ("cosine", 8)
    with_index.close()
    without.close()


@needs_vss
def test_an_index_is_built_with_the_settings_of_the_first_one(tmp_path: Path) -> None:
    store = open_store(f"duckdb:{tmp_path}/x.duckdb?index=hnsw#articles")
    sink: Any = store.sink()
    assert sink.limits().index_settings == {"m", "ef_construction", "ef_search"}
    graph = {"chroma": {"hnsw": {"max_neighbors": 5, "ef_construction": 77, "ef_search": 33}}}
    sink.create(SPEC, Origin(replace(SPEC, index=graph), "0"))
    said: list[str] = []
    real = sink._cursor

    class Listening:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def execute(self, sql: str, *values: Any) -> Any:
            said.append(sql)
            return real.execute(sql, *values)

    sink._cursor = Listening()
    sink.upsert(batch_from_rows(rows(50), SPEC))
    sink.finish(TransferAccount())
    [made] = [sql for sql in said if "USING HNSW" in sql]
    assert made.endswith("WITH (metric = 'cosine', M = 5, ef_construction = 77, ef_search = 33)")
    assert store.search().coverage().indexed == 50  # type: ignore[attr-defined]
    assert store.search().search_options() == {"index": "hnsw", "ef_search": None}  # type: ignore[attr-defined]
    store.drop()  # type: ignore[attr-defined]
    assert store.source().identity().collections == ()
    store.close()


@needs_vss
def test_an_index_of_somebody_else_says_the_metric(tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"LOAD '{vss_path()}'")
        connection.execute("SET hnsw_enable_experimental_persistence = true")
        connection.execute('CREATE TABLE articles (id VARCHAR PRIMARY KEY, "my emb" FLOAT[8])')
        connection.execute("CREATE INDEX i ON articles USING HNSW (\"my emb\") WITH (metric = 'ip')")
    store = open_store(f"duckdb:{path}#articles")
    [field] = store.source().describe().vectors
    assert (field.name, field.metric) == ("my emb", Metric.DOT)
    store.close()


@needs_vss
def test_a_table_with_an_index_survives_a_writer_that_is_killed(tmp_path: Path) -> None:
    """The index is read from the log again; DuckDB calls it an experiment all the same."""
    path = tmp_path / "x.duckdb"
    where = filled(path, 2000, options="?index=hnsw")
    source = (
        "import sys; from exitramp.registry import open_store; from exitramp.testing.rows import batch_from_rows\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r}); from test_duckdb_file import rows, SPEC\n"
        "from exitramp.records import RecordKey\n"
        "sink = open_store(sys.argv[1]).sink()\n"
        "sink.upsert(batch_from_rows(rows(2500, seed=2)[1500:], SPEC))\n"
        "sink.delete([RecordKey('r00007')]); sink.flush(); print('flushed', flush=True)\n"
        "sink.upsert(batch_from_rows(rows(3000, seed=3)[2500:], SPEC))\n"
        "print('more', flush=True); sys.stdin.readline()\n"
    )
    writer = child(source, where)
    out: IO[str] = writer.stdout  # type: ignore[assignment]
    heard = [out.readline().strip(), out.readline().strip()]
    writer.send_signal(signal.SIGKILL)
    _, err = writer.communicate()
    assert heard == ["flushed", "more"], err[-2000:]
    assert (tmp_path / "x.duckdb.wal").exists()
    old, new = rows(2000), rows(2500, seed=2)
    wanted = {row.id: row for row in (*old[:1500], *new[1500:]) if row.id != "r00007"}
    for _ in range(2):
        store = open_store(where)
        held = [
            row
            for page in store.source().scan(Partition(), batch_rows=500)
            for row in rows_from_batch(page.batch, store.source().describe())
        ]
        assert {row.id for row in held} == set(wanted)
        assert all(np.array_equal(row.vectors["vector"], wanted[row.id].vectors["vector"]) for row in held)
        for row in new[1500:2500:100]:
            [nearest] = store.search().search(Query(dense=np.asarray(row.vectors["vector"])), k=1).keys
            assert nearest.id == row.id
        sink = store.sink()  # and it can be written to again
        sink.create(SPEC, Origin(SPEC, "0"))
        sink.upsert(batch_from_rows([new[1500]], SPEC))
        sink.flush()
        sink.finish(TransferAccount())
        store.close()


def test_fields_in_another_order_are_the_same_collection(tmp_path: Path) -> None:
    one, other = replace(FIELD, name="Id"), replace(FIELD, name="id")
    spec = replace(SPEC, vectors=(one, other))
    store = open_store(f"duckdb:{tmp_path}/x.duckdb#articles")
    sink = store.sink()
    sink.create(spec, Origin(spec, "0"))
    turned = replace(spec, vectors=(other, one))
    sink.create(turned, Origin(turned, "0"))
    vector = np.arange(8, dtype=np.float32)
    sink.upsert(batch_from_rows([Row("a", None, None, None, {"vector:Id": vector, "vector:id": -vector})], turned))
    sink.flush()
    [row] = [
        row for page in store.source().scan(Partition(), batch_rows=9) for row in rows_from_batch(page.batch, spec)
    ]
    assert np.array_equal(row.vectors["vector:Id"], vector)
    assert np.array_equal(row.vectors["vector:id"], -vector)
    store.close()
    with duckdb.connect(f"{tmp_path}/x.duckdb", read_only=True) as connection:
        found = connection.execute("SELECT * FROM articles").to_arrow_table()
    assert isinstance(found, pa.Table)
    assert found.column_names == ["id", "payload", "_exitramp", "Id_2", "id_3"]


def test_a_log_that_is_not_folded_into_the_file_is_told_of(tmp_path: Path) -> None:
    store = open_store(filled(tmp_path / "x.duckdb"))
    sink = store.sink()
    sink.create(SPEC, Origin(SPEC, "0"))
    sink.upsert(batch_from_rows(rows(5, seed=2), SPEC))
    sink.flush()
    assert not sink.finish(TransferAccount()), "nothing is to be told where all of it stands in the file"
    reader, writer = (store.cursor(write=True) for _ in range(2))  # type: ignore[attr-defined]
    reader.execute("BEGIN").execute("SELECT count(*) FROM articles").fetchall()
    writer.execute("UPDATE articles SET payload = NULL WHERE id > 'r00250'")
    [told] = sink.finish(TransferAccount()) or ()
    assert (told.code, told.verdict, told.detail) == ("target.log", None, {"file": "x.duckdb.wal"})
    assert "x.duckdb.wal" in told.message
    assert (tmp_path / "x.duckdb.wal").exists()
    reader.execute("ROLLBACK")
    assert not sink.finish(TransferAccount())
    assert not (tmp_path / "x.duckdb.wal").exists()
    store.close()
