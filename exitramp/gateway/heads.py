"""How long the head of a request may be: whoever sends one without an end is not to fill the memory."""

from __future__ import annotations

import json
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from exitramp.gateway.failures import Failure

HEAD_LIMIT_BYTES: Final = 64 * 1024
_PHRASES: Final = {400: "Bad Request", 431: "Request Header Fields Too Large"}


class _TooLong(Exception):
    """More than `HEAD_LIMIT_BYTES`."""


class LimitedHeads(HttpToolsProtocol):
    """Refuses a head that is too long before its end has come, and says so in the shape of every error."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._is_in_head = True
        self._head_bytes = 0
        self._is_too_long = False

    def data_received(self, data: bytes) -> None:
        if self._is_in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._is_in_head and self._head_bytes > HEAD_LIMIT_BYTES and not self.transport.is_closing():
            self._is_too_long = True
            self.send_400_response("")

    def on_message_begin(self) -> None:
        self._is_in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._is_in_head, self._head_bytes = False, 0
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD_LIMIT_BYTES:
            self._is_too_long = True
            raise _TooLong
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._is_in_head = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What the parser calls where it cannot go on."""
        if self._is_too_long:
            said = f"the head of the request is longer than {HEAD_LIMIT_BYTES // 1024} KiB"
            failure = Failure(431, "invalid_request", said)
        else:
            failure = Failure(400, "invalid_request", "this is no request that can be read")
        body = json.dumps(failure.body(), separators=(",", ":")).encode()
        head = f"HTTP/1.1 {failure.status} {_PHRASES[failure.status]}\r\ncontent-type: application/json\r\n"
        head += f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()
