"""Steps that take everything out, prove it whole, put it into the substitute, and compare."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exitramp.arrow import record_keys
from exitramp.drill.run import DrillRun, StepOutcome
from exitramp.drill.steps.base import NoArguments, Step
from exitramp.errors import ConfigError, ConsentMissing, DataInvalid, UsageError, WriteRefused
from exitramp.migration import (
    announced_tolerances,
    asked_fields,
    compare_endpoints,
    migrate,
    plan_move,
)
from exitramp.parity.alignment import read_all
from exitramp.parity.neighbour_result import Demands
from exitramp.parity.neighbours import compare_neighbours, metric_disagreement
from exitramp.records import Finding, Metric, Verdict, parse_metric
from exitramp.transfer.plan import Plan, PlanLine
from exitramp.urls import path_address
from exitramp.wording import counted
from exitramp.wrappers import open_endpoint
from exitramp.yaml_reader import Block


@dataclass(frozen=True, slots=True)
class RestoreArguments:
    accept_loss: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"accept_loss": list(self.accept_loss)}


@dataclass(frozen=True, slots=True)
class ParityArguments:
    queries: int
    k: int
    recall_floor: float
    filters: int
    fields: tuple[str, ...] | None = None
    """The vector fields whose neighbours are compared; None is every one."""

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class LoseArguments:
    share: float

    def to_json(self) -> dict[str, Any]:
        return {"share": self.share}


@dataclass(frozen=True, slots=True)
class DisagreeArguments:
    first: Metric
    second: Metric
    below: float
    k: int
    queries: int

    def to_json(self) -> dict[str, Any]:
        return {"first": self.first, "second": self.second, "below": self.below, "k": self.k, "queries": self.queries}


def consent_line(plan: Plan) -> str:
    """`accept_loss: ["vector"]`: what the step 'restore' of a drill file needs before this plan can be carried out."""
    return f"accept_loss: {json.dumps([line.subject for line in plan.lossy()])}"


def dump_address(run: DrillRun) -> str:
    return path_address("dump", run.folder / "dump")


def _stoppable(run: DrillRun) -> Callable[[str, int], None]:
    """Progress of a move that looks at the stop conditions with every batch: of millions of records one takes hours."""
    return lambda what, rows: run.check_stop()


def _dump(run: DrillRun, arguments: NoArguments) -> StepOutcome:
    source = run.endpoint("primary")
    # What is written from here on may be in the dump or not: its age counts from its beginning.
    run.shared["dump_began"] = run.clock.monotonic()
    with open_endpoint(dump_address(run)) as target:
        result = migrate(source, target, progress=_stoppable(run))
    data = result.to_json() | {
        "bytes": sum(file.stat().st_size for file in Path(run.folder / "dump").rglob("*") if file.is_file())
    }
    run.shared["dump_digests"] = result.digests
    run.shared["dumped_at"] = run.clock.now()
    return StepOutcome(data, tuple(result.findings), result.verdict)


def _verify(run: DrillRun, arguments: NoArguments) -> StepOutcome:
    from exitramp.dump.integrity import verify_dump

    report = verify_dump(run.folder / "dump")
    return StepOutcome(report.to_json(), tuple(report.findings), report.verdict)


def _plan(run: DrillRun, arguments: NoArguments) -> StepOutcome:
    target = run.endpoint("substitute")
    with open_endpoint(dump_address(run)) as source:
        found = plan_move(source, target, progress=lambda rows: run.check_stop())
    run.shared["plan"] = found
    asked, agreed = _consent(run)
    findings = [*found.findings]
    for line in found.lossy():
        if asked and line.subject not in agreed:
            text = f"{line.subject} would lose something ({line.how}), and the drill file agrees to no such loss"
            detail = {"next": f"write {consent_line(found)} under 'restore' in the drill file, or change the target"}
            findings.append(Finding("plan.unaccepted", text, Verdict.INCONCLUSIVE, count=line.rows, detail=detail))
    # Lossy and without consent: the plan can be made, and not carried out.
    verdict = Verdict.worst([found.verdict, *(each.verdict for each in findings if each.verdict is not None)])
    return StepOutcome(found.to_json() | {"accepted_loss": sorted(agreed)}, tuple(findings), verdict)


def _consent(run: DrillRun) -> tuple[bool, set[str]]:
    """Whether the drill restores anything, and which losses its file agrees to."""
    restores = [step.arguments for step in run.spec.steps if step.name == "restore"]
    agreed = {name for each in restores for name in each.accept_loss}
    lost = [step.arguments.lost for step in run.spec.steps if step.name == "outage" and step.arguments.lost is not None]
    agreed |= {name for phase in lost for name in phase.options.get("accept_loss", ())}
    return bool(restores or lost), agreed


def _wanted_consent(run: DrillRun) -> str:
    """The line of the drill file that agrees to every loss of the plan, where there is one already."""
    plan: Plan | None = run.shared.get("plan")
    return "'accept_loss' with its name" if plan is None else consent_line(plan)


def _given_up(line: PlanLine) -> Finding:
    text = f"{line.subject}: given up by consent: {line.how}"
    text += f" ({counted(line.rows, 'record')})" if line.rows is not None else ""
    return Finding("loss.accepted", text, count=line.rows, detail={"subject": line.subject})


def _restore(run: DrillRun, arguments: RestoreArguments) -> StepOutcome:
    target = run.writable("substitute")
    with open_endpoint(dump_address(run)) as source:
        try:
            result = migrate(
                source,
                target,
                accept_loss=arguments.accept_loss,
                plan=run.shared.get("plan"),
                progress=_stoppable(run),
            )
        except ConsentMissing as error:
            hint = (
                f"nothing was written; to agree to it, write {_wanted_consent(run)} under 'restore' in the drill file"
            )
            raise ConsentMissing(error.message, hint=hint) from error
    run.shared["plan"] = result.plan
    run.shared["accepted_loss"] = arguments.accept_loss
    lost = (
        () if result.plan is None else [each for each in result.plan.lossy() if each.subject in arguments.accept_loss]
    )
    findings = (*map(_given_up, lost), *result.findings)
    accepted = {"accepted_loss": [each.subject for each in lost]}
    return StepOutcome(result.to_json() | accepted, findings, result.verdict)


def _parity(run: DrillRun, arguments: ParityArguments) -> StepOutcome:
    primary, substitute = run.endpoint("primary"), run.endpoint("substitute")
    given = announced_tolerances(run.shared.get("plan"), run.shared.get("accepted_loss", ()))
    result = compare_endpoints(
        primary,
        substitute,
        given=given,
        ids_file=run.folder / "parity-ids.jsonl",
        progress=lambda rows: run.check_stop(),
    )
    spec = primary.source().describe()
    try:
        chosen = asked_fields(spec, arguments.fields or ())
    except UsageError as error:
        raise ConfigError(
            f"parity.fields: {error.message} in the primary", file=run.spec.file, hint=error.hint
        ) from error
    asked = [
        compare_neighbours(
            primary.source(),
            substitute.source(),
            primary.search(),
            substitute.search(),
            queries=arguments.queries,
            k=arguments.k,
            seed=run.seed,
            field=field.name,
            kind=field.kind,
            proposed=arguments.filters,
            records=result.records.verdict,
            missing=result.missing,
            demands=Demands(recall_floor=arguments.recall_floor),
        )
        for field in chosen
    ]
    result.neighbours, result.further_neighbours = asked[0], asked[1:]
    accepted = {"accepted_loss": list(run.shared.get("accepted_loss", ()))}
    return StepOutcome(result.to_json() | accepted, tuple(result.all_findings()), result.verdict)


def _lose(run: DrillRun, arguments: LoseArguments) -> StepOutcome:
    """Damage the substitute behind everybody's back; what is lost is written down only to be checked afterwards."""
    if not run.is_ours("substitute"):
        raise WriteRefused(
            "'lose_records' damages data on purpose, and this substitute is not one that the drill itself made",
            hint="give the substitute an address in {folder}, or a service",
        )
    endpoint = run.writable("substitute")
    keys = [key for batch in read_all(endpoint.source(), batch_rows=1000) for key in record_keys(batch)]
    if not keys:
        raise DataInvalid("the substitute holds nothing that could be lost")
    count = max(1, round(len(keys) * arguments.share))
    lost = random.Random(run.seed).sample(sorted(keys, key=str), count)
    sink = endpoint.sink()
    source = endpoint.source()
    from exitramp.ports import Origin

    sink.create(source.describe(), source.origin() or Origin(source.describe(), "drill"))
    sink.delete(lost)
    sink.flush()
    run.shared["lost_on_purpose"] = {str(key) for key in lost}
    were = f"{counted(len(keys), 'record')} {'was' if count == 1 else 'were'}"
    text = f"{count:,} of {were} removed from the substitute on purpose, as this drill announces"
    return StepOutcome({"lost": count, "of": len(keys)}, (Finding("sabotage.lost", text, count=count),))


