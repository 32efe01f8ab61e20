"""An event loop in a thread of its own, for coroutines that threads wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from exitramp.errors import UsageError

T = TypeVar("T")

_CLOSING_SECONDS = 5.0


class LoopThread:
    """Started by the first `run`; the thread is a daemon. Thread-safe."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` returns or raises; `concurrent.futures.CancelledError` if `close` ended it meanwhile."""
        with self._lock:
            if self._is_closed:
                work.close()
                raise UsageError(f"{self._name} was closed")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_serve, args=(self._loop,), name=self._name, daemon=True).start()
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C while waiting: the work must not go on behind our back
            raise

    def close(self, last: Coroutine[Any, Any, None] | None = None) -> None:
        """Cancel what is under way, run `last`, end the loop; calling it again does nothing."""
        with self._lock:
            self._is_closed = True
            loop, self._loop = self._loop, None
        if loop is None:
            if last is not None:
                last.close()
            return
        asyncio.run_coroutine_threadsafe(_finish(last), loop).result(_CLOSING_SECONDS)
        loop.call_soon_threadsafe(loop.stop)


async def _finish(last: Coroutine[Any, Any, None] | None) -> None:
    """Whoever waits for a task must be told before the loop stops, or waits for ever."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    if last is not None:
        await last


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()
