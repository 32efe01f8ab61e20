"""A suite that cannot fail is worthless: chat models that are broken on purpose, and the tests that must notice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from exitramp.errors import ModelError
from exitramp.ports import (
    ChatAnswer,
    ChatDelta,
    ChatModel,
    ChatRequest,
    ModelIdentity,
)
from exitramp.ports.over_http import vendor_errors
from exitramp.records import Usage
from exitramp.registry import open_chat
from exitramp.testing import Outcome, run_suite
from exitramp.testing.conformance.chat import ChatHarness, ChatWire, ChatWireConformance, WireError
from exitramp.testing.scripted import Arrived
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


class _TellsAtTheEnd(BrokenChat):
    """Keeps the pieces until all have come."""

    def answer(self, request: ChatRequest, **how: Any) -> ChatAnswer:
        kept: list[ChatDelta] = []
        on_delta = how.pop("on_delta", None)
        given = super().answer(request, on_delta=kept.append, **how)
        for delta in kept:
            if on_delta is not None:
                on_delta(delta)
        return given


class _TriesAgain(BrokenChat):
    def answer(self, request: ChatRequest, **how: Any) -> ChatAnswer:
        try:
            return super().answer(request, **how)
        except ModelError as error:
            if not error.retryable:
                raise
            return super().answer(request, **how)


def _uncounted_thoughts(answer: ChatAnswer) -> ChatAnswer:
    usage = answer.usage
    gen_tokens = usage.gen_tokens - usage.reasoning_tokens
    return replace(answer, usage=replace(usage, gen_tokens=gen_tokens, reasoning_tokens=0))


def _passed_off(answer: ChatAnswer) -> ChatAnswer:
    return replace(answer, usage=replace(answer.usage, source="provider"))


def _answers_what_was_withheld(error: ModelError, request: ChatRequest) -> ModelError | ChatAnswer:
    if error.error_class != "content_filter" or error.http_status != 200:
        return error
    return ChatAnswer("Half an ans", "stop", "m", Usage(1, 1), 1.0)


@dataclass(frozen=True)
class Broken:
    name: str
    model: type[BrokenChat]
    caught_by: str


KNOWN = ("stop", "length", "tool_calls")
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
        "takes an end that it does not know for a stop",
        answering(lambda answer: answer if answer.finish_reason in KNOWN else replace(answer, finish_reason="stop")),
        "test_an_end_that_nobody_knows_yet_is_told_by_the_vendors_own_word",
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
    Broken("tells pieces at the end", _TellsAtTheEnd, "test_pieces_are_told_as_they_come_and_not_when_all_have"),
    Broken("tries again by itself", _TriesAgain, "test_each_error_of_the_vendors_has_its_class"),
    Broken("tries a broken answer again", _TriesAgain, "test_what_is_not_in_the_shape_is_malformed"),
    Broken(
        "does not count what was thought",
        answering(_uncounted_thoughts),
        "test_what_the_model_thought_is_counted_among_what_it_generated",
    ),
    Broken(
        "shows what was thought",
        answering(lambda answer: replace(answer, text=f"Let me think.{answer.text}")),
        "test_what_the_model_thought_is_no_part_of_its_answer",
    ),
    Broken(
        "passes an estimate off as a count",
        answering(_passed_off),
        "test_tokens_that_the_vendor_does_not_count_are_estimated_and_called_that",
    ),
    Broken(
        "answers what was withheld",
        failing(_answers_what_was_withheld),
        "test_an_answer_that_is_withheld_is_no_answer",
    ),
    Broken(
        "calls what was withheld malformed",
        failing(lambda error, _: _error(error, error_class="malformed")),
        "test_an_answer_that_is_withheld_is_no_answer",
    ),
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


class _Keyed(BrokenChat):
    """Shows its key where it could not reach the server, as an address with the key in it does."""

    def answer(self, request: ChatRequest, **how: Any) -> ChatAnswer:
        try:
            return super().answer(request, **how)
        except ModelError as error:
            if error.error_class != self.on:
                raise
            raise _error(error, f"{error.message}: http://127.0.0.1/v1?key=sesame-0123456789") from None

    on = "connection"


class _KeyedWhenLate(_Keyed):
    on = "timeout"


@pytest.mark.parametrize("kind", [_Keyed, _KeyedWhenLate])
def test_the_suite_fails_on_a_chat_model_that_shows_its_key_in_words_of_its_own(kind: type[BrokenChat]) -> None:
    [outcome] = run_suite(
        lambda _: BrokenChatHarness(kind),
        suite=ChatWireConformance,
        only=lambda name: name == "test_the_api_key_arrives_and_shows_nowhere",
    )
    assert (outcome.outcome, "sesame" in outcome.reason) == ("failed", True)


def test_the_suite_fails_on_a_chat_model_that_repeats_what_the_vendor_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vendor_errors, "repeatable", lambda text, prompt: text)
    outcomes = run_suite(
        lambda _: BrokenChatHarness(BrokenChat),
        suite=ChatWireConformance,
        only=lambda name: name == "test_each_error_of_the_vendors_has_its_class",
        until_failed=True,
    )
    assert (outcomes[-1].outcome, "repeats the prompt" in outcomes[-1].reason) == ("failed", True)


class _WaitsInItsBody(OpenAIWire):
    """A vendor that says in its body how long to wait; this adapter reads headers alone."""

    def error(self, error_class: str) -> Sequence[WireError]:
        found = super().error(error_class)
        if error_class != "rate_limit":
            return found
        return [replace(each, body={**each.body, "retryDelay": "7s"}, retry_after_seconds=7.0) for each in found]


class _NamelessWire(OpenAIWire):
    """A shape whose streams have a path of their own and whose schemas have no name."""

    stream_path = "/v1/chat/streams"

    def asked(self, arrived: Arrived) -> ChatRequest:
        found = super().asked(arrived)
        wanted = found.response_format
        return found if wanted is None else replace(found, response_format=replace(wanted, name=""))


def _outcomes(wire: ChatWire, test: str) -> list[Outcome]:
    class Harness(BrokenChatHarness):
        pass

    Harness.wire = wire
    return run_suite(lambda _: Harness(BrokenChat), suite=ChatWireConformance, only=lambda name: name == test)


def test_the_suite_fails_on_a_chat_model_that_reads_no_wait_in_the_body() -> None:
    outcomes = _outcomes(_WaitsInItsBody(), "test_each_error_of_the_vendors_has_its_class")
    assert {each.test.partition("[")[2] for each in outcomes if each.outcome == "failed"} == {
        "False, 'rate_limit']",
        "True, 'rate_limit']",
    }


def test_a_stream_must_be_asked_for_at_its_own_path_and_a_name_that_a_shape_has_no_room_for_is_not_missed() -> None:
    outcomes = _outcomes(_NamelessWire(), ASKED_FOR)
    for each in outcomes:
        assert each.outcome == ("failed" if "True" in each.test else "passed"), each
        assert each.outcome == "passed" or "/v1/chat/streams" in each.reason
