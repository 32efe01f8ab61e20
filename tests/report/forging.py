"""What somebody can do who may write to a run's folder: edit its journal, and compute the whole chain anew."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from exitramp import canonical
from exitramp.drill.event import GENESIS


def events_of(folder: Path) -> list[dict[str, Any]]:
    """The journal's events as plain objects."""
    return [canonical.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


def rechained(folder: Path, events: Iterable[Mapping[str, Any]]) -> None:
    """Write `events` as a journal whose chain holds."""
    head, lines = GENESIS, []
    for number, event in enumerate(events, start=1):
        body = {key: value for key, value in event.items() if key != "hash"} | {"prev": head, "seq": number}
        head = hashlib.sha256(canonical.dumps(body).encode()).hexdigest()
        lines.append(canonical.dumps(body | {"hash": head}) + "\n")
    (folder / "journal.jsonl").write_text("".join(lines))
