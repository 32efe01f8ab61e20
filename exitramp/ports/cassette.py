"""A cassette: answers of a chat model kept in a file, found again by what was asked.

JSON Lines, one exchange each:

    {"cassette": 1, "key": "<SHA-256>", "model": "gpt-x", "provider": "openai", "recorded_at": "…", "mock": false,
     "answer": {"text": …, "finish_reason": …, "model_id": …, "tool_calls": […], "usage": {…}, "latency_ms": …}}

The key is the SHA-256 over the canonical JSON of the request as `normalised` makes it: what both vendors' shapes can
say, so a cassette recorded from one shape answers in the other. Texts are scrubbed of secrets before they are written;
the key is made of the unscrubbed request, and the request itself is kept only if that is asked for. A key recorded
more than once has its answers played in the order they were recorded, and the last of them from then on.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from exitramp.canonical import dumps
from exitramp.clock import iso_utc
from exitramp.durable import READ, storage_errors
from exitramp.errors import DataInvalid
from exitramp.ports.chat import ChatAnswer, ChatMessage, ChatRequest, ModelIdentity, ToolCall
from exitramp.records import Usage
from exitramp.secrets import redact, redacted

VERSION: Final = 1


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
class Exchange:
    """One recorded answer. `request` is what `normalised` made of the request, scrubbed, where it was kept."""

    key: str
    model: str
    provider: str
    recorded_at: str
    is_mock: bool
    answer: ChatAnswer
    request: Mapping[str, Any] | None = field(default=None, hash=False)

    def to_json(self) -> dict[str, Any]:
        """As it stands in the file, scrubbed."""
        answer = {
            "text": redact(self.answer.text),
            "finish_reason": self.answer.finish_reason,
            "model_id": self.answer.model_id,
            "tool_calls": [
                {"id": call.id, "name": call.name, "arguments": redact(call.arguments)}
                for call in self.answer.tool_calls
            ],
            "usage": asdict(self.answer.usage),
            "latency_ms": round(self.answer.latency_ms, 3),
        }
        line = {
            "cassette": VERSION,
            "key": self.key,
            "model": self.model,
            "provider": self.provider,
            "recorded_at": self.recorded_at,
            "mock": self.is_mock,
            "answer": answer,
        }
        return line if self.request is None else line | {"request": redacted(self.request)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError`, `TypeError` or `ValueError` for what is no exchange."""
        if data["cassette"] != VERSION:
            raise ValueError(f"version {data['cassette']!r}")
        said = data["answer"]
        for name, kind in (("key", str), ("model", str), ("provider", str), ("recorded_at", str), ("mock", bool)):
            if not isinstance(data[name], kind):
                raise TypeError(name)
        calls = tuple(ToolCall(str(c["id"]), str(c["name"]), str(c["arguments"])) for c in said["tool_calls"])
        answer = ChatAnswer(
            text=str(said["text"]),
            finish_reason=str(said["finish_reason"]),
            model_id=str(said["model_id"]),
            usage=Usage(**said["usage"]),
            latency_ms=float(said["latency_ms"]),
            tool_calls=calls,
        )
        return cls(
            data["key"], data["model"], data["provider"], data["recorded_at"], data["mock"], answer, data.get("request")
        )


class Cassette:
    """The exchanges of a file, in memory. Thread-safe."""

    def __init__(self, exchanges: Iterator[Exchange]) -> None:
        self._by_key: dict[str, list[ChatAnswer]] = {}
        self._played: dict[str, int] = {}
        self._lock = threading.Lock()
        models: dict[str, None] = {}
        for exchange in exchanges:
            self._by_key.setdefault(exchange.key, []).append(exchange.answer)
            models[exchange.model] = None
        self.models = tuple(models)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises `PathUnusable` for a file that cannot be read, `DataInvalid` naming the line that is no exchange."""
        return cls(read_exchanges(path))

    def __len__(self) -> int:
        return sum(map(len, self._by_key.values()))

    def play(self, key: str) -> ChatAnswer | None:
        """The next answer under `key`, or None if there is none."""
        with self._lock:
            answers = self._by_key.get(key)
            if answers is None:
                return None
            place = self._played.get(key, 0)
            self._played[key] = place + 1
            return answers[min(place, len(answers) - 1)]


def read_exchanges(path: Path) -> Iterator[Exchange]:
    """Every exchange of the file. A last line without its end is the trace of a killed recorder and left out."""
    with storage_errors(path, READ):
        lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            return
        try:
            yield Exchange.from_json(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataInvalid(
                f"{path}: line {number} is no exchange of a cassette ({type(error).__name__})",
                hint="a cassette is what 'exitramp eval record' writes",
            ) from None


class CassetteWriter:
    """Appends exchanges to a file, each durable before the answer goes on. Thread-safe."""

    def __init__(self, path: Path, *, keep_requests: bool = False) -> None:
        self._keep_requests = keep_requests
        self._lock = threading.Lock()
        self.written = 0
        with storage_errors(path):
            if path.exists():
                kept = sum(len(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n"))
                list(read_exchanges(path))  # nothing is added to a file of something else
            else:
                kept = 0
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.ftruncate(self._descriptor, kept)

    def add(self, identity: ModelIdentity, request: ChatRequest, answer: ChatAnswer) -> Exchange:
        """Write one exchange; on return it is on the disk."""
        exchange = Exchange(
            key=request_key(identity.model, request),
            model=identity.model,
            provider=identity.provider,
            recorded_at=iso_utc(datetime.now(UTC)),
            is_mock=identity.is_mock,
            answer=answer,
            request=normalised(identity.model, request) if self._keep_requests else None,
        )
        line = json.dumps(exchange.to_json(), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            os.write(self._descriptor, line)
            os.fsync(self._descriptor)  # an answer was paid for
            self.written += 1
        return exchange

    def close(self) -> None:
        """Calling it again does nothing."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
