"""A file that is followed: what it says is opened anew when it changes, and a broken edit changes nothing."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from exitramp.clock import Clock
from exitramp.errors import ConfigError, ExitrampError
from exitramp.orchestration.opened import Generation
from exitramp.orchestration.stack_file import StackFile, parse_stack_file

LOOKS_SECONDS: Final = 0.2
"""How often the file is looked at, at most; reading one of a page takes 0.03 ms."""


class FollowedStack:
    """The newest version of a stack file that could be opened. Thread-safe.

    `opener` makes a version, given the one before it. `on_notice` is told once of each edit: that it is in force, or
    why it is not.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        opener: Callable[[StackFile, Generation | None], Generation],
        on_notice: Callable[[str], None],
    ) -> None:
        self._path = path
        self._folder = path.resolve().parent
        self._clock = clock
        self._opener = opener
        self._on_notice = on_notice
        self._lock = threading.Lock()
        self._looked = clock.monotonic()
        data = self._read()
        self._seen = hashlib.sha256(data).hexdigest()
        self._newest = opener(self._parse(data), None)
        self.problem: str | None = None
        """Why the file as it stands now is not the one in force; None where it is."""

    @contextmanager
    def request(self) -> Iterator[Generation]:
        """The version for one request, which ends on it whatever is edited meanwhile."""
        self._look()
        while True:
            newest = self._newest
            with newest.request():
                # Between the two lines above it may have been retired, and with nobody on it closed.
                if newest.is_retired and newest is not self._newest:
                    continue
                yield newest
                return

    @property
    def newest(self) -> Generation:
        self._look()
        return self._newest

    def _look(self) -> None:
        now = self._clock.monotonic()
        if now - self._looked < LOOKS_SECONDS or not self._lock.acquire(blocking=False):
            return
        try:
            if now - self._looked < LOOKS_SECONDS:
                return
            self._looked = now
            self._follow()
        finally:
            self._lock.release()

    def _follow(self) -> None:
        try:
            data = self._read()
        except ConfigError as error:
            self._refuse("missing", error)
            return
        seen = hashlib.sha256(data).hexdigest()
        if seen == self._seen:
            return
        if seen == self._newest.file.sha256:  # a broken edit was taken back
            self._seen, self.problem = seen, None
            self._on_notice(f"{self._path.name}: as before again")
            return
        try:
            newer = self._opener(self._parse(data), self._newest)
        except ExitrampError as error:
            self._refuse(seen, error)
            return
        older, self._newest = self._newest, newer
        self._seen, self.problem = seen, None
        older.retire()
        self._on_notice(f"{self._path.name}: the edit is in force for requests from now on (SHA-256 {seen[:12]}…)")

    def _refuse(self, seen: str, error: ExitrampError) -> None:
        if seen == self._seen:
            return
        self._seen = seen
        self.problem = str(error)
        self._on_notice(f"the edit of {self._path.name} is not in force, the version before it is: {error}")

    def _read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except FileNotFoundError as error:
            raise ConfigError(f"there is no file {self._path}", hint="docs/stack.md has one to begin with") from error
        except OSError as error:
            raise ConfigError(f"cannot be read: {error.strerror}", file=str(self._path)) from error

    def _parse(self, data: bytes) -> StackFile:
        return parse_stack_file(data, file=str(self._path), folder=self._folder)

    def close(self, *, seconds: float) -> bool:
        """Let what is under way end, for so long; then close everything. Returns whether all had ended."""
        with self._lock:
            has_ended = self._newest.wait_idle(seconds)
            self._newest.retire()
            self._looked = float("inf")  # it is followed no more
        return has_ended
