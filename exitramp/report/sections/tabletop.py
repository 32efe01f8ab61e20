"""The report of a table-top drill: an after-action report, from what people decided and nothing else.

Facilitator, data collector, inject and after-action report are words of NIST SP 800-84; that this report, or the drill,
is as that guide wants it is nowhere claimed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from exitramp.drill.tabletop.judging import Expectation, judge, verdict_of
from exitramp.drill.tabletop.record import Sitting
from exitramp.drill.tabletop.spec import TABLETOP
from exitramp.records import Verdict
from exitramp.report.model import (
    Blank,
    Block,
    Bullets,
    Callout,
    Cell,
    Column,
    Document,
    KeyValues,
    Meta,
    Notice,
    Objective,
    Row,
    Section,
    Stamp,
    Subheading,
    Table,
    VerdictTable,
    code,
    numbers,
    prose,
    row,
    strong,
)
from exitramp.report.sections.clocks import moved_clock
from exitramp.report.sections.doubts import unanchored
from exitramp.report.sections.events import event_section
from exitramp.report.sections.fields import verdict, word
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.people import sign_off_section
from exitramp.report.sections.setting import identity
from exitramp.report.sections.tabletop_times import times_section
from exitramp.report.sections.words import counted, listed, sentence


def is_tabletop(journal: Journal) -> bool:
    return word(journal.drill, "mode") == TABLETOP


def tabletop_document(journal: Journal, meta: Meta) -> Document:
    """The whole report; of a sitting that was interrupted, as far as it came."""
    sitting = Sitting.of(journal.events)
    found = judge(sitting.spec, sitting.decisions)
    objectives = tuple(_objective(each) for each in found)
    ended = _overall(journal, sitting, found)
    return Document(
        title=sentence(sitting.spec.title).rstrip("."),
        subtitle=f"After-action report, table-top drill “{sitting.spec.name}”: talked through, nothing was switched",
        verdict=ended,
        verdict_reason=_reason(journal, sitting, found, ended),
        meta=meta,
        objectives=objectives,
        sections=(
            _verdict(journal, sitting, objectives),
            identity(journal),
            _scope(sitting),
            _participants(sitting),
            _injects(sitting),
            _decisions(sitting),
            times_section(sitting),
            event_section(journal),
            _gaps(sitting, found),
            _actions(sitting, found),
            _lessons(),
            replace(sign_off_section(), number=12),
        ),
        stamps=tuple(_stamps(journal, sitting)),
    )


def gap_findings(journal: Journal) -> tuple[dict[str, str], ...]:
    """Every gap, in the form of a finding, for whoever reads the report as data."""
    sitting = Sitting.of(journal.events)
    gaps = [each for each in judge(sitting.spec, sitting.decisions) if each.gap]
    found = [{"code": f"tabletop.{each.key}", "message": each.gap, "verdict": each.verdict.value} for each in gaps]
    doubts = [*sitting.doubts, *filter(None, (unanchored(journal),))]
    return (*found, *({"code": "journal.doubt", "message": each, "verdict": "inconclusive"} for each in doubts))


def _objective(each: Expectation) -> Objective:
    measured = each.measured or "nothing recorded"
    return Objective(each.key, each.title, each.target, measured, each.verdict, each.gap.partition(" – ")[2])


def _overall(journal: Journal, sitting: Sitting, found: tuple[Expectation, ...]) -> Verdict:
    """Judged anew from the decisions; never better than the run's own verdict, and no pass unfinished or unanchored."""
    verdicts = [verdict_of(found)]
    if journal.judged is not None:
        verdicts.append(verdict(journal.judged, "verdict") or Verdict.INCONCLUSIVE)
    if not journal.is_finished or sitting.doubts or unanchored(journal):
        verdicts.append(Verdict.INCONCLUSIVE)
    return Verdict.worst(verdicts)


