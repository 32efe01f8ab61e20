"""What an application gets back: an answer and how it came about, or an error that says what was tried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from exitramp.errors import RETRYABLE_MODEL_ERRORS, RemoteError
from exitramp.orchestration.outcome import Attempt, Outcome, deciding
from exitramp.ports import ChatAnswer

_NEXT: Final = {
    "no_stack": "wait for the breakers' cool-down, or name another model in the stack file",
    "deadline": "raise deadlines.request_seconds in the stack file",
    "busy": "raise the models' concurrency in the stack file, or send less at once",
    "budget": "ask for fewer passages or tokens, wait for the next day or month in UTC, or raise the cap",
    "auth": "look at the key that the model's address refers to",
    "quota_exhausted": "raise the vendor's quota, or name another model in the stack file",
}
_PASSING: Final = RETRYABLE_MODEL_ERRORS | {"store_unavailable", "store_timeout"}


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer that is whole. `name` is the model's in the stack file, or the stack's where one was asked.

    cache: exact, semantic or none. is_mock: to be shown wherever the answer is.
    """

    request_id: str
    answer: ChatAnswer
    name: str
    is_mock: bool
    cache: str
    outcome: Outcome

    @property
    def text(self) -> str:
        return self.answer.text

    @property
    def retrieved_ids(self) -> tuple[str, ...]:
        return self.outcome.retrieved_ids


class NotAnswered(RemoteError):
    """Nobody gave a whole answer. `error_class` is that of the try that decided it; `outcome` has them all."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.error_class = outcome.error_class or "unknown"
        tried = ", ".join(f"{attempt.stack}: {attempt.error_class}" for attempt in outcome.attempts)
        said = f" ({tried})" if tried else ""
        super().__init__(f"no answer: {outcome.error or self.error_class}{said}", hint=_NEXT.get(self.error_class))

    @property
    def http_status(self) -> int | None:
        """What the vendor said whose failure decided it."""
        return None if self._decided is None else self._decided.http_status

    @property
    def retry_after_seconds(self) -> float | None:
        return None if self._decided is None else self._decided.retry_after_seconds

    @property
    def has_no_substitute(self) -> bool:
        """Whether it failed for a while only, and who was to stand in takes no such request: then it is worth asking
        again later, since not everybody has been asked."""
        decided = self._decided
        return decided is not None and decided is not self.outcome.attempts[-1] and decided.error_class in _PASSING

    @property
    def _decided(self) -> Attempt | None:
        found = deciding(self.outcome.attempts) if self.outcome.attempts else None
        return found if found is not None and found.error_class == self.error_class else None
