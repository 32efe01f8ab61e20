"""Steps around the outage: does everything answer before, and does everything come back after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from exitramp.drill.application import application_of
from exitramp.drill.costing import count_request
from exitramp.drill.heard import Heard
from exitramp.drill.naming import error_words
from exitramp.drill.questions import load_questions, one_question, query_vectors
from exitramp.drill.run import DrillRun, StepOutcome
from exitramp.drill.spec import DrillSpec
from exitramp.drill.stacks import build_stack
from exitramp.drill.steps.application_back import application_back, back_findings
from exitramp.drill.steps.base import Step
from exitramp.drill.steps.late_writes import LateWrites
from exitramp.errors import ExitrampError
from exitramp.faults import NO_FAULT, Fault
from exitramp.migration import announced_tolerances, compare_endpoints, plan_move, synchronise_endpoints
from exitramp.migration.moving import read_digests
from exitramp.orchestration.load import LoadEnd, SteadyLoad
from exitramp.orchestration.router import Router
from exitramp.orchestration.stack import Question
from exitramp.ports import ChatMessage, ChatRequest, Purpose
from exitramp.records import Finding, Verdict
from exitramp.yaml_reader import Block

PROBE = (
    "[passage probe#0]\nThis passage is only here to see whether the model answers.\n[/passage]\n\n"
    "Question: does the model answer?"
)


@dataclass(frozen=True, slots=True)
class HypothesisArguments:
    when: str

    def to_json(self) -> dict[str, Any]:
        return {"when": self.when}


@dataclass(frozen=True, slots=True)
class RollbackArguments:
    sync: bool
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return {"sync": self.sync, "seconds": self.seconds}


def _hypothesis(run: DrillRun, arguments: HypothesisArguments) -> StepOutcome:
    """Whether each part of both stacks answers; the substitute's store may still be without its collection."""
    checks: list[dict[str, Any]] = []
    for name, stack in run.stacks.items():
        checks.append({"stack": name, "part": "store", **_ask_store(run, name)})
        if stack.chat is not None:
            checks.append({"stack": name, "part": "chat", **_ask_chat(run, name)})
        if stack.embedding is not None:
            checks.append({"stack": name, "part": "embedding", **_ask_embedding(run, name)})
    broken = [check for check in checks if not check["answers"]]
    findings = tuple(
        Finding(
            "hypothesis.silent",
            f"the {check['stack']}'s {check['part']} does not answer {arguments.when} the outage: {check['error']}",
            Verdict.FAIL,
        )
        for check in broken
    )
    return StepOutcome({"when": arguments.when, "checks": checks}, findings, Verdict.FAIL if broken else Verdict.PASS)


def _ask_store(run: DrillRun, name: str) -> dict[str, Any]:
    from exitramp.errors import CollectionMissing

    try:
        rows: int | None = run.endpoint(name).source().count()
    except CollectionMissing:
        rows = None  # the store answered, and said that there is nothing there yet
    except ExitrampError as error:
        return {"answers": False, "records": None, "error": error_words(error)}
    if rows is None and name == "primary":
        return {"answers": False, "records": None, "error": "there is no such collection"}
    return {"answers": True, "records": rows, "error": None}


def _ask_chat(run: DrillRun, name: str) -> dict[str, Any]:
    try:
        model = build_stack(run, name, query_vectors(run), timeout_seconds=10.0).model
        answer = model.answer(ChatRequest((ChatMessage("user", PROBE),), 64), timeout_seconds=10.0)
    except ExitrampError as error:
        return {"answers": False, "error": error_words(error)}
    return {"answers": True, "finish_reason": answer.finish_reason, "model": answer.model_id, "error": None}


def _ask_embedding(run: DrillRun, name: str) -> dict[str, Any]:
    try:
        found = run.embedding_of(name).embed([PROBE], purpose=Purpose.QUERY, timeout_seconds=30.0)
    except ExitrampError as error:
        return {"answers": False, "error": error_words(error)}
    return {"answers": True, "model": found.model_id, "dimensions": found.vectors.shape[1], "error": None}


def _rollback(run: DrillRun, arguments: RollbackArguments) -> StepOutcome:
    primary = run.stack("primary")
    for target, part in (("store", primary.store), ("chat", primary.chat)):
        if part is None:
            continue
        if part.service is not None and target == "store":
            run.inject("primary", "store", NO_FAULT)
            run.inject("primary", "store", Fault("restart"))
        else:
            run.inject("primary", target, NO_FAULT)
    run.log.append("rollback.healed", {"stack": "primary"})
    findings: list[Finding] = []
    data: dict[str, Any] = {"traffic": _traffic_back(run, arguments.seconds, findings)}
    # A drill that was stopped before it left has nothing to bring over, and must not begin to write now.
    synced = arguments.sync and (run.aborted is None or "restore" in run.results)
    data["sync"] = _bring_over(run, synced, findings)
    compared = _compared(run, synced, findings)
    data |= compared
    verdict = Verdict.worst([Verdict.PASS, *(each.verdict for each in findings if each.verdict is not None)])
    measured = data["traffic"] is not None or "parity" in compared or "primary_unchanged" in compared
    if verdict is Verdict.PASS and not measured:
        # Nothing had been moved yet, so nothing shows that it came back: that is no pass, and no fault either.
        return StepOutcome(data, tuple(findings))
    return StepOutcome(data, tuple(findings), verdict)


