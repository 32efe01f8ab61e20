"""A loss that was accepted for a copy is accepted for its comparison in the same word; without it the verdict stays."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from exitramp.ports import Origin
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.testing.rows import Row, batch_from_rows, rows_from_batch
from exitramp.wrappers import open_endpoint
from tests.cli.conftest import Cli, Ended

ROWS = 12
FIELD = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 8)
SPEC = CollectionSpec("articles", IdKind.STRING, (FIELD,), has_documents=True)
NEW = "qdrant:./new#articles"


def records(length: float) -> list[Row]:
    """Seeded records whose vectors are of this length, give or take a half of it."""
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(ROWS, 8))
    vectors *= (length * rng.uniform(0.5, 1.5, ROWS) / np.linalg.norm(vectors, axis=1))[:, None]
    return [
        Row(f"doc-{row}", None, f"text {row}", {"n": row}, {"vector": vector.astype(np.float32)})
        for row, vector in enumerate(vectors)
    ]


def put(address: str, rows: list[Row], spec: CollectionSpec = SPEC) -> str:
    with open_endpoint(address) as endpoint:
        sink = endpoint.sink()
        sink.create(spec, Origin(spec, "test"))
        sink.upsert(batch_from_rows(rows, spec))
        sink.flush()
    return address


def changed(address: str, id_: str, change: Callable[[np.ndarray[Any, Any]], Any]) -> None:
    """Puts another vector in one record's place."""
    with open_endpoint(address) as endpoint:
        source, sink = endpoint.source(), endpoint.sink()
        spec = source.describe()
        [page] = source.scan(source.partitions(1)[0], batch_rows=100)
        [row] = [each for each in rows_from_batch(page.batch, spec) if each.id == id_]
        vector = np.asarray(change(np.asarray(row.vectors["vector"])), np.float32)
        sink.create(spec, Origin(spec, "test"))
        sink.upsert(batch_from_rows([replace(row, vectors={"vector": vector})], spec))
        sink.flush()


def magnitude(ended: Ended) -> Any:
    found = [each for each in ended.json["findings"] if each["code"] == "records.magnitude"]
    assert len(found) <= 1
    return found[0] if found else None


@pytest.fixture(name="source")
def _source(name: str) -> str:
    return put(f"memory:{name}#articles", records(3.0))


@pytest.fixture(name="moved")
def _moved(source: str, cli: Cli) -> str:
    cli("copy", source, NEW, "--accept-loss", "vector", code=0)
    return source


def test_the_way_from_plan_over_restore_to_comparison_ends_as_it_was_accepted(source: str, cli: Cli) -> None:
    assert "--accept-loss vector" in cli("plan", source, NEW, code=0).out
    cli("dump", source, "out", code=0)
    restored = cli("restore", "out", NEW, "--accept-loss", "vector", code=0)
    read_back = "ids and payloads are the same; vector differs by what the plan announced, and by no more (magnitude)"
    assert f"  read back: {read_back}\n" in restored.out
    failed = cli("compare", source, NEW, code=1)
    assert f"all {ROWS} of those agree in direction (cosine >= 0.999999): what differs is the magnitude" in failed.out
    assert "the store of B scales vectors to unit length under cosine, which a plan calls lossy" in failed.out
    assert "next: if that loss was accepted, add --accept-loss vector" in failed.out
    for a in (source, "dump:out"):
        passed = cli("compare", a, NEW, "--accept-loss", "vector", "--no-neighbours", "--json", code=0)
        assert passed.json["accepted"] == ["vector"]
        assert magnitude(passed) is None
        [vector] = passed.json["records"]["fields"]
        assert vector["tolerance"]["source"] == "the plan announced: magnitude"
        assert vector["beyond_tolerance"] == 0
    cli("sync", source, NEW, "--accept-loss", "vector", code=0)


def test_what_was_not_accepted_stays_a_failure(moved: str, cli: Cli) -> None:
    for more in ((), ("--accept-loss", "document"), ("--accept-loss", "vector", "--tolerance", "vector=exact")):
        ended = cli("compare", moved, NEW, "--no-neighbours", "--json", *more, code=1)
        assert magnitude(ended)["count"] == ROWS
        assert magnitude(ended)["verdict"] is None
        [vector] = ended.json["records"]["fields"]
        assert (vector["beyond_tolerance"], vector["beyond_in_magnitude_only"]) == (ROWS, ROWS)


