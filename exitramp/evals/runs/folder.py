"""A run on disk: what was asked of whom, every answer's measurements, and how far it came.

    RUN/
      manifest.json    the set, the subject, the rulers and the margins, fixed before the first question; later, totals
      cases.jsonl      append-only: `asking` before a question, `result` after it, `lost` for one that a start which
                       was killed left open; sequence and CRC on every line
      traces.jsonl     one line per attempt, as the cost commands read them

No answer's text is in it unless it was asked for. A run that was killed is gone on with by the same command: what has a
result is not asked again. What was being asked when the process died is, and is then named as possibly billed twice,
unless its answer had been recorded elsewhere (`given_again` in its result) and nobody was asked.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from exitramp.durable import READ, make_folder, storage_errors, write_atomically
from exitramp.errors import ConfigError, DumpCorrupt, FormatUnknown, UsageError
from exitramp.evals.measuring import canonical
from exitramp.evals.runs.bills import Bills
from exitramp.journal import Entry, Journal, read_journal
from exitramp.secrets import redacted

FORMAT: Final = "exitramp-eval-run"
VERSION: Final = 1
MANIFEST: Final = "manifest.json"
CASES: Final = "cases.jsonl"
TRACES: Final = "traces.jsonl"
COMPLETE, RUNNING, STOPPED = "complete", "running", "stopped"

Place = tuple[str, int]
"""A case's id and the number of the repeat, from 1."""


def renamed(metric: str) -> str:
    """A metric's name of today: runs that were made before it was called `mrr` have another one."""
    return {"reciprocal_rank": "mrr"}.get(metric, metric)


@dataclass(frozen=True, slots=True)
class Result:
    """One asked question as the run keeps it; see `to_json` for the fields."""

    case_id: str
    repeat: int
    data: Mapping[str, Any] = field(hash=False, repr=False)

    @property
    def outcome(self) -> str | None:
        found: str | None = self.data.get("outcome")
        return found

    @property
    def values(self) -> Mapping[str, float]:
        return {renamed(name): value for name, value in (self.data.get("values") or {}).items()}

    @property
    def unscored_for(self) -> tuple[str, ...]:
        """Why checks of an answer could not be decided: `too_slow`, or a judging model's error class."""
        if self.outcome != "unscored":
            return ()
        return tuple(each.get("error_class") or "unknown" for each in self.data["checks"] if each["held"] is None)

    @property
    def error_class(self) -> str | None:
        found: str | None = self.data.get("error_class")
        return found


