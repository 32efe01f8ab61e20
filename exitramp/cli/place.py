"""Where an interrupted move keeps its place: a file that is named after the two addresses and holds no secret."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from exitramp.cli.selection import selection_of
from exitramp.errors import UsageError
from exitramp.transfer.checkpoint import FileCheckpoint
from exitramp.urls import Address
from exitramp.wrappers import Endpoint

FOLDER = Path(".exitramp")


def place_of(one: Endpoint, other: Endpoint, state: Path | None) -> FileCheckpoint | None:
    """The checkpoint of this move; None for a dump, which keeps its own.

    Raises `UsageError` for a file that cannot be written, before anything else is, and for one of another move.
    """
    if other.address.scheme == "dump":
        return None
    identity = {**selection_of(one), "target": str(other.address)}
    if _masked(one.address) or _masked(other.address):
        before = FOLDER / _name(identity)
        identity |= {"places": _places(one.address, other.address)}
        if state is None and before.exists():
            raise UsageError(
                f"{before} keeps the place of a move between addresses that look like these, but whose it was cannot "
                "be told: an older version wrote it",
                hint="remove it and begin anew, or give another file with --state",
            )
    path = state or FOLDER / _name(identity)
    require_room(path, "--state", make_folder=True)
    return FileCheckpoint(path, identity)


def require_room(path: Path, option: str, *, make_folder: bool = False) -> None:
    """Raises `UsageError` where no file can be made at `path`. Leaves nothing behind but its folder, if it may."""
    probe = path.with_name(f".{path.name[:100]}.{os.getpid()}")
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written ({error.strerror})", hint=f"give another file with {option}"
        ) from error


def _name(identity: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode("utf-8")).hexdigest()
    return f"transfer-{digest[:16]}.jsonl"


def _masked(address: Address) -> bool:
    return str(address) != address.text


def _places(*addresses: Address) -> str:
    """What tells apart two addresses that look alike once they are masked.

    A plain hash is enough: what goes into it are places and users' names, and no secret's value, so nothing that
    somebody could find by trying is worth finding.
    """
    text = json.dumps([address.place for address in addresses])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
