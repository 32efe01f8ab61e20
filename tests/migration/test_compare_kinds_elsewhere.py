"""Sparse vectors and lists of vectors in real stores that each answer in their own way: neither is blamed for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient

from exitramp.cli.main import run
from tests.adapters.pgvector_harness import served
from tests.migration import test_compare_fields
from tests.migration.test_compare_fields import IMAGE, LATE, WORDS, asked_of, compared, seed

__all__ = ["compared"]
ALL = [("vector:image", "pass"), ("multi:late", "pass"), ("sparse:words", "pass")]


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_compare_fields, "ROWS", 40)


def test_pgvector_compares_every_record_and_qdrant_those_that_share_an_index(compared: Any, tmp_path: Path) -> None:
    seed("qdrant:./a#pictures", IMAGE, LATE, WORDS)
    with served(tmp_path / "postgres") as postgres:
        there = f"{postgres.address.text}#pictures"
        assert run(["copy", "qdrant:./a#pictures", there]) == 0
        for sides in (("qdrant:./a#pictures", there), (there, "qdrant:./a#pictures")):
            code, found = compared(*sides, "--no-filters")
            assert (code, asked_of(found)) == (0, ALL)


def test_a_sparse_field_of_milvus_is_compared_where_it_went_and_is_open_where_milvus_keeps_it(compared: Any) -> None:
    """A collection that somebody else made; into its own collections exitramp puts no sparse field there."""
    client: Any = MilvusClient(uri="./milvus.db")
    schema = MilvusClient.create_schema(auto_id=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=20)
    schema.add_field("image", DataType.FLOAT_VECTOR, dim=4)
    schema.add_field("words", DataType.SPARSE_FLOAT_VECTOR)
    indexes = client.prepare_index_params()
    indexes.add_index("image", index_type="FLAT", metric_type="IP")
    indexes.add_index("words", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
    client.create_collection("pictures", schema=schema, index_params=indexes)
    rng = np.random.default_rng(6)
    rows = []
    for number in range(40):
        indices = rng.choice(60, 4, replace=False).tolist()  # of which many records have none in common
        weights = rng.uniform(0.1, 1.0, 4).tolist()
        image = rng.standard_normal(4).tolist()
        rows.append({"id": f"r{number}", "image": image, "words": dict(zip(indices, weights, strict=True))})
    client.insert("pictures", rows)
    client.close()
    assert run(["copy", "milvus:./milvus.db#pictures", "qdrant:./b#pictures"]) == 0
    code, found = compared("milvus:./milvus.db#pictures", "qdrant:./b#pictures", "--no-filters")
    assert (code, asked_of(found)) == (0, [("vector:image", "pass"), ("sparse:words", "pass")])
    again = "milvus:./again.db#pictures"
    assert run(["copy", "qdrant:./b#pictures", again, "--accept-loss", "sparse:words"]) == 0
    code, found = compared("qdrant:./b#pictures", again, "--no-filters")
    assert (code, asked_of(found)) == (3, [("vector:image", "pass"), ("sparse:words", "inconclusive")])
