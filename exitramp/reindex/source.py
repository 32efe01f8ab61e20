"""A collection as it is with the new vectors: its own records, each with the vector that the spool has for its text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp import __version__
from exitramp.arrow import dense_array, stream_schema
from exitramp.dump.limits import LIMITS
from exitramp.errors import RoleUnsupported, StoreProtocolError
from exitramp.ports import (
    Cursor,
    Origin,
    Page,
    Partition,
    SinkLimits,
    StoreIdentity,
    TransferAccount,
    VectorSearch,
    VectorSink,
    VectorSource,
)
from exitramp.records import CollectionSpec, RecordKey
from exitramp.reindex.looking import Texts, texts_of
from exitramp.reindex.shape import Shape
from exitramp.urls import Address, Network
from exitramp.wrappers import Endpoint, OpenSettings, open_endpoint

Vectors = Callable[[pa.RecordBatch], tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]]
"""The new vectors of a batch's rows, float32[rows, dimensions], and which rows have one."""


class ReindexedSource:
    """`VectorSource` of what `inner` holds, in the form of `shape`.

    `left_out` says how many records have no new vector and are left out for it; where the old field stays they stay
    too, without a new vector.
    """

    def __init__(self, inner: VectorSource, shape: Shape, vectors: Vectors, *, left_out: int = 0) -> None:
        self._inner, self._shape, self._vectors, self._left_out = inner, shape, vectors, left_out
        self._schema = stream_schema(shape.spec)

    def identity(self) -> StoreIdentity:
        return self._inner.identity()

    def describe(self) -> CollectionSpec:
        return self._shape.spec

    def origin(self) -> Origin:
        """As the first store had it, but for the vectors: those are of now, and so is their model."""
        told = self._inner.origin()
        spec = self._shape.spec
        if told is None:
            return Origin(spec, __version__)
        return Origin(replace(spec, name=told.spec.name, index=told.spec.index), told.tool_version)

    def count(self) -> int:
        return self._inner.count() - self._left_out

    def partitions(self, wanted: int) -> Sequence[Partition]:
        return self._inner.partitions(wanted)

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        for page in self._inner.scan(partition, batch_rows=batch_rows, after=after):
            yield replace(page, batch=self._with_vectors(page.batch))

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        return self._with_vectors(self._inner.fetch(keys))

    def close(self) -> None:
        """What it reads is closed by whoever opened it."""

    def _with_vectors(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        matrix, valid = self._vectors(batch)
        made = dense_array(matrix, self._shape.new, valid=valid)
        column = self._shape.new.column
        columns = [made if name == column else batch.column(name) for name in self._schema.names]
        found = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        if self._shape.keeps_old or bool(valid.all()):
            return found
        return found.filter(pa.array(valid))


class _Store:
    """What makes an endpoint of such a source, so that plan, copy, check and catching up are those of every move."""

    def __init__(self, source: ReindexedSource) -> None:
        self._source = source

    def source(self) -> VectorSource:
        return self._source

    def sink(self) -> VectorSink:
        return _NoSink()

    def search(self) -> VectorSearch:
        raise RoleUnsupported("what is being embedded anew cannot be searched before it is written")

    def close(self) -> None:
        """Nothing is held."""


class _NoSink:
    """Only its limits are asked for: records come out of it as they are."""

    def limits(self) -> SinkLimits:
        return LIMITS

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        raise RoleUnsupported("what is being embedded anew is read, and never written")

    def upsert(self, batch: pa.RecordBatch) -> None:
        raise RoleUnsupported("what is being embedded anew is read, and never written")

    def delete(self, keys: Sequence[RecordKey]) -> None:
        raise RoleUnsupported("what is being embedded anew is read, and never written")

    def flush(self) -> None:
        """Nothing was written."""

    def finish(self, account: TransferAccount) -> None:
        """Nothing was written."""

    def close(self) -> None:
        """Nothing is held."""


def reindexed_endpoint(inner: Endpoint, source: ReindexedSource, settings: OpenSettings) -> Endpoint:
    """`source` as an endpoint; `inner` is what it reads, and stays its owner's."""

    def opened(address: Address, network: Network) -> _Store:
        return _Store(source)

    address = Address("reindexed", inner.address.scheme, inner.address.collection)
    return open_endpoint(address, replace(settings, calls_per_second=None), opener=opened)


def stand_ins(shape: Shape, texts: Texts = texts_of) -> Vectors:
    """A vector for every text: enough to plan by before any is paid for. Of length 1, but where the model says that its
    own are not: what a store does to those has to be agreed to first."""
    dimensions = shape.new.dimensions or 1
    length = 1.5 if shape.new.model.normalisation == "none" else 1.0

    def found(batch: pa.RecordBatch) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        matrix = np.zeros((batch.num_rows, dimensions), np.float32)
        matrix[:, 0] = length
        return matrix, np.array([text is not None for text in texts(batch)], np.bool_)

    return found


def require_all(missing: int) -> None:
    """Raises `StoreProtocolError` for texts that came to the source after they were counted."""
    if missing:
        raise StoreProtocolError(
            f"the source was written to meanwhile: {missing} of its texts were not there when they were embedded",
            hint="run the same command again: it embeds those and no other",
        )
