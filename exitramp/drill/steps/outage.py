"""The outage: under a steady stream of requests the primary is broken, phase by phase, and nobody is told.

The orchestration layer finds out by itself. After each phase the part is healed and the stream goes on until the
primary serves again, so that every fault is detected anew; the last phase is not healed, since the substitute is to
take over for good.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from exitramp.backoff import Backoff
from exitramp.drill.accounts import Accounts
from exitramp.drill.application import application_of
from exitramp.drill.between import between_of
from exitramp.drill.costing import attempt_price, count_request
from exitramp.drill.heard import WATCH_SECONDS, Heard
from exitramp.drill.measuring import (
    PhaseMeasure,
    is_good,
    kept_from_arriving,
    latency_figures,
    measure_phase,
    timeline,
)
from exitramp.drill.questions import load_questions, one_question, query_vectors
from exitramp.drill.run import DrillRun, StepOutcome
from exitramp.drill.stacks import build_stack
from exitramp.drill.steps.base import Step
from exitramp.drill.steps.breaking import break_part, heal_part, proxy_told, write_broken
from exitramp.drill.steps.losing import LOST, Gate, lose_store, restore_meanwhile
from exitramp.drill.steps.phases import OutageArguments, Phase, parse_outage, vary_outage
from exitramp.drill.steps.through_application import application_outage
from exitramp.orchestration.breaker import BreakerSettings, BreakerState
from exitramp.orchestration.events import RouterEvent
from exitramp.orchestration.load import LoadEnd, LoadReport, SteadyLoad
from exitramp.orchestration.policy import Policy
from exitramp.orchestration.reconcile import Reconciliation, reconcile
from exitramp.orchestration.router import Router
from exitramp.orchestration.stack import Question, Stack
from exitramp.orchestration.trace import TraceLabels
from exitramp.records import Finding, Verdict
from exitramp.wording import counted

POLL_SECONDS = 0.05
IDS_SHOWN = 20
ABORTED_DRAIN_SECONDS = 1.0
"""How long a stream that is broken off is waited for: what it would still tell is not reported."""


def _outage(run: DrillRun, arguments: OutageArguments) -> StepOutcome:
    application = application_of(run)
    if application is not None:
        return application_outage(run, application, arguments)
    questions = load_questions(run)
    heard = Heard(run.log)
    gates: list[Gate] = []
    for on in between_of(run.spec):
        run.put_between("primary", on)
    router = primary_and_substitute(run, heard.add, gates if arguments.lost is not None else None)
    run.shared["router"], run.shared["heard"] = router, heard
    accounts = Accounts(run)
    load = SteadyLoad(
        router.ask,
        lambda number: _question(run, questions, number),
        rate_per_second=arguments.rate_per_second,
        clock=run.clock,
        on_end=lambda request: count_request(run, request),
    )
    clock = run.clock
    began, began_at = clock.monotonic(), clock.now()
    load.start()
    phases: list[tuple[Phase, float, float, str, bool | None]] = []
    restored: tuple[dict[str, Any], tuple[Finding, ...]] | None = None
    try:
        _watch(run, heard, arguments.warm_up_seconds)
        for number, phase in enumerate(arguments.phases):
            run.check_stop()
            heard.write()  # what came before a fault stands before it
            is_last = number == len(arguments.phases) - 1
            run.say(f"    {phase.on}: {phase.fault} for {phase.seconds:g} s")
            injected = clock.monotonic()
            if phase.fault == LOST:
                destroyed = lose_store(run, "primary")
                how = destroyed.how
                write_broken(run, phase, how, {"destroyed": destroyed.to_json()})
            else:
                destroyed = None
                how = break_part(run, phase)
            if destroyed is not None:
                agreed = tuple(phase.options.get("accept_loss", ()))
                restored = restore_meanwhile(
                    run, router, heard, gates[0], accept_loss=agreed, idle=lambda seconds: _watch(run, heard, seconds)
                )
                restored[0]["destroyed"] = destroyed.to_json()
            _watch(run, heard, phase.seconds)
            ended = clock.monotonic()
            back: bool | None = None  # the last fault stays
            if not is_last:
                heal_part(run, phase)
                back = _wait_until_back(run, router, heard, arguments.heal_seconds)
            phases.append((phase, injected, ended, how, back))
        router.hold()
        _watch(run, heard, arguments.after_seconds)
    except BaseException:
        load.stop(drain_seconds=ABORTED_DRAIN_SECONDS)
        heard.write()
        raise
    report = load.stop(drain_seconds=run.spec.orchestration.deadline_seconds + 5.0)
    ended_at = clock.now()
    heard.write()
    measured = [
        measure_phase(
            phase.to_json() | proxy_told(run.spec, phase),
            how,
            injected - began,
            ended - began,
            back,
            heard.events,
            report,
            began,
        )
        for phase, injected, ended, how, back in phases
    ]
    accounted = accounts.since()
    reconciliation = reconcile(report.requests, accounted, slow_seconds=arguments.slow_seconds)
    _remember(run, report)
    outcome = _outcome(run, report, measured, reconciliation, accounted, (began, began_at, ended_at), arguments)
    return outcome if restored is None else _with_restore(outcome, *restored)


def _with_restore(outcome: StepOutcome, data: dict[str, Any], findings: tuple[Finding, ...]) -> StepOutcome:
    verdicts = [each.verdict for each in findings if each.verdict is not None]
    worst = Verdict.worst([outcome.verdict or Verdict.PASS, *verdicts])
    return StepOutcome({**outcome.data, "restore": data}, (*findings, *outcome.findings), worst)


def _outcome(
    run: DrillRun,
    report: LoadReport,
    measured: Sequence[PhaseMeasure],
    reconciliation: Reconciliation,
    accounts: Mapping[str, Sequence[Mapping[str, Any]]],
    span: tuple[float, Any, Any],
    arguments: OutageArguments,
) -> StepOutcome:
    began, began_at, ended_at = span
    kept = kept_from_arriving(report, measured, began)
    findings = list(_findings(report, measured, reconciliation, kept))
    first_fault = min((each.injected_seconds for each in measured), default=0.0)
    during = [request for request in report.requests if request.due - began >= first_fault]
    after_switch = [request for request in during if request.outcome is not None and is_good(request, "substitute")]
    # An answer that rests on nothing retrieved is no good answer, whoever gave it.
    failed = [request for request in during if not is_good(request)]
    empty = [request.question_id for request in failed if request.end is LoadEnd.ANSWERED]
    if empty:
        text = f"{counted(len(empty), 'request was', 'requests were')} answered without a single passage"
        findings.append(Finding("outage.empty", text, None, tuple(empty[:IDS_SHOWN]), len(empty)))
    rto = [each.recovery_seconds for each in measured]
    data = {
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
        "phases": [each.to_json() for each in measured],
        "rto_seconds": None if not rto or None in rto else max(each for each in rto if each is not None),
        "latency_ms": latency_figures([request for request in report.requests if request.end is LoadEnd.ANSWERED]),
        "latency_ms_on_substitute": latency_figures(after_switch),
        "reconciliation": {
            "adds_up": reconciliation.adds_up,
            "vendor_accounts": sorted(accounts),
            "kept_from_arriving": len(kept.intersection(reconciliation.answered_unseen)),
            "unanswered": {stack: _unanswered(entries) for stack, entries in sorted(accounts.items())},
            **{name: len(getattr(reconciliation, name)) for name in Reconciliation.__slots__},
        },
        "timeline": timeline(report, began),
        "mock": any(request.outcome is not None and request.outcome.is_mock for request in report.requests),
    }
    verdict = Verdict.worst([Verdict.PASS, *(each.verdict for each in findings if each.verdict is not None)])
    return StepOutcome(data, tuple(findings), verdict)


def _unanswered(entries: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """By fault, the requests that a vendor's own account has without an answer."""
    return dict(sorted(Counter(str(entry["kind"]) for entry in entries if entry["outcome"] != "answered").items()))


