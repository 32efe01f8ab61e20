"""Where the files of a dump are, and that none of them is anywhere else."""

from __future__ import annotations

import re
import stat
from pathlib import Path, PurePosixPath
from typing import Final

from exitramp.durable import TEMPORARY_SUFFIX
from exitramp.errors import DumpCorrupt

FORMAT: Final = "exitramp-dump"
FORMAT_VERSION: Final = 1
MANIFEST: Final = "manifest.json"
MANIFEST_HASH: Final = "manifest.json.sha256"
JOURNAL: Final = "journal.jsonl"
SHARDS: Final = "shards"

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
    if not path or path.startswith("/") or "\\" in path or "\0" in path or re.match(r"[A-Za-z]:", path):
        raise DumpCorrupt(f"{where}: {path!r} is not a relative path inside the dump")
    if ".." in parts or "/".join(parts) != path:
        raise DumpCorrupt(f"{where}: the path {path!r} leaves the dump's folder or is not in its plain form")
    return path


def regular_file(folder: Path, path: str) -> Path:
    """The file at the relative `path` in the dump `folder`.

    Raises `DumpCorrupt` naming it when it is missing, is no regular file, or when it or a folder on the way is a
    symbolic link.
    """
    check_relative(path, where=str(folder))
    place = folder
    for part in PurePosixPath(path).parts:
        place = place / part
        try:
            mode = place.lstat().st_mode
        except OSError as error:
            raise DumpCorrupt(f"{path}: missing from the dump {folder} ({error.strerror})") from error
        if stat.S_ISLNK(mode):
            raise DumpCorrupt(f"{path}: a symbolic link, which may lead out of the dump {folder}")
    if not stat.S_ISREG(mode):
        raise DumpCorrupt(f"{path}: not a regular file in the dump {folder}")
    return place


def stray_files(folder: Path, listed: set[str]) -> list[str]:
    """Relative paths, sorted, of what lies in `folder` and is neither in `listed` nor one of its folders."""
    found = []
    for place in sorted(folder.rglob("*")):
        name = place.relative_to(folder).as_posix()
        if name not in listed and not (place.is_dir() and not place.is_symlink()):
            found.append(name)
    return found
