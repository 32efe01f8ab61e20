"""One line of an event log, and what makes it one: its fields, its hash, and the hash of the line before it.

A line is the canonical JSON (`exitramp.canonical`) of

    {data, elapsed_seconds, hash, kind, prev, seq, ts}

`hash` is the SHA-256, in lower-case hex, of the canonical JSON of the same object without `hash`; `prev` is the hash
of the line before, 64 zeros in the first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from exitramp import canonical
from exitramp.errors import DataInvalid, JournalCorrupt

GENESIS: Final = "0" * 64
FINISHED: Final = "log.finished"
"""The kind of a log's last event."""

_FIELDS: Final = frozenset({"data", "elapsed_seconds", "hash", "kind", "prev", "seq", "ts"})


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


def verified(line: bytes, number: int, head: str, where: str) -> Event:
    """The event of line `number`, which has to follow `head`. Raises `JournalCorrupt`, naming `where`."""
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
    if value["hash"] != digest(body):
        raise JournalCorrupt(f"{where}: its hash is not that of what it holds: the line was changed")
    if value["prev"] != head:
        raise JournalCorrupt(f"{where}: does not follow the line before: lines were changed, dropped, added or moved")
    if value["seq"] != number:
        raise JournalCorrupt(f"{where}: has the number {value['seq']}")
    return event_of(value, where)


def event_of(value: dict[str, Any], where: str) -> Event:
    """Raises `JournalCorrupt` where time, kind or data are of another type than an event has."""
    event = Event(**value)
    try:
        timed = datetime.fromisoformat(event.ts).tzinfo is not None and isinstance(event.elapsed_seconds, float)
    except (TypeError, ValueError):
        timed = False
    if not timed or not isinstance(event.kind, str) or not isinstance(event.data, dict):
        raise JournalCorrupt(f"{where}: a whole line, but not of an event: its time, kind or data are of another type")
    return event


def digest(body: Mapping[str, object]) -> str:
    return hashlib.sha256(canonical.dumps(body).encode()).hexdigest()
