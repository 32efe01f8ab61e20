"""Something between a client and a server that sees every request and may do something before it is passed on."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_REQUEST = re.compile(rb"(GET|POST|PUT|DELETE|PATCH) (\S+) HTTP")


class Relay:
    """`at(request)`, asked of each `METHOD PATH`, says whether it goes on; if not, the connection is closed."""

    def __init__(self, port: int, at: Callable[[str], bool]) -> None:
        self._target, self._at = port, at
        self._server = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self.port: int = self._server.getsockname()[1]
        self.requests: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._target)) as server:
            threading.Thread(target=_pass_on, args=(server, client), daemon=True).start()
            while data := client.recv(65536):
                if (found := _REQUEST.match(data)) and not self._goes_on(f"{found[1].decode()} {found[2].decode()}"):
                    break
                server.sendall(data)
            for end in (client, server):
                end.shutdown(socket.SHUT_RDWR)

    def _goes_on(self, request: str) -> bool:
        with self._lock:
            self.requests.append(request)
            return self._at(request)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)


@contextmanager
def relayed(port: int, at: Callable[[str], bool]) -> Iterator[Relay]:
    relay = Relay(port, at)
    try:
        yield relay
    finally:
        relay.close()
