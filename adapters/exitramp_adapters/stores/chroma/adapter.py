"""Chroma, in process (`chroma:PATH#COLLECTION`) and over HTTP (`chroma+http://HOST:PORT#COLLECTION`).

What it keeps was measured on 1.5.9, both ways: see `limits`. Two things that a user of Chroma should know were
found on the way: a NaN inside a list of metadata makes an embedded collection unreadable for good (nothing of the kind
is let through here), and a process killed in the middle of a write may leave the index files torn (see
`ChromaSink.create`).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, Final

import pyarrow as pa

from exitramp.arrow import empty_batch, stream_schema
from exitramp.errors import AddressError, DataInvalid, UsageError
from exitramp.filters import Filter
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
from exitramp.ports.transport import uses_tls
from exitramp.records import CollectionSpec, Finding, RecordKey
from exitramp.urls import Address, Network
from exitramp_adapters.stores.chroma import client
from exitramp_adapters.stores.chroma.filters import where_json
from exitramp_adapters.stores.chroma.opened import OpenedChroma
from exitramp_adapters.stores.chroma.records import EVERYTHING, native_ids, query_vector, records_batch
from exitramp_adapters.stores.chroma.settings import findings, searched_by
from exitramp_adapters.stores.chroma.sink import ChromaSink

# Rows/s of get(ids=…) at 384 numbers, embedded: 29.1k (100), 29.3k (256), 30.1k (512), 27.1k (1000), 21.7k (4000);
# over HTTP 13.9k to 14.6k whatever the size.
_PAGE_ROWS: Final = 512


class ChromaStore:
    """One opened address. Closing a role closes nothing that another still needs; the store is closed once."""

    def __init__(self, address: Address, network: Network) -> None:
        self._chroma = OpenedChroma(address, network)

    def source(self) -> ChromaSource:
        return ChromaSource(self._chroma)

    def sink(self) -> ChromaSink:
        return ChromaSink(self._chroma)

    def search(self) -> ChromaSearch:
        return ChromaSearch(self._chroma)

    def drop(self) -> None:
        self._chroma.drop()

    def close(self) -> None:
        self._chroma.close()


class ChromaSource:
    """Reads in the order of ids.

    All ids are listed first: Chroma can neither sort nor ask for ids beyond one, and an offset drifts under writes. The
    list takes 24 bytes an id beside its text, 5 MB for 200,000, so it stays in memory and is made anew on resuming.
    """

    def __init__(self, chroma: OpenedChroma) -> None:
        self._chroma = chroma

    def identity(self) -> StoreIdentity:
        installed = version("chromadb")
        server, names = installed, tuple[str, ...]()
        if self._chroma.exists:
            names = self._chroma.names()
            if self._chroma.path is None:
                with self._chroma.calling():
                    server = str(self._chroma.connected().server.get_version())
        address, path = self._chroma.address, self._chroma.path
        # Whoever may not write to the files cannot open them; a server does not tell.
        there = self._chroma.exists
        return StoreIdentity(
            address.scheme,
            str(address),
            server,
            installed,
            # Whoever may not write to the files cannot open them; a server does not tell.
            can_write=os.access(path / client.SQLITE_NAME, os.W_OK) if path is not None and there else None,
            collections=names,
            findings=self._findings() if address.collection in names else (),
        )

    def _findings(self) -> tuple[Finding, ...]:
        try:
            return tuple(findings(self.describe(), self.origin()))
        except DataInvalid:  # whoever describes it is told what it is that has no name
            return ()

    def describe(self) -> CollectionSpec:
        return self._chroma.spec()

    def origin(self) -> Origin | None:
        note = self._chroma.note(self._chroma.collection(fresh=True))
        return None if note is None else Origin.from_json(note["origin"])

    def count(self) -> int:
        return self._chroma.count()

    def partitions(self, wanted: int) -> Sequence[Partition]:
        """Ranges of ids, as even as they can be: listing 200,000 ids takes under a second."""
        ids = self._chroma.ids(None, None) if wanted > 1 else ()
        parts = min(wanted, len(ids))
        if parts <= 1:
            return [Partition()]
        ends = [ids[len(ids) * part // parts - 1].as_py() for part in range(1, parts)]
        bounds = zip([None, *ends], [*ends, None], strict=True)
        return [
            Partition(index, parts, json.dumps({"above": above, "upto": upto}))
            for index, (above, upto) in enumerate(bounds)
        ]

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        """Records added meanwhile are not seen, those deleted are left out."""
        spec = self.describe()
        bounds = json.loads(partition.token) if partition.token else {"above": None, "upto": None}
        above = bounds["above"] if after is None else _after(after)
        ids = self._chroma.ids(above, bounds["upto"])
        step = min(batch_rows, _PAGE_ROWS)
        for start in range(0, len(ids), step):
            wanted = ids[start : start + step].to_pylist()
            last = start + step >= len(ids)
            batch = self._records(wanted, spec)
            if batch.num_rows or last:
                yield Page(batch, make_cursor(id=wanted[-1]), last)
        if not len(ids):
            yield Page(empty_batch(spec), make_cursor(id=above), last=True)

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        spec, ids = self.describe(), native_ids(keys)
        pages = [self._records(ids[start : start + _PAGE_ROWS], spec) for start in range(0, len(ids), _PAGE_ROWS)]
        batches = pa.Table.from_batches(pages, stream_schema(spec)).combine_chunks().to_batches()
        return batches[0] if batches else empty_batch(spec)

    def _records(self, ids: list[str], spec: CollectionSpec) -> pa.RecordBatch:
        found = self._chroma.collection()
        with self._chroma.calling():
            got = found.get(ids=ids, include=EVERYTHING)
        return records_batch(got["ids"], got, spec)

    def close(self) -> None:
        """Nothing is held beside the store."""


class ChromaSearch:
    """Nearest records by Chroma's index. It was seen to return a record less than there are once many were deleted:
    its graph may not reach every record, and what it does not find is not made up for here."""

    def __init__(self, chroma: OpenedChroma) -> None:
        self._chroma = chroma

    def index_state(self) -> IndexState:
        """A single Chroma brings its index up to its log before it answers anything."""
        self._chroma.collection()
        return IndexState.READY

    def search_options(self) -> Mapping[str, Any]:
        """What every search goes by: the collection's own, which a search may name and not change."""
        return searched_by(self._chroma.collection(fresh=True).configuration_json)

    def coverage(self) -> IndexCoverage:
        """HNSW answers for every record, from the first on: 40 of them, in an index of the poorest settings, were
        found to a half (1.5.9). Another kind of index, or none that is told of, says nothing here."""
        found = self._chroma.collection()
        with self._chroma.calling():
            if not found.configuration.get("hnsw"):
                return IndexCoverage()
            return IndexCoverage(found.count(), 0)

    def search(
        self,
        query: Query,
        *,
        k: int,
        where: Filter | None = None,
        settings: SearchSettings = DEFAULT_SETTINGS,
        with_records: bool = False,
    ) -> Hits:
        found = self._chroma.collection()
        own = self.search_options() if settings.options else {}
        wanted = query_vector(query, found.get_model().dimension, k=k, settings=settings, own=own)
        translated = None if where is None else where_json(where)
        with self._chroma.calling(), _filtering():
            got = found.query(
                query_embeddings=[wanted],
                n_results=k,
                where=translated,
                include=["distances", *(EVERYTHING if with_records else ())],
            )
        ids = got["ids"][0]
        scores = tuple(math.nan if each is None else float(each) for each in got["distances"][0])
        records = None
        if with_records:
            records = records_batch(ids, {name: got[name] and got[name][0] for name in EVERYTHING}, self._chroma.spec())
        return Hits(tuple(RecordKey(id_) for id_ in ids), scores, records)


