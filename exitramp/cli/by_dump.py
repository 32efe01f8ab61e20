"""A copy under a limit of reading: by way of a dump beside its place, so that nothing is read, or paid for, twice.

A copy measures its source before it writes, and what a limit keeps back is only measured in the next run: a copy alone
could only begin to measure again and again. A dump goes on where a limit ended it, and costs nothing to measure.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exitramp.cli import output
from exitramp.cli.options import LIMITS
from exitramp.cli.selection import selection_of
from exitramp.codec import arrangement
from exitramp.dump.layout import MANIFEST
from exitramp.dump.taking_up import require_selection
from exitramp.records import Verdict
from exitramp.transfer.checkpoint import FileCheckpoint
from exitramp.urls import path_address
from exitramp.wording import counted
from exitramp.wrappers import Endpoint, open_endpoint

if TYPE_CHECKING:
    from exitramp.cli.moving import Moved


def dump_between(one: Endpoint, place: FileCheckpoint | None) -> Path | None:
    """The folder of the dump by whose way a copy goes; None for one that goes straight.

    A dump that a run with a limit began is gone on with by one without, and a straight copy that is under way stays so.
    """
    if place is None or one.estimates() is None:
        return None
    folder = place.path.with_suffix(".dump")
    limited = any(name in one.address.options for name in LIMITS)
    return folder if folder.exists() or (limited and place.progress().is_fresh) else None


def move_by_dump(
    one: Endpoint,
    other: Endpoint,
    folder: Path,
    move: Callable[..., Moved],
    *,
    into_existing: bool,
    **how: Any,
) -> Moved:
    """Dump what is left of `one` to `folder`, restore that into `other`, and remove the folder unless it failed.

    Raises `SpendExceeded` with everything that was read in the folder.
    """
    output.note(
        f"reading {one.address} costs, and a limit was given: it is read once, into the dump {folder}, which is put "
        "into the target when it is whole"
    )
    address = path_address("dump", folder)
    if (folder / MANIFEST).is_file():
        require_selection(folder, selection_of(one))
    else:
        with open_endpoint(address) as between:
            _as_dumped(between, one)
            move(one, between)
    with open_endpoint(address) as between:
        _as_dumped(between, one)
        done = move(between, other, into_existing=into_existing, state=folder.with_suffix(".restore.jsonl"), **how)
    if done.verdict is not Verdict.FAIL:
        shutil.rmtree(folder)
    spent = one.spent()
    told = {**done.told, "source": str(one.address)} | ({} if spent is None else {"spent": spent.to_json()})

    def say() -> None:
        done.say()
        if spent is not None and spent.requests:
            output.say(f"  reading took {counted(spent.requests, 'request')}, {spent.read_units:,} units in this run")
        if done.verdict is Verdict.FAIL:
            output.say(f"  the dump {folder} is kept: with it the same command reads nothing of the source")

    return replace(done, told=told, say=say)


def _as_dumped(between: Endpoint, one: Endpoint) -> None:
    if one.arrangement is not None:
        between.arrangement = arrangement(one.arrangement.framework, "dump")
