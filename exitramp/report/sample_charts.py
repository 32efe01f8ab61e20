"""The sample report's charts: made-up measurements, the same on every machine."""

from __future__ import annotations

import math
import random

from exitramp.report.figures import (
    Axis,
    BarChart,
    BarSeries,
    DotChart,
    DotItem,
    EventMark,
    Histogram,
    HistogramSeries,
    LineChart,
    Mark,
    Phase,
    Scale,
    Series,
    Side,
)

QUERY_COUNT = 96
_PHASES = (
    (10.0, 15.0, "answers 503"),
    (15.0, 20.0, "hangs"),
    (20.0, 25.0, "refuses"),
    (25.0, 30.0, "store stopped"),
    (30.0, 35.0, "store killed"),
)


def latency_chart() -> LineChart:
    """Twelve requests a second for 48 seconds; the vendor fails from 10 s on and is back at 35 s."""
    draw = random.Random(7)
    primary: list[tuple[float, float]] = []
    substitute: list[tuple[float, float]] = []
    failed: list[tuple[float, float]] = []
    for number in range(48 * 12):
        at = round(number / 12 + draw.uniform(0, 0.04), 3)
        if at < 10 or at >= 38.4:
            primary.append((at, round(186 * math.exp(draw.gauss(0, 0.16)), 1)))
        elif at < 10.95:
            failed.append((at, round(14 * math.exp(draw.gauss(0, 0.3)), 1)))
        else:
            penalty = 320 if at < 11.4 else 0
            substitute.append((at, round(penalty + 243 * math.exp(draw.gauss(0, 0.19)), 1)))
    failed += [(16.0, 2000.0), (21.1, 3.1), (26.4, 2000.0), (31.8, 2.7)]  # the breaker's probes
    return LineChart(
        title="Latency around the outage, one mark per request",
        alternative=(
            "Until the vendor fails at 10.0 s the primary answers in about 190 ms. Eleven requests fail within the next"
            " second; from 11.3 s on the substitute answers all of them in about 245 ms. Four later marks are the"
            " circuit breaker's probes of the failed vendor. Traffic is back on the primary at 38.4 s."
        ),
        x=Axis("Since the load began", "s", lowest=0.0),
        y=Axis("Time to a complete answer", "ms", Scale.LOG),
        series=(
            Series("answered by the primary", tuple(primary), Side.PRIMARY, Mark.DOTS),
            Series("answered by the substitute", tuple(substitute), Side.SUBSTITUTE, Mark.DOTS),
            Series("failed, at the time it was given up", tuple(failed), Side.FAILED, Mark.DOTS),
        ),
        events=(
            EventMark(10.93, "switch decided"),
            EventMark(11.34, "first good answer"),
            EventMark(38.4, "back on the primary"),
        ),
        phases=tuple(Phase(*phase) for phase in _PHASES),
    )


def recall_chart(*, measured: bool = True) -> DotChart:
    """Recall of each golden question on both stacks."""
    draw = random.Random(11)
    items = []
    for number in range(1, QUERY_COUNT + 1):
        base = min(10, max(2, round(draw.gauss(8.6, 1.7))))
        other = min(10, max(1, base + draw.choice((0, 0, 0, 0, 0, 0, -1, -1, 1, -2))))
        items.append(DotItem(f"q{number:03d}", (base / 10, other / 10)))
    return DotChart(
        title="Recall of the ten nearest, for each golden question",
        alternative=(
            "Most questions find as much on both stacks. Where a line joins two marks they differ: by one document"
            " in most of these, by two in a few."
        ),
        axis=Axis("Recall at 10, against exact truth", lowest=0.0, highest=1.0),
        item_name="Question",
        items_label="Questions, from the lowest recall on the primary to the highest",
        sides=(("primary", Side.PRIMARY), ("substitute", Side.SUBSTITUTE)),
        items=tuple(items) if measured else (),
    )


COST_PARTS = (
    ("input tokens", 0.00061, 0.00074),
    ("generation", 0.00088, 0.00097),
    ("retrieval", 0.00012, 0.00009),
    ("rerank", None, None),
    ("vector reads and writes", 0.00004, 0.00005),
    ("orchestration", 0.00019, 0.00022),
    ("human in the loop", 0.00031, 0.00031),
)


def cost_chart() -> BarChart:
    """Cost of a request before and after, by part."""
    return BarChart(
        title="Cost of one request before and after, by part",
        alternative=(
            "A request costs 0.00215 USD on the primary and 0.00238 USD on the substitute. Generation and input tokens"
            " grow most; retrieval is a little cheaper. Reranking was not in use and was not measured."
        ),
        axis=Axis("Cost per request", "USD"),
        categories=("Before: primary", "After: substitute"),
        series=tuple(BarSeries(name, (before, after)) for name, before, after in COST_PARTS),
        stacked=True,
    )


def token_chart() -> BarChart:
    """Tokens of a request by use case, side by side."""
    return BarChart(
        title="Tokens per answer, by use case",
        alternative="The substitute writes about a tenth more tokens in every use case; error_triage did not reach it.",
        axis=Axis("Generated tokens, mean", "tokens"),
        categories=("docs_qa", "api_lookup", "error_triage"),
        series=(
            BarSeries("primary", (148.0, 96.4, 171.2), Side.PRIMARY),
            BarSeries("substitute", (163.9, 105.0, None), Side.SUBSTITUTE),
        ),
    )


def distance_histogram() -> Histogram:
    """How far restored vectors are from the originals."""
    return Histogram(
        title="Cosine distance of each restored vector from the original",
        alternative="Of 1,612 vectors 1,489 are equal bit for bit; none is further than 0.0000003 from its original.",
        axis=Axis("Cosine distance, in units of 10\u207b\u2077", lowest=0.0),
        edges=(0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0),
        series=(HistogramSeries("vectors", (1489, 71, 30, 14, 6, 2), Side.SUBSTITUTE),),
    )
