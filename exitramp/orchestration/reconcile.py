"""What we say happened against what the vendors say: failed, slow, lost, answered twice, paid for nothing."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exitramp.orchestration.load import LoadEnd, LoadRequest


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Requests by what became of them, by id. Each request is in exactly one of answered, failed and cancelled.

    slow: answered, but later than the limit.
    unbacked: we say that a stack answered, and its vendor's account knows no answer to that request. Never empty
        means that somebody is wrong.
    answered_twice: vendors answered more than once, together.
    answered_unseen: a vendor answered and the request did not end with that answer: done, billed, and of no use.
    foreign: answers in the accounts to requests that are not ours; a SHA-256 each, or `none` for those without a key.
    """

    answered: tuple[str, ...]
    failed: tuple[str, ...]
    cancelled: tuple[str, ...]
    slow: tuple[str, ...]
    unbacked: tuple[str, ...]
    answered_twice: tuple[str, ...]
    answered_unseen: tuple[str, ...]
    foreign: tuple[str, ...]

    @property
    def adds_up(self) -> bool:
        """Whether both sides tell the same story."""
        return not (self.unbacked or self.answered_twice or self.answered_unseen or self.foreign)


def reconcile(
    requests: Sequence[LoadRequest],
    accounts: Mapping[str, Iterable[Mapping[str, Any]]],
    *,
    slow_seconds: float,
) -> Reconciliation:
    """Compare `requests` with each stack's vendor account (entries with `request_sha256` and `outcome`)."""
    answers: dict[str, Counter[str]] = {
        stack: Counter(str(entry["request_sha256"] or "none") for entry in entries if entry["outcome"] == "answered")
        for stack, entries in accounts.items()
    }
    hashed = {request.question_id: hashlib.sha256(request.question_id.encode()).hexdigest() for request in requests}
    ours = set(hashed.values())
    by_end: dict[LoadEnd, list[str]] = {end: [] for end in LoadEnd}
    slow, unbacked, twice, unseen = [], [], [], []
    for request in requests:
        by_end[request.end].append(request.question_id)
        key = hashed[request.question_id]
        stack = request.outcome.stack if request.outcome else None
        is_from_journal = request.outcome is not None and request.outcome.from_journal
        if request.end is LoadEnd.ANSWERED:
            if (request.latency_seconds or 0.0) > slow_seconds:
                slow.append(request.question_id)
            if stack in answers and not answers[stack][key] and not is_from_journal:
                unbacked.append(request.question_id)
        if sum(counter[key] for counter in answers.values()) > 1:
            twice.append(request.question_id)
        if any(counter[key] > (1 if name == stack else 0) for name, counter in answers.items()):
            unseen.append(request.question_id)
    foreign = sorted({key for counter in answers.values() for key in counter} - ours)
    return Reconciliation(
        tuple(by_end[LoadEnd.ANSWERED]),
        tuple(by_end[LoadEnd.FAILED]),
        tuple(by_end[LoadEnd.CANCELLED]),
        tuple(slow),
        tuple(unbacked),
        tuple(twice),
        tuple(unseen),
        tuple(foreign),
    )
