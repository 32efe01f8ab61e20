"""The one copy loop: source → Arrow batches → sink. Dump, restore, migration and re-embedding are all this loop."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa

from exitramp import __version__
from exitramp.clock import Clock, SystemClock, iso_utc
from exitramp.digests import CollectionDigests, digest_batch
from exitramp.errors import CollectionExists, IntegrityError, SpendExceeded, StoreProtocolError
from exitramp.ports import Cursor, Origin, Page, Partition, TransferAccount, VectorSink, VectorSource
from exitramp.records import CollectionSpec, Finding, Verdict
from exitramp.transfer.checkpoint import Checkpoint, NoCheckpoint, Progress, Reached
from exitramp.wording import counted


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What the loop did. `digests` are those of the records as read, None where the sink computed its own.

    `rows_read` counts this run; `rows_total` includes what earlier, interrupted runs had acknowledged.
    """

    spec: CollectionSpec
    account: TransferAccount
    rows_read: int
    rows_total: int
    resumed: bool
    digests: CollectionDigests | None
    findings: tuple[Finding, ...]


SEVERAL_RUNS: Final = Finding(
    "source.several_runs",
    "the source was read by several runs, and not once more at the end, since reading it costs: of a write in between "
    "only a changed count would show; 'exitramp compare' reads it again",
)


def copy_records(
    source: VectorSource,
    sink: VectorSink,
    *,
    batch_rows: int,
    checkpoint: Checkpoint | None = None,
    landed: Callable[[], int] | None = None,
    standing: Callable[[], int | None] = lambda: 0,
    target_rows_before: int = 0,
    into_existing: bool = False,
    with_digests: bool = True,
    read_again: bool = True,
    check: Callable[[CollectionDigests], None] = lambda found: None,
    progress: Callable[[int], None] = lambda rows: None,
    clock: Clock | None = None,
) -> CopyResult:
    """Copy everything from `source` to `sink`, going on where `checkpoint` says an earlier run was acknowledged.

    `landed` counts what the target holds afterwards, `standing` before the first write: another copy may have
    gone there since `target_rows_before` was counted. A target that already holds records is refused unless this is
    a resumed run or `into_existing` says that theirs may stay. `check` is given the digests of everything that was
    read, by all runs together, before the sink may call it complete; where it raises `IntegrityError`, the place is
    forgotten, since going on from there could only end in the same way. The checkpoint stays open for the caller, who
    closes it as complete when the copy was verified too. Raises `StoreProtocolError` when the source's scan stops
    without its end signal: then what was read is not everything, and nothing is finished.

    What was read before a limit of reading (`SpendExceeded`) is flushed and acknowledged before that is raised, so that
    the next run pays for none of it again. `read_again` False: a resumed run does not read the source once more to see
    whether it was written to in between, as it should not where reading costs.
    """
    clock = clock or SystemClock()
    checkpoint = checkpoint or NoCheckpoint()
    try:
        done = checkpoint.progress()
        if target_rows_before and done.is_fresh and not into_existing:
            raise CollectionExists(
                f"the target already holds {counted(target_rows_before, 'record')}",
                hint="choose another collection, use 'exitramp sync', or add --into-existing to write among them",
            )
        started = iso_utc(clock.now())
        spec = source.describe()
        count_before = source.count()
        checkpoint.expecting(max(0, count_before - done.rows))
        sink.create(spec, source.origin() or Origin(spec, __version__))
        if done.is_fresh and not into_existing and (others := standing()):
            raise CollectionExists(
                f"somebody else has written {counted(others, 'record')} to the target meanwhile",
                hint="let one copy at a time write there; nothing was overwritten",
            )
        checkpoint.acknowledge(replace(done, begun=True))
        loop = _Loop(source, sink, spec, checkpoint, done, batch_rows, with_digests, progress)
        for partition in source.partitions(1):
            loop.copy(partition)
        account = TransferAccount(
            rows_read=loop.rows_total,
            rows_written=loop.rows_total,
            source_count_before=count_before,
            source_count_after=source.count(),
            started_at=started,
            ended_at=iso_utc(clock.now()),
            source=source.identity(),
        )
        if not done.is_fresh and read_again:
            account = replace(account, source_changed=_changed_between_runs(source, spec, loop, batch_rows))
        _check(loop, checkpoint, check)
        several_runs = bool(done.partitions) and not read_again
        # What was counted before the first run is not known here: the state is unknown, not unchanged.
        told = sink.finish(replace(account, source_count_before=None) if several_runs else account) or ()
        account = replace(account, rows_landed=landed() if landed is not None else None)
    except BaseException:
        checkpoint.close(complete=False)
        raise
    findings = (*_findings(account, into_existing and target_rows_before > 0), *told)
    if several_runs:
        findings += (SEVERAL_RUNS,)
    return CopyResult(spec, account, loop.rows_read, loop.rows_total, not done.is_fresh, loop.digests, findings)


def _check(loop: _Loop, checkpoint: Checkpoint, check: Callable[[CollectionDigests], None]) -> None:
    known = loop.known_digests()
    if known is None:
        return
    try:
        check(known)
    except IntegrityError:
        checkpoint.close(complete=True)
        raise


