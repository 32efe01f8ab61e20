"""Collections for the dump's tests: every kind of column, and payloads that are hard to keep."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from exitramp import canonical
from exitramp.arrow import stream_schema
from exitramp.dump.reader import DumpSource
from exitramp.dump.writer import DumpSink
from exitramp.ports import Origin, TransferAccount, make_cursor
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.testing.hard_values import HARD_PAYLOADS

Row = dict[str, Any]

PLAIN = CollectionSpec("articles", IdKind.STRING, (VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 4),))
WIDE = CollectionSpec(
    "everything at once",
    IdKind.STRING,
    (
        VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 3),
        VectorField("half.é", VectorKind.DENSE, DType.FLOAT16, Metric.DOT, 3),
        VectorField("double", VectorKind.DENSE, DType.FLOAT64, Metric.EUCLIDEAN, 2),
        VectorField("small", VectorKind.DENSE, DType.INT8, Metric.MANHATTAN, 2),
        VectorField("bits", VectorKind.DENSE, DType.BINARY, Metric.HAMMING, 16),
        VectorField("late", VectorKind.MULTI, DType.FLOAT32, Metric.COSINE, 2),
        VectorField("late half", VectorKind.MULTI, DType.FLOAT16, Metric.COSINE, 2),
        VectorField("words", VectorKind.SPARSE, DType.FLOAT32, Metric.DOT, None),
    ),
    has_namespaces=True,
    has_documents=True,
    index={"engine": {"m": 16}, "note": "as the store said it"},
)


@dataclass(frozen=True, slots=True)
class Collection:
    """A spec and rows of it."""

    spec: CollectionSpec
    rows: list[Row] = field(hash=False)

    def batches(self, size: int) -> Iterator[pa.RecordBatch]:
        whole = self.batch()
        for begin in range(0, len(whole), size):
            yield whole.slice(begin, size)

    def batch(self) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist(self.rows, schema=stream_schema(self.spec))


def plain_rows(count: int) -> list[Row]:
    rng = random.Random(count)
    hard = list(HARD_PAYLOADS.values())
    rows = []
    for number in range(count):
        payload = hard[number % len(hard)]
        rows.append(
            {
                "id": f"doc-{number:05d}",
                "payload": None if payload is None else canonical.dumps(payload),
                "vector": [rng.choice([0.0, -0.0, 1e-40, 3.4e38, rng.gauss(0, 1)]) for _ in range(4)],
            }
        )
    return rows


def wide_rows(count: int) -> list[Row]:
    rng = random.Random(count)

    def sometimes(value: Any) -> Any:
        return None if rng.random() < 0.25 else value

    def half() -> Any:
        return np.float16(rng.choice([0.5, -0.0, 6e-8, 65504.0, math.inf]))

    rows = []
    for number in range(count):
        indices = rng.sample(range(2**32), rng.randrange(4))
        rows.append(
            {
                "id": f"{number // 2}",  # the same id in two namespaces
                "namespace": "tenant é" if number % 2 else rng.choice([None, ""]),
                "document": sometimes(rng.choice(["", "text\n\N{ROCKET}", "x" * 1000])),
                "payload": sometimes(canonical.dumps({"n": number, "deep": [{"a": None}]})),
                "vector": sometimes([rng.gauss(0, 1), math.nan, -0.0]),
                "vector:half.é": sometimes([half() for _ in range(3)]),
                "vector:double": sometimes([rng.random(), 5e-324]),
                "vector:small": sometimes([rng.randrange(-128, 128), 0]),
                "vector:bits": sometimes([rng.randrange(256), 255]),
                "multi:late": sometimes([[rng.random(), 1.0] for _ in range(rng.randrange(3))]),
                "multi:late half": sometimes([[half(), half()] for _ in range(rng.randrange(3))]),
                "sparse:words": sometimes({"indices": indices, "values": [rng.random() for _ in indices]}),
            }
        )
    return rows


@pytest.fixture(params=["plain", "wide"])
def collection(request: pytest.FixtureRequest) -> Collection:
    return Collection(PLAIN, plain_rows(120)) if request.param == "plain" else Collection(WIDE, wide_rows(120))


@pytest.fixture
def plain() -> Collection:
    return Collection(PLAIN, plain_rows(120))


@pytest.fixture
def wide() -> Collection:
    return Collection(WIDE, wide_rows(120))


@pytest.fixture(scope="session")
def few() -> dict[str, Collection]:
    """Collections of a few records, for what is done many times."""
    return {
        "plain": Collection(PLAIN, plain_rows(7)),
        "wide": Collection(WIDE, wide_rows(5)),
        "empty": Collection(PLAIN, []),
    }


Writer = Callable[..., Path]


@pytest.fixture
def write_dump(tmp_path: Path) -> Writer:
    """Writes a collection as the copy loop does, in small shards and row groups unless told otherwise."""

    def write(
        collection: Collection,
        folder: Path = tmp_path / "dump",
        *,
        batch_rows: int = 10,
        shard_bytes: int = 4000,
        group_bytes: int = 1500,
        account: TransferAccount | None = None,
    ) -> Path:
        sink = DumpSink(folder, shard_bytes=shard_bytes, group_bytes=group_bytes)
        try:
            sink.create(collection.spec, Origin(collection.spec, "1"))
            for number, batch in enumerate(collection.batches(batch_rows)):
                sink.upsert(batch)
                sink.note_cursor(0, make_cursor(row=number * batch_rows + len(batch)))
            sink.finish(account or TransferAccount())
        finally:
            sink.close()
        return folder

    return write


@pytest.fixture
def read_rows() -> Callable[[Path], list[Row]]:
    """Every row of a dump, in its order."""

    def read(folder: Path, batch_rows: int = 7) -> list[Row]:
        source = DumpSource(folder)
        return [
            row
            for partition in source.partitions(1)
            for page in source.scan(partition, batch_rows=batch_rows)
            for row in page.batch.to_pylist()
        ]

    return read
