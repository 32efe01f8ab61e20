"""The verdict of the whole run in words, for somebody who buys and does not read code; and the stamps beside it."""

from __future__ import annotations

from collections.abc import Sequence

from exitramp.records import Verdict
from exitramp.report.cells import cell_text
from exitramp.report.model import Notice, Objective, Stamp
from exitramp.report.sections.fields import Data, count, figure, objects, verdict, word
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.promises import hash_holds, moved
from exitramp.report.sections.stacks import faults, mocks, mocks_answered, simulated_faults, stack_parts
from exitramp.report.sections.words import counted, listed, sentence, sides_named, step_words
from exitramp.report.text import number_text, seconds_text

_MOST_REASONS = 2


def overall(journal: Journal, objectives: Sequence[Objective]) -> Verdict:
    """The engine's verdict, never better than what the journal itself holds to be true."""
    found = [each.verdict for each in objectives]
    found += [step.verdict for step in journal.steps if step.verdict is Verdict.FAIL]
    if journal.judged is not None:
        found.append(verdict(journal.judged, "verdict") or Verdict.INCONCLUSIVE)
    if not journal.is_finished or journal.aborted is not None or doubts(journal) or not objectives:
        found.append(Verdict.INCONCLUSIVE)
    return Verdict.worst(found)


def doubts(journal: Journal) -> tuple[str, ...]:
    """What in the journal contradicts itself."""
    found = []
    if not hash_holds(journal):
        found.append("the hash of the objectives is not that of the objectives written beside it")
    if moved(journal):
        found.append(f"objectives were judged against other targets than those set: {listed(moved(journal))}")
    return tuple(found)


def reason(journal: Journal, objectives: Sequence[Objective], found: Verdict) -> str:
    """One to three sentences: what came out, by which figures, and what it rests on."""
    if found is Verdict.PASS:
        return " ".join([*_worked(journal, objectives), *_rests_on(journal)])
    told = [*_stopped(journal), *(sentence(each) for each in doubts(journal))]
    if found is Verdict.FAIL:
        missed = any(each.verdict is Verdict.FAIL for each in objectives)
        opening = "What was promised was not held" if missed else "A check failed"
        told += _missed(journal, objectives, Verdict.FAIL, opening)
    elif not objectives and journal.is_finished:
        told.append("No objectives were set, so nothing could be met. What was measured is shown without a verdict.")
    elif journal.is_finished and journal.aborted is None:
        told += _missed(journal, objectives, Verdict.INCONCLUSIVE, "Too little was measured to say that it works")
    return " ".join([*told, *_rests_on(journal)])


def stamps(journal: Journal) -> tuple[Stamp, ...]:
    """What must be read together with the verdict wherever it is shown."""
    found = []
    if mocks_answered(journal):
        found.append(Stamp(Notice.MOCK, "mock vendors"))
    played = len(simulated_faults(journal))
    if played:
        found.append(Stamp(Notice.SIMULATED, f"{played} of {len(faults(journal))} faults simulated"))
    if any(each.is_emulated for each in stack_parts(journal)):
        found.append(Stamp(Notice.SIMULATED, "wire emulated"))
    if not journal.is_finished:
        found.append(Stamp(Notice.WARNING, "run did not end"))
    elif journal.aborted is not None:
        found.append(Stamp(Notice.WARNING, "stopped early"))
    return tuple(found)


def all_findings(journal: Journal) -> tuple[tuple[str, Data], ...]:
    """Every finding with the step it comes from, and those that follow from the journal as a whole."""
    found = [(step.name, each) for step in journal.steps for each in step.findings]
    inconclusive = Verdict.INCONCLUSIVE.value
    if journal.aborted is not None:
        step = word(journal.aborted, "step")
        text = f"the drill was stopped in '{step}': {word(journal.aborted, 'reason')}"
        found.append((step, {"code": "drill.aborted", "message": text, "verdict": inconclusive}))
    if not journal.is_finished:
        text = f"the run did not end: its journal breaks off after {counted(len(journal.events), 'event')}"
        found.append(("", {"code": "run.unfinished", "message": text, "verdict": inconclusive}))
    elif not objects(journal.judged, "objectives"):
        found.append(("", {"code": "objectives.none", "message": "no objectives were set", "verdict": inconclusive}))
    found += [("", {"code": "journal.doubt", "message": text, "verdict": inconclusive}) for text in doubts(journal)]
    return tuple(found)


