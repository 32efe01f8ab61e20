"""`exitramp stores check`: the suite in scratch collections, what it leaves alone, and the evidence that it keeps."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import faiss
import lancedb
import numpy as np
import pytest

from exitramp.errors import CollectionExists, CollectionMissing, StoreUnavailable, UsageError
from exitramp.ports import DropsCollection, NameRule, Origin, StoreIdentity, TransferAccount
from exitramp.records import CollectionSpec
from exitramp.registry import open_store, service_adapter
from exitramp.testing import on_server
from exitramp.testing.memory import MemorySink
from exitramp.testing.memory_records import collections_of
from exitramp.testing.runner import Outcome
from exitramp.testing.within import spec_within
from exitramp.urls import Address, Network
from tests.cli.conftest import Cli
from tests.drill.small_stacks import SPEC, fill
from tests.tools.stores_page import adapters


def test_the_suite_passes_and_leaves_nothing_but_dated_evidence(cli: Cli, name: str) -> None:
    mine = fill(f"memory:{name}#mine")
    found = cli("stores", "check", f"memory:{name}", "--scratch", "scratch", "--json", code=0).json
    assert (found["failed"], found["server_version"]) == (0, found["tool"]["version"])
    assert found["passed"] > 60
    assert list(collections_of(name)) == ["mine"], "what the check made is gone, and nothing else"
    assert cli("inspect", mine, "--json", code=0).json["rows"] == 60
    kept = json.loads(Path(found["evidence"]).read_text())
    assert {**kept, "evidence": found["evidence"]} == found
    told = {row["scheme"]: row["checked"] for row in cli("stores", "--json", code=0).json["stores"]}
    assert told["memory"]["passed"] == found["passed"]
    assert f"checked by you on {kept['checked_at'][:10]} against" in cli("stores", code=0).out


def test_a_store_that_loses_something_fails(cli: Cli, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemorySink, "delete", lambda self, keys: None)
    ended = cli("stores", "check", f"memory:{name}", "--scratch", "scratch", "--only", "deleted_records", code=1)
    assert "✗ test_deleted_records_are_gone_and_absent_ones_ignored" in ended.out
    assert "evidence" not in ended.out
    assert not Path(".exitramp").exists()


def test_a_collection_that_is_there_is_not_touched(cli: Cli, name: str) -> None:
    mine = fill(f"memory:{name}#scratch")
    assert "is there already" in cli("stores", "check", f"memory:{name}", "--scratch", "scratch", code=2).err
    assert cli("inspect", mine, "--json", code=0).json["rows"] == 60
    fill(f"memory:{name}#other_2")
    ended = cli("stores", "check", f"memory:{name}", "--scratch", "other", "--only", "stay_apart", code=1)
    assert "is there already" in ended.out
    assert sorted(collections_of(name)) == ["other_2", "scratch"]


def test_an_interrupted_check_removes_what_it_made(cli: Cli, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(suite: object, test: str, harness: on_server.ScratchHarness, arguments: object) -> Outcome:
        store = harness.open("articles")
        store.sink().create(SPEC, Origin(SPEC, "1"))
        store.close()
        raise KeyboardInterrupt

    monkeypatch.setattr("exitramp.testing.runner._run", interrupted)
    cli("stores", "check", f"memory:{name}", "--scratch", "scratch", code=130)
    assert not collections_of(name)


def test_what_somebody_else_makes_of_that_name_meanwhile_is_left_alone(
    cli: Cli, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(suite: object, test: str, harness: on_server.ScratchHarness, arguments: object) -> Outcome:
        fill(harness.address("articles"))  # by another exitramp
        store = harness.open("ours")
        store.sink().create(SPEC, Origin(SPEC, "1"))
        store.close()
        return Outcome(test, "passed")

    monkeypatch.setattr("exitramp.testing.runner._run", meanwhile)
    ended = cli("stores", "check", f"memory:{name}", "--scratch", "scratch", code=2)
    assert f"memory:{name}#scratch: what is there now does not say that this check made it" in ended.err
    assert list(collections_of(name)) == ["scratch"], "theirs, and not the one that the check made"
    assert cli("inspect", f"memory:{name}#scratch", "--json", code=0).json["rows"] == 60


@pytest.mark.parametrize(
    "address", ["duckdb:./a.duckdb", "chroma:./chroma", "qdrant:./qdrant", "milvus:./m.db", "lancedb:./lance"]
)
def test_a_first_try_that_fails_removes_what_it_made_and_nothing_that_another_made_in_that_instant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """The name was free a moment ago; then somebody makes it, and what the check's own making meets is an error."""
    monkeypatch.chdir(tmp_path)
    mark = on_server.new_mark()
    for mine in (False, True):
        store = open_store(f"{address}#scratch")
        try:
            sink = store.sink()
            spec = spec_within(sink.limits(), "scratch")
            sink.create(spec, Origin(spec, mark if mine else "1"))
            sink.finish(TransferAccount())
            assert on_server.drop(store, mark) is mine
            if mine:
                with pytest.raises(CollectionMissing):
                    store.source().describe()
            else:
                assert store.source().count() == 0
                assert isinstance(store, DropsCollection)
                store.drop()
        finally:
            store.close()


