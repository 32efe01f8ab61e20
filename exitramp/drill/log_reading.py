"""Reading an event log: its chain verified, and its head held against an anchor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exitramp.drill.anchor import ANCHOR_PROPERTY, Anchor, junit_anchor
from exitramp.drill.event import FINISHED, GENESIS, Event, verified
from exitramp.errors import DataInvalid, JournalCorrupt
from exitramp.wording import counted


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
        event = verified(line, number, head, f"{path}:{number}")
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
