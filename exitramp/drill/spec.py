"""A drill as data: what stands where, what is promised, which steps run, and when to stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from exitramp.yaml_reader import Block, read_block

VERSION: Final = 1
SHOWABLE: Final = ("question", "answer")
"""Texts of flipped golden cases that a drill file may allow into the journal. Otherwise none is written anywhere."""


@dataclass(frozen=True, slots=True)
class Objectives:
    """What is promised before the run; None is not promised and not judged.

    rto_seconds: from the first failed request to the first good answer from the substitute.
    rpo_records: records that the substitute lacks or holds in an older state when it takes over.
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

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class StopConditions:
    """The run is aborted and rolled back before more than this is spent."""

    errors: int | None = None
    usd: float | None = None
    minutes: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Part:
    """A store or a chat model: either a service that the drill starts, or an address that is there already."""

    address: str | None = None
    service: str | None = None
    collection: str | None = None
    model: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def to_json(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in found.items() if value not in (None, {})}


@dataclass(frozen=True, slots=True)
class StackSpec:
    """A store and, where the application has one, a chat model; they switch as one."""

    name: str
    store: Part
    chat: Part | None

    def to_json(self) -> dict[str, Any]:
        return {"store": self.store.to_json(), "chat": self.chat.to_json() if self.chat else None}


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
    """How the application's side tries, waits and gives up. All in seconds but the counts."""

    depth_k: int = 5
    attempt_timeout_seconds: float = 1.0
    deadline_seconds: float = 5.0
    tries: int = 2
    breaker_failures: int = 3
    breaker_window_seconds: float = 10.0
    breaker_cooldown_seconds: float = 5.0

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class StepSpec:
    """One step: its name and its arguments as read by the step itself."""

    name: str
    arguments: Any
    line: int


@dataclass(frozen=True, slots=True)
class DrillSpec:
    """The whole drill. `folder` is where relative names start; None for packaged drills."""

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

    def to_json(self) -> dict[str, Any]:
        """Everything that defines the run, for the journal and the report."""
        return {
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


ROLES: Final = ("owner", "coordinator", "reporter", "observer")


def parse_drill(text: str, file: str, *, folder: Path | None, steps: Mapping[str, Any]) -> DrillSpec:
    """The drill that a YAML text describes; `steps` maps a step's name to what reads its arguments from a block.

    Raises `ConfigError` with file and line for anything that is not known.
    """
    top = read_block(text, file)
    version = top.integer("version")
    if version != VERSION:
        raise top.error(f"drill files of version {version} are not known to this program", "version")
    spec = DrillSpec(
        name=top.text("name"),
        title=top.text("title"),
        description=top.text("description", ""),
        scope=top.text("scope", ""),
        mode=top.choice("mode", ("stressed", "planned")),
        expected=top.choice("expected", ("pass", "fail", "inconclusive"), "pass"),
        roles=_roles(top),
        objectives=_objectives(top),
        stop=_stop(top),
        data=_data(top),
        primary=_stack(top, "primary"),
        substitute=_stack(top, "substitute"),
        orchestration=_orchestration(top),
        steps=_steps(top, steps),
        folder=folder,
        file=file,
    )
    top.finish()
    return spec


def _roles(top: Block) -> dict[str, str]:
    block = top.block("roles", required=False)
    found = {role: (block.text(role, "") if block else "") for role in ROLES}
    if block:
        block.finish()
    return found


def _objectives(top: Block) -> Objectives:
    block = top.block("objectives")
    assert block is not None
    found = Objectives(
        rto_seconds=block.number("rto_seconds", None, minimum=0),
        rpo_records=block.integer("rpo_records", None, minimum=0),
        error_rate=block.number("error_rate", None, minimum=0),
        p95_latency_ms=block.number("p95_latency_ms", None, minimum=0),
        quality_margin=block.number("quality_margin", None, minimum=0),
        usd_per_request=block.number("usd_per_request", None, minimum=0),
    )
    block.finish()
    return found


def _stop(top: Block) -> StopConditions:
    block = top.block("stop", required=False)
    if block is None:
        return StopConditions()
    found = StopConditions(
        errors=block.integer("errors", None, minimum=1),
        usd=block.number("usd", None, minimum=0),
        minutes=block.number("minutes", None, minimum=0),
    )
    block.finish()
    return found


def _data(top: Block) -> DataSpec:
    block = top.block("data", required=False)
    if block is None:
        return DataSpec()
    found = DataSpec(
        corpus=block.text("corpus", None),
        embedder=block.text("embedder", None),
        golden=block.text("golden", None),
        prompts=block.text("prompts", None),
        prices=block.text("prices", None),
        monthly_requests=block.integer("monthly_requests", None, minimum=0),
        show_values=block.texts("show_values", ()),
    )
    for name in found.show_values:
        if name not in SHOWABLE:
            raise block.error(f"'{name}' cannot be shown", "show_values", hint=f"what can: {', '.join(SHOWABLE)}")
    block.finish()
    return found


def _stack(top: Block, name: str) -> StackSpec:
    block = top.block(name)
    assert block is not None
    store = block.block("store")
    assert store is not None
    chat = block.block("chat", required=False)
    found = StackSpec(name, _part(store), _part(chat) if chat else None)
    block.finish()
    return found


def _part(block: Block) -> Part:
    found = Part(
        address=block.text("address", None),
        service=block.text("service", None),
        collection=block.text("collection", None),
        model=block.text("model", None),
        options=block.anything("options", {}),
    )
    if (found.address is None) == (found.service is None):
        raise block.error(f"'{block.path}' needs either 'address' or 'service'")
    block.finish()
    return found


def _orchestration(top: Block) -> OrchestrationSpec:
    block = top.block("orchestration", required=False)
    if block is None:
        return OrchestrationSpec()
    usual = OrchestrationSpec()
    found = OrchestrationSpec(
        depth_k=block.integer("depth_k", usual.depth_k, minimum=1),
        attempt_timeout_seconds=block.number("attempt_timeout_seconds", usual.attempt_timeout_seconds, minimum=0.01),
        deadline_seconds=block.number("deadline_seconds", usual.deadline_seconds, minimum=0.01),
        tries=block.integer("tries", usual.tries, minimum=1),
        breaker_failures=block.integer("breaker_failures", usual.breaker_failures, minimum=1),
        breaker_window_seconds=block.number("breaker_window_seconds", usual.breaker_window_seconds, minimum=0.1),
        breaker_cooldown_seconds=block.number("breaker_cooldown_seconds", usual.breaker_cooldown_seconds, minimum=0.1),
    )
    block.finish()
    return found


def _steps(top: Block, known: Mapping[str, Any]) -> tuple[StepSpec, ...]:
    found: list[StepSpec] = []
    for block in top.blocks("steps"):
        names = block.keys()
        if len(names) != 1:
            raise block.error("a step is one name with its arguments, e.g. '- dump: {}'")
        [name] = names
        if name not in known:
            raise block.error(f"unknown step '{name}'", name, hint=f"known are: {', '.join(known)}")
        arguments = block.block(name, required=False) or read_block("{}", top.file)
        read = known[name](arguments)
        arguments.finish()
        found.append(StepSpec(name, read, block.line))
    if not found:
        raise top.error("a drill needs at least one step", "steps")
    return tuple(found)
