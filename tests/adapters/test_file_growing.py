"""Vectors that wait in the file that is to be the matrix: it is completed where it may be, and never trusted beyond
what segments say of it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from exitramp.errors import FormatUnknown, IntegrityError, StoreRejected
from exitramp.ports import Origin, Partition, TransferAccount
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp.testing.rows import Row, batch_from_rows, rows_from_batch
from exitramp_adapters.stores.files import hdf5, npy
from exitramp_adapters.stores.files import staging as files_staging
from exitramp_adapters.stores.files.growing import Growing

DIMENSIONS = 64
MATRIX = np.random.default_rng(3).standard_normal((90, DIMENSIONS), dtype=np.float32)
FIELD = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, DIMENSIONS)
SPEC = CollectionSpec("articles", IdKind.STRING, (FIELD,), True, True)
STORES = {"npy": npy.NpyStore, "hdf5": hdf5.Hdf5Store}


@pytest.fixture(params=list(STORES))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(kind: str, tmp_path: Path) -> Path:
    return tmp_path / f"m.{kind}"


def some(start: int, stop: int, word: str = "new", vectors: int = 0) -> list[Row]:
    """Rows of these numbers; `vectors` says by how much the numbers of their vectors are other ones."""
    numbers = range(start, stop)
    return [Row(f"r{row}", None, word, {"n": row}, {"vector": MATRIX[row + vectors]}) for row in numbers]


@contextmanager
def sink_of(path: Path) -> Iterator[Any]:
    store = open_store(f"{path.suffix[1:]}:{path}")
    sink = store.sink()
    try:
        sink.create(SPEC, Origin(SPEC, "0"))
        yield sink
    finally:
        store.close()


def write(path: Path, *parts: list[Row], finish: bool = True) -> None:
    with sink_of(path) as sink:
        for rows in parts:
            sink.upsert(batch_from_rows(rows, SPEC))
            sink.flush()
        if finish:
            sink.finish(TransferAccount())


def read(path: Path) -> dict[str, tuple[str | None, bytes]]:
    store = open_store(f"{path.suffix[1:]}:{path}")
    pages = store.source().scan(Partition(), batch_rows=7)
    rows = [row for page in pages for row in rows_from_batch(page.batch, SPEC)]
    store.close()
    assert len({row.id for row in rows}) == len(rows)
    return told(rows)


def told(rows: list[Row]) -> dict[str, tuple[str | None, bytes]]:
    return {row.id: (row.document, np.asarray(row.vectors["vector"]).tobytes()) for row in rows}


def vectors_in(path: Path) -> np.ndarray[Any, Any]:
    """What the library of these files reads."""
    if path.suffix == ".npy":
        return np.asarray(np.load(path))
    with h5py.File(path) as file:
        return np.asarray(file["train"][:])


def waiting(path: Path) -> Path:
    return path.with_name(path.name + ".exitramp-load") / "matrix"


def files_beside(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir() if each not in (path, Path(f"{path}.parquet")))


def test_the_vectors_that_were_flushed_become_the_matrix(path: Path) -> None:
    write(path, some(0, 30), some(30, 31), some(31, 60), finish=False)
    inode = waiting(path).stat().st_ino
    assert read(path) == told(some(0, 60))
    write(path, some(60, 90))
    assert path.stat().st_ino == inode
    assert vectors_in(path).tobytes() == MATRIX.tobytes()
    assert read(path) == told(some(0, 90))
    assert files_beside(path) == []


@pytest.mark.parametrize("doubled", ["in the same load", "by a later run", "deleted", "there before"])
def test_a_key_that_is_written_twice_or_deleted_has_the_files_written_anew(path: Path, doubled: str) -> None:
    wanted = told([*some(0, 30), *some(30, 40, "old")])
    if doubled == "in the same load":
        write(path, some(0, 40, "old", 50), some(0, 30), some(30, 40, "old"))
    elif doubled == "by a later run":
        write(path, some(0, 40, "old"), finish=False)
        write(path, some(0, 30))
    elif doubled == "deleted":
        write(path, some(0, 60, "old"), some(0, 30), finish=False)
        with sink_of(path) as sink:
            sink.delete([RecordKey(f"r{row}") for row in range(40, 60)])
            sink.finish(TransferAccount())
    else:
        write(path, some(0, 40, "old"))
        write(path, some(0, 30))
    assert read(path) == wanted
    assert len(vectors_in(path)) == 40
    assert files_beside(path) == []


def test_a_torn_end_is_cut_off_and_written_over(path: Path) -> None:
    write(path, some(0, 20), finish=False)
    with waiting(path).open("ab") as file:  # a flush of many rows, killed before its segment got its name
        file.write(MATRIX.tobytes()[:-3])
    (waiting(path).parent / "00000002.tmp").write_bytes(b"ARROW1")
    assert read(path) == told(some(0, 20))
    write(path, some(20, 30), finish=False)
    assert read(path) == told(some(0, 30))
    with waiting(path).open("ab") as file:
        file.write(b"x" * 1001)
    write(path)
    assert read(path) == told(some(0, 30))
    assert vectors_in(path).tobytes() == MATRIX[:30].tobytes()
    if path.suffix == ".npy":
        assert path.stat().st_size == 128 + MATRIX[:30].nbytes
    assert files_beside(path) == []


@pytest.mark.parametrize("left", [None, 5000])
def test_vectors_that_are_lost_are_found_out(path: Path, left: int | None) -> None:
    write(path, some(0, 20), finish=False)
    if left is None:
        waiting(path).unlink()
    else:
        os.truncate(waiting(path), left)
    with pytest.raises(IntegrityError, match="matrix is damaged: it is shorter"):
        read(path)
    with pytest.raises(IntegrityError, match="matrix is damaged: it is shorter"):
        write(path, some(20, 30))


def test_segments_of_earlier_versions_are_gone_on_with(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(STORES[path.suffix[1:]], "rows_begin", lambda store, spec: None)
        write(path, some(0, 20), finish=False)
    head = json.loads((waiting(path).parent / "collection.json").read_bytes())
    assert head["format"] == 1
    write(path, some(20, 40), finish=False)
    assert not waiting(path).exists()
    assert read(path) == told(some(0, 40))
    write(path, some(40, 60))
    assert read(path) == told(some(0, 60))


def test_segments_of_later_versions_are_refused(path: Path) -> None:
    write(path, some(0, 20), finish=False)
    head = waiting(path).parent / "collection.json"
    head.write_text(json.dumps(json.loads(head.read_bytes()) | {"format": 3}))
    with pytest.raises(FormatUnknown, match="format 3 is not known"):
        read(path)
    with pytest.raises(FormatUnknown, match="format 3 is not known"):
        write(path, some(20, 30))


class Killed(BaseException):
    """Stands for the moment at which a process ends."""


@pytest.mark.parametrize("moment", range(15))
def test_a_writer_killed_at_any_step_of_the_end_leaves_all_that_was_flushed(
    moment: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0

    def counted(step: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*arguments: Any, **named: Any) -> Any:
            nonlocal steps
            if steps == moment:
                raise Killed
            steps += 1
            return step(*arguments, **named)

        return stepped

    write(path, some(0, 20), some(20, 60), finish=False)
    with sink_of(path) as sink, monkeypatch.context() as patched:
        for name in ("replace", "unlink", "rename"):
            patched.setattr(Path, name, counted(getattr(Path, name)))
        patched.setattr(os, "fsync", counted(os.fsync))
        patched.setattr(Growing, "complete", counted(Growing.complete))
        patched.setattr(files_staging, "write_atomically", counted(files_staging.write_atomically))
        try:
            sink.finish(TransferAccount())
        except Killed:
            pass
        else:
            assert moment > 10, "the end has fewer steps than are thought of"
    assert read(path) == told(some(0, 60))
    write(path, some(60, 61))
    assert read(path) == told(some(0, 61))
    assert len(vectors_in(path)) == 61
    assert files_beside(path) == []


def test_a_flush_that_fails_is_made_again_in_the_same_place(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, some(0, 20), finish=False)
    with sink_of(path) as sink:
        sink.upsert(batch_from_rows(some(20, 40), SPEC))
        with monkeypatch.context() as patched:

            def full(handle: int) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            patched.setattr(os, "fsync", full)
            with pytest.raises(StoreRejected, match="No space left"):
                sink.flush()
        assert read(path) == told(some(0, 20))
        sink.finish(TransferAccount())
    assert read(path) == told(some(0, 40))
    assert vectors_in(path).tobytes() == MATRIX[:40].tobytes()


def test_who_reads_what_was_flushed_sees_nothing_of_the_end(path: Path) -> None:
    write(path, some(0, 60), finish=False)
    store = open_store(f"{path.suffix[1:]}:{path}")
    pages = store.source().scan(Partition(), batch_rows=7)
    rows = rows_from_batch(next(iter(pages)).batch, SPEC)
    write(path, some(60, 90))
    rows += [row for page in pages for row in rows_from_batch(page.batch, SPEC)]
    store.close()
    assert told(rows) == told(some(0, 60))


def test_rows_too_few_for_the_library_to_stand_where_they_wait_are_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "m.hdf5"
    write(path, some(0, 2))
    assert read(path) == told(some(0, 2))
    assert vectors_in(path).tobytes() == MATRIX[:2].tobytes()
    assert files_beside(path) == []
