"""A planned exit's parallel run: both sides answer the same stream while the primary goes on being written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from exitramp.drill.costing import attempt_price, count_request
from exitramp.drill.heard import WATCH_SECONDS
from exitramp.drill.measuring import is_good, latency_figures
from exitramp.drill.questions import load_questions, one_question, query_vectors
from exitramp.drill.run import DrillRun, StepOutcome
from exitramp.drill.stacks import build_stack
from exitramp.drill.steps.base import NoArguments, Step
from exitramp.drill.steps.late_writes import WriteArguments, parse_writes, write_records
from exitramp.drill.steps.outage import router_over
from exitramp.migration import announced_tolerances, compare_endpoints, plan_move, synchronise_endpoints
from exitramp.orchestration.load import LoadReport, LoadRequest, SteadyLoad
from exitramp.orchestration.router import Router
from exitramp.orchestration.stack import Question
from exitramp.records import Finding, Verdict
from exitramp.wording import counted
from exitramp.wrappers import Endpoint
from exitramp.yaml_reader import Block

IDS_SHOWN: Final = 20
SIDES: Final = ("primary", "substitute")
MOST_ROUNDS: Final = 5
"""How often a catch-up looks for what was written while the one before it ran."""


@dataclass(frozen=True, slots=True)
class ParallelArguments:
    """seconds: how long both sides answer. rounds: how often in that time the primary is written and caught up with."""

    seconds: float
    rate_per_second: float
    rounds: int
    writes: WriteArguments

    def to_json(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in self.__slots__}
        return {**found, "writes": self.writes.to_json()}


def side_router(run: DrillRun, stack: str) -> Router:
    """One stack alone: what it does not answer is not answered, so a side's weakness is not hidden by the other."""
    timeout = run.spec.orchestration.attempt_timeout_seconds
    built = build_stack(run, stack, query_vectors(run), timeout_seconds=timeout, price=attempt_price(run))
    return router_over(run, [built], lambda event: None)


def watch(run: DrillRun, seconds: float) -> None:
    """Let a stream run, with an eye on the stop conditions."""
    ends = run.clock.monotonic() + seconds
    while (left := ends - run.clock.monotonic()) > 0:
        run.check_stop()
        run.clock.sleep(min(left, WATCH_SECONDS))


def stream(run: DrillRun, ask: Any, name: str, rate_per_second: float) -> SteadyLoad:
    """The drill's questions in turn, each with an id of this stream's own."""
    questions = load_questions(run)

    def question(number: int) -> Question:
        text, use_case = questions[number % len(questions)]
        return one_question(run, f"{name}/{number:06d}", text, use_case, name.partition("/")[0])

    return SteadyLoad(
        ask,
        question,
        rate_per_second=rate_per_second,
        clock=run.clock,
        on_end=lambda request: count_request(run, request),
    )


def drained(run: DrillRun, load: SteadyLoad) -> LoadReport:
    report = load.stop(drain_seconds=run.spec.orchestration.deadline_seconds + 5.0)
    run.traces += [trace for each in report.requests if each.outcome for trace in each.outcome.traces]
    return report


def bring_over(run: DrillRun, source: Endpoint, target: Endpoint, given: Any) -> dict[str, Any]:
    """One synchronisation, deletions included. Returns what differed, and how long it took."""
    began = run.clock.monotonic()
    done = synchronise_endpoints(source, target, delete=True, given=given, progress=lambda rows: run.check_stop())
    counts = {name: getattr(done, name) for name in ("missing", "changed", "extra", "upserted", "deleted")}
    return counts | {
        "seconds": run.clock.monotonic() - began,
        "findings": [each for each in done.findings if each.verdict is not None],
    }


def announced(run: DrillRun) -> Any:
    return announced_tolerances(run.shared.get("plan"), run.shared.get("accepted_loss", ()))


def _parallel(run: DrillRun, arguments: ParallelArguments) -> StepOutcome:
    primary = run.writable("primary") if _writes(arguments.writes) else run.endpoint("primary")
    substitute = run.writable("substitute")
    loads = {
        side: stream(run, side_router(run, side).ask, f"parallel/{side}", arguments.rate_per_second) for side in SIDES
    }
    rounds: list[dict[str, Any]] = []
    findings: list[Finding] = []
    for load in loads.values():
        load.start()
    began = run.clock.monotonic()
    try:
        for number in range(1, arguments.rounds + 1):
            written = write_records(run, primary, arguments.writes, turn=number)
            done = bring_over(run, primary, substitute, announced(run))
            findings += done.pop("findings")
            rounds.append({"written": len(written.upserted), "deleted_there": len(written.deleted), **done})
            run.log.append("parallel.caught_up", {"round": number, **rounds[-1]})
            watch(run, began + arguments.seconds * number / arguments.rounds - run.clock.monotonic())
    except BaseException:
        for load in loads.values():
            load.stop(drain_seconds=1.0)
        raise
    reports = {side: drained(run, load) for side, load in loads.items()}
    sides = {side: _side(report) for side, report in reports.items()}
    findings += _failures(reports)
    data = {
        "seconds": run.clock.monotonic() - began,
        "rate_per_second": arguments.rate_per_second,
        "sides": sides,
        "agreement": _agreement(reports),
        "rounds": rounds,
        "mock": any(each.outcome and each.outcome.is_mock for report in reports.values() for each in report.requests),
    }
    return StepOutcome(data, tuple(findings), worst(findings))


