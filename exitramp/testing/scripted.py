"""A server on loopback that answers what a test tells it to, byte by byte, and keeps what it was asked.

It runs in threads of the test's own process: a test that has to kill its server wants a service instead. Only the
standard library is needed.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self

HOST: Final = "127.0.0.1"
JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
_READ_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request as it came. Names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str] = field(hash=False)
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its status and headers at once, then `parts`, each a chunk of its own.

    pause_seconds: before each part; the headers are out by then.
    ending: `whole` says that nothing follows, `hang_up` does so too and closes the connection without having said it,
        `close` and `reset` break the answer off, `hang` keeps the connection and says nothing more.
    silent: not even a status is sent.
    """

    parts: tuple[bytes, ...] = ()
    status: int = 200
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    pause_seconds: float = 0.0
    ending: Literal["whole", "hang_up", "close", "reset", "hang"] = "whole"
    silent: bool = False


class ScriptedServer:
    """`with ScriptedServer() as server: server.answer(Reply(…))`. Thread-safe; what it was asked is in `arrived`."""

    def __init__(self) -> None:
        self._listening = socket.create_server((HOST, 0), backlog=128)
        self._reply: Callable[[Arrived], Reply] = lambda _: Reply((b"{}",))
        self._ended = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.arrived: list[Arrived] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True, name="exitramp-scripted").start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # or the thread that waits for a connection would hold the port
        self._listening.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):  # its own thread was first
                    connection.shutdown(socket.SHUT_RDWR)

    @property
    def port(self) -> int:
        port: int = self._listening.getsockname()[1]
        return port

    @property
    def base_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def answer(self, reply: Reply | Callable[[Arrived], Reply]) -> None:
        """From now on, whatever is asked."""
        self._reply = reply if callable(reply) else lambda _: reply

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection = self._listening.accept()[0]
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)
        try:
            with connection, contextlib.suppress(OSError, ValueError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                reader = connection.makefile("rb")
                while (request := _read(reader)) is not None:
                    self.arrived.append(request)
                    if not self._send(connection, self._reply(request)):
                        return
        finally:
            with self._lock:
                self._open.discard(connection)

    def _send(self, connection: socket.socket, reply: Reply) -> bool:
        """Whether the connection can be asked again."""
        if reply.silent:
            self._ended.wait()
            return False
        head = [
            f"HTTP/1.1 {reply.status} Answer",
            f"content-type: {reply.content_type}",
        ]
        head += ["transfer-encoding: chunked", *(f"{name}: {value}" for name, value in reply.headers.items())]
        connection.sendall(("\r\n".join(head) + "\r\n\r\n").encode("latin-1"))
        for part in reply.parts:
            if reply.pause_seconds and self._ended.wait(reply.pause_seconds):
                return False
            if part:
                connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        match reply.ending:
            case "whole" | "hang_up":
                connection.sendall(b"0\r\n\r\n")
                return reply.ending == "whole"
            case "hang":
                self._ended.wait()
            case "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False


def _read(reader: Any) -> Arrived | None:
    """The next request, or None at the end of the connection."""
    first = reader.readline(_READ_BYTES).decode("latin-1").split()
    if len(first) < 2:
        return None
    headers: dict[str, str] = {}
    while (line := reader.readline(_READ_BYTES).decode("latin-1").strip()) != "":
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return Arrived(first[0], first[1], headers, reader.read(int(headers.get("content-length", "0"))))


@contextlib.contextmanager
def port_that_takes_nobody() -> Any:
    """A port to which no connection comes about and that refuses none: its queue is full. Yields its number."""
    waiting: list[socket.socket] = []
    with socket.create_server((HOST, 0), backlog=0) as listening:
        port = listening.getsockname()[1]
        try:
            for _ in range(8):
                each = socket.socket()
                waiting.append(each)
                each.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    each.connect((HOST, port))
            yield port
        finally:
            for each in waiting:
                each.close()
