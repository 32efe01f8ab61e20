"""Section 7 of a table-top drill: how long each decision took, by whose word, and how to reckon it again."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from exitramp.drill.tabletop.decisions import STATED, Decision
from exitramp.drill.tabletop.judging import minutes_words
from exitramp.drill.tabletop.record import Sitting
from exitramp.report.cells import moment_text
from exitramp.report.model import Block, Cell, Column, Section, Table, code, numbers, prose, row
from exitramp.report.text import number_text, seconds_text

_NO_TIME: Final = "no decision"


def times_section(sitting: Sitting) -> Section:
    rows = []
    for inject, asked in sitting.spec.questions():
        made = sitting.decisions.get((inject.name, asked.name))
        rows.append(
            row(
                f"{inject.name}, {asked.name}",
                inject.at_minutes,
                asked.within_minutes if asked.within_minutes is not None else "no limit",
                _NO_TIME if made is None else _stated(made),
                _NO_TIME if made is None else _at_the_prompt(made),
                _NO_TIME if made is None else _minutes(made.minutes, asked.within_minutes),
                _source(made.minutes_from) if made is not None and not made.undecided else "nobody decided",
            )
        )
    blocks: list[Block] = []
    if sitting.began_at is not None:
        began = code(f"#{sitting.began_number}")
        blocks.append(prose("The sitting began, as people stated (", began, "): ", moment_text(sitting.began_at), "."))
    table = Table(
        "Time to decide, after the inject was read out",
        (
            Column("Question"),
            numbers("Inject, of the scenario", "min"),
            numbers("Given", "min"),
            Column("Stated by people"),
            Column("Measured at the prompt"),
            numbers("Taken", "min"),
            Column("By whose word"),
        ),
        tuple(rows),
        note="Stated: a person said so, no clock did. A stated moment, less the stated beginning, less the minute"
        " of its inject, is what was taken. Measured: by the journal’s clock between the question at the prompt and the"
        " recorded decision, pauses left out; of a sitting whose process was killed meanwhile it is not known.",
    )
    return Section(7, "Time to decide", (*blocks, table), "times")


def _stated(made: Decision) -> Cell:
    if made.stated_at is not None:
        return f"at {moment_text(datetime.fromisoformat(made.stated_at))}"
    if made.minutes_from == STATED and made.minutes is not None:
        return f"after {number_text(made.minutes)} min"
    return "nothing"


def _at_the_prompt(made: Decision) -> Cell:
    if made.source == "file":
        return "not asked at a prompt"
    return None if made.measured_minutes is None else seconds_text(made.measured_minutes * 60)


def _minutes(value: float | None, given: float | None) -> Cell:
    return None if value is None else minutes_words(value, given)


def _source(text: str | None) -> Cell:
    return {"stated": "stated", "measured": "measured"}.get(text or "")
