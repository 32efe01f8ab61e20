"""Files that go to the disk while they are written: all of them arrives, and what does not is an error."""

from __future__ import annotations

import errno
import json
import os
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest

from exitramp.records import CollectionSpec, IdKind
from exitramp_adapters.stores.files import hdf5_form, syncing
from exitramp_adapters.stores.files.syncing import Syncing


def test_what_is_written_soon_arrives_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "_SYNCED_BYTES", 30)
    monkeypatch.setattr(syncing, "_HELD_BYTES", 20)
    synced: list[int] = []
    fdatasync = os.fdatasync

    def counted(handle: int) -> None:
        synced.append(os.fstat(handle).st_size)
        fdatasync(handle)

    monkeypatch.setattr(os, "fdatasync", counted)
    path = tmp_path / "file"
    parts = [b"%010d" % number for number in range(50)]
    with path.open("wb", buffering=0) as file, Syncing(path) as found:
        for part in parts:
            found.write_soon(partial(file.write, part), len(part))
        found.settle()
        assert path.read_bytes() == b"".join(parts)
    assert synced == list(range(30, 500, 30))


@pytest.mark.parametrize("at_end", [False, True])
def test_a_sync_that_fails_on_the_way_is_an_error_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_end: bool
) -> None:
    monkeypatch.setattr(syncing, "_SYNCED_BYTES", 1)
    calls: list[int] = []

    def fails_once(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 1:  # as the system does: a second one would say nothing of it
            raise OSError(errno.EIO, "it failed")

    monkeypatch.setattr(os, "fdatasync", fails_once)
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(OSError, match="it failed"), Syncing(path) as found:
        found.wrote(1)
        for _ in range(0 if at_end else 1000):
            found.wrote(1)


def test_a_write_that_fails_is_an_error_and_leaves_no_thread_behind(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with path.open("rb", buffering=0) as file, pytest.raises(OSError, match="not open"), Syncing(path) as found:
        found.write_soon(partial(file.write, b"x"), 1)
    assert not found._other._threads or not any(thread.is_alive() for thread in found._other._threads)


@pytest.mark.parametrize(("together_bytes", "together"), [(0, 64), (10, 64), (10**6, 2), (10**6, 64)])
def test_texts_are_the_same_however_many_are_written_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together_bytes: int, together: int
) -> None:
    monkeypatch.setattr(hdf5_form, "_TOGETHER_BYTES", together_bytes)
    monkeypatch.setattr(hdf5_form, "_TOGETHER", together)
    texts = ["a", None, "", "é" * 9, "b", None, "cc", "", "d" * 20]
    whole = pa.record_batch([pa.array([str(row) for row in range(9)]), pa.array(texts)], ["id", "payload"])
    spec = CollectionSpec("c", IdKind.STRING, ())
    path = tmp_path / "x.hdf5"
    with h5py.File(path, "w") as file:
        group = file.create_group("exitramp")
        writers = [hdf5_form.TextsWriter(group, name, 9) for name in hdf5_form.TEXTS]
        for writer in writers:
            for start, stop in ((0, 1), (1, 2), (2, 6), (6, 9)):
                writer.add(whole.slice(start, stop - start))
            writer.write()
        told = json.dumps({"format": hdf5_form.FORMAT, "spec": spec.to_json(), "origin": None}).encode()
        group["about"] = np.frombuffer(told, np.uint8)
    with h5py.File(path) as file:
        [batch] = hdf5_form.Beside(path, file).read(0, 9)
        assert batch.column("payload").to_pylist() == texts
        assert batch.column("id").to_pylist() == whole.column("id").to_pylist()


def test_a_sync_that_was_asked_for_soon_is_waited_for_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(handle: int) -> None:
        raise OSError(errno.EIO, "it failed")

    monkeypatch.setattr(os, "fdatasync", fails)
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(OSError, match="it failed"), Syncing(path) as found:
        found.wrote(1)
        found.sync_soon()
