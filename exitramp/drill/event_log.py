"""The event log of a drill: JSON lines, each holding the hash of the line before it.

A line is the canonical JSON (`exitramp.canonical`) of

    {data, elapsed_seconds, hash, kind, prev, seq, ts}

`hash` is the SHA-256, in lower-case hex, of the canonical JSON of the same object without `hash`; `prev` is the hash
of the line before, 64 zeros in the first. So no line can be changed, dropped, added or moved within the log without
breaking the chain from there on.

What the chain proves, and what it does not: by itself nothing, since whoever can write the file can recompute the
whole chain. It proves something only against an *anchor*: a copy of the last hash (the head), best in a place that the
writer of the file does not control. The head is therefore printed at the end of a run, written beside the log
(`exitramp.drill.anchor`) and copied from there into the JUnit file, which a CI server keeps. `require_anchor` compares.
It proves nothing against someone who can rewrite the log and the anchor both, and nothing about whether what was
written down was true when it was written.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from exitramp import canonical
from exitramp.clock import Clock, iso_utc
from exitramp.drill.anchor import ANCHOR_PROPERTY as ANCHOR_PROPERTY
from exitramp.drill.anchor import Anchor, anchor_path, junit_anchor, write_anchor
from exitramp.errors import DataInvalid, JournalCorrupt
from exitramp.secrets import redact, redacted
from exitramp.wording import counted

GENESIS: Final = "0" * 64
FINISHED: Final = "log.finished"

_FIELDS: Final = frozenset({"data", "elapsed_seconds", "hash", "kind", "prev", "seq", "ts"})
_KIND = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*\Z")


@dataclass(frozen=True, slots=True)
class Event:
    """One line. `seq` counts from 1; `ts` is UTC with milliseconds, `elapsed_seconds` monotonic since `create`."""

    seq: int
    ts: str
    elapsed_seconds: float
    kind: str
    data: Mapping[str, Any]
    prev: str
    hash: str


@dataclass(frozen=True, slots=True)
class LogReading:
    """A log whose chain holds.

    `finished` says that the last event is the one `EventLog.finish` writes; `torn_bytes` is the length of a last
    line that was never written to its end (a crash), 0 when there is none. The torn line is not among `events`.
    """

    events: tuple[Event, ...]
    head: str
    finished: bool
    torn_bytes: int


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
            digest = _digest(body)
            line = canonical.dumps({**body, "hash": digest})
            self._write(line.encode() + b"\n")
            self._seq += 1
            self._head = digest
        return _event(canonical.loads(line), str(self.path))

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


def read_log(path: Path | str) -> LogReading:
    """Read and verify the log at `path`; a torn last line is allowed and counted.

    Raises `JournalCorrupt` naming the file and the line when the chain is broken, and `DataInvalid` when the file
    cannot be read. A log cut off between two lines holds as a chain: only `finished` or an anchor tells.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataInvalid(f"{path}: cannot be read ({error.strerror})") from error
    *lines, tail = raw.split(b"\n")
    events: list[Event] = []
    head = GENESIS
    for number, line in enumerate(lines, start=1):
        event = _verified(line, number, head, f"{path}:{number}")
        events.append(event)
        head = event.hash
    finished = bool(events) and events[-1].kind == FINISHED
    return LogReading(tuple(events), head, finished, len(tail))


def read_events(path: Path | str, *, unfinished: bool = False) -> list[Event]:
    """The events of the log at `path`, its chain verified.

    Raises `JournalCorrupt` naming file and line when the chain is broken, when there is no event, and when the last
    line is torn; the latter two are let through with `unfinished=True`, for the log of a run that crashed.
    """
    reading = read_log(path)
    if not unfinished:
        _whole(Path(path), reading)
    return list(reading.events)


def verify_against_anchor(path: Path | str, junit_path: Path | str) -> str:
    """Compare the head of the log at `path` with the one in the JUnit file, and return it.

    Raises `JournalCorrupt` when the chain is broken, the last line is torn, the JUnit file is unreadable or holds no
    head, or the two heads differ; what is shown when they agree, `require_anchor` says.
    """
    reading = read_log(path)
    _whole(Path(path), reading)
    anchor = junit_anchor(Path(junit_path))
    if anchor is None:
        raise JournalCorrupt(f"{junit_path}: no property {ANCHOR_PROPERTY}")
    require_anchor(Path(path), reading, anchor)
    return reading.head


