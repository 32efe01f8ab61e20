"""Things that are open, shared by the versions of a stack file that need the same, and closed with the last of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Pool:
    """By what they were made from. Thread-safe; making one holds up the others."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._open: dict[object, tuple[Any, int]] = {}

    def take(self, key: object, make: Callable[[], Any]) -> Any:
        with self._lock:
            found, holders = self._open.get(key) or (make(), 0)
            self._open[key] = (found, holders + 1)
            return found

    def holds(self, key: object) -> bool:
        with self._lock:
            return key in self._open

    def release(self, key: object) -> None:
        with self._lock:
            found, holders = self._open[key]
            if holders > 1:
                self._open[key] = (found, holders - 1)
                return
            del self._open[key]
        close = getattr(found, "close", None)
        if close is not None:
            close()


class Holding:
    """What one version holds of a pool, each thing once."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lock = threading.RLock()
        self._held: dict[object, Any] = {}

    def take(self, key: object, make: Callable[[], Any]) -> Any:
        with self._lock:
            if key not in self._held:
                self._held[key] = self._pool.take(key, make)
            return self._held[key]

    def knows(self, key: object) -> bool:
        """Whether somebody has made it, this version or another."""
        return self._pool.holds(key)

    def release(self) -> None:
        """Give everything back, the newest first; calling it again does nothing."""
        with self._lock:
            held, self._held = list(self._held), {}
        for key in reversed(held):
            self._pool.release(key)
