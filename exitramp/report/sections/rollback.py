"""Section 14: the way back, proven by the digests of both sides beside each other."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from exitramp.records import Verdict
from exitramp.report.model import (
    Block,
    Cell,
    Column,
    Fold,
    KeyValues,
    Row,
    Section,
    Subheading,
    Table,
    code,
    numbers,
    prose,
    row,
    strong,
)
from exitramp.report.sections.asked import application_asked
from exitramp.report.sections.consent import given_up
from exitramp.report.sections.fields import Data, count, flag, objects, part, verdict, word
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.words import listed, not_measured
from exitramp.report.text import number_text

_SIDES = (
    ("primary_digests_before", "Primary, before the outage"),
    ("primary_digests", "Primary, after it"),
    ("substitute_digests", "Substitute, after it"),
)
_MOVES = ("restore", "reembed", "catch_up", "cut_over", "parallel_run", "late_writes")
"""Steps that put something into the substitute, or are there to have it lack something."""
_SHOWN = 16


def rollback_section(journal: Journal) -> Section:
    found = journal.data("rollback")
    if not found and journal.wanted("way_back"):
        told = prose("The way back of an exit in good order stands in section 9, beside the cut-over.")
        return Section(14, "Rollback", (told,), "rollback")
    if not found:
        return Section(14, "Rollback", (not_measured(journal, "rollback"),), "rollback")
    return Section(
        14, "Rollback", (*_traffic(journal, found), *_sync(journal, found), *_digests(journal, found)), "rollback"
    )


def _traffic(journal: Journal, found: Data) -> Iterator[Block]:
    yield Subheading("Did traffic go back?")
    traffic = part(found, "traffic")
    if not traffic:
        yield prose(strong("Not measured."), " There was no stream of requests that could have gone back.")
        return
    by_stack = part(traffic, "by_stack")
    if application_asked(journal):
        yield from _of_an_application(traffic, by_stack)
        return
    answered = listed(
        [f"{name} {number_text(by_stack[name])}" for name in by_stack if count(by_stack, name) is not None]
    )
    yield KeyValues(
        (
            ("Requests after the vendor returned", count(traffic, "requests")),
            ("Answered by", answered or "nobody"),
            ("Failed", count(traffic, "failed")),
            ("The last ones came from the primary", _yes(flag(traffic, "back_on_primary"))),
        )
    )


def _of_an_application(traffic: Data, by_stack: Data) -> Iterator[Block]:
    """From outside nobody sees who stood behind an answer: what is known is that it answers, and what each vendor's
    own account has meanwhile."""
    name = word(traffic, "application")
    yield KeyValues(
        (
            ("Requests to the application after the vendor returned", count(traffic, "requests")),
            ("Failed", count(traffic, "failed")),
            ("The last ones were answered well", _yes(flag(traffic, "answers_well"))),
            *(
                (f"Answered meanwhile, by the account of the {stack}’s vendor", count(by_stack, stack))
                for stack in by_stack
            ),
            (
                "The primary’s vendor was asked again",
                "no account tells" if flag(traffic, "back_on_primary") is None else _yes(traffic["back_on_primary"]),
            ),
        )
    )
    yield prose(
        f"Which vendor stood behind which answer of “{name}” was not seen; an account counts what came to its vendor,"
        " from whomever, and an application may ask both for one question."
    )


def _sync(journal: Journal, found: Data) -> Iterator[Block]:
    yield Subheading("Bringing over what the substitute lacked")
    sync = part(found, "sync")
    if not sync:
        asked = any(flag(each, "sync") for each in objects(journal.drill, "steps") if word(each, "name") == "rollback")
        why = "The drill file asks for no synchronisation."
        if asked:
            why = "The drill file asks for it, and it was not done"
            why += f": the drill was stopped {journal.stopped_where}." if journal.aborted else "."
        yield prose(strong("Not done."), f" {why}")
        return
    yield Table(
        "Synchronised from the primary",
        (Column("What"), numbers("Records")),
        tuple(
            row(title, count(sync, key))
            for key, title in (
                ("missing", "Were missing"),
                ("changed", "Were different"),
                ("extra", "Should not have been there"),
                ("upserted", "Written"),
                ("deleted", "Deleted"),
            )
        ),
    )


def _digests(journal: Journal, found: Data) -> Iterator[Block]:
    yield Subheading("Digests side by side")
    sides = [(title, part(found, key)) for key, title in _SIDES]
    was_moved = any(map(journal.wanted, _MOVES))
    if not was_moved and not sides[-1][1]:
        sides = sides[:-1]  # there is no column for what nobody filled
    if not any(side for _, side in sides):
        yield prose(strong("Not measured."), " No digests were taken after the outage.")
        return
    names = [("rows", "records"), ("ids", "ids"), ("payloads", "payloads")]
    columns = sorted({column for _, side in sides for column in part(side, "vectors")})
    lost = {each.subject for each in given_up(journal)}
    rows = [_compared(found, sides, (key,), title, lost, was_moved=was_moved) for key, title in names]
    rows += [
        _compared(found, sides, ("vectors", column), f"vectors: {column}", lost, was_moved=was_moved)
        for column in columns
    ]
    yield Table(
        "The same data on both sides?" if len(sides) == len(_SIDES) else "Is the primary as it was?",
        (Column("Digest of"), *(Column(title) for title, _ in sides), Column("So they are")),
        tuple(rows),
        note=_compared_how(sides),
    )
    whole = [
        (f"{title}: {name}", _digest(side, path, whole=True))
        for title, side in sides
        for path, name in [
            (("ids",), "ids"),
            (("payloads",), "payloads"),
            *((("vectors", c), f"vectors: {c}") for c in columns),
        ]
    ]
    yield Fold("The hashes in full", (KeyValues(tuple(whole)),))


def _compared_how(sides: list[tuple[str, Data]]) -> str:
    """What was compared: never more than what two sides have."""
    read = [title for title, side in sides if side]
    if len(read) < 2:
        return f"Only one was taken ({read[0][0].lower() + read[0][1:]}), so nothing could be compared."
    return f"The first {_SHOWN} characters are shown; the whole hashes were compared."


def _compared(
    found: Data,
    sides: list[tuple[str, Data]],
    path: tuple[str, ...],
    title: str,
    lost: Collection[str],
    *,
    was_moved: bool,
) -> Row:
    values = [_raw(side, path) for _, side in sides]
    values += [""] * (len(_SIDES) - len(values))
    told, result = _judged(found, values, path, was_moved=was_moved)
    if result is Verdict.PASS and path[-1] in lost and values[-1] != values[1]:
        told, result = "different by what was given up by consent, and by nothing else", None
    return row(title, *(_digest(side, path) for _, side in sides), told, verdict=result)


def _judged(found: Data, values: list[str], path: tuple[str, ...], *, was_moved: bool) -> tuple[Cell, Verdict | None]:
    """Equal on every side that has one; a vector that a store changed by design is judged by its tolerance.

    was_moved: whether the drill was to put anything into the substitute, so that there is something to compare.
    """
    before, after, other = values
    if not after or (not before and not other):
        return None, Verdict.INCONCLUSIVE
    if before and before != after:
        return "the primary came back with other data", Verdict.FAIL
    if not other and not was_moved:
        return "the primary is as it was; nothing was moved, so there was nothing to compare it with", Verdict.PASS
    if not other:
        return "the primary is as it was; the substitute was not compared", Verdict.INCONCLUSIVE
    if other == after:
        return "equal", Verdict.PASS
    if path[0] == "vectors" and verdict(found, "parity", "verdict") is Verdict.PASS:
        return "within the plan’s tolerance, record by record", Verdict.PASS
    return "different", Verdict.FAIL


def _raw(side: Data, path: tuple[str, ...]) -> str:
    rows = count(side, *path)
    return word(side, *path) or ("" if rows is None else str(rows))


def _digest(side: Data, path: tuple[str, ...], *, whole: bool = False) -> Cell:
    rows = count(side, *path)
    if rows is not None:
        return number_text(rows)
    text = word(side, *path)
    return None if not text else code(text if whole else text[:_SHOWN] + "…")


def _yes(value: bool | None) -> Cell:
    return None if value is None else "yes" if value else "no"
