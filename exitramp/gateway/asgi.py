"""As much of ASGI as the gateway needs: a body that was read, an answer that is sent whole or in pieces."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_LIMIT_BYTES: Final = 32 * 1024 * 1024


class BodyTooLong(Exception):
    """More than `BODY_LIMIT_BYTES`."""


class ClientGone(Exception):
    """The client hung up before its request had come."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]

    @classmethod
    def of(cls, scope: Scope) -> Request:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        return cls(scope["method"], scope["path"].rstrip("/") or "/", headers)


async def read_body(receive: Receive) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > BODY_LIMIT_BYTES:
            raise BodyTooLong
        if not message.get("more_body"):
            return b"".join(parts)


async def begin(send: Send, status: int, content_type: str, headers: Mapping[str, str]) -> None:
    pairs = [(b"content-type", content_type.encode())]
    pairs += [
        (name.encode("latin-1"), _one_line(value).encode("latin-1", "replace")) for name, value in headers.items()
    ]
    await send({"type": "http.response.start", "status": status, "headers": pairs})


async def send_piece(send: Send, data: bytes, *, is_last: bool = False) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": not is_last})


async def send_json(send: Send, status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> None:
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    await begin(send, status, "application/json", {**headers, "content-length": str(len(data))})
    await send_piece(send, data, is_last=True)


async def send_text(send: Send, status: int, text: str, content_type: str) -> None:
    data = text.encode()
    await begin(send, status, content_type, {"content-length": str(len(data))})
    await send_piece(send, data, is_last=True)


def _one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)