def _disagree(run: DrillRun, arguments: DisagreeArguments) -> StepOutcome:
    overlap = metric_disagreement(
        run.endpoint("primary").source(),
        queries=arguments.queries,
        metric_1=arguments.first,
        metric_2=arguments.second,
        k=arguments.k,
        seed=run.seed,
    )
    data = arguments.to_json() | {"overlap": overlap}
    names = f"{arguments.first} and {arguments.second}"
    if overlap < arguments.below:
        text = f"by exact truth, {names} share {overlap:.2f} of the nearest {arguments.k}: the metric matters here"
        return StepOutcome(data, (Finding("metrics.disagree", text),), Verdict.PASS)
    text = f"{names} share {overlap:.2f} of the nearest {arguments.k}: a wrong metric would not show here"
    return StepOutcome(data, (Finding("metrics.agree", text, Verdict.INCONCLUSIVE),), Verdict.INCONCLUSIVE)


def _parse_restore(block: Block) -> RestoreArguments:
    return RestoreArguments(block.texts("accept_loss", ()))


def _parse_parity(block: Block) -> ParityArguments:
    fields = block.texts("fields", None)
    if fields == ():
        raise block.error("'fields' names no field", "fields", hint="leave it away to compare every vector field")
    return ParityArguments(
        # Fewer than 143 cannot rule out a loss of 0.02 in recall, whatever they see.
        block.integer("queries", 200, minimum=1),
        block.integer("k", 10, minimum=1),
        block.number("recall_floor", 0.95, minimum=0, maximum=1),
        block.integer("filters", 3, minimum=0),
        fields,
    )


