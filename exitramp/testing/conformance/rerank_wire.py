"""What a reranker behind HTTP makes of what a vendor may say, on a server that says it byte by byte."""

from __future__ import annotations

import abc
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import pytest

from exitramp.errors import MODEL_ERROR_CLASSES, RETRYABLE_MODEL_ERRORS, ModelError
from exitramp.ports import Reranker
from exitramp.testing.conformance.chat_harness import WireError
from exitramp.testing.conformance.rerankers import RerankerHarness
from exitramp.testing.scripted import Arrived, Reply, ScriptedServer

SECRET: Final = "kingfisher at dawn over the quiet river"
SCORES: Final = (0.25, -3.5, 0.75)
TEXTS: Final = (SECRET, "two", "three 世界")
QUESTION: Final = "where is it? 世界"
DEADLINE_SECONDS: Final = 3.0
SLACK_SECONDS: Final = 1.5


@dataclass(frozen=True, slots=True)
class AskedOrder:
    """What was asked to be reranked, and how many of the best were asked for; None is all."""

    question: str
    texts: tuple[str, ...]
    top: int | None
    idempotency_key: str | None
    api_key: str | None


class RerankWire(Protocol):
    """A vendor's shape, written down from its published contract."""

    path: str

    def asked(self, arrived: Arrived) -> AskedOrder: ...

    def answer(self, scores: Sequence[float], tokens: int | None) -> dict[str, Any]:
        """The body of an answer, the best first; without a count where `tokens` is None."""
        ...

    def broken(self, scores: Sequence[float]) -> Mapping[str, Mapping[str, Any]]:
        """Bodies that are no answer, by what is wrong with them."""
        ...

    def error(self, error_class: str) -> Sequence[WireError]: ...


class RemoteRerankerHarness(RerankerHarness):
    """A reranker behind HTTP. `counts` says whether its vendor's answers tell tokens."""

    wire: RerankWire
    counts: bool = True

    @abc.abstractmethod
    def open_at(self, base_url: str, *, key: str | None = None) -> Reranker:
        """The adapter on whatever listens at `base_url`."""


@contextmanager
def _sides(harness: RemoteRerankerHarness) -> Iterator[tuple[ScriptedServer, Reranker]]:
    with ScriptedServer() as server:
        reranker = harness.open_at(server.base_url)
        server.answer(Reply((_dump(harness.wire.answer(SCORES, 12)),)))
        try:
            yield server, reranker
        finally:
            reranker.close()


def _fails(server: ScriptedServer, reranker: Reranker, *, seconds: float = DEADLINE_SECONDS) -> ModelError:
    before = len(server.arrived)
    with pytest.raises(ModelError) as caught:
        reranker.rerank(QUESTION, TEXTS, timeout_seconds=seconds)
    assert len(server.arrived) <= before + 1, "it tried again, which whoever asks decides"
    assert SECRET not in str(caught.value), "an error repeats a text"
    return caught.value


