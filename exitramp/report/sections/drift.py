"""Another model behind the same name: what monitoring saw of it, and what asking the same questions again found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from exitramp.report.model import (
    NOT_APPLICABLE,
    Block,
    Callout,
    Cell,
    Column,
    KeyValues,
    Notice,
    Quantity,
    Row,
    Subheading,
    Table,
    numbers,
    prose,
    row,
)
from exitramp.report.sections.charts import latency_chart
from exitramp.report.sections.fields import Data, count, figure, flag, objects, part, word
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.words import counted, not_measured, true_minus

_WINDOWS: Final = (
    ("before", "Before"),
    ("drifted", "While the other model answered"),
    ("switched", "After the switch"),
)


def drifted(journal: Journal) -> Iterator[Block]:
    """Nothing of a drill in which nobody was asked again."""
    if journal.wanted("silent_drift"):
        yield Subheading("Another model behind the same name")
        data = journal.data("silent_drift")
        yield from _drift(data) if data else (not_measured(journal, "silent_drift"),)
    if journal.wanted("ask_again"):
        yield Subheading("The primary, asked again")
        found = journal.every("ask_again")
        if not found:
            yield not_measured(journal, "ask_again")
        else:
            rows = tuple(_round(f"Time {place}", each) for place, each in enumerate(found, 1))
            yield _rounds("The primary now against its own baseline", rows)


def _drift(data: Data) -> Iterator[Block]:
    if flag(data, "mock"):
        yield Callout(
            Notice.MOCK, "these answers are a mock’s", (prose("Both models are rules of it: how far apart is set."),)
        )
    yield prose(_told(data))
    chart = latency_chart({**data, "phases": list(_phases(data))})
    if chart is not None:
        yield replace(chart, title="Latency around the drift, one mark for each request")
    yield _monitoring(part(data, "monitoring"))
    yield _rounds(
        "The golden questions, asked of the primary under the same load",
        tuple(_round(_when(each, data), each) for each in objects(data, "rounds")),
    )
    if not flag(data, "drift"):
        return
    found = flag(data, "found")
    yield KeyValues(
        (
            ("From the drift to its being found", _seconds(data, "detect_seconds") if found else "it was not found"),
            ("Of that, before the first replay began", _seconds(data, "unseen_seconds")),
            ("Of that, the replay that found it", _seconds(data, "round_seconds") if found else NOT_APPLICABLE),
            ("From the drift to the switch", _seconds(data, "switched_seconds") if found else "nobody switched"),
            ("From the drift to the substitute’s first good answer (RTO)", _seconds(data, "rto_seconds")),
            ("Answers that the other model gave to users", count(data, "answered_drifted")),
        )
    )


def _told(data: Data) -> str:
    if not flag(data, "drift"):
        alarm = "it was reported all the same, falsely" if flag(data, "false_alarm") else "and none was found"
        return f"A control run: no other model answered, {alarm}."
    how = "its vendor put" if word(data, "how") == "live" else "exitramp’s own calls played that its vendor put"
    text = (
        f"Under load, and told to nobody, {how} another model behind the name that the primary’s application asks for."
    )
    if flag(data, "is_silent"):
        text += " No request failed, no attempt failed, none went elsewhere by itself and no breaker opened."
    return text + " What can find it is asking the same questions again and holding the primary against itself."


def _monitoring(windows: Data) -> Table:
    return Table(
        "What monitoring by errors, latency and the breaker saw",
        (
            Column("When"),
            numbers("Requests"),
            numbers("Without a good answer"),
            numbers("Failed attempts"),
            numbers("Breaker opened"),
            numbers("By the primary"),
            numbers("By the substitute"),
            numbers("Median", "ms", 0),
            numbers("95th percentile", "ms", 0),
        ),
        tuple(_window(title, part(windows, name)) for name, title in _WINDOWS if count(windows, name, "requests")),
        note="Latency while questions are replayed contains that the primary has more to do.",
    )


def _window(title: str, data: Data) -> Row:
    names = ("requests", "not_good", "failed_attempts", "breaker_opened", "by_primary", "by_substitute")
    latency = [figure(data, "latency_ms", name) for name in ("p50", "p95")]
    return row(title, *(count(data, name) for name in names), *latency)


def _rounds(caption: str, rows: tuple[Row, ...]) -> Table:
    return Table(
        caption,
        (
            Column("Asked"),
            numbers("Pairs"),
            numbers("Met at the baseline", "", 3),
            numbers("Met now", "", 3),
            Column("Difference, and its two bounds"),
            Column("Margin"),
            numbers("No answer"),
            Column("Worse by more than the margin?"),
        ),
        rows,
        note="Assertions on the answers, in pairs: the same question to the same vendor then and now. It is worse"
        " where even the better bound lies below the margin that the drill file sets.",
    )


def _round(title: str, each: Data) -> Row:
    difference, margin = figure(each, "difference"), figure(each, "margin")
    shown: Cell = None
    if difference is not None:
        shown = Quantity(difference, "", 3, figure(each, "lower"), figure(each, "upper"))
    return row(
        title,
        count(each, "n"),
        figure(each, "before"),
        figure(each, "now"),
        shown,
        None if margin is None else true_minus(f"-{margin:g}"),
        count(each, "errors"),
        # No mark of a failure: where the drift is what is looked for, this is what it should show.
        {"fail": "yes", "pass": "no"}.get(word(each, "verdict"), "not shown"),
    )


def _when(each: Data, data: Data) -> str:
    ended, injected = figure(each, "ended_seconds"), figure(data, "injected_seconds")
    if word(each, "name") == "before":
        return "Before: nothing had changed"
    if ended is None or injected is None:
        return word(each, "name")
    since = "the drift" if flag(data, "drift") else "it would have begun"
    return f"{ended - injected:.1f} s after {since}"


def _phases(data: Data) -> Iterator[Data]:
    """The drift as the chart shades a fault."""
    injected, switched = figure(data, "injected_seconds"), figure(data, "switched_seconds")
    ends = [at for each in objects(data, "timeline") if (at := figure(each, "at_seconds")) is not None]
    if flag(data, "drift") and injected is not None and ends:
        yield {
            "fault": "quality_drift",
            "on": "chat",
            "how": word(data, "how"),
            "injected_seconds": injected,
            "ended_seconds": injected + switched if switched is not None else max(ends),
            "recovery_seconds": figure(data, "rto_seconds"),
        }


def _seconds(data: Data, key: str) -> Cell:
    value = figure(data, key)
    return None if value is None else Quantity(value, "s", 2)


def replayed_words(data: Data) -> tuple[str, str]:
    """An event of the journal: the primary asked again under load, and what it showed."""
    found = "worse than at the baseline" if flag(data, "worse") else "not shown to be worse"
    return (
        f"The primary asked again: {found}",
        f"{counted(count(data, 'n') or 0, 'pair')}; {true_minus(word(data, 'reason'))}",
    )
