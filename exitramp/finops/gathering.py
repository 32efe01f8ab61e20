"""The calls that stand in trace files: each counted once, an eval's apart from the application's.

A run of `eval run --stack` stands twice: in the stack file's own traces and in the run's folder, there under the run's
names of the questions. A copy is known by its span (by its request and attempt where it has none) and by its time. A
request whose caller asked again under the same key, as a run that was killed does, has calls with the same number: they
are told apart by their time, and numbered on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from exitramp.finops.unit_cost import answer_of
from exitramp.records import EVAL_TAG, TraceRecord

_Key = tuple[str, str, int | None, str, datetime]


@dataclass(frozen=True, slots=True)
class Gathered:
    """`records` to be counted. evals: calls of evals that are not among them. copies: records that stood there twice,
    and are among them once."""

    records: tuple[TraceRecord, ...] = field(repr=False)
    evals: int = 0
    copies: int = 0


def gather(records: Iterable[TraceRecord], *, with_evals: bool = False) -> Gathered:
    """Of all these files' records those that count, with requests that have nothing to do with each other under names
    of their own: two runs of one set name their questions alike."""
    found: dict[_Key, list[TraceRecord]] = defaultdict(list)
    for record in records:
        found[_key(record)].append(record)
    kept, evals, copies = [], 0, 0
    for same in found.values():
        # What was copied is one thing: an eval's where either says so.
        if not with_evals and any(EVAL_TAG in each.tags for each in same):
            evals += 1
            continue
        copies += len(same) - 1
        kept.append(same[0])
    return Gathered(tuple(_named(kept)), evals, copies)


def _key(record: TraceRecord) -> _Key:
    # Lines hold milliseconds, Parquet parts more.
    ts = record.ts.replace(microsecond=record.ts.microsecond // 1000 * 1000)
    if record.trace_id is not None and record.span_id is not None:
        return record.trace_id, record.span_id, None, record.operation, ts
    return "", record.request_id, record.attempt, record.operation, ts


def _named(records: Iterable[TraceRecord]) -> Iterable[TraceRecord]:
    names: dict[str, str] = {}
    owners: dict[str, str] = {}
    taken: set[tuple[str, int]] = set()
    for record in records:
        if record.trace_id is not None:
            base = answer_of(record) or record.request_id
            name = names.get(record.trace_id)
            if name is None:
                is_free = owners.setdefault(base, record.trace_id) == record.trace_id
                name = names[record.trace_id] = base if is_free else f"{record.trace_id}/{base}"
            attempt, request = record.attempt, f"{name}{record.request_id.removeprefix(base)}"
            while (request, attempt) in taken:
                attempt += 1
            record = replace(record, request_id=request, attempt=attempt)
        taken.add((record.request_id, record.attempt))
        yield record
