"""`exitramp stores check`: the suite in scratch collections, what it leaves alone, and the evidence that it keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exitramp.errors import StoreUnavailable
from exitramp.testing import on_server
from exitramp.testing.memory import MemorySink
from exitramp.testing.memory_records import collections_of
from exitramp.testing.runner import Outcome
from tests.cli.conftest import Cli
from tests.drill.small_stacks import fill


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
    fill(f"memory:{name}#other-2")
    ended = cli("stores", "check", f"memory:{name}", "--scratch", "other", "--only", "stay_apart", code=1)
    assert "is there already" in ended.out
    assert sorted(collections_of(name)) == ["other-2", "scratch"]


def test_an_interrupted_check_removes_what_it_made(cli: Cli, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(suite: object, test: str, harness: on_server.ScratchHarness, arguments: object) -> Outcome:
        fill(harness.address("articles"))
        harness.open("articles").close()
        raise KeyboardInterrupt

    monkeypatch.setattr("exitramp.testing.runner._run", interrupted)
    monkeypatch.setattr(on_server, "_require_absent", lambda store, address: None)
    cli("stores", "check", f"memory:{name}", "--scratch", "scratch", code=130)
    assert not collections_of(name)


def test_no_test_that_ran_is_no_pass(cli: Cli, name: str) -> None:
    ended = cli("stores", "check", f"memory:{name}", "--scratch", "scratch", "--only", "no-such-test", code=3)
    assert "no test ran" in ended.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("memory:x#a", "--scratch", "s"), "leave out #a"),
        (("chroma+http://10.0.0.1:1", "--scratch", "s"), "--allow-writes"),
        (("faiss:./x.faiss", "--scratch", "s"), "cannot remove a collection"),
        (("memory:x",), "--scratch"),
    ],
)
def test_what_cannot_be_checked_is_refused(cli: Cli, words: tuple[str, ...], said: str) -> None:
    assert said in cli("stores", "check", *words, code=2).err


def test_a_server_that_is_away_is_no_verdict(cli: Cli, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: object) -> None:
        raise StoreUnavailable("memory: is away")

    monkeypatch.setattr("exitramp.testing.memory.MemoryStore.everything", away)
    assert "is away" in cli("stores", "check", f"memory:{name}", "--scratch", "s", code=5).err


def test_what_is_no_evidence_is_passed_over(cli: Cli) -> None:
    Path(".exitramp/checks").mkdir(parents=True)
    Path(".exitramp/checks/a.json").write_text("{")
    Path(".exitramp/checks/b.json").write_text('{"format": "exitramp-store-check", "adapter": 7}')
    assert all(row["checked"] is None for row in cli("stores", "--json", code=0).json["stores"])
