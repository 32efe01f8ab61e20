"""The journal's two clocks: its own, which no one sets, and the wall's, which may be wrong and may be moved."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

from exitramp.drill.event import Event
from exitramp.report.model import Cell
from exitramp.report.sections.journal import Journal, moment
from exitramp.report.text import seconds_text

_APART_SECONDS: Final = 2.0
_APART_SHARE: Final = 0.01
"""So far two clocks of one machine may drift apart unsaid."""


def clocks(journal: Journal) -> list[tuple[str, Cell]]:
    """Where the two clocks tell different spans, both, and why."""
    first, last = journal.events[0], journal.last
    wall, own = _wall(first, last), last.elapsed_seconds - first.elapsed_seconds
    resumed = journal.of_kind("run.resumed")
    moved = tuple(_moved(journal))
    if not resumed and not moved and not _apart(wall, own):
        return []
    why = f", pauses left out (before {_named(resumed)})" if resumed else ""
    facts: list[tuple[str, Cell]] = [
        (f"From its first event to its last by the journal’s own clock{why}", seconds_text(own)),
        ("The same by the wall’s clock, from when each was written", seconds_text(wall)),
    ]
    return facts


def moved_clock(journal: Journal) -> str:
    """That somebody or something moved the machine's clock while the drill ran, as a sentence; "" where nothing shows
    it. Pauses are no such thing: only what lies within one sitting is looked at."""
    moved = tuple(_moved(journal))
    if not moved:
        return ""
    told = [
        f"between #{before.seq} and #{after.seq} it tells {seconds_text(_wall(before, after))}, and"
        f" {seconds_text(after.elapsed_seconds - before.elapsed_seconds)} passed"
        for before, after in moved[:2]
    ]
    more = f" ({len(moved) - 2} more)" if len(moved) > 2 else ""
    return (
        f"The machine’s clock was moved while the drill ran: {'; '.join(told)}{more}. Dates and times of day in this"
        " report are as that clock had them; durations come from the journal’s own clock, which nobody sets."
    )


def _moved(journal: Journal) -> Iterator[tuple[Event, Event]]:
    for before, after in itertools.pairwise(journal.events):
        own = after.elapsed_seconds - before.elapsed_seconds
        if after.kind != "run.resumed" and _apart(_wall(before, after), own):
            yield before, after


def _wall(before: Event, after: Event) -> float:
    return (moment(after) - moment(before)).total_seconds()


def _apart(wall: float, own: float) -> bool:
    return abs(wall - own) > max(_APART_SECONDS, own * _APART_SHARE)


def _named(events: tuple[Event, ...]) -> str:
    return ", ".join(f"#{event.seq}" for event in events)
