"""Section 10: is the substitute as good? Paired results with their bounds, and what is shown but decides nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from exitramp.report.model import (
    Block,
    Bullets,
    Callout,
    Cell,
    Column,
    Fold,
    Notice,
    Quantity,
    Row,
    Section,
    Table,
    code,
    numbers,
    prose,
    row,
    strong,
)
from exitramp.report.sections.asked import (
    NOBODY_ANSWERS,
    answered_title,
    application_asked,
    broken_meanwhile,
    columns,
    measures_explained,
    nobody_answers,
    side_names,
    tokens_cell,
)
from exitramp.report.sections.before import assertions_met, share_cell
from exitramp.report.sections.charts import recall_chart
from exitramp.report.sections.fields import Data, count, figure, figures, flag, objects, part, verdict, word, words
from exitramp.report.sections.flips import flips_blocks
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.words import counted, metric_words, not_measured, true_minus
from exitramp.report.text import number_text

_MOST_IDS: Final = 60


def quality_section(journal: Journal) -> Section:
    compared = journal.data("compare_quality")
    metrics = objects(compared, "metrics")
    if not metrics:
        blocks: list[Block] = [not_measured(journal, "compare_quality")]
        return Section(10, "Quality parity", tuple(blocks), "quality")
    blocks = []
    if flag(compared, "mock"):
        blocks.append(_mocked(words(compared, "mock_sides"), application_asked(journal)))
    blocks += [_how(journal, compared, metrics), _paired(journal, metrics), _reasons(metrics), *_missing(metrics)]
    chart = recall_chart(compared, side_names(journal))
    if chart is not None:
        blocks.append(chart)
    blocks += [_undeciding(metrics), *_use_cases(journal, compared), *flips_blocks(journal), *_replays(journal)]
    return Section(10, "Quality parity", tuple(blocks), "quality")


def _mocked(sides: tuple[str, ...], by_application: bool) -> Callout:
    """Whose answers are a rule's; in a journal that does not say of which side, both may be."""
    if by_application:
        told = (
            "Its file says that the application is a mock: how many of its answers are good says nothing about an"
            " application that somebody uses. What it retrieved is what it told."
        )
        return Callout(Notice.MOCK, "the answers compared here are a mock’s", (prose(told),))
    both = len(sides) != 1
    real = "substitute" if sides == ("primary",) else "primary"
    told = (
        "The assertions judge answers that a rule picked out of what was retrieved: they show that the comparison"
        " works, not how a vendor’s model answers."
    )
    if not both:
        told = (
            f"A rule picked the {sides[0]}’s answers out of what was retrieved; the {real}’s are a real model’s, and"
            f" how many are good is its own doing. How a real vendor’s model would do as the {sides[0]} was not seen."
        )
    title = "the answers compared here are mocks’" if both else f"the {sides[0]}’s answers are a mock’s"
    return Callout(Notice.MOCK, title, (prose(f"Retrieval was measured on the stores themselves. {told}"),))


def _how(journal: Journal, compared: Data, metrics: tuple[Data, ...]) -> Block:
    pairs = {count(each, "n") for each in metrics}
    alone = pairs.pop() if len(pairs) == 1 else None
    asked = f"The same {counted(alone, 'question')} were" if alone is not None else "The same questions were"
    confidence = figure(metrics[0], "confidence")
    sure = f", each one-sided at {number_text(confidence * 100)}%" if confidence is not None else ""
    margin = figure(compared, "margin")
    at = f"−{margin:g}, the margin fixed before the run" if margin is not None else "the margin"
    whom = "of both stacks"
    if application_asked(journal):
        broken = broken_meanwhile(journal)
        meanwhile = f" (broken of the primary at the second time: {broken})" if broken else ""
        whom = f"twice of the application, which may answer from either stack{meanwhile},"
    return prose(
        f"{asked} asked {whom} and compared in pairs. What decides are the two bounds of the paired"
        f" difference{sure}: a measure passes if the lower one lies above {at}, fails if the upper one lies below it,"
        " and is inconclusive otherwise. Every measure must pass.",
    )


def _paired(journal: Journal, metrics: tuple[Data, ...]) -> Table:
    first, second = columns(journal)
    return Table(
        f"Paired differences, {second.lower()} minus {first.lower()}",
        (
            Column("Measure"),
            numbers("Pairs"),
            numbers(first, "", 3),
            numbers(second, "", 3),
            Column("Difference, and its two bounds"),
            Column("Margin"),
            Column("Method"),
        ),
        tuple(_metric(each) for each in metrics),
        note="A result of fewer pairs than are needed to see a loss of the margin is inconclusive, whatever was seen."
        f" {measures_explained(journal)}",
    )


def _metric(each: Data) -> Row:
    margin, difference = figure(each, "margin"), figure(each, "difference")
    shown: Cell = None
    if difference is not None:
        shown = Quantity(difference, "", 3, figure(each, "lower"), figure(each, "upper"))
    return row(
        metric_words(word(each, "metric")),
        count(each, "n"),
        figure(each, "primary"),
        figure(each, "substitute"),
        shown,
        None if margin is None else f"−{margin:g}",
        word(each, "method") or None,
        verdict=verdict(each, "verdict"),
    )


def _reasons(metrics: tuple[Data, ...]) -> Block:
    return Bullets(
        tuple(
            (strong(f"{metric_words(word(each, 'metric'))}: "), true_minus(word(each, "reason")), _needed(each))
            for each in metrics
        )
    )


