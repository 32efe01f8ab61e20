"""Asking a second one when the first is silent for too long, and taking whichever answers first.

J. Dean, L. A. Barroso, "The Tail at Scale", CACM 56 (2013). It costs a second call for every slow one, so it is off
unless somebody asks for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext

from exitramp.orchestration.outcome import Outcome


def hedged(
    first: Callable[[], Outcome],
    second: Callable[[], Outcome],
    *,
    after_seconds: float,
    under_way: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Outcome:
    """The first good outcome of the two; `second` begins `after_seconds` later unless `first` has ended by then.

    Without a good one, that of `first`, which went the whole way. The other one goes on to its end by itself: what it
    brings is traced, and paid. `under_way` is entered for each until it has ended. Raises what `first` raises.
    """
    ended = threading.Condition()
    outcomes: list[Outcome | BaseException | None] = [None, None]

    def run(place: int, work: Callable[[], Outcome], held: ExitStack) -> None:
        try:
            found: Outcome | BaseException = work()
        except BaseException as error:  # noqa: BLE001  (raised again in the thread that asked)
            found = error
        with ended:
            outcomes[place] = found
            ended.notify_all()
        held.close()

    # Daemons: a call that never comes back must not keep the process from ending.
    def begin(place: int, work: Callable[[], Outcome]) -> None:
        held = ExitStack()
        held.enter_context(under_way())  # here, since the request itself may have ended before the thread runs
        name = ("hedge-first", "hedge-second")[place]
        threading.Thread(target=run, args=(place, work, held), name=name, daemon=True).start()

    def is_decided(under_way: int) -> bool:
        good = any(isinstance(each, Outcome) and each.is_answered for each in outcomes)
        return good or all(each is not None for each in outcomes[:under_way])

    begin(0, first)
    with ended:
        if not ended.wait_for(lambda: is_decided(1), after_seconds):
            begin(1, second)
            ended.wait_for(lambda: is_decided(2))
        for found in outcomes:
            if isinstance(found, Outcome) and found.is_answered:
                return found
        found = outcomes[0]
    if isinstance(found, BaseException):
        raise found
    assert found is not None
    return found
