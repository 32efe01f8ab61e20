"""An application that knows one vendor by its base_url and no other: `gateway_application.py BASE_URL`, on the port
that EXITRAMP_PORT names. It is the vendor's own client that asks, without a retry."""

from __future__ import annotations

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from openai import APIError, OpenAI

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.drill.small_application import prompt

CLIENT = OpenAI(base_url=sys.argv[1], api_key="unused", max_retries=0, timeout=3.0)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text, ids = prompt(asked["question"])
        try:
            said = CLIENT.chat.completions.create(model="any", messages=[{"role": "user", "content": text}])
            status, body = 200, {"answer": said.choices[0].message.content, "sources": [{"id": id_} for id_ in ids]}
        except APIError as error:
            status, body = 502, {"error": type(error).__name__}
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        pass


ThreadingHTTPServer(("127.0.0.1", int(os.environ["EXITRAMP_PORT"])), Handler).serve_forever()
