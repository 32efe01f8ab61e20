"""`exitramp compare` asks every field of every kind, and never passes over one that it did not ask."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from exitramp import canonical
from exitramp.arrow import dense_array, stream_schema
from exitramp.cli.main import run
from exitramp.ports import Origin
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.wrappers import open_endpoint

ROWS = 120
IMAGE = VectorField("image", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 8)
TEXT = VectorField("text", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 12)
WORDS = VectorField("words", VectorKind.SPARSE, DType.FLOAT32, Metric.DOT, None)
LATE = VectorField("late", VectorKind.MULTI, DType.FLOAT32, Metric.COSINE, 6)


def seed(address: str, *fields: VectorField) -> None:
    spec = CollectionSpec("pictures", IdKind.UINT64, fields)
    numbers = np.random.default_rng(5)
    columns: dict[str, Any] = {
        "id": pa.array([str(row) for row in range(ROWS)]),
        "payload": pa.array([canonical.dumps({"lang": "de" if row % 3 else "en", "n": row}) for row in range(ROWS)]),
    }
    for field in fields:
        if field.kind is VectorKind.SPARSE:
            drawn = [np.sort(numbers.choice(30, numbers.integers(3, 9), replace=False)).tolist() for _ in range(ROWS)]
            values: list[Any] = [{"indices": each, "values": numbers.uniform(0.1, 1, len(each))} for each in drawn]
            columns[field.column] = pa.array(values, stream_schema(spec).field(field.column).type)
        elif field.kind is VectorKind.MULTI:
            values = [numbers.standard_normal((numbers.integers(1, 6), field.item_count)) for _ in range(ROWS)]
            values = [(each / np.linalg.norm(each, axis=1, keepdims=True)).tolist() for each in values]
            columns[field.column] = pa.array(values, stream_schema(spec).field(field.column).type)
        else:
            matrix = numbers.standard_normal((ROWS, field.item_count)).astype(np.float32)
            matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
            columns[field.column] = dense_array(matrix, field)
    with open_endpoint(address) as endpoint:
        sink = endpoint.sink()
        sink.create(spec, Origin(spec, "test"))
        names = stream_schema(spec).names
        sink.upsert(pa.RecordBatch.from_arrays([columns[name] for name in names], schema=stream_schema(spec)))
        sink.flush()


@pytest.fixture
def compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        code = run(["compare", *arguments, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return call


def test_every_dense_field_is_asked(compared: Any) -> None:
    seed("qdrant:./a#pictures", IMAGE, TEXT)
    seed("qdrant:./b#pictures", IMAGE, TEXT)
    code, found = compared("qdrant:./a#pictures", "qdrant:./b#pictures")
    assert (code, found["verdict"]) == (0, "pass")
    asked = [found["neighbours"], *found["further_neighbours"]]
    assert [each["column"] for each in asked] == ["vector:image", "vector:text"]
    assert [len(each["parts"]) for each in asked] == [3, 3], "each without a filter and under two"


def test_a_field_that_b_cannot_search_is_never_a_pass(compared: Any) -> None:
    seed("qdrant:./a#pictures", IMAGE, TEXT)
    assert run(["copy", "qdrant:./a#pictures", "chroma:./b#pictures", "--accept-loss", "vector:text"]) == 0
    code, found = compared("qdrant:./a#pictures", "chroma:./b#pictures")
    assert (code, found["records"]["verdict"]) == (3, "pass")
    assert any(finding["code"] == "neighbours.refused" for finding in found["findings"])
    code, _ = compared("qdrant:./a#pictures", "chroma:./b#pictures", "--field", "image")
    assert code == 0


def test_a_field_that_nothing_could_search_any_more_needs_consent(
    compared: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed("qdrant:./a#pictures", IMAGE, TEXT)
    assert run(["copy", "qdrant:./a#pictures", "chroma:./b#pictures"]) == 2
    told = capsys.readouterr().err
    assert "room for 1 dense vector field" in told
    assert "--accept-loss vector:text" in told
    assert not (tmp_path / "b").exists()
    assert run(["copy", "qdrant:./a#pictures", "chroma:./b#pictures", "--accept-loss", "vector:text"]) == 0
    assert run(["copy", "chroma:./b#pictures", "qdrant:./c#pictures"]) == 0
    assert compared("qdrant:./a#pictures", "qdrant:./c#pictures")[0] == 0, "it was kept all the same"


def asked_of(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["column"], each["verdict"]) for each in (found["neighbours"], *found["further_neighbours"])]


def test_fields_of_every_kind_are_asked(compared: Any, capsys: pytest.CaptureFixture[str]) -> None:
    seed("qdrant:./a#pictures", IMAGE, LATE, WORDS)
    assert run(["copy", "qdrant:./a#pictures", "qdrant:./b#pictures"]) == 0
    code, found = compared("qdrant:./a#pictures", "qdrant:./b#pictures")
    assert (code, found["verdict"]) == (0, "pass")
    asked = [found["neighbours"], *found["further_neighbours"]]
    assert [each["kind"] for each in asked] == ["dense", "multi", "sparse"]
    for each in asked:
        assert [part["queries"] for part in each["parts"]] == [ROWS] * 3, "without a filter and under two"
        assert all(part["recall_b"]["mean"] == 1 for part in each["parts"])
        assert all(part["overlap"] == 1 for part in each["parts"])
    assert asked[2]["coverage_b"]["compared"] is None, "what Qdrant counts is of the other kinds"
    assert run(["compare", "qdrant:./a#pictures", "qdrant:./b#pictures"]) == 0
    told = capsys.readouterr().out
    assert "sparse:words: recall@10 of B 1.0000" in told
    assert "multi:late: recall@10 of B 1.0000" in told


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many records as are quickly asked for one after the other; all of them are, so that nothing is left open."""
    monkeypatch.setattr(sys.modules[__name__], "ROWS", 30)