def _reason(journal: Journal, sitting: Sitting, found: tuple[Expectation, ...], ended: Verdict) -> str:
    asked = len(list(sitting.spec.questions()))
    made = sum(not each.undecided for each in sitting.decisions.values())
    told = [f"People at a table decided {made} of {counted(asked, 'question')}; nothing was switched, cut or measured."]
    if not journal.is_finished:
        told.append("The sitting was interrupted and is not ended; what stands here is what was recorded by then.")
    told += [sentence(each) for each in sitting.doubts[:2]]
    if unanchored(journal) and journal.is_finished:
        told.append(sentence(unanchored(journal)))
    if ended is Verdict.PASS:
        told.append("Each was decided by the role that it is for, in time, and as the runbook has it.")
        return " ".join(told)
    for which, opening in ((Verdict.FAIL, "not as expected"), (Verdict.INCONCLUSIVE, "not known")):
        against = [each.key for each in found if each.verdict is which]
        if against:
            more = f" and {len(against) - 3} more" if len(against) > 3 else ""
            told.append(f"{counted(len(against), 'expectation')} {opening}: {', '.join(against[:3])}{more}.")
    return " ".join(told)


def _stamps(journal: Journal, sitting: Sitting) -> Iterator[Stamp]:
    yield Stamp(Notice.SIMULATED, "table-top")
    if not journal.is_finished:
        yield Stamp(Notice.WARNING, "sitting not ended")
    if unanchored(journal):
        yield Stamp(Notice.WARNING, "journal not anchored")
    if sitting.doubts:
        yield Stamp(Notice.WARNING, "journal contradicts itself")


def _verdict(journal: Journal, sitting: Sitting, objectives: tuple[Objective, ...]) -> Section:
    names = "as they were typed" if sitting.people or sitting.decisions else "and none was typed"
    talked = " Nothing was exported, restored, cut or sent elsewhere: it was talked through."
    limits: list[tuple[str | object, ...]] = [
        (strong("That a switch works."), talked),
        (strong("Who decided."), f" Names stand here {names}. Nobody was identified, and nobody signed."),
        (
            strong("How long it would take."),
            " Times are of a table where the inject was read out; at night, nobody sits there.",
        ),
    ]
    if any(each.minutes_from == "stated" for each in sitting.decisions.values()):
        limits.append((strong("Some times are stated."), " Section 7 says which: a person gave them, no clock did."))
    if moved_clock(journal):
        limits.append((strong("When it was."), f" {moved_clock(journal)}"))
    blocks: list[Block] = [
        VerdictTable("What was expected before the sitting, and how it came out", objectives),
        Callout(Notice.WARNING, "What this report does not prove", (Bullets(tuple(limits)),)),  # type: ignore[arg-type]
    ]
    if not sitting.decisions:
        blocks.insert(
            0,
            Callout(
                Notice.INFO,
                "no decision is recorded",
                (prose("What nobody recorded is never a pass: every expectation is inconclusive."),),
            ),
        )
    return Section(1, "Verdict", tuple(blocks), "verdict")


def _scope(sitting: Sitting) -> Section:
    blocks: list[Block] = [
        prose(text.strip()) for text in (sitting.spec.scope, sitting.spec.description) if text.strip()
    ]
    facts: tuple[tuple[str, Cell], ...] = (
        ("How it was held", "table-top: talked through at a table, neither simulated nor live"),
        ("Injects", len(sitting.spec.injects)),
        ("Questions", len(list(sitting.spec.questions()))),
        ("Read out", len(sitting.read_out)),
    )
    blocks.append(KeyValues(facts))
    if sitting.spec.runbook:
        rows = tuple(row(code(name), what or None) for name, what in sitting.spec.runbook.items())
        blocks.append(
            Table("Steps of the runbook, as the drill file names them", (Column("Step"), Column("What")), rows)
        )
    return Section(3, "Scope and scenario", tuple(blocks), "scope")


def _participants(sitting: Sitting) -> Section:
    by_role: dict[str, list[str]] = {}
    for name, role in sitting.people:
        by_role.setdefault(role, []).append(name)
    rows = [
        row("Facilitator", sitting.facilitator or Blank("Name of the facilitator"), "reads the injects and keeps time"),
        row("Data collector", sitting.data_collector or Blank("Name of the data collector"), "writes down"),
        *(
            row(role.replace("_", " "), ", ".join(by_role.get(role, [])) or Blank(f"Name for {role}"), task or None)
            for role, task in sitting.spec.roles.items()
        ),
    ]
    blocks: tuple[Block, ...] = (
        prose("Names are what was typed. Who is missing here was not named; it does not say that nobody came."),
        Table("At the table", (Column("Role"), Column("Name"), Column("Part")), tuple(rows)),
    )
    return Section(4, "Participants", blocks, "participants")