def _findings(
    report: LoadReport, measured: Sequence[PhaseMeasure], reconciliation: Reconciliation, kept: frozenset[str]
) -> list[Finding]:
    """`kept` are requests whose first answer a proxy may have kept: asked again on purpose, and so billed twice."""
    found: list[Finding] = []
    if report.raised is not None:
        detail = {"error": type(report.raised).__name__}
        found.append(Finding("outage.raised", "a request ended with a fault of exitramp", Verdict.FAIL, detail=detail))
    for name, one, many, text in (
        ("unbacked", "answer is", "answers are", "in no vendor's account"),
        ("answered_twice", "request was", "requests were", "answered more than once"),
        ("answered_unseen", "request was", "requests were", "answered by a vendor and that answer did not arrive"),
        ("foreign", "answer belongs", "answers belong", "by a vendor's account to no request of ours"),
    ):
        ids = getattr(reconciliation, name)
        if name == "answered_twice":
            ids = tuple(each for each in ids if each not in kept)
        if ids:
            verdict = Verdict.FAIL if name in {"unbacked", "answered_twice"} else None
            said = f"{counted(len(ids), one, many)} {text}"
            found.append(Finding(f"outage.{name}", said, verdict, ids[:IDS_SHOWN], len(ids)))
    twice = tuple(each for each in reconciliation.answered_twice if each in kept)
    if twice:
        said = f"{counted(len(twice), 'request was', 'requests were')} asked again after a proxy kept the first answer"
        found.append(Finding("outage.billed_twice", f"{said}: both are billed", None, twice[:IDS_SHOWN], len(twice)))
    for each in measured:
        if each.recovery_seconds is None:
            text = f"no good answer came from the substitute while '{each.fault}' lasted"
            verdict = Verdict.INCONCLUSIVE if each.failures == 0 else Verdict.FAIL
            if each.failures == 0:
                text = f"'{each.fault}' was never noticed: no request to the primary met it"
            found.append(Finding("outage.no_recovery", text, verdict))
        if each.healed is False:
            text = f"the primary did not serve again after '{each.fault}' was healed"
            found.append(Finding("outage.not_back", text))
    return found


