"""Steps that ask the golden questions: of the primary as the baseline, of the substitute as the proof, and compare."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from exitramp.drill.application import APPLICATION, application_of
from exitramp.drill.costing import attempt_price
from exitramp.drill.questions import query_vectors
from exitramp.drill.run import DrillRun, StepOutcome
from exitramp.drill.stacks import build_stack
from exitramp.drill.steps.base import NoArguments, Step
from exitramp.evals.replay import CaseResult, Replay, replay
from exitramp.evals.retrieval import mean_retrieval
from exitramp.evals.scorers import Outcome as AnswerOutcome
from exitramp.evals.sets.case import Case
from exitramp.evals.verdicts import (
    Pairs,
    by_question,
    flipped_cases,
    non_inferiority,
    pair_answers,
    pair_values,
    summarise_use_cases,
)
from exitramp.orchestration.outcome import STORE_ERROR_CLASSES, Outcome
from exitramp.orchestration.policy import Policy
from exitramp.orchestration.router import Router
from exitramp.orchestration.stack import Question
from exitramp.orchestration.trace import TraceLabels
from exitramp.records import Finding, Verdict
from exitramp.wording import counted
from exitramp.yaml_reader import Block

PATIENT_SECONDS = 20.0
"""Outside an outage nobody is in a hurry: what is asked here is how good, not how fast."""


OVERLAP = "overlap@10"
ASSERTIONS = "assertions"
Logged = Mapping[str, Sequence[str]]
"""Ids that were retrieved for a question when it was logged."""


@dataclass(frozen=True, slots=True)
class CompareArguments:
    """Which metrics decide. All that decide must pass, so no correction for several metrics is needed."""

    metrics: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"metrics": list(self.metrics)}


def ask_golden(run: DrillRun, stack: str, label: str) -> Replay:
    """Every usable golden question, asked of one stack alone, or of the drill's application."""
    application = application_of(run)
    if application is not None:
        application.timeout_seconds = PATIENT_SECONDS
        try:
            return _asked(run, run.golden, application.ask, label)
        finally:
            application.timeout_seconds = run.spec.orchestration.deadline_seconds
    vectors = query_vectors(run, stack)
    built = build_stack(run, stack, vectors, timeout_seconds=PATIENT_SECONDS, price=attempt_price(run))
    router = Router(
        [built],
        policy=Policy(
            deadline_seconds=PATIENT_SECONDS, attempt_seconds=PATIENT_SECONDS, retrieve_seconds=PATIENT_SECONDS
        ),
        clock=run.clock,
        seed=run.seed,
        labels=TraceLabels(drill_id=run.shared.get("run_id"), synthetic=True),
    )

    # Without a chat model nothing was answered, so only what was retrieved is judged.
    has_chat = run.stack(stack).chat is not None
    cases = run.golden if has_chat else tuple(replace(case, checks=()) for case in run.golden)
    return _asked(run, cases, router.ask, label)


def _asked(run: DrillRun, cases: Sequence[Case], ask: Callable[[Question], Outcome], label: str) -> Replay:
    def after_each(result: CaseResult) -> None:
        run.count(result.traces, failed=result.error_class is not None)
        run.check_stop()

    found = replay(
        cases,
        ask,
        label=label,
        depth_k=run.spec.orchestration.depth_k,
        maximum_tokens=run.spec.orchestration.maximum_tokens,
        stop=run.spec.orchestration.stop,
        after_each=after_each,
        hash_text=lambda text: hashlib.sha256(text.encode("utf-8")).hexdigest(),
        keep_answers="answer" in run.spec.data.show_values,
    )
    run.traces += [trace for result in found.results for trace in result.traces]
    run.shared[f"replay:{label}"] = found
    return found


