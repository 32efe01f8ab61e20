"""A sitting as its journal has it: who sat there, what was read out, what was decided, and what is to be done."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from exitramp import canonical
from exitramp.drill.event import Event
from exitramp.drill.tabletop.decisions import Action, Decision
from exitramp.drill.tabletop.reading import parse_tabletop
from exitramp.drill.tabletop.spec import TABLETOP, TabletopSpec
from exitramp.errors import DataInvalid

PARTICIPANTS: Final = "tabletop.participants"
INJECT: Final = "tabletop.inject"
ASKED: Final = "tabletop.asked"
BEGAN: Final = "tabletop.began"
"""When the sitting began, by the word of people: written where a decisions file states it."""
DECISION: Final = "tabletop.decision"
SKIPPED: Final = "tabletop.skipped"
ACTION: Final = "tabletop.action"
PAUSED: Final = "tabletop.paused"
RESUMED: Final = "run.resumed"
KINDS: Final = (PARTICIPANTS, INJECT, ASKED, DECISION, SKIPPED, ACTION, PAUSED, RESUMED)


@dataclass(frozen=True, slots=True)
class Sitting:
    """What a journal of a table-top drill holds; `numbers` says which event holds which decision."""

    spec: TabletopSpec
    facilitator: str
    data_collector: str
    people: tuple[tuple[str, str], ...]
    has_participants: bool
    decisions: dict[tuple[str, str], Decision]
    numbers: dict[tuple[str, str], int]
    read_out: frozenset[str]
    skipped: frozenset[tuple[str, str]]
    actions: tuple[Action, ...]
    doubts: tuple[str, ...]
    began_at: datetime | None = None
    """Stated by people; None where nobody did."""
    began_number: int | None = None

    @classmethod
    def of(cls, events: Sequence[Event]) -> Sitting:
        """Raises `DataInvalid` for the journal of another kind of drill, or one whose drill cannot be read."""
        drill = events[0].data.get("drill") if events and events[0].kind == "run.started" else None
        if not isinstance(drill, dict) or drill.get("mode") != TABLETOP:
            raise DataInvalid("this is not the journal of a table-top drill")
        spec = parse_tabletop(canonical.dumps(drill), "the drill in the journal", folder=None)
        told: dict[str, Any] = next((dict(each.data) for each in events if each.kind == PARTICIPANTS), {})
        decisions: dict[tuple[str, str], Decision] = {}
        numbers: dict[tuple[str, str], int] = {}
        doubts = []
        if events[0].data.get("objectives_sha256") != spec.expectations_sha256():
            doubts.append("the hash of what was expected is not that of what is expected beside it")
        began, began_number = _began(events)
        for event in events:
            if event.kind != DECISION:
                continue
            one = _decision(event)
            if one is None or spec.find(*one.key) is None:
                doubts.append(f"event #{event.seq} is a decision of nothing that was asked")
            elif one.key in decisions:
                doubts.append(f"event #{event.seq} decides anew what event #{numbers[one.key]} had decided")
            else:
                decisions[one.key], numbers[one.key] = one, event.seq
                if not _reckons(spec, one, began):
                    doubts.append(f"event #{event.seq} states minutes that are not those between the stated moments")
        return cls(
            spec,
            str(told.get("facilitator") or ""),
            str(told.get("data_collector") or ""),
            tuple((str(each.get("name")), str(each.get("role"))) for each in told.get("people") or ()),
            bool(told),
            decisions,
            numbers,
            frozenset(str(each.data.get("inject")) for each in events if each.kind == INJECT),
            frozenset(
                (str(each.data.get("inject")), str(each.data.get("question")))
                for each in events
                if each.kind == SKIPPED
            ),
            tuple(
                Action(*(str(each.data.get(name) or "") for name in Action.__slots__))
                for each in events
                if each.kind == ACTION
            ),
            tuple(doubts),
            began,
            began_number,
        )


def measured_minutes(events: Sequence[Event], inject: str, question: str, now_seconds: float) -> float | None:
    """From the question to `now_seconds` on the log's clock, pauses left out. None where the process was killed in
    between: how long it was thought about before that is written nowhere."""
    asked = [
        number
        for number, each in enumerate(events)
        if each.kind == ASKED and (each.data.get("inject"), each.data.get("question")) == (inject, question)
    ]
    if not asked:
        return None
    since = events[asked[0] :]
    for before, each in itertools.pairwise(since):
        if each.kind == RESUMED and before.kind != PAUSED:
            return None
    return max(0.0, now_seconds - since[0].elapsed_seconds) / 60


def _began(events: Sequence[Event]) -> tuple[datetime | None, int | None]:
    for event in events:
        if event.kind == BEGAN:
            try:
                return datetime.fromisoformat(str(event.data.get("stated_at"))), event.seq
            except ValueError:
                return None, event.seq
    return None, None


def _reckons(spec: TabletopSpec, made: Decision, began: datetime | None) -> bool:
    """Whether the minutes follow from the moment that was stated: the reader of the journal can do the same sum."""
    if made.stated_at is None:
        return True
    inject = next(each for each in spec.injects if each.name == made.inject)
    try:
        at = datetime.fromisoformat(made.stated_at)
        minutes = None if began is None else (at - began).total_seconds() / 60 - inject.at_minutes
    except (ValueError, TypeError):
        return False
    return minutes is not None and made.minutes is not None and abs(minutes - made.minutes) < 0.001


def _decision(event: Event) -> Decision | None:
    data = event.data
    try:
        minutes = data.get("minutes")
        return Decision(
            **{
                **{name: data[name] for name in Decision.__slots__ if name != "stated_at"},
                "minutes": None if minutes is None else float(minutes),
                "undecided": bool(data["undecided"]),
                "stated_at": None if data.get("stated_at") is None else str(data["stated_at"]),
            }
        )
    except (KeyError, TypeError, ValueError):
        return None
