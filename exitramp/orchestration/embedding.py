"""One call of an embedder with the stack file's patience: retried within one deadline, and traced."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from exitramp.clock import Clock
from exitramp.errors import ModelError
from exitramp.orchestration.asking import new_id
from exitramp.orchestration.deadline import Deadline
from exitramp.orchestration.opened import Generation, supposed_record
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
    key, rng = new_id(), random.Random()
    deadline = Deadline(file.deadlines.request_seconds, clock)
    base = replace(
        supposed_record(embedder.identity(), 0, 0),
        operation="embed",
        request_id=key,
        deadline_seconds=deadline.seconds,
        **labels,
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
