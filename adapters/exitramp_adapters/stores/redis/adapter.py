"""Redis with RediSearch (and RedisJSON): `redis://HOST:PORT/0#INDEX`, an index over hashes or over JSON documents.

A collection is an index; its records are the keys under the index's prefixes, whether the index took them or not, and
what it did not take is named. `index` says what an index of exitramp's own looks like, and why it is over
hashes; `records` what becomes of the hashes and documents of others. JSON documents are read, not written.

Reading lists all keys first, sorts them and then fetches them in pages, since SCAN repeats keys and gives no order to
resume in: the keys alone are in memory, 55 bytes each, 85 while they are sorted. SCAN walks over every key of the
database, two million a second.

Measured on 20,000 x 384 float32 with five short fields, best of six on two cores that were not idle: pages of 500, 1000
and 2000 hashes were read at 35k, 42k and 41k a second, and by redis-py's own pipelines into dictionaries at 50k.
"""

from __future__ import annotations

import contextlib
import math
import uuid
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import pyarrow as pa

from exitramp.arrow import empty_batch
from exitramp.errors import CollectionMissing, DataInvalid, UsageError
from exitramp.filters import Filter, matches
from exitramp.payloads import decoded_payloads
from exitramp.ports import (
    DEFAULT_SETTINGS,
    Cursor,
    Hits,
    IndexCoverage,
    IndexState,
    Origin,
    Page,
    Partition,
    Query,
    SearchSettings,
    StoreAdapter,
    StoreIdentity,
    make_cursor,
    read_cursor,
)
from exitramp.ports.places import require_page_rows
from exitramp.records import CollectionSpec, Finding, RecordKey
from exitramp.urls import Address, Network
from exitramp_adapters.stores.redis.collection import Collection
from exitramp_adapters.stores.redis.connection import bytes_of, plain
from exitramp_adapters.stores.redis.filters import name_in_query, prefilter
from exitramp_adapters.stores.redis.index import Index, VectorAttribute
from exitramp_adapters.stores.redis.records import id_of, query_blob
from exitramp_adapters.stores.redis.sink import RedisSink

PAGE_ROWS: Final = 1000
_SAMPLE: Final = 100
_DISTANCE: Final = "exitramp_distance"
_MOST_IDS: Final = 20
_LOOKED_AT: Final = 10


class RedisStore(Collection):
    """One opened address."""

    def source(self) -> RedisSource:
        return RedisSource(self)

    def sink(self) -> RedisSink:
        return RedisSink(self)

    def search(self) -> RedisSearch:
        return RedisSearch(self)


