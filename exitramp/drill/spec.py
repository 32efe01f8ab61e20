"""A drill as data: what stands where, what is promised, which steps run, and when to stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

VERSION: Final = 1
SHOWABLE: Final = ("question", "answer")
"""Texts of flipped golden cases that a drill file may allow into the journal. Otherwise none is written anywhere."""


@dataclass(frozen=True, slots=True)
class Objectives:
    """What is promised before the run; None is not promised and not judged.

    rto_seconds: from a fault's injection to the first good answer from the substitute, worst fault.
    rpo_records: records that the substitute lacks or holds in an older state when it takes over.
    rpo_seconds: how old the substitute's state is where the primary was lost for good: from the dump's beginning, since
    what is written while it runs may be in it or not, to the loss.
    error_rate: share of requests in the outage that got no good answer from anyone.
    p95_latency_ms: of good answers while the substitute serves. quality_margin: how much worse it may be at most.
    usd_per_request: mean cost of a request on the substitute.
    """

    rto_seconds: float | None = None
    rpo_records: int | None = None
    error_rate: float | None = None
    p95_latency_ms: float | None = None
    quality_margin: float | None = None
    usd_per_request: float | None = None
    rpo_seconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in self.__slots__}
        if self.rpo_seconds is None:
            del found["rpo_seconds"]  # objectives that were hashed before there was one keep their hash
        return found


@dataclass(frozen=True, slots=True)
class StopConditions:
    """The run is aborted and rolled back as soon as one of these is reached."""

    errors: int | None = None
    usd: float | None = None
    minutes: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Part:
    """A store or a chat model: either a service that the drill starts, or an address that is there already.

    proxy_port: where a fault proxy of the drill listens in front of it, for an application that the drill does not
    start and that therefore has to know where to find it.
    """

    address: str | None = None
    service: str | None = None
    collection: str | None = None
    model: str | None = None
    proxy_port: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def to_json(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in found.items() if value not in (None, {})}


@dataclass(frozen=True, slots=True)
class StackSpec:
    """A store and, where the application has them, a chat model and the embedding model that its questions go through;
    they switch as one."""

    name: str
    store: Part
    chat: Part | None
    embedding: Part | None = None

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"store": self.store.to_json(), "chat": self.chat.to_json() if self.chat else None}
        return found if self.embedding is None else found | {"embedding": self.embedding.to_json()}


@dataclass(frozen=True, slots=True)
class DataSpec:
    """Real input. `golden`, `prompts`, `prices` name packaged ones, or files relative to the drill's."""

    corpus: str | None = None
    embedder: str | None = None
    golden: str | None = None
    prompts: str | None = None
    prices: str | None = None
    monthly_requests: int | None = None
    show_values: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in self.__slots__}
        return {**found, "show_values": list(self.show_values)}


@dataclass(frozen=True, slots=True)
class OrchestrationSpec:
    """How the application's side asks, tries, waits and gives up. All in seconds but the counts.

    maximum_tokens: of an answer; one that is cut off there is no answer. stop: texts before which an answer ends.
    """

    depth_k: int = 5
    maximum_tokens: int = 512
    stop: tuple[str, ...] = ()
    attempt_timeout_seconds: float = 1.0
    deadline_seconds: float = 5.0
    tries: int = 2
    breaker_failures: int = 3
    breaker_window_seconds: float = 10.0
    breaker_cooldown_seconds: float = 5.0

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__} | {"stop": list(self.stop)}


@dataclass(frozen=True, slots=True)
class SwitchHook:
    """What is run when the application has to be told: `command` at the decision, `back` when the primary is healed.
    Each has `seconds` to end."""

    command: tuple[str, ...]
    back: tuple[str, ...] = ()
    seconds: float = 30.0

    def to_json(self) -> dict[str, Any]:
        return {"command": list(self.command), "back": list(self.back), "seconds": self.seconds}


@dataclass(frozen=True, slots=True)
class StartSpec:
    """The server of an application that the drill starts itself, in the folder of the application's file; `seconds`
    is how long it may take until its port answers."""

    command: tuple[str, ...]
    seconds: float = 30.0

    def to_json(self) -> dict[str, Any]:
        return {"command": list(self.command), "seconds": self.seconds}


@dataclass(frozen=True, slots=True)
class ApplicationSpec:
    """The user's own application, asked in the place of the stacks. `file` is as `eval run --app` reads it; without a
    `switch` the application finds out by itself; without a `start` it runs already."""

    file: str
    switch: SwitchHook | None = None
    start: StartSpec | None = None

    def to_json(self) -> dict[str, Any]:
        started = {"start": self.start.to_json()} if self.start else {}
        return {"file": self.file, "switch": self.switch.to_json() if self.switch else None} | started


@dataclass(frozen=True, slots=True)
class StepSpec:
    """One step: its name and its arguments as read by the step itself."""

    name: str
    arguments: Any
    line: int


@dataclass(frozen=True, slots=True)
class DrillSpec:
    """The whole drill. `folder` is where relative names start; None for packaged drills. `lines` says where in `file`
    what names a file or an address stands, e.g. `data.golden`."""

    name: str
    title: str
    description: str
    scope: str
    mode: str
    expected: str
    roles: Mapping[str, str]
    objectives: Objectives
    stop: StopConditions
    data: DataSpec
    primary: StackSpec
    substitute: StackSpec
    orchestration: OrchestrationSpec
    steps: tuple[StepSpec, ...]
    folder: Path | None
    file: str
    lines: Mapping[str, int] = field(default_factory=dict, hash=False, compare=False)
    application: ApplicationSpec | None = None

    def to_json(self) -> dict[str, Any]:
        """Everything that defines the run, for the journal and the report."""
        own = {} if self.application is None else {"application": self.application.to_json()}
        return own | {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "scope": self.scope,
            "mode": self.mode,
            "expected": self.expected,
            "roles": dict(self.roles),
            "objectives": self.objectives.to_json(),
            "stop": self.stop.to_json(),
            "data": self.data.to_json(),
            "primary": self.primary.to_json(),
            "substitute": self.substitute.to_json(),
            "orchestration": self.orchestration.to_json(),
            "steps": [{"name": step.name, **step.arguments.to_json()} for step in self.steps],
        }