def require_anchor(path: Path, reading: LogReading, anchor: Anchor) -> None:
    """Raises `JournalCorrupt`, naming the last line that is there and how many are missing, unless the heads agree.

    Detects a log that was cut short, extended or recomputed after the anchor was noted, and only then: it shows
    nothing against someone who can rewrite both.
    """
    if anchor.head == reading.head:
        if anchor.events not in (None, len(reading.events)):
            raise JournalCorrupt(
                f"{path}: its head is the one that {anchor.where} says, of {counted(len(reading.events), 'event')}, and"
                f" not of {anchor.events}: the anchor was changed"
            )
        return
    raise JournalCorrupt(
        f"{path}:{len(reading.events)}: its head is {reading.head}, but {anchor.where} says {anchor.head};"
        f" {_departure(reading, anchor)}",
        hint="the log was cut short, extended or rewritten after the run, or the two are of different runs",
    )


def _departure(reading: LogReading, anchor: Anchor) -> str:
    """What can be said of how the log departs from its anchor."""
    there = len(reading.events)
    last = f"the last line there is {there}, '{reading.events[-1].kind}'" if there else "no line is there"
    within = next((event.seq for event in reading.events if event.hash == anchor.head), None)
    if within is not None:
        added = f"{there - within} {'was' if there - within == 1 else 'were'} added after it"
        return f"{last}, and the anchor is that of line {within}: {added}"
    if anchor.events is None:
        return f"{last}, and how many are missing is not known" if not reading.finished else last
    if anchor.events > there:
        missing = anchor.events - there
        return f"{last}, and {missing} of {anchor.events} {'is' if missing == 1 else 'are'} missing"
    if anchor.events < there:
        return f"{last}, and {anchor.events} {'was' if anchor.events == 1 else 'were'} there when the run ended"
    return f"it has as many lines as it had, {there}, so some were rewritten"


def _whole(path: Path, reading: LogReading) -> None:
    if reading.torn_bytes:
        raise JournalCorrupt(
            f"{path}:{len(reading.events) + 1}: the last line is torn after {counted(reading.torn_bytes, 'byte')};"
            f" the {counted(len(reading.events), 'line before it holds', 'lines before it hold')}",
            hint="the run was cut off while it wrote; its log can be read as that of an unfinished run",
        )
    if not reading.events:
        raise JournalCorrupt(f"{path}: holds no event", hint="the run ended before its first event, or it was emptied")


def _verified(line: bytes, number: int, head: str, where: str) -> Event:
    try:
        text = line.decode("utf-8")
        value = canonical.parse(text)
        # Without this a space or another spelling of the same number could be slipped in and nothing would show.
        faithful = canonical.dumps(value) == text
    except (UnicodeDecodeError, DataInvalid) as error:
        raise JournalCorrupt(f"{where}: not a line of JSON") from error
    if not isinstance(value, dict) or set(value) != _FIELDS:
        raise JournalCorrupt(f"{where}: not an event: it must hold exactly {', '.join(sorted(_FIELDS))}")
    if not faithful:
        raise JournalCorrupt(f"{where}: not written as canonical JSON")
    body = {name: item for name, item in value.items() if name != "hash"}
    if value["hash"] != _digest(body):
        raise JournalCorrupt(f"{where}: its hash is not that of what it holds: the line was changed")
    if value["prev"] != head:
        raise JournalCorrupt(f"{where}: does not follow the line before: lines were changed, dropped, added or moved")
    if value["seq"] != number:
        raise JournalCorrupt(f"{where}: has the number {value['seq']}")
    return _event(value, where)


def _event(value: dict[str, Any], where: str) -> Event:
    event = Event(**value)
    try:
        timed = datetime.fromisoformat(event.ts).tzinfo is not None and isinstance(event.elapsed_seconds, float)
    except (TypeError, ValueError):
        timed = False
    if not timed or not isinstance(event.kind, str) or not isinstance(event.data, dict):
        raise JournalCorrupt(f"{where}: a whole line, but not of an event: its time, kind or data are of another type")
    return event


def _digest(body: Mapping[str, object]) -> str:
    return hashlib.sha256(canonical.dumps(body).encode()).hexdigest()
