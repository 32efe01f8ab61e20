"""The commands with a Pinecone that charges: what they pay, where they stop and how they go on: wire mocked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from exitramp.cli.main import run
from exitramp.errors import SpendExceeded, UsageError
from exitramp.ports import Query
from exitramp.records import RecordKey
from exitramp.registry import service_adapter
from exitramp.wrappers import open_endpoint
from tests.adapters.pinecone_mock import Mocked, running

IDS = [f"doc-{number:04d}" for number in range(2_000)]


@pytest.fixture
def mocked(tmp_path: Path) -> Iterator[Mocked]:
    with running(tmp_path, rates=False) as found:
        yield found


def units(mocked: Mocked) -> int:
    return int(mocked.service.counters()["read_units"])


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--limit", "30", "limit=30"),
        ("--limit", "170", "limit=170"),
        ("--max-read-units", "30", "max_read_units=30"),
        ("--max-usd", "0.0005", "max_usd=0.0005"),
        ("--max-minutes", "0.000001", "max_minutes=1e-06"),
    ],
)
def test_a_dump_stops_before_a_limit_that_is_given_as_an_option(
    mocked: Mocked, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, named: str
) -> None:
    mocked.fill("docs", {"": IDS[:450]})
    before = units(mocked)
    assert run(["dump", str(mocked.address("docs")), str(tmp_path / "dump"), option, value]) == 5
    assert named in capsys.readouterr().err
    assert units(mocked) - before <= 31


def runs_until_done(mocked: Mocked, command: list[str], most: int, capsys: pytest.CaptureFixture[str]) -> list[int]:
    """What each run of `command` paid, until one succeeds."""
    paid = []
    for _ in range(40):
        before = units(mocked)
        ended = run(command)
        paid.append(units(mocked) - before)
        said = capsys.readouterr()
        assert paid[-1] <= most, "a run paid more than it may"
        if ended == 0:
            return paid
        assert ended == 5, said.err
        assert "run the same command again" in said.err
    raise AssertionError(f"the runs come to no end: {paid}")


@pytest.mark.parametrize("in_address", [False, True])
def test_a_dump_with_a_limit_goes_on_until_it_is_whole_and_pays_for_nothing_twice(
    mocked: Mocked, tmp_path: Path, capsys: pytest.CaptureFixture[str], in_address: bool
) -> None:
    mocked.fill("docs", {"": IDS, "b": IDS[:300]})
    folder = str(tmp_path / "dump")
    whole = 11 * 23
    if in_address:
        command = ["dump", str(mocked.address("docs", max_read_units=100)), folder]
    else:
        command = ["dump", str(mocked.address("docs")), folder, "--max-read-units", "100"]
    paid = runs_until_done(mocked, command, 100, capsys)
    assert len(paid) > 1
    assert whole <= sum(paid) <= whole + 8 * len(paid), f"what had been read was paid for again: {paid}"
    assert run(["verify", folder]) == 0
    capsys.readouterr()
    assert run(["inspect", f"dump:{folder}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 2300


def test_a_copy_with_a_limit_goes_on_until_it_is_whole_and_pays_for_one_reading(
    mocked: Mocked, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mocked.fill("docs", {"": IDS, "b": IDS[:300]})
    source, target = str(mocked.address("docs")), "chroma:./new#docs"
    paid = runs_until_done(mocked, ["copy", source, target, "--max-read-units", "100"], 100, capsys)
    assert len(paid) > 1
    assert 11 * 23 <= sum(paid) <= 11 * 23 + 8 * len(paid), f"what had been read was paid for again: {paid}"
    [note] = Path(".exitramp").iterdir()
    assert note.name.endswith(".done.json"), "something else of it was left behind"
    assert run(["inspect", target, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 2300
    before = units(mocked)
    assert run(["copy", source, target, "--max-read-units", "100"]) == 3, "whether the source has changed nobody knows"
    assert "finished already: 2,300 records stand" in capsys.readouterr().out
    note.unlink()
    assert run(["copy", source, target, "--max-read-units", "100"]) == 2
    assert "already holds" in capsys.readouterr().err
    assert units(mocked) == before, "it was read although the target had no room for it"


@pytest.mark.parametrize("limits", [["--max-read-units", "60"], []])
def test_a_copy_of_all_goes_on_behind_the_collections_that_are_done(
    mocked: Mocked,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    limits: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    mocked.fill("first", {"": IDS[:60]})
    mocked.fill("second", {"": IDS[:900]})
    everything = str(mocked.address("first")).partition("#")[0]
    command = ["copy", everything, "chroma:./new", "--all", "--json", *limits]
    while (ended := run(command)) == 5:
        told = {part["name"]: part for part in json.loads(capsys.readouterr().out)["collections"]}
        assert told["first"]["verdict"] is not None, told
    assert ended == (3 if limits else 0)
    capsys.readouterr()
    before = units(mocked)
    assert run(command) == 3
    again = json.loads(capsys.readouterr().out)["collections"]
    assert [(part["name"], part["rows"], part["finished_already"]) for part in again] == [
        ("first", 60, True),
        ("second", 900, True),
    ]
    assert units(mocked) == before
    with open_endpoint("chroma:./new#first") as endpoint:
        endpoint.sink().delete([RecordKey(IDS[0])])
    assert run(command) == 2, "the target holds something else now"


def test_a_dump_that_is_finished_is_not_paid_for_again(
    mocked: Mocked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mocked.fill("docs", {"": IDS[:250]})
    command = ["dump", str(mocked.address("docs")), str(tmp_path / "dump")]
    assert run(command) == 0
    before = units(mocked)
    for again in (command, [*command, "--max-read-units", "10"]):
        assert run(again) == 3, "whether the source has changed since nobody knows"
        assert "was not read again" in capsys.readouterr().out
    assert units(mocked) == before


def test_a_limit_below_what_is_looked_at_first_reads_as_much_as_it_says(
    mocked: Mocked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mocked.fill("docs", {"": IDS[:90]})
    command = ["dump", str(mocked.address("docs")), str(tmp_path / "dump"), "--limit", "40"]
    assert len(runs_until_done(mocked, command, 10, capsys)) == 3


def test_one_namespace_costs_what_is_in_it(
    mocked: Mocked, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mocked.fill("docs", {"": IDS, "a": IDS[:250], "b": IDS[:300]})
    source = str(mocked.address("docs"))

    def paid(*command: str, code: int = 0) -> tuple[int, int]:
        before = mocked.service.counters()
        assert run(list(command)) == code, capsys.readouterr().err
        after = mocked.service.counters()
        requests = sum(after[kind] - before[kind] for kind in ("list", "fetch"))
        return requests, int(after["read_units"] - before["read_units"])

    assert paid("dump", source, "./a", "--namespace", "a") == (6, 28)
    assert paid("dump", source, "./ab", "--namespace", "a", "--namespace", "b") == (12, 28 + 33)
    assert paid("dump", source, "./none", "--no-namespace") == (40, 220)
    assert paid("copy", source, "chroma:./new#docs", "--namespace", "a") == (12, 56)
    capsys.readouterr()
    assert run(["inspect", "dump:./ab", "--json"]) == 0
    held = {each["name"]: each["rows"] for each in json.loads(capsys.readouterr().out)["namespaces"]}
    assert held == {"a": 250, "b": 300}
    assert paid("plan", source, "chroma:./new#docs", "--namespace", "a", "--json", code=3) == (0, 0)
    told = json.loads(capsys.readouterr().out)["reading"]
    assert (told["rows"], told["requests"], told["read_units"]) == (250, 6, 28)
    assert paid("dump", source, "./c", "--namespace", "c", code=2) == (0, 0)
    assert "there are" in capsys.readouterr().err
    assert paid("plan", source, "chroma:./new#docs", "--namespace", "c", code=2) == (0, 0)


def test_inspect_reads_no_record_of_a_store_that_charges_unless_told_to(
    mocked: Mocked, capsys: pytest.CaptureFixture[str]
) -> None:
    mocked.fill("docs", {"": IDS[:250], "a": IDS[:130]})
    source = str(mocked.address("docs"))
    before = mocked.service.counters()
    assert run(["inspect", source]) == 0
    said = capsys.readouterr().out
    for words in ("380 by the store's count, none was read", "'a' (130)", "cosine", "money", "--measure"):
        assert words in said
    assert run(["inspect", source, "--namespace", "a", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["count"], told["rows"], told["reading"]["rows"], told["reading"]["read_units"]) == (130, None, 130, 15)
    assert told["namespaces"] == [{"name": "a", "rows": 130}]
    after = mocked.service.counters()
    assert [after[kind] - before[kind] for kind in ("list", "fetch", "query", "read_units")] == [0, 0, 0, 0]
    assert run(["inspect", source, "--measure", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 380


def test_commands_that_keep_nothing_stop_at_a_limit_and_say_that_they_begin_anew(
    mocked: Mocked, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mocked.fill("docs", {"": IDS[:450]})
    source, target = str(mocked.address("docs")), "chroma:./new#docs"
    assert run(["copy", source, target, "--max-read-units", "60"]) == 0
    capsys.readouterr()
    for command in (
        ["inspect", source, "--measure"],
        ["compare", source, target, "--no-neighbours"],
        ["compare", target, source, "--no-neighbours"],
        ["copy", source, "chroma:./other#docs", "--dry-run"],
        ["sync", source, target],
    ):
        before = units(mocked)
        assert run([*command, "--max-read-units", "30"]) == 5
        said = capsys.readouterr().err
        assert "max_read_units=30" in said
        assert "nothing is kept" in said
        assert units(mocked) - before <= 30
    assert run(["compare", target, target, "--limit", "3"]) == 2
    assert "counts no reading" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("stats", 5, "not int"),
        ("stats", {"a": "many"}, "str to str"),
        ("stats", {"a": -1}, "str to int"),
        ("rates", "no", "not str"),
        ("latency_ms", "60", "not str"),
        ("latency_ms", float("nan"), "not float"),
        ("freshness_seconds", True, "not bool"),
        ("metadata_bytes", 1.5, "not float"),
        ("pod", 1, "not int"),
    ],
)
def test_the_mock_refuses_an_option_of_another_type_when_it_is_made(
    tmp_path: Path, option: str, value: object, named: str
) -> None:
    with pytest.raises(UsageError, match=named):
        service_adapter("mock-pinecone").make(str(tmp_path), 0, {option: value})


def test_searches_end_before_a_limit_of_units(mocked: Mocked) -> None:
    mocked.fill("docs", {"": IDS[:50]})
    before = units(mocked)
    with mocked.opened("docs", max_read_units=5) as store:
        search, asked = store.search(), Query(dense=np.array([1, 0], np.float32))
        for _ in range(5):
            assert len(search.search(asked, k=3).keys) == 3
        with pytest.raises(SpendExceeded, match="max_read_units=5"):
            search.search(asked, k=3)
    assert units(mocked) - before == 5
