"""The user's own application through an outage: asked under load while its vendor is broken, and while it comes back.

From outside nobody sees which side stood behind an answer. So what is measured is what users would: when it began to
fail, when somebody decided, and from when on every request was answered well again. That a fault met it at all is
shown by its own failures or by the vendors' accounts; where neither shows it, nothing was shown.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from exitramp.drill.application import APPLICATION, DrilledApplication, SwitchRun
from exitramp.drill.costing import count_request
from exitramp.drill.heard import WATCH_SECONDS
from exitramp.drill.measuring import PhaseMeasure, latency_figures, timeline
from exitramp.drill.run import DrillRun, StepOutcome
from exitramp.errors import ConfigError
from exitramp.faults import NO_FAULT, Fault
from exitramp.orchestration.load import LoadEnd, LoadReport, LoadRequest, SteadyLoad
from exitramp.orchestration.stack import Question
from exitramp.records import Finding, Verdict
from exitramp.wording import counted

ABORTED_DRAIN_SECONDS = 1.0
RATE_PER_SECOND = 12.0
_GOOD_IN_A_ROW = 3


class PhaseLike(Protocol):
    """A fault on a part of the primary, as the outage step reads it."""

    @property
    def fault(self) -> str: ...
    @property
    def on(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def options(self) -> Mapping[str, Any]: ...
    def to_json(self) -> dict[str, Any]: ...


class Watch:
    """Hears how each request ended, in its thread. `decided` is when the failures of the drill file's breaker came
    together: `breaker_failures` within `breaker_window_seconds`."""

    def __init__(self, run: DrillRun, application: DrilledApplication) -> None:
        self._run = run
        self._application = application
        self._given = run.spec.orchestration
        self._lock = threading.Lock()
        self._failures: deque[float] = deque()
        self._since = 0.0
        self.decided: float | None = None
        self.good_in_a_row = 0

    def begin(self, now: float) -> None:
        """Count anew, and only requests that are due from now on."""
        with self._lock:
            self._since, self.decided, self.good_in_a_row = now, None, 0
            self._failures.clear()

    def ended(self, request: LoadRequest) -> None:
        count_request(self._run, request)
        is_good = self._application.is_good(request)
        now = self._run.clock.monotonic()
        with self._lock:
            if request.due < self._since:
                return
            self.good_in_a_row = self.good_in_a_row + 1 if is_good else 0
            if is_good:
                return
            self._failures.append(now)
            while self._failures[0] < now - self._given.breaker_window_seconds:
                self._failures.popleft()
            if self.decided is None and len(self._failures) >= self._given.breaker_failures:
                self.decided = now


class _Stream:
    """The load on the application, and the phases of its outage."""

    def __init__(self, run: DrillRun, application: DrilledApplication, rate_per_second: float, name: str) -> None:
        if not run.golden:
            raise ConfigError(
                "an application is asked golden questions, and there are none",
                file=run.spec.file,
                hint="give data.golden, and the step 'load_golden' before this one",
            )
        self.run = run
        self.application = application
        self.watch = Watch(run, application)
        self.switches: list[SwitchRun] = []
        self.in_phase = False
        """Whether a fault is on that nobody decided about yet."""
        self.load = SteadyLoad(
            application.ask,
            lambda number: self._question(name, number),
            rate_per_second=rate_per_second,
            clock=run.clock,
            on_end=self.watch.ended,
        )

    def _question(self, name: str, number: int) -> Question:
        case = self.run.golden[number % len(self.run.golden)]
        return Question(f"{name}/{number:06d}", case.question, case.use_case, tags=(name,))

    def idle(self, seconds: float, *, until_back: bool = False) -> bool:
        """Wait, and run the hook at the decision. `until_back`: end as soon as several in a row were answered well;
        returns whether they were."""
        clock = self.run.clock
        ends = clock.monotonic() + seconds
        while (left := ends - clock.monotonic()) > 0:
            self.run.check_stop()
            if until_back and self.watch.good_in_a_row >= _GOOD_IN_A_ROW:
                return True
            if self.in_phase and self.watch.decided is not None:
                self.in_phase = False  # decided once
                self.run.log.append("application.decided", {"failures": self.run.spec.orchestration.breaker_failures})
                self._switch("command")
            clock.sleep(min(left, WATCH_SECONDS / 5))
        return False

    def _switch(self, what: str) -> None:
        done = self.application.switch(what)
        if done is not None:
            self.switches.append(done)

    def back(self) -> None:
        """Tell the application that the primary is healed, if it was told to leave it."""
        if self.switches and self.switches[-1].what == "command":
            self._switch("back")


def application_outage(run: DrillRun, application: DrilledApplication, arguments: Any, accounts: Any) -> StepOutcome:
    """The outage, asked of the application. `arguments` are those of the step `outage`; `accounts` the vendors' own."""
    phases: Sequence[PhaseLike] = arguments.phases
    stream = _Stream(run, application, arguments.rate_per_second, "outage")
    clock = run.clock
    began, began_at = clock.monotonic(), clock.now()
    stream.load.start()
    held: list[tuple[PhaseLike, float, float, str, float | None, bool | None, dict[str, Any]]] = []
    try:
        stream.idle(arguments.warm_up_seconds)
        for number, phase in enumerate(phases):
            run.check_stop()
            run.say(f"    {phase.on}: {phase.fault} for {phase.seconds:g} s")
            before = accounts.since()
            injected = clock.monotonic()
            stream.watch.begin(injected)
            how = run.inject("primary", phase.on, Fault(phase.fault, phase.options))
            told = {"stack": "primary", "on": phase.on, "fault": phase.fault, "how": how}
            run.log.append("fault.injected", told)
            stream.in_phase = True
            stream.idle(phase.seconds)
            stream.in_phase = False
            ended, decided = clock.monotonic(), stream.watch.decided
            met = _between(before, accounts.since())
            back: bool | None = None  # the last fault stays
            if number < len(phases) - 1:
                _heal(run, phase)
                stream.back()
                stream.watch.begin(clock.monotonic())
                back = stream.idle(arguments.heal_seconds, until_back=True)
            held.append((phase, injected, ended, how, decided, back, met))
        stream.idle(arguments.after_seconds)
    except BaseException:
        stream.load.stop(drain_seconds=ABORTED_DRAIN_SECONDS)
        raise
    report = stream.load.stop(drain_seconds=application.timeout_seconds + 5.0)
    run.shared["application:switches"] = stream.switches
    measured = [_measure(report, application, began, *each) for each in held]
    return _outcome(report, stream, measured, [each[-1] for each in held], (began, began_at, clock.now()), arguments)


