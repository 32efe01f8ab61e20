"""A dump whose files are whole and tell different things is used for nothing; no interrupted move is a trap."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exitramp.cli.place import place_of
from exitramp.testing.memory_records import collections_of
from exitramp.transfer.checkpoint import Progress, Reached
from exitramp.wrappers import open_endpoint
from tests.cli.conftest import Cli
from tests.cli.test_data_commands import ROWS, ids_of, lose
from tests.drill.small_stacks import fill
from tests.dump.damage import relist


@pytest.fixture(name="primary")
def _primary(name: str) -> str:
    return fill(f"memory:{name}#articles", rows=ROWS)


def forge(folder: Path) -> None:
    """Another payload for every record, hashes made right: the digests alone still tell what was there."""
    for shard in (folder / "shards").iterdir():
        table = pq.read_table(shard)
        others = pa.array(['{"forged":true}'] * table.num_rows, pa.string())
        pq.write_table(table.set_column(table.schema.get_field_index("payload"), "payload", others), shard)
    relist(folder)


BROKEN = "gave other records than its manifest promises"


def test_nothing_is_brought_up_to_date_from_a_dump_that_breaks_its_promise(primary: str, cli: Cli, name: str) -> None:
    cli("dump", primary, "out", code=0)
    target = f"memory:{name}-copy#articles"
    cli("restore", "out", target, code=0)
    forge(Path("out"))
    before = dict(collections_of(f"{name}-copy")["articles"].records)
    assert BROKEN in cli("sync", "dump:out", target, code=4).err
    assert collections_of(f"{name}-copy")["articles"].records == before
    assert BROKEN in cli("compare", "dump:out", target, code=4).err
    assert BROKEN in cli("compare", target, "dump:out", code=4).err


def test_a_dump_of_a_dump_that_breaks_its_promise_is_never_finished(primary: str, cli: Cli) -> None:
    cli("dump", primary, "out", code=0)
    forge(Path("out"))
    assert BROKEN in cli("copy", "dump:out", "dump:again", code=4).err
    assert not Path("again/manifest.json").exists()
    cli("verify", "again", code=4)


def test_a_place_that_a_broken_dump_left_behind_stops_nobody(primary: str, cli: Cli, name: str) -> None:
    cli("dump", primary, "out", code=0)
    shutil.copytree("out", "whole")
    forge(Path("out"))
    target = f"memory:{name}-copy#articles"
    ended = cli("restore", "out", target, code=4)
    assert BROKEN in ended.err
    assert "remove what was written" in ended.err
    assert not list(Path(".exitramp").glob("transfer-*"))
    shutil.rmtree("out")
    Path("whole").rename("out")
    assert "already holds" in cli("restore", "out", target, code=2).err
    del collections_of(f"{name}-copy")["articles"]
    cli("restore", "out", target, code=0)


def test_a_target_that_lost_what_it_had_acknowledged_is_not_gone_on_with(primary: str, cli: Cli, name: str) -> None:
    target = f"memory:{name}-copy#articles"
    cli("copy", primary, target, code=0)
    with open_endpoint(primary) as one, open_endpoint(target) as other:
        place = place_of(one, other, None)
        assert place is not None
        place.acknowledge(Progress({0: Reached(None)}, ROWS, None, begun=True))
        place.close(complete=False)
    lose(target, ids_of(target)[:3])
    ended = cli("copy", primary, target, code=4)
    assert f"holds {ROWS - 3} records" in ended.err
    assert f"{ROWS} records of it would stay" in ended.err
    assert str(place.path) in ended.err
