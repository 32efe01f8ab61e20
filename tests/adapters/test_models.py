"""The chat adapters against mock vendors in processes of their own and against servers that misbehave byte by byte."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from exitramp.errors import AddressError, ConfigError, DataInvalid, ModelError, UsageError
from exitramp.faults import Fault
from exitramp.ports import ChatMessage, ChatModel, ChatRequest, Purpose, embed_all
from exitramp.ports.over_http.events import EventDecoder, ServerEvent
from exitramp.ports.over_http.exchange import ModelHttp, _Progress
from exitramp.ports.over_http.vendor_errors import VendorError, error_class_of, repeatable
from exitramp.records import Usage
from exitramp.secrets import MASK
from exitramp.urls import Address, Network
from exitramp_adapters.models import anthropic, openai, wordllama
from exitramp_adapters.services.extractive import QUALITIES, answer, count_tokens
from exitramp_adapters.services.mock_vendor.adapter import ANTHROPIC, OPENAI, MockVendor

PROMPT = """[passage os.path.join#0]
Join two or more pathname components, inserting '/' as needed. An absolute component discards those before it.
[/passage]
Question: How do I join pathname components?"""
SHAPES = {"openai": (OPENAI, openai.ADAPTER), "anthropic": (ANTHROPIC, anthropic.ADAPTER)}
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def request(*, stream: bool = False, key: str | None = "key-1", system: str = "Be brief.", **more: Any) -> ChatRequest:
    messages = (ChatMessage("system", system), ChatMessage("user", PROMPT))
    return ChatRequest(messages, idempotency_key=key, stream=stream, **more)


def open_chat(shape: str, address: Address) -> ChatModel:
    opener = SHAPES[shape][1].open_chat
    assert opener is not None
    return opener(address, Network())


class Side:
    """A mock vendor and the adapter that talks to it."""

    def __init__(self, shape: str, folder: Path, **options: Any) -> None:
        self.shape = shape
        vendor = SHAPES[shape][0].make(str(folder), 3, {"quality": "good"} | options)
        assert isinstance(vendor, MockVendor)
        self.vendor = vendor
        self.address = self.vendor.start()
        self.model = open_chat(shape, self.address)

    def fails(self, *, timeout_seconds: float = 3.0, **more: Any) -> ModelError:
        with pytest.raises(ModelError) as caught:
            self.model.answer(request(**more), timeout_seconds=timeout_seconds)
        return caught.value

    def end(self) -> None:
        self.model.close()
        self.vendor.stop()


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Side]]:
    made = {shape: Side(shape, tmp_path_factory.mktemp(shape), prompt_cache=True) for shape in SHAPES}
    yield made
    for side in made.values():
        side.end()


@pytest.fixture(params=list(SHAPES))
def side(request: pytest.FixtureRequest, sides: dict[str, Side]) -> Iterator[Side]:
    found = sides[request.param]
    found.vendor.inject(Fault("none"))
    yield found
    found.vendor.inject(Fault("none"))


# -- answers -------------------------------------------------------------------------------------------------------


@STREAMS
def test_an_answer_is_whole_and_says_who_gave_it(side: Side, stream: bool) -> None:
    given = side.model.answer(request(stream=stream), timeout_seconds=5)
    assert given.text == answer("Be brief.\n" + PROMPT, QUALITIES["good"])
    assert (given.finish_reason, given.model_id) == ("stop", "mock-large")
    assert given.vendor_request_id is not None
    assert given.vendor_request_id.startswith("req_mock")
    assert given.latency_ms > 0
    assert (given.time_to_first_token_ms is not None) == stream
    assert side.model.identity().is_mock
    assert side.model.identity().model == "mock-large"


@STREAMS
def test_usage_counts_cached_tokens_inside_the_prompt(side: Side, stream: bool) -> None:
    system = f"A long instruction, said to {stream} only."
    prompt_tokens = count_tokens(system + "\n" + PROMPT)
    for cached in (0, count_tokens(system)):
        given = side.model.answer(request(stream=stream, system=system), timeout_seconds=5)
        assert given.usage == Usage(prompt_tokens, count_tokens(given.text), cache_read_tokens=cached)


@STREAMS
def test_an_answer_cut_by_the_token_limit_says_length(side: Side, stream: bool) -> None:
    assert side.model.answer(request(stream=stream, maximum_tokens=3), timeout_seconds=5).finish_reason == "length"


def test_the_idempotency_key_of_the_request_reaches_the_vendor(side: Side) -> None:
    side.model.answer(request(key="stable-key"), timeout_seconds=5)
    side.model.answer(request(key=None), timeout_seconds=5)
    one, other = list(side.vendor.account())[-2:]
    assert one["request_sha256"] == hashlib.sha256(b"stable-key").hexdigest()
    assert other["request_sha256"] not in (None, one["request_sha256"])


def test_many_threads_get_each_their_own_answer(side: Side) -> None:
    def ask(number: int) -> tuple[int, str]:
        prompt = f"[passage p#{number}]\nNumber {number} is here.\n[/passage]\nQuestion: which number is here?"
        asked = ChatRequest((ChatMessage("user", prompt),), idempotency_key=f"thread-{number}", stream=number % 2 == 0)
        return number, side.model.answer(asked, timeout_seconds=20).text

    with ThreadPoolExecutor(16) as pool:
        for number, text in pool.map(ask, range(64)):
            assert text == f"Number {number} is here. [p#{number}]"


def test_a_mock_is_known_by_its_header_even_when_the_address_does_not_say_so(side: Side) -> None:
    options = {name: value for name, value in side.address.options.items() if name != "mock"}
    model = open_chat(side.shape, Address(side.shape, "mock-large", None, options))
    assert not model.identity().is_mock
    model.answer(request(), timeout_seconds=5)
    assert model.identity().is_mock
    model.close()


def test_a_temperature_is_sent_where_the_api_has_one_and_refused_where_not(sides: dict[str, Side]) -> None:
    side = sides["anthropic"]
    with pytest.raises(ModelError, match="no temperature") as caught:
        side.model.answer(request(temperature=0.5), timeout_seconds=5)
    assert (caught.value.error_class, caught.value.maybe_billed) == ("invalid_request", False)
    older = open_chat(
        "anthropic", Address("anthropic", "mock-large", None, {**side.address.options, "version": "2023-06-01"})
    )
    assert older.answer(request(temperature=0.5), timeout_seconds=5).finish_reason == "stop"
    older.close()


# -- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error_class", "status", "retryable", "maybe_billed"),
    [
        ("rate_limit", "rate_limit", 429, True, False),
        ("quota", "quota_exhausted", 429, False, False),
        ("error_500", "server_error", 500, True, False),
        ("unavailable", "overloaded", 503, True, False),
        ("overloaded", "overloaded", 529, True, False),
        ("auth", "auth", 401, False, False),
        ("model_gone", "model_gone", 404, False, False),
        ("malformed", "malformed", 200, True, True),
        ("truncate", "truncated", 200, True, True),
        ("reset", "truncated", 200, True, True),
        ("refuse", "connection", None, True, None),
        ("hang", "timeout", None, True, True),
    ],
)
@STREAMS
def test_each_fault_is_an_error_of_its_class_and_never_half_an_answer(
    side: Side, fault: str, error_class: str, status: int | None, retryable: bool, maybe_billed: bool, stream: bool
) -> None:
    side.vendor.inject(Fault(fault))
    error = side.fails(stream=stream, timeout_seconds=0.3 if fault == "hang" else 3.0)
    assert (error.error_class, error.http_status, error.retryable) == (error_class, status, retryable)
    if maybe_billed is not None:
        assert error.maybe_billed == maybe_billed
    assert "pathname" not in str(error)


def test_a_refused_connection_cannot_have_been_billed(side: Side) -> None:
    side.vendor.inject(Fault("refuse"))
    with contextlib.suppress(ModelError):
        side.model.answer(request(), timeout_seconds=3)  # breaks the connections that were kept
    error = side.fails()
    assert (error.error_class, error.maybe_billed) == ("connection", False)


@STREAMS
@pytest.mark.parametrize("after_bytes", [1, 40, 400])
def test_an_answer_cut_anywhere_is_truncated(side: Side, stream: bool, after_bytes: int) -> None:
    side.vendor.inject(Fault("truncate", {"after_bytes": after_bytes}))
    error = side.fails(stream=stream)
    assert (error.error_class, error.maybe_billed) == ("truncated", True)


@pytest.mark.parametrize("form", ["seconds", "milliseconds", "date"])
def test_retry_after_is_read_in_all_three_forms(side: Side, form: str) -> None:
    side.vendor.inject(Fault("rate_limit", {"retry_after_seconds": 30, "retry_after_form": form}))
    assert side.fails().retry_after_seconds == pytest.approx(30, abs=2)
    side.vendor.inject(Fault("rate_limit"))
    assert side.fails().retry_after_seconds is None


@STREAMS
def test_the_deadline_holds_although_the_server_drips(side: Side, stream: bool) -> None:
    side.vendor.inject(Fault("slow_stream", {"delay_seconds": 0.05}))
    began = time.monotonic()
    error = side.fails(stream=stream, timeout_seconds=0.3)
    assert 0.29 <= time.monotonic() - began < 0.8
    assert (error.error_class, error.maybe_billed) == ("timeout", True)


def test_the_first_token_has_a_deadline_of_its_own(side: Side) -> None:
    address = Address(side.shape, "mock-large", None, {**side.address.options, "first_token_seconds": "0.2"})
    model = open_chat(side.shape, address)
    model.answer(request(stream=True), timeout_seconds=5)
    side.vendor.inject(Fault("slow_first_token", {"delay_seconds": 1.0}))
    began = time.monotonic()
    with pytest.raises(ModelError, match="first token") as caught:
        model.answer(request(stream=True), timeout_seconds=5)
    assert time.monotonic() - began < 0.8
    assert caught.value.error_class == "timeout"
    side.vendor.inject(Fault("slow_stream", {"delay_seconds": 0.04}))  # slow after the first token is allowed
    assert model.answer(request(stream=True), timeout_seconds=10).finish_reason == "stop"
    model.close()


def test_a_context_that_is_too_long_is_told_from_a_bad_request(tmp_path: Path) -> None:
    for shape in SHAPES:
        side = Side(shape, tmp_path / shape, context_tokens=5)
        assert side.fails().error_class == "context_length"
        assert side.fails(temperature=9.0).error_class == "invalid_request"
        side.end()


def test_a_wrong_key_is_an_auth_error_that_does_not_show_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS_TEST_RIGHT", "right-key-0123")
    monkeypatch.setenv("MODELS_TEST_WRONG", "wrong-key-4567")
    for shape in SHAPES:
        side = Side(shape, tmp_path / shape, key="env:MODELS_TEST_RIGHT")
        side.model.answer(request(), timeout_seconds=5)
        wrong = Address(shape, "mock-large", None, {**side.address.options, "key": "env:MODELS_TEST_WRONG"})
        model = open_chat(shape, wrong)
        side.vendor.inject(Fault("auth", {"message": "the key wrong-key-4567 was revoked"}))
        with pytest.raises(ModelError) as caught:
            model.answer(request(), timeout_seconds=5)
        assert caught.value.error_class == "auth"
        assert "wrong-key-4567" not in str(caught.value)
        assert MASK in str(caught.value)
        model.close()
        side.end()


def test_a_vendors_words_are_repeated_without_secrets_or_the_prompt_and_cut(side: Side) -> None:
    planted = "bad sk-abcdefghijklmnop for 'join two or more Pathname components, inserting' with AKIAABCDEFGHIJKLMNOP"
    side.vendor.inject(Fault("error_500", {"message": planted + " x" * 500}))
    error = side.fails()
    for part in ("sk-abcdef", "AKIAABC", "pathname", "Pathname", "inserting"):
        assert part not in str(error)
    assert "[prompt]" in error.message
    assert len(error.message) < 280


@pytest.mark.parametrize(
    ("status", "error", "headers", "expected"),
    [
        (400, VendorError("invalid_request_error", "", "Your credit balance is too low"), {}, "quota_exhausted"),
        (400, VendorError("", "", "reached your specified API usage limits"), {}, "quota_exhausted"),
        (402, VendorError("billing_error"), {}, "quota_exhausted"),
        (429, VendorError("rate_limit_error", "enforced_spend_limit_reached"), {}, "quota_exhausted"),
        (429, VendorError("", "organization_spend_limit_exceeded"), {}, "quota_exhausted"),
        (429, VendorError("rate_limit_error", "ramp_limit_exceeded"), {}, "rate_limit"),
        (403, VendorError("permission_error"), {}, "auth"),
        (429, VendorError(), {"x-should-retry": "false"}, "quota_exhausted"),
        (429, VendorError("tokens", "rate_limit_exceeded"), {}, "rate_limit"),
        (400, VendorError("", "context_length_exceeded"), {}, "context_length"),
        (400, VendorError("", "", "exceeds the available context size"), {}, "context_length"),
        (413, VendorError("request_too_large"), {}, "context_length"),
        (400, VendorError("", "content_filter"), {}, "content_filter"),
        (400, VendorError("invalid_request_error", "model_not_found"), {}, "model_gone"),
        (404, VendorError("invalid_request_error", "", "Invalid URL (POST /chat)"), {}, "invalid_request"),
        (410, VendorError(), {}, "model_gone"),
        (422, VendorError(), {}, "invalid_request"),
        (302, VendorError(), {}, "invalid_request"),
        (408, VendorError(), {}, "timeout"),
        (409, VendorError(), {}, "server_error"),
        (502, VendorError(), {}, "server_error"),
        (504, VendorError(), {}, "server_error"),
        (None, VendorError("overloaded_error"), {}, "overloaded"),
        (None, VendorError("something_new"), {}, "server_error"),
    ],
)  # fmt: skip
def test_errors_seen_in_the_wild_have_their_class(
    status: int | None, error: VendorError, headers: dict[str, str], expected: str
) -> None:
    assert error_class_of(status, error, headers) == expected


def test_every_exception_of_the_client_library_becomes_a_model_error() -> None:
    import asyncio

    def below(kind: type) -> Iterator[type]:
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    http = ModelHttp(Address.parse("openai:m?base_url=http://127.0.0.1:9/v1"), Network(), provider="p", example_url="")
    kinds = [*below(httpx.HTTPError), *below(httpx.StreamError), httpx.InvalidURL]
    assert len(kinds) > 15

    async def meet(error: Exception) -> None:
        async with http._translated(_Progress(0.0), 5.0, None):
            raise error

    for kind in kinds:
        error = kind.__new__(kind)
        Exception.__init__(error, "sk-secretsecretsecret")
        with pytest.raises(ModelError) as caught:
            asyncio.run(meet(error))
        assert "sk-secret" not in str(caught.value)


# -- servers that keep to no contract ------------------------------------------------------------------------------


@contextlib.contextmanager
def server(behave: Callable[[socket.socket], None]) -> Iterator[Address]:
    """Takes connections on loopback, reads a request and then does what it likes."""
    listening = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def take(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65536)
            behave(connection)
            ended.wait(0.01)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=take, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield Address.parse(f"openai:m?base_url=http://127.0.0.1:{listening.getsockname()[1]}/v1")
    ended.set()
    listening.close()


def raw(body: bytes, content_type: str = "application/json", status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def error_from(behave: Callable[[socket.socket], None], *, stream: bool = False, seconds: float = 3.0) -> ModelError:
    with server(behave) as address:
        model = open_chat("openai", address)
        with pytest.raises(ModelError) as caught:
            model.answer(request(stream=stream), timeout_seconds=seconds)
        model.close()
    return caught.value


def test_the_deadline_holds_although_the_headers_drip() -> None:
    """A timeout per read starts anew with every byte; this server sends a header byte every 20 ms, for ever."""

    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nx-slow: ")
        for _ in range(500):
            connection.sendall(b"a")
            time.sleep(0.02)

    began = time.monotonic()
    assert error_from(drip, seconds=0.4).error_class == "timeout"
    assert time.monotonic() - began < 1.2


def test_an_error_status_is_enough_when_its_body_never_ends() -> None:
    def stall(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 503 Unavailable\r\ncontent-length: 100\r\n\r\n{")
        time.sleep(1.0)

    error = error_from(stall, seconds=0.5)
    assert (error.error_class, error.http_status) == ("overloaded", 503)


def chunk(**choice: Any) -> bytes:
    return b"data: " + json.dumps({"model": "m", "choices": [{"index": 0, **choice}]}).encode() + b"\n\n"


BAD = "malformed"
STREAM = "text/event-stream"
HELLO = chunk(delta={"content": "Hello"}, finish_reason=None)
STOP = chunk(delta={}, finish_reason="stop")


@pytest.mark.parametrize(
    ("body", "content_type", "stream", "error_class"),
    [
        (HELLO, STREAM, True, "truncated"),
        (HELLO + b"data: [DONE]\n\n", STREAM, True, "truncated"),
        (HELLO + STOP[:-2], STREAM, True, "truncated"),
        (HELLO + b"data: {\n\n" + STOP, STREAM, True, "malformed"),
        (HELLO + b"data: [1]\n\n" + STOP, STREAM, True, "malformed"),
        (HELLO + b"data: \xff\n\n" + STOP, STREAM, True, "malformed"),
        (STOP, STREAM, True, "malformed"),
        (HELLO + b'data: {"error": {"type": "overloaded_error"}}\n\n', STREAM, True, "overloaded"),
        (HELLO + chunk(delta={}, finish_reason="content_filter"), STREAM, True, "content_filter"),
        (b"{}", "application/json", True, "malformed"),
        (b"<html>", "text/html", False, "malformed"),
        (b"[]", "application/json", False, "malformed"),
        (b"{}", "application/json", False, "malformed"),
        (b'{"choices": []}', "application/json", False, "malformed"),
        (b'{"choices": [{"message": {"content": null}, "finish_reason": "stop"}]}', "", False, "malformed"),
        (b'{"choices": [{"message": {"content": 7}, "finish_reason": "stop"}]}', "", False, "malformed"),
        (b'{"choices": [{"message": {"content": "x"}, "finish_reason": null}]}', "", False, "truncated"),
        (b'{"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": {}}', "", False, None),
        (b'{"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": {"a": 1}}', "", False, BAD),
        (b'{"choices": [{"message": {"refusal": "no"}, "finish_reason": "stop"}]}', "", False, "content_filter"),
        (b'{"error": {"message": "no", "type": "server_error"}}', "", False, "server_error"),
        (b"[" * 100_000, "", False, "malformed"),
    ],
)  # fmt: skip
def test_half_and_broken_answers_are_never_taken_for_whole_ones(
    body: bytes, content_type: str, stream: bool, error_class: str | None
) -> None:
    with server(lambda connection: connection.sendall(raw(body, content_type))) as address:
        model = open_chat("openai", address)
        if error_class is None:
            assert model.answer(request(stream=stream), timeout_seconds=3).usage.source == "estimated"
        else:
            with pytest.raises(ModelError) as caught:
                model.answer(request(stream=stream), timeout_seconds=3)
            assert caught.value.error_class == error_class
            assert caught.value.maybe_billed
        model.close()


def test_a_stream_that_is_done_is_not_waited_for() -> None:
    def linger(connection: socket.socket) -> None:
        connection.sendall(f"HTTP/1.1 200 OK\r\ncontent-type: {STREAM}\r\ncontent-length: 99999\r\n\r\n".encode())
        connection.sendall(HELLO + STOP + b"data: [DONE]\n\n")
        time.sleep(2.0)

    with server(linger) as address:
        model = open_chat("openai", address)
        began = time.monotonic()
        given = model.answer(request(stream=True), timeout_seconds=3)
        assert (given.text, given.usage.source) == ("Hello", "estimated")
        assert time.monotonic() - began < 1.0
        model.close()


def test_an_answer_without_end_is_given_up() -> None:
    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        while True:
            connection.sendall(b" " * 1_000_000)

    assert error_from(flood, seconds=20).error_class == "malformed"


def test_closing_ends_a_call_that_is_under_way() -> None:
    asked = threading.Event()

    def hang(connection: socket.socket) -> None:
        asked.set()
        time.sleep(2.0)

    with server(hang) as address:
        model = open_chat("openai", address)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(model.answer, request(), timeout_seconds=30)
            assert asked.wait(5)
            model.close()
            with pytest.raises(ModelError, match="closed"):
                waiting.result(5)
        with pytest.raises(UsageError, match="closed"):
            model.answer(request(), timeout_seconds=1)


def test_events_are_found_whatever_the_chunks_and_line_ends() -> None:
    stream = b"event: a\r\ndata: 1\r\ndata: 2\r\n\r\n: ping\n\ndata:\xc3\xa9\r\rdata: never ended\n"
    expected = [ServerEvent("a", "1\n2"), ServerEvent("", "é")]
    for size in (1, 2, 3, 7, 1000):
        decoder = EventDecoder()
        found = [event for at in range(0, len(stream), size) for event in decoder.feed(stream[at : at + size])]
        assert found == expected


# -- addresses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("openai:m", AddressError, "base_url"),
        ("openai:m?base_url=ftp://x", AddressError, "base_url"),
        ("openai:m?base_url=http://user:pw@127.0.0.1/v1", AddressError, "password"),
        ("openai:m?base_url=https://api.example.com/v1", ConfigError, "key"),
        ("openai:m?base_url=http://127.0.0.1/v1&key=sk-abcdefghijkl", ConfigError, "reference"),
        ("openai:m?base_url=http://127.0.0.1/v1&colour=red", AddressError, "colour"),
        ("openai:m?base_url=http://127.0.0.1/v1&connect_seconds=soon", AddressError, "connect_seconds"),
        ("openai:m?base_url=http://127.0.0.1/v1&max_tokens_field=x", AddressError, "max_tokens_field"),
        ("anthropic:m?base_url=http://127.0.0.1&version=2024-01-01", AddressError, "version"),
        ("anthropic:m?base_url=http://127.0.0.1&mock=perhaps", AddressError, "mock"),
    ],
)
def test_an_address_that_cannot_work_says_why(text: str, error: type[Exception], match: str) -> None:
    address = Address.parse(text)
    with pytest.raises(error, match=match) as caught:
        open_chat(address.scheme, address)
    assert "sk-abcdefghijkl" not in str(caught.value)


def test_short_prompts_and_long_words_are_not_repeated_either() -> None:
    assert repeatable("you said 'hunter2hunter2', no", "hunter2hunter2") == "you said '[prompt]', no"
    assert "confidentialproject" not in repeatable(
        "no confidentialproject here", "about confidentialproject now please"
    )


# -- the static embedder -------------------------------------------------------------------------------------------


def test_the_static_embedder_says_which_weights_it_has_and_gives_unit_vectors() -> None:
    opener = wordllama.ADAPTER.open_embedder
    assert opener is not None
    unit = opener(Address.parse("wordllama:"), Network())
    model = unit.model()
    assert (model.provider, model.pooling, model.normalisation) == ("wordllama", "mean", "l2")
    assert (model.query_prefix, model.passage_prefix) == ("", "")
    assert model.revision.startswith("sha256:")
    assert len(model.revision) == 7 + 64
    texts = ["Join two paths.", "x", *(f"word {number} " * number for number in range(1, 40))]
    vectors = embed_all(unit, texts, purpose=Purpose.DOCUMENT)
    assert vectors.shape == (len(texts), unit.dimensions)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    assert np.array_equal(vectors, np.vstack([embed_all(unit, [text], purpose=Purpose.QUERY) for text in texts]))


def test_raw_vectors_keep_their_norms() -> None:
    opener = wordllama.ADAPTER.open_embedder
    assert opener is not None
    raw_vectors = opener(Address.parse("wordllama:?normalise=false"), Network())
    unit = opener(Address.parse("wordllama:"), Network())
    texts = ["Join two paths.", "x", "Serialize an object to a string."]
    raw, ones = (embed_all(each, texts, purpose=Purpose.DOCUMENT) for each in (raw_vectors, unit))
    norms = np.linalg.norm(raw, axis=1, keepdims=True)
    assert norms.max() / norms.min() > 1.5
    assert np.allclose(raw / norms, ones, atol=1e-6)
    assert raw_vectors.model().normalisation == "none"
    with pytest.raises(DataInvalid, match="text 1 of 2"):
        unit.embed(["a", ""], purpose=Purpose.DOCUMENT)
    with pytest.raises(AddressError, match="normalise"):
        opener(Address.parse("wordllama:?normalise=perhaps"), Network())


def test_opening_models_leaves_root_logging_as_it_was() -> None:
    script = (
        "import logging; root = logging.getLogger(); before = (list(root.handlers), root.level)\n"
        "import sys; from exitramp_adapters.models import openai, anthropic, wordllama\n"
        "assert not {'httpx', 'numpy', 'wordllama'} & set(sys.modules)\n"
        "from exitramp.urls import Address, Network\n"
        "wordllama.ADAPTER.open_embedder(Address.parse('wordllama:'), Network()).count_tokens(['a'])\n"
        "openai.ADAPTER.open_chat(Address.parse('openai:m?base_url=http://127.0.0.1:9/v1'), Network())\n"
        "assert before == (list(root.handlers), root.level)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
