"""Doubts about whose vectors a collection holds: told of one that was there, not of one that this run filled."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from exitramp.drill.questions import _require_model
from exitramp.embedding_identity import Identified
from exitramp.errors import ModelDiffers
from exitramp.records import DType, EmbeddingModel, Metric, VectorField, VectorKind

HOSTED = EmbeddingModel(provider="openai", name="hosted", query_prefix="", passage_prefix="")


def told(field_model: EmbeddingModel, built_by: Identified | None) -> list[str]:
    field = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 4, field_model)
    source = SimpleNamespace(describe=lambda: SimpleNamespace(vectors=(field,)))
    endpoint = SimpleNamespace(source=lambda: source, address="memory:x#docs")
    said: list[str] = []
    shared = {} if built_by is None else {"built_by": built_by}
    run: Any = SimpleNamespace(endpoint=lambda stack: endpoint, shared=shared, say=said.append)
    embedder: Any = SimpleNamespace(model=lambda: HOSTED, dimensions=4)
    _require_model(run, embedder)
    return said


def test_hidden_weights_are_doubted_in_a_collection_that_was_there_and_not_in_one_of_this_run() -> None:
    assert "cannot be shown" in told(HOSTED, None)[0]
    assert not told(HOSTED, Identified(HOSTED, 4))


def test_a_model_known_to_be_another_is_refused_whoever_filled_the_collection() -> None:
    other = EmbeddingModel(provider="openai", name="other", query_prefix="", passage_prefix="")
    with pytest.raises(ModelDiffers):
        told(other, Identified(HOSTED, 4))
