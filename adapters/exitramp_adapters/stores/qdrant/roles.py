"""What a Qdrant collection is to whoever reads and writes it, by either SDK: in process and over REST alike.

A store reaches one collection and knows its SDK's objects and errors; the rest of a source, and the way from a batch to
points, is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import pyarrow as pa

from exitramp.ports import Cursor, Origin, Page, Partition
from exitramp.records import CollectionSpec, Finding, IdKind, RecordKey
from exitramp.urls import Address
from exitramp_adapters.stores.qdrant import forms
from exitramp_adapters.stores.qdrant import records as records_form
from exitramp_adapters.stores.qdrant import settings as own_settings

_CHUNK_ROWS: Final = 128


class Reached(Protocol):
    """One collection, as an SDK reaches it. Points are the SDK's own: with `id`, `payload` and `vector`."""

    address: Address

    def spec(self, *, fresh: bool = False) -> CollectionSpec:
        """The collection; its ids' kind is left to whoever looks at the records."""
        ...

    def noted(self) -> tuple[Origin, IdKind] | None:
        """What `create` was told, and the kind of the ids."""
        ...

    def scroll(self, start: Any, rows: int, *, whole: bool = True) -> tuple[list[Any], Any]:
        """At most `rows` points from the id `start` on, and the id behind them or None. Only ids unless `whole`."""
        ...

    def retrieve(self, ids: list[Any]) -> list[Any]:
        """The whole points with these ids, those that are there."""
        ...

    def close(self) -> None: ...


class QdrantSource:
    """Reads in the order of ids."""

    def __init__(self, store: Reached) -> None:
        self._reached = store

    def describe(self) -> CollectionSpec:
        spec, noted = self._reached.spec(fresh=True), self._reached.noted()
        kind = forms.seen_id_kind(self._first_from, otherwise=noted[1] if noted else spec.id_kind)
        return CollectionSpec(spec.name, kind, spec.vectors, index=spec.index)

    def _first_from(self, start: forms.PointId | None) -> Any:
        points, _ = self._reached.scroll(start, 1, whole=False)
        return points[0].id if points else None

    def findings(self) -> tuple[Finding, ...]:
        """What a reader has to know of how the collection at this address is kept."""
        return tuple(own_settings.findings(self._reached.spec(fresh=True), self.origin()))

    def origin(self) -> Origin | None:
        noted = self._reached.noted()
        return noted[0] if noted else None

    def partitions(self, wanted: int) -> Sequence[Partition]:
        return [Partition()]

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        spec, where = self._reached.spec(), str(self._reached.address)
        return records_form.scan_pages(
            self._reached.scroll, spec, batch_rows=batch_rows, chunk_rows=_CHUNK_ROWS, after=after, where=where
        )

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        spec, ids = self._reached.spec(), forms.known_ids(keys)
        return records_form.records_batch(self._reached.retrieve(ids), spec, where=str(self._reached.address))

    def close(self) -> None:
        self._reached.close()


def points_of(
    batch: pa.RecordBatch,
    spec: CollectionSpec,
    make: Callable[[forms.PointId, Mapping[str, Any], dict[str, Any] | None], Any],
    *,
    most: int,
    finite: bool,
    whole: frozenset[str] = frozenset(),
    where: str,
) -> list[Any]:
    """`make(id, vectors by field, payload)` for each row. `whole` are the fields of whole numbers from 0 to 255.

    Everything is looked at before the store sees any of it: the engine writes a point that it refuses into its log
    first, and takes those before it. Raises `UsageError` for more than `most` rows, `DataInvalid` naming a record.
    """
    batch = records_form.in_order(batch, spec, where=where)
    records_form.require_rows(batch, most, where=where)
    ids = [forms.require_point_id(text, where=where) for text in batch.column("id").to_pylist()]
    fields = [
        (field.name, records_form.vector_rows(batch, field, finite=finite, whole=field.name in whole, where=where))
        for field in spec.vectors
    ]
    return [
        make(ids[row], {name: rows[row] for name, rows in fields if rows[row] is not None}, payload)
        for row, payload in enumerate(records_form.payload_rows(batch, where=where))
    ]
