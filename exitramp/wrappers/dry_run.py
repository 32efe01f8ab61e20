"""A sink that takes everything and writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from exitramp.ports import Origin, SinkLimits, TransferAccount, VectorSink
from exitramp.records import CollectionSpec, RecordKey

if TYPE_CHECKING:
    import pyarrow as pa


class DryRunSink:
    """`VectorSink` with the limits of another; counts what would have been written and deleted."""

    def __init__(self, sink: VectorSink) -> None:
        self._sink = sink
        self.rows_upserted = 0
        self.rows_deleted = 0

    def limits(self) -> SinkLimits:
        return self._sink.limits()

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        """Nothing is made."""

    def upsert(self, batch: pa.RecordBatch) -> None:
        self.rows_upserted += batch.num_rows

    def delete(self, keys: Sequence[RecordKey]) -> None:
        self.rows_deleted += len(keys)

    def flush(self) -> None:
        """Nothing was written."""

    def finish(self, account: TransferAccount) -> None:
        """Nothing is finished."""

    def close(self) -> None:
        self._sink.close()
