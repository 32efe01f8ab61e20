"""Which differences a loss explains that a plan names: one that nobody accepted is told of, and stays a failure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from shlex import quote

from exitramp.parity.records import FieldParity
from exitramp.parity.tolerance import UNIT_COSINE
from exitramp.ports import SinkLimits
from exitramp.records import Finding, Metric, VectorField
from exitramp.transfer.plan import Plan

_IN_A_DRILL = "in a drill, accept_loss of the step 'restore'"


def lost_magnitude(
    fields: Iterable[FieldParity],
    a: Iterable[VectorField],
    b: Iterable[VectorField],
    limits: tuple[SinkLimits | None, SinkLimits | None],
) -> Iterator[Finding]:
    """What is to be said of vectors that only differ in length, where the store of one side scales vectors.

    `limits` are those of A and B; None for a side that is not written to.
    """
    metrics = [{each.column: each.metric for each in side} for side in (a, b)]
    for each in fields:
        scales = [_scales(told, metric.get(each.column)) for told, metric in zip(limits, metrics, strict=True)]
        if scales[1] and each.scaled:
            step = f"if that loss was accepted, add --accept-loss {quote(each.column)} ({_IN_A_DRILL})"
            yield _magnitude(each, each.scaled, "B", metrics[1][each.column], step)
        elif scales[0] and each.parallel and not scales[1]:
            step = (
                f"if that loss was accepted, compare them the other way round, with --accept-loss {quote(each.column)}"
            )
            yield _magnitude(each, each.parallel, "A", metrics[0][each.column], step)


def metrics_held(a: Iterable[VectorField], b: Iterable[VectorField]) -> dict[str, Metric]:
    """By which metric B searches the fields that A searches by another, by name: what a copy of A there was told."""
    theirs = {each.column: each.metric for each in b}
    return {each.name: theirs[each.column] for each in a if theirs.get(each.column, each.metric) is not each.metric}


def _scales(limits: SinkLimits | None, metric: Metric | None) -> bool:
    return limits is not None and metric in limits.normalises


def _magnitude(each: FieldParity, count: int, side: str, metric: Metric, step: str) -> Finding:
    if count == each.beyond:
        which = "that one agrees" if count == 1 else f"all {count:,} of those agree"
    else:
        rest = each.beyond - count
        others = "the other differs" if rest == 1 else f"the other {rest:,} differ"
        which = f"{count:,} of those {each.beyond:,} ({others} in more) agree" if count > 1 else "one of those agrees"
    return Finding(
        "records.magnitude",
        f"{each.column}: {which} in direction (cosine >= {UNIT_COSINE:g}): what differs is the magnitude, since the "
        f"store of {side} scales vectors to unit length under {metric}, which a plan calls lossy",
        count=count,
        detail={"column": each.column, "next": step},
    )


def excused_metrics(
    findings: Iterable[Finding], plan: Plan | None, accepted: Collection[str], b: Iterable[VectorField]
) -> list[Finding]:
    """`findings`, of which those that B is searched by another metric are information where just that was accepted."""
    wanted = {} if plan is None else {each.original.column: each.native for each in plan.layout.fields}
    theirs = {each.column: each.metric for each in b}
    agreed = {
        column
        for column, native in wanted.items()
        if f"metric:{column}" in accepted and native is not None and theirs.get(column) is native.metric
    }
    return [
        replace(each, verdict=None)
        if each.code == "collection.metric" and each.message.partition(": ")[0] in agreed
        else each
        for each in findings
    ]
