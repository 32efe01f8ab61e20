"""What a request asks of models beside its answer: the question's vector, the scores of a reranker.

Whoever makes such a call makes it here, in the thread in which it is made; whoever has the request listens. So a
store's retriever stays a function of a question and a number, and yet no call is left out of traces and budget.
What one of them has embedded the others find here: a question that is routed, looked up and searched by one embedder
is embedded, and paid for, once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from exitramp.clock import Clock
from exitramp.errors import ModelError
from exitramp.orchestration.cutting_off import SAID, CallsUnderWay, CutOff
from exitramp.ports import Embedder, ModelIdentity
from exitramp.records import Usage

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class SideCall:
    """One call. `operation` is embed or rerank; a failed one has an error class and no usage.

    texts: how many were sent. at_most_tokens: how many tokens they have at most, of one that failed.
    """

    operation: str
    identity: ModelIdentity
    model_id: str
    latency_ms: float
    usage: Usage | None = None
    error: ModelError | CutOff | None = None
    texts: int = 0
    at_most_tokens: int = 0


class QuestionVectors:
    """Vectors of what one request asks, each by the embedder that made it: an embedder is one for each address, with
    its settings. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[tuple[Embedder, str, npt.NDArray[np.float32]]] = []

    def find(self, embedder: Embedder, text: str) -> npt.NDArray[np.float32] | None:
        with self._lock:
            return next((row for made, said, row in self._kept if made is embedder and said == text), None)

    def keep(self, embedder: Embedder, text: str, vector: npt.NDArray[np.float32]) -> None:
        with self._lock:
            self._kept.append((embedder, text, vector))


class Brought(Protocol):
    """As much of an embedder's or a reranker's answer as is told of it."""

    @property
    def model_id(self) -> str: ...

    @property
    def usage(self) -> Usage: ...


Found = TypeVar("Found", bound=Brought)
Hear = Callable[[SideCall], None]
_LISTENING: ContextVar[Hear | None] = ContextVar("exitramp_side_calls", default=None)
_UNDER_WAY: ContextVar[CallsUnderWay | None] = ContextVar("exitramp_side_calls_under_way", default=None)
_VECTORS: ContextVar[QuestionVectors | None] = ContextVar("exitramp_question_vectors", default=None)


@contextmanager
def hearing(
    hear: Hear, vectors: QuestionVectors | None = None, under_way: CallsUnderWay | None = None
) -> Iterator[None]:
    """`hear` is told of every side call that this thread makes until the block ends; `vectors` are the request's.
    `under_way` knows those that have not ended: one that is cut off is told to `hear` from another thread."""
    token, kept, known = _LISTENING.set(hear), _VECTORS.set(vectors), _UNDER_WAY.set(under_way)
    try:
        yield
    finally:
        _LISTENING.reset(token)
        _VECTORS.reset(kept)
        _UNDER_WAY.reset(known)


def make_side_call(
    operation: str,
    identity: ModelIdentity,
    ask: Callable[[], Found],
    *,
    texts: int,
    at_most_tokens: Callable[[], int],
    clock: Clock,
) -> Found:
    """What `ask` brings, told to whoever listens, as is its `ModelError`. Raises one without asking where everything
    has ended. `at_most_tokens` is looked at only where nobody knows how many were read."""
    hear = _LISTENING.get() or (lambda call: None)
    began = clock.monotonic()

    def failed(error: ModelError | CutOff) -> SideCall:
        passed = (clock.monotonic() - began) * 1000.0
        return SideCall(operation, identity, identity.model, passed, None, error, texts, at_most_tokens())

    begun = (_UNDER_WAY.get() or CallsUnderWay()).begins(lambda: hear(failed(CutOff())))
    if not begun.may_go_on:
        raise ModelError(f"nobody was asked: {SAID}", error_class="overloaded")
    told: SideCall | None = None
    try:
        found = ask()
        passed = (clock.monotonic() - began) * 1000.0
        told = SideCall(operation, identity, found.model_id, passed, found.usage)
    except ModelError as error:
        told = failed(error)
        raise
    finally:
        with begun.ends() as is_ours:
            if is_ours and told is not None:
                hear(told)
    return found


def question_vectors() -> QuestionVectors:
    """Those of the request that this thread works for, or some that nobody else sees."""
    return _VECTORS.get() or QuestionVectors()
