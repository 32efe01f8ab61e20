"""Making files survive a crash: what must be synced, in which order, and what a failure of it means.

After a failed fsync nobody can say which pages reached the disk (Linux drops them and reports the error once), so
a failure is never retried: it ends the run.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exitramp.errors import StoreRejected

TEMPORARY_SUFFIX = ".tmp"


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """What the operating system refuses about `path`, as `StoreRejected` with the file's name and the reason."""
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        raise StoreRejected(
            f"{path}: {error.strerror or type(error).__name__}",
            hint="make room on that disk and run the same command again" if full else None,
        ) from error


def sync_folder(folder: Path) -> None:
    """Return when the names in `folder` (created, renamed, removed) are on the disk. Raises `StoreRejected`."""
    with storage_errors(folder):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents where they are missing, each durably. Raises `StoreRejected`."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        with storage_errors(path):
            path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def write_atomically(path: Path, content: bytes) -> None:
    """Put `content` at `path`, wholly or not at all, and return when it is on the disk. Raises `StoreRejected`."""
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    with storage_errors(temporary):
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    sync_folder(path.parent)
