"""What a chat adapter makes of what a vendor may say: every claim on a server that says it byte by byte."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Final

import pytest

from exitramp.errors import MODEL_ERROR_CLASSES, RETRYABLE_MODEL_ERRORS, ModelError
from exitramp.ports import ChatDelta, ChatMessage, ChatModel, ChatRequest, ResponseFormat, ToolCall, ToolSpec
from exitramp.records import Usage
from exitramp.testing.conformance.chat_harness import ASKED, ChatFeature, ChatHarness, Said, WireError, need
from exitramp.testing.scripted import EVENTS, Reply, ScriptedServer, port_that_takes_nobody

SECRET: Final = "kingfisher at dawn over the quiet river"
ASK: Final = ChatRequest((ChatMessage("user", SECRET),), temperature=None)
TOOL: Final = ToolSpec("weather", "In a city", {"type": "object", "properties": {"city": {"type": "string"}}})
OTHER_TOOL: Final = ToolSpec("clock", "", {"type": "object", "properties": {}})
SCHEMA: Final = {"type": "object", "properties": {"größe": {"type": "integer"}}, "required": ["größe"]}
CALLS: Final = (ToolCall("call_1", "weather", '{"city":"Zürich 🏔"}'), ToolCall("call_2", "clock", "{}"))
TEXT: Final = 'Grüße, 世界 👩‍🚀: eins\nzwei\t"drei" \\ vier.'
PIECES: Final = ("Grüße, 世", "界 👩‍🚀", ": eins\nzwei\t", '"drei" \\', " vier.")
DEADLINE_SECONDS: Final = 3.0
SLACK_SECONDS: Final = 1.5
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])

_FEATURE_REQUESTS: Final = {
    ChatFeature.TOOLS: replace(ASK, tools=(TOOL, OTHER_TOOL)),
    ChatFeature.JSON_OBJECT: replace(ASK, response_format=ResponseFormat("json_object")),
    ChatFeature.JSON_SCHEMA: replace(ASK, response_format=ResponseFormat("json_schema", "size", SCHEMA)),
    ChatFeature.STOP: replace(ASK, stop=("\n\n", "END")),
    ChatFeature.TEMPERATURE: replace(ASK, temperature=0.7),
    ChatFeature.TOP_P: replace(ASK, top_p=0.9),
}


class _Side:
    """An adapter and the scripted server that it talks to."""

    def __init__(self, harness: ChatHarness, server: ScriptedServer, model: ChatModel) -> None:
        self.harness, self.server, self.model = harness, server, model

    def says(self, said: Said, *, stream: bool, pieces: Sequence[str] | None = None) -> None:
        self.server.answer(self.reply(said, stream=stream, pieces=pieces))

    def reply(self, said: Said, *, stream: bool, pieces: Sequence[str] | None = None) -> Reply:
        wire = self.harness.wire
        if not stream:
            return Reply((_dump(wire.whole(said)),))
        events = wire.stream(said, pieces if pieces is not None else [said.text] if said.text else [])
        return Reply(tuple(events), content_type=EVENTS)

    def fails(self, asked: ChatRequest = ASK, *, seconds: float = DEADLINE_SECONDS) -> ModelError:
        with pytest.raises(ModelError) as caught:
            self.model.answer(asked, timeout_seconds=seconds)
        assert SECRET not in str(caught.value), "an error repeats the prompt"
        return caught.value

    def asked(self) -> ChatRequest:
        """What arrived last, in the port's words."""
        arrived = self.server.arrived[-1]
        assert arrived.path == self.harness.wire.path
        return self.harness.wire.asked(arrived)


@contextmanager
def sides(harness: ChatHarness, **options: str) -> Iterator[_Side]:
    with ScriptedServer() as server:
        model = harness.open_at(server.base_url, **options)
        try:
            yield _Side(harness, server, model)
        finally:
            model.close()


