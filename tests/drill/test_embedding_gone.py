"""A drill that loses its embedding vendor: what its file has to say, and a vendor that is not cut for real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exitramp.clock import SystemClock
from exitramp.drill.catalogue import read_drill
from exitramp.drill.embedder import DrilledEmbedder
from exitramp.drill.inputs import packaged_drills
from exitramp.errors import ConfigError, ModelError, UsageError
from exitramp.faults import Fault, FaultSchedule
from exitramp.ports import Purpose
from exitramp.registry import open_embedder, service_adapter

DRILL = packaged_drills()["embedding_vendor_gone"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('  embedding: {address: "wordllama:"}\n', "", "substitute.embedding names none"),
        ("  golden: pydocs\n", '  golden: pydocs\n  embedder: "wordllama:"\n', "there can be no other"),
        ("  - baseline: {}\n", "", "needs the step 'baseline' before it"),
        ("  - embedding_gone: {fault: sigkill}\n", "", "needs the step 'embedding_gone' before it"),
        ("fault: sigkill", "fault: hang", "'hang'"),
        ("qdrant:{folder}/mapped#documentation", "qdrant:./elsewhere#documentation", "the run's folder alone"),
    ],
)
def test_a_file_that_cannot_lose_its_embedding_vendor_is_refused(old: str, new: str, said: str) -> None:
    assert old in DRILL
    with pytest.raises(ConfigError) as caught:
        read_drill(DRILL.replace(old, new, 1), "mine.yaml", None)
    assert str(caught.value).startswith("mine.yaml:")
    assert said in str(caught.value)


def test_a_vendor_that_may_not_be_cut_is_played_and_its_calls_are_counted() -> None:
    schedule = FaultSchedule()
    embedder = DrilledEmbedder(open_embedder("wordllama:"), schedule, SystemClock(), billed_as="somebody")
    assert (embedder.identity().provider, embedder.identity().is_mock) == ("somebody", True)
    assert embedder.dimensions == 256
    embedder.embed(["two words", "three more words"], purpose=Purpose.QUERY)
    assert embedder.texts == 3, "the one that tells the dimensions too"
    counted = embedder.tokens
    schedule.injected = Fault("refuse")
    with pytest.raises(ModelError) as caught:
        embedder.embed(["nobody hears"], purpose=Purpose.QUERY)
    assert caught.value.error_class == "connection"
    assert (embedder.texts, embedder.tokens) == (3, counted)


def test_a_mock_vendor_serves_a_real_models_vectors_and_bills_its_tokens(tmp_path: Path) -> None:
    vendor = service_adapter("mock-openai").make(str(tmp_path), 0, {"embedder": "wordllama:"})
    vendor.start()
    own = open_embedder("wordllama:")
    texts = ["plain words", "naïve façade 🙂", "日本語の文章です。"]
    try:
        address = vendor.embedding_address  # type: ignore[attr-defined]
        front = open_embedder(address)
        found, wanted = (each.embed(texts, purpose=Purpose.DOCUMENT) for each in (front, own))
        np.testing.assert_array_equal(found.vectors, wanted.vectors)
        assert found.usage.prompt_tokens == wanted.usage.prompt_tokens
        assert vendor.counters()["prompt_tokens"] == wanted.usage.prompt_tokens
        with pytest.raises(ModelError):
            open_embedder(f"{address}&dimensions=8").embed(["a"], purpose=Purpose.DOCUMENT)
        vendor.inject(Fault("sigkill"))
        with pytest.raises(ModelError) as caught:
            front.embed(["gone"], purpose=Purpose.QUERY, timeout_seconds=5)
        assert caught.value.error_class == "connection"
    finally:
        vendor.stop()


@pytest.mark.parametrize(
    ("service", "options", "said"),
    [
        ("mock-openai", {"embedder": "openai:x"}, "no embedding model on this machine"),
        ("mock-openai", {"embedder": "wordllama:", "forward": "http://127.0.0.1:1/v1"}, "not both"),
        ("mock-anthropic", {"embedder": "wordllama:"}, "has no embeddings"),
    ],
)
def test_a_mock_that_cannot_embed_so_is_refused_before_it_starts(
    service: str, options: dict[str, str], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        service_adapter(service).make(str(tmp_path), 0, options)
