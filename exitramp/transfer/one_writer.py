"""One copy at a time writes to a collection: of two that begin at the same instant the second ends before it writes.

Each would find the target empty, make it, and write among the other's records. What a store's own transactions forbid
is less than that, and every store forbids something else.

The lock is a file of this machine, held by an open descriptor: whatever ends the process lets it go. It is no file
beside the store, where others look for what is theirs. Copies that other machines or other users make at the same time
it does not see; those are found by a count once the target was made (`copy_records`).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from exitramp.durable import path_error
from exitramp.errors import PathUnusable, UsageError
from exitramp.urls import Address

_NOT_PLACES: Final = frozenset({"search", "metric"})
"""Options of an address that make no other collection of it, whatever the store."""


@contextmanager
def only_writer(target: Address) -> Iterator[None]:
    """Held while `target` is written to. Raises `UsageError` at once where another run of this user holds it."""
    path = _folder() / f"{_name(target)}.lock"
    handle = _locked(path)
    if handle is None:
        raise UsageError(
            f"{target}: another run of exitramp is writing there; this one has written nothing",
            hint="let it end, then run this again",
        )
    try:
        yield
    finally:
        # While it is still locked: whoever opened it before finds out that it is gone.
        path.unlink(missing_ok=True)
        os.close(handle)


def _locked(path: Path) -> int | None:
    """A descriptor that holds the lock, and is of the file that has this name; None where another one has it."""
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise path_error(path, error, "used", hint="name another folder for such files in TMPDIR") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        try:
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except FileNotFoundError:
            pass
        os.close(handle)  # whoever had it has removed it in between


def _folder() -> Path:
    """The folder of this user's locks. Raises `PathUnusable` for one that somebody else may have put there."""
    folder = Path(tempfile.gettempdir()) / f"exitramp-{os.geteuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise path_error(folder, error, "used", hint="name another folder for such files in TMPDIR") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PathUnusable(f"{folder}: is not this user's own folder", hint="remove it, or name another in TMPDIR")
    return folder


def _name(target: Address) -> str:
    """The same for every way to write a local place; nothing in it tells what the place is."""
    plain = {name: value for name, value in target.options.items() if name not in _NOT_PLACES}
    scheme, location, *more = replace(target, options=plain).place
    if target.host is None:
        location = os.path.realpath(target.path)
    text = json.dumps([scheme, location, *more])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
