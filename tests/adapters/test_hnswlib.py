"""hnswlib index files: the suite, seeded and read with hnswlib and pyarrow alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hnswlib
import numpy as np
import pytest

from exitramp.records import Metric, VectorField
from exitramp.testing import StoreConformance
from tests.adapters.side_car_harness import SideCarHarness

SPACES = {Metric.DOT: "ip", Metric.COSINE: "cosine", Metric.EUCLIDEAN: "l2"}


class HnswlibHarness(SideCarHarness):
    scheme, suffix = "hnswlib", "bin"

    def keeps_originals(self, field: VectorField) -> bool:
        return field.metric is Metric.COSINE

    def raw_write(self, path: Path, field: VectorField, labels: Any, matrix: Any) -> None:
        index = hnswlib.Index(SPACES[field.metric], field.item_count)
        index.init_index(max_elements=len(labels))
        index.add_items(matrix, labels)
        index.save_index(str(path))

    def raw_vectors(self, path: Path, field: VectorField, labels: Any) -> Any:
        index = hnswlib.Index(SPACES[field.metric], field.item_count)
        index.load_index(str(path))
        if not len(labels):
            return np.zeros((0, field.item_count), np.float32)
        found = index.get_items(labels)
        assert index.get_current_count() == len(index.get_ids_list()) >= len(labels)
        return found


class TestHnswlib(StoreConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> HnswlibHarness:
        return HnswlibHarness(tmp_path)
