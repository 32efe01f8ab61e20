"""Section 8: what happened and when, and whether the log that says so is the one that was written."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from exitramp.drill.event import FINISHED, Event
from exitramp.report.model import (
    Block,
    Callout,
    Code,
    Column,
    Fold,
    KeyValues,
    Moment,
    Notice,
    Row,
    Section,
    Subheading,
    Table,
    Timeline,
    code,
    numbers,
    prose,
    row,
)
from exitramp.report.sections.asked import done_words
from exitramp.report.sections.checks import in_one_line
from exitramp.report.sections.drift import replayed_words
from exitramp.report.sections.fields import Data, figure, flag, objects, part, word
from exitramp.report.sections.journal import Journal, StepRun, in_words, moment
from exitramp.report.sections.promises import recovery_places
from exitramp.report.sections.words import PARTS, ROUTER, STEPS, counted, fault_words, how_words
from exitramp.report.text import seconds_text

_UNTIMED: Final = frozenset({"load_golden", "check_hypothesis", "plan", "outage", "compare_quality", "cost"})
"""Steps whose end is no event of the story: the outage's story are its faults."""
TABLETOP_MOMENTS: Final = {
    "tabletop.inject": "Inject read out",
    "tabletop.decision": "Decision recorded",
    "tabletop.paused": "The sitting is interrupted",
    "run.resumed": "The sitting goes on",
}
_BY_FILE: Final = {
    "tabletop.began": "Beginning of the sitting written down, as a file states it",
    "tabletop.inject": "Inject written down: by a file, not read out here",
    "tabletop.decision": "Decision written down, from a file",
}
"""What a file told stands in the journal when the file was read, and not when it happened."""
_SHOWN: Final = 12
_EDGE_EVENTS: Final = 150
"""Of a longer log the first and last so many are shown; the journal itself holds them all."""


def event_section(journal: Journal) -> Section:
    moments = tuple(one for _, one in sorted(_moments(journal), key=lambda pair: pair[0]))
    blocks: list[Block] = [
        Timeline(f"What happened, and how long after the run began{_pauses(journal)}", moments),
        Subheading("Is this the log that was written?"),
        _chain(journal),
        prose(
            "Each event holds the hash of the one before it, so no line can be changed, dropped, added or moved without"
            " changing every hash after it, up to the head. Whoever can write the file can also compute them all anew:"
            " by itself the chain shows nothing. It shows something against an anchor, a copy of the head that was made"
            " when the run ended."
        ),
        prose(_held_by(journal)),
        Code("exitramp report RUN --verify --head HEAD", "sh", "To check it, with the head that was kept elsewhere"),
    ]
    if journal.torn_bytes:
        torn = f"its last line broke off after {counted(journal.torn_bytes, 'byte')} and is left out"
        blocks.append(
            Callout(Notice.WARNING, "the journal is torn", (prose(f"The run was cut off while it wrote: {torn}."),))
        )
    blocks.append(_all_events(journal))
    return Section(8, "Event log", tuple(blocks), "events")


def _pauses(journal: Journal) -> str:
    return ", pauses left out" if journal.of_kind("run.resumed") else ""


def _chain(journal: Journal) -> KeyValues:
    anchor = "none"
    if journal.is_anchored:
        anchor = "agrees with this head"
    elif not journal.is_finished:
        anchor = "none: a run writes it when it ends"
    return KeyValues(
        (
            ("Head of the chain", code(journal.head)),
            ("Events", len(journal.events)),
            ("Ended in order", "yes" if journal.is_finished else "no: the run did not end"),
            ("Anchor beside the journal", anchor),
        )
    )


