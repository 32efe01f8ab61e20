"""The verdict of the whole run in words, for somebody who buys and does not read code; and the stamps beside it."""

from __future__ import annotations

from collections.abc import Sequence

from exitramp.records import Verdict
from exitramp.report.cells import cell_text
from exitramp.report.model import Notice, Objective, Stamp
from exitramp.report.sections.asked import done_words
from exitramp.report.sections.consent import given_up, in_short
from exitramp.report.sections.doubts import JUDGED_BY_OBJECTIVE, doubts, unanchored
from exitramp.report.sections.fields import Data, count, figure, objects, verdict, word
from exitramp.report.sections.flips import shown_texts
from exitramp.report.sections.journal import Journal, StepRun
from exitramp.report.sections.promises import recovery_places
from exitramp.report.sections.stacks import faults, mock_embedders, mocks_answered, simulated_faults, stack_parts
from exitramp.report.sections.ways_out import came_back
from exitramp.report.sections.words import counted, finding_words, listed, sentence
from exitramp.report.text import number_text, seconds_text

_MOST_REASONS = 2
_TOLD = frozenset({"drill.aborted", "run.unfinished", "objectives.none", "journal.doubt", "journal.unanchored"})


def overall(journal: Journal, objectives: Sequence[Objective]) -> Verdict:
    """The engine's verdict, never better than what the journal holds to be true, and no pass on its word alone."""
    found = [each.verdict for each in objectives]
    found += [step.verdict for step in journal.steps if step.verdict is Verdict.FAIL]
    if journal.judged is not None:
        found.append(verdict(journal.judged, "verdict") or Verdict.INCONCLUSIVE)
    if not journal.is_finished or journal.aborted is not None or doubts(journal) or not objectives:
        found.append(Verdict.INCONCLUSIVE)
    if unanchored(journal):
        found.append(Verdict.INCONCLUSIVE)
    return Verdict.worst(found)


def reason(journal: Journal, objectives: Sequence[Objective], found: Verdict) -> str:
    """A few sentences: what came out, by which figures, and what it rests on."""
    if found is Verdict.PASS:
        return " ".join([*_worked(journal, objectives), *_gave_up(journal), *_rests_on(journal)])
    told = [*_stopped(journal), *(sentence(each) for each in doubts(journal)[:_MOST_REASONS])]
    if unanchored(journal):
        told.append(f"{sentence(unanchored(journal))} By its own account it ended as: {_own_account(journal)}.")
    if found is Verdict.FAIL:
        missed = any(each.verdict is Verdict.FAIL for each in objectives)
        met = bool(objectives) and all(each.verdict is Verdict.PASS for each in objectives)
        unmissed = "Every objective was met, but a check failed" if met else "A check failed"
        opening = "What was promised was not held" if missed else unmissed
        told += _missed(journal, objectives, Verdict.FAIL, opening)
    elif not objectives and journal.is_finished:
        told.append("No objectives were set, so nothing could be met. What was measured is shown without a verdict.")
    elif journal.is_finished and journal.aborted is None:
        told += _missed(journal, objectives, Verdict.INCONCLUSIVE, "Too little was measured to say that it works")
    return " ".join([*told, *_gave_up(journal), *_rests_on(journal)])


def _gave_up(journal: Journal) -> list[str]:
    return [text] if (text := in_short(journal)) else []


def _own_account(journal: Journal) -> str:
    return word(journal.judged, "verdict") or "nothing"


