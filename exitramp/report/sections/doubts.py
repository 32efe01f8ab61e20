"""What speaks against believing a journal: where it contradicts itself, and that nothing holds it.

None of it shows who changed what. A run whose journal is doubtful is never a pass.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

from exitramp.drill.event import FINISHED
from exitramp.records import Verdict
from exitramp.report.sections.fields import figure, objects, part, verdict, word
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.promises import hash_holds, moved
from exitramp.report.sections.words import listed

_RANK = {Verdict.PASS: 0, Verdict.INCONCLUSIVE: 1, Verdict.FAIL: 2}
JUDGED_BY_OBJECTIVE = frozenset({"cost"})
"""Steps whose own verdict counts as an objective or not at all."""


def doubts(journal: Journal) -> tuple[str, ...]:
    """What in the journal contradicts itself."""
    return (*_objectives(journal), *_order(journal), *_steps(journal), *_conclusion(journal))


def unanchored(journal: Journal) -> str:
    """Why nothing shows that these are the events that the run wrote; "" where something does.

    A run that did not end has no anchor to have, and is no pass for that reason already.
    """
    if journal.is_anchored or not journal.is_finished:
        return ""
    return "nothing shows that this is the journal that the run wrote: no anchor of it lies beside it"


def _objectives(journal: Journal) -> Iterator[str]:
    if not hash_holds(journal):
        yield "the hash of the objectives is not that of the objectives written beside it"
    named = part(journal.drill, "objectives")
    if named and named != part(journal.started, "objectives"):
        yield "the objectives are not those of the drill beside them"
    if moved(journal):
        yield f"objectives were judged against other targets than those set: {listed(moved(journal))}"
    for each in objects(journal.judged, "objectives"):
        measured, target = figure(each, "measured"), figure(each, "target")
        passed = verdict(each, "verdict") is Verdict.PASS
        if passed and measured is not None and target is not None and measured > target:
            yield f"the objective '{word(each, 'name')}' was judged as met although what was measured is above it"


def _order(journal: Journal) -> Iterator[str]:
    for kind in ("run.started", "run.judged", FINISHED):
        if len(journal.of_kind(kind)) > 1:
            yield f"'{kind}' stands in it {len(journal.of_kind(kind))} times"
    ends = [event.seq for event in journal.of_kind(FINISHED)]
    if ends and ends[0] != journal.last.seq:
        yield f"events stand after its end, event #{ends[0]}"
    back = [b.seq for a, b in itertools.pairwise(journal.events) if b.elapsed_seconds < a.elapsed_seconds]
    if back:
        yield f"time goes back at event #{back[0]}"


def _steps(journal: Journal) -> Iterator[str]:
    wanted = Counter(word(each, "name") for each in objects(journal.drill, "steps"))
    begun = Counter(step.name for step in journal.steps)
    passed_by = Counter(word(event.data, "step") for event in journal.of_kind("step.skipped"))
    strange = sorted((begun + passed_by) - wanted)
    if strange:
        yield f"steps stand in it that the drill does not have, or has less often: {listed(strange)}"
    missing = sorted(wanted - begun - passed_by)
    if missing and journal.is_finished:
        yield f"steps of the drill neither ran nor were skipped: {listed(missing)}"
    ended = {step.finished.seq for step in journal.steps if step.finished is not None}
    loose = [event.seq for event in journal.of_kind("step.finished") if event.seq not in ended]
    if loose:
        yield f"event #{loose[0]} ends a step that had not begun"
    stopped = {word(each, "step") for each in journal.aborts}
    open_ = [step.name for step in journal.steps if step.finished is None and step.name not in stopped]
    if open_ and journal.is_finished:
        yield f"a step began and has no end: {listed(open_)}"


def _conclusion(journal: Journal) -> Iterator[str]:
    if journal.judged is None:
        return
    found = verdict(journal.judged, "verdict")
    if found is None:
        yield "the run was judged without a verdict"
        return
    counted = [each for step in journal.steps if (each := step.verdict) and _counts(step.name, each)]
    counted += [verdict(each, "verdict") or Verdict.INCONCLUSIVE for each in objects(journal.judged, "objectives")]
    if journal.aborts or not objects(journal.judged, "objectives"):
        counted.append(Verdict.INCONCLUSIVE)
    least = Verdict.worst([Verdict.PASS, *counted])
    if _RANK[found] < _RANK[least]:
        yield f"the run was judged as {found.value}, and what it consists of is {least.value}"
    if bool(word(journal.judged, "aborted")) != bool(journal.aborts):
        yield "its conclusion and its events do not agree on whether the run was stopped early"
    if journal.is_finished and word(journal.last.data, "verdict") != found.value:
        yield f"the run was judged as {found.value}, and ends as {word(journal.last.data, 'verdict') or 'nothing'}"


def _counts(step: str, found: Verdict) -> bool:
    return found is Verdict.FAIL or step not in JUDGED_BY_OBJECTIVE
