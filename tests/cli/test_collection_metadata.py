"""What a store's user wrote down of a collection goes along: seen, planned for, and there again on the way back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exitramp.ports import Origin, Service
from exitramp.ports.collection_metadata import own_metadata, shown, with_metadata
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import service_adapter
from exitramp.testing.memory import LIMITS
from exitramp.transfer.metadata import kept
from tests.adapters.test_chroma import EmbeddedHarness
from tests.adapters.test_qdrant_http import HttpHarness
from tests.cli.conftest import Cli
from tests.cli.test_data_commands import lose

VALUES = {"team": "kb-secretly", "revision": 3, "ratio": 0.1234567890123456, "public": True}
KEYS = "public, ratio, revision, team"
SOURCE = "chroma:./first#articles"
FIELD = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 3)


@pytest.fixture(name="source")
def _source(cli: Cli) -> str:
    """A Chroma collection of an application's own, with words of its user's on it."""
    with EmbeddedHarness(Path("first")).client() as client:
        collection = client.create_collection(
            "articles",
            embedding_function=None,
            metadata=VALUES | {"hnsw:space": "ip"},
        )
        collection.add(ids=["a", "b", "c"], embeddings=[[1.0, 2.0, float(row)] for row in range(3)])
    return SOURCE


@pytest.fixture(name="shim", scope="module")
def _shim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = service_adapter("qdrant-shim").make(str(tmp_path_factory.mktemp("shim")), 0, {})
    service.start()
    yield service
    service.stop()


def in_chroma(folder: str, name: str = "articles") -> dict[str, Any]:
    with EmbeddedHarness(Path(folder)).client() as client:
        found = client.get_collection(name, embedding_function=None).metadata or {}
    return {key: value for key, value in found.items() if not key.startswith("_exitramp")}


def line(found: Any) -> Any:
    """The plan's line on metadata."""
    [told] = [each for each in found["plan"] if each["subject"] == "metadata"]
    return told["class"], told["how"]


@pytest.mark.parametrize(
    "stations",
    [
        ("chroma:./back#articles",),
        ("qdrant:./new#articles", "chroma:./back#articles"),
        ("faiss:./new.faiss", "chroma:./back#articles"),
        ("memory:{name}#articles", "chroma:./back#articles"),
        ("dump", "chroma:./back#articles"),
        ("qdrant:./new#articles", "dump", "chroma:./back#articles"),
        ("qdrant:./new#articles", "faiss:./new.faiss", "qdrant:./newer#articles", "dump", "chroma:./back#articles"),
    ],
)
def test_the_way_back_brings_it_home(stations: tuple[str, ...], source: str, name: str, cli: Cli) -> None:
    at = source
    for station in stations:
        target = station.format(name=name)
        if station == "dump":
            cli("dump", at, "out", code=0)
            target = "dump:out"
        elif at == "dump:out":
            cli("restore", "out", target, code=0)
        else:
            cli("copy", at, target, code=0)
        assert KEYS in " ".join(cli("inspect", target, code=0).out.split())
        at = target
    home = in_chroma("back")
    assert home == VALUES
    assert {key: type(value) for key, value in home.items()} == {key: type(value) for key, value in VALUES.items()}


def test_keys_are_shown_and_values_only_where_they_are_asked_for(source: str, cli: Cli) -> None:
    cli("copy", source, "qdrant:./new#articles", code=0)
    assert f"  metadata    {KEYS}\n" in cli("inspect", source, code=0).out
    assert f"  metadata    {KEYS} (kept of where it came from)\n" in cli("inspect", "qdrant:./new#articles").out
    for words in (
        ("inspect", source),
        ("inspect", "qdrant:./new#articles"),
        ("plan", source, "chroma:./back#articles"),
        ("plan", source, "qdrant:./other#articles"),
        ("compare", source, "qdrant:./new#articles", "--no-neighbours"),
    ):
        for more in ((), ("--json",)):
            assert "kb-secretly" not in cli(*words, *more, code=0).out, words
    asked = cli("inspect", source, "--show-values", "team", code=0).out
    assert '  metadata    public, ratio, revision, team = "kb-secretly"\n' in asked
    [told] = cli("inspect", source, "--show-values", "team", "--json", code=0).json["metadata"]
    assert told["keys"] == {"public": "bool", "ratio": "float", "revision": "int", "team": "string"}
    assert told["values"] == {"team": "kb-secretly"}
    assert told["own"] is True