def _held_by(journal: Journal) -> str:
    if journal.is_anchored:
        return (
            "This run wrote its anchor into the folder of the journal, and when this report was made the two agreed."
            " That shows that nothing happened to the journal by accident, nor by anybody who could not write to that"
            " folder. Against somebody who could, only a copy of the head kept elsewhere shows anything: the line that"
            " the drill printed at its end, or the JUnit file on a build server. No copy shows that what was written"
            " down was true when it was written."
        )
    if not journal.is_finished:
        return (
            "This run did not end and wrote no anchor, so nothing shows that these events are all of those that were"
            " written, nor that they are as they were written."
        )
    return (
        "There is no anchor beside this journal, although its last event is that of a run that ended. So nothing shows"
        " that these are the events that the run wrote, and the report calls no such run a pass. If the head that the"
        " drill printed was kept, the command below compares it."
    )


Placed = tuple[tuple[float, int], Moment]
"""A moment and where it stands: seconds since the run began, then the number of its event."""


def _moments(journal: Journal) -> Iterator[Placed]:
    first = journal.events[0]
    yield _at(first, "Run started, objectives hashed", word(journal.started, "objectives_sha256")[:16])
    for step in journal.steps:
        asked_nobody = step.name in {"baseline", "replay"} and not figure(step.data, "asked")
        if step.finished is not None and step.name in STEPS and step.name not in _UNTIMED and not asked_nobody:
            yield _at(step.finished, done_words(journal, step.name), in_one_line(step))
    for event in journal.events:
        if event.kind == "fault.healed":
            yield _at(event, f"The {_part(event.data)} is healed")
        elif event.kind == "drift.replayed":
            yield _at(event, *replayed_words(event.data), flag(event.data, "worse") is True)
        elif event.kind == "drift.switched":
            yield _at(event, "Switched by decision: traffic goes to the substitute", milestone=True)
        elif event.kind == "run.aborted":
            told = in_words(event.data)
            where = journal.stopped_where if told == journal.aborted else f"in “{word(event.data, 'step')}”"
            yield _at(event, f"Stopped {where}", word(told, "reason"), True)
        elif event.kind in TABLETOP_MOMENTS:
            by_file = word(event.data, "how") == "by file" or bool(word(event.data, "file"))
            titles = TABLETOP_MOMENTS | (_BY_FILE if by_file else {})
            yield _at(event, titles[event.kind], _at_the_table(event.data))
        elif event.kind in _BY_FILE:
            yield _at(event, _BY_FILE[event.kind], word(event.data, "stated_at"))
        elif event.kind == "run.judged":
            yield _at(event, f"Judged: {word(event.data, 'verdict')}", milestone=True)
        elif event.kind == "router" and word(event.data, "kind") == "breaker_closed":
            yield from _serves_again(journal, event)
    yield from _faults(journal)


def _faults(journal: Journal) -> Iterator[Placed]:
    """Detect, decide and first good answer of each fault; the seconds of a phase count from its injection."""
    measured, places = objects(journal.data("outage"), "phases"), recovery_places(journal)
    application = part(journal.data("outage"), "application")
    who = f"the application “{word(application, 'name')}”" if application else "the substitute"
    decided = "the failures of the breaker" if application else "the breaker opens, model and store together"
    for number, event in enumerate(journal.of_kind("fault.injected")):
        fault, how = word(event.data, "fault"), word(event.data, "how")
        told = f"{how_words(event.data)}; nobody is told"
        yield _at(event, f"The {_part(event.data)} {fault_words(fault, how)}", told, True)
        if number >= len(measured):
            continue
        phase = measured[number]
        for order, (key, title, milestone) in enumerate(
            (
                ("detect_seconds", f"Detected: the first {'request' if application else 'attempt'} fails", False),
                ("decide_seconds", f"Switch decided: {decided}", False),
                ("recovery_seconds", f"First good answer from {who}", True),
            ),
            start=1,
        ):
            after = figure(phase, key)
            place = event.elapsed_seconds + (after or 0.0)
            if after is not None:
                one = Moment(place, title, (f"{seconds_text(after, places)} after the fault",), milestone=milestone)
                yield (place, event.seq * 10 + order), one
            elif key == "recovery_seconds":
                yield (
                    (place, event.seq * 10 + order),
                    Moment(None, f"No good answer came from {who} while it lasted"),
                )


