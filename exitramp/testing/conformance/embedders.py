"""The conformance suite for embedders: one class that an adapter's test file subclasses.

class TestMyEmbedder(EmbedderConformance):
    @pytest.fixture
    def harness(self):
        return MyHarness()

For an embedder behind HTTP the test class takes `EmbeddingWireConformance` too, whose harness has a `wire`.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

import numpy as np
import pytest

from exitramp.errors import DataInvalid, ExitrampError
from exitramp.ports import Embedder, Purpose, embed_all
from exitramp.records import UNKNOWN

TEXTS: Final = (
    "Join two or more pathname components.",
    "The current time of day, in seconds since the epoch.",
    "x",
    "Grüße aus Zürich, 世界 और दुनिया 👩‍🚀.",
    "Serialize an object to a string, and read it back.\n\tWith tabs and\r\nline ends.",
    "word " * 60,
    "a\u0301 \u202eright to left\u202c \u0000 nul",
)
_NEAR: Final = 1e-3
"""How far apart a text's vectors may be that stood beside other texts: cosine 0.999 for a model in eight bits."""


class EmbedderFeature(StrEnum):
    """What an embedder may lack."""

    COUNTED = "counted"  # it counts tokens itself, so that `count_tokens` is what `embed` takes
    WEIGHTS = "weights"  # it knows which weights it has
    CUTS = "cuts"  # it reads a part of long texts, and tells how many it cut
    PREFIXES = "prefixes"  # the harness can open it with prefixes
    MEANING = "meaning"  # texts that mean the same are near each other


class EmbedderHarness(abc.ABC):
    """One embedder.

    tells_purpose: whether the model is told what a text is for otherwise than by a prefix, so that it makes two vectors
        of one text.
    """

    lacks: Mapping[EmbedderFeature, str] = {}
    seconds: float = 60.0
    tells_purpose: bool = False

    @abc.abstractmethod
    def open(self) -> Embedder: ...

    def open_with_prefixes(self, query: str, passage: str) -> Embedder:
        """The same model with these prefixes."""
        raise NotImplementedError(f"{type(self).__name__}: write it, or put PREFIXES into `lacks`")


def need(harness: EmbedderHarness, *features: EmbedderFeature) -> None:
    """Skip the test, with the harness's own reason, if one of these is lacking."""
    for feature in features:
        if feature in harness.lacks:
            pytest.skip(f"{feature.value}: {harness.lacks[feature]}")


@contextmanager
def opened(harness: EmbedderHarness) -> Iterator[Embedder]:
    embedder = harness.open()
    try:
        yield embedder
    finally:
        embedder.close()