def test_the_plan_says_what_becomes_of_it(source: str, cli: Cli) -> None:
    exact = cli("plan", source, "chroma:./back#articles", "--json", code=0).json
    assert line(exact) == ("exact", f"{KEYS} kept as the collection's own")
    beside = cli("plan", source, "qdrant:./new#articles", "--json", code=0).json
    assert line(beside) == ("reversible", f"{KEYS} kept beside the collection, for the way back")
    cli("copy", source, "qdrant:./new#articles", code=0)
    again = cli("plan", "qdrant:./new#articles", "chroma:./back#articles", "--json", code=0).json
    assert line(again)[0] == "exact"


def test_a_collection_without_any_has_no_line_for_it(name: str, source: str, cli: Cli) -> None:
    cli("copy", source, f"memory:{name}#articles", code=0)
    with EmbeddedHarness(Path("plain")).client() as client:
        collection = client.create_collection("articles", embedding_function=None)
        collection.add(ids=["a"], embeddings=[[1.0, 2.0, 3.0]])
    found = cli("plan", "chroma:./plain#articles", "qdrant:./new#articles", "--json", code=0).json
    assert "metadata" not in {each["subject"] for each in found["plan"]}
    assert "  metadata" not in cli("inspect", "chroma:./plain#articles", code=0).out


def test_a_collection_that_is_there_keeps_its_own_and_the_plan_says_so(source: str, cli: Cli) -> None:
    with EmbeddedHarness(Path("theirs")).client() as client:
        collection = client.create_collection(
            "articles", embedding_function=None, metadata={"team": "other", "hnsw:space": "ip"}
        )
        collection.add(ids=["z"], embeddings=[[1.0, 2.0, 3.0]])
    found = cli("plan", source, "chroma:./theirs#articles", "--json", code=3).json
    [told] = [each for each in found["findings"] if each["code"] == "target.metadata"]
    assert "keeps its own metadata: public, ratio, revision, team would not be written to it" in told["message"]
    assert "metadata" not in {each["subject"] for each in found["plan"]}
    cli("copy", source, "chroma:./theirs#articles", "--into-existing", code=3)
    assert in_chroma("theirs") == {"team": "other", "hnsw:space": "ip"}


def test_catching_up_has_nothing_to_say_of_what_the_target_has_already(source: str, cli: Cli) -> None:
    for target in ("qdrant:./new#articles", "chroma:./back#articles"):
        cli("copy", source, target, code=0)
        lose(target, ["b"])
        done = cli("sync", source, target, "--json", code=0).json
        assert "target.metadata" not in {each["code"] for each in done["findings"]}
        assert line(done)[0] == ("exact" if "chroma" in target else "reversible")
        compared = cli("compare", source, target, "--no-neighbours", "--json", code=0).json
        assert "collection.metadata" not in {each["code"] for each in compared["findings"]}


def test_what_its_user_changed_or_took_away_in_the_new_store_counts(source: str, cli: Cli) -> None:
    cli("copy", source, "chroma:./back#articles", code=0)
    with EmbeddedHarness(Path("back")).client() as client:
        found = client.get_collection("articles", embedding_function=None)
        note = {key: value for key, value in found.metadata.items() if key.startswith("_exitramp")}
        found.modify(metadata=note)
    assert "  metadata" not in cli("inspect", "chroma:./back#articles", code=0).out
    said = cli("compare", source, "chroma:./back#articles", "--no-neighbours", code=0).out
    assert f"the two sides' own metadata differs: {KEYS}" in said
    cli("copy", "chroma:./back#articles", "chroma:./third#articles", code=0)
    assert in_chroma("third") == {}


