"""The objectives: what was promised before the run, whether that was changed afterwards, and how each came out."""

from __future__ import annotations

import hashlib
from typing import Final

from exitramp import canonical
from exitramp.records import Verdict
from exitramp.report.model import Cell, Objective, Quantity
from exitramp.report.sections.fields import Data, figure, objects, part, verdict, word
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.words import true_minus
from exitramp.report.text import NO_BREAK, number_text, with_unit

_TITLES: Final = {
    "rto_seconds": ("Recovery time (RTO)", "s"),
    "rpo_records": ("Records lost (RPO)", "records"),
    "rpo_seconds": ("Age of the restored state (RPO)", "s"),
    "error_rate": ("Error rate", "share"),
    "p95_latency_ms": ("Latency, 95th percentile", "ms"),
    "quality_margin": ("Quality lost at most", "share"),
    "usd_per_request": ("Cost of a request", "USD"),
}
_DECIMALS: Final = {"s": 2, "records": 0, "ms": 0, "USD": 5, "%": 1, "": 3}
_MOST_DECIMALS: Final = 9


def promised(journal: Journal) -> tuple[tuple[str, str, str | None], ...]:
    """Key, title and target of every objective there can be; the target is None where the drill file sets none."""
    wanted = part(journal.started, "objectives")
    found = []
    for key in [*_TITLES, *(name for name in wanted if name not in _TITLES)]:
        title, unit = _TITLES.get(key, (key.replace("_", " "), ""))
        target = figure(wanted, key)
        found.append((key, title, None if target is None else _target(key, unit, target)))
    return tuple(found)


def hash_holds(journal: Journal) -> bool:
    """Whether the hash in the first event is that of the objectives beside it."""
    text = canonical.dumps(part(journal.started, "objectives"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest() == word(journal.started, "objectives_sha256")


def moved(journal: Journal) -> tuple[str, ...]:
    """Keys of objectives that were judged against another target than the one set before the run, or not judged."""
    if journal.judged is None:
        return ()
    before = {key: value for key, value in part(journal.started, "objectives").items() if value is not None}
    after = {word(each, "name"): figure(each, "target") for each in objects(journal.judged, "objectives")}
    return tuple(sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key)))


def judged(journal: Journal) -> tuple[Objective, ...]:
    """Every objective with its verdict; those of a run that was never judged are inconclusive."""
    if journal.judged is None:
        return tuple(
            Objective(key, title, target, None, Verdict.INCONCLUSIVE, "not judged: the run did not end")
            for key, title, target in promised(journal)
            if target is not None
        )
    found: dict[str, Objective] = {}
    for each in objects(journal.judged, "objectives"):
        one = _objective(each)
        found.setdefault(one.key, one)
    return tuple(found.values())


def recovery_places(journal: Journal) -> int:
    """To how many places every time that counts from a fault is told: to as many as the judged one has, so that one
    quantity reads the same wherever it stands."""
    for each in judged(journal):
        if each.key == "rto_seconds" and isinstance(each.measured, Quantity) and each.measured.decimals is not None:
            return each.measured.decimals
    return _DECIMALS["s"]


def unjudged(journal: Journal) -> tuple[tuple[str, Cell], ...]:
    """What was measured though the drill file promises no number; nothing in a journal that does not say."""
    promises = {word(each, "name") for each in objects(journal.judged, "objectives")}
    found: dict[str, tuple[str, Cell]] = {}
    for each in objects(journal.judged, "unpromised"):
        key, unit, measured = word(each, "name"), word(each, "unit"), figure(each, "measured")
        if key and key not in promises and measured is not None:
            title = word(each, "title") or _TITLES.get(key, (key, ""))[0]
            found.setdefault(key, (title, measured_cell(key, unit, measured, None)))
    return tuple(found.values())


def _objective(data: Data) -> Objective:
    key, unit = word(data, "name") or "unnamed", word(data, "unit")
    title = word(data, "title") or _TITLES.get(key, (key, ""))[0]
    target, measured = figure(data, "target"), figure(data, "measured")
    found = verdict(data, "verdict") or Verdict.INCONCLUSIVE
    if measured is None and found is Verdict.PASS:
        found = Verdict.INCONCLUSIVE  # whatever a journal says: nothing passes unmeasured
    shown = "not set" if target is None else _target(key, unit, target)
    note = true_minus(word(data, "note"))
    return Objective(key, title, shown, measured_cell(key, unit, measured, target), found, note)


def target_text(key: str, unit: str, value: float) -> str:
    """`5 s`, `10%`: a target as a reader has it."""
    factor, unit = _scale(key, unit)
    return with_unit(number_text(_shorter(value * factor)), _one(unit, value))


def _target(key: str, unit: str, value: float) -> str:
    return f"≤{NO_BREAK}{target_text(key, unit, value)}"


def measured_cell(key: str, unit: str, value: float | None, target: float | None) -> Cell:
    """What was measured, in the unit and to the places that a reader has it in; None where nothing was."""
    if value is None:
        return None
    factor, unit = _scale(key, unit)
    decimals = _DECIMALS.get(unit, 3)
    if target is not None:
        # 5.004 s against 5 s must not read as 5.00 s beside the word "Fail".
        while decimals < _MOST_DECIMALS and (round(value * factor, decimals) <= target * factor) != (value <= target):
            decimals += 1
    return Quantity(_shorter(value * factor), _one(unit, value), decimals)


def _scale(key: str, unit: str) -> tuple[float, str]:
    """A share of requests reads as a percentage; a difference of quality stays what it is."""
    if unit != "share":
        return 1, unit
    return (100, "%") if key == "error_rate" else (1, "")


def _one(unit: str, value: float) -> str:
    return "record" if unit == "records" and value == 1 else unit


def _shorter(value: float) -> float:
    """Without the last bits that a multiplication by 100 adds: 0.07 x 100 is 7, not 7.000000000000001."""
    return round(value, 12)
