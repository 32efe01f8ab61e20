"""Section 9: results by objective and by fault, our count against the vendors' own, and the records that were lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from exitramp.report.model import (
    Block,
    Bullets,
    Callout,
    Cell,
    Column,
    Fold,
    Inline,
    KeyValues,
    Notice,
    Objective,
    Quantity,
    Row,
    Section,
    Subheading,
    Table,
    VerdictTable,
    code,
    numbers,
    prose,
    row,
)
from exitramp.report.sections.application import BY_APPLICATION, accounts_by_fault, through_application
from exitramp.report.sections.charts import latency_chart
from exitramp.report.sections.drift import drifted
from exitramp.report.sections.fields import Data, count, figure, flag, objects, part, word, words
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.planned import planned_results
from exitramp.report.sections.promises import recovery_places, unjudged
from exitramp.report.sections.restoring import restored_meanwhile
from exitramp.report.sections.ways_out import ways_out
from exitramp.report.sections.words import PARTS, counted, fault_words, how_words, listed, not_measured
from exitramp.report.text import number_text

_DID_NOT: Final = "did not happen"
_MOST_IDS: Final = 500
_STORY: Final = {
    True: "Both sides tell the same story.",
    False: "The two sides do not tell the same story.",
    None: "Whether both sides tell the same story is not in the journal.",
}
_KEPT: Final = (
    "They differ in {}: the vendor answered, the proxy in front of it kept the answer, and it was asked for again"
    " elsewhere. Both are billed, and no client can know."
)
_KINDS: Final = (
    ("missing", "not in the substitute"),
    ("stale", "in the substitute in an older state"),
    ("undeleted", "deleted, and still in the substitute"),
)
_STORIES: Final = (
    ("unbacked", "Answers of ours that are in no vendor’s account"),
    ("answered_twice", "Requests answered more than once"),
    ("answered_unseen", "Answered by a vendor, and the answer never arrived"),
    ("foreign", "Answers in the vendors’ accounts to no request of ours"),
)


def results_section(journal: Journal, objectives: Sequence[Objective]) -> Section:
    blocks: list[Block] = [
        VerdictTable("Results by objective", tuple(objectives), unjudged(journal))
        if objectives
        else prose("No objectives were set, so none could be met or missed."),
    ]
    if not objectives and unjudged(journal):
        blocks.append(VerdictTable("What was measured, though no number was promised", (), unjudged(journal)))
    outage = journal.data("outage")
    is_planned = journal.wanted("cut_over") or journal.wanted("parallel_run")
    is_load = not is_planned and not journal.wanted("embedding_gone") and not journal.wanted("silent_drift")
    if is_load or journal.wanted("outage"):
        blocks.append(Subheading("By fault"))
        blocks += _outage(outage, recovery_places(journal)) if outage else [not_measured(journal, "outage")]
        blocks.append(Subheading("Our count and the vendors’ own"))
        blocks += _accounts(outage) if outage else [not_measured(journal, "outage")]
    blocks += planned_results(journal)
    blocks += restored_meanwhile(journal)
    blocks += ways_out(journal)
    blocks += drifted(journal)
    if is_load or journal.wanted("measure_loss"):
        blocks += _lost(journal)
    return Section(9, "Results by objective and fault", tuple(blocks), "results")


def _outage(outage: Data, places: int) -> Iterator[Block]:
    application = part(outage, "application")
    if application:
        yield from through_application(application)
    chart = latency_chart(outage, places)
    if chart is not None:
        yield chart
    if flag(outage, "mock"):
        yield Callout(
            Notice.MOCK,
            "these answers are a mock’s",
            (prose("Latency contains what it waits on purpose; its parameters stand in section 4."),),
        )
    phases = objects(outage, "phases")
    if phases:
        yield _by_fault(phases, places, by_application=bool(application))
        told = tuple(_after_the_fault(phases, part(outage, "reconciliation", "unanswered", "primary")))
        if told:
            yield Bullets(told)
    served = "Good answers while faults were on" if application else "On the substitute"
    yield KeyValues(
        (
            ("Requests in all", count(outage, "requests")),
            ("From the first fault on", count(outage, "during_outage")),
            ("Of these without a good answer", count(outage, "failed_during_outage")),
            ("Cancelled when the stream ended", count(outage, "cancelled")),
            ("Slowest recovery (RTO)", _seconds(figure(outage, "rto_seconds"), places)),
            ("Latency of all, median", _ms(outage, "latency_ms", "p50")),
            ("Latency of all, 95th percentile", _ms(outage, "latency_ms", "p95")),
            (f"{served}, median", _ms(outage, "latency_ms_on_substitute", "p50")),
            (f"{served}, 95th percentile", _ms(outage, "latency_ms_on_substitute", "p95")),
            (f"{served}, slowest", _ms(outage, "latency_ms_on_substitute", "max")),
        )
    )


def _by_fault(phases: Sequence[Data], places: int, *, by_application: bool = False) -> Table:
    return Table(
        "Results by fault, in seconds after its injection",
        (
            Column("The primary’s"),
            Column("How"),
            numbers("Detected", "s", places),
            numbers("Decided", "s", places),
            numbers("First good answer", "s", places),
            numbers("Requests"),
            numbers("Failed"),
            numbers("Median of good answers", "ms", 0) if by_application else numbers("Failed attempts"),
            Column("After healing"),
        ),
        tuple(_fault(each, by_application=by_application) for each in phases),
        note=BY_APPLICATION
        if by_application
        else "Detected: the first attempt on the primary ends in an error. Decided: the breaker opens, and no more"
        " requests go to the primary. First good answer: complete, with a finish reason and passages, from the"
        " substitute. Failed: requests that nobody answered. Failed attempts: on the primary, while the fault"
        " lasted; a request then goes to the substitute by itself, even before the breaker opens for all.",
    )


def _after_the_fault(phases: Sequence[Data], account: Data) -> Iterator[tuple[Inline, ...]]:
    """Why a fault's failed attempts and the vendor's own account of it are not the same number, where they are not."""
    by_fault: dict[tuple[str, str], list[Data]] = {}
    for each in phases:
        by_fault.setdefault((word(each, "fault"), word(each, "on")), []).append(each)
    for (fault, on), ones in by_fault.items():
        within = [count(each, "failures") for each in ones]
        later = [count(each, "late_failures") for each in ones]
        # A vendor that refuses connections never sees what it refuses, and no store keeps an account.
        counted_there = count(account, fault) if on == "chat" else None
        if None in within or None in later:
            continue  # an older journal
        failed, late = sum(filter(None, within)), sum(filter(None, later))
        if not late and counted_there in {None, failed}:
            continue
        told = f" {counted(failed, 'attempt')} failed while it lasted"
        if late:
            told += f", and {number_text(late)} that began before it ended failed after it"
        if counted_there is not None:
            told += f"; the vendor’s own account has {counted(counted_there, 'request')} without an answer"
            differ = counted_there - failed - late
            told += f", {number_text(abs(differ))} {'more' if differ > 0 else 'fewer'} than these" if differ else ""
        yield code(fault), f" on the {PARTS.get(on, on)}:{told}."


def _fault(each: Data, *, by_application: bool) -> Row:
    on, fault, how = word(each, "on"), word(each, "fault"), word(each, "how")
    healed = flag(each, "healed")
    back = "left broken" if healed is None else "served again" if healed else "did not serve again"
    return row(
        f"{PARTS.get(on, on)} {fault_words(fault, how)}",
        how_words(each),
        *(_happened(figure(each, name)) for name in ("detect_seconds", "decide_seconds", "recovery_seconds")),
        count(each, "requests"),
        count(each, "failed"),
        figure(each, "latency_ms", "p50") if by_application else count(each, "failures"),
        back,
    )


def _happened(seconds: float | None) -> Cell:
    """In a phase that was measured, None is not a missing measurement but an event that never came."""
    return _DID_NOT if seconds is None else seconds


def _accounts(outage: Data) -> Iterator[Block]:
    told = part(outage, "reconciliation")
    named = words(told, "vendor_accounts")
    if part(outage, "application"):
        yield from accounts_by_fault(objects(outage, "phases"))
        return
    if not named:
        yield prose("No vendor of this drill keeps an account that can be read, so there was nothing to compare with.")
        return
    agree = flag(told, "adds_up")
    yield prose(
        f"Each request was looked for, by the hash of its id, in the account of what the {listed(named)} chat vendor"
        f"{'s' if len(named) > 1 else ''} answered. ",
        _STORY[agree]
        if not _is_the_proxys(told)
        else _KEPT.format(counted(count(told, "kept_from_arriving") or 0, "request")),
    )
    yield Table(
        "Requests, by what became of them",
        (Column("What became of them"), numbers("Requests")),
        (
            row("Answered", count(told, "answered")),
            row("Failed", count(told, "failed")),
            row("Cancelled", count(told, "cancelled")),
            row("Answered, but slowly", count(told, "slow")),
            *(row(title, count(told, name)) for name, title in _STORIES),
        ),
        note="The last four would each mean that somebody is wrong, or that work was paid for and lost.",
    )


def _is_the_proxys(told: Data) -> bool:
    """Whether all that differs are answers that a proxy kept: given, billed, and asked for again elsewhere."""
    kept = count(told, "kept_from_arriving")
    others = [count(told, name) for name in ("unbacked", "foreign")]
    return bool(kept) and kept == count(told, "answered_unseen") and not any(others) and None not in others


def _lost(journal: Journal) -> Iterator[Block]:
    yield Subheading("Records that the substitute lacked")
    lost = journal.data("measure_loss")
    records = count(lost, "records")
    if records is None:
        yield not_measured(journal, "measure_loss")
        return
    how = word(lost, "how")
    late = journal.data("late_writes")
    if late:
        written = len(words(late, "upserted")), len(words(late, "deleted"))
        were = "was" if written[0] == 1 else "were"
        yield prose(
            f"After the export {counted(written[0], 'record')} {were} written to the primary and"
            f" {number_text(written[1])} deleted, as the drill file announces."
        )
    if not records:
        yield prose(f"None: the substitute held everything ({how}).")
        return
    yield Table(
        "Records lost, had the primary never come back",
        (Column("What is wrong"), numbers("Records")),
        (
            *(row(title, len(words(lost, kind)) if kind in lost else None) for kind, title in _KINDS),
            row("Together (RPO)", records),
        ),
        note=f"How it was found out: {how}." if how else "",
    )
    yield Fold("The records by id", (_by_id(lost),))


def _by_id(lost: Data) -> Table:
    rows, left = [], _MOST_IDS
    for kind, title in _KINDS:
        ids = words(lost, kind)
        if ids:
            shown = ", ".join(ids[:left])
            rows.append(row(title, len(ids), code(shown) if shown else "beyond the first that are shown"))
            left = max(0, left - len(ids))
    total = sum(len(words(lost, kind)) for kind, _ in _KINDS)
    caption = f"The first {_MOST_IDS} of {number_text(total)} ids" if total > _MOST_IDS else "Their ids"
    return Table(caption, (Column("What is wrong"), numbers("Records"), Column("Ids")), tuple(rows))


def _seconds(value: float | None, places: int) -> Cell:
    return None if value is None else Quantity(value, "s", places)


def _ms(data: Data, *keys: str) -> Cell:
    value = figure(data, *keys)
    return None if value is None else Quantity(value, "ms", 0)