class _Loop:
    def __init__(
        self,
        source: VectorSource,
        sink: VectorSink,
        spec: CollectionSpec,
        checkpoint: Checkpoint,
        done: Progress,
        batch_rows: int,
        with_digests: bool,
        progress: Callable[[int], None],
    ) -> None:
        self._source, self._sink, self._spec = source, sink, spec
        self._checkpoint, self._done = checkpoint, done
        self._batch_rows, self._report = batch_rows, progress
        self.rows_read = 0
        self.rows_total = done.rows
        self.digests = (done.digests or CollectionDigests.empty(spec)) if with_digests else None

    def copy(self, partition: Partition) -> None:
        reached = self._done.partitions.get(partition.index, Reached())
        if reached.done:
            return
        unflushed = 0
        behind: Cursor | None = None
        last = False
        flush_rows = max(self._checkpoint.flush_rows, self._sink.limits().flush_rows)
        pages = _ahead(self._source.scan(partition, batch_rows=self._batch_rows, after=reached.cursor))
        while True:
            try:
                page = next(pages, None)
            except SpendExceeded:
                if behind is not None and unflushed:
                    self._flush(partition.index, Reached(behind))
                raise
            if page is None:
                break
            rows, behind = page.batch.num_rows, page.cursor
            if rows:
                self._write(page.batch)
                unflushed += rows
            last = page.last
            if last or unflushed >= flush_rows:
                self._flush(partition.index, Reached(page.cursor, last))
                unflushed = 0
            else:
                self._checkpoint.reaching(partition.index, Reached(page.cursor))
        if not last:
            raise StoreProtocolError(
                "the source's scan stopped without its end signal; what was read is not everything",
                hint="run the same command again: it goes on behind what was acknowledged",
            )

    def known_digests(self) -> CollectionDigests | None:
        """The digests of everything read in this and earlier runs: ours, or those of a sink that keeps them."""
        return self.digests if self.digests is not None else self._checkpoint.digests()

    def _write(self, batch: pa.RecordBatch) -> None:
        if self.digests is not None:
            self.digests = self.digests.merge(digest_batch(batch, self._spec))
        self._sink.upsert(batch)
        self.rows_read += batch.num_rows
        self.rows_total += batch.num_rows
        self._report(self.rows_total)

    def _flush(self, index: int, reached: Reached) -> None:
        self._checkpoint.reaching(index, reached)
        self._sink.flush()
        partitions = {**self._done.partitions, index: reached}
        self._done = Progress(partitions, self.rows_total, self.digests, begun=True)
        self._checkpoint.acknowledge(self._done)


def _ahead(pages: Iterator[Page]) -> Iterator[Page]:
    """The same pages, the next one being read while the last is written. Two pages at most are held."""
    inbox: queue.Queue[tuple[Page | None, BaseException | None]] = queue.Queue(maxsize=1)
    stop = threading.Event()

    def put(item: tuple[Page | None, BaseException | None]) -> None:
        while not stop.is_set():
            try:
                inbox.put(item, timeout=0.2)
                return
            except queue.Full:
                continue

    def read() -> None:
        try:
            for page in pages:
                put((page, None))
                if stop.is_set():
                    return
            put((None, None))
        except BaseException as error:  # noqa: BLE001  (handed to the loop, whatever it is)
            put((None, error))

    thread = threading.Thread(target=read, name="exitramp-read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            page, error = inbox.get()
            if error is not None:
                raise error
            if page is None:
                return
            yield page
    finally:
        stop.set()


def _changed_between_runs(source: VectorSource, spec: CollectionSpec, loop: _Loop, batch_rows: int) -> bool | None:
    """Whether the source now holds something else than what two runs together read of it; None where nobody knows.

    An earlier run read some of it at another time: counts that agree say nothing about what was changed in between.
    """
    known = loop.known_digests()
    if known is None:
        return None
    now = CollectionDigests.empty(spec)
    for partition in source.partitions(1):
        for page in source.scan(partition, batch_rows=batch_rows):
            if page.batch.num_rows:
                now = now.merge(digest_batch(page.batch, spec))
    return bool(now.differences(known))


def _findings(account: TransferAccount, among_others: bool) -> Iterator[Finding]:
    before, after = account.source_count_before, account.source_count_after
    if account.source_changed:
        yield Finding(
            "source.changed",
            "the source was written to between the interrupted run and this one; what was copied is of no one moment",
            Verdict.INCONCLUSIVE,
            detail={"next": "exitramp sync brings the target up to date"},
        )
    if before != after:
        yield Finding(
            "source.changed",
            f"the source held {before} records before and {after} after: it was written to meanwhile",
            Verdict.INCONCLUSIVE,
            detail={"before": before, "after": after},
        )
    elif before != account.rows_read:
        more = before is not None and before > account.rows_read
        twice = "; it may count a key twice that was inserted twice" if more else ""
        yield Finding(
            "source.count",
            f"the source says that it holds {before} records, and its scan gave {account.rows_read}{twice}",
            Verdict.FAIL,
            detail={"count": before, "scanned": account.rows_read},
        )
    landed = account.rows_landed
    if landed is not None and not among_others and landed != account.rows_read:
        yield Finding(
            "target.count",
            f"{counted(account.rows_read, 'record was', 'records were')} written, and the target holds {landed}",
            Verdict.FAIL,
            detail={"written": account.rows_read, "landed": landed},
        )
