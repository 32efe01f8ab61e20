"""One fault of an outage on its way in and out: the primary's part is broken, by itself or by a proxy, and healed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exitramp.drill.between import PROXY
from exitramp.drill.run import DrillRun
from exitramp.drill.spec import DrillSpec
from exitramp.drill.steps.phases import Phase, by_proxy
from exitramp.faults import NO_FAULT, Fault

_UNDONE_BY: Mapping[str, Fault] = {"sigkill": Fault("restart"), "sigstop": Fault("sigcont")}


def break_part(run: DrillRun, phase: Phase) -> str:
    """Break what the phase names, and write it down; returns `live` or `simulated`."""
    fault = Fault(phase.fault, phase.options)
    how = run.inject("primary", phase.on, fault, by_proxy=by_proxy(run.spec, phase))
    write_broken(run, phase, how)
    return how


def write_broken(run: DrillRun, phase: Phase, how: str, more: Mapping[str, Any] | None = None) -> None:
    told = {"stack": "primary", "on": phase.on, "fault": phase.fault, "how": how}
    run.log.append("fault.injected", {**told, **proxy_told(run.spec, phase), **(more or {})})


def heal_part(run: DrillRun, phase: Phase) -> None:
    run.inject("primary", phase.on, _UNDONE_BY.get(phase.fault, NO_FAULT))
    run.log.append("fault.healed", {"stack": "primary", "on": phase.on, "fault": phase.fault})


def proxy_told(spec: DrillSpec, phase: Phase) -> dict[str, Any]:
    """What is said besides of a fault that a proxy did: nothing of others."""
    return {"by": PROXY, "options": dict(phase.options)} if by_proxy(spec, phase) else {}
