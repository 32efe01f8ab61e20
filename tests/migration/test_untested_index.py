"""Neighbours that no index found are complete by construction: a comparison says so, and of which side."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exitramp.cli.main import run
from exitramp.migration.comparing import index_coverage
from exitramp.ports import IndexCoverage, IndexState, Origin
from exitramp.records import DType, Metric, VectorField, VectorKind
from exitramp.testing.memory import MemorySearch
from exitramp.testing.rows import Row, batch_from_rows
from exitramp.wrappers import SearchAround, Stacked, open_endpoint
from tests.drill.small_stacks import FIELD, SPEC, fill


@pytest.fixture(name="sides")
def _sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.chdir(tmp_path)
    one = fill("chroma:./a#articles")
    assert run(["copy", one, "qdrant:./b#articles"]) == 0
    return one, "qdrant:./b#articles"


def _compared(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["compare", *arguments, "--json"]) in {0, 3}
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_side_without_an_index_is_named_and_one_with_an_index_is_not(
    sides: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = _compared(capsys, *sides)
    told = [each for each in found["findings"] if each["code"] == "neighbours.exact"]
    assert [each["detail"]["side"] for each in told] == ["B"]
    assert told[0]["message"].startswith("B compares all 60 vectors one by one (it builds one from 10,000 KiB")
    assert told[0].get("verdict") is None, "it is no fault of the store"
    neighbours = found["neighbours"]
    assert (neighbours["index_a"], neighbours["index_b"]) == ("ready", "ready")
    assert neighbours["coverage_a"] == {"indexed": 60, "compared": 0, "note": ""}
    assert neighbours["coverage_b"]["indexed"] == 0


def test_it_is_said_to_people_too(sides: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    run(["compare", *sides])
    assert "B compares all 60 vectors one by one" in " ".join(capsys.readouterr().out.split())


def test_nothing_is_said_of_indexes_that_nobody_asked(
    sides: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = _compared(capsys, *sides, "--no-neighbours")
    assert not [each for each in found["findings"] if each["code"].startswith("neighbours.")]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (IndexCoverage(40, 20), "B has 40 of its 60 vectors in an index, by its own count, and compares the others"),
        (IndexCoverage(60, 0), None),
        (IndexCoverage(), None),
    ],
)
def test_an_index_is_called_tested_as_far_as_it_answered(
    told: IndexCoverage, said: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = fill(f"memory:a-{id(told)}#articles"), fill(f"memory:b-{id(told)}#articles")
    first = MemorySearch.coverage

    def coverage(search: Any) -> IndexCoverage:
        return told if "memory:b-" in search._store.address.text else first(search)

    monkeypatch.setattr(MemorySearch, "coverage", coverage)
    found = _compared(capsys, one, other)
    of_b = [each["message"] for each in found["findings"] if each["code"] == "neighbours.exact"][1:]
    assert [text[: len(said or "")] for text in of_b] == ([said] if said else [])


def test_while_an_index_is_being_built_nothing_is_known_of_how_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_endpoint(fill("memory:building#articles")) as endpoint:
        assert index_coverage(endpoint) == IndexCoverage(0, 60, "it has no index")
        monkeypatch.setattr(MemorySearch, "index_state", lambda search: IndexState.BUILDING)
        assert index_coverage(endpoint) == IndexCoverage()


def test_a_store_that_does_not_tell_is_one_of_which_nothing_is_known() -> None:
    class Silent:
        def index_state(self) -> IndexState:
            return IndexState.READY

        def search(self, query: Any, **more: Any) -> Any:
            raise NotImplementedError

    assert SearchAround(Silent(), Stacked()).coverage() == IndexCoverage()


def test_a_dump_has_nothing_to_find_neighbours_with(tmp_path: Path) -> None:
    source = fill("memory:dumped#articles")
    assert run(["dump", source, str(tmp_path / "dump")]) == 0
    with open_endpoint(f"dump:{tmp_path}/dump") as endpoint:
        assert index_coverage(endpoint) is None


def test_vectors_of_several_fields_are_said_to_be_those_of_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A store counts those of all its fields together, sparse ones apart."""
    monkeypatch.chdir(tmp_path)
    fields = [replace(FIELD, name=name) for name in ("one", "other")]
    words = VectorField("words", VectorKind.SPARSE, DType.FLOAT32, Metric.DOT, None)
    source = fill(f"memory:{tmp_path}#articles", spec=replace(SPEC, vectors=(*fields, words)))
    found = _compared(capsys, source, source, "--field", "one")
    told = [each["message"] for each in found["findings"] if each["code"] == "neighbours.exact"]
    assert len(told) == 2
    for side, text in zip("AB", told, strict=True):  # not every record has both
        assert re.match(rf"{side} compares all 1[01][0-9] vectors of its 2 fields together one by one", text), text


def test_numbers_beyond_a_stores_type_print_no_line_of_somebodys_code(tmp_path: Path) -> None:
    spec = replace(SPEC, vectors=(replace(FIELD, dtype=DType.FLOAT64, metric=Metric.EUCLIDEAN),))
    rng = np.random.default_rng(1)
    rows = [
        Row(f"r{row}", None, "text", {"x": 1e300 * rng.random()}, {"vector": rng.standard_normal(12) * 1e300})
        for row in range(20)
    ]
    with open_endpoint(f"lancedb:{tmp_path}/lance#articles") as endpoint:
        sink = endpoint.sink()
        sink.create(spec, Origin(spec, "test"))
        sink.upsert(batch_from_rows(rows, spec))
        sink.flush()
    words = ["compare", f"lancedb:{tmp_path}/lance#articles", f"lancedb:{tmp_path}/lance#articles"]
    ended = subprocess.run(
        [sys.executable, "-m", "exitramp", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode in (0, 3), ended.stderr
    assert "Warning" not in ended.stderr
