"""The static embedder `wordllama`: 256 dimensions, weights inside its own package, nothing fetched.

`wordllama:` or `wordllama:?normalise=false`, which gives the mean of the token vectors as it is: its length then says
something, and cosine and dot product disagree on it. A text's vector does not depend on the texts beside it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from exitramp.errors import AddressError, DependencyMissing, UsageError
from exitramp.ports import Embedded, Embedder, EmbedderLimits, ModelAdapter, ModelIdentity, Purpose, check_texts
from exitramp.ports.embedding import StaticWeights
from exitramp.records import EmbeddingModel, Usage
from exitramp.urls import Address, Network
from exitramp_adapters.models._local_texts import Call

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_CONFIG: Final = "l2_supercat"
_DIMENSIONS: Final = 256
# The library pads a batch to its longest text and holds every token's vector at once: 64 texts of 20,000 tokens were
# 1.3 GB. Texts are therefore sorted by length and put into batches of at most this many characters.
_BATCH_CHARACTERS: Final = 65_536
_BATCH_TEXTS: Final = 64
_CALL_TEXTS: Final = 1024
_import_lock = threading.Lock()


class WordLlamaEmbedder:
    """Token vectors, mean, and (unless told not to) division by the norm. Thread-safe."""

    def __init__(self, model: Any, weights_sha256: str, *, normalise: bool) -> None:
        self._model = model
        self._weights_sha256 = weights_sha256
        self._normalise = normalise

    @property
    def dimensions(self) -> int:
        return _DIMENSIONS

    def model(self) -> EmbeddingModel:
        return EmbeddingModel(
            provider="wordllama",
            name=f"{_CONFIG}_{_DIMENSIONS}",
            revision=f"sha256:{self._weights_sha256}",
            query_prefix="",
            passage_prefix="",
            pooling="mean",
            normalisation="l2" if self._normalise else "none",
            maximum_tokens="unlimited",
        )

    def identity(self) -> ModelIdentity:
        return ModelIdentity("wordllama", f"{_CONFIG}_{_DIMENSIONS}", "wordllama:")

    def limits(self) -> EmbedderLimits:
        return EmbedderLimits(batch_texts=_CALL_TEXTS)

    def count_tokens(self, texts: Sequence[str]) -> Usage:
        """By the model's own tokeniser."""
        check_texts(texts, len(texts))
        found = [self._tokens([texts[row] for row in batch])[1].sum() for batch in _batches(texts)]
        return Usage(int(sum(found)), 0)

    def embed(
        self,
        texts: Sequence[str],
        *,
        purpose: Purpose,
        timeout_seconds: float = 60.0,
        idempotency_key: str | None = None,
    ) -> Embedded:
        """Raises `DataInvalid` naming the first text that has no token, since it has no mean. The model knows no
        prefixes, so that `purpose` changes nothing."""
        call = Call(texts, dimensions=_DIMENSIONS, batch_texts=_CALL_TEXTS, timeout_seconds=timeout_seconds,
                    provider="wordllama")  # fmt: skip
        tokens = self._fill(call, texts)
        return call.embedded(self.identity().model, tokens=tokens)

    def close(self) -> None:
        """The weights stay for the next one."""

    def static_weights(self) -> StaticWeights:
        """The whole model: there is nothing in it but this table and its tokeniser."""
        return StaticWeights(self._model.embedding, self._model.tokenizer.to_str(), self._normalise)

    def _tokens(self, texts: list[str]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """int32[n, longest] ids and float32[n, longest] of ones where a text has one."""
        import numpy as np

        found = self._model.tokenize(texts)
        ids = np.array([each.ids for each in found], np.int32).reshape(len(texts), -1)
        mask = np.array([each.attention_mask for each in found], np.float32).reshape(len(texts), -1)
        return np.clip(ids, 0, self._model.embedding.shape[0] - 1), mask

    def _fill(self, call: Call, texts: Sequence[str]) -> int:
        """The call's vectors; returns how many tokens that took."""
        import numpy as np

        vectors, tokens = call.vectors, 0
        for batch in _batches(texts):
            call.check()
            ids, mask = self._tokens([texts[row] for row in batch])
            vectors[batch] = self._model.avg_pool(self._model.embedding[ids], mask)  # as the library's own `embed`
            tokens += int(mask.sum())
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        empty = np.flatnonzero(norms[:, 0] == 0.0)
        if len(empty):
            raise call.no_vector(int(empty[0]), "no token")
        if self._normalise:
            vectors /= norms
        return tokens


def _batches(texts: Sequence[str]) -> Iterator[list[int]]:
    """Row numbers in batches of similar length."""
    batch: list[int] = []
    for row in sorted(range(len(texts)), key=lambda row: len(texts[row])):
        # The last one is the longest, and every row is padded to it.
        if batch and (len(batch) == _BATCH_TEXTS or (len(batch) + 1) * len(texts[row]) > _BATCH_CHARACTERS):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _package_folder() -> Path:
    spec = importlib.util.find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise DependencyMissing("wordllama", "wordllama", module="wordllama")
    return Path(spec.origin).parent


@contextmanager
def _root_logging_kept() -> Iterator[None]:
    """The library calls `logging.basicConfig` when it is imported; put the root back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        for handler in [handler for handler in root.handlers if handler not in handlers]:
            root.removeHandler(handler)
        root.setLevel(level)


@cache
def _load() -> tuple[Any, str]:
    """The model and the SHA-256 of its weights file; one for the process, 16 MB of weights."""
    folder = _package_folder()
    weights = folder / "weights" / f"{_CONFIG}_{_DIMENSIONS}.safetensors"
    if not weights.is_file():
        version = importlib.metadata.version("wordllama")
        raise UsageError(
            f"wordllama {version} brings no weights {weights.name}", hint="install wordllama>=0.3.8 from its wheel"
        )
    with _root_logging_kept():
        from wordllama import WordLlama

        model = WordLlama.load(_CONFIG, cache_dir=folder, dim=_DIMENSIONS, disable_download=True)
    return model, hashlib.sha256(weights.read_bytes()).hexdigest()


def _open(address: Address, network: Network) -> Embedder:
    address.only_options("normalise")
    if address.location not in ("", _CONFIG):
        raise AddressError(
            f"wordllama: has no model '{address.location}'", hint=f"write wordllama: or wordllama:{_CONFIG}"
        )
    normalise = address.option("normalise", "true")
    if normalise not in ("true", "false"):
        raise AddressError("wordllama: option 'normalise' is true or false")
    with _import_lock:  # two threads that both set root logging back would undo each other
        model, weights_sha256 = _load()
    return WordLlamaEmbedder(model, weights_sha256, normalise=normalise == "true")


ADAPTER = ModelAdapter(
    scheme="wordllama",
    summary="Static embedder of 256 dimensions, weights in its package",
    address_form="wordllama:?normalise=true",
    roles=("embedder",),
    open_embedder=_open,
    extra="wordllama",
    requires=("wordllama",),
)
