"""What was given up on the way into the substitute, because the drill file agreed to it."""

from __future__ import annotations

from dataclasses import dataclass

from exitramp.report.sections.fields import Data, count, figure, objects, part, word, words
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.words import counted, listed, sentence
from exitramp.report.text import number_text

_NAMED = 2


@dataclass(frozen=True, slots=True)
class GivenUp:
    """One line of the plan that was lossy and agreed to. `measured` says in words how far the data came back; ""."""

    subject: str
    how: str
    rows: int | None
    measured: str

    @property
    def text(self) -> str:
        """`magnitude: scaled to unit length. Of 400 records. Measured: …`."""
        told = [sentence(self.how or "how is not in the journal")]
        told += [f"In {counted(self.rows, 'record')}."] if self.rows is not None else []
        return " ".join([*told, *([self.measured] if self.measured else [])])


def given_up(journal: Journal) -> tuple[GivenUp, ...]:
    """In the order of the plan; nothing where nothing was restored."""
    step = journal.step("restore")
    if step is None:
        return ()
    agreed = words(part(step.started.data, "arguments"), "accept_loss") or words(step.data, "accepted_loss")
    lines = objects(step.data, "plan") or objects(journal.data("plan"), "plan")
    return tuple(
        GivenUp(
            word(line, "subject"), word(line, "how"), count(line, "rows"), _measured(journal, word(line, "subject"))
        )
        for line in lines
        if word(line, "class") == "lossy" and word(line, "subject") in agreed
    )


def is_given_up(journal: Journal, column: str) -> bool:
    return any(each.subject == column for each in given_up(journal))


def in_short(journal: Journal) -> str:
    """A sentence for beside the verdict; "" where nothing was given up."""
    found = given_up(journal)
    if not found:
        return ""
    told = [_named(each) for each in found[:_NAMED]]
    more = f" and {number_text(len(found) - _NAMED)} more" if len(found) > _NAMED else ""
    return f"Given up by consent on the way: {(', ' if more else ' and ').join(told)}{more}."


def names(journal: Journal) -> str:
    return listed([f"“{each.subject}”" for each in given_up(journal)])


def _named(each: GivenUp) -> str:
    rows = f" in {counted(each.rows, 'record')}" if each.rows is not None else ""
    return f"“{each.subject}”{rows} ({each.how})" if each.how else f"“{each.subject}”{rows}"


def _measured(journal: Journal, column: str) -> str:
    """How far the vectors came back, where it is a field of vectors that was compared."""
    fields: list[Data] = []
    for compared in (part(journal.data("parity"), "records"), part(journal.data("restore"), "parity")):
        fields += [each for each in objects(compared, "fields") if word(each, "column") == column]
    if not fields:
        return ""
    distance, mean = figure(fields[0], "l2", "max"), figure(fields[0], "l2", "mean")
    equal, rows = count(fields[0], "bit_equal"), count(fields[0], "rows")
    told = []
    if equal is not None and rows is not None:
        told.append(f"{number_text(equal)} of {counted(rows, 'vector')} came back bit for bit")
    if distance is not None:
        told.append(f"L2 distance up to {number_text(distance)}")
    if mean is not None:
        told.append(f"{number_text(mean)} on average")
    return f"Measured: {', '.join(told)}." if told else ""
