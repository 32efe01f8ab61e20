"""A graph's settings are found in what each store says of its index, and taken for nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from exitramp.ports.index_settings import HnswSettings, graph_settings, hnsw_of, other_settings


@pytest.mark.parametrize(
    ("index", "found"),
    [
        ({"chroma": {"hnsw": {"max_neighbors": 8, "ef_construction": 50, "ef_search": 40}}}, HnswSettings(8, 50, 40)),
        ({"hnsw_config": {"m": 16, "ef_construct": 100}}, HnswSettings(16, 100)),
        ({"pgvector": {"indexes": [{"options": {"m": "24", "ef_construction": "99"}}]}}, HnswSettings(24, 99)),
        ({"hnswlib": {"M": 12, "ef_construction": 77}}, HnswSettings(12, 77)),
        ({"usearch": {"connectivity": 9, "expansion_add": 64, "expansion_search": 32}}, HnswSettings(9, 64, 32)),
        ({"faiss": {"type": "IndexPQ", "m": 8, "nbits": 8}}, None),
        ({"lancedb": {"indices": [{"type": "IVF_PQ", "m": 4}]}}, None),
        ({"x": {"m": True, "ef_construction": False}}, None),
        ({"x": {"m": 0, "ef_construction": -1}}, None),
        ({}, None),
    ],
)
def test_settings_are_found_by_each_stores_words(index: dict[str, Any], found: HnswSettings | None) -> None:
    assert hnsw_of(index) == found


def test_a_store_takes_them_by_its_own_words() -> None:
    index = {"hnsw_config": {"m": 16, "ef_construct": 100}}
    assert graph_settings(index, "connectivity", "expansion_add") == {"connectivity": 16, "expansion_add": 100}
    assert graph_settings({}, "M", "ef_construction") == {}


def test_what_else_is_told_is_named() -> None:
    assert other_settings({"payload_schema": {"a": {}}, "quantization_config": {"scalar": {}}}) == [
        "indexes over payload keys",
        "quantisation",
    ]
    assert other_settings({"payload_schema": {}, "quantization_config": None}) == []
