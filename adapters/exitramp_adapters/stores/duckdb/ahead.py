"""One fetch at a time on a thread of its own, so that a page is on its way while the last is turned into a batch.

DuckDB and Arrow work without the interpreter's lock: of 60,000 rows x 384 they take 0.16 s, and 0.13 what is then made
of the pages. No more than one page is fetched ahead, since the next is asked for when that one is taken.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final

_PATIENCE_SECONDS: Final = 5.0
"""How long a process that ends with a scan still open waits for its fetch, so that no library is in use as it goes."""


class Ahead:
    """Runs what it is asked for, once. The thread begins with the first call and ends with `end`, or with this."""

    def __init__(self) -> None:
        self._inbox: SimpleQueue[_Asked | None] = SimpleQueue()
        self._asked: _Asked | None = None
        self._finalizer: Any = None

    def ask(self, call: Callable[[], Any]) -> None:
        """Begin with a call whose outcome is then to be taken."""
        if self._finalizer is None:
            # A daemon: a library that never comes back must not keep the process from ending (see `wrappers.deadline`).
            thread = threading.Thread(target=_work, args=(self._inbox,), name="exitramp-duckdb-ahead", daemon=True)
            thread.start()
            self._finalizer = weakref.finalize(self, _end, self._inbox, thread)
        self._asked = _Asked(call)
        self._inbox.put(self._asked)

    def take(self) -> Any:
        """What came of the call, once; None if there was none. Raises what it raised."""
        asked, self._asked = self._asked, None
        if asked is None:
            return None
        asked.done.wait()
        error, asked.error = asked.error, None
        if error is not None:
            raise error
        return asked.value

    def end(self) -> None:
        """Let go of the thread and of what was not taken. Waits for nothing."""
        self._asked = None
        finalizer, self._finalizer = self._finalizer, None
        if finalizer is not None:
            finalizer.detach()
            self._inbox.put(None)


class _Asked:
    def __init__(self, call: Callable[[], Any]) -> None:
        self.call: Callable[[], Any] | None = call
        self.done = threading.Event()
        self.value: Any = None
        self.error: BaseException | None = None


def _work(inbox: SimpleQueue[_Asked | None]) -> None:
    while True:
        asked = inbox.get()
        if asked is None:
            return
        call, asked.call = asked.call, None
        assert call is not None
        try:
            asked.value = call()
        except BaseException as error:  # noqa: BLE001  (raised in the reader, whatever it is)
            asked.error = error
        asked.done.set()
        del call, asked  # or the page, and whoever reads, would be kept alive until the next


def _end(inbox: SimpleQueue[_Asked | None], thread: threading.Thread) -> None:
    inbox.put(None)
    if thread is not threading.current_thread():
        thread.join(_PATIENCE_SECONDS)
