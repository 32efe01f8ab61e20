"""A page as a browser tells it to a screen reader, asked for over the browser's own debugging pipe."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import select
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SECONDS = 60.0


@dataclass(frozen=True)
class Spoken:
    """A node of the accessibility tree; `properties` as the browser gives them (`level`, `focusable`)."""

    role: str
    name: str
    description: str
    properties: dict[str, Any]
    parent: Spoken | None

    def within(self, role: str) -> bool:
        return self.parent is not None and (self.parent.role == role or self.parent.within(role))


class Pipe:
    """Commands and answers of the DevTools protocol, one JSON text after the other with a zero byte between."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._numbers = itertools.count(1)
        self._left = b""

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _SECONDS
        while True:
            found = self._next(deadline)
            if found.get("id") == number:
                assert "error" not in found, (method, found["error"])
                result: dict[str, Any] = found["result"]
                return result

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            read = os.read(self._from, 1 << 20)
            assert read, "the browser ended"
            self._left += read
        text, _, self._left = self._left.partition(b"\0")
        found: dict[str, Any] = json.loads(text)
        return found


@contextmanager
def browser(program: str, flags: Sequence[str], profile: Path) -> Iterator[Pipe]:
    theirs_in, ours_out = (_high(end) for end in os.pipe())
    ours_in, theirs_out = (_high(end) for end in os.pipe())
    nothing = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0), (os.POSIX_SPAWN_DUP2, 1, 2)
    # The protocol's pipes are file descriptors 3 and 4.
    actions = [*nothing, (os.POSIX_SPAWN_DUP2, theirs_in, 3), (os.POSIX_SPAWN_DUP2, theirs_out, 4)]
    arguments = [program, *flags, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
    process = os.posix_spawn(program, arguments, os.environ, file_actions=actions)
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Pipe(ours_out, ours_in)
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(ours_out)
        os.close(ours_in)


def _high(descriptor: int) -> int:
    """The same end of a pipe under a number that is not one of those that the browser is given."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 20)
    os.close(descriptor)
    return moved


def spoken(pipe: Pipe, page: Path) -> list[Spoken]:
    """What of the page a screen reader is given, in reading order."""
    target = pipe.call("Target.createTarget", url=page.as_uri())["targetId"]
    session = pipe.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    ready = {"expression": "document.readyState + location.protocol"}
    deadline = time.monotonic() + _SECONDS
    while pipe.call("Runtime.evaluate", session, **ready)["result"]["value"] != "completefile:":
        assert time.monotonic() < deadline, "the page does not load"
        time.sleep(0.05)
    nodes = {node["nodeId"]: node for node in pipe.call("Accessibility.getFullAXTree", session)["nodes"]}
    made: dict[str, Spoken | None] = {}

    def make(key: str) -> Spoken | None:
        """The node, or the nearest above it that is not ignored."""
        if key not in made:
            node = nodes[key]
            parent = make(node["parentId"]) if node.get("parentId") in nodes else None
            made[key] = parent if node.get("ignored") else _spoken(node, parent)
        return made[key]

    return [one for key, node in nodes.items() if not node.get("ignored") and (one := make(key)) is not None]


def _spoken(node: dict[str, Any], parent: Spoken | None) -> Spoken:
    properties = {each["name"]: each["value"].get("value") for each in node.get("properties", ())}
    name, description = (str(node.get(key, {}).get("value", "")) for key in ("name", "description"))
    return Spoken(node["role"]["value"], name.strip(), description.strip(), properties, parent)
