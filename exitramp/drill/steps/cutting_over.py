"""A planned exit's cut-over at an agreed moment without a failed request, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from exitramp.clock import iso_utc
from exitramp.drill.accounts import Accounts
from exitramp.drill.measuring import is_good, latency_figures, timeline
from exitramp.drill.run import DrillRun, StepOutcome
from exitramp.drill.steps.base import Step
from exitramp.drill.steps.late_writes import WriteArguments, write_records
from exitramp.drill.steps.parallel import (
    IDS_SHOWN,
    announced,
    bring_over,
    drained,
    parse_block_of_writes,
    side_router,
    stream,
    watch,
    worst,
)
from exitramp.errors import ConsentMissing, DataInvalid
from exitramp.migration import compare_endpoints
from exitramp.orchestration.load import LoadReport, LoadRequest, SteadyLoad
from exitramp.orchestration.outcome import Outcome
from exitramp.orchestration.reconcile import reconcile
from exitramp.orchestration.router import Router
from exitramp.orchestration.stack import Question
from exitramp.records import Finding, Verdict
from exitramp.wording import counted
from exitramp.yaml_reader import Block

SLOW_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class CutOverArguments:
    """agreed_after_seconds: the moment of the cut-over, after the writes to the primary that come before it. writes: to
    the primary before it, and to the substitute after it."""

    rate_per_second: float
    agreed_after_seconds: float
    after_seconds: float
    writes: WriteArguments

    def to_json(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in self.__slots__}
        return {**found, "writes": self.writes.to_json()}


@dataclass(frozen=True, slots=True)
class WayBackArguments:
    rate_per_second: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return {"rate_per_second": self.rate_per_second, "seconds": self.seconds}


class Switch:
    """Sends each request to one stack. Requests under way when it is moved end where they began."""

    def __init__(self, routers: dict[str, Router], to: str) -> None:
        self._routers = routers
        self.to = to

    def ask(self, question: Question, *, queue_ms: float) -> Outcome:
        return self._routers[self.to].ask(question, queue_ms=queue_ms)


def _cut_over(run: DrillRun, arguments: CutOverArguments) -> StepOutcome:
    substitute = run.writable("substitute")
    primary = run.writable("primary") if any(arguments.writes.to_json().values()) else run.endpoint("primary")
    switch = Switch({name: side_router(run, name) for name in ("primary", "substitute")}, "primary")
    run.shared["switch"] = switch
    accounts = Accounts(run)
    load = stream(run, switch.ask, "cut_over", arguments.rate_per_second)
    began = run.clock.monotonic()
    data: dict[str, Any] = {}
    load.start()
    try:
        write_records(run, primary, arguments.writes, turn=1001)
        agreed = run.clock.monotonic() + arguments.agreed_after_seconds
        agreed_at = iso_utc(run.clock.now() + timedelta(seconds=arguments.agreed_after_seconds))
        run.log.append("cut_over.agreed", {"at": agreed_at})
        watch(run, arguments.agreed_after_seconds)
        held = run.clock.monotonic()
        data |= {
            "agreed_at": agreed_at,
            "agreed_after_seconds": agreed - began,
            "begun_late_seconds": max(0.0, held - agreed),
        }
        run.log.append("cut_over.writes_held", {"after_seconds": held - began})
        findings = _last_catch_up(run, primary, substitute, data)
        if not findings:
            switch.to = "substitute"
            run.shared["cut_over"] = True
            data["switched_after_seconds"] = run.clock.monotonic() - began
            data["writes_held_seconds"] = run.clock.monotonic() - held
            run.log.append("cut_over.switched", {"after_seconds": data["switched_after_seconds"]})
            since = write_records(run, substitute, arguments.writes, turn=1002)
            data["written_since"] = {"upserted": len(since.upserted), "deleted": len(since.deleted)}
            watch(run, arguments.after_seconds)
    except BaseException:
        load.stop(drain_seconds=1.0)
        raise
    report = drained(run, load)
    findings += _requests(report, data, began, "cut_over")
    told = reconcile(report.requests, accounts.since(), slow_seconds=SLOW_SECONDS)
    data["adds_up"] = told.adds_up
    if not told.adds_up:
        text = "our count of the requests and the vendors' own accounts of them do not agree"
        findings.append(Finding("cut_over.accounts", text, Verdict.FAIL))
    run.shared["cut_over_passed"] = worst(findings) is Verdict.PASS
    return StepOutcome(data, tuple(findings), worst(findings))


def _last_catch_up(run: DrillRun, source: Any, target: Any, data: dict[str, Any]) -> list[Finding]:
    """With writes held: what is still missing, then a comparison of every record. Findings mean: do not cut over."""
    done = bring_over(run, source, target, announced(run))
    findings: list[Finding] = done.pop("findings")
    data["last_catch_up"] = done
    result = compare_endpoints(source, target, given=announced(run), progress=lambda rows: run.check_stop())
    data["parity"] = result.records.to_json()
    counts = data["parity"]["counts"]
    data["records"] = sum(counts[kind] for kind in ("missing", "extra", "document", "payload", "vector"))
    if result.records.verdict is not Verdict.PASS or findings:
        text = "the two sides differ at the agreed moment, so traffic stays where it is"
        findings = [Finding("cut_over.no_go", text, Verdict.FAIL), *findings, *result.records.findings]
    return findings


def _requests(report: LoadReport, data: dict[str, Any], began: float, name: str) -> list[Finding]:
    failed = [each.question_id for each in report.requests if not is_good(each)]
    data |= {
        "requests": len(report.requests),
        "failed": len(failed),
        "error_rate": len(failed) / len(report.requests) if report.requests else None,
        "by_stack": _by_stack(report.requests),
        "latency_ms_on_substitute": latency_figures([each for each in report.requests if is_good(each, "substitute")]),
        "mock": any(each.outcome is not None and each.outcome.is_mock for each in report.requests),
        "timeline": timeline(report, began),
    }
    found = []
    if failed:
        text = f"{counted(len(failed), 'request')} got no good answer while traffic was moved"
        found.append(Finding(f"{name}.failed", text, Verdict.FAIL, tuple(failed[:IDS_SHOWN]), len(failed)))
    if report.raised is not None:
        found.append(Finding(f"{name}.raised", "a request ended with a fault of exitramp", Verdict.FAIL))
    return found


def _by_stack(requests: Sequence[LoadRequest]) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in requests:
        if each.outcome is not None and each.outcome.stack is not None:
            found[each.outcome.stack] = found.get(each.outcome.stack, 0) + 1
    return found


def _way_back(run: DrillRun, arguments: WayBackArguments) -> StepOutcome:
    """What was written since the cut-over goes back to the primary, then traffic does; needed even in a stopped run."""
    switch: Switch | None = run.shared.get("switch")
    if switch is None or not run.shared.get("cut_over"):
        return StepOutcome({"needed": False})
    primary, substitute = run.writable("primary"), run.endpoint("substitute")
    load: SteadyLoad | None = None
    began = run.clock.monotonic()
    data: dict[str, Any] = {"needed": True}
    if run.aborted is None:
        load = stream(run, switch.ask, "way_back", arguments.rate_per_second)
        load.start()
    try:
        if load is not None:
            watch(run, arguments.seconds / 2)
        findings = _carried_back(run, substitute, primary, data)
        switched: float | None = None
        if not findings:
            switch.to, switched = "primary", run.clock.monotonic()
            run.log.append("way_back.switched", {"after_seconds": run.clock.monotonic() - began})
        if load is not None:
            watch(run, arguments.seconds / 2)
    except BaseException:
        if load is not None:
            load.stop(drain_seconds=1.0)
        raise
    if load is not None:
        report = drained(run, load)
        findings += _requests(report, data, began, "way_back")
        findings += _traffic(report, switched, data)
    return StepOutcome(data, tuple(findings), worst(findings))


def _traffic(report: LoadReport, switched: float | None, data: dict[str, Any]) -> list[Finding]:
    """Whether the last requests that came after traffic was `switched` were answered by the primary.

    None: it was left where it was, and whoever left it there has said why; that it stayed is then no fault of its own.
    """
    after = [each for each in report.requests if switched is not None and each.due >= switched]
    tail = {each.outcome.stack for each in after[-3:] if each.outcome is not None}
    data["back_on_primary"] = tail == {"primary"}
    if data["back_on_primary"] or switched is None:
        return []
    if not after:
        text = "no request came after traffic was sent back: give 'way_back' more seconds, or a higher rate"
        return [Finding("way_back.traffic", text, Verdict.INCONCLUSIVE)]
    return [Finding("way_back.traffic", "traffic did not go back to the primary", Verdict.FAIL)]


def _carried_back(run: DrillRun, substitute: Any, primary: Any, data: dict[str, Any]) -> list[Finding]:
    # No stop condition ends this half way: what was written since would be on one side only.
    from exitramp.migration import metrics_held, plan_move, synchronise_endpoints

    # What leaving gave up by consent is in the primary still: differing by that alone, a record was not written since,
    # and bringing it back would lose it there too. The lengths that were given up are those of the primary's vectors.
    given = {column: replace(each, length=None) for column, each in announced(run).items()}
    # Back home every field is searched as it always was: what leaving changed of that is no loss on the way back.
    metrics = metrics_held(substitute.source().describe().vectors, primary.source().describe().vectors)
    primary.keep_metrics(metrics)
    plan = plan_move(substitute, primary, metrics=metrics or None)
    try:
        plan.require_consent(home := [each.subject for each in plan.lossy() if each.subject.startswith("metric:")])
    except (ConsentMissing, DataInvalid) as error:
        text = (
            f"nothing was carried back, and traffic stays on the substitute: {error.message}; next: leave 'way_back' "
        )
        text += "out of the drill, or take a substitute from which the primary takes everything back"
        return [Finding("way_back.loss", text, Verdict.INCONCLUSIVE)]
    done = synchronise_endpoints(substitute, primary, plan=plan, accept_loss=home, delete=True, given=given)
    if metrics:
        data["metrics_kept"] = {name: metric.value for name, metric in metrics.items()}
    data["sync"] = {name: getattr(done, name) for name in ("missing", "changed", "extra", "upserted", "deleted")}
    result = compare_endpoints(substitute, primary, given=given)
    data["parity"] = result.records.to_json()
    found = [each for each in done.findings if each.verdict is not None]
    if result.records.verdict is not Verdict.PASS or found:
        text = "what was written since the cut-over did not come back whole, so traffic stays on the substitute"
        found = [Finding("way_back.differs", text, Verdict.FAIL), *found, *result.records.findings]
    return found


def _parse_cut_over(block: Block) -> CutOverArguments:
    return CutOverArguments(
        block.number("rate_per_second", 5.0, minimum=0.1, maximum=1000),
        block.number("agreed_after_seconds", 3.0, minimum=0),
        block.number("after_seconds", 3.0, minimum=0.5),
        parse_block_of_writes(block),
    )


def _parse_way_back(block: Block) -> WayBackArguments:
    return WayBackArguments(
        block.number("rate_per_second", 5.0, minimum=0.1, maximum=1000), block.number("seconds", 4.0, minimum=1)
    )


def _varied_cut_over(spec: Any, arguments: CutOverArguments) -> dict[str, Any]:
    writes = any(arguments.writes.to_json().values())
    return {"writes": (*(("primary.store",) if writes else ()), "substitute.store")}


_BOTH = ("primary.store", "primary.chat", "substitute.store", "substitute.chat")
CUT_OVER = Step(
    "cut_over",
    "move traffic to the substitute at the agreed moment, without a failed request",
    _cut_over,
    _parse_cut_over,
    reads=_BOTH,
    writes=("substitute.store",),
    varies=_varied_cut_over,
)
WAY_BACK = Step(
    "way_back",
    "carry what was written since back to the primary, and traffic with it",
    _way_back,
    _parse_way_back,
    reads=_BOTH,
    writes=("primary.store",),
    always=True,
)
