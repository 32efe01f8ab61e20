"""Writing a dump: records gather into shards, and what was acknowledged survives anything.

The order of durable steps, for each shard: written and hashed → fsync → decoded again and compared with what was
given → renamed to its hash → folder fsync → journal line → fsync → acknowledged. `manifest.json` comes last and
atomically, `manifest.json.sha256` just before it. A failed step ends the run; a run that ended anywhere is taken up
from the journal by the next one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import pyarrow as pa

from exitramp.arrow import usual_row_bytes
from exitramp.clock import Clock, SystemClock, iso_utc
from exitramp.dump.closing import Closing, finish_line, require_account, require_no_doubles, write_manifest
from exitramp.dump.gathering import Gathering
from exitramp.dump.layout import FORMAT_VERSION, JOURNAL, SHARDS
from exitramp.dump.limits import LIMITS, require_sound
from exitramp.dump.progress import (
    BEGIN,
    FINISH,
    RESUME,
    Progress,
    ResumeState,
    read_progress,
)
from exitramp.dump.taking_up import (
    clear_away,
    keys_with_leaves,
    refuse_foreign_folder,
    require_same_collection,
    require_same_selection,
    require_sizes,
    require_standing,
)
from exitramp.durable import make_folder
from exitramp.errors import CollectionExists, RoleUnsupported, StoreRejected, UsageError
from exitramp.journal import Journal, read_journal
from exitramp.ports import Cursor, Origin, SinkLimits, TransferAccount
from exitramp.records import CollectionSpec, RecordKey
from exitramp.secrets import redacted

SHARD_BYTES: Final = 64 * 2**20
GROUP_BYTES: Final = 8 * 2**20
SCRIBE_BYTES: Final = 16 * 2**20
"""Gathered before a process of its own is started for the rest, which takes 0.3 s of a second core to come up."""


class DumpSink:
    """A `VectorSink` that writes a folder. Append-only: nothing written is replaced, nothing is deleted.

    The copy loop calls, for each page, `upsert(page.batch)` and then `note_cursor(partition.index, page.cursor)`.
    Shards are cut at those notes by themselves, so `flush` is needed only at the end; after a crash `create` takes
    the dump up again and `resume_state()` says behind which cursor to go on.
    """

    flush_rows_hint: Final = 1 << 40
    """Rows to write between two calls of `flush`: more than there are, since each may cut a shard short."""

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock | None = None,
        shard_bytes: int = SHARD_BYTES,
        group_bytes: int = GROUP_BYTES,
        scribe_bytes: int = SCRIBE_BYTES,
    ) -> None:
        self._folder = folder
        self._clock = clock or SystemClock()
        self._shard_bytes = shard_bytes
        self._group_bytes = group_bytes
        self._scribe_bytes = scribe_bytes
        self.selection: Mapping[str, str] | None = None
        """What of its source the dump is to hold, by whatever names; None: nobody says. Set before `create`, which
        keeps it in the journal, and refuses to go on with another."""
        self._expected_rows = 0
        self._run: Gathering | None = None
        self._finished = False
        self._busy = threading.Lock()

    def limits(self) -> SinkLimits:
        return LIMITS

    def expect(self, rows: int) -> None:
        """About so many rows are to come: before `create`, so that what many of them need comes up in time."""
        self._expected_rows = rows

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        """Begin a dump in the folder, or take up the unfinished one that is there.

        Raises `CollectionExists` for a finished dump, for an unfinished one of another collection and for a folder
        with other files; `DumpCorrupt` or `JournalCorrupt` when what stood is damaged; `UsageError` when another
        process is writing to it, or another `selection` was begun there.
        """
        spec = _without_secrets(spec)
        origin = replace(origin, spec=_without_secrets(origin.spec))
        with self._alone():
            if self._run is not None:
                require_same_collection(self._run.as_progress(), spec, origin, self._folder)
                return
            refuse_foreign_folder(self._folder)
            make_folder(self._folder / SHARDS)
            journal = Journal(self._folder / JOURNAL)
            try:
                self._run = self._begin_or_take_up(journal, spec, origin)
            except BaseException:
                journal.close()
                raise

    def _begin_or_take_up(self, journal: Journal, spec: CollectionSpec, origin: Origin) -> Gathering:
        now = iso_utc(self._clock.now())
        progress = read_progress(journal.entries, journal.path)
        if progress is None:
            begin = {"format_version": FORMAT_VERSION, "started_at": now, "collection": spec.to_json()}
            chosen = {} if self.selection is None else {"selection": dict(self.selection)}
            journal.append(BEGIN, {**begin, "origin": origin.to_json(), **chosen})
            clear_away(self._folder, None, journal)
            progress = Progress(spec, origin, now, 0, (), (), selection=self.selection)
        else:
            require_same_selection(progress, self.selection, self._folder)
            require_same_collection(progress, spec, origin, self._folder)
            require_sizes(self._folder, progress.standing)
            clear_away(self._folder, progress, journal)
            journal.append(RESUME, {"at": now})
            progress = replace(progress, resumed=progress.resumed + 1, uncovered=())
        return Gathering(
            self._folder,
            journal,
            progress,
            shard_bytes=self._shard_bytes,
            group_bytes=self._group_bytes,
            scribe_bytes=self._scribe_bytes,
            expected_bytes=self._expected_rows * usual_row_bytes(spec),
        )

    def resume_state(self) -> ResumeState:
        """Where to go on: what stands in the folder now, and behind which cursors. Nothing, where nothing does."""
        if self._run is not None:
            return self._run.as_progress().resume_state()
        path = self._folder / JOURNAL
        progress = read_progress(read_journal(path), path) if path.exists() else None
        return ResumeState() if progress is None else progress.resume_state()

    def upsert(self, batch: pa.RecordBatch) -> None:
        """Take records; a key that was written before makes `finish` fail. Raises `DataInvalid` naming row or id.

        The same batch twice, with no cursor noted between, is taken once: a call that was given up on can be repeated.
        """
        with self._alone():
            run = self._open_run()
            require_sound(batch, run.spec)
            run.gather(batch)

    def note_cursor(self, partition_index: int, cursor: Cursor) -> None:
        """Everything of that partition up to `cursor` has been given to `upsert`, in this order."""
        self._open_run().note(partition_index, cursor)

    def delete(self, keys: Sequence[RecordKey]) -> None:
        raise RoleUnsupported("a dump is append-only: nothing can be deleted from it", hint="dump again")

    def flush(self) -> None:
        """Return when everything written before is on the disk; cuts the current shard."""
        with self._alone():
            run = self._open_run()
            run.cut()
            run.wait()

    def finish(self, account: TransferAccount) -> None:
        """Check what stood before this run and that every id stands once, and write the manifest.

        Raises `DumpCorrupt` naming a shard that was damaged meanwhile, `DataInvalid` naming ids that stand twice.
        """
        with self._alone():
            if self._finished:
                return
            run = self._open_run()
            run.cut()
            run.wait()
            self._finish(run, account)
            self._finished = True
        self.close()

    def _finish(self, run: Gathering, account: TransferAccount) -> None:
        # Here and not in `create`: reading a great dump again takes longer than opening one may.
        require_standing(self._folder, run.progress.standing)
        for _, leaves in keys_with_leaves(self._folder, [r.file.path for r in run.progress.standing], run.spec):
            run.doubles.add(leaves)
        started_at = run.progress.started_at
        if account.started_at and not run.progress.resumed:
            started_at = account.started_at
        ended_at = account.ended_at or iso_utc(self._clock.now())
        origin, resumed = run.progress.origin, run.progress.resumed
        closing = Closing(self._folder, run.spec, origin, run.shards, started_at, ended_at, resumed)
        require_no_doubles(closing, run.doubles)
        require_account(closing, account)
        run.journal.append(FINISH, finish_line(closing, account))
        write_manifest(closing, account)

    def close(self) -> None:
        """Let go of the folder; what was not flushed is lost. Calling it again does nothing."""
        run, self._run = self._run, None
        if run is not None:
            run.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Raises `StoreRejected` while another call is at work: one that a deadline gave up on goes on in its thread,
        and a second beside it would write every record twice."""
        if not self._busy.acquire(blocking=False):
            raise StoreRejected(
                f"{self._folder}: an earlier write to it did not return in time and is still at work",
                hint="is the disk slow, or the process that writes shards stopped? run the same command again to go on "
                "from there",
            )
        try:
            yield
        finally:
            self._busy.release()

    def _open_run(self) -> Gathering:
        if self._finished:
            raise CollectionExists(
                f"{self._folder} holds a finished dump, which is never written to again", hint="choose another folder"
            )
        if self._run is None:
            raise UsageError(f"the dump {self._folder} has not been begun: call create first")
        return self._run


def _without_secrets(spec: CollectionSpec) -> CollectionSpec:
    """`spec` with its store's own configuration masked: the only place in it where a secret could stand."""
    return replace(spec, index=redacted(spec.index, ids=frozenset()))
