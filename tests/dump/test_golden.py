"""The golden files: every later version reads these dumps and computes these digests, and so does another language."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest

from exitramp import canonical
from exitramp.digests import Digest, digest_batch
from exitramp.dump.integrity import verify_dump
from exitramp.dump.reader import DumpSource
from exitramp.records import Verdict

GOLDEN = Path(__file__).parents[1] / "golden"
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "format.md"
PROGRAM = Path(__file__).with_name("digests.mjs")
DUMPS = ("dense-1", "everything-1", "empty-1")


def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_golden", GOLDEN / "make_golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made() -> ModuleType:
    return recipe()


@pytest.fixture(scope="module")
def vectors() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((GOLDEN / "digest_vectors.json").read_text("utf-8"))["cases"]
    return cases


def whole(folder: Path) -> tuple[DumpSource, pa.RecordBatch]:
    source = DumpSource(folder)
    [partition] = source.partitions(1)
    return source, pa.concat_batches([page.batch for page in source.scan(partition, batch_rows=4)])


@pytest.mark.parametrize("name", DUMPS)
def test_golden_dumps_are_whole(name: str) -> None:
    report = verify_dump(GOLDEN / name)
    assert report.verdict is Verdict.PASS, report.findings
    assert report.findings == ()


@pytest.mark.parametrize(
    ("name", "spec", "rows"), [("dense-1", "DENSE", "dense_rows"), ("everything-1", "EVERYTHING", "every_row")]
)
def test_golden_dumps_hold_what_went_into_them(made: ModuleType, name: str, spec: str, rows: str) -> None:
    source, found = whole(GOLDEN / name)
    expected_spec = getattr(made, spec)
    assert source.describe() == expected_spec
    expected = made.batch_of(getattr(made, rows)(), expected_spec)
    assert found.column("payload").to_pylist() == expected.column("payload").to_pylist()
    assert digest_batch(found, expected_spec) == digest_batch(expected, expected_spec)
    assert source.manifest().digests == digest_batch(expected, expected_spec)


def test_golden_payloads_read_back_as_the_values_they_were(made: ModuleType) -> None:
    texts = whole(GOLDEN / "dense-1")[1].column("payload").to_pylist()
    assert texts[-1] is None
    for text, value in zip(texts, made.HARD_PAYLOADS, strict=False):
        assert repr(canonical.loads(text)) == repr(value if text == canonical.dumps(value) else None) or (
            canonical.dumps(canonical.loads(text)) == text == canonical.dumps(value)
        )


def test_this_program_computes_the_test_vectors(made: ModuleType, vectors: list[dict[str, Any]]) -> None:
    assert [case["name"] for case in vectors][2:] == ["dense with hard payloads", "every kind of field"]
    for case, spec, rows in zip(
        vectors[2:], (made.DENSE, made.EVERYTHING), (made.dense_rows, made.every_row), strict=True
    ):
        assert made.digest_case(case["name"], spec, rows()) == case
    assert vectors[0]["digests"]["ids"] == "0" * 64
    assert len(vectors[1]["rows"]) == 1


def in_javascript(path: Path) -> list[dict[str, Any]]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed, so nothing computes the digests in another language")
    done = subprocess.run([node, str(PROGRAM), str(path)], check=True, capture_output=True, text=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_another_language_computes_the_test_vectors(vectors: list[dict[str, Any]]) -> None:
    found = in_javascript(GOLDEN / "digest_vectors.json")
    assert len(found) == len(vectors)
    for case, result in zip(vectors, found, strict=True):
        assert result["leaves"] == case["leaves"], case["name"]
        assert result["digests"] == case["digests"], case["name"]


def test_another_language_computes_the_digests_of_shards_exported_as_json(
    made: ModuleType, collection: Any, write_dump: Any, tmp_path: Path
) -> None:
    folder = write_dump(collection)
    source, batch = whole(folder)
    path = tmp_path / "exported.json"
    path.write_text(json.dumps({"cases": [made.exported(batch, source.describe())]}), encoding="utf-8")
    [result] = in_javascript(path)
    assert result["digests"] == json.loads((folder / "manifest.json").read_bytes())["digests"]


def test_the_documentations_worked_example_is_right() -> None:
    made_here = recipe()
    field = made_here.VectorField("", made_here.VectorKind.DENSE, made_here.DType.FLOAT32, made_here.Metric.DOT, 2)
    spec = made_here.CollectionSpec("c", made_here.IdKind.STRING, (field,))
    found = digest_batch(made_here.batch_of([{"id": "a", "payload": '{"n":1}', "vector": [1.0, -0.0]}], spec), spec)
    example = DOCUMENTATION.read_text(encoding="utf-8").partition("Step by step")[2]
    digits = re.findall(r"→ ([0-9a-f]{64})", example)
    assert digits == [found.ids.hex, found.payloads.hex, found.vectors["vector"].hex]
    assert Digest.parse(f"1:{digits[0]}") == found.ids


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0001, "0.0001"),
        (0.1, "0.1"),
        (1.0, "1.0"),
        (9999999999999998.0, "9999999999999998.0"),
        (1e-5, "1e-05"),
        (1.5e16, "1.5e+16"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (-0.0, "-0.0"),
        (0.0, "0.0"),
        (2**53, "9007199254740992"),
        (2**53 + 1, '{"$exitramp:int":"9007199254740993"}'),
        ('\b\t\n\f\r\x01\x1f\x7f/"\\\u2028', '"\\b\\t\\n\\f\\r\\u0001\\u001f\x7f/\\"\\\\\u2028"'),
        ({"\uffff": 1, "\U00010000": 2}, '{"\uffff":1,"\U00010000":2}'),
        ({"$exitramp:int": 1}, '{"$exitramp:esc:int":1}'),
        (b"\x00\xff", '{"$exitramp:bytes":"AP8="}'),
    ],
)
def test_canonical_json_is_as_the_documentation_says(value: Any, text: str) -> None:
    assert canonical.dumps(value) == text
