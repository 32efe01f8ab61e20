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
        self._text = codecs.getincrementaldecoder("utf-8-sig")()  # a byte order mark would hide the first field's name
        self._rest = ""
        self._searched = 0
        self._name = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that `chunk` completes. Raises `UnicodeDecodeError`."""
        self._rest += self._text.decode(chunk)
        events: list[ServerEvent] = []
        begins = 0
        while (match := _LINE_END.search(self._rest, max(begins, self._searched))) is not None:
            if match.group() == "\r" and match.end() == len(self._rest):
                break  # a line feed may follow in the next chunk, and belongs to this line end
            event = self._line(self._rest[begins : match.start()])
            begins = match.end()
            if event is not None:
                events.append(event)
        self._rest = self._rest[begins:]
        # What was looked through is not again: a line of 8 MiB in small chunks would hold up all calls for seconds.
        self._searched = max(0, len(self._rest) - 1)
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