def test_a_field_of_any_kind_is_chosen_by_name_or_column(compared: Any, few: None) -> None:
    alike = VectorField("words", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 8)
    seed("memory:chosen-a#pictures", alike, LATE, WORDS)
    seed("memory:chosen-b#pictures", alike, LATE, WORDS)
    sides = ("memory:chosen-a#pictures", "memory:chosen-b#pictures", "--no-filters")
    for fields, columns in (
        (["late"], ["multi:late"]),
        (["words"], ["vector:words", "sparse:words"]),
        (["sparse:words"], ["sparse:words"]),
        (["sparse:words", "late", "words"], ["sparse:words", "multi:late", "vector:words"]),
    ):
        code, found = compared(*sides, *(word for name in fields for word in ("--field", name)))
        assert code == 0
        assert asked_of(found) == [(column, "pass") for column in columns]


def test_kinds_that_other_stores_hold_are_compared_there(compared: Any, few: None) -> None:
    """DuckDB compares every record, those of no score too, and Qdrant leaves them out."""
    seed("qdrant:./a#pictures", IMAGE, LATE, WORDS)
    assert run(["copy", "qdrant:./a#pictures", "duckdb:./b.duckdb#pictures"]) == 0
    code, found = compared("qdrant:./a#pictures", "duckdb:./b.duckdb#pictures", "--no-filters")
    assert (code, found["verdict"]) == (0, "pass")
    code, found = compared("duckdb:./b.duckdb#pictures", "qdrant:./a#pictures", "--no-filters")
    assert code == 0
    assert [column for column, _ in asked_of(found)] == ["vector:image", "multi:late", "sparse:words"]


