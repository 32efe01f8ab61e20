"""What a run goes on with is what it was begun with: no two choices of records come together in one dump."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exitramp.cli.main import run
from exitramp.dump import writer
from exitramp.dump.manifest import read_manifest
from exitramp.errors import StoreRejected
from exitramp.journal import read_journal
from tests.adapters.pinecone_mock import running
from tests.cli.conftest import Cli
from tests.cli.test_namespaces import ROWS, seed


@contextmanager
def _ending_before_the_manifest() -> Iterator[None]:
    def end(*_: object) -> None:
        raise StoreRejected("the disk is full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "write_manifest", end)
        yield


def _begin(cli: Cli, source: str, *words: str) -> None:
    with _ending_before_the_manifest():
        cli("dump", source, "out", *words, code=5)


@pytest.mark.parametrize(
    ("begun", "asked", "named"),
    [
        (("--namespace", "a"), ("--namespace", "b"), ("with --namespace a,", "for --namespace b")),
        (("--namespace", "a"), (), ("with --namespace a,", "for every namespace")),
        ((), ("--no-namespace",), ("with every namespace,", "for --no-namespace")),
        ((), ("--layout", "langchain"), ("with no --layout,", "for --layout langchain")),
        ((), ("--id-map", "ids.csv"), ("with no --id-map,", "for --id-map ids.csv")),
        (("--id-map", "ids.csv"), ("--id-map-back", "ids.csv"), ("with --id-map ids.csv", "for --id-map ids.csv")),
    ],
)
def test_a_dump_goes_on_with_the_choice_that_it_was_begun_with(
    cli: Cli, name: str, begun: tuple[str, ...], asked: tuple[str, ...], named: tuple[str, ...]
) -> None:
    source = seed(f"memory:{name}#articles")
    ids = sorted({row["id"] for row in _rows(source)})
    both = [*zip(ids, ids[1:] + ids[:1], strict=True)]
    Path("ids.csv").write_text("from,to\n" + "".join(f'"{a}","{b}"\n' for a, b in both), encoding="utf-8")
    _begin(cli, source, *begun)
    before = Path("out/journal.jsonl").read_bytes()
    ended = cli("dump", source, "out", *asked, code=2)
    for words in named:
        assert words in ended.err
    assert Path("out/journal.jsonl").read_bytes() == before
    cli("dump", source, "out", *begun, code=0)
    cli("verify", "out", code=0)


def _rows(source: str) -> list[dict[str, str]]:
    from exitramp.parity.alignment import read_all
    from exitramp.wrappers import open_endpoint

    with open_endpoint(source) as endpoint:
        found: list[dict[str, str]] = []
        for batch in read_all(endpoint.source(), batch_rows=100):
            found += batch.select(["id"]).to_pylist()
        return found


def test_a_dump_of_one_source_does_not_go_on_with_another(cli: Cli, name: str) -> None:
    one, other = seed(f"memory:{name}-one#articles"), seed(f"memory:{name}-other#articles")
    _begin(cli, one)
    said = cli("dump", other, "out", code=2).err
    assert f"memory:{name}-one#articles" in said
    assert f"memory:{name}-other#articles" in said


def test_a_dump_whose_journal_does_not_say_what_was_chosen_goes_on(cli: Cli, name: str) -> None:
    source = seed(f"memory:{name}#articles")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("exitramp.cli.moving.selection_of", lambda one: None)
        _begin(cli, source)
    assert "selection" not in next(iter(read_journal(Path("out/journal.jsonl")))).data
    cli("dump", source, "out", code=0)
    assert read_manifest(Path("out")).rows == ROWS


def test_a_forged_selection_is_a_corrupt_journal(cli: Cli, name: str) -> None:
    source = seed(f"memory:{name}#articles")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("exitramp.cli.moving.selection_of", lambda one: {"namespaces": 3})
        _begin(cli, source)
    assert "selection" in cli("dump", source, "out", code=4).err


def test_a_place_that_was_begun_with_one_namespace_is_refused_for_another(cli: Cli, name: str) -> None:
    source, target = seed(f"memory:{name}#articles"), f"memory:{name}-new#articles"
    identity = {"source": source, "namespaces": json.dumps(["a"]), "target": target}
    from exitramp.transfer.checkpoint import FileCheckpoint, Progress

    place = FileCheckpoint(Path("place.jsonl"), identity)
    place.acknowledge(Progress(begun=True))
    place.close(complete=False)
    said = cli("copy", source, target, "--namespace", "b", "--state", "place.jsonl", code=2).err
    assert "--namespace a" in said
    assert "--namespace b" in said
    cli("copy", source, target, "--namespace", "a", "--state", "place.jsonl", code=0)


def test_a_copy_by_way_of_a_dump_takes_no_other_namespace_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with running(tmp_path, rates=False) as mocked:
        mocked.fill("docs", {"a": ["a1", "a2"], "b": ["b1", "b2", "b3"]})
        command = ["copy", str(mocked.address("docs")), "chroma:./db#docs", "--state", "place.jsonl", "--limit", "100"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("exitramp.migration.moving._read_back", _fails)
            assert run([*command, "--namespace", "a"]) == 5
        assert Path("place.dump/manifest.json").is_file()
        capsys.readouterr()
        assert run([*command, "--namespace", "b"]) == 2
        said = capsys.readouterr().err
        assert "--namespace a" in said
        assert "--namespace b" in said
        assert run([*command, "--namespace", "a"]) == 0


def _fails(*_: object) -> None:
    raise StoreRejected("no answer")