def test_no_test_that_ran_is_no_pass(cli: Cli, name: str) -> None:
    ended = cli("stores", "check", f"memory:{name}", "--scratch", "scratch", "--only", "no-such-test", code=3)
    assert "no test ran" in ended.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("memory:x#a", "--scratch", "s"), "leave out #a"),
        (("chroma+http://10.0.0.1:1", "--scratch", "s"), "--allow-writes"),
        (("file:./x.jsonl", "--scratch", "s"), "only read"),
        (("faiss:./x.faiss", "--scratch", "a/b"), "without /"),
        (("sqlite-vec:./x.db", "--scratch", "exitramp_check"), "--scratch exitramp-check"),
        (("milvus:./x.db", "--scratch", "exitramp-check"), "--scratch exitramp_check"),
        (("memory:x",), "--scratch"),
    ],
)
def test_what_cannot_be_checked_is_refused(cli: Cli, words: tuple[str, ...], said: str) -> None:
    assert said in cli("stores", "check", *words, code=2).err


def _left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "address",
    ["faiss:.", "faiss:./mine.faiss", "usearch:.", "hnswlib:.", "npy:./mine.npy", "hdf5:.", "vdf:./dump"],
)
def test_stores_whose_collections_are_files_are_checked_and_leave_none(cli: Cli, address: str) -> None:
    Path("dump").mkdir()
    Path("mine.faiss").write_bytes(b"somebody's own")
    Path("mine.npy").write_bytes(b"somebody's own")
    for part in ("stay_apart", "deleted_records"):
        ended = cli("stores", "check", address, "--scratch", "scratch", "--only", part, "--json", code=0).json
        assert ended["passed"]
    assert _left(Path()) == ["mine.faiss", "mine.npy"]


@pytest.mark.parametrize(("address", "mine"), [("faiss:.", "s.faiss.exitramp"), ("npy:.", "s.npy.parquet")])
def test_a_file_that_would_be_taken_for_part_of_a_scratch_collection_is_not_touched(
    cli: Cli, address: str, mine: str
) -> None:
    Path(mine).write_bytes(b"somebody's own")
    assert "is there already" in cli("stores", "check", address, "--scratch", "s", code=2).err
    assert _left(Path()) == [mine]
    assert Path(mine).read_bytes() == b"somebody's own"


def test_an_interruption_of_the_first_collection_leaves_nothing(
    cli: Cli, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: MemorySink, account: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MemorySink, "finish", interrupted)
    cli("stores", "check", f"memory:{name}", "--scratch", "scratch", code=130)
    assert not collections_of(name)


@pytest.mark.parametrize("address", ["duckdb:./a.duckdb", "lancedb:./lance", "sqlite-vec:./a.db"])
def test_embedded_databases_are_checked_and_hold_nothing_afterwards(cli: Cli, address: str) -> None:
    for part in ("stay_apart", "deleted_records"):
        ended = cli("stores", "check", address, "--scratch", "scratch", "--only", part, "--json", code=0).json
        assert ended["passed"]
    assert _tables(address) == []


