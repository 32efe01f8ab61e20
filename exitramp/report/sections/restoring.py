"""What was put back from the last dump while the outage ran, and how long each part of it took."""

from __future__ import annotations

from collections.abc import Iterator

from exitramp.report.model import Block, Cell, KeyValues, Quantity, Subheading, prose
from exitramp.report.sections.fields import Data, count, figure, flag, part, word
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.words import bytes_text, counted


def restored_meanwhile(journal: Journal) -> Iterator[Block]:
    """Nothing where no store was lost for good."""
    found = part(journal.data("outage"), "restore")
    if not found:
        return
    yield Subheading("Restored while the outage ran")
    yield prose(_destroyed(part(found, "destroyed")))
    facts: list[tuple[str, Cell]] = [
        ("Loss noticed, and the restore begun", _seconds(found, "noticed_after_seconds")),
        ("The dump verified from its files before use", _yes(flag(found, "dump_verified"))),
        ("Verifying it took", _seconds(found, "verify_seconds")),
        ("Restored, read back and compared", _yes(flag(found, "restored"))),
        ("Restoring took", _seconds(found, "restore_seconds")),
        ("Records restored", count(found, "rows")),
        ("Opened for traffic, after the loss", _seconds(found, "ready_after_seconds")),
        ("Age of what was restored, at the loss", _seconds(journal.data("measure_loss"), "staleness_seconds")),
    ]
    yield KeyValues(tuple(facts))
    yield prose(
        "Recovery time counts from the loss to the first good answer of the restored store, so all of this is in it."
        " Until then the substitute was closed: an answer from half of the records would be no good answer."
    )


def _destroyed(told: Data) -> str:
    if word(told, "how") != "live":
        return (
            "The primary’s store was given by address, so it was not touched: its loss was simulated, by refusing"
            " exitramp’s own calls. What a vendor’s real loss would look like was not seen."
        )
    files, size = count(told, "files"), bytes_text(figure(told, "bytes"))
    amount = f" ({counted(files, 'file')}, {size})" if files is not None and size else ""
    return (
        "The primary’s store was a process of this run, on its own files. It was killed and its data deleted from the"
        f" disk{amount}. Nothing brings it back; what remained of it is the dump."
    )


def _seconds(data: Data, key: str) -> Cell:
    value = figure(data, key)
    return None if value is None else Quantity(value, "s", 2)


def _yes(value: bool | None) -> Cell:
    return None if value is None else "yes" if value else "no"