def summary(found: Replay) -> dict[str, Any]:
    """What a replay measured, in figures."""
    means = mean_retrieval(found.retrieval().values(), k=found.k)
    scores = found.scores()
    judged = [score for score in scores.values() if score.answered]
    latencies = sorted(result.latency_ms for result in found.answered())
    outcomes = {each.value: sum(score.outcome is each for score in scores.values()) for each in AnswerOutcome}
    return {
        "label": found.label,
        "asked": len(found.results),
        "answered": len(found.answered()),
        "mock": any(result.is_mock for result in found.results),
        "k": found.k,
        "ndcg": means.ndcg,
        "recall": means.recall,
        "mrr": means.mrr,
        "retrieval_cases": means.cases,
        "assertions_passed": sum(score.passed for score in judged),
        "assertions_judged": len(judged),
        "outcomes": outcomes,
        "latency_ms": {name: _percentile(latencies, share) for name, share in (("p50", 0.5), ("p95", 0.95))},
        "prompt_tokens": _tokens([result.prompt_tokens for result in found.results if result.answer_sha256]),
        "gen_tokens": _tokens([result.gen_tokens for result in found.results if result.answer_sha256]),
        "cases": [result.to_json() for result in found.results],
    }


def _tokens(told: Sequence[int | None]) -> int | None:
    """Of all answers together; None where it is not told of each: the sum of some is no sum."""
    known = [each for each in told if each is not None]
    return sum(known) if known and len(known) == len(told) else None


def _replay(run: DrillRun, stack: str, label: str) -> StepOutcome:
    if not run.golden:
        finding = Finding("replay.none", "there are no golden questions to ask", Verdict.INCONCLUSIVE)
        return StepOutcome({"label": label, "asked": 0}, (finding,), Verdict.INCONCLUSIVE)
    found = ask_golden(run, stack, label)
    failed = [result.case_id for result in found.results if result.error_class is not None]
    findings: tuple[Finding, ...] = ()
    if failed:
        who = stack if run.spec.application is None else "application"
        text = f"{len(failed)} of {counted(len(found.results), 'golden question')} got no answer from the {who}"
        findings = (Finding("replay.failed", text, None, tuple(failed[:20]), len(failed)),)
    data = summary(found)
    application = application_of(run)
    if application is not None:
        data[APPLICATION] = application.describe()
    unlabelled = [case.id for case in run.golden if not case.is_labelled and case.logged_ids]
    if unlabelled:
        text = f"nobody labelled {counted(len(unlabelled), 'golden question')}: judged by retrieval overlap only, "
        text += "with what was retrieved when they were logged, which is no truth"
        findings += (Finding("replay.unlabelled", text, None, tuple(unlabelled[:20]), len(unlabelled)),)
    return StepOutcome(data, findings)


def _baseline(run: DrillRun, arguments: NoArguments) -> StepOutcome:
    return _replay(run, "primary", "baseline")


def _replay_substitute(run: DrillRun, arguments: NoArguments) -> StepOutcome:
    return _replay(run, "substitute", "replay")


def _compare(run: DrillRun, arguments: CompareArguments) -> StepOutcome:
    before, after = run.shared.get("replay:baseline"), run.shared.get("replay:replay")
    margin = run.spec.objectives.quality_margin
    if before is None or after is None or margin is None:
        text = "quality was not compared: it takes golden questions, both replays and a quality_margin"
        return StepOutcome({}, (Finding("quality.unmeasured", text, Verdict.INCONCLUSIVE),), Verdict.INCONCLUSIVE)
    scores = before.scores(), after.scores()
    metrics = [metric for metric in arguments.metrics if metric != ASSERTIONS or scores[0] or scores[1]]
    unasserted = len(arguments.metrics) - len(metrics)
    logged = {case.id: case.logged_ids for case in run.golden if not case.is_labelled}
    if logged:
        has_relevant = any(case.relevant for case in run.golden)
        metrics = [metric for metric in metrics if metric == ASSERTIONS or has_relevant] + [OVERLAP]
    pairs = {metric: by_question(_pairs(metric, before, after, logged), asked_of(run, metric)) for metric in metrics}
    judged = [non_inferiority(pairs[each], metric=each, margin=margin, seed=run.seed) for each in metrics]
    use_cases = before.use_cases()
    flips = flipped_cases(*scores, use_cases) if scores[0] else ()
    findings = [Finding("quality.answers", "answers were not judged: no answer has an assertion to meet")] * unasserted
    findings += [Finding(f"quality.{each.metric}", f"{each.metric}: {each.reason}", each.verdict) for each in judged]
    findings += store_failures((("primary", before), ("substitute", after)))
    data = {
        "margin": margin,
        "metrics": [each.to_json() for each in judged],
        "use_cases": {each: [_plain(item) for item in summarise_use_cases(pairs[each], use_cases)] for each in metrics},
        "flips": [_plain(flip) | _shown(run, flip.case_id, before, after) for flip in flips],
        "mock": any(result.is_mock for side in (before, after) for result in side.results),
        "mock_sides": [
            name
            for name, side in (("primary", before), ("substitute", after))
            if any(result.is_mock for result in side.results)
        ],
        "recall_per_query": [
            {"case_id": one.case_id, "primary": one.retrieval.recall, "substitute": other.retrieval.recall}
            for one, other in zip(before.results, after.results, strict=True)
        ],
    }
    return StepOutcome(data, tuple(findings), Verdict.worst([each.verdict for each in judged]))


