"""A table-top drill as data: who sits at the table, what is read out and when, and what has to be decided by whom."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exitramp import canonical

TABLETOP: Final = "tabletop"


@dataclass(frozen=True, slots=True)
class Asked:
    """One question of an inject, and what is expected of whoever decides it.

    by: the role that has to decide. within_minutes: after the inject was read out; None sets no time.
    runbook: the step of the runbook that has to be named; evidence: whether something has to be named that shows it.
    """

    name: str
    ask: str
    by: str
    within_minutes: float | None = None
    runbook: str | None = None
    evidence: bool = False

    def to_json(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in found.items() if value is not None and value is not False}


@dataclass(frozen=True, slots=True)
class Inject:
    """Something that happens in the scenario. `at_minutes` is the scenario's time: nobody waits for it."""

    name: str
    at_minutes: float
    title: str
    text: str
    questions: tuple[Asked, ...]

    def to_json(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in self.__slots__}
        return {**found, "questions": [each.to_json() for each in self.questions]}


@dataclass(frozen=True, slots=True)
class TabletopSpec:
    """`roles`: what each role at the table answers for. `runbook`: the named steps, and what each is."""

    name: str
    title: str
    description: str
    scope: str
    expected: str
    roles: Mapping[str, str]
    runbook: Mapping[str, str]
    injects: tuple[Inject, ...]
    folder: Path | None
    file: str

    mode = TABLETOP

    def to_json(self) -> dict[str, Any]:
        """Everything that defines the sitting; it can be read back as a drill file."""
        return {
            "version": 1,
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "scope": self.scope,
            "mode": TABLETOP,
            "expected": self.expected,
            "roles": dict(self.roles),
            "runbook": dict(self.runbook),
            "injects": [each.to_json() for each in self.injects],
        }

    def questions(self) -> Iterator[tuple[Inject, Asked]]:
        for inject in self.injects:
            for asked in inject.questions:
                yield inject, asked

    def find(self, inject: str, question: str) -> tuple[Inject, Asked] | None:
        return next((pair for pair in self.questions() if (pair[0].name, pair[1].name) == (inject, question)), None)

    def expectations(self) -> dict[str, Any]:
        """What is expected of each question, by its key; hashed before anybody decides anything."""
        return {
            f"{inject.name}.{asked.name}": {
                "by": asked.by,
                "within_minutes": asked.within_minutes,
                "runbook": asked.runbook,
                "evidence": asked.evidence,
            }
            for inject, asked in self.questions()
        }

    def expectations_sha256(self) -> str:
        return hashlib.sha256(canonical.dumps(self.expectations()).encode("utf-8")).hexdigest()
