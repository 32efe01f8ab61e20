"""A stack file as what is questioned: retrieval, routing, retries and failover as the application has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from exitramp.errors import UsageError
from exitramp.evals.runs.answerers import BREAKER_OPEN, KEPT, SLOWER
from exitramp.evals.runs.subject import Prompted, Reply, SubjectFailed
from exitramp.evals.sets.case import Case
from exitramp.orchestration.answered import Answered, NotAnswered
from exitramp.orchestration.application import Application
from exitramp.orchestration.outcome import STORE_ERROR_CLASSES, Outcome, RouteReason, deciding
from exitramp.ports import ChatDelta, ChatModel, ChatRequest, ModelIdentity
from exitramp.records import EVAL_TAG, TraceRecord

# What an orchestrator says beyond a vendor's classes, in a vendor's words.
_CLASSES: Final[Mapping[str, str]] = {
    "deadline": "timeout",
    "no_stack": "overloaded",
    "busy": "overloaded",
    "budget": "quota_exhausted",
    "in_flight": "overloaded",
    "cut_off": "overloaded",
}


class StackSubject:
    """Asks the stacks of a stack file, or its models where it names no stacks. Its cache is not asked: a repeat is to
    be a repeat."""

    def __init__(
        self,
        path: Path,
        *,
        only: str | None = None,
        maximum_tokens: int = 512,
        temperature: float | None = 0.0,
        stream: bool = False,
        around_chat: Callable[[ChatModel], ChatModel] | None = None,
    ) -> None:
        """`only`: ask this stack of the file (or this model, where it names no stacks), and no other. `around_chat`:
        what to put around each of its chat models, such as what records it."""
        self._path = path
        self._only = only
        self._name = path.name if only is None else f"{path.name}:{only}"
        self._causes: dict[str, tuple[str, str]] = {}
        self._newest_cause: tuple[str, str] | None = None
        self._on_delta = _unheard if stream else None
        self._application = Application.open(path, around_chat=around_chat)
        file = self._application.file
        names = tuple(file.stacks or file.models)
        if only is not None and only not in names:
            self._application.close()
            what = "stack" if file.stacks else "model"
            raise UsageError(f"{path} names no {what} '{only}'", hint=f"it names: {', '.join(names)}")
        self._sha256 = self._application.file.sha256
        self._maximum_tokens = maximum_tokens
        self._temperature = temperature

    def identity(self) -> ModelIdentity:
        return ModelIdentity("stack", self._name, str(self._path), self._asks_a_mock())

    def describe(self) -> Mapping[str, Any]:
        return {
            "kind": "stack",
            "name": self._name,
            "file_sha256": self._sha256,
            "maximum_tokens": self._maximum_tokens,
            "temperature": self._temperature,
            **({"stream": True} if self._on_delta else {}),
        }

    def sent(self, case: Case) -> Prompted:
        return Prompted(case.asked())

    def ask(self, case: Case, *, key: str, timeout_seconds: float) -> Reply:
        file = self._application.file
        if file.sha256 != self._sha256:
            raise UsageError(
                f"{self._path}: was edited while the run asked it, so that two stacks would be one run",
                hint="make a run of each version, with another --out",
            )
        try:
            if file.stacks:
                answered = self._application.ask(
                    case.asked()[-1].content,
                    use_case=case.use_case,
                    key=key,
                    stack=self._only,
                    on_delta=self._on_delta,
                    use_cache=False,
                    tags=(EVAL_TAG,),
                )
            else:
                request = ChatRequest(
                    case.asked(),
                    maximum_tokens=self._maximum_tokens,
                    temperature=self._temperature,
                    idempotency_key=key,
                )
                answered = self._application.chat(
                    request,
                    use_case=case.use_case,
                    model=self._only,
                    on_delta=self._on_delta,
                    use_cache=False,
                    tags=(EVAL_TAG,),
                )
        except NotAnswered as error:
            raise self._failed(error) from error
        return self._reply(answered, has_store=bool(file.stacks))

    def ways(self, case: Case) -> tuple[tuple[TraceRecord, ...], ...]:
        """What the case would ask of models at most, by each stack or model that may answer it."""
        text = "\n".join(message.content for message in case.asked())
        return self._application.supposed(
            text, use_case=case.use_case, maximum_tokens=self._maximum_tokens, only=self._only
        )

    def close(self) -> None:
        self._application.close()

    def _asks_a_mock(self) -> bool:
        mocks, file = self._application.mocks(), self._application.file
        if self._only is None:
            return bool(mocks)
        return (file.stacks[self._only].chat if file.stacks else self._only) in mocks

    def _failed(self, error: NotAnswered) -> SubjectFailed:
        """With the class of what opened the breakers, where nobody was asked because of them."""
        self._learn(error.outcome)
        kind, said = error.error_class, None
        was_asked = kind != "no_stack" or bool(error.outcome.attempts)
        if error.outcome.attempts:
            said = deciding(error.outcome.attempts).error
        elif self._newest_cause is not None and not was_asked:
            kind, said = self._newest_cause
        kind = _CLASSES.get(kind, kind)
        return SubjectFailed(
            str(error.message),
            kind,
            _all(error.outcome),
            http_status=error.http_status,
            store_said=said if kind in STORE_ERROR_CLASSES else None,
            was_asked=was_asked,
        )

    def _learn(self, outcome: Outcome) -> None:
        """Why each stack failed last: what a breaker that is open from then on is open for."""
        for attempt in outcome.attempts:
            if attempt.error_class is not None:
                self._newest_cause = self._causes[attempt.stack] = (attempt.error_class, attempt.error or "")

    def _stood_in(self, answered: Answered) -> tuple[str | None, str | None]:
        """Whom the answering one stood in for, and why."""
        outcome = answered.outcome
        self._learn(outcome)
        if outcome.from_journal:
            first = self._first()
            return (None, None) if answered.name == first else (first, KEPT)
        was_first = next((each.fallback_from for each in outcome.traces if each.status == "ok"), None)
        if was_first is None or was_first == answered.name:
            return None, None
        failed = [each.error_class for each in outcome.attempts if each.stack == was_first and each.error_class]
        if failed:
            return was_first, failed[-1]
        if any(each.route_reason is RouteReason.HEDGED for each in outcome.attempts):
            return was_first, SLOWER
        return was_first, self._causes.get(was_first, (BREAKER_OPEN, ""))[0]

    def _first(self) -> str:
        """Whom the file has asked first, where no routing decides it for each question."""
        if self._only is not None:
            return self._only
        file = self._application.file
        return (file.stack_order if file.stacks else file.model_order)[0]

    def _reply(self, answered: Answered, *, has_store: bool) -> Reply:
        first, because = self._stood_in(answered)
        # What the journal kept of an earlier start says who answered, and not whom routing had chosen.
        is_unknown = answered.outcome.from_journal and self._only is None and self._application.file.routing is not None
        return Reply(
            text=answered.text,
            finish_reason=answered.answer.finish_reason,
            model_id=answered.answer.model_id,
            latency_ms=answered.outcome.duration_seconds * 1000.0,
            usage=answered.answer.usage,
            retrieved_ids=answered.retrieved_ids if has_store else None,
            time_to_first_token_ms=answered.answer.time_to_first_token_ms,
            traces=_all(answered.outcome),
            answered_by=None if is_unknown else answered.name,
            stands_in_for=None if is_unknown else first,
            stands_in_because=because,
        )


def _all(outcome: Outcome) -> tuple[TraceRecord, ...]:
    """Of every call: the attempts, and what was asked of models beside them."""
    return (*outcome.traces, *outcome.beside)


def _unheard(delta: ChatDelta) -> None:
    """The whole answer is what is judged."""
