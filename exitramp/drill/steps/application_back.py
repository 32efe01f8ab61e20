"""The user's own application once its vendor is healed: told to go back where there is a hook, and watched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exitramp.drill.accounts import Accounts, outcomes_between
from exitramp.drill.application import APPLICATION, DrilledApplication, SwitchRun
from exitramp.drill.run import DrillRun
from exitramp.drill.steps.application_stream import GOOD_IN_A_ROW, ApplicationStream
from exitramp.orchestration.load import LoadEnd
from exitramp.records import Finding, Verdict
from exitramp.wording import counted

RATE_PER_SECOND = 12.0


def application_back(run: DrillRun, application: DrilledApplication, seconds: float) -> dict[str, Any]:
    """Ask it for so long after its primary was healed. Whether it went back, the vendors' accounts tell."""
    accounts = Accounts(run)
    switches: list[SwitchRun] = run.shared.get("application:switches", [])
    outage = next((step.arguments for step in run.spec.steps if step.name == "outage"), None)
    # An application that starts a process for every question has a pace of its own, which the outage was given.
    rate = min(RATE_PER_SECOND, outage.rate_per_second) if outage is not None else RATE_PER_SECOND
    stream = ApplicationStream(run, application, rate, "rollback")
    stream.switches = list(switches)
    stream.back()
    # An application that watches by itself has a cool-down of its own: it may stay where it is for a while.
    before = accounts.since()
    stream.watch.begin(run.clock.monotonic())
    report = stream.load.run(seconds, drain_seconds=application.timeout_seconds)
    there = outcomes_between(before, accounts.since())
    tail = report.requests[-GOOD_IN_A_ROW:]
    primary = there.get("primary")
    return {
        APPLICATION: application.file.name,
        "requests": len(report.requests),
        "by_stack": {name: counts.get("answered", 0) for name, counts in there.items()},
        "failed": report.count(LoadEnd.FAILED) + report.count(LoadEnd.CANCELLED),
        "answers_well": bool(tail) and all(application.is_good(each) for each in tail),
        "back_on_primary": None if primary is None else bool(primary.get("answered")),
        "switched": stream.switches[-1].to_json() if stream.switches[len(switches) :] else None,
    }


def back_findings(told: Mapping[str, Any]) -> list[Finding]:
    """What is wrong with the way back of an application."""
    found = []
    if not told["answers_well"]:
        text = f"'{told[APPLICATION]}' does not answer well after the primary was healed"
        found.append(Finding("rollback.traffic", text, Verdict.FAIL))
    elif told["back_on_primary"] is False:
        of = counted(told["requests"], "request")
        text = f"'{told[APPLICATION]}' did not go back to the primary: it answered none of {of}"
        found.append(Finding("rollback.traffic", text, Verdict.FAIL))
    elif told["back_on_primary"] is None:
        text = f"'{told[APPLICATION]}' answers; whether by the primary no account tells"
        found.append(Finding("rollback.traffic", text))
    if told["switched"] is not None and told["switched"]["exit_code"] != 0:
        found.append(Finding("application.switch", "the switch's 'back' did not work", Verdict.FAIL))
    return found
