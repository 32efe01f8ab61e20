"""A request under its caller's own key: asked once, whoever asks again, and ended in the journal in one way."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from exitramp.orchestration.cutting_off import CUT_OFF, SAID, CallsUnderWay
from exitramp.orchestration.idempotency import IdempotencyJournal, StoredAnswer
from exitramp.orchestration.outcome import Outcome
from exitramp.orchestration.under_way import Run, request_sha256


def once(run: Run, journal: IdempotencyJournal, under_way: CallsUnderWay, route: Callable[[Run], Outcome]) -> Outcome:
    """What `route` brings, or what the key was answered before. Raises as `route` and `IdempotencyJournal.claim` do."""
    question = run.question
    try:
        stored = journal.claim(question.id, request_sha256(question), timeout_seconds=run.deadline.remaining_seconds)
    except TimeoutError:
        if under_way.is_over:
            return run.unanswered(CUT_OFF, SAID)
        return run.unanswered("in_flight", "the same request is under way and did not end in time")
    if stored is not None:
        return run.known(stored, from_journal=True)
    begun = under_way.begins(partial(_cut_off, journal, run))
    try:
        outcome = route(run)
    except BaseException as error:
        with begun.ends() as is_ours:
            if is_ours:
                journal.failed(question.id, error_class=f"raised {type(error).__name__}")
        raise
    with begun.ends() as is_ours:
        if is_ours and outcome.answer is not None and outcome.stack is not None:
            stored = StoredAnswer(outcome.answer, outcome.stack, outcome.retrieved_ids, outcome.is_mock)
            journal.answered(question.id, stored)
        elif is_ours:
            journal.failed(question.id, error_class=outcome.error_class or "unknown")
    return outcome


def _cut_off(journal: IdempotencyJournal, run: Run) -> None:
    """Its tries that had not ended are written down by now. An answer that came, and not as far as the journal,
    is billed, and will be again when the key is asked again."""
    with run.lock:
        billed = [record.provider for record in run.traces if record.status == "ok"]
    for vendor in billed:
        journal.doubt(run.question.id, vendor=vendor, error_class=CUT_OFF)
    journal.failed(run.question.id, error_class=CUT_OFF)
