"""The parity kernel beside a plain read of the same memory, and exact neighbours beside the bare matrix product.

Both sides of a ratio are measured in turn within one run, and the median of the rounds is taken. The reads and the
kernel each use one thread; the product uses as many as the linear algebra library does.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from exitramp.arrow import dense_array, stream_schema
from exitramp.parity.kernel import compare_matrices
from exitramp.parity.truth import Ranking, exact_neighbours
from exitramp.ports import Page, Partition, make_cursor
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind

ROWS, DIMENSIONS = 100_000, 384
QUERIES, K, BLOCK_ROWS = 200, 10, 4096
ROUNDS = 7
READS_AT_MOST = 1.5
FIELD = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, DIMENSIONS)
SPEC = CollectionSpec("vectors", IdKind.STRING, (FIELD,))


@pytest.fixture(scope="module")
def matrix() -> npt.NDArray[np.float32]:
    """float32[100,000, 384]: 154 MB, several times what a processor's caches hold."""
    return np.random.default_rng(1).standard_normal((ROWS, DIMENSIONS), dtype=np.float32)


def in_turn(benchmark: Any, bare: Callable[[], object], ours: Callable[[], object], name: str, size: float) -> float:
    """The median time of `ours` as a multiple of that of `bare`; written down with the speeds, `size` per second."""
    seconds: list[float] = []

    def run_bare() -> None:
        started = time.perf_counter()
        bare()
        seconds.append(time.perf_counter() - started)

    benchmark.pedantic(ours, setup=run_bare, rounds=ROUNDS, warmup_rounds=1)
    mine, theirs = statistics.median(benchmark.stats.stats.data), statistics.median(seconds[1:])
    benchmark.extra_info[f"times_{name}"] = round(mine / theirs, 2)
    benchmark.extra_info["per_second"] = round(size / mine, 2)
    benchmark.extra_info[f"{name}_per_second"] = round(size / theirs, 2)
    return float(mine / theirs)


def one_in_fifty(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    other = matrix.copy()
    other[::50, 3] += 1
    return other


def every_row_by_an_ulp(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    other = matrix.copy()
    other[:, 3] = np.nextafter(other[:, 3], np.float32(9))
    return other


@pytest.mark.parametrize(
    ("make", "unequal", "at_most"),
    [
        pytest.param(np.copy, 0, READS_AT_MOST, id="equal"),
        pytest.param(one_in_fifty, ROWS // 50, None, id="2% unequal"),
        pytest.param(every_row_by_an_ulp, ROWS, None, id="all unequal"),
    ],
)
def test_comparing_vectors_against_reading_them(
    benchmark: Any, matrix: npt.NDArray[np.float32], make: Any, unequal: int, at_most: float | None
) -> None:
    """Equal data is compared at the speed of memory; unequal rows cost arithmetic, and the numbers say how much."""
    other = make(matrix)
    assert len(compare_matrices(matrix, other).unequal) == unequal

    def read() -> object:
        return matrix.view(np.uint64).max(), other.view(np.uint64).max()

    ratio = in_turn(benchmark, read, lambda: compare_matrices(matrix, other), "read", 2 * matrix.nbytes / 1e9)
    if at_most is not None:
        assert ratio <= at_most, f"{ratio:.2f} times a read, of at most {at_most}"


class InMemory:
    """A source that hands out slices of one batch, so that nothing but the search is measured."""

    def __init__(self, matrix: npt.NDArray[np.float32]) -> None:
        ids = pa.array([f"record {number}" for number in range(len(matrix))])
        columns = [ids, pa.nulls(len(matrix), pa.string()), dense_array(matrix, FIELD)]
        self.batch = pa.RecordBatch.from_arrays(columns, schema=stream_schema(SPEC))

    def partitions(self, wanted: int) -> list[Partition]:
        return [Partition()]

    def scan(self, partition: Partition, *, batch_rows: int, after: object = None) -> Iterator[Page]:
        for start in range(0, ROWS, batch_rows):
            yield Page(self.batch.slice(start, batch_rows), make_cursor(row=start), start + batch_rows >= ROWS)


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.DOT, Metric.EUCLIDEAN])
def test_exact_neighbours_against_the_bare_product(
    benchmark: Any, matrix: npt.NDArray[np.float32], metric: Metric
) -> None:
    """Every pair of 200 queries and 100,000 records, judged in float64, beside the float32 product alone."""
    source: Any = InMemory(matrix)
    queries = matrix[:QUERIES] + np.float32(0.3) * matrix[-QUERIES:]

    def product() -> None:
        for start in range(0, ROWS, BLOCK_ROWS):
            queries @ matrix[start : start + BLOCK_ROWS].T

    def search() -> object:
        return exact_neighbours(source, FIELD, queries, [Ranking(metric)], k=K, batch_rows=BLOCK_ROWS)

    in_turn(benchmark, product, search, "product", 2 * QUERIES * ROWS * DIMENSIONS / 1e9)
