"""A stack file as what is questioned: retrieval, routing, retries and failover as the application has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from exitramp.errors import UsageError
from exitramp.evals.runs.subject import Prompted, Reply, SubjectFailed
from exitramp.evals.sets.case import Case
from exitramp.orchestration.answered import Answered, NotAnswered
from exitramp.orchestration.application import Application
from exitramp.orchestration.outcome import Outcome
from exitramp.ports import ChatDelta, ChatModel, ChatRequest, ModelIdentity
from exitramp.records import TraceRecord

# What an orchestrator says beyond a vendor's classes, in a vendor's words.
_CLASSES: Final[Mapping[str, str]] = {
    "deadline": "timeout",
    "no_stack": "overloaded",
    "busy": "overloaded",
    "in_flight": "overloaded",
}


class StackSubject:
    """Asks the stacks of a stack file, or its models where it names no stacks. Its cache is not asked: a repeat is to
    be a repeat."""

    def __init__(
        self,
        path: Path,
        *,
        maximum_tokens: int = 512,
        temperature: float | None = 0.0,
        stream: bool = False,
        around_chat: Callable[[ChatModel], ChatModel] | None = None,
    ) -> None:
        """`around_chat`: what to put around each of its chat models, such as what records it."""
        self._path = path
        self._on_delta = _unheard if stream else None
        self._application = Application.open(path, around_chat=around_chat)
        self._sha256 = self._application.file.sha256
        self._maximum_tokens = maximum_tokens
        self._temperature = temperature

    def identity(self) -> ModelIdentity:
        return ModelIdentity("stack", self._path.name, str(self._path), bool(self._application.mocks()))

    def describe(self) -> Mapping[str, Any]:
        return {
            "kind": "stack",
            "name": self._path.name,
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
                    on_delta=self._on_delta,
                    use_cache=False,
                )
            else:
                request = ChatRequest(
                    case.asked(),
                    maximum_tokens=self._maximum_tokens,
                    temperature=self._temperature,
                    idempotency_key=key,
                )
                answered = self._application.chat(
                    request, use_case=case.use_case, on_delta=self._on_delta, use_cache=False
                )
        except NotAnswered as error:
            kind = _CLASSES.get(error.error_class, error.error_class)
            raise SubjectFailed(str(error.message), kind, _all(error.outcome), http_status=error.http_status) from error
        return self._reply(answered, has_store=bool(file.stacks))

    def ways(self, case: Case) -> tuple[tuple[TraceRecord, ...], ...]:
        """What the case would ask of models at most, by each stack or model that may answer it."""
        text = "\n".join(message.content for message in case.asked())
        return self._application.supposed(text, use_case=case.use_case, maximum_tokens=self._maximum_tokens)

    def close(self) -> None:
        self._application.close()

    def _reply(self, answered: Answered, *, has_store: bool) -> Reply:
        return Reply(
            text=answered.text,
            finish_reason=answered.answer.finish_reason,
            model_id=answered.answer.model_id,
            latency_ms=answered.outcome.duration_seconds * 1000.0,
            usage=answered.answer.usage,
            retrieved_ids=answered.retrieved_ids if has_store else None,
            time_to_first_token_ms=answered.answer.time_to_first_token_ms,
            traces=_all(answered.outcome),
        )


def _all(outcome: Outcome) -> tuple[TraceRecord, ...]:
    """Of every call: the attempts, and what was asked of models beside them."""
    return (*outcome.traces, *outcome.beside)


def _unheard(delta: ChatDelta) -> None:
    """The whole answer is what is judged."""
