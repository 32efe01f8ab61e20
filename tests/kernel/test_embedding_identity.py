"""Two embedding models are the same, different, or nobody can tell: and that is said, never guessed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exitramp.embedding_identity import Identified, Sameness, compare, fingerprint, require_same
from exitramp.errors import ModelDiffers
from exitramp.records import EmbeddingModel

KNOWN = EmbeddingModel(
    provider="wordllama",
    name="l2_supercat_256",
    revision="sha256:" + "ab" * 32,
    query_prefix="",
    passage_prefix="",
    pooling="mean",
    normalisation="l2",
    maximum_tokens="unlimited",
)
VENDOR = EmbeddingModel(provider="openai", name="text-embedding-3-small", query_prefix="", passage_prefix="")


def test_a_model_known_in_full_is_the_same_as_itself_and_its_fingerprint_tells_everything() -> None:
    assert compare(Identified(KNOWN, 256), Identified(KNOWN, 256)).sameness is Sameness.SAME
    text = fingerprint(replace(KNOWN, query_prefix="query: "), 256)
    for part in ("wordllama/l2_supercat_256", "sha256:abababababab", "256 dimensions", "“query: ”", "l2"):
        assert part in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("revision", "sha256:" + "cd" * 32),
        ("query_prefix", "query: "),
        ("passage_prefix", "passage: "),
        ("normalisation", "none"),
        ("pooling", "cls"),
        ("maximum_tokens", "256"),
    ],
)
def test_models_that_differ_in_one_thing_known_of_both_are_different_and_the_error_shows_both(
    name: str, value: str
) -> None:
    one, other = Identified(KNOWN, 256), Identified(replace(KNOWN, **{name: value}), 256)
    found = compare(one, other)
    assert found.sameness is Sameness.DIFFERENT
    assert found.differing == (name,)
    with pytest.raises(ModelDiffers) as caught:
        require_same(one, other, doing="a query", where="memory:x#y")
    assert str(one) in caught.value.message
    assert str(other) in caught.value.message


def test_vectors_of_another_length_are_of_another_model_whatever_else_is_unknown() -> None:
    found = compare(Identified(EmbeddingModel(), 384), Identified(EmbeddingModel(), 256))
    assert found.sameness is Sameness.DIFFERENT
    assert found.differing == ("dimensions",)


def test_what_is_unknown_is_named_and_never_taken_for_agreement() -> None:
    found = compare(Identified(VENDOR, 1536), Identified(VENDOR, 1536))
    assert found.sameness is Sameness.CANNOT_BE_SHOWN
    assert "revision" in found.unknown
    finding = require_same(Identified(VENDOR, 1536), Identified(VENDOR, 1536), doing="a query", where="memory:x#y")
    assert finding is not None
    assert "weights" in finding.message


def test_the_same_weights_under_another_name_are_the_same_model() -> None:
    other = replace(KNOWN, provider="onnx", name="folder")
    assert compare(Identified(KNOWN, 256), Identified(other, 256)).sameness is Sameness.SAME


def test_a_version_and_a_hash_of_weights_say_nothing_of_each_other() -> None:
    other = replace(KNOWN, revision="v2")
    assert compare(Identified(KNOWN, 256), Identified(other, 256)).sameness is Sameness.CANNOT_BE_SHOWN
