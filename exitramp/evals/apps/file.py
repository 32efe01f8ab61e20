"""The file that says how an application is asked, read strictly from YAML.

    version: 1                                     version: 1
    app: http                                      app: command
    name: support-bot                              name: support-bot
    url: http://127.0.0.1:9000/ask                 command: [python, answer.py]
    request: {query: "{{question}}", top_k: 5}     input: json          # or text: the question on stdin
    answer: $.answer.text                          answer: $.answer     # left out: all of stdout
    sources: $.passages[*].id                      sources: $.sources
    key: env:SUPPORT_BOT_KEY

`http` also takes `method`, `headers`, `key_header` and `finish_reason`; `command` takes `folder`, from the file's own.
`mock: true` marks an application that is no real one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from exitramp.evals.apps.paths import JsonPath, parse_path
from exitramp.evals.runs.subject import Subject
from exitramp.evals.sets.own import read_text
from exitramp.yaml_reader import Block, read_block

VERSION: Final = 1
_METHODS: Final = ("POST", "PUT", "GET")


@dataclass(frozen=True, slots=True)
class AppFile:
    """One application; `sha256` is over the file's bytes. `environment` is what a command gets besides its own: what
    whoever asks has to tell it, and nothing that the file says."""

    kind: str
    name: str
    sha256: str
    answer: JsonPath | None
    sources: JsonPath | None
    is_mock: bool = False
    url: str = ""
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    request: Any = None
    finish_reason: JsonPath | None = None
    key: str | None = None
    key_header: str = "authorization"
    command: tuple[str, ...] = ()
    folder: Path = Path()
    input: str = "text"
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)


def read_app(path: Path) -> AppFile:
    """Raises `ConfigError` that begins with FILE:LINE."""
    text = read_text(path)
    block = read_block(text, str(path))
    if block.integer("version") != VERSION:
        raise block.error(f"'version' is none that is known here; it is {VERSION}", "version")
    kind = block.choice("app", ("http", "command"))
    shared: dict[str, Any] = {
        "kind": kind,
        "name": block.text("name"),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "answer": _path(block, "answer", required=kind == "http"),
        "sources": _path(block, "sources"),
        "is_mock": block.flag("mock", False),
    }
    own = _http(block) if kind == "http" else _command(block, path)
    block.finish()
    return AppFile(**shared, **own)


def open_app(app: AppFile) -> Subject:
    """The application as something to question. A key is fetched now. Raises `ConfigError`."""
    if app.kind == "http":
        from exitramp.evals.apps.http import HttpApp

        return HttpApp(app)
    from exitramp.evals.apps.command import CommandApp

    return CommandApp(app)


def _http(block: Block) -> dict[str, Any]:
    url = block.text("url")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise block.error("'url' is no address that begins with http:// or https://", "url")
    if parts.password is not None or parts.username is not None:
        raise block.error("'url' holds a user", "url", hint="give the key by reference: key: env:NAME")
    headers = block.anything("headers", {})
    if not isinstance(headers, Mapping) or not all(isinstance(each, str) for pair in headers.items() for each in pair):
        raise block.error("'headers' must hold names and texts", "headers")
    return {
        "url": url,
        "method": block.choice("method", _METHODS, "POST"),
        "headers": dict(headers),
        "request": block.anything("request", {"question": "{{question}}"}),
        "finish_reason": _path(block, "finish_reason"),
        "key": block.text("key", None),
        "key_header": block.text("key_header", "authorization"),
    }


def _command(block: Block, path: Path) -> dict[str, Any]:
    words = block.texts("command")
    if not words:
        raise block.error("'command' is empty", "command")
    folder = path.parent / block.text("folder", ".")
    if not folder.is_dir():
        raise block.error("'folder' is none that is there", "folder")
    return {"command": words, "folder": folder, "input": block.choice("input", ("text", "json"), "text")}


def _path(block: Block, key: str, *, required: bool = False) -> JsonPath | None:
    text = block.text(key) if required else block.text(key, None)
    if text is None:
        return None
    found = parse_path(text)
    if found is None:
        raise block.error(f"'{key}' is no path such as $.answer.text or $.sources[*].id", key)
    return found
