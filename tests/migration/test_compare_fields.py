"""`exitramp compare` asks every field it can, and never passes over one that it did not ask."""

from __future__ import annotations

import json
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


def seed(address: str, *fields: VectorField) -> None:
    spec = CollectionSpec("pictures", IdKind.UINT64, fields)
    numbers = np.random.default_rng(5)
    columns: dict[str, Any] = {
        "id": pa.array([str(row) for row in range(ROWS)]),
        "payload": pa.array([canonical.dumps({"lang": "de" if row % 3 else "en", "n": row}) for row in range(ROWS)]),
    }
    for field in fields:
        if field.kind is VectorKind.SPARSE:
            values = [{"indices": [row, row + 7], "values": [1.0, 2.0]} for row in range(ROWS)]
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


def test_a_field_of_which_nothing_is_asked_leaves_it_open(compared: Any) -> None:
    seed("qdrant:./a#pictures", IMAGE, WORDS)
    seed("qdrant:./b#pictures", IMAGE, WORDS)
    code, found = compared("qdrant:./a#pictures", "qdrant:./b#pictures")
    [finding] = [each for each in found["findings"] if each["code"] == "neighbours.unasked"]
    assert code == 3
    assert finding["detail"]["columns"] == ["sparse:words"]
    assert compared("qdrant:./a#pictures", "qdrant:./b#pictures", "--field", "image")[0] == 0


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
        assert "its dense fields: 'image'" in capsys.readouterr().err