@dataclass(frozen=True, slots=True)
class Run:
    """A run as read back. `results`: the newest of each case and repeat. `lost`: asked again, since what came of asking
    before was never kept."""

    folder: Path
    manifest: Mapping[str, Any] = field(hash=False)
    results: Mapping[Place, Result] = field(hash=False)
    lost: tuple[Place, ...] = ()

    @property
    def plan(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.manifest["plan"]
        return found

    @property
    def is_complete(self) -> bool:
        return len(self.results) == int(self.plan["set"]["cases"]) * int(self.plan["repeats"])


class RunFolder:
    """A run open for writing by one process."""

    def __init__(self, folder: Path, plan: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Begin a run, or go on with one of the same plan.

        `about` is told but not held against a later start (versions, command, time). Raises `UsageError` naming what
        differs where the folder holds a run of another plan, or something else.
        """
        make_folder(folder)
        self.folder = folder
        self.plan = redacted(dict(plan))
        self._journal = Journal(folder / CASES)
        try:
            self._manifest = self._begun(about)
        except BaseException:
            self._journal.close()
            raise
        self.results: dict[Place, Result] = {}
        self._sent = _Sent()
        self.bills = Bills()
        for entry in self._journal.entries:
            self.bills.take(entry.kind, _place(entry), entry.data)
            self._sent.take(entry.kind, _place(entry), entry.data)
            if entry.kind == "result":
                self.results[_place(entry)] = Result(*_place(entry), entry.data)

    @property
    def run_id(self) -> str:
        return str(self._manifest["run_id"])

    @property
    def is_resumed(self) -> bool:
        return bool(self._journal.entries)

    @property
    def lost(self) -> tuple[Place, ...]:
        """As `Run.lost`, up to now."""
        return self._sent.lost

    @property
    def traces(self) -> Path:
        return self.folder / TRACES

    def asking(self, place: Place) -> None:
        """Durable before the question leaves, so that a crash cannot hide that it may have been billed."""
        entry = {"case_id": place[0], "repeat": place[1]}
        self._journal.append("asking", entry)
        self._sent.take("asking", place, entry)
        self.bills.take("asking", place, entry)

    def record(self, place: Place, data: Mapping[str, Any]) -> None:
        entry = {"case_id": place[0], "repeat": place[1], **data}
        self._journal.append("result", entry)
        self._sent.take("result", place, entry)
        self.bills.take("result", place, entry)
        self.results[place] = Result(place[0], place[1], entry)

    def settle(self, place: Place, usd: Decimal | None, held: Decimal, *, records: int, is_answered: bool) -> None:
        """Write down what an open question cost, what is held for it, and whether it had its answer."""
        entry: dict[str, Any] = {"case_id": place[0], "repeat": place[1], "records": records, "answered": is_answered}
        entry |= {"usd": None if usd is None else format(usd, "f"), "usd_held": format(held, "f")}
        self._journal.append("lost", entry)
        self.bills.take("lost", place, entry)

    def end(self, state: str, totals: Mapping[str, Any]) -> None:
        """Write what came of it into the manifest."""
        self._manifest |= {"state": state, "totals": dict(totals)}
        self._write()

    def close(self) -> None:
        self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begun(self, about: Mapping[str, Any]) -> dict[str, Any]:
        path = self.folder / MANIFEST
        digest = hashlib.sha256(canonical(self.plan).encode()).hexdigest()
        if path.exists():
            manifest = dict(read_manifest(self.folder))
            differing = ", ".join(_differences(_of_today(manifest["plan"]), _of_today(self.plan)))
            if differing:
                raise UsageError(
                    f"{self.folder}: holds a run of another plan (what differs: {differing})",
                    hint="name another folder with --out, or give the same options again to go on with that run",
                )
            manifest["starts"] = [*manifest["starts"], dict(about)]
        else:
            if self._journal.entries:
                raise UsageError(f"{self.folder}: holds results without a manifest", hint="name another folder")
            manifest = {
                "format": FORMAT,
                "version": VERSION,
                "run_id": secrets.token_hex(8),
                "plan": self.plan,
                "plan_sha256": digest,
                "starts": [dict(about)],
            }
        manifest["state"] = RUNNING
        self._manifest = manifest
        self._write()
        return manifest

    def _write(self) -> None:
        text = json.dumps(redacted(self._manifest), ensure_ascii=False, indent=2)
        write_atomically(self.folder / MANIFEST, f"{text}\n".encode())


def read_manifest(folder: Path) -> Mapping[str, Any]:
    """Raises `ConfigError` where there is none, `FormatUnknown` or `DumpCorrupt` where it is something else."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ConfigError("there is no run in this folder", file=str(folder), hint="`exitramp eval run` makes one")
    with storage_errors(path, READ):
        raw = path.read_bytes()
    try:
        data = json.loads(raw)
        is_known = data["format"] == FORMAT and data["version"] == VERSION
    except (ValueError, KeyError, TypeError) as error:
        raise DumpCorrupt(f"{path}: not the manifest of a run") from error
    if not is_known:
        raise FormatUnknown(f"{path}: format {data['format']!r}, version {data['version']!r} is not known here")
    try:
        digest = hashlib.sha256(canonical(data["plan"]).encode()).hexdigest()
        if digest != data["plan_sha256"] or not isinstance(data["starts"], list):
            raise ValueError("changed")
        found: Mapping[str, Any] = data
        return found
    except (ValueError, KeyError, TypeError) as error:
        raise DumpCorrupt(
            f"{path}: its plan is not the one that was fixed when the run began", hint="make the run again"
        ) from error


def read_run(folder: Path) -> Run:
    """Raises `ConfigError`, `DumpCorrupt` or `JournalCorrupt` for what is no whole run's folder."""
    manifest = read_manifest(folder)
    path = folder / CASES
    entries = list(read_journal(path)) if path.exists() else []
    sent = _Sent()
    results: dict[Place, Result] = {}
    for entry in entries:
        sent.take(entry.kind, _place(entry), entry.data)
        if entry.kind == "result":
            results[_place(entry)] = Result(*_place(entry), entry.data)
    return Run(folder, manifest, results, sent.lost)


class _Sent:
    """How often each question left, and how often what came of it was kept."""

    def __init__(self) -> None:
        self._left: Counter[Place] = Counter()
        self._kept: Counter[Place] = Counter()

    def take(self, kind: str, place: Place, data: Mapping[str, Any]) -> None:
        if kind == "asking":
            self._left[place] += 1
        elif kind == "result" and data.get("given_again"):
            self._left[place] -= 1  # it was about to leave, and its answer was there
        elif kind == "result":
            self._kept[place] += 1

    @property
    def lost(self) -> tuple[Place, ...]:
        return tuple(sorted(place for place, times in self._left.items() if times > max(1, self._kept[place])))


def _place(entry: Entry) -> Place:
    return str(entry.data["case_id"]), int(entry.data["repeat"])


def _of_today(plan: Mapping[str, Any]) -> Mapping[str, Any]:
    margins = {renamed(name): share for name, share in (plan.get("margins") or {}).items()}
    return {**plan, "margins": margins}


def _differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in sorted({*one, *other}):
            yield from _differences(one.get(key), other.get(key), f"{path}.{key}" if path else str(key))
    elif one != other:
        yield path
