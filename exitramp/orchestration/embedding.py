"""One call of an embedder with the stack file's patience: retried within one deadline, and traced."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

from exitramp.clock import Clock
from exitramp.errors import ModelError, SpendExceeded
from exitramp.orchestration.asking import new_id
from exitramp.orchestration.cutting_off import SAID, CutOff
from exitramp.orchestration.deadline import Deadline
from exitramp.orchestration.opened import Generation
from exitramp.orchestration.stack_file import Action
from exitramp.orchestration.supposed_tokens import supposed_tokens
from exitramp.orchestration.trace import UNKNOWN_USAGE, supposed_record
from exitramp.ports import Embedded, Embedder, Purpose, batches_of
from exitramp.records import TraceRecord, Usage


def embed_texts(
    opened: Generation,
    name: str,
    texts: Sequence[str],
    purpose: Purpose,
    clock: Clock,
    *,
    use_case: str,
    tenant: str | None,
) -> Embedded:
    """Vectors of `texts` by the embedder `name`, each call within the file's deadline. Raises `ModelError`."""
    import numpy as np

    embedder = opened.builder.embedder(name)
    labels = {"use_case_id": use_case, "tenant": tenant, "environment": opened.file.environment}
    found = [_embed_once(opened, embedder, part, purpose, clock, labels)
             for part in batches_of(texts, embedder.limits()) or [texts]]  # fmt: skip
    if len(found) == 1:
        return found[0]
    sources = {part.usage.source for part in found}
    return Embedded(
        np.vstack([part.vectors for part in found]),
        Usage(sum(part.usage.prompt_tokens for part in found), 0,
              source="provider" if sources == {"provider"} else "estimated"),
        sum(part.latency_ms for part in found),
        found[0].model_id,
    )  # fmt: skip


def _embed_once(
    opened: Generation,
    embedder: Embedder,
    texts: Sequence[str],
    purpose: Purpose,
    clock: Clock,
    labels: Mapping[str, Any],
) -> Embedded:
    """Raises the last try's `ModelError`."""
    file = opened.file
    deadline = Deadline(file.deadlines.request_seconds, clock)
    base = replace(
        supposed_record(embedder.identity(), 0, 0),
        operation="embed",
        request_id=new_id(),
        deadline_seconds=deadline.seconds,
        **labels,
    )
    with _held(opened, embedder, texts, base) as may_be_billed:
        return _tried(opened, embedder, texts, purpose, clock, base, deadline, may_be_billed)


@contextmanager
def _held(
    opened: Generation, embedder: Embedder, texts: Sequence[str], base: TraceRecord
) -> Iterator[Callable[[], None]]:
    """What it costs at most is held meanwhile; the block calls what it gets for each try that may have been billed for
    nothing. What was answered is counted with its trace. Raises `SpendExceeded`."""
    budget, pricing, use_case = opened.budget, opened.pricing, base.use_case_id
    estimate = Decimal(0)
    if budget is not None and pricing is not None:
        counted = embedder.count_tokens(texts)
        # A guess may be too low; a tokeniser's count is not.
        tokens = supposed_tokens(*texts) if counted.source == "estimated" else counted.prompt_tokens
        cost = pricing.spent(replace(base, prompt_tokens=tokens))
        if cost is None:  # there was one when the file was opened
            raise SpendExceeded(
                f"the budget cannot be held: no price for the tokens of {base.provider}/{base.model_id} holds today",
                hint="add one that does to the price book, and save the stack file again",
            )
        estimate = cost
    if budget is None or not estimate:
        yield lambda: None
        return
    if Action.CACHE_ONLY in budget.actions(use_case):
        raise SpendExceeded(
            "so much of the budget is spent or held that nothing is embedded that costs something",
            hint="wait for the next day or month in UTC, or raise the cap in the stack file",
        )
    reservation, doubts = budget.reserve(estimate, use_case), [Decimal(0)]

    def settle() -> None:
        budget.settle(reservation, sum(doubts, Decimal(0)), use_case)

    begun = opened.under_way.begins(settle)
    try:
        yield lambda: doubts.append(estimate)
    finally:
        with begun.ends() as is_ours:
            if is_ours:
                settle()


def _tried(
    opened: Generation,
    embedder: Embedder,
    texts: Sequence[str],
    purpose: Purpose,
    clock: Clock,
    base: TraceRecord,
    deadline: Deadline,
    may_be_billed: Callable[[], None],
) -> Embedded:
    file, key, rng = opened.file, base.request_id, random.Random()
    attempt = 0

    def write(record: TraceRecord, attempt: int, began: float) -> None:
        latency_ms = (clock.monotonic() - began) * 1000.0
        record = replace(record, attempt=attempt, retries=attempt - 1, ts=clock.now(), latency_ms=latency_ms)
        opened.append(opened.priced(record))
        if record.possibly_billed:
            may_be_billed()

    while True:
        attempt += 1
        seconds = deadline.share_seconds(file.deadlines.attempt_seconds)
        ask = partial(embedder.embed, texts, purpose=purpose, timeout_seconds=seconds, idempotency_key=key)
        try:
            return _try_once(opened, ask, base, partial(write, attempt=attempt, began=clock.monotonic()))
        except ModelError as error:
            wait = file.retry.wait_seconds(attempt, rng, retry_after_seconds=error.retry_after_seconds)
            if not error.retryable or wait is None or wait >= deadline.remaining_seconds or opened.under_way.is_over:
                raise
            clock.sleep(wait)


def _try_once(
    opened: Generation, ask: Callable[[], Embedded], base: TraceRecord, write: Callable[[TraceRecord], None]
) -> Embedded:
    """One try, written down when it ends or is cut off. Raises `ModelError` without asking where all has ended."""
    begun = opened.under_way.begins(lambda: write(_failed(base, CutOff())))
    if not begun.may_go_on:
        raise ModelError(f"nobody was asked: {SAID}", error_class="overloaded")
    told: TraceRecord | None = None
    try:
        found = ask()
        told = replace(
            base,
            model_id=found.model_id,
            prompt_tokens=found.usage.prompt_tokens,
            usage_source=found.usage.source,
        )
    except ModelError as error:
        told = _failed(base, error)
        raise
    finally:
        with begun.ends() as is_ours:
            if is_ours and told is not None:
                write(told)
    return found


def _failed(base: TraceRecord, error: ModelError | CutOff) -> TraceRecord:
    return replace(
        base,
        status="error",
        usage_source=UNKNOWN_USAGE,
        error_class=error.error_class,
        http_status=error.http_status,
        possibly_billed=error.maybe_billed,
    )
