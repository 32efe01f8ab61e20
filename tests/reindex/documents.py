"""Small collections with documents, for tests of embedding anew."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from exitramp.arrow import dense_array, stream_schema
from exitramp.ports import Origin, TransferAccount
from exitramp.records import CollectionSpec, DType, EmbeddingModel, IdKind, Metric, VectorField, VectorKind
from exitramp.wrappers import open_endpoint

OLD = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 8, EmbeddingModel(provider="old", name="old-8"))
SPEC = CollectionSpec("docs", IdKind.STRING, (OLD,), has_documents=True)


def batch_of(
    texts: Sequence[str | None], spec: CollectionSpec = SPEC, *, first: int = 0, keyed: str | None = None
) -> pa.RecordBatch:
    rng = np.random.default_rng(first)
    columns = {
        "id": pa.array([f"d{first + row:05d}" for row in range(len(texts))], pa.string()),
        "document": pa.array(texts, pa.string()),
        "payload": pa.array([_payload(first + row, keyed) for row in range(len(texts))], pa.string()),
    }
    for each in spec.vectors:
        matrix = rng.normal(size=(len(texts), each.dimensions or 1)).astype(np.float32)
        columns[each.column] = dense_array(matrix, each)
    schema = stream_schema(spec)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _payload(number: int, keyed: str | None) -> str:
    return f'{{"n":{number}}}' if keyed is None else f'{{"{keyed}":"{keyed} {number}","n":{number}}}'


def fill(address: str, texts: Sequence[str | None], spec: CollectionSpec = SPEC, *, keyed: str | None = None) -> str:
    with open_endpoint(address) as endpoint:
        sink = endpoint.sink()
        sink.create(spec, Origin(spec, "0"))
        for start in range(0, len(texts), 500):
            sink.upsert(batch_of(texts[start : start + 500], spec, first=start, keyed=keyed))
        sink.flush()
        sink.finish(TransferAccount())
    return address


def texts_for(count: int) -> list[str]:
    return [f"text number {number} of a small collection" for number in range(count)]
