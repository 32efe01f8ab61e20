"""A file that is followed: what it says is opened anew when it changes, and a broken edit changes nothing."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exitramp.clock import Clock
from exitramp.errors import ConfigError, ExitrampError
from exitramp.orchestration.opened import Generation
from exitramp.orchestration.stack_file import StackFile, parse_stack_file, read_bytes
from exitramp.secrets import redact

LOOKS_SECONDS: Final = 0.2
"""How often the file is looked at, at most; reading one of a page takes 0.03 ms."""
RESTS_SECONDS: Final = 0.2
"""How long a file has to be left alone before it is taken for written: half of one may be a file by itself."""
TRIES_AGAIN_SECONDS: Final = 5.0
"""How often an edit that was refused is tried again: what it needs may have come without another edit."""

_LOG: Final = logging.getLogger("exitramp.application")


@dataclass(frozen=True, slots=True)
class Edits:
    """What became of the edits so far; `is_refused`: of the file as it stands now."""

    in_force: int
    refused: int
    is_refused: bool


class FollowedStack:
    """The newest version of a stack file that could be opened. Thread-safe.

    `opener` makes a version, given the one before it. `on_notice` is told once of each edit: that it is in force, or
    why it is not. Whatever an edit does wrong, it raises nothing in a request.
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
        self._tries_again = self._looked
        self._in_force = self._refused = 0
        data = read_bytes(path)
        self._ends_a_line = data.endswith(b"\n")
        self._seen = hashlib.sha256(data).hexdigest()
        self._newest = opener(self._parse(data), None)
        self._older: list[Generation] = []
        self.problem: str | None = None
        """Why the file as it stands now is not the one in force; None where it is."""

    @contextmanager
    def request(self) -> Iterator[Generation]:
        """The version for one request, which ends on it whatever is edited meanwhile."""
        self.look()
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
        self.look()
        return self._newest

    @property
    def edits(self) -> Edits:
        self.look()
        return Edits(self._in_force, self._refused, self.problem is not None)

    @property
    def is_look_due(self) -> bool:
        return self._clock.monotonic() - self._looked >= LOOKS_SECONDS

    def look(self) -> None:
        """Put an edit in force if there is one. May take as long as opening what it names."""
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
            data = read_bytes(self._path)
            age_seconds = time.time() - self._path.stat().st_mtime
        except (ConfigError, OSError) as error:
            self._refuse("missing", str(error))
            return
        seen = hashlib.sha256(data).hexdigest()
        is_mended = seen == self._newest.file.sha256
        if seen == self._seen and (is_mended or self._clock.monotonic() < self._tries_again):
            return
        if is_mended:  # a broken edit was taken back
            self._seen, self.problem = seen, None
            self._on_notice(f"{self._path.name}: as before again")
            return
        if 0 <= age_seconds < RESTS_SECONDS:  # somebody may still be writing; look again as soon as it has rested
            self._looked += RESTS_SECONDS - age_seconds - LOOKS_SECONDS
            return
        try:
            if self._ends_a_line and data.strip() and not data.endswith(b"\n"):
                raise ConfigError(
                    "the file ends in the middle of a line: some of it may be missing",
                    file=str(self._path),
                    line=data.count(b"\n") + 1,
                    hint="write all of it, and end its last line",
                )
            newer = self._opener(self._parse(data), self._newest)
        except ExitrampError as error:
            self._refuse(seen, str(error))
            return
        except Exception as error:  # noqa: BLE001  (whatever it is: requests go on by the version that is open)
            _LOG.debug("an edit could not be opened", exc_info=True)
            said = redact(f"{type(error).__name__}: {error}")
            self._refuse(seen, f"{self._path}:1: cannot be opened ({said})\n  next: take the edit back and report this")
            return
        older, self._newest = self._newest, newer
        self._older = [each for each in (*self._older, older) if not each.wait_idle(0.0)]
        self._seen, self.problem = seen, None
        self._ends_a_line = data.endswith(b"\n")
        self._in_force += 1
        self._on_notice(f"{self._path.name}: the edit is in force for requests from now on (SHA-256 {seen[:12]}…)")
        try:
            older.retire()
        except Exception as error:  # noqa: BLE001  (the newer one answers all the same)
            self._on_notice(f"{self._path.name}: closing what only the version before had open failed: {error}")

    def _refuse(self, seen: str, why: str) -> None:
        self._tries_again = self._clock.monotonic() + TRIES_AGAIN_SECONDS
        if seen == self._seen and why == self.problem:
            return
        if seen != self._seen:
            self._refused += 1
        self._seen, self.problem = seen, why
        self._on_notice(f"the edit of {self._path.name} is not in force, the version before it is: {why}")

    def _parse(self, data: bytes) -> StackFile:
        return parse_stack_file(data, file=str(self._path), folder=self._folder)

    def close(self, *, seconds: float) -> bool:
        """Let what is under way end, for so long; then write down what has not, and close everything. Returns whether
        all had ended."""
        end = time.monotonic() + seconds
        with self._lock, ExitStack() as at_last:
            at_last.callback(self._newest.retire)
            self._looked = float("inf")  # it is followed no more
            for each in (*self._older, self._newest):
                at_last.callback(each.cut_off)  # an interrupt while it is waited does not keep it from that
            return all(each.wait_idle(max(0.0, end - time.monotonic())) for each in (*self._older, self._newest))
