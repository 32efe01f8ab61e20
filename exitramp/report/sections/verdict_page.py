"""Section 1: the verdict, what it does not prove (mocks first), and what was checked besides the objectives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from exitramp.records import Verdict
from exitramp.report.model import (
    Block,
    Bullets,
    Callout,
    Column,
    Notice,
    Objective,
    Section,
    Table,
    VerdictTable,
    code,
    prose,
    row,
    strong,
)
from exitramp.report.sections.asked import done_words
from exitramp.report.sections.checks import in_one_line
from exitramp.report.sections.consent import given_up
from exitramp.report.sections.fields import verdict, word
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.limits import does_not_prove
from exitramp.report.sections.outcome import checks_against, overall
from exitramp.report.sections.promises import unjudged
from exitramp.report.sections.words import counted, finding_words, sentence

_SILENT: Final = "nothing to remark"


def verdict_page(journal: Journal, objectives: Sequence[Objective]) -> Section:
    blocks: list[Block] = [*_although_met(journal, objectives), *_given_up(journal)]
    measured = unjudged(journal)
    if objectives:
        caption = "Objectives set before the run, and how they came out"
        blocks.append(VerdictTable(caption, tuple(objectives), measured))
    else:
        blocks.append(
            Callout(
                Notice.WARNING,
                "no objectives were set",
                (
                    prose(
                        "Without objectives there is nothing to pass: the verdict cannot be better than inconclusive."
                    ),
                ),
            )
        )
        if measured:
            blocks.append(VerdictTable("What was measured, though no number was promised", (), measured))
    expected = word(journal.drill, "expected")
    if expected not in {"", "pass"}:
        told = "A drill that cannot fail proves nothing: this one is there to show that what is wrong is found."
        if journal.judged is not None and word(journal.judged, "verdict") != expected:
            told = "It did not end so: what it was to find was not found."
        blocks.append(Callout(Notice.INFO, f"this drill is made to end as: {expected}", (prose(told),)))
    blocks.append(
        Callout(Notice.WARNING, "What this report does not prove", (Bullets(tuple(does_not_prove(journal))),))
    )
    blocks += _checks(journal)
    return Section(1, "Verdict", tuple(blocks), "verdict")


def _although_met(journal: Journal, objectives: Sequence[Objective]) -> Iterator[Block]:
    """First of all: a table of objectives that were met must not be read as a run that passed."""
    found = overall(journal, objectives)
    against = checks_against(journal, objectives, found)
    if not against:
        return
    ends = "fails" if found is Verdict.FAIL else "is inconclusive"
    told = []
    for step, count_against in against:
        first = next((each for each in step.findings if verdict(each, "verdict") is found), None)
        why = sentence(finding_words(first, step.name)) if first is not None else f"It ended as: {found.value}."
        more = f" {counted(count_against - 1, 'more finding')} of it: section 15." if count_against > 1 else ""
        told.append((strong(f"{done_words(journal, step.name)}"), " (step ", code(step.name), f"): {why}{more}"))
    yield Callout(
        Notice.WARNING,
        f"every objective was met, and the run {ends} all the same: a check did not pass",
        (Bullets(tuple(told)),),
    )


def _given_up(journal: Journal) -> Iterator[Block]:
    """What the substitute does not hold as it was, however well everything else came out."""
    found = given_up(journal)
    if found:
        told = tuple((strong(f"“{each.subject}”: "), each.text) for each in found)
        yield Callout(
            Notice.WARNING, "given up by consent of the drill file, and not in the substitute", (Bullets(told),)
        )


def _checks(journal: Journal) -> Iterator[Block]:
    judged = [step for step in journal.steps if step.finished is not None and step.verdict is not None]
    if not judged:
        return
    yield Table(
        "Checks along the way",
        (Column("Check"), Column("What it found")),
        tuple(
            row(done_words(journal, each.name), in_one_line(each) or _SILENT, verdict=each.verdict) for each in judged
        ),
        note="No run passes with a check that failed. Steps that only prepare or measure have no verdict.",
    )