def stamps(journal: Journal) -> tuple[Stamp, ...]:
    """What must be read together with the verdict wherever it is shown."""
    found = []
    if mocks_answered(journal):
        found.append(Stamp(Notice.MOCK, "mock vendors"))
    elif mock_embedders(journal):
        found.append(Stamp(Notice.MOCK, "mock embedding vendor"))
    played = len(simulated_faults(journal))
    if played:
        found.append(Stamp(Notice.SIMULATED, _of_faults(played, len(faults(journal)))))
    if any(each.is_emulated for each in stack_parts(journal)):
        found.append(Stamp(Notice.SIMULATED, "wire emulated"))
    if given_up(journal):
        found.append(Stamp(Notice.WARNING, "loss accepted"))
    if shown_texts(journal):
        found.append(Stamp(Notice.WARNING, f"shows texts: {', '.join(shown_texts(journal))}"))
    if not journal.is_finished:
        found.append(Stamp(Notice.WARNING, "run did not end"))
    elif journal.aborted is not None:
        found.append(Stamp(Notice.WARNING, "stopped early"))
    if unanchored(journal):
        found.append(Stamp(Notice.WARNING, "journal not anchored"))
    if doubts(journal):
        found.append(Stamp(Notice.WARNING, "journal contradicts itself"))
    return tuple(found)


def _of_faults(played: int, injected: int) -> str:
    return f"{played} of {injected} fault{'' if injected == 1 else 's'} simulated"


def checks_against(
    journal: Journal, objectives: Sequence[Objective], found: Verdict
) -> tuple[tuple[StepRun, int], ...]:
    """The steps that made the run `found` although every objective was met, each with how many findings say so."""
    if found is Verdict.PASS or not objectives or any(each.verdict is not Verdict.PASS for each in objectives):
        return ()
    return tuple(
        (step, sum(verdict(each, "verdict") is found for each in step.findings))
        for step in journal.steps
        if step.verdict is found and (found is Verdict.FAIL or step.name not in JUDGED_BY_OBJECTIVE)
    )


def all_findings(journal: Journal) -> tuple[tuple[str, Data], ...]:
    """Every finding with the step it comes from, and those that follow from the journal as a whole."""
    found = [(step.name, each) for step in journal.steps for each in step.findings]
    inconclusive = Verdict.INCONCLUSIVE.value
    if journal.aborted is not None:
        step = word(journal.aborted, "step")
        text = f"the drill was stopped {journal.stopped_where}: {word(journal.aborted, 'reason')}"
        found.append((step, {"code": "drill.aborted", "message": text, "verdict": inconclusive}))
    if not journal.is_finished:
        text = f"the run did not end: its journal breaks off after {counted(len(journal.events), 'event')}"
        found.append(("", {"code": "run.unfinished", "message": text, "verdict": inconclusive}))
    elif not objects(journal.judged, "objectives"):
        found.append(("", {"code": "objectives.none", "message": "no objectives were set", "verdict": inconclusive}))
    found += [("", {"code": "journal.doubt", "message": text, "verdict": inconclusive}) for text in doubts(journal)]
    if unanchored(journal):
        found.append(("", {"code": "journal.unanchored", "message": unanchored(journal), "verdict": inconclusive}))
    return tuple(found)


def _worked(journal: Journal, objectives: Sequence[Objective]) -> list[str]:
    outages, injected = journal.every("outage"), faults(journal)
    recovered = [figure(each, "rto_seconds") for each in outages]
    known = [each for each in recovered if each is not None]
    moved = journal.data("cut_over")
    if not injected and (asked := count(moved, "requests")) and count(moved, "failed") == 0:
        told = [f"Traffic moved to the substitute with none of {counted(asked, 'request')} failing."]
        compared = count(moved, "parity", "rows", "compared")
        told += [f"{counted(compared, 'record')} were compared before it did."] if compared is not None else []
        return told
    if back := came_back(journal):
        return back
    if not injected or not known or len(known) < len(recovered):
        return [f"{counted(len(objectives), 'objective')} set before the run, all measured and met."]
    played = len(simulated_faults(journal))
    hit = f"{counted(len(injected), 'fault')} hit the primary"
    if played == len(injected):
        hit = f"{counted(played, 'simulated fault')} {'was' if played == 1 else 'were'} played on the primary"
    elif played:
        hit += f", {number_text(played)} of them simulated"
    application = next((name for each in outages if (name := word(each, "application", "name"))), "")
    who = f"the application “{application}”" if application else "the substitute"
    slowest = seconds_text(max(known), recovery_places(journal))
    came = f"a good answer came from {who}"
    when = f"each time {came}, at the slowest after {slowest}" if len(injected) > 1 else f"{came} after {slowest}"
    worked = "It came through" if application else "The switch worked"
    told = [f"{worked}: {hit}, and {when}."]
    asked, failed = _sum(outages, "during_outage"), _sum(outages, "failed_during_outage")
    if asked is not None and failed is not None:
        without = f"{number_text(failed)} went" if failed else "none went"
        told.append(f"Of {counted(asked, 'request')} from the first fault on, {without} without a good answer.")
    lost = count(journal.data("measure_loss"), "records")
    if lost is not None:
        which = f"{counted(lost, 'record')} {'was' if lost == 1 else 'were'}"
        told.append(f"{which if lost else 'No record was'} missing there or out of date.")
    return told


