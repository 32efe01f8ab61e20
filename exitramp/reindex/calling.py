"""One batch of texts to a model: tried again where that may help, taken apart where one text spoils it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from exitramp.backoff import Backoff
from exitramp.clock import Clock
from exitramp.errors import DataInvalid, ModelError
from exitramp.ports import Embedded, Embedder, Purpose
from exitramp.reindex.spool import Received

_OF_A_TEXT: Final = frozenset({"invalid_request", "context_length", "content_filter"})
"""Refusals that a single text may be the reason of. No vendor bills them."""


def batch_key(model: str, hashes: Sequence[bytes]) -> str:
    """The idempotency key of a batch: of what is in it and who is asked, so the same for every try of every run."""
    digest = hashlib.sha256(model.encode("utf-8", "surrogatepass"))
    for each in hashes:
        digest.update(each)
    return f"reindex-{digest.hexdigest()[:40]}"


class Caller:
    """Asks `embedder` for the vectors of documents. Used from any thread.

    `model` is what tells it from any other: its address and its fingerprint.
    """

    def __init__(
        self,
        embedder: Embedder,
        model: str,
        *,
        backoff: Backoff,
        clock: Clock,
        timeout_seconds: float,
        seed: int = 0,
    ) -> None:
        self.embedder = embedder
        self._model = model
        self._backoff, self._clock = backoff, clock
        self._timeout_seconds = timeout_seconds
        self._rng = random.Random(seed)

    def key(self, hashes: Sequence[bytes]) -> str:
        return batch_key(self._model, hashes)

    def call(self, texts: Mapping[bytes, str]) -> Received:
        """Everything that comes of these texts. Raises `ModelError` where another try does not help either."""
        hashes = list(texts)
        retries = unsure = 0
        while True:
            try:
                found = self.embedder.embed(
                    [texts[each] for each in hashes],
                    purpose=Purpose.DOCUMENT,
                    timeout_seconds=self._timeout_seconds,
                    idempotency_key=self.key(hashes),
                )
                _require_whole(found, len(hashes), self.embedder.dimensions)
                return _received(hashes, found, retries, unsure)
            except DataInvalid:
                return self._apart(texts, "invalid_request", retries, unsure)
            except ModelError as error:
                if error.error_class in _OF_A_TEXT:
                    return self._apart(texts, error.error_class, retries, unsure, error)
                wait = None
                if error.retryable:
                    wait = self._backoff.wait_seconds(
                        retries + 1, self._rng, retry_after_seconds=error.retry_after_seconds
                    )
                if wait is None:
                    raise
                retries += 1
                unsure += error.maybe_billed
                self._clock.sleep(wait)

    def _apart(
        self, texts: Mapping[bytes, str], kind: str, retries: int, unsure: int, error: ModelError | None = None
    ) -> Received:
        """Halves, down to the text that is refused. Where every single one is, it is not a matter of texts."""
        if len(texts) == 1:
            (only,) = texts
            return Received({}, {only: kind}, 1, 0, False, retries, unsure, 0, ())
        hashes = list(texts)
        middle = len(hashes) // 2
        halves = [self.call({each: texts[each] for each in part}) for part in (hashes[:middle], hashes[middle:])]
        if error is not None and not any(half.vectors for half in halves) and kind == "invalid_request":
            raise error
        one, other = halves
        return Received(
            {**one.vectors, **other.vectors},
            {**one.refused, **other.refused},
            one.requests + other.requests + 1,
            one.tokens + other.tokens,
            one.estimated or other.estimated,
            one.retries + other.retries + retries,
            one.unsure + other.unsure + unsure,
            None if one.cut is None or other.cut is None else one.cut + other.cut,
            tuple({*one.models, *other.models}),
        )


def _require_whole(found: Embedded, texts: int, dimensions: int) -> None:
    """Raises `ModelError` for vectors that are not of these texts, or not numbers: nothing is kept of those."""
    shape = found.vectors.shape
    if shape != (texts, dimensions) or not bool(np.isfinite(found.vectors).all()):
        raise ModelError(
            f"the model sent {shape[0]} vectors of {shape[-1]} numbers for {texts} texts, of which each has "
            f"{dimensions}, or numbers that are none",
            error_class="malformed",
            maybe_billed=True,
        )


def _received(hashes: Sequence[bytes], found: Embedded, retries: int, unsure: int) -> Received:
    vectors: dict[bytes, npt.NDArray[np.float32]] = dict(zip(hashes, found.vectors, strict=True))
    usage = found.usage
    return Received(
        vectors, {}, 1 + retries, usage.prompt_tokens, usage.source != "provider", retries, unsure, found.cut_texts,
        (found.model_id,),
    )  # fmt: skip
