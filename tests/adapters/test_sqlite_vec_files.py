"""The file itself: read only, in use by others, left behind by a writer that was killed, or no SQLite file at all."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from exitramp.errors import (
    CollectionExists,
    CollectionMissing,
    DependencyMissing,
    IntegrityError,
    PathUnusable,
    StoreRejected,
    StoreUnavailable,
    UsageError,
)
from exitramp.ports import Origin, Partition, Query
from exitramp.records import RecordKey
from exitramp.registry import open_store
from exitramp.testing.rows import Row, batch_from_rows
from exitramp_adapters.stores.sqlite_vec import database
from tests.adapters.test_sqlite_vec import opened_file
from tests.adapters.test_sqlite_vec_search import spec_of, written

VECTORS = np.random.default_rng(1).standard_normal((60, 8), dtype=np.float32)
ROWS = [Row(f"r{number}", payload={"n": number}, vectors={"vector": VECTORS[number]}) for number in range(60)]
NOBODY = 65534


def read_everything(address: str) -> int:
    store = open_store(address)
    try:
        source, search = store.source(), store.search()
        source.identity(), source.describe(), source.origin()
        source.fetch([RecordKey("r1")])
        search.search(Query("", dense=VECTORS[3]), k=3)
        read = sum(page.batch.num_rows for page in source.scan(Partition(), batch_rows=7))
        assert read == source.count()
        return int(read)
    finally:
        store.close()


READER = """
import os, sys
from tests.adapters.test_sqlite_vec_files import NOBODY, read_everything
from exitramp.errors import ExitrampError
read_everything(sys.argv[2])  # so that all modules are loaded, of which nobody may read the files
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
try:
    print("read", read_everything(sys.argv[1]))
except ExitrampError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that everybody may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)
        Path(made).chmod(0o755)


def read_as_nobody(address: str, tmp_path: Path) -> str:
    """What a user reads who may write nowhere; a test that runs as root may itself write everywhere."""
    loaded = written(tmp_path / "loaded.db", spec_of(), ROWS)
    command = [sys.executable, "-c", READER, address, loaded]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in folder.iterdir()
    }


def test_reading_changes_no_file(tmp_path: Path) -> None:
    address = written(tmp_path / "x.db", spec_of(), ROWS)
    before = snapshot(tmp_path)
    assert before.keys() == {"x.db"}, "a copy that is finished is one file"
    assert read_everything(address) == 60
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_file_and_folder_that_may_not_be_written_are_read(folder: Path, tmp_path: Path, mode: str) -> None:
    address = written(folder / "x.db", spec_of(), ROWS)
    with opened_file(folder / "x.db") as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
    (folder / "x.db").chmod(0o444)
    folder.chmod(0o555)
    before = snapshot(folder)
    assert read_as_nobody(address, tmp_path) == "read 60"
    assert snapshot(folder) == before


def test_a_file_that_may_not_be_read_says_so(folder: Path, tmp_path: Path) -> None:
    address = written(folder / "x.db", spec_of(), ROWS)
    (folder / "x.db").chmod(0)
    assert read_as_nobody(address, tmp_path).startswith("PathUnusable")


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_scan_goes_on_while_another_process_writes(tmp_path: Path, mode: str) -> None:
    address = written(tmp_path / "x.db", spec_of(), ROWS)
    with opened_file(tmp_path / "x.db") as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
        store = open_store(address)
        scan = store.source().scan(Partition(), batch_rows=10)
        found = [next(scan)]
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM notes WHERE id = 'r30'")
        connection.execute("DELETE FROM notes_vec WHERE rowid = 31")
        found.append(next(scan))
        connection.execute("COMMIT")
        found += list(scan)
        assert sum(page.batch.num_rows for page in found) == 59
        store.close()


WRITER = """
import sys
from tests.adapters.test_sqlite_vec import opened_file
with opened_file(sys.argv[1]) as connection:
    connection.execute("BEGIN EXCLUSIVE")
    connection.execute("PRAGMA cache_size=1")
    connection.execute("UPDATE notes SET payload = payload || printf('%2000s', ' ')")
    print("holds", flush=True)
    sys.stdin.read()
"""


def test_a_file_that_another_process_holds_is_said_to_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = written(tmp_path / "x.db", spec_of(), ROWS)
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.1)
    command = [sys.executable, "-c", WRITER, str(tmp_path / "x.db")]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "holds\n"
        with pytest.raises(StoreUnavailable, match="is locked"):
            read_everything(address)
        store = open_store(address)
        with pytest.raises(StoreUnavailable, match="is locked"):
            store.sink().delete([RecordKey("r1")])
        store.close()
        holder.stdin.close()
        holder.wait(30)
    assert read_everything(address) == 60


def test_what_a_killed_writer_had_not_committed_is_taken_back(tmp_path: Path) -> None:
    """Its journal stands beside the file: without it, half of what it wrote would be read."""
    address = written(tmp_path / "x.db", spec_of(), ROWS)
    command = [sys.executable, "-c", WRITER, str(tmp_path / "x.db")]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holds\n"
        holder.send_signal(signal.SIGKILL)
        holder.wait(30)
    assert (tmp_path / "x.db-journal").stat().st_size > 0
    assert read_everything(address) == 60
    assert read_everything(address) == 60