def worst(findings: Sequence[Finding]) -> Verdict:
    return Verdict.worst([Verdict.PASS, *(each.verdict for each in findings if each.verdict is not None)])


def _writes(arguments: WriteArguments) -> bool:
    return bool(arguments.inserts or arguments.updates or arguments.deletes)


def _side(report: LoadReport) -> dict[str, Any]:
    good = [each for each in report.requests if is_good(each)]
    return {
        "requests": len(report.requests),
        "good": len(good),
        "failed": len(report.requests) - len(good),
        "latency_ms": latency_figures(good),
    }


def _failures(reports: Mapping[str, LoadReport]) -> list[Finding]:
    found = []
    for side, report in reports.items():
        failed = [each.question_id for each in report.requests if not is_good(each)]
        if failed:
            text = f"{counted(len(failed), 'request')} of the parallel run got no good answer from the {side}"
            # That the vendor one leaves fails now and then is no fault of the exit.
            verdict = Verdict.FAIL if side == "substitute" else None
            found.append(Finding("parallel.failed", text, verdict, tuple(failed[:IDS_SHOWN]), len(failed)))
        if report.raised is not None:
            found.append(Finding("parallel.raised", "a request ended with a fault of exitramp", Verdict.FAIL))
    return found


def _agreement(reports: Mapping[str, LoadReport]) -> dict[str, Any]:
    """Of the requests that both sides answered, how much of what was retrieved is the same."""
    pairs = [
        (one, other)
        for one, other in zip(reports["primary"].requests, reports["substitute"].requests, strict=False)
        if is_good(one) and is_good(other)
    ]
    shares = [_overlap(one, other) for one, other in pairs]
    same_first = sum(_ids(one)[:1] == _ids(other)[:1] for one, other in pairs)
    return {
        "pairs": len(pairs),
        "mean_overlap": sum(shares) / len(shares) if shares else None,
        "lowest_overlap": min(shares, default=None),
        "same_first": same_first,
    }


def _ids(request: LoadRequest) -> tuple[str, ...]:
    return request.outcome.retrieved_ids if request.outcome is not None else ()


def _overlap(one: LoadRequest, other: LoadRequest) -> float:
    a, b = set(_ids(one)), set(_ids(other))
    return len(a & b) / max(len(a), len(b), 1)


def _catch_up(run: DrillRun, arguments: NoArguments) -> StepOutcome:
    """Synchronise until nothing differs any more, then compare record by record."""
    primary, substitute = run.endpoint("primary"), run.writable("substitute")
    rounds: list[dict[str, Any]] = []
    findings: list[Finding] = []
    for _ in range(MOST_ROUNDS):
        done = bring_over(run, primary, substitute, announced(run))
        findings += done.pop("findings")
        rounds.append(done)
        if not (done["missing"] or done["changed"] or done["extra"]):
            break
    else:
        text = f"the primary was still ahead after {MOST_ROUNDS} rounds: it is written faster than it can be followed"
        findings.append(Finding("catch_up.behind", text, Verdict.INCONCLUSIVE))
    if any(each["upserted"] for each in rounds):
        # The plan before measured other records than these, and may have had less to announce.
        run.shared["plan"] = plan_move(primary, substitute)
    result = compare_endpoints(primary, substitute, given=announced(run), progress=lambda rows: run.check_stop())
    findings += result.records.findings
    data = {"rounds": rounds, "parity": result.records.to_json()}
    return StepOutcome(data, tuple(findings), Verdict.worst([worst(findings), result.records.verdict]))


def parse_block_of_writes(block: Block) -> WriteArguments:
    inner = block.block("writes", required=False)
    if inner is None:
        return WriteArguments(0, 0, 0)
    found = parse_writes(inner)
    inner.finish()
    return found


def _parse(block: Block) -> ParallelArguments:
    return ParallelArguments(
        block.number("seconds", 10.0, minimum=0.5),
        block.number("rate_per_second", 5.0, minimum=0.1, maximum=1000),
        block.integer("rounds", 2, minimum=1),
        parse_block_of_writes(block),
    )


def _varied(spec: Any, arguments: ParallelArguments) -> dict[str, Any]:
    return {"writes": (*(("primary.store",) if _writes(arguments.writes) else ()), "substitute.store")}


PARALLEL = Step(
    "parallel_run",
    "let both sides answer the same stream while the primary goes on being written",
    _parallel,
    _parse,
    reads=("primary.store", "primary.chat", "substitute.store", "substitute.chat"),
    writes=("substitute.store",),
    varies=_varied,
)
CATCH_UP = Step(
    "catch_up",
    "bring late writes over until nothing differs, and compare record by record",
    _catch_up,
    reads=("primary.store", "substitute.store"),
    writes=("substitute.store",),
)
