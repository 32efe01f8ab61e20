"""Every collection of a server in one command: dumped under one manifest, verified, restored, copied and compared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from exitramp.dump.server import SERVER, SERVER_HASH, collection_folder
from tests.cli.conftest import Cli
from tests.cli.test_data_commands import ids_of, lose
from tests.drill.small_stacks import SPEC, fill

NAMES = ("Notes", "articles", "größe")


@pytest.fixture(name="server")
def _server(name: str) -> str:
    """A server with three collections, of 30, 31 and 32 records."""
    for more, each in enumerate(NAMES):
        fill(f"memory:{name}#{each}", rows=30 + more, spec=SPEC.renamed(each))
    return f"memory:{name}"


def test_a_whole_server_goes_out_and_comes_back(server: str, cli: Cli, name: str) -> None:
    found = cli("dump", server, "out", "--all", "--json", code=0).json
    assert [(part["name"], part["rows"]) for part in found["collections"]] == list(
        zip(NAMES, (30, 31, 32), strict=True)
    )
    assert (found["verdict"], found["rows"]) == ("pass", 93)
    manifest = json.loads(Path("out", SERVER).read_text())
    assert [(part["name"], part["rows"]) for part in manifest["collections"]] == [
        ("Notes", 30),
        ("articles", 31),
        ("größe", 32),
    ]
    assert cli("verify", "out", "--json", code=0).json["verdict"] == "pass"
    back = cli("restore", "out", f"memory:{name}-new", "--all", "--json", code=0).json
    for one, other in zip(found["collections"], back["collections"], strict=True):
        assert one["digests"] == other["target_digests"]
    compared = cli("compare", server, f"memory:{name}-new", "--all", "--no-neighbours", "--json", code=0).json
    assert [part["verdict"] for part in compared["collections"]] == ["pass"] * 3


def test_names_that_the_target_does_not_take_lead_back(server: str, cli: Cli, name: str) -> None:
    cli("copy", server, "chroma:./db", "--all", code=0)
    back = cli("copy", "chroma:./db", f"memory:{name}-back", "--all", "--json", code=0).json
    assert {part["target"] for part in back["collections"]} == {f"memory:{name}-back#{each}" for each in NAMES}
    assert cli("compare", server, f"memory:{name}-back", "--all", "--no-neighbours", code=0)


def test_one_collection_of_a_server_dump_is_a_dump(server: str, cli: Cli, name: str) -> None:
    cli("dump", server, "out", "--all", code=0)
    found = cli("copy", "dump:out#articles", f"memory:{name}-one#articles", "--json", code=0).json
    assert found["rows"] == 31
    ended = cli("copy", "dump:out", f"memory:{name}-one#all", code=2)
    assert "3 collections" in ended.err
    assert "dump:out#Notes" in ended.err
    assert "dump:out#Notes" in cli("inspect", "dump:out", code=0).out
    assert "no collection 'nope'" in cli("inspect", "dump:out#nope", code=2).err


def test_a_dump_that_ended_half_way_goes_on(server: str, cli: Cli) -> None:
    whole = cli("dump", server, "out", "--all", "--json", code=0).json
    Path("out", SERVER).unlink()
    Path("out", SERVER_HASH).unlink()
    shutil.rmtree(Path("out", collection_folder("articles")))
    assert "unfinished" in cli("verify", "out", code=2).err
    assert "unfinished" in cli("inspect", "dump:out#Notes", code=2).err
    again = cli("dump", server, "out", "--all", "--json", code=0).json
    for one, other in zip(whole["collections"], again["collections"], strict=True):
        assert one["digests"] == other["digests"]
    assert [part.get("finished_already", False) for part in again["collections"]] == [True, False, True]
    cli("verify", "out", code=0)


def test_what_ends_one_collection_does_not_end_the_others(server: str, cli: Cli) -> None:
    cli("dump", server, "out", "--all", code=0)
    Path("out", SERVER).unlink()
    lose(f"{server}#articles", ids_of(f"{server}#articles")[:1])
    ended = cli("dump", server, "out", "--all", "--json", code=2).json
    assert ended["verdict"] is None
    assert [part["name"] for part in ended["collections"] if part["verdict"] is None] == ["articles"]
    assert not Path("out", SERVER).exists()


@pytest.mark.parametrize("what", ["manifest", "collection", "replaced"])
def test_damage_of_a_server_dump_is_named(server: str, cli: Cli, what: str) -> None:
    cli("dump", server, "out", "--all", code=0)
    folder = Path("out", collection_folder("Notes"))
    if what == "manifest":
        text = Path("out", SERVER).read_text()
        Path("out", SERVER).write_text(text.replace('"rows": 31', '"rows": 32'))
        assert SERVER_HASH in cli("verify", "out", code=4).err
        return
    shutil.rmtree(folder)
    if what == "replaced":
        shutil.copytree(Path("out", collection_folder("articles")), folder)
    ended = cli("verify", "out", "--json", code=4).json
    assert ended["verdict"] == "fail"
    assert folder.name in ended["findings"][0]["message"]


def test_a_collection_that_the_other_side_lacks_fails_the_comparison(server: str, cli: Cli, name: str) -> None:
    fill(f"memory:{name}-part#articles", rows=31, spec=SPEC.renamed("articles"))
    ended = cli("compare", server, f"memory:{name}-part", "--all", "--no-neighbours", "--json", code=1).json
    assert [part["verdict"] for part in ended["collections"]] == ["fail", "pass", "fail"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("dump", "{server}#articles", "out", "--all"), "leave out #articles"),
        (("copy", "{server}", "memory:x#a", "--all"), "leave out #a"),
        (("compare", "{server}", "memory:x#a", "--all"), "leave out #a"),
        (("plan", "{server}", "memory:x#a", "--all"), "leave out #a"),
        (("plan", "{server}#articles", "memory:x", "--all"), "leave out #articles"),
        (("copy", "{server}", "memory:x", "--all", "--state", "x"), "--state"),
        (("dump", "memory:empty-{server}", "out", "--all"), "holds no collection"),
    ],
)
def test_what_cannot_be_meant_is_refused(server: str, cli: Cli, words: tuple[str, ...], said: str) -> None:
    assert said in cli(*(word.format(server=server) for word in words), code=2).err
    assert not Path("out").exists()


def test_two_collections_never_end_in_one(server: str, cli: Cli) -> None:
    ended = cli("copy", server, "faiss:./one.faiss", "--all", "--json")
    assert ended.code != 0
    assert sum(part["verdict"] == "pass" for part in ended.json["collections"]) <= 1


def test_a_plan_of_all_plans_each_and_writes_nothing(server: str, cli: Cli) -> None:
    found = cli("plan", server, "chroma:./db", "--all", "--json", code=0).json
    assert [(part["name"], part["verdict"], part["rows"]) for part in found["collections"]] == [
        ("Notes", "pass", 30),
        ("articles", "pass", 31),
        ("größe", "pass", 32),
    ]
    assert (found["verdict"], found["rows"]) == ("pass", 93)
    assert all(part["plan"] for part in found["collections"])
    alone = cli("plan", f"{server}#articles", "chroma:./db#articles", "--json", code=0).json
    [part] = [part for part in found["collections"] if part["name"] == "articles"]
    assert part["plan"] == alone["plan"]
    assert not Path("db").exists()
    cli("copy", server, "chroma:./db", "--all", code=0)
    targets = [part["target"] for part in found["collections"]]
    assert targets == [
        part["target"] for part in cli("copy", server, "chroma:./db", "--all", "--json", code=0).json["collections"]
    ]


def test_a_plan_of_all_says_each_by_its_name_and_what_all_are(server: str, cli: Cli) -> None:
    said = cli("plan", server, "chroma:./db", "--all", code=0).out
    assert "── größe (3 of 3)" in said
    assert f"next: exitramp copy '{server}#articles' 'chroma:./db#articles'" in said
    assert "planned: 3 collections, 93 records to chroma:./db; nothing was written" in said.splitlines()[-1]


def test_a_plan_of_all_names_what_would_not_go(server: str, cli: Cli, name: str) -> None:
    fill(f"memory:{name}-new#articles", rows=31, spec=SPEC.renamed("articles"))
    found = cli("plan", server, f"memory:{name}-new", "--all", "--json", code=3).json
    assert [part["verdict"] for part in found["collections"]] == ["pass", "inconclusive", "pass"]
    ended = cli("plan", server, "faiss:./one.faiss", "--all", "--json", code=2).json
    assert [part["verdict"] is None for part in ended["collections"]] == [False, True, True]
    assert "'Notes' would go, too" in ended["collections"][1]["error"]


def test_a_store_without_a_collection_lists_those_it_holds(server: str, cli: Cli) -> None:
    found = cli("inspect", server, "--json", code=0).json
    assert [each["name"] for each in found["collections"]] == list(NAMES)
    assert cli("inspect", found["collections"][1]["address"], "--json", code=0).json["rows"] == 31
    assert "3 collections" in cli("inspect", server, code=0).out
    assert "no collection" in cli("inspect", "memory:nothing-there", code=2).err


def test_a_dry_run_of_all_says_that_nothing_was_written(server: str, cli: Cli, name: str) -> None:
    told = cli("copy", server, f"memory:{name}-dry", "--all", "--dry-run", code=0)
    assert "nothing was written" in told.out.splitlines()[-1]
    assert "→" not in told.out.splitlines()[-1]
    cli("inspect", f"memory:{name}-dry", code=2)
