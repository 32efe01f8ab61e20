"""What the drill file says of an outage: its phases, each one fault on one part, and the stream of requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from exitramp.drill.between import TOXICS, goes_by_proxy, part_of, toxic_mistake
from exitramp.drill.spec import DrillSpec
from exitramp.drill.steps.losing import LOST
from exitramp.errors import ConfigError
from exitramp.faults import PROCESS_FAULTS, VENDOR_FAULTS
from exitramp.yaml_reader import Block

_KNOWN: Final = sorted((VENDOR_FAULTS | PROCESS_FAULTS | TOXICS | {LOST}) - {"none", "sigcont", "restart"})


@dataclass(frozen=True, slots=True)
class Phase:
    """One fault on the primary's `on` (store or chat) for `seconds`. `options` refine it, as its service takes them.

    by: `proxy` where a proxy is to do what the part's own service could do too; "" where that does it.
    """

    fault: str
    on: str
    seconds: float
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    by: str = ""

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"fault": self.fault, "on": self.on, "seconds": self.seconds}
        return found | ({"options": dict(self.options)} if self.options else {}) | ({"by": self.by} if self.by else {})


@dataclass(frozen=True, slots=True)
class OutageArguments:
    """rate_per_second: the stream's. warm_up_seconds: before the first fault. heal_seconds: how long a healed primary
    may take until it serves again. slow_seconds: an answer later than that is slow."""

    phases: tuple[Phase, ...]
    rate_per_second: float
    warm_up_seconds: float
    heal_seconds: float
    after_seconds: float
    slow_seconds: float

    @property
    def lost(self) -> Phase | None:
        """The phase in which the primary's store is lost for good and restored from the dump, if there is one."""
        return next((phase for phase in self.phases if phase.fault == LOST), None)

    def to_json(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in self.__slots__}
        return {**found, "phases": [phase.to_json() for phase in self.phases]}


def by_proxy(spec: DrillSpec, phase: Phase) -> bool:
    """Whether a proxy between the application and the primary does this phase's fault in this drill."""
    return goes_by_proxy(part_of(spec.primary, phase.on), phase.fault, phase.by)


def parse_outage(block: Block) -> OutageArguments:
    phases = []
    for item in block.blocks("phases"):
        phase = Phase(
            item.choice("fault", _KNOWN),
            item.choice("on", ("chat", "store")),
            item.number("seconds", 5.0, minimum=0.5),
            item.anything("options", {}),
            item.choice("by", ("proxy",), ""),
        )
        item.finish()
        if not isinstance(phase.options, dict) or not all(isinstance(name, str) for name in phase.options):
            raise item.error("'options' of a phase must hold names and values", "options")
        _require_toxic(item, phase)
        phases.append(phase)
    if not phases:
        raise ConfigError("an outage needs at least one phase", file=block.file, line=block.line)
    _require_last(block, phases)
    return OutageArguments(
        tuple(phases),
        block.number("rate_per_second", 12.0, minimum=0.1, maximum=1000),
        block.number("warm_up_seconds", 2.0, minimum=0),
        block.number("heal_seconds", 10.0, minimum=0),
        block.number("after_seconds", 1.0, minimum=0),
        block.number("slow_seconds", 1.0, minimum=0),
    )


def vary_outage(spec: DrillSpec, arguments: OutageArguments) -> dict[str, Any]:
    """What the outage cuts in this drill, through what, and what it is called where nothing is cut for real."""
    through = [phase.on for phase in arguments.phases if by_proxy(spec, phase)]
    broken = [phase.on for phase in arguments.phases if not by_proxy(spec, phase)]
    found: dict[str, Any] = {name: tuple(f"primary.{part}" for part in dict.fromkeys(parts)) for name, parts in
                             (("cuts", broken), ("between", through))}  # fmt: skip
    if arguments.lost is not None:
        found |= {
            "writes": ("substitute.store",),
            "summary": "lose the primary's store for good under load, and restore the dump meanwhile",
        }
        return found
    parts = [part_of(spec.primary, each) for each in broken]
    if not through and all(part is not None and part.service is None for part in parts):
        found["summary"] = "play the primary's outage under load and see who notices"
    return found


def _require_toxic(item: Block, phase: Phase) -> None:
    """Raises `ConfigError` where a proxy is asked for what it cannot do, before anything is started."""
    if phase.by == "proxy" and phase.fault not in TOXICS:
        raise item.error(f"a proxy cannot do '{phase.fault}'", "fault", hint=f"it can do: {', '.join(sorted(TOXICS))}")
    is_vendors = phase.fault in VENDOR_FAULTS and phase.by != "proxy"  # its options are the vendor's
    if phase.fault in TOXICS and not is_vendors:
        mistake = toxic_mistake(phase.fault, phase.options)
        if mistake is not None:
            raise item.error(mistake, "options" if item.has("options") else "fault")


def _require_last(block: Block, phases: Sequence[Phase]) -> None:
    """What is lost for good stays lost: nothing can fail after it, and only a store can be put back from a dump."""
    for number, phase in enumerate(phases):
        if phase.fault != LOST:
            continue
        if phase.on != "store":
            raise block.error(f"'{LOST}' is for a store: no dump brings a chat vendor back", "phases")
        if number != len(phases) - 1:
            raise block.error(f"'{LOST}' must be the last phase: what is lost for good cannot fail again", "phases")
        unknown = sorted(set(phase.options) - {"accept_loss"})
        if unknown:
            raise block.error(f"'{LOST}' has no option '{unknown[0]}'", "phases", hint="known is: accept_loss")
        agreed = phase.options.get("accept_loss", [])
        if not isinstance(agreed, list) or not all(isinstance(each, str) for each in agreed):
            raise block.error("'accept_loss' must be a list of texts", "phases")
