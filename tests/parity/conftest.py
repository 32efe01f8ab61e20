"""Sources and searches to compare with: records from a list, and an index that answers as it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from exitramp.arrow import empty_batch
from exitramp.filters import Filter
from exitramp.ports import (
    DEFAULT_SETTINGS,
    Cursor,
    Hits,
    IndexState,
    Origin,
    Page,
    Partition,
    Query,
    SearchSettings,
    StoreIdentity,
    make_cursor,
)
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorField, VectorKind
from exitramp.testing.reference import matches
from exitramp.testing.rows import Row, batch_from_rows


@dataclass
class ListSource:
    """Yields its rows in their order, whatever they are: ids may stand twice, as in stores that hold both."""

    spec: CollectionSpec
    rows: list[Row]
    ends: bool = True
    scans: int = 0
    fetches: int = 0

    def identity(self) -> StoreIdentity:
        return StoreIdentity("list", "list:", "1", "1", False)

    def describe(self) -> CollectionSpec:
        return self.spec

    def origin(self) -> Origin | None:
        return None

    def count(self) -> int:
        return len(self.rows)

    def partitions(self, wanted: int) -> Sequence[Partition]:
        return [Partition()]

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        self.scans += 1
        for start in range(0, len(self.rows), batch_rows):
            rows = self.rows[start : start + batch_rows]
            yield Page(batch_from_rows(rows, self.spec), make_cursor(row=start))
        yield Page(empty_batch(self.spec), make_cursor(row=len(self.rows)), last=self.ends)

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        self.fetches += 1
        wanted = set(keys)
        return batch_from_rows([row for row in self.rows if row.key in wanted], self.spec)

    def close(self) -> None:
        pass


@dataclass
class ListSearch:
    """Exact search over rows by cosine, dot or Euclid, then whatever `bend` makes of the ranked keys."""

    spec: CollectionSpec
    rows: list[Row]
    metric: Metric
    states: list[IndexState] = field(default_factory=lambda: [IndexState.READY])
    bend: Callable[[list[RecordKey], int], list[RecordKey]] = lambda keys, k: keys[:k]
    refuses: Callable[[Filter | None], Exception | None] = lambda where: None
    ignores_filters: bool = False
    asked: list[tuple[int, SearchSettings]] = field(default_factory=list)

    def index_state(self) -> IndexState:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def search(
        self,
        query: Query,
        *,
        k: int,
        where: Filter | None = None,
        settings: SearchSettings = DEFAULT_SETTINGS,
        with_records: bool = False,
    ) -> Hits:
        self.asked.append((k, settings))
        if error := self.refuses(where):
            raise error
        column = self.spec.vector(query.field).column
        among = [
            row
            for row in self.rows
            if column in row.vectors and (where is None or self.ignores_filters or matches(where, row.payload))
        ]
        matrix = np.array([row.vectors[column] for row in among], np.float64).reshape(len(among), len(query.dense))
        asked = np.asarray(query.dense, np.float64)
        if self.metric is Metric.EUCLIDEAN:
            far = np.linalg.norm(matrix - asked, axis=1)
        else:
            far = -(matrix @ asked)
            if self.metric is Metric.COSINE:
                far /= np.linalg.norm(matrix, axis=1) * np.linalg.norm(asked)
        keys = self.bend([among[place].key for place in np.argsort(far, kind="stable")], k)
        return Hits(tuple(keys), tuple(0.0 for _ in keys))


def spec_of(
    metric: Metric = Metric.COSINE, *, dimensions: int = 8, dtype: DType = DType.FLOAT32, **more: Any
) -> CollectionSpec:
    """A collection of one dense field called ""."""
    return CollectionSpec("c", IdKind.STRING, (VectorField("", VectorKind.DENSE, dtype, metric, dimensions),), **more)


def rows_of(matrix: np.ndarray[Any, Any], payloads: Sequence[Any] | None = None) -> list[Row]:
    """One row for each vector, called r000, r001, …"""
    return [
        Row(f"r{number:03d}", payload=payloads[number] if payloads else None, vectors={"vector": vector})
        for number, vector in enumerate(matrix)
    ]


@pytest.fixture(scope="session")
def parity() -> Any:
    """The names above, for tests that cannot import a conftest."""

    class Names:
        Source = ListSource
        Search = ListSearch
        spec = staticmethod(spec_of)
        rows = staticmethod(rows_of)

    return Names
