"""A dump killed at any moment is taken up again, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from exitramp import durable
from exitramp.dump import steps
from exitramp.dump.integrity import verify_dump
from exitramp.dump.manifest import read_manifest
from exitramp.dump.progress import ResumeState
from exitramp.dump.reader import DumpSource
from exitramp.dump.writer import DumpSink
from exitramp.errors import (
    CollectionExists,
    DataInvalid,
    DumpCorrupt,
    FormatUnknown,
    JournalCorrupt,
    RoleUnsupported,
    StoreRejected,
    UsageError,
)
from exitramp.journal import Journal, read_journal
from exitramp.ports import Origin, TransferAccount, make_cursor
from exitramp.records import CollectionSpec, Verdict

needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to tell which file is synced")
PROGRAM = Path(__file__).with_name("crashing_copy.py")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("undisturbed") / "dump"
    subprocess.run([sys.executable, str(PROGRAM), "copy", str(folder)], check=True, capture_output=True)
    return read_manifest(folder)


def test_killed_before_and_after_every_durable_step_it_ends_as_if_nothing_had_happened(
    tmp_path: Path, undisturbed: Any
) -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "every-step", str(tmp_path)], check=True, capture_output=True, text=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    kills = [line for line in lines if "step" in line]
    ends = [line for line in lines if "steps" in line]
    assert [(end["when"], end["exit"]) for end in ends] == [("before", 0), ("after", 0)]
    assert len(kills) == sum(end["steps"] for end in ends)
    assert len(kills) > 40
    for line in kills:
        assert line["exit"] == 0, line
        assert line["digests"] == undisturbed.digests.to_json(), line
        assert line["findings"] == 0, line


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_again_and_again_at_random_moments_it_ends_as_if_nothing_had_happened(
    tmp_path: Path, undisturbed: Any, seed: int
) -> None:
    rng = random.Random(seed)
    folder = tmp_path / "dump"
    resumed_rows = []
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, str(PROGRAM), "copy", str(folder)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            resumed_rows.append(int(child.stdout.readline().split()[1]))
            for _ in range(rng.randrange(2, 6)):
                child.stdout.readline()
            child.kill()
    assert not (folder / "manifest.json").exists()
    subprocess.run([sys.executable, str(PROGRAM), "copy", str(folder)], check=True, capture_output=True)
    assert resumed_rows == sorted(resumed_rows)
    manifest = read_manifest(folder)
    assert manifest.digests == undisturbed.digests
    assert manifest.inventory == undisturbed.inventory
    assert manifest.vector_facts == undisturbed.vector_facts
    assert manifest.resumed == 3
    assert verify_dump(folder).to_json()["findings"] == []


def begun(folder: Path, collection: Any, *, rows: int = 60, **options: Any) -> DumpSink:
    sink = DumpSink(folder, **{"shard_bytes": 4000, "group_bytes": 1500, **options})
    sink.create(collection.spec, Origin(collection.spec, "1"))
    for number, batch in enumerate(type(collection)(collection.spec, collection.rows[:rows]).batches(10)):
        sink.upsert(batch)
        sink.note_cursor(0, make_cursor(row=10 * number + len(batch)))
    return sink


@needs_proc
def test_the_durable_steps_of_a_shard_come_in_their_order(
    tmp_path: Path, plain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real_fsync, real_rename, real_append = os.fsync, Path.rename, Journal.append

    def fsync(handle: int) -> None:
        real_fsync(handle)
        seen.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{handle}')).name}")

    def rename(place: Path, target: Path) -> Path:
        seen.append(f"rename {place.name}")
        return real_rename(place, target)

    def decode_again(shard: Any) -> None:
        seen.append("decode again")
        real_decode(shard)

    def append(journal: Journal, kind: str, data: Any) -> Any:
        seen.append(f"journal {kind}")
        return real_append(journal, kind, data)

    real_decode = steps.OpenShard._decode_again
    sink = begun(tmp_path / "dump", plain, rows=0)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(Journal, "append", append)
    monkeypatch.setattr(steps.OpenShard, "_decode_again", decode_again)
    sink.upsert(plain.batch())
    sink.note_cursor(0, make_cursor(row=120))
    sink.flush()
    shard = ["fsync 00000.parquet.tmp", "decode again", "rename 00000.parquet.tmp", "fsync shards"]
    assert seen == [*shard, "journal shard", "fsync journal.jsonl"]
    seen.clear()
    sink.finish(TransferAccount())
    manifest_hash = ["fsync manifest.json.sha256.tmp", "rename manifest.json.sha256.tmp", "fsync dump"]
    manifest = ["fsync manifest.json.tmp", "rename manifest.json.tmp", "fsync dump"]
    assert seen == ["journal finish", "fsync journal.jsonl", *manifest_hash, *manifest]


@needs_proc
@pytest.mark.parametrize("failing", ["00000.parquet.tmp", "shards", "journal.jsonl"])
def test_a_failed_fsync_ends_the_run_and_acknowledges_nothing(
    tmp_path: Path, plain: Any, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    real = os.fsync

    def fsync(handle: int) -> None:
        if Path(os.readlink(f"/proc/self/fd/{handle}")).name == failing:
            raise OSError(5, "Input/output error")
        real(handle)

    folder = tmp_path / "dump"
    sink = begun(folder, plain, rows=0)
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StoreRejected, match="Input/output error") as caught:
        sink.upsert(plain.batch())
        sink.note_cursor(0, make_cursor(row=120))
        sink.flush()
    assert not caught.value.retryable
    monkeypatch.undo()
    for attempt in (lambda: sink.upsert(plain.batch()), sink.flush, lambda: sink.finish(TransferAccount())):
        with pytest.raises(StoreRejected, match="earlier write"):
            attempt()
    sink.close()
    assert not (folder / "manifest.json").exists()


def test_a_full_disk_says_what_to_do(tmp_path: Path, plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(handle: int) -> None:
        raise OSError(28, "No space left on device")

    sink = begun(tmp_path / "dump", plain, rows=0)
    monkeypatch.setattr(durable.os, "fsync", fsync)
    with pytest.raises(StoreRejected, match=r"(?s)No space left.*make room"):
        sink.upsert(plain.batch())
        sink.flush()
    sink.close()


def test_a_shard_that_decodes_into_something_else_is_never_acknowledged(
    tmp_path: Path, plain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = begun(tmp_path / "dump", plain, rows=0)
    real = steps.ShardReader.batches
    monkeypatch.setattr(
        steps.ShardReader, "batches", lambda reader, group: (batch.slice(1) for batch in real(reader, group))
    )
    with pytest.raises(DumpCorrupt, match=r"ids, payloads, vectors\.vector differ"):
        sink.upsert(plain.batch())
        sink.flush()
    sink.close()
    assert [entry.kind for entry in read_journal(tmp_path / "dump" / "journal.jsonl")] == ["begin"]


def test_what_was_acknowledged_is_what_resume_state_tells_before_and_after_create(tmp_path: Path, plain: Any) -> None:
    folder = tmp_path / "dump"
    assert DumpSink(folder).resume_state() == ResumeState()
    sink = begun(folder, plain)
    sink.flush()
    told = sink.resume_state()
    sink.upsert(plain.batch().slice(60, 10))  # gathered, never acknowledged
    sink.note_cursor(0, make_cursor(row=70))
    sink.close()
    assert told.rows == 60
    assert (told.partition_index, told.cursor) == (0, make_cursor(row=60))
    assert told.cursors == {0: make_cursor(row=60)}
    again = DumpSink(folder)
    assert again.resume_state() == told
    again.create(plain.spec, Origin(plain.spec, "2"))
    assert again.resume_state() == told
    again.close()


def test_shards_behind_the_last_cursor_come_again_and_are_dropped(tmp_path: Path, plain: Any) -> None:
    folder = tmp_path / "dump"
    sink = begun(folder, plain)
    sink.flush()
    sink.upsert(plain.batch().slice(60, 10))
    sink.flush()  # without a cursor
    assert sink.resume_state().rows == 60
    sink.close()
    again = begun(folder, plain, rows=0)
    assert again.resume_state().rows == 60
    again.upsert(plain.batch().slice(60))
    again.note_cursor(0, make_cursor(row=120))
    again.finish(TransferAccount())
    assert [entry.kind for entry in read_journal(folder / "journal.jsonl")].count("drop") == 1
    assert verify_dump(folder).to_json()["findings"] == []
    assert DumpSource(folder).count() == 120


def test_what_nobody_acknowledged_is_cleared_away_and_nothing_else(tmp_path: Path, plain: Any) -> None:
    folder = tmp_path / "dump"
    sink = begun(folder, plain)
    sink.flush()
    sink.close()
    standing = {path.name for path in (folder / "shards").iterdir()}
    (folder / "shards" / "00009.parquet.tmp").write_text("torn")
    (folder / "shards" / "00009-0123456789abcdef.parquet").write_text("renamed, but not in the journal")
    (folder / "manifest.json.tmp").write_text("torn")
    (folder / "shards" / "mine.parquet").write_text("somebody's")
    begun(folder, plain, rows=0).close()
    assert {path.name for path in (folder / "shards").iterdir()} == standing | {"mine.parquet"}
    assert not (folder / "manifest.json.tmp").exists()


@pytest.mark.parametrize("how", ["missing", "shorter", "flipped"])
def test_a_standing_shard_that_was_damaged_meanwhile_is_named_and_no_dump_is_made(
    tmp_path: Path, plain: Any, how: str
) -> None:
    folder = tmp_path / "dump"
    sink = begun(folder, plain)
    sink.flush()
    sink.close()
    [shard, *_] = sorted((folder / "shards").iterdir())
    content = bytearray(shard.read_bytes())
    if how == "missing":
        shard.unlink()
    else:
        content[len(content) // 2] ^= 1
        shard.write_bytes(content if how == "flipped" else content[:-1])
    with pytest.raises(DumpCorrupt, match=shard.name):
        begun(folder, plain, rows=0).finish(TransferAccount())
    assert not (folder / "manifest.json").exists()


def test_a_batch_that_is_given_twice_in_a_row_is_taken_once(tmp_path: Path, wide: Any) -> None:
    sink = begun(tmp_path / "dump", wide, rows=0)
    for batch in wide.batches(20):
        sink.upsert(batch)
        sink.upsert(batch)
        sink.note_cursor(0, make_cursor(row=1))
    sink.finish(TransferAccount())
    sink.finish(TransferAccount())
    assert DumpSource(tmp_path / "dump").count() == 120


def test_a_page_that_the_source_yields_twice_is_not_taken_for_a_repeated_call(tmp_path: Path, plain: Any) -> None:
    sink = begun(tmp_path / "dump", plain, rows=20)
    sink.upsert(plain.batch().slice(10, 10))
    sink.note_cursor(0, make_cursor(row=20))
    with pytest.raises(DataInvalid, match=r"10 records more than once: 'doc-00010'"):
        sink.finish(TransferAccount())
    sink.close()


def test_a_call_beside_one_that_was_given_up_on_is_refused(
    tmp_path: Path, plain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, leave = threading.Event(), threading.Event()
    real = steps.OpenShard.write_group

    def waiting(shard: Any, batches: Any) -> None:
        inside.set()
        leave.wait(30)
        real(shard, batches)

    sink = begun(tmp_path / "dump", plain, rows=0)
    monkeypatch.setattr(steps.OpenShard, "write_group", waiting)
    sink.upsert(plain.batch())
    given_up = threading.Thread(target=sink.flush)
    given_up.start()
    assert inside.wait(30)
    with pytest.raises(StoreRejected, match="still at work"):
        sink.upsert(plain.batch())
    leave.set()
    given_up.join()
    sink.finish(TransferAccount())


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("shard", {"path": "../x"}),
        ("shard", {}),
        ("other", {}),
        ("drop", {}),
    ],
)
def test_a_journal_line_that_no_version_writes_is_corruption(
    tmp_path: Path, plain: Any, kind: str, data: dict[str, Any]
) -> None:
    begun(tmp_path / "dump", plain, rows=0).close()
    with Journal(tmp_path / "dump" / "journal.jsonl") as journal:
        journal.append(kind, data)
    with pytest.raises(JournalCorrupt, match=r"journal\.jsonl:2:"):
        DumpSink(tmp_path / "dump").resume_state()


def test_an_unfinished_dump_of_another_format_is_left_alone(tmp_path: Path, plain: Any) -> None:
    (tmp_path / "dump").mkdir()
    with Journal(tmp_path / "dump" / "journal.jsonl") as journal:
        journal.append("begin", {"format_version": 2})
    with pytest.raises(FormatUnknown):
        begun(tmp_path / "dump", plain)


def test_a_finished_dump_is_never_written_to_again(plain: Any, write_dump: Any) -> None:
    folder = write_dump(plain)
    with pytest.raises(CollectionExists, match="finished dump"):
        begun(folder, plain)
    assert verify_dump(folder).verdict is Verdict.PASS


def test_a_sink_that_has_finished_takes_nothing_more(tmp_path: Path, plain: Any) -> None:
    sink = begun(tmp_path / "dump", plain)
    sink.finish(TransferAccount())
    with pytest.raises(CollectionExists, match="finished dump"):
        sink.upsert(plain.batch())


def test_an_unfinished_dump_of_another_collection_is_not_taken_up(tmp_path: Path, plain: Any, wide: Any) -> None:
    begun(tmp_path / "dump", plain, rows=0).close()
    with pytest.raises(CollectionExists, match="'name' differs"):
        begun(tmp_path / "dump", wide)
    other = CollectionSpec("articles", plain.spec.id_kind, wide.spec.vectors)
    with pytest.raises(CollectionExists, match="'vectors' differs"):
        begun(tmp_path / "dump", type(plain)(other, []))


def test_a_folder_with_other_files_is_not_written_to(tmp_path: Path, plain: Any) -> None:
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(CollectionExists, match="thesis"):
        begun(tmp_path, plain)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]
    with pytest.raises(CollectionExists, match="no folder"):
        begun(tmp_path / "thesis.docx", plain)


def test_two_processes_do_not_write_one_dump(tmp_path: Path, plain: Any) -> None:
    sink = begun(tmp_path / "dump", plain)
    with pytest.raises(UsageError, match="another process"):
        begun(tmp_path / "dump", plain)
    sink.finish(TransferAccount())


def test_ids_that_a_source_yields_twice_are_named_and_no_dump_is_made(tmp_path: Path, plain: Any) -> None:
    sink = begun(tmp_path / "dump", plain)
    sink.upsert(plain.batch().slice(5, 2))
    with pytest.raises(DataInvalid, match=r"2 records more than once: 'doc-00005', 'doc-00006'"):
        sink.finish(TransferAccount())
    sink.close()
    assert not (tmp_path / "dump" / "manifest.json").exists()


def test_an_id_that_a_resumed_run_writes_again_is_named(tmp_path: Path, plain: Any) -> None:
    sink = begun(tmp_path / "dump", plain)
    sink.flush()
    sink.close()
    again = begun(tmp_path / "dump", plain, rows=0)
    again.upsert(plain.batch().slice(59, 1))
    with pytest.raises(DataInvalid, match="doc-00059"):
        again.finish(TransferAccount())
    again.close()


def test_an_account_that_read_something_else_is_not_signed(tmp_path: Path, plain: Any) -> None:
    sink = begun(tmp_path / "dump", plain)
    sink.flush()
    digests = {**sink.resume_state().digests.to_json(), "payloads": "0" * 64}
    with pytest.raises(DumpCorrupt, match="payloads differ"):
        sink.finish(TransferAccount(digests=digests))
    sink.close()


def test_nothing_is_deleted_from_a_dump(tmp_path: Path, plain: Any) -> None:
    sink = begun(tmp_path / "dump", plain)
    with pytest.raises(RoleUnsupported, match="append-only"):
        sink.delete([])
    sink.close()


def test_a_sink_that_was_not_begun_says_so(tmp_path: Path, plain: Any) -> None:
    with pytest.raises(UsageError, match="create"):
        DumpSink(tmp_path / "dump").upsert(plain.batch())
