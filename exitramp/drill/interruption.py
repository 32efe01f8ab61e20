"""Signals that end a drill: the first one stops its steps and lets the way back run, the second ends it at once.

Python runs a signal's handler between any two instructions of the main thread, so raising there at will would tear
whatever stands in the middle: an event that is written but not yet counted breaks the journal's chain. So the signal
is only noted, and raised as `SignalArrived` where that is declared harmless (`interruptible`) and not taken back for
a moment (`held`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final, Self

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
WAY_BACK_SECONDS: Final = 25.0
"""From the first signal on. With stopping the services and writing the report it stays within the 30 s that what
runs jobs commonly grants before it kills."""
AT_ONCE_SECONDS: Final = 1.0
"""How long ending the services by force may take when a second signal came."""


class SignalArrived(KeyboardInterrupt):
    """A signal to end. No `Exception`, so that nothing that catches errors of a store catches it."""


class WayBackOverdue(BaseException):
    """The way back took longer than it may once a signal came."""


class Interruption:
    """While entered, in the main thread, it catches `SIGNALS`; those that are ignored stay ignored.

    arrived: the first signal that came, None before. at_once: called when a second one came, before the process ends;
    it gets `AT_ONCE_SECONDS`. Not entered, or in another thread, it does nothing.
    """

    def __init__(self, *, way_back_seconds: float = WAY_BACK_SECONDS) -> None:
        self.way_back_seconds = way_back_seconds
        self.arrived: signal.Signals | None = None
        self.at_once: Callable[[], None] = lambda: None
        self._before: dict[signal.Signals, Any] = {}
        self._region = ""
        self._holds = 0
        self._raised = False
        self._ends = 0.0
        self._timer: threading.Timer | None = None
        self._overdue = False
        self._rings = 0

    @property
    def exit_code(self) -> int | None:
        """What a shell calls a process that this signal ended: 130 for SIGINT, 143 for SIGTERM. None without one."""
        return None if self.arrived is None else 128 + int(self.arrived)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                before = signal.getsignal(number)
                if before is not signal.SIG_IGN:  # started in the background, or under nohup: that was meant
                    self._before[number] = before
                    signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before if before is not None else signal.SIG_DFL)
        self._before.clear()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A step that takes no harm from being left: the first signal is raised in it, one that came before too."""
        try:
            self._region = "step"
            self._raise_if_due()
            yield
        finally:
            self._region = ""

    @contextmanager
    def way_back(self) -> Iterator[None]:
        """A step that brings things back: a signal does not end it, but from then on it has `way_back_seconds`.

        Raises `WayBackOverdue` when they have passed since the first signal.
        """
        try:
            self._region = "way back"
            self._set_timer()
            yield
        finally:
            self._region = ""
            timer, self._timer = self._timer, None
            if timer is not None:
                timer.cancel()
                timer.join()  # a bell that rings when the handlers are gone would end the process
            self._overdue = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Something that must be done whole; a signal that comes meanwhile is raised after it."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
        self._raise_if_due()

    def _set_timer(self) -> None:
        if self.arrived is not None and self._before and self._region == "way back" and self._timer is None:
            self._timer = threading.Timer(max(0.0, self._ends - time.monotonic()), self._ring)
            self._timer.daemon = True
            self._timer.start()

    def _ring(self) -> None:
        if self._timer is not None:
            self._rings += 1
            # To the main thread itself, so that whatever it waits for is broken off.
            signal.pthread_kill(threading.main_thread().ident or 0, next(iter(self._before)))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._rings:
            self._rings -= 1
            self._overdue = self._timer is not None
        elif self.arrived is None:
            self.arrived = signal.Signals(number)
            self._ends = time.monotonic() + self.way_back_seconds
            _tell(
                f"\n{self.arrived.name}: no more steps; bringing things back takes at most "
                f"{self.way_back_seconds:g} s, and a second signal ends at once\n"
            )
            self._set_timer()
        else:
            self._end_at_once(signal.Signals(number))
        self._raise_if_due()

    def _raise_if_due(self) -> None:
        if self._holds:
            return
        if self._region == "way back" and self._overdue:
            self._overdue, self._region = False, ""
            raise WayBackOverdue
        if self._region == "step" and self.arrived is not None and not self._raised:
            self._raised, self._region = True, ""
            raise SignalArrived

    def _end_at_once(self, number: signal.Signals) -> None:
        _tell(f"{number.name} again: ended at once, nothing more is brought back or written\n")
        # On a thread of its own: the main one may stand in the middle of waiting for one of these processes.
        ending = threading.Thread(target=self.at_once, daemon=True)
        ending.start()
        ending.join(AT_ONCE_SECONDS)
        os._exit(128 + int(number))


def _tell(text: str) -> None:
    """Straight to the descriptor: the handler may have interrupted a write to the buffer around it."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
