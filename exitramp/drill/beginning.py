"""`drill init`: look at a user's own stack without touching it, and write a drill for it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from exitramp.drill.begun_files import Look, blocked, drill_text, prices_text, readme_text
from exitramp.drill.inputs import DRILL_FILE
from exitramp.drill.steps.leaving import consent_line
from exitramp.errors import AddressError, CollectionMissing, ConfigError, UsageError
from exitramp.migration import plan_move
from exitramp.records import DType, VectorKind, Verdict
from exitramp.registry import store_adapter
from exitramp.secrets import redact
from exitramp.transfer.plan import Plan
from exitramp.urls import Address, path_address, same_place
from exitramp.wording import counted
from exitramp.wrappers import Endpoint, OpenSettings, open_endpoint

README_FILE = "README.md"
PRICES_FILE = "prices.yaml"


@dataclass(frozen=True, slots=True)
class Beginning:
    """What `drill init` found and wrote."""

    primary: Look
    substitute: Look
    plan: Plan
    drill_file: Path
    readme: Path
    prices: Path
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": Verdict.INCONCLUSIVE.value if self.notes else Verdict.PASS.value,
            "primary": self.primary.to_json(),
            "substitute": self.substitute.to_json(),
            "rows": self.plan.rows,
            "digests": None,
            "plan": [line.to_json() for line in self.plan.lines],
            "estimates": dict(self.plan.estimates),
            "findings": [finding.to_json() for finding in self.plan.findings],
            "notes": list(self.notes),
            "drill_file": str(self.drill_file),
            "readme": str(self.readme),
            "prices": str(self.prices),
        }


def begin_drill(
    primary: str,
    substitute: str,
    folder: Path,
    settings: OpenSettings,
    *,
    progress: Callable[[int], None] = lambda rows: None,
) -> Beginning:
    """Read both sides, plan the way between them, and write `drill.yaml`, `README.md` and `prices.yaml` into `folder`.

    Nothing but those files is written, and none where anything is wrong. Raises `ConfigError` where the folder
    already holds a drill, `UsageError` for sides that no drill can be made of, `CollectionMissing` for a primary that
    is not there.
    """
    file, readme, prices = _room(folder)
    # The drill file may be run from any folder, so paths in it are whole ones.
    one, other = _whole(Address.parse(primary)), _whole(Address.parse(substitute))
    texts = _readable_again("--primary", one), _readable_again("--substitute", other)
    for side, address in (("primary", one), ("substitute", other)):
        _require_roles(side, address)
    _require_two(one, other)
    with open_endpoint(one, settings) as source:
        if other.collection is None:
            other = other.with_collection(one.collection or _collection(one, source))
            texts = texts[0], other.text
            _require_two(one, other)
        with open_endpoint(other, settings) as target:
            looks = _look(source), _look(target)
            _require_something(one, source, looks[0])
            plan = plan_move(source, target, progress=progress)
            rehearsed = _in_run_folder(other)
            notes = tuple(_notes(*looks, plan, rehearsed))
    copied_to = texts[1] if rehearsed is None else rehearsed.text
    _write_all(
        {
            readme: readme_text(looks, plan, notes),
            prices: prices_text(one, other, settings.clock.now().date()),
            file: drill_text(texts[0], copied_to, plan),
        }
    )
    return Beginning(*looks, plan, file, readme, prices, notes)


def _room(folder: Path) -> tuple[Path, Path, Path]:
    """The files to be. Raises before anything is read where they could not be written."""
    files_to_be = folder / DRILL_FILE, folder / README_FILE, folder / PRICES_FILE
    for path in files_to_be:
        if path.exists() or path.is_symlink():
            raise ConfigError(f"{path} exists already", hint="give another folder with --out")
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"{folder}: nothing can be written in {there}", hint="give another folder with --out")
    return files_to_be


def _write_all(texts: Mapping[Path, str]) -> None:
    """All files or none, and no folder that was not there."""
    folder = next(iter(texts)).parent
    made = []
    try:
        for each in reversed((folder, *folder.parents)):
            if not each.exists():
                each.mkdir()
                made.append(each)
        for path, text in texts.items():
            with path.open("x", encoding="utf-8") as opened:
                made.append(path)
                opened.write(text)
    except OSError as error:
        for each in reversed(made):
            with contextlib.suppress(OSError):
                each.rmdir() if each.is_dir() else each.unlink()
        raise UsageError(
            f"{error.filename or folder}: {error.strerror}; no drill was written", hint="give another folder with --out"
        ) from error


def _readable_again(option: str, address: Address) -> str:
    """The address for the drill file. A user's name may stand there, as it stands in the command; a secret may not."""
    text = address.text
    user = urlsplit(address.location).username if address.host is not None else None
    bare = text.replace(f"//{user}@", "//", 1) if user else text
    if redact(bare) != bare or (user and redact(user) != user):
        raise AddressError(
            f"{option} {address} holds a secret, and the drill file would too",
            hint="give it by reference, e.g. ?api_key=env:NAME",
        )
    return text