def store_failures(sides: Sequence[tuple[str, Replay]]) -> list[Finding]:
    """Questions that a store left without an answer: they count as all that are not answered, and say nothing of how
    good the answers are."""
    found = []
    for name, side in sides:
        failed = [result.case_id for result in side.results if result.error_class in STORE_ERROR_CLASSES]
        if failed:
            text = f"{len(failed)} of {counted(len(side.results), 'golden question')} got no answer of the {name} "
            text += "since its store failed, which says nothing of how good its answers are"
            found.append(Finding("quality.store_errors", text, None, tuple(failed[:20]), len(failed)))
    return found


def asked_of(run: DrillRun, metric: str) -> dict[str, str]:
    """What each golden case asks, as far as `metric` depends on it: a store is asked by the text alone."""
    by_text = metric != ASSERTIONS and run.spec.application is None
    return {case.id: case.text_sha256 if by_text else case.question_sha256 for case in run.golden}


def _pairs(metric: str, before: Replay, after: Replay, logged: Logged) -> Pairs:
    if metric == ASSERTIONS:
        return pair_answers(before.scores(), after.scores())
    if metric == OVERLAP:
        return pair_values(_overlap(before, logged), _overlap(after, logged))
    name = metric.partition("@")[0]
    return pair_values(
        {case: getattr(score, name) for case, score in before.retrieval().items()},
        {case: getattr(score, name) for case, score in after.retrieval().items()},
    )


def _overlap(side: Replay, logged: Logged) -> dict[str, float | None]:
    """Of each unlabelled question, the share of what was logged for it that is retrieved again."""
    found: dict[str, float | None] = {}
    for result in side.results:
        wanted = set(logged.get(result.case_id, ())[: side.k])
        if wanted:
            share = len(wanted & set(result.retrieved_ids[: side.k])) / len(wanted)
            found[result.case_id] = share if result.error_class is None else None
    return found


def _shown(run: DrillRun, case_id: str, before: Replay, after: Replay) -> dict[str, Any]:
    """The texts of a flipped case, where the drill file says that they may be shown."""
    found: dict[str, Any] = {}
    if "question" in run.spec.data.show_values:
        found["question"] = next(case.text for case in run.golden if case.id == case_id)
    if "answer" in run.spec.data.show_values:
        for name, side in (("primary_answer", before), ("substitute_answer", after)):
            found[name] = next(result.answer_text for result in side.results if result.case_id == case_id)
    return found


def _plain(value: Any) -> dict[str, Any]:
    return {
        name: item.value if isinstance(item, AnswerOutcome) else item
        for name in value.__slots__
        for item in (getattr(value, name),)
    }


def _percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` of all do not exceed; None of none."""
    if not values:
        return None
    rank = max(1, -(-int(share * 1000) * len(values) // 1000))
    return values[min(len(values), rank) - 1]


METRICS: Mapping[str, str] = {ASSERTIONS: "answers", "ndcg@10": "retrieval", "recall@10": "retrieval"}


def _parse_compare(block: Block) -> CompareArguments:
    metrics = block.texts("metrics", tuple(METRICS))
    for metric in metrics:
        if metric not in METRICS:
            raise block.error(f"unknown metric '{metric}'", "metrics", hint=f"known are: {', '.join(METRICS)}")
    return CompareArguments(metrics)


BASELINE = Step(
    "baseline", "ask the golden questions of the primary", _baseline, reads=("primary.store", "primary.chat")
)
REPLAY = Step(
    "replay",
    "ask the same questions of the substitute",
    _replay_substitute,
    reads=("substitute.store", "substitute.chat"),
)
COMPARE = Step("compare_quality", "judge the substitute against the margin set before", _compare, _parse_compare)
