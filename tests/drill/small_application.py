"""A small application of its own process: questions over HTTP, documents of its own, a chat vendor behind it.

    python small_application.py PORT STACK_FILE          asks through the `Application` interface
    python small_application.py PORT @FILE [--mortal]    asks the one model whose address stands in FILE

With `--mortal` its first failure is its end.
"""

from __future__ import annotations

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from exitramp.errors import ExitrampError
from exitramp.orchestration.application import Application
from exitramp.ports import ChatMessage, ChatRequest
from exitramp.registry import open_chat

TOPICS = ("gravel", "copper", "willow", "harbour", "meadow", "lantern", "saddle", "ribbon")
DOCUMENTS = {
    f"doc-{number}": f"The {TOPICS[number % 8]} number {number} belongs to keeper{number}." for number in range(64)
}


def prompt(question: str) -> tuple[str, list[str]]:
    number = int("".join(letter for letter in question if letter.isdigit()))
    ids = [f"doc-{number}", f"doc-{(number + 1) % 64}"]
    told = "\n".join(f"[passage {id_}]\n{DOCUMENTS[id_]}\n[/passage]" for id_ in ids)
    return f"{told}\nQuestion: {question}", ids


class Handler(BaseHTTPRequestHandler):
    application: Application | None = None
    address_file: Path | None = None
    is_mortal = False

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text, ids = prompt(asked["question"])
        request = ChatRequest((ChatMessage("user", text),), 128)
        try:
            if self.application is not None:
                said = self.application.chat(request).text
            else:
                assert self.address_file is not None
                model = open_chat(self.address_file.read_text("utf-8").strip())
                try:
                    said = model.answer(request, timeout_seconds=2).text
                finally:
                    model.close()
        except ExitrampError as error:
            if self.is_mortal:
                os._exit(1)
            return self.reply(502, {"error": type(error).__name__})
        return self.reply(200, {"answer": said, "sources": [{"id": id_} for id_ in ids]})

    def reply(self, status: int, body: object) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    port, what, *more = sys.argv[1:]
    Handler.is_mortal = "--mortal" in more
    if what.startswith("@"):
        Handler.address_file = Path(what[1:])
    else:
        Handler.application = Application.open(what)
    ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
