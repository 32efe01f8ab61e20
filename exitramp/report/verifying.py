"""Whether a run's journal is the one that was written, as far as that can be known; and what is not known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exitramp.drill.anchor import Anchor, is_head
from exitramp.drill.log_reading import read_events, require_anchor
from exitramp.errors import UsageError
from exitramp.records import Verdict
from exitramp.report.run_journal import RunJournal, read_run
from exitramp.report.sections import build_document
from exitramp.report.writing import summary
from exitramp.wording import counted

GIVEN = "the head that was given"


@dataclass(frozen=True, slots=True)
class JournalCheck:
    """A journal whose chain holds, and what its head was compared with.

    `beside` names the anchors in the run's own folder, `is_given` says that a head kept elsewhere was compared too.
    """

    run: RunJournal
    beside: tuple[str, ...]
    is_given: bool

    @property
    def events(self) -> int:
        return len(self.run.reading.events)

    @property
    def anchors(self) -> tuple[str, ...]:
        return (*self.beside, GIVEN) if self.is_given else self.beside

    @property
    def verdict(self) -> Verdict:
        """A chain that nobody anchored, or that stops before the run's end, holds and still shows too little."""
        return Verdict.PASS if self.anchors and self.run.reading.finished else Verdict.INCONCLUSIVE

    @property
    def proves(self) -> tuple[str, ...]:
        found = [f"no event was changed, dropped, added or moved among these {self.events} without the chain redone"]
        if self.beside:
            found.append(
                f"the journal ends as {' and '.join(self.beside)} {'say' if len(self.beside) > 1 else 'says'}, beside"
                " it: nothing happened to it by accident, nor by anybody who could not write to that folder"
            )
        if self.is_given:
            found.append("it is the journal whose head was given: whoever changed it since would have another head")
        return tuple(found)

    @property
    def does_not_prove(self) -> tuple[str, ...]:
        found = []
        if not self.anchors:
            found.append(
                "that nobody recomputed the whole chain or cut off its end: no anchor lies beside it; give the head"
                " that the run printed with --head"
            )
        elif not self.is_given:
            found.append(
                "anything against somebody who could write to that folder, and so to journal and anchor both; give the"
                " head that was kept elsewhere with --head"
            )
        else:
            found.append("anything, if the head that was given came from where somebody could change the journal too")
        if not self.run.reading.finished:
            last = self.run.reading.events[-1]
            found.append(
                f"that the run ended: the last line there is {last.seq}, '{last.kind}', and how many are missing is"
                " not known"
            )
        found.append("anything of the rendered files, which were not looked at: render them again from the journal")
        found.append("that what was written down was true when it was written")
        return tuple(found)

    def summary(self) -> str:
        held = (
            f", its head is that of {' and '.join(self.anchors)}" if self.anchors else ", its head is anchored nowhere"
        )
        return f"{self.run.path}: the chain of {counted(self.events, 'event')} holds{held}"

    def run_verdict(self) -> Verdict:
        """How the run came out, by its journal: another question than whether the journal is the one it wrote."""
        return build_document(self.run.journal).verdict

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict.value,
            "journal": str(self.run.path),
            "events": self.events,
            "event_log_head": self.run.reading.head,
            "finished": self.run.reading.finished,
            "run_verdict": self.run_verdict().value,
            "anchors": list(self.anchors),
            "proves": list(self.proves),
            "does_not_prove": list(self.does_not_prove),
            **summary(self.run.journal),
        }


def verify_journal(folder: Path, *, head: str | None = None) -> JournalCheck:
    """Check the chain of the journal in `folder`, and its head against the anchors beside it and against `head`.

    Raises `JournalCorrupt` naming file and line when the chain is broken or a head is another one, and `UsageError`
    for a `head` that is no hash.
    """
    given = None
    if head is not None:
        if not is_head(head.strip().lower()):
            raise UsageError(f"{head!r} is no head of an event log", hint="it is 64 hexadecimal digits")
        given = Anchor(head.strip().lower(), None, GIVEN)
    run = read_run(folder)
    read_events(run.path)  # a last line that was never written to its end is an error here, unlike in a report
    if given is not None:
        require_anchor(run.path, run.reading, given)
    return JournalCheck(run, tuple(anchor.where for anchor in run.anchors), given is not None)
