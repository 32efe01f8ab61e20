"""Reading a dump: a source whose partitions are its shards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence, Set
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from exitramp import __version__
from exitramp.arrow import empty_batch, record_keys
from exitramp.dump.absence import absence
from exitramp.dump.layout import FORMAT_VERSION, regular_file
from exitramp.dump.manifest import FileEntry, Manifest, read_manifest
from exitramp.dump.payload_texts import payload_faults
from exitramp.dump.shard import ShardReader, hash_file
from exitramp.errors import CollectionMissing, DumpCorrupt, UsageError
from exitramp.ports import Cursor, Origin, Page, Partition, StoreIdentity, make_cursor, read_cursor
from exitramp.records import CollectionSpec, RecordKey
from exitramp.wording import counted


class DumpSource:
    """A `VectorSource` over a finished dump. A dump never changes, so every scan of it is a snapshot.

    Each shard's SHA-256 is compared before its first row is yielded (0.6 s/GB), and each payload looked at once (3.5 us
    a record), unless `check_shards` is off, so that a damaged dump is not restored and nobody behind this has to reckon
    with payloads that no dump holds. Two pages are in memory at a time.
    """

    def __init__(
        self,
        folder: Path,
        *,
        address: str | None = None,
        check_shards: bool = True,
        payloads_checked: set[str] | None = None,
    ) -> None:
        """`payloads_checked` are shards whose payloads need no look, shared by the sources of one opened store.

        Raises `CollectionMissing` where there is no finished dump, `DumpCorrupt`, `FormatUnknown`.
        """
        lacking = absence(folder)
        if lacking is not None:
            raise CollectionMissing(lacking.reason, hint=lacking.hint)
        self._folder = folder
        self._address = address or f"dump:{folder}"
        self._check_shards = check_shards
        self._checked: set[str] = set()
        self._payloads_checked = set() if payloads_checked is None else payloads_checked
        self._manifest = read_manifest(folder)
        # What this dump is, for cursors and partitions: those of another one must not be taken for ours.
        self._key = self._manifest.digests.ids.hex[:16]

    def manifest(self) -> Manifest:
        """Everything the dump says about itself."""
        return self._manifest

    def identity(self) -> StoreIdentity:
        return StoreIdentity(
            "dump",
            self._address,
            f"format {FORMAT_VERSION}",
            __version__,
            can_write=False,
            collections=(self._manifest.collection.name,),
        )

    def describe(self) -> CollectionSpec:
        return self._manifest.collection

    def origin(self) -> Origin | None:
        return self._manifest.origin

    def count(self) -> int:
        return self._manifest.rows

    def partitions(self, wanted: int) -> Sequence[Partition]:
        """At most `wanted` runs of neighbouring shards."""
        shards = len(self._manifest.shards)
        parts = max(1, min(wanted, shards))
        bounds = [shards * part // parts for part in range(parts + 1)]
        return [
            Partition(part, parts, json.dumps({"dump": self._key, "from": bounds[part], "to": bounds[part + 1]}))
            for part in range(parts)
        ]

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        """Pages in the order of the shards. Raises `DumpCorrupt` naming a shard that is not what was written."""
        if batch_rows < 1:
            raise UsageError(f"pages of {batch_rows} rows cannot be read")
        waiting: Page | None = None  # only when nothing follows it is it known to be the last
        for page in self._pages(self._shards_of(partition), batch_rows, after):
            if waiting is not None:
                yield waiting
            waiting = page
        start = after or make_cursor(dump=self._key, shard=None)
        yield replace(waiting or Page(empty_batch(self.describe()), start), last=True)

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        """Reads the id columns of every shard, and whole row groups only where one of `keys` is."""
        wanted = set(keys)
        ids = pa.array(sorted({key.id for key in wanted}), pa.string())
        found = [empty_batch(self.describe())]
        for entry in self._manifest.shards if wanted else ():
            with closing(self._open(entry)) as reader:
                for group in range(reader.groups):
                    hits = _rows_of(wanted, ids, reader.keys(group))
                    begin = 0
                    for batch in reader.batches(group) if hits else ():
                        here = [row - begin for row in hits if 0 <= row - begin < len(batch)]
                        begin += len(batch)
                        if here:
                            found.append(batch.take(pa.array(here)))
        return pa.concat_batches(found)

    def close(self) -> None:
        """Nothing is held open between calls."""

    def _shards_of(self, partition: Partition) -> tuple[FileEntry, ...]:
        if not partition.token:
            return self._manifest.shards
        try:
            token = json.loads(partition.token)
            key, begin, end = token["dump"], int(token["from"]), int(token["to"])
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError("this is no partition of a dump") from error
        if key != self._key or not 0 <= begin <= end <= len(self._manifest.shards):
            raise UsageError(f"this partition is one of another dump than {self._folder}")
        return self._manifest.shards[begin:end]

    def _pages(self, shards: Sequence[FileEntry], batch_rows: int, after: Cursor | None) -> Iterator[Page]:
        first, group, row = self._place(shards, after)
        for entry in shards[first:]:
            whole = not group and not row
            unchecked = self._check_shards and entry.path not in self._payloads_checked
            with closing(self._open(entry)) as reader:
                if group and group >= reader.groups:
                    raise UsageError(f"this cursor names a row group that {entry.path} does not have")
                for number in range(group, reader.groups):
                    begin = 0
                    for batch in reader.batches(number, rows=batch_rows):
                        if unchecked:
                            _require_payloads(entry, batch)
                        if after is not None and begin < row <= begin + len(batch):
                            self._require_key(batch, row - 1 - begin, after)
                        cut = batch.slice(max(0, row - begin))
                        begin += len(batch)
                        if len(cut):
                            yield Page(cut, self._cursor(entry, number, begin, cut))
                    if row > begin:
                        raise UsageError("this cursor names a record behind the end of its row group")
                    row, after = 0, None
            group = 0
            if whole:
                self._payloads_checked.add(entry.path)

    def _cursor(self, entry: FileEntry, group: int, row: int, batch: pa.RecordBatch) -> Cursor:
        """Behind the last row of `batch`. Shards are named by their hash, so a row's place in one is a key."""
        [key] = record_keys(batch.slice(len(batch) - 1))
        named = {} if key.namespace is None else {"namespace": key.namespace}
        return make_cursor(dump=self._key, shard=entry.path, group=group, row=row, id=key.id, **named)

    def _place(self, shards: Sequence[FileEntry], after: Cursor | None) -> tuple[int, int, int]:
        """Number of the shard, the row group and the row to begin with."""
        if after is None:
            return 0, 0, 0
        place = read_cursor(after)
        if place.get("dump") != self._key:
            raise UsageError(f"this cursor is one of another dump than {self._folder}")
        if place["shard"] is None:
            return 0, 0, 0
        for number, entry in enumerate(shards):
            if entry.path == place["shard"]:
                group, row = place.get("group"), place.get("row")
                if isinstance(group, int) and isinstance(row, int) and group >= 0 and row > 0:
                    return number, group, row
        raise UsageError("this cursor is one of another partition")

    def _require_key(self, batch: pa.RecordBatch, row: int, after: Cursor) -> None:
        place = read_cursor(after)
        keys = record_keys(batch.slice(row, 1))
        if keys != [RecordKey(str(place.get("id")), place.get("namespace"))]:
            raise UsageError("this cursor names a record that is not where it says")

    def _open(self, entry: FileEntry) -> ShardReader:
        path = regular_file(self._folder, entry.path)
        if self._check_shards and entry.path not in self._checked:
            if hash_file(path) != (entry.bytes, entry.sha256):
                raise DumpCorrupt(
                    f"{entry.path}: not the file that was written to the dump {self._folder}",
                    hint=f"exitramp verify {self._folder}",
                )
            self._checked.add(entry.path)
        reader = ShardReader(path, self._manifest.collection, name=entry.path)
        if reader.rows != entry.rows:
            reader.close()
            raise DumpCorrupt(f"{entry.path}: {counted(reader.rows, 'row')}, where the manifest says {entry.rows}")
        return reader


def _require_payloads(entry: FileEntry, batch: pa.RecordBatch) -> None:
    faults = payload_faults(batch.column("payload"))
    if faults:
        name = batch.column("id")[faults[0]].as_py()
        raise DumpCorrupt(f"{entry.path}: the payload of record {name!r} is no JSON object in canonical form")


def _rows_of(wanted: Set[RecordKey], ids: pa.Array, keys: Iterator[pa.RecordBatch]) -> list[int]:
    """The numbers of the rows whose key is wanted; `ids` are all ids in it, to look at few keys only."""
    found, begin = [], 0
    for batch in keys:
        [rows] = pc.is_in(batch.column("id"), value_set=ids).to_numpy(zero_copy_only=False).nonzero()
        near = zip(rows.tolist(), record_keys(batch.take(pa.array(rows))), strict=True)
        found += [begin + row for row, key in near if key in wanted]
        begin += len(batch)
    return found
