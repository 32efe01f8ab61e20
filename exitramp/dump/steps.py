"""The durable steps of one shard, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pyarrow as pa

from exitramp.digests import CollectionDigests, LeafArray, leaf_digests
from exitramp.dump.layout import SHARDS, shard_path, temporary_shard
from exitramp.dump.manifest import FileEntry
from exitramp.dump.progress import ShardRecord
from exitramp.dump.sameness import ContentHash
from exitramp.dump.shard import ShardReader, ShardWriter
from exitramp.durable import storage_errors, sync_folder
from exitramp.errors import DumpCorrupt
from exitramp.records import CollectionSpec
from exitramp.tally import CollectionTally


class OpenShard:
    """A shard that is filling. Nothing of it counts before `seal` has returned and the journal has it.

    Every method raises as `durable.path_error` says when the disk refuses, and `DataInvalid` for a record that breaks a
    rule.
    """

    def __init__(self, folder: Path, number: int, spec: CollectionSpec) -> None:
        self._folder = folder
        self._number = number
        self._spec = spec
        self._temporary = temporary_shard(folder, number)
        self._writer = ShardWriter(self._temporary, spec)
        self._digests = CollectionDigests.empty(spec)
        self._content = ContentHash(spec)
        self._tally = CollectionTally(spec)

    def digest(self, batch: pa.RecordBatch) -> LeafArray:
        """Digest and measure a batch of the row group that is gathering; returns the id leaves of its rows."""
        leaves = leaf_digests(batch, self._spec)
        self._digests = self._digests.merge(leaves.digests())
        self._tally.add(batch)
        self._content.add(batch)
        return leaves.ids

    def write_group(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Write what was digested since the last call as one row group."""
        self._writer.write_group(batches)

    def seal(self) -> ShardRecord:
        """Put the shard on the disk under its name; it counts once its line is in the journal, cursors and all.

        Raises `DumpCorrupt` as well, when what was written decodes into something else than was given.
        """
        written = self._writer.finish()
        self._decode_again()
        path = shard_path(self._number, written.sha256)
        with storage_errors(self._folder / path):
            self._temporary.rename(self._folder / path)
        sync_folder(self._folder / SHARDS)
        entry = FileEntry(path, written.bytes, written.sha256, written.rows)
        return ShardRecord(entry, self._digests, (), self._tally.inventory(), self._tally.vector_facts())

    def abandon(self) -> None:
        """Let go of a shard that will not be sealed; its temporary file stays until the next run clears it away."""
        self._writer.abandon()

    def _decode_again(self) -> None:
        found = ContentHash(self._spec)
        with closing(ShardReader(self._temporary, self._spec, name=self._temporary.name)) as reader:
            for group in range(reader.groups):
                for batch in reader.batches(group):
                    found.add(batch)
        if differing := ", ".join(found.differences(self._content)):
            raise DumpCorrupt(f"{self._temporary}: decodes into other data than was written ({differing} differ)")
