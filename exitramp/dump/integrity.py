"""Whether a dump is whole, from its files alone.

Everything that is checked stands in docs/format.md, "Verifying". A damaged file does not end the check: every file
is looked at, and each finding names its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from exitramp.digests import CollectionDigests, cache_slices, leaf_digests
from exitramp.dump.absence import absence
from exitramp.dump.agreement import (
    Contradiction,
    Measured,
    line_against_shard,
    manifest_against_journal,
    manifest_against_shards,
)
from exitramp.dump.doubles import DoubleFinder, named_doubles
from exitramp.dump.layout import (
    MANIFEST,
    MANIFEST_HASH,
    manifest_hash_line,
    read_whole,
    regular_file,
    shown,
    stray_files,
)
from exitramp.dump.manifest import FileEntry, Manifest
from exitramp.dump.payload_texts import payload_faults
from exitramp.dump.progress import read_progress
from exitramp.dump.shard import ShardReader, hash_bytes, hash_file
from exitramp.dump.taking_up import keys_with_leaves
from exitramp.errors import (
    CollectionMissing,
    DumpCorrupt,
    ExitCode,
    FormatUnknown,
    IntegrityError,
    JournalCorrupt,
    StoreRejected,
)
from exitramp.journal import read_journal
from exitramp.records import Finding, Verdict
from exitramp.tally import CollectionTally
from exitramp.wording import counted

_MOST_NAMED = 20
_CHANGED: Final = "changed"
_CHANGED_TEXT: Final = (
    "its manifest says that the source was written to while it was dumped: the records are of no one moment, and the "
    "source may never have held them together"
)


def unsteady(manifest: Manifest) -> tuple[str, str] | None:
    """What a dump's manifest says against its source, as the end of a finding's code and a text; None for nothing.

    A source that counted as many before as after, and gave another number, was not seen to change: a store may count
    a key twice that was inserted twice, and gives one record of it.
    """
    told = manifest.consistency
    if told.state != _CHANGED:
        return None
    if told.count_before is None or told.count_before != told.count_after or told.count_before == manifest.rows:
        return "changed", _CHANGED_TEXT
    what = "counts a key twice that stands there twice" if told.count_before > manifest.rows else "counts less"
    text = (
        f"its manifest says that the source counted {counted(told.count_before, 'record')} before and after it was "
        f"dumped, and gave {manifest.rows:,}: the counts do not show that it was written to, but it {what}, or "
        "did not give what it holds"
    )
    return "count", text


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify_dump` found. `digests` are those computed from the shards, None where a shard could not be read.

    `findings` with the verdict fail name the damaged file in `detail["file"]`; those without a verdict are
    information, such as files that do not belong to the dump.
    """

    folder: str
    verdict: Verdict
    rows: int
    bytes: int
    shards: int
    digests: CollectionDigests | None
    findings: tuple[Finding, ...]
    format_unknown: bool = field(default=False)

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.PASS if self.verdict is Verdict.PASS else ExitCode.INTEGRITY

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict.value,
            "folder": self.folder,
            "rows": self.rows,
            "bytes": self.bytes,
            "shards": self.shards,
            "digests": None if self.digests is None else self.digests.to_json(),
            "findings": [finding.to_json() for finding in self.findings],
        }

    def raise_if_damaged(self) -> None:
        """Raises `DumpCorrupt` (`FormatUnknown` for another format) naming the first damaged file; else nothing."""
        damaged = [finding for finding in self.findings if finding.verdict is Verdict.FAIL]
        if damaged:
            kind: type[IntegrityError] = FormatUnknown if self.format_unknown else DumpCorrupt
            more = f" (and {len(damaged) - 1} more findings)" if len(damaged) > 1 else ""
            raise kind(f"{self.folder}: {damaged[0].message}{more}", hint=damaged[0].detail.get("next"))


def verify_dump(folder: Path, *, progress: Callable[[int], None] = lambda rows: None) -> VerifyReport:
    """Check every file of the dump in `folder`: hashes, decoding, digests, ids, payload texts, counts, and that
    manifest, journal and shards say the same. `progress` is told how many records were looked at.

    Raises `CollectionMissing` when there is no dump in `folder`, nor a trace of one, and `PathUnusable` for a file that
    this user may not read, which may be whole. Whatever is wrong inside it is a finding.
    """
    check = _Check(folder, progress)
    lacking = absence(folder)
    if lacking is not None:
        if not lacking.is_damage:
            raise CollectionMissing(lacking.reason, hint=lacking.hint)
        check.note("dump.manifest_missing", MANIFEST, lacking.reason, next=lacking.hint)
        return check.report(None, None)
    manifest = check.manifest()
    if manifest is None:
        return check.report(None, None)
    found = check.shards(manifest)
    check.journal(manifest)
    listed = {MANIFEST, MANIFEST_HASH, manifest.journal.path, *(entry.path for entry in manifest.shards)}
    check.strays(listed)
    check.moment(manifest)
    return check.report(manifest, found)