def _sum(parts: Sequence[Data], key: str) -> int | None:
    found = [count(each, key) for each in parts]
    known = [each for each in found if each is not None]
    return sum(known) if known and len(known) == len(found) else None


def _stopped(journal: Journal) -> list[str]:
    if not journal.is_finished:
        broken = [step.name for step in journal.steps if step.finished is None]
        where = f", in the step “{broken[-1]}”" if broken and journal.judged is None else ""
        told = f"The run did not end: its journal breaks off after {seconds_text(journal.last.elapsed_seconds)}{where}."
        return [told + " What came later is unknown."]
    if journal.aborted is not None:
        why = sentence(word(journal.aborted, "reason")) or "The journal does not say why."
        return [f"The drill was stopped {journal.stopped_where}: {why} {_done_after(journal)}"]
    return []


def _done_after(journal: Journal) -> str:
    """What ran all the same once the drill was stopped: the way back."""
    at = next(event.seq for event in journal.events if event.kind == "run.aborted")
    ran = list(dict.fromkeys(step.name for step in journal.steps if step.started.seq > at))
    skipped = bool(journal.of_kind("step.skipped"))
    if not ran:
        return "No step was done after that." if skipped else "Nothing was left to be done after that."
    only = "Of the steps after that only" if skipped else "After that"
    return f"{only} {listed([f'“{each}”' for each in ran])} ran."


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
        f"{done_words(journal, step) if step else 'The run'}: {finding_words(first[step], step)}"
        for step in dict.fromkeys(step for step, _ in against)
    ]
    told = told or [
        f"{done_words(journal, step.name)}: {which.value}" for step in journal.steps if step.verdict is which
    ]
    if not told:
        return []
    left = max(0, len(told) - _MOST_REASONS) + len(against) - len(first)
    more = [f"{left} more {'stands' if left == 1 else 'stand'} in sections 1 and 15."] if left > 0 else []
    return [f"{opening}.", *(sentence(each) for each in told[:_MOST_REASONS]), *more]


def _stands_above(finding: Data) -> bool:
    """Whether the sentences before have told it already."""
    return word(finding, "code") in _TOLD


def _against(one: Objective) -> str:
    if one.measured is None:
        return f"{one.name} was not measured" + (f" ({one.note})" if one.note not in {"", "not measured"} else "")
    if one.verdict is Verdict.INCONCLUSIVE:
        return f"{one.name}: {one.note or 'not decided'}"
    return f"{one.name} is {cell_text(one.measured)}, promised was {one.target}"


def _rests_on(journal: Journal) -> list[str]:
    if not mocks_answered(journal):
        if mock_embedders(journal):
            return ["The embedding vendor was a mock: section 1 says what this does not prove."]
        return []
    chats = [each for each in stack_parts(journal) if each.kind == "chat"]
    played = [each for each in chats if each.is_mock]
    who = "Some answers were a mock’s"
    if played:
        who = "The chat vendors were mocks" if len(played) == len(chats) > 1 else "A chat vendor was a mock"
    return [f"{who}: section 1 says what this does not prove."]
