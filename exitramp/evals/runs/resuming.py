"""What a start that was killed left open, settled before anything is asked again.

A question that was on its way may have been billed, and no result says so. Its traces tell what had come by then, and
are paid; without an answer among them the most that it may have cost is held, as is that of measuring where a model
does it. So a limit of money holds over any number of starts, and a run's bill is no less than its vendors'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from exitramp.evals.runs.folder import RunFolder
from exitramp.evals.runs.questioning import Questions
from exitramp.evals.runs.spending import Allowance
from exitramp.evals.runs.tracing import request_id
from exitramp.evals.sets.case import Case
from exitramp.finops.unit_cost import answer_of
from exitramp.orchestration.trace import read_traces
from exitramp.records import TraceRecord


def settle_lost(cases: Mapping[str, Case], work: Questions, folder: RunFolder, allowance: Allowance) -> None:
    """Write down what each open question may have cost, and count it."""
    if not folder.bills.open:
        return
    records = list(read_traces(folder.traces)) if folder.traces.exists() else []
    for place in folder.bills.open:
        counted = folder.bills.records(place)
        of_place = [record for record in records if _is_of(record, request_id(place))]
        left = [] if counted is None else of_place[counted:]
        is_answered = any(record.status == "ok" and record.request_id == request_id(place) for record in left)
        usd, held = _cost(cases[place[0]], left, work, allowance, is_answered=is_answered)
        folder.settle(place, usd, held, records=len(left), is_answered=is_answered)
        allowance.count((usd or Decimal(0)) + held)


def _cost(
    case: Case, left: Sequence[TraceRecord], work: Questions, allowance: Allowance, *, is_answered: bool
) -> tuple[Decimal | None, Decimal]:
    """What is known of it, None where a price is missing, and what is held."""
    known = allowance.cost(left).usd
    if known is None:
        return None, Decimal(0)
    share = max((allowance.cost(way).usd or Decimal(0) for way in work.ways(case)), default=Decimal(0))
    measuring = allowance.cost(work.measuring(case)).usd or Decimal(0)
    doubtful = sum(record.possibly_billed for record in left)
    return known, share * doubtful + (measuring if is_answered else share)


def _is_of(record: TraceRecord, key: str) -> bool:
    """Whether it is of the question itself, of what was asked beside it, or of its measuring."""
    name = answer_of(record) or record.request_id
    return name in (key, f"{key}/check") or name.startswith(f"{key}/judge/")
