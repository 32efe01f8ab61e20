"""Holding a table-top drill: injects are read out, decisions recorded as they are made, one event each.

Everything recorded is in the journal before the next question is asked, so whatever ends the process, nothing of it is
lost. A sitting that was interrupted goes on where it stopped; one whose input ends (a file, a pipe) is judged as it is.
"""

from __future__ import annotations

import platform
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from exitramp import __version__
from exitramp.clock import Clock, SystemClock, iso_utc
from exitramp.drill.event import Event
from exitramp.drill.event_log import EventLog
from exitramp.drill.interruption import Interruption
from exitramp.drill.tabletop import record
from exitramp.drill.tabletop.decisions import MEASURED, STATED, Action, Decision, Record, parse_due, refuse_later_than
from exitramp.drill.tabletop.judging import Expectation, judge, verdict_of
from exitramp.drill.tabletop.record import Sitting, measured_minutes
from exitramp.drill.tabletop.spec import Asked, Inject, TabletopSpec
from exitramp.errors import UsageError
from exitramp.records import Verdict

LOG_NAME: Final = "journal.jsonl"
NOBODY: Final = "-"
"""What is typed where those at the table say that nobody can decide it."""
_LONGEST: Final = 100_000

Ask = Callable[[str], str | None]
"""Asks for one line and returns it without its end; None where there is no more input."""


@dataclass(frozen=True, slots=True)
class SittingResult:
    """`paused`: it was interrupted and can be resumed; it is then inconclusive and its log is not ended."""

    run_id: str
    folder: Path
    verdict: Verdict
    expectations: tuple[Expectation, ...]
    head: str
    paused: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict.value,
            "run_id": self.run_id,
            "folder": str(self.folder),
            "how": "table-top",
            "paused": self.paused,
            "expectations": [
                {name: getattr(each, name) for name in Expectation.__slots__} | {"verdict": each.verdict.value}
                for each in self.expectations
            ],
            "gaps": [each.gap for each in self.expectations if each.gap],
            "event_log_head": self.head,
        }


class _NoMoreInput(Exception):
    """The input ended: what was not decided stays undecided, and the sitting is judged."""


def begin(
    spec: TabletopSpec,
    folder: Path,
    *,
    ask: Ask | None,
    given: Record | None,
    operator: str = "",
    command: str = "",
    say: Callable[[str], None] = lambda text: None,
    clock: Clock | None = None,
    interruption: Interruption | None = None,
) -> SittingResult:
    """Hold the drill, with decisions `given` from a file, or asked for one by one by `ask`; `folder` must be new or
    empty. Without either, nothing is decided."""
    clock = clock or SystemClock()
    if folder.is_dir() and any(folder.iterdir()):
        hint = "give another folder with --out; one that was interrupted goes on with 'exitramp drill resume FOLDER'"
        raise UsageError(f"{folder} is not empty", hint=hint)
    refuse_later_than(given, clock.now())
    folder.mkdir(parents=True, exist_ok=True)
    run_id = f"{clock.now():%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"
    with EventLog.create(folder / LOG_NAME, clock) as log:
        table = _Table(spec, folder, run_id, log, [], say, clock, interruption or Interruption())
        table.write("run.started", _started(spec, run_id, operator, command))
        return table.hold(ask, given)


def resume(
    folder: Path,
    *,
    ask: Ask | None,
    given: Record | None,
    say: Callable[[str], None] = lambda text: None,
    clock: Clock | None = None,
    interruption: Interruption | None = None,
) -> SittingResult:
    """Go on with the sitting whose journal lies in `folder`, by the drill as it stands there."""
    clock = clock or SystemClock()
    refuse_later_than(given, clock.now())
    log, reading = EventLog.resume(folder / LOG_NAME, clock)
    with log:
        sitting = Sitting.of(reading.events)
        run_id = str(reading.events[0].data.get("run_id"))
        table = _Table(
            sitting.spec, folder, run_id, log, list(reading.events), say, clock, interruption or Interruption()
        )
        last = reading.events[-1]
        table.write(record.RESUMED, {"after": last.kind, "last_at": last.ts, "torn_bytes": reading.torn_bytes})
        return table.hold(ask, given)


