"""An append-only journal of JSON lines that survives a crash: what a resumed run reads.

Each line is one JSON object in compact form, its members in this order:

    {"crc":"0f3c9a1e","data":{…},"kind":"shard","seq":7}

`seq` counts from 1 without a gap. `crc` is the CRC-32 (zlib's, eight lower-case hexadecimal digits) of the line
without its end and without the `"crc":"…",` member: of `{"data":{…},"kind":"shard","seq":7}`. A line is written with
one call, ends with a newline and is on the disk before `append` returns. A crash can therefore leave at most one line
torn, the last, without its newline; it was never acknowledged and is dropped. Anything else is corruption.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from exitramp.durable import READ, storage_errors, sync_folder
from exitramp.errors import JournalCorrupt, StoreRejected, UsageError

_LINE = re.compile(rb'\{"crc":"([0-9a-f]{8})",("data":\{.*)', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: `sequence` counts from 1; `kind` and `data` are the writer's own."""

    sequence: int
    kind: str
    data: Mapping[str, Any] = field(hash=False)


def read_journal(path: Path) -> Iterator[Entry]:
    """The entries of the journal at `path`, first to last, a torn last line left out.

    Raises `JournalCorrupt` naming file and line, `PathUnusable` or `StoreRejected` when the file cannot be read.
    """
    with storage_errors(path, READ), path.open("rb") as file:
        for entry, _ in _scan(file, path):
            yield entry


class Journal:
    """A journal open for writing by one process; a second one is refused with `UsageError`.

    `entries` are those that stood in the file when it was opened.
    """

    def __init__(self, path: Path) -> None:
        """Open the journal at `path`, or begin one there. A torn last line is cut off.

        Raises `JournalCorrupt` like `read_journal`; `UsageError` when another process writes to it.
        """
        self.path = path
        self._failed = False
        with storage_errors(path):
            is_new = not path.exists()
            # Not truncated: a torn tail is cut off only after the lines before it proved good. Not buffered: what a
            # failed write left behind must not be written when the file is closed.
            self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b", buffering=0)
        try:
            self._lock()
            with storage_errors(path, READ), path.open("rb") as file:
                found = list(_scan(file, path))
            self.entries = tuple(entry for entry, _ in found)
            self._cut_off_torn_line(found[-1][1] if found else 0)
            if is_new:
                sync_folder(path.parent)
        except BaseException:
            self._file.close()
            raise
        self._sequence = len(self.entries)

    def append(self, kind: str, data: Mapping[str, Any]) -> Entry:
        """Write one line and return when it is on the disk. Raises `StoreRejected`; nothing can follow that."""
        if self._failed:
            raise StoreRejected(f"{self.path}: an earlier write to it failed", hint="run the same command again")
        entry = Entry(self._sequence + 1, kind, dict(data))
        line = _line(entry)
        try:
            with storage_errors(self.path):
                written = self._file.write(line)
                if written != len(line):
                    raise OSError(f"only {written} of {len(line)} bytes were written")
                os.fsync(self._file.fileno())
        except BaseException:
            self._failed = True
            raise
        self._sequence += 1
        return entry

    def close(self) -> None:
        """Let go of the file and its lock; calling it again does nothing."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{self.path}: another process is writing to it", hint="wait until it has ended") from None

    def _cut_off_torn_line(self, end: int) -> None:
        with storage_errors(self.path):
            if self._file.seek(0, os.SEEK_END) != end:
                self._file.truncate(end)
                os.fsync(self._file.fileno())
            self._file.seek(end)


def _line(entry: Entry) -> bytes:
    fields = {"data": entry.data, "kind": entry.kind, "seq": entry.sequence}
    # ASCII only, so that no reader can disagree about where a line ends.
    text = json.dumps(fields, separators=(",", ":"), allow_nan=False).encode("ascii")
    return b'{"crc":"%08x",' % zlib.crc32(text) + text[1:] + b"\n"


def _scan(file: BinaryIO, path: Path) -> Iterator[tuple[Entry, int]]:
    """Each entry with the offset of the byte behind its line."""
    offset = 0
    for number, line in enumerate(iter(file.readline, b""), start=1):
        if not line.endswith(b"\n"):
            # A torn line is a piece of a line. A whole line with something else than a newline behind it is not.
            if _parse(line[:-1], number) is not None:
                raise JournalCorrupt(f"{path}:{number}: the line's end is damaged")
            return
        entry = _parse(line[:-1], number)
        if entry is None:
            raise JournalCorrupt(f"{path}:{number}: the line is damaged, or lines before it are missing")
        offset += len(line)
        yield entry, offset


def _parse(line: bytes, number: int) -> Entry | None:
    """The entry in `line`, which must have the sequence `number`; None when it is damaged."""
    match = _LINE.fullmatch(line)
    if match is None or int(match[1], 16) != zlib.crc32(b"{" + match[2]):
        return None
    try:
        fields = json.loads(b"{" + match[2])
    except (ValueError, RecursionError):
        return None
    if set(fields) != {"data", "kind", "seq"} or fields["seq"] != number or not isinstance(fields["data"], dict):
        return None
    return Entry(number, str(fields["kind"]), fields["data"])
