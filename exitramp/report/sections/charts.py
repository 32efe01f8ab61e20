"""The report's charts, drawn from the journal's figures alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Final

from exitramp.report.figures import (
    Axis,
    BarChart,
    BarSeries,
    DotChart,
    DotItem,
    EventMark,
    LineChart,
    Mark,
    Phase,
    Scale,
    Series,
    Side,
)
from exitramp.report.sections.fields import Data, figure, money, objects, part, word
from exitramp.report.sections.words import counted, fault_short, listed
from exitramp.report.text import number_text, seconds_text

COST_PARTS: Final = {
    "input": "input tokens",
    "generation": "generation",
    "retrieval": "retrieval",
    "rerank": "rerank",
    "vector_io": "vector reads and writes",
    "orchestration": "orchestration",
    "human_in_the_loop": "human in the loop",
}
# The journal keeps a tenth of a millisecond; a logarithmic axis has no zero to put a quicker failure at.
_LEAST_MS: Final = 0.1
_STACKS: Final = ("primary", "substitute")


_SIDES: Final = {
    "primary": ("answered by the primary", Side.PRIMARY),
    "substitute": ("answered by the substitute", Side.SUBSTITUTE),
    "application": ("answered by the application", Side.OTHER),
    "failed": ("no good answer", Side.FAILED),
}


def latency_chart(outage: Data, places: int = 2) -> LineChart | None:
    """Every request of the outage, where it was answered, and the faults as shaded phases; recovery times are told to
    so many `places`."""
    requests = objects(outage, "timeline")
    if not requests:
        return None
    points: dict[str, list[tuple[float, float | None]]] = {name: [] for name in _SIDES}
    for each in requests:
        at, latency = figure(each, "at_seconds"), figure(each, "latency_ms")
        if at is None:
            continue
        side = word(each, "stack") if word(each, "end") == "answered" else "failed"
        if side not in points:
            continue
        points[side].append((at, None if latency is None else max(latency, _LEAST_MS)))
    phases = objects(outage, "phases")
    return LineChart(
        title="Latency around the outage, one mark for each request",
        alternative=_latency_words(points, phases, places),
        x=Axis("Since the requests began", "s", lowest=0.0),
        y=Axis("Time to a complete answer", "ms", Scale.LOG),
        series=tuple(
            Series(name, tuple(points[side]), drawn, Mark.DOTS)
            for side, (name, drawn) in _SIDES.items()
            if points[side]
        ),
        events=_first_answers(phases),
        phases=tuple(
            Phase(start, end, fault_short(word(each, "fault"), word(each, "on"), word(each, "how")))
            for each in phases
            if (start := figure(each, "injected_seconds")) is not None
            and (end := figure(each, "ended_seconds")) is not None
        ),
    )


def _first_answers(phases: tuple[Data, ...]) -> tuple[EventMark, ...]:
    """The end of the worst gap: marks for every fault would hide what they mark."""
    gaps = [
        (recovery, start + recovery)
        for each in phases
        if (recovery := figure(each, "recovery_seconds")) is not None
        and (start := figure(each, "injected_seconds")) is not None
    ]
    return (EventMark(max(gaps)[1], "slowest first good answer"),) if gaps else ()


def _latency_words(points: dict[str, list[tuple[float, float | None]]], phases: tuple[Data, ...], places: int) -> str:
    told = []
    for side in ("primary", "substitute", "application"):
        name = f"The {side}"
        values = [latency for _, latency in points[side] if latency is not None]
        if values:
            middle = number_text(math.ceil(statistics.median(values)))
            told.append(f"{name} answered {counted(len(values), 'request')}, half of them within {middle} ms.")
    failed = len(points["failed"])
    told.append(f"{counted(failed, 'request')} got no good answer." if failed else "No request went without an answer.")
    return " ".join(
        [*told, *_recovery_words(phases, "application" if points.get("application") else "substitute", places)]
    )


def _recovery_words(phases: tuple[Data, ...], who: str, places: int) -> list[str]:
    recoveries = [value for each in phases if (value := figure(each, "recovery_seconds")) is not None]
    if not recoveries:
        return []
    answer = f"first good answer from the {who} came after {seconds_text(max(recoveries), places)} at the slowest"
    missed = len(phases) - len(recoveries)
    if missed:
        return [f"After {len(recoveries)} of {counted(len(phases), 'fault')} the {answer}; after {missed} none came."]
    return [f"After {'each of ' if len(phases) > 1 else ''}the {counted(len(phases), 'fault')} the {answer}."]


def recall_chart(compared: Data, names: tuple[str, str]) -> DotChart | None:
    """Recall of every golden question on both sides, `names`, against the judged documents."""
    found = objects(compared, "recall_per_query")
    if not found:
        return None
    items = [(word(each, "case_id"), figure(each, "primary"), figure(each, "substitute")) for each in found]
    where = "on both stacks" if names == _STACKS else f"at the {names[0]} and at the {names[1]}"
    title = f"Recall of each golden question {where}"
    return _recall(items, title, "Question", "Recall of the relevant documents", names)


def neighbours_chart(found: Data) -> DotChart | None:
    """Recall of every query on both stores, against exact truth; of the part without a filter."""
    parts = objects(found, "parts")
    queries = objects(parts[0], "by_query") if parts else ()
    if not queries:
        return None
    items = [(word(each, "id"), figure(each, "recall_a"), figure(each, "recall_b")) for each in queries]
    return _recall(items, "Recall of each query on both stores", "Query", "Recall of the true neighbours")


def _recall(
    items: Sequence[tuple[str, float | None, float | None]],
    title: str,
    item: str,
    axis: str,
    names: tuple[str, str] = _STACKS,
) -> DotChart:
    first, second = names
    on = "on" if names == _STACKS else "at"
    pairs = [(one, other) for _, one, other in items if one is not None and other is not None]
    worse = sum(other < one for one, other in pairs)
    better = sum(other > one for one, other in pairs)
    same = len(pairs) - worse - better
    told = f"Of {counted(len(pairs), item.lower(), _many(item.lower()))}, {same} have the same recall on both sides,"
    told += f" {worse} a lower one {on} the {second} and {better} a higher one."
    if pairs:
        means = [statistics.fmean(values) for values in zip(*pairs, strict=True)]
        told += f" The mean is {means[0]:.4f} {on} the {first} and {means[1]:.4f} {on} the {second}."
    return DotChart(
        title=title,
        alternative=told,
        axis=Axis(axis, lowest=0.0, highest=1.0),
        item_name=item,
        items_label=f"{_many(item)}, from the lowest recall {on} the {first} to the highest",
        sides=((first, Side.PRIMARY), (second, Side.SUBSTITUTE)),
        items=tuple(DotItem(name, (one, other)) for name, one, other in items),
    )


def _many(word_: str) -> str:
    return word_[:-1] + "ies" if word_.endswith("y") else word_ + "s"


def cost_chart(comparison: Data) -> BarChart | None:
    """Cost of a request by part; parts that cost nothing on either side are left out and named."""
    parts = part(comparison, "parts")
    if not parts:
        return None
    shown, free = [], []
    for name in parts:
        sides = [money(parts, name, side) for side in ("before_usd", "after_usd")]
        title = COST_PARTS.get(name, name.replace("_", " "))
        if any(side is None or side > 0 for side in sides):
            shown.append(BarSeries(title, tuple(None if side is None else float(side) for side in sides)))
        else:
            free.append(title)
    order = list(COST_PARTS.values())
    shown.sort(key=lambda one: order.index(one.name) if one.name in order else len(order))
    means = [money(comparison, "mean", side) for side in ("before_usd", "after_usd")]
    told = (
        f"A request costs {means[0]:.5f} USD on the primary and {means[1]:.5f} USD on the substitute."
        if means[0] is not None and means[1] is not None
        else "The cost of a request is not known on both sides."
    )
    if free:
        told += f" Nothing was spent on {listed([title for title in order if title in free])}."
    return BarChart(
        title="Cost of one request before and after, by part",
        alternative=told,
        axis=Axis("Cost of a request", "USD"),
        categories=("Before: primary", "After: substitute"),
        series=tuple(shown),
        stacked=not any(value is not None and value < 0 for one in shown for value in one.values),
    )