def _worked(journal: Journal, objectives: Sequence[Objective]) -> list[str]:
    outage, played = journal.data("outage"), faults(journal)
    recovered = figure(outage, "rto_seconds")
    if not played or recovered is None:
        return [f"{counted(len(objectives), 'objective')} set before the run, all measured and met."]
    hit = f"The switch worked: {counted(len(played), 'fault')} hit the primary, and each time a good answer came from"
    told = [f"{hit} the substitute within {seconds_text(recovered)}."]
    asked, failed = count(outage, "during_outage"), count(outage, "failed_during_outage")
    lost = count(journal.data("measure_loss"), "records")
    if asked is not None and failed is not None:
        told.append(f"Of {counted(asked, 'request')} in that time {number_text(failed) if failed else 'none'} failed.")
    if lost is not None:
        told.append(
            f"{counted(lost, 'record')} changed after the export {'was' if lost == 1 else 'were'} missing there."
        )
    return told


def _stopped(journal: Journal) -> list[str]:
    if not journal.is_finished:
        broken = [step.name for step in journal.steps if step.finished is None]
        where = f", in the step “{broken[-1]}”" if broken and journal.judged is None else ""
        told = f"The run did not end: its journal breaks off after {seconds_text(journal.last.elapsed_seconds)}{where}."
        return [told + " What came later is unknown."]
    if journal.aborted is not None:
        step, why = word(journal.aborted, "step"), word(journal.aborted, "reason")
        return [f"The drill was stopped in the step “{step}”: {sentence(why)} What comes after it was not done."]
    return []


def _missed(journal: Journal, objectives: Sequence[Objective], which: Verdict, opening: str) -> list[str]:
    """What decided, most telling first: objectives with their figures, then each step's first finding against it."""
    told = [_against(each) for each in objectives if each.verdict is which]
    against = [
        (step, each)
        for step, each in all_findings(journal)
        if verdict(each, "verdict") is which and step != "compare_quality" and not _stands_above(each)
    ]
    first = dict(reversed(against))
    told += [
        f"{step_words(step) if step else 'The run'}: {sides_named(word(first[step], 'message'))}"
        for step in dict.fromkeys(step for step, _ in against)
    ]
    told = told or [f"{step_words(step.name)}: {which.value}" for step in journal.steps if step.verdict is which]
    if not told:
        return []
    left = len(told) - _MOST_REASONS + len(against) - len(first)
    more = [f"Section 15 names {left} more."] if left > 0 else []
    return [f"{opening}.", *(sentence(each) for each in told[:_MOST_REASONS]), *more]


def _stands_above(finding: Data) -> bool:
    """Whether the sentences before have told it already."""
    return word(finding, "code") in {"drill.aborted", "run.unfinished", "objectives.none", "journal.doubt"}


def _against(one: Objective) -> str:
    if one.measured is None:
        return f"{one.name} was not measured" + (f" ({one.note})" if one.note not in {"", "not measured"} else "")
    if one.verdict is Verdict.INCONCLUSIVE:
        return f"{one.name}: {one.note or 'not decided'}"
    return f"{one.name} is {cell_text(one.measured)}, promised was {one.target}"


def _rests_on(journal: Journal) -> list[str]:
    if not mocks_answered(journal):
        return []
    many = "The chat vendors were mocks" if len(mocks(journal)) != 1 else "One of the chat vendors was a mock"
    return [f"{many}: section 1 says what this does not prove."]
