"""Chroma → dump → Qdrant → dump → Chroma, by the commands: what comes out at the end is what went in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exitramp.cli.main import run
from exitramp.ports import Origin
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.testing.data import hard_records
from exitramp.wrappers import open_endpoint

KEYS = {"verdict", "rows", "digests", "findings"}
Command = Callable[..., dict[str, Any]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command with --json in an empty folder; asserts its exit code and that stdout is one JSON document."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, code: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        assert run([*arguments, "--json"]) == code, capsys.readouterr()
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert set(found) >= KEYS
        return found

    return call


def _seed(address: str, rows: int, dimensions: int, metric: Metric) -> None:
    field = VectorField("", VectorKind.DENSE, DType.FLOAT32, metric, dimensions)
    spec = CollectionSpec("articles", IdKind.STRING, (field,), has_documents=True)
    with open_endpoint(address) as endpoint:
        sink = endpoint.sink()
        sink.create(spec, Origin(spec, "test"))
        for batch in hard_records(spec, rows, 11):
            sink.upsert(batch)
        sink.flush()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("rows", "dimensions", "metric"), [(8_000, 384, Metric.DOT), (1_500, 48, Metric.COSINE)], ids=["dot", "cosine"]
)
def test_the_chain_keeps_everything(command: Command, rows: int, dimensions: int, metric: Metric) -> None:
    _seed("chroma:./first#articles", rows, dimensions, metric)
    # Raw vectors lose their length in Qdrant under cosine, which the plan says and asks consent for.
    loss = ("--accept-loss", "vector") if metric is Metric.COSINE else ()
    out = command("dump", "chroma:./first#articles", "./one")
    assert out["rows"] == rows
    assert command("verify", "./one")["digests"] == out["digests"]
    into_qdrant = command("restore", "./one", "qdrant:./second#articles", *loss)
    again = command("dump", "qdrant:./second#articles", "./two")
    back = command("restore", "./two", "chroma:./third#articles")
    last = command("dump", "chroma:./third#articles", "./three")
    for found in (into_qdrant, again, back, last):
        assert found["digests"]["rows"] == rows
        assert found["digests"]["ids"] == out["digests"]["ids"]
        assert found["digests"]["payloads"] == out["digests"]["payloads"]
    if metric is Metric.DOT:
        assert last["digests"]["vectors"] == out["digests"]["vectors"]
    manifest = json.loads(Path("one/manifest.json").read_text(encoding="utf-8"))
    assert {name: manifest["digests"][name] for name in ("ids", "payloads", "vectors")} == {
        name: out["digests"][name] for name in ("ids", "payloads", "vectors")
    }
    if metric is Metric.DOT:
        parity = command("compare", "dump:./one", "chroma:./third#articles", "--no-neighbours")
        assert parity["records"]["counts"] == dict.fromkeys(parity["records"]["counts"], 0)


def test_every_command_prints_the_keys_that_machines_read(command: Command) -> None:
    _seed("qdrant:./a#articles", 300, 16, Metric.DOT)
    inspected = command("inspect", "qdrant:./a#articles")
    assert inspected["rows"] == 300
    planned = command("plan", "qdrant:./a#articles", "faiss:./b.faiss")
    assert {line["class"] for line in planned["plan"]} <= {"exact", "reversible"}
    command("copy", "qdrant:./a#articles", "faiss:./b.faiss", "--dry-run")
    assert not Path("b.faiss").exists()
    copied = command("copy", "qdrant:./a#articles", "faiss:./b.faiss")
    assert copied["digests"] == inspected["digests"] == copied["target_digests"]
    compared = command("compare", "qdrant:./a#articles", "faiss:./b.faiss")
    assert compared["neighbours"]["verdict"] == "pass"
    synced = command("sync", "qdrant:./a#articles", "faiss:./b.faiss")
    assert (synced["upserted"], synced["deleted"]) == (0, 0)


def test_a_lossy_move_stops_before_the_first_write(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    _seed("qdrant:./a#articles", 50, 8, Metric.DOT)
    arguments = ["copy", "qdrant:./a#articles", "chroma:./b?metric=cosine#articles"]
    assert run(arguments) == 2
    said = capsys.readouterr().err
    assert "--accept-loss metric:vector" in said
    assert "nothing was written" in said
    with open_endpoint("chroma:./b#articles") as endpoint, pytest.raises(LookupError):
        endpoint.source().describe()


def test_no_payload_or_document_value_is_printed_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow as pa

    from exitramp import canonical
    from exitramp.arrow import stream_schema

    monkeypatch.chdir(tmp_path)
    field = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 2)
    spec = CollectionSpec("c", IdKind.STRING, (field,), has_documents=True)
    for name, word in (("a", "zebra-one"), ("b", "zebra-two")):
        with open_endpoint(f"qdrant:./{name}#c") as endpoint:
            sink = endpoint.sink()
            sink.create(spec, Origin(spec, "test"))
            rows = [
                {"id": f"r{n}", "document": f"{word} text", "payload": canonical.dumps({"k": word}), "vector": [1.0, n]}
                for n in range(30)
            ]
            sink.upsert(pa.RecordBatch.from_pylist(rows, schema=stream_schema(spec)))
            sink.flush()
    for arguments in (
        ["inspect", "qdrant:./a#c"],
        ["plan", "qdrant:./a#c", "chroma:./x#ccc"],
        ["compare", "qdrant:./a#c", "qdrant:./b#c"],
        ["dump", "qdrant:./a#c", "./d"],
        ["sync", "qdrant:./a#c", "qdrant:./b#c"],
        ["restore", "./d", "chroma:./x#ccc"],
    ):
        for extra in ([], ["--json"]):
            run([*arguments, *extra])
    shown = capsys.readouterr()
    assert "zebra" not in shown.out + shown.err
    for path in tmp_path.rglob("*.json*"):
        if "/x/" not in str(path) and "/a/" not in str(path) and "/b/" not in str(path):
            assert "zebra" not in path.read_text(encoding="utf-8", errors="ignore"), path


def test_differing_values_are_shown_only_for_the_field_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow as pa

    from exitramp import canonical
    from exitramp.arrow import stream_schema

    monkeypatch.chdir(tmp_path)
    field = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 2)
    spec = CollectionSpec("c", IdKind.STRING, (field,))
    for name, word in (("a", "first"), ("b", "second")):
        with open_endpoint(f"qdrant:./{name}#c") as endpoint:
            sink = endpoint.sink()
            sink.create(spec, Origin(spec, "test"))
            payload = canonical.dumps({"shown": f"{word}-shown", "hidden": f"{word}-hidden"})
            rows = [{"id": str(n), "payload": payload, "vector": [1.0, n]} for n in range(3)]
            sink.upsert(pa.RecordBatch.from_pylist(rows, schema=stream_schema(spec)))
            sink.flush()
    arguments = ["compare", "qdrant:./a#c", "qdrant:./b#c", "--no-neighbours", "--show-values", "shown"]
    assert run(arguments) == 1
    text = capsys.readouterr().out
    assert "first-shown" in text
    assert "second-shown" in text
    assert "hidden" not in text.replace("$.hidden", "")
