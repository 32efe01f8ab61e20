"""Another model behind the same name: nothing fails, and only asking the same golden questions again finds it out.

The primary is held against itself: its answers of now against those of the baseline, in pairs, by the same bounds and
the same margin as any substitute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from exitramp.clock import iso_utc
from exitramp.drill.heard import Heard
from exitramp.drill.measuring import is_good, latency_figures, timeline
from exitramp.drill.run import DrillRun, StepOutcome
from exitramp.drill.spec import DrillSpec
from exitramp.drill.steps.base import NoArguments, Step
from exitramp.drill.steps.judging import ask_golden, asked_of
from exitramp.drill.steps.outage import primary_and_substitute
from exitramp.drill.steps.parallel import drained, stream, watch
from exitramp.errors import ConfigError
from exitramp.evals.replay import Replay
from exitramp.evals.verdicts import NonInferiority, by_question, non_inferiority, pair_answers
from exitramp.faults import Fault
from exitramp.orchestration.events import EventKind
from exitramp.orchestration.handling import Handling
from exitramp.orchestration.load import LoadReport, LoadRequest
from exitramp.orchestration.outcome import Outcome
from exitramp.orchestration.stack import Question
from exitramp.records import Finding, Verdict
from exitramp.wording import counted
from exitramp.yaml_reader import Block

FAULT: Final = "quality_drift"
METRIC: Final = "assertions"
"""What is retrieved does not change with the model behind a name, so only answers are judged."""


@dataclass(frozen=True, slots=True)
class DriftArguments:
    """drift: whether there is one; a control run without must find none. warm_up_seconds: before it. unseen_seconds:
    how long it lasts before anybody replays anything. rounds: replays against the primary, at most, until it is found.
    options: of the fault, as the vendor takes them."""

    drift: bool
    rate_per_second: float
    warm_up_seconds: float
    unseen_seconds: float
    rounds: int
    after_seconds: float
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def to_json(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in self.__slots__}
        return {**found, "options": dict(self.options)}


@dataclass(slots=True)
class Route:
    """Who is asked first, as a person switches it: no failure moves it."""

    order: tuple[str, ...] = ("primary", "substitute")


@dataclass(frozen=True, slots=True)
class Round:
    """One replay of the golden questions against the primary. Seconds are of the run's monotonic clock."""

    name: str
    asked: Replay
    judged: NonInferiority
    began: float
    ended: float

    @property
    def is_worse(self) -> bool:
        """Whether even the better bound of the difference lies below the margin."""
        return self.judged.verdict is Verdict.FAIL

    def to_json(self, began: float) -> dict[str, Any]:
        return {
            "name": self.name,
            "began_seconds": self.began - began,
            "ended_seconds": self.ended - began,
            **again_json(self.asked, self.judged),
        }


def again_json(asked: Replay, judged: NonInferiority) -> dict[str, Any]:
    """What asking again found, in the journal: `before` and `now` are the same primary's."""
    errors = sum(result.error_class is not None for result in asked.results)
    return {
        "metric": judged.metric,
        "n": judged.n,
        "margin": judged.margin,
        "before": judged.primary,
        "now": judged.substitute,
        "difference": judged.difference,
        "lower": judged.lower,
        "upper": judged.upper,
        "confidence": judged.confidence,
        "method": judged.method,
        "verdict": judged.verdict.value,
        "reason": judged.reason,
        "asked": len(asked.results),
        "errors": errors,
        "mock": any(result.is_mock for result in asked.results),
    }


def ask_again(run: DrillRun, label: str) -> tuple[Replay, NonInferiority]:
    """The golden questions asked of the primary once more, against its own answers of the baseline."""
    before: Replay | None = run.shared.get("replay:baseline")
    margin = run.spec.objectives.quality_margin
    if before is None or margin is None:
        raise ConfigError("asking again needs the step 'baseline' and objectives.quality_margin", file=run.spec.file)
    asked = ask_golden(run, "primary", label)
    return asked, _judged(run, before, asked, margin)


def _judged(run: DrillRun, before: Replay, after: Replay, margin: float) -> NonInferiority:
    pairs = by_question(pair_answers(before.scores(), after.scores()), asked_of(run, METRIC))
    return non_inferiority(pairs, metric=METRIC, margin=margin, seed=run.seed)