def _needed(each: Data) -> str:
    needed = count(each, "cases_needed")
    return f" ({needed} pairs are the fewest that allow a verdict)" if needed is not None else ""


def _missing(metrics: tuple[Data, ...]) -> Iterator[Block]:
    for each in metrics:
        for key, title in (
            ("unmeasured", "left out: the primary gave no value"),
            ("substitute_missing", "counted as failed: the substitute gave no value"),
        ):
            ids = words(each, key)
            if ids:
                shown = ", ".join(ids[:_MOST_IDS]) + (" …" if len(ids) > _MOST_IDS else "")
                name = metric_words(word(each, "metric"))
                yield prose(f"{name}: {counted(len(ids), 'case')} {title}: ", code(shown))


def _undeciding(metrics: tuple[Data, ...]) -> Block:
    rows = []
    for each in metrics:
        name = metric_words(word(each, "metric"))
        table = part(each, "counts")
        if table:
            both, mine, theirs, none = (
                count(table, key) for key in ("both", "primary_only", "substitute_only", "neither")
            )
            rows.append(
                row(f"{name}: on both, primary only, substitute only, neither", _joined(both, mine, theirs, none))
            )
        if "mcnemar_p" in each:
            p = figure(each, "mcnemar_p")
            told = "for yes or no, not for a grade" if p is None else Quantity(p, "", 4)
            rows.append(row(f"{name}: McNemar’s exact p", told))
        for side in ("primary", "substitute"):
            ends = figures(each, f"{side}_wilson")
            rate = figure(each, side)
            if len(ends) == 2 and rate is not None:
                rows.append(row(f"{name}: Wilson interval, {side}", Quantity(rate, "", 3, ends[0], ends[1])))
    return Fold(
        "Shown for the reader, and decides nothing: McNemar’s test and Wilson intervals",
        (
            Table(
                "These decide nothing",
                (Column("What"), Column("Value")),
                tuple(rows),
                note="McNemar asks whether the two differ at all; the question here is whether the substitute is worse"
                " by more than the margin.",
            )
            if rows
            else prose("Neither was computed for these measures."),
        ),
    )


def _joined(*counts: int | None) -> Cell:
    return None if None in counts else ", ".join(number_text(each) for each in counts if each is not None)


def _use_cases(journal: Journal, compared: Data) -> Iterator[Block]:
    first, second = columns(journal)
    by_metric = part(compared, "use_cases")
    rows = [
        row(
            f"{word(each, 'use_case')}: {metric_words(metric)}",
            count(each, "n"),
            figure(each, "primary"),
            figure(each, "substitute"),
            figure(each, "difference"),
        )
        for metric in by_metric
        for each in objects(by_metric, metric)
    ]
    if rows:
        rows.sort(key=lambda one: str(one.cells[0]).partition(":")[0])  # the sort keeps the metrics' order
        yield Table(
            "By use case: descriptive, decides nothing",
            (
                Column("Use case and measure"),
                numbers("Pairs"),
                numbers(first, "", 3),
                numbers(second, "", 3),
                numbers("Difference", "", 3),
            ),
            tuple(rows),
            note="So few pairs cannot carry a verdict of their own.",
        )


def _replays(journal: Journal) -> Iterator[Block]:
    before, after = journal.data("baseline"), journal.data("replay")
    if not count(before, "asked") or not count(after, "asked"):
        return
    mocked, silent = flag(before, "mock") or flag(after, "mock"), nobody_answers(journal)
    by_application = application_asked(journal)
    asserted = row("Assertions met", *(assertions_met(side) for side in (before, after)))
    tokens = (
        row("Tokens read", *(tokens_cell(side, "prompt_tokens") for side in (before, after))),
        row("Tokens written", *(tokens_cell(side, "gen_tokens") for side in (before, after))),
    )
    when = "Asked patiently, one after the other, while nothing was broken or moved."
    if broken_meanwhile(journal):
        when = "Asked patiently, one after the other. Broken of the primary when they were asked again:"
        when += f" {broken_meanwhile(journal)}."
    yield Table(
        f"The same questions, {'asked of the application twice' if by_application else 'on both stacks'}",
        (Column("What"), *map(Column, columns(journal))),
        (
            row(
                answered_title(journal),
                *(share_cell(count(side, "answered"), count(side, "asked")) for side in (before, after)),
            ),
            *(() if silent else (asserted,)),
            row(f"nDCG@{before.get('k', '?')}", *(_plain(side, "ndcg") for side in (before, after))),
            row(f"Recall@{before.get('k', '?')}", *(_plain(side, "recall") for side in (before, after))),
            row("Mean reciprocal rank", *(_plain(side, "mrr") for side in (before, after))),
            row("Latency, median", *(_ms(side, "p50") for side in (before, after))),
            row("Latency, 95th percentile", *(_ms(side, "p95") for side in (before, after))),
            *(() if silent else tokens),
        ),
        note=when
        + (" Where a mock answered, latency contains what it waits on purpose." if mocked else "")
        + (f" {NOBODY_ANSWERS}" if silent else ""),
    )


def _plain(side: Data, key: str) -> Cell:
    value = figure(side, key)
    return None if value is None else Quantity(value, "", 3)


def _ms(side: Data, key: str) -> Cell:
    value = figure(side, "latency_ms", key)
    return None if value is None else Quantity(value, "ms", 1)
