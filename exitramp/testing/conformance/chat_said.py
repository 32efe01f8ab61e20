"""What a chat adapter makes of an answer that is one: text, pieces, tool calls, usage."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from exitramp.errors import ModelError
from exitramp.ports import ChatDelta, ToolCall
from exitramp.records import Usage
from exitramp.testing.conformance.chat_harness import ChatFeature, ChatHarness, Said, need
from exitramp.testing.conformance.chat_side import (
    ASK,
    CALLS,
    DEADLINE_SECONDS,
    OTHER_TOOL,
    PIECES,
    STREAMED,
    TEXT,
    TOOL,
    sides,
)
from exitramp.testing.scripted import EVENTS, Reply


class ChatSaidConformance:
    """What comes back from the vendor, whole and streamed."""

    @STREAMED
    def test_text_usage_and_finish_are_what_the_vendor_said(self, harness: ChatHarness, stream: bool) -> None:
        need(harness, *([ChatFeature.STREAMING] if stream else []))
        written = 0 if ChatFeature.CACHE_WRITES in harness.lacks else 20
        usage = Usage(210, 8, cache_read_tokens=150, cache_write_tokens=written)
        with sides(harness) as side:
            for finish in ("stop", "length"):
                side.says(Said(TEXT, finish=finish, usage=usage), stream=stream, pieces=PIECES)
                given = side.model.answer(replace(ASK, stream=stream), timeout_seconds=DEADLINE_SECONDS)
                assert given.text == TEXT
                assert given.finish_reason == finish
                assert given.usage == usage, "prompt tokens hold those that came from the vendor's cache or went there"
                assert not given.tool_calls

    @STREAMED
    def test_an_end_that_nobody_knows_yet_is_told_by_the_vendors_own_word(
        self, harness: ChatHarness, stream: bool
    ) -> None:
        need(harness, *([ChatFeature.STREAMING] if stream else []))
        with sides(harness) as side:
            side.says(Said(TEXT, finish="out_of_breath"), stream=stream, pieces=PIECES)
            given = side.model.answer(replace(ASK, stream=stream), timeout_seconds=DEADLINE_SECONDS)
            assert given.finish_reason == "out_of_breath", "it may not have stopped by itself, and nobody knows"

    @STREAMED
    def test_what_the_model_thought_is_counted_among_what_it_generated(
        self, harness: ChatHarness, stream: bool
    ) -> None:
        need(harness, ChatFeature.REASONING, *([ChatFeature.STREAMING] if stream else []))
        usage = Usage(210, 50, cache_read_tokens=150, reasoning_tokens=42)
        with sides(harness) as side:
            side.says(Said(TEXT, usage=usage), stream=stream, pieces=PIECES)
            given = side.model.answer(replace(ASK, stream=stream), timeout_seconds=DEADLINE_SECONDS)
        assert given.usage == usage, "gen_tokens are all that is billed as generated, reasoning_tokens a part of them"

    @STREAMED
    def test_what_the_model_thought_is_no_part_of_its_answer(self, harness: ChatHarness, stream: bool) -> None:
        need(harness, ChatFeature.THOUGHTS, *([ChatFeature.STREAMING] if stream else []))
        told: list[ChatDelta] = []
        with sides(harness) as side:
            side.says(Said(TEXT, thought="Let me think."), stream=stream, pieces=PIECES)
            asked = replace(ASK, stream=stream)
            given = side.model.answer(asked, timeout_seconds=DEADLINE_SECONDS, on_delta=told.append)
        assert given.text == TEXT
        assert "".join(each.text for each in told) == (TEXT if stream else "")

    @STREAMED
    def test_tokens_that_the_vendor_does_not_count_are_estimated_and_called_that(
        self, harness: ChatHarness, stream: bool
    ) -> None:
        need(harness, *([ChatFeature.STREAMING] if stream else []))
        with sides(harness) as side:
            side.says(Said(TEXT, usage=None), stream=stream, pieces=PIECES)
            usage = side.model.answer(replace(ASK, stream=stream), timeout_seconds=DEADLINE_SECONDS).usage
        assert usage.source == "estimated"
        assert usage.prompt_tokens > 0
        assert usage.gen_tokens > 0

    def test_pieces_are_told_as_they_come_and_not_when_all_have(self, harness: ChatHarness) -> None:
        need(harness, ChatFeature.STREAMING)
        told: list[ChatDelta] = []
        with sides(harness) as side:
            whole = side.reply(Said(TEXT), stream=True, pieces=PIECES)
            side.server.answer(replace(whole, parts=whole.parts[:-1], ending="hang"))
            with pytest.raises(ModelError):
                side.model.answer(replace(ASK, stream=True), timeout_seconds=0.8, on_delta=told.append)
        text = "".join(each.text for each in told)
        assert text, "pieces had come, and nobody was told"
        assert TEXT.startswith(text)

    @pytest.mark.parametrize("size", [1, 7, 100_000])
    def test_a_stream_is_the_same_however_it_is_cut_into_packets(self, harness: ChatHarness, size: int) -> None:
        need(harness, ChatFeature.STREAMING)
        told: list[ChatDelta] = []
        with sides(harness) as side:
            whole = b"".join(side.reply(Said(TEXT), stream=True, pieces=PIECES).parts)
            packets = tuple(whole[at : at + size] for at in range(0, len(whole), size))
            side.server.answer(Reply(packets, content_type=EVENTS))
            given = side.model.answer(replace(ASK, stream=True), timeout_seconds=DEADLINE_SECONDS, on_delta=told.append)
        assert given.text == TEXT
        assert "".join(each.text for each in told) == TEXT

    @STREAMED
    def test_tool_calls_come_whole_with_name_id_and_arguments(self, harness: ChatHarness, stream: bool) -> None:
        need(harness, ChatFeature.TOOLS, *([ChatFeature.STREAMING] if stream else []))
        asked = replace(ASK, tools=(TOOL, OTHER_TOOL), stream=stream)
        told: list[ChatDelta] = []
        with sides(harness) as side:
            for text in ("", "Let me look."):
                told.clear()
                side.says(Said(text, CALLS, finish="tool_calls"), stream=stream)
                given = side.model.answer(asked, timeout_seconds=DEADLINE_SECONDS, on_delta=told.append)
                assert given.text == text
                assert given.finish_reason == "tool_calls"
                assert [(call.id, call.name) for call in given.tool_calls] == [(call.id, call.name) for call in CALLS]
                assert [json.loads(call.arguments) for call in given.tool_calls] == [{"city": "Zürich 🏔"}, {}]
                if stream:
                    assert _together(told)[0] == given.tool_calls[0], "the pieces put together are the call"

    @STREAMED
    def test_an_answer_of_nothing_is_no_answer(self, harness: ChatHarness, stream: bool) -> None:
        need(harness, *([ChatFeature.STREAMING] if stream else []))
        with sides(harness) as side:
            side.says(Said(""), stream=stream)
            assert side.fails(replace(ASK, stream=stream)).error_class == "malformed"


def _together(told: Sequence[ChatDelta]) -> list[ToolCall]:
    """The calls that the pieces make, in the order of their places."""
    calls: dict[int, ToolCall] = {}
    for delta in told:
        if delta.tool_call is not None:
            place, piece = delta.tool_call
            so_far = calls.get(place, ToolCall("", "", ""))
            calls[place] = ToolCall(
                so_far.id or piece.id, so_far.name or piece.name, so_far.arguments + piece.arguments
            )
    return [calls[place] for place in sorted(calls)]