def _tables(address: str) -> list[str]:
    scheme, _, path = address.partition(":")
    if scheme == "lancedb":
        return [each.name for each in Path(path).iterdir()]
    if scheme == "duckdb":
        with duckdb.connect(path) as connection:
            return [row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE name <> 'sqlite_sequence'")
        return [row[0] for row in found]


_PLACES = {"dump": None, "weaviate+http": "weaviate+http://127.0.0.1:1?grpc_port=2#A", "redis": "redis://127.0.0.1:1#a"}
_PLACES |= {"pgvector": "pgvector://a@127.0.0.1:1/a#a", "pinecone": "pinecone://127.0.0.1:1?tls=false#a"}


def test_every_kind_of_store_that_is_written_to_can_be_checked(tmp_path: Path) -> None:
    written = [each for each in adapters() if "sink" in each.roles]
    assert len(written) > 15
    for adapter in written:
        network = f"{adapter.scheme}://127.0.0.1:1#a" if adapter.scheme.endswith("+http") else None
        place = _PLACES.get(adapter.scheme, network or f"{adapter.scheme}:{tmp_path}/{adapter.scheme}.db#a")
        if place is not None:  # a dump is one folder of open files, and no place for others
            store = open_store(Address.parse(place), Network())
            assert isinstance(store, DropsCollection), adapter.scheme
            store.close()


@pytest.mark.parametrize("scheme", ["faiss", "npy", "lancedb", "sqlite-vec"])
def test_what_exitramp_did_not_make_is_not_dropped(tmp_path: Path, scheme: str) -> None:
    made = {"faiss": "a.faiss", "npy": "a.npy?metric=cosine", "lancedb": "db?id=id&metric=cosine#a"}
    made["sqlite-vec"] = "a.db?id=id&vectors=v:float32&metric=cosine#a"
    vectors = np.eye(4, dtype=np.float32)
    if scheme == "faiss":
        index = faiss.IndexFlatIP(4)
        index.add(vectors)
        faiss.write_index(index, str(tmp_path / "a.faiss"))
    elif scheme == "npy":
        np.save(tmp_path / "a.npy", vectors)
    elif scheme == "lancedb":
        rows = [{"id": str(row), "vector": vector} for row, vector in enumerate(vectors)]
        lancedb.connect(str(tmp_path / "db")).create_table("a", rows)
    else:
        with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
            connection.execute("CREATE TABLE a (id TEXT PRIMARY KEY, v BLOB)")
            connection.execute("INSERT INTO a VALUES ('a', ?)", (vectors[0].tobytes(),))
            connection.commit()
    store = open_store(Address.parse(f"{scheme}:{tmp_path}/{made[scheme]}"), Network())
    try:
        assert isinstance(store, DropsCollection)
        with pytest.raises((UsageError, CollectionExists), match="exitramp did not"):
            store.drop()
        assert store.source().count() in (1, 4)
    finally:
        store.close()


def test_what_keeps_a_collection_from_being_made_is_said_once(
    cli: Cli, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: MemorySink, spec: CollectionSpec, origin: Origin) -> None:
        raise UsageError("nothing says where the new index shall be")

    monkeypatch.setattr(MemorySink, "create", refused)
    ended = cli("stores", "check", f"memory:{name}", "--scratch", "scratch", code=2)
    assert ended.err.count("nothing says where the new index shall be") == 1
    assert not Path(".exitramp").exists(), "no evidence of what was never run"


@pytest.mark.parametrize(
    ("pattern", "second"), [(r"[a-z_0-9]+", "check_2"), (r"[a-z0-9-]+", "check-2"), (r"[a-z0-9]+", "check2")]
)
def test_further_names_are_such_as_the_store_takes(pattern: str, second: str) -> None:
    scratch = on_server.Scratch(Address.parse("memory:x"), "check").within(NameRule(pattern))
    assert (scratch.named(0), scratch.named(1)) == ("check", second)


def test_a_server_that_is_away_is_no_verdict(cli: Cli, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: object) -> None:
        raise StoreUnavailable("memory: is away")

    monkeypatch.setattr("exitramp.testing.memory.MemoryStore.everything", away)
    assert "is away" in cli("stores", "check", f"memory:{name}", "--scratch", "s", code=5).err


@pytest.mark.parametrize(
    ("service", "scratch", "options"),
    [("mock-weaviate", "Scratch", "&"), ("mock-pinecone", "scratch", "?cloud=aws&region=us-east-1")],
)
def test_a_mock_lifts_no_label_and_a_killed_writer_leaves_nothing_behind(
    cli: Cli, tmp_path: Path, service: str, scratch: str, options: str
) -> None:
    told = {"latency_ms": 0, "rates": False} if service == "mock-pinecone" else {}
    mock = service_adapter(service).make(str(tmp_path / "mock"), 0, told)
    address = f"{mock.start()}{options}".removesuffix("&")
    try:
        only = ("--only", "writer_being_killed", "--evidence", "e.json")
        found = cli("stores", "check", address, "--scratch", scratch, *only, "--json", code=0).json
        assert (found["passed"], found["tested_against"]) == (1, "wire mocked")
        human = cli("stores", "check", address, "--scratch", scratch, *only, code=0).out
        assert "(wire mocked) at" in human
        assert there(f"{address}#{scratch}") == ()
    finally:
        mock.stop()


def there(address: str) -> tuple[str, ...]:
    store = open_store(address)
    try:
        return store.source().identity().collections
    finally:
        store.close()


def test_the_list_says_that_it_was_a_mock_that_was_checked(cli: Cli) -> None:
    told = {"format": "exitramp-store-check", "adapter": "weaviate+http", "server_version": "1.34.0", "failed": 0}
    told |= {"checked_at": "2030-01-01T00:00:00Z", "passed": 80, "skipped": 9, "tested_against": "wire mocked"}
    Path(".exitramp/checks").mkdir(parents=True)
    Path(".exitramp/checks/a.json").write_text(json.dumps(told))
    said = " ".join(cli("stores", code=0).out.split())
    assert "checked by you on 2030-01-01 against 1.34.0 (wire mocked): 80 passed" in said


def test_only_a_server_that_is_no_mock_is_one_that_was_tested_against() -> None:
    def label(evidence: str, *, is_mock: bool) -> str:
        who = StoreIdentity("a", "a:b", "1", "1", evidence=evidence, is_mock=is_mock)
        return on_server.Evidence(who, "", ()).tested_against

    assert label("wire mocked", is_mock=True) == "wire mocked"
    assert label("wire mocked", is_mock=False) == "real"
    assert label("engine real, wire emulated", is_mock=False) == "engine real, wire emulated"


def test_what_is_no_evidence_is_passed_over(cli: Cli) -> None:
    Path(".exitramp/checks").mkdir(parents=True)
    Path(".exitramp/checks/a.json").write_text("{")
    Path(".exitramp/checks/b.json").write_text('{"format": "exitramp-store-check", "adapter": 7}')
    assert all(row["checked"] is None for row in cli("stores", "--json", code=0).json["stores"])
