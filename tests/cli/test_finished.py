"""A move that is run again after it was finished says so, once it is proved; anything else is still refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from exitramp.cli.place import place_of
from exitramp.ports import Origin
from exitramp.records import Metric
from exitramp.testing.memory_records import collections_of
from exitramp.transfer.checkpoint import Progress, Reached
from exitramp.wrappers import open_endpoint
from tests.cli.conftest import Cli
from tests.cli.test_data_commands import ROWS, complete, ids_of, lose
from tests.drill.small_stacks import FIELD, SPEC, fill


@pytest.fixture(name="primary")
def _primary(name: str) -> str:
    return fill(f"memory:{name}#articles", rows=ROWS)


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_dump_that_was_killed_after_its_manifest_says_that_it_is_finished(primary: str, cli: Cli) -> None:
    first = complete(cli("dump", primary, "out", "--json", code=0))
    before = _content(Path("out"))
    again = complete(cli("dump", primary, "out", "--json", code=0))
    assert again["finished_already"] is True
    assert again["digests"] == first["digests"] == again["target_digests"]
    assert [each["code"] for each in again["findings"]] == ["target.finished_already"]
    said = cli("dump", primary, "out", code=0).out
    assert f"PASS  finished already: {ROWS} records stand in dump:out" in said
    assert "exitramp verify out" in said
    assert _content(Path("out")) == before


def test_a_finished_dump_of_a_source_that_has_changed_since_is_no_dump_of_it(primary: str, cli: Cli) -> None:
    cli("dump", primary, "out", code=0)
    lose(primary, ids_of(primary)[:1])
    ended = cli("dump", primary, "out", code=2)
    assert "the source has changed since (ids, payloads" in ended.err
    assert "another folder" in ended.err


def test_a_finished_dump_of_another_source_is_refused(primary: str, cli: Cli, name: str) -> None:
    cli("dump", primary, "out", code=0)
    twin = fill(f"memory:{name}-twin#articles", rows=ROWS)
    ended = cli("dump", twin, "out", code=2)
    assert "a finished dump of another source" in ended.err


def test_a_finished_dump_that_is_damaged_ends_with_4(primary: str, cli: Cli) -> None:
    cli("dump", primary, "out", code=0)
    shard = next(Path("out/shards").iterdir())
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(bytes(content))
    ended = cli("dump", primary, "out", code=4)
    assert "damaged" in ended.err
    assert "exitramp verify out" in ended.err


@pytest.mark.parametrize("command", ["restore", "copy"])
@pytest.mark.parametrize("target", ["faiss:./new.faiss", "chroma:./new#articles"])
def test_a_move_that_was_killed_after_its_place_was_forgotten_says_that_it_is_finished(
    command: str, target: str, primary: str, cli: Cli
) -> None:
    cli("dump", primary, "out", code=0)
    words = (command, "out" if command == "restore" else primary, target)
    first = complete(cli(*words, "--json", code=0))
    again = complete(cli(*words, "--json", code=0))
    assert again["finished_already"] is True
    assert again["digests"] == first["digests"]
    assert "finished already" in cli(*words, code=0).out


def test_a_loss_that_was_accepted_is_accepted_in_the_proof_too(primary: str, cli: Cli) -> None:
    words = ("copy", primary, "qdrant:./new?metric=cosine#articles")
    losses = ("--accept-loss", "metric:vector", "--accept-loss", "vector")
    complete(cli(*words, *losses, "--json", code=0))
    assert cli(*words, *losses, "--json", code=0).json["finished_already"] is True
    assert "--accept-loss" in cli(*words, code=2).err


def test_a_target_with_as_many_other_records_is_refused(primary: str, cli: Cli, name: str) -> None:
    target = f"memory:{name}-other#articles"
    cli("copy", primary, target, code=0)
    ids = ids_of(target)
    lose(target, ids[:1])
    with open_endpoint(primary) as endpoint, open_endpoint(target) as other:
        source, sink = endpoint.source(), other.sink()
        [page] = list(source.scan(source.partitions(1)[0], batch_rows=100))
        row = page.batch.slice(0, 1)
        place = row.schema.get_field_index("id")
        sink.create(source.describe(), Origin(source.describe(), "test"))
        sink.upsert(row.set_column(place, row.schema.field(place), pa.array(["another"])))
        sink.flush()
    ended = cli("copy", primary, target, code=2)
    assert f"already holds {ROWS} records" in ended.err


def test_an_interrupted_restore_of_a_dump_that_was_replaced_says_what_to_do(
    primary: str, cli: Cli, name: str, tmp_path: Path
) -> None:
    """The place that is kept is one in the dump that is gone."""
    cli("dump", primary, "out", code=0)
    target = f"memory:{name}-new#articles"
    cli("restore", "out", target, code=0)
    with open_endpoint("dump:out") as one, open_endpoint(target) as other:
        source = one.source()
        [page, *_] = source.scan(source.partitions(1)[0], batch_rows=5)
        place = place_of(one, other, None)
        assert place is not None
        place.acknowledge(Progress({0: Reached(page.cursor)}, 5, None, begun=True))
        place.close(complete=False)
    shutil.rmtree("out")
    cli("dump", fill(f"memory:{name}-next#articles", rows=7), "out", code=0)
    ended = cli("restore", "out", target, code=2)
    assert "next: " in ended.err
    assert str(place.path) in ended.err
    assert "remove that file and begin anew" in ended.err


def test_a_target_that_rounded_more_than_the_plan_announces_is_not_what_was_finished(cli: Cli, name: str) -> None:
    """The source scales vectors to unit length, so the class of the two stores would allow it."""
    unit = replace(SPEC, vectors=(replace(FIELD, metric=Metric.COSINE),))
    source, target = fill("qdrant:./unit#articles", rows=ROWS, spec=unit), f"memory:{name}-rounds#articles"
    cli("copy", source, target, code=0)
    assert cli("copy", source, target, "--json", code=0).json["finished_already"] is True
    held = collections_of(f"{name}-rounds")["articles"]
    record = next(iter(held.records.values()))
    held.put(replace(record, vectors={"vector": np.nextafter(record.vectors["vector"], np.float32(2))}))
    assert f"already holds {ROWS} records" in cli("copy", source, target, code=2).err
