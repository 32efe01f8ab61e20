"""What a step is: a name, what it touches, its arguments, and what it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from exitramp.drill.run import DrillRun, StepOutcome
from exitramp.drill.spec import DrillSpec
from exitramp.yaml_reader import Block


class Arguments(Protocol):
    """A step's arguments, read and checked."""

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class NoArguments:
    def to_json(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True, slots=True)
class Step:
    """A named step. `reads`, `writes` and `cuts` say which of the stacks' parts it touches, e.g. `primary.store`;
    `between`, in front of which it puts a proxy that spoils what passes.

    `always` marks a step that runs even after the drill was aborted: it brings things back. `varies` gives the fields
    that are otherwise in one drill, with the step's arguments there.
    """

    name: str
    summary: str
    run: Callable[[DrillRun, Any], StepOutcome]
    parse: Callable[[Block], Arguments] = lambda block: NoArguments()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    cuts: tuple[str, ...] = ()
    between: tuple[str, ...] = ()
    always: bool = False
    varies: Callable[[DrillSpec, Any], dict[str, Any]] = lambda spec, arguments: {}

    def as_in(self, spec: DrillSpec, arguments: Any) -> Step:
        """The step as this drill and these arguments make it: what it says and touches."""
        return replace(self, **self.varies(spec, arguments))
