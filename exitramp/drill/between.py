"""A fault proxy between the application and a part of a stack: which faults it does, and in front of what it can stand.

The part itself is not touched, so this makes an outage real of what a drill must not stop: a store or a model's server
of the user's own on this machine. What a network does to a connection it does to every part.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from exitramp.drill.spec import DrillSpec, Part, StackSpec
from exitramp.errors import ConfigError, UsageError
from exitramp.faults import PROXY_FAULTS
from exitramp.registry import service_adapter
from exitramp.urls import Address

PROXY: Final = "fault-proxy"
PROGRAM: Final = "program"
TOXICS: Final = PROXY_FAULTS - {"none"}
OUR_OWN: Final = TOXICS & {"reset"}
"""Toxics that are words of vendors too: these do it themselves where they can."""


def part_of(stack: StackSpec, on: str) -> Part | None:
    """The part `on` (store or chat) of a stack; None where it has none."""
    return {"store": stack.store, "chat": stack.chat}[on]


def goes_by_proxy(part: Part | None, fault: str, by: str) -> bool:
    """Whether a proxy does `fault` to the part. `by` is what the drill file says of it, "" for nothing."""
    if part is None or fault not in TOXICS:
        return False
    if by == "proxy" or fault not in OUR_OWN:
        return True
    if part.service is not None:
        return fault not in service_adapter(part.service).faults
    return no_room(part) is None


def between_of(spec: DrillSpec) -> dict[str, int]:
    """The primary's parts that an outage of the drill puts a proxy in front of, with the line of its step."""
    return {
        phase.on: step.line
        for step in spec.steps
        if step.name == "outage"
        for phase in step.arguments.phases
        if goes_by_proxy(part_of(spec.primary, phase.on), phase.fault, phase.by)
    }


def no_room(part: Part) -> str | None:
    """Why no proxy can stand in front of the part; None where one can."""
    if part.service is not None:
        return None  # a server of the run's own
    assert part.address is not None
    if "{folder}" in part.address:
        return "is files that a library reads in the drill's own process: there is no network between"
    address = Address.parse(part.address)
    if not address.is_loopback:
        return "is not on this machine, and through a proxy it would look as if it were"
    if address.host is None and not address.options.get("base_url"):
        return "is in the drill's own process: there is no network between"
    return None


def require_room(spec: DrillSpec, on: str, fault: str, by: str, line: int) -> None:
    """Raises `ConfigError` where a proxy is to do `fault` to the primary's part and cannot stand in front of it."""
    part = part_of(spec.primary, on)
    if part is None or not goes_by_proxy(part, fault, by):
        return
    why = no_room(part)
    if why is not None:
        raise ConfigError(
            f"'{fault}' is done by a proxy between the application and the primary's {on}, and that {on} {why}",
            file=spec.file,
            line=line,
            hint="'refuse' and 'hang' are played in exitramp's own calls there",
        )


def toxic_mistake(fault: str, options: Mapping[str, Any]) -> str | None:
    """What is wrong with a toxic's options, in the words of the proxy; None for nothing."""
    try:
        # Made and never started: it is the proxy that knows what its toxics take.
        service_adapter(PROXY).make(
            str(Path(tempfile.gettempdir())), 0, {"target": "127.0.0.1:9", "toxics": [{**options, "kind": fault}]}
        )
    except UsageError as error:
        return error.message
    return None
