"""What an embedder behind HTTP makes of what a vendor may say, on a server that says it byte by byte."""

from __future__ import annotations

import abc
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numpy as np
import pytest

from exitramp.errors import MODEL_ERROR_CLASSES, RETRYABLE_MODEL_ERRORS, ModelError
from exitramp.ports import Embedder, Purpose
from exitramp.testing.conformance.chat_harness import WireError
from exitramp.testing.conformance.chat_side import error_reply, quoting, shown_errors
from exitramp.testing.conformance.embedders import EmbedderHarness
from exitramp.testing.scripted import Arrived, Reply, ScriptedServer

SECRET: Final = "kingfisher at dawn over the quiet river"
VECTORS: Final = ((1.0, 0.0, 0.5), (0.0, 1.0, -0.5), (0.25, 0.5, 1.0))
TEXTS: Final = (SECRET, "two", "three 世界")
DEADLINE_SECONDS: Final = 3.0
SLACK_SECONDS: Final = 1.5


@dataclass(frozen=True, slots=True)
class AskedTexts:
    """What was asked to be embedded. `purpose` is None where the API is told none, or none arrived."""

    texts: tuple[str, ...]
    dimensions: int | None
    idempotency_key: str | None
    api_key: str | None
    purpose: Purpose | None = None


class EmbeddingWire(Protocol):
    """A vendor's shape, written down from its published contract."""

    path: str

    def asked(self, arrived: Arrived) -> AskedTexts: ...

    def answer(self, vectors: Sequence[Sequence[float]], tokens: int | None) -> dict[str, Any]:
        """The body of an answer; without a count where `tokens` is None."""
        ...

    def broken(self, vectors: Sequence[Sequence[float]]) -> Mapping[str, Mapping[str, Any]]:
        """Bodies that are no answer, by what is wrong with them."""
        ...

    def error(self, error_class: str) -> Sequence[WireError]: ...


class RemoteEmbedderHarness(EmbedderHarness):
    """An embedder behind HTTP. Where its API is told what a text is for, set `tells_purpose`, and let `wire.asked` read
    it."""

    wire: EmbeddingWire

    @abc.abstractmethod
    def open_at(self, base_url: str, *, key: str | None = None, **options: str) -> Embedder:
        """The adapter on whatever listens at `base_url`. The suite sets `dimensions` and the prefixes' options."""


@contextmanager
def _sides(harness: RemoteEmbedderHarness, **options: str) -> Iterator[tuple[ScriptedServer, Embedder]]:
    with ScriptedServer() as server:
        embedder = harness.open_at(server.base_url, **options)
        server.answer(Reply((_dump(harness.wire.answer(VECTORS, 12)),)))
        try:
            yield server, embedder
        finally:
            embedder.close()


def _fails(server: ScriptedServer, embedder: Embedder, *, seconds: float = DEADLINE_SECONDS) -> ModelError:
    before = len(server.arrived)
    with pytest.raises(ModelError) as caught:
        embedder.embed(TEXTS, purpose=Purpose.DOCUMENT, timeout_seconds=seconds)
    assert len(server.arrived) <= before + 1, "it tried again, which whoever asks decides"
    assert SECRET not in str(caught.value), "an error repeats a text"
    return caught.value


