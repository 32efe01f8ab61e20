"""Taking up a dump that an earlier run left unfinished."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from exitramp.digests import LeafArray, id_leaves
from exitramp.dump.layout import JOURNAL, MANIFEST, MANIFEST_HASH, SHARDS, is_shard_name, regular_file
from exitramp.dump.progress import DROP, Progress, ShardRecord, read_progress
from exitramp.dump.shard import ShardReader, hash_file
from exitramp.durable import TEMPORARY_SUFFIX, storage_errors, sync_folder
from exitramp.errors import CollectionExists, DumpCorrupt, UsageError
from exitramp.journal import Journal, read_journal
from exitramp.ports import Origin
from exitramp.records import CollectionSpec
from exitramp.wording import selections


def refuse_foreign_folder(folder: Path) -> None:
    """Raises `CollectionExists` when `folder` holds a finished dump, or something that no dump left there, and
    `DumpCorrupt` when its journal is no file or its shards' folder is none: what is cleared away must lie in here."""
    if os.path.lexists(folder / MANIFEST):
        raise CollectionExists(
            f"{folder} holds a finished dump, which is never written to again", hint="choose another folder"
        )
    if folder.exists() and not folder.is_dir():
        raise CollectionExists(f"{folder} is no folder", hint="choose another name")
    shards = folder / SHARDS
    if shards.is_symlink() or (os.path.lexists(shards) and not shards.is_dir()):
        raise DumpCorrupt(
            f"{shards}: not a folder of its own, as that of a dump's shards is", hint="choose a new folder"
        )
    if os.path.lexists(folder / JOURNAL):
        regular_file(folder, JOURNAL)  # reading a pipe would wait for good
        return
    if not folder.exists():
        return
    for place in sorted(folder.iterdir()):
        if place.name not in {SHARDS, MANIFEST_HASH} and not place.name.endswith(TEMPORARY_SUFFIX):
            raise CollectionExists(
                f"{folder} holds other files ({place.name!r}) and is no dump", hint="choose an empty or a new folder"
            )


def require_same_collection(progress: Progress, spec: CollectionSpec, origin: Origin, folder: Path) -> None:
    """Raises `CollectionExists` naming what differs between the dump begun and the one asked for.

    The index configuration may differ: a store counts and tunes in there while it is read.
    """
    pairs = ((progress.collection, spec, "collection"), (progress.origin.spec, origin.spec, "origin"))
    for begun, asked, what in pairs:
        old, new = begun.to_json(), asked.to_json()
        for key in old:
            if key != "index" and old[key] != new[key]:
                raise CollectionExists(
                    f"{folder} holds an unfinished dump of another {what}: its {key!r} differs",
                    hint="choose another folder, or remove that one",
                )


def require_same_selection(progress: Progress, asked: Mapping[str, str] | None, folder: Path) -> None:
    """Raises `UsageError` naming what the dump was begun with and what is asked for now, where they differ: going on
    would put two choices of records together. Where one of the two does not say, nothing can be told."""
    begun = progress.selection
    if begun is None or asked is None:
        return
    if begun != asked:
        old, new = selections(begun, asked)
        raise UsageError(
            f"{folder} holds a dump that was begun with {old}, and this run asks for {new}",
            hint="give the options that it was begun with, or choose another folder",
        )


def require_selection(folder: Path, asked: Mapping[str, str]) -> None:
    """`require_same_selection` of whatever dump is in `folder`, finished or not."""
    path = regular_file(folder, JOURNAL)
    progress = read_progress(read_journal(path), path)
    if progress is not None:
        require_same_selection(progress, asked, folder)


def clear_away(folder: Path, progress: Progress | None, journal: Journal) -> None:
    """Remove what an interrupted run left and nobody acknowledged: temporary files, shards not in the journal, and
    shards behind the last cursor, whose rows the source yields again."""
    standing = set() if progress is None else {record.file.path for record in progress.standing}
    if progress is not None and progress.uncovered:
        # First in the journal: a journal that names shards which are gone would be a corrupt dump.
        journal.append(DROP, {"paths": [record.file.path for record in progress.uncovered]})
    for place in (*folder.iterdir(), *(folder / SHARDS).iterdir()):
        is_stray_shard = place.parent.name == SHARDS and is_shard_name(place.name)
        if place.name.endswith(TEMPORARY_SUFFIX) or (is_stray_shard and f"{SHARDS}/{place.name}" not in standing):
            with storage_errors(place):
                place.unlink()
    sync_folder(folder / SHARDS)
    sync_folder(folder)


def require_sizes(folder: Path, standing: Sequence[ShardRecord]) -> None:
    """Raises `DumpCorrupt` naming the first shard that is missing or not as long as its journal line says."""
    for record in standing:
        if regular_file(folder, record.file.path).stat().st_size != record.file.bytes:
            raise _damaged(folder, record)


def require_standing(folder: Path, standing: Sequence[ShardRecord]) -> None:
    """Raises `DumpCorrupt` naming the first shard that is not what its journal line says; reads every byte."""
    for record in standing:
        if hash_file(regular_file(folder, record.file.path)) != (record.file.bytes, record.file.sha256):
            raise _damaged(folder, record)


def _damaged(folder: Path, record: ShardRecord) -> DumpCorrupt:
    return DumpCorrupt(
        f"{record.file.path}: not what the journal says was written", hint=f"remove {folder} and dump again"
    )


def keys_with_leaves(
    folder: Path, paths: Sequence[str], spec: CollectionSpec
) -> Iterator[tuple[pa.RecordBatch, LeafArray]]:
    """The id and namespace columns of these shards, row group by row group, with the id leaves."""
    for path in paths:
        reader = ShardReader(regular_file(folder, path), spec, name=path)
        try:
            for group in range(reader.groups):
                for keys in reader.keys(group):
                    yield keys, id_leaves(keys)
        finally:
            reader.close()
