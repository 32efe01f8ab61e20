"""Running a drill: its steps in order, every one of them in the log, stop conditions, and the way back."""

from __future__ import annotations

import platform
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exitramp import __version__
from exitramp.clock import Clock, SystemClock, iso_utc
from exitramp.drill.catalogue import STEPS
from exitramp.drill.event import Event
from exitramp.drill.event_log import EventLog
from exitramp.drill.inputs import check_inputs
from exitramp.drill.interruption import Interruption, SignalArrived, WayBackOverdue
from exitramp.drill.naming import told, without_classes
from exitramp.drill.objectives import ObjectiveResult, Unpromised, judge_objectives, objectives_sha256, unpromised
from exitramp.drill.reaching import require_primary
from exitramp.drill.run import DrillRun, StepOutcome
from exitramp.drill.spec import DrillSpec, StepSpec
from exitramp.drill.touching import require_writes_allowed, touches
from exitramp.errors import ExitrampError, SpendExceeded, UsageError
from exitramp.records import Finding, Verdict
from exitramp.urls import Network

LOG_NAME = "journal.jsonl"


@dataclass(frozen=True, slots=True)
class DrillResult:
    """A finished run. `aborted` is the reason why it did not run to its end; it is then never a pass.

    `interrupted_by` is the name of the first signal that came, whatever the reason. `reasons` say which steps kept the
    verdict from being a pass, objectives aside; `unpromised` is what was measured though no number was promised.
    """

    run_id: str
    folder: Path
    verdict: Verdict
    objectives: tuple[ObjectiveResult, ...]
    findings: tuple[Finding, ...]
    head: str
    seconds: float
    aborted: str | None
    interrupted_by: str | None
    results: Mapping[str, Mapping[str, Any]]
    reasons: tuple[str, ...] = ()
    unpromised: tuple[Unpromised, ...] = ()

    def to_json(self) -> dict[str, Any]:
        copied = self.results.get("dump", {})
        return {
            "verdict": self.verdict.value,
            "run_id": self.run_id,
            "folder": str(self.folder),
            "rows": copied.get("rows"),
            "digests": copied.get("digests"),
            "objectives": [each.to_json() for each in self.objectives],
            "unpromised": [each.to_json() for each in self.unpromised],
            "reasons": list(self.reasons),
            "aborted": self.aborted,
            "interrupted_by": self.interrupted_by,
            "event_log_head": self.head,
            "seconds": round(self.seconds, 3),
            "findings": [finding.to_json() for finding in self.findings],
        }


def run_drill(
    spec: DrillSpec,
    folder: Path,
    *,
    seed: int = 0,
    allow_writes: tuple[str, ...] = (),
    operator: str = "",
    command: str = "",
    say: Callable[[str], None] = lambda text: None,
    clock: Clock | None = None,
    network: Network | None = None,
    interruption: Interruption | None = None,
) -> DrillResult:
    """Run every step and write the log into `folder`, which must be new or empty.

    A step that raises, a stop condition, or a signal that `interruption` (entered by the caller) catches aborts the
    drill: the steps marked `always` still run, services are stopped, and the verdict is at best inconclusive. Raises
    `UsageError` only for what was wrong before the start.
    """
    clock = clock or SystemClock()
    interruption = interruption or Interruption()
    check_inputs(spec)
    require_writes_allowed(spec, STEPS, allow_writes)
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty", hint="give another folder with --out; a run is never overwritten")
    require_primary(spec, clock, network or Network())
    folder.mkdir(parents=True, exist_ok=True)
    run_id = f"{clock.now():%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"
    with _WholeEvents.create(folder / LOG_NAME, clock) as log:
        log.interruption = interruption
        run = DrillRun(spec, folder, log, seed=seed, allow_writes=allow_writes, say=say, clock=clock, network=network)
        run.shared["run_id"] = run_id
        log.append("run.started", _started(spec, run_id, seed, operator, command))
        interruption.at_once = run.kill_services
        return _Engine(run, run_id, interruption).execute()