class _Table:
    def __init__(
        self,
        spec: TabletopSpec,
        folder: Path,
        run_id: str,
        log: EventLog,
        events: list[Event],
        say: Callable[[str], None],
        clock: Clock,
        interruption: Interruption,
    ) -> None:
        self._spec, self._folder, self._run_id, self._log = spec, folder, run_id, log
        self._events, self._say, self._clock, self._interruption = events, say, clock, interruption

    def write(self, kind: str, data: dict[str, Any]) -> Event:
        with self._interruption.held():
            event = self._log.append(kind, data)
            self._events.append(event)
        return event

    @property
    def _sitting(self) -> Sitting:
        return Sitting.of(self._events)

    def hold(self, ask: Ask | None, given: Record | None) -> SittingResult:
        try:
            with self._interruption.interruptible():
                if given is not None:
                    self._take(given)
                elif ask is not None:
                    self._ask_all(ask)
        except KeyboardInterrupt:
            self.write(record.PAUSED, {})
            sitting = self._sitting
            found = judge(sitting.spec, sitting.decisions)
            return SittingResult(self._run_id, self._folder, Verdict.INCONCLUSIVE, found, self._log.head, paused=True)
        except _NoMoreInput:
            self._say("\nno more input: what was not decided stays without a decision")
        return self._end()

    def _end(self) -> SittingResult:
        sitting = self._sitting
        found = judge(sitting.spec, sitting.decisions)
        verdict = verdict_of(found)
        with self._interruption.held():
            self._log.append(
                "run.judged",
                {
                    "verdict": verdict.value,
                    "expectations": {each.key: each.verdict.value for each in found},
                    "ended_at": iso_utc(self._clock.now()),
                },
            )
            head = self._log.finish({"verdict": verdict.value})
        return SittingResult(self._run_id, self._folder, verdict, found, head, paused=False)

    # ------------------------------------------------------------------ from a file

    def _take(self, given: Record) -> None:
        sitting = self._sitting
        source = {"file": given.file, "sha256": given.sha256}
        for one in given.decisions:
            there = sitting.decisions.get(one.key)
            if there is not None and replace(there, source="", measured_minutes=None) != replace(one, source=""):
                raise UsageError(
                    f"{given.file}: '{one.inject}', '{one.question}' is in the journal already, decided otherwise",
                    hint="what is recorded is not changed; leave it away from the file",
                )
        if given.began_at is not None and sitting.began_at not in {None, given.began_at}:
            raise UsageError(
                f"{given.file}: it states another 'began_at' than the journal has",
                hint="what is recorded is not changed; leave it away from the file",
            )
        if given.began_at is not None and sitting.began_at is None:
            self.write(record.BEGAN, {"stated_at": iso_utc(given.began_at)} | source)
        if not sitting.has_participants:
            people = [{"name": name, "role": role} for name, role in given.people]
            told = {"facilitator": given.facilitator, "data_collector": given.data_collector, "people": people}
            self.write(record.PARTICIPANTS, told | source)
        for inject in self._spec.injects:
            if inject.name not in sitting.read_out:
                self.write(record.INJECT, {"inject": inject.name, "at_minutes": inject.at_minutes, "how": "by file"})
            for one in given.decisions:
                if one.inject == inject.name and one.key not in sitting.decisions:
                    self.write(record.DECISION, one.to_json() | {"file": given.file, "file_sha256": given.sha256})
        for action in given.actions:
            if action not in sitting.actions:
                self.write(record.ACTION, action.to_json())

    # ------------------------------------------------------------------ at a prompt

    def _ask_all(self, ask: Ask) -> None:
        if not self._sitting.has_participants:
            self._ask_participants(ask)
        for number, inject in enumerate(self._spec.injects, start=1):
            sitting = self._sitting
            open_ = [
                each
                for each in inject.questions
                if (inject.name, each.name) not in sitting.decisions and (inject.name, each.name) not in sitting.skipped
            ]
            if not open_:
                continue
            self._say(f"\nInject {number} of {len(self._spec.injects)}, minute {inject.at_minutes:g}: {inject.title}")
            self._say(inject.text)
            if inject.name not in sitting.read_out:
                self.write(
                    record.INJECT, {"inject": inject.name, "at_minutes": inject.at_minutes, "how": "at the prompt"}
                )
            for asked in open_:
                self._ask_question(ask, inject, asked)
        self._ask_actions(ask)

    def _ask_participants(self, ask: Ask) -> None:
        self._say("Names are written as they are typed, and stand in the journal and the report. Empty: nobody.")
        facilitator = _line(ask, "Facilitator: ")
        collector = _line(ask, "Data collector, who writes down: ")
        people = [
            {"name": name, "role": role}
            for role, task in self._spec.roles.items()
            if (name := _line(ask, f"{role}{f' ({task})' if task else ''}: "))
        ]
        told = {"facilitator": facilitator, "data_collector": collector, "people": people}
        self.write(record.PARTICIPANTS, told)

    def _ask_question(self, ask: Ask, inject: Inject, asked: Asked) -> None:
        within = f", within {asked.within_minutes:g} min" if asked.within_minutes is not None else ""
        self._say(f"\n  {asked.ask}\n  (for {asked.by} to decide{within})")
        key = {"inject": inject.name, "question": asked.name}
        if not any(each.kind == record.ASKED and dict(each.data) == key for each in self._events):
            self.write(record.ASKED, key)
        text = _line(ask, f"  Decision (empty: none is recorded; {NOBODY}: nobody can decide): ")
        taken = measured_minutes(self._events, inject.name, asked.name, self._log.elapsed(self._clock.monotonic()))
        if not text:
            self.write(record.SKIPPED, key)
            self._say("  no decision is recorded")
            return
        undecided = text == NOBODY
        known = {role: name for name, role in self._sitting.people}
        role = "" if undecided else self._role(ask, asked.by)
        seated = known.get(role, "")
        who = "" if undecided else _line(ask, f"  Who decided{f' [{seated}]' if seated else ''}: ") or seated
        while not undecided and not who:
            who = _line(ask, "  A decision needs a name: ")
        minutes = self._minutes(ask, taken)
        step = None if undecided else self._step(ask)
        evidence = "" if undecided else _line(ask, "  Evidence, e.g. a ticket or a document (empty: none): ")
        made = Decision(
            inject.name,
            asked.name,
            who,
            role,
            "" if undecided else text,
            undecided,
            minutes if minutes is not None else taken,
            STATED if minutes is not None else None if taken is None else MEASURED,
            taken,
            step,
            evidence,
        )
        event = self.write(record.DECISION, made.to_json())
        self._say(f"  recorded as event {event.seq}")

    def _role(self, ask: Ask, usual: str) -> str:
        while True:
            found = _line(ask, f"  In which role [{usual}]: ") or usual
            if found in self._spec.roles:
                return found
            self._say(f"  there is no role '{found}' at this table; it can be {', '.join(self._spec.roles)}")

    def _minutes(self, ask: Ask, taken: float | None) -> float | None:
        usual = "not known" if taken is None else f"{taken:.1f} by the clock"
        while True:
            text = _line(ask, f"  Minutes it took [{usual}]: ")
            if not text:
                return None
            try:
                found = float(text)
            except ValueError:
                found = -1.0
            if 0 <= found <= _LONGEST:
                return found
            self._say("  that is no number of minutes")

    def _step(self, ask: Ask) -> str | None:
        if not self._spec.runbook:
            return None
        while True:
            text = _line(ask, f"  Runbook step, of {', '.join(self._spec.runbook)} (empty: none): ")
            if not text:
                return None
            if text in self._spec.runbook:
                return text
            self._say(f"  the runbook has no step '{text}'")

    def _ask_actions(self, ask: Ask) -> None:
        self._say("\nAction items. Empty: no more.")
        while what := _line(ask, "What is to be done: "):
            owner = _line(ask, "  Owner: ")
            due = ""
            while text := _line(ask, "  Due, e.g. 2030-01-31: "):
                due = parse_due(text) or ""
                if due:
                    break
                self._say("  that is no date")
            self.write(record.ACTION, Action(what, owner, due).to_json())


def _line(ask: Ask, prompt: str) -> str:
    found = ask(prompt)
    if found is None:
        raise _NoMoreInput
    return found.strip()


def _started(spec: TabletopSpec, run_id: str, operator: str, command: str) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "drill": spec.to_json(),
        "file": spec.file,
        "objectives": spec.expectations(),
        "objectives_sha256": spec.expectations_sha256(),
        "operator": operator,
        "command": command,
        "tool_version": __version__,
        "python_version": sys.version.split()[0],
        "platform": f"{platform.system()} {platform.machine()}",
    }