def _parse_lose(block: Block) -> LoseArguments:
    return LoseArguments(block.number("share", minimum=0, maximum=1))


def _parse_disagree(block: Block) -> DisagreeArguments:
    return DisagreeArguments(
        parse_metric(block.text("first"), where="metrics_disagree.first"),
        parse_metric(block.text("second"), where="metrics_disagree.second"),
        block.number("below", 0.9, minimum=0, maximum=1),
        block.integer("k", 10, minimum=1),
        block.integer("queries", 100, minimum=1),
    )


DUMP = Step("dump", "take the primary store out into a dump", _dump, reads=("primary.store",))
VERIFY = Step("verify_dump", "check the dump from its files alone", _verify)
PLAN = Step("plan", "what the substitute keeps, changes or loses", _plan, reads=("substitute.store",))
RESTORE = Step("restore", "put the dump into the substitute", _restore, _parse_restore, writes=("substitute.store",))
PARITY = Step(
    "parity",
    "compare primary and substitute record by record",
    _parity,
    _parse_parity,
    reads=("primary.store", "substitute.store"),
)
LOSE = Step(
    "lose_records",
    "damage the substitute on purpose",
    _lose,
    _parse_lose,
    reads=("substitute.store",),
    writes=("substitute.store",),
)
DISAGREE = Step(
    "metrics_disagree",
    "show that two metrics rank the primary's data differently",
    _disagree,
    _parse_disagree,
    reads=("primary.store",),
)
