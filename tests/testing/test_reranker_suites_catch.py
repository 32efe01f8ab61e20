"""Rerankers that are broken on purpose, and the tests of the suite that must notice."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from exitramp.errors import ModelError
from exitramp.ports import ModelIdentity, Reranked, Reranker
from exitramp.registry import open_reranker
from exitramp.testing import run_suite
from exitramp.testing.conformance.rerank_wire import RemoteRerankerHarness, RerankWireConformance
from exitramp.testing.conformance.rerankers import RerankerConformance
from exitramp.urls import Address
from exitramp_adapters.services.mock_vendor.adapter import OPENAI, MockVendor
from tests.adapters.rerank_wires import JinaWire


class BrokenReranker:
    """A reranker, all of it right but for what a subclass changes."""

    def __init__(self, inner: Reranker) -> None:
        self._inner = inner

    def identity(self) -> ModelIdentity:
        return self._inner.identity()

    def rerank(self, question: str, texts: Sequence[str], **how: Any) -> Reranked:
        return self.after(self._inner.rerank(question, texts, **how), texts)

    def after(self, given: Reranked, texts: Sequence[str]) -> Reranked:
        return given

    def close(self) -> None:
        self._inner.close()


def giving(change: Callable[[tuple[float, ...]], tuple[float, ...]]) -> type[BrokenReranker]:
    class Giving(BrokenReranker):
        def after(self, given: Reranked, texts: Sequence[str]) -> Reranked:
            return replace(given, scores=change(given.scores))

    return Giving


def failing(change: Callable[[ModelError, Sequence[str]], Exception | Reranked]) -> type[BrokenReranker]:
    class Failing(BrokenReranker):
        def rerank(self, question: str, texts: Sequence[str], **how: Any) -> Reranked:
            try:
                return super().rerank(question, texts, **how)
            except ModelError as error:
                found = change(error, texts)
                if isinstance(found, Exception):
                    raise found from None
                return found

    return Failing


class _Patched(BrokenReranker):
    """Replaces what it cannot encode, and says nothing."""

    def rerank(self, question: str, texts: Sequence[str], **how: Any) -> Reranked:
        return super().rerank(question, [text.encode("utf-8", "replace").decode() for text in texts], **how)


class _First(BrokenReranker):
    """Sends the first two texts alone."""

    def rerank(self, question: str, texts: Sequence[str], **how: Any) -> Reranked:
        given = super().rerank(question, texts[:2], **how)
        return replace(given, scores=given.scores + (0.0,) * (len(texts) - 2))


class _Endless(BrokenReranker):
    def rerank(self, question: str, texts: Sequence[str], **how: Any) -> Reranked:
        return super().rerank(question, texts, **how | {"timeout_seconds": 2.5})


class _OneKey(BrokenReranker):
    def rerank(self, question: str, texts: Sequence[str], **how: Any) -> Reranked:
        return super().rerank(question, texts, **how | {"idempotency_key": "stable"})


class _NoKey(BrokenReranker):
    def rerank(self, question: str, texts: Sequence[str], **how: Any) -> Reranked:
        return super().rerank(question, texts, **how | {"idempotency_key": None})


class _Counts(BrokenReranker):
    def after(self, given: Reranked, texts: Sequence[str]) -> Reranked:
        return replace(given, usage=replace(given.usage, source="provider"))


def _error(error: ModelError, message: str | None = None, **changed: Any) -> ModelError:
    kept = {name: getattr(error, name) for name in ("error_class", "http_status", "maybe_billed")}
    return ModelError(message or error.message, **kept | changed)


def _zeros(error: ModelError, texts: Sequence[str]) -> Exception | Reranked:
    from exitramp.records import Usage

    return Reranked((0.0,) * len(texts), Usage(1, 0), 1.0, "m") if error.error_class == "malformed" else error


BROKEN: list[tuple[str, type[BrokenReranker], str]] = [
    ("sorts its scores", giving(lambda s: tuple(sorted(s, reverse=True))), "scores_stand_in_the_order_of_the_texts"),
    ("counts distance", giving(lambda s: tuple(-score for score in s)), "text_that_answers_is_above"),
    ("drops the last", giving(lambda s: s[:-1]), "every_text_has_one_finite_score"),
    ("gives what is not finite", giving(lambda s: (math.nan, *s[1:])), "every_text_has_one_finite_score"),
    ("gives whole numbers", giving(lambda s: tuple(round(score) for score in s)), "every_text_has_one_finite_score"),
    (
        "is noise",
        giving(lambda s: tuple(score + random.random() for score in s)),
        "asked_again_it_says_the_same",
    ),
    (
        "breaks ties by place",
        giving(lambda s: tuple(score - place for place, score in enumerate(s))),
        "given_twice_has_the_same_score",
    ),
    ("patches odd texts", _Patched, "no_unicode_is_refused"),
    ("has no deadline", _Endless, "deadline_that_has_passed"),
]
BROKEN_WIRE: list[tuple[str, type[BrokenReranker], str]] = [
    ("sends some of the texts", _First, "what_is_asked_arrives"),
    ("sorts its scores", giving(lambda s: tuple(sorted(s, reverse=True))), "come_back_in_the_order_of_the_texts"),
    ("calls an estimate a count", _Counts, "estimated_and_called_that"),
    ("has one key for everybody", _OneKey, "the_same_key_arrives_on_every_try"),
    ("has a new key on every try", _NoKey, "the_same_key_arrives_on_every_try"),
    ("gives zeros for nonsense", failing(_zeros), "what_is_not_in_the_shape_is_malformed"),
    ("gives zeros for infinity", failing(_zeros), "not_finite_are_no_score"),
    (
        "knows one class of error",
        failing(lambda error, _: _error(error, error_class="server_error")),
        "each_error_of_the_vendors_has_its_class",
    ),
    (
        "repeats the texts",
        failing(lambda error, texts: _error(error, f"failed on {texts[0]!r}")),
        "each_error_of_the_vendors_has_its_class",
    ),
    (
        "never says that it may be billed",
        failing(lambda error, _: _error(error, maybe_billed=False)),
        "breaks_off_is_truncated",
    ),
    ("is patient", _Endless, "the_deadline_holds_although_bytes_come"),
]


class BrokenHarness(RemoteRerankerHarness):
    wire = JinaWire()
    rank_by_set = True

    def __init__(self, kind: type[BrokenReranker], address: Address | None = None) -> None:
        self._kind, self._address = kind, address

    def open(self) -> Reranker:
        assert self._address is not None
        return self._kind(open_reranker(self._address))

    def open_at(self, base_url: str, *, key: str | None = None) -> Reranker:
        given = {"base_url": f"{base_url}/v1", **({"key": key} if key is not None else {})}
        return self._kind(open_reranker(Address("rerank", "m", None, given)))


@pytest.fixture(name="vendor", scope="module")
def _vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    vendor = OPENAI.make(str(tmp_path_factory.mktemp("rerank")), 3, {})
    assert isinstance(vendor, MockVendor)
    vendor.start()
    yield vendor.rerank_address
    vendor.stop()


def _is_caught(harness: BrokenHarness, suite: type, caught_by: str) -> None:
    outcomes = run_suite(lambda _: harness, suite=suite, only=lambda test: caught_by in test, until_failed=True)
    assert outcomes, f"the suite has no test called …{caught_by}…"
    assert "failed" in {outcome.outcome for outcome in outcomes}, f"{caught_by} did not notice"
    for outcome in outcomes:
        assert "TypeError" not in outcome.reason, outcome


@pytest.mark.parametrize(("name", "kind", "caught_by"), BROKEN, ids=[each[0] for each in BROKEN])
def test_the_suite_fails_on_a_reranker_that(
    name: str, kind: type[BrokenReranker], caught_by: str, vendor: Address
) -> None:
    _is_caught(BrokenHarness(kind, vendor), RerankerConformance, caught_by)


@pytest.mark.parametrize(("name", "kind", "caught_by"), BROKEN_WIRE, ids=[each[0] for each in BROKEN_WIRE])
def test_the_suite_fails_on_a_reranker_over_http_that(name: str, kind: type[BrokenReranker], caught_by: str) -> None:
    _is_caught(BrokenHarness(kind), RerankWireConformance, caught_by)
