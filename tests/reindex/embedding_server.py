"""An embeddings server with an account: one line for every request that it billed, in a file.

It heeds idempotency keys as a vendor may: what it answered once under a key it answers again, and bills once. Run as a
program (`python embedding_server.py FOLDER DELAY_SECONDS`) it prints its port.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

DIMENSIONS = 16


def vector_of(text: str) -> list[float]:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    vector = np.random.default_rng(seed).normal(size=DIMENSIONS)
    return [float(each) for each in np.float32(vector / np.linalg.norm(vector))]


class Server:
    """`fail`: statuses of the calls to come, None for an ordinary answer; `refuse`: a text that it never takes.

    `zeros`: what stands in texts whose vectors are all zeros."""

    def __init__(self, folder: Path, *, delay_seconds: float = 0.0, refuse: str | None = None) -> None:
        self.account = folder / "account.jsonl"
        self.fail: list[int | None] = []
        self.zeros: str | None = None
        self.calls = 0
        self.at_once = 0
        self.most_at_once = 0
        self._answers: dict[str, bytes] = {}
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with server._lock:
                    server.calls += 1
                    server.at_once += 1
                    server.most_at_once = max(server.most_at_once, server.at_once)
                    status = server.fail.pop(0) if server.fail else None
                try:
                    if status is not None:
                        self._send(status, json.dumps({"error": {"message": "not now", "type": "x"}}).encode())
                    elif refuse is not None and any(refuse in text for text in body["input"]):
                        error = {"message": "maximum context length exceeded", "code": "context_length_exceeded"}
                        self._send(400, json.dumps({"error": error}).encode())
                    else:
                        self._send(200, server.answer(self.headers.get("idempotency-key"), body))
                finally:
                    with server._lock:
                        server.at_once -= 1

            def _send(self, status: int, data: bytes) -> None:
                time.sleep(delay_seconds)
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def answer(self, key: str | None, body: dict[str, Any]) -> bytes:
        with self._lock:
            if key is not None and key in self._answers:
                return self._answers[key]
            tokens = sum(len(text.split()) for text in body["input"])
            rows = [{"index": row, "embedding": self._vector(text)} for row, text in enumerate(body["input"])]
            told = {"data": rows, "model": body["model"], "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
            hashes = [hashlib.sha256(text.encode()).hexdigest() for text in body["input"]]
            with self.account.open("a") as file:
                file.write(json.dumps({"key": key, "texts": hashes, "tokens": tokens}) + "\n")
            found = json.dumps(told).encode()
            if key is not None:
                self._answers[key] = found
            return found

    def _vector(self, text: str) -> list[float]:
        return [0.0] * DIMENSIONS if self.zeros is not None and self.zeros in text else vector_of(text)

    def billed(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.account.read_text().splitlines()] if self.account.exists() else []

    def address(self, **options: Any) -> str:
        more = "".join(f"&{name}={value}" for name, value in options.items())
        base = f"http://127.0.0.1:{self.port}/v1"
        return f"openai:test-embed?base_url={base}&key=env:TEST_EMBED_KEY&dimensions={DIMENSIONS}{more}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


if __name__ == "__main__":
    started = Server(Path(sys.argv[1]), delay_seconds=float(sys.argv[2]))
    print(started.port, flush=True)
    threading.Event().wait()