def _require_roles(side: str, address: Address) -> None:
    roles = store_adapter(address.scheme).roles
    wanted = ("source", "search") if side == "primary" else ("source", "sink", "search")
    missing = [role for role in wanted if role not in roles]
    if missing:
        what = "a dump cannot be asked for neighbours" if address.scheme == "dump" else f"it has no {missing[0]}"
        raise UsageError(
            f"{address} cannot be the {side} of a drill: {what}",
            hint="a drill makes its own dump; name the store that the application would ask",
        )


def _require_two(one: Address, other: Address) -> None:
    if same_place(one, other):
        raise UsageError(
            f"primary and substitute are one and the same collection, {one}",
            hint="name the store, or the collection, that you would leave to",
        )


def _collection(address: Address, endpoint: Endpoint) -> str:
    try:
        return endpoint.source().describe().name
    except CollectionMissing as error:
        raise CollectionMissing(f"{address} holds no collection") from error


def _require_something(address: Address, endpoint: Endpoint, look: Look) -> None:
    if look.records is None:
        raise CollectionMissing(f"{address} holds no collection", hint="name the one that your application uses")
    if look.records == 0:
        raise UsageError(f"{address} holds no records", hint="name the collection that your application uses")
    fields = endpoint.source().describe().vectors
    if not any(field.kind is VectorKind.DENSE and field.dtype is not DType.BINARY for field in fields):
        raise UsageError(f"{address} has no dense vectors of numbers, and a drill asks by them")


def _look(endpoint: Endpoint) -> Look:
    source = endpoint.source()
    records: int | None
    try:
        identity = source.identity()
        records = source.count()
    except CollectionMissing:
        # An embedded store that is not there yet has nobody to ask; its address says all that is known.
        return Look(
            str(endpoint.address),
            endpoint.address.scheme,
            "unknown",
            "unknown",
            None,
            None,
            endpoint.address.is_loopback,
        )
    return Look(
        str(endpoint.address),
        identity.adapter,
        identity.server_version,
        identity.evidence,
        identity.can_write,
        records,
        endpoint.address.is_loopback,
    )


def _in_run_folder(substitute: Address) -> Address | None:
    """Where a drill makes a substitute of local files: in each run's own folder, so that it can be run again."""
    if substitute.host is not None or substitute.scheme == "memory":
        return None
    return replace(substitute, location="{folder}/substitute" + substitute.path.suffix)


def _notes(primary: Look, substitute: Look, plan: Plan, rehearsed: Address | None) -> list[str]:
    notes = []
    if primary.records is not None and primary.records != plan.rows:
        notes.append(
            f"the primary counts {counted(primary.records, 'record')}, and a complete read gave {plan.rows:,}: "
            "it is being written to, or its count is no count"
        )
    if not any(line.subject == "document" and line.rows for line in plan.lines):
        notes.append(
            "the primary keeps no documents: what retrieval finds can be compared, but a chat model would have "
            "nothing to answer from, and nothing could be embedded anew"
        )
    if rehearsed is not None:
        notes.append(
            f"the substitute is made anew in the folder of each run ({rehearsed}); {substitute.address} is not touched"
        )
    elif substitute.records:
        notes.append(
            f"the substitute already holds {counted(substitute.records, 'record')}, and a drill fills an empty "
            "collection: name another one in the drill file, or delete this one, before each run"
        )
    for side, look in (("primary", primary), ("substitute", substitute)):
        if not look.is_loopback:
            what = "written to" if side == "substitute" else "cut off for real"
            notes.append(
                f"the {side} is not on this machine: it is never {what} without --allow-writes and its address"
            )
    notes += [f"{line.subject} would lose something ({line.how})" for line in plan.lossy()]
    if plan.lossy():
        notes.append(
            f"the drill stops at 'restore' until its file agrees to that: take the # from the line {consent_line(plan)}"
        )
    if blocked(plan):
        notes.append(f"the drill stops at 'restore', and no consent mends it: {blocked(plan)}")
    return notes


def _whole(address: Address) -> Address:
    if address.host is not None or address.scheme == "memory":
        return address
    return replace(address, location=path_address("x", address.path.resolve()).partition(":")[2])
