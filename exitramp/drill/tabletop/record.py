"""A sitting as its journal has it: who sat there, what was read out, what was decided, and what is to be done."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
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


def _decision(event: Event) -> Decision | None:
    data = event.data
    try:
        minutes = data.get("minutes")
        return Decision(
            **{
                **{name: data[name] for name in Decision.__slots__},
                "minutes": None if minutes is None else float(minutes),
                "undecided": bool(data["undecided"]),
            }
        )
    except (KeyError, TypeError, ValueError):
        return None
