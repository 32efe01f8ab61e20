"""Where there is no manifest: what is there instead, and what to do about it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from exitramp.dump.layout import JOURNAL, MANIFEST, MANIFEST_HASH, SHARDS, regular_file, shown
from exitramp.dump.progress import read_progress
from exitramp.durable import READ, storage_errors
from exitramp.errors import IntegrityError, StoreRejected
from exitramp.journal import read_journal
from exitramp.wording import counted

_TRACES: Final = (MANIFEST_HASH, JOURNAL, SHARDS)
_MOST_NEIGHBOURS: Final = 1000


@dataclass(frozen=True, slots=True)
class Absence:
    """Why a folder holds no finished dump. `is_damage`: a dump was begun there, or a part of one is missing."""

    reason: str
    hint: str | None
    is_damage: bool


def absence(folder: Path) -> Absence | None:
    """What keeps `folder` from being a finished dump; None where a manifest is. Nothing is written or locked.

    Raises `PathUnusable` where nothing can be said, since this user may not look.
    """
    where = shown(str(folder))
    if not is_there(folder):
        plain = str(folder).removeprefix("dump:")
        hint = f"name the folder by itself: {plain}" if plain != str(folder) else "name the folder that a dump is in"
        return Absence(f"there is no folder {where}", hint, is_damage=False)
    if not folder.is_dir():
        inside_one = os.path.lexists(folder.parent / MANIFEST)
        hint = f"name the folder: {shown(str(folder.parent))}" if inside_one else "name the folder that a dump is in"
        return Absence(f"{where} is no folder", hint, is_damage=False)
    if is_there(folder / MANIFEST):
        return None
    with storage_errors(folder, READ):
        names = sorted(islice((entry.name for entry in os.scandir(folder)), _MOST_NEIGHBOURS))
    if os.path.lexists(folder / JOURNAL):
        return _unfinished(folder, where)
    missing = f"there is no {MANIFEST}"
    if any(os.path.lexists(folder / name) for name in _TRACES):
        hint = f"bring {MANIFEST} back from where the dump was copied from, or dump again into another folder"
        return Absence(f"{where} holds no dump: {missing}, only parts of one", hint, is_damage=True)
    inside = next((name for name in names if os.path.lexists(folder / name / MANIFEST)), None)
    hint = f"there is one in {shown(str(folder / inside))}" if inside else "name the folder that a dump is in"
    return Absence(f"{where} holds no dump: {missing}", hint, is_damage=False)


def is_there(path: Path) -> bool:
    """Whether there is something by that name, be it a link to nothing; not to know is no answer."""
    with storage_errors(path, READ):
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
    return True


def _unfinished(folder: Path, where: str) -> Absence:
    try:
        progress = read_progress(read_journal(regular_file(folder, JOURNAL)), folder / JOURNAL)
    except (IntegrityError, StoreRejected) as error:
        what = error.message.removeprefix(f"{folder}/")
        hint = f"remove {where} and dump again"
        return Absence(f"{where} holds an unfinished dump that cannot be taken up: {what}", hint, is_damage=True)
    shards = () if progress is None else (*progress.standing, *progress.uncovered)
    rows = sum(record.file.rows or 0 for record in shards)
    stand = f"{counted(rows, 'record stands', 'records stand')} in {counted(len(shards), 'shard')}"
    return Absence(
        f"{where} holds an unfinished dump: {stand}, and {MANIFEST}, which comes last, was never written",
        "if no process is writing to it now, run the same dump command again: it goes on where it ended",
        is_damage=True,
    )
