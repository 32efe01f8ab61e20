"""What a run has been billed over all its starts: by its results, those that were asked again too, and by what a start
that was killed left open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

_Place = tuple[str, int]


class Bills:
    """Adds up a journal's entries: `asking` leaves a question open, `result` or `lost` says what came of it."""

    def __init__(self) -> None:
        self.usd = Decimal(0)
        self.held_usd = Decimal(0)
        """The most that calls may have cost of which nobody knows whether they were billed."""
        self.priced = 0
        self.lost_unpriced = 0
        self._open: dict[_Place, None] = {}
        self._records: Counter[_Place] = Counter()
        self._uncounted: set[_Place] = set()
        self._answered: set[_Place] = set()
        self._newest_held: dict[_Place, Decimal] = {}

    def take(self, kind: str, place: _Place, data: Mapping[str, Any]) -> None:
        if kind == "asking":
            self._open[place] = None
            return
        if kind not in ("result", "lost"):
            return
        self._open.pop(place, None)
        if data.get("usd") is not None:
            self.usd += Decimal(data["usd"])
            self.priced += 1
        elif kind == "lost":
            self.lost_unpriced += 1
        held = Decimal(data.get("usd_held", "0"))
        self.held_usd += held
        if kind == "lost":
            self._newest_held[place] = held
        elif data.get("given_again"):
            self.held_usd -= self.newest_held(place)
        if "records" in data:
            self._records[place] += data["records"]
        else:  # as runs were kept before: nobody knows which records of its traces were its
            self._uncounted.add(place)
        if kind == "lost" and data["answered"]:
            self._answered.add(place)
        elif kind == "result":
            self._answered.discard(place)
            self._newest_held.pop(place, None)

    @property
    def open(self) -> tuple[_Place, ...]:
        """Questions that left, or were about to, and of which nothing was kept."""
        return tuple(self._open)

    def records(self, place: _Place) -> int | None:
        """How many records of its traces are added up here; None where that is not known."""
        return None if place in self._uncounted else self._records[place]

    def newest_held(self, place: _Place) -> Decimal:
        """What is held since the newest start that was killed: nothing, once its answer is given again from where it
        had been recorded, since the result has its cost."""
        return self._newest_held.get(place, Decimal(0))

    def was_answered(self, place: _Place) -> bool:
        """Whether this run itself had an answer that was lost with the process before there was a result."""
        return place in self._answered
