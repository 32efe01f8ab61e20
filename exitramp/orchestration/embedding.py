"""One call of an embedder with the stack file's patience: retried within one deadline, and traced."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from exitramp.clock import Clock
from exitramp.errors import ModelError, UsageError
from exitramp.orchestration.asking import new_id
from exitramp.orchestration.deadline import Deadline
from exitramp.orchestration.opened import Generation, supposed_record
from exitramp.ports import Embedded, Purpose
from exitramp.records import TraceRecord


def embed_once(
    opened: Generation,
    name: str,
    texts: Sequence[str],
    purpose: Purpose,
    clock: Clock,
    *,
    use_case: str,
    tenant: str | None,
) -> Embedded:
    """Vectors of `texts` by the embedder `name`. Raises the last try's `ModelError`."""
    file = opened.file
    embedder = opened.builder.embedder(name)
    limits = embedder.limits()
    if len(texts) > limits.batch_texts:
        raise UsageError(f"{len(texts)} texts at once; '{name}' takes {limits.batch_texts}")
    key, rng = new_id(), random.Random()
    deadline = Deadline(file.deadlines.request_seconds, clock)
    base = replace(
        supposed_record(embedder.identity(), 0, 0),
        operation="embed",
        request_id=key,
        use_case_id=use_case,
        tenant=tenant,
        environment=file.environment,
        deadline_seconds=deadline.seconds,
    )
    attempt = 0
    while True:
        attempt += 1
        began = clock.monotonic()
        seconds = deadline.share_seconds(file.deadlines.attempt_seconds)
        try:
            found = embedder.embed(texts, purpose=purpose, timeout_seconds=seconds, idempotency_key=key)
        except ModelError as error:
            _write(opened, _failed(base, error), attempt, clock, began)
            wait = file.retry.wait_seconds(attempt, rng, retry_after_seconds=error.retry_after_seconds)
            if not error.retryable or wait is None or wait >= deadline.remaining_seconds:
                raise
            clock.sleep(wait)
            continue
        answered = replace(
            base,
            model_id=found.model_id,
            prompt_tokens=found.usage.prompt_tokens,
            usage_source=found.usage.source,
        )
        _write(opened, answered, attempt, clock, began)
        return found


def _failed(base: TraceRecord, error: ModelError) -> TraceRecord:
    return replace(
        base,
        status="error",
        error_class=error.error_class,
        http_status=error.http_status,
        possibly_billed=error.maybe_billed,
    )


def _write(opened: Generation, record: TraceRecord, attempt: int, clock: Clock, began: float) -> None:
    latency_ms = (clock.monotonic() - began) * 1000.0
    record = replace(record, attempt=attempt, retries=attempt - 1, ts=clock.now(), latency_ms=latency_ms)
    if opened.price is not None:
        record = replace(record, unit_cost_usd=opened.price(record))
    opened.append(record)