def _injects(sitting: Sitting) -> Section:
    blocks: list[Block] = [prose("Minutes are those of the scenario; nobody waited for them.")]
    for number, inject in enumerate(sitting.spec.injects, start=1):
        blocks.append(Subheading(f"{number}. Minute {inject.at_minutes:g}: {inject.title}"))
        blocks.append(prose(" ".join(inject.text.split())))
        if inject.name not in sitting.read_out:
            blocks.append(prose(strong("Not read out."), " The sitting did not come to it."))
        blocks.append(
            Table(
                "What had to be decided",
                (
                    Column("Question"),
                    Column("By"),
                    numbers("Within", "min"),
                    Column("Runbook step"),
                    Column("Evidence"),
                ),
                tuple(
                    row(
                        each.ask,
                        each.by.replace("_", " "),
                        each.within_minutes if each.within_minutes is not None else "no limit",
                        code(each.runbook) if each.runbook else "none asked for",
                        "asked for" if each.evidence else "not asked for",
                    )
                    for each in inject.questions
                ),
            )
        )
    return Section(5, "Injects", tuple(blocks), "injects")


def _decisions(sitting: Sitting) -> Section:
    rows: list[Row] = []
    for inject, asked in sitting.spec.questions():
        made = sitting.decisions.get((inject.name, asked.name))
        name = f"{inject.name}, {asked.name}"
        if made is None:
            rows.append(row(name, "no decision is recorded", "nobody", "none", "none", "none"))
            continue
        rows.append(
            row(
                name,
                "nobody could decide" if made.undecided else made.decided,
                ", ".join(filter(None, (made.who, made.role.replace("_", " ")))) or "nobody",
                code(made.runbook) if made.runbook else "none named",
                made.evidence or "none named",
                code(f"#{sitting.numbers[inject.name, asked.name]}"),
            )
        )
    columns = ("Question", "Decision", "Who, in which role", "Runbook step", "Evidence", "Event")
    table = Table(
        "Decisions, in the order of the injects",
        tuple(map(Column, columns)),
        tuple(rows),
        note="Each decision is an event of the journal of its own, in the chain of hashes. Evidence is named by people;"
        " nobody looked at it.",
    )
    return Section(6, "Decisions", (table,), "decisions")


def _gaps(sitting: Sitting, found: tuple[Expectation, ...]) -> Section:
    gaps = [each for each in found if each.gap]
    if not gaps:
        return Section(9, "Gaps", (prose("None: every expectation was met."),), "gaps")
    rows = tuple(row(each.title, each.target, each.gap.partition(" – ")[2], verdict=each.verdict) for each in gaps)
    named = sorted({asked.runbook for _, asked in sitting.spec.questions() if asked.runbook})
    used = {made.runbook for made in sitting.decisions.values()}
    unused = [name for name in named if name not in used]
    blocks: list[Block] = [
        Table("What was expected, and what was wanting", (Column("Where"), Column("Expected"), Column("Gap")), rows)
    ]
    if unused:
        blocks.append(prose(f"Steps of the runbook that were expected and that nobody named: {listed(unused)}."))
    return Section(9, "Gaps", tuple(blocks), "gaps")


def _actions(sitting: Sitting, found: tuple[Expectation, ...]) -> Section:
    rows = [
        row(each.what, "recorded at the table", each.owner or Blank("Owner"), each.due or Blank("Due date"))
        for each in sitting.actions
    ]
    rows += [
        row(Blank("Action"), f"gap: {each.title}: {each.gap.partition(' – ')[2]}", Blank("Owner"), Blank("Due date"))
        for each in found
        if each.gap
    ]
    if not rows:
        rows.append(row(Blank("Action"), "from the lessons", Blank("Owner"), Blank("Due date")))
    columns = tuple(map(Column, ("Action", "Because of", "Owner", "Due date")))
    told = prose("What was recorded at the table, and a line for every gap. What nobody said is left open.")
    return Section(10, "Action items", (told, Table("Actions", columns, tuple(rows))), "actions")


def _lessons() -> Section:
    blocks = (
        Blank("What went well", 2),
        Blank("What did not, and what was a surprise", 3),
        Blank("What is to be changed in the runbook, the contract or the next drill", 3),
    )
    return Section(11, "Lessons", blocks, "lessons")
