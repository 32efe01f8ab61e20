"""Catching up: bring a target to what the source holds, touching only what is missing, changed or deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp import __version__
from exitramp.arrow import record_keys
from exitramp.digests import CollectionDigests, leaf_digests
from exitramp.errors import ConsentMissing, DataInvalid, StoreProtocolError
from exitramp.ports import Origin, TransferAccount, VectorSink, VectorSource
from exitramp.records import CollectionSpec, Finding, RecordKey, VectorField
from exitramp.wording import counted

IDS_SHOWN = 20
DELETES_SHARE = 0.1
"""More deletions than this share of the target stop the run unless a number was given: a source that lost records
looks just like one that deleted them."""

SameVectors = Callable[[VectorField, pa.Array, pa.Array], npt.NDArray[np.bool_]]
"""Which rows of two aligned columns count as the same vector."""

_KEY = 16  # bytes of the ids leaf that stand for a key: two of a billion records share them once in 10^21


@dataclass(frozen=True, slots=True)
class Difference:
    """What a target lacks, holds otherwise, and has too much, as keys of sixteen bytes."""

    missing: frozenset[bytes]
    changed: frozenset[bytes]
    extra: frozenset[bytes]
    source: CollectionDigests
    target: CollectionDigests


@dataclass(slots=True)
class SyncResult:
    """What was done. `*_ids` hold the first twenty of each; `kept` are extras that the second look found alive."""

    missing: int
    changed: int
    extra: int
    upserted: int = 0
    deleted: int = 0
    kept: int = 0
    missing_ids: list[str] = field(default_factory=list)
    changed_ids: list[str] = field(default_factory=list)
    deleted_ids: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def difference(
    source: VectorSource,
    target: VectorSource,
    *,
    batch_rows: int,
    same_vectors: SameVectors | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> Difference:
    """Scan both sides completely. Memory grows by 48 bytes a record of each.

    Where the target changes vectors by design, `same_vectors` judges the records that differ in nothing else.
    """
    left = _Fingerprints.of(source, batch_rows, progress)
    right = _Fingerprints.of(target, batch_rows, progress)
    missing = left.keys() - right.keys()
    extra = right.keys() - left.keys()
    changed: set[bytes] = set()
    vectors_only: set[bytes] = set()
    for key in left.keys() & right.keys():
        mine, theirs = left.leaves(key), right.leaves(key)
        if mine[:_KEY] != theirs[:_KEY]:
            changed.add(key)
        elif mine != theirs:
            vectors_only.add(key)
    if vectors_only and same_vectors is not None:
        vectors_only = _really_apart(source, target, vectors_only, batch_rows, same_vectors)
    return Difference(
        frozenset(missing), frozenset(changed | vectors_only), frozenset(extra), left.digests, right.digests
    )


def synchronise(
    source: VectorSource,
    target: VectorSource,
    sink: VectorSink,
    *,
    batch_rows: int,
    delete: bool = False,
    maximum_deletes: int | None = None,
    same_vectors: SameVectors | None = None,
    check: Callable[[CollectionDigests], None] = lambda found: None,
    progress: Callable[[int], None] = lambda rows: None,
) -> SyncResult:
    """Make `target` (written through `sink`) hold what `source` holds.

    Deletes only with `delete`, after both scans signalled their end, after each id was looked for in the source once
    more, and at most `maximum_deletes` (default: a tenth of the target). Raises `DataInvalid` for an empty source and
    `ConsentMissing` when the brake holds; nothing is deleted then, nor written. `check` is given the digests of all
    that the source holds before anything is written, and may raise.
    """
    spec = source.describe()
    found = difference(source, target, batch_rows=batch_rows, same_vectors=same_vectors, progress=progress)
    check(found.source)
    if not found.source.rows:
        raise DataInvalid(
            "the source is empty; a target is never brought to nothing",
            hint="if that is meant, remove the target's collection yourself",
        )
    result = SyncResult(len(found.missing), len(found.changed), len(found.extra))
    doomed = _second_look(source, target, found, batch_rows, result) if delete and found.extra else []
    allowed = maximum_deletes if maximum_deletes is not None else int(found.target.rows * DELETES_SHARE)
    if len(doomed) > allowed:
        raise ConsentMissing(
            f"{len(doomed)} of the target's {found.target.rows} records would be deleted, {allowed} are allowed",
            hint=f"nothing was written; if that is meant, add --max-deletes {len(doomed)}",
        )
    sink.create(spec, source.origin() or Origin(spec, __version__))
    _upsert(source, sink, found, batch_rows, result)
    if doomed:
        sink.delete(doomed)
        result.deleted = len(doomed)
        result.deleted_ids = [str(key) for key in doomed[:IDS_SHOWN]]
    sink.flush()
    account = TransferAccount(rows_read=found.source.rows, rows_written=result.upserted, source=source.identity())
    told = sink.finish(account) or ()
    result.findings += [*_findings(result, delete), *told]
    return result


class _Fingerprints:
    """Key, payload leaf and vector leaf of every record, sixteen bytes each, and the digests of all of them."""

    def __init__(self, spec: CollectionSpec) -> None:
        self.digests = CollectionDigests.empty(spec)
        self._rows: dict[bytes, bytes] = {}

    @classmethod
    def of(cls, source: VectorSource, batch_rows: int, progress: Callable[[int], None]) -> _Fingerprints:
        spec = source.describe()
        found = cls(spec)
        for batch in _batches(source, batch_rows):
            leaves = leaf_digests(batch, spec)
            found.digests = found.digests.merge(leaves.digests())
            rows = zip(*map(_short, (leaves.ids, leaves.payloads, leaves.vectors)), strict=True)
            for key, payload, vectors in rows:
                found._rows[key] = payload + vectors
            progress(found.digests.rows)
        return found

    def keys(self) -> set[bytes]:
        return set(self._rows)

    def leaves(self, key: bytes) -> bytes:
        return self._rows[key]


def _short(leaves: npt.NDArray[np.uint8]) -> list[bytes]:
    return [row.tobytes() for row in np.ascontiguousarray(leaves[:, :_KEY])]


def _batches(source: VectorSource, batch_rows: int) -> Iterator[pa.RecordBatch]:
    for partition in source.partitions(1):
        last = False
        for page in source.scan(partition, batch_rows=batch_rows):
            last = page.last
            if page.batch.num_rows:
                yield page.batch
        if not last:
            raise StoreProtocolError("a scan stopped without its end signal; nothing was written")


def _picked(
    source: VectorSource, spec: CollectionSpec, wanted: frozenset[bytes] | set[bytes], batch_rows: int
) -> Iterator[tuple[pa.RecordBatch, list[bytes]]]:
    """The records whose key is wanted, by another scan."""
    for batch in _batches(source, batch_rows):
        keys = _short(leaf_digests(batch, spec).ids)
        rows = [row for row, key in enumerate(keys) if key in wanted]
        if rows:
            yield batch.take(pa.array(rows, pa.int64())), [keys[row] for row in rows]


def _really_apart(
    source: VectorSource,
    target: VectorSource,
    suspects: set[bytes],
    batch_rows: int,
    same_vectors: SameVectors,
) -> set[bytes]:
    spec = source.describe()
    columns = {each.column for each in target.describe().vectors}
    apart: set[bytes] = set()
    for mine, hashes in _picked(source, spec, suspects, batch_rows):
        keys = record_keys(mine)
        theirs = target.fetch(keys)
        place = {key: row for row, key in enumerate(record_keys(theirs))}
        there = [row for row, key in enumerate(keys) if key in place]
        apart.update(hashes[row] for row, key in enumerate(keys) if key not in place)
        a = mine.take(pa.array(there, pa.int64()))
        b = theirs.take(pa.array([place[keys[row]] for row in there], pa.int64()))
        for each in spec.vectors:
            if each.column not in columns:
                apart.update(hashes[row] for row in there)
                continue
            same = same_vectors(each, a.column(each.column), b.column(each.column))
            apart.update(hashes[there[row]] for row in np.flatnonzero(~same).tolist())
    return apart


def _second_look(
    source: VectorSource, target: VectorSource, found: Difference, batch_rows: int, result: SyncResult
) -> list[RecordKey]:
    """The extras that the source, asked for each by its id, still does not have."""
    spec = target.describe()
    doomed: list[RecordKey] = []
    for batch, _ in _picked(target, spec, found.extra, batch_rows):
        keys = record_keys(batch)
        alive = set(record_keys(source.fetch(keys)))
        doomed += [key for key in keys if key not in alive]
        result.kept += len(alive)
    return doomed


def _upsert(source: VectorSource, sink: VectorSink, found: Difference, batch_rows: int, result: SyncResult) -> None:
    wanted = found.missing | found.changed
    if not wanted:
        return
    for batch, hashes in _picked(source, source.describe(), wanted, batch_rows):
        sink.upsert(batch)
        result.upserted += batch.num_rows
        for key, short in zip(record_keys(batch), hashes, strict=True):
            _note(result.missing_ids if short in found.missing else result.changed_ids, str(key))


def _note(ids: list[str], key: str) -> None:
    if len(ids) < IDS_SHOWN:
        ids.append(key)


def _findings(result: SyncResult, delete: bool) -> Iterator[Finding]:
    for code, text, ids, count in (
        ("sync.missing", ("record was missing", "records were missing"), result.missing_ids, result.missing),
        ("sync.changed", ("record was different", "records were different"), result.changed_ids, result.changed),
        ("sync.deleted", ("record was deleted", "records were deleted"), result.deleted_ids, result.deleted),
    ):
        if count:
            yield Finding(code, counted(count, *text), ids=tuple(ids), count=count)
    if result.kept:
        nouns = "record appeared in the source meanwhile and was", "records appeared in the source meanwhile and were"
        yield Finding("sync.kept", f"{counted(result.kept, *nouns)} kept", count=result.kept)
    if result.extra and not delete:
        yield left_there(result.extra)


def left_there(count: int, ids: tuple[str, ...] = ()) -> Finding:
    """What is to be said of records that only the target holds, and that nobody asked to be deleted."""
    stand, them = counted(count, "record stands", "records stand"), "it" if count == 1 else "them"
    text = f"{stand} only at the target and {'was' if count == 1 else 'were'} left there; --delete would remove {them}"
    return Finding("sync.extra", text, ids=ids, count=count)
