"""Writing down at the end what has not ended: a call that nobody waits for any more may have been billed all the same.

Whoever calls a vendor says first what is to be written if nobody is left to see its end. At the end that is written,
once: an end that comes later is told that its call is written down already.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

CUT_OFF: Final = "cut_off"
"""The error class of what had not ended when everything did."""
SAID: Final = "it had not ended when the application was closed"

_WRITES_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class CutOff:
    """Why a call beside an answer brought nothing, as a `ModelError` says it of others: the vendor had been asked."""

    error_class: str = CUT_OFF
    http_status: int | None = None
    maybe_billed: bool = True


class CallsUnderWay:
    """What has begun and is not written down yet. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open: dict[Begun, Callable[[], None]] = {}
        self._writing = 0
        self._is_over = False

    @property
    def is_over(self) -> bool:
        """Whether nobody is to be asked any more."""
        with self._changed:
            return self._is_over

    def begins(self, cut_off: Callable[[], None]) -> Begun:
        """`cut_off` writes it down if it has not ended at the end. Once that was, nothing may begin."""
        with self._changed:
            begun = Begun(self, may_go_on=not self._is_over)
            if begun.may_go_on:
                self._open[begun] = cut_off
            return begun

    @contextmanager
    def ends(self, begun: Begun) -> Iterator[bool]:
        with self._changed:
            is_ours = self._open.pop(begun, None) is not None or not begun.may_go_on
            self._writing += is_ours
        try:
            yield is_ours
        finally:
            with self._changed:
                self._writing -= is_ours
                self._changed.notify_all()

    def cut_off(self) -> None:
        """Write down all that has not ended, the newest first, so that a request comes after its calls. What ends just
        now is waited for. Where one cannot be written, the others are, and then it is raised."""
        with self._changed:
            self._is_over = True
            left, self._open = self._open, {}
            self._changed.wait_for(lambda: not self._writing, _WRITES_SECONDS)
        with ExitStack() as newest_first:
            for write in left.values():
                newest_first.callback(write)


class Begun:
    """One call, or one request. `may_go_on`: it had not been too late when it began."""

    def __init__(self, calls: CallsUnderWay, *, may_go_on: bool) -> None:
        self._calls = calls
        self.may_go_on = may_go_on

    @contextmanager
    def ends(self) -> Iterator[bool]:
        """Whether its end is to be written down in this block, or was when it was cut off."""
        with self._calls.ends(self) as is_ours:
            yield is_ours
