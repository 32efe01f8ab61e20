"""One HTTP/1.1 connection as a server sees it: requests read with h11, answers sent in one write.

Headers and body leave in a single `write` with TCP_NODELAY set: two small unbuffered writes meet the delayed
acknowledgement of the other side and cost 44 ms a call.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import h11

_READ_BYTES: Final = 65536
BODY_LIMIT_BYTES: Final = 8 * 1024 * 1024

Headers = Iterable[tuple[str, str]]


class BodyTooLarge(Exception):
    """The body passed `BODY_LIMIT_BYTES`; the rest of it was not read."""


@dataclass(frozen=True, slots=True)
class WireRequest:
    """A whole request. Header names are in lower case; `query` holds the last value of each key."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """Reads requests one after the other and sends what it is told to, whole or in pieces."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER)
        self._sock: Any = writer.get_extra_info("socket")
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.was_reset = False

    @property
    def is_gone(self) -> bool:
        """Whether the client has hung up: nobody is there to read an answer."""
        return self._reader.at_eof() or self._writer.is_closing() or self._reader.exception() is not None

    async def next_request(self) -> WireRequest | None:
        """The next whole request, or None when the client is done. Raises `BodyTooLarge`, `h11.RemoteProtocolError`."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        if self._http.our_state is not h11.IDLE:
            return None
        head: h11.Request | None = None
        parts: list[bytes] = []
        size = 0
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    going_on = h11.InformationalResponse(status_code=100, headers=[])
                    self._writer.write(self._http.send(going_on) or b"")
                try:
                    self._http.receive_data(await self._reader.read(_READ_BYTES))
                except ConnectionError:
                    return None
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if size > BODY_LIMIT_BYTES:
                    raise BodyTooLarge
                parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                target = urlsplit(head.target.decode("latin-1"))
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
                method = head.method.decode("latin-1")
                return WireRequest(method, target.path, dict(parse_qsl(target.query)), headers, b"".join(parts))
            else:
                return None

    def send(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer in one write."""
        self._writer.write(self.head(status, headers, length=len(body)) + self.piece(body) + self.finish())

    def head(self, status: int, headers: Headers, *, length: int | None) -> bytes:
        """The bytes of status line and headers; chunked when `length` is None."""
        framing = ("transfer-encoding", "chunked") if length is None else ("content-length", str(length))
        return self._http.send(h11.Response(status_code=status, headers=[*headers, framing])) or b""

    def piece(self, data: bytes) -> bytes:
        """The bytes of a part of the body, as a chunk where the answer is chunked."""
        return (self._http.send(h11.Data(data=data)) or b"") if data else b""

    def finish(self) -> bytes:
        """The bytes that end the answer as HTTP wants it."""
        return self._http.send(h11.EndOfMessage()) or b""

    def write(self, data: bytes) -> None:
        if data and not self._writer.is_closing():
            self._writer.write(data)

    async def wait_until_gone(self) -> None:
        """Return when the client hangs up; what it sends meanwhile is dropped."""
        try:
            while await self._reader.read(_READ_BYTES):
                pass
        except ConnectionError:
            return

    def reset(self) -> None:
        """Break the connection with a TCP reset; what was written before may or may not arrive."""
        self.was_reset = True
        if not self._writer.is_closing():
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def close(self) -> None:
        """Send what is buffered and end the connection."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return
