"""Where the files of a dump are, and that none of them is anywhere else."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from exitramp.durable import READ, TEMPORARY_SUFFIX, path_error, storage_errors
from exitramp.errors import DumpCorrupt

FORMAT: Final = "exitramp-dump"
FORMAT_VERSION: Final = 1
MANIFEST: Final = "manifest.json"
MANIFEST_HASH: Final = "manifest.json.sha256"
JOURNAL: Final = "journal.jsonl"
SHARDS: Final = "shards"
MANIFEST_BYTES: Final = 2**30
"""More than any manifest has: 190 bytes a shard, 400 for each of at most 2000 paths."""

# Controls, separators of lines, and what turns the direction of writing.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_SHARD_NAME = re.compile(r"[0-9]{5,}-[0-9a-f]{16}\.parquet")


def shard_path(number: int, sha256: str) -> str:
    """The path of shard `number` (from 0) inside the dump, named by the hash of what it holds."""
    return f"{SHARDS}/{number:05d}-{sha256[:16]}.parquet"


def temporary_shard(folder: Path, number: int) -> Path:
    return folder / SHARDS / f"{number:05d}.parquet{TEMPORARY_SUFFIX}"


def is_shard_name(name: str) -> bool:
    """Whether a file called `name` in the shards' folder was written by exitramp."""
    return _SHARD_NAME.fullmatch(name) is not None


def manifest_hash_line(digits: str) -> bytes:
    """The whole content of `manifest.json.sha256`; `sha256sum -c` reads it."""
    return f"{digits}  {MANIFEST}\n".encode("ascii")


def check_relative(path: str, *, where: str) -> str:
    """`path` again, if it is a plain relative path that stays inside. Raises `DumpCorrupt` saying how it leaves."""
    parts = PurePosixPath(path).parts
    if not path or path.startswith("/") or "\\" in path or re.match(r"[A-Za-z]:", path):
        raise DumpCorrupt(f"{where}: {path!r} is not a relative path inside the dump")
    # A path is printed wherever its file is named, and a terminal would obey what stands in it.
    if _UNPRINTABLE.search(path):
        raise DumpCorrupt(f"{where}: the path {path!a} holds control characters")
    if ".." in parts or "/".join(parts) != path:
        raise DumpCorrupt(f"{where}: the path {path!r} leaves the dump's folder or is not in its plain form")
    return path


def regular_file(folder: Path, path: str) -> Path:
    """The file at the relative `path` in the dump `folder`.

    Raises `DumpCorrupt` naming it when it is missing, cannot be reached, is no regular file (opening a pipe would wait
    for good), or when it or a folder on the way is a symbolic link; `PathUnusable` when this user may not look, since
    it may be whole.
    """
    check_relative(path, where=str(folder))
    place = folder
    for part in PurePosixPath(path).parts:
        place = place / part
        try:
            mode = place.lstat().st_mode
        except OSError as error:
            if isinstance(error, PermissionError):
                raise path_error(place, error, READ) from error
            missing = error.errno in {errno.ENOENT, errno.ENOTDIR}
            what = "missing from" if missing else "cannot be reached in"
            raise DumpCorrupt(f"{path}: {what} the dump {folder} ({error.strerror})") from error
        if stat.S_ISLNK(mode):
            raise DumpCorrupt(f"{path}: a symbolic link, which may lead out of the dump {folder}")
    if not stat.S_ISREG(mode):
        raise DumpCorrupt(f"{path}: not a regular file in the dump {folder}")
    return place


def read_whole(folder: Path, path: str, *, maximum_bytes: int = MANIFEST_BYTES) -> bytes:
    """All of a small file of the dump. Raises like `regular_file`."""
    place = regular_file(folder, path)
    with storage_errors(place, READ):
        size = place.stat().st_size
        if size <= maximum_bytes:
            return place.read_bytes()
    raise DumpCorrupt(f"{path}: {size:,} bytes, where {maximum_bytes:,} are the most there can be")


def stray_files(folder: Path, listed: set[str]) -> Iterator[str]:
    """Relative paths, sorted folder by folder, of what lies in `folder` and is neither in `listed` nor a folder.

    Links are told of and not followed; a folder that cannot be read, and holds nothing that is listed, like a file.
    """
    unread: list[str] = []
    for where, folders, files in os.walk(folder, onerror=lambda error: unread.append(str(error.filename))):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(where, name))]
        for name in sorted([*files, *links]):
            path = Path(where, name).relative_to(folder).as_posix()
            if path not in listed:
                yield path
    for place in unread:
        name = f"{Path(place).relative_to(folder).as_posix()}/"
        if name != f"{SHARDS}/" and not any(path.startswith(name) for path in listed):
            yield name


def shown(path: str) -> str:
    """A path as it can be printed: names are bytes, and somebody may have put anything in them."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)
