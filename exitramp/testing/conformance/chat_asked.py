"""What a chat adapter sends: everything that was asked, or a refusal by name with nothing sent."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from typing import Final

import pytest

from exitramp.errors import ModelError
from exitramp.ports import ChatMessage, ChatRequest, ResponseFormat
from exitramp.testing.conformance.chat_harness import ASKED, ChatFeature, ChatHarness, Said, need
from exitramp.testing.conformance.chat_side import (
    ASK,
    CALLS,
    DEADLINE_SECONDS,
    OTHER_TOOL,
    SCHEMA,
    STREAMED,
    TEXT,
    TOOL,
    shown_errors,
    sides,
)
from exitramp.testing.scripted import ScriptedServer

_FEATURE_REQUESTS: Final = {
    ChatFeature.TOOLS: replace(ASK, tools=(TOOL, OTHER_TOOL)),
    ChatFeature.JSON_OBJECT: replace(ASK, response_format=ResponseFormat("json_object")),
    ChatFeature.JSON_SCHEMA: replace(ASK, response_format=ResponseFormat("json_schema", "size", SCHEMA)),
    ChatFeature.STOP: replace(ASK, stop=("\n\n", "END")),
    ChatFeature.TEMPERATURE: replace(ASK, temperature=0.7),
    ChatFeature.TOP_P: replace(ASK, top_p=0.9),
}


class ChatAskedConformance:
    """What arrives at the vendor."""

    @pytest.mark.parametrize(
        "asked",
        [
            replace(ASK, maximum_tokens=7),
            replace(ASK, messages=(ChatMessage("system", "Be brief, 世界."), *ASK.messages)),
            replace(ASK, messages=(*ASK.messages, ChatMessage("assistant", "Yes?"), ChatMessage("user", TEXT))),
        ],
        ids=["limit", "system", "conversation"],
    )
    @STREAMED
    def test_what_is_asked_arrives(self, harness: ChatHarness, asked: ChatRequest, stream: bool) -> None:
        need(harness, *([ChatFeature.STREAMING] if stream else []))
        asked = replace(asked, stream=stream, idempotency_key="key-1")
        with sides(harness) as side:
            side.says(Said("Yes."), stream=stream)
            side.model.answer(asked, timeout_seconds=DEADLINE_SECONDS)
            assert side.asked() == asked

    @pytest.mark.parametrize("feature", list(ASKED), ids=str)
    @STREAMED
    def test_what_is_asked_for_arrives_or_is_refused_by_name_with_nothing_sent(
        self, harness: ChatHarness, feature: ChatFeature, stream: bool
    ) -> None:
        need(harness, *([ChatFeature.STREAMING] if stream else []))
        asked = replace(_FEATURE_REQUESTS[feature], stream=stream, idempotency_key="key-1")
        with sides(harness) as side:
            side.says(Said("Yes."), stream=stream)
            if feature in harness.lacks:
                error = side.fails(asked)
                assert error.error_class == "invalid_request"
                assert ASKED[feature].lower() in error.message.lower(), "it does not say what it cannot be asked"
                assert not error.maybe_billed
                assert not side.server.arrived, "it was sent all the same, or without what was asked for"
            else:
                side.model.answer(asked, timeout_seconds=DEADLINE_SECONDS)
                found = side.asked()
                wanted = asked.response_format
                if wanted is not None and found.response_format is not None and not found.response_format.name:
                    asked = replace(asked, response_format=replace(wanted, name=""))
                assert found == asked

    @pytest.mark.parametrize("choice", ["auto", "none", "required", "weather"])
    def test_which_tool_may_be_called_arrives(self, harness: ChatHarness, choice: str) -> None:
        need(harness, ChatFeature.TOOLS)
        asked = replace(ASK, tools=(TOOL, OTHER_TOOL), tool_choice=choice, idempotency_key="key-1")
        with sides(harness) as side:
            side.says(Said("Yes."), stream=False)
            side.model.answer(asked, timeout_seconds=DEADLINE_SECONDS)
            assert side.asked() == asked

    def test_the_results_of_tools_arrive_with_the_calls_they_answer(self, harness: ChatHarness) -> None:
        need(harness, ChatFeature.TOOLS)
        messages = (
            *ASK.messages,
            ChatMessage("assistant", "", tool_calls=CALLS),
            ChatMessage("tool", '{"degrees": 21}', tool_call_id="call_1"),
            ChatMessage("tool", "noon", tool_call_id="call_2"),
        )
        asked = replace(ASK, messages=messages, tools=(TOOL, OTHER_TOOL), idempotency_key="key-1")
        with sides(harness) as side:
            side.says(Said("21 degrees at noon."), stream=False)
            side.model.answer(asked, timeout_seconds=DEADLINE_SECONDS)
            found = side.asked()
        assert [each.tool_call_id for each in found.messages] == [None, None, "call_1", "call_2"]
        assert [each.content for each in found.messages] == [each.content for each in messages]
        assert [json.loads(call.arguments) for call in found.messages[1].tool_calls] == [{"city": "Zürich 🏔"}, {}]
        assert [(call.id, call.name) for call in found.messages[1].tool_calls] == [
            (call.id, call.name) for call in CALLS
        ]

    def test_a_text_that_no_request_can_hold_is_an_invalid_request(self, harness: ChatHarness) -> None:
        """Half a surrogate pair is a character of Python's and of no encoding."""
        with sides(harness) as side:
            error = side.fails(replace(ASK, messages=(ChatMessage("user", "half \ud83d of a face"),)))
            assert error.error_class == "invalid_request"
            assert not error.maybe_billed

    def test_the_same_key_arrives_on_every_try_and_another_for_every_other_request(self, harness: ChatHarness) -> None:
        with sides(harness) as side:
            side.says(Said("Yes."), stream=False)
            for key in ("stable", "stable", None, None):
                side.model.answer(replace(ASK, idempotency_key=key), timeout_seconds=DEADLINE_SECONDS)
            first, again, *others = (harness.wire.asked(each).idempotency_key for each in side.server.arrived)
        assert first == again == "stable"
        assert None not in others, "a call without a key of the caller's gets one of its own"
        assert len(set(others)) == 2

    def test_the_api_key_arrives_and_shows_nowhere(self, harness: ChatHarness) -> None:
        with tempfile.NamedTemporaryFile("w", prefix="exitramp-suite-") as key:
            key.write("sesame-0123456789")
            key.flush()
            with ScriptedServer() as server:
                model = harness.open_at(server.base_url, key=f"file:{key.name}")
                shown = shown_errors(lambda: model.answer(ASK, timeout_seconds=0.5), server)
                assert harness.wire.key(server.arrived[-1]) == "sesame-0123456789"
            with pytest.raises(ModelError) as caught:  # nobody listens there any more
                model.answer(ASK, timeout_seconds=DEADLINE_SECONDS)
            shown += f"{caught.value} {caught.value!r} {model!r} {model.identity()!r}"
            model.close()
        assert "sesame-0123456789" not in shown