class EmbeddingWireConformance:
    """What the bytes mean, in both directions."""

    def test_texts_arrive_in_order_and_vectors_come_back_in_it(self, harness: RemoteEmbedderHarness) -> None:
        with _sides(harness) as (server, embedder):
            given = embedder.embed(TEXTS, purpose=Purpose.QUERY, timeout_seconds=DEADLINE_SECONDS)
            assert harness.wire.asked(server.arrived[-1]).texts == TEXTS
            assert server.arrived[-1].path == harness.wire.path
        assert np.array_equal(given.vectors, np.array(VECTORS, np.float32))
        assert (given.usage.prompt_tokens, given.usage.source) == (12, "provider")

    def test_tokens_that_the_vendor_does_not_count_are_estimated_and_called_that(
        self, harness: RemoteEmbedderHarness
    ) -> None:
        with _sides(harness) as (server, embedder):
            server.answer(Reply((_dump(harness.wire.answer(VECTORS, None)),)))
            given = embedder.embed(TEXTS, purpose=Purpose.QUERY, timeout_seconds=DEADLINE_SECONDS)
        assert given.usage.source == "estimated"

    def test_dimensions_that_are_asked_for_arrive_and_others_are_no_answer(
        self, harness: RemoteEmbedderHarness
    ) -> None:
        with _sides(harness, dimensions="3") as (server, embedder):
            assert embedder.dimensions == 3
            assert not server.arrived, "what the address says need not be asked"
            embedder.embed(TEXTS, purpose=Purpose.QUERY, timeout_seconds=DEADLINE_SECONDS)
            assert harness.wire.asked(server.arrived[-1]).dimensions == 3
        with _sides(harness, dimensions="5") as (server, embedder):
            assert _fails(server, embedder).error_class == "malformed"

    def test_the_same_key_arrives_on_every_try_and_another_for_every_other_call(
        self, harness: RemoteEmbedderHarness
    ) -> None:
        with _sides(harness) as (server, embedder):
            for key in ("stable", "stable", None, None):
                embedder.embed(TEXTS, purpose=Purpose.QUERY, timeout_seconds=DEADLINE_SECONDS, idempotency_key=key)
            first, again, *others = (harness.wire.asked(each).idempotency_key for each in server.arrived)
        assert first == again == "stable"
        assert None not in others
        assert len(set(others)) == 2

    def test_the_api_key_arrives_and_shows_nowhere(self, harness: RemoteEmbedderHarness) -> None:
        with tempfile.NamedTemporaryFile("w", prefix="exitramp-suite-") as key, ScriptedServer() as server:
            key.write("sesame-0123456789")
            key.flush()
            embedder = harness.open_at(server.base_url, key=f"file:{key.name}")
            shown = shown_errors(lambda: embedder.embed(TEXTS, purpose=Purpose.QUERY, timeout_seconds=0.5), server)
            assert harness.wire.asked(server.arrived[-1]).api_key == "sesame-0123456789"
            embedder.close()
        assert "sesame-0123456789" not in f"{shown} {embedder!r} {embedder.identity()!r}"

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e39])
    def test_numbers_that_are_not_finite_are_no_vector(self, harness: RemoteEmbedderHarness, value: float) -> None:
        """1e39 is a number of JSON's and none of float32's."""
        bad = (VECTORS[0], (value, *VECTORS[1][1:]), VECTORS[2])
        with _sides(harness) as (server, embedder):
            server.answer(Reply((_dump(harness.wire.answer(bad, 12)),)))
            error = _fails(server, embedder)
        assert (error.error_class, error.maybe_billed) == ("malformed", True)

    def test_what_is_not_in_the_shape_is_malformed(self, harness: RemoteEmbedderHarness) -> None:
        with _sides(harness) as (server, embedder):
            bodies = {what: _dump(body) for what, body in harness.wire.broken(VECTORS).items()}
            for what, body in {**bodies, "nothing": b"", "no JSON": b"{", "a list": b"[]", "empty": b"{}"}.items():
                server.answer(Reply((body,)))
                error = _fails(server, embedder)
                assert (error.error_class, error.maybe_billed) == ("malformed", True), what

    @pytest.mark.parametrize("error_class", sorted(MODEL_ERROR_CLASSES))
    def test_each_error_of_the_vendors_has_its_class(self, harness: RemoteEmbedderHarness, error_class: str) -> None:
        answers = harness.wire.error(error_class)
        if not answers:
            pytest.skip(f"{error_class}: the vendor has no answer of that class; it shows otherwise")
        with _sides(harness) as (server, embedder):
            for answer in answers:
                server.answer(error_reply(answer))
                error = _fails(server, embedder)
                assert (error.error_class, error.http_status) == (error_class, answer.status)
                assert error.retryable == (error_class in RETRYABLE_MODEL_ERRORS)
                if answer.retry_after_seconds is not None:
                    assert error.retry_after_seconds == pytest.approx(answer.retry_after_seconds)
                server.answer(error_reply(replace(answer, body=quoting(answer.body, SECRET))))
                _fails(server, embedder)

    @pytest.mark.parametrize("ending", ["close", "reset"])
    def test_an_answer_that_breaks_off_is_truncated(self, harness: RemoteEmbedderHarness, ending: str) -> None:
        body = _dump(harness.wire.answer(VECTORS, 12))
        with _sides(harness) as (server, embedder):
            for count in (1, len(body) // 2, len(body) - 1):
                server.answer(Reply((body[:count],), ending=ending))  # type: ignore[arg-type]
                error = _fails(server, embedder)
                assert error.error_class in ("truncated", "connection")
                assert error.maybe_billed

    @pytest.mark.parametrize("how", ["silent", "headers", "drip"])
    def test_the_deadline_holds_although_bytes_come(self, harness: RemoteEmbedderHarness, how: str) -> None:
        body = _dump(harness.wire.answer(VECTORS, 12))
        slow = Reply(tuple(body[at : at + 1] for at in range(len(body))), pause_seconds=0.05)
        replies = {"silent": Reply(silent=True), "headers": Reply(ending="hang"), "drip": slow}
        with _sides(harness) as (server, embedder):
            server.answer(replies[how])
            began = time.monotonic()
            error = _fails(server, embedder, seconds=0.4)
            assert 0.39 <= time.monotonic() - began < 0.4 + SLACK_SECONDS
        assert (error.error_class, error.maybe_billed) == ("timeout", True)

    def test_what_the_texts_are_for_arrives_where_the_api_is_told(self, harness: RemoteEmbedderHarness) -> None:
        with _sides(harness) as (server, embedder):
            for purpose in Purpose:
                embedder.embed(TEXTS, purpose=purpose, timeout_seconds=DEADLINE_SECONDS)
                found = harness.wire.asked(server.arrived[-1]).purpose
                assert found == (purpose if harness.tells_purpose else None)

    def test_prefixes_arrive_before_the_texts_of_their_purpose(self, harness: RemoteEmbedderHarness) -> None:
        with ScriptedServer() as server:
            server.answer(Reply((_dump(harness.wire.answer(VECTORS, 12)),)))
            embedder = harness.open_at(server.base_url, query_prefix="query: ", passage_prefix="passage: ")
            for purpose, prefix in ((Purpose.QUERY, "query: "), (Purpose.DOCUMENT, "passage: ")):
                embedder.embed(TEXTS, purpose=purpose, timeout_seconds=DEADLINE_SECONDS)
                assert harness.wire.asked(server.arrived[-1]).texts == tuple(prefix + text for text in TEXTS)
            embedder.close()


def _dump(data: object) -> bytes:
    return json.dumps(data).encode()