class _WholeEvents(EventLog):
    """A log whose events a signal does not tear: half of one, or one not counted, would break the chain."""

    interruption: Interruption

    def append(self, kind: str, data: Mapping[str, object]) -> Event:
        with self.interruption.held():
            return super().append(kind, data)


class _Engine:
    def __init__(self, run: DrillRun, run_id: str, interruption: Interruption) -> None:
        self._run = run
        self._run_id = run_id
        self._interruption = interruption
        self._findings: list[Finding] = []
        self._verdicts: list[Verdict] = []
        self._reasons: list[str] = []
        self._aborted: str | None = None
        self._bug: Exception | None = None

    def execute(self) -> DrillResult:
        run = self._run
        started = run.clock.monotonic()
        try:
            self._steps()
        finally:
            # Whatever happened, nothing that this run started may stay behind.
            run.close()
        objectives = judge_objectives(run.spec, run.every_result)
        verdicts = [*self._verdicts, *(each.verdict for each in objectives)]
        if self._aborted is not None:
            verdicts.append(Verdict.INCONCLUSIVE)
        if not objectives:
            self._findings.append(Finding("objectives.none", "no objectives were set", Verdict.INCONCLUSIVE))
            verdicts.append(Verdict.INCONCLUSIVE)
        verdict = Verdict.worst(verdicts)
        run.log.append(
            "run.judged",
            {
                "verdict": verdict.value,
                "objectives": [each.to_json() for each in objectives],
                "unpromised": [each.to_json() for each in unpromised(run.spec, run.every_result)],
                "aborted": self._aborted,
                "ended_at": iso_utc(run.clock.now()),
                "seconds": run.clock.monotonic() - started,
                "traces": len(run.traces),
            },
        )
        head = run.log.finish({"verdict": verdict.value})
        if self._bug is not None:
            raise self._bug
        return DrillResult(
            self._run_id,
            run.folder,
            verdict,
            objectives,
            tuple(self._findings),
            head,
            run.clock.monotonic() - started,
            self._aborted,
            self._signal,
            run.results,
            tuple(self._reasons),
            unpromised(run.spec, run.every_result),
        )

    @property
    def _signal(self) -> str | None:
        arrived = self._interruption.arrived
        return None if arrived is None else arrived.name

    def _steps(self) -> None:
        for step in self._run.spec.steps:
            if self._aborted is None:
                self._stop_before(step)
            because = self._aborted
            if because is not None and STEPS[step.name].always:
                because = None if self._run.stacks else "nothing was started that could be brought back"
            if because is not None:
                self._run.log.append("step.skipped", {"step": step.name, "because": because})
                continue
            self._one(step)
        if self._aborted is None and self._signal is not None:
            self._abort(self._run.spec.steps[-1].name, self._interrupted(), None)

    def _stop_before(self, step: StepSpec) -> None:
        """Abort where a signal or a stop condition came; the steps of the way back still run, this one included."""
        if self._signal is not None:
            self._abort(step.name, self._interrupted(), None)
            return
        try:
            self._run.check_stop()
        except SpendExceeded as error:
            self._abort(step.name, error.message, error.hint)

    def _one(self, spec: StepSpec) -> None:
        run, step = self._run, STEPS[spec.name]
        run.log.append(
            "step.started",
            {
                "step": step.name,
                "arguments": spec.arguments.to_json(),
                **touches(step, spec, run.spec).to_json(),
            },
        )
        began = run.clock.monotonic()
        region = self._interruption.way_back if step.always else self._interruption.interruptible
        try:
            with region():
                outcome = step.run(run, spec.arguments)
        except KeyboardInterrupt as error:
            # Without handlers of ours it is Python's own, and then always Ctrl-C.
            because = self._interrupted() if isinstance(error, SignalArrived) else "interrupted by the operator"
            self._end(spec, because, None)
        except WayBackOverdue:
            seconds = self._interruption.way_back_seconds
            self._end(spec, f"it was not done {seconds:g} s after {self._signal}", None)
        except ExitrampError as error:
            self._end(spec, without_classes(error.message), error.hint, error)
        except Exception as error:  # noqa: BLE001  (a fault of ours: bring everything back first, then raise it)
            self._bug = self._bug or error
            self._end(spec, "a fault of exitramp itself", "please report it, with what is shown last", error)
        else:
            self._take(spec, outcome, run.clock.monotonic() - began)

    def _end(self, spec: StepSpec, reason: str, hint: str | None, error: Exception | None = None) -> None:
        """A step that did not end by itself: the reason why the drill stops, or a way back that did not lead there."""
        if self._aborted is None:
            self._abort(spec.name, reason, hint, error)
            return
        text = f"the way back was not walked to its end: {reason}"
        finding = Finding("drill.way_back", text, Verdict.INCONCLUSIVE, detail={"hint": hint})
        self._take(spec, StepOutcome({}, (finding,), Verdict.INCONCLUSIVE), 0.0)

    def _interrupted(self) -> str:
        who = "interrupted by the operator" if self._signal == "SIGINT" else "told to end"
        return f"{who} ({self._signal})"

    def _take(self, spec: StepSpec, outcome: StepOutcome, seconds: float) -> None:
        run = self._run
        run.results[spec.name] = outcome.data
        run.every_result.append((spec.name, outcome.data))
        self._findings += outcome.findings
        verdict = outcome.verdict
        if verdict is not None and spec.name not in _JUDGED_AS_OBJECTIVE:
            self._verdicts.append(verdict)
            if verdict is not Verdict.PASS:
                self._reasons += _reasons(spec.name, verdict, outcome.findings)
        run.log.append(
            "step.finished",
            {
                "step": spec.name,
                "seconds": seconds,
                "verdict": verdict.value if verdict is not None else None,
                "data": dict(outcome.data),
                "findings": [finding.to_json() for finding in outcome.findings],
            },
        )
        word = f"  {verdict.value}" if verdict is not None else ""
        run.say(f"  {spec.name:<18} {seconds:6.1f} s{word}")
        for finding in outcome.findings:
            run.say(f"    · {told(finding, spec.name)}")

    def _abort(self, step: str, reason: str, hint: str | None, error: Exception | None = None) -> None:
        """`error` is named for programs alone: the name of its class says nothing to a reader."""
        self._aborted = self._run.aborted = f"{step}: {reason}"
        text = f"the drill was stopped in '{step}': {reason}"
        self._findings.append(Finding("drill.aborted", text, Verdict.INCONCLUSIVE, detail={"hint": hint}))
        kind = {} if error is None else {"error": type(error).__name__}
        self._run.log.append("run.aborted", {"step": step, "reason": reason, "hint": hint, **kind})
        self._run.say(f"  {step}: stopped: {reason}" + (f" (next: {hint})" if hint else ""))


def _reasons(step: str, verdict: Verdict, findings: Iterable[Finding]) -> list[str]:
    """The findings that made a step's verdict what it is, in words."""
    against = [told(finding, step) for finding in findings if finding.verdict is verdict]
    return [f"{step} ({verdict.value}): {text}" for text in against] or [f"{step} ({verdict.value})"]


# A quality or cost verdict is that of its objective; counted twice it would say nothing more.
_JUDGED_AS_OBJECTIVE = frozenset({"cost"})


def _started(spec: DrillSpec, run_id: str, seed: int, operator: str, command: str) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "drill": spec.to_json(),
        "file": spec.file,
        "objectives": spec.objectives.to_json(),
        "objectives_sha256": objectives_sha256(spec.objectives),
        "seed": seed,
        "operator": operator,
        "command": command,
        "tool_version": __version__,
        "python_version": sys.version.split()[0],
        "platform": f"{platform.system()} {platform.machine()}",
    }
