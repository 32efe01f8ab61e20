"""What a step truly reads, writes and cuts in one drill: by its arguments, and by what that drill starts itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from exitramp.drill.spec import DrillSpec, Part, StepSpec
from exitramp.drill.steps.base import Step
from exitramp.urls import Address
from exitramp.wrappers import require_write_allowed


@dataclass(frozen=True, slots=True)
class Touches:
    """Parts of the two stacks, such as `primary.store`; one that the drill does not have is never named.

    `cuts` are broken for real. `between` are not touched, and a proxy in front of them spoils what passes, for real.
    `simulates` are not touched at all: calls to them are refused or hang in our own layer.
    """

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    cuts: tuple[str, ...] = ()
    simulates: tuple[str, ...] = ()
    between: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        found = {name: list(getattr(self, name)) for name in self.__slots__}
        if not self.between:
            del found["between"]
        return found


def parts_of(spec: DrillSpec) -> dict[str, Part]:
    """What the two stacks of the drill consist of, by name."""
    found = {}
    for stack in (spec.primary, spec.substitute):
        found[f"{stack.name}.store"] = stack.store
        if stack.chat is not None:
            found[f"{stack.name}.chat"] = stack.chat
        if stack.embedding is not None:
            found[f"{stack.name}.embedding"] = stack.embedding
    return found


def touches(step: Step, given: StepSpec, spec: DrillSpec) -> Touches:
    """What `step` touches with the arguments that the drill file gives it."""
    parts = parts_of(spec)
    step = step.as_in(spec, given.arguments)

    def there(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if name in parts)

    # Only what the drill itself started is ever cut.
    cut = there(step.cuts)
    return Touches(
        there(step.reads),
        there(step.writes),
        tuple(name for name in cut if parts[name].service is not None),
        tuple(name for name in cut if parts[name].service is None),
        there(step.between),
    )


def writes_elsewhere(spec: DrillSpec, names: tuple[str, ...]) -> dict[str, str]:
    """Of the parts that are written, those on another machine, with their address: each has to be allowed."""
    parts = parts_of(spec)
    found = {}
    for name in names:
        text = parts[name].address
        if text is not None and "{folder}" not in text and not Address.parse(text).is_loopback:
            found[name] = str(Address.parse(text))
    return found


def require_writes_allowed(spec: DrillSpec, steps: Mapping[str, Step], allowed: tuple[str, ...]) -> None:
    """Raises `WriteRefused` where a step writes to another machine without consent: told before the first step, and not
    by the last one, after traffic was moved."""
    written = dict.fromkeys(name for each in spec.steps for name in touches(steps[each.name], each, spec).writes)
    for address in writes_elsewhere(spec, tuple(written)).values():
        require_write_allowed(Address.parse(address), allowed)
