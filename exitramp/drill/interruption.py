"""Signals that end a drill: the first one stops its steps and lets the way back run, the second ends it at once.

Python runs a signal's handler between any two instructions of the main thread, so raising there at will would tear
whatever stands in the middle: an event that is written but not yet counted breaks the journal's chain. So the signal
is only noted, and raised as `SignalArrived` where that is declared harmless (`interruptible`) and not taken back for
a moment (`held`).

A handler runs only when the main thread comes back to the interpreter, and what the main thread is deep in may take its
time: a library, or a sync of a busy disk. So a thread that stands ready (`_Watch`) hears of every signal from the
interpreter's own C handler: it ends the process at a second one, and it rings when the time is up.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import select
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


WAKE: Final = b"\xfe"
STOP: Final = b"\xff"
"""Bytes in the watch's pipe that are no signal's number."""


class SignalArrived(KeyboardInterrupt):
    """A signal to end. No `Exception`, so that nothing that catches errors of a store catches it."""


class WayBackOverdue(BaseException):
    """The way back took longer than it may once a signal came."""


class Interruption:
    """While entered, in the main thread, it catches `SIGNALS`; those that are ignored stay ignored.

    arrived: the first signal that came, None before. at_once: called when a second one came, before the process ends;
    it gets `AT_ONCE_SECONDS`. Not entered, or in another thread, it does nothing.
    """

    def __init__(self, *, way_back_seconds: float = WAY_BACK_SECONDS, tells: str | None = None) -> None:
        """`tells`: said at the first signal, after its name, where it is not about steps and a way back."""
        self.way_back_seconds = way_back_seconds
        self._tells = tells or (
            f"no more steps; bringing things back takes at most {way_back_seconds:g} s, and a second signal ends at "
            "once"
        )
        self.arrived: signal.Signals | None = None
        self.at_once: Callable[[], None] = lambda: None
        self._before: dict[signal.Signals, Any] = {}
        self._region = ""
        self._holds = 0
        self._raised = False
        self._ends = 0.0
        self._overdue = False
        self._rings = 0
        self._watch = _Watch(self._ended_at_once)

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
            if self._before:
                self._watch.start(frozenset(self._before), self._count_ring)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before:
            self._watch.stop()
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
            self._set_deadline()
            yield
        finally:
            self._region = ""
            self._watch.forget_deadline()  # a bell that rings when the handlers are gone would end the process
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

    def _set_deadline(self) -> None:
        if self.arrived is not None and self._before and self._region == "way back" and self._watch.deadline is None:
            self._watch.deadline = self._ends
            self._watch.wake()

    def _count_ring(self) -> None:
        self._rings += 1

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._rings:
            self._rings -= 1
            self._overdue = self._watch.deadline is not None
        elif self.arrived is None:
            self.arrived = signal.Signals(number)
            self._ends = time.monotonic() + self.way_back_seconds
            _tell(f"\n{self.arrived.name}: {self._tells}\n")
            self._set_deadline()
        else:
            # The watch ends the process; nothing more is to be written here meanwhile.
            select.select([], [], [], 2 * AT_ONCE_SECONDS)
            os._exit(128 + number)
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

    def _ended_at_once(self, number: signal.Signals) -> None:
        _tell(f"{number.name} again: ended at once, nothing more is brought back or written\n")
        self.at_once()


class _Watch:
    """A thread that reads the numbers of the signals from a pipe, where the interpreter's C handler puts them.

    deadline: when to ring, by `time.monotonic()`; set from a handler, so without a lock, and followed by `wake`.
    """

    def __init__(self, on_second: Callable[[signal.Signals], None]) -> None:
        self.deadline: float | None = None
        self._on_second = on_second
        self._bell = threading.Lock()
        self._own_rings = 0

    def start(self, numbers: frozenset[signal.Signals], on_ring: Callable[[], None]) -> None:
        """Called in the main thread: only there may the descriptor for signals be set."""
        self._numbers, self._on_ring = numbers, on_ring
        self._ends, self._out = os.pipe()
        os.set_blocking(self._out, False)
        self._former = signal.set_wakeup_fd(self._out, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._run, name="signals", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        signal.set_wakeup_fd(self._former)
        os.write(self._out, STOP)
        self._thread.join()
        os.close(self._ends)
        os.close(self._out)

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # a full pipe wakes it too
            os.write(self._out, WAKE)

    def forget_deadline(self) -> None:
        """No bell rings after this."""
        with self._bell:
            self.deadline = None

    def _run(self) -> None:
        heard = 0
        while True:
            ends = self.deadline
            left = None if ends is None or ends == float("inf") else max(0.0, ends - time.monotonic())
            if not select.select([self._ends], [], [], left)[0]:
                self._ring()
                continue
            for number in os.read(self._ends, 64):
                if number == STOP[0]:
                    return
                if number not in self._numbers:
                    continue
                if self._own_rings:
                    self._own_rings -= 1
                    continue
                heard += 1
                if heard > 1:
                    self._end(signal.Signals(number))

    def _ring(self) -> None:
        with self._bell:
            if self.deadline is None or time.monotonic() < self.deadline:
                return
            self.deadline = float("inf")  # once
            self._own_rings += 1
            self._on_ring()
            # To the main thread itself, so that whatever it waits for is broken off.
            signal.pthread_kill(threading.main_thread().ident or 0, next(iter(self._numbers)))

    def _end(self, number: signal.Signals) -> None:
        done, tell = os.pipe()

        def end() -> None:
            try:
                self._on_second(number)
            finally:
                os.write(tell, WAKE)

        # On a thread of its own, since it may wait for what the main one holds.
        _thread.start_new_thread(end, ())
        select.select([done], [], [], AT_ONCE_SECONDS)
        os._exit(128 + int(number))


def _tell(text: str) -> None:
    """Straight to the descriptor: the handler may have interrupted a write to the buffer around it."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
