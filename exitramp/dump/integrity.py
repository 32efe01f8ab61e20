"""Whether a dump is whole, from its files alone.

Everything that is checked stands in docs/format.md, "Verifying". A damaged file does not end the check: every file
is looked at, and each finding names its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from exitramp.digests import CollectionDigests, cache_slices, leaf_digests
from exitramp.dump.doubles import DoubleFinder, named_doubles
from exitramp.dump.layout import JOURNAL, MANIFEST, MANIFEST_HASH, manifest_hash_line, regular_file, stray_files
from exitramp.dump.manifest import FileEntry, Manifest
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
from exitramp.payloads import canonical_faults
from exitramp.records import Finding, Verdict

_MOST_NAMED = 20


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
            raise kind(f"{self.folder}: {damaged[0].message}{more}")


def verify_dump(folder: Path) -> VerifyReport:
    """Check every file of the dump in `folder`: hashes, decoding, digests, ids, payload texts, counts.

    Raises `CollectionMissing` when there is no such folder. Whatever is wrong inside it is a finding.
    """
    if not folder.is_dir():
        raise CollectionMissing(f"there is no folder {folder}")
    check = _Check(folder)
    manifest = check.manifest()
    if manifest is None:
        return check.report(None, None)
    digests = check.shards(manifest)
    check.journal(manifest)
    listed = {MANIFEST, MANIFEST_HASH, manifest.journal.path, *(entry.path for entry in manifest.shards)}
    for name in stray_files(folder, listed):
        check.note("dump.stray_file", name, "does not belong to the dump", verdict=None)
    return check.report(manifest, digests)


class _Check:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._findings: list[Finding] = []
        self._bytes = 0
        self._format_unknown = False

    def note(
        self,
        code: str,
        file: str,
        what: str,
        *,
        verdict: Verdict | None = Verdict.FAIL,
        ids: Sequence[str] = (),
        count: int | None = None,
    ) -> None:
        named = tuple(ids[:_MOST_NAMED])
        self._findings.append(Finding(code, f"{file}: {what}", verdict, named, count, {"file": file}))

    def report(self, manifest: Manifest | None, digests: CollectionDigests | None) -> VerifyReport:
        failed = any(finding.verdict is Verdict.FAIL for finding in self._findings)
        return VerifyReport(
            str(self._folder),
            Verdict.FAIL if failed else Verdict.PASS,
            0 if digests is None else digests.rows,
            self._bytes,
            0 if manifest is None else len(manifest.shards),
            digests,
            tuple(self._findings),
            self._format_unknown,
        )

    def manifest(self) -> Manifest | None:
        try:
            content = regular_file(self._folder, MANIFEST).read_bytes()
        except DumpCorrupt as error:
            unfinished = (self._folder / JOURNAL).exists()
            reason = "missing: the dump was never finished" if unfinished else error.message
            self.note("dump.manifest_missing", MANIFEST, reason.removeprefix(f"{MANIFEST}: "))
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
            line = regular_file(self._folder, MANIFEST_HASH).read_bytes()
        except DumpCorrupt as error:
            self.note("dump.manifest_hash_missing", MANIFEST_HASH, error.message.removeprefix(f"{MANIFEST_HASH}: "))
            return
        self._bytes += len(line)
        if line != manifest_hash_line(hash_bytes(content)):
            what = f"does not have the SHA-256 that stands in {MANIFEST_HASH}: one of the two files was changed"
            self.note("dump.manifest_hash", MANIFEST, what)

    def shards(self, manifest: Manifest) -> CollectionDigests | None:
        """The digests of all shards, or None if one of them cannot be read."""
        digests = CollectionDigests.empty(manifest.collection)
        whole = True
        with DoubleFinder() as finder:
            for entry in manifest.shards:
                found = self._shard(entry, manifest, finder) if self._file(entry) else None
                whole = whole and found is not None
                digests = digests if found is None else digests.merge(found)
            if not whole:
                return None
            self._doubles(manifest, finder)
        differing = digests.differences(manifest.digests)
        if differing:
            self.note("dump.digests", MANIFEST, f"its digests are not those of the shards: {', '.join(differing)}")
        return digests

    def _file(self, entry: FileEntry) -> bool:
        """Whether the file is there, regular, and of the right size and hash."""
        try:
            size, digits = hash_file(regular_file(self._folder, entry.path))
        except (DumpCorrupt, StoreRejected) as error:
            self.note("dump.file_missing", entry.path, error.message.removeprefix(f"{entry.path}: "))
            return False
        self._bytes += size
        if size != entry.bytes:
            self.note("dump.file_size", entry.path, f"{size} bytes, where the manifest says {entry.bytes}")
        elif digits != entry.sha256:
            self.note("dump.file_sha256", entry.path, "does not have the SHA-256 that stands in the manifest")
        return (size, digits) == (entry.bytes, entry.sha256)

    def _shard(self, entry: FileEntry, manifest: Manifest, finder: DoubleFinder) -> CollectionDigests | None:
        spec = manifest.collection
        digests = CollectionDigests.empty(spec)
        faulty: list[str] = []
        faults = 0
        try:
            for batch in _slices(self._folder, entry, manifest):
                leaves = leaf_digests(batch, spec)
                digests = digests.merge(leaves.digests())
                finder.add(leaves.ids)
                rows = canonical_faults(batch.column("payload"))
                faults += len(rows)
                faulty += batch.column("id").take(pa.array(rows[:_MOST_NAMED], pa.int64())).to_pylist()
        except IntegrityError as error:
            self.note("dump.shard_unreadable", entry.path, error.message.removeprefix(f"{entry.path}: "))
            return None
        if faults:
            what = f"{faults} payloads are not canonical JSON"
            self.note("dump.payload_not_canonical", entry.path, what, ids=faulty, count=faults)
        if digests.rows != entry.rows:
            self.note("dump.shard_rows", entry.path, f"{digests.rows} rows, where the manifest says {entry.rows}")
        return digests

    def _doubles(self, manifest: Manifest, finder: DoubleFinder) -> None:
        suspects = finder.suspects()
        if not len(suspects):
            return
        paths = [entry.path for entry in manifest.shards]
        doubled = named_doubles(keys_with_leaves(self._folder, paths, manifest.collection), suspects)
        if doubled:
            what = f"{len(doubled)} records stand in the dump more than once"
            self.note("dump.ids_doubled", MANIFEST, what, ids=[str(key) for key in doubled], count=len(doubled))

    def journal(self, manifest: Manifest) -> None:
        """The journal is no longer needed to read a finished dump, but it is part of it."""
        if not self._file(manifest.journal):
            return
        path = self._folder / manifest.journal.path
        try:
            progress = read_progress(read_journal(path), path)
        except (JournalCorrupt, FormatUnknown, DumpCorrupt) as error:
            self.note("dump.journal", manifest.journal.path, error.message)
            return
        told = [] if progress is None else [record.file for record in (*progress.standing, *progress.uncovered)]
        if told != list(manifest.shards):
            self.note("dump.journal", manifest.journal.path, "tells of other shards than the manifest")


def _slices(folder: Path, entry: FileEntry, manifest: Manifest) -> Iterator[pa.RecordBatch]:
    with closing(ShardReader(regular_file(folder, entry.path), manifest.collection, name=entry.path)) as reader:
        for group in range(reader.groups):
            for batch in reader.batches(group):
                yield from cache_slices(batch)