def test_consent_to_lost_magnitude_is_none_to_another_direction(moved: str, cli: Cli) -> None:
    changed(NEW, "doc-3", lambda vector: vector[::-1])
    ended = cli("compare", moved, NEW, "--no-neighbours", code=1)
    assert f"{ROWS - 1} of those {ROWS} (the other differs in more) agree in direction" in ended.out
    ended = cli("compare", moved, NEW, "--no-neighbours", "--accept-loss", "vector", "--json", code=1)
    [told] = [each for each in ended.json["findings"] if each["code"] == "records.vector"]
    assert told["ids"] == ["doc-3"]
    assert magnitude(ended) is None


def test_two_stores_the_other_way_round_are_told_how_to_be_asked(moved: str, cli: Cli) -> None:
    ended = cli("compare", NEW, moved, "--no-neighbours", code=1)
    assert "the store of A scales vectors" in ended.out
    assert "next: if that loss was accepted, compare them the other way round, with --accept-loss vector" in ended.out


def test_a_store_that_scales_nothing_is_no_excuse(source: str, name: str, cli: Cli) -> None:
    other = put(f"memory:{name}-unit#articles", [_unit(row) for row in records(3.0)])
    ended = cli("compare", source, other, "--no-neighbours", "--json", code=1)
    assert magnitude(ended) is None
    assert "--accept-loss" not in cli("compare", source, other, "--no-neighbours", code=1).out


def _unit(row: Row) -> Row:
    vector = np.asarray(row.vectors["vector"], np.float64)
    return replace(row, vectors={"vector": (vector / np.linalg.norm(vector)).astype(np.float32)})


def test_vectors_that_differ_in_length_where_the_store_scales_are_only_excused_at_unit_length(
    name: str, cli: Cli
) -> None:
    """What the engine holds under another metric keeps its length: twice as long is not what scaling makes."""
    spec = replace(SPEC, vectors=(replace(FIELD, metric=Metric.DOT),))
    one = put(f"memory:{name}-dot#articles", records(1.0), spec)
    cli("copy", one, NEW, code=0)
    changed(NEW, "doc-1", lambda vector: vector * 2)
    assert magnitude(cli("compare", one, NEW, "--no-neighbours", "--json", code=1)) is None


def test_another_metric_that_was_accepted_is_accepted_too(name: str, cli: Cli) -> None:
    spec = replace(SPEC, vectors=(replace(FIELD, metric=Metric.DOT),))
    one = put(f"memory:{name}-dot#articles", records(3.0), spec)
    losses = ("--accept-loss", "metric:vector", "--accept-loss", "vector")
    cli("copy", one, "qdrant:./new?metric=cosine#articles", *losses, code=0)
    failed = cli("compare", one, NEW, "--no-neighbours", code=1)
    assert "next: if that was accepted, add --accept-loss metric:vector" in failed.out
    assert "next: if that loss was accepted, add --accept-loss vector" in failed.out
    cli("compare", one, NEW, "--no-neighbours", *losses[:2], code=1)
    cli("compare", one, NEW, "--no-neighbours", *losses[2:], code=1)
    passed = cli("compare", one, NEW, "--no-neighbours", "--json", *losses, code=0).json
    assert [each["verdict"] for each in passed["findings"] if each["code"] == "collection.metric"] == [None]


def test_a_loss_that_no_plan_names_is_refused(moved: str, cli: Cli) -> None:
    ended = cli("compare", moved, NEW, "--accept-loss", "vectr", code=2)
    assert "--accept-loss vectr: the plan has no such line" in ended.err
    assert "next: it has: document, id, name, payload.n, vector" in ended.err


def test_an_unknown_tolerance_is_told_all_there_are(source: str, cli: Cli) -> None:
    ended = cli("compare", source, source, "--tolerance", "vector=bogus", code=2)
    for word in ("exact", "direction", "ulp:N", "cosine:X", "l2:Y"):
        assert word in ended.err


def test_a_single_copy_that_rounds_says_so_in_its_sentence(name: str, cli: Cli) -> None:
    one = put(f"memory:{name}-unit#articles", [_unit(row) for row in records(3.0)])
    said = cli("copy", one, NEW, code=0).out
    assert "vector differs by what the plan announced, and by no more (rounding)" in said or "the same digests" in said


def test_a_move_that_was_finished_ends_in_a_comparison_that_passes(moved: str, cli: Cli) -> None:
    ended = cli("copy", moved, NEW, "--accept-loss", "vector", code=0)
    [_, command] = ended.out.strip().splitlines()[-1].split("at any time: exitramp ")
    words = shlex.split(command)
    assert words[-2:] == ["--accept-loss", "vector"]
    cli(*words, "--no-neighbours", code=0)
