"""What people decided, from a file that somebody wrote down at the table."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from exitramp.clock import iso_utc
from exitramp.drill.tabletop.spec import Inject, TabletopSpec
from exitramp.errors import ConfigError, UsageError
from exitramp.yaml_reader import Block, read_block

STATED: Final = "stated"
MEASURED: Final = "measured"
_CLOCKS_APART: Final = timedelta(minutes=5)
"""So much the clock on the wall of the room may be before the machine's."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision. Names are what somebody typed; nobody was identified.

    undecided: those at the table said that nobody could decide it. minutes: after the inject was read out, `stated` by
    a person or `measured` between the question and its answer at the prompt; None where neither is known. stated_at:
    the moment that a person stated, in ISO 8601, from which `minutes` were reckoned; None where minutes were stated.
    """

    inject: str
    question: str
    who: str
    role: str
    decided: str
    undecided: bool = False
    minutes: float | None = None
    minutes_from: str | None = None
    measured_minutes: float | None = None
    runbook: str | None = None
    evidence: str = ""
    source: str = "prompt"
    stated_at: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.inject, self.question

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Action:
    """What somebody is to do; `owner` and `due` may be left open, and are then blank in the report."""

    what: str
    owner: str = ""
    due: str = ""

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Record:
    """All that a decisions file holds. `sha256` is of the file as it was read; `began_at` is when the sitting began, by
    the word of whoever wrote the file."""

    facilitator: str
    data_collector: str
    people: tuple[tuple[str, str], ...]
    decisions: tuple[Decision, ...]
    actions: tuple[Action, ...]
    file: str
    sha256: str
    began_at: datetime | None = None

    @property
    def latest(self) -> datetime | None:
        """The latest moment that the file states; None where it states none."""
        stated = [datetime.fromisoformat(each.stated_at) for each in self.decisions if each.stated_at]
        return max([*stated, *([self.began_at] if self.began_at else [])], default=None)


def read_decisions(path: Path, spec: TabletopSpec) -> Record:
    """Raises `UsageError` for a file that cannot be read, and `ConfigError` with its line for one that does not fit
    the drill: another drill's, an inject, question, role or runbook step that it does not have, or a time before its
    inject."""
    try:
        return _read(path, spec)
    except ConfigError as error:
        shown = f"'exitramp drill show {spec.name}' lists the drill's injects, questions, roles and runbook steps"
        error.hint = error.hint or f"mend that line; {shown}"
        raise


def _read(path: Path, spec: TabletopSpec) -> Record:
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: cannot be read: it is no text in UTF-8") from error
    top = read_block(text, str(path))
    top.expect("version", "drill", "facilitator", "data_collector", "began_at", "people", "decisions", "actions")
    if top.integer("version", 1) != 1:
        raise top.error("decisions files of this version are not known to this program", "version")
    if top.text("drill") != spec.name:
        raise top.error(f"these are decisions of the drill '{top.text('drill')}', and not of '{spec.name}'", "drill")
    began = _moment(top, "began_at")
    decisions: list[Decision] = []
    for block in top.blocks("decisions", ()):
        one = _decision(block, spec, began)
        if any(each.key == one.key for each in decisions):
            raise block.error(f"'{one.inject}', '{one.question}' is decided twice", "question")
        decisions.append(one)
    found = Record(
        top.text("facilitator", ""),
        top.text("data_collector", ""),
        tuple(_person(block, spec) for block in top.blocks("people", ())),
        tuple(decisions),
        tuple(_action(block) for block in top.blocks("actions", ())),
        path.name,
        hashlib.sha256(raw).hexdigest(),
        began,
    )
    top.finish()
    return found


def refuse_later_than(given: Record | None, now: datetime) -> None:
    """Raises `UsageError`: what was decided was decided before it was written down."""
    if given is not None and given.latest is not None and given.latest > now + _CLOCKS_APART:
        raise UsageError(
            f"{given.file}: it states {iso_utc(given.latest)}, and by this machine's clock it is"
            f" {iso_utc(now)}: nobody has decided anything then",
            hint="mend 'began_at' or 'at' in the file, or this machine's clock",
        )


def parse_due(text: str) -> str | None:
    """The date as ISO 8601 has it; None for what is no date."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        return None


def _person(block: Block, spec: TabletopSpec) -> tuple[str, str]:
    found = (block.text("name"), block.choice("role", tuple(spec.roles)))
    block.finish()
    return found


def _decision(block: Block, spec: TabletopSpec, began: datetime | None) -> Decision:
    block.expect(
        "inject", "question", "who", "role", "decided", "undecided", "after_minutes", "at", "runbook", "evidence"
    )
    inject = block.choice("inject", tuple(each.name for each in spec.injects))
    meant = next(each for each in spec.injects if each.name == inject)
    question = block.choice("question", tuple(each.name for each in meant.questions))
    undecided = block.flag("undecided", False)
    if undecided and block.has("decided"):
        raise block.error("it is either 'decided' or 'undecided'", "undecided")
    minutes = _minutes(block, meant, began)
    at = _moment(block, "at") if block.has("at") else None
    found = Decision(
        inject,
        question,
        block.text("who", "") if undecided else _filled(block, "who"),
        block.choice("role", tuple(spec.roles), "") if undecided else block.choice("role", tuple(spec.roles)),
        "" if undecided else _filled(block, "decided"),
        undecided,
        minutes,
        None if minutes is None else STATED,
        None,
        block.choice("runbook", tuple(spec.runbook), None),
        block.text("evidence", ""),
        "file",
        None if at is None else iso_utc(at),
    )
    block.finish()
    return found


def _filled(block: Block, key: str) -> str:
    found = str(block.text(key)).strip()
    if not found:
        raise block.error(f"'{key}' is empty", key, hint="leave the whole entry away where nothing was decided")
    return found


def _minutes(block: Block, inject: Inject, began: datetime | None) -> float | None:
    if block.has("after_minutes") and block.has("at"):
        raise block.error("give either 'after_minutes' or 'at'", "at")
    if not block.has("at"):
        found: float | None = block.number("after_minutes", None, minimum=0)
        return found
    at = _moment(block, "at")
    if began is None or at is None:
        raise block.error("'at' needs 'began_at' at the top of the file", "at")
    after = (at - began).total_seconds() / 60 - inject.at_minutes
    if after < 0:
        text = f"that is {-after:g} minutes before the inject, which is read out {inject.at_minutes:g} minutes in"
        raise block.error(text, "at")
    return round(after, 3)


def _moment(block: Block, key: str) -> datetime | None:
    value = block.anything(key, None)
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            value = None
    if not isinstance(value, datetime):
        raise block.error(f"'{key}' must be a date and time, e.g. 2030-01-31T10:15:00Z", key)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _action(block: Block) -> Action:
    block.expect("what", "owner", "due")
    due = block.anything("due", None)
    text = due.isoformat() if isinstance(due, date) else due
    if text is not None and (not isinstance(text, str) or parse_due(text) is None):
        raise block.error("'due' must be a date, e.g. 2030-01-31", "due")
    found = Action(_filled(block, "what"), block.text("owner", ""), text or "")
    block.finish()
    return found
