"""Filters as Milvus is asked them: its expressions leave out no record that passes, and most that do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exitramp.filters import And, Eq, Filter, In, Or, Range, matches
from exitramp.ports import Query
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp.testing import Row, batch_from_rows
from exitramp.testing.conformance.steps import origin_of
from exitramp_adapters.stores.milvus.adapter import MilvusStore
from exitramp_adapters.stores.milvus.client import Refused
from exitramp_adapters.stores.milvus.filters import prefilter
from tests.adapters.milvus_harness import LiteHarness, MilvusHarness

FIELD = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 2)
SPEC = CollectionSpec("asked", IdKind.STRING, (FIELD,))
PAYLOADS: tuple[Any, ...] = (
    {"lang": "de", "stars": 5, "score": 0.5, "tags": ["a", "b"], "author": {"name": "Ada", "ids": [1.0]}},
    {"lang": ["en", "de"], "stars": 5.0, "tags": [], "draft": True},
    {"lang": None, "stars": "5", "score": [0.5, 1], "author": {"name": None}},
    {"lang": "DE", "stars": [5.0, "x"], "tags": "a", "draft": [True]},
    {"lang": "fr", "stars": [5], "score": 0.25, "with-auth": "de"},
    {"lang": "fr", "stars": 4.5, "score": -0.5, "in": "de"},
    {},
    None,
    {"id": "a field's own name", "lang": "de"},
)
FILTERS: tuple[Filter, ...] = (
    Eq(("lang",), "de"),
    In(("lang",), ("de", "DE")),
    Eq(("stars",), 5),
    Eq(("stars",), 5.0),
    Eq(("stars",), "5"),
    Eq(("tags",), "a"),
    Eq(("draft",), True),
    Eq(("score",), 0.5),
    Eq(("author", "name"), "Ada"),
    Eq(("author", "ids"), 1),
    Range(("stars",), gt=4),
    Range(("stars",), gt=4.5, lt=5.5),
    Range(("score",), gte=-0.5, lt=0.5),
    Or((Eq(("author", "name"), "Ada"), Eq(("draft",), True))),
    And((Eq(("lang",), "fr"), Range(("stars",), gte=4))),
)
UNSPEAKABLE: tuple[Filter, ...] = (Eq(("with-auth",), "de"), Eq(("in",), "de"), Eq(("score",), -0.5))
"""Some Milvus or other refuses an expression with these in it."""


def assert_filters_are_asked(harness: MilvusHarness, *, rest: bool) -> None:
    """Of a collection with the field for what others do not hold, or of one that an application made without it."""
    rows = [
        Row(str(place), payload=payload, vectors={"vector": np.array([1, place], np.float32)})
        for place, payload in enumerate(PAYLOADS if rest else PAYLOADS[:-2])
    ]
    if not rest:
        harness.raw_seed(SPEC.name, SPEC, rows)
    store = open_store(harness.address(SPEC.name))
    assert isinstance(store, MilvusStore)
    try:
        if rest:
            sink = store.sink()
            sink.create(SPEC, origin_of(SPEC))
            sink.upsert(batch_from_rows(rows, SPEC))
            sink.flush()
        collection, source, search = store.collection(), store.source(), store.search()
        assert collection.has_rest is rest
        for where in (*FILTERS, *UNSPEAKABLE):
            passing = {row.id for row in rows if matches(where, row.payload)}
            assert passing, where
            query = Query(dense=np.ones(2, np.float32))
            assert {key.id for key in search.search(query, k=20, where=where).keys} == passing, where
            try:
                batches = list(source.matching(collection, prefilter(where, collection), 100))
            except Refused:
                assert where in UNSPEAKABLE, where
                continue
            left = {id_ for batch in batches for id_ in batch.column("id").to_pylist()}
            assert passing <= left, where
            assert len(left) <= len(rows) / 2 + 2, (where, "it leaves out next to nothing")
    finally:
        store.close()


@pytest.mark.parametrize("rest", [True, False])
def test_milvus_lite_is_asked_each_filter(tmp_path: Path, rest: bool) -> None:
    assert_filters_are_asked(LiteHarness(tmp_path), rest=rest)
