"""The anchor of an event log: a copy of its last hash, written when the run ends and never again.

A run's log `journal.jsonl` gets `journal.anchor.json` beside it, the canonical JSON of

    {events, head, log}

`EventLog.finish` writes it, and nothing else does: a report copies the head into its JUnit file, which leaves the
folder for a build server, but no report makes or changes an anchor. So a log that was rewritten afterwards does not
get a new one by being rendered again.

What an anchor beside the log shows: that nothing happened to the log by accident, nor by somebody who could not write
to that folder. Against somebody who could, only a copy of the head elsewhere shows anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from exitramp import canonical
from exitramp.durable import write_atomically
from exitramp.errors import DataInvalid, JournalCorrupt

ANCHOR_PROPERTY: Final = "exitramp.event_log.head"
"""The name of the JUnit property that holds the head."""
COUNT_PROPERTY: Final = "exitramp.event_log.events"

_HASH: Final = re.compile(r"[0-9a-f]{64}\Z")
_FIELDS: Final = frozenset({"events", "head", "log"})


@dataclass(frozen=True, slots=True)
class Anchor:
    """A head that was noted, `where`, and how many events there were; None where that was not noted."""

    head: str
    events: int | None
    where: str


def anchor_path(log: Path) -> Path:
    """`journal.anchor.json` for `journal.jsonl`."""
    return log.with_suffix(".anchor.json")


def write_anchor(log: Path, head: str, events: int) -> Path:
    """Write the anchor of the finished log at `log`, durably. Raises `JournalCorrupt` when there is one already."""
    path = anchor_path(log)
    if path.exists():
        raise JournalCorrupt(f"{path}: there is an anchor already", hint="an anchor is written once, and never over")
    write_atomically(path, canonical.dumps({"events": events, "head": head, "log": log.name}).encode() + b"\n")
    return path


def read_anchor(log: Path) -> Anchor | None:
    """The anchor beside the log; None where there is no such file. Raises `JournalCorrupt` for one that is none."""
    path = anchor_path(log)
    if not path.exists():
        return None
    try:
        found = canonical.loads(path.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError, DataInvalid) as error:
        raise JournalCorrupt(f"{path}: not an anchor that can be read ({type(error).__name__})") from error
    if not isinstance(found, dict) or set(found) != _FIELDS:
        raise JournalCorrupt(f"{path}: not an anchor: it must hold exactly {', '.join(sorted(_FIELDS))}")
    events = found["events"]
    if not is_head(found["head"]) or type(events) is not int or events < 1 or found["log"] != log.name:
        raise JournalCorrupt(f"{path}: not an anchor of {log.name}")
    return Anchor(found["head"], events, str(path))


def junit_anchor(path: Path) -> Anchor | None:
    """The head in a JUnit file; None where it holds none. Raises `JournalCorrupt` for a file that cannot be read, and
    for a head that is malformed or not the only one."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise JournalCorrupt(f"{path}: not a JUnit file that can be read ({type(error).__name__})") from error
    heads = _properties(root, ANCHOR_PROPERTY)
    if not heads:
        return None
    if len(heads) != 1 or not is_head(min(heads)):
        raise JournalCorrupt(f"{path}: no single, well-formed property {ANCHOR_PROPERTY}")
    counts = _properties(root, COUNT_PROPERTY)
    count = min(counts) if len(counts) == 1 else ""
    return Anchor(heads.pop(), int(count) if re.fullmatch(r"[1-9][0-9]{0,17}", count) else None, str(path))


def is_head(text: object) -> bool:
    """Whether `text` is 64 lower-case hexadecimal digits."""
    return isinstance(text, str) and _HASH.match(text) is not None


def _properties(root: ElementTree.Element, name: str) -> set[str]:
    return {
        item.get("value") or (item.text or "").strip() for item in root.iter("property") if item.get("name") == name
    }
