"""The two files of a FAISS collection: damaged, half written, written by two at once, replaced while they are read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import pyarrow.parquet as pq
import pytest

from exitramp.errors import (
    CollectionMissing,
    FormatUnknown,
    IntegrityError,
    PathUnusable,
    StoreRejected,
)
from exitramp.ports import Partition
from exitramp.records import CollectionSpec
from exitramp.testing import batch_from_rows
from exitramp.testing.conformance.compare import assert_same_records
from exitramp.testing.conformance.steps import keys_of, limits_of, origin_of, read, refusal, write
from exitramp.testing.within import rows_within, spec_within
from tests.adapters.test_faiss import FaissHarness, made, numbers


def test_a_side_car_of_another_index_is_an_integrity_error_naming_both(tmp_path: Path) -> None:
    harness, *_ = made(tmp_path)
    path = harness.path("articles")
    index = faiss.read_index(str(path))
    index.add(numbers(1, 16))
    faiss.write_index(index, str(path))
    with pytest.raises(IntegrityError) as caught:
        harness.open("articles").source().describe()
    assert str(path) in caught.value.message
    assert str(harness.side_car("articles")) in caught.value.message


def test_a_side_car_without_its_index_is_an_integrity_error(tmp_path: Path) -> None:
    harness, *_ = made(tmp_path)
    harness.path("articles").unlink()
    with pytest.raises(IntegrityError, match="without the index"):
        harness.open("articles").source().describe()


def test_a_flipped_byte_in_either_file_changes_nothing_silently(tmp_path: Path) -> None:
    """Bytes of Parquet that nobody reads may flip unseen; then what is read is what was written."""
    harness, spec, rows = made(tmp_path)
    noticed: dict[Path, int] = {}
    for path in (harness.path("articles"), harness.side_car("articles")):
        whole = path.read_bytes()
        for place in range(0, len(whole), max(1, len(whole) // 60)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            error = refusal(lambda: read(harness, "articles"))
            assert error is None or isinstance(error, IntegrityError)
            if error is None:
                assert_same_records(rows, read(harness, "articles").rows, spec, limits_of(harness), str(place))
            noticed[path] = noticed.get(path, 0) + (error is not None)
        path.write_bytes(whole)
    assert noticed[harness.path("articles")] >= 60
    assert noticed[harness.side_car("articles")] >= 10


def test_a_side_car_of_an_unknown_format_is_refused(tmp_path: Path) -> None:
    harness, *_ = made(tmp_path)
    table = pq.read_table(harness.side_car("articles"))
    about = json.loads(table.schema.metadata[b"exitramp"])
    harness.write_about("articles", table, about | {"format": 2})
    with pytest.raises(FormatUnknown):
        harness.open("articles").source().describe()


KILLED_WRITER = """
import os, signal, pathlib
from exitramp.registry import open_store
from exitramp.records import CollectionSpec
from exitramp.testing.conformance.steps import origin_of
from exitramp.testing.rows import batch_from_rows
from exitramp.testing.within import rows_within
calls, whole = [], pathlib.Path.replace
def replace(self, target):
    calls.append(target)
    if len(calls) == {killed_before}:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self, target)
pathlib.Path.replace = replace
spec = CollectionSpec.from_json({spec!r})
store = open_store({address!r})
sink = store.sink()
sink.create(spec, origin_of(spec))
sink.upsert(batch_from_rows(rows_within(spec, sink.limits(), {rows}, 4), spec))
sink.flush()
"""


def killed_writer(harness: FaissHarness, spec: CollectionSpec, rows: int, killed_before: int) -> None:
    """A process that writes the first `rows` rows and is killed before its n-th rename."""
    program = KILLED_WRITER.format(
        killed_before=killed_before, spec=spec.to_json(), address=harness.address(spec.name), rows=rows
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr


def keys_held(harness: FaissHarness) -> set[str]:
    return {row.id for row in read(harness, "articles").rows}


def test_a_process_killed_between_two_renames_leaves_all_or_nothing_of_a_flush(tmp_path: Path) -> None:
    """The rename of the index is the moment at which a flush happens; the side-car follows or is found as `….new`."""
    harness = FaissHarness(tmp_path)
    spec = spec_within(limits_of(harness), "articles")
    rows = rows_within(spec, limits_of(harness), 8, 4)
    killed_writer(harness, spec, 3, killed_before=1)  # in `create`, before the index has its name
    with pytest.raises(CollectionMissing):
        harness.open("articles").source().describe()
    killed_writer(harness, spec, 3, killed_before=2)  # in `create`, before the side-car has
    assert keys_held(harness) == set()
    write(harness, spec, rows[:3])
    killed_writer(harness, spec, 8, killed_before=1)
    assert keys_held(harness) == {row.id for row in rows[:3]}
    killed_writer(harness, spec, 5, killed_before=2)
    assert keys_held(harness) == {row.id for row in rows[:5]}
    # Now the only fitting side-car is called `….new`; a further writer first gives it its name, and is killed in turn.
    killed_writer(harness, spec, 8, killed_before=2)
    assert keys_held(harness) == {row.id for row in rows[:5]}
    write(harness, spec, rows)
    assert_same_records(rows, read(harness, "articles").rows, spec, limits_of(harness), "in the end")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".exitramp", ".faiss"]


def test_two_writers_do_not_overwrite_each_other(tmp_path: Path) -> None:
    harness, spec, rows = made(tmp_path)
    one, two = harness.open("articles").sink(), harness.open("articles").sink()
    for sink in (one, two):
        sink.create(spec, origin_of(spec))
    one.upsert(batch_from_rows(rows[:1], spec))
    two.upsert(batch_from_rows(rows[1:2], spec))
    one.flush()
    with pytest.raises(StoreRejected, match="somebody else"):
        two.flush()


def test_a_folder_that_is_not_there_is_an_error_of_ours(tmp_path: Path) -> None:
    harness = FaissHarness(tmp_path / "no such folder")
    spec = spec_within(limits_of(harness), "articles")
    with pytest.raises(PathUnusable, match=r"(?s)cannot be written: No such file.*make its folder first"):
        harness.open("articles").sink().create(spec, origin_of(spec))


def test_a_scan_sees_one_state_while_files_are_replaced(tmp_path: Path) -> None:
    harness, spec, rows = made(tmp_path, rows=9)
    scan = harness.open("articles").source().scan(Partition(), batch_rows=4)
    first = next(scan)
    write(harness, spec, rows_within(spec, limits_of(harness), 20, 3)[9:])
    assert {row.key for row in rows} == set(keys_of([first, *scan]))
    assert harness.open("articles").source().count() == 20


def test_nothing_of_a_failed_write_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harness, spec, rows = made(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    sink = harness.open("articles").sink()
    sink.create(spec, origin_of(spec))
    sink.upsert(batch_from_rows([replace(rows[0], payload={})], spec))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(StoreRejected, match=r"(?s)No space left.*make room"):
        sink.flush()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    monkeypatch.undo()
    sink.flush()  # what was not written is still there to be written
    assert read(harness, "articles").by_id()[rows[0].id].payload == {}
