"""Section 1: the verdict, what it does not prove (mocks first), and what was checked besides the objectives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from exitramp.report.model import (
    Block,
    Bullets,
    Callout,
    Column,
    Inline,
    Notice,
    Objective,
    Section,
    Table,
    VerdictTable,
    prose,
    row,
    strong,
)
from exitramp.report.sections.checks import in_one_line
from exitramp.report.sections.fields import Data, count, figure, flag, part, word
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.stacks import (
    faults,
    has_chat,
    latency_words,
    mocks,
    mocks_answered,
    simulated_faults,
    stack_parts,
)
from exitramp.report.sections.words import PARTS, counted, listed, step_words
from exitramp.report.text import number_text, seconds_text

_USUAL_STEPS = ("dump", "verify_dump", "restore", "parity", "outage", "measure_loss", "replay", "cost", "rollback")


def verdict_page(journal: Journal, objectives: Sequence[Objective]) -> Section:
    blocks: list[Block] = []
    if objectives:
        blocks.append(VerdictTable("Objectives set before the run, and how they came out", tuple(objectives)))
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
    expected = word(journal.drill, "expected")
    if expected not in {"", "pass"}:
        told = "It shows that what is wrong is found: a drill that cannot fail proves nothing."
        blocks.append(Callout(Notice.INFO, f"this drill is made to end as: {expected}", (prose(told),)))
    blocks.append(
        Callout(Notice.WARNING, "What this report does not prove", (Bullets(tuple(_does_not_prove(journal))),))
    )
    blocks += _checks(journal)
    return Section(1, "Verdict", tuple(blocks), "verdict")


Line = tuple[Inline, ...]


def _does_not_prove(journal: Journal) -> Iterator[Line]:
    yield from _mocks(journal)
    yield from _not_real(journal)
    yield from _too_little(journal)
    yield from _left_out(journal)
    yield _line(
        "Whether the contract allows this, in which windows, and who answers for it: sections 5, 13, 16 and 17 are for"
        " people to fill in. Nobody has signed this report."
    )


def _line(text: str, *, lead: str = "") -> Line:
    return (strong(lead), f" {text}") if lead else (text,)


def _mocks(journal: Journal) -> Iterator[Line]:
    if not mocks_answered(journal):
        return
    named = [f"{each.service or each.scheme} ({each.stack})" for each in mocks(journal)]
    who = f"Mocks in this run: {listed(named)}. " if named else ""
    yield _line(
        f"{who}A mock answers by a fixed rule of its own: how good its answers are, and how many it gets right, says"
        " nothing about any real vendor’s model.",
        lead="The answers are mocks’.",
    )
    stated = [
        f"{each.service or each.scheme}: {waits}" for each in mocks(journal) if (waits := latency_words(each.described))
    ]
    yield _line(
        f"{'; '.join(stated) if stated else 'Its parameters are not in the journal'}. Recovery times and percentiles"
        " contain it.",
        lead="The mocks’ latency is simulated.",
    )
    if flag(journal.data("cost"), "comparison", "illustrative"):
        yield _line("Nobody charges them; the figures of section 12 show the method.", lead="Prices are illustrative.")


def _not_real(journal: Journal) -> Iterator[Line]:
    played = simulated_faults(journal)
    live = len(faults(journal)) - len(played)
    if played:
        named = listed([f"{word(each, 'fault')} on the {_part(each)}" for each in played])
        yield _line(
            f"They were played in exitramp’s own calls ({named}): the part itself was not touched, and how it really"
            " fails was not seen.",
            lead=f"{counted(len(played), 'fault')} of {len(played) + live} {_was(len(played))} simulated.",
        )
    if live:
        yield _line(
            "They were done to processes that this run had started on this machine, not to a vendor’s own service.",
            lead=f"{counted(live, 'fault')} of {len(played) + live} {_was(live)} live.",
        )
    for each in stack_parts(journal):
        if each.is_emulated:
            yield _line(
                "The engine behind it is the real one; its network protocol was spoken by a stand-in on this machine.",
                lead=f"The wire of the {each.stack}’s {PARTS.get(each.kind, each.kind)} was emulated.",
            )
    stores = {each.scheme for each in stack_parts(journal) if each.kind == "store"}
    if len(stores) == 1 and journal.is_finished:
        yield _line(f"Both stores are {stores.pop()}: leaving one kind of store for another was not tried.")


def _part(fault: Data) -> str:
    return PARTS.get(word(fault, "on"), word(fault, "on"))


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def _too_little(journal: Journal) -> Iterator[Line]:
    outage = journal.data("outage")
    rate, asked = figure(outage, "rate_per_second"), count(outage, "requests")
    if asked is not None:
        at = f" at {number_text(rate)} a second" if rate is not None else ""
        yield _line(f"It was one run of {counted(asked, 'request')}{at}: neither every way to fail nor real load.")
    if journal.wanted("late_writes") and journal.data("measure_loss"):
        yield _line(
            "The records that were missing are those that the drill itself wrote late. How many a real outage would"
            " cost depends on how old the last export is."
        )
    if not has_chat(journal):
        yield _line("No chat vendor took part: what was retrieved stood for the answer, and nothing was generated.")
    if journal.is_finished and not count(journal.data("baseline"), "asked"):
        yield _line("No golden questions were asked, so nothing is known of the quality of answers.")


def _left_out(journal: Journal) -> Iterator[Line]:
    if not journal.is_finished:
        yield _line("What stands here is what was known by then, and no more.", lead="The run did not end.")
        return
    missing = [name for name in _USUAL_STEPS if journal.step(name) is None]
    if missing:
        yield _line(f"Not done in this run, and so not shown: {listed([_named(name) for name in missing])}.")


def _checks(journal: Journal) -> Iterator[Block]:
    judged = [step for step in journal.steps if step.finished is not None and step.verdict is not None]
    if not judged:
        return
    yield Table(
        "Checks along the way",
        (Column("Check"), Column("What it found")),
        tuple(row(step_words(step.name), in_one_line(step), verdict=step.verdict) for step in judged),
        note="A run is never better than its worst check. Steps that only prepare or measure have no verdict.",
    )
    took = figure(journal.judged, "seconds") if journal.judged else None
    if took is not None and part(journal.drill):
        yield prose(f"The whole run took {seconds_text(took)}.")


def _named(step: str) -> str:
    return step.replace("_", " ")
