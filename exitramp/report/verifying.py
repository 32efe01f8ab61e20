"""Whether a run's journal is the one that was written, as far as that can be known; and what is not known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exitramp.drill.event_log import read_events, verify_against_anchor
from exitramp.errors import JournalCorrupt
from exitramp.records import Verdict
from exitramp.report.writing import JOURNAL, NAMES, read_journal, summary


@dataclass(frozen=True, slots=True)
class JournalCheck:
    """A journal whose chain holds. `anchor` names what its head was compared with; None where there was nothing."""

    journal: Path
    events: int
    head: str
    is_finished: bool
    anchor: str | None
    results: dict[str, Any]

    @property
    def verdict(self) -> Verdict:
        """A chain without an anchor can be recomputed: that it holds shows too little to pass."""
        # A chain that nobody anchored, or that stops before the run's end, holds and still proves too little.
        return Verdict.PASS if self.anchor is not None and self.is_finished else Verdict.INCONCLUSIVE

    @property
    def proves(self) -> tuple[str, ...]:
        found = [f"no event was changed, dropped, added or moved among these {self.events} without the chain redone"]
        if self.anchor is not None:
            found.append(f"the journal ends where it ended when {self.anchor} was written")
        return tuple(found)

    @property
    def does_not_prove(self) -> tuple[str, ...]:
        found = []
        if self.anchor is None:
            found.append(
                "that nobody recomputed the whole chain or cut off its end: there is no report.xml to compare the head"
                " with; give the head that the run printed with --head"
            )
        else:
            found.append("anything against somebody who can rewrite the journal and what it was compared with")
        if not self.is_finished:
            found.append("that the run ended: its last event is not the one that a run ends with")
        found.append("that what was written down was true when it was written")
        return tuple(found)

    def summary(self) -> str:
        anchored = (
            f", its head is that of {self.anchor}" if self.anchor is not None else ", its head is anchored nowhere"
        )
        return f"{self.journal}: the chain of {self.events} events holds{anchored}"

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict.value,
            "journal": str(self.journal),
            "events": self.events,
            "event_log_head": self.head,
            "finished": self.is_finished,
            "anchor": self.anchor,
            "proves": list(self.proves),
            "does_not_prove": list(self.does_not_prove),
            **self.results,
        }


def verify_journal(folder: Path, *, head: str | None = None) -> JournalCheck:
    """Check the chain of the journal in `folder`, and its head against `report.xml` beside it and against `head`.

    Raises `JournalCorrupt` naming file and line when the chain is broken or a head is another one.
    """
    reading = read_journal(folder)
    journal, junit = folder / JOURNAL, folder / NAMES["junit"]
    read_events(journal)  # a last line that was never written to its end is an error here, unlike in a report
    anchors = []
    if junit.exists():
        verify_against_anchor(journal, junit)
        anchors.append(str(junit))
    if head is not None:
        if head.strip().lower() != reading.head:
            raise JournalCorrupt(
                f"{journal}:{len(reading.events)}: its head is {reading.head}, not the one that was given",
                hint="the journal was cut short, extended or rewritten, or the head is that of another run",
            )
        anchors.append("the head that was given")
    anchor = " and ".join(anchors) or None
    return JournalCheck(journal, len(reading.events), reading.head, reading.finished, anchor, summary(reading))
