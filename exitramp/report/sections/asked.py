"""Who was asked the golden questions: one stack after the other, or twice an application whose inside nobody saw."""

from __future__ import annotations

from typing import Final

from exitramp.report.model import Cell
from exitramp.report.sections.fields import Data, count, part, word
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.stacks import has_chat
from exitramp.report.sections.words import PARTS, fault_words, listed, step_words

_ASKED: Final = {
    "baseline": "Golden questions asked of the application",
    "replay": "Golden questions asked of the application again",
}
_REPLAYS: Final = ("baseline", "replay", "outage")
NOBODY_ANSWERS: Final = (
    "No chat model took part: nothing was generated, so there are no answers and no tokens to count."
)


def application_asked(journal: Journal) -> bool:
    """Whether an application was asked, and not the stacks."""
    return bool(part(journal.drill, "application")) or any(
        word(journal.data(step), "application", "name") for step in _REPLAYS
    )


def nobody_answers(journal: Journal) -> bool:
    """Whether what was retrieved is all that there is to judge: no chat model, and no application that may have one."""
    return not has_chat(journal) and not application_asked(journal)


def side_names(journal: Journal) -> tuple[str, str]:
    """What the two columns of a comparison are; from outside nobody sees which stack stood behind an answer."""
    return ("baseline", "replay") if application_asked(journal) else ("primary", "substitute")


def columns(journal: Journal) -> tuple[str, str]:
    first, second = side_names(journal)
    return first.capitalize(), second.capitalize()


def done_words(journal: Journal, step: str) -> str:
    """What the step did, and whom it asked."""
    return _ASKED[step] if step in _ASKED and application_asked(journal) else step_words(step)


def broken_meanwhile(journal: Journal) -> str:
    """What of the primary was broken while the questions were asked again; "" where nothing was."""
    replay = journal.step("replay")
    if replay is None:
        return ""
    broken: dict[str, str] = {}
    for event in journal.events[: replay.started.seq]:
        if event.kind == "fault.injected":
            on = word(event.data, "on")
            broken[on] = f"the {PARTS.get(on, on)} {fault_words(word(event.data, 'fault'), word(event.data, 'how'))}"
        elif event.kind == "fault.healed":
            broken.pop(word(event.data, "on"), None)
        elif event.kind == "rollback.healed":
            broken.clear()
    return listed(list(broken.values()))


def answered_title(journal: Journal) -> str:
    return "Searched without an error" if nobody_answers(journal) else "Questions answered"


def measures_explained(journal: Journal) -> str:
    """What nDCG, recall and an assertion are: of what this drill has."""
    told = (
        "nDCG: how far up the relevant passages stand among those found; recall: what share of them was found; the"
        " number behind @ is how many were looked at, and 1 is best."
    )
    return told if nobody_answers(journal) else f"{told} An assertion is what an answer must say or must not say."


def tokens_cell(asked: Data, key: str) -> Cell:
    """`13,800`; where nobody told how many, that: no model reads nothing."""
    if not count(asked, "prompt_tokens") and not count(asked, "gen_tokens"):
        by = " by the application" if part(asked, "application") else ""
        return f"not told{by}"
    return count(asked, key)
