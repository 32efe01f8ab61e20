"""Part of section 10: the questions whose answer is good on one side only, and their texts where they may be shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from exitramp.report.model import (
    Block,
    Callout,
    Cell,
    Column,
    Notice,
    Subheading,
    Table,
    code,
    prose,
    row,
    strong,
)
from exitramp.report.sections.asked import application_asked, columns, nobody_answers
from exitramp.report.sections.fields import Data, count, objects, word, words
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.words import listed
from exitramp.report.text import number_text

_OUTCOMES: Final = {
    "pass": "met",
    "wrong": "missed",
    "truncated": "broken off",
    "provider_error": "no answer",
    "store_error": "no answer: the store failed",
}
_TEXTS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "question": (("question", "Question"),),
    "answer": (("primary_answer", "Answer of the primary"), ("substitute_answer", "Answer of the substitute")),
}
_KEYS: Final = frozenset(key for columns in _TEXTS.values() for key, _ in columns)
_MOST_CHARACTERS: Final = 800


def shown_texts(journal: Journal) -> tuple[str, ...]:
    """What the drill file says may be shown of flipped cases (`data.show_values`) and stands in the journal."""
    asked = words(journal.drill, "data", "show_values")
    flips = objects(journal.data("compare_quality"), "flips")
    return tuple(
        name for name in _TEXTS if name in asked and any(key in each for key, _ in _TEXTS[name] for each in flips)
    )


def without_texts(data: Data, journal: Journal) -> dict[str, Any]:
    """A step's data for programs: of flipped cases only the texts that may be shown."""
    if not objects(data, "flips"):
        return dict(data)
    allowed = {key for name in shown_texts(journal) for key, _ in _TEXTS[name]}
    hidden = _KEYS - allowed
    kept = [{key: value for key, value in each.items() if key not in hidden} for each in objects(data, "flips")]
    return {**data, "flips": kept}


def flips_blocks(journal: Journal) -> Iterator[Block]:
    yield Subheading("Flipped cases")
    if nobody_answers(journal):
        yield prose("There are none to look for: no chat model took part, so no answer met or missed an assertion.")
        return
    compared = journal.data("compare_quality")
    first, second = columns(journal)
    twice = application_asked(journal)
    if "flips" not in compared:
        yield prose(strong("Not measured."), " No answers were judged on both stacks.")
        return
    flips = objects(compared, "flips")
    if not flips and not any(count(journal.data(step), "assertions_judged") for step in ("baseline", "replay")):
        yield prose("There are none to look for: no answer has an assertion to meet.")
        return
    if not flips:
        both = "at one time met it at the other" if twice else "on one stack met it on the other"
        yield prose(f"None: every answer that met its assertion {both}.")
        return
    shown = shown_texts(journal)
    note = "Questions are named by id: neither they nor the answers are shown."
    if shown:
        note = f"The drill file asks for the texts of these cases ({', '.join(shown)}): they stand below."
    yield Table(
        f"Questions whose answer met its assertion {'at one time only' if twice else 'on one stack only'}",
        (
            Column("Question"),
            Column("Use case"),
            Column(f"{'At' if twice else 'On'} the {first.lower()}"),
            Column(f"{'At' if twice else 'On'} the {second.lower()}"),
            Column("So it is"),
        ),
        tuple(
            row(
                code(word(each, "case_id")),
                word(each, "use_case"),
                *(_OUTCOMES.get(word(each, side), word(each, side)) for side in ("primary", "substitute")),
                word(each, "direction"),
            )
            for each in flips
        ),
        note=note,
    )
    if shown:
        yield from _texts(flips, shown)


def _texts(flips: tuple[Data, ...], shown: tuple[str, ...]) -> Iterator[Block]:
    what = listed([f"{name}s" for name in shown])
    yield Callout(
        Notice.WARNING,
        f"this report shows {what} in full text",
        (
            prose(
                f"Everywhere else it names them by id or hash. The drill file asks for it (data.show_values:"
                f" {', '.join(shown)}): mind who is given this report, in whatever format."
            ),
        ),
    )
    columns = [(key, title) for name in shown for key, title in _TEXTS[name]]
    yield Table(
        "Texts of the flipped cases",
        (Column("Case"), *(Column(title) for _, title in columns)),
        tuple(row(code(word(each, "case_id")), *(_text(each, key) for key, _ in columns)) for each in flips),
        note=f"Of a longer text the first {_MOST_CHARACTERS} characters; report.json holds it all.",
    )


def _text(flip: Data, key: str) -> Cell:
    text = flip.get(key)
    if text is None:
        return "no text came" if key in flip else "not in the journal"
    if not isinstance(text, str) or len(text) <= _MOST_CHARACTERS:
        return text if isinstance(text, str) else "not a text"
    return f"{text[:_MOST_CHARACTERS].rstrip()} … ({number_text(len(text))} characters)"
