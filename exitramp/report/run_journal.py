"""The journal of a run as it lies in its folder, and whether it is held by an anchor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exitramp.drill.anchor import Anchor, junit_anchor, read_anchor
from exitramp.drill.log_reading import LogReading, read_log, require_anchor
from exitramp.errors import JournalCorrupt, UsageError
from exitramp.report.sections import Journal
from exitramp.wording import counted

JOURNAL: Final = "journal.jsonl"
JUNIT: Final = "report.xml"


@dataclass(frozen=True, slots=True)
class RunJournal:
    """A journal whose chain holds. `anchors` are those lying beside it; each says the head that it has."""

    path: Path
    reading: LogReading
    anchors: tuple[Anchor, ...]

    @property
    def journal(self) -> Journal:
        return Journal.of(self.reading.events, self.reading.torn_bytes, is_anchored=bool(self.anchors))


def read_run(folder: Path) -> RunJournal:
    """The verified events of the run in `folder`; a line that was never written to its end is counted and left out.

    Raises `UsageError` where there is no journal, and `JournalCorrupt` when its chain is broken, it holds no event, or
    its head is not the one of an anchor beside it: `journal.anchor.json`, which the run wrote when it ended, or
    `report.xml`, into which a report copies it.
    """
    path = folder / JOURNAL
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file", hint="give the folder that `exitramp drill run` wrote")
    anchors = tuple(anchor for anchor in (read_anchor(path), junit_head(folder)) if anchor is not None)
    reading = read_log(path)
    for anchor in anchors:
        require_anchor(path, reading, anchor)
    if not reading.events:
        raise JournalCorrupt(f"{path}: holds no event", hint="the run ended before its first event, or it was emptied")
    if reading.finished and reading.torn_bytes:
        # A crash tears the last line of a log that goes on; after its end nothing is written any more.
        at = f"{path}:{len(reading.events) + 1}"
        raise JournalCorrupt(
            f"{at}: {counted(reading.torn_bytes, 'byte stands', 'bytes stand')} after the journal’s end",
            hint="they were added",
        )
    return RunJournal(path, reading, anchors)


def junit_head(folder: Path) -> Anchor | None:
    """The head in the `report.xml` of `folder`; None where there is no such file, or no head in it."""
    path = folder / JUNIT
    return junit_anchor(path) if path.exists() else None
