"""The user's own application through an outage: asked under load while its vendor is broken, and while it comes back.

From outside nobody sees which side stood behind an answer. So what is measured is what users would: when it began to
fail, when somebody decided, and from when on every request was answered well again. That a fault met it at all is
shown by its own failures or by the vendors' accounts; where neither shows it, nothing was shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from exitramp.drill.accounts import Accounts, outcomes_between
from exitramp.drill.application import APPLICATION, DrilledApplication, SwitchRun
from exitramp.drill.between import PROXY
from exitramp.drill.measuring import PhaseMeasure, latency_figures, timeline
from exitramp.drill.run import DrillRun, StepOutcome
from exitramp.drill.steps.application_stream import ApplicationStream
from exitramp.drill.steps.breaking import break_part, heal_part
from exitramp.drill.steps.phases import OutageArguments, Phase, by_proxy
from exitramp.orchestration.load import LoadEnd, LoadReport, LoadRequest
from exitramp.records import Finding, Verdict

ABORTED_DRAIN_SECONDS = 1.0


def application_outage(run: DrillRun, application: DrilledApplication, arguments: OutageArguments) -> StepOutcome:
    """The outage, asked of the application."""
    accounts, phases = Accounts(run), arguments.phases
    stream = ApplicationStream(run, application, arguments.rate_per_second, "outage")
    clock = run.clock
    began, began_at = clock.monotonic(), clock.now()
    stream.load.start()
    held: list[tuple[Phase, float, float, str, float | None, bool | None, dict[str, Any]]] = []
    try:
        stream.idle(arguments.warm_up_seconds)
        for number, phase in enumerate(phases):
            run.check_stop()
            run.say(f"    {phase.on}: {phase.fault} for {phase.seconds:g} s")
            before = accounts.since()
            injected = clock.monotonic()
            stream.watch.begin(injected)
            how = break_part(run, phase)
            stream.in_phase = True
            stream.idle(phase.seconds)
            stream.in_phase = False
            ended, decided = clock.monotonic(), stream.watch.decided
            met = outcomes_between(before, accounts.since())
            back: bool | None = None  # the last fault stays
            if number < len(phases) - 1:
                heal_part(run, phase)
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
    measured = [_measure(report, application, began, by_proxy(run.spec, each[0]), *each) for each in held]
    return _outcome(report, stream, measured, [each[-1] for each in held], (began, began_at, clock.now()), arguments)


def _measure(
    report: LoadReport,
    application: DrilledApplication,
    began: float,
    is_by_proxy: bool,
    phase: Phase,
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
        by=PROXY if is_by_proxy else None,
    )


def _met(met: Mapping[str, Any]) -> bool:
    """Whether the vendors' accounts show that the fault met the application: the primary failed it, or the substitute
    answered it."""
    failed = sum(number for outcome, number in met.get("primary", {}).items() if outcome != "answered")
    return bool(failed or met.get("substitute", {}).get("answered", 0))


def _outcome(
    report: LoadReport,
    stream: ApplicationStream,
    measured: Sequence[PhaseMeasure],
    met: Sequence[Mapping[str, Any]],
    span: tuple[float, Any, Any],
    arguments: OutageArguments,
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
        "phases": [
            each.to_json() | {"accounts": dict(there), "latency_ms": _latency(report, application, each, began)}
            for each, there in zip(measured, met, strict=True)
        ],
        "rto_seconds": None if None in rto else max(each for each in rto if each is not None),
        "latency_ms": latency_figures([each for each in report.requests if each.end is LoadEnd.ANSWERED]),
        "latency_ms_on_substitute": latency_figures(recovered),
        "reconciliation": {"adds_up": None, "vendor_accounts": []},
        "timeline": timeline(report, began),
        "mock": application.file.is_mock,
    }
    verdicts = [each.verdict for each in findings if each.verdict is not None]
    return StepOutcome(data, tuple(findings), Verdict.worst([Verdict.PASS, *verdicts]))


def _latency(
    report: LoadReport, application: DrilledApplication, phase: PhaseMeasure, began: float
) -> dict[str, float | None]:
    """Of the good answers to what was asked while the fault lasted: a fault that never fails a request costs time."""
    start, end = phase.injected_seconds, phase.ended_seconds
    within = [each for each in report.requests if start <= each.due - began < end]
    return latency_figures([each for each in within if application.is_good(each)])


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
