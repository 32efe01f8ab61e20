"""What a dump's journal says: which shards stand, and where the source goes on.

Kinds of lines: `begin` (what is dumped), `resume`, `shard` (one is on the disk), `drop` (shards that a resumed run
took back, their rows coming again), `finish`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from exitramp.digests import CollectionDigests
from exitramp.dump.layout import FORMAT_VERSION, JOURNAL, check_relative
from exitramp.dump.manifest import FileEntry
from exitramp.dump.shape import quoted, require_shape, require_tame
from exitramp.errors import DumpCorrupt, FormatUnknown, JournalCorrupt
from exitramp.inventory import Inventory
from exitramp.journal import Entry
from exitramp.ports import Cursor, Origin
from exitramp.records import CollectionSpec
from exitramp.vector_facts import VectorFacts

BEGIN, RESUME, SHARD, DROP, FINISH = "begin", "resume", "shard", "drop", "finish"

_FAULTS: Final = (KeyError, TypeError, ValueError, AttributeError, OverflowError, DumpCorrupt)


@dataclass(frozen=True, slots=True)
class ResumeState:
    """Where a copy goes on.

    rows: rows that stand. cursors: for each partition begun, the cursor behind its last acknowledged row.
    partition_index, cursor: the one noted last, None when nothing stands. digests: of what stands.
    """

    rows: int = 0
    partition_index: int | None = None
    cursor: Cursor | None = None
    cursors: Mapping[int, Cursor] = field(default_factory=dict, hash=False)
    digests: CollectionDigests = CollectionDigests()


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """One shard as its journal line has it. `cursors` are those noted since the shard before, the last one last."""

    file: FileEntry
    digests: CollectionDigests
    cursors: tuple[tuple[int, Cursor], ...]
    inventory: Inventory
    vector_facts: Mapping[str, VectorFacts] = field(hash=False)

    def to_json(self) -> dict[str, Any]:
        return {
            **self.file.to_json(),
            "digests": self.digests.to_json(),
            "cursors": [[partition, cursor] for partition, cursor in self.cursors],
            "inventory": self.inventory.to_json(),
            "vector_facts": {name: facts.to_json() for name, facts in self.vector_facts.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """From `to_json`'s form; more keys are ignored. Raises `DumpCorrupt` for values of another form."""
        require_tame(data, where=JOURNAL)
        entry = {name: data[name] for name in ("path", "bytes", "sha256", "rows")}
        require_shape(entry, "shard", file=JOURNAL)
        for part in ("digests", "inventory"):
            require_shape(data[part], part, file=JOURNAL, where=part)
        for name, facts in data["vector_facts"].items():
            require_shape(facts, "vector_facts", file=JOURNAL, where=f"vector_facts.{quoted(name)}")
        check_relative(entry["path"], where=JOURNAL)
        return cls(
            FileEntry(**entry),
            CollectionDigests.from_json(data["digests"]),
            tuple((int(partition), Cursor(str(cursor))) for partition, cursor in data["cursors"]),
            Inventory.from_json(data["inventory"]),
            {str(name): VectorFacts.from_json(facts) for name, facts in data["vector_facts"].items()},
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """A journal read to its end. `uncovered` are shards behind the last cursor: their rows will come again.

    `finish` is what its last line says when that ends the dump, else None. `selection` says what of the source is
    dumped, None where nobody said.
    """

    collection: CollectionSpec
    origin: Origin
    started_at: str
    resumed: int
    standing: tuple[ShardRecord, ...]
    uncovered: tuple[ShardRecord, ...]
    finish: Mapping[str, Any] | None = field(default=None, hash=False)
    selection: Mapping[str, str] | None = field(default=None, hash=False)

    def resume_state(self) -> ResumeState:
        digests = CollectionDigests.empty(self.collection)
        cursors: dict[int, Cursor] = {}
        for record in self.standing:
            digests = digests.merge(record.digests)
            cursors.update(dict(record.cursors))
        partition, cursor = self.standing[-1].cursors[-1] if self.standing else (None, None)
        return ResumeState(digests.rows, partition, cursor, cursors, digests)


def split_at_last_cursor(shards: Sequence[ShardRecord]) -> tuple[tuple[ShardRecord, ...], tuple[ShardRecord, ...]]:
    """The shards up to the last that has cursors, and those behind it."""
    covered = max((at for at, record in enumerate(shards, start=1) if record.cursors), default=0)
    return tuple(shards[:covered]), tuple(shards[covered:])


def read_progress(entries: Iterable[Entry], path: Path) -> Progress | None:
    """What `entries`, the lines of the journal at `path`, say; None when there are none.

    Raises `JournalCorrupt` for lines that no version of this program writes, `FormatUnknown` for another format's.
    """
    first: Entry | None = None
    finish: Mapping[str, Any] | None = None
    resumed = 0
    shards: list[ShardRecord] = []
    for entry in _each(entries, path):
        finish = None
        try:
            if first is None:
                first = _begin(entry, path)
            elif entry.kind == SHARD:
                shards.append(ShardRecord.from_json(entry.data))
            elif entry.kind == DROP:
                gone = set(entry.data["paths"])
                shards = [record for record in shards if record.file.path not in gone]
            elif entry.kind == RESUME:
                resumed += 1
            elif entry.kind == FINISH:
                finish = entry.data
                require_tame(finish, where=JOURNAL)
            else:
                raise KeyError(entry.kind)
        except _FAULTS as error:
            why = f" ({error.message.removeprefix(f'{JOURNAL}: ')})" if isinstance(error, DumpCorrupt) else ""
            raise JournalCorrupt(f"{path}:{entry.sequence}: not a line of a dump's journal{why}") from error
    if first is None:
        return None
    standing, uncovered = split_at_last_cursor(shards)
    spec, origin, started_at, selection = _begun(first, path)
    return Progress(spec, origin, started_at, resumed, standing, uncovered, finish, selection)


def _each(entries: Iterable[Entry], path: Path) -> Iterator[Entry]:
    at = 0
    try:
        for entry in entries:
            at = entry.sequence
            yield entry
    except RecursionError as error:
        raise JournalCorrupt(f"{path}:{at + 1}: nested beyond all measure") from error


def _begun(first: Entry, path: Path) -> tuple[CollectionSpec, Origin, str, Mapping[str, str] | None]:
    """What is dumped, where it came from at first, since when, and what of it."""
    data = first.data
    try:
        require_tame(data, where=JOURNAL)
        require_shape(data["collection"], "spec", file=JOURNAL, where="collection")
        require_shape(data["origin"]["spec"], "spec", file=JOURNAL, where="origin.spec")
        started_at = data["started_at"]
        if not isinstance(started_at, str):
            raise TypeError("started_at")
        selection = data.get("selection")
        if selection is not None and not all(isinstance(each, str) for each in selection.values()):
            raise DumpCorrupt(f"{JOURNAL}: 'selection' is not of texts")
        spec, origin = CollectionSpec.from_json(data["collection"]), Origin.from_json(data["origin"])
        return spec, origin, started_at, selection
    except _FAULTS as error:
        why = f" ({error.message.removeprefix(f'{JOURNAL}: ')})" if isinstance(error, DumpCorrupt) else ""
        raise JournalCorrupt(f"{path}:1: does not say what is dumped{why}") from error


def _begin(entry: Entry, path: Path) -> Entry:
    if entry.kind != BEGIN:
        raise KeyError(entry.kind)
    version = entry.data.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        found = quoted(repr(version))[1:-1]
        raise FormatUnknown(f"{path}: begun in format version {found}, which this program does not know")
    return entry