def _heal(run: DrillRun, phase: PhaseLike) -> None:
    kinds = {"sigkill": Fault("restart"), "sigstop": Fault("sigcont")}
    run.inject("primary", phase.on, kinds.get(phase.fault, NO_FAULT))
    run.log.append("fault.healed", {"stack": "primary", "on": phase.on, "fault": phase.fault})


def _between(before: Mapping[str, Sequence[Any]], after: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Of each vendor with an account, what became of the requests that came in between: outcome to number."""
    return {
        name: dict(Counter(str(entry["outcome"]) for entry in entries[len(before.get(name, ())) :]))
        for name, entries in after.items()
    }


def _measure(
    report: LoadReport,
    application: DrilledApplication,
    began: float,
    phase: PhaseLike,
    injected: float,
    ended: float,
    how: str,
    decided: float | None,
    back: bool | None,
    met: Mapping[str, Any],
) -> PhaseMeasure:
    within = [each for each in report.requests if injected <= each.due < ended]
    bad = [each for each in within if not application.is_good(each)]
    # Recovered is who fails no more: a good answer between two failures is luck, or a cache.
    last_bad = max((each.due for each in bad), default=injected)
    after = [each.ended for each in within if each.due > last_bad and each.ended is not None]
    if not bad:
        after = [each.ended for each in within if each.ended is not None] if _met(met) else []
    ends = [each.ended for each in bad if each.ended is not None]
    return PhaseMeasure(
        fault=phase.fault,
        on=phase.on,
        how=how,
        injected_seconds=injected - began,
        ended_seconds=ended - began,
        detect_seconds=min(ends) - injected if ends else None,
        decide_seconds=None if decided is None else decided - injected,
        recovery_seconds=min(after) - injected if after else None,
        requests=len(within),
        answered_by_primary=0,
        answered_by_substitute=0,
        failed=len(bad),
        failures=len(bad),
        late_failures=0,
        healed=back,
    )


def _met(met: Mapping[str, Any]) -> bool:
    """Whether the vendors' accounts show that the fault met the application: the primary failed it, or the substitute
    answered it."""
    failed = sum(number for outcome, number in met.get("primary", {}).items() if outcome != "answered")
    return bool(failed or met.get("substitute", {}).get("answered", 0))


def _outcome(
    report: LoadReport,
    stream: _Stream,
    measured: Sequence[PhaseMeasure],
    met: Sequence[Mapping[str, Any]],
    span: tuple[float, Any, Any],
    arguments: Any,
) -> StepOutcome:
    began, began_at, ended_at = span
    application = stream.application
    first = min(each.injected_seconds for each in measured)
    during = [each for each in report.requests if each.due - began >= first]
    failed = [each for each in during if not application.is_good(each)]
    recovered = [each for each in during if application.is_good(each) and _is_after_recovery(each, measured, began)]
    rto = [each.recovery_seconds for each in measured]
    findings = list(_findings(application, measured, met, stream.switches, report))
    data: dict[str, Any] = {
        APPLICATION: application.describe() | {"switches": [each.to_json() for each in stream.switches]},
        "began_at": began_at.isoformat(),
        "ended_at": ended_at.isoformat(),
        "rate_per_second": arguments.rate_per_second,
        "requests": len(report.requests),
        "answered": report.count(LoadEnd.ANSWERED),
        "failed": report.count(LoadEnd.FAILED),
        "cancelled": report.count(LoadEnd.CANCELLED),
        "during_outage": len(during),
        "failed_during_outage": len(failed),
        "error_rate": len(failed) / len(during) if during else None,
        "error_classes": dict(Counter(each.outcome.error_class for each in failed if each.outcome is not None)),
        "phases": [each.to_json() | {"accounts": dict(there)} for each, there in zip(measured, met, strict=True)],
        "rto_seconds": None if None in rto else max(each for each in rto if each is not None),
        "latency_ms": latency_figures([each for each in report.requests if each.end is LoadEnd.ANSWERED]),
        "latency_ms_on_substitute": latency_figures(recovered),
        "reconciliation": {"adds_up": None, "vendor_accounts": []},
        "timeline": timeline(report, began),
        "mock": application.file.is_mock,
    }
    verdicts = [each.verdict for each in findings if each.verdict is not None]
    return StepOutcome(data, tuple(findings), Verdict.worst([Verdict.PASS, *verdicts]))


def _is_after_recovery(request: LoadRequest, measured: Sequence[PhaseMeasure], began: float) -> bool:
    due = request.due - began
    return any(
        each.recovery_seconds is not None and each.injected_seconds <= due < each.ended_seconds for each in measured
    )


def _findings(
    application: DrilledApplication,
    measured: Sequence[PhaseMeasure],
    met: Sequence[Mapping[str, Any]],
    switches: Sequence[SwitchRun],
    report: LoadReport,
) -> list[Finding]:
    name = application.file.name
    found = [
        Finding(
            "application.asked",
            f"the application '{name}' ({application.file.kind}) was asked, and not the stacks; which of them stood "
            "behind an answer is not seen from outside, and no answer is reconciled with a vendor's account",
        )
    ]
    if report.raised is not None:
        detail = {"error": type(report.raised).__name__}
        found.append(Finding("outage.raised", "a request ended with a fault of exitramp", Verdict.FAIL, detail=detail))
    if not application.tells_sources:
        found.append(Finding("application.sources", f"'{name}' tells no sources, so no answer is held to rest on any"))
    for each, there in zip(measured, met, strict=True):
        if each.failures == 0 and not _met(there):
            text = f"nothing shows that '{each.fault}' on the primary's {each.on} met '{name}': it never failed, "
            text += "and no vendor's account tells of it"
            found.append(Finding("outage.no_recovery", text, Verdict.INCONCLUSIVE))
        elif each.recovery_seconds is None:
            text = f"'{name}' did not come back while '{each.fault}' lasted: its last request failed too"
            found.append(Finding("outage.no_recovery", text, Verdict.FAIL))
        if each.healed is False:
            text = f"'{name}' did not answer again after '{each.fault}' was healed"
            found.append(Finding("outage.not_back", text, Verdict.FAIL))
    for run in switches:
        if not run.worked:
            ended = "was not through in time" if run.exit_code is None else f"ended with {run.exit_code}"
            text = f"the switch's '{run.what}' {ended}"
            found.append(Finding("application.switch", text, Verdict.FAIL))
    return found


def application_back(run: DrillRun, application: DrilledApplication, seconds: float, accounts: Any) -> dict[str, Any]:
    """Traffic after the primary was healed: told to go back where there is a hook, and watched."""
    switches: list[SwitchRun] = run.shared.get("application:switches", [])
    stream = _Stream(run, application, RATE_PER_SECOND, "rollback")
    stream.switches = list(switches)
    stream.back()
    # An application that watches by itself has a cool-down of its own: it may stay where it is for a while.
    before = accounts.since()
    stream.watch.begin(run.clock.monotonic())
    report = stream.load.run(seconds, drain_seconds=application.timeout_seconds)
    there = _between(before, accounts.since())
    tail = report.requests[-_GOOD_IN_A_ROW:]
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