def test_what_is_no_sqlite_file_and_what_is_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"something else entirely " * 400)
    with pytest.raises(StoreRejected, match="no SQLite file"):
        read_everything(f"sqlite-vec:{tmp_path}/x.db#notes")
    with pytest.raises(PathUnusable, match="is a folder"):
        read_everything(f"sqlite-vec:{tmp_path}#notes")
    with pytest.raises(CollectionMissing, match="there is no file"):
        read_everything(f"sqlite-vec:{tmp_path}/y.db#notes")
    address = written(tmp_path / "z.db", spec_of(), ROWS)
    with (tmp_path / "z.db").open("r+b") as file:
        file.seek(16_384)
        file.write(b"\xff" * (3 * 16_384))
    with pytest.raises(IntegrityError, match="damaged"):
        read_everything(address)


def test_no_words_of_a_text_that_is_not_utf8_are_shown(tmp_path: Path) -> None:
    address = written(tmp_path / "x.db", spec_of(), ROWS)
    with opened_file(tmp_path / "x.db") as connection:
        connection.execute("UPDATE notes SET document = CAST(x'73656372657420ff' AS TEXT) WHERE id = 'r5'")
        connection.execute("UPDATE notes SET payload = CAST(x'7b73656372657420ff' AS TEXT) WHERE id = 'r5'")
    with pytest.raises(UsageError, match="not UTF-8") as caught:
        read_everything(address)
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_a_payload_that_an_application_spoilt_is_named(tmp_path: Path) -> None:
    address = written(tmp_path / "x.db", spec_of(), ROWS)
    for spoilt, said in (("[1]", "no object"), ("{", "not JSON"), ("7", "no object")):
        with opened_file(tmp_path / "x.db") as connection:
            connection.execute("UPDATE notes SET payload = ? WHERE id = 'r5'", (spoilt,))
        with pytest.raises(UsageError, match="'r5'") as caught:
            read_everything(address)
        assert said in str(caught.value)


def test_names_that_differ_in_case_are_one_to_sqlite(tmp_path: Path) -> None:
    written(tmp_path / "x.db", spec_of(), ROWS)
    store = open_store(f"sqlite-vec:{tmp_path}/x.db#Notes")
    with pytest.raises(CollectionExists, match="does not tell upper from lower case"):
        store.sink().create(spec_of().renamed("Notes"), Origin(spec_of(), "0"))
    with pytest.raises(CollectionMissing, match="it is written 'notes'"):
        store.source().describe()
    store.close()


@pytest.mark.parametrize(
    "name", ["notes_vec", "notes_VEC_title", "a_unranked", "x_rowids", "x_vector_chunks00", "sqlite_x"]
)
def test_a_name_that_might_be_another_tables_part_is_refused(tmp_path: Path, name: str) -> None:
    store = open_store(f"sqlite-vec:{tmp_path}/x.db#{name}")
    with pytest.raises(UsageError, match="belongs to another collection"):
        store.sink().create(spec_of().renamed(name), Origin(spec_of(), "0"))
    store.close()


def test_a_load_beside_somebody_elses_tables_leaves_them_alone(tmp_path: Path) -> None:
    with opened_file(tmp_path / "x.db") as connection:
        connection.execute("PRAGMA journal_mode=wal")
        connection.execute("CREATE TABLE theirs(a INTEGER PRIMARY KEY, b)")
        connection.execute("INSERT INTO theirs VALUES (1, 'x')")
    address = written(tmp_path / "x.db", spec_of(), ROWS)
    assert read_everything(address) == 60
    with opened_file(tmp_path / "x.db") as connection:
        assert connection.execute("SELECT * FROM theirs").fetchall() == [(1, "x")]
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_one_collection_is_copied_into_another_of_the_same_file(tmp_path: Path) -> None:
    address = written(tmp_path / "x.db", spec_of(), ROWS)
    store, other = open_store(address), open_store(address.replace("#notes", "#more"))
    spec = spec_of().renamed("more")
    sink = other.sink()
    sink.create(spec, Origin(spec, "0"))
    for page in store.source().scan(Partition(), batch_rows=9):
        sink.upsert(page.batch)
    assert other.source().count() == 60
    store.close()
    other.close()


def test_a_missing_extension_is_named_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = written(tmp_path / "x.db", spec_of(), ROWS[:1])
    monkeypatch.setitem(sys.modules, "sqlite_vec", None)
    with pytest.raises(DependencyMissing, match="sqlite_vec") as caught:
        read_everything(address)
    assert "exitramp[sqlite-vec]" in str(caught.value)


def test_an_interpreter_whose_sqlite_loads_nothing_needs_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    monkeypatch.setattr(sqlite3, "Connection", object)
    monkeypatch.setitem(sys.modules, "pysqlite3", None)
    monkeypatch.setitem(sys.modules, "pysqlite3.dbapi2", None)
    with pytest.raises(DependencyMissing, match="pysqlite3"):
        database.sdk()


def test_an_upsert_that_fails_leaves_nothing_of_itself(tmp_path: Path) -> None:
    address = written(tmp_path / "x.db", spec_of(), ROWS[:10])
    with opened_file(tmp_path / "x.db") as connection:
        connection.execute("DROP TABLE notes_vec")
    store = open_store(address)
    with pytest.raises(UsageError, match="not there any more"):
        store.sink().upsert(batch_from_rows(ROWS[10:], spec_of()))
    store.close()
    with opened_file(tmp_path / "x.db") as connection:
        assert connection.execute("SELECT count(*) FROM notes").fetchone() == (10,)
