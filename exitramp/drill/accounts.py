"""The vendors' own accounts of what they were asked, held against ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from exitramp.drill.run import DrillRun


class Accounts:
    """The vendors' own accounts from when this was made on, by stack; one whose vendor keeps none is left out."""

    def __init__(self, run: DrillRun) -> None:
        self._services: dict[str, Any] = {}
        self._before: dict[str, int] = {}
        for name, stack in run.stacks.items():
            if stack.chat is not None and callable(getattr(stack.chat.service, "account", None)):
                self._services[name] = stack.chat.service
                self._before[name] = max((int(entry["number"]) for entry in self._entries(name)), default=0)

    def since(self) -> dict[str, list[Mapping[str, Any]]]:
        return {
            name: [entry for entry in self._entries(name) if int(entry["number"]) > self._before[name]]
            for name in self._services
        }

    def _entries(self, name: str) -> list[Mapping[str, Any]]:
        return list(self._services[name].account())


def outcomes_between(
    before: Mapping[str, Sequence[Mapping[str, Any]]], after: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, dict[str, int]]:
    """Of each vendor with an account, what became of the requests that came in between: outcome to number."""
    return {
        name: dict(Counter(str(entry["outcome"]) for entry in entries[len(before.get(name, ())) :]))
        for name, entries in after.items()
    }
