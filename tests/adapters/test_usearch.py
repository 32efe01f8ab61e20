"""usearch index files: the suite, seeded and read with usearch and pyarrow alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow  # noqa: F401  before usearch, whose C++ runtime spoils Arrow's otherwise
import pytest
from usearch.index import Index

from exitramp.records import DType, Metric, VectorField
from exitramp.testing import StoreConformance
from tests.adapters.side_car_harness import SideCarHarness, numpy_type

METRICS = {Metric.DOT: "ip", Metric.COSINE: "cos", Metric.EUCLIDEAN: "l2sq", Metric.HAMMING: "hamming"}
SCALARS = {DType.FLOAT32: "f32", DType.FLOAT16: "f16", DType.FLOAT64: "f64", DType.INT8: "i8", DType.BINARY: "b1"}


class UsearchHarness(SideCarHarness):
    scheme, suffix = "usearch", "usearch"

    def raw_write(self, path: Path, field: VectorField, labels: Any, matrix: Any) -> None:
        index = Index(ndim=field.dimensions, metric=METRICS[field.metric], dtype=SCALARS[field.dtype])
        index.add(labels, matrix, dtype=SCALARS[field.dtype])
        index.save(path)

    def raw_vectors(self, path: Path, field: VectorField, labels: Any) -> Any:
        index = Index.restore(path)
        assert len(index) == len(labels)
        assert index.dtype.name == SCALARS[field.dtype].upper()
        found = index.get(labels) if len(labels) else ()
        return np.array(found, numpy_type(field)).reshape(len(labels), field.item_count)


class TestUsearch(StoreConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> UsearchHarness:
        return UsearchHarness(tmp_path)
