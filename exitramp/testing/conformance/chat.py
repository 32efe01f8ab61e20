"""The conformance suite for chat models: one class that an adapter's test file subclasses.

class TestMyModel(ChatConformance):
    @pytest.fixture
    def harness(self, tmp_path):
        return MyHarness(tmp_path)

Half of the claims are put to a model that answers, half to a server that says byte by byte what the vendor's contract
allows and forbids.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import pytest

from exitramp.errors import ExitrampError, ModelError
from exitramp.faults import Fault
from exitramp.ports import ChatAnswer, ChatDelta, ChatMessage, ChatModel, ResponseFormat, ToolSpec
from exitramp.testing.conformance.chat_asked import ChatAskedConformance
from exitramp.testing.conformance.chat_failing import ChatFailingConformance
from exitramp.testing.conformance.chat_harness import (
    ASKED,
    ChatFeature,
    ChatHarness,
    ChatWire,
    Said,
    WireError,
    need,
)
from exitramp.testing.conformance.chat_said import ChatSaidConformance
from exitramp.testing.conformance.chat_side import SLACK_SECONDS, STREAMED

FAULT_CLASSES: Final = {
    "rate_limit": {"rate_limit"},
    "quota": {"quota_exhausted"},
    "error_500": {"server_error"},
    "unavailable": {"overloaded"},
    "overloaded": {"overloaded"},
    "auth": {"auth"},
    "model_gone": {"model_gone"},
    "malformed": {"malformed"},
    "truncate": {"truncated"},
    "reset": {"truncated", "connection"},
    "refuse": {"connection", "truncated"},
    "hang": {"timeout"},
    "sigstop": {"timeout"},
    "sigkill": {"connection", "truncated"},
}
"""Which error each fault of a service is. A connection that was kept open may break before a new one is refused."""
_SHORT_SECONDS: Final = 0.5
WEATHER: Final = ToolSpec(
    "weather",
    "The weather in a city",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
CITY: Final = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "people": {"type": "integer", "maximum": 99}},
    "required": ["city", "people"],
    "additionalProperties": False,
}


@contextmanager
def opened(harness: ChatHarness) -> Iterator[ChatModel]:
    model = harness.open()
    try:
        yield model
    finally:
        model.close()


class ChatAnswerConformance:
    """What a model that answers is held to."""

    @STREAMED
    def test_an_answer_is_whole_and_says_who_gave_it_what_it_took_and_how_long(
        self, harness: ChatHarness, stream: bool
    ) -> None:
        need(harness, *([ChatFeature.STREAMING] if stream else []))
        with opened(harness) as model:
            began = time.monotonic()
            given = model.answer(replace(harness.question(), stream=stream), timeout_seconds=harness.answer_seconds)
            took_ms = (time.monotonic() - began) * 1000.0
        assert given.text, "the answer has no text"
        assert given.finish_reason in ("stop", "length")
        assert given.model_id, "nobody knows which model answered"
        assert 0 < given.latency_ms <= took_ms
        assert (given.time_to_first_token_ms is not None) == stream
        if given.time_to_first_token_ms is not None:
            assert 0 < given.time_to_first_token_ms <= given.latency_ms
        assert given.usage.prompt_tokens > 0
        assert given.usage.gen_tokens > 0
        if ChatFeature.COUNTED not in harness.lacks:
            assert given.usage.source == "provider", "the vendor counts, so its count is taken"

    def test_a_streamed_answer_is_the_whole_one(self, harness: ChatHarness) -> None:
        need(harness, ChatFeature.STREAMING, ChatFeature.SAME_AGAIN)
        with opened(harness) as model:
            whole, streamed = (
                model.answer(replace(harness.question(), stream=stream), timeout_seconds=harness.answer_seconds)
                for stream in (False, True)
            )
        assert streamed.text == whole.text
        assert streamed.finish_reason == whole.finish_reason
        assert streamed.model_id == whole.model_id
        assert replace(streamed.usage, cache_read_tokens=0, cache_write_tokens=0) == replace(
            whole.usage, cache_read_tokens=0, cache_write_tokens=0
        )

    def test_the_pieces_of_a_stream_are_told_in_order_before_the_answer_and_are_the_answer(
        self, harness: ChatHarness
    ) -> None:
        need(harness, ChatFeature.STREAMING)
        told: list[ChatDelta] = []
        with opened(harness) as model:
            asked = replace(harness.question(), stream=True)
            given = model.answer(asked, timeout_seconds=harness.answer_seconds, on_delta=told.append)
            assert "".join(delta.text for delta in told) == given.text
            assert len(told) > 1, "it all came at once, so nothing was streamed"
            count = len(told)
            model.answer(harness.question(), timeout_seconds=harness.answer_seconds, on_delta=told.append)
        assert len(told) == count, "an answer that is not streamed has no pieces to tell"

    @STREAMED
    def test_an_answer_that_the_limit_cut_says_length(self, harness: ChatHarness, stream: bool) -> None:
        need(harness, *([ChatFeature.STREAMING] if stream else []))
        with opened(harness) as model:
            asked = replace(harness.question(), stream=stream, maximum_tokens=2)
            given = model.answer(asked, timeout_seconds=harness.answer_seconds)
        assert given.finish_reason == "length"
        assert given.usage.gen_tokens <= 3

    def test_usage_counts_the_prompt(self, harness: ChatHarness) -> None:
        with opened(harness) as model:
            asked = harness.question()
            longer = replace(asked, messages=(ChatMessage("user", "Say no more than this. " * 20), *asked.messages[1:]))
            short, long = (
                model.answer(each, timeout_seconds=harness.answer_seconds).usage.prompt_tokens
                for each in (asked, longer)
            )
        assert long > short + 40, "a hundred words more are some hundred tokens more"

    def test_the_same_key_arrives_on_every_try_and_none_is_used_twice_unasked(self, harness: ChatHarness) -> None:
        need(harness, ChatFeature.KEYS)
        with opened(harness) as model:
            before = len(harness.keys())
            for key in ("stable", "stable", None, None):
                asked = replace(harness.question(), idempotency_key=key)
                model.answer(asked, timeout_seconds=harness.answer_seconds)
            first, again, *unasked = list(harness.keys())[before:]
        assert first == again, "a second try of the same request has another key"
        assert len({first, *unasked}) == 3, "two requests of different people have one key"

    def test_many_threads_get_each_their_own_answer(self, harness: ChatHarness) -> None:
        need(harness, ChatFeature.SAME_AGAIN)
        with opened(harness) as model:

            def ask(number: int) -> str:
                asked = replace(harness.question(number % 4), stream=number >= 4 and can_stream, maximum_tokens=8)
                return model.answer(asked, timeout_seconds=8 * harness.answer_seconds).text

            can_stream = ChatFeature.STREAMING not in harness.lacks
            alone = [ask(number) for number in range(4)]
            with ThreadPoolExecutor(8) as pool:
                together = list(pool.map(ask, range(8)))
        assert len(set(alone)) > 1, "all questions have one answer, so nothing is shown"
        assert together == alone * 2

    def test_a_stop_sequence_ends_the_answer(self, harness: ChatHarness) -> None:
        need(harness, ChatFeature.STOP, ChatFeature.ANSWERS_STOP, ChatFeature.SAME_AGAIN)
        with opened(harness) as model:
            whole = model.answer(harness.question(), timeout_seconds=harness.answer_seconds).text
            word = next(word for word in whole.split()[:0:-1] if whole[: whole.index(word)].strip())
            asked = replace(harness.question(), stop=(word,))
            given = model.answer(asked, timeout_seconds=harness.answer_seconds)
        assert word not in given.text
        assert whole.startswith(given.text)
        assert given.finish_reason == "stop"

    @STREAMED
    def test_a_tool_that_must_be_called_is_called_with_json(self, harness: ChatHarness, stream: bool) -> None:
        need(harness, ChatFeature.TOOLS, ChatFeature.ANSWERS_TOOLS, *([ChatFeature.STREAMING] if stream else []))
        told: list[ChatDelta] = []
        with opened(harness) as model:
            asked = replace(
                harness.question(),
                messages=(ChatMessage("user", "What is the weather in Paris? Call the tool."),),
                tools=(WEATHER,),
                tool_choice="required",
                maximum_tokens=96,
                stream=stream,
            )
            given = model.answer(asked, timeout_seconds=harness.answer_seconds, on_delta=told.append)
            assert given.finish_reason == "tool_calls"
            [call, *_] = given.tool_calls
            assert call.name == "weather"
            assert call.id, "without an id its result cannot be sent back"
            assert "city" in json.loads(call.arguments)
            pieces = [delta.tool_call[1] for delta in told if delta.tool_call is not None and delta.tool_call[0] == 0]
            if stream and pieces:
                assert pieces[0].name == "weather"
            result = ChatMessage("tool", '{"degrees": 21}', tool_call_id=call.id)
            said = ChatMessage("assistant", given.text, tool_calls=given.tool_calls[:1])
            then = replace(asked, messages=(*asked.messages, said, result), tool_choice=None, stream=stream)
            final = model.answer(then, timeout_seconds=harness.answer_seconds)
        assert final.text or final.tool_calls

    @pytest.mark.parametrize("kind", ["json_object", "json_schema"])
    def test_an_answer_that_must_be_json_is(self, harness: ChatHarness, kind: str) -> None:
        need(harness, ChatFeature(kind), ChatFeature(f"answers_{kind}"))
        wanted = ResponseFormat("json_object") if kind == "json_object" else ResponseFormat("json_schema", "city", CITY)
        with opened(harness) as model:
            asked = replace(
                harness.question(),
                messages=(ChatMessage("user", "Name a city and how many people live there, as a JSON object."),),
                response_format=wanted,
                maximum_tokens=160,
            )
            given = model.answer(asked, timeout_seconds=harness.answer_seconds)
        assert given.finish_reason == "stop"
        found = json.loads(given.text)
        assert isinstance(found, dict)
        if kind == "json_schema":
            assert set(found) == {"city", "people"}
            assert isinstance(found["people"], int)

    @pytest.mark.parametrize("kind", sorted(FAULT_CLASSES))
    @STREAMED
    def test_a_vendor_that_fails_is_an_error_of_its_class_in_time_and_never_half_an_answer(
        self, harness: ChatHarness, kind: str, stream: bool
    ) -> None:
        need(harness, ChatFeature.SERVICE, *([ChatFeature.STREAMING] if stream else []))
        if kind not in harness.faults:
            pytest.skip(f"{kind}: the service cannot fail that way")
        expected = FAULT_CLASSES[kind]
        timeout_seconds = _SHORT_SECONDS if "timeout" in expected else harness.answer_seconds
        with opened(harness) as model:
            model.answer(harness.question(), timeout_seconds=harness.answer_seconds)
            harness.fail(Fault(kind))
            try:
                began = time.monotonic()
                with pytest.raises(ModelError) as caught:
                    model.answer(replace(harness.question(), stream=stream), timeout_seconds=timeout_seconds)
                took_seconds = time.monotonic() - began
            finally:
                harness.heal()
            assert caught.value.error_class in expected
            assert took_seconds < timeout_seconds + SLACK_SECONDS
            assert caught.value.retryable == (kind not in ("quota", "auth", "model_gone"))
            for message in harness.question().messages:
                assert message.content not in str(caught.value), "an error repeats the prompt"
            healed = model.answer(harness.question(), timeout_seconds=3 * harness.answer_seconds)
        assert healed.text, "the same handle answers again when the vendor does"

    def test_a_closed_model_refuses_and_closing_twice_does_nothing(self, harness: ChatHarness) -> None:
        model = harness.open()
        given = model.answer(harness.question(), timeout_seconds=harness.answer_seconds)
        assert isinstance(given, ChatAnswer)
        model.close()
        model.close()
        with pytest.raises(ExitrampError):
            model.answer(harness.question(), timeout_seconds=harness.answer_seconds)

    def test_it_says_who_it_is_without_being_asked_anything(self, harness: ChatHarness) -> None:
        with opened(harness) as model:
            found = model.identity()
            assert found.provider
            assert found.model
            assert found.model in found.address
            given = model.answer(harness.question(), timeout_seconds=harness.answer_seconds)
            assert model.identity().provider == found.provider
            assert given.model_id


class ChatWireConformance(ChatAskedConformance, ChatSaidConformance, ChatFailingConformance):
    """What the bytes of a vendor mean, in both directions, on a server that says them one by one."""


class ChatConformance(ChatAnswerConformance, ChatWireConformance):
    """Everything that a chat adapter is held to."""


__all__ = [
    "ASKED",
    "ChatAnswerConformance",
    "ChatConformance",
    "ChatFeature",
    "ChatHarness",
    "ChatWire",
    "ChatWireConformance",
    "Said",
    "WireError",
]