class RedisSource:
    """Reads the keys under the prefixes in the order of their bytes."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    def identity(self) -> StoreIdentity:
        store = self._store
        findings: tuple[Finding, ...] = ()
        if store.address.collection is not None:
            with contextlib.suppress(CollectionMissing):  # then there is nothing to know of it
                findings = tuple(self._findings(store.index()))
        return StoreIdentity(
            "redis",
            str(store.address),
            store.server_version(),
            version("redis"),
            can_write=store.can_write(),
            collections=store.names(),
            findings=findings,
        )

    def _findings(self, index: Index) -> Iterator[Finding]:
        store = self._store
        everything = store.all_keys(index)
        if len(everything) != index.documents:
            listed = store.indexed_keys(index)
            missing = [key for key in everything if key not in listed]
            ids = tuple(id_of(key, index) for key in missing[:_MOST_IDS])
            counts = (
                f"{len(everything):,} keys stand under its prefixes, {index.documents:,} documents are in the index"
            )
            if index.filter is not None:
                said = "those that its FILTER leaves out, or that it could not take, are not read"
                yield Finding("source.filtered_out", f"{counts}: {said}", ids=ids, count=len(missing))
            elif index.building:
                yield Finding("source.index_building", f"{counts}: it is still being built", count=len(missing))
            else:
                said = "those that it did not take are read all the same, but no search finds them"
                yield Finding("source.not_indexed", f"{counts}: {said}", ids=ids, count=len(missing))
        odd = [key for key in everything if not _is_text(key)]
        if odd:
            said = f"keys that are no UTF-8: {len(odd):,}; in an id each byte that is none shows as \\xff"
            ids = tuple(id_of(key, index) for key in odd[:_MOST_IDS])
            yield Finding("source.binary_ids", said, ids=ids, count=len(odd))
        keyspace = store.facts("keyspace").get("db0") or {}
        if int(keyspace.get("expires", 0)):
            said = "keys of this database expire; a record's time to live is not read"
            yield Finding("source.expiring_keys", said)
        if int(keyspace.get("subexpiry", 0)):
            said = "hashes of this database have fields that expire; a field's time to live is not read"
            yield Finding("source.expiring_fields", said)
        if index.left:
            paths = ", ".join(each.identifier for each in index.left)
            said = f"the vectors at {paths} may be several for one document; they stay in the payload"
            yield Finding("source.vectors_in_payload", said)
        if index.on_json:
            rounded = store.rounded(everything[:_SAMPLE], index)
            if rounded:
                said = (
                    f"in {rounded} of the first {min(_SAMPLE, len(everything))} documents vectors have numbers that "
                    "are rounded to the index's type when they are read, as the index itself does; to have the "
                    "documents' own numbers, write ?dtype=float64"
                )
                yield Finding("source.vectors_rounded", said, count=rounded)

    def describe(self) -> CollectionSpec:
        return self._store.spec_of(self._store.index())

    def origin(self) -> Origin | None:
        store = self._store
        note = store.note(store.index())
        told = None if note is None else note["origin"]
        return None if told is None else Origin.from_json(told)

    def count(self) -> int:
        return len(self._store.keys(self._store.index()))

    def partitions(self, wanted: int) -> Sequence[Partition]:
        """Ranges of keys with about equally many of them; the first and the last are open, so later ones fit."""
        # One part needs no list of the keys, which whoever reads it makes anyway.
        keys = self._store.keys(self._store.index()) if wanted > 1 else []
        parts = max(1, min(wanted, len(keys)))
        bounds = [None, *(plain(keys[len(keys) * part // parts]) for part in range(1, parts)), None]
        return [Partition(part, parts, make_cursor(start=bounds[part], end=bounds[part + 1])) for part in range(parts)]

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        require_page_rows(batch_rows)
        store, index = self._store, self._store.index()
        spec, keys = store.spec_of(index), store.keys(index)
        bounds = read_cursor(Cursor(partition.token)) if partition.token else {}
        start, end = bounds.get("start"), bounds.get("end")
        low = 0 if start is None else bisect_left(keys, bytes_of(start))
        high = len(keys) if end is None else bisect_left(keys, bytes_of(end))
        behind = None if after is None else read_cursor(after).get("key")
        if behind is not None:
            low = max(low, bisect_right(keys, bytes_of(behind)))
        _require_different_ids(keys, index)
        while True:
            until = min(high, low + min(batch_rows, PAGE_ROWS))
            if until > low:
                behind = plain(keys[until - 1])
            batch = store.read(keys[low:until], index, spec) if until > low else empty_batch(spec)
            yield Page(batch, make_cursor(key=behind), until >= high)
            if until >= high:
                return
            low = until

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        index = self._store.index()
        wanted = [key.id for key in dict.fromkeys(keys) if key.namespace is None]
        found = self._store.keys_of(wanted, index)
        spec = self._store.spec_of(index)
        starts = range(0, max(1, len(found)), PAGE_ROWS)
        parts = [self._store.read(found[first : first + PAGE_ROWS], index, spec) for first in starts]
        [batch] = pa.Table.from_batches(parts).combine_chunks().to_batches() or [empty_batch(spec)]
        return batch

    def close(self) -> None:
        """Nothing is held here; the store is closed by whoever opened it."""


class RedisSearch:
    """Asks the index, and looks once more at what a filter's query leaves."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    def index_state(self) -> IndexState:
        return IndexState.BUILDING if self._store.index().building else IndexState.READY

    def coverage(self) -> IndexCoverage:
        """By the number of documents in the index. One without a vector in the field counts too."""
        index = self._store.index()
        flat = sum(vector.is_flat for vector in index.vectors)
        compared, indexed = flat * index.documents, (len(index.vectors) - flat) * index.documents
        return IndexCoverage(indexed, compared, "" if indexed else "its index is FLAT")

    def search_options(self) -> Mapping[str, Any]:
        """An index does not tell which EF_RUNTIME it was made with; Redis's own is 10."""
        return {} if all(vector.is_flat for vector in self._store.index().vectors) else {"ef": None}

    def search(
        self,
        query: Query,
        *,
        k: int,
        where: Filter | None = None,
        settings: SearchSettings = DEFAULT_SETTINGS,
        with_records: bool = False,
    ) -> Hits:
        store, index = self._store, self._store.index()
        vector = index.vector(query.field)
        asked = _Asked(store, index, vector, _blob(query, vector, k, store.address), _ef(settings.options, vector))
        found = self._nearest(asked, k, where, brute=settings.exact and not vector.is_flat)
        keys = [key for key, _ in found]
        records = store.read(keys, index, store.spec_of(index)) if with_records else None
        return Hits(tuple(RecordKey(id_of(key, index)) for key in keys), tuple(score for _, score in found), records)

    def _nearest(self, asked: _Asked, k: int, where: Filter | None, *, brute: bool) -> list[tuple[bytes, float]]:
        """Asks for more until k are left by `where`, and at last for a comparison with every vector: a graph's walk
        may end before it has met k records, a full comparison has met all."""
        index = asked.index
        texts_only = where is not None and not index.on_json and not self._is_marked(asked)
        query = None if where is None else prefilter(where, index, texts_only=texts_only)
        wanted = k if where is None else max(4 * k, 50)
        passing: dict[bytes, bool] = {}
        while True:
            found = asked.knn(query, wanted, brute=brute)
            # NaN is no distance, and whoever sorts by it sorts wrongly; a full comparison leaves it out.
            if not brute and any(math.isnan(score) for _, score in found):
                brute = True
                continue
            if where is None:
                left = found
            else:
                new = [key for key, _ in found if key not in passing]
                passing |= dict.fromkeys(new, False) | dict.fromkeys(self._passing(new, index, where), True)
                left = [(key, score) for key, score in found if passing[key]]
            if len(left) >= k or (len(found) < wanted and (brute or asked.vector.is_flat)):
                return left[:k]
            if len(found) < wanted:
                brute = True
            else:
                wanted *= 8

    def _is_marked(self, asked: _Asked) -> bool:
        """Whether some hash may say that a field of it is JSON: all of those do that exitramp wrote, and an index over
        them may have been made anew since."""
        if self._store.note(asked.index) is not None:
            return True
        return self._store.any_marked([key for key, _ in asked.knn(None, _LOOKED_AT, brute=False)])

    def _passing(self, keys: Sequence[bytes], index: Index, where: Filter) -> list[bytes]:
        spec, found = self._store.spec_of(index), []
        for first in range(0, len(keys), PAGE_ROWS):
            some = keys[first : first + PAGE_ROWS]
            batch = self._store.read(some, index, spec)
            ids = {id_of(key, index): key for key in some}
            payloads = decoded_payloads(batch.column("payload"))
            named = zip(batch.column("id").to_pylist(), payloads, strict=True)
            found += [ids[id_] for id_, payload in named if matches(where, payload)]
        return found


