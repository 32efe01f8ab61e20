"""What the orchestration layer says while it works, on its way into the event log."""

from __future__ import annotations

from exitramp.drill.event_log import EventLog
from exitramp.orchestration.events import RouterEvent

WATCH_SECONDS = 0.25
"""How often whoever watches an outage writes down what was heard."""


class Heard:
    """What the router says, from its threads: kept at once, and written down by the thread that watches, within
    `WATCH_SECONDS` or so. A durable write in the thread of a request would be part of that request's latency."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.events: list[RouterEvent] = []
        self._written = 0

    def add(self, event: RouterEvent) -> None:
        self.events.append(event)

    def write(self) -> None:
        """Write what was not written yet, each with the moment when it was said on the clock of the log itself."""
        while self._written < len(self.events):
            event = self.events[self._written]
            self._written += 1
            self._log.append("router", event.to_json() | {"elapsed_seconds": self._log.elapsed(event.monotonic)})
