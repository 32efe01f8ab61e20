"""Sections 13 and 15 to 17: what the drill found, and everything that only people can say, left visibly blank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from exitramp.records import Verdict
from exitramp.report.model import (
    Blank,
    Block,
    Callout,
    Cell,
    Column,
    Fold,
    Notice,
    Objective,
    Row,
    Section,
    Subheading,
    Table,
    code,
    prose,
    row,
)
from exitramp.report.sections.fields import count, figure, verdict, word, words
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.outcome import all_findings
from exitramp.report.sections.words import counted, finding_words, listed
from exitramp.report.text import seconds_text

_WINDOWS: Final = (
    ("Notice", "Notice period", ()),
    ("Transition", "Transition period", ("dump", "verify_dump", "plan", "restore", "parity")),
    ("Retrieval after the end", "Retrieval period", ("dump", "verify_dump")),
    ("Parallel run", "Days and price of a parallel run", ("parallel_run",)),
    ("Egress charges", "Charges for leaving", ()),
    ("Deletion proof", "Deletion proof, and by when", ()),
    ("Support while leaving", "Support that the vendor owes", ()),
)
_WANTING: Final = (Verdict.FAIL, Verdict.INCONCLUSIVE)
_BLANK_ACTIONS: Final = 3
_MOST_ACTIONS: Final = 12


def contract_section(journal: Journal) -> Section:
    rows = [row(title, Blank(label), _took(journal, steps)) for title, label, steps in _WINDOWS]
    return Section(
        13,
        "Contract and time windows",
        (
            prose(
                "Nothing about the contract is known to this drill. Which windows it gives must be filled in from the"
                " contract itself; beside each stands how long that work took here."
            ),
            Table(
                "Windows that the contract gives, and what the drill took",
                (Column("Window"), Column("In the contract"), Column("The work took, in this drill")),
                tuple(rows),
                note="What a clause means is for a lawyer. Times are of this machine and this amount of data.",
            ),
        ),
        "contract",
    )


def _took(journal: Journal, steps: Sequence[str]) -> Cell:
    if not steps:
        return "no work of a drill"
    if not any(map(journal.wanted, steps)):
        return "not part of this drill"
    if steps == ("parallel_run",):
        seconds = figure(journal.data("parallel_run"), "seconds")
        return None if seconds is None else seconds_text(seconds)
    # A planned exit compares every record as it catches up.
    steps = [("catch_up" if name == "parity" and not journal.wanted(name) and journal.wanted("catch_up") else name)
             for name in steps]  # fmt: skip
    found = [step.seconds for name in steps if (step := journal.step(name)) is not None]
    taken = [seconds for seconds in found if seconds is not None]
    missing = [name for name in steps if journal.wanted(name)]
    missing = [name for name in missing if (step := journal.step(name)) is None or step.seconds is None]
    if not taken or missing:
        return None
    rows = count(journal.data("dump"), "rows")
    left_out = [name.replace("_", " ") for name in steps if not journal.wanted(name)]
    told = seconds_text(sum(taken)) + (f" for {counted(rows, 'record')}" if rows is not None else "")
    return told + (f", without {listed(left_out)}" if left_out else "")


def findings_section(journal: Journal) -> Section:
    found = all_findings(journal)
    blocks: list[Block] = []
    if found:
        blocks.append(
            Table(
                "Findings",
                (Column("Finding"), Column("Code"), Column("Step")),
                tuple(
                    row(
                        finding_words(each, step),
                        code(word(each, "code")),
                        step.replace("_", " ") or "the run",
                        verdict=verdict(each, "verdict"),
                    )
                    for step, each in found
                ),
                note="A finding without a verdict is information.",
            )
        )
    else:
        blocks.append(prose("None: no step of this drill had anything to remark."))
    named = [(step, each) for step, each in found if words(each, "ids")]
    if named:
        rows = tuple(
            row(code(word(each, "code")), step.replace("_", " "), code(", ".join(words(each, "ids"))), _of(each))
            for step, each in named
        )
        columns = (Column("Code"), Column("Step"), Column("Ids"), Column("Shown"))
        blocks.append(Fold("The ids that findings name", (Table("Ids by finding", columns, rows),)))
    blocks += [
        Subheading("Lessons"),
        Blank("What went well", 2),
        Blank("What did not, and what was a surprise", 3),
        Blank("What people did that no machine saw", 2),
    ]
    return Section(15, "Findings and lessons", tuple(blocks), "findings")


def _of(finding: object) -> str:
    shown, all_ = len(words(finding, "ids")), count(finding, "count")
    return f"{shown} of {all_}" if all_ is not None and all_ > shown else "all"


def actions_section(journal: Journal, objectives: Sequence[Objective]) -> Section:
    reasons = [f"Objective: {each.name}" for each in objectives if each.verdict in _WANTING]
    reasons += [
        f"{step.replace('_', ' ') or 'the run'}: {finding_words(each, step)}"
        for step, each in all_findings(journal)
        if verdict(each, "verdict") in _WANTING
    ]
    reasons = list(dict.fromkeys(reasons))
    rows = [_action(reason) for reason in reasons[:_MOST_ACTIONS]]
    rows += [_action("from the lessons") for _ in range(_BLANK_ACTIONS if not rows else 1)]
    more = len(reasons) - _MOST_ACTIONS
    return Section(
        16,
        "Action plan",
        (
            prose(
                "Every objective and finding that did not pass has a line here."
                if reasons
                else "No objective or finding asks for an action; there is room for what people add."
            ),
            Table(
                "Actions",
                (Column("Because of"), Column("Action"), Column("Owner"), Column("Due date")),
                tuple(rows),
                note=f"{counted(more, 'finding')} more that did not pass: see section 15." if more > 0 else "",
            ),
        ),
        "actions",
    )


def _action(because: str) -> Row:
    return row(because, Blank("Action"), Blank("Owner"), Blank("Due date"))


def sign_off_section() -> Section:
    return Section(
        17,
        "Sign-off",
        (
            Callout(
                Notice.UNSIGNED,
                "nobody has signed this report",
                (prose("A program cannot sign. Sign on paper, or in a system of your own that keeps signatures."),),
            ),
            Blank("Owner of the service", 2, "name, date, signature"),
            Blank("Risk or audit", 2, "name, date, signature"),
            Blank("Procurement", 2, "name, date, signature"),
            Blank("Reservations", 3),
        ),
        "sign-off",
        new_page=True,
    )
