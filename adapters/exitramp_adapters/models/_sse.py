"""Server-sent events out of bytes, as the WHATWG HTML standard defines them (section 9.2.6)."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event; `name` is "" where the stream gave none."""

    name: str
    data: str


class EventDecoder:
    """Bytes in, whole events out. An event that its blank line never followed is not an event."""

    def __init__(self) -> None:
        self._text = codecs.getincrementaldecoder("utf-8")()
        self._rest = ""
        self._name = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that `chunk` completes. Raises `UnicodeDecodeError`."""
        self._rest += self._text.decode(chunk)
        events: list[ServerEvent] = []
        while (match := _LINE_END.search(self._rest)) is not None:
            if match.group() == "\r" and match.end() == len(self._rest):
                break  # a line feed may follow in the next chunk, and belongs to this line end
            line, self._rest = self._rest[: match.start()], self._rest[match.end() :]
            event = self._line(line)
            if event is not None:
                events.append(event)
        return events

    def _line(self, line: str) -> ServerEvent | None:
        if not line:
            event = ServerEvent(self._name, "\n".join(self._data)) if self._data else None
            self._name, self._data = "", []
            return event
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        return None
