"""What a fault proxy can spoil, and on which connections, in which direction and when."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from exitramp.errors import UsageError
from exitramp.faults import PROXY_FAULTS, TIMES, Fault, ScheduledFault

UPSTREAM: Final = "upstream"
DOWNSTREAM: Final = "downstream"
DIRECTIONS: Final = (UPSTREAM, DOWNSTREAM)

# kind: what it takes, with what stands where nothing is said; None has to be said.
ATTRIBUTES: Final[Mapping[str, Mapping[str, float | None]]] = {
    "latency": {"latency_ms": None, "jitter_ms": 0},
    "jitter": {"jitter_ms": None},
    "bandwidth": {"kilobytes_per_second": None},
    "down": {},
    "timeout": {"timeout_ms": 0},
    "reset": {"timeout_ms": 0},
    "slow_close": {"delay_ms": None},
    "slicer": {"average_bytes": None, "variation_bytes": 0, "delay_ms": 0},
    "limit_data": {"bytes": None},
}
_COMMON: Final = ("direction", "toxicity")
_ABOVE_ZERO: Final = ("kilobytes_per_second", "average_bytes")
_MOST: Final = 1e9


@dataclass(frozen=True, slots=True)
class Toxic:
    """One way to spoil connections.

    direction: `downstream` is from the server to the client, `upstream` from the client to the server; `down` and
    `reset` take a connection as a whole. toxicity: the share of connections that it takes, 0 to 1.
    when: the connections' numbers and the times at which it is there; `calls` count connections, from 1.
    values: its attributes, complete.
    """

    name: str
    kind: str
    direction: str
    toxicity: float
    when: ScheduledFault
    values: Mapping[str, float]

    @classmethod
    def parse(cls, data: Mapping[str, Any], *, name: str | None = None) -> Self:
        """From `{kind: latency, latency_ms: 200, direction: upstream, toxicity: 0.5, from_seconds: 3}`; what does not
        say when is there until it is removed. Raises `UsageError`."""
        if not isinstance(data, Mapping):
            raise UsageError("a toxic is a mapping such as {kind: latency, latency_ms: 200}")
        kind = data.get("kind")
        if not isinstance(kind, str) or kind not in ATTRIBUTES:
            raise UsageError(f"unknown toxic {kind!r}", hint=f"known are: {', '.join(sorted(ATTRIBUTES))}")
        known = ATTRIBUTES[kind]
        allowed = {"kind", "name", *_COMMON, *known, *TIMES}
        unknown = next((str(key) for key in data if key not in allowed), None)
        if unknown is not None:
            listed = ", ".join(sorted(allowed))
            raise UsageError(f"the toxic {kind!r} has no {unknown!r}", hint=f"it takes: {listed}")
        when = ScheduledFault.parse({key: value for key, value in data.items() if key in ("kind", *TIMES)})
        values = {key: _number(kind, key, data.get(key, usual)) for key, usual in known.items()}
        direction = data.get("direction", DOWNSTREAM)
        if direction not in DIRECTIONS:
            raise UsageError(f"the toxic {kind!r}: 'direction' is {' or '.join(DIRECTIONS)}")
        toxicity = _number(kind, "toxicity", data.get("toxicity", 1.0))
        given = data.get("name", name or f"{kind}_{direction}")
        if not isinstance(given, str) or not given or "/" in given:
            raise UsageError(f"the toxic {kind!r}: 'name' is a text without a slash")
        return cls(given, kind, str(direction), toxicity, when, values)

    @classmethod
    def of_fault(cls, fault: Fault) -> Self:
        """From a drill's fault; its options are the attributes."""
        if fault.kind not in PROXY_FAULTS - {"none"}:
            raise UsageError(f"a fault proxy cannot fail by {fault.kind!r}", hint=f"it can by: {', '.join(ATTRIBUTES)}")
        return cls.parse({"kind": fault.kind, **fault.options}, name="injected")

    def takes(self, connection: int, elapsed_seconds: float, seed: int) -> bool:
        """Whether it spoils connection number `connection` now. The same seed, name and number always draw alike."""
        if not self.when.applies(call=connection, elapsed_seconds=elapsed_seconds):
            return False
        share = self.toxicity * (1.0 if self.when.probability is None else self.when.probability)
        return share >= 1.0 or random.Random(f"{seed}:{self.name}:{connection}").random() < share

    def closes_the_port(self, elapsed_seconds: float) -> bool:
        """Whether nobody at all is let in now."""
        is_whole = self.when.is_window and self.toxicity >= 1.0
        return self.kind == "down" and is_whole and self.when.applies(call=1, elapsed_seconds=elapsed_seconds)

    def edges(self) -> tuple[float, ...]:
        """The seconds since the start at which it comes or goes."""
        return tuple(edge for edge in (self.when.from_seconds, self.when.to_seconds) if edge is not None)

    def to_json(self) -> dict[str, Any]:
        timing = {
            name: sorted(value) if isinstance(value, frozenset) else value
            for name in ("calls", "from_call", "to_call", "from_seconds", "to_seconds", "probability")
            if (value := getattr(self.when, name)) is not None
        }
        common = {"name": self.name, "kind": self.kind, "direction": self.direction, "toxicity": self.toxicity}
        return common | dict(self.values) | timing


def _number(kind: str, name: str, value: Any) -> float:
    if value is None:
        raise UsageError(f"the toxic {kind!r} needs '{name}'")
    most = 1.0 if name == "toxicity" else _MOST
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not 0 <= value <= most or (value == 0 and name in _ABOVE_ZERO):
        least = "above 0" if name in _ABOVE_ZERO else "from 0"
        raise UsageError(f"the toxic {kind!r}: '{name}' must be a number {least} to {most:g}")
    return float(value)
