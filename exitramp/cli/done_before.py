"""What is kept of a finished copy out of a store that charges, so that the same command knows it again.

Elsewhere both sides are read and held against each other (see `finished`). Here that would be paid for: instead the
target is read, and held against what the finished copy got back from it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exitramp.cli import output
from exitramp.cli.finished import FinishedAlready
from exitramp.clock import SystemClock, iso_utc
from exitramp.digests import CollectionDigests
from exitramp.durable import write_atomically
from exitramp.errors import CollectionExists
from exitramp.migration import count_or_none
from exitramp.migration.moving import read_digests
from exitramp.records import Finding, Verdict
from exitramp.transfer.checkpoint import FileCheckpoint
from exitramp.wording import counted
from exitramp.wrappers import Endpoint

if TYPE_CHECKING:
    from exitramp.cli.moving import Moved


def keep_done(place: FileCheckpoint | None, one: Endpoint, done: Moved) -> None:
    """Beside the place of a copy that is finished, what was read and what the target gave back."""
    if place is None or one.estimates() is None or done.verdict is Verdict.FAIL:
        return
    told = {name: done.told[name] for name in ("rows", "digests", "target_digests")}
    note = {"transfer": dict(place.identity), "ended_at": iso_utc(SystemClock().now()), **told}
    write_atomically(_note(place), json.dumps(note, indent=1).encode("ascii"))


def done_before(place: FileCheckpoint, one: Endpoint, other: Endpoint, *, begun: bool) -> FinishedAlready | None:
    """What an earlier run finished; None where the target is empty, or this copy was `begun` and goes on.

    Raises `CollectionExists`, with nothing of the source read, where the target holds something else.
    """
    held = None if begun or not place.progress().is_fresh else count_or_none(other)
    if not held:
        return None
    holds_others = CollectionExists(
        f"the target already holds {counted(held, 'record')}",
        hint="choose another collection, use 'exitramp sync', or add --into-existing to write among them",
    )
    note = _read(_note(place), place)
    if note is None or held != note["rows"]:
        raise holds_others
    digests = CollectionDigests.from_json(note["digests"])
    then = digests if note["target_digests"] is None else CollectionDigests.from_json(note["target_digests"])
    now, count = then, one.source().count()
    if other.estimates() is None:
        bar = output.Progress("verify", held)
        now = read_digests(other.source(), progress=bar.at)
        bar.end()
        if now.differences(then):
            raise holds_others
        holds = "the target holds what it gave back then"
    else:
        holds = "the target was not read again, since that costs, and counts as many records as then"
    text = (
        f"an earlier run had finished it at {note['ended_at']}: {holds}, and nothing was written. The source, which "
        f"counts {counted(count, 'record')} now, was not read again, since that costs: 'exitramp compare' reads it"
    )
    # As of a finished dump: whether the source has changed since, nobody knows.
    found = Finding("target.finished_already", text, Verdict.INCONCLUSIVE)
    return FinishedAlready(note["rows"], digests, now, (found,), Verdict.INCONCLUSIVE)


def _note(place: FileCheckpoint) -> Path:
    return place.path.with_suffix(".done.json")


def _read(path: Path, place: FileCheckpoint) -> dict[str, Any] | None:
    """The note of this very transfer; None where there is none that can be read."""
    try:
        note = json.loads(path.read_text(encoding="ascii"))
        known = {"transfer", "ended_at", "rows", "digests", "target_digests"}
        return note if note.keys() >= known and note["transfer"] == place.identity else None
    except (OSError, ValueError, AttributeError):
        return None
