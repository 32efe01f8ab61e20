"""The embedding model of a stack in a drill: billed as who sends the bill, and cut where it may not be for real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from exitramp.clock import Clock
from exitramp.errors import ConfigError, ModelError
from exitramp.faults import FaultSchedule
from exitramp.ports import Embedded, Embedder, EmbedderLimits, ModelIdentity, Purpose, Service
from exitramp.records import EmbeddingModel, Usage
from exitramp.urls import Address


def embedding_address(service: Service, file: str) -> Address:
    """Where the embedding model of a running service is. Raises `ConfigError` for a service that has none."""
    found = getattr(service, "embedding_address", None)
    if not isinstance(found, Address):
        raise ConfigError("the service given as 'embedding' makes no vectors", file=file, hint="take mock-openai")
    return found


class DrilledEmbedder:
    """An embedder whose calls first meet what is simulated in our layer, and which counts what it was asked.

    `billed_as` is who sends the bill, where that is not the vendor whose shape is spoken. `texts` and `tokens` are of
    the calls that were answered.
    """

    def __init__(self, inner: Embedder, schedule: FaultSchedule, clock: Clock, *, billed_as: str | None = None) -> None:
        self._inner, self._schedule, self._clock, self._billed_as = inner, schedule, clock, billed_as
        self.texts = self.tokens = 0
        self._dimensions: int | None = None

    def identity(self) -> ModelIdentity:
        found = self._inner.identity()
        return found if self._billed_as is None else replace(found, provider=self._billed_as, is_mock=True)

    def model(self) -> EmbeddingModel:
        return self._inner.model()

    @property
    def dimensions(self) -> int:
        """A vendor that does not tell is asked for one vector, and the call is counted as any other."""
        if self._dimensions is None:
            self.embed(["dimensions"], purpose=Purpose.DOCUMENT)
        assert self._dimensions is not None
        return self._dimensions

    def limits(self) -> EmbedderLimits:
        return self._inner.limits()

    def count_tokens(self, texts: Sequence[str]) -> Usage:
        return self._inner.count_tokens(texts)

    def embed(
        self,
        texts: Sequence[str],
        *,
        purpose: Purpose,
        timeout_seconds: float = 60.0,
        idempotency_key: str | None = None,
    ) -> Embedded:
        fault = self._schedule.injected
        if fault.kind == "hang":
            self._clock.sleep(timeout_seconds)
        if fault.kind != "none":
            kinds = {"hang": "timeout", "refuse": "connection", "unavailable": "overloaded", "rate_limit": "rate_limit"}
            raise ModelError(f"simulated fault '{fault.kind}'", error_class=kinds.get(fault.kind, "server_error"))
        found = self._inner.embed(
            texts, purpose=purpose, timeout_seconds=timeout_seconds, idempotency_key=idempotency_key
        )
        self._dimensions = int(found.vectors.shape[1])
        self.texts += len(texts)
        self.tokens += found.usage.prompt_tokens
        return found

    def close(self) -> None:
        self._inner.close()