class ChatWireConformance:
    """What the bytes mean, in both directions."""

    # -- what is asked

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
                assert side.asked() == asked

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
        with tempfile.NamedTemporaryFile("w", prefix="exitramp-suite-") as key, ScriptedServer() as server:
            key.write("sesame-0123456789")
            key.flush()
            model = harness.open_at(server.base_url, key=f"file:{key.name}")
            body = {"error": {"type": "x", "message": "the key sesame-0123456789 is no good"}}
            server.answer(Reply((_dump(body),), status=401))
            with pytest.raises(ModelError) as caught:
                model.answer(ASK, timeout_seconds=DEADLINE_SECONDS)
            assert harness.wire.key(server.arrived[-1]) == "sesame-0123456789"
            shown = f"{caught.value} {caught.value!r} {model!r} {model.identity()!r}"
            model.close()
        assert "sesame-0123456789" not in shown

    # -- what is answered

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

    # -- what goes wrong

    @pytest.mark.parametrize("error_class", sorted(MODEL_ERROR_CLASSES))
    @STREAMED
    def test_each_error_of_the_vendors_has_its_class(
        self, harness: ChatHarness, error_class: str, stream: bool
    ) -> None:
        need(harness, *([ChatFeature.STREAMING] if stream else []))
        answers = harness.wire.error(error_class)
        if not answers:
            pytest.skip(f"{error_class}: the vendor has no answer of that class; it shows otherwise")
        with sides(harness) as side:
            for answer in answers:
                side.server.answer(_error_reply(answer))
                error = side.fails(replace(ASK, stream=stream))
                assert error.error_class == error_class
                assert error.http_status == answer.status
                assert error.retryable == (error_class in RETRYABLE_MODEL_ERRORS)

    def test_how_long_to_wait_is_read_in_seconds_milliseconds_and_as_a_date(self, harness: ChatHarness) -> None:
        [answer, *_] = harness.wire.error("rate_limit")
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=31), usegmt=True)
        with sides(harness) as side:
            for header, expected in (
                (("retry-after", "30"), 30.0),
                (("retry-after-ms", "30000"), 30.0),
                (("retry-after", date), 30.0),
                (("x-other", "30"), None),
                (("retry-after", "soon"), None),
            ):
                side.server.answer(_error_reply(WireError(answer.status, answer.body, (header,))))
                found = side.fails().retry_after_seconds
                assert found == (None if expected is None else pytest.approx(expected, abs=2.5))

    def test_an_error_in_the_middle_of_a_stream_is_no_answer(self, harness: ChatHarness) -> None:
        need(harness, ChatFeature.STREAMING)
        event = harness.wire.error_event()
        if event is None:
            pytest.skip("the vendor has no errors within a stream")
        with sides(harness) as side:
            parts = side.reply(Said(TEXT), stream=True, pieces=PIECES).parts
            side.server.answer(Reply((*parts[:3], event), content_type=EVENTS))
            error = side.fails(replace(ASK, stream=True))
        assert error.error_class in ("overloaded", "server_error")
        assert error.maybe_billed, "the work was begun"

    @pytest.mark.parametrize("ending", ["whole", "close", "reset"])
    def test_a_stream_that_ends_before_its_finish_is_truncated_wherever_it_ends(
        self, harness: ChatHarness, ending: str
    ) -> None:
        need(harness, ChatFeature.STREAMING)
        with sides(harness) as side:
            whole = side.reply(Said(TEXT, finish=None), stream=True, pieces=PIECES)
            for count in range(len(whole.parts)):
                cut = replace(whole, parts=(*whole.parts[:count], whole.parts[count][:-9]), ending=ending)  # type: ignore[arg-type]
                side.server.answer(cut)
                error = side.fails(replace(ASK, stream=True))
                assert error.error_class in ("truncated", "connection"), f"cut in event {count}"
                assert error.maybe_billed

    @STREAMED
    def test_an_answer_without_a_finish_reason_is_truncated(self, harness: ChatHarness, stream: bool) -> None:
        need(harness, *([ChatFeature.STREAMING] if stream else []))
        with sides(harness) as side:
            side.says(Said(TEXT, finish=None), stream=stream, pieces=PIECES)
            error = side.fails(replace(ASK, stream=stream))
        assert (error.error_class, error.maybe_billed) == ("truncated", True)

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b"<html></html>", b"\xff\xfe", b'"text"', b"null"])
    @STREAMED
    def test_what_is_not_in_the_shape_is_malformed(self, harness: ChatHarness, body: bytes, stream: bool) -> None:
        need(harness, *([ChatFeature.STREAMING] if stream else []))
        with sides(harness) as side:
            events = b"data: " + body + b"\n\n"
            side.server.answer(Reply((events,), content_type=EVENTS) if stream else Reply((body,)))
            error = side.fails(replace(ASK, stream=stream))
        assert error.error_class in ({"malformed", "truncated"} if stream else {"malformed"})
        assert error.maybe_billed, "an answer came, and it may be on the bill"

    def test_a_server_that_hangs_up_after_a_stream_spoils_no_later_call(self, harness: ChatHarness) -> None:
        """Some do, without saying so, and the next call can be on its way before that is known."""
        need(harness, ChatFeature.STREAMING)
        with sides(harness) as side:
            for stream in (True, False) * 20:
                reply = side.reply(Said(TEXT), stream=stream, pieces=PIECES)
                side.server.answer(replace(reply, ending="hang_up") if stream else reply)
                side.model.answer(replace(ASK, stream=stream), timeout_seconds=DEADLINE_SECONDS)

    # -- how long it takes

    def test_a_port_that_takes_nobody_ends_by_the_deadline_for_connecting(self, harness: ChatHarness) -> None:
        with port_that_takes_nobody() as port:
            model = harness.open_at(f"http://127.0.0.1:{port}", connect_seconds="0.3")
            began = time.monotonic()
            with pytest.raises(ModelError) as caught:
                model.answer(ASK, timeout_seconds=20.0)
            took_seconds = time.monotonic() - began
            model.close()
        assert caught.value.error_class in ("timeout", "connection")
        assert took_seconds < 0.3 + SLACK_SECONDS
        assert not caught.value.maybe_billed, "nothing was sent"

    def test_the_first_token_has_a_deadline_of_its_own_and_what_follows_has_not(self, harness: ChatHarness) -> None:
        need(harness, ChatFeature.STREAMING)
        with sides(harness, first_token_seconds="0.8") as side:
            whole = side.reply(Said(TEXT), stream=True, pieces=PIECES)
            side.server.answer(replace(whole, ending="hang", parts=()))
            began = time.monotonic()
            error = side.fails(replace(ASK, stream=True), seconds=20.0)
            assert time.monotonic() - began < 0.8 + SLACK_SECONDS
            assert (error.error_class, error.maybe_billed) == ("timeout", True)
            assert "first token" in error.message
            tail = whole.parts[-1]
            early = replace(whole, parts=(b"".join(whole.parts[:-1]), *(tail[at : at + 1] for at in range(len(tail)))))
            slow = replace(early, pause_seconds=1.2 / len(early.parts))
            side.server.answer(slow)
            given = side.model.answer(replace(ASK, stream=True), timeout_seconds=20.0)
            assert given.latency_ms > 900
            assert given.text == TEXT

    @pytest.mark.parametrize("how", ["silent", "headers", "drip"])
    @STREAMED
    def test_the_whole_has_a_deadline_although_bytes_come(self, harness: ChatHarness, how: str, stream: bool) -> None:
        """A limit per read starts anew with every byte."""
        need(harness, *([ChatFeature.STREAMING] if stream else []))
        with sides(harness) as side:
            whole = side.reply(Said(TEXT), stream=stream, pieces=PIECES)
            body = b"".join(whole.parts)
            drip = replace(whole, parts=tuple(body[at : at + 1] for at in range(len(body))), pause_seconds=0.05)
            waiting = {"silent": replace(whole, silent=True), "headers": replace(whole, parts=(), ending="hang")}
            side.server.answer(waiting.get(how, drip))
            began = time.monotonic()
            error = side.fails(replace(ASK, stream=stream), seconds=0.4)
            assert 0.39 <= time.monotonic() - began < 0.4 + SLACK_SECONDS
        assert (error.error_class, error.maybe_billed) == ("timeout", True)

    def test_a_port_that_refuses_cannot_have_billed(self, harness: ChatHarness) -> None:
        with ScriptedServer() as server:
            base_url = server.base_url
        model = harness.open_at(base_url)
        with pytest.raises(ModelError) as caught:
            model.answer(ASK, timeout_seconds=DEADLINE_SECONDS)
        model.close()
        assert (caught.value.error_class, caught.value.maybe_billed) == ("connection", False)
        assert caught.value.retryable


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


def _error_reply(answer: WireError) -> Reply:
    return Reply((_dump(answer.body),), status=answer.status, headers=dict(answer.headers))


def _dump(data: object) -> bytes:
    return json.dumps(data, ensure_ascii=False).encode()
