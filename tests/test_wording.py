"""What is counted is said in the singular and in the plural as it should be, by every kind of sentence that counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exitramp.migration import compare_endpoints
from exitramp.parity.neighbours import compare_neighbours
from exitramp.ports import Origin
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.testing.memory import LIMITS
from exitramp.testing.memory_records import collections_of
from exitramp.testing.rows import Row, batch_from_rows
from exitramp.transfer.plan import make_plan
from exitramp.transfer.survey import survey_source
from exitramp.wording import counted
from exitramp.wrappers import Endpoint, open_endpoint

FIELD = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 2)
SPEC = CollectionSpec("c", IdKind.STRING, (FIELD,))


def test_one_thing_is_said_otherwise_than_none_or_many() -> None:
    assert [counted(number, "record") for number in (0, 1, 2, 1500)] == [
        "0 records",
        "1 record",
        "2 records",
        "1,500 records",
    ]
    assert [counted(number, "query was", "queries were") for number in (1, 2)] == ["1 query was", "2 queries were"]


def _rows(side: str, count: int) -> list[Row]:
    """So many that only this side has, and as many that both have, with another payload on each."""
    vector = {"vector": np.array([0.6, 0.8], np.float32)}
    names = [*(f"{side}{number}" for number in range(count)), *map(str, range(count))]
    return [Row(name, payload={"of": [side]}, vectors=vector) for name in names]


@pytest.fixture(name="sides")
def _sides(tmp_path: Path) -> Iterator[Callable[[int], tuple[Endpoint, Endpoint]]]:
    names = [f"{tmp_path.name}-{side}" for side in "ab"]

    def fill(count: int) -> tuple[Endpoint, Endpoint]:
        found = []
        for side, name in zip("ab", names, strict=True):
            endpoint = open_endpoint(f"memory:{name}#c")
            sink = endpoint.sink()
            sink.create(SPEC, Origin(SPEC, "test"))
            sink.upsert(batch_from_rows(_rows(side, count), SPEC))
            found.append(endpoint)
        return found[0], found[1]

    yield fill
    for name in names:
        collections_of(name).clear()


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, ["1 record of A is not in B", "1 record of B is not in A", "1 record differs in the payload"]),
        (2, ["2 records of A are not in B", "2 records of B are not in A", "2 records differ in the payload"]),
    ],
)
def test_a_comparison_counts_its_differences_in_words_that_fit(
    count: int, said: list[str], sides: Callable[[int], tuple[Endpoint, Endpoint]]
) -> None:
    found = compare_endpoints(*sides(count)).records.findings
    assert [finding.message for finding in found] == said


def test_neighbours_are_counted_in_words_that_fit(sides: Callable[[int], tuple[Endpoint, Endpoint]]) -> None:
    a, b = sides(1)
    for queries, said in ((1, "over 1 query"), (2, "over 2 queries")):
        found = compare_neighbours(a.source(), b.source(), a.search(), b.search(), queries=queries, k=1, proposed=0)
        assert found.summary().endswith(said)
        assert f"{said.removeprefix('over ')}; fewer than" in found.findings[0].message


def test_a_plan_counts_in_words_that_fit(sides: Callable[[int], tuple[Endpoint, Endpoint]]) -> None:
    narrow = replace(LIMITS, payload=replace(LIMITS.payload, types=frozenset({"string"})), zero_vectors=False)
    a, _ = sides(1)
    sink = a.sink()
    sink.create(SPEC, Origin(SPEC, "test"))
    sink.upsert(batch_from_rows([Row("zero", payload={}, vectors={"vector": np.zeros(2, np.float32)})], SPEC))
    plan = make_plan(survey_source(a.source(), narrow, batch_rows=10), narrow)
    lines = {line.subject: line.how for line in plan.lines}
    assert lines["payload.of"] == "2 of 2 values are kept in the record's marker"
    assert (
        "search: 1 vector that the store cannot take is kept in the marker, where nothing finds it" in lines["vector"]
    )
    assert "vector: 1 vector is all zero" in [finding.message for finding in plan.findings]