class _Asked:
    """One query of one field, as often as it has to be asked."""

    def __init__(self, store: RedisStore, index: Index, vector: VectorAttribute, blob: bytes, ef: int | None) -> None:
        self.index, self.vector = index, vector
        self._store, self._blob, self._ef = store, blob, ef

    def knn(self, query: str | None, wanted: int, *, brute: bool) -> list[tuple[bytes, float]]:
        """The keys of the nearest with their distances. `brute`: by a comparison with all that pass the query, which
        RediSearch does only where there is one; that no document has a word which nobody ever wrote is one."""
        if query is None:
            query = f"-exitramp{uuid.uuid4().hex}" if brute else "*"
        how = "HYBRID_POLICY ADHOC_BF " if brute else "EF_RUNTIME $ef " if self._ef is not None else ""
        text = f"({query})" if query != "*" else query
        text += f"=>[KNN {wanted} @{name_in_query(self.vector.attribute.name)} $blob {how}AS {_DISTANCE}]"
        params: list[Any] = ["blob", self._blob]
        if not brute and self._ef is not None:
            params += ["ef", self._ef]
        rest = ["SORTBY", _DISTANCE, "ASC", "RETURN", 1, _DISTANCE, "LIMIT", 0, wanted, "DIALECT", 2]
        answer = self._store.ask_index("FT.SEARCH", self.index.name, text, "PARAMS", len(params), *params, *rest)
        return [(hit[b"id"], float(hit[b"extra_attributes"][_DISTANCE.encode()])) for hit in answer[b"results"]]


def _blob(query: Query, vector: VectorAttribute, k: int, address: Address) -> bytes:
    if query.dense is None or query.multi is not None or query.sparse is not None:
        raise UsageError(f"{address} is searched with one dense vector")
    if query.dense.shape != (vector.field.dimensions,):
        raise DataInvalid(f"a query of {query.dense.size} numbers for {vector.field.dimensions} dimensions")
    if k < 1:
        raise UsageError(f"the {k} nearest records cannot be found")
    return query_blob(vector, np.asarray(query.dense))


def _ef(options: Mapping[str, Any], vector: VectorAttribute) -> int | None:
    """The one search option there is, for an HNSW index. Raises `UsageError` for any other."""
    for name, value in options.items():
        if name != "ef":
            raise UsageError(f"redis has no search option {name!r}", hint="its option is: ef")
        if vector.attribute.told["algorithm"] != "HNSW":
            raise UsageError(f"redis: ef is for HNSW, and the index is {vector.attribute.told['algorithm']}")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError("redis: ef is a number of candidates, at least 1")
    return options.get("ef")


def _require_different_ids(keys: Sequence[bytes], index: Index) -> None:
    """Only keys that are no UTF-8 can read alike."""
    if not _is_text(b"\n".join(keys)) and len({id_of(key, index) for key in keys}) < len(keys):
        raise DataInvalid(f"two keys of the index {index.name!r} read alike, one of which is no UTF-8")


def _is_text(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True


def _open(address: Address, network: Network) -> RedisStore:
    return RedisStore(address, network)


ADAPTER: Final = StoreAdapter(
    scheme="redis",
    summary="Redis with RediSearch: an index over hashes, or over JSON documents to read",
    address_form="redis://HOST:PORT[/0][?password=env:NAME&tls=true]#INDEX",
    open=_open,
    extra="redis",
    requires=("redis",),
)
