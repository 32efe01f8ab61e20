"""What a request asks of models beside its answer: the question's vector, the scores of a reranker.

Whoever makes such a call tells it here, in the thread in which it was made; whoever has the request listens. So a
store's retriever stays a function of a question and a number, and yet no call is left out of traces and budget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from exitramp.errors import ModelError
from exitramp.ports import ModelIdentity
from exitramp.records import Usage


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
    error: ModelError | None = None
    texts: int = 0
    at_most_tokens: int = 0


Hear = Callable[[SideCall], None]
_LISTENING: ContextVar[Hear | None] = ContextVar("exitramp_side_calls", default=None)


@contextmanager
def hearing(hear: Hear) -> Iterator[None]:
    """`hear` is told of every side call that this thread makes until the block ends."""
    token = _LISTENING.set(hear)
    try:
        yield
    finally:
        _LISTENING.reset(token)


def tell_side_call(call: SideCall) -> None:
    hear = _LISTENING.get()
    if hear is not None:
        hear(call)
