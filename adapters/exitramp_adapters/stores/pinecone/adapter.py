"""Pinecone's serverless indexes of vectors: `pinecone:INDEX#NAMESPACE` or `pinecone://api.pinecone.io#INDEX`.

A collection is an index; its namespaces are those of the records, the default one being that of records in none. Its
client (10.2, API 2026-07) was run against a mock of the published contract and never against Pinecone: "wire mocked".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Final

import pyarrow as pa

from exitramp.arrow import empty_batch
from exitramp.errors import CollectionMissing, UsageError, WriteRefused
from exitramp.ports import Cursor, Origin, Page, Partition, StoreAdapter, StoreIdentity, make_cursor, read_cursor
from exitramp.ports.estimating import ReadingEstimate, ReadingSpent
from exitramp.ports.places import require_page_rows
from exitramp.records import CollectionSpec, Finding, RecordKey
from exitramp.urls import Address, Network
from exitramp_adapters.stores.pinecone import budget as budgets
from exitramp_adapters.stores.pinecone import lanes, reading, records
from exitramp_adapters.stores.pinecone.client import DEFAULT_NAMESPACE, namespace_of, native_namespace, said_headers
from exitramp_adapters.stores.pinecone.opened import OpenedPinecone
from exitramp_adapters.stores.pinecone.search import PineconeSearch, fetched
from exitramp_adapters.stores.pinecone.sink import PineconeSink

EVIDENCE: Final = "wire mocked"
API: Final = "2026-07"
_FLOATS: Final = Finding(
    "pinecone.numbers", "Pinecone keeps every number of metadata as a double: an integer comes back as a float"
)


class PineconeStore:
    """One opened address. Closing a role closes nothing that another still needs; the store is closed once."""

    def __init__(self, address: Address, network: Network) -> None:
        self._opened = OpenedPinecone(address, network)

    def source(self) -> PineconeSource:
        return PineconeSource(self._opened)

    def sink(self) -> PineconeSink:
        """Raises `WriteRefused` where whoever asks cannot see that this leads out of this machine."""
        connection = self._opened.connection
        if connection.address.is_loopback and not connection.is_local:
            raise WriteRefused(
                f"{connection.address} is not on this machine, and its form does not show it",
                hint=f"write to pinecone://api.pinecone.io#{connection.name} and allow it with --allow-writes",
            )
        return PineconeSink(self._opened)

    def search(self) -> PineconeSearch:
        return PineconeSearch(self._opened)

    def drop(self) -> None:
        self._opened.drop()

    def close(self) -> None:
        self._opened.close()


class PineconeSource:
    """Lists ids and fetches them; `ids=FILE` names them for an index that lists none."""

    def __init__(self, store: OpenedPinecone, only: frozenset[str] | None = None) -> None:
        self._store = store
        self._only = only  # namespaces in Pinecone's spelling
        self._file: reading.IdFile | None = None

    def identity(self) -> StoreIdentity:
        store, address = self._store, self._store.connection.address
        findings: list[Finding] = []
        server, is_mock = f"API {API}", False
        with suppress(CollectionMissing):
            stats = store.connection.stats()
            is_mock = "x-exitramp-evidence" in said_headers(stats)
            server = f"mock of API {API}" if is_mock else server
            findings = [budgets.EXPORT, _FLOATS, *self._findings(stats.total_vector_count)]
        # How far one run may go says nothing of where the records come from.
        options = {name: told for name, told in address.options.items() if name not in budgets.LIMITS}
        return StoreIdentity(
            "pinecone",
            str(replace(address, options=options)),
            server,
            version("pinecone"),
            evidence=EVIDENCE,
            collections=store.connection.names(),
            findings=tuple(findings),
            is_mock=is_mock,
        )

    def _findings(self, counted: int) -> Iterator[Finding]:
        file = self._ids()
        if file is None:
            return
        listed = sum(file.counts.values())
        told = f"the ids of {listed:,} records are read from a file, and the index counts {counted:,}"
        yield Finding("pinecone.ids", told, count=listed)
        if self._store.reader.missing:
            count = self._store.reader.missing
            yield Finding(
                "pinecone.ids.missing", f"{count:,} of these ids stand for no record of the index", count=count
            )

    def describe(self) -> CollectionSpec:
        return self._store.spec()

    def origin(self) -> Origin | None:
        self._store.connection.model(fresh=True)
        return self._store.note()

    def count(self) -> int:
        """As `describe_index_stats` says it: what was written just now shows with a delay."""
        return sum(self._counts().values())

    def _counts(self) -> dict[str, int]:
        counts = self._store.counts()
        return counts if self._only is None else {name: n for name, n in counts.items() if name in self._only}

    def rows_by_namespace(self) -> Mapping[str | None, int]:
        """See `exitramp.ports.ReadsNamespaces`: one request, which costs nothing."""
        return {namespace_of(name): count for name, count in self._counts().items()}

    def within(self, namespaces: frozenset[str | None]) -> PineconeSource:
        return PineconeSource(self._store, frozenset(native_namespace(name) for name in namespaces))

    def estimate(self, rows: int | None = None, *, partitions: int = 1) -> ReadingEstimate:
        """See `exitramp.ports.estimating.Estimates`: asks for the counts alone."""
        store = self._store
        counts = self._counts()
        if rows is not None:
            counts = {DEFAULT_NAMESPACE: rows}
        divided = any(count >= reading.DIVIDED_FROM for count in counts.values())
        lists = reading.LANES if divided else max(1, min(reading.LANES, len(counts)))
        numbers = sum(field.item_count for field in store.fields() if field.dimensions is not None)
        return budgets.estimate(
            counts,
            numbers=numbers,
            lanes=lists * partitions,
            in_flight=store.reader.in_flight * partitions,
            price=store.budget.price,
        )

    def spent(self) -> ReadingSpent:
        return self._store.budget.spent()

    def _ids(self) -> reading.IdFile | None:
        text = self._store.connection.address.option("ids")
        if text is not None and self._file is None:
            self._file = reading.IdFile(Path(text).expanduser(), self._store.connection.namespace)
        return self._file

    def _ranges(self, file: reading.IdFile, wanted: int) -> list[reading.Range]:
        return [each for each in file.ranges(wanted) if self._only is None or each.namespace in self._only]

    def partitions(self, wanted: int) -> Sequence[Partition]:
        """By namespace and, where one is large, by the first characters of its ids; about equally many records each."""
        file = self._ids()
        if file is not None:
            weighed = [(range_, 1.0) for range_ in self._ranges(file, wanted)]
        else:
            weighed = []
            for namespace, count in sorted(self._counts().items()):
                made = reading.ranges_of(self._store.reader, namespace, count, wanted)
                weighed += [(range_, count / len(made)) for range_ in made]
        if wanted < 2 or len(weighed) < 2:
            return [Partition()]
        parts: list[list[reading.Range]] = [[] for _ in range(min(wanted, len(weighed)))]
        loads = [0.0] * len(parts)
        for range_, weight in sorted(weighed, key=lambda each: -each[1]):
            least = loads.index(min(loads))
            parts[least].append(range_)
            loads[least] += weight
        tokens = [json.dumps([range_.to_json() for range_ in part]) for part in parts]
        return [Partition(number, len(tokens), token) for number, token in enumerate(tokens)]

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        """Pages of one list's hundred ids at most. Records added meanwhile may be seen, those deleted are left out."""
        require_page_rows(batch_rows)
        spec, store, file = self.describe(), self._store, self._ids()
        counts = self._counts()
        state = None if after is None else read_cursor(after)
        if state is not None and "lanes" not in state:
            raise UsageError("this cursor is not one of a Pinecone scan", hint="start the scan anew")
        fixed = [reading.Range(*each) for each in json.loads(partition.token)] if partition.token else None
        if file is not None and fixed is None:
            fixed = self._ranges(file, reading.LANES)
        ranges = reading.Ranges(store.reader, counts, reading.LANES, fixed=fixed, state=state)
        places = [] if state is None else [lanes.Place.from_json(each) for each in state["lanes"]]
        for step in lanes.Steps(store.reader, ranges, places, file, rows=batch_rows, lanes=reading.LANES):
            namespace = namespace_of(step.namespace)
            found = [(namespace, vector) for vector in step.vectors]
            if found:
                batch = records.batch_of(found, spec, where=str(store.connection.address))
            else:
                batch = empty_batch(spec)
            if found or step.last:
                yield Page(batch, make_cursor(**step.key), step.last)

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        return fetched(self._store, self.describe(), keys)

    def close(self) -> None:
        """Nothing is held beside the store."""


def _open(address: Address, network: Network) -> PineconeStore:
    return PineconeStore(address, network)


ADAPTER: Final = StoreAdapter(
    scheme="pinecone",
    summary="Pinecone's serverless indexes; its client against a mock of its published contract",
    address_form="pinecone://api.pinecone.io?api_key=env:PINECONE_API_KEY#INDEX, or pinecone:INDEX?…#NAMESPACE",
    open=_open,
    extra="pinecone",
    requires=("pinecone",),
    vector_kinds=("dense", "sparse"),
    fidelity="bit-exact against the mock, unknown of Pinecone",
    evidence=EVIDENCE,
    metric=True,
    counts_reading=True,
)
