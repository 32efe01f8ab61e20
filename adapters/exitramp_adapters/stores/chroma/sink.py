"""Writing to Chroma: whole records, and an index that stands in its files when a load is over."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import pyarrow as pa

from exitramp.errors import CollectionExists, CollectionMissing, UsageError
from exitramp.ports import Origin, SinkLimits, TransferAccount
from exitramp.ports.collection_metadata import KEY
from exitramp.records import CollectionSpec, RecordKey, VectorField
from exitramp_adapters.stores.chroma.leftovers import leftovers
from exitramp_adapters.stores.chroma.limits import INDEX_KEY, LIMITS, SPACES, WRITE_ROWS, is_name
from exitramp_adapters.stores.chroma.opened import ORIGIN_KEY, OpenedChroma, user_metadata
from exitramp_adapters.stores.chroma.records import Columns, columns_of, native_ids
from exitramp_adapters.stores.chroma.settings import graph_of, made_schema, spann_of

_WRITE_BYTES: Final = 16 * 2**20  # a server takes 40 MB a request, in which vectors are a third longer
# After so many records Chroma rewrites its index files in place, which a kill must not meet; its own default is 1000.
_LOADING_SYNC_ROWS: Final = 10_000
_SYNC_ROWS: Final = 1000
_GHOST_TRIES: Final = 5


class ChromaSink:
    """Writes whole records, each call durable by itself."""

    def __init__(self, chroma: OpenedChroma) -> None:
        self._chroma = chroma
        self._field: VectorField | None = None
        self._haunted: bool | None = None  # whether lists of deleted collections may turn up; None: not looked yet
        self._behind: int | None = None  # changes that the index files lack; None: not known

    def limits(self) -> SinkLimits:
        return LIMITS

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        """Make the collection, with index settings and metadata as they were if it comes from a Chroma.

        Embedded, Chroma is told to rewrite its index files ten times less often until `finish`. It does so in place:
        of 25 loads killed at some moment, 3 could not be read any more; of 36 like this one, killed up to
        twice, all could. What is in its log only is safe.
        """
        chroma = self._chroma
        if not is_name(chroma.address.require_collection()):
            hint = "3 to 512 of a-z A-Z 0-9 . _ -, a letter or digit at both ends"
            raise UsageError(f"{chroma.address}: Chroma takes no such collection name", hint=hint)
        [field] = spec.vectors
        if chroma.exists:
            with suppress(CollectionMissing):
                self._accept(field, origin)
                self._field = field
                return
        told = spec.index.get(INDEX_KEY) or {}
        hnsw = graph_of(spec.index)
        note = {"origin": origin.to_json(), "dimensions": field.dimensions, "sync": hnsw.get("sync_threshold")}
        if chroma.path is not None:
            hnsw["sync_threshold"] = _LOADING_SYNC_ROWS
        space, spann = SPACES[field.metric], spann_of(spec.index)
        schema = made_schema(spec.index, space, hnsw)
        graph = {"hnsw": {"space": space, **hnsw}}
        chroma.make(
            # A server of one's own makes a graph of it, with settings of its own.
            graph if spann is None or chroma.path is not None else {"spann": {"space": space, **spann}},
            schema,
            user_metadata(told.get(KEY) or {}) | {ORIGIN_KEY: json.dumps(note)},
        )
        self._field = field
        self._behind = 0

    def _accept(self, field: VectorField, origin: Origin) -> None:
        chroma = self._chroma
        found = chroma.collection(fresh=True)
        there = {"metric": chroma.metric(found), "dimensions": chroma.dimensions(found) or field.dimensions}
        for what, other in there.items():
            if getattr(field, what) != other:
                raise CollectionExists(
                    f"{chroma.address} is there already with {what} {other}, not {getattr(field, what)}",
                    hint="choose another name",
                )
        note = chroma.note(found)
        if note is not None and not chroma.count():  # what was told of records that are gone explains no others
            chroma.keep_note(found, note | {"origin": origin.to_json(), "dimensions": field.dimensions})
        if chroma.path is not None and note is not None:
            chroma.sync_every(found, _LOADING_SYNC_ROWS)  # heard by a process that has not loaded the index yet

    def upsert(self, batch: pa.RecordBatch) -> None:
        """Replace whole records, in one call that Chroma does whole or not at all.

        Its `upsert` merges metadata and keeps what is not given, so that every key that must go is named in it. Only a
        document, a URI or the last of the metadata leaves no other way than by a deletion: such records are written,
        deleted and added again, and a kill in between loses them, but only until they are written again, since nobody
        was told that they had landed. Looking for what is there costs 1 % of adding. What is new is added, not upserted
        (7 % cheaper): should somebody else write the same id in between, their record stays whole.
        """
        found = self._chroma.collection()
        if self._field is None:
            self._field = self._chroma.spec().vectors[0]
        columns = columns_of(batch, self._field, where=str(self._chroma.address))
        step = max(1, min(WRITE_ROWS, _WRITE_BYTES * batch.num_rows // (batch.nbytes + 1)))
        for start in range(0, batch.num_rows, step):
            part = columns.part(start, start + step)
            with self._chroma.calling():
                there = found.get(ids=part.ids, include=["metadatas", "documents", "uris"])
                if not there["ids"]:
                    self._add(found, part)
                    continue
                merging, stubborn = part.replacing(there)
                found.upsert(**merging.arguments())
                self._changed(merging.ids)
                if stubborn:
                    again = part.only(stubborn)
                    found.delete(ids=again.ids)
                    self._changed(again.ids)
                    self._add(found, again)
                others = part.only([row for row, id_ in enumerate(part.ids) if id_ not in set(there["ids"])])
                self._free_of_ghosts(found, others)

    def _add(self, found: Any, part: Columns) -> None:
        found.add(**part.arguments())
        self._changed(part.ids)
        self._free_of_ghosts(found, part)

    def _free_of_ghosts(self, found: Any, part: Columns) -> None:
        """Lists that a deleted collection left behind are Chroma's for whoever gets their rows next (its issue 7594):
        records that show what nobody wrote are deleted, which takes it away, and added again.

        A look costs 3 % of adding, so that embedded, where the files tell whether there can be any, it is spared.
        """
        if self._haunted is None:
            self._haunted = self._chroma.path is None or leftovers(self._chroma.path)
        for _ in range(_GHOST_TRIES if self._haunted and part.ids else 0):
            rows = part.differing_lists(found.get(ids=part.ids, include=["metadatas"]))
            if not rows:
                return
            part = part.only(rows)
            found.delete(ids=part.ids)
            self._changed(part.ids)
            found.add(**part.arguments())
            self._changed(part.ids)

    def delete(self, keys: Sequence[RecordKey]) -> None:
        found, ids = self._chroma.collection(), native_ids(keys)
        for start in range(0, len(ids), WRITE_ROWS):
            some = ids[start : start + WRITE_ROWS]
            with self._chroma.calling():
                found.delete(ids=some)
            self._changed(some)

    def _changed(self, ids: Sequence[str]) -> None:
        """Chroma writes the index files at the end of the call with which so many changes are in its log only."""
        if self._behind is not None:
            self._behind += len(ids)
            self._behind = 0 if self._behind >= _LOADING_SYNC_ROWS else self._behind

    def flush(self) -> None:
        """Every call so far is in Chroma's SQLite log, synced, when it returns; 40 kills after one lost nothing.

        It drops from that log what it has written into its index files, which it never syncs: done here, embedded. A
        server does not sync them, and they survive its process being killed, but not a machine that loses power.
        """
        self._chroma.connected()
        if self._chroma.path is None:
            return
        for file in [*self._chroma.path.glob("*/*"), *self._chroma.path.glob("*/")]:
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def finish(self, account: TransferAccount) -> None:
        """The index is built as records come in. Embedded, its files are written now, and as often as usual afterwards:
        what only the log holds would be built again at the next open, 7 s for 10,000 rows of 384 numbers."""
        found = self._chroma.collection(fresh=True)
        note = self._chroma.note(found)
        if self._chroma.path is None or note is None:
            return
        if self._chroma.sync_rows(found) == _LOADING_SYNC_ROWS and self._chroma.count() > _SYNC_ROWS:
            # Chroma counts what is in its log, whatever it is, and asks nobody: so as many deletions of ids that no
            # record has (0.05 s a thousand) make it write. A new setting is heard at the next open only.
            lacking = _LOADING_SYNC_ROWS if self._behind is None else -self._behind % _LOADING_SYNC_ROWS
            self.delete([RecordKey(f"exitramp-{uuid.uuid4()}") for _ in range(lacking)])
        self._chroma.sync_every(found, note.get("sync") or _SYNC_ROWS)
        self.flush()

    def close(self) -> None:
        """Nothing is held beside the store."""