class _Check:
    def __init__(self, folder: Path, progress: Callable[[int], None]) -> None:
        self._folder = folder
        self._progress = progress
        self._findings: list[Finding] = []
        self._bytes = 0
        self._format_unknown = False
        self._by_path: dict[str, Measured] = {}
        self._rows = 0

    def note(
        self,
        code: str,
        file: str,
        what: str,
        *,
        verdict: Verdict | None = Verdict.FAIL,
        ids: Sequence[str] = (),
        count: int | None = None,
        **more: str | None,
    ) -> None:
        """`more` goes beside the file into the finding's detail: the `field` in it, the `next` step."""
        named = tuple(ids[:_MOST_NAMED])
        detail = {"file": file, **{name: text for name, text in more.items() if text is not None}}
        self._findings.append(Finding(code, f"{file}: {what}", verdict, named, count, detail))

    def report(self, manifest: Manifest | None, found: Measured | None) -> VerifyReport:
        failed = any(finding.verdict is Verdict.FAIL for finding in self._findings)
        return VerifyReport(
            shown(str(self._folder)),
            Verdict.FAIL if failed else Verdict.PASS,
            0 if found is None else found.digests.rows,
            self._bytes,
            0 if manifest is None else len(manifest.shards),
            None if found is None else found.digests,
            tuple(self._findings),
            self._format_unknown,
        )

    def manifest(self) -> Manifest | None:
        try:
            content = read_whole(self._folder, MANIFEST)
        except DumpCorrupt as error:
            self.note("dump.manifest_missing", MANIFEST, error.message.removeprefix(f"{MANIFEST}: "))
            return None
        self._bytes += len(content)
        try:
            manifest = Manifest.from_bytes(content)
        except IntegrityError as error:
            self._format_unknown = isinstance(error, FormatUnknown)
            code = "dump.format_unknown" if self._format_unknown else "dump.manifest_invalid"
            self.note(code, MANIFEST, error.message.removeprefix(f"{MANIFEST}: "))
            manifest = None
        self._compare_manifest_hash(content)
        return manifest

    def _compare_manifest_hash(self, content: bytes) -> None:
        try:
            line = read_whole(self._folder, MANIFEST_HASH)
        except DumpCorrupt as error:
            self.note("dump.manifest_hash_missing", MANIFEST_HASH, error.message.removeprefix(f"{MANIFEST_HASH}: "))
            return
        self._bytes += len(line)
        if line != manifest_hash_line(hash_bytes(content)):
            what = f"does not have the SHA-256 that stands in {MANIFEST_HASH}: one of the two files was changed"
            self.note("dump.manifest_hash", MANIFEST, what)

    def shards(self, manifest: Manifest) -> Measured | None:
        """What all shards hold, or None if one of them cannot be read."""
        measured = Measured.nothing(manifest.collection)
        whole = True
        with DoubleFinder() as finder:
            for entry in manifest.shards:
                found = self._shard(entry, manifest, finder) if self._file(entry) else None
                if found is None:
                    whole = False
                else:
                    measured = measured.merge(found)
            if not whole:
                return None
            self._doubles(manifest, finder)
        differing = measured.digests.differences(manifest.digests)
        if differing:
            self.note("dump.digests", MANIFEST, f"its digests are not those of the shards: {', '.join(differing)}")
        if len(self._by_path) == len(manifest.shards):
            self._contradictions("dump.manifest_shards", MANIFEST, manifest_against_shards(manifest, measured))
        return measured

    def _file(self, entry: FileEntry) -> bool:
        """Whether the file is there, regular, and of the right size and hash."""
        try:
            size, digits = hash_file(regular_file(self._folder, entry.path))
        except (DumpCorrupt, StoreRejected) as error:
            self.note("dump.file_missing", entry.path, error.message.removeprefix(f"{entry.path}: "))
            return False
        self._bytes += size
        if size != entry.bytes:
            self.note("dump.file_size", entry.path, f"{counted(size, 'byte')}, where the manifest says {entry.bytes}")
        elif digits != entry.sha256:
            self.note("dump.file_sha256", entry.path, "does not have the SHA-256 that stands in the manifest")
        return (size, digits) == (entry.bytes, entry.sha256)

    def _shard(self, entry: FileEntry, manifest: Manifest, finder: DoubleFinder) -> Measured | None:
        spec = manifest.collection
        digests = CollectionDigests.empty(spec)
        tally = CollectionTally(spec)
        faulty: list[str] = []
        faults = 0
        try:
            for batch in _batches(self._folder, entry, manifest):
                for part in cache_slices(batch):
                    leaves = leaf_digests(part, spec)
                    digests = digests.merge(leaves.digests())
                    finder.add(leaves.ids)
                rows = payload_faults(batch.column("payload"))
                faults += len(rows)
                faulty += batch.column("id").take(pa.array(rows[:_MOST_NAMED], pa.int64())).to_pylist()
                if not faults:
                    tally.add(batch)
                self._rows += len(batch)
                self._progress(self._rows)
        except IntegrityError as error:
            self.note("dump.shard_unreadable", entry.path, error.message.removeprefix(f"{entry.path}: "))
            return None
        if faults:
            what = f"{counted(faults, 'payload is no JSON object', 'payloads are no JSON objects')} in canonical form"
            self.note("dump.payload_not_canonical", entry.path, what, ids=faulty, count=faults)
        if digests.rows != entry.rows:
            self.note(
                "dump.shard_rows", entry.path, f"{counted(digests.rows, 'row')}, where the manifest says {entry.rows}"
            )
        found = Measured(digests, tally.inventory(), tally.vector_facts())
        if not faults:  # of others nothing was measured that could be compared
            self._by_path[entry.path] = found
        return found

    def _doubles(self, manifest: Manifest, finder: DoubleFinder) -> None:
        suspects = finder.suspects()
        if not len(suspects):
            return
        paths = [entry.path for entry in manifest.shards]
        doubled = named_doubles(keys_with_leaves(self._folder, paths, manifest.collection), suspects)
        if doubled:
            what = f"{counted(len(doubled), 'record stands', 'records stand')} in the dump more than once"
            self.note("dump.ids_doubled", MANIFEST, what, ids=[str(key) for key in doubled], count=len(doubled))

    def journal(self, manifest: Manifest) -> None:
        """The journal is no longer needed to read a finished dump, but it is part of it, and repeats most of it."""
        name = manifest.journal.path
        path = self._folder / name
        if not self._file(manifest.journal):
            what = f"what it says could not be compared with {name}"
            self.note("dump.not_compared", MANIFEST, what, verdict=None)
            return
        try:
            progress = read_progress(read_journal(path), path)
        except (JournalCorrupt, FormatUnknown, StoreRejected) as error:
            self.note("dump.journal", name, _with_line(error.message.removeprefix(str(path))))
            return
        if progress is None or progress.finish is None:
            self.note("dump.journal", name, "does not end by telling that the dump was finished")
            return
        self._contradictions("dump.manifest_journal", MANIFEST, manifest_against_journal(manifest, progress))
        records = (*progress.standing, *progress.uncovered)
        if [record.file for record in records] != list(manifest.shards):
            self.note("dump.journal", name, "tells of other shards than the manifest")
        pairs = ((record, self._by_path.get(record.file.path)) for record in records)
        lines = (line_against_shard(record, found) for record, found in pairs if found is not None)
        self._contradictions("dump.journal_shard", name, chain.from_iterable(lines))

    def _contradictions(self, code: str, file: str, found: Iterable[Contradiction]) -> None:
        more = 0
        for number, each in enumerate(found):
            if number < _MOST_NAMED:
                self.note(code, file, str(each), field=each.field)
            else:
                more += 1
        if more:
            self.note(code, file, f"{counted(more, 'more contradiction')}", count=more)

    def moment(self, manifest: Manifest) -> None:
        """Say of a whole dump that what it holds was never so at any one time. Its files are none the worse for it."""
        if (found := unsteady(manifest)) is not None:
            self._findings.append(Finding(f"dump.{found[0]}", found[1]))

    def strays(self, listed: set[str]) -> None:
        names = [shown(name) for name in stray_files(self._folder, listed)]
        for name in names[:_MOST_NAMED]:
            self.note("dump.stray_file", name, "does not belong to the dump", verdict=None)
        if len(names) > _MOST_NAMED:
            what = f"{counted(len(names) - _MOST_NAMED, 'more file does', 'more files do')} not belong to the dump"
            self.note("dump.stray_files", shown(str(self._folder)), what, verdict=None, count=len(names))


def _with_line(what: str) -> str:
    """`:3: reason` for people."""
    place = re.match(r":(\d+): (.*)", what, re.DOTALL)
    return f"line {place[1]}: {place[2]}" if place else what.removeprefix(": ")


def _batches(folder: Path, entry: FileEntry, manifest: Manifest) -> Iterator[pa.RecordBatch]:
    with closing(ShardReader(regular_file(folder, entry.path), manifest.collection, name=entry.path)) as reader:
        for group in range(reader.groups):
            yield from reader.batches(group)
