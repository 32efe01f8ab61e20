"""Something before a server that takes no request beyond a size, as a web server's default settings have it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx


@contextmanager
def narrowed(port: int, most: int, refusal: str) -> Iterator[int]:
    """The port of a proxy before `port` that answers 413 with `refusal` to a body of more than `most` bytes; `{size}`
    in it is the body's."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if len(body) > most:
                    self.answer(413, refusal.replace("{size}", str(len(body))).encode(), "application/json")
                    return
                kind = {"content-type": self.headers["content-type"]} if self.headers["content-type"] else {}
                got = client.request(self.command, self.path, content=body, headers=kind)
                self.answer(got.status_code, got.content, got.headers.get("content-type", ""))

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = handle_any

            def answer(self, status: int, content: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing is told of it."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            server.server_close()