def _drift(run: DrillRun, arguments: DriftArguments) -> StepOutcome:
    heard, route = Heard(run.log), Route()
    router = primary_and_substitute(run, heard.add)
    run.shared["router"], run.shared["heard"] = router, heard

    def ask(question: Question, *, queue_ms: float) -> Outcome:
        return router.ask(question, queue_ms=queue_ms, handling=Handling(order=route.order))

    load = stream(run, ask, "silent_drift", arguments.rate_per_second)
    began, began_at = run.clock.monotonic(), iso_utc(run.clock.now())
    load.start()
    switched: float | None = None
    injected: float | None = None
    how: str | None = None
    try:
        watch(run, arguments.warm_up_seconds)
        rounds = [_round(run, heard, "before", began)]
        injected = run.clock.monotonic()
        if arguments.drift:
            how = run.inject("primary", "chat", Fault(FAULT, arguments.options))
            run.log.append("fault.injected", {"stack": "primary", "on": "chat", "fault": FAULT, "how": how})
            run.say("    chat: another model answers behind the same name, and nobody is told")
        watch(run, arguments.unseen_seconds)
        for number in range(1, arguments.rounds + 1):
            rounds.append(_round(run, heard, f"after-{number}", began))
            if rounds[-1].is_worse:
                break
        if rounds[-1].is_worse and _substitute_holds(run):
            route.order = ("substitute", "primary")
            switched = run.clock.monotonic()
            run.log.append("drift.switched", {"to": "substitute", "after_seconds": switched - injected})
        watch(run, arguments.after_seconds)
    except BaseException:
        load.stop(drain_seconds=1.0)
        heard.write()
        raise
    report = drained(run, load)
    heard.write()
    found = rounds[-1] if rounds[-1].is_worse else None
    good = [
        each.ended - injected
        for each in report.requests
        if switched is not None and each.due >= switched and each.ended is not None and is_good(each, "substitute")
    ]
    windows = _windows(report, heard, (began, injected, switched))
    late = [each for each in report.requests if each.due >= injected]
    failed = [each for each in late if not is_good(each)]
    data: dict[str, Any] = {
        "drift": arguments.drift,
        "how": how,
        "began_at": began_at,
        "rate_per_second": arguments.rate_per_second,
        "injected_seconds": injected - began,
        "rounds": [each.to_json(began) for each in rounds],
        "found": found is not None,
        "false_alarm": rounds[0].is_worse or (found is not None and not arguments.drift),
        "detect_seconds": None if found is None else found.ended - injected,
        "unseen_seconds": rounds[1].began - injected,
        "round_seconds": None if found is None else found.ended - found.began,
        "switched_seconds": None if switched is None else switched - injected,
        "rto_seconds": min(good, default=None),
        "monitoring": windows,
        "is_silent": not any(windows["drifted"][name] for name in ("not_good", "failed_attempts", "by_substitute"))
        and not windows["drifted"]["breaker_opened"],
        "answered_drifted": windows["drifted"]["by_primary"] if arguments.drift else 0,
        "requests": len(report.requests),
        "error_rate": len(failed) / len(late) if late else None,
        "latency_ms_on_substitute": latency_figures([each for each in late if is_good(each, "substitute")]),
        "timeline": timeline(report, began),
        "mock": any(each.outcome is not None and each.outcome.is_mock for each in report.requests),
    }
    findings = _findings(arguments, data, rounds, report)
    return StepOutcome(
        data, tuple(findings), Verdict.worst([Verdict.PASS, *(f.verdict for f in findings if f.verdict)])
    )


def _round(run: DrillRun, heard: Heard, name: str, began: float) -> Round:
    """Replay and judge, while the stream goes on; in the journal at once, since this is what finds it."""
    heard.write()
    started = run.clock.monotonic()
    asked, judged = ask_again(run, f"again-{name}")
    found = Round(name, asked, judged, started, run.clock.monotonic())
    run.log.append("drift.replayed", found.to_json(began) | {"worse": found.is_worse})
    run.say(f"    asked again ({name}): {judged.verdict.value}: {judged.reason}")
    return found


def _substitute_holds(run: DrillRun) -> bool:
    """Whether the substitute's own replay, asked while all was well, is inside the margin: else nobody goes there."""
    before, after = run.shared.get("replay:baseline"), run.shared.get("replay:replay")
    margin = run.spec.objectives.quality_margin
    if before is None or after is None or margin is None:
        return False
    return _judged(run, before, after, margin).verdict is Verdict.PASS


