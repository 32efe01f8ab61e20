"""A planned exit's cut-over at an agreed moment without a failed request, the way back, and what the vendor keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from exitramp.arrow import record_keys
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
from exitramp.errors import ConfigError
from exitramp.migration import compare_endpoints
from exitramp.orchestration.load import LoadReport, LoadRequest, SteadyLoad
from exitramp.orchestration.outcome import Outcome
from exitramp.orchestration.reconcile import reconcile
from exitramp.orchestration.router import Router
from exitramp.orchestration.stack import Question
from exitramp.parity.alignment import read_all
from exitramp.ports import Origin
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


@dataclass(frozen=True, slots=True)
class VendorDataArguments:
    """delete: the name of the primary's collection, written out once more, or None: nothing is deleted."""

    delete: str | None

    def to_json(self) -> dict[str, Any]:
        return {"delete": self.delete}


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
        if not findings:
            switch.to = "primary"
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
        tail = {each.outcome.stack for each in report.requests[-3:] if each.outcome is not None}
        data["back_on_primary"] = tail == {"primary"}
        if not data["back_on_primary"]:
            findings.append(Finding("way_back.traffic", "traffic did not go back to the primary", Verdict.FAIL))
    return StepOutcome(data, tuple(findings), worst(findings))


def _carried_back(run: DrillRun, substitute: Any, primary: Any, data: dict[str, Any]) -> list[Finding]:
    # No stop condition ends this half way: what was written since would be on one side only.
    from exitramp.migration import plan_move, synchronise_endpoints

    # What leaving gave up by consent is in the primary still: differing by that alone, a record was not written since,
    # and bringing it back would lose it there too. The lengths that were given up are those of the primary's vectors.
    given = {column: replace(each, length=None) for column, each in announced(run).items()}
    plan = plan_move(substitute, primary)
    done = synchronise_endpoints(substitute, primary, plan=plan, delete=True, given=given)
    data["sync"] = {name: getattr(done, name) for name in ("missing", "changed", "extra", "upserted", "deleted")}
    result = compare_endpoints(substitute, primary, given=given)
    data["parity"] = result.records.to_json()
    found = [each for each in done.findings if each.verdict is not None]
    if result.records.verdict is not Verdict.PASS or found:
        text = "what was written since the cut-over did not come back whole, so traffic stays on the substitute"
        found = [Finding("way_back.differs", text, Verdict.FAIL), *found, *result.records.findings]
    return found


def _vendor_data(run: DrillRun, arguments: VendorDataArguments) -> StepOutcome:
    """What the leaving vendor still holds. Deleted only where the drill file names the collection once more."""
    part = run.stack("primary").store
    endpoint = run.endpoint("primary")
    chat = run.stack("primary").chat
    held = endpoint.source().count()
    collection = part.address.collection or ""
    data: dict[str, Any] = {
        "collection": collection,
        "records": held,
        "chat": chat is not None,
        "asked_to_delete": arguments.delete is not None,
        "deleted": None,
    }
    if arguments.delete is None:
        text = (
            f"nothing was deleted: {counted(held, 'record')} of the collection '{collection}' would have to be, and "
            "whatever copies and logs the vendor keeps"
        )
        return StepOutcome(data, (Finding("vendor_data.kept", text, count=held),))
    if arguments.delete != collection:
        raise ConfigError(
            f"vendor_data.delete names '{arguments.delete}', and the primary's collection is '{collection}'",
            file=run.spec.file,
            hint="nothing was deleted; write the collection's name to have it deleted",
        )
    if not run.shared.get("cut_over"):
        text = "nothing was deleted: traffic was not moved away from the primary"
        return StepOutcome(data, (Finding("vendor_data.in_use", text, Verdict.INCONCLUSIVE),), Verdict.INCONCLUSIVE)
    if not run.shared.get("cut_over_passed"):
        text = "nothing was deleted: the cut-over did not pass, and the primary is what one would go back to"
        return StepOutcome(data, (Finding("vendor_data.needed", text, Verdict.INCONCLUSIVE),), Verdict.INCONCLUSIVE)
    writable = run.writable("primary")
    source = writable.source()
    keys = [key for batch in read_all(source, batch_rows=1000) for key in record_keys(batch)]
    sink = writable.sink()
    sink.create(source.describe(), source.origin() or Origin(source.describe(), "drill"))
    sink.delete(keys)
    sink.flush()
    left = writable.source().count()
    data |= {"deleted": held - left, "left": left}
    if left:
        text = f"{counted(left, 'record is', 'records are')} still there after they were deleted"
        return StepOutcome(data, (Finding("vendor_data.left", text, Verdict.FAIL, count=left),), Verdict.FAIL)
    text = f"{counted(held, 'record')} deleted as the drill file asks; copies and logs of the vendor's are not reached"
    return StepOutcome(data, (Finding("vendor_data.deleted", text, count=held),), Verdict.PASS)


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


def _parse_vendor_data(block: Block) -> VendorDataArguments:
    return VendorDataArguments(block.text("delete", None))


def _varied_cut_over(spec: Any, arguments: CutOverArguments) -> dict[str, Any]:
    writes = any(arguments.writes.to_json().values())
    return {"writes": (*(("primary.store",) if writes else ()), "substitute.store")}


def _varied_vendor_data(spec: Any, arguments: VendorDataArguments) -> dict[str, Any]:
    if arguments.delete is None:
        return {}
    return {"writes": ("primary.store",), "summary": "DELETE the primary's records, as the drill file asks"}


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
VENDOR_DATA = Step(
    "vendor_data",
    "say what the leaving vendor still holds; nothing is deleted unless asked",
    _vendor_data,
    _parse_vendor_data,
    reads=("primary.store",),
    varies=_varied_vendor_data,
)
