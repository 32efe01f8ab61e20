"""usearch index files: the suite, seeded and read with usearch and pyarrow alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow  # noqa: F401  before usearch, whose C++ runtime spoils Arrow's otherwise
import pytest
from usearch.index import Index

from exitramp.ports import TransferAccount
from exitramp.records import DType, Metric, VectorField
from exitramp.testing import StoreConformance
from exitramp.testing.conformance.steps import limits_of, upsert_rows, write
from exitramp.testing.within import rows_within, spec_within
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


def test_no_record_is_out_of_the_reach_of_every_search_after_many_were_replaced(tmp_path: Path) -> None:
    """usearch leaves some thirty behind here that no walk comes to, however long."""
    harness = UsearchHarness(tmp_path)
    spec = spec_within(limits_of(harness), "articles", pair=(DType.FLOAT32, Metric.EUCLIDEAN), dimensions=64)
    rows = rows_within(spec, limits_of(harness), 3000, 1)
    write(harness, spec, rows, encoded=False)
    rng = np.random.default_rng(1)
    store = harness.open("articles")
    sink = store.sink()
    for step in range(4):
        fresh = rows_within(spec, limits_of(harness), len(rows), 100 + step)
        chosen = [place for place in range(len(rows)) if rng.random() < 0.5]
        upsert_rows(sink, spec, [replace(rows[place], vectors=fresh[place].vectors) for place in chosen])
        sink.flush()
    sink.finish(TransferAccount())
    index = Index.restore(harness.path("articles"))
    assert index is not None
    index.expansion_search = len(rows)
    some = np.asarray(next(iter(rows[0].vectors.values())))
    assert len(index.search(some, len(rows))) == len(rows)
    store.close()
