"""What people are told to do next is a command that does it, and what they are shown is said in their words."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from exitramp.arrow import stream_schema
from exitramp.cli import output
from exitramp.ports import Origin
from exitramp.records import EmbeddingModel
from exitramp.wrappers import open_endpoint
from tests.cli.conftest import Cli
from tests.drill.small_stacks import FIELD, SPEC, fill

ROWS = 40


@pytest.fixture(name="source")
def _source(name: str) -> str:
    return fill(f"memory:{name}#articles", rows=ROWS)


def _command(said: str, before: str = "next: ") -> list[str]:
    [line] = [line for line in said.splitlines() if before in line]
    words = shlex.split(line.partition(before)[2])
    assert words[0] == "exitramp"
    return words[1:]


@pytest.mark.parametrize("target", ["faiss:./new.faiss", "qdrant:./new?metric=cosine#articles"])
def test_a_plan_ends_in_the_command_that_does_it(target: str, source: str, cli: Cli) -> None:
    command = _command(cli("plan", source, target, code=0).out)
    assert command[0] == "copy"
    assert f"PASS  {ROWS} records" in cli(*command, code=0).out


def test_a_plan_for_a_dump_ends_in_its_restore(source: str, cli: Cli) -> None:
    cli("dump", source, "out of here", code=0)
    command = _command(cli("plan", "dump:out%20of%20here", "faiss:./new.faiss", code=0).out)
    assert command == ["restore", "out of here", "faiss:./new.faiss"]
    cli(*command, code=0)


def test_a_plan_that_something_stands_in_the_way_of_names_no_command(source: str, cli: Cli) -> None:
    cli("copy", source, "faiss:./new.faiss", code=0)
    assert "next: " not in cli("plan", source, "faiss:./new.faiss", code=3).out


def test_a_finished_move_names_the_command_that_proves_it_again(source: str, cli: Cli) -> None:
    cli("copy", source, "faiss:./new.faiss", code=0)
    command = _command(cli("copy", source, "faiss:./new.faiss", code=0).out, "at any time: ")
    assert command == ["compare", source, "faiss:./new.faiss"]
    cli(*command, "--no-neighbours", code=0)
    cli("dump", source, "out of here", code=0)
    again = _command(cli("dump", source, "out of here", code=0).out, "at any time: ")
    cli(*again, code=0)


def test_what_differs_as_announced_is_said_to_be_so(source: str, cli: Cli) -> None:
    losses = ("--accept-loss", "vector", "--accept-loss", "metric:vector")
    said = cli("copy", source, "qdrant:./new?metric=cosine#articles", *losses, code=0).out
    sentence = "ids and payloads are the same; vector differs by what the plan announced, and by no more (magnitude)"
    assert f"  read back: {sentence}\n" in said


def test_a_damaged_dump_says_what_to_do(source: str, cli: Cli) -> None:
    cli("dump", source, "out", code=0)
    shard = next(Path("out/shards").iterdir())
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert "next: restore nothing from it" in cli("verify", "out", code=4).out


def test_inspect_counts_the_rows_that_lack_a_key_and_says_of_vectors_what_there_is(cli: Cli, name: str) -> None:
    spec = replace(SPEC, vectors=(replace(FIELD, model=EmbeddingModel(provider="acme", name="m-1")),))
    address = f"memory:{name}-few#articles"
    schema = stream_schema(spec)
    columns = {
        "id": pa.array(["1", "2", "3"], pa.string()),
        "document": pa.array([None, None, None], pa.string()),
        "payload": pa.array(['{"a":1}', '{"a":null,"b":"x"}', None], pa.string()),
        "vector": pa.array([[3.0] + [0.0] * 11, [0.0] * 12, None], schema.field("vector").type),
    }
    with open_endpoint(address) as endpoint:
        sink = endpoint.sink()
        sink.create(spec, Origin(spec, "test"))
        sink.upsert(pa.RecordBatch.from_arrays([columns[each] for each in schema.names], schema=schema))
    said = cli("inspect", address, code=0).out
    rows = {line.split()[0]: line.split()[-2:] for line in said.splitlines() if line.startswith("$")}
    assert rows == {"$": ["1", "0"], "$.a": ["1", "1"], "$.b": ["2", "0"]}
    assert "2 vectors; norms 0 to 3; greatest number 3; 1 record without one; 1 of zeros only" in said
    assert "model acme/m-1" in said
    assert "which model made them is not known" in cli("inspect", fill(f"memory:{name}-m#c", rows=1), code=0).out


def test_a_table_is_aligned_by_what_a_terminal_shows() -> None:
    shown = output.table([("é", "x"), ("e\u0301", "x"), ("検索", "x"), ("plain", "x")], ("key", "value")).splitlines()
    assert shown == ["key    value", "é      x", "e\u0301      x", "検索   x", "plain  x"]


def test_a_size_is_never_said_to_be_nothing_where_there_is_something() -> None:
    assert [output.megabytes(size) for size in (0, 49_999, 50_000, 1_234_567_890)] == [
        "0.0 MB",
        "less than 0.1 MB",
        "0.1 MB",
        "1,234.6 MB",
    ]
