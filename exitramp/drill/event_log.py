"""The event log of a drill: JSON lines, each holding the hash of the line before it.

What a line holds, `exitramp.drill.event` says. No line can be changed, dropped, added or moved within the log without
breaking the chain from there on.

What the chain proves, and what it does not: by itself nothing, since whoever can write the file can recompute the
whole chain. It proves something only against an *anchor*: a copy of the last hash (the head), best in a place that the
writer of the file does not control. The head is therefore printed at the end of a run, written beside the log
(`exitramp.drill.anchor`) and copied from there into the JUnit file, which a CI server keeps. `require_anchor`, where
logs are read, compares. It proves nothing against someone who can rewrite the log and the anchor both, and nothing
about whether what was written down was true when it was written.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from exitramp import canonical
from exitramp.clock import Clock, iso_utc
from exitramp.drill.anchor import anchor_path, write_anchor
from exitramp.drill.event import FINISHED, GENESIS, Event, digest, event_of
from exitramp.drill.log_reading import LogReading, read_log
from exitramp.errors import DataInvalid, JournalCorrupt
from exitramp.secrets import redact, redacted

_KIND: Final = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*\Z")


class EventLog:
    """An append-only log, open for writing. Safe to use from several threads, not from several processes."""

    def __init__(self, path: Path, clock: Clock, descriptor: int) -> None:
        self.path = path
        self._clock = clock
        self._descriptor = descriptor
        self._start_seconds = clock.monotonic()
        self._seq = 0
        self._head = GENESIS
        self._closed_because: str | None = None
        self._lock = threading.Lock()

    @classmethod
    def create(cls, path: Path | str, clock: Clock) -> Self:
        """A new, empty log at `path`. Raises `DataInvalid` when there is a file already: a log is never reopened."""
        path = Path(path)
        if anchor_path(path).exists() and not path.exists():
            raise DataInvalid(f"{anchor_path(path)}: there is the anchor of an older log", hint="give a new folder")
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        except FileExistsError:
            raise DataInvalid(f"{path}: there is a log already", hint="give the run a folder of its own") from None
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # without it the file's name itself may be gone after a power loss
        finally:
            os.close(folder)
        _lock(path, descriptor)
        return cls(path, clock, descriptor)

    @classmethod
    def resume(cls, path: Path | str, clock: Clock) -> tuple[Self, LogReading]:
        """The unfinished log at `path`, open to be continued, and what it held; only for runs that can be interrupted.

        Its chain is verified first. A torn last line is cut off: it was never an event. `elapsed_seconds` goes on from
        the last event, so the pause is not in it. Raises `DataInvalid` for a log that is finished or that another
        process has open, `JournalCorrupt` for a broken chain.
        """
        path = Path(path)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        except OSError as error:
            raise DataInvalid(f"{path}: cannot be opened ({error.strerror})") from error
        try:
            _lock(path, descriptor)
            reading = read_log(path)
            if reading.finished:
                raise DataInvalid(f"{path}: this run has ended", hint="begin a new one; a log is never reopened")
            if not reading.events:
                raise DataInvalid(f"{path}: holds no event", hint="begin a new run")
            if reading.torn_bytes:
                os.ftruncate(descriptor, os.fstat(descriptor).st_size - reading.torn_bytes)
                os.fsync(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        log = cls(path, clock, descriptor)
        log._seq, log._head = len(reading.events), reading.head
        log._start_seconds = clock.monotonic() - reading.events[-1].elapsed_seconds
        return log, reading

    @property
    def head(self) -> str:
        """The hash of the last event; 64 zeros before the first."""
        return self._head

    @property
    def event_count(self) -> int:
        return self._seq

    def elapsed(self, monotonic: float) -> float:
        """A moment of the clock as `elapsed_seconds` has it: for what happened before it is written down."""
        return round(float(monotonic - self._start_seconds), 6)

    def append(self, kind: str, data: Mapping[str, object]) -> Event:
        """Write one event, durable on return (0.1 to 1 ms on a local disk; summarise load, do not log requests).

        `kind` is lower-case words joined by dots. Every text in `data`, keys too, is passed through
        `exitramp.secrets.redact` first. Returns the event as a reader will see it. Raises `DataInvalid` for a kind or
        data that has no form, `JournalCorrupt` when it could not be written to its end or the log is closed.
        """
        if not _KIND.match(redact(kind)):
            raise DataInvalid("an event's kind is lower-case words joined by dots, and no secret")
        masked = redacted(data)
        with self._lock:
            if self._closed_because:
                raise JournalCorrupt(f"{self.path}: {self._closed_because}; no more events can be written")
            body = {
                "data": masked,
                "elapsed_seconds": self.elapsed(self._clock.monotonic()),
                "kind": kind,
                "prev": self._head,
                "seq": self._seq + 1,
                "ts": iso_utc(self._clock.now()),
            }
            hashed = digest(body)
            line = canonical.dumps({**body, "hash": hashed})
            self._write(line.encode() + b"\n")
            self._seq += 1
            self._head = hashed
        return event_of(canonical.loads(line), str(self.path))

    def finish(self, data: Mapping[str, object] | None = None) -> str:
        """Write the last event, `log.finished`, close the log, write its anchor beside it, and return its head."""
        self.append(FINISHED, data or {})
        self.close()
        write_anchor(self.path, self._head, self._seq)
        return self._head

    def close(self) -> None:
        """Close the file without a last event: the log then reads as that of an unfinished run."""
        with self._lock:
            if self._closed_because is None:
                self._closed_because = "the log is closed"
                os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        try:
            written = 0
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
            os.fsync(self._descriptor)
        except OSError as error:
            # Half a line may stand there now; another one behind it would turn a torn end into a broken middle.
            self._closed_because = "an earlier event could not be written to its end"
            os.close(self._descriptor)
            raise JournalCorrupt(
                f"{self.path}: event {self._seq + 1} could not be written: {error.strerror}"
            ) from error


def _lock(path: Path, descriptor: int) -> None:
    """Two writers would both be right by their own count, and the chain would break: the second one is refused."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise DataInvalid(f"{path}: another process is writing it", hint="end that one first") from error
