"""usearch's graph as such: made, filled, and walked through. Records and files are not known here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.errors import UsageError
from exitramp.ports.side_car_records import Held
from exitramp.ports.side_car_vectors import forward
from exitramp.records import DType, Metric, VectorField

METRICS: Final[Mapping[Metric, str]] = {
    Metric.COSINE: "Cos",
    Metric.DOT: "IP",
    Metric.EUCLIDEAN: "L2sq",
    Metric.HAMMING: "Hamming",
}
SCALARS: Final[Mapping[DType, str]] = {
    DType.FLOAT32: "F32",
    DType.FLOAT16: "F16",
    DType.FLOAT64: "F64",
    DType.INT8: "I8",
    DType.BINARY: "B1",
}
SETTINGS: Final = {"connectivity": 16, "expansion_add": 128}  # usearch's own
EXPANSION_SEARCH: Final = 64  # usearch's own
_ADDED_ROWS: Final = 4096
"""So many are copied for usearch at once."""


def sdk() -> Any:
    """The module usearch.index. It brings a C++ runtime of its own, which every library that is loaded after it takes
    for its own too: Arrow then writes no number any more, and takes vectors of 16 dimensions for those of 24 (seen
    with usearch 2.26 and pyarrow 26). Loaded after Arrow it harms nothing, and Arrow is imported above."""
    from usearch import index

    if pa.list_(pa.float32(), 16) == pa.list_(pa.float32(), 24):
        raise UsageError("usearch was imported before pyarrow, which no longer tells one type from another since")
    return index


def numpy_type(dtype: DType) -> npt.DTypeLike:
    return np.uint8 if dtype is DType.BINARY else np.dtype(dtype.value)


def made(field: VectorField, settings: Mapping[str, int]) -> Any:
    engine = sdk()
    dtype, metric = getattr(engine.ScalarKind, SCALARS[field.dtype]), getattr(engine.MetricKind, METRICS[field.metric])
    return engine.Index(ndim=field.dimensions, dtype=dtype, metric=metric, **settings)


def settings_in(factory: str) -> dict[str, int]:
    """The settings that `empty` gave; the file holds the connectivity alone."""
    return SETTINGS | {name: int(value) for name, value in (part.split("=") for part in factory.split(",") if part)}


def added(index: Any, held: Held, rows: npt.NDArray[np.int64]) -> Any:
    matrix = forward(held.matrix)
    for start in range(0, len(rows), _ADDED_ROWS):
        some = rows[start : start + _ADDED_ROWS]
        put(index, held.labels[some].astype(np.uint64), matrix[some], held.field)
    return index


def put(index: Any, labels: npt.NDArray[np.uint64], vectors: npt.NDArray[Any], field: VectorField) -> None:
    index.add(labels, vectors, dtype=SCALARS[field.dtype].lower())


def stored(index: Any, labels: npt.NDArray[np.uint64], field: VectorField) -> npt.NDArray[Any]:
    """What an index of such a field has under these labels, exactly: without a dtype it gives what it keeps."""
    found = np.asarray(index.get(labels)).reshape(len(labels), -1)
    return found.astype(numpy_type(field.dtype), copy=False)


def unreached(index: Any, held: Held) -> npt.NDArray[np.int64]:
    """The rows that a walk through the whole graph does not come to: 0.04 s for 20,000 x 384."""
    if not len(held.labels):
        return np.zeros(0, np.int64)
    index.expansion_search = len(held.labels)
    first = stored(index, held.labels[:1].astype(np.uint64), held.field)[0]
    found = index.search(first, len(held.labels), dtype=SCALARS[held.field.dtype].lower())
    index.expansion_search = EXPANSION_SEARCH
    return np.flatnonzero(~np.isin(held.labels.astype(np.uint64), found.keys)).astype(np.int64)
