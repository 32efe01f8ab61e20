"""Gathering records into row groups and shards, cut where the source can go on."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final

import pyarrow as pa

from exitramp.digests import digest_batch
from exitramp.dump.doubles import DoubleFinder
from exitramp.dump.progress import SHARD, Progress, ShardRecord, split_at_last_cursor
from exitramp.dump.scribe import Scribe
from exitramp.dump.steps import OpenShard
from exitramp.errors import StoreRejected
from exitramp.journal import Journal
from exitramp.ports import Cursor

_LEAST_SHARD_BYTES: Final = 4 * 2**20


class Gathering:
    """An unfinished dump that this process writes, from batches and cursors to shards.

    A thread of its own digests and measures each batch as it comes and writes row groups, so that this and waiting for
    the disk overlap with reading the source; at most two row groups are in memory. Were a whole group handed over at
    once, that thread would stand idle while the first gathers and the source while the last is digested. Where more
    than a small dump is expected, or has turned out to come, the thread passes the work on to a process (see `scribe`)
    as soon as that has come up.

    A shard is an eighth of what was gathered before it, within bounds: of a small dump as of a great one little is left
    to be written when the source has been read, and little is lost when the run is killed.
    """

    def __init__(
        self,
        folder: Path,
        journal: Journal,
        progress: Progress,
        *,
        shard_bytes: int,
        group_bytes: int,
        scribe_bytes: int,
        expected_bytes: int = 0,
    ) -> None:
        self.spec = progress.collection
        self.journal = journal
        self.progress = progress
        self.shards: list[ShardRecord] = list(progress.standing)
        self.doubles = DoubleFinder()
        self._folder = folder
        self._shard_bytes = shard_bytes
        self._group_bytes = group_bytes
        self._scribe_bytes = scribe_bytes
        self._gathered: list[pa.RecordBatch] = []
        self._gathered_bytes = 0
        self._open_bytes = 0  # in the shard that is open, gathered rows not among them
        self._handed_bytes = 0  # in all shards of this run
        self._cursors: dict[int, Cursor] = {}
        self._all_covered = True
        self._notes_cursors = False
        self._shard: OpenShard | Scribe | None = None
        self._scribe: Scribe | None = None
        if expected_bytes >= scribe_bytes:
            self._begin_scribe()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="exitramp-shard")
        self._jobs: deque[Future[None]] = deque()
        self._due = 0  # how many of them must be done before more is gathered
        self._failed = self._closed = False
        self._stopped = False  # set by the worker: nothing that was handed over behind a failed job is done
        self._last: pa.RecordBatch | None = None

    def as_progress(self) -> Progress:
        """What a run that took the dump up now would find."""
        standing, uncovered = split_at_last_cursor(self.shards)
        return replace(self.progress, standing=standing, uncovered=uncovered)

    def gather(self, batch: pa.RecordBatch) -> None:
        self._require_whole()
        if not len(batch) or self._is_repeated(batch):
            return
        while self._due > 0:
            self._settle()
        self._last = batch
        self._all_covered = False
        self._submit(lambda: self._digest(batch))
        self._gathered.append(batch)
        self._gathered_bytes += batch.nbytes
        if self._gathered_bytes >= self._group_bytes:
            self._hand_over_group()
        # A caller that notes no cursors cannot resume either, so any place is as good for a cut.
        if not self._notes_cursors:
            self._cut_if_full()

    def _is_repeated(self, batch: pa.RecordBatch) -> bool:
        if self._last is None or not batch.column("id").equals(self._last.column("id")):
            return False
        return digest_batch(batch, self.spec) == digest_batch(self._last, self.spec)

    def note(self, partition_index: int, cursor: Cursor) -> None:
        self._require_whole()
        self._notes_cursors = self._all_covered = True
        self._last = None  # the same records behind a cursor are not a call repeated but a source that repeats itself
        self._cursors.pop(partition_index, None)
        self._cursors[partition_index] = cursor
        self._cut_if_full()

    def cut(self) -> None:
        """End the shard that is filling, if there is one; it stands after the next `wait`."""
        self._require_whole()
        if self._gathered:
            self._hand_over_group()
        if self._open_bytes:
            cursors: tuple[tuple[int, Cursor], ...] = ()
            if self._all_covered:
                cursors, self._cursors = tuple(self._cursors.items()), {}
            self._open_bytes = 0
            self._submit(lambda: self._seal(cursors))

    def wait(self) -> None:
        """Return when what was handed over is done. Raises what doing it raised; nothing follows that."""
        self._require_whole()
        while self._jobs:
            self._settle()

    def _settle(self) -> None:
        self._failed = True
        self._jobs.popleft().result()
        self._due -= 1
        self._failed = False

    def close(self) -> None:
        """Let go at once: whatever is still under way is given up. Calling it again does nothing."""
        if self._closed:
            return
        self._closed = True
        self._stopped = True
        # First the process, which the worker may be waiting for, and which may not answer for good.
        if self._scribe is not None:
            self._scribe.close()
        try:
            self._worker.shutdown(wait=True, cancel_futures=True)
        finally:
            if isinstance(self._shard, OpenShard):
                self._shard.abandon()
            self.journal.close()
            self.doubles.close()

    def _cut_if_full(self) -> None:
        wanted = min(self._shard_bytes, max(_LEAST_SHARD_BYTES, self._handed_bytes // 8))
        if self._open_bytes + self._gathered_bytes >= wanted:
            self.cut()

    def _hand_over_group(self) -> None:
        batches, self._gathered = self._gathered, []
        self._open_bytes += self._gathered_bytes
        self._handed_bytes += self._gathered_bytes
        self._gathered_bytes = 0
        # The group before this one must be written before the next is gathered, so that no third comes to stand in
        # memory. Not waited for here: a cursor is noted under no deadline.
        self._due = max(self._due, len(self._jobs) - len(batches))
        self._submit(lambda: self._write_group(batches))

    def _submit(self, job: Callable[[], None]) -> None:
        self._jobs.append(self._worker.submit(self._unless_stopped, job))

    # What follows runs in the worker's thread, one call after the other.

    def _unless_stopped(self, job: Callable[[], None]) -> None:
        if self._stopped:
            return
        try:
            job()
        except BaseException:
            self._stopped = True
            raise

    def _digest(self, batch: pa.RecordBatch) -> None:
        if self._shard is None:
            self._shard = self._opened()
        if isinstance(self._shard, Scribe):
            self._shard.digest(batch)
        else:
            self.doubles.add(self._shard.digest(batch))

    def _opened(self) -> OpenShard | Scribe:
        """The next shard: the process's if it has come up, else this thread's own."""
        number = len(self.shards)
        if self._scribe is None and self._handed_bytes >= self._scribe_bytes:
            self._begin_scribe()
        if self._scribe is not None and self._scribe.is_ready():
            self._scribe.open(number)
            return self._scribe
        return OpenShard(self._folder, number, self.spec)

    def _begin_scribe(self) -> None:
        if sys.platform == "linux":
            self._scribe = Scribe(self._folder, self.spec)

    def _write_group(self, batches: list[pa.RecordBatch]) -> None:
        assert self._shard is not None
        if isinstance(self._shard, Scribe):
            self._shard.write_group()  # it has the batches
        else:
            self._shard.write_group(batches)

    def _seal(self, cursors: tuple[tuple[int, Cursor], ...]) -> None:
        if self._shard is None:
            return
        if isinstance(self._shard, Scribe):
            sealed, found = self._shard.seal()
            self.doubles.add_prefixes(found)
        else:
            sealed = self._shard.seal()
        record = replace(sealed, cursors=cursors)
        self.journal.append(SHARD, record.to_json())
        self.shards.append(record)
        self._shard = None

    # In whichever thread.

    def _require_whole(self) -> None:
        if self._failed:
            raise StoreRejected(
                f"{self._folder}: an earlier write to it failed", hint="run the same command again to go on from there"
            )
