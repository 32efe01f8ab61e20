"""Whether an approximate index answered, or a comparison with every vector: recall shows something of an index only
where one took part."""

from __future__ import annotations

from collections.abc import Iterator

from exitramp.report.sections.fields import Data, count, objects, part, word
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.stacks import PRIMARY, SUBSTITUTE
from exitramp.report.sections.words import counted
from exitramp.report.text import number_text

_SIDES = ((PRIMARY, "a"), (SUBSTITUTE, "b"))


def how_found(neighbours: Data) -> Iterator[str]:
    """Of each side one sentence: what answered its searches."""
    for stack, side in _SIDES:
        state = word(neighbours, f"index_{side}")
        if not state:
            continue  # it was not asked
        if state != "ready":
            yield f"The index of the {stack} was not ready: it said “{state}”."
        yield f"The {stack} {_answered(part(neighbours, f'coverage_{side}'))}."
        asked = _asked(part(neighbours, f"settings_{side}"))
        if asked:
            yield f"It was searched with {asked}."


def _asked(told: Data) -> str:
    """With what settings a store was searched, beside what it does by itself; "" where nothing was said."""
    given, own = part(told, "options"), part(told, "defaults")
    words = [
        f"{name} {value}" + (f" (by itself {own[name]})" if own.get(name) is not None else "")
        for name, value in given.items()
    ]
    words += [f"its own {name} of {value}" for name, value in own.items() if name not in given and value is not None]
    return ", ".join([*words, *(["exact search"] if told.get("exact") is True else [])])


def _answered(told: Data) -> str:
    indexed, compared = count(told, "indexed"), count(told, "compared")
    if indexed is None or compared is None:
        return "does not tell whether an approximate index answered or every vector was compared"
    if not indexed:
        return f"compared {_all(compared, told)} with each query, exactly, and no index took part{_note(told)}"
    if not compared:
        return f"answered from its approximate index of {counted(indexed, 'vector')}{_among(told)}"
    return (
        f"has {number_text(indexed)} of its {counted(indexed + compared, 'vector')} in an approximate index, by its own"
        f" count{_among(told)}, and compared the others one by one{_note(told)}"
    )


def untested(journal: Journal) -> Iterator[tuple[str, str]]:
    """The stack whose index was not tested, or not wholly, and what is to be said of it."""
    first, further = part(journal.data("parity"), "neighbours"), objects(journal.data("parity"), "further_neighbours")
    measured = [each for each in (first, *further) if objects(each, "parts")]
    if not measured:
        return
    # Of the vectors that stores count: no store tells how it answers for sparse ones.
    found = next((each for each in measured if word(each, "kind") != "sparse"), measured[0])
    for stack, side in _SIDES:
        if not word(found, f"index_{side}"):
            continue
        told = part(found, f"coverage_{side}")
        indexed, compared = count(told, "indexed"), count(told, "compared")
        text = ""
        if indexed is None or compared is None:
            text = "Its store does not tell whether one answered, so its recall may be that of a full comparison."
        elif not indexed:
            text = f"It compared {_all(compared, told)} with each query{_note(told)}: what it found is complete by"
            text += " construction, and shows neither what an index of it would find, nor how quickly."
        elif compared:
            text = f"{number_text(indexed)} of its {counted(indexed + compared, 'vector')} stood in it, by its own"
            text += f" count{_among(told)}; the others were compared one by one."
        if text:
            yield stack, text


def _all(number: int, told: Data) -> str:
    return "its one vector" if number == 1 else f"all {counted(number, 'vector')}{_among(told)}"


def _among(told: Data) -> str:
    """Of how many fields a store counted its vectors, where it is more than the one that is spoken of."""
    fields = count(told, "fields")
    return f" of {fields} fields together" if fields is not None and fields > 1 else ""


def _note(told: Data) -> str:
    note = word(told, "note")
    return f" ({note})" if note else ""