@contextmanager
def _filtering() -> Iterator[None]:
    """A filter by a key whose index the collection's schema switches off is one that Chroma cannot honour."""
    from chromadb import errors

    try:
        yield
    except errors.InvalidArgumentError as error:
        if "indexing is disabled" in str(error):
            text = "Chroma cannot filter by a key whose index is switched off in the collection's schema"
            raise UsageError(text, hint="the schema is in what exitramp inspect --json shows of its index") from error
        raise


def _after(cursor: Cursor) -> str | None:
    id_ = read_cursor(cursor).get("id")
    if id_ is not None and not isinstance(id_, str):
        raise UsageError("this cursor is not one of a Chroma scan", hint="start the scan anew")
    return id_


def _open_embedded(address: Address, network: Network) -> ChromaStore:
    if address.host is not None:
        raise AddressError(f"{address} is a server, not a path", hint="write chroma+http://HOST:PORT#COLLECTION")
    address.only_options("tenant", "database", "dimensions", "upgrade")
    client.upgrades(address)
    return ChromaStore(address, network)


def _open_http(address: Address, network: Network) -> ChromaStore:
    address.only_options("tenant", "database", "dimensions", "tls", "token", "token_header")
    if address.host is None:
        raise AddressError(f"{address} names no host", hint="write chroma+http://HOST:PORT#COLLECTION")
    uses_tls(address)
    return ChromaStore(address, network)


EMBEDDED: Final = StoreAdapter(
    scheme="chroma",
    summary="Chroma in process, on a folder of this machine",
    address_form="chroma:PATH[?tenant=T&database=D]#COLLECTION",
    open=_open_embedded,
    extra="chroma",
    requires=("chromadb",),
    fidelity="bit-exact; cosine within 2 ulp",
    opening="Chroma adds a row to the table acquire_write in chroma.sqlite3; where its index was behind its log, it "
    "brings the .bin files up and shortens the log; an index never written yet is begun anew; no record changes",
)
HTTP: Final = StoreAdapter(
    scheme="chroma+http",
    summary="A Chroma server",
    address_form="chroma+http://HOST:PORT[?tenant=T&database=D&token=env:NAME&tls=true]#COLLECTION",
    open=_open_http,
    extra="chroma",
    requires=("chromadb",),
    fidelity="bit-exact; cosine within 2 ulp",
)
