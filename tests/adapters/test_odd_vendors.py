"""Vendors that answer in ways that no contract has: what they send is an answer as it is meant, or a named error."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from exitramp.errors import ModelError
from exitramp.ports import ChatAnswer, ChatMessage, ChatRequest, Embedded, Purpose
from exitramp.registry import open_chat, open_embedder


class Wire:
    """One answer of bytes to every request."""

    def __init__(self) -> None:
        self.answer = b""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                try:
                    read = b""
                    while b"\r\n\r\n" not in read:
                        read += connection.recv(65536)
                    head, _, body = read.partition(b"\r\n\r\n")
                    length = next(
                        int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-l")
                    )
                    while len(body) < length:
                        body += connection.recv(65536)
                    connection.sendall(self.answer)
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    def says(self, body: bytes | object, *, status: int = 200, **headers: str) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        told = {"content-type": "application/json", "content-length": str(len(raw)), "connection": "close"}
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"HTTP/1.1 {status} -", *(f"{name}: {value}" for name, value in told.items())]
        self.answer = "\r\n".join(lines).encode() + b"\r\n\r\n" + raw


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


@pytest.fixture(scope="module")
def models(wire: Wire) -> Iterator[dict[str, Any]]:
    opened: dict[str, Any] = {
        "openai": open_chat(f"openai:m?base_url=http://127.0.0.1:{wire.port}/v1"),
        "anthropic": open_chat(f"anthropic:m?base_url=http://127.0.0.1:{wire.port}"),
        "embedder": open_embedder(f"openai:m?base_url=http://127.0.0.1:{wire.port}/v1"),
    }
    yield opened
    for model in opened.values():
        model.close()


def _asked(models: dict[str, Any], kind: str = "openai", *, stream: bool = False) -> ChatAnswer | Embedded:
    if kind == "embedder":
        found: Embedded = models[kind].embed(["one", "two"], purpose=Purpose.DOCUMENT, timeout_seconds=5)
        return found
    request = ChatRequest((ChatMessage("user", "How?"),), stream=stream)
    answer: ChatAnswer = models[kind].answer(request, timeout_seconds=5)
    return answer


def _class(models: dict[str, Any], kind: str = "openai", *, stream: bool = False) -> str:
    with pytest.raises(ModelError) as caught:
        _asked(models, kind, stream=stream)
    return caught.value.error_class


def _openai(**changed: Any) -> dict[str, Any]:
    message = {"content": "hello"} | changed.pop("message", {})
    choice = {"index": 0, "message": message, "finish_reason": changed.pop("finish", "stop")}
    return {"model": "m", "choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 2}} | changed


def _anthropic(**changed: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": "hello"}]
    usage = {"input_tokens": 5, "output_tokens": 2}
    return {"type": "message", "model": "m", "content": content, "stop_reason": "end_turn", "usage": usage} | changed


def _called(**function: Any) -> dict[str, Any]:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"} | function}
    return _openai(message={"content": None, "tool_calls": [call]}, finish="tool_calls")


def _embedded(**changed: Any) -> dict[str, Any]:
    rows = [{"index": 0, "embedding": [1.0, 0.0]}, {"index": 1, "embedding": [0.0, 1.0]}]
    return {"model": "m", "data": rows, "usage": {"prompt_tokens": 2}} | changed


USAGES = [-5, "5", 5.7, float("inf"), float("nan"), 10**30, True, [1], {"a": 1}]


@pytest.mark.parametrize("count", USAGES, ids=str)
def test_a_count_of_tokens_that_cannot_be_is_no_answer(wire: Wire, models: dict[str, Any], count: object) -> None:
    found = []
    for kind, body in (
        ("openai", _openai(usage={"prompt_tokens": count, "completion_tokens": 2})),
        ("anthropic", _anthropic(usage={"input_tokens": count, "output_tokens": 2})),
        ("embedder", _embedded(usage={"prompt_tokens": count})),
    ):
        wire.says(body)
        found.append(_class(models, kind))
    assert found == ["malformed"] * 3


WRONG: dict[str, tuple[str, object]] = {
    "more cached than read": (
        "openai",
        _openai(usage={"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 6}}),
    ),
    "a usage of words": ("anthropic", _anthropic(usage="lots")),
    "a reason that is an object": ("openai", _openai(finish={"a": 1})),
    "a reason that is a list": ("anthropic", _anthropic(stop_reason=["end_turn"])),
    "a reason of a book": ("openai", _openai(finish="x" * 5000)),
    "arguments that are an object": ("openai", _called(arguments={"a": 1})),
    "a tool without a name": ("openai", _called(name="")),
    "a tool named by a number": ("openai", _called(name=7)),
    "a model named by an object": ("openai", _openai(model={"a": 1})),
    "half a surrogate pair": ("openai", b'{"choices": [{"message": {"content": "\\ud800"}, "finish_reason": "stop"}]}'),
    "a place that is infinite": ("embedder", _embedded(data=[{"index": 1e999, "embedding": [1.0]}] * 2)),
    "a number beyond all numbers": ("embedder", _embedded(data=[{"embedding": [10**400]}, {"embedding": [1]}])),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_in_the_shape_is_malformed_and_never_a_traceback(
    wire: Wire, models: dict[str, Any], name: str
) -> None:
    kind, body = WRONG[name]
    wire.says(body)
    assert _class(models, kind) == "malformed"


@pytest.mark.parametrize(
    ("kind", "body"), [("openai", _openai()), ("anthropic", _anthropic()), ("embedder", _embedded())]
)
def test_an_error_beside_an_answer_is_an_error(
    wire: Wire, models: dict[str, Any], kind: str, body: dict[str, Any]
) -> None:
    wire.says(body | {"error": {"type": "overloaded_error", "message": "later"}})
    assert _class(models, kind) == "overloaded"
    wire.says(body | {"error": None})
    _asked(models, kind)


def _chunk(text: str | None, finish: str | None = None) -> str:
    delta = {} if text is None else {"content": text}
    data = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "error": None}
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


STREAM = (_chunk("Grüße ") + _chunk("日本") + _chunk(None, "stop") + "data: [DONE] \n\n").encode()


@pytest.mark.parametrize("kind", ["text/event-stream", "Text/Event-Stream; charset=utf-8"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "marked"])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_a_stream_is_whole_whatever_stands_before_or_around_it(
    wire: Wire, models: dict[str, Any], kind: str, mark: bytes, coding: str
) -> None:
    body = mark + STREAM
    wire.says(gzip.compress(body) if coding == "gzip" else body, content_type=kind, content_encoding=coding)
    answer = _asked(models, stream=True)
    assert isinstance(answer, ChatAnswer)
    assert (answer.text, answer.finish_reason) == ("Grüße 日本", "stop")


def test_tokens_of_tools_are_estimated_where_nobody_counts(wire: Wire, models: dict[str, Any]) -> None:
    body = _called(arguments=json.dumps({"city": "x" * 400}))
    del body["usage"]
    wire.says(body)
    answer = _asked(models)
    assert isinstance(answer, ChatAnswer)
    assert answer.usage.source == "estimated"
    assert answer.usage.gen_tokens > 100


def test_a_bomb_of_gzip_ends_at_the_limit(wire: Wire, models: dict[str, Any]) -> None:
    inner = gzip.compress(b" " * (64 << 20), 9)
    for raw, coding in ((inner, "gzip"), (gzip.compress(inner), "gzip, gzip")):
        for status, wanted in ((200, "malformed"), (500, "server_error")):
            wire.says(raw, status=status, content_encoding=coding)
            assert _class(models) == wanted


QUOTAS: list[object] = [
    {"error": "insufficient_quota"},
    {"error": {"code": "INSUFFICIENT_QUOTA", "message": "no"}},
    {"error": {"error": {"code": "insufficient_quota"}}},
    {"error": {"message": {"code": "insufficient_quota"}}},
    {"detail": {"code": "insufficient_quota"}},
    {"errors": [{"code": "insufficient_quota"}]},
    [{"error": {"code": "insufficient_quota"}}],
    {"code": "insufficient_quota", "message": "no"},
    b"insufficient_quota",
]


@pytest.mark.parametrize("body", QUOTAS, ids=str)
def test_a_used_up_quota_is_known_in_every_shape(wire: Wire, models: dict[str, Any], body: object) -> None:
    wire.says(body, status=429)
    assert _class(models) == "quota_exhausted"


@pytest.mark.parametrize("value", ["inf", "nan", "9" * 400, "soon"])
def test_a_wait_that_no_clock_can_tell_is_none(wire: Wire, models: dict[str, Any], value: str) -> None:
    wire.says({"error": {"message": "slow"}}, status=429, retry_after=value)
    with pytest.raises(ModelError) as caught:
        _asked(models)
    assert caught.value.retry_after_seconds is None
