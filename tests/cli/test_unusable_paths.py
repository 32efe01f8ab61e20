"""A path that this user may not read or write ends every command alike: exit 2, what it is, and a next step."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from chromadb.errors import InternalError

from exitramp.cli.main import run
from exitramp.errors import PathUnusable, StoreError
from exitramp.urls import Address
from exitramp_adapters.stores.chroma import client as chroma_client
from tests.cli.conftest import Cli, Ended
from tests.drill.small_stacks import fill

NOBODY = 65_534
PLACES = {"chroma": "chroma:{}/chroma#articles", "qdrant": "qdrant:{}/qdrant#articles", "faiss": "faiss:{}/a.faiss"}


@contextmanager
def nobody() -> Iterator[None]:
    """As a user with no rights of their own, where the tests run as one who may do everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def shut(path: Path, mode: int) -> Iterator[None]:
    before = path.stat().st_mode
    path.chmod(mode)
    try:
        with nobody():
            yield
    finally:
        path.chmod(before)


@pytest.fixture(name="folder")
def _folder(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder that anybody may come into and write to: those above pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o777)
        monkeypatch.chdir(folder)
        yield folder


@pytest.fixture(name="made", scope="module")
def _made() -> Iterator[Path]:
    """The same few records in every embedded store and in a dump; whatever a command imports is imported by then."""
    with tempfile.TemporaryDirectory() as folder:
        source = fill("memory:unusable-paths#articles", rows=5)
        for place in PLACES.values():
            assert run(["copy", source, place.format(folder), "--state", f"{folder}/state"]) == 0
            assert run(["inspect", place.format(folder)]) == 0
        assert run(["dump", source, f"{folder}/dump"]) == 0
        assert run(["verify", f"{folder}/dump"]) == 0
        yield Path(folder)


