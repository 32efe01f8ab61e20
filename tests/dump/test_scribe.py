"""Shards written by a process of their own are the same, and a dump survives the end of either process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from exitramp.dump.gathering import Gathering
from exitramp.dump.integrity import verify_dump
from exitramp.dump.manifest import read_manifest
from exitramp.dump.reader import DumpSource
from exitramp.dump.scribe import Scribe
from exitramp.dump.writer import DumpSink
from exitramp.errors import DataInvalid, StoreRejected
from exitramp.migration.dump_checkpoint import DumpCheckpoint
from exitramp.ports import Origin, TransferAccount, make_cursor
from exitramp.records import Verdict
from exitramp.transfer.copying import copy_records

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends the process with its parent")
SMALL: dict[str, Any] = {"shard_bytes": 4000, "group_bytes": 1500}


def until(true: Any, what: str) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@pytest.fixture
def scribes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Scribe]]:
    """Every scribe that is started, each waited for, so that from the first shard on it is at work."""
    started: list[Scribe] = []
    make, ready = Scribe.__init__, Scribe.is_ready

    def noted(self: Scribe, *arguments: Any) -> None:
        make(self, *arguments)
        started.append(self)
        until(lambda: ready(self), "the process did not come up")

    monkeypatch.setattr(Scribe, "__init__", noted)
    yield started
    assert all(scribe._process.poll() is not None for scribe in started), "a process was left behind"


def write(folder: Path, collection: Any, *, scribe_bytes: int, finish: bool = True) -> DumpSink:
    sink = DumpSink(folder, **SMALL, scribe_bytes=scribe_bytes)
    sink.create(collection.spec, Origin(collection.spec, "1"))
    done = sink.resume_state().rows
    for at, batch in enumerate(collection.batches(10)):
        if at * 10 >= done:
            sink.upsert(batch)
            sink.note_cursor(0, make_cursor(after=at))
    sink.flush()
    if finish:
        sink.finish(TransferAccount())
    return sink


def test_a_process_of_its_own_writes_the_same_dump(collection: Any, tmp_path: Path, scribes: list[Scribe]) -> None:
    write(tmp_path / "here", collection, scribe_bytes=1 << 40)
    assert not scribes
    write(tmp_path / "there", collection, scribe_bytes=0)
    assert len(scribes) == 1
    here, there = (read_manifest(tmp_path / name) for name in ("here", "there"))
    assert (here.digests, here.inventory, here.vector_facts) == (there.digests, there.inventory, there.vector_facts)
    assert [(each.path, each.rows, each.sha256) for each in here.shards] == [
        (each.path, each.rows, each.sha256) for each in there.shards
    ]
    assert verify_dump(tmp_path / "there").verdict is Verdict.PASS


def test_where_many_records_are_expected_the_process_is_there_from_the_first(
    plain: Any, tmp_path: Path, scribes: list[Scribe]
) -> None:
    """Told by the copy loop, which counts its source before it makes the target."""
    started = {}
    for rows in (10, 30_000):
        sink = DumpSink(tmp_path / str(rows))
        sink.expect(rows)
        sink.create(plain.spec, Origin(plain.spec, "1"))
        started[rows] = len(scribes)
        sink.close()
    assert started == {10: 0, 30_000: 1}


def test_a_copy_tells_a_dump_how_much_is_to_come(plain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(DumpSink, "expect", lambda self, rows: told.append(rows))
    write(tmp_path / "first", plain, scribe_bytes=1 << 40)
    sink, source = DumpSink(tmp_path / "second"), DumpSource(tmp_path / "first")
    copy_records(source, sink, batch_rows=10, checkpoint=DumpCheckpoint(sink))
    assert told == [source.count()]


def test_ids_that_stand_twice_are_found_over_both_ways_of_writing(plain: Any, tmp_path: Path, scribes: Any) -> None:
    sink = DumpSink(tmp_path, **SMALL, scribe_bytes=3000)
    sink.create(plain.spec, Origin(plain.spec, "1"))
    for at, batch in enumerate([*plain.batches(10), plain.batch().slice(0, 1)]):
        sink.upsert(batch)
        sink.note_cursor(0, make_cursor(after=at))
    sink.flush()
    assert scribes
    with pytest.raises(DataInvalid, match="doc-00000"):
        sink.finish(TransferAccount())
    sink.close()


def test_what_is_wrong_with_a_record_is_said_as_if_nobody_were_between(
    plain: Any, tmp_path: Path, scribes: Any
) -> None:
    batch = plain.batch()
    texts = batch.column("payload").to_pylist()
    texts[7] = "{"
    at = batch.schema.get_field_index("payload")
    broken = batch.set_column(at, batch.schema.field(at), pa.array(texts, pa.string()))
    sink = DumpSink(tmp_path, **SMALL, scribe_bytes=0)
    sink.create(plain.spec, Origin(plain.spec, "1"))
    sink.upsert(broken)
    with pytest.raises(DataInvalid, match="doc-00007"):
        sink.flush()
    with pytest.raises(StoreRejected, match="an earlier write"):
        sink.upsert(plain.batch())
    sink.close()
    assert scribes


def test_a_run_whose_scribe_was_killed_fails_and_the_next_one_goes_on(
    plain: Any, tmp_path: Path, scribes: list[Scribe]
) -> None:
    sink = DumpSink(tmp_path, **SMALL, scribe_bytes=0)
    sink.create(plain.spec, Origin(plain.spec, "1"))
    first, second, *_ = plain.batches(40)
    sink.upsert(first)
    sink.note_cursor(0, make_cursor(after=3))
    sink.flush()
    scribes[0]._process.kill()
    scribes[0]._process.wait()
    with pytest.raises(StoreRejected, match="has ended"):
        for _ in range(3):  # the pipe may take what nobody will read
            sink.upsert(second)
            sink.note_cursor(0, make_cursor(after=7))
            sink.flush()
    sink.close()
    write(tmp_path, plain, scribe_bytes=0)
    assert read_manifest(tmp_path).digests.rows == 120
    assert verify_dump(tmp_path).verdict is Verdict.PASS


STOPPED = """
import sys
from pathlib import Path
from tests.dump.conftest import PLAIN, Collection, plain_rows
from tests.dump import test_scribe as own
from exitramp.dump.scribe import Scribe
ready = Scribe.is_ready
Scribe.is_ready = lambda self: own.until(lambda: ready(self), "up") or True
sink = own.write(Path(sys.argv[1]), Collection(PLAIN, plain_rows(60)), scribe_bytes=0, finish=False)
print(sink._run._scribe._process.pid, flush=True)
sys.stdin.read()
"""


def test_nothing_is_waited_for_where_a_cursor_is_noted(
    plain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing and flushing have deadlines, which end a run whose process does not answer; noting a cursor has none."""
    within: list[str] = []
    waited: list[str] = []
    note, settle = Gathering.note, Gathering._settle

    def noting(self: Gathering, *arguments: Any) -> None:
        within.append("note")
        note(self, *arguments)
        within.pop()

    def settling(self: Gathering) -> None:
        waited.append("in a note" if within else "elsewhere")
        settle(self)

    monkeypatch.setattr(Gathering, "note", noting)
    monkeypatch.setattr(Gathering, "_settle", settling)
    write(tmp_path / "dump", plain, scribe_bytes=1 << 40)
    assert set(waited) == {"elsewhere"}


def test_a_scribe_ends_with_its_parent_whatever_ends_that(plain: Any, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    parent = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        cwd=root,
    )
    with parent:
        assert parent.stdout is not None
        scribe = int(parent.stdout.readline())
        assert Path(f"/proc/{scribe}").exists()
        parent.send_signal(signal.SIGKILL)
        until(lambda: not is_running(scribe), "the process outlived its parent")
    write(tmp_path, plain, scribe_bytes=1 << 40)
    assert read_manifest(tmp_path).digests.rows == 120
    assert verify_dump(tmp_path).verdict is Verdict.PASS


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