def primary_and_substitute(run: DrillRun, listener: Any, gates: list[Gate] | None = None) -> Router:
    """The primary and, behind it, the substitute; with `gates` a closed one before the substitute, put in there."""
    given = run.spec.orchestration
    vectors, price = query_vectors(run), attempt_price(run)
    stacks = [
        build_stack(run, name, vectors, timeout_seconds=given.attempt_timeout_seconds, price=price)
        for name in ("primary", "substitute")
    ]
    if gates is not None:
        gates.append(Gate(stacks[1].retrieve))
        stacks[1] = replace(stacks[1], retrieve=gates[0])
    return router_over(run, stacks, listener)


def router_over(run: DrillRun, stacks: Sequence[Stack], listener: Callable[[RouterEvent], None]) -> Router:
    """These stacks in this order, with the patience and the breaker that the drill file gives the application."""
    given = run.spec.orchestration
    return Router(
        stacks,
        policy=Policy(
            deadline_seconds=given.deadline_seconds,
            attempt_seconds=given.attempt_timeout_seconds,
            retrieve_seconds=given.attempt_timeout_seconds,
            backoff=Backoff(tries=given.tries, base_seconds=0.05, cap_seconds=0.5, retry_after_cap_seconds=0.5),
            breaker=BreakerSettings(
                failures=given.breaker_failures,
                window_seconds=given.breaker_window_seconds,
                cool_down_seconds=given.breaker_cooldown_seconds,
            ),
        ),
        clock=run.clock,
        seed=run.seed,
        listener=listener,
        labels=TraceLabels(drill_id=run.shared.get("run_id"), synthetic=True),
    )


def _question(run: DrillRun, questions: Sequence[tuple[str, str]], number: int) -> Question:
    text, use_case = questions[number % len(questions)]
    return one_question(run, f"outage/{number:06d}", text, use_case, "outage")


def _watch(run: DrillRun, heard: Heard, seconds: float) -> None:
    """Wait while the stream runs, with an eye on the stop conditions; write down what the router says meanwhile."""
    ends = run.clock.monotonic() + seconds
    while (left := ends - run.clock.monotonic()) > 0:
        run.check_stop()
        heard.write()
        run.clock.sleep(min(left, WATCH_SECONDS))


def _wait_until_back(run: DrillRun, router: Router, heard: Heard, seconds: float) -> bool:
    ends = run.clock.monotonic() + seconds
    while run.clock.monotonic() < ends:
        heard.write()
        if router.state("primary") is BreakerState.CLOSED:
            return True
        run.check_stop()
        run.clock.sleep(POLL_SECONDS)
    return False


def _remember(run: DrillRun, report: LoadReport) -> None:
    run.traces += [trace for each in report.requests if each.outcome for trace in each.outcome.traces]


OUTAGE = Step(
    "outage",
    "break the primary under load and see who notices",
    _outage,
    parse_outage,
    reads=("primary.store", "primary.chat", "substitute.store", "substitute.chat"),
    cuts=("primary.store", "primary.chat"),
    varies=vary_outage,
)
