"""How one question is to be treated on its way: where it may go, who listens, and what its trace says of that."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

from exitramp.orchestration.idempotency import StoredAnswer
from exitramp.orchestration.side_calls import QuestionVectors, SideCall
from exitramp.ports import ChatDelta, ChatRequest
from exitramp.records import TraceRecord


@dataclass(frozen=True, slots=True)
class Handling:
    """What is asked for one question, where it differs from what the router does by itself.

    order: the stacks that may be asked, in this order; None is all of them in the router's.
    tier, reason: how it was routed, for the trace.
    is_keyed: whether the question's id is its caller's own key; one that was made up for it is kept in no journal.
    on_delta: told of the answer's pieces. By itself only those of an answer that is whole, all at once at its end;
        with `at_first_token` as they come. An answer that breaks off after a piece was shown is the end of the
        request, or, if there is an `on_restart`, that is called and another stack answers anew.
    beforehand: called once, when the journal knows nothing and before anybody is asked: an answer from elsewhere with
        the word for where from, or None; what it raises ends the request.
    begins: whether so many tries of it may be billed together; asked before each; where it says no, nobody is asked.
    may_send: whether there is money for a prompt with its passages, by its stack; asked before each is sent.
    ended: told of each try that began, by its stack, with its record; None where it ended by an exception. It may come
        after the request's own end, from a hedge that lost.
    doubted: told of each call beside the answer.
    vectors: what was embedded of it so far.
    under_way: entered for as long as a hedge asks, which may be longer than the request.
    hedge_after_seconds: how long the first stack may be silent before the next is asked as well; None is for ever.
    """

    order: tuple[str, ...] | None = None
    tier: str | None = None
    reason: str | None = None
    tenant: str | None = None
    operation: str = "answer"
    is_keyed: bool = True
    on_delta: Callable[[ChatDelta], None] | None = None
    on_restart: Callable[[], None] | None = None
    at_first_token: bool = False
    beforehand: Callable[[], tuple[StoredAnswer, str] | None] | None = None
    begins: Callable[[int], bool] | None = None
    may_send: Callable[[str, ChatRequest], bool] = lambda stack, request: True
    ended: Callable[[str, TraceRecord | None], None] | None = None
    doubted: Callable[[SideCall], None] | None = None
    vectors: QuestionVectors | None = None
    under_way: Callable[[], AbstractContextManager[None]] = nullcontext
    hedge_after_seconds: float | None = None


PLAIN: Final = Handling()


class Ear:
    """Listens to one attempt: keeps its pieces, or passes them on; deaf once the attempt has ended.

    A call that was left behind may still tell something, and none of it may reach an answer that is another's.
    """

    def __init__(self, on_delta: Callable[[ChatDelta], None], *, at_once: bool) -> None:
        self._on_delta = on_delta
        self._at_once = at_once
        self._lock = threading.Lock()
        self._kept: list[ChatDelta] = []
        self._is_open = True
        self.has_shown = False

    def __call__(self, delta: ChatDelta) -> None:
        with self._lock:
            if not self._is_open:
                return
            if not self._at_once:
                self._kept.append(delta)
                return
            self.has_shown = True
            self._on_delta(delta)

    def close(self) -> None:
        with self._lock:
            self._is_open = False

    def show(self) -> None:
        """Pass on what was kept: the answer is whole."""
        for delta in self._kept:
            self._on_delta(delta)


class Slots:
    """So many calls at once, and no more."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._free = threading.BoundedSemaphore(limit)

    def take(self, *, timeout_seconds: float) -> bool:
        """Whether one came free in time; whoever got it gives it back by `release`."""
        return self._free.acquire(blocking=False) or self._free.acquire(timeout=max(0.0, timeout_seconds))

    def release(self) -> None:
        self._free.release()