class EmbedderConformance:
    """Everything that an embedder is held to."""

    def test_vectors_are_float32_finite_and_of_its_dimensions(self, harness: EmbedderHarness) -> None:
        with opened(harness) as embedder:
            given = embedder.embed(TEXTS, purpose=Purpose.DOCUMENT, timeout_seconds=harness.seconds)
            assert given.vectors.shape == (len(TEXTS), embedder.dimensions)
            assert given.vectors.dtype == np.float32
            assert np.isfinite(given.vectors).all()
            assert given.latency_ms > 0
            assert given.model_id
            norms = np.linalg.norm(given.vectors, axis=1)
            if embedder.model().normalisation == "l2":
                assert np.allclose(norms, 1.0, atol=1e-5), "it says that it gives unit vectors"
            assert norms.min() > 0

    def test_vectors_stand_in_the_order_of_the_texts_whatever_stands_beside_them(
        self, harness: EmbedderHarness
    ) -> None:
        with opened(harness) as embedder:
            together = embed_all(embedder, TEXTS, purpose=Purpose.DOCUMENT, timeout_seconds=harness.seconds)
            for row, text in enumerate(TEXTS):
                [alone] = embed_all(embedder, [text], purpose=Purpose.DOCUMENT, timeout_seconds=harness.seconds)
                similar = together @ alone / (np.linalg.norm(together, axis=1) * np.linalg.norm(alone))
                assert similar[row] > 1 - _NEAR, f"text {row} has another vector alone than among others"
                assert similar.argmax() == row
            backwards = embed_all(embedder, TEXTS[::-1], purpose=Purpose.DOCUMENT, timeout_seconds=harness.seconds)
            assert np.allclose(backwards[::-1], together, atol=1e-2)

    def test_a_call_of_as_many_as_it_takes_is_taken_and_of_one_more_is_refused(self, harness: EmbedderHarness) -> None:
        with opened(harness) as embedder:
            most = embedder.limits().batch_texts
            texts = [f"text {number}" for number in range(most + 1)]
            given = embedder.embed(texts[:most], purpose=Purpose.DOCUMENT, timeout_seconds=5 * harness.seconds)
            assert len(given.vectors) == most
            with pytest.raises(DataInvalid, match=str(most)):
                embedder.embed(texts, purpose=Purpose.DOCUMENT, timeout_seconds=harness.seconds)
            vectors = embed_all(embedder, texts[-3:], purpose=Purpose.DOCUMENT, timeout_seconds=harness.seconds)
            assert len(vectors) == 3

    def test_no_texts_have_no_vectors(self, harness: EmbedderHarness) -> None:
        with opened(harness) as embedder:
            found = embed_all(embedder, [], purpose=Purpose.QUERY, timeout_seconds=harness.seconds)
            assert found.shape == (0, embedder.dimensions)

    def test_what_it_counts_is_what_it_takes(self, harness: EmbedderHarness) -> None:
        with opened(harness) as embedder:
            counted = embedder.count_tokens(TEXTS)
            taken = embedder.embed(TEXTS, purpose=Purpose.DOCUMENT, timeout_seconds=harness.seconds).usage
            assert counted.gen_tokens == taken.gen_tokens == 0
            assert counted.prompt_tokens > 0
            assert taken.prompt_tokens > 0
            need(harness, EmbedderFeature.COUNTED)
            assert counted.source == taken.source == "provider"
            assert counted.prompt_tokens == taken.prompt_tokens

    @pytest.mark.parametrize("texts", [("fine", ""), ("fine", " \n "), ("", "fine")], ids=["empty", "blank", "first"])
    def test_an_empty_text_has_a_vector_or_is_named(self, harness: EmbedderHarness, texts: tuple[str, str]) -> None:
        with opened(harness) as embedder:
            refused: DataInvalid | None = None
            try:
                given = embedder.embed(texts, purpose=Purpose.DOCUMENT, timeout_seconds=harness.seconds)
            except DataInvalid as error:
                refused = error
            if refused is not None:
                row = next(row for row, text in enumerate(texts) if not text.strip())
                assert f"text {row} of 2" in refused.message
                return
            assert given.vectors.shape == (2, embedder.dimensions)
            assert np.isfinite(given.vectors).all()
            assert np.linalg.norm(given.vectors, axis=1).min() > 0, "a vector of zeros is near to nothing"

    def test_a_text_that_is_no_unicode_is_named(self, harness: EmbedderHarness) -> None:
        """Half a surrogate pair is a character of Python's and of no encoding."""
        with opened(harness) as embedder:
            with pytest.raises(DataInvalid, match="text 1 of 2") as caught:
                embedder.embed(("fine", "half \ud83d of a face"), purpose=Purpose.QUERY, timeout_seconds=30)
            assert "of a face" not in str(caught.value), "an error repeats the text"

    def test_a_long_text_is_cut_where_it_says_and_told_so(self, harness: EmbedderHarness) -> None:
        need(harness, EmbedderFeature.CUTS)
        with opened(harness) as embedder:
            most = embedder.limits().text_tokens
            assert most is not None, "put CUTS into `lacks` if it reads all of a text"
            assert embedder.model().maximum_tokens == str(most)
            long = "an ordinary sentence of some words about the weather and the sea " * (most // 4)
            given = embedder.embed(["short", long, long + " zebra"], purpose=Purpose.DOCUMENT, timeout_seconds=60)
            assert given.cut_texts == 2
            assert given.usage.prompt_tokens <= 2 * most + 16
            assert np.allclose(given.vectors[1], given.vectors[2], atol=1e-5), "what lies behind the limit counted"

    def test_prefixes_are_put_before_the_texts_of_their_purpose(self, harness: EmbedderHarness) -> None:
        with opened(harness) as embedder:
            model = embedder.model()
            query, document = (
                embedder.embed(TEXTS[:1], purpose=purpose, timeout_seconds=harness.seconds).vectors
                for purpose in (Purpose.QUERY, Purpose.DOCUMENT)
            )
            known = UNKNOWN not in (model.query_prefix, model.passage_prefix)
            if known and not harness.tells_purpose:
                assert np.allclose(query, document, atol=1e-5) == (model.query_prefix == model.passage_prefix)
            plain = document
        need(harness, EmbedderFeature.PREFIXES)
        with_prefixes = harness.open_with_prefixes("query: ", "passage: ")
        try:
            assert (with_prefixes.model().query_prefix, with_prefixes.model().passage_prefix) == (
                "query: ",
                "passage: ",
            )
            for purpose in Purpose:
                prefix = "query: " if purpose is Purpose.QUERY else "passage: "
                [put] = with_prefixes.embed(TEXTS[:1], purpose=purpose, timeout_seconds=harness.seconds).vectors
                with opened(harness) as embedder:
                    [written] = embedder.embed([prefix + TEXTS[0]], purpose=purpose, timeout_seconds=30).vectors
                assert np.allclose(put, written, atol=1e-5)
                assert not np.allclose(put, plain[0], atol=1e-5)
        finally:
            with_prefixes.close()

    def test_it_says_which_model_it_is_and_guesses_nothing(self, harness: EmbedderHarness) -> None:
        with opened(harness) as embedder:
            model = embedder.model()
            assert model.provider == embedder.identity().provider
            assert model.name == embedder.identity().model
            assert UNKNOWN not in (model.provider, model.name)
            need(harness, EmbedderFeature.WEIGHTS)
            assert model.revision.startswith("sha256:")
            assert len(model.revision) == 7 + 64
            assert UNKNOWN not in model.to_json().values()

    def test_texts_that_mean_the_same_are_nearer_than_others(self, harness: EmbedderHarness) -> None:
        need(harness, EmbedderFeature.MEANING)
        texts = (
            "How do I put two parts of a file path together?",
            "Join two or more pathname components.",
            "The orchestra played a symphony for the mayor.",
        )
        with opened(harness) as embedder:
            found = embed_all(embedder, texts, purpose=Purpose.DOCUMENT, timeout_seconds=harness.seconds)
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        assert found[0] @ found[1] > found[0] @ found[2]

    def test_many_threads_get_each_their_own_vectors(self, harness: EmbedderHarness) -> None:
        with opened(harness) as embedder:

            def embed(row: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
                texts = [TEXTS[row], TEXTS[(row + 1) % len(TEXTS)]]
                return embedder.embed(texts, purpose=Purpose.DOCUMENT, timeout_seconds=harness.seconds).vectors

            alone = [embed(row) for row in range(len(TEXTS))]
            with ThreadPoolExecutor(4) as pool:
                together = list(pool.map(embed, range(len(TEXTS))))
        for one, other in zip(alone, together, strict=True):
            assert np.allclose(one, other, atol=1e-5)

    def test_it_can_be_closed_twice_and_opened_again(self, harness: EmbedderHarness) -> None:
        embedder = harness.open()
        [first] = embedder.embed(TEXTS[:1], purpose=Purpose.QUERY, timeout_seconds=harness.seconds).vectors
        embedder.close()
        embedder.close()
        with opened(harness) as again:
            [second] = again.embed(TEXTS[:1], purpose=Purpose.QUERY, timeout_seconds=harness.seconds).vectors
        assert np.allclose(first, second, atol=1e-5)

    def test_a_deadline_that_has_passed_is_a_timeout(self, harness: EmbedderHarness) -> None:
        with opened(harness) as embedder:
            texts = ["a longer text that takes some time to read " * 8] * min(64, embedder.limits().batch_texts)
            embedder.embed(texts[:1], purpose=Purpose.DOCUMENT, timeout_seconds=harness.seconds)
            with pytest.raises(ExitrampError) as caught:
                embedder.embed(texts, purpose=Purpose.DOCUMENT, timeout_seconds=1e-6)
        assert getattr(caught.value, "error_class", None) == "timeout"