class RerankWireConformance:
    """What the bytes mean, in both directions."""

    def test_what_is_asked_arrives_and_all_of_it_is_to_be_scored(self, harness: RemoteRerankerHarness) -> None:
        with _sides(harness) as (server, reranker):
            reranker.rerank(QUESTION, TEXTS, timeout_seconds=DEADLINE_SECONDS)
            asked = harness.wire.asked(server.arrived[-1])
            assert server.arrived[-1].path == harness.wire.path
        assert (asked.question, asked.texts) == (QUESTION, TEXTS)
        assert asked.top is None or asked.top >= len(TEXTS), "what is left away has no score"

    def test_scores_come_back_in_the_order_of_the_texts(self, harness: RemoteRerankerHarness) -> None:
        with _sides(harness) as (_, reranker):
            given = reranker.rerank(QUESTION, TEXTS, timeout_seconds=DEADLINE_SECONDS)
        assert given.scores == SCORES
        if harness.counts:
            assert (given.usage.prompt_tokens, given.usage.source) == (12, "provider")

    def test_tokens_that_the_vendor_does_not_count_are_estimated_and_called_that(
        self, harness: RemoteRerankerHarness
    ) -> None:
        with _sides(harness) as (server, reranker):
            server.answer(Reply((_dump(harness.wire.answer(SCORES, None)),)))
            given = reranker.rerank(QUESTION, TEXTS, timeout_seconds=DEADLINE_SECONDS)
        assert given.usage.source == "estimated"
        assert given.usage.prompt_tokens > 0

    def test_the_same_key_arrives_on_every_try_and_another_for_every_other_call(
        self, harness: RemoteRerankerHarness
    ) -> None:
        with _sides(harness) as (server, reranker):
            for key in ("stable", "stable", None, None):
                reranker.rerank(QUESTION, TEXTS, timeout_seconds=DEADLINE_SECONDS, idempotency_key=key)
            first, again, *others = (harness.wire.asked(each).idempotency_key for each in server.arrived)
        assert first == again == "stable"
        assert None not in others
        assert len(set(others)) == 2

    def test_the_api_key_arrives_and_shows_nowhere(self, harness: RemoteRerankerHarness) -> None:
        with tempfile.NamedTemporaryFile("w", prefix="exitramp-suite-") as key, ScriptedServer() as server:
            key.write("sesame-0123456789")
            key.flush()
            reranker = harness.open_at(server.base_url, key=f"file:{key.name}")
            body = {"message": "the key sesame-0123456789 is no good"}
            server.answer(Reply((_dump(body),), status=401))
            error = _fails(server, reranker)
            assert harness.wire.asked(server.arrived[-1]).api_key == "sesame-0123456789"
            reranker.close()
        assert "sesame-0123456789" not in f"{error} {error!r} {reranker!r} {reranker.identity()!r}"

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_numbers_that_are_not_finite_are_no_score(self, harness: RemoteRerankerHarness, value: float) -> None:
        with _sides(harness) as (server, reranker):
            server.answer(Reply((_dump(harness.wire.answer((SCORES[0], value, SCORES[2]), 12)),)))
            error = _fails(server, reranker)
        assert (error.error_class, error.maybe_billed) == ("malformed", True)

    def test_what_is_not_in_the_shape_is_malformed(self, harness: RemoteRerankerHarness) -> None:
        with _sides(harness) as (server, reranker):
            bodies = {what: _dump(body) for what, body in harness.wire.broken(SCORES).items()}
            for what, body in {**bodies, "nothing": b"", "no JSON": b"{", "a list": b"[]", "empty": b"{}"}.items():
                server.answer(Reply((body,)))
                error = _fails(server, reranker)
                assert (error.error_class, error.maybe_billed) == ("malformed", True), what

    @pytest.mark.parametrize("error_class", sorted(MODEL_ERROR_CLASSES))
    def test_each_error_of_the_vendors_has_its_class(self, harness: RemoteRerankerHarness, error_class: str) -> None:
        answers = harness.wire.error(error_class)
        if not answers:
            pytest.skip(f"{error_class}: the vendor has no answer of that class; it shows otherwise")
        with _sides(harness) as (server, reranker):
            for answer in answers:
                server.answer(Reply((_dump(answer.body),), status=answer.status, headers=dict(answer.headers)))
                error = _fails(server, reranker)
                assert (error.error_class, error.http_status) == (error_class, answer.status)
                assert error.retryable == (error_class in RETRYABLE_MODEL_ERRORS)

    @pytest.mark.parametrize("ending", ["close", "reset"])
    def test_an_answer_that_breaks_off_is_truncated(self, harness: RemoteRerankerHarness, ending: str) -> None:
        body = _dump(harness.wire.answer(SCORES, 12))
        with _sides(harness) as (server, reranker):
            for count in (1, len(body) // 2, len(body) - 1):
                server.answer(Reply((body[:count],), ending=ending))  # type: ignore[arg-type]
                error = _fails(server, reranker)
                assert error.error_class in ("truncated", "connection")
                assert error.maybe_billed

    @pytest.mark.parametrize("how", ["silent", "headers", "drip"])
    def test_the_deadline_holds_although_bytes_come(self, harness: RemoteRerankerHarness, how: str) -> None:
        body = _dump(harness.wire.answer(SCORES, 12))
        slow = Reply(tuple(body[at : at + 1] for at in range(len(body))), pause_seconds=0.05)
        replies = {"silent": Reply(silent=True), "headers": Reply(ending="hang"), "drip": slow}
        with _sides(harness) as (server, reranker):
            server.answer(replies[how])
            began = time.monotonic()
            error = _fails(server, reranker, seconds=0.4)
            assert 0.39 <= time.monotonic() - began < 0.4 + SLACK_SECONDS
        assert (error.error_class, error.maybe_billed) == ("timeout", True)


def _dump(data: object) -> bytes:
    return json.dumps(data).encode()