@pytest.mark.parametrize("field", [WORDS, LATE])
def test_a_kind_that_b_does_not_hold_is_never_a_pass(compared: Any, field: VectorField) -> None:
    seed("qdrant:./a#pictures", IMAGE, field)
    assert run(["copy", "qdrant:./a#pictures", "chroma:./b#pictures", "--accept-loss", field.column]) == 0
    code, found = compared("qdrant:./a#pictures", "chroma:./b#pictures", "--no-filters")
    assert (code, found["records"]["verdict"]) == (3, "pass")
    assert asked_of(found) == [("vector:image", "pass"), (field.column, "inconclusive")]
    [refused] = [each for each in found["findings"] if each["code"] == "neighbours.refused"]
    assert "kept in the payload here and cannot be searched" in refused["message"]
    assert compared("qdrant:./a#pictures", "chroma:./b#pictures", "--no-filters", "--field", "image")[0] == 0


def test_an_index_that_answers_wrongly_fails_for_every_kind(compared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from exitramp_adapters.stores.qdrant.edge import EdgeSearch

    seed("qdrant:./a#pictures", IMAGE, LATE, WORDS)
    assert run(["copy", "qdrant:./a#pictures", "qdrant:./b#pictures"]) == 0
    right = EdgeSearch.search

    def search(self: Any, query: Any, *, k: int, **more: Any) -> Any:
        """B passes over every other hit of what is not dense."""
        if "/b" not in str(self._store.address) or query.dense is not None:
            return right(self, query, k=k, **more)
        hits = right(self, query, k=2 * k, **more)
        return replace(hits, keys=hits.keys[::2], scores=hits.scores[::2])

    monkeypatch.setattr(EdgeSearch, "search", search)
    code, found = compared("qdrant:./a#pictures", "qdrant:./b#pictures", "--no-filters")
    assert code == 1
    assert asked_of(found) == [("vector:image", "pass"), ("multi:late", "fail"), ("sparse:words", "fail")]
    codes = {each["code"] for each in found["findings"] if each["verdict"] == "fail"}
    assert codes == {"neighbours.recall", "neighbours.margin"}


def test_from_five_records_nothing_follows(compared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROWS", 5)
    seed("qdrant:./a#pictures", LATE, WORDS)
    seed("qdrant:./b#pictures", LATE, WORDS)
    code, found = compared("qdrant:./a#pictures", "qdrant:./b#pictures")
    assert code == 3
    assert asked_of(found) == [("multi:late", "inconclusive"), ("sparse:words", "inconclusive")]
    assert {each["code"] for each in found["findings"] if each["verdict"]} <= {"neighbours.too_few", "neighbours.none"}


def test_a_metric_that_means_something_else_elsewhere_leaves_it_open(compared: Any, few: None) -> None:
    far = replace(LATE, metric=Metric.EUCLIDEAN)
    seed("memory:far-a#pictures", IMAGE, far)
    seed("memory:far-b#pictures", IMAGE, far)
    code, found = compared("memory:far-a#pictures", "memory:far-b#pictures")
    [finding] = [each for each in found["findings"] if each["code"] == "neighbours.unasked"]
    assert code == 3
    assert "multi:late" in finding["message"]
    assert "euclidean" in finding["message"]
    assert compared("memory:far-a#pictures", "memory:far-b#pictures", "--field", "image")[0] == 0


def test_no_filters_are_asked_that_nobody_wants(compared: Any) -> None:
    seed("qdrant:./a#pictures", IMAGE)
    seed("qdrant:./b#pictures", IMAGE)
    code, found = compared("qdrant:./a#pictures", "qdrant:./b#pictures", "--no-filters")
    assert code == 0
    assert [part["name"] for part in found["neighbours"]["parts"]] == ["all"]


def test_a_field_that_is_not_there_is_named(compared: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed("qdrant:./a#pictures", IMAGE)
    seed("qdrant:./b#pictures", IMAGE)
    for more in ((), ("--no-neighbours",)):
        assert run(["compare", "qdrant:./a#pictures", "qdrant:./b#pictures", "--field", "picture", *more]) == 2
        assert "the vector fields are: 'image' (dense)" in capsys.readouterr().err
