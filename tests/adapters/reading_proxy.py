"""Something before a server that lets no request through but those that only read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx


@contextmanager
def reading_only(port: int, reads: Callable[[str, str], bool], refusal: bytes) -> Iterator[tuple[int, list[str]]]:
    """The port of a proxy before `port` that answers 403 with `refusal` to each request that `reads(method, path)` does
    not let through, and the list of those."""
    refused: list[str] = []
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if not reads(self.command, self.path.partition("?")[0]):
                    refused.append(f"{self.command} {self.path}")
                    self.answer(403, refusal)
                    return
                kind = {"content-type": self.headers["content-type"]} if self.headers["content-type"] else {}
                got = client.request(self.command, self.path, content=body, headers=kind)
                self.answer(got.status_code, got.content)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = handle_any

            def answer(self, status: int, content: bytes) -> None:
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing is told of it."""

        proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield proxy.server_port, refused
        finally:
            proxy.shutdown()
            proxy.server_close()
