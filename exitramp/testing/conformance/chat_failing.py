"""What a chat adapter makes of a vendor that fails: classes, streams that break, what is no answer, late answers."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from exitramp.errors import MODEL_ERROR_CLASSES, RETRYABLE_MODEL_ERRORS, ModelError
from exitramp.testing.conformance.chat_harness import ChatFeature, ChatHarness, Said, WireError, need
from exitramp.testing.conformance.chat_side import (
    ASK,
    DEADLINE_SECONDS,
    PIECES,
    SECRET,
    SLACK_SECONDS,
    STREAMED,
    TEXT,
    error_reply,
    quoting,
    sides,
)
from exitramp.testing.scripted import EVENTS, Reply, ScriptedServer, port_that_takes_nobody


class ChatFailingConformance:
    """What goes wrong, and how long it may take."""

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
                side.server.answer(error_reply(answer))
                error = side.fails(replace(ASK, stream=stream))
                assert error.error_class == error_class
                assert error.http_status == answer.status
                assert error.retryable == (error_class in RETRYABLE_MODEL_ERRORS)
                if answer.retry_after_seconds is not None:
                    assert error.retry_after_seconds == pytest.approx(answer.retry_after_seconds)
                side.server.answer(error_reply(replace(answer, body=quoting(answer.body, SECRET))))
                side.fails(replace(ASK, stream=stream))

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
                side.server.answer(error_reply(WireError(answer.status, answer.body, (header,))))
                found = side.fails().retry_after_seconds
                assert found == (None if expected is None else pytest.approx(expected, abs=2.5))

    @STREAMED
    def test_an_answer_that_is_withheld_is_no_answer(self, harness: ChatHarness, stream: bool) -> None:
        """Neither what was said before it was withheld nor the vendor's word for it is what was asked for."""
        need(harness, ChatFeature.FILTER, *([ChatFeature.STREAMING] if stream else []))
        with sides(harness) as side:
            for text in (TEXT, ""):
                side.says(Said(text, finish="content_filter"), stream=stream)
                error = side.fails(replace(ASK, stream=stream))
                assert (error.error_class, error.maybe_billed) == ("content_filter", True)

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

    def test_a_port_that_refuses_cannot_have_billed(self, harness: ChatHarness) -> None:
        with ScriptedServer() as server:
            base_url = server.base_url
        model = harness.open_at(base_url)
        with pytest.raises(ModelError) as caught:
            model.answer(ASK, timeout_seconds=DEADLINE_SECONDS)
        model.close()
        assert (caught.value.error_class, caught.value.maybe_billed) == ("connection", False)
        assert caught.value.retryable

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
