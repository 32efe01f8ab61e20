"""Namespaces alone or all together: taken out, put in, compared, wherever a store keeps them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from exitramp.dump.manifest import read_manifest
from exitramp.ports import Origin
from exitramp.records import CollectionSpec
from exitramp.testing.data import hard_records
from exitramp.testing.rows import batch_from_rows, rows_from_batch
from exitramp.wrappers import open_endpoint
from tests.cli.conftest import Cli
from tests.drill.small_stacks import SPEC

TENANTS: tuple[str | None, ...] = ("a", "b", None, "")
SPACED = replace(SPEC, has_namespaces=True)
ROWS = 40


def seed(address: str, spec: CollectionSpec = SPACED) -> str:
    """Forty records: ten in each of `a`, `b`, none, and the one called "", under the same ten ids."""
    plain = replace(spec, has_namespaces=False)
    rows = [row for batch in hard_records(plain, ROWS // len(TENANTS), 3) for row in rows_from_batch(batch, plain)]
    with open_endpoint(address) as endpoint:
        sink = endpoint.sink()
        sink.create(spec, Origin(spec, "test"))
        for tenant in TENANTS:
            sink.upsert(batch_from_rows([replace(row, namespace=tenant) for row in rows], spec))
        sink.flush()
    return address


@pytest.fixture(name="source")
def _source(name: str) -> str:
    return seed(f"memory:{name}#articles")


def test_inspect_tells_how_many_records_each_namespace_has(source: str, cli: Cli) -> None:
    found = cli("inspect", source, "--json", code=0).json
    assert {each["name"]: each["rows"] for each in found["namespaces"]} == dict.fromkeys(TENANTS, 10)
    assert "'a' (10)" in cli("inspect", source, code=0).out


@pytest.mark.parametrize("words", [("--namespace", "a"), ("--no-namespace",), ("--namespace", "")])
def test_one_namespace_goes_out_and_comes_back(source: str, cli: Cli, name: str, words: tuple[str, ...]) -> None:
    found = cli("dump", source, "out", *words, "--json", code=0).json
    assert found["rows"] == 10
    assert "source.namespaces" in {each["code"] for each in found["findings"]}
    told = read_manifest(Path("out")).source
    assert told is not None
    assert "namespace" in told.address
    back = cli("restore", "out", f"memory:{name}-back#articles", "--json", code=0).json
    assert back["target_digests"] == found["digests"]
    cli("compare", source, f"memory:{name}-back#articles", *words, "--no-neighbours", code=0)
    cli("compare", source, f"memory:{name}-back#articles", "--no-neighbours", code=1)


@pytest.mark.parametrize("target", ["memory:{name}-new#articles", "chroma:./db#articles"])
def test_namespaces_that_come_one_after_the_other_make_the_whole(source: str, cli: Cli, name: str, target: str) -> None:
    target = target.format(name=name)
    for words in (("--namespace", "a"), ("--namespace", "b", "--no-namespace"), ("--namespace", "")):
        found = cli("copy", source, target, *words, "--json", code=0).json
        assert found["verdict"] == "pass"
    whole = cli("compare", source, target, "--no-neighbours", "--json", code=0).json
    assert whole["rows"] == whole["rows_b"] == ROWS


def test_one_namespace_of_a_dump_is_restored(source: str, cli: Cli, name: str) -> None:
    cli("dump", source, "out", code=0)
    found = cli("restore", "out", f"memory:{name}-one#articles", "--namespace", "b", "--json", code=0).json
    assert found["rows"] == 10


def test_a_namespace_is_brought_up_to_date_and_no_other_is_touched(source: str, cli: Cli, name: str) -> None:
    target = f"memory:{name}-new#articles"
    cli("copy", source, target, "--namespace", "a", code=0)
    with open_endpoint(source) as endpoint:
        keys = [key for key in _keys(endpoint.source()) if key.namespace == "a"]
        endpoint.sink().delete(keys[:2])
    cli("copy", source, target, "--namespace", "b", code=0)
    found = cli("sync", source, target, "--namespace", "a", "--delete", "--max-deletes", "2", "--json", code=0).json
    assert found["deleted"] == 2
    cli("compare", source, target, "--namespace", "a", "--namespace", "b", "--no-neighbours", code=0)


def _keys(source):  # type: ignore[no-untyped-def]
    from exitramp.arrow import record_keys
    from exitramp.parity.alignment import read_all

    return [key for batch in read_all(source, batch_rows=100) for key in record_keys(batch)]


def test_the_plan_counts_the_namespace_alone_and_names_it_in_the_next_step(source: str, cli: Cli) -> None:
    said = cli("plan", source, "chroma:./db#articles", "--namespace", "a", code=0).out
    assert "10 records" in said
    assert "--namespace a" in said


def test_a_namespace_that_is_not_there_is_named_with_those_that_are(source: str, cli: Cli) -> None:
    ended = cli("dump", source, "out", "--namespace", "nope", code=2)
    assert "no record is in the namespace 'nope'" in ended.err
    assert "'a'" in ended.err
    assert not Path("out").exists()


def test_a_collection_without_namespaces_has_none_to_choose(cli: Cli, name: str) -> None:
    from tests.drill.small_stacks import fill

    plain = fill(f"memory:{name}-plain#articles")
    assert "has no namespaces" in cli("dump", plain, "out", "--namespace", "a", code=2).err


def test_neighbours_are_not_compared_within_some_namespaces(source: str, cli: Cli) -> None:
    assert "--no-neighbours" in cli("compare", source, source, "--namespace", "a", code=2).err


def test_each_namespace_goes_to_a_collection_of_its_own_and_back(source: str, cli: Cli, name: str) -> None:
    found = cli("copy", source, "chroma:./db", "--split-namespaces", "--json", code=0).json
    targets = [part["target"] for part in found["collections"]]
    assert targets[0] == "chroma:./db#articles"
    assert "chroma:./db#articles--a" in targets
    assert [part["rows"] for part in found["collections"]] == [10] * len(TENANTS)
    said = cli("copy", source, f"memory:{name}-said#docs", "--split-namespaces", code=0).out
    assert "namespace 'a' → docs--a" in said
    assert "4 namespaces, 40 records" in said
    back = f"memory:{name}-joined#articles"
    for tenant, target in zip((None, "", "a", "b"), targets, strict=True):
        words = ("--no-namespace",) if tenant is None else ("--namespace", tenant)
        cli("copy", target, back, *words, code=0)
    cli("compare", source, back, "--no-neighbours", code=0)


@pytest.mark.parametrize("words", [("--all",), ("--state", "x")])
def test_splitting_is_for_one_collection(source: str, cli: Cli, words: tuple[str, ...]) -> None:
    assert words[0] in cli("copy", source, "memory:x", "--split-namespaces", *words, code=2).err
