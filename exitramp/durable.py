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

from exitramp.errors import PathUnusable, StoreError, StoreRejected

TEMPORARY_SUFFIX = ".tmp"
READ, WRITTEN, USED = "read", "written", "used"

_UNUSABLE = {
    errno.EACCES: "allow yourself to {do} it, or run this as somebody who may",
    errno.EPERM: "allow yourself to {do} it, or run this as somebody who may",
    errno.EROFS: "that disk is read only: name a place on another one",
    errno.ENOENT: "name a path that is there, or make its folder first",
    errno.ENOTDIR: "a file is where a folder is wanted: name another place",
    errno.EEXIST: "a file is where a folder is wanted: name another place",
    errno.EISDIR: "a folder is where a file is wanted: name another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "its symbolic links lead in a circle: name the place itself",
}


def path_error(path: Path, error: OSError, what: str, *, hint: str | None = None) -> PathUnusable | StoreError:
    """What the operating system's refusal means: `path` cannot be `what` (READ, WRITTEN) as it stands, or a disk fails.

    `hint` is a better next step than the usual one, for a path that will not do.
    """
    if error.errno in _UNUSABLE:
        reason = os.strerror(error.errno)  # libraries put the path into their own words
        usual = _UNUSABLE[error.errno].format(do={READ: "read", WRITTEN: "write"}.get(what, "use"))
        return PathUnusable(f"{path}: cannot be {what}: {reason}", hint=hint or usual)
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    return StoreRejected(
        f"{path}: {error.strerror or type(error).__name__}",
        hint="make room on that disk and run the same command again" if full else "is that disk sound?",
    )


@contextmanager
def storage_errors(path: Path, what: str = WRITTEN, *, hint: str | None = None) -> Iterator[None]:
    """What the operating system refuses about `path`, as `path_error` says it."""
    try:
        yield
    except OSError as error:
        raise path_error(path, error, what, hint=hint) from error


def sync_folder(folder: Path) -> None:
    """Return when the names in `folder` (created, renamed, removed) are on the disk. Raises as `path_error` says."""
    with storage_errors(folder):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents where they are missing, each durably. Raises as `path_error` says."""
    missing = []
    with storage_errors(folder):
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
    for path in reversed(missing):
        with storage_errors(path):
            path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def write_atomically(path: Path, content: bytes) -> None:
    """Put `content` at `path`, wholly or not at all, and return when it is on the disk. Raises as `path_error` says."""
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    with storage_errors(path):
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    sync_folder(path.parent)
