"""Records on their way into a store in which a framework has an arrangement of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyarrow as pa

from exitramp.codec import Arrangement
from exitramp.ports import (
    Cursor,
    Origin,
    Page,
    Partition,
    SinkLimits,
    StoreIdentity,
    TransferAccount,
    VectorSink,
    VectorSource,
)
from exitramp.records import CollectionSpec, Finding, RecordKey


class ArrangedSink:
    """`VectorSink` for plain records around one that gets them arranged."""

    def __init__(self, sink: VectorSink, arrangement: Arrangement) -> None:
        self._sink, self._arrangement = sink, arrangement

    def limits(self) -> SinkLimits:
        return self._sink.limits()

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        arranged = self._arrangement.arranged_spec
        self._sink.create(arranged(spec), replace(origin, spec=arranged(origin.spec)))

    def upsert(self, batch: pa.RecordBatch) -> None:
        self._sink.upsert(self._arrangement.arranged(batch))

    def delete(self, keys: Sequence[RecordKey]) -> None:
        self._sink.delete(keys)

    def flush(self) -> None:
        self._sink.flush()

    def finish(self, account: TransferAccount) -> Sequence[Finding] | None:
        return self._sink.finish(account)

    def close(self) -> None:
        self._sink.close()


class ArrangedSource:
    """`VectorSource` of plain records that gives them arranged: what a plan for such a sink measures."""

    def __init__(self, source: VectorSource, arrangement: Arrangement) -> None:
        self._source, self._arrangement = source, arrangement

    def identity(self) -> StoreIdentity:
        return self._source.identity()

    def describe(self) -> CollectionSpec:
        return self._arrangement.arranged_spec(self._source.describe())

    def origin(self) -> Origin | None:
        found = self._source.origin()
        return None if found is None else replace(found, spec=self._arrangement.arranged_spec(found.spec))

    def count(self) -> int:
        return self._source.count()

    def partitions(self, wanted: int) -> Sequence[Partition]:
        return self._source.partitions(wanted)

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        for page in self._source.scan(partition, batch_rows=batch_rows, after=after):
            yield replace(page, batch=self._arrangement.arranged(page.batch))

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        return self._arrangement.arranged(self._source.fetch(keys))

    def close(self) -> None:
        self._source.close()
