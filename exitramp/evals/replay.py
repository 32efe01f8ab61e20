"""Asking every golden question of one stack, and judging what came back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from exitramp.evals.retrieval import RetrievalScore, score_retrieval
from exitramp.evals.scorers import Score, score_answer
from exitramp.evals.sets.case import Case
from exitramp.orchestration.outcome import Outcome
from exitramp.orchestration.stack import Question
from exitramp.records import TraceRecord


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One question's result. The answer's text is kept only where it was asked for, and never in `to_json`;
    `answer_sha256` tells two answers apart."""

    case_id: str
    use_case: str
    stack: str | None
    is_mock: bool
    score: Score | None
    retrieval: RetrievalScore
    retrieved_ids: tuple[str, ...]
    latency_ms: float
    finish_reason: str | None
    error_class: str | None
    answer_sha256: str | None
    traces: tuple[TraceRecord, ...]
    answer_text: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "case_id": self.case_id,
            "use_case": self.use_case,
            "stack": self.stack,
            "mock": self.is_mock,
            "outcome": self.score.outcome.value if self.score else None,
            "ndcg": self.retrieval.ndcg,
            "recall": self.retrieval.recall,
            "retrieved_ids": list(self.retrieved_ids),
            "latency_ms": round(self.latency_ms, 3),
            "finish_reason": self.finish_reason,
            "error_class": self.error_class,
            "answer_sha256": self.answer_sha256,
            "prompt_tokens": self.prompt_tokens,
            "gen_tokens": self.gen_tokens,
        }

    @property
    def prompt_tokens(self) -> int | None:
        """None where nobody told how many: an application, a search without a chat model."""
        return sum(trace.prompt_tokens for trace in self.traces) if self.tells_tokens else None

    @property
    def gen_tokens(self) -> int | None:
        return sum(trace.gen_tokens for trace in self.traces) if self.tells_tokens else None

    @property
    def tells_tokens(self) -> bool:
        """No model reads nothing and writes nothing: where both stand at 0, nobody counted."""
        return any(trace.prompt_tokens or trace.gen_tokens for trace in self.traces)


@dataclass(frozen=True, slots=True)
class Replay:
    """All questions' results in the order they were asked; `k` is how deep retrieval was judged."""

    label: str
    k: int
    results: tuple[CaseResult, ...]

    def scores(self) -> dict[str, Score]:
        return {result.case_id: result.score for result in self.results if result.score is not None}

    def retrieval(self) -> dict[str, RetrievalScore]:
        return {result.case_id: result.retrieval for result in self.results}

    def use_cases(self) -> dict[str, str]:
        return {result.case_id: result.use_case for result in self.results}

    def answered(self) -> tuple[CaseResult, ...]:
        return tuple(result for result in self.results if result.error_class is None)


def replay(
    cases: Sequence[Case],
    ask: Callable[[Question], Outcome],
    *,
    label: str,
    depth_k: int,
    k: int = 10,
    maximum_tokens: int = 512,
    stop: tuple[str, ...] = (),
    after_each: Callable[[CaseResult], None] = lambda result: None,
    hash_text: Callable[[str], str],
    keep_answers: bool = False,
) -> Replay:
    """Ask each case once. `ask` decides which stack; `label` makes the request ids unique within a run.

    Answers of a case that has a check which asks a model are not judged.
    """
    outcomes: dict[str, Outcome] = {}
    newest: str | None = None
    for case in cases:
        question = Question(
            f"{label}/{case.id}",
            case.text,
            case.use_case,
            depth_k,
            maximum_tokens,
            tags=("golden", label),
            stop=stop,
        )
        outcome = ask(question)
        if outcome.error_class is not None:
            # Behind an open breaker nobody is asked, for want of what opened it.
            is_held_back = outcome.error_class == "no_stack" and not outcome.attempts
            newest = newest if is_held_back and newest is not None else outcome.error_class
            outcome = replace(outcome, error_class=newest)
        outcomes[case.id] = outcome
        after_each(_result(case, outcomes[case.id], RetrievalScore(case.id, k), hash_text))
    retrieval = score_retrieval(
        {case.id: case.relevant for case in cases},
        {case.id: _ranked(outcomes[case.id].retrieved_ids) for case in cases if outcomes[case.id].is_answered},
        k=k,
    )
    results = tuple(_result(case, outcomes[case.id], retrieval[case.id], hash_text) for case in cases)
    if keep_answers:
        results = tuple(replace(result, answer_text=_text(outcomes[result.case_id])) for result in results)
    return Replay(label, k, results)


def _result(case: Case, outcome: Outcome, retrieval: RetrievalScore, hash_text: Callable[[str], str]) -> CaseResult:
    text = _text(outcome)
    score = None
    if case.checks and not case.asks_a_model:
        score = score_answer(
            case.id,
            case.checks,
            text,
            error_class=outcome.error_class if text is None else None,
            finish_reason=outcome.finish_reason,
        )
    return CaseResult(
        case_id=case.id,
        use_case=case.use_case,
        stack=outcome.stack,
        is_mock=outcome.is_mock,
        score=score,
        retrieval=retrieval,
        retrieved_ids=outcome.retrieved_ids,
        latency_ms=outcome.duration_seconds * 1000.0,
        finish_reason=outcome.finish_reason,
        error_class=None if outcome.is_answered else (outcome.error_class or "unknown"),
        answer_sha256=hash_text(text) if text is not None else None,
        traces=outcome.traces,
    )


def _text(outcome: Outcome) -> str | None:
    return outcome.answer.text if outcome.answer is not None else None


def _ranked(ids: Iterable[str]) -> list[tuple[str, float]]:
    """Ids in the store's order as pairs for the evaluator, which wants scores."""
    return [(id_, -float(rank)) for rank, id_ in enumerate(ids)]
