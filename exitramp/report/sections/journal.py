"""A drill's journal by steps: what each found, and of what is missing, why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from exitramp.drill.event import FINISHED, Event
from exitramp.drill.naming import without_classes
from exitramp.errors import DataInvalid
from exitramp.records import Verdict
from exitramp.report.sections.fields import NOTHING, Data, objects, part, verdict, word


@dataclass(frozen=True, slots=True)
class StepRun:
    """One step as it ran. `finished` is None for one that was stopped or broken off."""

    name: str
    started: Event
    finished: Event | None

    @property
    def data(self) -> Data:
        return part(self.finished.data, "data") if self.finished else NOTHING

    @property
    def findings(self) -> tuple[Data, ...]:
        return objects(self.finished.data, "findings") if self.finished else ()

    @property
    def verdict(self) -> Verdict | None:
        return verdict(self.finished.data, "verdict") if self.finished else None

    @property
    def seconds(self) -> float | None:
        return self.finished.elapsed_seconds - self.started.elapsed_seconds if self.finished else None


@dataclass(frozen=True, slots=True)
class Journal:
    """The events of one run.

    `torn_bytes` is the length of a last line that was never written to its end. `is_anchored` says that a copy of the
    last hash, made by the run itself, agrees: without one nothing shows that these are the events that were written.
    """

    events: tuple[Event, ...]
    steps: tuple[StepRun, ...]
    torn_bytes: int
    is_anchored: bool

    @classmethod
    def of(cls, events: Sequence[Event], torn_bytes: int = 0, *, is_anchored: bool = False) -> Journal:
        """Raises `DataInvalid` for events that are not those of a drill."""
        if not events or events[0].kind != "run.started":
            raise DataInvalid(
                "this is not the journal of a drill: it does not begin with 'run.started'",
                hint="give the folder that `exitramp drill run` wrote",
            )
        return cls(tuple(events), tuple(_steps(events)), torn_bytes, is_anchored)

    @property
    def started(self) -> Data:
        return self.events[0].data

    @property
    def drill(self) -> Data:
        return part(self.started, "drill")

    @property
    def judged(self) -> Data | None:
        """What the engine concluded; None for a run that was killed before."""
        return self._last("run.judged")

    @property
    def aborts(self) -> tuple[Data, ...]:
        return tuple(in_words(event.data) for event in self.of_kind("run.aborted"))

    @property
    def aborted(self) -> Data | None:
        """Where and why the drill was stopped: the first time, since what was broken off later is the way back."""
        return self.aborts[0] if self.aborts else None

    @property
    def stopped_where(self) -> str:
        """`in the step “dump”`: or before it, or after it, by which of its events came before the stop."""
        first = next((event for event in self.events if event.kind == "run.aborted"), None)
        if first is None:
            return ""
        name = word(first.data, "step")
        ran = [step for step in self.steps if step.name == name and step.started.seq < first.seq]
        if not ran:
            return f"before the step “{name}”"
        ended = ran[-1].finished is not None and ran[-1].finished.seq < first.seq
        return f"{'after' if ended else 'in'} the step “{name}”"

    @property
    def is_finished(self) -> bool:
        return self.events[-1].kind == FINISHED and self.judged is not None

    @property
    def head(self) -> str:
        return self.events[-1].hash

    @property
    def last(self) -> Event:
        return self.events[-1]

    def of_kind(self, *kinds: str) -> tuple[Event, ...]:
        return tuple(event for event in self.events if event.kind in kinds)

    def step(self, name: str) -> StepRun | None:
        """The last step of that name that ran to its end."""
        found = [step for step in self.steps if step.name == name and step.finished is not None]
        return found[-1] if found else None

    def data(self, name: str) -> Data:
        """What the step found; empty where it did not run to its end."""
        found = self.step(name)
        return found.data if found else NOTHING

    def every(self, name: str) -> tuple[Data, ...]:
        """What each run of the step found; a drill may have a step more than once."""
        return tuple(step.data for step in self.steps if step.name == name and step.finished is not None)

    def wanted(self, name: str) -> bool:
        """Whether the drill file asks for that step."""
        return any(word(each, "name") == name for each in objects(self.drill, "steps"))

    def absence(self, name: str) -> str:
        """Why there is no result of that step, as a sentence; "" where there is one."""
        if self.step(name) is not None:
            return ""
        if not self.wanted(name):
            return f"The step “{name}” is not part of this drill."
        for each in self.aborts:
            if word(each, "step") == name:
                why = word(each, "reason").rstrip(".") or "the journal does not say why"
                return f"The drill was stopped {self.stopped_where}: {why}."
        if self.aborted is not None:
            return f"The drill was stopped {self.stopped_where}, and “{name}” did not run."
        if any(step.name == name for step in self.steps):
            return f"The run broke off in the step “{name}”."
        return f"The run did not get as far as the step “{name}”."

    def remarks(self, name: str) -> tuple[str, ...]:
        """The messages of the step's findings."""
        found = self.step(name)
        return tuple(word(each, "message") for each in found.findings) if found else ()

    def _last(self, kind: str) -> Data | None:
        found = self.of_kind(kind)
        return found[-1].data if found else None


def in_words(data: Data) -> Data:
    """What an event says, its reason without a class of the program's."""
    return {**data, **{key: without_classes(word(data, key)) for key in ("reason", "because") if word(data, key)}}


def moment(event: Event) -> datetime:
    """When it was written."""
    return datetime.fromisoformat(event.ts)


def _steps(events: Sequence[Event]) -> list[StepRun]:
    found: list[StepRun] = []
    for event in events:
        name = word(event.data, "step")
        if event.kind == "step.started":
            found.append(StepRun(name, event, None))
        elif event.kind == "step.finished" and found and found[-1].name == name:
            found[-1] = StepRun(name, found[-1].started, event)
    return found
