"""Closing a dump: every id once, then the manifest, last and atomically."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from exitramp import __version__
from exitramp.digests import CollectionDigests
from exitramp.dump.doubles import DoubleFinder, named_doubles
from exitramp.dump.layout import JOURNAL, MANIFEST, MANIFEST_HASH, manifest_hash_line
from exitramp.dump.manifest import Consistency, FileEntry, Manifest, NameMapping, SourceInfo, ToolVersions, plain
from exitramp.dump.progress import ShardRecord
from exitramp.dump.shard import hash_bytes, hash_file
from exitramp.dump.taking_up import keys_with_leaves
from exitramp.durable import write_atomically
from exitramp.errors import DataInvalid, DumpCorrupt
from exitramp.inventory import Inventory
from exitramp.ports import Origin, TransferAccount
from exitramp.records import CollectionSpec
from exitramp.vector_facts import VectorFacts
from exitramp.wording import counted


@dataclass(frozen=True, slots=True)
class Closing:
    """What the manifest is made of, besides the account."""

    folder: Path
    collection: CollectionSpec
    origin: Origin
    shards: Sequence[ShardRecord]
    started_at: str
    ended_at: str
    resumed: int

    def digests(self) -> CollectionDigests:
        merged = CollectionDigests.empty(self.collection)
        for record in self.shards:
            merged = merged.merge(record.digests)
        return merged

    def inventory(self) -> Inventory:
        merged = Inventory()
        for record in self.shards:
            merged = merged.merge(record.inventory)
        return merged

    def vector_facts(self) -> dict[str, VectorFacts]:
        merged = {vector.column: VectorFacts() for vector in self.collection.vectors}
        for record in self.shards:
            merged = {name: facts.merge(record.vector_facts[name]) for name, facts in merged.items()}
        return merged


def require_no_doubles(closing: Closing, finder: DoubleFinder) -> None:
    """Raises `DataInvalid` naming the ids (the first twenty) that stand more than once."""
    suspects = finder.suspects()
    if not len(suspects):
        return
    paths = [record.file.path for record in closing.shards]
    doubled = named_doubles(keys_with_leaves(closing.folder, paths, closing.collection), suspects)
    if doubled:
        listed = ", ".join(map(repr, map(str, doubled[:20])))
        more = f" and {len(doubled) - 20} more" if len(doubled) > 20 else ""
        raise DataInvalid(
            f"the source yielded {counted(len(doubled), 'record')} more than once: {listed}{more}",
            hint=f"the source changed while it was read, or does not page rightly; remove {closing.folder} "
            "and dump again",
        )


def require_account(closing: Closing, account: TransferAccount) -> None:
    """Raises `DumpCorrupt` when the copy loop's digests of just as many rows are not those of what was written."""
    if not account.digests or account.digests.get("rows") != closing.digests().rows:
        return  # a resumed run saw a part only
    differing = closing.digests().differences(CollectionDigests.from_json(account.digests))
    if differing:
        raise DumpCorrupt(f"what was written to {closing.folder} is not what was read: {', '.join(differing)} differ")


def write_manifest(closing: Closing, account: TransferAccount) -> Manifest:
    """Write the hash and then the manifest; the dump is one when this returns. Raises as `durable.path_error` says."""
    digests = closing.digests()
    journal_bytes, journal_sha256 = hash_file(closing.folder / JOURNAL)
    manifest = Manifest(
        tool=_tool_versions(),
        source=None if account.source is None else SourceInfo.of(account.source),
        started_at=closing.started_at,
        ended_at=closing.ended_at,
        resumed=closing.resumed,
        consistency=_consistency(account, digests.rows),
        rows=digests.rows,
        collection=closing.collection,
        origin=closing.origin,
        mapping=NameMapping.between(closing.origin.spec, closing.collection),
        inventory=closing.inventory(),
        vector_facts=closing.vector_facts(),
        shards=tuple(record.file for record in closing.shards),
        journal=FileEntry(JOURNAL, journal_bytes, journal_sha256),
        digests=digests,
    )
    content = manifest.to_bytes()
    write_atomically(closing.folder / MANIFEST_HASH, manifest_hash_line(hash_bytes(content)))
    write_atomically(closing.folder / MANIFEST, content)
    return manifest


def _consistency(account: TransferAccount, rows: int) -> Consistency:
    before, after = account.source_count_before, account.source_count_after
    if account.source_changed:
        state = "changed"
    elif before is None or after is None:
        state = "unknown"
    else:
        state = "unchanged" if before == after == rows else "changed"
    return Consistency(state, before, after)


def _tool_versions() -> ToolVersions:
    return ToolVersions("exitramp", __version__, platform.python_version(), pa.__version__, np.__version__)


def finish_line(closing: Closing, account: TransferAccount | None = None) -> Mapping[str, Any]:
    """The journal's last line before the manifest: what is said in the manifest and by no other line.

    Without an `account` it does not say where the records come from, nor whether the source stood still.
    """
    digests = closing.digests()
    line = {
        "started_at": closing.started_at,
        "ended_at": closing.ended_at,
        "tool": plain(_tool_versions()),
        "digests": digests.to_json(),
    }
    if account is None:
        return line
    source = None if account.source is None else plain(SourceInfo.of(account.source))
    return {**line, "source": source, "consistency": plain(_consistency(account, digests.rows))}
