"""What a copy remembers of how far it came, so that a killed one goes on where it was acknowledged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from exitramp.digests import CollectionDigests
from exitramp.errors import JournalCorrupt, UsageError
from exitramp.journal import Entry, Journal
from exitramp.ports import Cursor
from exitramp.wording import selections


@dataclass(frozen=True, slots=True)
class Reached:
    """How far one partition was acknowledged; `cursor` None is its start, `done` its end."""

    cursor: Cursor | None = None
    done: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """Everything acknowledged so far. `digests` are those of the records read; None where the sink keeps its own.

    `begun` says that an earlier run came as far as writing, even if nothing was acknowledged before it ended.
    """

    partitions: Mapping[int, Reached] = field(default_factory=dict, hash=False)
    rows: int = 0
    digests: CollectionDigests | None = None
    begun: bool = False

    @property
    def is_fresh(self) -> bool:
        return not self.partitions and not self.begun

    def with_partition(self, index: int, reached: Reached) -> Progress:
        return replace(self, partitions={**self.partitions, index: reached})


class Checkpoint(Protocol):
    """Where progress is kept. The loop calls `expecting` and then `acknowledge` once before its first write, then
    `reaching` before each flush of the sink and `acknowledge` after it; whoever started the transfer calls `close`."""

    flush_rows: int

    def progress(self) -> Progress:
        """What an earlier run acknowledged; fresh for a first run."""
        ...

    def expecting(self, rows: int) -> None:
        """About so many rows are to come. Said before the collection is made, so that the sink may prepare for them."""
        ...

    def reaching(self, index: int, reached: Reached) -> None: ...

    def acknowledge(self, progress: Progress) -> None: ...

    def digests(self) -> CollectionDigests | None:
        """Those of everything written and flushed, where the sink itself keeps them; else None."""
        ...

    def close(self, *, complete: bool) -> None:
        """Let go; a complete transfer's progress is no longer needed."""
        ...


class NoCheckpoint:
    """A copy that starts from the beginning each time."""

    def __init__(self, flush_rows: int = 10_000) -> None:
        self.flush_rows = flush_rows

    def progress(self) -> Progress:
        return Progress()

    def expecting(self, rows: int) -> None:
        """Nothing is kept."""

    def reaching(self, index: int, reached: Reached) -> None:
        """Nothing is kept."""

    def acknowledge(self, progress: Progress) -> None:
        """Nothing is kept."""

    def digests(self) -> CollectionDigests | None:
        return None

    def close(self, *, complete: bool) -> None:
        """Nothing is kept."""


class FileCheckpoint:
    """Progress in a journal file, begun with the first acknowledgement and removed when the transfer is complete.

    `identity` says which transfer it belongs to; the file of another one is refused.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], *, flush_rows: int = 2_000) -> None:
        self.path = path
        self.flush_rows = flush_rows
        self.identity = dict(identity)
        self._journal: Journal | None = None
        self._progress = Progress()
        self._tells = False
        """Whether anything was acknowledged, by this run or an earlier one."""
        if path.exists():
            self._take_up(Journal(path))

    def progress(self) -> Progress:
        return self._progress

    def expecting(self, rows: int) -> None:
        """A store prepares for nothing. The file is opened: a run that is in it ends this one before it writes."""
        if self._journal is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._take_up(Journal(self.path))

    def reaching(self, index: int, reached: Reached) -> None:
        """A store keeps no cursor of ours."""

    def acknowledge(self, progress: Progress) -> None:
        self.expecting(0)
        assert self._journal is not None
        self._journal.append("reached", _written(progress))
        self._tells = True
        self._progress = progress

    def digests(self) -> CollectionDigests | None:
        return None

    def close(self, *, complete: bool) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None
            complete = complete or not self._tells
        if complete:
            self.path.unlink(missing_ok=True)

    def _take_up(self, journal: Journal) -> None:
        self._journal = journal
        if not journal.entries:
            journal.append("transfer", self.identity)
            return
        first, *later = journal.entries
        if first.kind != "transfer" or dict(first.data) != self.identity:
            journal.close()
            raise UsageError(
                f"{self.path} belongs to another transfer{self._told_apart(first)}",
                hint="give another --state file, or remove this one to start from the beginning",
            )
        for entry in later:
            self._progress, self._tells = _read(entry.data, self.path), True

    def _told_apart(self, first: Entry) -> str:
        """By what it is another one, as far as that is said in words: of two places that look alike there are none."""
        if first.kind != "transfer" or not (_is_text(first.data) and _is_text(self.identity)):
            return ""
        here, asked = ({k: v for k, v in each.items() if k != "places"} for each in (first.data, self.identity))
        old, new = selections(here, asked)
        return f": it was begun with {old}, and this run asks for {new}" if old else ""


def _is_text(data: Mapping[str, Any]) -> bool:
    return all(isinstance(each, str) for each in data.values())


def _written(progress: Progress) -> dict[str, Any]:
    return {
        "rows": progress.rows,
        "digests": progress.digests.to_json() if progress.digests is not None else None,
        "partitions": {
            str(index): {"cursor": reached.cursor, "done": reached.done}
            for index, reached in progress.partitions.items()
        },
    }


def _read(data: Mapping[str, Any], path: Path) -> Progress:
    try:
        return Progress(
            {
                int(index): Reached(Cursor(item["cursor"]) if item["cursor"] is not None else None, item["done"])
                for index, item in data["partitions"].items()
            },
            data["rows"],
            CollectionDigests.from_json(data["digests"]) if data["digests"] is not None else None,
            begun=True,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise JournalCorrupt(f"{path}: an entry that is no progress of a transfer") from error