def _windows(report: LoadReport, heard: Heard, at: tuple[float, float, float | None]) -> dict[str, dict[str, Any]]:
    """What errors, latency and the breaker show before the drift, while it lasts, and after the switch."""
    began, injected, switched = at
    ends = switched if switched is not None else float("inf")
    spans = {"before": (began, injected), "drifted": (injected, ends), "switched": (ends, float("inf"))}
    found: dict[str, dict[str, Any]] = {}
    for name, (since, until) in spans.items():
        within: list[LoadRequest] = [each for each in report.requests if since <= each.due < until]
        attempts = [each for one in within if one.outcome is not None for each in one.outcome.attempts]
        opened = [e for e in heard.events if e.kind is EventKind.BREAKER_OPENED and since <= e.monotonic < until]
        found[name] = {
            "requests": len(within),
            "not_good": sum(not is_good(each) for each in within),
            "by_primary": sum(is_good(each, "primary") for each in within),
            "by_substitute": sum(is_good(each, "substitute") for each in within),
            "failed_attempts": sum(each.error_class is not None for each in attempts),
            "breaker_opened": len(opened),
            "latency_ms": latency_figures([each for each in within if is_good(each)]),
        }
    return found


def _findings(
    arguments: DriftArguments, data: Mapping[str, Any], rounds: list[Round], report: LoadReport
) -> list[Finding]:
    found: list[Finding] = []
    if report.raised is not None:
        detail = {"error": type(report.raised).__name__}
        found.append(Finding("drift.raised", "a request ended with a fault of exitramp", Verdict.FAIL, detail=detail))
    if data["false_alarm"]:
        text = "false alarm: asking the primary again found it worse where no other model answered"
        found.append(Finding("drift.false_alarm", text, Verdict.FAIL))
    if not arguments.drift:
        return found
    unmoved = "monitoring by errors, failover and breaker saw nothing of it"
    if not data["is_silent"]:
        unmoved = "errors, a failover or the breaker showed as well that something was wrong: it was not silent"
        found.append(Finding("drift.not_silent", unmoved, Verdict.INCONCLUSIVE))
    if not data["found"]:
        last = rounds[-1].judged
        verdict = Verdict.INCONCLUSIVE if last.verdict is Verdict.INCONCLUSIVE else Verdict.FAIL
        text = f"{counted(len(rounds) - 1, 'replay')} against the primary did not find it: {last.reason}"
        found.append(Finding("drift.not_found", text, verdict))
        return found
    told = f"asking again found it {data['detect_seconds']:.1f} s after it began"
    if data["is_silent"]:
        told += f"; {unmoved}"
    given = counted(data["answered_drifted"], "answer was", "answers were")
    found.append(Finding("drift.found", f"{told}. {given} given by the other model before the switch", None))
    if data["switched_seconds"] is None:
        text = "it was found, and there was nowhere to go: the substitute's own replay is not inside the margin"
        found.append(Finding("drift.nowhere", text, Verdict.FAIL))
    elif data["rto_seconds"] is None:
        text = "traffic was switched, and no good answer came from the substitute"
        found.append(Finding("drift.no_recovery", text, Verdict.FAIL))
    return found


def _again(run: DrillRun, arguments: NoArguments) -> StepOutcome:
    label = f"again-{sum(name == 'ask_again' for name, _ in run.every_result) + 1}"
    asked, judged = ask_again(run, label)
    words = {
        Verdict.PASS: "the primary answers as at the baseline",
        Verdict.FAIL: "the primary answers worse than at the baseline",
    }
    text = f"{words.get(judged.verdict, 'whether the primary still answers as before is not shown')}: {judged.reason}"
    return StepOutcome(again_json(asked, judged), (Finding("again.compared", text, judged.verdict),), judged.verdict)


def _parse(block: Block) -> DriftArguments:
    found = DriftArguments(
        block.flag("drift", True),
        block.number("rate_per_second", 12.0, minimum=0.1, maximum=1000),
        block.number("warm_up_seconds", 2.0, minimum=0),
        block.number("unseen_seconds", 4.0, minimum=0),
        block.integer("rounds", 2, minimum=1),
        block.number("after_seconds", 2.0, minimum=0),
        block.anything("options", {}),
    )
    if not isinstance(found.options, dict) or not all(isinstance(name, str) for name in found.options):
        raise block.error("'options' must hold names and values", "options")
    return found


def _varied(spec: DrillSpec, arguments: DriftArguments) -> dict[str, Any]:
    if arguments.drift:
        return {}
    return {"cuts": (), "summary": "ask the primary again under load, with no drift: nothing may be found"}


DRIFT = Step(
    "silent_drift",
    "put another model behind the primary's name under load, and ask again until it is found",
    _drift,
    _parse,
    reads=("primary.store", "primary.chat", "substitute.store", "substitute.chat"),
    cuts=("primary.chat",),
    varies=_varied,
)
AGAIN = Step(
    "ask_again", "ask the primary again, and judge it against its baseline", _again,
    reads=("primary.store", "primary.chat"),
)  # fmt: skip
