"""A user's regular expressions, decided elsewhere: within a bound on computing time, in a process that can be stopped.

A pattern such as `(a+)+$` takes 2^n steps on n letters, and Python's `re` neither has a limit nor lets another thread
run meanwhile: one case would stop a run for good. Another library with a timeout would find something else in a few
corners (its own Unicode tables and cases), and a set's patterns mean what `re` makes of them. So the same `re` runs in
a child process that counts its own computing time. Starting it takes some 0.1 s once, a question 0.1 ms.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any, Final

from exitramp.errors import DataInvalid, ExitrampError

SECONDS: Final = 2.0
"""Of computing, for one check of one answer."""
_START_SECONDS: Final = 60.0
_WALL_SECONDS: Final = 30.0
"""Where the child does not even count any more: stopped, or swapped out."""


class TooSlow(ExitrampError):
    """A check that was not decided within `SECONDS` of computing: neither met nor failed."""


def decide(check: Mapping[str, Any], answer: str) -> bool:
    """Whether `answer` meets the check that a JSON object describes, `not` left aside.

    Raises `TooSlow`, and `DataInvalid` for a check that cannot be decided at all.
    """
    return _DECIDER.ask({"check": dict(check), "answer": answer})


class _Decider:
    """One child for all threads; started when it is first needed, and again after it had to be stopped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._rest = b""

    def ask(self, question: Mapping[str, Any]) -> bool:
        with self._lock:
            child = self._child or self._started()
            try:
                assert child.stdin is not None
                child.stdin.write(json.dumps(question).encode("ascii") + b"\n")
                child.stdin.flush()
                told = self._line(child, _WALL_SECONDS)
            except OSError:
                told = None
            if told is None:
                self._stop()
                raise TooSlow("a check was not decided: the process that decided it had to be stopped")
        if "invalid" in told:
            raise DataInvalid(told["invalid"], hint=told["hint"])
        if told["held"] is None:
            raise TooSlow(f"a check was not decided within {SECONDS:g} s of computing")
        return bool(told["held"])

    def _started(self) -> subprocess.Popen[bytes]:
        child = self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "exitramp.evals.bounded"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        if self._line(child, _START_SECONDS) is None:
            self._stop()
            raise ExitrampError("the process that decides patterns does not start")
        return child

    def _line(self, child: subprocess.Popen[bytes], seconds: float) -> Any:
        """What the child says next; None if it says nothing for so long, or is gone."""
        assert child.stdout is not None
        ends = time.monotonic() + seconds
        while b"\n" not in self._rest:
            ready, _, _ = select.select([child.stdout], [], [], max(0.0, ends - time.monotonic()))
            piece = os.read(child.stdout.fileno(), 65536) if ready else b""
            if not piece:
                return None
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def _stop(self) -> None:
        child, self._child, self._rest = self._child, None, b""
        if child is not None:
            child.kill()
            child.communicate()

    def close(self) -> None:
        with self._lock:
            self._stop()


_DECIDER: Final = _Decider()
atexit.register(_DECIDER.close)


class _Late(BaseException):
    """No `Exception`: what is being decided may catch those."""


def _late(number: int, frame: FrameType | None) -> None:
    raise _Late


def _decided(line: bytes) -> dict[str, Any]:
    from exitramp.evals.checks import Check

    question = json.loads(line)
    check = Check(question["check"]["kind"], question["check"])
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)  # `re` looks for signals every 4,096 steps
        try:
            held: bool | None = check.decided_here(question["answer"])
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
    except (_Late, MemoryError):
        held = None
    except DataInvalid as error:
        return {"invalid": error.message, "hint": error.hint}
    return {"held": held}


def _serve() -> None:
    """The child: a question a line, an answer a line, until nobody asks any more."""
    signal.signal(signal.SIGVTALRM, _late)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asked decides when it ends
    out = sys.stdout.buffer
    out.write(b"{}\n")
    out.flush()
    for line in sys.stdin.buffer:
        out.write(json.dumps(_decided(line)).encode("ascii") + b"\n")
        out.flush()


if __name__ == "__main__":
    _serve()