def _traffic_back(run: DrillRun, seconds: float, findings: list[Finding]) -> dict[str, Any] | None:
    application = application_of(run)
    if application is not None:
        if "outage" not in run.results:
            return None  # nothing had been moved
        told = application_back(run, application, seconds)
        findings += back_findings(told)
        return told
    router: Router | None = run.shared.get("router")
    if router is None:
        return None
    router.release()
    questions = load_questions(run)

    def question(number: int) -> Question:
        text, use_case = questions[number % len(questions)]
        return one_question(run, f"rollback/{number:06d}", text, use_case, "rollback")

    report = SteadyLoad(
        router.ask,
        question,
        rate_per_second=12.0,
        clock=run.clock,
        on_end=lambda request: count_request(run, request),
    ).run(seconds)
    heard: Heard | None = run.shared.get("heard")
    if heard is not None:
        heard.write()
    by_stack: dict[str, int] = {}
    for request in report.requests:
        if request.outcome is not None and request.outcome.stack is not None:
            by_stack[request.outcome.stack] = by_stack.get(request.outcome.stack, 0) + 1
    tail = [request.outcome.stack for request in report.requests[-3:] if request.outcome is not None]
    is_back = bool(tail) and set(tail) == {"primary"}
    if not is_back:
        findings.append(Finding("rollback.traffic", "traffic did not go back to the primary", Verdict.FAIL))
    failed = report.count(LoadEnd.FAILED) + report.count(LoadEnd.CANCELLED)
    return {"requests": len(report.requests), "by_stack": by_stack, "failed": failed, "back_on_primary": is_back}


def _bring_over(run: DrillRun, wanted: bool, findings: list[Finding]) -> dict[str, Any] | None:
    if not wanted:
        return None
    late: LateWrites | None = run.shared.get("late_writes")
    primary, substitute = run.endpoint("primary"), run.writable("substitute")
    done = synchronise_endpoints(
        primary,
        substitute,
        delete=True,
        maximum_deletes=len(late.deleted) if late else None,
        given=announced_tolerances(run.shared.get("plan"), run.shared.get("accepted_loss", ())),
    )
    if done.upserted:
        # The plan before the exit measured other records than these, and may have had less to announce.
        run.shared["plan"] = plan_move(primary, substitute)
    findings += done.findings
    return {
        "missing": done.missing,
        "changed": done.changed,
        "extra": done.extra,
        "upserted": done.upserted,
        "deleted": done.deleted,
    }


def _compared(run: DrillRun, synced: bool, findings: list[Finding]) -> dict[str, Any]:
    before = run.shared.get("primary_digests")
    if run.aborted is not None and before is None and not synced:
        return {}  # stopped before anything was known to hold it against, or in the middle of our own writes
    primary, substitute = run.endpoint("primary"), run.endpoint("substitute")
    now = read_digests(primary.source())
    data: dict[str, Any] = {
        "primary_digests": now.to_json(),
        "primary_digests_before": before.to_json() if before is not None else None,
    }
    if before is not None:
        differing = now.differences(before)
        data["primary_unchanged"] = not differing
        if differing:
            text = f"the primary came back with other data than it had: {', '.join(differing)} differ"
            findings.append(Finding("rollback.primary", text, Verdict.FAIL))
    if synced:
        given = announced_tolerances(run.shared.get("plan"), run.shared.get("accepted_loss", ()))
        result = compare_endpoints(primary, substitute, given=given)
        data["parity"] = result.records.to_json()
        data["substitute_digests"] = result.records.digests_b.to_json()
        findings += result.records.findings
    return data


def _parse_hypothesis(block: Block) -> HypothesisArguments:
    return HypothesisArguments(block.choice("when", ("before", "after"), "before"))


def _parse_rollback(block: Block) -> RollbackArguments:
    return RollbackArguments(block.flag("sync", True), block.number("seconds", 3.0, minimum=0))


EVERYTHING = (
    "primary.store", "primary.chat", "primary.embedding", "substitute.store", "substitute.chat", "substitute.embedding"
)  # fmt: skip
HYPOTHESIS = Step("check_hypothesis", "does everything answer?", _hypothesis, _parse_hypothesis, reads=EVERYTHING)


def _varied(spec: DrillSpec, arguments: RollbackArguments) -> dict[str, Any]:
    return {} if arguments.sync else {"writes": (), "summary": "bring the primary back and send traffic there"}


ROLLBACK = Step(
    "rollback",
    "bring the primary back, send traffic there, and bring over what the substitute missed",
    _rollback,
    _parse_rollback,
    reads=EVERYTHING,
    writes=("substitute.store",),
    always=True,
    varies=_varied,
)