def _serves_again(journal: Journal, event: Event) -> Iterator[Placed]:
    """Router events are written down a little after they happen; each says itself when it was."""
    at = _happened(journal, event)
    if at is None:
        return
    stack = word(event.data, "stack")
    title = f"The {stack} serves again: traffic goes back"
    yield (at, event.seq * 10), Moment(at, title, reference=f"#{event.seq}")


def _happened(journal: Journal, event: Event) -> float | None:
    """By the log's own clock; in a journal that does not say, by the wall's."""
    told = figure(event.data, "elapsed_seconds")
    if told is not None:
        return told
    try:
        at = (datetime.fromisoformat(word(event.data, "at")) - moment(journal.events[0])).total_seconds()
    except (ValueError, TypeError):
        return None
    return at + journal.events[0].elapsed_seconds


def _at_the_table(data: Data) -> str:
    """`price_increase, respond: by service_owner`: what was decided stands in its own section."""
    where = ", ".join(filter(None, (word(data, "inject"), word(data, "question"))))
    return where + (f": by {word(data, 'role')}" if word(data, "role") else "")


def _at(event: Event, title: str, detail: str = "", milestone: bool = False) -> Placed:
    at = event.elapsed_seconds
    one = Moment(at, title, (detail,) if detail else (), f"#{event.seq}", milestone)
    return (at, event.seq * 10), one


def _part(data: Data) -> str:
    on = word(data, "on")
    return f"{word(data, 'stack') or 'primary'}’s {PARTS.get(on, on)}"


def _all_events(journal: Journal) -> Fold:
    events = journal.events
    left_out = max(0, len(events) - 2 * _EDGE_EVENTS)
    shown = events if not left_out else (*events[:_EDGE_EVENTS], *events[-_EDGE_EVENTS:])
    note = ""
    if left_out:
        note = f"{counted(left_out, 'event')} after #{_EDGE_EVENTS} are left out here; the journal holds them all."
    columns = (
        numbers("Number"),
        numbers("Written at", "s", 3),
        Column("Kind"),
        Column("What"),
        Column(f"Hash, first {_SHOWN}"),
    )
    rows = tuple(_event_row(event) for event in shown)
    return Fold(f"All {counted(len(events), 'event')}", (Table("Events as logged", columns, rows, note),))


def _event_row(event: Event) -> Row:
    return row(event.seq, event.elapsed_seconds, event.kind, _what(event) or "nothing more", code(event.hash[:_SHOWN]))


def _what(event: Event) -> str:
    data = in_words(event.data)
    if event.kind == "step.finished":
        step = StepRun(word(data, "step"), event, event)
        return ": ".join(filter(None, (step.name, word(data, "verdict"), in_one_line(step))))
    if event.kind in {"fault.injected", "fault.healed"}:
        return " ".join(filter(None, (word(data, "on"), word(data, "fault"), word(data, "how"))))
    if event.kind == "router":
        kind, detail = word(data, "kind"), part(data, "detail")
        told = word(detail, "reason") or word(detail, "error_class")
        at = figure(data, "elapsed_seconds")
        when = "" if at is None else f", at {seconds_text(at, 3)}"
        return f"{word(data, 'stack')}: {ROUTER.get(kind, kind)}" + (f" ({told})" if told else "") + when
    if event.kind == "tabletop.began":
        return f"stated: {word(data, 'stated_at')}"
    if event.kind.startswith("tabletop."):
        return _at_the_table(data)
    if event.kind in {"run.judged", FINISHED}:
        return word(data, "verdict")
    if event.kind == "run.started":
        return word(data, "run_id")
    return ": ".join(filter(None, (word(data, "step"), word(data, "reason") or word(data, "because"))))
