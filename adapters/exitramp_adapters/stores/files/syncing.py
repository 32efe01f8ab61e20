"""Files that go to the disk while they are being written, so that the sync at their end has little left to wait for.

Of a segment of 20,000 x 384 (40 MB) writing takes the processor 10 ms, and a sync of all of it the disk 18 behind that.
What counts is the last sync, which nobody goes on without.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_SYNCED_BYTES: Final = 8 * 2**20
"""Each sync waits for the disk's answer, so that many of them take longer; of few the last has more to do."""
_HELD_BYTES: Final = 32 * 2**20


class Syncing:
    """A file that somebody writes; leaving the block without an error syncs all of it.

    A sync that fails on the way is an error of the whole: what it was of may be lost, and no later one would say so.
    """

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDWR)
        self._other = ThreadPoolExecutor(1, "exitramp-files-syncing")
        self._begun: deque[tuple[Future[object], int]] = deque()
        self._held = self._unsynced = 0

    def wrote(self, count: int) -> None:
        """So many bytes more have been handed to the system. Raises `OSError` where those before did not arrive."""
        self._unsynced += count
        while self._begun and self._begun[0][0].done():
            self._settle_one()
        if self._unsynced >= _SYNCED_BYTES and not self._begun:
            self._begin(lambda: os.fdatasync(self._handle), 0)
            self._unsynced = 0

    def write_soon(self, write: Callable[[], object], count: int) -> None:
        """Have so many bytes written behind those before them while the caller goes on.

        Waits, and raises what went wrong, while there are more than 32 MiB still to be written.
        """
        self._begin(write, count)
        self._unsynced += count
        if self._unsynced >= _SYNCED_BYTES:
            self._begin(lambda: os.fdatasync(self._handle), 0)
            self._unsynced = 0
        while self._held > _HELD_BYTES:
            self._settle_one()

    def sync_soon(self) -> None:
        """Have what was written sent to the disk while the caller goes on."""
        self._begin(lambda: os.fdatasync(self._handle), 0)
        self._unsynced = 0

    def settle(self) -> None:
        """Return when all has been written, whether it is on the disk or not."""
        while self._begun:
            self._settle_one()

    def _begin(self, call: Callable[[], object], count: int) -> None:
        self._begun.append((self._other.submit(call), count))
        self._held += count

    def _settle_one(self) -> None:
        begun, count = self._begun.popleft()
        self._held -= count
        begun.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.settle()
                os.fsync(self._handle)
        finally:
            self._other.shutdown(cancel_futures=True)  # waits, so that the handle is nobody's any more
            os.close(self._handle)