@pytest.fixture(name="stores")
def _stores(folder: Path, made: Path) -> Path:
    """Copies of them, since of what this process has opened itself Chroma keeps hold."""
    shutil.copytree(made, folder / "copied")
    for path in [folder / "copied", *(folder / "copied").rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    return folder / "copied"


def told(ended: Ended, what: str, step: str = "") -> None:
    assert ended.code == 2, ended
    first, second = ended.err.strip().splitlines()
    assert first.startswith("error: ")
    assert what in first
    assert second.startswith("  next: ")
    assert step in second
    assert not ended.out


@pytest.mark.parametrize(
    "path", ["dump", "dump/manifest.json", "dump/journal.jsonl", "dump/shards", "dump/shards/{shard}"]
)
def test_a_dump_that_may_not_be_read_is_accused_of_nothing(path: str, stores: Path, cli: Cli) -> None:
    [shard] = (stores / "dump" / "shards").iterdir()
    with shut(stores / path.format(shard=shard.name), 0o000):
        ended = cli("verify", stores / "dump")
        other = cli("inspect", f"dump:{stores}/dump") if path != "dump/journal.jsonl" else ended
    for each in (ended, other):
        told(each, "cannot be read: Permission denied", "allow yourself to read it")
        assert "missing" not in each.err
        assert "belong" not in each.err
        assert "there is no folder" not in each.err


def test_a_dump_that_may_not_be_read_is_told_to_machines_too(stores: Path, cli: Cli) -> None:
    with shut(stores / "dump" / "shards", 0o000):
        found = cli("verify", stores / "dump", "--json", code=2).json
    assert found["error"]["kind"] == "PathUnusable"
    assert found["exit_code"] == 2
    assert "allow yourself" in found["error"]["next"]


def test_a_shard_that_may_not_be_read_is_no_damaged_one_where_shards_are_not_checked(stores: Path, cli: Cli) -> None:
    [shard] = (stores / "dump" / "shards").iterdir()
    with shut(shard, 0o000):
        told(cli("inspect", f"dump:{stores}/dump?check=no"), "cannot be read: Permission denied")


def test_a_folder_above_that_may_not_be_entered_hides_nothing(stores: Path, cli: Cli) -> None:
    with shut(stores, 0o000):
        told(cli("verify", stores / "dump"), "cannot be read: Permission denied")
        for place in PLACES.values():
            told(cli("inspect", place.format(stores)), "Permission denied", "allow yourself")


@pytest.mark.parametrize(
    ("store", "path"),
    [
        ("chroma", "chroma/chroma.sqlite3"),
        ("chroma", "chroma"),
        ("qdrant", "qdrant"),
        ("qdrant", "qdrant/articles"),
        ("qdrant", "qdrant/articles/exitramp.json"),
        ("faiss", "a.faiss"),
        ("faiss", "a.faiss.exitramp"),
    ],
)
def test_a_store_whose_files_may_not_be_read_says_which(store: str, path: str, stores: Path, cli: Cli) -> None:
    with shut(stores / path, 0o000):
        told(cli("inspect", PLACES[store].format(stores)), "cannot be read: Permission denied", "allow yourself")


@pytest.mark.parametrize(("store", "what"), [("chroma", "Chroma writes"), ("qdrant", "Qdrant's engine writes")])
@pytest.mark.parametrize("which", ["folders", "all"])
def test_an_engine_that_cannot_but_write_says_to_copy_the_folder(
    store: str, what: str, which: str, stores: Path, cli: Cli
) -> None:
    root = stores / store
    for path in [*root.rglob("*"), root]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    if which == "folders" and store == "chroma":
        (root / "chroma.sqlite3").chmod(0o666)
    with nobody():
        told(cli("inspect", PLACES[store].format(stores)), "cannot be written: Permission denied", what)
        told(cli("dump", PLACES[store].format(stores), "out"), "cannot be written", "where it only reads: copy")


@pytest.mark.parametrize("which", ["*/", "*/*.bin"])
def test_an_index_of_chroma_that_may_not_be_read_is_not_called_damaged(which: str, stores: Path, cli: Cli) -> None:
    inside = next((stores / "chroma").glob("*/"), None)
    if inside is None or not list(inside.glob("*.bin")):  # a small collection has no index files yet
        inside = stores / "chroma" / "an-index"
        inside.mkdir(exist_ok=True)
        (inside / "header.bin").write_bytes(b"index")
    [path, *_] = (stores / "chroma").glob(which)
    with shut(path, 0o000):
        told(cli("inspect", PLACES["chroma"].format(stores)), "cannot be read: Permission denied", "allow yourself")


def test_a_faiss_file_is_read_where_nothing_may_be_written(stores: Path, cli: Cli) -> None:
    with shut(stores, 0o555):
        cli("inspect", PLACES["faiss"].format(stores), code=0)
        cli("verify", stores / "dump", code=0)


@pytest.mark.parametrize("store", [*PLACES, "dump"])
def test_a_target_in_a_folder_that_may_not_be_written_to_says_so(
    store: str, stores: Path, folder: Path, name: str, cli: Cli
) -> None:
    closed = folder / "closed"
    closed.mkdir()
    with shut(closed, 0o555):
        if store == "dump":
            ended = cli("dump", fill(f"memory:{name}#articles", rows=3), closed / "new")
        else:
            ended = cli("restore", stores / "dump", PLACES[store].format(closed), "--state", folder / "state.jsonl")
    told(ended, "cannot be written: Permission denied", "allow yourself to write it")
    assert not list(closed.iterdir())


@pytest.mark.parametrize(
    ("place", "what"),
    [
        ("qdrant:file#articles", "file"),
        ("chroma:file#articles", "file"),
        ("faiss:file/a.faiss", "file/a.faiss"),
        ("faiss:nowhere/a.faiss", "nowhere/a.faiss"),
    ],
)
def test_a_file_where_a_folder_is_wanted_is_told(place: str, what: str, folder: Path, name: str, cli: Cli) -> None:
    (folder / "file").write_text("mine", encoding="utf-8")
    ended = cli("copy", fill(f"memory:{name}#articles", rows=3), place)
    told(ended, what, "folder")
    assert "Errno" not in ended.err
    assert "os error" not in ended.err
    assert (folder / "file").read_text(encoding="utf-8") == "mine"


def test_a_file_that_is_read_as_a_folder_of_collections_is_told(folder: Path, cli: Cli) -> None:
    (folder / "file").write_text("mine", encoding="utf-8")
    told(cli("inspect", "qdrant:file#articles"), "no collection", "file is a file: name the folder")


def test_a_comparison_is_not_lost_where_its_ids_cannot_be_written(folder: Path, name: str, cli: Cli) -> None:
    one, other = fill(f"memory:{name}-1#articles", rows=8), fill(f"memory:{name}-2#articles", rows=5)
    words = ("compare", one, other, "--no-neighbours")
    cli(*words, code=1)
    Path("compare-ids.jsonl").unlink()
    with shut(folder, 0o555):
        found = cli(*words, "--json", code=1).json
        said = cli(*words, code=1)
    assert found["ids_file"] is None
    [refused] = [each for each in found["findings"] if each["code"] == "compare.ids_file"]
    assert refused["detail"]["next"] == "give another file with --ids"
    assert "3 records of A are not in B" in said.out
    assert "compare-ids.jsonl: cannot be written (Permission denied)" in said.out


def test_what_chroma_says_of_a_file_that_turned_read_only_is_translated() -> None:
    said = "error returned from database: (code: 8) attempt to write a readonly database"
    with (
        pytest.raises(PathUnusable, match="copy db to where you may write"),
        chroma_client.translated(Address.parse("chroma:db#a")),
    ):
        raise InternalError(said)
    with pytest.raises(StoreError), chroma_client.translated(Address.parse("chroma+http://127.0.0.1:1#a")):
        raise InternalError(said)
