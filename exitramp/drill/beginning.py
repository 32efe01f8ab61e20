"""`drill init`: look at a user's own stack without touching it, and write a drill for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from exitramp.drill.inputs import DRILLS
from exitramp.errors import CollectionMissing, ConfigError
from exitramp.migration import plan_move
from exitramp.records import Verdict
from exitramp.transfer.plan import Fidelity, Plan
from exitramp.urls import Address, path_address
from exitramp.wrappers import Endpoint, OpenSettings, open_endpoint

DRILL_FILE = "drill.yaml"
README_FILE = "README.md"
OUTAGE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of one side. `records` is None where there is no collection yet."""

    address: str
    adapter: str
    server_version: str
    evidence: str
    can_write: bool | None
    records: int | None
    is_loopback: bool

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Beginning:
    """What `drill init` found and wrote."""

    primary: Look
    substitute: Look
    plan: Plan
    drill_file: Path
    readme: Path
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
        }


def begin_drill(
    primary: str,
    substitute: str,
    folder: Path,
    settings: OpenSettings,
    *,
    progress: Callable[[int], None] = lambda rows: None,
) -> Beginning:
    """Read both sides, plan the way between them, and write `drill.yaml` and `README.md` into `folder`.

    Nothing but those two files is written. Raises `ConfigError` where the folder already holds a drill.
    """
    file, readme = folder / DRILL_FILE, folder / README_FILE
    for path in (file, readme):
        if path.exists():
            raise ConfigError(f"{path} exists already", hint="give another folder with --out")
    one, other = Address.parse(primary), Address.parse(substitute)
    one.require_collection()
    if other.collection is None:
        other = other.with_collection(one.collection)
    # The drill file may be run from any folder, so paths in it are whole ones.
    one, other = _whole(one), _whole(other)
    with open_endpoint(one, settings) as source, open_endpoint(other, settings) as target:
        looks = _look(source), _look(target)
        if looks[0].records is None:
            raise CollectionMissing(f"{one} holds no collection")
        plan = plan_move(source, target, progress=progress)
    notes = tuple(_notes(*looks, plan))
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(_drill_text(str(one), str(other), plan), encoding="utf-8")
    readme.write_text(_readme_text(looks, plan, notes), encoding="utf-8")
    return Beginning(*looks, plan, file, readme, notes)


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


def _notes(primary: Look, substitute: Look, plan: Plan) -> list[str]:
    notes = []
    if substitute.records:
        notes.append(f"the substitute already holds {substitute.records} records; a drill needs an empty collection")
    for side, look in (("primary", primary), ("substitute", substitute)):
        if not look.is_loopback:
            what = "written to" if side == "substitute" else "cut off for real"
            notes.append(
                f"the {side} is not on this machine: it is never {what} without --allow-writes '{look.address}'"
            )
    for line in plan.lossy():
        notes.append(
            f"{line.subject} would lose something ({line.how}); accept it in the drill file or change the target"
        )
    return notes


def _drill_text(primary: str, substitute: str, plan: Plan) -> str:
    lossy = "".join(f"\n      # {json.dumps([line.subject])}   {line.how}" for line in plan.lossy())
    return _filled(
        "drill.yaml.txt",
        from_scheme=primary.partition(":")[0],
        to_scheme=substitute.partition(":")[0],
        primary=_quoted(primary),
        substitute=_quoted(substitute),
        lossy_lines=lossy,
    )


def _readme_text(looks: tuple[Look, Look], plan: Plan, notes: tuple[str, ...]) -> str:
    estimates = plan.estimates
    read_seconds = float(estimates["read_seconds"] or 0.0)
    sides = "\n".join(
        f"| {name} | `{look.address}` | {'none yet' if look.records is None else f'{look.records:,}'} "
        f"| {_can_write(look.can_write)} | {look.server_version} |"
        for name, look in zip(("primary", "substitute"), looks, strict=True)
    )
    return _filled(
        "README.md.txt",
        sides=sides,
        notes="\n".join(f"- {note}" for note in notes) or "- nothing stands in the way",
        rows=f"{plan.rows:,}",
        megabytes=f"{float(estimates['bytes'] or 0) / 1e6:,.1f}",
        reads=estimates["read_requests"],
        writes=estimates["write_requests"],
        read_seconds=f"{read_seconds:.1f}",
        minutes=f"{(3 * read_seconds + OUTAGE_SECONDS) / 60:.0f}",
        plan="\n".join(f"| {fidelity} | {subject} | {how} |" for fidelity, subject, how in _plan_rows(plan)),
    )


def _plan_rows(plan: Plan) -> list[tuple[str, str, str]]:
    """The plan's lines, the payload keys that are kept as they are in one."""
    kept = [line for line in plan.lines if line.subject.startswith("payload.") and line.fidelity is Fidelity.EXACT]
    rows = [(line.fidelity.value, _cell(line.subject), line.how) for line in plan.lines if line not in kept]
    return [*rows, ("exact", f"payload: {len(kept)} keys", "kept as they are")] if kept else rows


def _cell(text: str) -> str:
    """A key of somebody's payload as a table's cell: on one line, not too long, and no table of its own."""
    plain = " ".join(text.split()).replace("|", "\\|")
    return "`" + (plain if len(plain) <= 60 else plain[:59] + "…").replace("`", "'") + "`"


def _whole(address: Address) -> Address:
    if address.host is not None or address.scheme == "memory":
        return address
    return replace(address, location=path_address("x", address.path.resolve()).partition(":")[2])


def _filled(name: str, **values: object) -> str:
    """A packaged text with its `$names` filled in."""
    text = (files(DRILLS) / "own_stack" / name).read_text(encoding="utf-8")
    return Template(text).substitute(values)


def _quoted(address: str) -> str:
    return '"' + address.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _can_write(answer: bool | None) -> str:
    return {True: "yes", False: "no", None: "the store does not tell"}[answer]
