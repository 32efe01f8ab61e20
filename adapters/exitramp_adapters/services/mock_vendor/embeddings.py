"""The embeddings shape: `POST /v1/embeddings`, answered by a hashed bag of words.

A text's words are its runs of letters and digits in NFKC and lower case, stop words left out, plurals, `ing` and `ed`
cut off; one without any is one word as a whole. A word's vector has the signs +1 and -1 that the bits of
SHAKE-256("mock-embed" or another model's name, NUL, word) tell, its lowest bit first; a word that occurs n times counts
1 + ln n. The vector is the sum, cut to unit length. Fewer `dimensions` are the first ones, cut to unit length again, as
the vendor's own models do it. Texts that share words are near each other, and texts that only mean the same are not:
it is a mock.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from exitramp_adapters.services import extractive
from exitramp_adapters.services.mock_vendor.shape import Refusal, fields, need, need_range, only_fields, read_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MODEL: Final = "mock-embed"
DRIFTED: Final = "mock-embed-drifted"
DIMENSIONS: Final = 256
MOST_DIMENSIONS: Final = 1536
MOST_TEXTS: Final = 2048
TEXT_TOKENS: Final = 8192
CALL_TOKENS: Final = 300_000
_KNOWN: Final = fields("model input dimensions encoding_format user")
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class EmbedAsk:
    """Texts to embed, and how. `tokens` of all texts; `dimensions_asked` tells whether the request named a number."""

    model: str
    texts: tuple[str, ...]
    dimensions: int
    base64: bool
    tokens: int
    dimensions_asked: bool = False


def read(headers: Mapping[str, str], body: bytes) -> EmbedAsk:
    """What the request asks for. Raises `Refusal` for whatever the contract does not allow."""
    data = read_json(headers, body)
    only_fields(data, _KNOWN, frozenset())
    model = need(data, "model", str, what="a string")
    given = need(data, "input", (str, list), what="a string or a list of strings")
    texts = [given] if isinstance(given, str) else given
    if any(isinstance(each, int | list) and not isinstance(each, bool) for each in texts):
        raise Refusal("invalid_request", "the mock does not support 'input' in tokens", field="input")
    if not texts or not all(isinstance(each, str) and each for each in texts):
        raise Refusal("invalid_request", "'input' must hold texts, none of them empty", field="input")
    if len(texts) > MOST_TEXTS:
        raise Refusal("invalid_request", f"'input' may hold at most {MOST_TEXTS} texts", field="input")
    dimensions = need(data, "dimensions", int, default=DIMENSIONS, what="an integer")
    need_range(dimensions, "dimensions", 1, MOST_DIMENSIONS)
    encoding = need(data, "encoding_format", str, default="float", what="a string")
    if encoding not in ("float", "base64"):
        raise Refusal("invalid_request", "'encoding_format' is float or base64", field="encoding_format")
    counts = [extractive.count_tokens(text) for text in texts]
    if max(counts) > TEXT_TOKENS:
        text = f"a text of 'input' has {max(counts)} tokens, the model reads {TEXT_TOKENS}"
        raise Refusal("context_length", text, field="input")
    if sum(counts) > CALL_TOKENS:
        raise Refusal("invalid_request", f"'input' has more than {CALL_TOKENS} tokens", field="input")
    return EmbedAsk(model, tuple(texts), dimensions, encoding == "base64", sum(counts), "dimensions" in data)


def body_of(ask: EmbedAsk, vectors: npt.NDArray[np.float32]) -> dict[str, object]:
    """The answer's body."""
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(row.astype("<f4").tobytes()).decode() if ask.base64 else row.tolist(),
        }
        for index, row in enumerate(vectors)
    ]
    usage = {"prompt_tokens": ask.tokens, "total_tokens": ask.tokens}
    return {"object": "list", "data": data, "model": ask.model, "usage": usage}


def vectors_of(texts: tuple[str, ...], dimensions: int, *, model: str = MODEL) -> npt.NDArray[np.float32]:
    """float32[n, dimensions], of unit length, by the rule on top."""
    import numpy as np

    rows = [_vector(text, dimensions, model) for text in texts]
    return np.stack(rows).astype(np.float32)


def _vector(text: str, dimensions: int, model: str) -> npt.NDArray[np.float64]:
    import numpy as np

    plain = unicodedata.normalize("NFKC", text).lower()
    counts = Counter(term for word in _WORD.findall(plain) for term in extractive.terms_of_word(word))
    if not counts:
        counts = Counter([plain])
    total = np.zeros(MOST_DIMENSIONS)
    for word in sorted(counts):
        total += _signs(model, word) * (1.0 + math.log(counts[word]))
    kept = total[:dimensions]
    length = float(np.linalg.norm(kept))
    # Words can cancel each other out in few dimensions; a vector without direction is no vector.
    return kept / length if length else _signs(model, plain)[:dimensions] / math.sqrt(dimensions)


@lru_cache(maxsize=16384)  # 1.5 KiB each
def _signs(model: str, word: str) -> npt.NDArray[np.int8]:
    import numpy as np

    digest = hashlib.shake_256(f"{model}\0{word}".encode("utf-8", "surrogatepass")).digest(MOST_DIMENSIONS // 8)
    bits = np.unpackbits(np.frombuffer(digest, np.uint8), bitorder="little")
    return bits.astype(np.int8) * np.int8(2) - np.int8(1)