def test_a_server_that_has_metadata_of_its_own_keeps_both_sorts_apart(source: str, shim: Service, cli: Cli) -> None:
    base = str(service_address(shim))
    harness = HttpHarness(shim, base)
    mine = {"squad": "search", "nested": {"deep": [1, 2.5, "x"]}}
    with harness.client() as client:
        from qdrant_client import models

        client.create_collection(
            "mine", vectors_config=models.VectorParams(size=3, distance=models.Distance.DOT), metadata=mine
        )
        client.upsert("mine", [models.PointStruct(id=1, vector=[1.0, 2.0, 3.0], payload={"n": 1})], wait=True)
    # Qdrant's own, through Chroma and back again.
    found = cli("plan", f"{base}#mine", "chroma:./between#mine", "--json", code=0).json
    assert line(found) == ("reversible", "nested, squad kept beside the collection, for the way back")
    cli("copy", f"{base}#mine", "chroma:./between#mine", code=0)
    assert in_chroma("between", "mine") == {}
    found = cli("plan", "chroma:./between#mine", f"{base}#again", "--json", code=0).json
    assert line(found)[0] == "exact"
    cli("copy", "chroma:./between#mine", f"{base}#again", code=0)
    assert in_qdrant(harness, "again") == mine
    # Chroma's, through Qdrant, which gets words of its own there.
    cli("copy", source, f"{base}#theirs", code=0)
    with harness.client() as client:
        client.update_collection("theirs", metadata={"squad": "ops"})
    found = cli("plan", f"{base}#theirs", "chroma:./back#articles", "--json", code=0).json
    assert line(found) == (
        "reversible", f"squad kept beside the collection, for the way back; {KEYS} kept as the collection's own",
    )  # fmt: skip
    cli("copy", f"{base}#theirs", "chroma:./back#articles", code=0)
    assert in_chroma("back") == VALUES
    cli("copy", "chroma:./back#articles", f"{base}#last", code=0)
    assert in_qdrant(harness, "last") == {"squad": "ops"}


def service_address(service: Service) -> Any:
    return service.address  # type: ignore[attr-defined]


def in_qdrant(harness: HttpHarness, name: str) -> dict[str, Any]:
    with harness.client() as client:
        found = client.get_collection(name).config.metadata or {}
    return {key: value for key, value in found.items() if key != "exitramp_origin"}


def test_a_store_without_room_for_the_origin_loses_what_it_has_no_place_for() -> None:
    metadata = {("chroma", "metadata"): {"team": "kb"}}
    from dataclasses import replace

    narrow = replace(LIMITS, keeps_origin=False)
    assert kept(metadata, narrow, there=None, told=True).lost == ("team",)
    assert kept(metadata, LIMITS, there=None, told=True).beside == ("team",)
    at_home = replace(LIMITS, metadata=("chroma", "metadata"))
    assert kept(metadata, at_home, there=None, told=True).exact == ("team",)
    assert kept(metadata, at_home, there={}, told=True).unwritten == ("team",)
    assert kept(metadata, at_home, there=metadata, told=False).exact == ("team",)
    assert kept(
        {("chroma", "metadata"): {"n": 1}}, at_home, there={("chroma", "metadata"): {"n": True}}, told=True
    ) == (kept({("chroma", "metadata"): {"n": 1}}, at_home, there={}, told=True)), "1 is not true"


def test_what_stands_in_the_index_is_found_and_put_there_and_nothing_else_is_touched() -> None:
    index = {"chroma": {"hnsw": {"m": 16}, "metadata": {"team": "kb"}}, "params": {"size": 3}}
    spec = CollectionSpec("articles", IdKind.STRING, (FIELD,), index=index)
    assert own_metadata(spec, None) == {("chroma", "metadata"): {"team": "kb"}}
    assert own_metadata(with_metadata(spec, {}), Origin(spec, "test")) == {("chroma", "metadata"): {"team": "kb"}}
    bare = CollectionSpec("articles", IdKind.STRING, (FIELD,), index={"chroma": {"metadata": {}}})
    assert own_metadata(bare, Origin(spec, "test")) == {}, "its user has taken it away"
    assert with_metadata(spec, {("metadata",): {"a": 1}}).index == {
        "chroma": {"hnsw": {"m": 16}}, "params": {"size": 3}, "metadata": {"a": 1},
    }  # fmt: skip
    assert shown(spec).index == {"chroma": {"hnsw": {"m": 16}, "metadata": {"team": "string"}}, "params": {"size": 3}}
    assert index["chroma"]["metadata"] == {"team": "kb"}
