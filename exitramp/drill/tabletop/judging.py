"""What was expected of the people at the table against what was recorded: what nobody recorded is never a pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from exitramp.drill.tabletop.decisions import Decision
from exitramp.drill.tabletop.spec import Asked, Inject, TabletopSpec
from exitramp.records import Verdict

_MOST_PLACES: Final = 6


@dataclass(frozen=True, slots=True)
class Expectation:
    """One thing that was expected, and how it came out. `gap` says what is wanting; "" where nothing is."""

    key: str
    title: str
    target: str
    measured: str | None
    verdict: Verdict
    gap: str


def judge(spec: TabletopSpec, decisions: Mapping[tuple[str, str], Decision]) -> tuple[Expectation, ...]:
    """Of each question a decision, and the runbook step and the evidence where they are asked for."""
    return tuple(
        found
        for inject, asked in spec.questions()
        for found in _question(inject, asked, decisions.get((inject.name, asked.name)))
    )


def verdict_of(expectations: tuple[Expectation, ...]) -> Verdict:
    return Verdict.worst([each.verdict for each in expectations]) if expectations else Verdict.INCONCLUSIVE


def minutes_words(minutes: float, given: float | None = None) -> str:
    """`12`, `4.25`; with the places that show it to be above what was `given`, if it is."""
    places = 2
    while given is not None and places < _MOST_PLACES and round(minutes, places) <= given < minutes:
        places += 1
    shown = f"{minutes:.{places}f}".rstrip("0").rstrip(".")
    return "less than 0.01" if minutes > 0 and shown == "0" else shown


def _question(inject: Inject, asked: Asked, made: Decision | None) -> Iterator[Expectation]:
    key, where = f"{inject.name}.{asked.name}", f"{inject.title}: {asked.ask}"
    target = f"decided by {asked.by}"
    if asked.within_minutes is not None:
        target += f" within {asked.within_minutes:g} min"

    def found(suffix: str, title: str, what: str, measured: str | None, verdict: Verdict, gap: str) -> Expectation:
        return Expectation(key + suffix, title, what, measured, verdict, f"{where} – {gap}" if gap else "")

    measured, verdict, gap = _decided(asked, made)
    yield found("", f"{inject.name}, {asked.name}", target, measured, verdict, gap)
    if made is None or made.undecided:
        named, shown = None, None
    else:
        named, shown = made.runbook, made.evidence.strip() or None
    if asked.runbook is not None:
        measured, verdict, gap = _runbook(asked.runbook, made, named)
        yield found(
            ".runbook", f"{inject.name}, {asked.name}: runbook", f"step “{asked.runbook}”", measured, verdict, gap
        )
    if asked.evidence:
        verdict = Verdict.PASS if shown else Verdict.INCONCLUSIVE
        gap = "" if shown or made is None or made.undecided else "no evidence was named"
        told = "named" if shown else None
        yield found(".evidence", f"{inject.name}, {asked.name}: evidence", "evidence named", told, verdict, gap)


def _decided(asked: Asked, made: Decision | None) -> tuple[str | None, Verdict, str]:
    if made is None:
        return None, Verdict.INCONCLUSIVE, "no decision was recorded"
    if made.undecided:
        return "nobody could decide", Verdict.FAIL, "nobody could decide it"
    told = f"by {made.role}"
    if made.minutes is not None:
        told += f" after {minutes_words(made.minutes, asked.within_minutes)} min"
        told += f", {made.minutes_from}" if made.minutes_from else ""
    if made.role != asked.by:
        return told, Verdict.FAIL, f"decided by {made.role}, and it is for {asked.by} to decide"
    if asked.within_minutes is None:
        return told, Verdict.PASS, ""
    if made.minutes is None:
        return told, Verdict.INCONCLUSIVE, "decided, and nobody knows how long it took"
    if made.minutes > asked.within_minutes:
        taken = minutes_words(made.minutes, asked.within_minutes)
        late = f"decided after {taken} minutes, and {asked.within_minutes:g} were given"
        return told, Verdict.FAIL, late
    return told, Verdict.PASS, ""


def _runbook(wanted: str, made: Decision | None, named: str | None) -> tuple[str | None, Verdict, str]:
    if made is None or made.undecided:
        return None, Verdict.INCONCLUSIVE, ""  # the missing decision is the gap
    if named is None:
        return "no step named", Verdict.FAIL, f"nobody named the runbook step “{wanted}”"
    if named != wanted:
        return f"step “{named}”", Verdict.FAIL, f"the runbook step named was “{named}”, and “{wanted}” was expected"
    return f"step “{named}”", Verdict.PASS, ""
