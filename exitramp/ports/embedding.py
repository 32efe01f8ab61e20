"""Embedders: models that turn texts into vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from exitramp.errors import DataInvalid, ModelError
from exitramp.ports.chat import ModelIdentity
from exitramp.records import EmbeddingModel, Usage

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Purpose(StrEnum):
    """What a text is embedded for: models with prefixes, or with an API that asks, make different vectors of it."""

    DOCUMENT = "document"
    QUERY = "query"


@dataclass(frozen=True, slots=True)
class EmbedderLimits:
    """How much is embedded at once.

    batch_texts, batch_tokens: of one call, at most; None is no limit that is known.
    text_tokens: what the model reads of one text; what lies behind it does not count. None: all of it.
    """

    batch_texts: int
    batch_tokens: int | None = None
    text_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """`vectors`: float32[n, dimensions], in the order of the texts; all finite, none of them all zeros.

    `usage` has prompt tokens alone.

    cut_texts: how many were longer than the model reads, None where nobody knows.
    """

    vectors: npt.NDArray[np.float32] = field(hash=False, repr=False)
    usage: Usage
    latency_ms: float
    model_id: str
    cut_texts: int | None = None


class Embedder(Protocol):
    """A model that turns texts into vectors. Raises `ModelError`, and `DataInvalid` naming a text that it can make no
    vector of; never retries."""

    def identity(self) -> ModelIdentity: ...

    def model(self) -> EmbeddingModel:
        """Which model this is, as a manifest names it; what is not known stays `unknown`."""
        ...

    @property
    def dimensions(self) -> int:
        """Of each vector. A remote model may be asked for one."""
        ...

    def limits(self) -> EmbedderLimits: ...

    def count_tokens(self, texts: Sequence[str]) -> Usage:
        """What embedding them would take, without doing it; `source` says who counted."""
        ...

    def embed(
        self,
        texts: Sequence[str],
        *,
        purpose: Purpose,
        timeout_seconds: float = 60.0,
        idempotency_key: str | None = None,
    ) -> Embedded:
        """At most `limits().batch_texts` texts; the same text gives the same vector whatever stands beside it, but for
        rounding."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class StaticWeights:
    """An embedder that is nothing but a table: one vector a token, of which a text's is the mean.

    matrix: float32[tokens, dimensions]; an id beyond its end means its last row. tokenizer: the text of a
    `tokenizer.json`, used without special tokens. unit: whether the mean is divided by its length.
    """

    matrix: npt.NDArray[np.float32] = field(hash=False, repr=False)
    tokenizer: str = field(repr=False)
    unit: bool


@runtime_checkable
class HoldsStaticWeights(Protocol):
    """An `Embedder` whose weights are here and can be taken elsewhere."""

    def static_weights(self) -> StaticWeights: ...


def check_texts(texts: Sequence[str], batch_texts: int) -> None:
    """Raises `DataInvalid` for too many, and naming the first that is no text of Unicode."""
    if len(texts) > batch_texts:
        raise DataInvalid(f"{len(texts)} texts in one call, of which {batch_texts} are allowed")
    for row, text in enumerate(texts):
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise DataInvalid(
                f"text {row} of {len(texts)} holds half a surrogate pair and has no vector",
                hint="decode it with errors='replace' where it comes from",
            )


def require_vectors(found: Embedded, texts: int, who: str) -> None:
    """Raises `ModelError` (malformed) for an answer that is no vector of each text: too few, numbers that are none, or
    nothing but zeros, which are as near to one text as to any other. A model that knows no vector of a text says so."""
    import numpy as np

    vectors = found.vectors
    if vectors.ndim != 2 or len(vectors) != texts:
        what = f"answered {texts} texts with an array of shape {list(vectors.shape)}"
    else:
        zero = np.flatnonzero(~vectors.any(axis=1))
        wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if not len(zero) and not len(wrong):
            return
        rows, of = (zero, "zeros and nothing else") if len(zero) else (wrong, "numbers that are none")
        what = f"sent a vector of {of} for {len(rows)} of {texts} texts, first for text {rows[0]}"
    raise ModelError(
        f"{who} {what}",
        error_class="malformed",
        maybe_billed=True,
        hint="is it an embedding model, loaded whole? Ask it for one text by itself",
    )


def batches_of(texts: Sequence[str], limits: EmbedderLimits) -> Sequence[Sequence[str]]:
    """`texts` in pieces that one call takes."""
    return [texts[start : start + limits.batch_texts] for start in range(0, len(texts), limits.batch_texts)]


def embed_all(
    embedder: Embedder, texts: Sequence[str], *, purpose: Purpose, timeout_seconds: float = 60.0
) -> npt.NDArray[np.float32]:
    """float32[n, dimensions] of however many texts, call by call, each within `timeout_seconds`."""
    import numpy as np

    parts = [
        embedder.embed(part, purpose=purpose, timeout_seconds=timeout_seconds).vectors
        for part in batches_of(texts, embedder.limits())
    ]
    return np.vstack(parts) if parts else np.zeros((0, embedder.dimensions), np.float32)
