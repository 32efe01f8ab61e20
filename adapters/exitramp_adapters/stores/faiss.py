"""FAISS index files: `faiss:./articles.faiss`, an index with a side-car for what it has no room for.

With a side-car (`_faiss_files` describes both files) any record is kept exactly, cosine included: the index holds
unit vectors then, and the side-car the originals, which doubles what is written to disk. Without one the file is a
source of integer ids and vectors. Index types that do not give vectors back as they were are refused by name.

A new collection is an `IndexFlat`, exact and bit for bit. `?factory=HNSW32` or `?factory=IVF256,Flat` builds that
index in `finish`; until then the file holds the flat one, so that a flush costs a copy and not an index build.

Everything of a collection is in memory while it is open, as FAISS wants it: ids, payloads and vectors (those of cosine
and of inverted files twice). A sink adds at most 256 MiB of rows to that before it flushes by itself; a flush needs the
collection a second time. It writes both files anew, whole: 100,000 x 384 took 0.9 s, three times that for cosine, so
checkpoints should be that many rows apart. One writer at a time: a flush onto files that somebody else has replaced
meanwhile is refused.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from exitramp.arrow import empty_batch
from exitramp.errors import (
    CollectionMissing,
    DataInvalid,
    StoreUnavailable,
    UsageError,
)
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
)
from exitramp.ports.places import cursor_behind, parts_of, place_of, require_page_rows, span
from exitramp.records import CollectionSpec, Finding, Metric, RecordKey
from exitramp.urls import Address, Network
from exitramp_adapters.stores._faiss_files import Loaded, load, side_car_path, signature
from exitramp_adapters.stores._faiss_index import about_index, ask, innermost, sdk, unit_rows
from exitramp_adapters.stores._faiss_records import Opened, batch_of, keys_in
from exitramp_adapters.stores._faiss_sink import PAGE_ROWS, FaissSink

_FLAT: Final = frozenset({"IndexFlat", "IndexFlatIP", "IndexFlatL2"})
_FACTORIES: Final = re.compile(r"Flat|HNSW[1-9]\d{0,2}(,Flat)?|IVF[1-9]\d{0,6},Flat")


class FaissStore:
    """One index file. Its roles share what was loaded, and load again when the files were replaced."""

    def __init__(self, address: Address) -> None:
        address.only_options("factory")
        factory = address.option("factory")
        if factory is not None and not _FACTORIES.fullmatch(factory):
            raise UsageError(
                f"{address}: the factory '{factory}' is none of Flat, HNSW<links>,Flat and IVF<lists>,Flat",
                hint="others do not give vectors back as they were, or are not read by exitramp",
            )
        self.address = address
        self.path: Path = address.path
        self.factory = factory
        self._loaded: Opened | None = None
        self._closed = False

    def source(self) -> FaissSource:
        return FaissSource(self)

    def sink(self) -> FaissSink:
        return FaissSink(self)

    def search(self) -> FaissSearch:
        return FaissSearch(self)

    def close(self) -> None:
        self._loaded = None
        self._closed = True

    def require_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"{self.address} was closed", hint="open it again")

    def opened(self) -> Opened:
        """What the files hold now. Raises as `load` does, and `CollectionMissing` for one of another name."""
        self.require_open()
        now = signature(self.path)
        if self._loaded is None or self._loaded.signature != now:
            held = load(self.path, self.address.collection)
            wanted = self.address.collection
            if wanted is not None and held.spec.name != wanted:
                raise CollectionMissing(
                    f"{self.path} holds the collection '{held.spec.name}', not '{wanted}'",
                    hint=f"an index file holds one collection: write faiss:{self.address.location}",
                )
            places = [place_of(RecordKey(*key)) for key in keys_in(held.table)]
            order = sorted(range(len(places)), key=places.__getitem__)
            self._loaded = Opened(held, [places[row] for row in order], np.array(order, np.int64), now)
        return self._loaded

    def version(self) -> str:
        return str(sdk().__version__)


class FaissSource:
    """Reads what was loaded when the scan began: a scan sees one state of the files, whatever is written meanwhile."""

    def __init__(self, store: FaissStore) -> None:
        self._store = store

    def identity(self) -> StoreIdentity:
        version = self._store.version()
        address = str(self._store.address)
        if signature(self._store.path)[0] is None:
            return StoreIdentity("faiss", address, version, version)
        held = self._store.opened().held
        return StoreIdentity(
            "faiss",
            address,
            version,
            version,
            collections=(held.spec.name,),
            findings=() if held.has_side_car else (self._alone(held),),
        )

    def _alone(self, held: Loaded) -> Finding:
        """What to know of an index by itself. Nothing in the file tells who wrote it."""
        path = self._store.path
        ids = "row numbers" if innermost(held.index) is held.index else "the index's own"
        return Finding(
            "source.no_side_car",
            f"{path} has no side-car: ids are {ids}, the metric is the index's own (FAISS has no cosine), and there "
            "are no documents and no payloads; if exitramp wrote this index, "
            f"{side_car_path(path)} is missing: put it back",
        )

    def describe(self) -> CollectionSpec:
        held = self._store.opened().held
        return replace(held.spec, index=about_index(held.index))

    def origin(self) -> Origin | None:
        return self._store.opened().held.origin

    def count(self) -> int:
        return len(self._store.opened().places)

    def partitions(self, wanted: int) -> Sequence[Partition]:
        return parts_of(self._store.opened().places, wanted)

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        require_page_rows(batch_rows)
        opened = self._store.opened()
        low, high = span(opened.places, partition, after)
        cursor = after or cursor_behind(None)
        while True:
            self._store.require_open()
            until = min(high, low + min(batch_rows, PAGE_ROWS))
            if until > low:
                cursor = cursor_behind(opened.places[until - 1])
            yield Page(batch_of(opened.held, opened.rows[low:until]), cursor, until >= high)
            if until >= high:
                return
            low = until

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        opened = self._store.opened()
        found = []
        for wanted in dict.fromkeys(map(place_of, keys)):
            at = bisect_left(opened.places, wanted)
            if at < len(opened.places) and opened.places[at] == wanted:
                found.append(int(opened.rows[at]))
        return batch_of(opened.held, np.array(found, np.int64))

    def close(self) -> None:
        """Nothing is held here; the store is closed by whoever opened it."""


class FaissSearch:
    """Asks the index. A filter becomes a selection of rows, looked through exactly: a graph's walk would lose hits."""

    def __init__(self, store: FaissStore) -> None:
        self._store = store

    def index_state(self) -> IndexState:
        self._store.opened()
        return IndexState.READY

    def coverage(self) -> IndexCoverage:
        opened = self._store.opened()
        rows, kind = len(opened.places), type(innermost(opened.held.index)).__name__
        if kind in _FLAT:
            return IndexCoverage(0, rows, "its index is Flat")
        return IndexCoverage(rows, 0) if "HNSW" in kind or "IVF" in kind else IndexCoverage()

    def search(
        self,
        query: Query,
        *,
        k: int,
        where: Filter | None = None,
        settings: SearchSettings = DEFAULT_SETTINGS,
        with_records: bool = False,
    ) -> Hits:
        held = self._store.opened().held
        field = held.spec.vector(query.field)
        if query.dense is None or query.multi is not None or query.sparse is not None:
            raise UsageError(f"{self._store.address} is searched with one dense vector")
        if len(query.dense) != field.item_count:
            raise DataInvalid(f"a query of {len(query.dense)} numbers for {field.item_count} dimensions")
        if k < 1:
            raise UsageError(f"the {k} nearest records cannot be found")
        vector = np.asarray(query.dense, np.float32).reshape(1, -1)
        if field.metric is Metric.COSINE:
            vector = unit_rows(vector)
        rows = np.arange(len(held.labels))
        if where is not None:
            payloads = decoded_payloads(held.table.column("payload"))
            rows = np.array([row for row, payload in enumerate(payloads) if matches(where, payload)], np.int64)
        k = min(k, len(rows))
        if not k:
            return Hits((), (), empty_batch(held.spec) if with_records else None)
        scores, labels = ask(held.index, held.labels, vector, k, None if where is None else held.labels[rows], settings)
        found = np.searchsorted(held.labels, labels)
        return Hits(
            tuple(RecordKey(*key) for key in keys_in(held.table.take(pa.array(found)))),
            tuple(float(score) for score in scores),
            batch_of(held, found) if with_records else None,
        )


def _open(address: Address, network: Network) -> FaissStore:
    return FaissStore(address)


ADAPTER = StoreAdapter(
    scheme="faiss",
    summary="FAISS index files with a side-car for ids, documents and payloads",
    address_form="faiss:PATH.faiss",
    open=_open,
    extra="faiss",
    requires=("faiss",),
)
