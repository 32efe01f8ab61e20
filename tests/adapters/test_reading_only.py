"""Reading an embedded store changes nothing in its folder but what its adapter tells users of."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from exitramp.codec import EncodingSink
from exitramp.errors import AddressError, StoreRejected, StoreUnavailable, UsageError
from exitramp.parity.alignment import read_all
from exitramp.ports import Origin, Query, TellsCoverage, TransferAccount
from exitramp.records import RecordKey
from exitramp.registry import open_store, store_adapter
from exitramp.testing.rows import batch_from_rows
from exitramp.testing.within import rows_within, spec_within
from exitramp_adapters.stores.chroma import client as chroma_client

Snapshot = dict[str, tuple[str, int]]


def filled(address: str, rows: int) -> str:
    store = open_store(address)
    sink = EncodingSink(store.sink())
    spec = spec_within(sink.limits(), "articles")
    sink.create(spec, Origin(spec, "0"))
    records = rows_within(spec, sink.limits(), rows, 1)
    for start in range(0, rows, 1000):
        sink.upsert(batch_from_rows(records[start : start + 1000], spec))
    sink.flush()
    sink.finish(TransferAccount())
    store.close()
    return address


def read_everything(address: str) -> None:
    store = open_store(address)
    source = store.source()
    source.identity(), source.describe(), source.origin(), source.count()
    assert sum(batch.num_rows for batch in read_all(source, batch_rows=500)) == source.count()
    source.fetch([RecordKey("1")])
    spec = source.describe()
    search = store.search()
    search.index_state()
    if isinstance(search, TellsCoverage):
        search.coverage()
    search.search(Query(spec.vectors[0].name, dense=np.ones(16, np.float32)), k=3)
    store.close()


def snapshot(folder: Path) -> Snapshot:
    """Of each file the hash of its bytes and the time of the last write."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in files
    }


def changed(before: Snapshot, after: Snapshot) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name, ("",))[0] != after.get(name, ("",))[0]}


def tables(path: Path, *without: str) -> list[str]:
    heads = tuple(f'INSERT INTO "{name}" ' for name in without)
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return [line for line in connection.iterdump() if not line.startswith(heads)]
    finally:
        connection.close()


@pytest.mark.parametrize("rows", [40, 1500])
def test_reading_chroma_leaves_traces_in_tables_of_its_own_and_in_its_index(tmp_path: Path, rows: int) -> None:
    address = filled(f"chroma:{tmp_path}/db#articles", rows)
    sqlite, log = tmp_path / "db" / "chroma.sqlite3", ("acquire_write", "embeddings_queue", "max_seq_id")
    held = tables(sqlite, *log)
    read_everything(address)
    assert tables(sqlite, *log) == held, "a table changed that says more than how far the index is"
    before, held = snapshot(tmp_path / "db"), tables(sqlite, "acquire_write")
    for _ in range(2):
        read_everything(address)
    assert tables(sqlite, "acquire_write") == held
    index = changed(before, snapshot(tmp_path / "db")) - {"chroma.sqlite3"}
    assert all(name.endswith(".bin") for name in index)
    assert not index or rows < 1000, "an index that was up to its log was written again"
    assert all(word in store_adapter("chroma").opening for word in ("acquire_write", "log", ".bin"))


def test_reading_qdrant_writes_some_files_again_as_they_were(tmp_path: Path) -> None:
    address = filled(f"qdrant:{tmp_path}/db#articles", 300)
    read_everything(address)
    before = snapshot(tmp_path / "db")
    read_everything(address)
    after = snapshot(tmp_path / "db")
    assert not changed(before, after)
    written = {Path(name).name for name in before if before[name] != after[name]}
    assert written <= {"edge_config.json", "segment.json", "tracker.dat", "flags_a.dat", "status.dat"}
    assert "same bytes" in store_adapter("qdrant").opening


def test_reading_faiss_touches_no_file(tmp_path: Path) -> None:
    address = filled(f"faiss:{tmp_path}/articles.faiss", 300)
    before = snapshot(tmp_path)
    read_everything(address)
    assert snapshot(tmp_path) == before
    assert not store_adapter("faiss").opening


def make_older(sqlite: Path) -> None:
    """As it would stand there if a Chroma had written it that did not know the last of the changes to its tables."""
    connection = sqlite3.connect(sqlite)
    connection.execute("DELETE FROM migrations WHERE dir = 'metadb' AND version = 6")
    connection.execute("DROP TABLE embedding_metadata_array")
    connection.commit()
    connection.close()


def test_files_of_an_older_chroma_are_not_changed_by_looking_at_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = filled(f"chroma:{tmp_path}/db#articles", 40)
    monkeypatch.setattr(chroma_client, "_OPENED", set())
    sqlite = tmp_path / "db" / "chroma.sqlite3"
    make_older(sqlite)
    before = tables(sqlite, "acquire_write")
    for role in ("source", "sink"):
        store = open_store(address)
        with pytest.raises(StoreRejected, match="older Chroma") as caught:
            store.source().count() if role == "source" else store.sink().flush()
        assert "upgrade=true" in (caught.value.hint or "")
        store.close()
    assert tables(sqlite, "acquire_write") == before
    read_everything(address.replace("#", "?upgrade=true#"))
    assert tables(sqlite, "acquire_write") != before


def test_an_upgrade_is_true_or_false(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="upgrade is true or false"):
        open_store(f"chroma:{tmp_path}?upgrade=yes#articles")
    with pytest.raises(AddressError):
        open_store("chroma+http://127.0.0.1:1?upgrade=true#articles")


HOLDER = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_locked_chroma_is_said_to_be_locked_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chroma itself waits for as long as it takes and keeps every thread of the process from running meanwhile."""
    address = filled(f"chroma:{tmp_path}/db#articles", 10)
    monkeypatch.setattr(chroma_client, "_OPENED", set())
    monkeypatch.setattr(chroma_client, "_LOCK_SECONDS", 0.1)
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "db" / "chroma.sqlite3")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        store = open_store(address)
        with pytest.raises(StoreUnavailable, match="is locked"):
            store.source().count()
        assert holder.stdin is not None
        holder.stdin.close()
        holder.wait(30)
        assert store.source().count() == 10
        store.close()
