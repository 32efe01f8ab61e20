"""What docs/in-the-new-store.md shows of a new store is what stands there, as the stores' own libraries give it."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exitramp.cli.main import run
from exitramp.codec.encoding import encode_batch
from exitramp.codec.layout import lay_out
from exitramp.codec.vectors import pack
from exitramp.migration import migrate
from exitramp.ports import DocumentRoom, Origin
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.testing import Row, batch_from_rows
from exitramp.testing.memory import LIMITS
from exitramp.wrappers import open_endpoint
from tests.adapters.test_chroma import EmbeddedHarness
from tests.adapters.test_qdrant_edge import EdgeHarness

PAGE = (Path(__file__).parents[2] / "docs" / "in-the-new-store.md").read_text(encoding="utf-8")
FIELD = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 3)
SPEC = CollectionSpec("articles", IdKind.STRING, (FIELD,), has_documents=True)
MARKER = "_exitramp"


def block_after(heading: str, language: str = "text") -> str:
    """The first block of a language in the section with this heading."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    [block, *_] = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return str(block)


def filled(name: str, rows: Sequence[Row], spec: CollectionSpec = SPEC) -> str:
    address = f"memory:{name}#articles"
    with open_endpoint(address) as endpoint:
        sink = endpoint.sink()
        sink.create(spec, Origin(spec, "test"))
        sink.upsert(batch_from_rows(rows, spec))
    return address


def copied(source: str, target: str) -> None:
    with open_endpoint(source) as one, open_endpoint(target) as other:
        migrate(one, other, accept_loss=["vector"] if target.startswith("chroma") else [])


def record(id_: str, vector: Sequence[float], document: str | None = None, **payload: Any) -> Row:
    return Row(id_, None, document, payload or None, {"vector": np.array(vector, np.float32)})


def test_the_record_before_and_after(tmp_path: Path) -> None:
    row = record("kb/x", [1, 2, 3], "How to leave", lang="en", rev=3, score=0.1234567890123456)
    copied(filled(str(tmp_path), [row]), f"qdrant:{tmp_path}/q#articles")
    [found] = EdgeHarness(tmp_path / "q").raw_read("articles")
    shown = " ".join(block_after("One record, before and after").split())
    id_, _, payload = shown.removeprefix("id ").partition(" payload ")
    assert found.id == id_
    assert found.payload == json.loads(payload.replace('\\"id\\":\\"kb/x\\", ', '\\"id\\":\\"kb/x\\",'))


def test_a_vector_that_neither_store_takes(tmp_path: Path) -> None:
    source = filled(str(tmp_path), [record("kb/y", [np.nan, 1, 2], lang="de")])
    copied(source, f"chroma:{tmp_path}/c#articles")
    copied(source, f"qdrant:{tmp_path}/q#articles")
    lines: list[str] = []
    for store, harness in (("chroma", EmbeddedHarness(tmp_path / "c")), ("qdrant", EdgeHarness(tmp_path / "q"))):
        [found] = harness.raw_read("articles")
        vector = found.vectors.get("vector")
        lines.append(f"{store}  vector   {'none' if vector is None else np.asarray(vector).tolist()}")
        lines.append(f"        marker   {(found.payload or {})[MARKER]}")
    assert block_after("A vector that stands in the marker") == "\n".join(lines) + "\n"


def test_the_numbers_are_read_as_the_page_says() -> None:
    found: dict[str, Any] = {}
    exec(block_after("A vector that stands in the marker", "python"), found)
    read = found["vector_in"]
    assert math.isnan(read(found["KB_Y"], "vector")[0])
    assert read('{"$marker":1,"id":"kb/x"}', "vector") is None
    for values in ([1.5, -0.0, 1e-45], [], [3.0]):
        field = replace(FIELD, dimensions=max(1, len(values)))
        text = json.dumps({"$marker": 1, "vec": {"vector": pack(np.array(values, np.float32), field, "t")}})
        got = np.array(read(text, "vector"), np.float32)
        assert got.tobytes() == np.array(values, np.float32).tobytes()


def test_a_store_without_room_for_the_origin_says_it_record_by_record() -> None:
    limits = replace(
        LIMITS,
        id_kinds=frozenset({IdKind.UUID}),
        documents=DocumentRoom.PAYLOAD,
        namespaces=False,
        keeps_origin=False,
        payload=replace(LIMITS.payload, absent_payload=True),
    )
    spec = replace(SPEC, has_namespaces=True)
    batch = batch_from_rows([replace(record("kb/z", [1, 2, 3]), payload={})], spec)
    native = encode_batch(batch, lay_out(spec, limits), limits)
    assert json.loads(native.column("payload")[0].as_py()) == {
        MARKER: block_after("A collection that was there before").strip()
    }


def test_a_copy_into_a_collection_that_was_there_asks_for_what_the_way_back_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    title = replace(FIELD, name="title")
    spec = replace(SPEC, vectors=(FIELD, title))
    row = record("kb/x", [1, 2, 3], "How to leave", lang="en")
    filled("old", [replace(row, vectors={**row.vectors, title.column: np.ones(3, np.float32)})], spec)
    harness = EmbeddedHarness(tmp_path / "db")
    harness.raw_seed("theirs", SPEC, [record("own", [3, 2, 1], None, lang="fr")])
    plan, said, copy = block_after("A collection that was there before", "console").splitlines()

    def call(line: str) -> tuple[int, str, str]:
        words = shlex.split(line.removeprefix("$ exitramp "))
        code = run(words)
        shown = capsys.readouterr()
        return code, " ".join(shown.out.split()), " ".join(shown.err.split())

    _, planned, _ = call(plan)
    assert " ".join(said.split()) in planned
    code, _, refused = call(copy.replace(" --accept-loss origin", ""))
    assert (code, "--accept-loss origin" in refused) == (2, True)
    assert len(harness.raw_read("theirs")) == 1, "nothing was written without consent"
    code, told, _ = call(copy)
    assert code == 3
    assert "codec.unread: vector field 'vector:title'" in told
    assert {each.id: MARKER in (each.payload or {}) for each in harness.raw_read("theirs")} == {
        "own": False,
        "kb/x": True,
    }
    code, told, _ = call("$ exitramp inspect chroma:./db#theirs")
    assert "codec.unread: vector field 'vector:title'" in told
    code, told, _ = call(copy.replace("#theirs", "#ours").replace(" --into-existing --accept-loss origin", ""))
    assert (code, "codec.unread" in told) == (0, False), "in a collection of its own nothing of the kind is lost"
