"""One exchange with a chat model as it is kept: by what it is found again, and what was answered or went wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from exitramp.canonical import dumps
from exitramp.errors import MODEL_ERROR_CLASSES, ModelError
from exitramp.ports.chat import ChatAnswer, ChatMessage, ChatRequest, ToolCall
from exitramp.records import Usage
from exitramp.secrets import redact, redacted

VERSION: Final = 2
"""Version 1 knew answers only; it is still read."""
_READABLE: Final = (1, VERSION)


def normalised(model: str, request: ChatRequest, other: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What of `request` decides about its answer, in one form for every shape.

    System messages are joined; a tool call's id is replaced by its place; a temperature of 0 and none are the same, as
    are a tool choice of `auto` and none; the format's name, streaming and the idempotency key do not count.
    `other` is what a shape knows beyond a `ChatRequest`.
    """
    places = {call.id: place for place, call in enumerate(c for m in request.messages for c in m.tool_calls)}
    wanted = request.response_format
    return {
        "model": model,
        "system": "\n\n".join(message.content for message in request.messages if message.role == "system"),
        "messages": [_message(message, places) for message in request.messages if message.role != "system"],
        "maximum_tokens": request.maximum_tokens,
        "temperature": float(request.temperature) if request.temperature else None,
        "top_p": None if request.top_p is None else float(request.top_p),
        "stop": list(request.stop),
        "tools": [[tool.name, tool.description, dict(tool.parameters)] for tool in request.tools],
        "tool_choice": None if request.tool_choice == "auto" else request.tool_choice,
        "response_format": None if wanted is None else [wanted.kind, dict(wanted.schema)],
        "other": dict(other or {}),
    }


def request_key(model: str, request: ChatRequest, other: Mapping[str, Any] | None = None) -> str:
    """The SHA-256, in hex, under which the answer to `request` is kept."""
    return hashlib.sha256(dumps(normalised(model, request, other)).encode()).hexdigest()


def _message(message: ChatMessage, places: Mapping[str, int]) -> dict[str, Any]:
    said: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        said["calls"] = [[call.name, _parsed(call.arguments)] for call in message.tool_calls]
    if message.tool_call_id is not None:
        said["answers"] = places.get(message.tool_call_id, -1)
    return said


def _parsed(arguments: str) -> Any:
    """The value of a call's arguments, so that blanks between its parts do not count; the text if it is no JSON."""
    try:
        return json.loads(arguments or "{}")
    except ValueError:
        return arguments


@dataclass(frozen=True, slots=True)
class RecordedError:
    """A failure, without the vendor's words: those may quote the prompt or the key."""

    error_class: str
    http_status: int | None = None
    retry_after_seconds: float | None = None
    maybe_billed: bool = False

    @classmethod
    def of(cls, error: ModelError) -> Self:
        return cls(error.error_class, error.http_status, error.retry_after_seconds, error.maybe_billed)


@dataclass(frozen=True, slots=True)
class Streamed:
    """How an answer came in pieces: the characters of each piece of text, and when the first one was there.

    `pieces` is empty where a secret was masked in the text, since their places moved.
    """

    pieces: tuple[int, ...]
    first_token_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """One recorded answer, or one recorded failure (`answer` None).

    request: what `normalised` made of the request, scrubbed, where it was kept. asked_by: the SHA-256 of the request's
    idempotency key, which tells repeats of a question apart. replaces: failures before it that the same asker got
    are void.
    """

    key: str
    model: str
    provider: str
    recorded_at: str
    is_mock: bool
    answer: ChatAnswer | None
    request: Mapping[str, Any] | None = field(default=None, hash=False)
    error: RecordedError | None = None
    streamed: Streamed | None = None
    asked_by: str | None = None
    replaces: bool = False

    def to_json(self) -> dict[str, Any]:
        """As it stands in the file, scrubbed: every text of the vendor's, its names of things too."""
        line: dict[str, Any] = {
            "cassette": VERSION,
            "key": self.key,
            "model": redact(self.model),
            "provider": self.provider,
            "recorded_at": self.recorded_at,
            "mock": self.is_mock,
        }
        if self.answer is not None:
            answer = _answer_json(self.answer)
            line |= {"answer": redacted(answer, ids=frozenset()), "masked": _is_masked(answer)}
        if self.error is not None:
            line["error"] = asdict(self.error)
        if self.streamed is not None:
            pieces = [] if line.get("masked") else list(self.streamed.pieces)
            line["streamed"] = {"pieces": pieces, "first_token_ms": self.streamed.first_token_ms}
        if self.asked_by is not None:
            line["asked_by"] = self.asked_by
        if self.replaces:
            line["replaces"] = True
        return line if self.request is None else line | {"request": redacted(self.request)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError`, `TypeError` or `ValueError` for what is no exchange."""
        if data["cassette"] not in _READABLE:
            raise ValueError(f"version {data['cassette']!r}")
        for name, kind in (("key", str), ("model", str), ("provider", str), ("recorded_at", str), ("mock", bool)):
            if not isinstance(data[name], kind):
                raise TypeError(name)
        if ("answer" in data) == ("error" in data):
            raise ValueError("neither an answer nor an error, or both")
        error = RecordedError(**data["error"]) if "error" in data else None
        if error is not None and error.error_class not in MODEL_ERROR_CLASSES:
            raise ValueError("an unknown class of error")
        streamed = data.get("streamed")
        if streamed is not None:
            streamed = Streamed(tuple(int(size) for size in streamed["pieces"]), streamed["first_token_ms"])
        return cls(
            key=data["key"],
            model=data["model"],
            provider=data["provider"],
            recorded_at=data["recorded_at"],
            is_mock=data["mock"],
            answer=_answer(data["answer"]) if "answer" in data else None,
            request=data.get("request"),
            error=error,
            streamed=streamed,
            asked_by=data.get("asked_by"),
            replaces=bool(data.get("replaces", False)),
        )


def is_masked(exchange: Exchange) -> bool:
    """Whether a secret is masked in what is written of it, so that it does not play as it was."""
    return exchange.answer is not None and _is_masked(_answer_json(exchange.answer))


def _is_masked(answer: Mapping[str, Any]) -> bool:
    return bool(redacted(answer, ids=frozenset()) != answer)


def _answer_json(answer: ChatAnswer) -> dict[str, Any]:
    return {
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "model_id": answer.model_id,
        "tool_calls": [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in answer.tool_calls],
        "usage": asdict(answer.usage),
        "latency_ms": round(answer.latency_ms, 3),
    }


def _answer(said: Mapping[str, Any]) -> ChatAnswer:
    return ChatAnswer(
        text=str(said["text"]),
        finish_reason=str(said["finish_reason"]),
        model_id=str(said["model_id"]),
        usage=Usage(**said["usage"]),
        latency_ms=float(said["latency_ms"]),
        tool_calls=tuple(ToolCall(str(c["id"]), str(c["name"]), str(c["arguments"])) for c in said["tool_calls"]),
    )
