"""A search asks the field that was meant, whatever the store calls it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from exitramp.errors import DataInvalid
from exitramp.ports import Origin, Query
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.testing.memory import LIMITS, MemoryStore
from exitramp.testing.rows import Row, batch_from_rows
from exitramp.wrappers import Endpoint, open_endpoint

ONE_NAME_SPACE = replace(LIMITS, shared_field_names=False, sparse_metrics=frozenset({Metric.DOT}))


@pytest.fixture
def endpoint(request: pytest.FixtureRequest) -> Endpoint:
    fields = (
        VectorField("x", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 2),
        VectorField("x", VectorKind.MULTI, DType.FLOAT32, Metric.DOT, 2),
        VectorField("x", VectorKind.SPARSE, DType.FLOAT32, Metric.COSINE, None),
    )
    spec = CollectionSpec("c", IdKind.STRING, fields)
    one, other = np.array([1, 0], "f4"), np.array([0, 1], "f4")
    rows = [
        Row("a", payload={}, vectors={"vector:x": one, "multi:x": other[None]}),
        Row("b", payload={}, vectors={"vector:x": other, "multi:x": one[None]}),
    ]
    opened = open_endpoint(
        f"memory:{request.node.name}#c", opener=lambda at, _: MemoryStore(at.location, "c", limits=ONE_NAME_SPACE)
    )
    sink = opened.sink()
    sink.create(spec, Origin(spec, "test"))
    sink.upsert(batch_from_rows(rows, spec))
    return opened


def test_of_several_fields_of_one_name_the_one_of_the_query_s_kind_is_asked(endpoint: Endpoint) -> None:
    wanted = np.array([1, 0.1], "f4")
    assert [key.id for key in endpoint.search().search(Query("x", dense=wanted), k=2).keys] == ["a", "b"]
    assert [key.id for key in endpoint.search().search(Query("x", multi=wanted[None]), k=2).keys] == ["b", "a"]


def test_a_field_that_the_marker_keeps_is_named_when_it_is_asked(endpoint: Endpoint) -> None:
    with pytest.raises(DataInvalid, match="'sparse:x' is kept in the payload"):
        endpoint.search().search(Query("x", sparse=(np.array([1], "u4"), np.array([1], "f4"))), k=1)
    with pytest.raises(DataInvalid, match="no vector field 'y'"):
        endpoint.search().search(Query("y", dense=np.ones(2, "f4")), k=1)
