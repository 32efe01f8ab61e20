"""An exit in good order: parallel run, late writes, cut-over, the way back, and what the vendor still holds."""

from __future__ import annotations

from collections.abc import Iterator

from exitramp.report.model import (
    Blank,
    Block,
    Bullets,
    Cell,
    Column,
    KeyValues,
    Quantity,
    Row,
    Subheading,
    Table,
    code,
    numbers,
    prose,
    row,
)
from exitramp.report.sections.fields import Data, count, figure, flag, objects, part, word
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.words import counted, listed, not_measured
from exitramp.report.text import number_text

_PROOF = (
    "the collection, its namespaces, indexes and snapshots, by name, with the number of records deleted",
    "backups and replicas: deleted too, or by which date they are overwritten",
    "logs and traces of questions and answers, files and fine-tuned models, caches, and what support cases hold",
    "sub-processors that hold copies, each by name",
    "when it was done, how, and by whom, in a letter that somebody answers for",
)


def planned_results(journal: Journal) -> Iterator[Block]:
    """Nothing of a drill that has none of these steps."""
    for step, title, told in (
        ("parallel_run", "The parallel run", _parallel),
        ("catch_up", "Late writes brought over", _catch_up),
        ("cut_over", "The cut-over", _cut_over),
        ("way_back", "The way back", _way_back),
        ("vendor_data", "What the leaving vendor still holds", _vendor_data),
    ):
        if journal.wanted(step):
            yield Subheading(title)
            if journal.step(step) is None:
                yield not_measured(journal, step)
            else:
                yield from told(journal.data(step))


def _parallel(data: Data) -> Iterator[Block]:
    seconds = figure(data, "seconds")
    yield prose(
        "Both sides were asked the same questions at the same time, each answering from itself alone, while the primary"
        " went on being written" + (f", for {number_text(seconds, 1)} s." if seconds is not None else ".")
    )
    yield Table(
        "Both sides under the same stream",
        (
            Column("Side"),
            numbers("Requests"),
            numbers("Good answers"),
            numbers("Failed"),
            numbers("Median", "ms", 0),
            numbers("95th percentile", "ms", 0),
        ),
        tuple(_one_side(side, part(data, "sides", side)) for side in ("primary", "substitute")),
    )
    agreed = part(data, "agreement")
    mean = figure(agreed, "mean_overlap")
    yield KeyValues(
        (
            ("Questions that both answered", count(agreed, "pairs")),
            ("Retrieved the same, on average", None if mean is None else Quantity(mean * 100, "%", 1)),
            ("The same record in the first place", count(agreed, "same_first")),
        )
    )
    yield _rounds("Followed while it was being written", objects(data, "rounds"), written=True)


def _one_side(side: str, data: Data) -> Row:
    return row(
        side,
        count(data, "requests"),
        count(data, "good"),
        count(data, "failed"),
        figure(data, "latency_ms", "p50"),
        figure(data, "latency_ms", "p95"),
    )


def _rounds(caption: str, rounds: tuple[Data, ...], *, written: bool = False) -> Table:
    before = (numbers("Written"), numbers("Deleted")) if written else ()
    return Table(
        caption,
        (
            numbers("Round"),
            *before,
            numbers("Missing"),
            numbers("Changed"),
            numbers("Not deleted"),
            numbers("Brought over"),
            numbers("Took", "s", 1),
        ),
        tuple(
            row(
                number,
                *((count(each, "written"), count(each, "deleted_there")) if written else ()),
                *(count(each, name) for name in ("missing", "changed", "extra", "upserted")),
                figure(each, "seconds"),
            )
            for number, each in enumerate(rounds, start=1)
        ),
    )


def _catch_up(data: Data) -> Iterator[Block]:
    yield _rounds("Until nothing differed", objects(data, "rounds"))
    yield KeyValues(tuple(_compared(data)))


def _compared(data: Data) -> list[tuple[str, Cell]]:
    found = part(data, "parity")
    kinds = [count(found, "counts", name) for name in ("missing", "extra", "document", "payload", "vector")]
    known = [each for each in kinds if each is not None]
    return [
        ("Records compared, one by one", count(found, "rows", "compared")),
        ("Differences found", sum(known) if len(known) == len(kinds) else None),
    ]


def _cut_over(data: Data) -> Iterator[Block]:
    switched = figure(data, "switched_after_seconds")
    by_stack = part(data, "by_stack")
    answered = listed([f"{name} {number_text(by_stack[name])}" for name in by_stack])
    yield KeyValues(
        (
            ("Agreed moment", word(data, "agreed_at") or None),
            ("Begun later than agreed by", _seconds(data, "begun_late_seconds")),
            ("The agreed moment, after the stream began", _seconds(data, "agreed_after_seconds")),
            (
                "Traffic was moved, after the stream began",
                "it was not moved" if switched is None else Quantity(switched, "s", 2),
            ),
            (
                "Writes waited for it",
                "until the comparison said no" if switched is None else _seconds(data, "writes_held_seconds"),
            ),
            *_compared(data),
            ("Requests meanwhile", count(data, "requests")),
            ("Answered by", answered or "nobody"),
            ("Without a good answer", count(data, "failed")),
            ("Our count agrees with the vendors’ own", _yes(flag(data, "adds_up"))),
            *(
                [
                    ("Written to the substitute since", count(data, "written_since", "upserted")),
                    ("Deleted there since", count(data, "written_since", "deleted")),
                ]
                if switched is not None
                else []
            ),
        )
    )
    if switched is None:
        yield prose(
            "Writes were held at the agreed moment, the last ones brought over and every record compared. The two sides"
            " differed, so traffic stayed on the primary; section 15 names the records."
        )
        return
    yield prose(
        "Between the agreed moment and the move, writes were held, the last ones brought over and every record"
        " compared; had one differed, traffic would have stayed. Requests under way ended where they began."
    )


def _way_back(data: Data) -> Iterator[Block]:
    if flag(data, "needed") is False:
        yield prose("There was nothing to go back from: traffic had not been moved.")
        return
    sync = part(data, "sync")
    yield KeyValues(
        (
            ("Carried back to the primary", count(sync, "upserted") if sync else "nothing"),
            ("Deleted there", count(sync, "deleted") if sync else "nothing"),
            *(_compared(data) if sync else []),
            ("Requests meanwhile", count(data, "requests")),
            ("Without a good answer", count(data, "failed")),
            ("The last ones came from the primary", _yes(flag(data, "back_on_primary"))),
        )
    )


def _vendor_data(data: Data) -> Iterator[Block]:
    records, name = count(data, "records"), word(data, "collection")
    deleted = count(data, "deleted")
    if deleted is None:
        held = counted(records, "record") if records is not None else "an unknown number of records"
        yield prose("Nothing was deleted. To be deleted would be ", held, " of the collection ", code(name or "?"), ".")
    else:
        yield prose(f"{counted(deleted, 'record')} deleted, as the drill file asks; {count(data, 'left')} are left.")
    if flag(data, "chat"):
        yield prose("The chat vendor may keep questions and answers by its own rules.")
    yield prose("What no program here can see or reach, and what proof of deletion should name:")
    yield Bullets(tuple((each,) for each in _PROOF))
    yield Blank("Deletion asked for on, proof due by, received on", 2)


def _seconds(data: Data, key: str) -> Cell:
    value = figure(data, key)
    return None if value is None else Quantity(value, "s", 2)


def _yes(value: bool | None) -> Cell:
    return None if value is None else "yes" if value else "no"
